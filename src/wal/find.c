/* SPDX-License-Identifier: Apache-2.0 */
/* Finding by time and by id, with the help of the sidecars: what a sealed segment holds is known
 * without reading it. A segment whose sidecar is missing or does not have everything is read. */
#include "room.h"

#define SEGMENTS_A_CALL 16

/* The first sealed segment that may hold a record behind `after`, or the active one, as a copy. */
static bool next_segment(struct wal *w, uint64_t after, int64_t not_before_ms, struct segment *copy)
{
    bool found = false;

    pthread_mutex_lock(&w->lock);
    for (size_t i = 0; i < w->segs_n && !found; i++) {
        const struct segment *s = w->segs[i];
        if (s->sealed && (s->last_lsn <= after || (s->last_ms && s->last_ms < not_before_ms)))
            continue;
        *copy = (struct segment){ .number = s->number,
                                  .first_lsn = s->first_lsn,
                                  .last_lsn = s->sealed ? s->last_lsn : UINT64_MAX,
                                  .sealed = s->sealed,
                                  .has_sidecar = s->has_sidecar,
                                  .has_ids = s->has_ids,
                                  .ids = s->ids };
        found = true;
    }
    pthread_mutex_unlock(&w->lock);
    return found;
}

/* --- by time
 * ------------------------------------------------------------------------------------------ */

/* From its records, up to its end; 0: none. Where it is damaged nobody knows: who reads from there
 * is told. */
static uint64_t read_for_time(struct wal *w, const struct segment *s, uint64_t after, int64_t ms)
{
    struct err ignored = ERR_INIT;
    struct wal_reader *r;
    struct record rec = { .lsn = MAX(after, s->first_lsn - 1) };
    uint64_t found = 0;

    if (wal_reader_open(&r, w, rec.lsn, &ignored))
        return 0;
    while (!found && rec.lsn < s->last_lsn)
        switch (wal_reader_next(r, &rec, NULL, &ignored)) {
        case WAL_READ_OK:
            found = rec.time_ms >= ms ? rec.lsn : 0;
            break;
        case WAL_READ_DAMAGED:
            found = rec.lsn + 1;
            break;
        case WAL_READ_GONE:
        case WAL_READ_END:
            rec.lsn = s->last_lsn;
            break;
        }
    wal_reader_close(r);
    return found;
}

/* From its sidecar, where that has an entry for each record. */
static bool ask_sidecar(const struct wal *w, const struct segment *s, uint64_t after, int64_t ms,
                        uint64_t *found)
{
    struct sidecar sc;
    bool whole = s->has_sidecar && !sidecar_read(w, s->number, &sc);

    *found = 0;
    if (!whole)
        return false;
    whole = sc.last_lsn == s->last_lsn && sc.n == s->last_lsn - s->first_lsn + 1;
    for (size_t i = 0; whole && !*found && i < sc.n; i++)
        if (sc.v[i].lsn > after && sc.v[i].time_ms >= ms)
            *found = sc.v[i].lsn;
    sidecar_free(&sc);
    return whole;
}

uint64_t wal_lsn_at_time(struct wal *w, int64_t wall_ms)
{
    uint64_t after = atomic_load(&w->first_lsn) - 1, found = 0;
    struct segment s;

    while (!found && next_segment(w, after, wall_ms - WAL_DISORDER_MS, &s)) {
        if (!ask_sidecar(w, &s, after, wall_ms, &found))
            found = read_for_time(w, &s, after, wall_ms);
        if (!s.sealed)
            break;
        after = s.last_lsn;
    }
    return found ? found : atomic_load(&w->durable_lsn) + 1;
}

/* --- by id
 * ------------------------------------------------------------------------------------------ */

struct wal_part wal_find_id(struct wal *w, struct span id, uint64_t after)
{
    uint32_t hash = dedup_id_hash(w->dedup_key, id);
    struct segment s;
    uint64_t lsn;

    for (int i = 0; i < SEGMENTS_A_CALL; i++) {
        if (!next_segment(w, after, INT64_MIN, &s)) /* none takes records now */
            return (struct wal_part){ after + 1, UINT64_MAX };
        switch (s.has_ids ? ids_find(w, &s, hash, after, &lsn) : IDS_UNKNOWN) {
        case IDS_MAYBE:
            return (struct wal_part){ lsn, lsn };
        case IDS_UNKNOWN:
            return (struct wal_part){ MAX(after + 1, s.first_lsn), s.last_lsn };
        case IDS_NONE:
            after = s.last_lsn;
            break;
        }
    }
    return (struct wal_part){ after + 1, after };
}
