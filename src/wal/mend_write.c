/* SPDX-License-Identifier: Apache-2.0 */
/* Writing a mended segment: a copy, what was damaged into files of its own, the patches, sync,
 * rename. A page that the disk does not give back is zeros in the copy. */
#include <fcntl.h>
#include <string.h>

#include "mend.h"

#define PIECE (64 * 1024)
#define TMP_NAME "repair.tmp"

static int copy(const struct mend *m, int from, int to, uint64_t keep, struct err *e)
{
    uint8_t *b = xmalloc(PIECE);
    char name[32];
    int rc = 0;

    segment_name(m->head.number, name);
    for (uint64_t at = 0; !rc && at < m->head.bytes; at += PIECE) {
        size_t n = (size_t)MIN((uint64_t)PIECE, m->head.bytes - at);
        file_read_what_goes(at < keep ? from : -1, name, b, n, at);
        if (at < keep && at + n > keep)
            memset(b + (keep - at), 0, (size_t)(at + n - keep));
        rc = file_write(to, TMP_NAME, b, n, at, e);
    }
    free(b);
    return rc;
}

/* Patches that lie side by side are one place. The copy does not hold what stood behind the end, so
 * the old bytes come from the file itself. */
static int keep_old(const struct mend *m, int fd, size_t from, size_t to, struct err *e)
{
    const struct patch *first = &m->v[from], *last = &m->v[to - 1];
    struct loss l = { .segment = m->head.number,
                      .offset = first->off,
                      .bytes = last->off + last->bytes - first->off };
    uint8_t *b = xmalloc((size_t)l.bytes + 1);
    char name[32], kept[64];
    int rc;

    segment_name(m->head.number, name);
    file_read_what_goes(fd, name, b, (size_t)l.bytes, l.offset);
    while (l.bytes && !b[l.bytes - 1])
        l.bytes--;
    for (size_t i = from; i < to; i++)
        if (m->v[i].kind == PATCH_LOST) {
            l.first_lsn = l.first_lsn ? l.first_lsn : m->v[i].first_lsn;
            l.last_lsn = m->v[i].last_lsn;
        }
    rc = quarantine_keep(m->dir, &l, b, kept, e);
    free(b);
    if (!rc)
        m->tell(m->arg, &l, kept);
    return rc;
}

static int by_offset(const void *a, const void *b)
{
    const struct patch *x = a, *y = b;

    return x->off < y->off ? -1 : x->off > y->off;
}

static int keep_all(struct mend *m, int fd, struct err *e)
{
    size_t from = 0;

    qsort(m->v, m->n, sizeof *m->v, by_offset);
    for (size_t i = 1; i <= m->n; i++)
        if (i == m->n || m->v[i].off != m->v[i - 1].off + m->v[i - 1].bytes) {
            if (keep_old(m, fd, from, i, e))
                return -1;
            from = i;
        }
    return 0;
}

static void put_record(const struct mend *m, uint8_t *b, const struct patch *p)
{
    uint8_t *body = xcalloc(1, (size_t)p->bytes + MARKER_BODY);
    size_t n = (size_t)p->bytes - RECORD_HEADER;
    struct record rec = { .kind = p->kind == PATCH_LOST ? RECORD_LOST : RECORD_MARKER,
                          .lsn = p->first_lsn,
                          .time_ms = m->time_ms,
                          .body = { (const char *)body, n } };

    if (p->kind == PATCH_MARKER) {
        format_put_marker(body, &p->marker);
        rec.lsn = p->marker.last_lsn;
    } else if (n) {
        format_put64(body, p->last_lsn);
    }
    format_put_record(b, &rec, m->head.salt, p->off);
    free(body);
}

static int put_patch(const struct mend *m, int fd, const struct patch *p, struct err *e)
{
    uint8_t *b = xcalloc(1, (size_t)p->bytes + 8);
    int rc;

    switch (p->kind) {
    case PATCH_BATCH:
        format_put_batch(b, &p->batch, m->head.salt);
        break;
    case PATCH_MARKER:
    case PATCH_LOST:
    case PATCH_FILLER:
        put_record(m, b, p);
        break;
    case PATCH_HEADER: /* written for every mended segment */
    case PATCH_ZEROS:
        break;
    }
    rc = file_write(fd, TMP_NAME, b, (size_t)p->bytes, p->off, e);
    free(b);
    return rc;
}

/* What the last segment holds is on the disk now, all of it: the empty batch at its end says so. */
static int put_mark(const struct mend *m, int fd, struct err *e)
{
    uint8_t b[BATCH_HEADER];

    format_put_batch(b,
                     &(struct batch_header){ .first_lsn = m->next_lsn,
                                             .durable_lsn = m->next_lsn - 1,
                                             .position = m->pos },
                     m->head.salt);
    return file_write(fd, TMP_NAME, b, sizeof b, m->pos, e);
}

static int put_all(struct mend *m, int fd, struct err *e)
{
    uint8_t head[SEGMENT_HEADER];

    for (size_t i = 0; i < m->n; i++)
        if (put_patch(m, fd, &m->v[i], e))
            return -1;
    m->head.flags |= SEGMENT_MENDED;
    format_put_segment(head, &m->head);
    if (file_write(fd, TMP_NAME, head, sizeof head, 0, e))
        return -1;
    return m->end || m->stop_lsn ? 0 : put_mark(m, fd, e);
}

static int publish(const struct mend *m, int fd, const char *tmp, struct err *e)
{
    char name[32], *path;
    int rc;

    if (io_fsync(fd))
        return err_errno(e, EXIT_IO, "wal: fsync %s", tmp);
    segment_name(m->head.number, name);
    path = file_path(m->dir, name);
    rc = io_rename(tmp, path) ? err_errno(e, EXIT_IO, "wal: rename %s", tmp)
                              : file_sync_dir(m->dir, e);
    free(path);
    return rc;
}

int mend_write(struct mend *m, int fd, struct err *e)
{
    bool tail = !m->end && !m->stop_lsn;
    char *tmp = file_path(m->dir, TMP_NAME);
    int out = io_open(tmp, O_RDWR | O_CREAT | O_TRUNC, 0600), rc = -1;

    if (tail) {
        m->head.bytes = MAX(m->head.bytes, m->pos + BATCH_HEADER);
        m->head.flags &= ~SEGMENT_RECYCLED; /* behind the end stand zeros from now on */
    }
    if (out < 0)
        err_errno(e, EXIT_IO, "wal: create %s", tmp);
    else if (!copy(m, fd, out, tail ? m->pos : m->head.bytes, e) && !keep_all(m, fd, e) &&
             !put_all(m, out, e))
        rc = publish(m, out, tmp, e);
    if (out >= 0)
        io_close(out);
    if (rc)
        io_unlink(tmp);
    free(tmp);
    return rc;
}
