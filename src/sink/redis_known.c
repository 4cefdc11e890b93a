/* SPDX-License-Identifier: Apache-2.0 */
/* Which streams there were before this start.
 *
 * Their names are the fields of a hash `hookline:{<sink>}:<logid>:streams`, entered when a stream
 * is claimed for the first time. At a start they are all claimed before anything is sent: a mark
 * behind the cursor then says that the server lost a tail, also where no new event comes for that
 * stream. One that is not listed is new. Of more than the table holds the others are not looked at.
 */
#include "redis.h"

void redis_known_open(struct redis *r)
{
    struct redis_stream *k = &r->known;

    buf_printf(&k->name, "hookline:{%s}:%s:streams", r->name, r->xadd.logid);
    k->slot = redis_slot(buf_as_span(&k->name));
}

void redis_known_read(struct redis *r)
{
    struct redis_stream *k = &r->known;
    struct redis_link *l = k->in_flight ? NULL : redis_link_of(r, k);
    const struct span argv[] = { S("HKEYS"), buf_as_span(&k->name) };

    if (!l)
        return;
    k->in_flight++;
    r->claims++;
    redis_asking(l, k);
    redis_link_ask(l, (struct redis_asked){ .what = REDIS_ASKED_KNOWN, .stream = k }, argv, 2);
}

/* Where it is down the name is entered with the next claim. */
void redis_known_add(struct redis *r, struct redis_stream *s)
{
    struct redis_stream *k = &r->known;
    struct redis_link *l = s->known ? NULL : redis_link_of(r, k);
    const struct span argv[] = { S("HSET"), buf_as_span(&k->name), buf_as_span(&s->name), S("") };

    if (!l)
        return;
    s->known = true;
    k->in_flight++;
    redis_asking(l, k);
    redis_link_ask(l, (struct redis_asked){ .what = REDIS_ASKED_ADDED, .stream = k }, argv, 4);
    redis_link_flush(l);
}

static void take_names(struct redis *r, const struct redis_reply *reply)
{
    const struct sink_owner *owner = &r->sink.owner;
    struct buf ignored = BUF_INIT;

    for (size_t i = 0; i < MIN(reply->n, (size_t)REDIS_STREAMS); i++) {
        struct redis_stream *s = redis_stream_of(r, redis_reply_text(reply, i));
        if (s)
            s->known = s->before = true;
    }
    if (!reply->n) /* a first start; or all is gone */
        owner->judge(owner->arg, NULL, false, &ignored);
    buf_free(&ignored);
    r->known_read = true;
}

/* True: the names are there. */
bool redis_known_replied(struct redis_link *l, struct redis_asked asked)
{
    struct redis *r = l->r;
    const char *error = redis_reply_text(&l->reply, 0).p;

    r->known.in_flight--;
    if (asked.what == REDIS_ASKED_KNOWN)
        r->claims--;
    if (redis_reply_is_error(&l->reply)) {
        if (!redis_where_moved(l, &r->known, error))
            redis_refused(l, error);
        return false;
    }
    if (asked.what == REDIS_ASKED_KNOWN)
        take_names(r, &l->reply);
    return true;
}
