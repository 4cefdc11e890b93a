/* SPDX-License-Identifier: Apache-2.0 */
/* Recovery: from the files of a folder to a log that can be appended to.
 *
 * It reads the headers of all segments, the opening record of each, and the last segment whole
 * (tail.c); with pread, one batch in memory. Only the last segment can have a torn tail. The
 * watermark is the highest durable_lsn of any valid batch or LSN of any valid cursor: what is bad
 * at or below it was acknowledged (damage, P4), what is bad above it was not (a torn tail). What is
 * valid above it may have been acknowledged and may not be on the disk: it is written again to a
 * new segment and synced before anybody is served (P3); without room for that segment the log waits
 * for it, and serves what is known to be durable meanwhile.
 *
 * Damage in a sealed segment stops no start, its readers name it; what the segment held is known
 * from its neighbours and its sidecar. Nothing is deleted but segments that were never begun, and
 * copies of an earlier recovery that never became complete. */
#include "mend.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "crypto.h"
#include "log.h"

struct found {
    struct segment **v;
    size_t n;
};

/* A header whose checksum is wrong is told by `damaged`: what the file held is found out later. */
static int read_segment_header(struct wal *w, uint64_t number, struct segment **out, struct err *e)
{
    struct segment *s = xcalloc(1, sizeof *s);
    uint8_t head[SEGMENT_HEADER];
    struct segment_header h;
    char name[32];
    size_t got;
    int rc = -1;

    *s = (struct segment){ .number = number, .fd = -1, .end = SEGMENT_HEADER };
    segment_name(number, name);
    if (segment_open_fd(w, s, e) || file_read(s->fd, name, head, sizeof head, 0, &got, e))
        goto out;
    switch (got == sizeof head ? format_get_segment(head, &h) : 1) {
    case 1:
        s->damaged = s->suspect = true;
        if (io_size(s->fd, &s->bytes))
            err_errno(e, EXIT_IO, "wal: stat %s", name);
        else
            rc = 0;
        goto out;
    case 2:
        err_set(e, EXIT_BAD_CONFIG,
                "wal: seg %s has format %u, written by %s; this release reads up to %d: use that "
                "release",
                name, h.format, h.writer, FORMAT_VERSION);
        goto out;
    }
    if (h.number != number) {
        err_set(
            e, EXIT_DAMAGED,
            "wal: seg %s says that it is number %llu: swapped or copied; run 'hookline log repair'",
            name, (unsigned long long)h.number);
        goto out;
    }
    if (!identity_is_ours(w, h.log_id)) {
        err_set(e, EXIT_DAMAGED, "wal: seg %s belongs to another log; run 'hookline log repair'",
                name);
        goto out;
    }
    s->salt = h.salt;
    s->bytes = h.bytes;
    s->recycled = (h.flags & SEGMENT_RECYCLED) != 0;
    s->mended = (h.flags & SEGMENT_MENDED) != 0;
    rc = 0;
out:
    if (rc) {
        segment_free(s);
        s = NULL;
    }
    *out = s;
    return rc;
}

static int find_segments(struct wal *w, struct found *f, struct err *e)
{
    char **names;
    uint64_t number;
    size_t n;
    int rc = 0;

    if (file_list_numbered(w->dir, ".wal", &names, &n, e))
        return -1;
    f->v = xcalloc(n + 1, sizeof *f->v);
    for (size_t i = 0; i < n && !rc; i++) {
        file_is_numbered(names[i], ".wal", &number);
        rc = read_segment_header(w, number, &f->v[f->n], e);
        f->n += !rc;
    }
    file_names_free(names, n);
    for (size_t i = 1; i < f->n && !rc; i++)
        if (f->v[i]->number != f->v[i - 1]->number + 1)
            rc = err_set(e, EXIT_DAMAGED,
                         "wal: segment %016llu.wal is missing (%016llu.wal is there); run "
                         "'hookline log repair'",
                         (unsigned long long)f->v[i - 1]->number + 1,
                         (unsigned long long)f->v[i]->number);
    return rc;
}

static int corrupt_header(const struct segment *s, struct err *e)
{
    return err_set(e, EXIT_DAMAGED,
                   "wal: corrupt header seg %016llu.wal off 0; run 'hookline log repair'",
                   (unsigned long long)s->number);
}

/* Segments from the index on go: never begun, or copies that never became complete. */
static int drop_from(struct wal *w, struct found *f, size_t from, struct err *e)
{
    if (from >= f->n)
        return 0;
    while (f->n > from) {
        char *path = segment_path(w, f->v[--f->n]->number);
        int rc = io_unlink(path) ? err_errno(e, EXIT_IO, "wal: unlink %s", path) : 0;
        free(path);
        segment_free(f->v[f->n]);
        if (rc)
            return rc;
    }
    return file_sync_dir(w->dir, e);
}

/* A spare with a bad header holds nothing, and is one if its predecessor was never closed: but a
 * predecessor from which a recovery copied was not either. */
static int drop_bad_spare(struct wal *w, struct found *f, struct err *e)
{
    struct segment *s = f->v[f->n - 1];
    struct tail before;
    uint64_t salt;
    int begun;

    if (!s->damaged)
        return 0;
    if (f->n < 2 || f->v[f->n - 2]->damaged)
        return corrupt_header(s, e);
    if (tail_read(f->v[f->n - 2], &before, e))
        return -1;
    if (before.closed || before.end == SEGMENT_HEADER)
        return corrupt_header(s, e);
    begun = guess_salt(s->fd, s, f->v[f->n - 2]->first_lsn, &salt, e);
    if (begun <= 0)
        return begun < 0 ? -1 : corrupt_header(s, e);
    log_warn("an unused spare segment was damaged; it is made anew", KU("number", s->number));
    return drop_from(w, f, f->n - 1, e);
}

/* The last segment that was begun; behind it stand at most the spare, and one that was about to
 * follow. */
static int find_last(struct wal *w, struct found *f, size_t *last, struct tail *t, struct err *e)
{
    struct tail before, torn = { .end = SEGMENT_HEADER };
    bool begun = false;

    if (drop_bad_spare(w, f, e))
        return -1;
    for (*last = f->n - 1; *last && !f->v[*last]->damaged; --*last) {
        if (tail_begun(f->v[*last], &begun, &torn.torn, e))
            return -1;
        if (begun)
            break;
        if (torn.torn && tail_keep_torn(w, f->v[*last], &torn, e))
            return -1;
    }
    if (f->v[*last]->damaged)
        return corrupt_header(f->v[*last], e);
    if (tail_read(f->v[*last], t, e))
        return -1;
    if (t->closed && *last + 1 == f->n)
        return err_set(e, EXIT_DAMAGED,
                       "wal: segment %016llu.wal is missing; run 'hookline log repair'",
                       (unsigned long long)f->v[*last]->number + 1);
    if (t->end > SEGMENT_HEADER || !*last || f->v[*last - 1]->damaged)
        return 0;
    if (tail_read(f->v[*last - 1], &before, e)) /* nothing of the last one is right */
        return -1;
    /* A copy begins inside its source; once it was complete, all that it began with was durable. */
    t->next_lsn = t->bad_lsn = t->copy_done ? before.watermark + 1 : before.next_lsn;
    return 0;
}

enum opening { OPENING_GOOD, OPENING_BAD, OPENING_OTHER, OPENING_ERROR };

/* The opening record of a segment: good, damaged, or not what stands there. */
static enum opening read_opening(struct segment *s, struct marker *m, struct err *e)
{
    enum opening r = OPENING_BAD;
    struct record rec;
    struct scan sc;

    if (s->damaged)
        return r;
    scan_init(&sc, s->fd, s, SEGMENT_HEADER);
    switch (scan_batch(&sc, e)) {
    case SCAN_BATCH:
        s->first_lsn = sc.batch.first_lsn;
        r = scan_record(&sc, &rec) && rec.kind == RECORD_MARKER && format_get_marker(rec.body, m) &&
                    m->kind != MARKER_CLOSING
                ? OPENING_GOOD
                : OPENING_OTHER;
        break;
    case SCAN_ERROR:
        r = OPENING_ERROR;
        break;
    case SCAN_END:
    case SCAN_BAD:
        break;
    }
    scan_free(&sc);
    return r;
}

/* Where a segment ends, when its successor cannot say it: from its sidecar, else from its own
 * closing record. */
static int end_without_successor(struct wal *w, struct segment *s, struct marker *m, struct err *e)
{
    struct sidecar sc;
    struct tail t;

    if (!sidecar_read(w, s->number, &sc)) {
        *m = (struct marker){ MARKER_CLOSING, s->number, sc.last_lsn, sc.end, sc.chain };
        sidecar_free(&sc);
        return 0;
    }
    if (s->damaged)
        return corrupt_header(s, e);
    if (tail_read(s, &t, e))
        return -1;
    if (!t.closed)
        return err_set(e, EXIT_DAMAGED, "damaged seg %016llu off %llu LSN %llu",
                       (unsigned long long)s->number, (unsigned long long)t.bad_offset,
                       (unsigned long long)t.bad_lsn);
    *m = t.closing;
    return 0;
}

static void seal_found(struct segment *s, const struct marker *m)
{
    s->sealed = true;
    s->last_lsn = m->last_lsn;
    s->end = m->end;
    s->chain = m->chain;
    io_close(s->fd);
    s->fd = -1;
}

/* Each segment's end is what its successor's opening record says of it. */
static int chain_segments(struct wal *w, struct found *f, size_t last, struct err *e)
{
    struct marker m = { 0 };

    if (read_opening(f->v[0], &m, e) == OPENING_ERROR) /* for its first LSN */
        return -1;
    for (size_t i = 0; i < last; i++) {
        struct segment *s = f->v[i], *next = f->v[i + 1];
        switch (read_opening(next, &m, e)) {
        case OPENING_ERROR:
            return -1;
        case OPENING_BAD:
            next->damaged = next->suspect = true;
            if (end_without_successor(w, s, &m, e))
                return -1;
            break;
        case OPENING_OTHER:
            m.number = 0;
            break;
        case OPENING_GOOD:
            break;
        }
        if (m.number != s->number)
            return err_set(e, EXIT_DAMAGED, "wal: segment %016llu.wal does not follow %016llu.wal",
                           (unsigned long long)next->number, (unsigned long long)s->number);
        seal_found(s, &m);
        next->first_lsn = m.last_lsn + 1;
        if (s->damaged)
            log_warn("a segment is damaged; what was delivered from it stays aside, a sink that "
                     "needs it stops there",
                     KU("number", s->number), KU("last_lsn", s->last_lsn));
    }
    return 0;
}

static void claim_entries(struct wal *w, const struct sidecar *sc, uint64_t above)
{
    int64_t now = clock_wall_ms();

    for (size_t i = 0; i < sc->n; i++)
        if (sc->v[i].lsn > above && now - sc->v[i].time_ms <= w->dedup_cfg.window_ms)
            dedup_claim(w->dedup, &sc->v[i]);
}

/* Keys of segments that were trimmed are remembered for the window of deduplication (P6). */
static int claim_trimmed(struct wal *w, uint64_t before, struct err *e)
{
    struct sidecar sc;
    uint64_t number;
    char **names;
    size_t n;

    if (file_list_numbered(w->dir, ".idx", &names, &n, e))
        return -1;
    for (size_t i = 0; i < n; i++)
        if (file_is_numbered(names[i], ".idx", &number) && number < before &&
            !sidecar_read(w, number, &sc)) {
            claim_entries(w, &sc, 0);
            sidecar_free(&sc);
        }
    file_names_free(names, n);
    return 0;
}

/* Sidecars give times and keys; what is missing is derived. */
static int load_sidecars(struct wal *w, struct found *f, size_t last, struct err *e)
{
    int64_t now = clock_wall_ms(), boot = clock_boot_ms();
    struct sidecar sc;

    for (size_t i = 0; i < last; i++) {
        struct segment *s = f->v[i];
        if (sidecar_read(w, s->number, &sc) || sc.end != s->end || sc.chain != s->chain) {
            sidecar_free(&sc);
            if (sidecar_build(w, s, &sc, e) || sidecar_write(w, &sc, e))
                return -1;
        }
        sidecar_known(s, &sc);
        s->last_ms = sc.last_ms;
        s->sealed_boot_ms = boot - MAX(now - sc.last_ms, 0);
        if (!s->first_lsn && s->end == SEGMENT_HEADER) /* all that it had is in its successor */
            s->first_lsn = s->last_lsn + 1;
        else if (!s->first_lsn)
            s->first_lsn = s->number == 1 ? 1 : sc.first_lsn;
        claim_entries(w, &sc, 0);
        sidecar_free(&sc);
        if (!s->first_lsn)
            return corrupt_header(s, e);
    }
    return 0;
}

/* The keys of the last segment, from the LSN after `above` up to what is known to be durable: a
 * repeat is answered as if it were. */
static int claim_last(struct wal *w, struct segment *s, uint64_t above, uint64_t up_to,
                      struct err *e)
{
    struct sidecar sc;

    if (sidecar_build(w, s, &sc, e))
        return -1;
    while (sc.n && sc.v[sc.n - 1].lsn > up_to)
        sc.n--;
    claim_entries(w, &sc, above);
    if (!w->oldest_ms)
        atomic_store(&w->oldest_ms, sc.first_ms);
    sidecar_free(&sc);
    return 0;
}

static int first_start(struct wal *w, struct err *e)
{
    struct segment_plan plan = { .number = 1, .bytes = w->cfg.segment_bytes };
    struct segment *s;

    if (segment_create(w, &plan, &s, e))
        return -1;
    w->next_lsn = s->first_lsn = 1;
    append_begin(w, s);
    segment_publish(w, s);
    return 0;
}

static int check_cursors(struct wal *w, struct tail *t, struct err *e)
{
    char name[80];
    uint64_t highest = cursor_highest_on_disk(w, name);

    if (highest >= t->next_lsn && t->stop != SCAN_BAD && !t->later_records &&
        highest > t->watermark)
        return err_set(e, EXIT_DAMAGED,
                       "wal: the cursor of sink %s stands at LSN %llu, the log ends at LSN %llu: "
                       "the folder is older than its cursor, or records are missing; run 'hookline "
                       "log repair'",
                       name, (unsigned long long)highest, (unsigned long long)t->next_lsn - 1);
    t->watermark = MAX(t->watermark, highest);
    return 0;
}

static int judge_tail(const struct segment *s, const struct tail *t, struct err *e)
{
    if (t->next_lsn > t->watermark)
        return 0;
    return err_set(e, EXIT_DAMAGED,
                   "wal: corrupt record seg %016llu.wal off %llu (LSN %llu is acknowledged); %llu "
                   "later records "
                   "intact; run 'hookline log repair'",
                   (unsigned long long)s->number, (unsigned long long)t->bad_offset,
                   (unsigned long long)t->bad_lsn, (unsigned long long)t->later_records);
}

static void go_on(struct wal *w, struct segment *s, const struct tail *t)
{
    w->next_lsn = t->next_lsn;
    w->durable_lsn = w->marked_lsn = t->next_lsn - 1;
    w->active = s;
    s->end = t->end;
    s->chain = t->chain;
    s->last_lsn = t->next_lsn - 1;
}

/* Copies what is above the watermark to `to` and seals the segment it comes from. */
static int move_on(struct wal *w, struct segment *from, struct segment *to, struct err *e)
{
    if (tail_copy(w, from, from->end, to, e))
        return -1;
    pthread_mutex_lock(&w->lock);
    seal_found(from, &w->previous);
    from->sealed_boot_ms = clock_boot_ms();
    pthread_mutex_unlock(&w->lock);
    return 0;
}

int recover_resume(struct wal *w, struct err *e)
{
    struct segment *from = w->waiting, *to;
    uint64_t durable = w->durable_lsn;

    pthread_mutex_lock(&w->lock);
    to = w->spare;
    w->spare = NULL;
    if (to)
        w->waiting = NULL;
    pthread_mutex_unlock(&w->lock);
    if (!to)
        return 0;
    to->first_lsn = w->previous.last_lsn + 1;
    to->last_lsn = w->previous.last_lsn;
    segment_publish(w, to);
    return claim_last(w, from, durable, UINT64_MAX, e) || move_on(w, from, to, e) ? -1 : 0;
}

/* After a kill the log moves to the next segment; without room for one it waits. */
static int open_next(struct wal *w, struct segment *s, const struct tail *t, struct segment *next,
                     struct err *e)
{
    struct segment_plan plan = { .number = s->number + 1,
                                 .bytes = MAX(w->cfg.segment_bytes, s->bytes) };

    s->end = t->end;
    if (tail_split(s, t, &w->previous, e))
        return -1;
    w->next_lsn = w->previous.last_lsn + 1;
    w->durable_lsn = w->previous.last_lsn;
    if (claim_last(w, s, 0, w->durable_lsn, e))
        return -1;
    segment_publish(w, s);
    w->waiting = s;
    if (!next && segment_create(w, &plan, &next, e)) {
        w->spare_denied = helper_is_space_error(errno);
        return w->spare_denied ? 0 : err_wrap(e, "no segment to recover into");
    }
    w->spare = next;
    return recover_resume(w, e);
}

/* Forgets the last one. Its file stays until that of the next one takes its name: a closed segment
 * must not be seen without a successor. */
static void leave_file(struct found *f)
{
    segment_free(f->v[--f->n]);
}

/* A copy that an earlier recovery did not finish is not believed: its source still has it all, or
 * what the source had was never acknowledged and is gone. But where the copy begins, that recovery
 * knew the source to be durable. */
static int drop_unfinished_copy(struct wal *w, struct found *f, size_t *last, struct tail *t,
                                struct err *e)
{
    uint64_t durable = t->opening.last_lsn;

    if (!t->copy || t->copy_done || t->later_batches || *last == 0)
        return 0;
    if (drop_from(w, f, *last + 1, e) || tail_read(f->v[*last - 1], t, e))
        return -1;
    if (t->closed) {
        leave_file(f);
        --*last;
    } else if (drop_from(w, f, *last, e) || find_last(w, f, last, t, e)) {
        return -1;
    }
    t->watermark = MAX(t->watermark, durable);
    return 0;
}

/* After a failure: what did not become the log's. */
static void free_unpublished(const struct wal *w, struct found *f)
{
    for (size_t i = 0; i < f->n; i++) {
        bool published = f->v[i] == w->spare;
        for (size_t k = 0; k < w->segs_n; k++)
            published |= w->segs[k] == f->v[i];
        if (!published)
            segment_free(f->v[i]);
    }
}

/* A spare that is to be used must have the size that the configuration asks for now, and hold what
 * the last segment holds. */
static int take_over_spare(struct wal *w, struct found *f, size_t last, struct segment **next,
                           struct err *e)
{
    *next = NULL;
    if (drop_from(w, f, last + 2, e))
        return -1;
    if (last + 1 == f->n)
        return 0;
    if (f->v[last + 1]->bytes == w->cfg.segment_bytes && f->v[last + 1]->bytes >= f->v[last]->bytes)
        *next = f->v[last + 1];
    else
        leave_file(f);
    return 0;
}

static int open_found(struct wal *w, struct found *f, struct err *e)
{
    struct segment *next, *s;
    struct tail t = { .end = SEGMENT_HEADER };
    size_t last;

    if (find_last(w, f, &last, &t, e) || drop_unfinished_copy(w, f, &last, &t, e) ||
        check_cursors(w, &t, e) || judge_tail(f->v[last], &t, e) || chain_segments(w, f, last, e) ||
        claim_trimmed(w, f->v[0]->number, e) || load_sidecars(w, f, last, e) ||
        take_over_spare(w, f, last, &next, e))
        return -1;
    for (size_t i = 0; i < last; i++)
        segment_publish(w, f->v[i]);
    s = f->v[last];
    if (!t.clean)
        return tail_keep_torn(w, s, &t, e) ? -1 : open_next(w, s, &t, next, e);
    w->previous = t.opened ? t.opening : (struct marker){ .number = 0 };
    go_on(w, s, &t);
    segment_publish(w, s);
    w->spare = next;
    return claim_last(w, s, 0, UINT64_MAX, e);
}

int recover(struct wal *w, struct err *e)
{
    struct found f = { NULL, 0 };
    int rc;

    /* The names that a killed process gave are seen, but only this makes them stay: the first thing
     * that is acknowledged may lie under one of them. */
    rc = file_sync_dir(w->dir, e) || find_segments(w, &f, e) ? -1 : 0;
    if (!rc)
        rc = f.n ? open_found(w, &f, e) : first_start(w, e);
    if (rc)
        free_unpublished(w, &f);
    free(f.v);
    return rc;
}
