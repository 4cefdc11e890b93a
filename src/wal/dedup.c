/* SPDX-License-Identifier: Apache-2.0 */
/* The deduplication index (P6): which deliveries were logged, and as which LSN.
 *
 * A ring of a fixed number of entries in the order of their LSNs, and a table of chains over it.
 * When the ring is full the oldest entry makes room, so memory is bounded; pages that were never
 * used cost nothing. Keys are 128-bit keyed hashes: a stranger cannot make two deliveries collide.
 * Only the log thread touches it. */
#include "room.h"

#include <string.h>

#include "crc32c.h"

struct slot {
    struct sidecar_entry e;
    uint32_t next; /* of the chain, + 1; 0 ends it */
};

struct dedup {
    struct slot *ring;
    uint32_t *heads; /* index into ring, + 1 */
    size_t cap, buckets;
    size_t n, first; /* used, and the oldest */
    int64_t window_ms;
};

struct dedup *dedup_new(const struct wal_dedup_cfg *cfg)
{
    struct dedup *d = xcalloc(1, sizeof *d);

    d->cap = (size_t)cfg->entries;
    d->window_ms = cfg->window_ms;
    d->buckets = 1;
    while (d->buckets < d->cap)
        d->buckets *= 2;
    d->ring = xcalloc(d->cap ? d->cap : 1, sizeof *d->ring);
    d->heads = xcalloc(d->buckets, sizeof *d->heads);
    return d;
}

void dedup_free(struct dedup *d)
{
    if (!d)
        return;
    free(d->ring);
    free(d->heads);
    free(d);
}

void dedup_configure(struct dedup *d, const struct wal_dedup_cfg *cfg)
{
    d->window_ms = cfg->window_ms;
}

/* Lengths stand before the texts, so that ("ab","c") and ("a","bc") differ. */
void dedup_key(const uint8_t secret[16], const struct record *rec, uint8_t out[16])
{
    const struct span parts[] = { rec->source, rec->id, rec->type };
    struct siphash h;

    siphash_init(&h, secret);
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        uint8_t n[8];
        format_put64(n, parts[i].n);
        siphash_add(&h, n, sizeof n);
        siphash_add(&h, parts[i].p, parts[i].n);
    }
    siphash_end(&h, out);
}

static uint32_t *head_of(const struct dedup *d, const uint8_t key[16])
{
    return &d->heads[format_get64(key) & (d->buckets - 1)];
}

const struct sidecar_entry *dedup_find(const struct dedup *d, const uint8_t key[16], int64_t now_ms)
{
    for (uint32_t at = *head_of(d, key); at; at = d->ring[at - 1].next) {
        const struct sidecar_entry *e = &d->ring[at - 1].e;
        if (!memcmp(e->key, key, 16))
            return now_ms - e->time_ms <= d->window_ms ? e : NULL;
    }
    return NULL;
}

static void drop_oldest(struct dedup *d)
{
    uint32_t oldest = (uint32_t)d->first + 1, *at = head_of(d, d->ring[d->first].e.key);

    while (*at != oldest)
        at = &d->ring[*at - 1].next;
    *at = d->ring[d->first].next;
    d->first = (d->first + 1) % d->cap;
    d->n--;
}

void dedup_claim(struct dedup *d, const struct sidecar_entry *entry)
{
    uint32_t *head = head_of(d, entry->key);
    size_t i;

    if (!d->cap)
        return;
    if (d->n == d->cap)
        drop_oldest(d);
    i = (d->first + d->n++) % d->cap;
    d->ring[i] = (struct slot){ .e = *entry, .next = *head };
    *head = (uint32_t)i + 1;
}

int64_t dedup_oldest_ms(const struct dedup *d)
{
    return d->n ? d->ring[d->first].e.time_ms : 0;
}

size_t dedup_count(const struct dedup *d)
{
    return d->n;
}
