/* SPDX-License-Identifier: Apache-2.0 */
/* The dead-letter log of a sink: records that it can never accept, with the reason. One file that
 * is appended to and synced before wal_dead_add returns, so that the cursor may pass the record. An
 * entry is a record in the log's own form (salt 0, its offset as position) whose headers start with
 * a line "hookline-reason". Written by one thread. */
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

static void remember(struct wal_dead *d, uint64_t lsn)
{
    if (d->n == d->cap) {
        d->cap = d->cap ? 2 * d->cap : 64;
        d->lsns = xrealloc(d->lsns, d->cap * sizeof *d->lsns);
    }
    d->lsns[d->n++] = lsn;
}

static int load(struct wal_dead *d, struct err *e)
{
    uint64_t size;
    uint8_t *b = NULL;
    struct record rec;
    size_t got, n, cap = 0;

    if (io_size(d->fd, &size))
        return err_errno(e, EXIT_IO, "wal: stat dead letters of sink %s", d->name);
    while (d->end + RECORD_HEADER <= size) {
        uint8_t head[RECORD_HEADER];
        if (file_read(d->fd, d->name, head, sizeof head, d->end, &got, e))
            goto failed;
        n = format_align(format_get32(head));
        if (n < RECORD_HEADER || n > size - d->end)
            break;
        if (n > cap)
            b = xrealloc(b, cap = n);
        if (file_read(d->fd, d->name, b, n, d->end, &got, e))
            goto failed;
        if (!format_get_record(b, n, &rec, 0, d->end))
            break;
        remember(d, rec.lsn);
        d->end += n;
    }
    if (d->end < size)
        log_warn("a torn dead letter is overwritten", KS("sink", d->name), KU("off", d->end));
    free(b);
    return 0;
failed:
    free(b);
    return -1;
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

static bool has(const struct wal_dead *d, uint64_t lsn)
{
    for (size_t i = d->n; i > 0; i--)
        if (d->lsns[i - 1] == lsn)
            return true;
    return false;
}

int wal_dead_add(struct wal_dead *d, const struct record *rec, const char *reason, struct err *e)
{
    struct buf headers = BUF_INIT;
    struct record dead = *rec;
    uint8_t *b;
    size_t n;
    int rc = -1;

    if (has(d, rec->lsn))
        return 0;
    buf_adds(&headers, "hookline-reason:");
    for (const char *p = reason; *p; p++)
        buf_addc(&headers, *p == '\n' ? ' ' : *p);
    buf_addc(&headers, '\n');
    buf_span(&headers, rec->headers);
    dead.headers = buf_as_span(&headers);
    n = format_record_bytes(&dead);
    b = xcalloc(1, n);
    if (d->end + n > d->max_bytes) {
        rc = 1;
        goto out;
    }
    format_put_record(b, &dead, 0, d->end);
    if (file_write(d->fd, d->name, b, n, d->end, e))
        goto out;
    if (io_fdatasync(d->fd)) {
        err_errno(e, EXIT_IO, "wal: fdatasync dead letters of sink %s", d->name);
        goto out;
    }
    d->end += n;
    remember(d, rec->lsn);
    rc = 0;
out:
    buf_free(&headers);
    free(b);
    return rc;
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
