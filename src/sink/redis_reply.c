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

static void on_hello(struct redis_link *l)
{
    const char *text = l->reply.text;
    bool last = redis_link_pop(l).what == REDIS_ASKED_LAST;
    char reason[400];

    /* A user who may do nothing but XADD is known by now, and the server alive. */
    if (l->reply.error && !(last && span_starts(span_str(text), S("NOPERM")))) {
        explain(reason, sizeof reason, text);
        redis_link_down(l, state_of(text), reason);
        return;
    }
    if (last)
        redis_on_up(l);
}

/* A value that the server will never take closes the connection: it is the oldest without a reply.
 */
static void on_error(struct redis_link *l)
{
    struct redis *r = l->r;
    const struct redis_error *known = redis_error_of(l->reply.text);
    const struct sink_owner *owner = &r->sink.owner;
    char word[32], reason[400];
    uint64_t lsn = redis_link_pop(l).lsn;

    if (known->kind == REDIS_POISONS ||
        (known->kind == REDIS_KEY && template_by_content(r->cfg->stream))) {
        owner->done(owner->arg, lsn, SINK_POISON, l->reply.text);
        return;
    }
    if (known->kind == REDIS_BLOCKS && !strncmp(l->reply.text, "READONLY", 8))
        r->reconnect = true; /* after a failover the name may lead to the new master */
    explain(reason, sizeof reason, l->reply.text);
    owner->state(owner->arg, state_of(l->reply.text), reason);
    snprintf(word, sizeof word, "%.*s", (int)strcspn(l->reply.text, " "), l->reply.text);
    owner->done(owner->arg, lsn, SINK_RETRY, known->start[0] ? word : "ERR");
}

void redis_on_reply(struct redis_link *l)
{
    const struct sink_owner *owner = &l->r->sink.owner;

    if (!l->ring_n) { /* e.g. -ERR max number of clients reached, unasked */
        redis_link_down(l, SINK_RETRYING, l->reply.error ? l->reply.text : "unexpected reply");
        return;
    }
    switch (redis_link_oldest(l, 0)->what) {
    case REDIS_ASKED_HELLO:
    case REDIS_ASKED_LAST:
        on_hello(l);
        break;
    case REDIS_ASKED_PING: /* any answer is a sign of life */
        redis_link_pop(l);
        break;
    case REDIS_ASKED_XADD:
        if (l->reply.error)
            on_error(l);
        else
            owner->done(owner->arg, redis_link_pop(l).lsn, SINK_DONE, NULL);
    }
}

/* Perhaps on a command that is too large for it (see the top). */
void redis_on_cut(struct redis_link *l)
{
    struct redis *r = l->r;
    uint64_t large = 0;

    if (l->phase != REDIS_UP)
        return;
    for (size_t i = 0; i < l->ring_n; i++) {
        const struct redis_asked *one = redis_link_oldest(l, i);
        if (one->bytes >= REDIS_LEAST_LIMIT)
            large = one->lsn;
    }
    if (large && l->ring_n == 1 && large <= r->careful_until) {
        r->poison = r->cut == large ? large : r->poison;
        r->cut = large;
    }
    r->careful_until = MAX(r->careful_until, large);
}
