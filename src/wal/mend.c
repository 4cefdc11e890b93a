/* SPDX-License-Identifier: Apache-2.0 */
/* What has to be patched in a segment: a walk from its first batch to its end. LSNs and positions
 * are contiguous, so whatever is between two things that are right tells by its bounds which LSNs
 * stood there. Memory: the batch or the gap. */
#include "mend.h"

#include <string.h>

#include "clock.h"

#define GAP_BATCH (1u << 20) /* an empty gap becomes batches of this size */
#define LOST_BYTES (RECORD_HEADER + 8)

static struct patch *add(struct mend *m, enum patch_kind kind, uint64_t off, uint64_t bytes)
{
    if (m->n == m->cap) {
        m->cap = m->cap ? 2 * m->cap : 16;
        m->v = xrealloc(m->v, m->cap * sizeof *m->v);
    }
    m->v[m->n] = (struct patch){ .kind = kind, .off = off, .bytes = bytes };
    return &m->v[m->n++];
}

/* Bytes of no right record, in which the LSNs from `first` to the one before `after` stood. */
static void lose(struct mend *m, uint64_t off, uint64_t bytes, uint64_t first, uint64_t after)
{
    struct patch *p;

    if (off == SEGMENT_HEADER + BATCH_HEADER && m->opening) {
        m->misfit |= bytes < MARKER_BYTES;
        add(m, PATCH_MARKER, off, MARKER_BYTES)->marker = *m->opening;
        off += MARKER_BYTES;
        bytes -= MIN((uint64_t)MARKER_BYTES, bytes);
    }
    m->misfit |= first < after && bytes < (after - first > 1 ? LOST_BYTES : RECORD_HEADER);
    if (!bytes)
        return;
    p = add(m, first < after ? PATCH_LOST : PATCH_FILLER, off, bytes);
    p->first_lsn = first;
    p->last_lsn = after - 1;
}

static bool belongs(const struct record *rec, uint64_t next, uint64_t after)
{
    return rec->kind == RECORD_MARKER || (rec->lsn >= next && format_last_lsn(rec) < after);
}

/* The records of one batch, which stand at `off` and hold the LSNs from `next` to the one before
 * `after`. */
static void look_at_records(struct mend *m, const uint8_t *b, size_t n, uint64_t off, uint64_t next,
                            uint64_t after)
{
    size_t from = 0, got;

    for (size_t at = 0; at < n; at += got) {
        struct record rec;
        got = format_get_record(b + at, n - at, &rec, m->head.salt, off + at);
        if (!got || !belongs(&rec, next, after)) {
            got = 8;
            continue;
        }
        if (at > from)
            lose(m, off + from, at - from, next,
                 MIN(rec.kind == RECORD_MARKER ? rec.lsn + 1 : rec.lsn, after));
        if (rec.kind != RECORD_MARKER || at > from)
            next = MAX(next, format_last_lsn(&rec) + 1);
        m->time_ms = rec.time_ms;
        from = at + got;
    }
    if (from < n)
        lose(m, off + from, n - from, next, after);
    else
        m->misfit |= next < after;
}

static void take_batch(struct mend *m, const uint8_t raw[BATCH_HEADER],
                       const struct batch_header *h)
{
    m->first_lsn = m->first_lsn ? m->first_lsn : h->first_lsn;
    m->next_lsn = h->first_lsn + h->count;
    m->chain = format_chain(m->chain, raw);
}

static bool is_next(const struct mend *m, const struct batch_header *h)
{
    uint64_t end = h->position + BATCH_HEADER + h->length;

    return (!m->next_lsn || h->first_lsn == m->next_lsn) && end <= m->head.bytes &&
           (!m->end || end <= m->end) && (!m->stop_lsn || h->first_lsn + h->count <= m->stop_lsn);
}

static void read_bytes(const struct scan *sc, uint8_t *b, size_t n, uint64_t off)
{
    file_read_what_goes(sc->fd, sc->name, b, n, off);
}

static void put_batch(struct mend *m, const struct batch_header *h)
{
    uint8_t raw[BATCH_HEADER];

    add(m, PATCH_BATCH, h->position, BATCH_HEADER)->batch = *h;
    format_put_batch(raw, h, m->head.salt);
    take_batch(m, raw, h);
}

static bool any_record(const struct mend *m, const uint8_t *b, size_t n, uint64_t off,
                       struct record *rec)
{
    for (size_t at = 0; at < n; at += 8)
        if (format_get_record(b + at, n - at, rec, m->head.salt, off + at) &&
            rec->kind != RECORD_MARKER)
            return true;
    return false;
}

/* A gap without a header that is right: one batch around the records that are, or, where there are
 * none, batches of a size that readers can hold. */
static void fill_gap(struct mend *m, struct scan *sc, uint64_t to, uint64_t after)
{
    size_t n = (size_t)(to - sc->pos), step;
    uint8_t *b = xmalloc(n + 8);
    struct record rec;
    bool any;

    read_bytes(sc, b, n, sc->pos);
    any = any_record(m, b, n, sc->pos, &rec);
    if (!m->next_lsn)
        m->next_lsn = any ? rec.lsn : after;
    m->misfit |= n < BATCH_HEADER || after - m->next_lsn > UINT32_MAX;
    for (size_t at = 0; !m->misfit && at < n; at += step) {
        uint64_t first = m->next_lsn;
        step = any || n - at < 2 * GAP_BATCH ? n - at : GAP_BATCH;
        put_batch(m, &(struct batch_header){ .first_lsn = first,
                                             .count = (uint32_t)(after - first),
                                             .length = (uint32_t)(step - BATCH_HEADER),
                                             .durable_lsn = first - 1,
                                             .position = sc->pos + at });
        look_at_records(m, b + at + BATCH_HEADER, step - BATCH_HEADER, sc->pos + at + BATCH_HEADER,
                        first, after);
    }
    free(b);
    sc->pos = to;
}

/* A header that was put right, and what stands behind it. */
static void take_guessed(struct mend *m, struct scan *sc, const struct batch_header *h)
{
    uint8_t *b = xmalloc(h->length + 8u);

    read_bytes(sc, b, h->length, sc->pos + BATCH_HEADER);
    put_batch(m, h);
    look_at_records(m, b, h->length, sc->pos + BATCH_HEADER, h->first_lsn, h->first_lsn + h->count);
    free(b);
    sc->pos += BATCH_HEADER + h->length;
}

/* Behind everything that is right, where the segment's end is not known. What was acknowledged must
 * be accounted for; the rest is a torn tail, and recovery's. False: nothing
 * was. */
static bool fill_tail(struct mend *m, struct scan *sc)
{
    uint64_t start = sc->pos, last = m->next_lsn - 1, to = start + BATCH_HEADER;
    size_t n = (size_t)(MAX(m->head.bytes, to) - start), used = 0, got;
    uint8_t *b;

    if (m->next_lsn > m->last_lsn)
        return false;
    b = xmalloc(n);
    read_bytes(sc, b, n, start);
    for (size_t at = BATCH_HEADER; at < n; at += got) {
        struct record rec;
        got = format_get_record(b + at, n - at, &rec, m->head.salt, start + at);
        if (got && rec.kind != RECORD_MARKER && rec.lsn > last) {
            last = format_last_lsn(&rec);
            to = start + at + got;
        }
        got = got ? got : 8;
    }
    for (size_t at = 0; at < n; at++)
        used = b[at] ? at + 1 : used;
    free(b);
    if (last < m->last_lsn)
        to += m->opening && to == SEGMENT_HEADER + BATCH_HEADER ? MARKER_BYTES + LOST_BYTES
                                                                : LOST_BYTES;
    m->head.bytes = MAX(m->head.bytes, to);
    fill_gap(m, sc, to, MAX(last, m->last_lsn) + 1);
    if (start + used > to && !(m->head.flags & SEGMENT_RECYCLED))
        add(m, PATCH_ZEROS, to, start + used - to);
    return true;
}

/* Where the next batch begins that can follow, from `pos` on. */
static bool find_next(const struct mend *m, struct scan *sc, uint64_t limit)
{
    struct err ignored = ERR_INIT;

    for (; sc->fd >= 0 && scan_resync(sc, &ignored) == SCAN_BATCH; sc->pos += 8)
        if (sc->batch.first_lsn >= m->next_lsn &&
            sc->pos + BATCH_HEADER + sc->batch.length <= limit &&
            (!m->stop_lsn || sc->batch.first_lsn < m->stop_lsn))
            return true;
    return false;
}

/* No header stands where one should; false: it is the end. */
static bool look_at_gap(struct mend *m, struct scan *sc)
{
    uint64_t start = sc->pos, to = m->end, after = m->last_lsn + 1;
    uint64_t limit = m->end ? m->end : m->head.bytes;
    uint8_t raw[BATCH_HEADER];
    struct batch_header h;

    read_bytes(sc, raw, sizeof raw, start);
    if (start + BATCH_HEADER <= limit && guess_batch(raw, &h, m->head.salt, start) &&
        is_next(m, &h)) {
        take_guessed(m, sc, &h);
        return true;
    }
    sc->pos = start + 8;
    if (find_next(m, sc, limit)) {
        to = sc->pos;
        after = sc->batch.first_lsn;
    }
    sc->pos = start;
    if (!to)
        return fill_tail(m, sc);
    fill_gap(m, sc, to, after);
    return true;
}

/* Nothing in the last segment that was acknowledged stands from `start` on: what is wrong there is
 * a torn tail. */
static bool only_torn(const struct mend *m, struct scan *sc, uint64_t start)
{
    bool behind;

    if (m->end || m->stop_lsn || m->next_lsn <= m->last_lsn)
        return false;
    sc->pos = start + 8;
    behind = find_next(m, sc, m->head.bytes);
    sc->pos = start;
    return !behind;
}

/* The next batch, or what is left of it; false: there is none. */
static bool look_at_batch(struct mend *m, struct scan *sc)
{
    struct err ignored = ERR_INIT;
    uint64_t start = sc->pos;
    enum scan_result r = sc->fd < 0 ? SCAN_END : scan_batch(sc, &ignored);
    struct record rec;

    if (r == SCAN_BATCH && is_next(m, &sc->batch)) {
        take_batch(m, sc->raw, &sc->batch);
        while (scan_record(sc, &rec))
            m->time_ms = rec.time_ms;
        return true;
    }
    sc->pos = start;
    if (only_torn(m, sc, start))
        return false;
    r = sc->fd < 0 ? SCAN_END : scan_batch(sc, &ignored); /* what was read is no longer there */
    sc->pos = start;
    if (r != SCAN_BAD || !is_next(m, &sc->batch))
        return look_at_gap(m, sc);
    take_batch(m, sc->raw, &sc->batch);
    look_at_records(m, sc->buf, sc->batch.length, start + BATCH_HEADER, sc->batch.first_lsn,
                    sc->batch.first_lsn + sc->batch.count);
    sc->pos = start + BATCH_HEADER + sc->batch.length;
    return true;
}

/* Behind the batches of a sealed segment stands its closing record. */
static void look_at_closing(struct mend *m, struct scan *sc)
{
    struct err ignored = ERR_INIT;
    struct batch_header h = { .first_lsn = m->next_lsn,
                              .length = MARKER_BYTES,
                              .durable_lsn = m->next_lsn - 1,
                              .position = m->pos };
    enum scan_result r;
    struct record rec;
    struct marker is;

    if (!m->closing || m->pos + CLOSING_BYTES > m->head.bytes)
        return;
    sc->pos = m->pos;
    r = sc->fd < 0 ? SCAN_END : scan_batch(sc, &ignored);
    if (r == SCAN_BATCH && scan_record(sc, &rec) && rec.kind == RECORD_MARKER &&
        format_get_marker(rec.body, &is) && is.kind == MARKER_CLOSING)
        return;
    add(m, PATCH_BATCH, m->pos, BATCH_HEADER)->batch = h;
    add(m, PATCH_MARKER, m->pos + BATCH_HEADER, MARKER_BYTES)->marker = *m->closing;
}

static bool goes_on(const struct mend *m, const struct scan *sc)
{
    if (m->end)
        return sc->pos < m->end;
    return !m->stop_lsn || m->next_lsn < m->stop_lsn;
}

int mend_look(struct mend *m, int fd, struct err *e)
{
    struct segment s = { .number = m->head.number, .salt = m->head.salt, .bytes = m->head.bytes };
    struct scan sc;

    m->n = 0;
    m->misfit = false;
    m->next_lsn = m->first_lsn;
    m->chain = 0;
    m->time_ms = clock_wall_ms();
    if (m->head_bad)
        add(m, PATCH_HEADER, 0, 96);
    scan_init(&sc, fd, &s, SEGMENT_HEADER);
    sc.lenient = true;
    while (!m->misfit && goes_on(m, &sc) && look_at_batch(m, &sc))
        ;
    m->pos = sc.pos;
    look_at_closing(m, &sc);
    scan_free(&sc);
    if (m->misfit || (m->end && m->next_lsn != m->last_lsn + 1))
        return err_set(e, EXIT_DAMAGED,
                       "wal: seg %016llu.wal cannot be mended near off %llu: there is no place "
                       "where LSN %llu stood",
                       (unsigned long long)m->head.number, (unsigned long long)m->pos,
                       (unsigned long long)m->next_lsn);
    return 0;
}

void mend_free(struct mend *m)
{
    free(m->v);
    m->v = NULL;
    m->n = m->cap = 0;
}
