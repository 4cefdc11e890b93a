/* SPDX-License-Identifier: Apache-2.0 */
/* What the replies of Redis mean for the records they answer.
 *
 * An error reply is told apart by its first word: what passes by itself is retried, what somebody
 * has to mend blocks the sink until it is mended.
 *
 * A server hangs up on a command larger than its client-query-buffer-limit, without a word. So when
 * it hangs up while a command is in flight that is larger than the least limit it can have, records
 * are sent alone until past it; hanging up twice on the same one, alone, shows that it is poison.
 */
#include <stdio.h>
#include <string.h>

#include "redis.h"

static void explain(char *out, size_t n, const char *error)
{
    snprintf(out, n, "%.250s; %s", error, redis_error_of(error)->mend);
}

static enum sink_state state_of(const char *error)
{
    return redis_error_of(error)->kind == REDIS_PASSES ? SINK_RETRYING : SINK_BLOCKED;
}

/* A server that may throw away what is kept there to make room cannot promise anything. */
static bool evicts(struct redis_link *l)
{
    return strstr(redis_reply_text(&l->reply, 0).p, "maxmemory_policy:allkeys") != NULL;
}

static void on_hello(struct redis_link *l)
{
    const char *text = redis_reply_text(&l->reply, 0).p;
    enum redis_what what = redis_link_pop(l).what;
    bool error = redis_reply_is_error(&l->reply);
    char reason[400];

    /* A user who may do nothing but XADD is known by now, and the server alive. */
    if (error && (what == REDIS_ASKED_LAST || what == REDIS_ASKED_POLICY) &&
        span_starts(span_str(text), S("NOPERM"))) {
        l->r->policy_unknown |= what == REDIS_ASKED_POLICY;
    } else if (error) {
        explain(reason, sizeof reason, text);
        redis_link_down(l, state_of(text), reason);
        return;
    } else if (what == REDIS_ASKED_POLICY && evicts(l)) {
        redis_link_down(l, SINK_BLOCKED,
                        "maxmemory-policy is allkeys-*: the server may evict what exactly-once "
                        "keeps there; use noeviction or volatile-*");
        return;
    }
    if (what == REDIS_ASKED_LAST)
        redis_on_up(l);
}

/* After a flush, a restart, a failover. */
void redis_scripts_again(struct redis_link *l, const char *error)
{
    if (strncmp(error, "NOSCRIPT", 8) || l->loading)
        return;
    l->loading = true;
    redis_scripts_load(l);
}

bool redis_is_poison(const struct redis *r, const char *error)
{
    const struct redis_error *known = redis_error_of(error);

    return known->kind == REDIS_POISONS ||
           (known->kind == REDIS_KEY && template_by_content(r->cfg->stream));
}

void redis_refused(struct redis_link *l, const char *error)
{
    struct redis *r = l->r;
    char reason[400];

    redis_scripts_again(l, error);
    if (redis_error_of(error)->kind == REDIS_BLOCKS && !strncmp(error, "READONLY", 8))
        r->reconnect = true; /* after a failover the name may lead to the new master */
    explain(reason, sizeof reason, error);
    r->sink.owner.state(r->sink.owner.arg, state_of(error), reason);
}

void redis_refuse(struct redis *r, uint64_t lsn, const char *error, bool itself)
{
    const struct sink_owner *owner = &r->sink.owner;
    bool known = redis_error_of(error)->start[0] != 0;
    char word[32];

    if (itself && redis_is_poison(r, error)) {
        owner->done(owner->arg, lsn, SINK_POISON, error);
        return;
    }
    snprintf(word, sizeof word, "%.*s", (int)strcspn(error, " "), error);
    owner->done(owner->arg, lsn, SINK_RETRY, known ? word : "ERR");
}

/* A value that the server will never take closes the connection: it is the oldest without a reply.
 */
static void on_xadd(struct redis_link *l)
{
    struct redis *r = l->r;
    struct redis_asked asked = redis_link_pop(l);
    const char *error = redis_reply_text(&l->reply, 0).p;

    if (asked.stream)
        asked.stream->in_flight--;
    if (!redis_reply_is_error(&l->reply)) {
        redis_stored(l, asked.lsn);
        return;
    }
    if (!redis_where_moved(l, asked.stream, error) && !redis_is_poison(r, error))
        redis_refused(l, error);
    redis_refuse(r, asked.lsn, error, true);
}

void redis_on_reply(struct redis_link *l)
{
    bool error = redis_reply_is_error(&l->reply);

    if (!l->ring_n) { /* e.g. -ERR max number of clients reached, unasked */
        redis_link_down(l, SINK_RETRYING,
                        error ? redis_reply_text(&l->reply, 0).p : "unexpected reply");
        return;
    }
    switch (redis_link_oldest(l, 0)->what) {
    case REDIS_ASKED_HELLO:
    case REDIS_ASKED_POLICY:
    case REDIS_ASKED_LAST:
        on_hello(l);
        break;
    case REDIS_ASKED_LOAD:
        if (l->phase == REDIS_HELLO) {
            on_hello(l);
            break;
        }
        l->loading = false;
        redis_link_pop(l);
        break;
    case REDIS_ASKED_PING: /* any answer is a sign of life */
        redis_link_pop(l);
        break;
    case REDIS_ASKED_XADD:
        on_xadd(l);
        break;
    case REDIS_ASKED_MORE: /* taken with the first of their batch */
    case REDIS_ASKED_BATCH:
    case REDIS_ASKED_MARK:
    case REDIS_ASKED_CLAIM:
    case REDIS_ASKED_KNOWN:
    case REDIS_ASKED_ADDED:
        redis_once_replied(l);
        break;
    case REDIS_ASKED_WAIT:
        redis_wait_replied(l);
        break;
    case REDIS_ASKED_TRIM:
        redis_trim_replied(l);
        break;
    case REDIS_ASKED_ASKING:
    case REDIS_ASKED_SLOTS:
    case REDIS_ASKED_MASTER:
        redis_where_replied(l);
    }
}

/* Perhaps on a command that is too large for it (see the top). */
void redis_on_cut(struct redis_link *l)
{
    struct redis *r = l->r;
    size_t records = 0;
    uint64_t large = 0;

    if (l->phase != REDIS_UP)
        return;
    for (size_t i = 0; i < l->ring_n; i++) {
        const struct redis_asked *one = redis_link_oldest(l, i);
        records += one->n != 0;
        if (one->bytes >= REDIS_LEAST_LIMIT)
            large = one->lsn;
    }
    if (large && records == 1 && large <= r->careful_until) {
        r->poison = r->cut == large ? large : r->poison;
        r->cut = large;
    }
    r->careful_until = MAX(r->careful_until, large);
}
