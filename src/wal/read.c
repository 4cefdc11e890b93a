/* SPDX-License-Identifier: Apache-2.0 */
/* Reading what is durable, straight from mapped segments. A record's checksum is verified before it
 * is handed out, whatever the age of its segment; a bad one is named and never passed on (P4). A
 * reader belongs to one thread; a mapping lives as long as somebody holds it. */
#include "room.h"

#include <string.h>

#define DROP_STEP (1u << 20) /* pages are given back in steps of this */

struct wal_reader {
    struct wal *wal;
    uint64_t after; /* the last LSN handed out or skipped */
    struct wal_map *map;
    struct segment seg; /* what segment_hold() says of it; `sealed` as of when it was taken */
    uint64_t pos;       /* of the next batch or record in the segment */
    uint64_t batch_end; /* records run up to here; pos == batch_end: a batch header is next */
    uint64_t dropped;
};

int wal_reader_open(struct wal_reader **out, struct wal *w, uint64_t after, struct err *e UNUSED)
{
    struct wal_reader *r = xcalloc(1, sizeof *r);

    *r = (struct wal_reader){ .wal = w, .after = after };
    *out = r;
    return 0;
}

static void let_go(struct wal_reader *r)
{
    if (r->map)
        wal_release(r->map);
    r->map = NULL;
}

void wal_reader_seek(struct wal_reader *r, uint64_t after)
{
    let_go(r);
    r->after = after;
}

void wal_reader_close(struct wal_reader *r)
{
    if (!r)
        return;
    let_go(r);
    free(r);
}

static bool load(struct wal_reader *r, struct err *e)
{
    r->map = segment_hold(r->wal, r->after, &r->seg, e);
    r->pos = r->batch_end = SEGMENT_HEADER;
    r->dropped = 0;
    return r->map;
}

static enum wal_read damaged(struct wal_reader *r, uint64_t off, struct err *e)
{
    heal_suspect(r->wal, r->seg.number);
    err_set(e, EXIT_DAMAGED, "damaged seg %016llu off %llu LSN %llu; run 'hookline log repair'",
            (unsigned long long)r->seg.number, (unsigned long long)off,
            (unsigned long long)r->after + 1);
    return WAL_READ_DAMAGED;
}

static void drop_passed(struct wal_reader *r)
{
    if (r->pos - r->dropped < DROP_STEP)
        return;
    io_drop_pages(r->map->p + r->dropped, DROP_STEP);
    r->dropped += DROP_STEP;
}

/* Steps over one batch header; false when it is not right. Batches behind us are jumped over whole.
 */
static bool enter_batch(struct wal_reader *r)
{
    struct batch_header h;

    if (r->pos + BATCH_HEADER > r->map->n ||
        !format_get_batch(r->map->p + r->pos, &h, r->seg.salt, r->pos) ||
        h.length > r->map->n - r->pos - BATCH_HEADER)
        return false;
    r->pos += BATCH_HEADER;
    r->batch_end = r->pos + h.length;
    if (h.first_lsn + h.count <= r->after + 1)
        r->pos = r->batch_end;
    return true;
}

/* A range of lost LSNs is handed out one by one; returns how far to move, 0 while it goes on. */
static size_t one_of_the_lost(const struct wal_reader *r, struct record *rec, size_t n)
{
    uint64_t last = format_last_lsn(rec);

    rec->lsn = MAX(rec->lsn, MIN(r->after + 1, last));
    rec->body = (struct span){ NULL, 0 };
    return rec->lsn == last ? n : 0;
}

/* The next record of the segment; false when it is damaged. */
static bool next_in_segment(struct wal_reader *r, struct record *rec)
{
    for (;;) {
        size_t n;
        if (r->pos == r->batch_end) {
            if (!enter_batch(r))
                return false;
            continue;
        }
        n = format_get_record(r->map->p + r->pos, r->batch_end - r->pos, rec, r->seg.salt, r->pos);
        if (!n)
            return false;
        if (rec->kind == RECORD_LOST)
            n = one_of_the_lost(r, rec, n);
        r->pos += n;
        if (rec->kind != RECORD_MARKER && rec->lsn > r->after)
            return rec->lsn == r->after + 1;
    }
}

/* The segment was active when it was taken and has been sealed since: behind its last record stands
 * the closing batch, so what was looked for is in the next one. */
static bool moved_on(struct wal_reader *r, struct err *e)
{
    struct segment was = r->seg;

    let_go(r);
    return !was.sealed && load(r, e) && (r->seg.number != was.number || r->seg.sealed);
}

enum wal_read wal_reader_next(struct wal_reader *r, struct record *rec, struct wal_map **hold,
                              struct err *e)
{
    uint64_t first = atomic_load(&r->wal->first_lsn), at;

    if (r->after + 1 < first) {
        wal_reader_seek(r, first - 1);
        return WAL_READ_GONE;
    }
    if (r->after >= atomic_load(&r->wal->durable_lsn))
        return WAL_READ_END;
    if (r->map && r->seg.sealed && r->after >= r->seg.last_lsn)
        let_go(r);
    if (!r->map && !load(r, e))
        return WAL_READ_DAMAGED;
    while (!next_in_segment(r, rec)) {
        at = r->pos;
        if (!moved_on(r, e))
            return damaged(r, at, e);
    }
    r->after = rec->lsn;
    drop_passed(r);
    if (hold) {
        atomic_fetch_add(&r->map->refs, 1);
        *hold = r->map;
    }
    return WAL_READ_OK;
}

/* --- watches
 * ------------------------------------------------------------------------------------------------
 * Arm, look again, wait. The log thread moves durable_lsn before it looks at `armed`, the reader
 * arms before it looks at durable_lsn; all are sequentially consistent, so one of them sees the
 * other and no wake-up can be lost. `posted` keeps a message that is still in the inbox from being
 * posted a second time, which would tie the list into a ring: it is cleared before the owner looks
 * again, so what it kept back is seen by that look. */

static void on_posted(struct msg *m, void *self)
{
    struct wal_watch *watch = container_of(m, struct wal_watch, msg);

    atomic_store(&watch->posted, false);
    watch->deliver(watch, self);
}

void wal_watch_add(struct wal *w, struct wal_watch *watch)
{
    watch->msg.deliver = on_posted;
    pthread_mutex_lock(&w->lock);
    watch->next = w->watches;
    w->watches = watch;
    pthread_mutex_unlock(&w->lock);
}

void wal_watch_remove(struct wal *w, struct wal_watch *watch)
{
    struct wal_watch **at;

    pthread_mutex_lock(&w->lock);
    for (at = &w->watches; *at && *at != watch; at = &(*at)->next)
        ;
    if (*at)
        *at = watch->next;
    pthread_mutex_unlock(&w->lock);
}

void wal_watch_arm(struct wal_watch *watch)
{
    atomic_store(&watch->armed, true);
}
