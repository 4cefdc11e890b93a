/* SPDX-License-Identifier: Apache-2.0 */
/* Exactly once over a real log: every mark that can be read back has its verdict, and what is sent
 * again is what the mark says, from the window or from the log. */
#include "fake.h"

#include <sys/wait.h>

#define EXACTLY "delivery: exactly-once"

struct judging {
    struct fake *f;
    struct sink_mark mark;
    bool none, running;
    enum sink_verdict verdict;
    struct buf reason;
};

static void judge(void *arg)
{
    struct judging *j = arg;
    const struct sink_owner *o = &j->f->sink.owner;

    j->verdict = o->judge(o->arg, j->none ? NULL : &j->mark, j->running, &j->reason);
}

struct going_on {
    struct fake *f;
    uint64_t lsn;
};

static void go_on(void *arg)
{
    struct going_on *g = arg;
    const struct sink_owner *o = &g->f->sink.owner;

    pthread_mutex_lock(&g->f->lock);
    g->f->held_n = 0;
    pthread_mutex_unlock(&g->f->lock);
    o->resume(o->arg, g->lsn);
    o->ready(o->arg);
}

static void resume(struct fake *f, uint64_t lsn)
{
    struct going_on g = { f, lsn };

    on_its_thread(f, go_on, &g);
}

static void mark(void *arg)
{
    struct judging *j = arg;
    const struct sink_owner *o = &j->f->sink.owner;

    o->mark(o->arg, j->mark.lsn, &j->mark);
}

static struct sink_mark mark_at(uint64_t lsn)
{
    struct judging j = { .f = &fakes[0], .mark.lsn = lsn };

    on_its_thread(&fakes[0], mark, &j);
    return j.mark;
}

/* What a mark may say, as a change of one that is right. */
static const struct mark_row {
    const char *name;
    bool other_log, other_epoch, other_crc, takeover;
    uint64_t lsn;
    enum sink_verdict want;
    const char *says;
} mark_rows[] = {
    { "ours", .lsn = 5, .want = SINK_GO_ON },
    { "ours, nothing sent yet", .lsn = 0, .want = SINK_GO_ON },
    { "another log's", .lsn = 5, .other_log = true, .want = SINK_DIVERGED, .says = "another log" },
    { "another epoch", .lsn = 5, .other_epoch = true, .want = SINK_DIVERGED,
      .says = "another process has written" },
    { "another epoch, and nothing sent", .lsn = 0, .other_epoch = true, .want = SINK_DIVERGED,
      .says = "another process has written" },
    { "another event there", .lsn = 5, .other_crc = true, .want = SINK_DIVERGED,
      .says = "another event at that LSN" },
    { "ahead of this log", .lsn = 9, .want = SINK_DIVERGED, .says = "ahead of this log" },
    { "another epoch, taken over", .lsn = 5, .other_epoch = true, .takeover = true,
      .want = SINK_GO_ON },
    { "another epoch and event, taken over", .lsn = 5, .other_epoch = true, .other_crc = true,
      .takeover = true, .want = SINK_DIVERGED, .says = "another event" },
    { "another log's, taken over", .lsn = 5, .other_log = true, .takeover = true,
      .want = SINK_DIVERGED, .says = "another log" },
};

static void every_mark_has_its_verdict(void **state)
{
    const struct mark_row *r = *state;
    struct judging j = { .f = &fakes[0], .reason = BUF_INIT };
    void *box;
    struct box *b;

    set_up(&box);
    b = box;
    if (r->takeover) {
        wal_close(b->wal);
        b->cfg.takeover = true;
        open_log(b);
    }
    append_many(b, 8);
    fakes[0].mode = FAKE_HOLD;
    start(b, 0, EXACTLY);
    j.mark = mark_at(r->lsn);
    assert_int_equal(j.mark.lsn, r->lsn);
    j.mark.logid[0] ^= r->other_log;
    j.mark.epoch += r->other_epoch;
    j.mark.crc ^= r->other_crc;
    on_its_thread(&fakes[0], judge, &j);
    assert_int_equal(j.verdict, r->want);
    if (r->says) {
        assert_non_null(strstr(buf_cstr(&j.reason), r->says));
        assert_non_null(strstr(buf_cstr(&j.reason), "hookline log fork build/delivery-"));
    }
    buf_free(&j.reason);
    tear_down(&box);
}

/* The epoch of an earlier start is ours too. */
static void an_earlier_start_is_known(void **state)
{
    struct box *b = *state;
    struct judging j = { .f = &fakes[0], .reason = BUF_INIT };
    uint64_t before;

    append_many(b, 3);
    start(b, 0, EXACTLY);
    j.mark = mark_at(2);
    before = j.mark.epoch;
    stop(b, 0);
    start(b, 0, EXACTLY);
    assert_int_not_equal(mark_at(2).epoch, before);
    on_its_thread(&fakes[0], judge, &j);
    assert_int_equal(j.verdict, SINK_GO_ON);
}

/* Where the mark lies beside what was read: within the window, behind it, ahead of it. */
static const struct resume_row {
    const char *name;
    uint64_t passed; /* LSN up to which everything was confirmed before */
    uint64_t mark;
} resume_rows[] = {
    { "at the window's start", 4, 4 },         { "within the window", 0, 5 },
    { "at the window's end", 0, 10 },          { "ahead of the window", 0, 14 },
    { "behind it: a promoted replica", 9, 3 }, { "from the very first", 9, 0 },
};

static void goes_on_behind_the_mark(void **state)
{
    const struct resume_row *r = *state;
    void *box;
    struct box *b;
    size_t before;

    set_up(&box);
    b = box;
    fakes[0].mode = FAKE_HOLD;
    start(b, 0, EXACTLY "\nin_flight: { events: 10 }");
    append_many(b, (unsigned)r->passed);
    EVENTUALLY(fake_count(&fakes[0], &fakes[0].held_n) == r->passed);
    resume(&fakes[0], r->passed);
    append_many(b, (unsigned)(30 - r->passed));
    EVENTUALLY(fake_count(&fakes[0], &fakes[0].held_n) == 10);
    assert_int_equal(wal_cursor_lsn(b->d[0]->cursor), r->passed);
    before = fake_count(&fakes[0], &fakes[0].sent);
    resume(&fakes[0], r->mark);
    EVENTUALLY(wal_cursor_lsn(b->d[0]->cursor) == r->mark);
    EVENTUALLY(fake_count(&fakes[0], &fakes[0].held_n) == 10);
    for (size_t i = 0; i < 10; i++)
        assert_int_equal(fakes[0].order[before + i], r->mark + 1 + i);
    tear_down(&box);
}

static void answer_2_and_3(void *arg)
{
    fake_answer(arg, 2);
    fake_answer(arg, 3);
}

/* A dead letter stays one; what was confirmed and forgotten by the server is sent again. */
static void what_is_dead_is_not_sent_again(void **state)
{
    struct box *b = *state;
    static const uint64_t want[] = { 1, 2, 3, 1, 3 };

    fakes[0].mode = FAKE_HOLD;
    fakes[0].verdict[2] = SINK_POISON;
    fakes[0].refusals[2] = 1;
    start(b, 0, EXACTLY);
    append_many(b, 3);
    EVENTUALLY(fake_count(&fakes[0], &fakes[0].held_n) == 3);
    on_its_thread(&fakes[0], answer_2_and_3, &fakes[0]);
    resume(&fakes[0], 0);
    EVENTUALLY(fake_count(&fakes[0], &fakes[0].held_n) == 2);
    on_its_thread(&fakes[0], fake_let_go, &fakes[0]);
    EVENTUALLY(delivery_drained(b->d[0]));
    assert_int_equal(status(b, 0, "dead"), 1);
    assert_int_equal(fakes[0].sent, 5);
    assert_memory_equal(fakes[0].order, want, sizeof want);
}

static void answer_1(void *arg)
{
    fake_answer(arg, 1);
}

/* The mark stays behind a dead letter, which the cursor has passed. */
static void a_dead_letter_behind_the_mark_is_passed(void **state)
{
    struct box *b = *state;

    fakes[0].mode = FAKE_HOLD;
    fakes[0].verdict[2] = SINK_POISON;
    fakes[0].refusals[2] = 1;
    start(b, 0, EXACTLY);
    append_many(b, 3);
    EVENTUALLY(fake_count(&fakes[0], &fakes[0].held_n) == 3);
    resume(&fakes[0], 0);
    EVENTUALLY(fake_count(&fakes[0], &fakes[0].held_n) == 3);
    on_its_thread(&fakes[0], answer_1, &fakes[0]);
    on_its_thread(&fakes[0], answer_2_and_3, &fakes[0]);
    EVENTUALLY(wal_cursor_lsn(b->d[0]->cursor) == 3);
    resume(&fakes[0], 3);
    append_many(b, 1);
    fakes[0].verdict[4] = SINK_POISON;
    fakes[0].refusals[4] = 1;
    EVENTUALLY(fake_count(&fakes[0], &fakes[0].held_n) == 1);
    on_its_thread(&fakes[0], fake_let_go, &fakes[0]);
    EVENTUALLY(wal_cursor_lsn(b->d[0]->cursor) == 4);
    resume(&fakes[0], 3); /* 4 is dead, not forgotten */
    append_many(b, 1);
    EVENTUALLY(fake_count(&fakes[0], &fakes[0].held_n) == 1);
    assert_int_equal(fakes[0].order[fakes[0].sent - 1], 5);
}

static void the_cursor_waits_for_the_verdict(void **state)
{
    struct box *b = *state;

    start(b, 0, EXACTLY "\nmatch: { type: else }");
    append_many(b, 5);
    EVENTUALLY(delivery_drained(b->d[0]));
    assert_int_equal(wal_cursor_lsn(b->d[0]->cursor), 0);
    resume(&fakes[0], 2);
    EVENTUALLY(wal_cursor_lsn(b->d[0]->cursor) == 5);
}

/* State that was never written is not lost; state that was is, and only under that mode. */
static void lost_state_is_told(void **state)
{
    struct box *b = *state;
    struct judging j = { .f = &fakes[0], .none = true, .reason = BUF_INIT };

    start(b, 0, EXACTLY);
    on_its_thread(&fakes[0], judge, &j);
    assert_int_equal(j.verdict, SINK_GO_ON);
    resume(&fakes[0], 0);
    append_many(b, 3);
    EVENTUALLY(delivery_drained(b->d[0]));
    assert_int_equal(status(b, 0, "delivered"), 3);
    assert_false(status_says(b, 0, "state_lost"));
    stop(b, 0);
    start(b, 0, EXACTLY);
    on_its_thread(&fakes[0], judge, &j);
    assert_int_equal(j.verdict, SINK_GO_ON);
    EVENTUALLY(status_says(b, 0, "state_lost"));
}

/* A mark of an earlier time says nothing of what was sent in another mode since. */
static void a_change_of_mode_keeps_the_cursor(void **state)
{
    struct box *b = *state;

    fakes[0].mode = FAKE_AT_ONCE;
    start(b, 0, EXACTLY);
    resume(&fakes[0], 0);
    append_many(b, 3);
    EVENTUALLY(delivery_drained(b->d[0]));
    stop(b, 0);
    start(b, 0, "");
    append_many(b, 4);
    EVENTUALLY(delivery_drained(b->d[0]));
    stop(b, 0);
    start(b, 0, EXACTLY);
    assert_int_equal(mark_at(3).lsn, 7);
    fakes[0].sent = 0;
    resume(&fakes[0], 3);
    append_many(b, 1);
    EVENTUALLY(delivery_drained(b->d[0]));
    assert_int_equal(fakes[0].sent, 1);
    assert_int_equal(fakes[0].order[0], 8);
}

/* Two of us at work: the process ends with 75 and the folder is closed. In a child, which ends. */
static void a_rival_ends_the_process(void **state)
{
    struct box *b = *state;
    struct err e = ERR_INIT;
    int how = 0;
    pid_t child;

    wal_close(b->wal);
    b->wal = NULL;
    child = fork();
    if (child == 0) {
        struct judging j = { .f = &fakes[0], .running = true, .reason = BUF_INIT };
        open_log(b);
        append_many(b, 3);
        start(b, 0, EXACTLY);
        j.mark = mark_at(2);
        on_its_thread(&fakes[0], judge, &j); /* our own: a transaction that timed out */
        if (j.verdict != SINK_GO_ON)
            _exit(1);
        j.mark.epoch++;
        on_its_thread(&fakes[0], judge, &j);
        _exit(2);
    }
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_true(WIFEXITED(how));
    assert_int_equal(WEXITSTATUS(how), EXIT_TEMPORARY);
    assert_int_equal(wal_open(&b->wal, &b->cfg, &b->dedup, &e), -1);
    assert_int_equal(e.code, EXIT_TEMPORARY);
    assert_non_null(strstr(e.text, "sink a was taken over by another process at LSN 2"));
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        T(an_earlier_start_is_known),
        T(what_is_dead_is_not_sent_again),
        T(a_dead_letter_behind_the_mark_is_passed),
        T(the_cursor_waits_for_the_verdict),
        T(lost_state_is_told),
        T(a_change_of_mode_keeps_the_cursor),
        T(a_rival_ends_the_process),
    };

    return T_TABLE(mark_rows, every_mark_has_its_verdict) +
           T_TABLE(resume_rows, goes_on_behind_the_mark) + T_RUN(tests);
}
