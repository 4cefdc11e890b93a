/* SPDX-License-Identifier: Apache-2.0 */
/* Histograms, and the Prometheus text exposition format 0.0.4. */
#include "metrics.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

static const double seconds[] = { 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3,
                                  50e-3, 0.1,    0.25,   0.5,    1,    2.5,    5,    10 };
static const double counts[] = { 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096 };

void histogram_init_seconds(struct histogram *h)
{
    *h = (struct histogram){ .bounds = seconds, .buckets = ARRAY_LEN(seconds), .unit = 1e-6 };
}

void histogram_init_counts(struct histogram *h)
{
    *h = (struct histogram){ .bounds = counts, .buckets = ARRAY_LEN(counts), .unit = 1 };
}

void histogram_add(struct histogram *h, uint64_t value)
{
    double v = (double)value * h->unit;
    size_t i = 0;

    while (i < h->buckets && v > h->bounds[i])
        i++;
    counter_add(&h->count[i], 1);
    counter_add(&h->sum, value);
}

void histogram_merge(struct histogram *into, const struct histogram *from)
{
    for (size_t i = 0; i <= from->buckets; i++)
        counter_add(&into->count[i], counter_get(&from->count[i]));
    counter_add(&into->sum, counter_get(&from->sum));
}

void metrics_head(struct buf *b, const char *name, const char *type, const char *help)
{
    buf_printf(b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void labels(struct buf *b, va_list ap, const char *le)
{
    const char *name;
    char sep = '{';

    while ((name = va_arg(ap, const char *))) {
        buf_printf(b, "%c%s=", sep, name);
        buf_json_string(b, span_str(va_arg(ap, const char *))); /* the same escapes */
        sep = ',';
    }
    if (le)
        buf_printf(b, "%cle=\"%s\"", sep, le);
    if (le || sep == ',')
        buf_addc(b, '}');
}

static void number(struct buf *b, double v)
{
    if (floor(v) == v && fabs(v) < 9e15)
        buf_printf(b, " %.0f\n", v);
    else
        buf_printf(b, " %.9g\n", v);
}

void metrics_value(struct buf *b, const char *name, double v, ...)
{
    va_list ap;

    buf_adds(b, name);
    va_start(ap, v);
    labels(b, ap, NULL);
    va_end(ap);
    number(b, v);
}

static void sample(struct buf *b, const char *name, const char *suffix, const char *le, double v,
                   va_list ap)
{
    va_list again;

    buf_printf(b, "%s%s", name, suffix);
    va_copy(again, ap);
    labels(b, again, le);
    va_end(again);
    number(b, v);
}

void metrics_histogram(struct buf *b, const char *name, const struct histogram *h, ...)
{
    uint64_t total = 0;
    char le[32];
    va_list ap;

    va_start(ap, h);
    for (size_t i = 0; i < h->buckets; i++) {
        total += counter_get(&h->count[i]);
        snprintf(le, sizeof le, "%g", h->bounds[i]);
        sample(b, name, "_bucket", le, (double)total, ap);
    }
    total += counter_get(&h->count[h->buckets]);
    sample(b, name, "_bucket", "+Inf", (double)total, ap);
    sample(b, name, "_sum", NULL, (double)counter_get(&h->sum) * h->unit, ap);
    sample(b, name, "_count", NULL, (double)total, ap);
    va_end(ap);
}
