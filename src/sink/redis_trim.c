/* SPDX-License-Identifier: Apache-2.0 */
/* `trim: consumed`: streams are cut before the oldest entry that any group still needs, from time
 * to time and by a script, so that no group can come in between. */
#include <stdio.h>

#include "clock.h"
#include "redis.h"

#define TRIM_MS 5000

static void trim_one(struct redis *r, struct redis_stream *s)
{
    struct redis_link *l = redis_link_of(r, s);
    int64_t now = clock_mono_ms();

    if (!l || now - s->trimmed_ms < TRIM_MS)
        return;
    s->trimmed_ms = now;
    s->in_flight++;
    redis_call_trim(l, s);
}

void redis_trim_tick(struct redis *r)
{
    if (r->cfg->trim.consumed)
        redis_streams_each(r, trim_one);
}

/* Nothing waits for it, so a refusal is only told. */
void redis_trim_replied(struct redis_link *l)
{
    struct redis *r = l->r;
    const char *error = redis_reply_text(&l->reply, 0).p;

    redis_link_pop(l).stream->in_flight--;
    if (redis_reply_is_error(&l->reply) && redis_error_of(error)->kind != REDIS_PASSES)
        snprintf(r->trim_error, sizeof r->trim_error, "%s", redis_error_core(error));
    else
        r->trim_error[0] = '\0';
    if (redis_reply_is_error(&l->reply))
        redis_scripts_again(l, error);
}
