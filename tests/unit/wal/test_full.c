/* SPDX-License-Identifier: Apache-2.0 */
/* case 30: a start without room for the next segment. What is known to be durable is delivered,
 * senders are told WAL_FULL, and the log goes on by itself when there is room. */
#include "wal/box.h"
#include "wal/disk.h"

/* As kill -9 leaves it, and the spare was never made. */
static void kill_without_spare(struct box *b, unsigned records)
{
    char frozen[64], id[16];
    struct one o;

    open_log(b);
    for (unsigned i = 1; i <= records; i++) {
        char body[32];
        snprintf(id, sizeof id, "msg_%u", i);
        snprintf(body, sizeof body, "body-%u", i);
        append(b, &o, id, body, true);
    }
    freeze(b, frozen);
    wal_close(b->wal);
    b->wal = NULL;
    thaw(b, frozen);
    drop(frozen);
    unlink(segment_path(b, 2));
}

static void read_up_to(struct box *b, uint64_t n)
{
    struct err e = ERR_INIT;
    struct wal_reader *r;
    struct record rec;

    assert_int_equal(wal_reader_open(&r, b->wal, 0, &e), 0);
    for (uint64_t i = 1; i <= n; i++) {
        assert_int_equal(wal_reader_next(r, &rec, NULL, &e), WAL_READ_OK);
        assert_int_equal(rec.lsn, i);
    }
    assert_int_equal(wal_reader_next(r, &rec, NULL, &e), WAL_READ_END);
    wal_reader_close(r);
}

static void wait_until_served(struct box *b, struct one *o, const char *body)
{
    o->append.result = WAL_FULL;
    for (int i = 0; i < 500 && o->append.result == WAL_FULL; i++) {
        usleep(20000);
        append(b, o, "", body, false);
    }
    assert_int_equal(o->append.result, WAL_DURABLE);
}

static void a_start_without_room_drains(void **state)
{
    struct box *b = *state;
    struct wal_info i;
    struct one o;

    disk_reset(DISK_GOOD, 0);
    kill_without_spare(b, 5);
    disk_reset(DISK_FULL, 1);
    open_log(b);
    wal_info(b->wal, &i);
    assert_string_equal(i.state, "full");
    assert_true(i.durable_lsn >= 4); /* each batch said how far the log was durable */
    read_up_to(b, i.durable_lsn);
    append(b, &o, "", "x", false);
    assert_int_equal(o.append.result, WAL_FULL);
    append(b, &o, "msg_1", "body-1", true);
    assert_int_equal(o.append.result, WAL_DUPLICATE);
    if (i.durable_lsn < 5) { /* it may have been acknowledged, but is not known to be on the disk */
        append(b, &o, "msg_5", "body-5", true);
        assert_int_equal(o.append.result, WAL_FULL);
    }
    disk_reset(DISK_GOOD, 0);
    wait_until_served(b, &o, "body-6");
    assert_int_equal(o.append.lsn, 6);
    append(b, &o, "msg_5", "body-5", true);
    assert_int_equal(o.append.result, WAL_DUPLICATE);
    assert_int_equal(o.append.lsn, 5);
    check_all_there(b, 6);
    wal_close(b->wal);
    open_log(b);
    check_all_there(b, 6);
}

static void stopped_again_without_room(void **state)
{
    struct box *b = *state;

    disk_reset(DISK_GOOD, 0);
    kill_without_spare(b, 5);
    for (int round = 0; round < 3; round++) {
        disk_reset(DISK_FULL, 1);
        open_log(b);
        wal_close(b->wal);
    }
    disk_reset(DISK_GOOD, 0);
    open_log(b);
    check_all_there(b, 5);
}

/* Full while running: the active segment is used up, then WAL_FULL; nothing is lost. */
static void full_while_running(void **state)
{
    struct box *b = *state;
    struct err e = ERR_INIT;
    struct wal_cursor *c;
    char body[32];
    struct one o;
    uint64_t n = 0;
    bool changed;

    disk_reset(DISK_GOOD, 0);
    open_log(b);
    assert_int_equal(wal_cursor_open(b->wal, "k", 0, 7, 0, &c, &changed, &e),
                     0); /* nothing to trim */
    n = append_many(b, 10);
    disk_reset(DISK_FULL, 1);
    do {
        snprintf(body, sizeof body, "body-%llu", (unsigned long long)n + 1);
        append(b, &o, "", body, false);
        n += o.append.result == WAL_DURABLE;
    } while (o.append.result == WAL_DURABLE && n < 5000);
    assert_int_equal(o.append.result, WAL_FULL);
    read_up_to(b, n);
    disk_reset(DISK_GOOD, 0);
    snprintf(body, sizeof body, "body-%llu", (unsigned long long)n + 1);
    wait_until_served(b, &o, body);
    check_all_there(b, n + 1);
    wal_cursor_close(c);
}

/* What is retained but delivered goes before a sender is refused. */
static void retained_data_makes_room(void **state)
{
    struct box *b = *state;
    struct wal_info i;

    disk_reset(DISK_GOOD, 0);
    open_log(b);
    append_many(b, 1500);
    usleep(1500000); /* sidecars */
    disk_reset(DISK_FULL, 1);
    append_many(b, 500);
    wal_info(b->wal, &i);
    assert_true(i.first_lsn > 1);
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        CASE("case 30: a start without room drains", a_start_without_room_drains),
        CASE("case 30: stopped again without room", stopped_again_without_room),
        CASE("case 30: full while running", full_while_running),
        CASE("case 30: retained data makes room", retained_data_makes_room),
    };

    log_init(LOG_TEXT, LOG_ERROR);
    if (!freopen("/dev/null", "w", stderr))
        return 1;
    return T_RUN(tests);
}
