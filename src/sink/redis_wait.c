/* SPDX-License-Identifier: Apache-2.0 */
/* `wait`: what the server stored is reported only once so many replicas have it too.
 *
 * WAIT, and WAITAOF where the server has it and keeps an append-only file, confirm what this
 * connection wrote before. One goes out behind the commands of each pass; what they stored is held
 * until it is answered. Confirmed by too few it is asked again: the events are there, so sending
 * them again would only repeat them. */
#include <stdio.h>
#include <string.h>

#include "redis.h"

bool redis_wait_over(const struct redis_link *l)
{
    return !l->r->wait->replicas || l->confirmed == l->writes;
}

void redis_stored(struct redis_link *l, uint64_t lsn)
{
    const struct sink_owner *owner = &l->r->sink.owner;
    struct redis_held held = { l->writes, lsn };

    if (l->r->wait->replicas)
        buf_add(&l->held, &held, sizeof held);
    else
        owner->done(owner->arg, lsn, SINK_DONE, NULL);
}

void redis_wait_ask(struct redis_link *l)
{
    const struct sink_wait *wait = l->r->wait;
    char replicas[NUMBER_MAX], timeout[NUMBER_MAX];
    const struct span n = sink_number_text((uint64_t)wait->replicas, replicas),
                      ms = sink_number_text((uint64_t)wait->timeout_ms, timeout);
    const struct span plain[] = { S("WAIT"), n, ms }, aof[] = { S("WAITAOF"), S("1"), n, ms };
    struct redis_asked asked = { .what = REDIS_ASKED_WAIT, .lsn = l->writes };

    if (!wait->replicas || l->waited == l->writes)
        return;
    l->waited = l->writes;
    if (l->no_waitaof)
        redis_link_ask(l, asked, plain, ARRAY_LEN(plain));
    else
        redis_link_ask(l, asked, aof, ARRAY_LEN(aof));
}

/* Everything stored by the writes that the answer is about. A command of a later pass may have been
 * answered meanwhile; its write has a higher number. */
static void release(struct redis_link *l, uint64_t write)
{
    const struct sink_owner *owner = &l->r->sink.owner;
    size_t at = 0;
    struct redis_held held;

    for (; at + sizeof held <= l->held.n; at += sizeof held) {
        memcpy(&held, l->held.p + at, sizeof held);
        if (held.write > write)
            break;
        owner->done(owner->arg, held.lsn, SINK_DONE, NULL);
    }
    buf_drop(&l->held, at);
}

static void on_error(struct redis_link *l, const char *error)
{
    bool unknown = !strncmp(error, "ERR unknown command", 19);

    if (!l->no_waitaof && (unknown || strstr(error, "appendonly") || !strncmp(error, "NOPERM", 6)))
        l->no_waitaof = true;
    else
        redis_refused(l, error);
}

void redis_wait_replied(struct redis_link *l)
{
    struct redis *r = l->r;
    struct redis_asked asked = redis_link_pop(l);
    const struct redis_item none = { .number = 0 };
    const struct redis_item *last = /* WAITAOF: local, replicas */
        l->reply.n ? &l->reply.items[l->reply.n - 1] : &none;
    char reason[160];

    if (redis_reply_is_error(&l->reply)) {
        on_error(l, redis_reply_text(&l->reply, 0).p);
    } else if (last->number >= r->wait->replicas && l->reply.items[0].number >= 1) {
        l->confirmed = asked.lsn;
        release(l, asked.lsn);
        redis_once_settle(r);
        return;
    } else {
        snprintf(reason, sizeof reason, "%s: %lld of %lld replicas have confirmed%s",
                 l->no_waitaof ? "WAIT" : "WAITAOF", last->number, (long long)r->wait->replicas,
                 last->number < r->wait->replicas ? "" : ", but not this server's own disk");
        r->sink.owner.state(r->sink.owner.arg, SINK_RETRYING, reason);
    }
    if (l->waited == asked.lsn)
        l->waited = l->confirmed; /* asked again with the next flush, at the latest in a second */
}
