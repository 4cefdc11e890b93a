/* SPDX-License-Identifier: Apache-2.0 */
/* The sidecar of a sealed segment, NUMBER.idx: what starting up needs to know of it without reading
 * it, the keys that the deduplication index is rebuilt from, and the ids. Derivable: a missing or
 * bad one is built again. It outlives its segment until the deduplication window has passed.
 *
 *   0 magic, 8 number, 16 first LSN, 24 last LSN, 32 end, 40 first ms, 48 last ms, 56 chain,
 *   60 entries; each 40 bytes: key 16, LSN 8, ms 8, CRC of the body 4, zero 4; CRC of all 4;
 *   from the next multiple of 4096 on the ids (ids.c), unless some are not known */
#include "room.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "crc32c.h"

#define HEAD 64
#define ENTRY 40
static const char magic[8] = "HOOKIDX2";

static void name_of(uint64_t number, char out[32])
{
    snprintf(out, 32, "%016llu.idx", (unsigned long long)number);
}

static size_t entries_end(size_t n)
{
    return HEAD + n * ENTRY + 4;
}

static size_t ids_start(size_t n)
{
    return (entries_end(n) + IDS_BLOCK - 1) / IDS_BLOCK * IDS_BLOCK;
}

static size_t whole_size(size_t n)
{
    return ids_start(n) + ids_blocks(n) * IDS_BLOCK;
}

static void take_record(struct wal *w, struct sidecar *sc, size_t *cap, const struct record *rec)
{
    if (!sc->first_ms)
        sc->first_ms = rec->time_ms;
    sc->last_ms = rec->time_ms;
    if (!sc->first_lsn)
        sc->first_lsn = rec->lsn;
    sc->last_lsn = format_last_lsn(rec);
    if (!rec->id.n)
        return;
    if (sc->n == *cap) {
        *cap = *cap ? *cap * 2 : 256;
        sc->v = xrealloc(sc->v, *cap * sizeof *sc->v);
    }
    sc->v[sc->n] = (struct sidecar_entry){ .lsn = rec->lsn,
                                           .time_ms = rec->time_ms,
                                           .body_crc = crc32c(0, rec->body.p, rec->body.n) };
    dedup_key(w->dedup_key, rec, sc->v[sc->n++].key);
}

/* Up to where the segment ends or the first damage; the readers name the damage. */
int sidecar_build(struct wal *w, const struct segment *s, struct sidecar *out, struct err *e)
{
    char *path = segment_path(w, s->number);
    int fd = io_open(path, O_RDONLY, 0), rc = -1;
    enum scan_result r = SCAN_END;
    struct record rec;
    struct scan sc;
    size_t cap = 0;

    *out =
        (struct sidecar){ .number = s->number, .end = s->end, .chain = s->chain, .has_ids = true };
    scan_init(&sc, fd, s, SEGMENT_HEADER);
    if (fd < 0) {
        err_errno(e, EXIT_IO, "wal: open %s", path);
        goto out;
    }
    while (sc.pos < s->end && (r = scan_batch(&sc, e)) == SCAN_BATCH)
        while (scan_record(&sc, &rec))
            if (rec.kind != RECORD_MARKER)
                take_record(w, out, &cap, &rec);
    rc = r == SCAN_ERROR ? -1 : 0;
out:
    scan_free(&sc);
    if (fd >= 0)
        io_close(fd);
    free(path);
    return rc;
}

int sidecar_write(struct wal *w, const struct sidecar *sc, struct err *e)
{
    size_t n = sc->has_ids ? whole_size(sc->n) : entries_end(sc->n);
    uint8_t *b = xcalloc(1, n), *p = b + HEAD;
    char name[32];
    int rc;

    memcpy(b, magic, 8);
    format_put64(b + 8, sc->number);
    format_put64(b + 16, sc->first_lsn);
    format_put64(b + 24, sc->last_lsn);
    format_put64(b + 32, sc->end);
    format_put64(b + 40, (uint64_t)sc->first_ms);
    format_put64(b + 48, (uint64_t)sc->last_ms);
    format_put32(b + 56, sc->chain);
    format_put32(b + 60, (uint32_t)sc->n);
    for (size_t i = 0; i < sc->n; i++, p += ENTRY) {
        memcpy(p, sc->v[i].key, 16);
        format_put64(p + 16, sc->v[i].lsn);
        format_put64(p + 24, (uint64_t)sc->v[i].time_ms);
        format_put32(p + 32, sc->v[i].body_crc);
    }
    format_put32(p, crc32c(0, b, entries_end(sc->n) - 4));
    if (sc->has_ids)
        ids_put(sc, b + ids_start(sc->n));
    name_of(sc->number, name);
    rc = file_replace(w->dir, name, b, n, e);
    free(b);
    return rc;
}

static int open_file(const struct wal *w, uint64_t number)
{
    char name[32], *path;
    int fd;

    name_of(number, name);
    path = file_path(w->dir, name);
    fd = io_open(path, O_RDONLY | O_CLOEXEC, 0);
    free(path);
    return fd;
}

/* Opens it and reads its head; -1: it is not there, or is none. */
static int open_head(const struct wal *w, uint64_t number, uint8_t head[HEAD], bool *has_ids)
{
    struct err ignored = ERR_INIT;
    int fd = open_file(w, number);
    uint64_t size = 0;
    size_t got, n;

    if (fd < 0)
        return -1;
    if (!file_read(fd, "sidecar", head, HEAD, 0, &got, &ignored) && got == HEAD &&
        !io_size(fd, &size) && !memcmp(head, magic, 8) && format_get64(head + 8) == number) {
        n = format_get32(head + 60);
        *has_ids = size == whole_size(n);
        if (*has_ids || size == entries_end(n))
            return fd;
    }
    io_close(fd);
    return -1;
}

static void take_entries(struct sidecar *sc, const uint8_t *p)
{
    sc->v = xcalloc(sc->n, sizeof *sc->v);
    for (size_t i = 0; i < sc->n; i++, p += ENTRY) {
        memcpy(sc->v[i].key, p, 16);
        sc->v[i].lsn = format_get64(p + 16);
        sc->v[i].time_ms = (int64_t)format_get64(p + 24);
        sc->v[i].body_crc = format_get32(p + 32);
    }
}

int sidecar_read(const struct wal *w, uint64_t number, struct sidecar *out)
{
    struct err ignored = ERR_INIT;
    uint8_t head[HEAD], *b;
    size_t got, n;
    bool has_ids;
    int rc = 1, fd = open_head(w, number, head, &has_ids);

    *out = (struct sidecar){ .n = 0 };
    if (fd < 0)
        return 1;
    n = entries_end(format_get32(head + 60));
    b = xmalloc(n);
    if (!file_read(fd, "sidecar", b, n, 0, &got, &ignored) && got == n && !memcmp(b, head, HEAD) &&
        format_get32(b + n - 4) == crc32c(0, b, n - 4)) {
        *out = (struct sidecar){ .number = number,
                                 .first_lsn = format_get64(b + 16),
                                 .last_lsn = format_get64(b + 24),
                                 .end = format_get64(b + 32),
                                 .first_ms = (int64_t)format_get64(b + 40),
                                 .last_ms = (int64_t)format_get64(b + 48),
                                 .chain = format_get32(b + 56),
                                 .n = format_get32(b + 60),
                                 .has_ids = has_ids };
        take_entries(out, b + HEAD);
        rc = 0;
    }
    io_close(fd);
    free(b);
    return rc;
}

int sidecar_open_ids(const struct wal *w, const struct segment *s, uint64_t *at, size_t *blocks)
{
    *at = ids_start(s->ids);
    *blocks = ids_blocks(s->ids);
    return open_file(w, s->number);
}

void sidecar_known(struct segment *s, const struct sidecar *sc)
{
    s->first_ms = sc->first_ms;
    s->has_sidecar = true;
    s->has_ids = sc->has_ids && sc->last_lsn == s->last_lsn;
    s->ids = s->has_ids ? (uint32_t)sc->n : 0;
}

void sidecar_free(struct sidecar *sc)
{
    free(sc->v);
    *sc = (struct sidecar){ .n = 0 };
}
