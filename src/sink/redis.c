/* SPDX-License-Identifier: Apache-2.0 */
/* Redis Streams: hundreds of XADDs in flight on one non-blocking connection of our own, or, exactly
 * once, calls of a script with many records each (redis_once.c).
 *
 * XADD has a formatter of its own (redis_xadd.c). A connection that is lost makes everything in
 * flight void: the owner sends again from its cursor. An idle one is asked for a sign of life. */
#include <string.h>

#include "clock.h"
#include "redis.h"

#define SILENCE_MS 15000 /* a command without a reply */
#define PING_MS 5000     /* idle for so long */

void redis_running(struct redis *r)
{
    r->was_full = false;
    r->sink.owner.state(r->sink.owner.arg, SINK_RUNNING, "");
    r->sink.owner.ready(r->sink.owner.arg);
}

void redis_on_up(struct redis_link *l)
{
    l->phase = REDIS_UP;
    redis_link_timer(l, REDIS_TICK_MS);
    if (l->r->epoch) {
        redis_once_up(l);
        return;
    }
    l->attempt = 0;
    redis_running(l->r);
}

void redis_on_down(struct redis_link *l, enum sink_state state, const char *reason)
{
    struct redis *r = l->r;

    r->reconnect = false;
    r->was_full = true;
    redis_once_down(l);
    r->sink.owner.state(r->sink.owner.arg, state, reason);
    r->sink.owner.lost(r->sink.owner.arg, reason);
}

static void tick(struct redis_link *l)
{
    struct redis *r = l->r;

    redis_link_timer(l, REDIS_TICK_MS);
    if (l->phase == REDIS_UP && !l->ring_n && clock_mono_ms() - l->since_ms > PING_MS)
        redis_link_ask(l, (struct redis_asked){ REDIS_ASKED_PING }, &S("PING"), 1);
    if (l->phase != REDIS_UP)
        return;
    redis_trim_tick(r);
    if (r->epoch)
        redis_once_tick(r);
    redis_wait_ask(l);
    redis_link_flush(l);
}

void redis_on_timer(struct redis_link *l)
{
    struct redis *r = l->r;
    int64_t age = clock_mono_ms() - l->since_ms;

    if (l->phase == REDIS_DOWN) {
        redis_connect(l);
        return;
    }
    if ((l->phase < REDIS_UP && age > REDIS_CONNECT_MS) || (l->ring_n && age > SILENCE_MS)) {
        redis_link_down(l, SINK_RETRYING, "the server does not answer");
    } else if (r->reconnect && !l->ring_n) {
        redis_link_down(l, SINK_BLOCKED, "READONLY; looking for the master under the same name");
    } else {
        tick(l);
    }
}

struct redis_link *redis_link_of(struct redis *r, const struct redis_stream *s UNUSED)
{
    return r->link.phase == REDIS_UP ? &r->link : NULL;
}

void redis_offer_room(struct redis *r)
{
    if (r->link.phase != REDIS_UP || !r->was_full || r->claims || r->stalled || r->unsettled ||
        redis_link_waiting(&r->link) >= REDIS_OUT_MAX / 2)
        return;
    r->was_full = false;
    r->sink.owner.ready(r->sink.owner.arg);
}

static void redis_flush(struct sink *s)
{
    struct redis *r = container_of(s, struct redis, sink);

    if (r->link.phase != REDIS_UP)
        return;
    redis_batches_send(r);
    redis_wait_ask(&r->link);
    redis_link_flush(&r->link);
}

static bool has_room(const struct redis *r, uint64_t lsn)
{
    const struct redis_link *l = &r->link;

    return l->phase == REDIS_UP && redis_link_waiting(l) + r->batched < REDIS_OUT_MAX &&
           (lsn > r->careful_until || (!l->ring_n && !r->in_flight));
}

static void add(struct redis *r, const struct record *rec)
{
    struct redis_link *l = &r->link;
    struct span name = redis_xadd_stream(&r->xadd, rec);
    struct redis_stream *s = r->cfg->trim.consumed ? redis_stream_of(r, name) : NULL;
    size_t before = l->out.n;

    redis_xadd(&r->xadd, name, rec, &l->out);
    redis_link_push(l, (struct redis_asked){ REDIS_ASKED_XADD, 1, rec->lsn, l->out.n - before, s });
    l->writes++;
    if (s)
        s->in_flight++;
}

static int redis_send(struct sink *sink, const struct record *rec)
{
    struct redis *r = container_of(sink, struct redis, sink);

    if (!has_room(r, rec->lsn)) {
        r->was_full = true;
        return 1;
    }
    if (rec->lsn == r->poison) {
        r->sink.owner.done(r->sink.owner.arg, rec->lsn, SINK_POISON,
                           "the server closed the connection on it, twice: it is larger than "
                           "client-query-buffer-limit");
        return 0;
    }
    if (r->epoch)
        return redis_once_send(r, rec);
    add(r, rec);
    return 0;
}

static void redis_warnings(struct sink *sink, struct buf *out)
{
    const struct redis *r = container_of(sink, struct redis, sink);
    struct buf text = BUF_INIT;

    if (r->trim_error[0]) {
        buf_printf(&text, "trim: consumed: %s", r->trim_error);
        buf_json_string(out, buf_as_span(&text));
    }
    if (r->policy_unknown) {
        if (out->n)
            buf_addc(out, ',');
        buf_json_string(out, S("INFO is not allowed to this user: whether the server may evict "
                               "what exactly-once keeps there is not known"));
    }
    buf_free(&text);
}

static struct sink *redis_open(const char *name, const struct sink_cfg *cfg, const char *logid,
                               uint64_t epoch, uint64_t max_body UNUSED, struct event_base *base,
                               const struct sink_owner *owner, struct err *e)
{
    struct redis *r = xcalloc(1, sizeof *r);

    r->sink = (struct sink){ &sink_redis, *owner };
    r->name = name;
    r->cfg = cfg->redis;
    r->wait = &cfg->wait;
    r->epoch = epoch;
    r->xadd = (struct redis_xadd){ .cfg = cfg->redis, .logid = logid };
    if (!redis_url_parse(cfg->redis->url, &r->url)) {
        err_set(e, EXIT_BAD_CONFIG, "url %s", cfg->redis->url);
        free(r);
        return NULL;
    }
    redis_scripts_make(r);
    r->fixed = template_fixed(cfg->redis->stream);
    redis_link_init(&r->link, r, base);
    return &r->sink;
}

static void redis_close(struct sink *s)
{
    struct redis *r = container_of(s, struct redis, sink);

    redis_link_close(&r->link);
    redis_url_free(&r->url);
    redis_xadd_free(&r->xadd);
    redis_streams_free(r);
    redis_scripts_free(r);
    free(r->fixed);
    free(r);
}

const struct sink_type sink_redis = {
    .name = "redis",
    .exactly_once = true,
    .open = redis_open,
    .send = redis_send,
    .flush = redis_flush,
    .warnings = redis_warnings,
    .close = redis_close,
};
