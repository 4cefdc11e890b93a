/* SPDX-License-Identifier: Apache-2.0 */
/* The dead-letter log of a sink: records that it can never accept, with the reason. One file that
 * is appended to and synced before the cursor passes the record. An entry is a record in the log's
 * own form (salt 0, its offset as position) whose headers start with what dead_letter.c puts in
 * front of them; of several with the same LSN the last counts, and a marker says that the letter
 * was taken out. What is not needed any more is given back by writing the file anew (compact).
 * Written by one thread. What is torn at the end is overwritten; behind damage in the middle the
 * entries are found again and nothing is overwritten. */
#include <fcntl.h>
#include <string.h>

#include "clock.h"
#include "dead_room.h"
#include "log.h"

#define WRITE_BYTES (1u << 20)

/* --- the table: where each letter stands, by LSN
 * --------------------------------------------------------------------- */

/* The first place that is not below the LSN; letters mostly come in order. */
static size_t place_of(const struct wal_dead *d, uint64_t lsn)
{
    size_t low = 0, high = d->n;

    if (!d->n || d->at[d->n - 1].lsn < lsn)
        return d->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (d->at[middle].lsn < lsn)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct place *find(const struct wal_dead *d, uint64_t lsn)
{
    size_t i = place_of(d, lsn);

    return i < d->n && d->at[i].lsn == lsn && d->at[i].bytes ? &d->at[i] : NULL;
}

static void remember(struct wal_dead *d, uint64_t lsn, uint64_t off, size_t bytes)
{
    size_t i = place_of(d, lsn);

    if (!d->at || i == d->n || d->at[i].lsn != lsn) {
        if (!d->at || d->n == d->cap) {
            d->cap = d->cap ? 2 * d->cap : 64;
            d->at = xrealloc(d->at, d->cap * sizeof *d->at);
        }
        memmove(d->at + i + 1, d->at + i, (d->n++ - i) * sizeof *d->at);
        d->at[i] = (struct place){ .lsn = lsn };
    }
    d->live_n += !d->at[i].bytes;
    d->live += bytes - d->at[i].bytes;
    d->at[i] = (struct place){ lsn, off, bytes };
}

/* The place stays until many are empty, so that taking out a million costs no million moves. */
static void forget(struct wal_dead *d, uint64_t lsn)
{
    struct place *p = find(d, lsn);
    size_t kept = 0;

    if (!p)
        return;
    d->live -= p->bytes;
    d->live_n--;
    p->bytes = 0;
    if (d->live_n >= d->n / 2)
        return;
    for (size_t i = 0; i < d->n; i++)
        if (d->at[i].bytes)
            d->at[kept++] = d->at[i];
    d->n = kept;
}

/* --- reading
 * --------------------------------------------------------------------------------------------- */

int wal_dead_sync(struct wal_dead *d, struct err *e)
{
    return io_fdatasync(d->fd)
               ? err_errno(e, EXIT_IO, "wal: fdatasync dead letters of sink %s", d->name)
               : 0;
}

/* One entry; *n is 0 where none begins. */
static int read_entry(struct wal_dead *d, uint64_t off, uint64_t size, struct buf *b, size_t *n,
                      struct record *rec, struct err *e)
{
    uint8_t head[RECORD_HEADER];
    size_t got, want;

    *n = 0;
    if (file_read(d->fd, d->name, head, sizeof head, off, &got, e))
        return -1;
    want = format_align(format_get32(head));
    if (got < sizeof head || want < RECORD_HEADER || want > size - off)
        return 0;
    b->n = 0;
    buf_reserve(b, want);
    if (file_read(d->fd, d->name, b->p, want, off, &got, e))
        return -1;
    if (got == want)
        *n = format_get_record((const uint8_t *)b->p, want, rec, 0, off);
    return 0;
}

static int load(struct wal_dead *d, struct err *e)
{
    struct buf b = BUF_INIT;
    uint64_t size, off = 0, bad = UINT64_MAX;
    struct record rec;
    int rc = 0;
    size_t n;

    if (io_size(d->fd, &size))
        return err_errno(e, EXIT_IO, "wal: stat dead letters of sink %s", d->name);
    while (!rc && off + RECORD_HEADER <= size &&
           !(rc = read_entry(d, off, size, &b, &n, &rec, e))) {
        if (n) {
            if (bad < off)
                log_error("a damaged dead letter is passed over", KS("sink", d->name),
                          KU("off", bad));
            bad = UINT64_MAX;
            if (rec.kind == RECORD_MARKER)
                forget(d, rec.lsn);
            else
                remember(d, rec.lsn, off, n);
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
    int rc = -1;

    *d = (struct wal_dead){ .name = xstrdup(sink),
                            .dir = w->dir,
                            .path = xasprintf("%s/sink-%s.dead", w->dir, sink),
                            .tmp = xasprintf("%s/sink-%s.dead.tmp", w->dir, sink),
                            .max_bytes = max_bytes };
    io_unlink(d->tmp); /* where a crash cut a rewrite short */
    d->fd = io_open(d->path, O_RDWR | O_CREAT, 0600);
    if (d->fd < 0)
        err_errno(e, EXIT_IO, "wal: open %s", d->path);
    else
        rc = file_sync_dir(w->dir, e) ? -1 : load(d, e);
    if (rc) {
        wal_dead_close(d);
        d = NULL;
    }
    *out = d;
    return rc;
}

int wal_dead_read(struct wal_dead *d, uint64_t after, struct wal_letter *out, struct err *e)
{
    size_t i = after == UINT64_MAX ? d->n : place_of(d, after + 1), n;
    struct buf b = BUF_INIT;
    int rc;

    *out = (struct wal_letter){ .bytes = NULL };
    while (i < d->n && !d->at[i].bytes)
        i++;
    if (i == d->n)
        return 1;
    rc = read_entry(d, d->at[i].off, d->end, &b, &n, &out->rec, e);
    if (!rc && !n)
        rc = err_set(e, EXIT_DAMAGED, "wal: the dead letter of LSN %llu of sink %s is damaged",
                     (unsigned long long)d->at[i].lsn, d->name);
    if (!rc)
        dead_letter_decode(out);
    out->bytes = b.p;
    if (rc)
        wal_letter_free(out);
    return rc;
}

/* --- writing anew
 * ------------------------------------------------------------------------------------------ */

static int write_out(struct wal_dead *d, int fd, struct buf *out, uint64_t *end, struct err *e)
{
    int rc = file_write(fd, d->tmp, out->p, out->n, *end, e);

    *end += out->n;
    out->n = 0;
    return rc;
}

/* Copies the letters that are there; *places are where they stand then. */
static int copy_all(struct wal_dead *d, int fd, struct place *places, uint64_t *end, struct err *e)
{
    struct buf b = BUF_INIT, out = BUF_INIT;
    struct record rec;
    size_t n = 0, kept = 0;
    int rc = 0;

    *end = 0;
    for (size_t i = 0; i < d->n && !rc; i++) {
        if (!d->at[i].bytes)
            continue;
        rc = read_entry(d, d->at[i].off, d->end, &b, &n, &rec, e);
        if (!rc && !n)
            rc = err_set(e, EXIT_DAMAGED, "wal: the dead letter of LSN %llu is damaged",
                         (unsigned long long)d->at[i].lsn);
        if (rc)
            break;
        buf_reserve(&out, n);
        places[kept++] = (struct place){ d->at[i].lsn, *end + out.n, n };
        format_put_record((uint8_t *)out.p + out.n, &rec, 0, *end + out.n);
        out.n += n;
        if (out.n >= WRITE_BYTES)
            rc = write_out(d, fd, &out, end, e);
    }
    if (!rc)
        rc = write_out(d, fd, &out, end, e);
    buf_free(&b);
    buf_free(&out);
    return rc;
}

/* A crash leaves the old file or the new one, whole. Until the new name is durable the old file is
 * all that counts, and where anything fails it goes on being used. */
static int rewrite(struct wal_dead *d, struct err *e)
{
    struct place *places = xcalloc(d->live_n + 1, sizeof *places);
    int fd = io_open(d->tmp, O_RDWR | O_CREAT | O_TRUNC, 0600), rc = -1;
    uint64_t end;

    if (fd < 0)
        err_errno(e, EXIT_IO, "wal: create %s", d->tmp);
    else if (!copy_all(d, fd, places, &end, e))
        rc = io_fsync(fd) ? err_errno(e, EXIT_IO, "wal: fsync %s", d->tmp) : 0;
    if (!rc && io_rename(d->tmp, d->path))
        rc = err_errno(e, EXIT_IO, "wal: rename %s", d->tmp);
    if (rc) {
        if (fd >= 0)
            io_close(fd);
        io_unlink(d->tmp);
        free(places);
        return -1;
    }
    io_close(d->fd);
    free(d->at);
    d->fd = fd;
    d->end = end;
    d->at = places;
    d->n = d->cap = d->live_n;
    return file_sync_dir(d->dir, e) ? -2 : 0;
}

/* Whether there is room for more letters after it. -1 only where it is not known which of the two
 * files a crash would leave. */
static int compact(struct wal_dead *d, struct err *e)
{
    int rc = rewrite(d, e);

    if (rc == -1) {
        log_warn("the space of dead letters that were taken out could not be given back",
                 KS("sink", d->name), KS("reason", e->text));
        *e = (struct err)ERR_INIT;
    }
    return rc == -2 ? -1 : 0;
}

/* --- writing
 * ------------------------------------------------------------------------------------------------
 */

/* 1: it does not fit, not even where the file is written anew. */
static int make_room(struct wal_dead *d, size_t n, struct err *e)
{
    if (d->end + n <= d->max_bytes)
        return 0;
    if (d->live + n > d->max_bytes || d->live == d->end)
        return 1;
    if (compact(d, e))
        return -1;
    return d->end + n > d->max_bytes;
}

static int put(struct wal_dead *d, const struct wal_letter *l, struct err *e)
{
    struct buf headers = BUF_INIT;
    struct record dead = l->rec;
    size_t n;
    uint8_t *b;
    int rc;

    dead_letter_encode(l, &headers);
    dead.headers = buf_as_span(&headers);
    n = format_record_bytes(&dead);
    rc = make_room(d, n, e);
    if (!rc) {
        b = xcalloc(1, n);
        format_put_record(b, &dead, 0, d->end);
        rc = file_write(d->fd, d->name, b, n, d->end, e);
        free(b);
    }
    if (!rc) {
        remember(d, l->rec.lsn, d->end, n);
        d->end += n;
    }
    buf_free(&headers);
    return rc;
}

int wal_dead_put(struct wal_dead *d, const struct record *rec, const char *reason, struct err *e)
{
    int64_t now = clock_wall_ms();

    return find(d, rec->lsn)
               ? 0
               : put(d,
                     &(struct wal_letter){
                         .rec = *rec, .reason = span_str(reason), .first_ms = now, .last_ms = now },
                     e);
}

int wal_dead_refuse(struct wal_dead *d, const struct record *rec, const char *reason,
                    uint64_t attempts, struct err *e)
{
    struct wal_letter old = { .bytes = NULL }, l = { .rec = *rec, .reason = span_str(reason) };
    bool there = find(d, rec->lsn);
    int rc = there ? wal_dead_read(d, rec->lsn - 1, &old, e) : 0;

    if (rc)
        return -1;
    l.last_ms = clock_wall_ms();
    l.first_ms = there ? old.first_ms : l.last_ms;
    l.attempts = old.attempts + attempts;
    rc = put(d, &l, e);
    wal_letter_free(&old);
    if (rc == 1 && there)
        return 0; /* the letter is safe as it was */
    return rc ? rc : wal_dead_sync(d, e);
}

int wal_dead_remove(struct wal_dead *d, const uint64_t *lsns, size_t n, uint64_t *removed,
                    struct err *e)
{
    struct buf b = BUF_INIT;
    struct record marker = { .kind = RECORD_MARKER, .time_ms = clock_wall_ms() };
    uint64_t end = d->end;
    int rc;

    *removed = 0;
    for (size_t i = 0; i < n; i++) {
        if (!find(d, lsns[i]))
            continue;
        marker.lsn = lsns[i];
        buf_reserve(&b, RECORD_HEADER);
        format_put_record((uint8_t *)b.p + b.n, &marker, 0, end + b.n);
        b.n += RECORD_HEADER;
    }
    rc = b.n ? file_write(d->fd, d->name, b.p, b.n, end, e) : 0;
    if (!rc && b.n)
        rc = wal_dead_sync(d, e);
    if (!rc) {
        *removed = b.n / RECORD_HEADER;
        d->end += b.n;
        for (size_t i = 0; i < n; i++)
            forget(d, lsns[i]);
        if (d->live < d->end / 2 || !d->live)
            rc = compact(d, e);
    }
    buf_free(&b);
    return rc;
}

bool wal_dead_has(const struct wal_dead *d, uint64_t lsn)
{
    return find(d, lsn);
}

uint64_t wal_dead_count(const struct wal_dead *d)
{
    return d->live_n;
}

uint64_t wal_dead_bytes(const struct wal_dead *d)
{
    return d->live;
}

uint64_t wal_dead_last(const struct wal_dead *d)
{
    size_t i = d->n;

    while (i && !d->at[i - 1].bytes)
        i--;
    return i ? d->at[i - 1].lsn : 0;
}

size_t wal_dead_lsns(const struct wal_dead *d, uint64_t *out)
{
    size_t kept = 0;

    for (size_t i = 0; i < d->n; i++)
        if (d->at[i].bytes)
            out[kept++] = d->at[i].lsn;
    return kept;
}

void wal_dead_close(struct wal_dead *d)
{
    if (!d)
        return;
    if (d->fd >= 0)
        io_close(d->fd);
    free(d->at);
    free(d->name);
    free(d->path);
    free(d->tmp);
    free(d);
}
