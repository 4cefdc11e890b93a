/* SPDX-License-Identifier: Apache-2.0 */
/* Where a stream's master is: the one server, the one that the sentinels name, or the node of a
 * cluster that has the stream's slot.
 *
 * A sentinel is asked each second, so that an old master which still takes writes is left as soon
 * as there is a new one; one that does not answer gives way to the next. In a cluster MOVED mends
 * the map at once and has it read again; ASK holds for the one stream. A stream changes its
 * connection only when nothing of it is under way on the old one, so its order is kept; exactly
 * once, what is kept for it is read back and claimed at the new node. */
#include <stdio.h>
#include <string.h>

#include "redis.h"

static struct redis_link *add_link(struct redis *r, struct redis_host host)
{
    struct redis_link *l = redis_link_new(r);

    l->host = host;
    r->links = xrealloc(r->links, (r->n_links + 1) * sizeof(struct redis_link *));
    r->links[r->n_links++] = l;
    return l;
}

/* Number of the connection to that node; -1: too many. */
static int link_to(struct redis *r, struct span host, int port)
{
    for (size_t i = 0; i < r->n_links; i++)
        if (span_eq(span_str(r->links[i]->host.host), host) && r->links[i]->host.port == port)
            return (int)i;
    if (r->n_links == REDIS_LINKS)
        return -1;
    add_link(r, (struct redis_host){ .host = span_dup(host), .port = port });
    return (int)r->n_links - 1;
}

static struct redis_host copy(const struct redis_host *h)
{
    return (struct redis_host){ .host = h->host ? xstrdup(h->host) : NULL,
                                .path = h->path ? xstrdup(h->path) : NULL,
                                .port = h->port };
}

void redis_where_open(struct redis *r)
{
    switch (r->url.kind) {
    case REDIS_ONE:
        redis_link_want(add_link(r, copy(&r->url.hosts[0])));
        break;
    case REDIS_SENTINEL:
        add_link(r, (struct redis_host){ .port = 0 });
        r->sentinel = redis_link_new(r);
        r->sentinel->sentinel = true;
        r->sentinel->host = copy(&r->url.hosts[0]);
        redis_link_want(r->sentinel);
        break;
    case REDIS_CLUSTER:
        r->slots = xmalloc(REDIS_SLOTS * sizeof *r->slots);
        memset(r->slots, 0xff, REDIS_SLOTS * sizeof *r->slots);
        for (size_t i = 0; i < r->url.n; i++)
            redis_link_want(add_link(r, copy(&r->url.hosts[i])));
    }
}

void redis_where_close(struct redis *r)
{
    if (r->sentinel)
        redis_link_free(r->sentinel);
    for (size_t i = 0; i < r->n_links; i++)
        redis_link_free(r->links[i]);
    free(r->links);
    free(r->slots);
}

/* --- sentinels
 * ---------------------------------------------------------------------------------------- */

static void ask_master(struct redis *r)
{
    const struct span argv[] = { S("SENTINEL"), S("get-master-addr-by-name"),
                                 span_str(r->url.name) };

    redis_link_ask(r->sentinel, (struct redis_asked){ REDIS_ASKED_MASTER }, argv, ARRAY_LEN(argv));
    redis_link_flush(r->sentinel);
}

static void on_master(struct redis_link *sentinel)
{
    struct redis *r = sentinel->r;
    struct redis_link *l = r->links[0];
    struct span host = redis_reply_text(&sentinel->reply, 0);
    uint64_t port;
    char reason[300];

    if (redis_reply_is_error(&sentinel->reply) ||
        !span_u64(redis_reply_text(&sentinel->reply, 1), &port) || port > 65535) {
        snprintf(reason, sizeof reason, "the sentinel %s knows no master %s: %s",
                 sentinel->host.host, r->url.name, host.p);
        if (l->phase != REDIS_UP)
            r->sink.owner.state(r->sink.owner.arg, SINK_BLOCKED, reason);
        return;
    }
    if (span_eq(span_str(l->host.host), host) && l->host.port == (int)port)
        return;
    if (l->phase != REDIS_DOWN)
        redis_link_down(l, SINK_RETRYING, "the sentinels name another master");
    redis_host_free(&l->host);
    l->host = (struct redis_host){ .host = span_dup(host), .port = (int)port };
    l->lookup_void = l->lookup != NULL;
    l->attempt = 0;
    l->wanted = true;
    redis_link_timer(l, 0);
}

static void next_sentinel(struct redis *r)
{
    redis_host_free(&r->sentinel->host);
    r->sentinel->host = copy(&r->url.hosts[++r->next_host % r->url.n]);
    r->sentinel->lookup_void = r->sentinel->lookup != NULL;
}

/* --- clusters
 * ----------------------------------------------------------------------------------------- */

/* CRC16 of XMODEM, as the cluster specification has it. */
unsigned redis_slot(struct span key)
{
    struct span tag = redis_tag(key);
    unsigned crc = 0;

    for (size_t i = 0; i < tag.n; i++) {
        crc ^= (unsigned)(uint8_t)tag.p[i] << 8;
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 0x8000 ? (crc << 1 ^ 0x1021) & 0xffff : crc << 1 & 0xffff;
    }
    return crc % REDIS_SLOTS;
}

static void ask_slots(struct redis *r)
{
    for (size_t i = 0; i < r->n_links && !r->map_asked; i++) {
        struct redis_link *l = r->links[(r->next_host + i) % r->n_links];
        if (l->phase != REDIS_UP)
            continue;
        r->map_asked = true;
        redis_link_ask(l, (struct redis_asked){ REDIS_ASKED_SLOTS },
                       (struct span[]){ S("CLUSTER"), S("SLOTS") }, 2);
        redis_link_flush(l);
    }
    r->next_host++;
}

/* A range of slots, and the first of its nodes: the master. The items of a range follow each other.
 */
static void take_map(struct redis_link *l)
{
    struct redis *r = l->r;
    long long first = 0, last = -1;
    struct span host = SPAN_NONE;

    for (size_t i = 0; i < l->reply.n; i++) {
        const struct redis_item *item = &l->reply.items[i];
        if (item->depth == 2 && item->path[1] == 0)
            first = item->number;
        else if (item->depth == 2 && item->path[1] == 1)
            last = MIN(item->number, REDIS_SLOTS - 1);
        else if (item->depth == 3 && item->path[1] == 2 && item->path[2] == 0)
            host = redis_reply_text(&l->reply, i).n ? redis_reply_text(&l->reply, i)
                                                    : span_str(l->host.host);
        else if (item->depth == 3 && item->path[1] == 2 && item->path[2] == 1) {
            int to = link_to(r, host, (int)item->number);
            for (long long slot = MAX(first, 0); slot <= last; slot++)
                r->slots[slot] = (int16_t)to;
            r->map_known = true;
        }
    }
}

static void forget_ask(struct redis *r, struct redis_stream *s)
{
    if (r->slots[s->slot] >= 0 && s->ask == r->links[r->slots[s->slot]])
        s->ask = NULL;
}

/* Only masters are connected again when they are lost. */
static void want_masters(struct redis *r)
{
    for (size_t i = 0; i < r->n_links; i++)
        r->links[i]->wanted = false;
    for (int slot = 0; slot < REDIS_SLOTS; slot++)
        if (r->slots[slot] >= 0)
            redis_link_want(r->links[r->slots[slot]]);
    redis_streams_each(r, forget_ask);
}

static void on_slots(struct redis_link *l)
{
    struct redis *r = l->r;

    r->map_asked = false;
    if (redis_reply_is_error(&l->reply)) {
        redis_refused(l, redis_reply_text(&l->reply, 0).p);
        return;
    }
    take_map(l);
    r->map_stale = !r->map_known;
    if (!r->map_known)
        return;
    want_masters(r);
    if (r->epoch)
        redis_once_up(r);
    else
        redis_running(r);
}

/* "MOVED 5829 127.0.0.1:26502"; an address without host is on the host that says so. */
bool redis_where_moved(struct redis_link *l, struct redis_stream *s, const char *error)
{
    struct redis *r = l->r;
    struct span rest = span_str(error), word = span_cut(&rest, ' '), slot = span_cut(&rest, ' ');
    const char *colon = rest.n ? memrchr(rest.p, ':', rest.n) : NULL;
    struct span host;
    uint64_t n, port;
    int to;

    if (!r->slots || !s || !colon || !span_u64(slot, &n) || n >= REDIS_SLOTS ||
        !(span_eq(word, S("MOVED")) || span_eq(word, S("ASK"))))
        return false;
    host = span_of(rest.p, (size_t)(colon - rest.p));
    if (!span_u64(span_of(colon + 1, rest.n - host.n - 1), &port) || port > 65535)
        return false;
    to = link_to(r, host.n ? host : span_str(l->host.host), (int)port);
    if (to < 0)
        return false;
    redis_link_want(r->links[to]);
    s->ask = NULL;
    if (span_eq(word, S("ASK"))) {
        s->ask = r->links[to];
    } else {
        r->slots[n] = (int16_t)to;
        r->map_stale = true;
    }
    return true;
}

static struct redis_link *master_of(struct redis *r, const struct redis_stream *s)
{
    if (!r->slots)
        return r->links[0];
    if (s->ask)
        return s->ask;
    return r->slots[s->slot] >= 0 ? r->links[r->slots[s->slot]] : NULL;
}

struct redis_link *redis_link_of(struct redis *r, struct redis_stream *s)
{
    struct redis_link *l = master_of(r, s);

    if (!l || l->phase != REDIS_UP)
        return NULL;
    if (s->link != l) {
        if (s->in_flight || s->batch)
            return NULL;
        s->link = l;
        s->claim = REDIS_UNREAD;
    }
    return l;
}

/* The one server tells of itself when it goes. */
void redis_where_missing(struct redis *r, const struct redis_stream *s)
{
    const struct redis_link *l = master_of(r, s);
    char reason[300];

    if (!r->slots || (l && l->phase != REDIS_DOWN))
        return;
    snprintf(reason, sizeof reason, "no connection to the node of slot %u%s%s", s->slot,
             l ? ", " : "", l ? l->host.host : "");
    r->sink.owner.state(r->sink.owner.arg, SINK_RETRYING, reason);
}

void redis_asking(struct redis_link *l, const struct redis_stream *s)
{
    if (s->ask == l)
        redis_link_ask(l, (struct redis_asked){ REDIS_ASKED_ASKING }, &S("ASKING"), 1);
}

/* --- what links tell
 * ---------------------------------------------------------------------------------- */

void redis_where_up(struct redis_link *l)
{
    struct redis *r = l->r;

    if (l->sentinel)
        ask_master(r);
    else if (r->slots && (!r->map_known || r->map_stale))
        ask_slots(r);
    else if (r->epoch)
        redis_once_up(r);
    else
        redis_running(r);
}

void redis_where_down(struct redis_link *l)
{
    struct redis *r = l->r;

    if (l->sentinel)
        next_sentinel(r);
    r->map_asked = false;
    r->map_stale = true;
}

static bool any_up(const struct redis *r)
{
    for (size_t i = 0; i < r->n_links; i++)
        if (r->links[i]->phase == REDIS_UP)
            return true;
    return false;
}

void redis_where_tick(struct redis *r)
{
    if (r->sentinel && r->sentinel->phase == REDIS_UP && !r->sentinel->ring_n)
        ask_master(r);
    if (!r->slots)
        return;
    if (r->map_stale)
        ask_slots(r);
    if (!any_up(r)) /* all may have got other addresses */
        for (size_t i = 0; i < r->url.n; i++)
            redis_link_want(r->links[i]);
}

void redis_where_replied(struct redis_link *l)
{
    switch (redis_link_pop(l).what) {
    case REDIS_ASKED_MASTER:
        on_master(l);
        break;
    case REDIS_ASKED_SLOTS:
        on_slots(l);
        break;
    default: /* ASKING */
        break;
    }
}
