/* SPDX-License-Identifier: Apache-2.0 */
/* A log that is given another id: what was written under the older ones is read on, what was kept
 * elsewhere under them is no longer its own, and no crash leaves it without one. */
#include "wal/box.h"
#include "wal/disk.h"

static void close_log(struct box *b)
{
    wal_close(b->wal);
    b->wal = NULL;
}

static void fork_log(struct box *b, char *now)
{
    char before[LOG_ID_TEXT_MAX];
    struct err e = ERR_INIT;

    if (wal_fork(b->dir, before, now, &e))
        fail_msg("%s", e.text);
    assert_string_not_equal(before, now);
}

static unsigned long segments(struct box *b)
{
    struct wal_info info;

    wal_info(b->wal, &info);
    return info.segments;
}

static void old_segments_are_read_on(void **state)
{
    struct box *b = *state;
    char first[LOG_ID_TEXT_MAX], now[LOG_ID_TEXT_MAX];
    struct one o;
    uint64_t lsn = 0;

    open_log(b);
    strcpy(first, wal_log_id(b->wal));
    for (int forks = 0; forks < 3; forks++) { /* segments of each name stay */
        char *body = calloc(1, 40001);
        memset(body, 'x', 40000);
        for (int i = 0; i < 4; i++) {
            append(b, &o, "", body, false);
            lsn = o.append.lsn;
        }
        free(body);
        close_log(b);
        fork_log(b, now);
        open_log(b);
        assert_string_equal(wal_log_id(b->wal), now);
        assert_string_not_equal(wal_log_id(b->wal), first);
        assert_true(segments(b) >= 3);
    }
    for (uint64_t i = 1; i <= lsn; i++) {
        struct err e = ERR_INIT;
        uint32_t crc;
        assert_int_equal(wal_record_crc(b->wal, i, &crc, &e), 0);
    }
    append(b, &o, "", "more", false);
    assert_int_equal(o.append.lsn, lsn + 1);
}

static void an_epoch_of_the_old_id_is_not_ours(void **state)
{
    struct box *b = *state;
    struct err e = ERR_INIT;
    char now[LOG_ID_TEXT_MAX];
    uint64_t epoch;

    open_log(b);
    assert_int_equal(wal_epoch_make(b->wal, "k", &epoch, &e), 0);
    assert_int_equal(wal_epoch_wrote(b->wal, "k", epoch, &e), 0);
    close_log(b);
    fork_log(b, now);
    open_log(b);
    assert_false(wal_epoch_known(b->wal, "k", epoch));
    assert_false(wal_epoch_has_written(b->wal, "k"));
}

/* The id and nothing else: repeats are still known, cursors stand where they stood. */
static void the_rest_stays(void **state)
{
    struct box *b = *state;
    struct err e = ERR_INIT;
    struct wal_cursor *c;
    char now[LOG_ID_TEXT_MAX];
    bool changed;
    struct one o;

    open_log(b);
    append(b, &o, "msg_1", "a", true);
    append(b, &o, "msg_2", "a", true);
    assert_int_equal(wal_cursor_open(b->wal, "k", 1, 7, 0, &c, &changed, &e), 0);
    assert_int_equal(wal_cursor_set(c, 1, &e), 0);
    wal_cursor_close(c);
    close_log(b);
    fork_log(b, now);
    open_log(b);
    append(b, &o, "msg_1", "a", true);
    assert_int_equal(o.append.result, WAL_DUPLICATE);
    assert_int_equal(wal_cursor_open(b->wal, "k", 1, 7, 0, &c, &changed, &e), 0);
    assert_int_equal(wal_cursor_lsn(c), 1);
    assert_false(changed);
    wal_cursor_close(c);
}

static void a_fence_is_lifted(void **state)
{
    struct box *b = *state;
    struct err e = ERR_INIT;
    char now[LOG_ID_TEXT_MAX];

    open_log(b);
    assert_int_equal(wal_fence(b->wal, "met a rival\n", &e), 0);
    close_log(b);
    assert_int_equal(try_open(b, &e), -1);
    fork_log(b, now);
    open_log(b);
}

static void not_while_it_is_in_use(void **state)
{
    struct box *b = *state;
    char before[LOG_ID_TEXT_MAX], now[LOG_ID_TEXT_MAX];
    struct err e = ERR_INIT;

    open_log(b);
    strcpy(before, wal_log_id(b->wal));
    assert_int_equal(wal_fork(b->dir, now, now, &e), -1);
    assert_int_equal(e.code, EXIT_TEMPORARY);
    close_log(b);
    open_log(b);
    assert_string_equal(wal_log_id(b->wal), before);
}

static void no_log_there(void **state)
{
    struct box *b = *state;
    char before[LOG_ID_TEXT_MAX], now[LOG_ID_TEXT_MAX];
    struct err e = ERR_INIT;

    assert_int_equal(wal_fork(b->dir, before, now, &e), -1);
    assert_int_equal(e.code, EXIT_IO);
    assert_int_equal(wal_fork("build/nowhere", before, now, &e), -1);
    assert_int_equal(e.code, EXIT_IO);
}

/* What only the copy of another log has is refused, forked or not. */
static void a_strange_segment_is_refused(void **state)
{
    struct box *b = *state, other;
    struct err e = ERR_INIT;
    char dir[] = "build/wal-XXXXXX", now[LOG_ID_TEXT_MAX], path[160], *bytes;
    size_t n;

    assert_non_null(mkdtemp(dir));
    init_box(&other, dir);
    open_log(&other);
    append_many(&other, 3);
    close_log(&other);
    open_log(b);
    append_many(b, 3);
    close_log(b);
    fork_log(b, now);
    fork_log(&other, now);
    snprintf(path, sizeof path, "%s/0000000000000001.wal", dir);
    n = slurp(path, &bytes);
    spit(segment_path(b, 1), bytes, n);
    free(bytes);
    assert_int_equal(try_open(b, &e), -1);
    assert_int_equal(e.code, EXIT_DAMAGED);
    assert_non_null(strstr(e.text, "belongs to another log"));
    inbox_close(&other.in);
    drop(dir);
}

/* Each byte of the file counts. */
static void a_damaged_file_is_refused(void **state)
{
    struct box *b = *state;
    struct err e = ERR_INIT;
    char now[LOG_ID_TEXT_MAX], path[160], *bytes;
    size_t n;

    open_log(b);
    close_log(b);
    fork_log(b, now);
    fork_log(b, now);
    snprintf(path, sizeof path, "%s/id", b->dir);
    n = slurp(path, &bytes);
    assert_int_equal(n, 44 + 2 * 16 + 4);
    for (size_t i = 0; i < n; i++) {
        bytes[i] ^= 1;
        spit(path, bytes, n);
        assert_int_equal(try_open(b, &e), -1);
        assert_int_equal(e.code, EXIT_DAMAGED);
        bytes[i] ^= 1;
    }
    for (size_t i = 0; i < n; i++) {
        spit(path, bytes, i);
        assert_int_equal(try_open(b, &e), -1);
        assert_int_equal(e.code, EXIT_DAMAGED);
    }
    spit(path, bytes, n);
    free(bytes);
    open_log(b);
    assert_string_equal(wal_log_id(b->wal), now);
}

static const struct crash_row {
    const char *name;
    enum disk_mode mode;
} crashes[] = {
    { "an error of each call", DISK_EIO },   { "no room from each call on", DISK_FULL },
    { "killed at each call", DISK_DEAD },    { "power lost at each call", DISK_POWER },
    { "each call interrupted", DISK_EINTR }, { "each call cut short", DISK_SHORT },
};

/* Either the old id or the new one, never none, and all records. */
static void a_crash_leaves_one_id(void **state)
{
    const struct crash_row *r = *state;
    char before[LOG_ID_TEXT_MAX], was[LOG_ID_TEXT_MAX], now[LOG_ID_TEXT_MAX];
    struct err e = ERR_INIT;
    unsigned n = 1;
    void *box;
    struct box *b;
    bool hit;

    set_up(&box);
    b = box;
    disk_reset(DISK_GOOD, 0);
    open_log(b);
    append_many(b, 3);
    do {
        int rc;
        strcpy(before, wal_log_id(b->wal));
        close_log(b);
        disk_reset(r->mode, n++);
        rc = wal_fork(b->dir, was, now, &e);
        disk_settle();
        hit = disk.hit;
        disk_reset(DISK_GOOD, 0);
        open_log(b);
        if (!rc && r->mode != DISK_DEAD && r->mode != DISK_POWER)
            assert_string_equal(wal_log_id(b->wal), now);
        else if (strcmp(wal_log_id(b->wal), before))
            assert_string_equal(wal_log_id(b->wal), now);
        check_all_there(b, 3);
    } while (hit);
    assert_true(n > 5);
    tear_down(&box);
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        T(old_segments_are_read_on),
        T(an_epoch_of_the_old_id_is_not_ours),
        T(the_rest_stays),
        T(a_fence_is_lifted),
        T(not_while_it_is_in_use),
        T(no_log_there),
        T(a_strange_segment_is_refused),
        T(a_damaged_file_is_refused),
    };

    return T_TABLE(crashes, a_crash_leaves_one_id) + T_RUN(tests);
}
