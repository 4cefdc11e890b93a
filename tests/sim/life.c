/* SPDX-License-Identifier: Apache-2.0 */
/* One life of the log: senders that hand over groups and repeat themselves, two sinks that read,
 * bury what they cannot take, and move their cursors; small segments, so that many are sealed,
 * trimmed and used again. */
#include "sim.h"

#include <poll.h>
#include <string.h>

#include "clock.h"

#define SEGMENT_BYTES 16384
#define MOST_IN_FLIGHT 64

const char *const sim_sinks[SINKS] = { "fast", "slow" };

struct send {
    struct wal_append append;
    struct run *run;
    struct item *item;
    struct send *next;
    bool back;
};
struct run {
    struct life *life;
    struct truth *truth;
    struct rng rng;
    struct wal *wal;
    struct inbox in;
    struct msg failed;
    bool stopped, bad;
    unsigned in_flight;
    struct send *sends;
    struct {
        struct wal_cursor *cursor;
        struct wal_dead *dead;
        struct wal_reader *reader;
        uint64_t lsn;
    } sinks[SINKS];
};

struct wal_cfg sim_cfg(void)
{
    static char dir[] = "/sim";

    return (struct wal_cfg){ .dir = dir,
                             .segment_bytes = SEGMENT_BYTES,
                             .retain_ms = 3600000,
                             .retain_bytes = 3 * SEGMENT_BYTES,
                             .backlog_bytes = GIB(1) };
}

struct wal_dedup_cfg sim_dedup_cfg(void)
{
    return (struct wal_dedup_cfg){ .window_ms = INT64_C(1000) * 3600 * 24 * 365, .entries = LSNS };
}

void item_record(const struct item *it, struct record *rec)
{
    *rec = (struct record){ .kind = RECORD_WEBHOOK,
                            .time_ms = it->time_ms,
                            .source = S("demo"),
                            .id = span_str(it->id),
                            .type = S("video.generated"),
                            .subject = S("job"),
                            .content_type = S("application/json"),
                            .headers = S("webhook-id:1\n"),
                            .body = { it->body, it->n } };
}

static struct item *new_item(struct run *r)
{
    struct truth *t = r->truth;
    struct item *it = xcalloc(1, sizeof *it);

    if (t->n == t->cap) {
        t->cap = t->cap ? 2 * t->cap : 256;
        t->items = xrealloc(t->items, t->cap * sizeof *t->items);
    }
    snprintf(it->id, sizeof it->id, "msg_%zu", t->n);
    it->poison = t->n % 9 == 4;
    it->time_ms = clock_wall_ms();
    it->n = rng_one_in(&r->rng, 8) ? rng_below(&r->rng, 3000) : rng_below(&r->rng, 300);
    it->body = xmalloc(it->n + 1);
    for (size_t i = 0; i < it->n; i++)
        it->body[i] = (char)rng_next(&r->rng);
    t->items[t->n++] = it;
    return it;
}

/* Repeats the name of its items from time to time. */
static struct item *choose_item(struct run *r)
{
    struct truth *t = r->truth;

    if (t->n && rng_one_in(&r->rng, 6))
        return t->items[t->n - 1 - rng_below(&r->rng, (unsigned)MIN(t->n, (size_t)60))];
    return new_item(r);
}

static bool fail_run(struct run *r, const char *what, uint64_t lsn, const struct err *e)
{
    r->bad = true;
    return violated("%s (LSN %llu) %s", what, (unsigned long long)lsn, e ? e->text : "");
}

static void on_done(struct msg *m, void *self)
{
    struct send *s = container_of(container_of(m, struct wal_append, msg), struct send, append);
    struct run *r = self;
    struct item *it = s->item;

    s->back = true;
    r->in_flight--;
    switch (s->append.result) {
    case WAL_DURABLE:
        if (it->lsn || s->append.lsn >= LSNS)
            fail_run(r, "logged twice", s->append.lsn, NULL);
        else
            r->truth->after[it->lsn = s->append.lsn] = it;
        disk_event(EVENT_PROMISED, 0, s->append.lsn);
        break;
    case WAL_DUPLICATE:
        if (it->lsn != s->append.lsn)
            fail_run(r, "a repeat was told another LSN", s->append.lsn, NULL);
        disk_event(EVENT_PROMISED, 0, s->append.lsn);
        break;
    case WAL_FAILED: /* it may be there all the same */
        r->stopped = true;
        if (s->append.lsn && !it->lsn && !r->truth->after[s->append.lsn])
            r->truth->after[it->lsn = s->append.lsn] = it;
        break;
    case WAL_FULL:
    case WAL_BACKLOG_FULL:
        fail_run(r, "refused for want of room", s->append.lsn, NULL);
        break;
    }
}

static void on_failed(struct msg *m, void *self UNUSED)
{
    container_of(m, struct run, failed)->stopped = true;
}

static void submit(struct run *r)
{
    unsigned n = 1 + rng_below(&r->rng, 6);
    struct msg_list l = { NULL, NULL };

    for (unsigned i = 0; i < n && r->in_flight < MOST_IN_FLIGHT && r->truth->n < LSNS / 2; i++) {
        struct send *s = xcalloc(1, sizeof *s);
        s->run = r;
        s->item = choose_item(r);
        s->append = (struct wal_append){ .reply = &r->in, .done = on_done, .dedup = true };
        item_record(s->item, &s->append.rec);
        s->next = r->sends;
        r->sends = s;
        r->in_flight++;
        msg_list_add(&l, &s->append.msg);
    }
    if (l.head)
        wal_submit(r->wal, &l);
}

static void collect(struct run *r, bool all)
{
    struct pollfd p = { .fd = r->in.fd, .events = POLLIN };

    do {
        if (all && r->in_flight)
            poll(&p, 1, -1);
        inbox_run(&r->in, r);
    } while (all && r->in_flight);
}

static bool is_poison(const struct run *r, const struct record *rec)
{
    char id[24] = "";

    memcpy(id, rec->id.p, MIN(rec->id.n, sizeof id - 1));
    return r->truth->items[strtoul(id + 4, NULL, 10)]->poison;
}

static bool sync_cursor(struct run *r, unsigned k)
{
    struct err e = ERR_INIT;

    if (wal_cursor_sync(r->sinks[k].cursor, &e))
        return false;
    disk_event(EVENT_CURSOR_SYNCED, k, r->sinks[k].lsn);
    return true;
}

/* Reads some records, buries the poisoned ones, moves the cursor. False: the process ends. */
static bool deliver(struct run *r, unsigned k)
{
    unsigned most = 1 + rng_below(&r->rng, k ? 12 : 40);
    struct err e = ERR_INIT;
    struct record rec;
    uint64_t lsn = r->sinks[k].lsn, ahead = plant == PLANT_CURSOR_AHEAD ? 3 : 0;
    enum wal_read got = WAL_READ_OK;
    bool buried = false;

    while (most-- && (got = wal_reader_next(r->sinks[k].reader, &rec, NULL, &e)) == WAL_READ_OK) {
        if (rec.lsn != lsn + 1)
            return fail_run(r, "a reader skipped", rec.lsn, NULL);
        lsn = rec.lsn;
        disk_event(EVENT_PROMISED, 0, lsn);
        if (!is_poison(r, &rec))
            continue;
        if (wal_dead_put(r->sinks[k].dead, &rec, "poison", &e))
            return false;
        buried = true;
    }
    if (got == WAL_READ_GONE || got == WAL_READ_DAMAGED)
        return fail_run(r, got == WAL_READ_GONE ? "trimmed too early" : "damaged", lsn + 1, &e);
    if (buried && wal_dead_sync(r->sinks[k].dead, &e))
        return false;
    if (lsn == r->sinks[k].lsn)
        return true;
    if (buried)
        disk_event(EVENT_DEAD, k, lsn);
    r->sinks[k].lsn = lsn;
    disk_event(EVENT_CURSOR_SET, k, lsn);
    if (wal_cursor_set(r->sinks[k].cursor, lsn + ahead, &e))
        return false;
    return !rng_one_in(&r->rng, 3) || sync_cursor(r, k);
}

static bool step(struct run *r)
{
    unsigned k = rng_below(&r->rng, SINKS);

    switch (rng_below(&r->rng, 16)) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4:
    case 5:
        submit(r);
        return true;
    case 6:
    case 7:
    case 8:
        collect(r, true);
        return true;
    case 9:
        collect(r, false);
        return true;
    case 10:
    case 11:
        return deliver(r, k);
    case 12:
        return sync_cursor(r, k);
    case 13:
    case 14:
        sched_sleep_us(rng_below(&r->rng, 30000));
        return true;
    default:
        if (rng_one_in(&r->rng, 3))
            sched_sleep_us(1200000);
        return true;
    }
}

static bool open_sinks(struct run *r)
{
    struct err e = ERR_INIT;
    bool changed;

    for (unsigned k = 0; k < SINKS; k++) {
        if (wal_cursor_open(r->wal, sim_sinks[k], 0, 7, 0, &r->sinks[k].cursor, &changed, &e))
            return e.code != EXIT_IO ? fail_run(r, "cursor", 0, &e) : false;
        r->sinks[k].lsn = wal_cursor_lsn(r->sinks[k].cursor);
        disk_event(EVENT_CURSOR_MADE, k, r->sinks[k].lsn);
        if (wal_dead_open(r->wal, sim_sinks[k], MIB(1), &r->sinks[k].dead, &e) ||
            wal_reader_open(&r->sinks[k].reader, r->wal, r->sinks[k].lsn, &e))
            return false;
    }
    return true;
}

/* What was not acknowledged and is not there will never be: its name may come again. */
static void forget_lost(struct run *r, uint64_t durable)
{
    struct truth *t = r->truth;

    memcpy(t->after, t->before, sizeof t->after);
    for (uint64_t lsn = durable + 1; lsn < LSNS && t->after[lsn]; lsn++) {
        t->after[lsn]->lsn = 0;
        t->after[lsn] = NULL;
    }
}

static bool open_run(struct run *r)
{
    struct wal_cfg cfg = sim_cfg();
    struct wal_dedup_cfg dedup = sim_dedup_cfg();
    struct err e = ERR_INIT;
    int rc;

    disk_recovering = true;
    rc = wal_open(&r->wal, &cfg, &dedup, &e);
    disk_recovering = false;
    if (rc) {
        r->wal = NULL;
        return disk_sync_failed() && e.code == EXIT_IO ? false : fail_run(r, "open", 0, &e);
    }
    if (!judge_log(r->wal, &r->life->facts, r->truth, r->truth->before)) {
        r->bad = true;
        return false;
    }
    forget_lost(r, wal_durable_lsn(r->wal));
    disk_event(EVENT_OPENED, 0, wal_durable_lsn(r->wal));
    return open_sinks(r);
}

static void close_run(struct run *r)
{
    for (unsigned k = 0; k < SINKS; k++) {
        if (r->sinks[k].reader)
            wal_reader_close(r->sinks[k].reader);
        wal_cursor_close(r->sinks[k].cursor);
        wal_dead_close(r->sinks[k].dead);
    }
    wal_close(r->wal);
    inbox_run(&r->in, r);
    while (r->sends) {
        struct send *s = r->sends;
        r->sends = s->next;
        free(s);
    }
    inbox_close(&r->in);
}

bool life_run(struct life *l, struct truth *t)
{
    struct run r = { .life = l, .truth = t, .rng = { l->seed * 3 + 1 } };
    unsigned steps = 60 + rng_below(&r.rng, 200);

    inbox_init(&r.in);
    r.failed.deliver = on_failed;
    disk_load(&l->base, &l->ops);
    if (l->fails)
        disk_fail_sync(1 + rng_below(&r.rng, 60));
    sched_begin(l->seed);
    if (open_run(&r)) {
        wal_start(r.wal, &r.in, &r.failed);
        for (unsigned i = 0; i < steps && !r.stopped && !r.bad && step(&r); i++)
            ;
        collect(&r, true);
    }
    close_run(&r);
    sched_end();
    return !r.bad;
}
