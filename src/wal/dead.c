/* SPDX-License-Identifier: Apache-2.0 */
/* The dead-letter log of a sink: records that it can never accept, with the reason. One file that
 * is appended to and synced before the cursor passes the record. An entry is a record in the log's
 * own form (salt 0, its offset as position) whose headers start with a line "hookline-reason".
 * Written by one thread. What is torn at the end is overwritten; behind damage in the middle the
 * entries are found again and nothing is overwritten. */
#include "room.h"

#include <fcntl.h>
#include <string.h>

#include "log.h"

struct wal_dead {
    char *name;
    int fd;
    uint64_t end, max_bytes;
    uint64_t *lsns;
    size_t n, cap;
};

/* The first place in the sorted list that is not below the LSN; records mostly come in order. */
static size_t place_of(const struct wal_dead *d, uint64_t lsn)
{
    size_t low = 0, high = d->n;

    if (!d->n || d->lsns[d->n - 1] < lsn)
        return d->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (d->lsns[middle] < lsn)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void remember(struct wal_dead *d, uint64_t lsn)
{
    size_t at = place_of(d, lsn);

    if (d->n == d->cap) {
        d->cap = d->cap ? 2 * d->cap : 64;
        d->lsns = xrealloc(d->lsns, d->cap * sizeof *d->lsns);
    }
    memmove(d->lsns + at + 1, d->lsns + at, (d->n++ - at) * sizeof *d->lsns);
    d->lsns[at] = lsn;
}

int wal_dead_sync(struct wal_dead *d, struct err *e)
{
    return io_fdatasync(d->fd)
               ? err_errno(e, EXIT_IO, "wal: fdatasync dead letters of sink %s", d->name)
               : 0;
}

/* One entry; *n is 0 where none begins. */
static int read_entry(struct wal_dead *d, uint64_t off, uint64_t size, struct buf *b, size_t *n,
                      uint64_t *lsn, struct err *e)
{
    uint8_t head[RECORD_HEADER];
    struct record rec = { .lsn = 0 };
    size_t got, want;

    *n = 0;
    if (file_read(d->fd, d->name, head, sizeof head, off, &got, e))
        return -1;
    want = format_align(format_get32(head));
    if (got < sizeof head || want < RECORD_HEADER || want > size - off)
        return 0;
    buf_reserve(b, want);
    if (file_read(d->fd, d->name, b->p, want, off, &got, e))
        return -1;
    if (got == want)
        *n = format_get_record((const uint8_t *)b->p, want, &rec, 0, off);
    if (*n)
        *lsn = rec.lsn;
    return 0;
}

static int load(struct wal_dead *d, struct err *e)
{
    struct buf b = BUF_INIT;
    uint64_t size, lsn, off = 0, bad = UINT64_MAX;
    int rc = 0;
    size_t n;

    if (io_size(d->fd, &size))
        return err_errno(e, EXIT_IO, "wal: stat dead letters of sink %s", d->name);
    while (!rc && off + RECORD_HEADER <= size &&
           !(rc = read_entry(d, off, size, &b, &n, &lsn, e))) {
        if (n) {
            if (bad < off)
                log_error("a damaged dead letter is passed over", KS("sink", d->name),
                          KU("off", bad));
            bad = UINT64_MAX;
            remember(d, lsn);
            d->end = off + n;
            /* the sync that it waited for may have failed: then only writing it again helps */
            rc = file_write(d->fd, d->name, b.p, n, off, e);
        } else if (bad == UINT64_MAX) {
            bad = off;
        }
        off += n ? n : 8;
    }
    if (!rc && d->end < size)
        log_warn("a torn dead letter is overwritten", KS("sink", d->name), KU("off", d->end));
    buf_free(&b);
    return rc ? rc : wal_dead_sync(d, e); /* an entry written in front of a kill counts as there */
}

int wal_dead_open(struct wal *w, const char *sink, uint64_t max_bytes, struct wal_dead **out,
                  struct err *e)
{
    struct wal_dead *d = xcalloc(1, sizeof *d);
    char *path = xasprintf("%s/sink-%s.dead", w->dir, sink);
    int rc = -1;

    *d = (struct wal_dead){ .name = xstrdup(sink),
                            .max_bytes = max_bytes,
                            .fd = io_open(path, O_RDWR | O_CREAT, 0600) };
    if (d->fd < 0)
        err_errno(e, EXIT_IO, "wal: open %s", path);
    else
        rc = file_sync_dir(w->dir, e) ? -1 : load(d, e);
    free(path);
    if (rc) {
        wal_dead_close(d);
        d = NULL;
    }
    *out = d;
    return rc;
}

int wal_dead_put(struct wal_dead *d, const struct record *rec, const char *reason, struct err *e)
{
    struct buf headers = BUF_INIT;
    struct record dead = *rec;
    size_t n, at = place_of(d, rec->lsn);
    uint8_t *b;
    int rc = 1;

    if (at < d->n && d->lsns[at] == rec->lsn)
        return 0;
    buf_adds(&headers, "hookline-reason:");
    for (const char *p = reason; *p; p++)
        buf_addc(&headers, *p == '\n' ? ' ' : *p);
    buf_addc(&headers, '\n');
    buf_span(&headers, rec->headers);
    dead.headers = buf_as_span(&headers);
    n = format_record_bytes(&dead);
    b = xcalloc(1, n);
    if (d->end + n <= d->max_bytes) {
        format_put_record(b, &dead, 0, d->end);
        rc = file_write(d->fd, d->name, b, n, d->end, e);
    }
    if (!rc) {
        d->end += n;
        remember(d, rec->lsn);
    }
    buf_free(&headers);
    free(b);
    return rc;
}

int wal_dead_add(struct wal_dead *d, const struct record *rec, const char *reason, struct err *e)
{
    uint64_t end = d->end;
    int rc = wal_dead_put(d, rec, reason, e);

    return rc || d->end == end ? rc : wal_dead_sync(d, e);
}

uint64_t wal_dead_count(const struct wal_dead *d)
{
    return d->n;
}

void wal_dead_close(struct wal_dead *d)
{
    if (!d)
        return;
    if (d->fd >= 0)
        io_close(d->fd);
    free(d->lsns);
    free(d->name);
    free(d);
}
