/* SPDX-License-Identifier: Apache-2.0 */
/* Four senders, one receiver: nothing lost, each sender's order kept, a sleeping receiver is woken.
 */
#include "table.h"

#include <poll.h>

#include "inbox.h"

#define SENDERS 4
#define EACH 20000

struct note {
    struct msg msg;
    unsigned sender, number;
};

struct receiver {
    unsigned next[SENDERS];
    size_t total;
};

struct sender {
    pthread_t thread;
    struct inbox *in;
    struct note *notes;
    unsigned number;
};

static void deliver(struct msg *m, void *self)
{
    struct note *note = container_of(m, struct note, msg);
    struct receiver *r = self;

    assert_int_equal(note->number, r->next[note->sender]);
    r->next[note->sender]++;
    r->total++;
}

static void *send_all(void *arg)
{
    struct sender *s = arg;
    struct msg_list l = { NULL, NULL };

    for (unsigned i = 0; i < EACH; i++) {
        s->notes[i] = (struct note){ .msg.deliver = deliver, .sender = s->number, .number = i };
        if (s->number % 2 == 0) {
            inbox_post(s->in, &s->notes[i].msg);
            continue;
        }
        msg_list_add(&l, &s->notes[i].msg);
        if (i % 7 == 6 || i == EACH - 1)
            inbox_post_list(s->in, &l);
    }
    return NULL;
}

static void many_senders(void **state UNUSED)
{
    struct inbox in;
    struct sender senders[SENDERS];
    struct receiver r = { .total = 0 };

    inbox_init(&in);
    for (unsigned i = 0; i < SENDERS; i++) {
        senders[i] =
            (struct sender){ .in = &in, .number = i, .notes = xcalloc(EACH, sizeof(struct note)) };
        assert_int_equal(pthread_create(&senders[i].thread, NULL, send_all, &senders[i]), 0);
    }
    while (r.total < SENDERS * EACH) {
        struct pollfd p = { .fd = in.fd, .events = POLLIN };
        assert_int_equal(poll(&p, 1, 20000), 1); /* a lost wake-up would end here */
        inbox_run(&in, &r);
    }
    for (unsigned i = 0; i < SENDERS; i++) {
        pthread_join(senders[i].thread, NULL);
        free(senders[i].notes);
    }
    inbox_close(&in);
}

static void empty_list_wakes_nobody(void **state UNUSED)
{
    struct inbox in;
    struct msg_list l = { NULL, NULL };
    struct pollfd p;

    inbox_init(&in);
    inbox_post_list(&in, &l);
    p = (struct pollfd){ .fd = in.fd, .events = POLLIN };
    assert_int_equal(poll(&p, 1, 0), 0);
    inbox_close(&in);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_senders),
        cmocka_unit_test(empty_list_wakes_nobody),
    };

    return T_RUN(tests);
}
