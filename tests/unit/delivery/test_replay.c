/* SPDX-License-Identifier: Apache-2.0 */
/* Runs beside the live flow: a range again, dead letters again, what a restart, a refusal, a full
 * dead-letter log and retention do to them; and what is asked of the letters. fakes[0] is the live
 * sink, RUN the one that a run opens for itself. */
#include "fake.h"

#define RUN (&fakes[FAKES])

struct asked {
    struct delivery_ask ask;
    bool back;
};

static void on_answer(struct delivery_ask *a, void *self UNUSED)
{
    container_of(a, struct asked, ask)->back = true;
}

static struct delivery_ask *ask(struct box *b, struct delivery_ask what)
{
    struct asked *k = xcalloc(1, sizeof *k);

    k->ask = what;
    k->ask.reply = &b->in;
    k->ask.done = on_answer;
    delivery_ask(b->d[0], &k->ask);
    EVENTUALLY((inbox_run(&b->in, b), k->back));
    return &k->ask;
}

static void forget(struct delivery_ask *a)
{
    delivery_ask_free(a);
    free(container_of(a, struct asked, ask));
}

static uint64_t *list(size_t n, const uint64_t *v)
{
    return memcpy(xcalloc(n + 1, sizeof *v), v, n * sizeof *v);
}
#define GIVEN(...)                                                                                 \
    .lsns = list(sizeof((uint64_t[]){ __VA_ARGS__ }) / 8, (uint64_t[]){ __VA_ARGS__ }),            \
    .lsns_n = sizeof((uint64_t[]){ __VA_ARGS__ }) / 8

static int answer(struct box *b, struct delivery_ask what)
{
    struct delivery_ask *a = ask(b, what);
    int got = (int)a->answer;

    forget(a);
    return got;
}

static void replay(struct box *b, uint64_t from, uint64_t to)
{
    assert_int_equal(answer(b, (struct delivery_ask){ .what = ASK_REPLAY, .from = from, .to = to }),
                     ASK_DONE);
}

static bool run_says(struct box *b, const char *what)
{
    struct buf json = BUF_INIT;
    bool says = delivery_run(b->d[0], &json) && strstr(buf_cstr(&json), what);

    buf_free(&json);
    return says;
}

static void run_id(struct box *b, char id[RUN_ID_BYTES + 1])
{
    struct buf json = BUF_INIT;

    assert_true(delivery_run(b->d[0], &json));
    memcpy(id, strstr(buf_cstr(&json), "\"id\":\"") + 6, RUN_ID_BYTES);
    id[RUN_ID_BYTES] = '\0';
    buf_free(&json);
}

static void check_order(const struct fake *f, size_t from, const uint64_t *want, size_t n)
{
    assert_true(f->sent >= from + n);
    assert_memory_equal(f->order + from, want, n * sizeof *want);
}

/* Poison for the live sink; a run finds the records good. */
static void poison(struct box *b, uint64_t first, uint64_t last)
{
    for (uint64_t lsn = first; lsn <= last; lsn++) {
        fakes[0].verdict[lsn] = SINK_POISON;
        fakes[0].refusals[lsn] = 1000;
    }
    append_many(b, (unsigned)(last - wal_durable_lsn(b->wal)));
    EVENTUALLY(delivery_drained(b->d[0]));
}

/* --- replay
 * --------------------------------------------------------------------------------------------- */

static void a_range_again(void **state)
{
    struct box *b = *state;
    char id[RUN_ID_BYTES + 1];

    start(b, 0, "");
    append_many(b, 20);
    EVENTUALLY(delivery_drained(b->d[0]));
    assert_false(run_says(b, ""));
    assert_string_equal(fakes[0].replay, "");
    b->sink[0].delivery = 1;
    replay(b, 5, 14);
    EVENTUALLY(run_says(b, "\"state\":\"done\""));
    assert_true(run_says(b, "\"from\":5,\"to\":14,\"lsn\":14,\"delivered\":10,\"dead\":0"));
    assert_int_equal(RUN->sent, 10);
    for (uint64_t i = 0; i < 10; i++)
        assert_int_equal(RUN->order[i], 5 + i);
    run_id(b, id);
    assert_string_equal(RUN->replay, id);
    assert_int_equal(RUN->delivery, 0); /* whatever the live flow does */
    EVENTUALLY(!fake_is_open(RUN));
    assert_int_equal(fakes[0].sent, 20);
    assert_int_equal(status(b, 0, "delivered"), 20);
    assert_int_equal(status(b, 0, "lsn"), 20);
    b->sink[0].delivery = 0;
    stop(b, 0);
    start(b, 0, "");
    assert_true(run_says(b, "\"state\":\"done\"")); /* still known, not done again */
    assert_int_equal(RUN->sent, 10);
}

static void the_live_flow_does_not_wait(void **state)
{
    struct box *b = *state;

    RUN->mode = FAKE_HOLD;
    start(b, 0, "in_flight: { events: 4 }");
    append_many(b, 10);
    EVENTUALLY(delivery_drained(b->d[0]));
    replay(b, 1, 10);
    EVENTUALLY(fake_count(RUN, &RUN->held_n) == 4);
    append_many(b, 50);
    EVENTUALLY(delivery_drained(b->d[0]));
    for (size_t i = 0; i < 60; i++)
        assert_int_equal(fakes[0].order[i], i + 1);
    assert_int_equal(fake_count(RUN, &RUN->held_n), 4);
    while (!run_says(b, "\"state\":\"done\""))
        if (fake_count(RUN, &RUN->held_n))
            on_its_thread(RUN, fake_let_go, RUN);
    assert_int_equal(RUN->sent, 10);
    assert_int_equal(RUN->most_held, 4);
}

static void only_what_matches(void **state)
{
    struct box *b = *state;

    start(b, 0, "match: { type: 'video.*' }");
    for (int i = 0; i < 9; i++)
        append(b, i % 3 ? "else" : "video.generated", S("{}"));
    replay(b, 2, 9);
    EVENTUALLY(run_says(b, "\"state\":\"done\""));
    check_order(RUN, 0, (uint64_t[]){ 4, 7 }, 2);
    assert_int_equal(RUN->sent, 2);
    assert_true(run_says(b, "\"lsn\":9,\"delivered\":2"));
}

static void order_is_kept_over_refusals(void **state)
{
    struct box *b = *state;
    static const uint64_t want[] = { 1, 2, 3, 4, 5, 6, 3, 3, 4, 5, 7, 8 };

    RUN->mode = FAKE_HOLD;
    for (int lsn = 3; lsn <= 5; lsn++) {
        RUN->verdict[lsn] = SINK_RETRY;
        RUN->refusals[lsn] = lsn == 3 ? 2 : 1;
    }
    start(b, 0, "in_flight: { events: 6 }");
    append_many(b, 8);
    replay(b, 1, 8);
    EVENTUALLY(fake_count(RUN, &RUN->held_n) == 6);
    on_its_thread(RUN, fake_let_go, RUN);
    for (size_t n = 7; n <= 8; n++) {
        EVENTUALLY(fake_count(RUN, &RUN->sent) == n);
        on_its_thread(RUN, fake_let_go, RUN);
    }
    EVENTUALLY(fake_count(RUN, &RUN->sent) == 12);
    on_its_thread(RUN, fake_let_go, RUN);
    EVENTUALLY(run_says(b, "\"state\":\"done\""));
    check_order(RUN, 0, want, 12);
    assert_int_equal(fakes[0].sent, 8);
}

static void tell_lost(void *arg)
{
    struct fake *f = arg;

    f->held_n = 0;
    f->sink.owner.lost(f->sink.owner.arg, "cut");
    f->sink.owner.ready(f->sink.owner.arg);
}

static void tell_blocked(void *arg)
{
    struct fake *f = arg;

    f->sink.owner.state(f->sink.owner.arg, SINK_BLOCKED, "grant XADD");
}

static void what_was_lost_is_sent_again(void **state)
{
    struct box *b = *state;

    RUN->mode = FAKE_HOLD;
    start(b, 0, "");
    append_many(b, 3);
    replay(b, 1, 3);
    EVENTUALLY(fake_count(RUN, &RUN->held_n) == 3);
    on_its_thread(RUN, tell_blocked, RUN);
    assert_true(run_says(b, "\"state\":\"blocked\",\"reason\":\"grant XADD\""));
    assert_true(status_says(b, 0, "\"state\":\"running\"")); /* that one is another connection */
    on_its_thread(RUN, tell_lost, RUN);
    EVENTUALLY(fake_count(RUN, &RUN->sent) == 6);
    on_its_thread(RUN, fake_let_go, RUN);
    EVENTUALLY(run_says(b, "\"state\":\"done\""));
    check_order(RUN, 0, (uint64_t[]){ 1, 2, 3, 1, 2, 3 }, 6);
}

static void make_room_for_one(void *arg)
{
    struct fake *f = arg;

    f->room++;
    f->sink.owner.ready(f->sink.owner.arg);
}

static void a_full_sink_is_filled_up(void **state)
{
    struct box *b = *state;

    RUN->mode = FAKE_HOLD;
    RUN->room = 3;
    start(b, 0, "");
    append_many(b, 6);
    replay(b, 1, 6);
    EVENTUALLY(fake_count(RUN, &RUN->held_n) == 3);
    for (size_t n = 4; n <= 6; n++) {
        on_its_thread(RUN, make_room_for_one, RUN);
        EVENTUALLY(fake_count(RUN, &RUN->held_n) == n);
    }
    on_its_thread(RUN, fake_let_go, RUN);
    EVENTUALLY(run_says(b, "\"state\":\"done\""));
    check_order(RUN, 0, (uint64_t[]){ 1, 2, 3, 4, 5, 6 }, 6);
}

static void answer_first_3(void *arg)
{
    for (uint64_t lsn = 1; lsn <= 3; lsn++)
        fake_answer(arg, lsn);
}

static void a_restart_goes_on(void **state)
{
    struct box *b = *state;
    char id[RUN_ID_BYTES + 1], again[RUN_ID_BYTES + 1];

    RUN->mode = FAKE_HOLD;
    start(b, 0, "");
    append_many(b, 8);
    EVENTUALLY(delivery_drained(b->d[0]));
    replay(b, 1, 8);
    EVENTUALLY(fake_count(RUN, &RUN->held_n) == 8);
    on_its_thread(RUN, answer_first_3, RUN);
    EVENTUALLY(run_says(b, "\"lsn\":3,"));
    run_id(b, id);
    stop(b, 0);
    RUN->mode = FAKE_AT_ONCE;
    RUN->sent = 0;
    start(b, 0, "");
    EVENTUALLY(run_says(b, "\"state\":\"done\""));
    check_order(RUN, 0, (uint64_t[]){ 4, 5, 6, 7, 8 }, 5);
    assert_true(run_says(b, "\"delivered\":8"));
    run_id(b, again);
    assert_string_equal(id, again);
    assert_string_equal(RUN->replay, id);
    assert_int_equal(fakes[0].sent, 8);
}

static void one_at_a_time_and_cancelled(void **state)
{
    struct box *b = *state;
    struct delivery_ask stop_it = { .what = ASK_CANCEL };

    RUN->mode = FAKE_HOLD;
    start(b, 0, "");
    append_many(b, 8);
    assert_int_equal(answer(b, stop_it), ASK_NONE);
    replay(b, 1, 8);
    EVENTUALLY(fake_count(RUN, &RUN->held_n) == 8);
    assert_int_equal(answer(b, (struct delivery_ask){ .what = ASK_REPLAY, .from = 1, .to = 2 }),
                     ASK_BUSY);
    assert_int_equal(answer(b, stop_it), ASK_NONE); /* that is not its id */
    run_id(b, stop_it.id);
    assert_true(delivery_run_is(b->d[0], span_str(stop_it.id)));
    assert_int_equal(answer(b, stop_it), ASK_DONE);
    assert_true(run_says(b, "\"state\":\"cancelled\""));
    assert_int_equal(answer(b, stop_it), ASK_DONE); /* it is */
    RUN->mode = FAKE_AT_ONCE;
    RUN->sent = RUN->held_n = 0;
    replay(b, 2, 3);
    EVENTUALLY(run_says(b, "\"state\":\"done\""));
    check_order(RUN, 0, (uint64_t[]){ 2, 3 }, 2);
}

static void what_retention_removed_ends_it(void **state)
{
    struct box *b = *state;
    char *body = xcalloc(1, 8000);
    struct wal_info info;

    RUN->mode = FAKE_HOLD;
    start(b, 0, "in_flight: { events: 2 }");
    for (int i = 0; i < 10; i++)
        append(b, "t", span_of(body, 8000));
    replay(b, 1, 10);
    EVENTUALLY(fake_count(RUN, &RUN->held_n) == 2);
    b->cfg.retain_bytes = 1;
    wal_reconfigure(b->wal, &b->cfg, &b->dedup);
    for (int i = 0; i < 40; i++)
        append(b, "t", span_of(body, 8000));
    free(body);
    EVENTUALLY((wal_info(b->wal, &info), info.first_lsn > 10));
    while (!run_says(b, "\"state\":\"failed\""))
        if (fake_count(RUN, &RUN->held_n))
            on_its_thread(RUN, fake_let_go, RUN);
    assert_true(run_says(b, "are no longer retained; the first is"));
    assert_true(RUN->sent < 10);
}

static void poison_in_a_replay_is_a_dead_letter(void **state)
{
    struct box *b = *state;

    RUN->verdict[2] = RUN->verdict[3] = SINK_POISON;
    RUN->refusals[2] = RUN->refusals[3] = 1;
    start(b, 0, "");
    poison(b, 2, 2);
    append_many(b, 2);
    EVENTUALLY(delivery_drained(b->d[0]));
    assert_int_equal(status(b, 0, "dead"), 1);
    replay(b, 1, 4);
    EVENTUALLY(run_says(b, "\"state\":\"done\""));
    assert_true(run_says(b, "\"delivered\":2,\"dead\":2"));
    assert_int_equal(status(b, 0, "dead"), 2); /* LSN 2 is there once */
}

/* --- dead letters
 * ------------------------------------------------------------------------------------------ */

static void letters_in_pages(void **state)
{
    struct box *b = *state;
    struct delivery_ask *a;

    start(b, 0, "");
    append_many(b, 3);
    poison(b, 4, 8);
    append_many(b, 1);
    a = ask(b, (struct delivery_ask){ .what = ASK_LETTERS, .after = 4, .limit = 2 });
    assert_int_equal(a->answer, ASK_DONE);
    assert_int_equal(a->letters_n, 2);
    assert_int_equal(a->letters[0].rec.lsn, 5);
    assert_int_equal(a->letters[1].rec.lsn, 6);
    assert_int_equal(a->letters[0].attempts, 1);
    assert_true(span_eq(a->letters[0].reason, S("as told")));
    assert_int_equal(a->count, 5);
    assert_true(a->more);
    forget(a);
    a = ask(b, (struct delivery_ask){ .what = ASK_LETTERS, .after = 6, .limit = 2 });
    assert_int_equal(a->letters_n, 2);
    assert_false(a->more);
    forget(a);
    a = ask(b, (struct delivery_ask){ .what = ASK_LETTERS, .after = 8, .limit = 2 });
    assert_int_equal(a->letters_n, 0);
    forget(a);
}

static uint64_t drop(struct box *b, struct delivery_ask what)
{
    struct delivery_ask *a = ask(b, what);
    uint64_t n = a->count;

    assert_int_equal(a->answer, ASK_DONE);
    forget(a);
    return n;
}

static void dropped_letters_are_gone(void **state)
{
    struct box *b = *state;

    start(b, 0, "");
    poison(b, 1, 5);
    assert_int_equal(drop(b, (struct delivery_ask){ .what = ASK_DROP, GIVEN(2, 4, 77) }), 2);
    assert_int_equal(status(b, 0, "dead"), 3);
    stop(b, 0);
    start(b, 0, "");
    assert_int_equal(status(b, 0, "dead"), 3);
    assert_int_equal(drop(b, (struct delivery_ask){ .what = ASK_DROP }), 3);
    assert_int_equal(status(b, 0, "dead"), 0);
    assert_int_equal(fakes[0].done, 0);
    assert_int_equal(answer(b, (struct delivery_ask){ .what = ASK_REDRIVE }), ASK_NONE);
}

static void redriven_letters_are_gone_and_the_others_stay(void **state)
{
    struct box *b = *state;
    struct delivery_ask *a;
    char id[RUN_ID_BYTES + 1];

    start(b, 0, "");
    poison(b, 1, 6);
    RUN->verdict[3] = SINK_POISON;
    RUN->refusals[3] = 1;
    assert_int_equal(answer(b, (struct delivery_ask){ .what = ASK_REDRIVE, GIVEN(2, 3, 5, 99) }),
                     ASK_DONE);
    EVENTUALLY(run_says(b, "\"state\":\"done\""));
    assert_true(run_says(b, "\"total\":3,\"delivered\":2,\"dead\":1"));
    check_order(RUN, 0, (uint64_t[]){ 2, 3, 5 }, 3);
    run_id(b, id);
    assert_string_equal(RUN->replay, id);
    assert_int_equal(status(b, 0, "dead"), 4);
    assert_int_equal(status(b, 0, "lsn"), 6);
    a = ask(b, (struct delivery_ask){ .what = ASK_LETTERS, .limit = 9 });
    assert_int_equal(a->letters_n, 4);
    assert_int_equal(a->letters[1].rec.lsn, 3);
    assert_int_equal(a->letters[1].attempts, 2);
    assert_int_equal(a->letters[0].attempts, 1);
    forget(a);
    assert_int_equal(answer(b, (struct delivery_ask){ .what = ASK_REDRIVE }), ASK_DONE);
    EVENTUALLY(run_says(b, "\"state\":\"done\""));
    check_order(RUN, 3, (uint64_t[]){ 1, 3, 4, 6 }, 4);
    assert_int_equal(status(b, 0, "dead"), 0);
}

static void answer_2(void *arg)
{
    fake_answer(arg, 2);
}

static void a_redrive_goes_on_after_a_restart(void **state)
{
    struct box *b = *state;

    RUN->mode = FAKE_HOLD;
    start(b, 0, "");
    poison(b, 1, 5);
    assert_int_equal(answer(b, (struct delivery_ask){ .what = ASK_REDRIVE, GIVEN(1, 2, 4) }),
                     ASK_DONE);
    EVENTUALLY(fake_count(RUN, &RUN->held_n) == 3);
    on_its_thread(RUN, answer_2, RUN);
    EVENTUALLY(status(b, 0, "dead") == 4); /* also behind one that is not known of yet */
    stop(b, 0);
    RUN->mode = FAKE_AT_ONCE;
    RUN->sent = 0;
    start(b, 0, "");
    EVENTUALLY(run_says(b, "\"state\":\"done\""));
    check_order(RUN, 0, (uint64_t[]){ 1, 4 }, 2);
    assert_int_equal(RUN->sent, 2);
    assert_int_equal(status(b, 0, "dead"), 2);
}

static void dropped_under_way_stays_dropped(void **state)
{
    struct box *b = *state;

    RUN->mode = FAKE_HOLD;
    RUN->verdict[1] = SINK_POISON;
    RUN->refusals[1] = 1;
    start(b, 0, "");
    poison(b, 1, 2);
    assert_int_equal(answer(b, (struct delivery_ask){ .what = ASK_REDRIVE }), ASK_DONE);
    EVENTUALLY(fake_count(RUN, &RUN->held_n) == 2);
    assert_int_equal(drop(b, (struct delivery_ask){ .what = ASK_DROP, GIVEN(1) }), 1);
    on_its_thread(RUN, fake_let_go, RUN);
    EVENTUALLY(run_says(b, "\"state\":\"done\""));
    assert_int_equal(status(b, 0, "dead"), 0);
}

/* Whoever asks in front of a stop gets an answer, and what it started is there after it. */
static void asked_in_front_of_a_stop(void **state)
{
    struct box *b = *state;
    struct asked k[2] = { { .ask = { .what = ASK_LETTERS, .limit = 9 } },
                          { .ask = { .what = ASK_REPLAY, .from = 1, .to = 3 } } };

    start(b, 0, "");
    poison(b, 1, 3);
    for (int i = 0; i < 2; i++) {
        k[i].ask.reply = &b->in;
        k[i].ask.done = on_answer;
        delivery_ask(b->d[0], &k[i].ask);
    }
    stop(b, 0);
    EVENTUALLY((inbox_run(&b->in, b), k[0].back && k[1].back));
    assert_int_equal(k[0].ask.letters_n, 3);
    assert_non_null(strstr(buf_cstr(&k[1].ask.run), "\"to\":3"));
    for (int i = 0; i < 2; i++)
        delivery_ask_free(&k[i].ask);
    start(b, 0, "");
    EVENTUALLY(run_says(b, "\"state\":\"done\""));
}

static const struct full_row {
    const char *name;
    bool redrive;
} full_rows[] = {
    { "case 38: a full dead-letter log goes on after letters were dropped", false },
    { "case 38: a full dead-letter log goes on after letters were redriven", true },
};

static void full(void **state)
{
    const struct full_row *r = *state;
    static const char body[20000];
    void *box;
    struct box *b;

    set_up(&box);
    b = box;
    for (int i = 1; i <= 5; i++) {
        fakes[0].verdict[i] = SINK_POISON;
        fakes[0].refusals[i] = 1000;
    }
    start(b, 0, "dead_bytes: 50KiB");
    for (int i = 0; i < 4; i++)
        append(b, "t", span_of(body, sizeof body));
    append_many(b, 2);
    EVENTUALLY(status_says(b, 0, "\"state\":\"blocked\",\"reason\":\"the dead-letter log is full"));
    assert_true(status_says(b, 0, "hookline dead"));
    assert_int_equal(status(b, 0, "dead"), 2);
    EVENTUALLY(status(b, 0, "lsn") == 2);
    if (r->redrive)
        assert_int_equal(answer(b, (struct delivery_ask){ .what = ASK_REDRIVE }), ASK_DONE);
    else
        drop(b, (struct delivery_ask){ .what = ASK_DROP, GIVEN(1, 2) });
    EVENTUALLY(status(b, 0, "lsn") == 4 || status(b, 0, "lsn") == 6);
    if (status(b, 0, "lsn") == 4)
        drop(b, (struct delivery_ask){ .what = ASK_DROP });
    EVENTUALLY(delivery_drained(b->d[0]));
    assert_true(status_says(b, 0, "\"state\":\"running\""));
    if (r->redrive)
        check_order(RUN, 0, (uint64_t[]){ 1, 2 }, 2);
    tear_down(&box);
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        T(a_range_again),
        T(the_live_flow_does_not_wait),
        T(only_what_matches),
        T(order_is_kept_over_refusals),
        T(what_was_lost_is_sent_again),
        T(a_full_sink_is_filled_up),
        T(a_restart_goes_on),
        T(one_at_a_time_and_cancelled),
        T(what_retention_removed_ends_it),
        T(poison_in_a_replay_is_a_dead_letter),
        T(letters_in_pages),
        T(dropped_letters_are_gone),
        T(redriven_letters_are_gone_and_the_others_stay),
        T(a_redrive_goes_on_after_a_restart),
        T(dropped_under_way_stays_dropped),
        T(asked_in_front_of_a_stop),
    };

    return T_TABLE(full_rows, full) + T_RUN(tests);
}
