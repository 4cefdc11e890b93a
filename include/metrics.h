/* metrics - counters with one writer each, summed when read, and the Prometheus text of them.
 *
 * A room keeps its counters in its own structs (an array with one element a thread where several
 * write) and prints them when asked; there is no registry. Label values come from the configuration
 * or from closed lists, never from outside. */
#pragma once

#include <stdatomic.h>

#include "buf.h"

struct counter {
    _Atomic uint64_t v;
};

/* Only the thread that owns the counter; relaxed. */
static inline void counter_add(struct counter *c, uint64_t n)
{
    atomic_store_explicit(&c->v, atomic_load_explicit(&c->v, memory_order_relaxed) + n,
                          memory_order_relaxed);
}
static inline uint64_t counter_get(const struct counter *c) /* any thread */
{
    return atomic_load_explicit(&c->v, memory_order_relaxed);
}

#define HISTOGRAM_BUCKETS 18
struct histogram {
    const double *bounds; /* NULL-safe: set by histogram_init */
    size_t buckets;
    struct counter count[HISTOGRAM_BUCKETS + 1]; /* the last: above all bounds */
    struct counter sum;                          /* in the unit of histogram_add */
    double unit;                                 /* what one unit is in the exported one */
};
void histogram_init_seconds(struct histogram *h); /* 50 us .. 10 s; histogram_add takes us */
void histogram_init_counts(struct histogram *h);  /* 1 .. 4096 */
void histogram_add(struct histogram *h, uint64_t value);
/* Adds what `from` holds to `into`: sums the threads' parts before they are printed. */
void histogram_merge(struct histogram *into, const struct histogram *from);

/* Exposition. metrics_head prints HELP and TYPE once a family; each sample follows with its labels
 * as pairs of name and value that end with NULL: metrics_value(b, "x_total", 3, "source", s, NULL).
 */
void metrics_head(struct buf *b, const char *name, const char *type, const char *help);
void metrics_value(struct buf *b, const char *name, double v, ...) __attribute__((sentinel));
void metrics_histogram(struct buf *b, const char *name, const struct histogram *h, ...)
    __attribute__((sentinel));
