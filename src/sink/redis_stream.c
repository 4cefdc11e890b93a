/* SPDX-License-Identifier: Apache-2.0 */
/* The streams that records went to, and the batches that are being filled for them.
 *
 * The table is bounded: a stream without work is forgotten for a new one, and read back when it
 * comes again. So are the batches: of more streams than that at a time the calls are shorter. */
#include <string.h>

#include "crc32c.h"
#include "redis.h"

#define BATCH_BYTES (256u << 10)
#define KEEP_BYTES (64u << 10) /* of a batch's buffer, until it is used again */

/* The part of a key that says its slot: what stands between the first { and the next }, where that
 * is not empty, else all of it. */
struct span redis_tag(struct span key)
{
    const char *open = memchr(key.p, '{', key.n), *close;

    if (!open)
        return key;
    close = memchr(open, '}', key.n - (size_t)(open - key.p));
    return close && close > open + 1 ? span_of(open + 1, (size_t)(close - open) - 1) : key;
}

static struct redis_stream **bucket(struct redis *r, struct span name)
{
    return &r->buckets[crc32c(0, name.p, name.n) % REDIS_BUCKETS];
}

static struct redis_stream *make(struct redis *r, struct span name)
{
    struct redis_stream *s = xcalloc(1, sizeof *s), **at = bucket(r, name);

    buf_span(&s->name, name);
    buf_adds(&s->key, "hookline:{");
    buf_span(&s->key, redis_tag(name));
    buf_printf(&s->key, "}:%s", r->xadd.logid);
    buf_printf(&s->field, "%s/", r->name);
    buf_span(&s->field, name);
    s->slot = redis_slot(name);
    s->next = *at;
    *at = s;
    r->n_streams++;
    return s;
}

static void drop(struct redis *r, struct redis_stream **at)
{
    struct redis_stream *s = *at;

    *at = s->next;
    r->n_streams--;
    buf_free(&s->name);
    buf_free(&s->key);
    buf_free(&s->field);
    free(s->expected);
    free(s->wanted);
    free(s);
}

static bool forget_one(struct redis *r)
{
    for (size_t i = 0; i < REDIS_BUCKETS; i++) {
        struct redis_stream **at = &r->buckets[r->hand++ % REDIS_BUCKETS];
        for (; *at; at = &(*at)->next) {
            if ((*at)->in_flight || (*at)->batch)
                continue;
            drop(r, at);
            return true;
        }
    }
    return false;
}

struct redis_stream *redis_stream_of(struct redis *r, struct span name)
{
    for (struct redis_stream *s = *bucket(r, name); s; s = s->next)
        if (span_eq(buf_as_span(&s->name), name))
            return s;
    if (r->n_streams >= REDIS_STREAMS && !forget_one(r))
        return NULL;
    return make(r, name);
}

void redis_streams_each(struct redis *r, void (*f)(struct redis *r, struct redis_stream *s))
{
    for (size_t i = 0; i < REDIS_BUCKETS; i++)
        for (struct redis_stream *s = r->buckets[i]; s; s = s->next)
            f(r, s);
}

void redis_streams_free(struct redis *r)
{
    for (size_t i = 0; i < REDIS_BUCKETS; i++)
        while (r->buckets[i])
            drop(r, &r->buckets[i]);
    for (size_t i = 0; i < REDIS_BATCHES; i++)
        buf_free(&r->batches[i].args);
}

/* --- batches
 * ------------------------------------------------------------------------------------------ */

static void empty(struct redis *r, struct redis_batch *b)
{
    r->batched -= b->args.n;
    b->stream->batch = NULL;
    b->stream = NULL;
    b->n = b->args.n = 0;
    if (b->args.cap > KEEP_BYTES)
        buf_free(&b->args);
}

void redis_batch_send(struct redis *r, struct redis_batch *b)
{
    struct redis_stream *s = b->stream;
    struct redis_link *l;
    size_t bytes;

    if (!s)
        return;
    l = s->link;
    bytes = redis_call_append(l, s, NULL, buf_as_span(&b->args), b->n);
    for (size_t i = 0; i < b->n; i++)
        redis_link_push(l, (struct redis_asked){ i ? REDIS_ASKED_MORE : REDIS_ASKED_BATCH,
                                                 (uint32_t)b->n, b->lsns[i], bytes, s });
    l->writes++;
    s->sent = b->lsns[b->n - 1];
    s->in_flight++;
    empty(r, b);
}

static struct redis_batch *open_batch(struct redis *r, struct redis_stream *s)
{
    struct redis_batch *b = s->batch;

    if (!b) {
        b = &r->batches[r->next_batch++ % REDIS_BATCHES];
        redis_batch_send(r, b);
        b->stream = s;
        s->batch = b;
    }
    return b;
}

void redis_batch_add(struct redis *r, struct redis_stream *s, const struct record *rec)
{
    struct redis_batch *b = open_batch(r, s);
    size_t before = b->args.n;

    if (b->n == REDIS_BATCH || (b->n && b->args.n + rec->body.n > BATCH_BYTES)) {
        redis_batch_send(r, b);
        b = open_batch(r, s);
        before = 0;
    }
    redis_xadd_values(&r->xadd, rec, &b->args);
    r->batched += b->args.n - before;
    b->lsns[b->n++] = rec->lsn;
    r->in_flight++;
}

void redis_batches_send(struct redis *r)
{
    for (size_t i = 0; i < REDIS_BATCHES; i++)
        redis_batch_send(r, &r->batches[i]);
}

/* --- a connection that is gone
 * ------------------------------------------------------------------------ */

/* Of one of several connections only what was under way on it is void: each record is told of. */
static void void_one(struct redis *r, uint64_t lsn)
{
    const struct sink_owner *owner = &r->sink.owner;

    if (r->slots)
        owner->done(owner->arg, lsn, SINK_RETRY, "connection lost");
}

static void void_batches(struct redis_link *l)
{
    struct redis *r = l->r;

    for (size_t i = 0; i < REDIS_BATCHES; i++) {
        struct redis_batch *b = &r->batches[i];
        if (!b->stream || b->stream->link != l)
            continue;
        r->in_flight -= b->n;
        for (size_t j = 0; j < b->n; j++)
            void_one(r, b->lsns[j]);
        empty(r, b);
    }
}

static void void_asked(struct redis_link *l, const struct redis_asked *asked)
{
    struct redis *r = l->r;

    switch (asked->what) {
    case REDIS_ASKED_BATCH:
    case REDIS_ASKED_MORE:
        if (asked->n) {
            r->in_flight--;
            void_one(r, asked->lsn);
        }
        break;
    case REDIS_ASKED_XADD:
        void_one(r, asked->lsn);
        break;
    case REDIS_ASKED_MARK:
    case REDIS_ASKED_CLAIM:
    case REDIS_ASKED_KNOWN:
        r->claims--;
        break;
    default:
        break;
    }
}

void redis_streams_void(struct redis_link *l)
{
    for (size_t i = 0; i < l->ring_n; i++)
        void_asked(l, redis_link_oldest(l, i));
    for (size_t i = 0; i < l->held.n; i += sizeof(struct redis_held)) {
        struct redis_held held;
        memcpy(&held, l->held.p + i, sizeof held);
        void_one(l->r, held.lsn);
    }
    void_batches(l);
    if (l->r->known.link == l)
        l->r->known.in_flight = 0;
    for (size_t i = 0; i < REDIS_BUCKETS; i++)
        for (struct redis_stream *s = l->r->buckets[i]; s; s = s->next)
            if (s->link == l) {
                s->claim = REDIS_UNREAD;
                s->in_flight = 0;
            }
}
