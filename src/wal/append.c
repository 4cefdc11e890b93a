/* SPDX-License-Identifier: Apache-2.0 */
/* Appending: the log thread.
 *
 * Group commit without a delay: while one fdatasync runs the next group gathers. A group is encoded
 * into one buffer, written with one pwrite, and handed to the sync thread (commit.c). A batch says
 * how far the log was durable when it was written; when nothing follows within 10 ms an empty batch
 * says it (nobody waits for that one), so that recovery can tell acknowledged data from a torn tail
 * (P4). */
#include "room.h"

#include <poll.h>
#include <string.h>
#include <sys/prctl.h>

#include "clock.h"
#include "crc32c.h"
#include "log.h"

#define BATCH_MAX (4u << 20) /* a group larger than this takes several batches */
#define PAGE_BYTES 4096
#define MARK_AFTER_MS 10
#define TICK_MS 1000

void append_begin(struct wal *w, struct segment *s)
{
    w->active = s;
    w->batch_n = 0;
    w->active_first_ms = 0;
    w->active_ours = s->end == SEGMENT_HEADER;
    w->active_unclaimed = false;
}

static void room_for(struct wal *w, size_t more)
{
    if (w->batch_n + more <= w->batch_cap)
        return;
    w->batch_cap = MAX(w->batch_n + more, w->batch_cap ? 2 * w->batch_cap : (size_t)64 * 1024);
    w->batch = xrealloc(w->batch, w->batch_cap);
}

static void put(struct wal *w, const struct record *rec)
{
    size_t n = format_record_bytes(rec);

    room_for(w, n);
    format_put_record(w->batch + w->batch_n, rec, w->active->salt, w->active->end + w->batch_n);
    w->batch_n += n;
}

static void put_marker(struct wal *w, const struct marker *m)
{
    uint8_t body[MARKER_BODY];

    format_put_marker(body, m);
    put(w, &(struct record){ .lsn = w->next_lsn - 1,
                             .kind = RECORD_MARKER,
                             .time_ms = clock_wall_ms(),
                             .body = { (const char *)body, sizeof body } });
}

/* The first bytes of a batch; the first batch of a segment opens it. */
static void start_batch(struct wal *w)
{
    if (w->batch_n)
        return;
    room_for(w, BATCH_HEADER);
    w->batch_n = BATCH_HEADER;
    w->batch_count = 0;
    if (w->active->end == SEGMENT_HEADER && w->previous.number) {
        w->previous.kind = w->opening;
        put_marker(w, &w->previous);
    }
}

void append_record(struct wal *w, const struct record *rec)
{
    struct record numbered = *rec;

    start_batch(w);
    numbered.lsn = w->next_lsn;
    w->next_lsn += format_lsns(&numbered);
    put(w, &numbered);
    w->batch_count += (uint32_t)format_lsns(&numbered);
    w->active->last_ms = rec->time_ms;
    if (!w->active_first_ms)
        w->active_first_ms = rec->time_ms;
}

/* The batch, and zeros to the end of its last page: a page that is written whole need not be read
 * first. The next batch takes their place. The disk begins at once, while the sync thread may still
 * wait for the group before; an error that this call is told is told to nobody else (P3). */
static int write_pages(struct wal *w, const char *name, struct err *e)
{
    const struct segment *s = w->active;
    uint64_t end = s->end + w->batch_n;
    size_t pad = end < s->bytes ? MIN(-end % PAGE_BYTES, s->bytes - end) : 0;

    room_for(w, pad);
    memset(w->batch + w->batch_n, 0, pad);
    if (file_write(s->fd, name, w->batch, w->batch_n + pad, s->end, e))
        return -1;
    return io_start_write(s->fd, s->end, w->batch_n + pad)
               ? err_errno(e, EXIT_IO, "wal: write %s off %llu", name, (unsigned long long)s->end)
               : 0;
}

/* A segment's first batch is synced before the next is written: where it is not right nothing is.
 */
static int write_batch(struct wal *w, uint64_t flags, struct err *e)
{
    struct segment *s = w->active;
    struct batch_header h;
    char name[32];

    start_batch(w);
    if (w->first_batch)
        commit_drain(w);
    w->first_batch = s->end == SEGMENT_HEADER;
    h = (struct batch_header){ .first_lsn = w->next_lsn - w->batch_count,
                               .count = w->batch_count,
                               .length = (uint32_t)(w->batch_n - BATCH_HEADER),
                               .durable_lsn = w->durable_lsn,
                               .position = s->end,
                               .flags = flags };
    format_put_batch(w->batch, &h, s->salt);
    segment_name(s->number, name);
    if (write_pages(w, name, e))
        return -1;
    s->chain = format_chain(s->chain, w->batch);
    s->end += w->batch_n;
    s->last_lsn = w->next_lsn - 1;
    w->batch_n = 0;
    w->marked_lsn = h.durable_lsn;
    return 0;
}

/* Writes the batch and syncs it. Then, and only then, durable_lsn moves. */
int append_flush(struct wal *w, uint64_t flags, struct err *e)
{
    char name[32];

    commit_drain(w);
    if (w->failed)
        return err_set(e, EXIT_IO, "wal: the log has stopped");
    if (write_batch(w, flags, e))
        return -1;
    segment_name(w->active->number, name);
    if (io_fdatasync(w->active->fd))
        return err_errno(e, EXIT_IO, "wal: fdatasync seg %s", name);
    commit_publish(w, w->active->last_lsn);
    return 0;
}

/* The sidecar of the active segment from what is known of it, so that nobody has to read it again;
 * NULL when that is not all: the helper reads it then. */
static struct sidecar *make_sidecar(struct wal *w, const struct marker *m)
{
    const struct segment *s = w->active;
    struct sidecar sc = {
        .number = s->number, .end = m->end, .chain = m->chain, .has_ids = !w->active_unclaimed
    };
    struct sidecar *out;

    if (!w->active_ours || !(sc.v = dedup_range(w->dedup, s->first_lsn, m->last_lsn, &sc.n)))
        return NULL;
    if (m->last_lsn >= s->first_lsn) {
        sc.first_lsn = s->first_lsn;
        sc.last_lsn = m->last_lsn;
        sc.first_ms = w->active_first_ms;
        sc.last_ms = s->last_ms;
    }
    out = xmalloc(sizeof *out);
    *out = sc;
    return out;
}

/* Ends the active segment with its closing record. */
static int seal(struct wal *w, struct err *e)
{
    struct segment *s = w->active;
    struct marker m = { MARKER_CLOSING, s->number, w->next_lsn - 1, s->end, s->chain };
    struct sidecar *sc;

    w->batch_n = w->batch_count = 0;
    start_batch(w);
    put_marker(w, &m);
    if (append_flush(w, 0, e))
        return -1;
    sc = make_sidecar(w, &m);
    pthread_mutex_lock(&w->lock);
    s->sidecar = sc;
    s->end = m.end;
    s->chain = m.chain;
    s->sealed_boot_ms = clock_boot_ms();
    s->sealed = s->cached = true;
    io_close(s->fd);
    s->fd = -1;
    pthread_mutex_unlock(&w->lock);
    w->previous = m;
    w->opening = MARKER_OPENING;
    return 0;
}

/* The spare, when there is one; waits while the helper is making it. NULL: the disk is full. It
 * joins the table in the same breath: the helper counts on from the highest number there, and a
 * reader that finds this segment's predecessor sealed finds this one as well. */
static struct segment *take_spare(struct wal *w)
{
    struct segment *s;

    pthread_mutex_lock(&w->lock);
    pthread_cond_signal(&w->helper_wake);
    while (!w->spare && !w->full && !w->helper_failed && w->started)
        pthread_cond_wait(&w->spare_ready, &w->lock);
    s = w->spare;
    w->spare = NULL;
    if (s) {
        s->first_lsn = w->next_lsn;
        s->last_lsn = w->next_lsn - 1;
        w->segs = xrealloc(w->segs, (w->segs_n + 1) * sizeof *w->segs);
        w->segs[w->segs_n++] = s;
    }
    pthread_cond_signal(&w->helper_wake);
    pthread_mutex_unlock(&w->lock);
    return s;
}

enum room { ROOM_YES, ROOM_FULL, ROOM_FAILED };

/* Makes sure that a record of n bytes fits the active segment, which may mean the next one. */
static enum room make_room(struct wal *w, size_t n, struct err *e)
{
    struct segment *s = w->active, *next;
    size_t most = BATCH_HEADER + RECORD_HEADER + MARKER_BODY + n + CLOSING_BYTES;

    if (w->batch_n + n > BATCH_MAX && w->batch_n && append_flush(w, 0, e))
        return ROOM_FAILED;
    if (s->end + w->batch_n + most <= s->bytes)
        return ROOM_YES;
    if (SEGMENT_HEADER + most > w->cfg.segment_bytes)
        return ROOM_FULL; /* larger than a segment; the configuration is checked against it */
    if (w->batch_n && append_flush(w, 0, e))
        return ROOM_FAILED;
    if (!(next = take_spare(w))) {
        if (!w->helper_failed)
            return ROOM_FULL;
        err_set(e, EXIT_IO, "wal: no next segment after an I/O error");
        return ROOM_FAILED;
    }
    if (seal(w, e))
        return ROOM_FAILED;
    append_begin(w, next);
    return ROOM_YES;
}

/* Looks the delivery up and claims it, under the same writer that gives the LSN (P6). */
static bool seen_before(struct wal *w, struct wal_append *a, struct sidecar_entry *claim)
{
    struct sidecar_entry first;

    *claim = (struct sidecar_entry){ .time_ms = a->rec.time_ms, .body_crc = a->body_crc };
    memcpy(claim->key, a->key, sizeof claim->key);
    if (!dedup_find(w->dedup, claim->key, a->rec.time_ms, &first))
        return false;
    a->result = WAL_DUPLICATE;
    a->lsn = first.lsn;
    a->other_body = first.body_crc != claim->body_crc;
    return true;
}

static int take_one(struct wal *w, struct wal_append *a, struct err *e)
{
    struct sidecar_entry claim;

    if (a->dedup && seen_before(w, a, &claim))
        return 0;
    if (w->full || w->backlog_full || !w->active) {
        a->result = w->full || !w->active ? WAL_FULL : WAL_BACKLOG_FULL;
        return 0;
    }
    switch (make_room(w, format_record_bytes(&a->rec), e)) {
    case ROOM_YES:
        break;
    case ROOM_FULL:
        a->result = WAL_FULL;
        return 0;
    case ROOM_FAILED:
        return -1;
    }
    a->result = WAL_DURABLE;
    a->lsn = w->next_lsn;
    append_record(w, &a->rec);
    if (a->dedup) {
        claim.lsn = a->lsn;
        dedup_claim(w->dedup, &claim);
    } else {
        w->active_unclaimed |= a->rec.id.n > 0;
    }
    return 0;
}

static bool take_all(struct wal *w, struct commit *c, struct err *e)
{
    uint64_t first = w->next_lsn;
    bool bad = false;

    for (struct msg *m = c->group.head; m; m = m->next)
        dedup_prefetch(w->dedup, container_of(m, struct wal_append, msg)->key);
    for (struct msg *m = c->group.head; m && !bad; m = m->next)
        bad = take_one(w, container_of(m, struct wal_append, msg), e);
    c->written = !bad && w->batch_n;
    if (c->written)
        bad = write_batch(w, 0, e);
    c->records = w->next_lsn - first;
    return !bad;
}

static void commit_group(struct wal *w)
{
    struct commit c = { .group = w->group, .started_us = clock_mono_us() };
    struct err e = ERR_INIT;
    bool good;

    w->group = (struct msg_list){ NULL, NULL };
    atomic_store(&w->writing_since_ms, c.started_us / 1000);
    good = !w->failed && take_all(w, &c, &e);
    atomic_store(&w->writing_since_ms, 0);
    atomic_store(&w->dedup_oldest_ms, dedup_oldest_ms(w->dedup));
    if (!good) {
        if (w->helper_failed)
            err_set(&e, EXIT_IO, "wal: the next segment could not be made");
        commit_fail(w, &e);
        commit_answer(&c.group, true);
    } else if (!c.records && commit_idle(w)) {
        commit_answer(&c.group, false);
    } else {
        c.last_lsn = w->next_lsn - 1;
        c.fd = w->active ? w->active->fd : -1;
        segment_name(w->active ? w->active->number : 0, c.name);
        commit_hand_over(w, &c);
    }
}

/* The empty batch that says how far the log is durable. */
static void mark(struct wal *w, uint64_t flags)
{
    struct err e = ERR_INIT;

    if (w->failed || !w->active || (!flags && (w->marked_lsn == w->durable_lsn || !commit_idle(w))))
        return;
    if (w->active->end + BATCH_HEADER + CLOSING_BYTES > w->active->bytes)
        return; /* the closing record will say it */
    if (append_flush(w, flags, &e))
        commit_fail(w, &e);
    else
        w->marked_lsn = w->durable_lsn;
}

static void take(struct msg *m, void *self)
{
    struct wal *w = self;

    msg_list_add(&w->group, m);
}

void wal_submit(struct wal *w, struct msg_list *l)
{
    for (struct msg *m = l->head; m; m = m->next) {
        struct wal_append *a = container_of(m, struct wal_append, msg);
        m->deliver = take;
        if (!a->dedup)
            continue;
        dedup_key(w->dedup_key, &a->rec, a->key);
        a->body_crc = crc32c(0, a->rec.body.p, a->rec.body.n);
    }
    inbox_post_list(&w->in, l);
}

/* A start that found no room for a segment goes on here. */
static void resume(struct wal *w)
{
    struct err e = ERR_INIT;

    if (recover_resume(w, &e))
        commit_fail(w, &e);
    else if (w->active)
        commit_publish(w, w->durable_lsn);
}

/* The helper wants to mend the active segment: it is sealed, and the next one begun. */
static void roll(struct wal *w)
{
    struct segment *next = NULL;
    struct err e = ERR_INIT;

    w->roll = false;
    if (w->active && !w->failed && w->active->end + CLOSING_BYTES <= w->active->bytes)
        next = take_spare(w);
    if (!next)
        return;
    if (seal(w, &e))
        commit_fail(w, &e);
    else
        append_begin(w, next);
}

static void turn(struct wal *w)
{
    if (!w->active && !w->failed)
        resume(w);
    commit_wait_room(w);
    inbox_run(&w->in, w);
    if (w->group.head)
        commit_group(w);
    if (w->roll)
        roll(w);
    if (w->tell_owner) {
        commit_drain(w);
        w->tell_owner = false;
        inbox_post(w->failed_to, w->failed_msg);
    }
}

static bool unmarked(const struct wal *w)
{
    return w->marked_lsn != w->next_lsn - 1 && !w->failed;
}

void *append_thread(void *arg)
{
    struct wal *w = arg;
    struct pollfd p = { .fd = w->in.fd, .events = POLLIN };

    prctl(PR_SET_NAME, "log");
    while (!w->stopping) {
        int ready = poll(&p, 1, unmarked(w) ? MARK_AFTER_MS : TICK_MS);

        atomic_store(&w->turned_ms, clock_mono_ms());
        if (ready > 0 || !w->active)
            turn(w);
        else
            mark(w, 0);
    }
    turn(w);
    mark(w, BATCH_CLEAN_STOP);
    commit_drain(w);
    turn(w); /* a failure on the way is told */
    return NULL;
}
