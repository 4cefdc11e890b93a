/* SPDX-License-Identifier: Apache-2.0 */
/* Epochs: at each start a sink that keeps its state on the other side makes a random number and
 * notes it here, synced, before it is used there. What is read back with a number that does not
 * stand here was written by somebody else: a copy of this folder, the original of this copy, or
 * what ran after the backup that this was restored from. A number counts only under the log id that
 * it was made for, so that a fork, which changes the id, begins without a past.
 *
 * The file grows by a block of empty entries, so that nearly every start finds room in it on a full
 * disk too. A torn or damaged entry is one that is not known, which blocks and skips nothing.
 * FENCED says that somebody else was met: this folder is not opened again by itself. */
#include "room.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "crc32c.h"
#include "crypto.h"
#include "log.h"

#define ENTRY 32
#define BLOCK 4096
#define ENTRIES_MAX 65536u /* a file that a crash loop fills is cut to its newer half */
#define WROTE 1u           /* state with this epoch was kept on the other side */

/* 0 log id, 16 epoch, 24 flags, 28 CRC */
static void put_entry(const struct wal *w, uint8_t out[ENTRY], uint64_t epoch, uint32_t flags)
{
    memcpy(out, w->log_id, 16);
    format_put64(out + 16, epoch);
    format_put32(out + 24, flags);
    format_put32(out + 28, crc32c(0, out, 28));
}

static bool is_ours(const struct wal *w, const uint8_t *in)
{
    return format_get32(in + 28) == crc32c(0, in, 28) && !memcmp(in, w->log_id, 16);
}

static char *file_name(const char *sink)
{
    return xasprintf("sink-%s.epochs", sink);
}

/* Whole entries of the file, *n of them; NULL where there is none. */
static char *entries(const struct wal *w, const char *sink, size_t *n, struct err *e)
{
    char *name = file_name(sink), *b;

    if (file_slurp(w->dir, name, &b, n, e))
        b = NULL;
    *n = b ? *n / ENTRY : 0;
    free(name);
    return b;
}

static int write_entry(const struct wal *w, const char *name, const uint8_t *p, size_t n,
                       uint64_t off, struct err *e)
{
    char *path = file_path(w->dir, name);
    int fd = io_open(path, O_WRONLY | O_CREAT, 0600), rc = -1;

    if (fd < 0)
        err_errno(e, EXIT_IO, "wal: open %s", path);
    else if (file_write(fd, name, p, n, off, e))
        rc = -1;
    else if (io_fsync(fd))
        err_errno(e, EXIT_IO, "wal: fsync %s", path);
    else
        rc = file_sync_dir(w->dir, e);
    if (fd >= 0)
        io_close(fd);
    free(path);
    return rc;
}

/* How many entries up to the last one that is right; behind it there is room. */
static size_t used(const char *b, size_t n)
{
    size_t i = n / ENTRY;

    for (; i; i--) {
        const uint8_t *in = (const uint8_t *)b + (i - 1) * ENTRY;
        if (format_get32(in + 28) == crc32c(0, in, 28))
            break;
    }
    return i;
}

static int note(struct wal *w, const char *sink, uint64_t epoch, uint32_t flags, struct err *e)
{
    char *name = file_name(sink), *b;
    uint8_t block[BLOCK] = { 0 };
    size_t size, n;
    int rc = file_slurp(w->dir, name, &b, &size, e);

    put_entry(w, block, epoch, flags);
    n = rc ? 0 : used(b, size);
    if (n >= ENTRIES_MAX) {
        size_t keep = ENTRIES_MAX / 2;
        rc = file_replace(w->dir, name, b + (n - keep) * ENTRY, keep * ENTRY, e);
        n = keep;
        size = keep * ENTRY;
    }
    if (rc >= 0)
        rc = write_entry(w, name, block, (n + 1) * ENTRY <= size ? ENTRY : BLOCK, n * ENTRY, e);
    free(b);
    free(name);
    return rc;
}

int wal_epoch_make(struct wal *w, const char *sink, uint64_t *epoch, struct err *e)
{
    do
        crypto_random(epoch, sizeof *epoch);
    while (!*epoch);
    return note(w, sink, *epoch, 0, e);
}

int wal_epoch_wrote(struct wal *w, const char *sink, uint64_t epoch, struct err *e)
{
    return note(w, sink, epoch, WROTE, e);
}

bool wal_epoch_known(const struct wal *w, const char *sink, uint64_t epoch)
{
    struct err ignored = ERR_INIT;
    size_t n;
    char *b = entries(w, sink, &n, &ignored);
    bool known = false;

    for (size_t i = 0; i < n && !known; i++) {
        const uint8_t *in = (const uint8_t *)b + i * ENTRY;
        known = is_ours(w, in) && format_get64(in + 16) == epoch;
    }
    free(b);
    return known;
}

bool wal_epoch_has_written(const struct wal *w, const char *sink)
{
    struct err ignored = ERR_INIT;
    size_t n;
    char *b = entries(w, sink, &n, &ignored);
    bool has = false;

    for (size_t i = 0; i < n && !has; i++) {
        const uint8_t *in = (const uint8_t *)b + i * ENTRY;
        has = is_ours(w, in) && (format_get32(in + 24) & WROTE);
    }
    free(b);
    return has;
}

int wal_record_crc(struct wal *w, uint64_t lsn, uint32_t *crc, struct err *e)
{
    struct wal_reader *r;
    struct record rec;
    int rc = 1;

    if (!lsn)
        return 1;
    if (wal_reader_open(&r, w, lsn - 1, e))
        return -1;
    switch (wal_reader_next(r, &rec, NULL, e)) {
    case WAL_READ_OK:
        rc = rec.kind == RECORD_LOST; /* damaged, and set aside: nothing to compare with */
        if (!rc)
            *crc = record_crc(&rec);
        break;
    case WAL_READ_DAMAGED:
        rc = -1;
        break;
    case WAL_READ_END:
    case WAL_READ_GONE:
        break;
    }
    wal_reader_close(r);
    return rc;
}

/* --- FENCED
 * ------------------------------------------------------------------------------------------ */

#define FENCED "FENCED"

int wal_fence(struct wal *w, const char *text, struct err *e)
{
    return file_replace(w->dir, FENCED, text, strlen(text), e);
}

int fence_lift(const char *dir, struct err *e)
{
    char *path = file_path(dir, FENCED);
    int rc = 0;

    if (!io_unlink(path))
        rc = file_sync_dir(dir, e);
    else if (errno != ENOENT)
        rc = err_errno(e, EXIT_IO, "wal: unlink %s", path);
    free(path);
    return rc;
}

int fence_check(struct wal *w, struct err *e)
{
    char *text;
    size_t n;
    int rc = file_slurp(w->dir, FENCED, &text, &n, e);

    if (rc < 0)
        return -1;
    if (w->cfg.takeover)
        log_warn("this log is taken over from whoever met it", KS("dir", w->dir),
                 KS("fenced", rc ? "no" : "yes"));
    if (rc)
        return 0;
    if (w->cfg.takeover)
        rc = fence_lift(w->dir, e);
    else
        rc = err_set(e, EXIT_TEMPORARY,
                     "wal: this log was fenced: %.*s; if the other one is gone for good, start it "
                     "with `hookline serve --takeover`; if both shall live, give this one a new id "
                     "with `hookline log fork %s`",
                     (int)strcspn(text, "\n"), text, w->dir);
    free(text);
    return rc;
}

bool wal_taken_over(const struct wal *w)
{
    return w->cfg.takeover;
}
