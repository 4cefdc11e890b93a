/* rate - how much of something one may have: token buckets, and how many at a time.
 *
 * Any thread; no locks. Tables have a fixed size whatever comes in (P8). */
#pragma once

#include <stdatomic.h>

#include "net.h"

/* One bucket: `rate` a second, and `burst` at once after a pause. Zero-initialised is full. */
struct rate_bucket {
    _Atomic int64_t full_ns; /* when it will be full again */
};
bool rate_take(struct rate_bucket *b, uint64_t rate, uint64_t burst, int64_t now_us);

/* A bucket for each network that an address stands for. The table forgets those first that have
 * been full the longest, which changes nothing while there is one. */
struct rate_table;
struct rate_table *rate_table_new(size_t buckets); /* rounded up to a power of two */
void rate_table_free(struct rate_table *t);
struct rate_bucket *rate_table_find(struct rate_table *t, const struct net_peer *p,
                                    const struct net_prefixes *prefixes);

/* How many at a time. A place may be shared by networks whose hashes meet: then they are too many
 * earlier, never later. */
struct rate_places;
struct rate_places *rate_places_new(size_t places);
void rate_places_free(struct rate_places *c);
/* The place that was taken, or -1 where `most` are there. */
int64_t rate_places_take(struct rate_places *c, const struct net_peer *p,
                         const struct net_prefixes *prefixes, uint32_t most);
void rate_places_give(struct rate_places *c, int64_t place);
