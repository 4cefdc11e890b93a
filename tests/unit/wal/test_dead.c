/* SPDX-License-Identifier: Apache-2.0 */
/* The dead-letter log over a disk that fails: what is said of a letter, taking letters out, space
 * given back, a crash between any two steps, and the file of a run. */
#include "wal/box.h"
#include "wal/disk.h"

#include "dead.h"
#include "wal/format.h"

#define LETTERS 8

static struct record make(uint64_t lsn, const char *body)
{
    return (struct record){ .lsn = lsn,
                            .kind = RECORD_WEBHOOK,
                            .time_ms = 1000 + (int64_t)lsn,
                            .source = S("s"),
                            .id = S("id"),
                            .type = S("a.b"),
                            .headers = S("hookline-reason:forged\nx-a:1\n"),
                            .body = span_str(body) };
}

static struct wal_dead *reopen(struct box *b, struct wal_dead *d, uint64_t max)
{
    struct err e = ERR_INIT;

    wal_dead_close(d);
    if (wal_dead_open(b->wal, "k", max, &d, &e))
        fail_msg("%s", e.text);
    return d;
}

static void refuse(struct wal_dead *d, uint64_t lsn, const char *reason, uint64_t attempts)
{
    struct record rec = make(lsn, "body");
    struct err e = ERR_INIT;

    assert_int_equal(wal_dead_refuse(d, &rec, reason, attempts, &e), 0);
}

static uint64_t take_out(struct wal_dead *d, const uint64_t *lsns, size_t n)
{
    struct err e = ERR_INIT;
    uint64_t removed;

    assert_int_equal(wal_dead_remove(d, lsns, n, &removed, &e), 0);
    return removed;
}

static uint64_t file_bytes(struct box *b)
{
    struct stat st;
    char path[128];

    snprintf(path, sizeof path, "%s/sink-k.dead", b->dir);
    assert_int_equal(stat(path, &st), 0);
    return (uint64_t)st.st_size;
}

static void a_letter_says_why_and_when(void **state)
{
    struct box *b = *state;
    struct wal_letter l, again;
    struct err e = ERR_INIT;
    struct wal_dead *d;

    open_log(b);
    d = reopen(b, NULL, MIB(1));
    refuse(d, 7, "too\nlarge", 3);
    d = reopen(b, d, MIB(1));
    assert_int_equal(wal_dead_read(d, 0, &l, &e), 0);
    assert_int_equal(l.rec.lsn, 7);
    assert_int_equal(l.attempts, 3);
    assert_true(l.first_ms > 0 && l.first_ms == l.last_ms);
    assert_true(span_eq(l.reason, S("too large")));
    assert_true(span_eq(l.rec.headers, S("hookline-reason:forged\nx-a:1\n")));
    assert_true(span_eq(l.rec.body, S("body")));
    assert_int_equal(l.rec.time_ms, 1007);
    while (clock_wall_ms() == l.last_ms)
        ;
    refuse(d, 7, "still", 2);
    assert_int_equal(wal_dead_count(d), 1);
    d = reopen(b, d, MIB(1));
    assert_int_equal(wal_dead_count(d), 1);
    assert_int_equal(wal_dead_read(d, 6, &again, &e), 0);
    assert_int_equal(again.attempts, 5);
    assert_int_equal(again.first_ms, l.first_ms);
    assert_true(again.last_ms > l.last_ms);
    assert_true(span_eq(again.reason, S("still")));
    assert_true(span_eq(again.rec.headers, l.rec.headers));
    wal_letter_free(&l);
    wal_letter_free(&again);
    assert_int_equal(wal_dead_read(d, 7, &l, &e), 1);
    wal_dead_close(d);
}

static const uint64_t in_between[] = { 2, 5, 5, 99, 8 };

static void what_is_taken_out_stays_out(void **state)
{
    struct box *b = *state;
    struct wal_letter l;
    struct err e = ERR_INIT;
    struct wal_dead *d;
    uint64_t lsns[LETTERS];

    open_log(b);
    d = reopen(b, NULL, MIB(1));
    for (uint64_t i = 1; i <= LETTERS; i++)
        refuse(d, i, "x", 1);
    assert_int_equal(take_out(d, (uint64_t[]){ 2, 5, 99 }, 3), 2);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(wal_dead_count(d), LETTERS - 2);
        assert_false(wal_dead_has(d, 5));
        assert_true(wal_dead_has(d, 6));
        assert_int_equal(wal_dead_read(d, 4, &l, &e), 0);
        assert_int_equal(l.rec.lsn, 6);
        wal_letter_free(&l);
        assert_int_equal(wal_dead_lsns(d, lsns), LETTERS - 2);
        assert_memory_equal(lsns, ((uint64_t[]){ 1, 3, 4, 6, 7, 8 }), 48);
        assert_int_equal(wal_dead_last(d), 8);
        d = reopen(b, d, MIB(1));
    }
    assert_int_equal(take_out(d, in_between, 5), 1);
    assert_int_equal(wal_dead_last(d), 7);
    refuse(d, 5, "again", 1); /* it may come back */
    d = reopen(b, d, MIB(1));
    assert_true(wal_dead_has(d, 5));
    wal_dead_close(d);
}

static void space_is_given_back(void **state)
{
    struct box *b = *state;
    struct wal_dead *d;
    uint64_t lsn, full;
    struct err e = ERR_INIT;
    struct record rec = make(999, "body");

    open_log(b);
    d = reopen(b, NULL, KIB(16));
    for (lsn = 1;; lsn++) {
        rec.lsn = lsn;
        if (wal_dead_refuse(d, &rec, "x", 1, &e))
            break;
    }
    full = wal_dead_bytes(d);
    assert_true(full <= KIB(16) && full > KIB(15));
    assert_int_equal(wal_dead_count(d), lsn - 1);
    rec.lsn = 1;
    assert_int_equal(wal_dead_refuse(d, &rec, "x", 1, &e), 0); /* it is there, all the same */
    rec.lsn = lsn;
    assert_int_equal(wal_dead_refuse(d, &rec, "x", 1, &e), 1);
    assert_int_equal(take_out(d, (uint64_t[]){ 1, 2 }, 2), 2); /* also where it is full */
    assert_int_equal(wal_dead_refuse(d, &rec, "x", 1, &e), 0);
    d = reopen(b, d, KIB(16));
    assert_int_equal(wal_dead_count(d), lsn - 2);
    assert_true(wal_dead_has(d, lsn) && wal_dead_has(d, 3) && !wal_dead_has(d, 2));
    for (uint64_t i = 3; i < lsn; i++)
        take_out(d, &i, 1);
    assert_int_equal(wal_dead_count(d), 1);
    assert_true(file_bytes(b) <= 3 * wal_dead_bytes(d));
    take_out(d, &lsn, 1);
    assert_int_equal(file_bytes(b), 0);
    assert_int_equal(wal_dead_bytes(d), 0);
    refuse(d, 1, "x", 1);
    d = reopen(b, d, KIB(16));
    assert_int_equal(wal_dead_count(d), 1);
    wal_dead_close(d);
}

/* An entry as the first releases wrote it: the reason in front of the kept headers, nothing else.
 */
static void a_letter_of_an_older_release(void **state)
{
    struct box *b = *state;
    struct record rec = make(4, "body");
    struct err e = ERR_INIT;
    struct wal_dead *d;
    struct wal_letter l;
    char path[128];
    uint8_t bytes[512];

    rec.headers = S("hookline-reason:too large\nx-a:1\n");
    open_log(b);
    snprintf(path, sizeof path, "%s/sink-k.dead", b->dir);
    format_put_record(bytes, &rec, 0, 0);
    spit(path, (char *)bytes, format_record_bytes(&rec));
    d = reopen(b, NULL, MIB(1));
    assert_int_equal(wal_dead_read(d, 0, &l, &e), 0);
    assert_true(span_eq(l.reason, S("too large")));
    assert_true(span_eq(l.rec.headers, S("x-a:1\n")));
    assert_int_equal(l.attempts, 1);
    assert_int_equal(l.first_ms, 0);
    wal_letter_free(&l);
    wal_dead_close(d);
}

/* --- a crash between any two steps
 * ------------------------------------------------------------------------------------------ */

/* LSNs 1 to 8 are there. Then 9 is refused, 1 to 6 are taken out (which writes the file anew), and
 * 3 comes back. How far it came is said by *step; whatever the disk does then, each letter is as
 * before or as after the step that was cut. */
static void steps(struct wal_dead *d, int *step)
{
    static const uint64_t most[] = { 1, 2, 3, 4, 5, 6 };
    struct record nine = make(9, "body"), three = make(3, "body");
    struct err e = ERR_INIT;
    uint64_t n;

    *step = 0;
    if (wal_dead_refuse(d, &nine, "x", 1, &e))
        return;
    *step = 1;
    if (wal_dead_remove(d, most, 6, &n, &e))
        return;
    *step = 2;
    if (!wal_dead_refuse(d, &three, "x", 1, &e))
        *step = 3;
}

static bool there(int step, uint64_t lsn)
{
    if (lsn == 9)
        return step >= 1;
    if (lsn == 3)
        return step < 2 || step == 3;
    return lsn > 6 || step < 2;
}

static void check(struct box *b, int step, unsigned n)
{
    struct wal_dead *d = reopen(b, NULL, MIB(1));
    struct err e = ERR_INIT;
    struct wal_letter l;

    for (uint64_t lsn = 1; lsn <= 9; lsn++) {
        bool before = there(step, lsn), after = there(step + 1, lsn);
        if (before == after && wal_dead_has(d, lsn) != before)
            fail_msg("call %u, step %d: letter %d", n, step, (int)lsn);
        if (!wal_dead_has(d, lsn))
            continue;
        assert_int_equal(wal_dead_read(d, lsn - 1, &l, &e), 0);
        assert_int_equal(l.rec.lsn, lsn);
        assert_true(span_eq(l.rec.body, S("body")));
        wal_letter_free(&l);
    }
    refuse(d, 20, "x", 1); /* and it goes on */
    d = reopen(b, d, MIB(1));
    assert_true(wal_dead_has(d, 20));
    wal_dead_close(d);
}

static unsigned one_crash(struct box *b, enum disk_mode mode, unsigned n, unsigned seed)
{
    struct wal_dead *d = reopen(b, NULL, MIB(1));
    char path[128];
    int step;

    for (uint64_t i = 1; i <= LETTERS; i++)
        refuse(d, i, "x", 1);
    disk_reset(mode, n);
    disk.seed += seed;
    steps(d, &step);
    wal_dead_close(d);
    disk_settle();
    n = disk.hit ? n : 0;
    disk_reset(DISK_GOOD, 0);
    check(b, step, n);
    snprintf(path, sizeof path, "%s/sink-k.dead", b->dir);
    unlink(path);
    return n;
}

static const struct crash_row {
    const char *name;
    enum disk_mode mode;
    unsigned seeds;
} crashes[] = {
    { "killed at every call", DISK_DEAD, 1 },
    { "power lost at every call", DISK_POWER, 12 },
    { "an error at every call", DISK_EIO, 1 },
    { "the disk is full from any call on", DISK_FULL, 1 },
    { "half a write at every call", DISK_SHORT, 1 },
    { "interrupted at every call", DISK_EINTR, 1 },
};

static void crash(void **state)
{
    const struct crash_row *r = *state;
    struct err e = ERR_INIT;
    void *box;
    struct box *b;
    unsigned n = 1;

    set_up(&box);
    b = box;
    assert_int_equal(wal_open(&b->wal, &b->cfg, &b->dedup, &e), 0); /* nobody else makes calls */
    for (unsigned seed = 0; seed < r->seeds; seed++)
        for (n = 1; one_crash(b, r->mode, n, seed); n++)
            ;
    assert_true(n > 10); /* it met every call */
    tear_down(&box);
}

/* --- runs
 * ------------------------------------------------------------------------------------------------
 */

static void a_run_is_kept(void **state)
{
    struct box *b = *state;
    struct err e = ERR_INIT;
    uint64_t lsns[] = { 3, 9 };
    struct wal_run run = { .id = "0123456789abcdef",
                           .kind = RUN_REDRIVE,
                           .state = RUN_FAILED,
                           .from = 1,
                           .to = 9,
                           .at = 5,
                           .total = 2,
                           .delivered = 1,
                           .dead = 7,
                           .started_ms = 11,
                           .ended_ms = 12,
                           .reason = "why",
                           .lsns = lsns,
                           .lsns_n = 2 },
                   back;
    char path[128], *bytes, *same;
    size_t n;

    open_log(b);
    assert_int_equal(wal_run_load(b->wal, "k", &back, &e), 1);
    assert_int_equal(wal_run_save(b->wal, "k", &run, &e), 0);
    assert_int_equal(wal_run_load(b->wal, "k", &back, &e), 0);
    assert_memory_equal(back.lsns, lsns, sizeof lsns);
    assert_int_equal(back.at, 5);
    assert_int_equal(back.state, RUN_FAILED);
    assert_string_equal(back.reason, "why");
    assert_int_equal(wal_run_save(b->wal, "other", &back, &e), 0);
    wal_run_free(&back);
    snprintf(path, sizeof path, "%s/sink-other.run", b->dir);
    n = slurp(path, &bytes);
    snprintf(path, sizeof path, "%s/sink-k.run", b->dir);
    assert_int_equal(slurp(path, &same), n);
    assert_memory_equal(same, bytes, n);
    free(same);
    for (size_t i = 0; i < n; i++) {
        bytes[i] ^= 1;
        spit(path, bytes, n);
        bytes[i] ^= 1;
        assert_int_equal(wal_run_load(b->wal, "k", &back, &e), 1);
        assert_int_equal(back.id[0], 0);
    }
    for (size_t i = 0; i < n; i++) {
        spit(path, bytes, i);
        assert_int_equal(wal_run_load(b->wal, "k", &back, &e), 1);
    }
    free(bytes);
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        T(a_letter_says_why_and_when),
        T(what_is_taken_out_stays_out),
        T(space_is_given_back),
        T(a_letter_of_an_older_release),
        T(a_run_is_kept),
    };

    log_init(LOG_TEXT, LOG_ERROR);
    if (!freopen("/dev/null", "w", stderr)) /* failures are reported there on purpose */
        return 1;
    return T_TABLE(crashes, crash) + T_RUN(tests);
}
