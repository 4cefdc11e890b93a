/* SPDX-License-Identifier: Apache-2.0 */
/* One group is written while the one before it is synced: who is answered when, and what a failed
 * sync means for both. The disk holds each sync at a gate. */
#include "wal/box.h"
#include "wal/disk.h"

static void send(struct box *b, struct one *o, const char *id)
{
    prepare(b, o, id, "x", true);
    hand_over(b, o);
}

/* Until so many writes were made and so many syncs were begun since the gate was shut. */
static void until_under_way(unsigned writes, unsigned syncs)
{
    for (int i = 0; i < 30000; i++) {
        if (disk_gate.writes >= writes && disk_gate.syncs >= syncs)
            return;
        usleep(1000);
    }
    fail_msg("writes %u, syncs %u", disk_gate.writes, disk_gate.syncs);
}

static void nobody_is_answered(struct box *b, const struct one *v, size_t n)
{
    struct pollfd p = { .fd = b->in.fd, .events = POLLIN };

    assert_int_equal(poll(&p, 1, 50), 0);
    for (size_t i = 0; i < n; i++)
        assert_false(v[i].back);
}

static void begin_empty(struct box *b)
{
    disk_reset(DISK_GOOD, 0);
    disk_gate.fail = false;
    disk_gate.syncs = 0;
    open_log(b);
}

/* Behind the first batch of a segment and its mark. */
static void begin(struct box *b)
{
    begin_empty(b);
    append_many(b, 1);
    for (int i = 0; i < 30000 && disk_gate.syncs < 2; i++)
        usleep(1000); /* the mark behind it */
    disk_shut();
}

static void the_next_is_written_and_waits(void **state)
{
    struct box *b = *state;
    static struct one v[3]; /* outlives a test that fails */

    begin(b);
    send(b, &v[0], "a");
    until_under_way(1, 1);
    send(b, &v[1], "b");
    until_under_way(2, 1);
    send(b, &v[2], "c"); /* a third stays in memory: b waits for its own sync */
    nobody_is_answered(b, v, 3);
    assert_int_equal(disk_gate.writes, 2);
    assert_int_equal(wal_durable_lsn(b->wal), 1);
    disk_let(1);
    wait_back(b, v, 1);
    until_under_way(3, 2);
    nobody_is_answered(b, v + 1, 2);
    assert_int_equal(wal_durable_lsn(b->wal), 2);
    disk_open();
    wait_back(b, v, 3);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(v[i].append.result, WAL_DURABLE);
        assert_int_equal(v[i].append.lsn, 2 + i);
    }
}

static void the_first_of_a_segment_goes_alone(void **state)
{
    struct box *b = *state;
    static struct one v[2]; /* outlives a test that fails */

    begin_empty(b);
    disk_shut();
    send(b, &v[0], "a");
    until_under_way(1, 1);
    send(b, &v[1], "b");
    nobody_is_answered(b, v, 2);
    assert_int_equal(disk_gate.writes, 1);
    disk_let(1);
    wait_back(b, v, 1);
    until_under_way(2, 2);
    disk_open();
    wait_back(b, v, 2);
    assert_int_equal(v[1].append.result, WAL_DURABLE);
}

static void a_repeat_waits_for_the_sync_of_the_first(void **state)
{
    struct box *b = *state;
    static struct one v[2]; /* outlives a test that fails */

    begin(b);
    send(b, &v[0], "a");
    until_under_way(1, 1);
    send(b, &v[1], "a");
    nobody_is_answered(b, v, 2);
    disk_open();
    wait_back(b, v, 2);
    assert_int_equal(v[0].append.result, WAL_DURABLE);
    assert_int_equal(v[1].append.result, WAL_DUPLICATE);
    assert_int_equal(v[1].append.lsn, v[0].append.lsn);
}

static void a_failed_sync_fails_what_was_written_ahead(void **state)
{
    struct box *b = *state;
    static struct one v[3]; /* outlives a test that fails */

    begin(b);
    send(b, &v[0], "a");
    until_under_way(1, 1);
    send(b, &v[1], "b");
    until_under_way(2, 1);
    disk_gate.fail = true;
    disk_open();
    wait_back(b, v, 2);
    assert_int_equal(v[0].append.result, WAL_FAILED);
    assert_int_equal(v[1].append.result, WAL_FAILED);
    send(b, &v[2], "c");
    wait_back(b, &v[2], 1);
    assert_int_equal(v[2].append.result, WAL_FAILED);
    assert_int_equal(wal_durable_lsn(b->wal), 1);
    for (int i = 0; i < 30 && !b->has_failed; i++) {
        struct pollfd p = { .fd = b->in.fd, .events = POLLIN };
        poll(&p, 1, 1000);
        inbox_run(&b->in, b);
    }
    assert_true(b->has_failed);
}

/* What was given back by the power cut is the first of two that nobody was told of. */
static void the_later_of_two_proves_nothing(void **state)
{
    struct box *b = *state;
    char frozen[64], *bytes;
    static struct one v[2]; /* outlives a test that fails */
    size_t n, at = 0;

    begin(b);
    send(b, &v[0], "a");
    until_under_way(1, 1);
    send(b, &v[1], "b");
    until_under_way(2, 1);
    freeze(b, frozen);
    disk_open();
    wait_back(b, v, 2);
    wal_close(b->wal);
    thaw(b, frozen);
    n = slurp(segment_path(b, 1), &bytes);
    for (size_t i = 4096, seen = 0; i + 4 < n && !at; i += 8)
        if (!memcmp(bytes + i, "HLB1", 4) && ++seen == 3) /* body-1, its mark, a */
            at = i;
    assert_true(at);
    bytes[at + 100] ^= 1;
    spit(segment_path(b, 1), bytes, n);
    free(bytes);
    open_log(b);
    check_all_there(b, 1);
    send(b, &v[1], "b"); /* new: it went with what stood before it */
    wait_back(b, &v[1], 1);
    assert_int_equal(v[1].append.result, WAL_DURABLE);
    assert_int_equal(v[1].append.lsn, 2);
    drop(frozen);
}

/* The log cannot stop behind a gate that a failed test left shut. */
static int end(void **state)
{
    disk_open();
    return tear_down(state);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, end)
    const struct CMUnitTest tests[] = {
        T(the_next_is_written_and_waits),
        T(the_first_of_a_segment_goes_alone),
        T(a_repeat_waits_for_the_sync_of_the_first),
        T(a_failed_sync_fails_what_was_written_ahead),
        T(the_later_of_two_proves_nothing),
    };

    log_init(LOG_TEXT, LOG_ERROR);
    return T_RUN(tests);
}
