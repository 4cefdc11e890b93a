/* SPDX-License-Identifier: Apache-2.0 */
/* Walking a segment with pread: recovery, sidecars and the tools. Memory: one batch. */
#include "room.h"

#include <string.h>

#define WINDOW (64 * 1024)

void scan_init(struct scan *sc, int fd, const struct segment *s, uint64_t pos)
{
    *sc = (struct scan){ .fd = fd, .salt = s->salt, .bytes = s->bytes, .pos = pos };
    segment_name(s->number, sc->name);
}

void scan_free(struct scan *sc)
{
    free(sc->buf);
    sc->buf = NULL;
    sc->cap = 0;
}

static void room_for(struct scan *sc, size_t n)
{
    if (n > sc->cap) {
        sc->buf = xrealloc(sc->buf, n);
        sc->cap = n;
    }
}

static int read_some(const struct scan *sc, void *p, size_t n, uint64_t off, size_t *got,
                     struct err *e)
{
    int rc = file_read(sc->fd, sc->name, p, n, off, got, e);

    if (!rc || !sc->lenient)
        return rc;
    file_read_what_goes(sc->fd, sc->name, p, n, off);
    *got = n;
    return 0;
}

/* A header at pos that is right and fits the segment. */
static enum scan_result read_header(struct scan *sc, struct err *e)
{
    size_t got;

    if (sc->pos + BATCH_HEADER > sc->bytes)
        return SCAN_END;
    if (read_some(sc, sc->raw, BATCH_HEADER, sc->pos, &got, e))
        return SCAN_ERROR;
    if (got < BATCH_HEADER || !format_get_batch(sc->raw, &sc->batch, sc->salt, sc->pos) ||
        sc->batch.length > sc->bytes - sc->pos - BATCH_HEADER)
        return SCAN_END;
    return SCAN_BATCH;
}

/* Steps over right records from `at`; counts those with an LSN. */
static size_t step_over(const struct scan *sc, size_t at, uint64_t *count)
{
    struct record rec;
    size_t n;

    while (at < sc->batch.length &&
           (n = format_get_record(sc->buf + at, sc->batch.length - at, &rec, sc->salt,
                                  sc->pos + BATCH_HEADER + at))) {
        *count += format_lsns(&rec);
        at += n;
    }
    return at;
}

/* All records of the batch in buf are right. Behind a bad one the next is looked for where its
 * length says. */
static bool check_records(struct scan *sc)
{
    uint64_t before = 0;
    size_t at = step_over(sc, 0, &before), n;

    if (at == sc->batch.length)
        return true;
    sc->bad_offset = sc->pos + BATCH_HEADER + at;
    sc->bad_lsn = sc->batch.first_lsn + before;
    sc->bad_later = 0;
    if (sc->batch.length - at < RECORD_HEADER)
        return false;
    n = format_align(format_get32(sc->buf + at));
    if (n >= RECORD_HEADER && n < sc->batch.length - at)
        step_over(sc, at + n, &sc->bad_later);
    return false;
}

enum scan_result scan_batch(struct scan *sc, struct err *e)
{
    enum scan_result r = read_header(sc, e);
    size_t got;

    if (r != SCAN_BATCH)
        return r;
    room_for(sc, sc->batch.length);
    if (read_some(sc, sc->buf, sc->batch.length, sc->pos + BATCH_HEADER, &got, e))
        return SCAN_ERROR;
    sc->bad_offset = sc->pos + BATCH_HEADER + got;
    sc->bad_lsn = sc->batch.first_lsn;
    sc->bad_later = 0;
    if (got < sc->batch.length || !check_records(sc))
        return SCAN_BAD;
    sc->at = 0;
    sc->pos += BATCH_HEADER + sc->batch.length;
    return SCAN_BATCH;
}

bool scan_record(struct scan *sc, struct record *rec)
{
    uint64_t start = sc->pos - sc->batch.length; /* where buf stands in the file */
    size_t n;

    if (sc->at >= sc->batch.length)
        return false;
    n = format_get_record(sc->buf + sc->at, sc->batch.length - sc->at, rec, sc->salt,
                          start + sc->at);
    sc->at += n;
    return n > 0;
}

enum scan_result scan_resync(struct scan *sc, struct err *e)
{
    static const uint8_t magic[4] = { 'H', 'L', 'B', '1' };
    uint64_t pos = format_align(sc->pos);

    while (pos + BATCH_HEADER <= sc->bytes) {
        size_t got;
        room_for(sc, WINDOW);
        if (read_some(sc, sc->buf, WINDOW, pos, &got, e))
            return SCAN_ERROR;
        for (size_t i = 0; i + sizeof magic <= got; i += 8) {
            if (memcmp(sc->buf + i, magic, sizeof magic))
                continue;
            if (i + BATCH_HEADER <= got && /* a recycled file is full of what was right once */
                !format_get_batch(sc->buf + i, &sc->batch, sc->salt, pos + i))
                continue;
            sc->pos = pos + i;
            switch (read_header(sc, e)) {
            case SCAN_BATCH:
                return SCAN_BATCH;
            case SCAN_ERROR:
                return SCAN_ERROR;
            case SCAN_END:
            case SCAN_BAD:
                break;
            }
        }
        if (got < WINDOW)
            break;
        pos += WINDOW;
    }
    return SCAN_END;
}
