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
    l->attempt = 0;
    redis_link_timer(l, REDIS_TICK_MS);
    redis_where_up(l);
}

/* A sentinel that is lost matters only while the master is not known; a node that has no slots not
 * at all. */
void redis_on_down(struct redis_link *l, enum sink_state state, const char *reason)
{
    struct redis *r = l->r;
    const struct sink_owner *owner = &r->sink.owner;

    redis_where_down(l);
    if (l->sentinel ? r->links[0]->phase != REDIS_UP : l->wanted)
        owner->state(owner->arg, state, reason);
    if (l->sentinel)
        return;
    r->reconnect = false;
    r->was_full = true;
    redis_streams_void(l);
    if (!r->slots)
        owner->lost(owner->arg, reason);
}

void redis_on_timer(struct redis_link *l)
{
    struct redis *r = l->r;
    int64_t age = clock_mono_ms() - l->since_ms;

    if (l->phase == REDIS_DOWN) {
        if (l->wanted)
            redis_connect(l);
        return;
    }
    if ((l->phase < REDIS_UP && age > REDIS_CONNECT_MS) || (l->ring_n && age > SILENCE_MS)) {
        redis_link_down(l, SINK_RETRYING, "the server does not answer");
        return;
    }
    if (r->reconnect && !l->ring_n && !l->sentinel) {
        redis_link_down(l, SINK_BLOCKED, "READONLY; looking for the master under the same name");
        return;
    }
    redis_link_timer(l, REDIS_TICK_MS);
    if (l->phase == REDIS_UP && !l->ring_n && age > PING_MS) {
        redis_link_ask(l, (struct redis_asked){ REDIS_ASKED_PING }, &S("PING"), 1);
        redis_link_flush(l);
    }
}

void redis_flush_all(struct redis *r)
{
    redis_batches_send(r);
    for (size_t i = 0; i < r->n_links; i++) {
        if (r->links[i]->phase != REDIS_UP)
            continue;
        redis_wait_ask(r->links[i]);
        redis_link_flush(r->links[i]);
    }
}

void redis_tick_in(struct redis *r, int64_t ms)
{
    struct timeval tv = { ms / 1000, ms % 1000 * 1000 };

    event_add(&r->tick, &tv);
}

static void on_tick(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
    struct redis *r = arg;

    redis_tick_in(r, REDIS_TICK_MS);
    redis_where_tick(r);
    redis_trim_tick(r);
    redis_once_tick(r);
    redis_flush_all(r);
}

void redis_offer_room(struct redis_link *l)
{
    struct redis *r = l->r;

    if (l->phase != REDIS_UP || l->sentinel || !r->was_full || r->claims || r->stalled ||
        r->unsettled || redis_link_waiting(l) >= REDIS_OUT_MAX / 2)
        return;
    r->was_full = false;
    r->sink.owner.ready(r->sink.owner.arg);
}

static void redis_flush(struct sink *s)
{
    redis_flush_all(container_of(s, struct redis, sink));
}

bool redis_has_room(const struct redis_link *l, uint64_t lsn)
{
    const struct redis *r = l->r;

    return l->phase == REDIS_UP && redis_link_waiting(l) + r->batched < REDIS_OUT_MAX &&
           (lsn > r->careful_until || (!l->ring_n && !r->in_flight));
}

static int add(struct redis *r, const struct record *rec)
{
    struct span name = redis_xadd_stream(&r->xadd, rec);
    bool table = r->cfg->trim.consumed || r->slots;
    struct redis_stream *s = table ? redis_stream_of(r, name) : NULL;
    struct redis_link *l = s ? redis_link_of(r, s) : table ? NULL : r->links[0];
    size_t before;

    if (!l || !redis_has_room(l, rec->lsn)) {
        if (!l && s)
            redis_where_missing(r, s);
        r->was_full = true;
        return 1;
    }
    if (s) {
        redis_asking(l, s);
        s->in_flight++;
    }
    before = l->out.n;
    redis_xadd(&r->xadd, name, rec, &l->out);
    redis_link_push(l, (struct redis_asked){ REDIS_ASKED_XADD, 1, rec->lsn, l->out.n - before, s });
    l->writes++;
    return 0;
}

static int redis_send(struct sink *sink, const struct record *rec)
{
    struct redis *r = container_of(sink, struct redis, sink);

    if (rec->lsn == r->poison) {
        r->sink.owner.done(r->sink.owner.arg, rec->lsn, SINK_POISON,
                           "the server closed the connection on it, twice: it is larger than "
                           "client-query-buffer-limit");
        return 0;
    }
    return r->epoch ? redis_once_send(r, rec) : add(r, rec);
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

static void redis_close(struct sink *s)
{
    struct redis *r = container_of(s, struct redis, sink);

    event_del(&r->tick);
    redis_where_close(r);
    redis_tls_close(r);
    redis_url_free(&r->url);
    redis_xadd_free(&r->xadd);
    redis_streams_free(r);
    redis_scripts_free(r);
    buf_free(&r->known.name);
    free(r);
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
    r->base = base;
    event_assign(&r->tick, base, -1, 0, on_tick, r);
    redis_scripts_make(r);
    redis_known_open(r);
    if (!redis_url_parse(cfg->redis->url, &r->url)) {
        err_set(e, EXIT_BAD_CONFIG, "url %s", cfg->redis->url);
        redis_close(&r->sink);
        return NULL;
    }
    if (redis_tls_open(r, e)) {
        redis_close(&r->sink);
        return NULL;
    }
    redis_where_open(r);
    redis_tick_in(r, REDIS_TICK_MS);
    return &r->sink;
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
