/* SPDX-License-Identifier: Apache-2.0 */
/* The last run of a sink: a small file of its own, replaced whole. It may lag: what was sent since
 * it was written is sent again after a crash. */
#include <stdio.h>
#include <string.h>

#include "crc32c.h"
#include "dead.h"
#include "log.h"
#include "room.h"

#define HEAD 112
static const char magic[8] = "HOOKRUN1";

static char *file_name(const char *sink)
{
    return xasprintf("sink-%s.run", sink);
}

/* 0 magic, 8 kind, 12 state, 16 id, 32 from, 40 to, 48 at, 56 total, 64 delivered, 72 dead,
 * 80 started, 88 ended, 96 length of the reason, 104 count of LSNs; reason; LSNs; CRC of all */
static size_t encode(const struct wal_run *r, size_t reason_n, uint8_t *b)
{
    const uint64_t v[] = { r->from,
                           r->to,
                           r->at,
                           r->total,
                           r->delivered,
                           r->dead,
                           (uint64_t)r->started_ms,
                           (uint64_t)r->ended_ms,
                           reason_n,
                           r->lsns_n };
    uint8_t *p = b + HEAD;

    memcpy(b, magic, 8);
    format_put32(b + 8, r->kind);
    format_put32(b + 12, r->state);
    memcpy(b + 16, r->id, RUN_ID_BYTES);
    for (size_t i = 0; i < ARRAY_LEN(v); i++)
        format_put64(b + 32 + 8 * i, v[i]);
    p = mempcpy(p, r->reason, reason_n);
    for (size_t i = 0; i < r->lsns_n; i++, p += 8)
        format_put64(p, r->lsns[i]);
    format_put32(p, crc32c(0, b, (size_t)(p - b)));
    return (size_t)(p - b) + 4;
}

int wal_run_save(struct wal *w, const char *sink, const struct wal_run *run, struct err *e)
{
    size_t reason_n = strlen(run->reason);
    uint8_t *b = xcalloc(1, HEAD + reason_n + 8 * run->lsns_n + 4);
    char *name = file_name(sink);
    int rc = file_replace(w->dir, name, b, encode(run, reason_n, b), e);

    free(name);
    free(b);
    return rc;
}

static bool decode(const uint8_t *b, size_t n, struct wal_run *r)
{
    uint64_t v[10];

    if (n < HEAD + 4 || memcmp(b, magic, 8) || format_get32(b + n - 4) != crc32c(0, b, n - 4))
        return false;
    for (size_t i = 0; i < ARRAY_LEN(v); i++)
        v[i] = format_get64(b + 32 + 8 * i);
    if (format_get32(b + 8) - RUN_REPLAY > RUN_REDRIVE - RUN_REPLAY ||
        format_get32(b + 12) > RUN_CANCELLED || v[8] >= sizeof r->reason || v[9] > n / 8 ||
        n != HEAD + v[8] + 8 * v[9] + 4)
        return false;
    *r = (struct wal_run){ .kind = (enum wal_run_kind)format_get32(b + 8),
                           .state = (enum wal_run_state)format_get32(b + 12),
                           .from = v[0],
                           .to = v[1],
                           .at = v[2],
                           .total = v[3],
                           .delivered = v[4],
                           .dead = v[5],
                           .started_ms = (int64_t)v[6],
                           .ended_ms = (int64_t)v[7],
                           .lsns_n = v[9] };
    memcpy(r->id, b + 16, RUN_ID_BYTES);
    memcpy(r->reason, b + HEAD, v[8]);
    if (r->lsns_n)
        r->lsns = xcalloc(r->lsns_n, sizeof *r->lsns);
    for (size_t i = 0; i < r->lsns_n; i++)
        r->lsns[i] = format_get64(b + HEAD + v[8] + 8 * i);
    return true;
}

int wal_run_load(const struct wal *w, const char *sink, struct wal_run *run, struct err *e)
{
    char *name = file_name(sink), *b;
    size_t n;
    int rc = file_slurp(w->dir, name, &b, &n, e);

    *run = (struct wal_run){ .lsns = NULL };
    if (!rc && !decode((uint8_t *)b, n, run)) {
        log_warn("the file of the last replay or redrive is damaged and passed over",
                 KS("file", name));
        rc = 1;
    }
    free(name);
    free(b);
    return rc;
}

void wal_run_free(struct wal_run *run)
{
    free(run->lsns);
    run->lsns = NULL;
    run->lsns_n = 0;
}
