/* SPDX-License-Identifier: Apache-2.0 */
/* An operator holds a sink back: it gets nothing, what is under way is finished, a restart changes
 * nothing, and what waited then comes in order. */
#include "fake.h"

struct asked {
    struct delivery_ask ask;
    bool back;
};

static void on_answer(struct delivery_ask *a, void *self UNUSED)
{
    container_of(a, struct asked, ask)->back = true;
}

/* Whether the answer says that. */
static bool ask(struct box *b, int what, const char *says)
{
    struct asked k = { .ask = { .reply = &b->in, .done = on_answer, .from = 1, .to = 3 } };
    bool good;

    k.ask.what = what;
    delivery_ask(b->d[0], &k.ask);
    EVENTUALLY((inbox_run(&b->in, b), k.back));
    good = k.ask.answer == ASK_DONE && strstr(buf_cstr(&k.ask.run), says);
    delivery_ask_free(&k.ask);
    return good;
}

static void pause_it(struct box *b)
{
    assert_true(ask(b, ASK_PAUSE, "\"state\":\"paused\",\"reason\":\"by an operator since "));
}

static void resume_it(struct box *b)
{
    assert_true(ask(b, ASK_RESUME, "\"state\":\"running\",\"reason\":\"\""));
}

static void check_order(size_t n)
{
    for (size_t i = 0; i < n; i++)
        assert_int_equal(fakes[0].order[i], i + 1);
}

static void nothing(void *arg UNUSED)
{
}

/* The tick has looked, and is over: had it sent something, it would be there. */
static void nothing_comes(struct box *b, size_t sent)
{
    int64_t turned = atomic_load(&b->d[0]->turned_ms);

    EVENTUALLY(atomic_load(&b->d[0]->turned_ms) != turned);
    on_its_thread(&fakes[0], nothing, NULL);
    assert_int_equal(fake_count(&fakes[0], &fakes[0].sent), sent);
}

static void gets_nothing_and_then_all_in_order(void **state)
{
    struct box *b = *state;

    fakes[0].mode = FAKE_HOLD;
    start(b, 0, "match: { type: 'video.*' }");
    append_many(b, 3);
    EVENTUALLY(fake_count(&fakes[0], &fakes[0].held_n) == 3);
    pause_it(b);
    pause_it(b);
    append(b, "else", S("{}"));
    append_many(b, 5);
    on_its_thread(&fakes[0], fake_let_go, &fakes[0]); /* they are under way: finished */
    EVENTUALLY(status(b, 0, "lsn") == 4);             /* and passes over the stranger */
    EVENTUALLY(status(b, 0, "lag_events") == 5);
    nothing_comes(b, 3);
    assert_int_not_equal(atomic_load(&b->d[0]->oldest_ms), 0);
    fakes[0].mode = FAKE_AT_ONCE;
    resume_it(b);
    EVENTUALLY(delivery_drained(b->d[0]));
    for (size_t i = 3; i < 8; i++)
        assert_int_equal(fakes[0].order[i], i + 2);
}

static void what_was_refused_waits_too(void **state)
{
    struct box *b = *state;

    fakes[0].verdict[2] = SINK_RETRY;
    fakes[0].refusals[2] = 1;
    fakes[0].mode = FAKE_HOLD;
    start(b, 0, "");
    append_many(b, 3);
    EVENTUALLY(fake_count(&fakes[0], &fakes[0].held_n) == 3);
    pause_it(b);
    on_its_thread(&fakes[0], fake_let_go, &fakes[0]);
    nothing_comes(b, 3);
    assert_int_equal(status(b, 0, "lsn"), 1);
    fakes[0].mode = FAKE_AT_ONCE;
    resume_it(b);
    EVENTUALLY(delivery_drained(b->d[0]));
    check_order(3);
    assert_int_equal(fakes[0].order[3], 2);
}

static void a_restart_changes_nothing(void **state)
{
    struct box *b = *state;

    start(b, 0, "");
    append_many(b, 1);
    EVENTUALLY(delivery_drained(b->d[0]));
    pause_it(b);
    append_many(b, 2);
    stop(b, 0);
    start(b, 0, "");
    pause_it(b);
    nothing_comes(b, 1);
    resume_it(b);
    EVENTUALLY(delivery_drained(b->d[0]));
    check_order(3);
    stop(b, 0);
    start(b, 0, "");
    resume_it(b);
}

/* Somebody meant something by it, and who removed the sink took it along. */
static void an_unreadable_file_means_paused(void **state)
{
    struct box *b = *state;
    struct err e = ERR_INIT;
    int64_t since;
    char path[128];
    FILE *f;

    snprintf(path, sizeof path, "%s/sink-a.paused", b->dir);
    f = fopen(path, "w");
    assert_non_null(f);
    fputs("rubbish", f);
    fclose(f);
    assert_int_equal(wal_cursor_paused(b->wal, "a", &since, &e), 0);
    assert_true(since > 0);
    assert_int_equal(wal_cursor_remove(b->wal, "a", &e), 0);
    assert_int_equal(wal_cursor_paused(b->wal, "a", &since, &e), 0);
    assert_int_equal(since, 0);
}

static void a_run_waits(void **state)
{
    struct box *b = *state;
    struct fake *run = &fakes[FAKES];

    start(b, 0, "");
    append_many(b, 3);
    EVENTUALLY(delivery_drained(b->d[0]));
    pause_it(b);
    assert_true(ask(b, ASK_REPLAY, "\"state\":\"paused\""));
    nothing_comes(b, 3);
    assert_int_equal(fake_count(run, &run->sent), 0);
    resume_it(b);
    EVENTUALLY(fake_count(run, &run->done) == 3);
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        T(gets_nothing_and_then_all_in_order),
        T(what_was_refused_waits_too),
        T(a_restart_changes_nothing),
        T(an_unreadable_file_means_paused),
        T(a_run_waits),
    };

    return T_RUN(tests);
}
