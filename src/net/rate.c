/* SPDX-License-Identifier: Apache-2.0 */
/* Buckets as one number each, the time at which they are full again (GCRA): taking one is a compare
 * and swap. Hashes are keyed, so that nobody can choose addresses that meet. Where two threads race
 * for a place in the table one of them may get a fresh bucket: a request too many, at most. */
#include "rate.h"

#include <netinet/in.h>
#include <string.h>

#include "crypto.h"

#define WAYS 8
#define NS INT64_C(1000000000)

struct slot {
    _Atomic uint64_t key; /* 0: free */
    struct rate_bucket bucket;
};

struct rate_table {
    uint64_t secret[2];
    size_t sets;
    struct slot slots[];
};

struct rate_places {
    uint64_t secret[2];
    size_t mask;
    _Atomic uint32_t taken[];
};

bool rate_take(struct rate_bucket *b, uint64_t rate, uint64_t burst, int64_t now_us)
{
    int64_t each = NS / (int64_t)rate, now = now_us * 1000;
    int64_t ahead = each * (int64_t)burst;
    int64_t full = atomic_load_explicit(&b->full_ns, memory_order_relaxed), next;

    do {
        next = MAX(full, now) + each;
        if (next - now > ahead)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&b->full_ns, &full, next, memory_order_relaxed,
                                                    memory_order_relaxed));
    return true;
}

static uint64_t mix(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;

    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* Of the network alone: the bits behind its prefix are left out. */
static uint64_t hash(const uint64_t secret[2], const struct net_peer *p,
                     const struct net_prefixes *prefixes)
{
    unsigned bits = p->family == AF_INET ? prefixes->v4 : p->family == AF_INET6 ? prefixes->v6 : 0;
    uint8_t net[16] = { 0 };
    uint64_t half[2];

    memcpy(net, p->address, (bits + 7) / 8);
    if (bits % 8)
        net[bits / 8] &= (uint8_t)(0xff << (8 - bits % 8));
    memcpy(half, net, sizeof half);
    return mix(mix(half[0] ^ secret[0], secret[1] ^ (uint64_t)p->family) ^ half[1],
               secret[0] ^ UINT64_C(0x9e3779b97f4a7c15)) |
           1;
}

static size_t power_of_two(size_t n)
{
    size_t p = 1;

    while (p < n)
        p *= 2;
    return p;
}

struct rate_table *rate_table_new(size_t buckets)
{
    size_t sets = power_of_two((buckets + WAYS - 1) / WAYS);
    struct rate_table *t = xcalloc(1, sizeof *t + sets * WAYS * sizeof t->slots[0]);

    t->sets = sets;
    crypto_random(t->secret, sizeof t->secret);
    return t;
}

void rate_table_free(struct rate_table *t)
{
    free(t);
}

struct rate_bucket *rate_table_find(struct rate_table *t, const struct net_peer *p,
                                    const struct net_prefixes *prefixes)
{
    uint64_t key = hash(t->secret, p, prefixes);
    struct slot *set = &t->slots[(key >> 1 & (t->sets - 1)) * WAYS], *oldest = set;

    for (int i = 0; i < WAYS; i++) {
        if (atomic_load_explicit(&set[i].key, memory_order_relaxed) == key)
            return &set[i].bucket;
        if (atomic_load_explicit(&set[i].bucket.full_ns, memory_order_relaxed) <
            atomic_load_explicit(&oldest->bucket.full_ns, memory_order_relaxed))
            oldest = &set[i];
    }
    atomic_store_explicit(&oldest->key, key, memory_order_relaxed);
    atomic_store_explicit(&oldest->bucket.full_ns, 0, memory_order_relaxed);
    return &oldest->bucket;
}

struct rate_places *rate_places_new(size_t places)
{
    size_t n = power_of_two(places);
    struct rate_places *c = xcalloc(1, sizeof *c + n * sizeof c->taken[0]);

    c->mask = n - 1;
    crypto_random(c->secret, sizeof c->secret);
    return c;
}

void rate_places_free(struct rate_places *c)
{
    free(c);
}

int64_t rate_places_take(struct rate_places *c, const struct net_peer *p,
                         const struct net_prefixes *prefixes, uint32_t most)
{
    size_t place = hash(c->secret, p, prefixes) >> 1 & c->mask;

    if (atomic_fetch_add_explicit(&c->taken[place], 1, memory_order_relaxed) < most)
        return (int64_t)place;
    rate_places_give(c, (int64_t)place);
    return -1;
}

void rate_places_give(struct rate_places *c, int64_t place)
{
    atomic_fetch_sub_explicit(&c->taken[place], 1, memory_order_relaxed);
}
