/* SPDX-License-Identifier: Apache-2.0 */
/* Folders that somebody put together by hand (case 34), and tails that no write left (case 32). */
#include "wal/box.h"

/* Stopped cleanly; through several segments. */
static void make_log(struct box *b, unsigned records)
{
    open_log(b);
    append_many(b, records);
    wal_close(b->wal);
    b->wal = NULL;
}

static void copy(const char *from, const char *to)
{
    char *bytes;
    size_t n = slurp(from, &bytes);

    spit(to, bytes, n);
    free(bytes);
}

static void is_refused(struct box *b, const char *words)
{
    struct err e = ERR_INIT;

    assert_int_equal(wal_open(&b->wal, &b->cfg, &b->dedup, &e), -1);
    assert_int_equal(e.code, EXIT_DAMAGED);
    if (!strstr(e.text, words))
        fail_msg("%s", e.text);
}

static void a_segment_twice(void **state)
{
    struct box *b = *state;
    char two[128];

    make_log(b, 1500);
    snprintf(two, sizeof two, "%s", segment_path(b, 2));
    copy(two, segment_path(b, 3));
    is_refused(b, "says that it is number 2: swapped or copied");
}

static void two_segments_swapped(void **state)
{
    struct box *b = *state;
    char two[128], three[128], aside[160];

    make_log(b, 1500);
    snprintf(two, sizeof two, "%s", segment_path(b, 2));
    snprintf(three, sizeof three, "%s", segment_path(b, 3));
    snprintf(aside, sizeof aside, "%s.aside", two);
    assert_int_equal(rename(two, aside), 0);
    assert_int_equal(rename(three, two), 0);
    assert_int_equal(rename(aside, three), 0);
    is_refused(b, "swapped or copied");
}

static void a_segment_of_another_log(void **state)
{
    struct box *b = *state;
    char frozen[64], theirs[160];

    make_log(b, 1500);
    freeze(b, frozen);
    drop(b->dir);
    mkdir(b->dir, 0700);
    make_log(b, 1500);
    snprintf(theirs, sizeof theirs, "%s/0000000000000002.wal", frozen);
    copy(theirs, segment_path(b, 2));
    is_refused(b, "belongs to another log");
    drop(frozen);
}

/* The folder was put back from before the cursor came so far. */
static void a_cursor_ahead_of_the_log(void **state)
{
    struct box *b = *state;
    struct err e = ERR_INIT;
    struct wal_cursor *c;
    char frozen[64], path[128], cursor[160];
    bool changed;

    make_log(b, 5);
    freeze(b, frozen);
    open_log(b);
    append_many(b, 5);
    assert_int_equal(wal_cursor_open(b->wal, "k", 0, 7, 10, &c, &changed, &e), 0);
    wal_cursor_close(c);
    wal_close(b->wal);
    b->wal = NULL;
    snprintf(path, sizeof path, "%s/sink-k.cursor", b->dir);
    snprintf(cursor, sizeof cursor, "%s/sink-k.cursor", frozen);
    copy(path, cursor);
    thaw(b, frozen);
    is_refused(b, "the cursor of sink k stands at LSN 10, the log ends at LSN 5");
    drop(frozen);
}

static void a_missing_cursor_is_made(void **state)
{
    struct box *b = *state;
    struct err e = ERR_INIT;
    struct wal_cursor *c;
    bool changed;

    make_log(b, 5);
    open_log(b);
    assert_false(wal_cursor_exists(b->wal, "k"));
    assert_int_equal(wal_cursor_open(b->wal, "k", 0, 7, 0, &c, &changed, &e), 0);
    assert_int_equal(wal_cursor_lsn(c), 0);
    wal_cursor_close(c);
    assert_true(wal_cursor_exists(b->wal, "k"));
}

/* What is behind the last acknowledged batch is no damage, whatever it is. */
static const struct tail_row {
    const char *name;
    enum { TAIL_ZEROS, TAIL_GARBAGE, TAIL_BATCH_CUT } what;
} tails[] = {
    { "case 32: a tail of zeros", TAIL_ZEROS },
    { "case 32: a tail of garbage", TAIL_GARBAGE },
    { "case 32: a tail that begins like a batch", TAIL_BATCH_CUT },
};

static void tail(void **state)
{
    const struct tail_row *row = *state;
    char frozen[64], *bytes;
    struct box *b;
    size_t n, end;
    void *box;

    set_up(&box);
    b = box;
    open_log(b);
    append_many(b, 3);
    freeze(b, frozen);
    wal_close(b->wal);
    b->wal = NULL;
    thaw(b, frozen);
    n = slurp(segment_path(b, 1), &bytes);
    end = used(bytes, n);
    srand(7);
    for (size_t i = end; row->what == TAIL_GARBAGE && i < n; i++)
        bytes[i] = (char)rand();
    if (row->what == TAIL_BATCH_CUT)
        memcpy(bytes + end, bytes + 4096, 100);
    spit(segment_path(b, 1), bytes, n);
    free(bytes);
    open_log(b);
    check_all_there(b, 3);
    drop(frozen);
    tear_down(&box);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        CASE("case 34: a segment twice", a_segment_twice),
        CASE("case 34: two segments swapped", two_segments_swapped),
        CASE("case 34: a segment of another log", a_segment_of_another_log),
        CASE("case 34: a cursor ahead of the log", a_cursor_ahead_of_the_log),
        CASE("case 34: a missing cursor is made", a_missing_cursor_is_made),
    };
    int failed;

    log_init(LOG_TEXT, LOG_ERROR);
    failed = T_RUN(tests);
    return failed + T_TABLE(tails, tail);
}
