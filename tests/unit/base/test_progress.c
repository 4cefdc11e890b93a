/* SPDX-License-Identifier: Apache-2.0 */
/* Who waits for a position is told once, and never forgotten. */
#include "table.h"

#include <poll.h>

#include "progress.h"

struct waiter {
    struct progress_watch watch;
    struct inbox in;
    struct progress *p;
    unsigned calls;
    uint64_t seen;
};

static void on_moved(struct progress_watch *watch, void *self)
{
    struct waiter *w = container_of(watch, struct waiter, watch);

    assert_ptr_equal(self, w);
    w->calls++;
    w->seen = progress_at(w->p);
}

static void waiter_init(struct waiter *w, struct progress *p)
{
    *w = (struct waiter){ .p = p };
    inbox_init(&w->in);
    w->watch.in = &w->in;
    w->watch.moved = on_moved;
    progress_watch_add(p, &w->watch);
}

static void waiter_close(struct waiter *w)
{
    progress_watch_remove(w->p, &w->watch);
    inbox_close(&w->in);
}

static void only_armed_watches_are_told_and_once(void **state UNUSED)
{
    struct progress p;
    struct waiter a, b;

    progress_init(&p, 7);
    waiter_init(&a, &p);
    waiter_init(&b, &p);
    progress_move(&p, 8);
    assert_int_equal(inbox_run(&a.in, &a), 0);
    progress_watch_arm(&p, &a.watch);
    progress_watch_arm(&p, &a.watch);
    progress_move(&p, 8); /* no move */
    assert_int_equal(inbox_run(&a.in, &a), 0);
    progress_move(&p, 9);
    progress_move(&p, 10);
    assert_int_equal(inbox_run(&a.in, &a), 1);
    assert_int_equal(a.seen, 10);
    assert_int_equal(b.calls, 0);
    progress_move(&p, 11); /* it has to be armed again */
    assert_int_equal(inbox_run(&a.in, &a), 0);
    waiter_close(&a);
    waiter_close(&b);
    progress_close(&p);
}

/* Its message is one object: it must not be posted while it is on its way. */
static void armed_again_while_a_call_is_on_its_way(void **state UNUSED)
{
    struct progress p;
    struct waiter a;

    progress_init(&p, 0);
    waiter_init(&a, &p);
    progress_watch_arm(&p, &a.watch);
    progress_move(&p, 1);
    progress_watch_arm(&p, &a.watch);
    progress_move(&p, 2);
    assert_int_equal(inbox_run(&a.in, &a), 1);
    assert_int_equal(a.seen, 2);
    progress_watch_arm(&p, &a.watch);
    progress_move(&p, 3);
    assert_int_equal(inbox_run(&a.in, &a), 1);
    waiter_close(&a);
    progress_close(&p);
}

static void a_watch_that_was_removed_is_not_told(void **state UNUSED)
{
    struct progress p;
    struct waiter a, b;

    progress_init(&p, 0);
    waiter_init(&a, &p);
    waiter_init(&b, &p);
    progress_watch_arm(&p, &a.watch);
    progress_watch_arm(&p, &b.watch);
    progress_watch_remove(&p, &a.watch);
    progress_move(&p, 1);
    assert_int_equal(inbox_run(&a.in, &a), 0);
    assert_int_equal(inbox_run(&b.in, &b), 1);
    assert_int_equal(p.armed, 0);
    waiter_close(&a);
    waiter_close(&b);
    progress_close(&p);
}

#define MOVES 200000

static void *move_on(void *arg)
{
    for (uint64_t i = 1; i <= MOVES; i++)
        progress_move(arg, i);
    return NULL;
}

/* Arm, look again, wait: with a lost wake-up this would not end. */
static void no_move_is_missed(void **state UNUSED)
{
    struct progress p;
    struct waiter a;
    pthread_t mover;
    uint64_t want = 1;

    progress_init(&p, 0);
    waiter_init(&a, &p);
    pthread_create(&mover, NULL, move_on, &p);
    while (want <= MOVES) {
        struct pollfd fd = { .fd = a.in.fd, .events = POLLIN };
        progress_watch_arm(&p, &a.watch);
        if (progress_at(&p) < want) {
            assert_int_equal(poll(&fd, 1, 20000), 1);
            inbox_run(&a.in, &a);
        }
        want = progress_at(&p) + 1;
    }
    pthread_join(mover, NULL);
    inbox_run(&a.in, &a);
    waiter_close(&a);
    progress_close(&p);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_armed_watches_are_told_and_once),
        cmocka_unit_test(armed_again_while_a_call_is_on_its_way),
        cmocka_unit_test(a_watch_that_was_removed_is_not_told),
        cmocka_unit_test(no_move_is_missed),
    };

    return T_RUN(tests);
}
