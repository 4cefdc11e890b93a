/* SPDX-License-Identifier: Apache-2.0 */
/* The log: what was durable comes back, a torn tail is told from damage, repeats are recognised, a
 * reader loses no wake-up. Small segments, a folder of its own a test. */
#include "wal/box.h"

#include "dead.h"

/* --- tests
 * ------------------------------------------------------------------------------------------- */

static void comes_back_after_a_clean_stop(void **state)
{
    struct box *b = *state;

    open_log(b);
    assert_int_equal(append_many(b, 5), 5);
    wal_close(b->wal);
    open_log(b);
    check_all_there(b, 5);
    assert_int_equal(append_many(b, 1), 6);
}

static void rolls_over_many_segments(void **state)
{
    struct box *b = *state;
    struct wal_info i;

    open_log(b);
    assert_int_equal(append_many(b, 2000), 2000);
    check_all_there(b, 2000);
    wal_info(b->wal, &i);
    assert_true(i.segments > 3);
    wal_close(b->wal);
    open_log(b);
    check_all_there(b, 2000);
}

static void a_repeat_is_told(void **state)
{
    struct box *b = *state;
    struct one o;

    open_log(b);
    append(b, &o, "msg_1", "body-1", true);
    assert_int_equal(o.append.result, WAL_DURABLE);
    append(b, &o, "msg_1", "body-1", true);
    assert_int_equal(o.append.result, WAL_DUPLICATE);
    assert_int_equal(o.append.lsn, 1);
    assert_false(o.append.other_body);
    append(b, &o, "msg_1", "another", true);
    assert_true(o.append.other_body);
    wal_close(b->wal);
    open_log(b); /* P6: rebuilt at start */
    append(b, &o, "msg_1", "body-1", true);
    assert_int_equal(o.append.result, WAL_DUPLICATE);
    append(b, &o, "msg_2", "body-2", true);
    assert_int_equal(o.append.lsn, 2);
}

static void the_index_is_bounded(void **state)
{
    struct box *b = *state;
    struct one o;
    char id[16];

    b->dedup.entries = 10;
    open_log(b);
    for (int i = 0; i < 30; i++) {
        snprintf(id, sizeof id, "msg_%d", i);
        append(b, &o, id, "x", true);
    }
    append(b, &o, "msg_29", "x", true);
    assert_int_equal(o.append.result, WAL_DUPLICATE);
    append(b, &o, "msg_1", "x", true); /* the oldest made room */
    assert_int_equal(o.append.result, WAL_DURABLE);
}

static void the_window_is_reloaded(void **state)
{
    struct box *b = *state;
    struct one o;

    open_log(b);
    append(b, &o, "msg_1", "x", true);
    b->dedup.window_ms = -1; /* what was logged in this millisecond is too old */
    wal_reconfigure(b->wal, &b->cfg, &b->dedup);
    append(b, &o, "msg_1", "x", true);
    assert_int_equal(o.append.result, WAL_DURABLE);
    b->dedup.window_ms = 3600000;
    wal_reconfigure(b->wal, &b->cfg, &b->dedup);
    append(b, &o, "msg_1", "x", true);
    assert_int_equal(o.append.result, WAL_DUPLICATE);
    assert_int_equal(o.append.lsn, 2);
}

static void a_repeat_within_one_group_waits_for_the_sync(void **state)
{
    struct box *b = *state;
    struct msg_list l = { NULL, NULL };
    struct one two[2];

    open_log(b);
    for (int i = 0; i < 2; i++) {
        two[i] = (struct one){ .append = { .reply = &b->in,
                                           .done = on_done,
                                           .dedup = true,
                                           .rec = { .kind = RECORD_WEBHOOK,
                                                    .time_ms = 1,
                                                    .source = S("s"),
                                                    .id = S("same"),
                                                    .type = S("t"),
                                                    .body = S("x") } } };
        msg_list_add(&l, &two[i].append.msg);
    }
    wal_submit(b->wal, &l);
    wait_back(b, two, 2);
    assert_int_equal(two[0].append.result, WAL_DURABLE);
    assert_int_equal(two[1].append.result, WAL_DUPLICATE);
    assert_int_equal(two[1].append.lsn, two[0].append.lsn);
    assert_true(wal_durable_lsn(b->wal) >= two[1].append.lsn);
}

static void comes_back_after_a_kill(void **state)
{
    struct box *b = *state;
    char frozen[64];

    open_log(b);
    append_many(b, 7);
    freeze(b, frozen);
    wal_close(b->wal);
    for (int round = 0; round < 3; round++) {
        struct err e = ERR_INIT;
        if (round == 0)
            thaw(b, frozen);
        assert_int_equal(wal_open(&b->wal, &b->cfg, &b->dedup, &e),
                         0); /* never started: as if killed again */
        check_all_there(b, 7);
        wal_close(b->wal);
    }
    open_log(b);
    assert_int_equal(append_many(b, 1), 8);
    drop(frozen);
}

/* case 32: cut at every byte behind the header. What comes back is a prefix of what was written,
 * never anything else; with less than the acknowledged the start is refused. */
static void cut_at_every_byte(void **state)
{
    struct box *b = *state;
    char frozen[64], *bytes;
    size_t n, end;
    unsigned opened = 0, refused = 0;

    open_log(b);
    append_many(b, 3);
    freeze(b, frozen);
    wal_close(b->wal);
    b->wal = NULL;
    thaw(b, frozen);
    n = slurp(segment_path(b, 1), &bytes);
    end = used(bytes, n);
    for (size_t cut = 4096; cut <= end; cut += 3) {
        struct err e = ERR_INIT;
        char *torn = calloc(1, n);
        thaw(b, frozen);
        memcpy(torn, bytes, cut);
        spit(segment_path(b, 1), torn, n);
        free(torn);
        if (wal_open(&b->wal, &b->cfg, &b->dedup, &e)) {
            assert_int_equal(e.code, EXIT_DAMAGED);
            refused++;
        } else {
            check_all_there(b, wal_durable_lsn(b->wal));
            wal_close(b->wal);
            opened++;
        }
        b->wal = NULL;
    }
    assert_true(opened > 10);
    (void)refused;
    free(bytes);
    drop(frozen);
}

/* case 33: a flipped bit at every byte of a segment whose records were acknowledged. */
static void flip_at_every_byte(void **state)
{
    struct box *b = *state;
    char frozen[64], *bytes;
    size_t n, end;
    unsigned refused = 0, opened = 0;

    open_log(b);
    append_many(b, 3);
    wal_close(b->wal); /* a clean stop: everything is known to be durable */
    b->wal = NULL;
    freeze(b, frozen);
    n = slurp(segment_path(b, 1), &bytes);
    end = used(bytes, n);
    for (size_t at = 0; at < end; at += at < 96 || at >= 4096 ? 1 : 512) {
        struct err e = ERR_INIT;
        thaw(b, frozen);
        bytes[at] = (char)(bytes[at] ^ 0x10);
        spit(segment_path(b, 1), bytes, n);
        bytes[at] = (char)(bytes[at] ^ 0x10);
        if (wal_open(&b->wal, &b->cfg, &b->dedup, &e)) {
            assert_true(e.code == EXIT_DAMAGED || e.code == EXIT_BAD_CONFIG);
            assert_non_null(strstr(e.text, "seg"));
            refused++;
        } else { /* padding, or the last mark: every record is right all the same */
            check_all_there(b, 3);
            wal_close(b->wal);
            opened++;
        }
        b->wal = NULL;
    }
    assert_true(refused > 300);
    free(bytes);
    drop(frozen);
}

/* case 32: bytes of an earlier life of the file, right in themselves, are never replayed. */
static void stale_batches_are_not_replayed(void **state)
{
    struct box *b = *state;
    char *one, *two;
    size_t n, m;

    open_log(b);
    append_many(b, 600); /* well into the second segment */
    wal_close(b->wal);
    b->wal = NULL;
    n = slurp(segment_path(b, 1), &one);
    m = slurp(segment_path(b, 2), &two);
    assert_int_equal(n, m);
    drop(b->dir);
    mkdir(b->dir, 0700);
    open_log(b);
    append_many(b, 2);
    wal_close(b->wal);
    b->wal = NULL;
    free(two);
    n = slurp(segment_path(b, 1), &two);
    memcpy(two + used(two, n), one + used(two, n), n - used(two, n));
    spit(segment_path(b, 1), two, n);
    open_log(b);
    check_all_there(b, 2);
    free(one);
    free(two);
}

static void a_missing_segment_is_named(void **state)
{
    struct box *b = *state;
    struct err e = ERR_INIT;

    open_log(b);
    append_many(b, 1500);
    wal_close(b->wal);
    b->wal = NULL;
    unlink(segment_path(b, 2)); /* case 34 */
    assert_int_equal(try_open(b, &e), -1);
    assert_int_equal(e.code, EXIT_DAMAGED);
    assert_non_null(strstr(e.text, "0000000000000002.wal is missing"));
}

static void a_damaged_identity_is_refused(void **state)
{
    struct box *b = *state;
    char path[128], *bytes;
    struct err e = ERR_INIT;
    size_t n;

    open_log(b);
    append_many(b, 1);
    wal_close(b->wal);
    b->wal = NULL;
    snprintf(path, sizeof path, "%s/id", b->dir);
    n = slurp(path, &bytes);
    for (size_t at = 0; at < n; at++) {
        bytes[at] = (char)(bytes[at] ^ 1);
        spit(path, bytes, n);
        bytes[at] = (char)(bytes[at] ^ 1);
        assert_int_equal(wal_open(&b->wal, &b->cfg, &b->dedup, &e), -1);
        assert_int_equal(e.code, EXIT_DAMAGED);
        assert_non_null(strstr(e.text, "/id is damaged"));
    }
    unlink(path);
    assert_int_equal(wal_open(&b->wal, &b->cfg, &b->dedup, &e), -1);
    assert_int_equal(e.code, EXIT_DAMAGED);
    assert_non_null(strstr(e.text, "/id is missing"));
    spit(path, bytes, n);
    free(bytes);
    open_log(b);
    check_all_there(b, 1);
}

/* A closed last segment whose successor's file is gone: what came after it is lost. */
static void a_missing_end_is_named(void **state)
{
    struct box *b = *state;
    struct err e = ERR_INIT;
    unsigned last = 1;

    open_log(b);
    append_many(b, 1500);
    wal_close(b->wal);
    b->wal = NULL;
    while (!access(segment_path(b, last + 1), F_OK))
        last++;
    unlink(segment_path(b, last)); /* the spare */
    unlink(segment_path(b, last - 1));
    assert_int_equal(try_open(b, &e), -1);
    assert_int_equal(e.code, EXIT_DAMAGED);
    assert_non_null(strstr(e.text, "is missing"));
}

static void the_folder_is_locked(void **state)
{
    struct box *b = *state, second = *b;
    struct err e = ERR_INIT;

    open_log(b);
    assert_int_equal(wal_open(&second.wal, &b->cfg, &b->dedup, &e), -1); /* case 35 */
    assert_int_equal(e.code, EXIT_TEMPORARY);
    assert_non_null(strstr(e.text, "locked by pid"));
}

static void a_newer_format_is_refused(void **state)
{
    struct box *b = *state;
    struct err e = ERR_INIT;
    char *bytes;
    size_t n;

    open_log(b);
    append_many(b, 1);
    wal_close(b->wal);
    b->wal = NULL;
    n = slurp(segment_path(b, 1), &bytes);
    bytes[12] = 9; /* lowest reader; the checksum is made right again */
    {
        uint32_t crc = 0, *at = (uint32_t *)(void *)(bytes + 92);
        extern uint32_t crc32c(uint32_t, const void *, size_t);
        crc = crc32c(0, bytes, 92);
        *at = crc;
    }
    spit(segment_path(b, 1), bytes, n);
    assert_int_equal(try_open(b, &e), -1);
    assert_int_equal(e.code, EXIT_BAD_CONFIG);
    free(bytes);
}

static void cursors(void **state)
{
    struct box *b = *state;
    struct err e = ERR_INIT;
    struct wal_cursor *c;
    char path[128];
    bool changed;
    int fd;

    open_log(b);
    append_many(b, 5);
    assert_int_equal(wal_cursor_open(b->wal, "k", 0, 7, 0, &c, &changed, &e), 0);
    assert_int_equal(wal_cursor_set(c, 3, &e), 0);
    assert_int_equal(wal_cursor_sync(c, &e), 0);
    assert_int_equal(wal_cursor_set(c, 4, &e), 0);
    wal_cursor_close(c);
    assert_int_equal(wal_cursor_open(b->wal, "k", 0, 8, 0, &c, &changed, &e), 0);
    assert_int_equal(wal_cursor_lsn(c), 4);
    assert_true(changed);
    wal_cursor_close(c);
    snprintf(path, sizeof path, "%s/sink-k.cursor", b->dir);
    fd = open(path, O_RDWR);
    assert_int_equal(pwrite(fd, "x", 1, 20), 1); /* one slot bad: the other is used */
    assert_int_equal(wal_cursor_open(b->wal, "k", 0, 7, 0, &c, &changed, &e), 0);
    assert_true(wal_cursor_lsn(c) == 3 || wal_cursor_lsn(c) == 4);
    wal_cursor_close(c);
    assert_int_equal(pwrite(fd, "x", 1, 4096 + 20), 1); /* both bad: from the oldest */
    close(fd);
    assert_int_equal(wal_cursor_open(b->wal, "k", 0, 7, 0, &c, &changed, &e), 0);
    assert_int_equal(wal_cursor_lsn(c), 0);
    wal_cursor_close(c);
}

static void dead_letters_are_idempotent(void **state)
{
    struct box *b = *state;
    struct record rec = {
        .lsn = 9, .kind = RECORD_WEBHOOK, .source = S("s"), .type = S("t"), .body = S("b")
    };
    struct err e = ERR_INIT;
    struct wal_dead *d;

    open_log(b);
    assert_int_equal(wal_dead_open(b->wal, "k", 4096, &d, &e), 0);
    assert_int_equal(wal_dead_refuse(d, &rec, "too large", 1, &e), 0);
    assert_int_equal(wal_dead_refuse(d, &rec, "too large", 1, &e), 0);
    assert_int_equal(wal_dead_count(d), 1);
    wal_dead_close(d);
    assert_int_equal(wal_dead_open(b->wal, "k", 300, &d, &e), 0);
    assert_int_equal(wal_dead_count(d), 1);
    rec.lsn = 10;
    rec.body = S("012345678901234567890123456789012345678901234567890123456789012345678901234567890"
                 "1234567890123456789"
                 "012345678901234567890123456789012345678901234567890123456789012345678901234567890"
                 "1234567890123456789");
    assert_int_equal(wal_dead_refuse(d, &rec, "no room", 1, &e), 1);
    wal_dead_close(d);
}

/* Many with one sync, out of order, with one that is damaged: none of the others is overwritten. */
static void dead_letters_in_groups(void **state)
{
    struct box *b = *state;
    struct record rec = {
        .kind = RECORD_WEBHOOK, .source = S("s"), .type = S("t"), .body = S("body")
    };
    struct err e = ERR_INIT;
    struct wal_dead *d;
    char path[128], *bytes;
    size_t n;

    open_log(b);
    assert_int_equal(wal_dead_open(b->wal, "k", 1 << 20, &d, &e), 0);
    for (uint64_t i = 0; i < 200; i++) {
        rec.lsn = 1 + i * 77 % 100; /* each twice */
        assert_int_equal(wal_dead_put(d, &rec, "too large", &e), 0);
    }
    assert_int_equal(wal_dead_sync(d, &e), 0);
    assert_int_equal(wal_dead_count(d), 100);
    wal_dead_close(d);
    snprintf(path, sizeof path, "%s/sink-k.dead", b->dir);
    n = slurp(path, &bytes);
    bytes[n / 2] = (char)(bytes[n / 2] ^ 1);
    spit(path, bytes, n);
    free(bytes);
    assert_int_equal(wal_dead_open(b->wal, "k", 1 << 20, &d, &e), 0);
    assert_int_equal(wal_dead_count(d), 99);
    rec.lsn = 500;
    assert_int_equal(wal_dead_refuse(d, &rec, "too large", 1, &e), 0);
    wal_dead_close(d);
    assert_int_equal(wal_dead_open(b->wal, "k", 1 << 20, &d, &e), 0);
    assert_int_equal(wal_dead_count(d), 100);
    wal_dead_close(d);
}

static void on_wake(struct wal_watch *watch UNUSED, void *self UNUSED)
{
}

/* One record and silence: whoever armed the watch is woken. */
static void no_wake_up_is_lost(void **state)
{
    struct box *b = *state;
    struct err e = ERR_INIT;
    struct wal_watch watch = { .in = &b->in, .deliver = on_wake };
    struct wal_reader *r;
    struct record rec;

    open_log(b);
    wal_watch_add(b->wal, &watch);
    assert_int_equal(wal_reader_open(&r, b->wal, 0, &e), 0);
    for (int i = 1; i <= 50; i++) {
        struct one o;
        wal_watch_arm(&watch);
        assert_int_equal(wal_reader_next(r, &rec, NULL, &e), WAL_READ_END);
        assert_true(atomic_load(&watch.armed));
        append(b, &o, "", "x", false);
        for (int tries = 0; atomic_load(&watch.armed) && tries < 2000; tries++)
            usleep(1000);
        assert_false(atomic_load(&watch.armed)); /* the wake-up is on its way */
        assert_int_equal(wal_reader_next(r, &rec, NULL, &e), WAL_READ_OK);
        inbox_run(&b->in, b);
    }
    wal_watch_remove(b->wal, &watch);
    wal_reader_close(r);
}

/* Armed again while a wake-up is still in the inbox: it must not be posted a second time, which
 * would make the inbox a ring that is never through. */
static void a_watch_is_posted_once(void **state)
{
    struct box *b = *state;
    struct inbox in;
    struct wal_watch watch = { .in = &in, .deliver = on_wake };
    struct one o;

    inbox_init(&in);
    open_log(b);
    wal_watch_add(b->wal, &watch);
    for (int i = 0; i < 3; i++) {
        wal_watch_arm(&watch);
        append(b, &o, "", "x", false);
        append(b, &o, "", "y", false); /* its answer comes after the watches of the one before */
    }
    alarm(60);
    assert_int_equal(inbox_run(&in, b), 1);
    assert_int_equal(inbox_run(&in, b), 0);
    wal_watch_arm(&watch);
    append(b, &o, "", "x", false);
    append(b, &o, "", "y", false);
    assert_int_equal(inbox_run(&in, b), 1);
    alarm(0);
    wal_watch_remove(b->wal, &watch);
    inbox_close(&in);
}

static void retention_waits_for_cursors(void **state)
{
    struct box *b = *state;
    struct err e = ERR_INIT;
    struct wal_cursor *c;
    struct wal_info i;
    bool changed;

    b->cfg.retain_bytes = 2 * SEGMENT;
    open_log(b);
    assert_int_equal(wal_cursor_open(b->wal, "k", 0, 7, 0, &c, &changed, &e), 0);
    append_many(b, 3000);
    wal_reconfigure(b->wal, &b->cfg, &b->dedup);
    usleep(1200000);
    wal_info(b->wal, &i);
    assert_int_equal(i.first_lsn, 1); /* the sink has nothing yet */
    wal_cursor_close(c);              /* as sinks end before the log does */
    wal_reconfigure(b->wal, &b->cfg, &b->dedup);
    usleep(1200000);
    wal_info(b->wal, &i);
    assert_int_equal(i.first_lsn, 1);
    assert_int_equal(wal_cursor_open(b->wal, "k", 0, 7, 0, &c, &changed, &e), 0);
    assert_int_equal(wal_cursor_set(c, 3000, &e), 0);
    assert_int_equal(wal_cursor_sync(c, &e), 0);
    for (int tries = 0; tries < 100 && i.first_lsn == 1; tries++) {
        usleep(100000);
        wal_info(b->wal, &i);
    }
    assert_true(i.first_lsn > 1);
    wal_cursor_close(c);
}

static void a_full_backlog_is_told(void **state)
{
    struct box *b = *state;
    struct err e = ERR_INIT;
    struct wal_cursor *c;
    struct one o = { .append.result = WAL_DURABLE };
    bool changed;

    b->cfg.backlog_bytes = 2 * SEGMENT; /* case 31 */
    open_log(b);
    assert_int_equal(wal_cursor_open(b->wal, "k", 0, 7, 0, &c, &changed, &e), 0);
    for (int i = 0; i < 100000 && o.append.result == WAL_DURABLE; i++)
        append(b, &o, "", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", false);
    assert_int_equal(o.append.result, WAL_BACKLOG_FULL);
    assert_int_equal(wal_cursor_set(c, wal_durable_lsn(b->wal), &e), 0);
    assert_int_equal(wal_cursor_sync(c, &e), 0);
    for (int i = 0; i < 100 && o.append.result != WAL_DURABLE; i++) {
        usleep(100000);
        append(b, &o, "", "x", false);
    }
    assert_int_equal(o.append.result, WAL_DURABLE); /* by itself */
    wal_cursor_close(c);
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        T(comes_back_after_a_clean_stop),
        T(comes_back_after_a_kill),
        T(rolls_over_many_segments),
        T(a_repeat_is_told),
        T(the_index_is_bounded),
        T(the_window_is_reloaded),
        T(a_repeat_within_one_group_waits_for_the_sync),
        CASE("case 32: cut at every byte", cut_at_every_byte),
        CASE("case 33: a bit at every byte", flip_at_every_byte),
        CASE("case 32: stale batches are not replayed", stale_batches_are_not_replayed),
        CASE("case 34: a missing segment is named", a_missing_segment_is_named),
        CASE("case 34: a missing end is named", a_missing_end_is_named),
        T(a_damaged_identity_is_refused),
        CASE("case 35: the folder is locked", the_folder_is_locked),
        CASE("case 35: a newer format is refused", a_newer_format_is_refused),
        CASE("case 34: one slot of a cursor bad, and both", cursors),
        T(dead_letters_are_idempotent),
        T(dead_letters_in_groups),
        T(no_wake_up_is_lost),
        T(a_watch_is_posted_once),
        T(retention_waits_for_cursors),
        CASE("case 31: a full backlog is told", a_full_backlog_is_told),
    };

    log_init(LOG_TEXT, LOG_ERROR);
    return T_RUN(tests);
}
