/* SPDX-License-Identifier: Apache-2.0 */
/* The thread of a sink over a real log: no wake-up is lost, the window is bounded, the cursor never
 * leads, order is kept, and every way a record can end. */
#include "fake.h"

#include <fcntl.h>

/* The look at the log each second would hide a wake-up that was lost. */
static void no_tick(void *arg)
{
    event_del(&((struct delivery *)arg)->tick);
}

/* A record that came in while the sink looked away is seen without another one behind it. */
static void one_record_and_silence(void **state)
{
    struct box *b = *state;

    start(b, 0, "");
    on_its_thread(&fakes[0], no_tick, b->d[0]);
    for (size_t i = 1; i <= 4000; i++) {
        pthread_mutex_lock(&fakes[0].lock);
        fakes[0].mode = i % 3 ? FAKE_LATER : FAKE_AT_ONCE;
        pthread_mutex_unlock(&fakes[0].lock);
        append_many(b, 1);
        EVENTUALLY(fake_count(&fakes[0], &fakes[0].done) == i);
    }
    EVENTUALLY(delivery_drained(b->d[0]));
}

/* The same with a burst that has just ended: reports and wake-ups cross. */
static void a_burst_and_silence(void **state)
{
    struct box *b = *state;
    size_t sent = 0;

    fakes[0].mode = FAKE_LATER;
    start(b, 0, "in_flight: { events: 3 }");
    on_its_thread(&fakes[0], no_tick, b->d[0]);
    for (unsigned i = 0; i < 300; i++) {
        append_many(b, 1 + i % 7);
        sent += 1 + i % 7;
        if (i % 5 == 0)
            EVENTUALLY(fake_count(&fakes[0], &fakes[0].done) == sent);
    }
    EVENTUALLY(fake_count(&fakes[0], &fakes[0].done) == sent);
    for (size_t i = 0; i < sent; i++)
        assert_int_equal(fakes[0].order[i], i + 1);
}

static void window_is_bounded_by_count(void **state)
{
    struct box *b = *state;

    fakes[0].mode = FAKE_HOLD;
    start(b, 0, "in_flight: { events: 4 }");
    on_its_thread(&fakes[0], no_tick, b->d[0]);
    append_many(b, 20);
    EVENTUALLY(fake_count(&fakes[0], &fakes[0].held_n) == 4);
    for (size_t n = 8; n <= 20; n += 4) {
        on_its_thread(&fakes[0], fake_let_go, &fakes[0]);
        EVENTUALLY(fake_count(&fakes[0], &fakes[0].sent) == n);
    }
    on_its_thread(&fakes[0], fake_let_go, &fakes[0]);
    EVENTUALLY(delivery_drained(b->d[0]));
    assert_int_equal(fakes[0].most_held, 4);
}

static void window_is_bounded_by_bytes(void **state)
{
    struct box *b = *state;
    char *body = xcalloc(1, 20000);

    fakes[0].mode = FAKE_HOLD;
    start(b, 0, "in_flight: { bytes: 64KiB }");
    for (int i = 0; i < 8; i++)
        append(b, "t", span_of(body, 20000));
    free(body);
    EVENTUALLY(fake_count(&fakes[0], &fakes[0].held_n) == 4);
    on_its_thread(&fakes[0], fake_let_go, &fakes[0]);
    EVENTUALLY(fake_count(&fakes[0], &fakes[0].sent) == 8);
    on_its_thread(&fakes[0], fake_let_go, &fakes[0]);
    EVENTUALLY(delivery_drained(b->d[0]));
    assert_int_equal(fakes[0].most_held, 4);
}

static void make_room_for_one(void *arg)
{
    struct fake *f = arg;

    f->room++;
    f->sink.owner.ready(f->sink.owner.arg);
}

/* A full sink gets more as soon as it has room, not only once all that it holds was reported. */
static void a_full_sink_is_filled_up(void **state)
{
    struct box *b = *state;

    fakes[0].mode = FAKE_HOLD;
    fakes[0].room = 3;
    start(b, 0, "");
    append_many(b, 6);
    EVENTUALLY(fake_count(&fakes[0], &fakes[0].held_n) == 3);
    for (size_t n = 4; n <= 6; n++) {
        on_its_thread(&fakes[0], make_room_for_one, &fakes[0]);
        EVENTUALLY(fake_count(&fakes[0], &fakes[0].held_n) == n);
    }
    on_its_thread(&fakes[0], fake_let_go, &fakes[0]);
    EVENTUALLY(delivery_drained(b->d[0]));
    for (size_t i = 0; i < 6; i++)
        assert_int_equal(fakes[0].order[i], i + 1);
}

static void answer_2_and_3(void *arg)
{
    fake_answer(arg, 2);
    fake_answer(arg, 3);
}

static void answer_1(void *arg)
{
    fake_answer(arg, 1);
}

static void cursor_never_leads(void **state)
{
    struct box *b = *state;

    fakes[0].mode = FAKE_HOLD;
    start(b, 0, "");
    append_many(b, 3);
    EVENTUALLY(fake_count(&fakes[0], &fakes[0].held_n) == 3);
    on_its_thread(&fakes[0], answer_2_and_3, &fakes[0]);
    EVENTUALLY(status(b, 0, "delivered") == 2);
    append_many(b, 1); /* another pass */
    EVENTUALLY(fake_count(&fakes[0], &fakes[0].held_n) == 4);
    assert_int_equal(wal_cursor_lsn(b->d[0]->cursor), 0);
    on_its_thread(&fakes[0], answer_1, &fakes[0]);
    EVENTUALLY(wal_cursor_lsn(b->d[0]->cursor) == 3);
    stop(b, 0);
    fakes[0].sent = 0;
    start(b, 0, "");
    EVENTUALLY(fake_count(&fakes[0], &fakes[0].sent) == 1);
    assert_int_equal(fakes[0].order[0], 4); /* and it does not lag behind what it has written */
}

/* All that failed comes again in order, alone first, and before anything newer. */
static void case37_transient_errors_keep_order(void **state)
{
    struct box *b = *state;
    static const uint64_t want[] = { 1, 2, 3, 4, 5, 6, 3, 3, 4, 5, 7, 8 };

    fakes[0].mode = FAKE_HOLD;
    for (int lsn = 3; lsn <= 5; lsn++) {
        fakes[0].verdict[lsn] = SINK_RETRY;
        fakes[0].refusals[lsn] = lsn == 3 ? 2 : 1;
    }
    start(b, 0, "in_flight: { events: 6 }");
    append_many(b, 8);
    EVENTUALLY(fake_count(&fakes[0], &fakes[0].held_n) == 6);
    on_its_thread(&fakes[0], fake_let_go, &fakes[0]);
    for (size_t n = 7; n <= 8; n++) { /* the probe, refused once more */
        EVENTUALLY(fake_count(&fakes[0], &fakes[0].sent) == n);
        assert_int_equal(fake_count(&fakes[0], &fakes[0].held_n), 1);
        on_its_thread(&fakes[0], fake_let_go, &fakes[0]);
    }
    EVENTUALLY(fake_count(&fakes[0], &fakes[0].sent) == 12);
    on_its_thread(&fakes[0], fake_let_go, &fakes[0]);
    EVENTUALLY(delivery_drained(b->d[0]));
    assert_memory_equal(fakes[0].order, want, sizeof want);
    assert_true(status_says(b, 0, "\"state\":\"running\""));
}

/* A refusal that is told from inside `send`: what stands behind it waits. */
static void case37_a_refusal_at_once_keeps_order(void **state)
{
    struct box *b = *state;
    static const uint64_t want[] = { 1, 2, 3, 2, 3, 3, 4 };

    fakes[0].mode = FAKE_HOLD;
    fakes[0].verdict[2] = fakes[0].verdict[3] = SINK_RETRY;
    fakes[0].refusals[2] = 1;
    fakes[0].refusals[3] = 2;
    start(b, 0, "in_flight: { events: 3 }");
    append_many(b, 4);
    EVENTUALLY(fake_count(&fakes[0], &fakes[0].held_n) == 3);
    pthread_mutex_lock(&fakes[0].lock);
    fakes[0].mode = FAKE_AT_ONCE;
    pthread_mutex_unlock(&fakes[0].lock);
    on_its_thread(&fakes[0], fake_let_go, &fakes[0]);
    EVENTUALLY(delivery_drained(b->d[0]));
    assert_memory_equal(fakes[0].order, want, sizeof want);
}

static void tell_lost(void *arg)
{
    struct fake *f = arg;

    f->held_n = 0;
    f->sink.owner.lost(f->sink.owner.arg, "cut");
    f->sink.owner.ready(f->sink.owner.arg);
}

static void case39_what_was_lost_is_sent_again(void **state)
{
    struct box *b = *state;
    static const uint64_t want[] = { 1, 2, 3, 1, 2, 3 };

    fakes[0].mode = FAKE_HOLD;
    start(b, 0, "");
    append_many(b, 3);
    EVENTUALLY(fake_count(&fakes[0], &fakes[0].held_n) == 3);
    on_its_thread(&fakes[0], tell_lost, &fakes[0]);
    EVENTUALLY(fake_count(&fakes[0], &fakes[0].sent) == 6);
    on_its_thread(&fakes[0], fake_let_go, &fakes[0]);
    EVENTUALLY(delivery_drained(b->d[0]));
    assert_memory_equal(fakes[0].order, want, sizeof want);
}

static void case38_poison_is_a_dead_letter_and_passed(void **state)
{
    struct box *b = *state;

    fakes[0].verdict[2] = SINK_POISON;
    fakes[0].refusals[2] = 1;
    start(b, 0, "");
    append_many(b, 3);
    EVENTUALLY(delivery_drained(b->d[0]));
    assert_int_equal(status(b, 0, "dead"), 1);
    assert_int_equal(status(b, 0, "delivered"), 2);
    assert_int_equal(fakes[0].sent, 3);
    stop(b, 0);
    start(b, 0, "");
    assert_int_equal(status(b, 0, "dead"), 1); /* it is on disk */
}

struct dead_size {
    struct delivery *d;
    uint64_t bytes;
};

static void resize_dead(void *arg)
{
    struct dead_size *size = arg;
    struct err e = ERR_INIT;

    wal_dead_close(size->d->dead);
    if (wal_dead_open(size->d->wal, size->d->name, size->bytes, &size->d->dead, &e))
        abort();
}

static void case38_full_dead_letters_block(void **state)
{
    static const char body[1000];
    struct box *b = *state;

    start(b, 0, "");
    for (int i = 1; i <= 2; i++) {
        fakes[0].verdict[i] = SINK_POISON;
        fakes[0].refusals[i] = 1000;
    }
    on_its_thread(&fakes[0], resize_dead, &(struct dead_size){ b->d[0], 600 });
    append_many(b, 1);
    append(b, "t", span_of(body, sizeof body));
    append_many(b, 1);
    EVENTUALLY(status_says(
        b, 0, "\"state\":\"blocked\",\"reason\":\"the dead-letter log is full: drop or redrive"));
    assert_int_equal(status(b, 0, "dead"), 1);
    assert_int_equal(wal_cursor_lsn(b->d[0]->cursor), 1);
    on_its_thread(&fakes[0], resize_dead, &(struct dead_size){ b->d[0], GIB(1) });
    EVENTUALLY(delivery_drained(b->d[0])); /* it goes on by itself */
    assert_int_equal(status(b, 0, "dead"), 2);
    assert_true(status_says(b, 0, "\"state\":\"running\""));
}

static void case31_a_quota_closes_and_opens_again(void **state)
{
    struct box *b = *state;

    fakes[0].mode = FAKE_HOLD;
    start(b, 0, "backlog_bytes: 32KiB");
    start(b, 1, "");
    assert_false(*delivery_full(b->d[0]));
    for (int i = 0; i < 1000 && !*delivery_full(b->d[0]); i++)
        append_many(b, 1);
    assert_true(*delivery_full(b->d[0]));
    assert_false(*delivery_full(b->d[1])); /* its own quota, nobody else's */
    EVENTUALLY(delivery_drained(b->d[1]));
    on_its_thread(&fakes[0], fake_let_go, &fakes[0]);
    EVENTUALLY(!*delivery_full(b->d[0]));
}

static void lag_counts_what_matches(void **state)
{
    struct box *b = *state;

    fakes[0].mode = FAKE_HOLD;
    start(b, 0, "match: { type: 'video.*' }\nin_flight: { events: 10 }");
    for (int i = 0; i < 30; i++)
        append(b, i % 3 ? "else" : "video.generated", S("{}"));
    EVENTUALLY(status(b, 0, "lag_events") == 10);
    while (fake_count(&fakes[0], &fakes[0].done) < 10)
        on_its_thread(&fakes[0], fake_let_go, &fakes[0]);
    EVENTUALLY(delivery_drained(b->d[0])); /* the cursor passes the others too */
    assert_int_equal(status(b, 0, "lag_events"), 0);
    assert_int_equal(status(b, 0, "lsn"), 30);
    for (size_t i = 0; i < 10; i++)
        assert_int_equal(fakes[0].order[i], 1 + 3 * i);
}

/* Windows full of records that are not for this sink: it goes on through them by itself. */
static void what_does_not_match_is_passed(void **state)
{
    struct box *b = *state;

    append_many(b, 100);
    append(b, "else", S("{}"));
    start(b, 0, "match: { type: else }\nin_flight: { events: 10 }");
    on_its_thread(&fakes[0], no_tick, b->d[0]);
    EVENTUALLY(delivery_drained(b->d[0]));
    assert_int_equal(fakes[0].sent, 1);
}

static void flip_a_byte(struct box *b, const char *segment, off_t at)
{
    char path[128], byte;
    int fd;

    snprintf(path, sizeof path, "%s/%s", b->dir, segment);
    fd = open(path, O_RDWR);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

/* Damage in a sealed segment, met by one of two sinks. */
static void case33_damage_blocks_the_one_that_meets_it(void **state)
{
    struct box *b = *state;
    char *body = xcalloc(1, 8000);
    uint64_t sent;

    fakes[0].mode = FAKE_HOLD;
    start(b, 0, "in_flight: { events: 1 }");
    start(b, 1, "");
    for (int i = 0; i < 20; i++)
        append(b, "t", span_of(body, 8000));
    EVENTUALLY(delivery_drained(b->d[1]));
    flip_a_byte(b, "0000000000000001.wal", 30000);
    while (
        !status_says(b, 0, "\"state\":\"blocked\",\"reason\":\"damaged seg 0000000000000001 off "))
        on_its_thread(&fakes[0], fake_let_go, &fakes[0]);
    sent = fake_count(&fakes[0], &fakes[0].sent);
    append(b, "t", span_of(body, 8000));
    EVENTUALLY(delivery_drained(b->d[1])); /* the other one goes on */
    assert_int_equal(fake_count(&fakes[0], &fakes[0].sent), sent);
    flip_a_byte(b, "0000000000000001.wal", 30000); /* as `hookline log repair` would */
    while (!delivery_drained(b->d[0]))
        on_its_thread(&fakes[0], fake_let_go, &fakes[0]);
    assert_true(status_says(b, 0, "\"state\":\"running\""));
    for (size_t i = 0; i < fakes[0].sent; i++)
        assert_int_equal(fakes[0].order[i], i + 1);
    free(body);
}

static const struct from_row {
    const char *name, *yaml;
    uint64_t first;
} from_rows[] = {
    { "the first sinks of a log: oldest", "", 1 },
    { "from oldest", "from: oldest", 1 },
    { "from now", "from: now", 6 },
    { "from an LSN", "from: '3'", 3 },
    { "from an LSN that is not there yet", "from: '99'", 6 },
    { "from a time long ago", "from: '2020-01-01T00:00:00Z'", 1 },
    { "from a time to come", "from: '2099-01-01T00:00:00Z'", 6 },
};

static void from(void **state)
{
    const struct from_row *r = *state;
    void *box;
    struct box *b;

    set_up(&box);
    b = box;
    append_many(b, 5);
    start(b, 0, r->yaml);
    append_many(b, 1);
    EVENTUALLY(delivery_drained(b->d[0]));
    assert_int_equal(fakes[0].order[0], r->first);
    assert_int_equal(fakes[0].sent, 7 - r->first);
    tear_down(&box);
}

static void a_retired_sink_leaves_dead_letters(void **state)
{
    struct box *b = *state;
    struct err e = ERR_INIT;
    struct wal_dead *dead;
    uint64_t n;

    fakes[0].mode = FAKE_HOLD;
    start(b, 0, "match: { type: 'video.*' }");
    append_many(b, 5);
    append(b, "else", S("{}"));
    EVENTUALLY(fake_count(&fakes[0], &fakes[0].held_n) == 5);
    on_its_thread(&fakes[0], answer_1, &fakes[0]);
    EVENTUALLY(status(b, 0, "lsn") == 1);
    stop(b, 0);
    assert_int_equal(delivery_backlog(b->wal, "a", &n, &e), 0);
    assert_int_equal(n, 4);
    assert_int_equal(delivery_retire(b->wal, "a", &e), 0);
    assert_false(wal_cursor_exists(b->wal, "a"));
    assert_int_equal(wal_dead_open(b->wal, "a", GIB(1), &dead, &e), 0);
    assert_int_equal(wal_dead_count(dead), 4);
    wal_dead_close(dead);
}

/* What waits behind the cursor is nothing that its filter let pass. */
static void a_sink_with_nothing_of_its_own_may_go(void **state)
{
    struct box *b = *state;
    struct err e = ERR_INIT;
    uint64_t n = 1;

    start(b, 0, "match: { source: demo, type: 'video.*' }");
    stop(b, 0);
    append(b, "else", S("{}"));
    assert_int_equal(delivery_backlog(b->wal, "a", &n, &e), 0);
    assert_int_equal(n, 0);
    append_many(b, 1);
    assert_int_equal(delivery_backlog(b->wal, "a", &n, &e), 0);
    assert_int_equal(n, 1);
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        T(one_record_and_silence),
        T(a_burst_and_silence),
        T(window_is_bounded_by_count),
        T(window_is_bounded_by_bytes),
        T(a_full_sink_is_filled_up),
        T(cursor_never_leads),
        T(case37_transient_errors_keep_order),
        T(case37_a_refusal_at_once_keeps_order),
        T(case39_what_was_lost_is_sent_again),
        T(case38_poison_is_a_dead_letter_and_passed),
        T(case38_full_dead_letters_block),
        T(case31_a_quota_closes_and_opens_again),
        T(lag_counts_what_matches),
        T(what_does_not_match_is_passed),
        T(case33_damage_blocks_the_one_that_meets_it),
        T(a_retired_sink_leaves_dead_letters),
        T(a_sink_with_nothing_of_its_own_may_go),
    };

    return T_TABLE(from_rows, from) + T_RUN(tests);
}
