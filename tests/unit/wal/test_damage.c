/* SPDX-License-Identifier: Apache-2.0 */
/* Damage to acknowledged data (P4, cases 32 and 33): whichever byte is wrong, in a sealed segment
 * or in the active one, a wrong record never comes back and none is passed over in silence. */
#include "wal/box.h"

/* Bodies as append_many writes them, through several segments; stopped cleanly. */
static void make_log(struct box *b, unsigned records)
{
    open_log(b);
    append_many(b, records);
    wal_close(b->wal);
    b->wal = NULL;
}

static void flip(struct box *b, unsigned number, size_t at)
{
    int fd = open(segment_path(b, number), O_RDWR);
    char c;

    assert_int_equal(pread(fd, &c, 1, (off_t)at), 1);
    c = (char)(c ^ 0x10);
    assert_int_equal(pwrite(fd, &c, 1, (off_t)at), 1);
    close(fd);
}

/* Reads as far as it goes; every record right, and at a stop the next one is named. Returns the
 * last LSN. */
static uint64_t read_on(struct box *b, uint64_t after, unsigned number)
{
    struct err e = ERR_INIT;
    struct wal_reader *r;
    struct record rec;
    char body[32], want[64];
    enum wal_read got;

    assert_int_equal(wal_reader_open(&r, b->wal, after, &e), 0);
    while ((got = wal_reader_next(r, &rec, NULL, &e)) == WAL_READ_OK) {
        assert_int_equal(rec.lsn, ++after);
        snprintf(body, sizeof body, "body-%llu", (unsigned long long)after);
        assert_true(span_eq(rec.body, span_str(body)));
    }
    wal_reader_close(r);
    if (got == WAL_READ_END) {
        assert_int_equal(after, wal_durable_lsn(b->wal));
        return after;
    }
    assert_int_equal(got, WAL_READ_DAMAGED);
    snprintf(want, sizeof want, "damaged seg %016u off ", number);
    assert_non_null(strstr(e.text, want));
    snprintf(want, sizeof want, "LSN %llu", (unsigned long long)after + 1);
    assert_non_null(strstr(e.text, want));
    return after;
}

/* Never started: the files stay as they are. */
static void open_only(struct box *b)
{
    struct err e = ERR_INIT;

    if (wal_open(&b->wal, &b->cfg, &b->dedup, &e))
        fail_msg("%s", e.text);
}

/* case 33: every byte of the header and around the first and last batch of a sealed segment, and a
 * sample of the others. The start goes on; the reader stops in front of the damage. */
static void flip_a_sealed_segment(void **state)
{
    struct box *b = *state;
    unsigned stopped = 0;

    make_log(b, 1000);
    for (unsigned number = 1; number <= 2; number++)
        for (size_t at = 0; at < SEGMENT; at += at < 96 || (at >= 4096 && at < 4700) ? 1 : 149) {
            if (at == 96)
                at = 4096;
            flip(b, number, at);
            open_only(b);
            stopped += read_on(b, 0, number) < 1000;
            wal_close(b->wal);
            b->wal = NULL;
            flip(b, number, at);
        }
    assert_true(stopped > 1000);
    open_log(b);
    check_all_there(b, 1000);
}

/* case 33: after a kill; what was acknowledged is all there or the start is refused and names it.
 */
static void flip_the_active_segment(void **state)
{
    struct box *b = *state;
    char frozen[64], *one, *two;
    FILE *out = fopen("/dev/null", "w");
    unsigned refused = 0, short_of = 0;
    size_t n, used_n;
    bool told;

    open_log(b);
    append_many(b, 3);
    usleep(100000); /* the mark that says that the third is durable */
    freeze(b, frozen);
    wal_close(b->wal);
    b->wal = NULL;
    thaw(b, frozen);
    n = slurp(segment_path(b, 1), &one);
    assert_int_equal(slurp(segment_path(b, 2), &two), n);
    used_n = used(one, n);
    for (size_t at = 4096; at < used_n; at++) {
        struct err e = ERR_INIT;
        spit(segment_path(b, 1), one, n);
        spit(segment_path(b, 2), two, n);
        unlink(segment_path(b, 3));
        flip(b, 1, at);
        told = wal_verify(b->dir, out, &e) != 0; /* `hookline log verify` says what a start will */
        if (wal_open(&b->wal, &b->cfg, &b->dedup, &e)) {
            assert_int_equal(e.code, EXIT_DAMAGED);
            assert_non_null(strstr(e.text, "corrupt record seg 0000000000000001.wal off "));
            assert_non_null(strstr(e.text, " is acknowledged); "));
            refused++;
            assert_true(told);
        } else {
            assert_false(told);
            short_of += read_on(b, 0, 0) < 3;
        }
        wal_close(b->wal);
        b->wal = NULL;
    }
    fclose(out);
    assert_int_equal(short_of, 0);
    assert_true(refused > 400);
    free(one);
    free(two);
    drop(frozen);
}

/* "body-FIRST" and so on. */
static void append_from(struct box *b, unsigned first, unsigned last)
{
    struct one o;
    char body[32];

    for (unsigned i = first; i <= last; i++) {
        snprintf(body, sizeof body, "body-%u", i);
        append(b, &o, "", body, false);
        assert_int_equal(o.append.result, WAL_DURABLE);
    }
}

/* Every third byte of a frozen log's segment from `at` on: the start is refused, or every record is
 * there. Returns how often it was refused. */
static unsigned flip_frozen(struct box *b, const char *frozen, unsigned number, size_t at,
                            uint64_t last)
{
    unsigned refused = 0;
    size_t n, end;
    char *bytes;

    thaw(b, frozen);
    n = slurp(segment_path(b, number), &bytes);
    end = used(bytes, n);
    free(bytes);
    for (; at < end; at += 3) {
        struct err e = ERR_INIT;
        thaw(b, frozen);
        flip(b, number, at);
        if (wal_open(&b->wal, &b->cfg, &b->dedup, &e)) {
            assert_int_equal(e.code, EXIT_DAMAGED);
            refused++;
        } else {
            assert_int_equal(read_on(b, 0, 0), last);
        }
        wal_close(b->wal);
        b->wal = NULL;
    }
    return refused;
}

/* case 33: a segment that went on after a clean stop. Damage behind the mark of that stop is not
 * the end of the log. */
static void flip_behind_a_clean_stop(void **state)
{
    struct box *b = *state;
    char frozen[64], *bytes;
    size_t n, at;

    make_log(b, 3);
    n = slurp(segment_path(b, 1), &bytes);
    at = used(bytes, n);
    free(bytes);
    open_log(b);
    append_from(b, 4, 6);
    usleep(100000); /* the mark that says that the sixth is durable */
    freeze(b, frozen);
    wal_close(b->wal);
    b->wal = NULL;
    assert_true(flip_frozen(b, frozen, 1, at, 6) > 100);
    drop(frozen);
}

/* What a kill leaves before the mark is written. */
static void cut_the_mark(struct box *b)
{
    char *bytes;
    size_t n = slurp(segment_path(b, 1), &bytes), end = used(bytes, n);
    static const char no_records[8];

    if (!memcmp(bytes + end - 48, "HLB1", 4) && !memcmp(bytes + end - 48 + 16, no_records, 8))
        memset(bytes + end - 48, 0, 48);
    spit(segment_path(b, 1), bytes, n);
    free(bytes);
}

/* case 33: the copy that a recovery made of what may have been acknowledged. */
static void flip_a_recovered_tail(void **state)
{
    struct box *b = *state;
    char frozen[64], copied[64];

    open_log(b);
    append_from(b, 1, 3);
    freeze(b, frozen);
    wal_close(b->wal);
    b->wal = NULL;
    thaw(b, frozen);
    cut_the_mark(b);
    open_only(b);
    freeze(b, copied);
    wal_close(b->wal);
    b->wal = NULL;
    assert_true(flip_frozen(b, copied, 2, 4096, 3) > 20);
    drop(frozen);
    drop(copied);
}

static void wait_for_damage(struct box *b)
{
    struct wal_info i = { .damaged = 0 };

    for (int tries = 0; tries < 3000 && !i.damaged; tries++) {
        usleep(10000);
        wal_info(b->wal, &i);
    }
    assert_int_equal(i.damaged, 1);
}

static void wait_for_loss(struct box *b, uint64_t lost)
{
    struct wal_info i = { .lost = 0 };

    for (int tries = 0; tries < 6000 && (i.lost < lost || i.damaged); tries++) {
        usleep(10000);
        wal_info(b->wal, &i);
    }
    assert_int_equal(i.lost, lost);
    assert_int_equal(i.damaged, 0);
}

/* Reads to the end over what is lost; how many records are. Every other one is right. */
static unsigned read_over(struct box *b, uint64_t n)
{
    struct err e = ERR_INIT;
    struct wal_reader *r;
    struct record rec;
    unsigned lost = 0;
    char body[32];

    assert_int_equal(wal_reader_open(&r, b->wal, 0, &e), 0);
    for (uint64_t lsn = 1; lsn <= n; lsn++) {
        assert_int_equal(wal_reader_next(r, &rec, NULL, &e), WAL_READ_OK);
        assert_int_equal(rec.lsn, lsn);
        lost += rec.kind == RECORD_LOST;
        snprintf(body, sizeof body, "body-%llu", (unsigned long long)lsn);
        assert_true(rec.kind == RECORD_LOST || span_eq(rec.body, span_str(body)));
    }
    assert_int_equal(wal_reader_next(r, &rec, NULL, &e), WAL_READ_END);
    wal_reader_close(r);
    return lost;
}

/* A reader that is stopped by damage tries again, as a sink does each second. */
static void until_readable(struct box *b, uint64_t n)
{
    struct err e = ERR_INIT;
    struct wal_reader *r;
    struct record rec = { .lsn = 0 };

    assert_int_equal(wal_reader_open(&r, b->wal, 0, &e), 0);
    for (int tries = 0; tries < 6000 && rec.lsn < n; tries++) {
        enum wal_read got;
        while ((got = wal_reader_next(r, &rec, NULL, &e)) == WAL_READ_OK)
            ;
        if (got == WAL_READ_DAMAGED)
            usleep(10000);
    }
    assert_int_equal(rec.lsn, n);
    wal_reader_close(r);
}

/* The body of the n-th record of a segment. */
static size_t record_at(struct box *b, unsigned number, unsigned n)
{
    char *bytes, *at;
    size_t size = slurp(segment_path(b, number), &bytes), off;

    for (at = bytes; n--; at++)
        at = memmem(at, size - (size_t)(at - bytes), "body-", 5);
    off = (size_t)(at - bytes);
    free(bytes);
    return off;
}

/* The last that holds a record; behind it stands the spare, or none yet. */
static unsigned active_number(struct box *b)
{
    unsigned active = 0;

    for (unsigned number = 1; !access(segment_path(b, number), F_OK); number++) {
        char *bytes;
        size_t n = slurp(segment_path(b, number), &bytes);
        if (memmem(bytes, n, "body-", 5))
            active = number;
        free(bytes);
    }
    return active;
}

/* case 33: delivered, retained: found by the scrub, set aside, and nothing else changes. */
static void delivered_damage_is_quarantined(void **state)
{
    struct box *b = *state;
    struct err e = ERR_INIT;
    struct wal_cursor *c;
    struct one o;
    bool changed;

    make_log(b, 1000);
    flip(b, 2, 20000);
    open_log(b);
    assert_int_equal(wal_cursor_open(b->wal, "k", 0, 7, 1000, &c, &changed, &e), 0);
    wait_for_loss(b, 1);
    append(b, &o, "", "body-1001", false);
    assert_int_equal(o.append.result, WAL_DURABLE);
    assert_int_equal(read_on(b, 1000, 0), 1001);
    assert_int_equal(read_over(b, 1001), 1);
    wal_cursor_close(c);
}

/* case 33: met by a reader, sealed or active; what is lost is told and the rest goes on. */
static void quarantine_while_running(void **state)
{
    struct box *b = *state;
    struct buf json = BUF_INIT;

    b->cfg.on_damage = 1;
    open_log(b);
    append_many(b, 1000);
    flip(b, 2, record_at(b, 2, 20));
    flip(b, active_number(b), record_at(b, active_number(b), 3));
    until_readable(b, 1000);
    wait_for_loss(b, 2);
    assert_int_equal(read_over(b, 1000), 2);
    wal_damage_json(b->wal, &json);
    assert_non_null(strstr(buf_cstr(&json), "\"lost_events\":2,\"quarantined\":2,"));
    assert_non_null(strstr(buf_cstr(&json), "{\"segment\":2,\"offset\":"));
    buf_free(&json);
    wal_close(b->wal);
    b->wal = NULL;
    open_log(b); /* and is known at the next start */
    wait_for_loss(b, 2);
    assert_int_equal(read_over(b, 1000), 2);
    assert_int_equal(append_many(b, 1), 1001);
}

/* case 33: a start that meets damage goes on, with the LSNs named. */
static void quarantine_at_a_start(void **state)
{
    struct box *b = *state;
    char frozen[64];
    unsigned number;

    open_log(b);
    append_many(b, 1000);
    usleep(100000);
    number = active_number(b);
    freeze(b, frozen);
    wal_close(b->wal);
    b->wal = NULL;
    thaw(b, frozen);
    drop(frozen);
    flip(b, number, record_at(b, number, 3));
    b->cfg.on_damage = 1;
    open_log(b);
    wait_for_loss(b, 1);
    assert_int_equal(read_over(b, 1000), 1);
    assert_int_equal(append_many(b, 1), 1001);
}

/* case 33: under `refuse` nothing is touched that a sink waits for. */
static void refuse_leaves_it(void **state)
{
    struct box *b = *state;
    struct wal_info i;

    make_log(b, 1000);
    flip(b, 2, record_at(b, 2, 20));
    open_log(b);
    read_on(b, 0, 2);
    wait_for_damage(b);
    usleep(1500000); /* the helper has looked by now, and if not this proves less but fails never */
    read_on(b, 0, 2);
    wal_info(b->wal, &i);
    assert_int_equal(i.lost, 0);
    assert_int_equal(i.damaged, 1);
}

/* case 33: a disk error under a mapping arrives as a signal; here it is a file that has become
 * shorter. It is damage like any other. */
static void a_disk_error_under_a_mapping(void **state)
{
    struct box *b = *state;
    uint64_t last;

    b->cfg.on_damage = 1;
    make_log(b, 1000);
    open_log(b);
    assert_int_equal(truncate(segment_path(b, 2), 20480), 0);
    last = read_on(b, 0, 2);
    assert_true(last > 100 && last < 900);
    until_readable(b, 1000);
    assert_true(read_over(b, 1000) > 100);
}

static void damage_at_the_head_stops_no_start(void **state)
{
    struct box *b = *state;
    size_t at[] = { 10, 4100, 4150 }; /* the header, the first batch, the opening record */

    make_log(b, 1000);
    for (size_t i = 0; i < ARRAY_LEN(at); i++) {
        uint64_t last;
        flip(b, 2, at[i]);
        open_log(b);
        last = read_on(b, 0, 2);
        assert_true(last > 100 && last < 1000);
        wait_for_damage(b);
        wal_close(b->wal);
        b->wal = NULL;
        flip(b, 2, at[i]);
    }
}

/* A spare that was never used holds nothing that could be lost. */
static void a_damaged_spare_is_made_anew(void **state)
{
    struct box *b = *state;

    open_log(b);
    append_many(b, 3);
    for (int i = 0; i < 30000 && access(segment_path(b, 2), F_OK); i++)
        usleep(1000); /* the helper makes it */
    wal_close(b->wal);
    b->wal = NULL;
    flip(b, 2, 10);
    open_log(b);
    check_all_there(b, 3);
    assert_int_equal(append_many(b, 1000), 1003);
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        CASE("case 33: a byte of a sealed segment", flip_a_sealed_segment),
        CASE("case 33: a byte of the active segment", flip_the_active_segment),
        CASE("case 33: delivered damage is quarantined", delivered_damage_is_quarantined),
        CASE("case 33: quarantine while running", quarantine_while_running),
        CASE("case 33: quarantine at a start", quarantine_at_a_start),
        CASE("case 33: refuse leaves it", refuse_leaves_it),
        CASE("case 33: a disk error under a mapping", a_disk_error_under_a_mapping),
        CASE("case 33: damage at the head stops no start", damage_at_the_head_stops_no_start),
        T(a_damaged_spare_is_made_anew),
        CASE("case 33: a byte behind a clean stop", flip_behind_a_clean_stop),
        CASE("case 33: a byte of a recovered tail", flip_a_recovered_tail),
    };

    log_init(LOG_TEXT, LOG_ERROR);
    if (!freopen("/dev/null", "w", stderr))
        return 1;
    return T_RUN(tests);
}
