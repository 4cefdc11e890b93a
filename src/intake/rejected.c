/* SPDX-License-Identifier: Apache-2.0 */
/* What was refused last, a ring a source: a flood on one hides nothing of another, and what
 * strangers send takes no memory but this. Intake threads write, each entry made on its own stack
 * and copied in under the ring's lock; the main thread copies out under the same lock and makes the
 * text. Nobody waits longer than for a copy, and what is accepted never comes here. */
#include <string.h>

#include "clock.h"
#include "room.h"

#define LIMIT_MAX 1000

void rejected_add(struct rejected_ring *ring, const struct rejected *r)
{
    pthread_mutex_lock(&ring->lock);
    memcpy(&ring->v[ring->count++ % REJECTED_MAX], r, offsetof(struct rejected, text) + r->text_n);
    pthread_mutex_unlock(&ring->lock);
}

/* --- shown ---------------------------------------------------------------------------------------
 */

struct shown {
    const char *source;
    struct rejected r;
};

/* At most n of them, the newest first. */
static size_t copy_out(struct source_stats *s, size_t n, struct shown *out)
{
    struct rejected_ring *ring = &s->rejected;

    pthread_mutex_lock(&ring->lock);
    n = MIN(MIN(n, (size_t)REJECTED_MAX), (size_t)ring->count);
    for (size_t i = 0; i < n; i++) {
        const struct rejected *r = &ring->v[(ring->count - 1 - i) % REJECTED_MAX];
        out[i].source = s->name;
        memcpy(&out[i].r, r, offsetof(struct rejected, text) + r->text_n);
    }
    pthread_mutex_unlock(&ring->lock);
    return n;
}

static int newest_first(const void *a, const void *b)
{
    int64_t x = ((const struct shown *)a)->r.time_ms, y = ((const struct shown *)b)->r.time_ms;

    return x < y ? 1 : x > y ? -1 : 0;
}

static void detail(const struct rejected *r, struct buf *out)
{
    if (r->why)
        buf_printf(out, "%s; ", r->why);
    if (r->skew_ms != INT64_MIN) {
        int64_t off = r->skew_ms < 0 ? -r->skew_ms : r->skew_ms;
        buf_printf(out, "the signed time is %lld.%03d s %s our clock; ", (long long)off / 1000,
                   (int)(off % 1000), r->skew_ms < 0 ? "ahead of" : "behind");
    }
    buf_add(out, r->text, r->text_n);
    if (r->text_n == SOURCE_EXPLAIN_MAX)
        buf_adds(out, "...");
}

static void print(const struct shown *s, struct buf *json)
{
    struct buf text = BUF_INIT;
    char time[CLOCK_TEXT_MAX], remote[NET_PEER_TEXT_MAX], request[HTTP_ID_TEXT];

    http_id_text(s->r.request, request);
    buf_printf(json,
               "{\"time\":\"%s\",\"request\":\"%.16s\",\"source\":", clock_text(s->r.time_ms, time),
               request);
    buf_json_string(json, span_str(s->source));
    buf_printf(json, ",\"status\":%d,\"reason\":\"%s\",\"detail\":", s->r.status,
               verdict_name(s->r.verdict));
    detail(&s->r, &text);
    buf_json_string(json, buf_as_span(&text));
    buf_adds(json, ",\"remote\":");
    buf_json_string(json, span_str(net_peer_text(&s->r.peer, remote)));
    buf_addc(json, '}');
    buf_free(&text);
}

static bool is_asked_for(const struct source_stats *s, struct span source)
{
    return !source.n || span_eq(source, span_str(s->name));
}

void intake_rejected(struct span source, uint64_t limit, struct buf *json)
{
    size_t each = (size_t)MIN(limit, (uint64_t)LIMIT_MAX), sources = 0, n = 0;
    struct shown *all;

    for (struct source_stats *s = source_stats_first(); s; s = s->next)
        sources += is_asked_for(s, source);
    all = xcalloc(sources * MIN(each, (size_t)REJECTED_MAX) + 1, sizeof *all);
    for (struct source_stats *s = source_stats_first(); s; s = s->next)
        if (is_asked_for(s, source))
            n += copy_out(s, each, all + n);
    qsort(all, n, sizeof *all, newest_first);
    buf_adds(json, "{\"rejected\":[");
    for (size_t i = 0; i < MIN(n, each); i++) {
        buf_adds(json, i ? "," : "");
        print(&all[i], json);
    }
    buf_adds(json, "]}");
    free(all);
}
