/* SPDX-License-Identifier: Apache-2.0 */
/* Recovery: from the files of a folder to a log that can be appended to.
 *
 * It reads the headers of all segments, the opening record of each, and the last segment whole;
 * with pread, one batch in memory. Only the last segment can have a torn tail. The watermark is the
 * highest durable_lsn of any valid batch or LSN of any valid cursor: what is bad at or below it was
 * acknowledged (damage, P4), what is bad above it was not (a torn tail). What is valid above it may
 * have been acknowledged and may not be on the disk: it is written again to a new segment and
 * synced before anybody is served (P3). Nothing is deleted but such copies of an earlier recovery
 * that never became complete. */
#include "room.h"

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

/* What a pass over the last segment learned. */
struct last {
    uint64_t end;      /* of the valid batches */
    uint64_t next_lsn; /* behind them */
    uint64_t watermark;
    uint32_t chain;
    bool clean, copy, copy_done, opened;
    enum scan_result stop;
    uint64_t bad_offset, later_records;
    struct marker opening;
};

static int by_number(const void *a, const void *b)
{
    const struct segment *x = *(struct segment *const *)a, *y = *(struct segment *const *)b;

    return x->number < y->number ? -1 : x->number > y->number;
}

static int read_segment_header(struct wal *w, uint64_t number, bool *foreign, struct segment **out,
                               struct err *e)
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
        err_set(e, EXIT_DAMAGED, "wal: corrupt header seg %s off 0; restore the file", name);
        goto out;
    case 2:
        err_set(e, EXIT_BAD_CONFIG,
                "wal: seg %s has format %u, written by %s; this release reads up to %d: use that "
                "release",
                name, h.format, h.writer, FORMAT_VERSION);
        goto out;
    }
    if (h.number != number) {
        err_set(e, EXIT_DAMAGED, "wal: seg %s says that it is number %llu: swapped or copied", name,
                (unsigned long long)h.number);
        goto out;
    }
    *foreign = memcmp(h.log_id, w->log_id, sizeof h.log_id) != 0;
    if (*foreign) {
        err_set(e, EXIT_DAMAGED, "wal: seg %s belongs to another log", name);
        goto out;
    }
    s->salt = h.salt;
    s->bytes = h.bytes;
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
    size_t n;
    int rc = 0;

    if (io_list(w->dir, &names, &n))
        return err_errno(e, EXIT_IO, "wal: list folder %s", w->dir);
    for (size_t i = 0; i < n && !rc; i++) {
        struct span name = span_str(names[i]), number = { name.p, 16 };
        struct segment *s;
        uint64_t v;
        bool foreign;

        if (name.n != 20 || strcmp(names[i] + 16, ".wal") || !span_u64(number, &v))
            continue;
        rc = read_segment_header(w, v, &foreign, &s, e);
        if (rc)
            break;
        f->v = xrealloc(f->v, (f->n + 1) * sizeof *f->v);
        f->v[f->n++] = s;
    }
    file_names_free(names, n);
    if (f->n)
        qsort(f->v, f->n, sizeof *f->v, by_number);
    for (size_t i = 1; i < f->n && !rc; i++)
        if (f->v[i]->number != f->v[i - 1]->number + 1)
            rc = err_set(e, EXIT_DAMAGED,
                         "wal: segment %016llu.wal is missing (%016llu.wal is there); restore it",
                         (unsigned long long)f->v[i - 1]->number + 1,
                         (unsigned long long)f->v[i]->number);
    return rc;
}

/* The opening record of a segment: 1 there, 0 none (nothing was written yet), -1 cannot be read. */
static int read_opening(struct segment *s, struct marker *m, struct err *e)
{
    struct record rec;
    struct scan sc;
    int rc = 0;

    scan_init(&sc, s->fd, s, SEGMENT_HEADER);
    switch (scan_batch(&sc, e)) {
    case SCAN_BATCH:
        rc = scan_record(&sc, &rec) && rec.kind == RECORD_MARKER &&
             format_get_marker(rec.body, m) && m->kind != MARKER_CLOSING;
        s->first_lsn = sc.batch.first_lsn;
        break;
    case SCAN_ERROR:
        rc = -1;
        break;
    case SCAN_END:
    case SCAN_BAD:
        break;
    }
    scan_free(&sc);
    return rc;
}

static bool has_batches(struct segment *s, int *rc, struct err *e)
{
    struct scan sc;
    enum scan_result r;

    scan_init(&sc, s->fd, s, SEGMENT_HEADER);
    r = scan_resync(&sc, e);
    scan_free(&sc);
    if (r == SCAN_ERROR)
        *rc = -1;
    return r == SCAN_BATCH;
}

/* Looks behind the first bad place for batches that are right: they tell what was acknowledged. */
static int look_behind(struct scan *sc, struct last *l, struct err *e)
{
    uint64_t bad = sc->pos;
    enum scan_result r;

    sc->pos += 8;
    while ((r = scan_resync(sc, e)) == SCAN_BATCH) {
        if (sc->batch.first_lsn >= l->next_lsn) {
            l->watermark = MAX(l->watermark, sc->batch.durable_lsn);
            l->later_records += sc->batch.count;
        }
        sc->pos += 8;
    }
    sc->pos = bad;
    return r == SCAN_ERROR ? -1 : 0;
}

static void note_batch(struct last *l, struct scan *sc, struct segment *s, bool first)
{
    struct record rec;

    if (first) {
        s->first_lsn = sc->batch.first_lsn;
        l->opened = scan_record(sc, &rec) && rec.kind == RECORD_MARKER &&
                    format_get_marker(rec.body, &l->opening);
        l->copy = l->opened && l->opening.kind == MARKER_COPY;
        sc->at = 0;
    }
    while (scan_record(sc, &rec))
        s->last_ms = rec.time_ms;
    l->next_lsn = sc->batch.first_lsn + sc->batch.count;
    l->watermark = MAX(l->watermark, sc->batch.durable_lsn);
    l->copy_done |= (sc->batch.flags & BATCH_COPY_DONE) != 0;
    l->clean = (sc->batch.flags & BATCH_CLEAN_STOP) != 0;
    l->chain = format_chain(l->chain, sc->raw);
    l->end = sc->pos;
}

static int pass_over(struct segment *s, struct last *l, struct err *e)
{
    struct scan sc;
    int rc = 0;

    *l = (struct last){ .end = SEGMENT_HEADER, .next_lsn = 1 };
    scan_init(&sc, s->fd, s, SEGMENT_HEADER);
    while ((l->stop = scan_batch(&sc, e)) == SCAN_BATCH) {
        bool first = l->end == SEGMENT_HEADER;
        if (!first && sc.batch.first_lsn != l->next_lsn) {
            l->stop = SCAN_END; /* a leftover that happens to fit: not ours */
            break;
        }
        note_batch(l, &sc, s, first);
    }
    l->bad_offset = l->stop == SCAN_BAD ? sc.bad_offset : l->end;
    if (!s->first_lsn)
        s->first_lsn = l->next_lsn;
    sc.pos = l->end;
    if (l->stop == SCAN_ERROR)
        rc = -1;
    else if (!l->clean)
        rc = look_behind(&sc, l, e);
    scan_free(&sc);
    return rc;
}

/* What lies behind the valid batches and is not zero is kept beside the log, for a look. */
static int keep_torn(struct wal *w, struct segment *s, uint64_t end, uint64_t *bytes, struct err *e)
{
    enum { PIECE = 1 << 16 };
    char name[40];
    uint8_t *b = xmalloc(PIECE);
    uint64_t last = end;
    size_t got = 1;
    int rc = 0;

    segment_name(s->number, name);
    for (uint64_t at = end; got && !rc && at < s->bytes; at += got) {
        rc = file_read(s->fd, name, b, PIECE, at, &got, e);
        for (size_t i = 0; !rc && i < got; i++)
            if (b[i])
                last = at + i + 1;
    }
    *bytes = last - end;
    if (*bytes && !rc) {
        b = xrealloc(b, (size_t)*bytes);
        rc = file_read(s->fd, name, b, (size_t)*bytes, end, &got, e);
        snprintf(name, sizeof name, "%016llu.torn", (unsigned long long)s->number);
        if (!rc)
            rc = file_replace(w->dir, name, b, got, e);
    }
    free(b);
    return rc;
}

static int judge_tail(struct wal *w, struct segment *s, const struct last *l, struct err *e)
{
    char name[32];
    uint64_t bytes;

    segment_name(s->number, name);
    if (l->next_lsn <= l->watermark)
        return err_set(
            e, EXIT_DAMAGED,
            "wal: corrupt record seg %s off %llu (LSN %llu is acknowledged); %llu later records "
            "intact; restore the folder from a backup",
            name, (unsigned long long)l->bad_offset, (unsigned long long)l->next_lsn,
            (unsigned long long)l->later_records);
    if (l->clean)
        return 0;
    if (keep_torn(w, s, l->end, &bytes, e))
        return -1;
    if (bytes) {
        counter_add(&w->discarded_bytes, bytes);
        log_warn("wal: discarded an unacknowledged tail", KS("seg", name), KU("off", l->end),
                 KU("bytes", bytes));
    }
    return 0;
}

/* Seals the last segment at the first batch above the watermark and copies the rest. */
static int copy_tail(struct wal *w, struct segment *from, const struct last *l, struct segment *to,
                     struct err *e)
{
    struct scan sc;
    struct record rec;
    enum scan_result r = SCAN_END;
    int rc = -1;

    scan_init(&sc, from->fd, from, SEGMENT_HEADER);
    w->previous =
        (struct marker){ MARKER_COPY, from->number, l->opening.last_lsn, SEGMENT_HEADER, 0 };
    w->next_lsn = from->first_lsn;
    while (sc.pos < l->end && (r = scan_batch(&sc, e)) == SCAN_BATCH &&
           sc.batch.first_lsn + sc.batch.count <= l->watermark + 1) {
        w->previous.end = sc.pos;
        w->previous.chain = format_chain(w->previous.chain, sc.raw);
        w->next_lsn = sc.batch.first_lsn + sc.batch.count;
    }
    w->previous.last_lsn = w->next_lsn - 1;
    w->opening = MARKER_COPY;
    w->durable_lsn = w->previous.last_lsn;
    append_begin(w, to);
    while (r == SCAN_BATCH) {
        while (scan_record(&sc, &rec))
            if (rec.kind != RECORD_MARKER)
                append_record(w, &rec);
        if (append_flush(w, 0, e))
            goto out;
        r = sc.pos < l->end ? scan_batch(&sc, e) : SCAN_END;
    }
    if (r == SCAN_ERROR || append_flush(w, BATCH_COPY_DONE, e))
        goto out;
    w->marked_lsn = 0; /* the next mark says that the copy is durable */
    rc = 0;
out:
    scan_free(&sc);
    return rc;
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
static int chain_segments(struct found *f, size_t last, struct err *e)
{
    for (size_t i = 0; i < last; i++) {
        struct marker m = { 0 };
        int there = read_opening(f->v[i + 1], &m, e);
        if (there < 0)
            return -1;
        if (!there || m.number != f->v[i]->number)
            return err_set(e, EXIT_DAMAGED, "wal: segment %016llu.wal does not follow %016llu.wal",
                           (unsigned long long)f->v[i + 1]->number,
                           (unsigned long long)f->v[i]->number);
        seal_found(f->v[i], &m);
    }
    for (size_t i = 0; i < last; i++)
        f->v[i]->first_lsn = i ? f->v[i - 1]->last_lsn + 1 : f->v[i]->first_lsn;
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
        s->has_sidecar = true;
        s->last_ms = sc.last_ms;
        s->sealed_boot_ms = boot - MAX(now - sc.last_ms, 0);
        if (i == 0) {
            s->first_lsn = sc.first_lsn ? sc.first_lsn : s->last_lsn + 1;
            atomic_store(&w->oldest_ms, sc.first_ms);
        }
        for (size_t k = 0; k < sc.n; k++)
            if (now - sc.v[k].time_ms <= w->dedup_cfg.window_ms)
                dedup_claim(w->dedup, &sc.v[k]);
        sidecar_free(&sc);
    }
    return 0;
}

static int claim_active(struct wal *w, struct segment *s, struct err *e)
{
    struct sidecar sc;

    if (sidecar_build(w, s, &sc, e))
        return -1;
    for (size_t k = 0; k < sc.n; k++)
        dedup_claim(w->dedup, &sc.v[k]);
    if (!w->oldest_ms)
        atomic_store(&w->oldest_ms, sc.first_ms);
    sidecar_free(&sc);
    return 0;
}

static int first_start(struct wal *w, struct err *e)
{
    struct segment *s;

    if (segment_create(w, 1, &s, e))
        return -1;
    w->next_lsn = 1;
    append_begin(w, s);
    segment_publish(w, s);
    return 0;
}

static int check_cursors(struct wal *w, struct last *l, struct err *e)
{
    char name[80];
    uint64_t highest = cursor_highest_on_disk(w, name);

    if (highest >= l->next_lsn && l->stop != SCAN_BAD && !l->later_records &&
        highest > l->watermark)
        return err_set(e, EXIT_DAMAGED,
                       "wal: the cursor of sink %s stands at LSN %llu, the log ends at LSN %llu: "
                       "the folder is older than its cursor, or records are missing",
                       name, (unsigned long long)highest, (unsigned long long)l->next_lsn - 1);
    l->watermark = MAX(l->watermark, highest);
    return 0;
}

/* The last segment goes on after a clean stop; otherwise the log moves to the next one. */
static int open_active(struct wal *w, struct segment *s, struct last *l, struct segment *next,
                       struct err *e)
{
    w->next_lsn = l->next_lsn;
    if (l->clean) {
        w->durable_lsn = w->marked_lsn = l->next_lsn - 1;
        w->active = s;
        s->end = l->end;
        s->chain = l->chain;
        s->last_lsn = l->next_lsn - 1;
        segment_publish(w, s);
        w->spare = next;
        return claim_active(w, s, e);
    }
    if (!next && segment_create(w, s->number + 1, &next, e)) {
        err_wrap(e, "no segment to recover into");
        return -1;
    }
    segment_publish(w, s);
    segment_publish(w, next);
    if (copy_tail(w, s, l, next, e))
        return -1;
    seal_found(s, &w->previous);
    return 0;
}

/* A copy that an earlier recovery did not finish is not believed: its source still has it all. */
static int drop_unfinished_copy(struct wal *w, struct found *f, size_t *last, struct last *l,
                                struct err *e)
{
    char *path;
    int rc;

    if (!l->copy || l->copy_done || *last == 0)
        return 0;
    path = segment_path(w, f->v[*last]->number);
    for (size_t i = *last; i < f->n; i++) {
        char *p = segment_path(w, f->v[i]->number);
        io_unlink(p);
        free(p);
        segment_free(f->v[i]);
    }
    f->n = *last;
    (*last)--;
    free(path);
    rc = file_sync_dir(w->dir, e);
    return rc ? rc : pass_over(f->v[*last], l, e);
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

int recover(struct wal *w, struct err *e)
{
    struct found f = { NULL, 0 };
    struct segment *next = NULL;
    struct last l;
    size_t last;
    int rc = -1, io = 0;

    if (find_segments(w, &f, e))
        goto out;
    if (!f.n) {
        rc = first_start(w, e);
        goto out;
    }
    last = f.n - 1;
    if (last && !has_batches(f.v[last], &io, e))
        last--; /* the highest one without a batch is the spare */
    if (io || pass_over(f.v[last], &l, e) || drop_unfinished_copy(w, &f, &last, &l, e))
        goto out;
    next = last + 1 < f.n ? f.v[last + 1] : NULL;
    if (l.opened && l.end == SEGMENT_HEADER)
        l.next_lsn = l.opening.last_lsn + 1;
    if (check_cursors(w, &l, e) || judge_tail(w, f.v[last], &l, e) || chain_segments(&f, last, e) ||
        load_sidecars(w, &f, last, e))
        goto out;
    for (size_t i = 0; i < last; i++)
        segment_publish(w, f.v[i]);
    w->previous = l.opened ? l.opening : (struct marker){ .number = 0 };
    rc = open_active(w, f.v[last], &l, next, e);
    if (!rc && !l.clean) {
        struct found sealed = { &f.v[last], 1 };
        rc = load_sidecars(w, &sealed, 1, e);
        if (last && !rc)
            f.v[last]->first_lsn = f.v[last - 1]->last_lsn + 1;
        if (!rc)
            rc = claim_active(w, w->active, e);
    }
out:
    if (rc)
        free_unpublished(w, &f);
    free(f.v);
    return rc;
}
