/* SPDX-License-Identifier: Apache-2.0 */
/* The files that keep what was damaged, NUMBER-OFFSET.bad: for a look, and for the one who can read
 * more out of them. They name the LSNs that were lost, and stay until somebody removes them.
 *
 *   0 magic, 8 segment, 16 offset, 24 bytes kept, 32 first and 40 last LSN lost (0: none),
 *   48 CRC of what stands before, 52 CRC of the bytes; the bytes from 56 on */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "crc32c.h"
#include "log.h"
#include "mend.h"

#define HEAD 56
static const char magic[8] = "HOOKBAD1";

static void encode(uint8_t *b, const struct loss *l, const uint8_t *bytes)
{
    memset(b, 0, HEAD);
    memcpy(b, magic, 8);
    format_put64(b + 8, l->segment);
    format_put64(b + 16, l->offset);
    format_put64(b + 24, l->bytes);
    format_put64(b + 32, l->first_lsn);
    format_put64(b + 40, l->last_lsn);
    memcpy(b + HEAD, bytes, (size_t)l->bytes);
    format_put32(b + 48, crc32c(0, b, 48));
    format_put32(b + 52, crc32c(0, bytes, (size_t)l->bytes));
}

/* A repair that was killed keeps the same bytes again; other bytes of the same place get a name of
 * their own. */
int quarantine_keep(const char *dir, const struct loss *l, const uint8_t *bytes, char name[64],
                    struct err *e)
{
    size_t n = HEAD + (size_t)l->bytes, there_n;
    uint8_t *b = xmalloc(n);
    char *there = NULL;
    int rc = 0;

    encode(b, l, bytes);
    snprintf(name, 64, "%016llu-%llu.bad", (unsigned long long)l->segment,
             (unsigned long long)l->offset);
    for (unsigned i = 2; !(rc = file_slurp(dir, name, &there, &there_n, e)); i++) {
        bool same = there_n == n && !memcmp(there, b, n);
        free(there);
        if (same)
            break;
        snprintf(name, 64, "%016llu-%llu-%u.bad", (unsigned long long)l->segment,
                 (unsigned long long)l->offset, i);
    }
    if (rc > 0)
        rc = file_replace(dir, name, b, n, e);
    free(b);
    return rc;
}

bool quarantine_read(const char *dir, const char *name, struct loss *l)
{
    struct err ignored = ERR_INIT;
    char *path = file_path(dir, name);
    int fd = strstr(name, ".bad") ? io_open(path, O_RDONLY, 0) : -1;
    uint8_t b[HEAD];
    size_t got = 0;
    bool good;

    good = fd >= 0 && !file_read(fd, path, b, sizeof b, 0, &got, &ignored) && got == sizeof b &&
           !memcmp(b, magic, 8) && format_get32(b + 48) == crc32c(0, b, 48);
    if (good)
        *l = (struct loss){ format_get64(b + 8), format_get64(b + 16), format_get64(b + 24),
                            format_get64(b + 32), format_get64(b + 40) };
    if (fd >= 0)
        io_close(fd);
    free(path);
    return good;
}

int quarantine_move(const char *dir, const char *name, const char *as, char to[64], struct err *e)
{
    char *from, *path;
    int rc;

    snprintf(to, 64, "%s.bad", as);
    for (unsigned i = 2; (rc = file_exists(dir, to, e)) > 0; i++)
        snprintf(to, 64, "%s-%u.bad", as, i);
    if (rc)
        return -1;
    from = file_path(dir, name);
    path = file_path(dir, to);
    rc = io_rename(from, path) ? err_errno(e, EXIT_IO, "wal: rename %s", from)
                               : file_sync_dir(dir, e);
    free(from);
    free(path);
    return rc;
}

void quarantine_log(const struct loss *l, const char *kept, uint64_t delivered_lsn)
{
    char name[32];

    segment_name(l->segment, name);
    if (!l->first_lsn)
        log_warn("damage was set aside; no event is lost", KS("seg", name), KU("off", l->offset),
                 KS("kept", kept));
    else if (l->last_lsn <= delivered_lsn)
        log_warn("damaged events that every sink has were set aside", KS("seg", name),
                 KU("off", l->offset), KU("lsn", l->first_lsn), KU("last_lsn", l->last_lsn),
                 KS("kept", kept));
    else
        log_error("damaged events are lost; they were set aside", KS("seg", name),
                  KU("off", l->offset), KU("lsn", l->first_lsn), KU("last_lsn", l->last_lsn),
                  KS("kept", kept));
}

static bool was_lost(const struct mend *m, uint64_t lsn)
{
    for (size_t i = 0; i < m->n; i++)
        if (m->v[i].kind == PATCH_LOST && lsn >= m->v[i].first_lsn && lsn <= m->v[i].last_lsn)
            return true;
    return false;
}

int quarantine_forget(struct wal *w, const struct mend *m, uint64_t delivered_lsn, struct err *e)
{
    struct sidecar sc;
    size_t kept = 0, n;
    int rc = 0;

    if (sidecar_read(w, m->head.number, &sc))
        return 0; /* it is made again from what is left */
    n = sc.n;
    for (size_t i = 0; i < n; i++)
        if (sc.v[i].lsn <= delivered_lsn || !was_lost(m, sc.v[i].lsn))
            sc.v[kept++] = sc.v[i];
    sc.n = kept;
    if (kept < n)
        rc = sidecar_write(w, &sc, e);
    sidecar_free(&sc);
    return rc;
}
