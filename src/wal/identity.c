/* SPDX-License-Identifier: Apache-2.0 */
/* The file `id`: what names this log, the key of its deduplication hashes, and the names that it
 * had before it was forked. Segments carry the name that the log had when they were made, so a fork
 * changes this one file, atomically, and nothing else: segments under an older name stay readable
 * here, and what sinks keep under it on the other side is no longer ours. */
#include "room.h"

#include <stdio.h>
#include <string.h>

#include "crc32c.h"
#include "crypto.h"

#define FIRST_BYTES 44 /* of a log that was never forked */
#define OLD_AT 44
#define OLD_MAX 4096
static const char magic_first[8] = "HOOKLID1", magic_forked[8] = "HOOKLID2";

void identity_text(const uint8_t id[16], char out[LOG_ID_TEXT_MAX])
{
    struct buf hex = BUF_INIT;
    const char *h;

    buf_hex(&hex, span_of(id, 16));
    h = buf_cstr(&hex);
    snprintf(out, LOG_ID_TEXT_MAX, "%.8s-%.4s-%.4s-%.4s-%.12s", h, h + 8, h + 12, h + 16, h + 20);
    buf_free(&hex);
}

static void new_id(uint8_t id[16])
{
    crypto_random(id, 16);
    id[6] = (uint8_t)((id[6] & 0x0f) | 0x40); /* a random UUID, RFC 9562 section 5.4 */
    id[8] = (uint8_t)((id[8] & 0x3f) | 0x80);
}

/* 0 magic, 8 log id, 24 key, then the CRC; forked: 40 how many older ids, 44 they, the CRC */
static int write_identity(const struct wal *w, struct err *e)
{
    size_t n = w->old_ids_n ? OLD_AT + 16 * w->old_ids_n + 4 : FIRST_BYTES;
    uint8_t *b = xcalloc(1, n);
    int rc;

    memcpy(b, w->old_ids_n ? magic_forked : magic_first, 8);
    memcpy(b + 8, w->log_id, 16);
    memcpy(b + 24, w->dedup_key, 16);
    if (w->old_ids_n) {
        format_put32(b + 40, (uint32_t)w->old_ids_n);
        memcpy(b + OLD_AT, w->old_ids, 16 * w->old_ids_n);
    }
    format_put32(b + n - 4, crc32c(0, b, n - 4));
    rc = file_replace(w->dir, "id", b, n, e);
    free(b);
    return rc;
}

bool identity_is_right(const uint8_t *b, size_t n)
{
    bool forked;
    size_t old;

    if (n < FIRST_BYTES || format_get32(b + n - 4) != crc32c(0, b, n - 4))
        return false;
    forked = !memcmp(b, magic_forked, 8);
    old = forked ? format_get32(b + 40) : 0;
    return (forked || !memcmp(b, magic_first, 8)) && old <= OLD_MAX &&
           n == (old ? OLD_AT + 16 * old + 4 : FIRST_BYTES);
}

/* Right, and of a format that came after this release. */
static bool is_newer(const uint8_t *b, size_t n)
{
    return n > sizeof magic_forked && !memcmp(b, magic_forked, 7) && b[7] > magic_forked[7] &&
           format_get32(b + n - 4) == crc32c(0, b, n - 4);
}

int identity_refuse_newer(const char *dir, const uint8_t *b, size_t n, struct err *e)
{
    return is_newer(b, n)
               ? err_set(e, EXIT_BAD_CONFIG,
                         "wal: the file %s/id was written by a newer release: use that release",
                         dir)
               : 0;
}

static bool read_identity(struct wal *w, const uint8_t *b, size_t n)
{
    size_t old;

    if (!identity_is_right(b, n))
        return false;
    old = memcmp(b, magic_forked, 8) ? 0 : format_get32(b + 40);
    memcpy(w->log_id, b + 8, 16);
    memcpy(w->dedup_key, b + 24, 16);
    w->old_ids_n = old;
    if (old) {
        w->old_ids = xcalloc(old, 16);
        memcpy(w->old_ids, b + OLD_AT, 16 * old);
    }
    return true;
}

/* A log has its name in its segments too, but the key of its hashes only here: with another one
 * every repeat would be taken for new. */
static int refuse(const struct wal *w, const char *what, struct err *e)
{
    return err_set(e, EXIT_DAMAGED, "wal: the file %s/id is %s; run 'hookline log repair'", w->dir,
                   what);
}

static int make_identity(struct wal *w, struct err *e)
{
    char **names;
    size_t n;

    if (file_list_numbered(w->dir, ".wal", &names, &n, e))
        return -1;
    file_names_free(names, n);
    if (n)
        return refuse(w, "missing", e);
    new_id(w->log_id);
    crypto_random(w->dedup_key, sizeof w->dedup_key);
    return write_identity(w, e);
}

/* 0, 1 where there is none, -1. */
static int find_identity(struct wal *w, struct err *e)
{
    char *b;
    size_t n;
    int rc = file_slurp(w->dir, "id", &b, &n, e);

    if (!rc && identity_refuse_newer(w->dir, (const uint8_t *)b, n, e))
        rc = -1;
    else if (!rc && !read_identity(w, (const uint8_t *)b, n))
        rc = refuse(w, "damaged", e);
    free(b);
    identity_text(w->log_id, w->id);
    return rc;
}

int identity_load(struct wal *w, struct err *e)
{
    int rc = find_identity(w, e);

    if (rc == 1) {
        rc = make_identity(w, e);
        identity_text(w->log_id, w->id);
    }
    return rc;
}

bool identity_is_ours(const struct wal *w, const uint8_t id[16])
{
    bool ours = !memcmp(id, w->log_id, 16);

    for (size_t i = 0; i < w->old_ids_n && !ours; i++)
        ours = !memcmp(id, w->old_ids + 16 * i, 16);
    return ours;
}

bool identity_peek(const char *dir, char out[LOG_ID_TEXT_MAX])
{
    struct wal w = { .dir = (char *)(uintptr_t)dir };
    struct err ignored = ERR_INIT;
    bool found = find_identity(&w, &ignored) == 0;

    if (found)
        memcpy(out, w.id, LOG_ID_TEXT_MAX);
    free(w.old_ids);
    return found;
}

int wal_fork(const char *dir, char before[LOG_ID_TEXT_MAX], char now[LOG_ID_TEXT_MAX],
             struct err *e)
{
    struct wal w = { .dir = (char *)(uintptr_t)dir, .lock_fd = -1 };
    int rc = -1, found;

    if (wal_lock(&w, e) || (found = find_identity(&w, e)) < 0)
        goto out;
    if (found) {
        err_set(e, EXIT_IO, "no log in %s", dir);
        goto out;
    }
    if (w.old_ids_n == OLD_MAX) {
        err_set(e, EXIT_BAD_CONFIG, "the log in %s was forked too often", dir);
        goto out;
    }
    memcpy(before, w.id, LOG_ID_TEXT_MAX);
    w.old_ids = xrealloc(w.old_ids, 16 * (w.old_ids_n + 1));
    memcpy(w.old_ids + 16 * w.old_ids_n++, w.log_id, 16);
    new_id(w.log_id);
    identity_text(w.log_id, now);
    rc = write_identity(&w, e) || fence_lift(dir, e) ? -1 : 0;
out:
    if (w.lock_fd >= 0)
        io_close(w.lock_fd);
    free(w.old_ids);
    return rc;
}
