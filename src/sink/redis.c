/* SPDX-License-Identifier: Apache-2.0 */
/* Redis Streams: hundreds of XADDs in flight on one non-blocking connection of our own.
 *
 * XADD has a formatter of its own (redis_xadd.c). A connection that is lost makes everything in
 * flight void: the owner sends again from its cursor. An idle one is asked for a sign of life. */
#include <string.h>

#include "clock.h"
#include "redis.h"

#define SILENCE_MS 15000 /* a command without a reply */
#define PING_MS 5000     /* idle for so long */

void redis_on_up(struct redis_link *l)
{
    struct redis *r = l->r;

    l->phase = REDIS_UP;
    l->attempt = 0;
    r->was_full = false;
    redis_link_timer(l, REDIS_TICK_MS);
    r->sink.owner.state(r->sink.owner.arg, SINK_RUNNING, "");
    r->sink.owner.ready(r->sink.owner.arg);
}

void redis_on_down(struct redis_link *l, enum sink_state state, const char *reason)
{
    struct redis *r = l->r;

    r->reconnect = false;
    r->was_full = true;
    r->sink.owner.state(r->sink.owner.arg, state, reason);
    r->sink.owner.lost(r->sink.owner.arg, reason);
}

void redis_on_timer(struct redis_link *l)
{
    struct redis *r = l->r;
    int64_t age = clock_mono_ms() - l->since_ms;

    if (l->phase == REDIS_DOWN) {
        redis_connect(l);
        return;
    }
    if ((l->phase < REDIS_UP && age > REDIS_CONNECT_MS) || (l->ring_n && age > SILENCE_MS))
        redis_link_down(l, SINK_RETRYING, "the server does not answer");
    else if (r->reconnect && !l->ring_n)
        redis_link_down(l, SINK_BLOCKED, "READONLY; looking for the master under the same name");
    else
        redis_link_timer(l, REDIS_TICK_MS);
    if (l->phase == REDIS_UP && !l->ring_n && age > PING_MS) {
        redis_link_ask(l, REDIS_ASKED_PING, 1, (const char *[]){ "PING" }, (size_t[]){ 4 });
        redis_link_flush(l);
    }
}

void redis_offer_room(struct redis *r)
{
    if (r->link.phase != REDIS_UP || !r->was_full ||
        redis_link_waiting(&r->link) >= REDIS_OUT_MAX / 2)
        return;
    r->was_full = false;
    r->sink.owner.ready(r->sink.owner.arg);
}

static void redis_flush(struct sink *s)
{
    struct redis *r = container_of(s, struct redis, sink);

    if (r->link.phase == REDIS_UP)
        redis_link_flush(&r->link);
}

static int redis_send(struct sink *s, const struct record *rec)
{
    struct redis *r = container_of(s, struct redis, sink);
    struct redis_link *l = &r->link;
    size_t before;

    if (l->phase != REDIS_UP || redis_link_waiting(l) >= REDIS_OUT_MAX ||
        (rec->lsn <= r->careful_until && l->ring_n)) {
        r->was_full = true;
        return 1;
    }
    if (rec->lsn == r->poison) {
        r->sink.owner.done(r->sink.owner.arg, rec->lsn, SINK_POISON,
                           "the server closed the connection on it, twice: it is larger than "
                           "client-query-buffer-limit");
        return 0;
    }
    before = l->out.n;
    redis_xadd(&r->xadd, rec, &l->out);
    redis_link_push(l, (struct redis_asked){ REDIS_ASKED_XADD, rec->lsn, l->out.n - before });
    return 0;
}

static struct sink *redis_open(const char *name UNUSED, const struct sink_cfg *cfg,
                               const char *logid, uint64_t epoch UNUSED, uint64_t max_body UNUSED,
                               struct event_base *base, const struct sink_owner *owner,
                               struct err *e)
{
    struct redis *r = xcalloc(1, sizeof *r);

    r->sink = (struct sink){ &sink_redis, *owner };
    r->cfg = cfg->redis;
    r->xadd = (struct redis_xadd){ .cfg = cfg->redis, .logid = logid };
    if (!redis_url_parse(cfg->redis->url, &r->url)) {
        err_set(e, EXIT_BAD_CONFIG, "url %s", cfg->redis->url);
        free(r);
        return NULL;
    }
    redis_link_init(&r->link, r, base);
    return &r->sink;
}

static void redis_close(struct sink *s)
{
    struct redis *r = container_of(s, struct redis, sink);

    redis_link_close(&r->link);
    redis_url_free(&r->url);
    redis_xadd_free(&r->xadd);
    free(r);
}

const struct sink_type sink_redis = {
    .name = "redis",
    .open = redis_open,
    .send = redis_send,
    .flush = redis_flush,
    .close = redis_close,
};
