/* SPDX-License-Identifier: Apache-2.0 */
/* The n-th I/O call goes wrong, for every n: opening, appending over several segments, trimming,
 * cursors, closing. Whatever it was, nothing is believed that was not synced (P1, P3), and with a
 * good disk again every record that was answered WAL_DURABLE is there, as it was, without a gap
 * (P4). */
#include "wal/box.h"
#include "wal/disk.h"

#define RECORDS 26
#define BODY 15000
#define KILLED 130 /* about the middle of the calls of a life */

/* To stdout: stderr is full of failures on purpose. */
#define broken(...) (printf("# " __VA_ARGS__), printf("\n"), fail())

#define AHEAD 3 /* so many are under way at once */

struct run {
    struct box *b;
    bool ahead;
    uint64_t lsn[RECORDS]; /* of what was answered WAL_DURABLE, else 0 */
    uint64_t set, synced;  /* cursor */
    unsigned acked;
};

static void body_of(unsigned i, char body[BODY + 1])
{
    memset(body, 'a' + (int)(i % 26), BODY);
    snprintf(body, 16, "%08u", i);
    body[8] = '.';
    body[BODY] = '\0';
}

/* Each in a group of its own. */
static void append_records(struct run *r, unsigned i, unsigned n)
{
    static char body[AHEAD][BODY + 1];
    bool stopped = disk_sync_failed();
    struct one v[AHEAD];

    for (unsigned k = 0; k < n; k++) {
        body_of(i + k, body[k]);
        prepare(r->b, &v[k], "", body[k], false);
        hand_over(r->b, &v[k]);
    }
    wait_back(r->b, v, n);
    for (unsigned k = 0; k < n; k++) {
        if (v[k].append.result != WAL_DURABLE)
            continue;
        assert_false(stopped); /* P3 */
        r->lsn[i + k] = v[k].append.lsn;
        r->acked++;
    }
}

static void workload(struct run *r)
{
    struct err e = ERR_INIT;
    struct wal_cursor *c = NULL;
    bool changed;

    if (try_open(r->b, &e)) {
        if (e.code != EXIT_IO)
            broken("call %u: %d %s", disk.fail_at, e.code, e.text);
        return;
    }
    if (wal_cursor_open(r->b->wal, "k", 0, 7, 0, &c, &changed, &e)) {
        c = NULL;
        r->set = r->synced = UINT64_MAX; /* a log without sinks: retention alone decides */
    }
    for (unsigned i = 0, n; i < RECORDS; i += n) {
        n = r->ahead ? MIN((unsigned)AHEAD, RECORDS - i) : 1;
        append_records(r, i, n);
        if (!c || !r->lsn[i])
            continue;
        r->set = r->lsn[i]; /* one that fails in the middle of a write can be there all the same */
        if (wal_cursor_set(c, r->lsn[i], &e))
            continue;
        if (!wal_cursor_sync(c, &e))
            r->synced = r->lsn[i];
    }
    wal_cursor_close(c);
    wal_close(r->b->wal);
    r->b->wal = NULL;
}

/* What is in the log is what was sent; what was acknowledged and is not there was delivered. */
static void check(struct run *r, const char *what)
{
    struct err e = ERR_INIT;
    struct wal_reader *reader;
    char body[BODY + 1];
    struct record rec;
    struct wal_info info;
    unsigned i;

    r->b->cfg.retain_bytes = GIB(1); /* nothing is trimmed while we look */
    if (try_open(r->b, &e))
        broken("%s: cannot open: %s", what, e.text);
    wal_info(r->b->wal, &info);
    for (i = 0; i < RECORDS; i++)
        if (r->lsn[i] > info.durable_lsn ||
            (r->lsn[i] && r->lsn[i] < info.first_lsn && r->lsn[i] > r->synced))
            broken("%s: LSN %llu is lost", what, (unsigned long long)r->lsn[i]);
    assert_int_equal(wal_reader_open(&reader, r->b->wal, info.first_lsn - 1, &e), 0);
    for (uint64_t lsn = info.first_lsn; lsn <= info.durable_lsn; lsn++) {
        if (wal_reader_next(reader, &rec, NULL, &e) != WAL_READ_OK || rec.lsn != lsn)
            broken("%s: LSN %llu: %s", what, (unsigned long long)lsn, e.text);
        i = (unsigned)strtoul(rec.body.p, NULL, 10);
        assert_true(i < RECORDS);
        body_of(i, body);
        assert_true(span_eq(rec.body, span_str(body)));
        assert_true(!r->lsn[i] || r->lsn[i] == lsn);
    }
    wal_reader_close(reader);
    wal_close(r->b->wal);
    r->b->wal = NULL;
}

static void empty_folder(const char *dir)
{
    char **names, path[160];
    size_t n;

    assert_int_equal(io_list(dir, &names, &n), 0);
    for (size_t i = 0; i < n; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        unlink(path);
        free(names[i]);
    }
    free(names);
}

/* The start after a kill, with a disk that fails in its turn. */
static void recover_once(struct box *b)
{
    struct err e = ERR_INIT;
    struct wal_cursor *c = NULL;
    bool changed;

    if (wal_open(&b->wal, &b->cfg, &b->dedup, &e) ||
        wal_cursor_open(b->wal, "k", 0, 7, 0, &c, &changed, &e)) {
        if (e.code != EXIT_IO)
            broken("call %u: %d %s", disk.fail_at, e.code, e.text);
    } else {
        wal_start(b->wal, &b->in, &b->failed); /* after the cursors, or the helper would trim */
    }
    wal_cursor_close(c);
    wal_close(b->wal);
    b->wal = NULL;
}

static const struct row {
    const char *name;
    enum disk_mode mode;
    bool invisible; /* to the senders */
    unsigned killed;
    bool ahead; /* groups are written while others are synced */
} rows[] = {
    { "case 29: the n-th call fails with EIO", DISK_EIO, false },
    { "case 29: the n-th read or write is short", DISK_SHORT, true },
    { "case 29: the n-th read or write is interrupted", DISK_EINTR, true },
    { "case 30: the disk is full from the n-th call on", DISK_FULL, false },
    { "case 26: the process dies before the n-th call", DISK_DEAD, false },
    { "case 27: the power fails at the n-th call", DISK_POWER, false },
    { "case 29: the n-th call of a recovery fails", DISK_EIO, false, KILLED },
    { "case 29: a read or write of a recovery is short", DISK_SHORT, false, KILLED },
    { "case 30: the disk is full in a recovery", DISK_FULL, false, KILLED },
    { "case 26: the process dies in a recovery", DISK_DEAD, false, KILLED },
    { "case 27: the power fails again in a recovery", DISK_POWER, false, KILLED },
    { "case 29: EIO with a group written ahead", DISK_EIO, .ahead = true },
    { "case 26: death with a group written ahead", DISK_DEAD, .ahead = true },
    { "case 27: power lost with a group written ahead", DISK_POWER, .ahead = true },
    { "case 27: and lost again in the recovery", DISK_POWER, .killed = KILLED, .ahead = true },
};

/* False when the n-th call was never made. With `killed` a life that was cut off there comes first.
 */
static bool round_of(struct box *b, const struct row *row, unsigned n, unsigned *acked)
{
    unsigned killed = row->killed ? row->killed + n % 40 : 0;
    enum disk_mode mode = row->mode;
    struct run r = { .b = b, .ahead = row->ahead };
    char what[64];
    bool hit;

    snprintf(what, sizeof what, "mode %d, call %u", (int)mode, n);
    b->cfg.retain_bytes = 2 * SEGMENT;
    empty_folder(b->dir);
    disk_reset(killed ? DISK_POWER : mode, killed ? killed : n);
    workload(&r);
    disk_settle();
    if (killed) {
        r.synced = r.set; /* what was not synced can have stayed, and is good for the next life */
        disk_reset(mode, n);
        recover_once(b);
        disk_settle();
    }
    hit = disk.hit;
    disk_reset(DISK_GOOD, 0);
    check(&r, what);
    *acked += r.acked;
    return hit;
}

static void nth(void **state)
{
    const struct row *row = *state;
    unsigned acked = 0, rounds = 0;
    void *box;
    struct box *b;

    set_up(&box);
    b = box;
    alarm(300);
    disk_gate.linger_us = row->ahead ? 200 : 0;
    for (unsigned n = 1; round_of(b, row, n, &acked); n++)
        rounds++;
    alarm(0);
    assert_true(rounds > (row->killed ? 30 : 150));
    assert_true(acked > rounds);
    if (row->invisible)
        assert_true(acked >= rounds * RECORDS);
    tear_down(&box);
}

int main(void)
{
    log_init(LOG_TEXT, LOG_ERROR);
    if (!freopen("/dev/null", "w", stderr)) /* hundreds of failures are reported there on purpose */
        return 1;
    return T_TABLE(rows, nth);
}
