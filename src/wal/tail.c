/* SPDX-License-Identifier: Apache-2.0 */
/* The last segment at a start: what in it is right, what was acknowledged, what was torn, and how
 * the part whose sync nobody knows of gets into a new segment. Runs before the log thread, or in it
 * when the disk was full at the start. With pread and one batch in memory.
 *
 * A batch may be written while the one before it is synced, so two can be torn, and of these two
 * the later one may be right. It proves nothing of the earlier: it says in its header up to where
 * the log was durable when it was written, and only what is at or below that is known to have been
 * on the disk. The first batch of a segment is an exception: it was synced before anything was
 * written behind it. */
#include "room.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "log.h"

#define PIECE (64 * 1024)

/* Looks behind the first bad place for batches that are right. */
static int look_behind(struct scan *sc, struct tail *t, struct err *e)
{
    enum scan_result r;

    sc->pos = t->end + 8;
    while ((r = scan_resync(sc, e)) == SCAN_BATCH) {
        if (sc->batch.first_lsn >= t->next_lsn) {
            t->watermark = MAX(t->watermark, sc->batch.durable_lsn);
            t->later_records += sc->batch.count;
            t->later_batches++;
            t->copy_done |= (sc->batch.flags & BATCH_COPY_DONE) != 0;
        }
        sc->pos += 8;
    }
    return r == SCAN_ERROR ? -1 : 0;
}

static void note_batch(struct tail *t, struct scan *sc, struct segment *s)
{
    struct record rec = { .kind = RECORD_WEBHOOK };

    if (t->end == SEGMENT_HEADER) {
        s->first_lsn = sc->batch.first_lsn;
        t->opened = scan_record(sc, &rec) && rec.kind == RECORD_MARKER &&
                    format_get_marker(rec.body, &t->opening);
        t->copy = t->opened && t->opening.kind == MARKER_COPY;
        sc->at = 0;
    }
    while (scan_record(sc, &rec))
        s->last_ms = rec.time_ms;
    t->closed = rec.kind == RECORD_MARKER && format_get_marker(rec.body, &t->closing) &&
                t->closing.kind == MARKER_CLOSING;
    t->next_lsn = sc->batch.first_lsn + sc->batch.count;
    t->watermark = MAX(t->watermark, sc->batch.durable_lsn);
    t->copy_done |= (sc->batch.flags & BATCH_COPY_DONE) != 0;
    t->clean = (sc->batch.flags & BATCH_CLEAN_STOP) != 0;
    t->chain = format_chain(t->chain, sc->raw);
    t->end = sc->pos;
}

int tail_read(struct segment *s, struct tail *t, struct err *e)
{
    struct scan sc;
    int rc;

    *t = (struct tail){ .end = SEGMENT_HEADER, .next_lsn = 1 };
    scan_init(&sc, s->fd, s, SEGMENT_HEADER);
    while ((t->stop = scan_batch(&sc, e)) == SCAN_BATCH) {
        if (t->end != SEGMENT_HEADER && sc.batch.first_lsn != t->next_lsn) {
            t->stop = SCAN_END; /* a leftover that happens to fit: not ours */
            break;
        }
        note_batch(t, &sc, s);
    }
    t->bad_offset = t->end;
    t->bad_lsn = t->next_lsn;
    if (t->stop == SCAN_BAD) {
        t->bad_offset = sc.bad_offset;
        t->bad_lsn = sc.bad_lsn;
        t->later_records = sc.bad_later;
        t->torn = BATCH_HEADER + sc.batch.length;
    }
    if (!s->first_lsn)
        s->first_lsn = t->next_lsn;
    rc = t->stop == SCAN_ERROR ? -1 : look_behind(&sc, t, e);
    /* a clean stop is one only where nothing was written after it, not even what is damaged now */
    t->clean &= t->stop == SCAN_END && !t->later_batches;
    scan_free(&sc);
    return rc;
}

int tail_begun(struct segment *s, bool *begun, uint64_t *torn, struct err *e)
{
    struct scan sc;
    enum scan_result r;

    scan_init(&sc, s->fd, s, SEGMENT_HEADER);
    r = scan_batch(&sc, e);
    *torn = r == SCAN_BAD ? BATCH_HEADER + sc.batch.length : 0;
    if (r == SCAN_BAD || r == SCAN_END) {
        sc.pos = SEGMENT_HEADER + 8;
        r = scan_resync(&sc, e);
    }
    scan_free(&sc);
    *begun = r == SCAN_BATCH;
    return r == SCAN_ERROR ? -1 : 0;
}

/* How many bytes a torn write can have left behind the valid batches. In a recycled file the
 * batches of an earlier life lie there, so only what a header of this life announces counts; in a
 * file of zeros whatever is not zero. */
static int torn_bytes(struct segment *s, const struct tail *t, uint64_t *bytes, struct err *e)
{
    uint8_t *b;
    char name[32];
    size_t got = 1;
    int rc = 0;

    *bytes = t->torn;
    if (s->recycled)
        return 0;
    b = xmalloc(PIECE);
    segment_name(s->number, name);
    for (uint64_t at = t->end; got && !rc && at < s->bytes; at += got) {
        rc = file_read(s->fd, name, b, PIECE, at, &got, e);
        for (size_t i = rc ? 0 : got; i > 0; i--)
            if (b[i - 1]) {
                *bytes = at + i - t->end;
                break;
            }
    }
    free(b);
    return rc;
}

static int copy_bytes(struct segment *s, uint64_t from, uint64_t n, int fd, const char *to,
                      struct err *e)
{
    uint8_t *b = xmalloc(PIECE);
    char name[32];
    size_t got = 1;
    int rc = 0;

    segment_name(s->number, name);
    for (uint64_t at = 0; got && !rc && at < n; at += got) {
        rc = file_read(s->fd, name, b, (size_t)MIN((uint64_t)PIECE, n - at), from + at, &got, e);
        if (!rc)
            rc = file_write(fd, to, b, got, at, e);
    }
    free(b);
    return rc;
}

/* The copy is for a look and nothing depends on it: where it cannot be made the start goes on. */
int tail_keep_torn(struct wal *w, struct segment *s, const struct tail *t, struct err *e)
{
    struct err ignored = ERR_INIT;
    uint64_t bytes;
    char name[32], *path;
    int fd;

    if (torn_bytes(s, t, &bytes, e))
        return -1;
    if (!bytes)
        return 0;
    path = xasprintf("%s/%016llu.torn", w->dir, (unsigned long long)s->number);
    fd = io_open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || copy_bytes(s, t->end, bytes, fd, path, &ignored))
        log_warn("a torn tail could not be kept", KS("path", path), KERRNO());
    if (fd >= 0)
        io_close(fd);
    free(path);
    segment_name(s->number, name);
    counter_add(&w->discarded_bytes, bytes);
    log_warn("wal: discarded an unacknowledged tail", KS("seg", name), KU("off", t->end),
             KU("bytes", bytes));
    return 0;
}

/* A batch without records says nothing of itself: whether it was synced shows only in what was
 * written after it. */
int tail_split(struct segment *s, const struct tail *t, struct marker *m, struct err *e)
{
    enum scan_result r = SCAN_END;
    struct scan sc;
    uint32_t chain = 0;

    *m = (struct marker){ MARKER_COPY, s->number, s->first_lsn - 1, SEGMENT_HEADER, 0 };
    scan_init(&sc, s->fd, s, SEGMENT_HEADER);
    while (sc.pos < t->end && (r = scan_batch(&sc, e)) == SCAN_BATCH &&
           sc.batch.first_lsn + sc.batch.count <= t->watermark + 1) {
        chain = format_chain(chain, sc.raw);
        if (!sc.batch.count)
            continue;
        m->end = sc.pos;
        m->chain = chain;
        m->last_lsn = sc.batch.first_lsn + sc.batch.count - 1;
    }
    scan_free(&sc);
    return r == SCAN_ERROR ? -1 : 0;
}

int tail_copy(struct wal *w, struct segment *from, uint64_t end, struct segment *to, struct err *e)
{
    enum scan_result r = SCAN_END;
    struct record rec;
    struct scan sc;
    int rc = 0;

    w->opening = MARKER_COPY;
    w->next_lsn = w->previous.last_lsn + 1;
    append_begin(w, to);
    scan_init(&sc, from->fd, from, w->previous.end);
    while (!rc && sc.pos < end && (r = scan_batch(&sc, e)) == SCAN_BATCH) {
        while (scan_record(&sc, &rec))
            if (rec.kind != RECORD_MARKER)
                append_record(w, &rec);
        rc = append_flush(w, 0, e);
    }
    scan_free(&sc);
    if (rc || r == SCAN_ERROR || append_flush(w, BATCH_COPY_DONE, e))
        return -1;
    w->marked_lsn = 0; /* the next mark says that the copy is durable */
    return 0;
}
