/* SPDX-License-Identifier: Apache-2.0 */
/* The URL of jobs.fallback: the overdue event as a POST, as a sink would forward it. Once: whoever
 * needs it for certain takes it from a sink. */
#include "clock.h"
#include "fallback.h"
#include "log.h"

static void on_answer(void *arg, const struct post_answer *a)
{
    struct call *c = arg;
    bool good = a->status >= 200 && a->status < 300;

    c->post = NULL;
    if (good)
        log_info("the fallback was called", KS("job", c->job), KI("status", a->status),
                 KSPAN("output", a->text));
    else
        log_warn("the fallback failed", KS("job", c->job), KI("status", a->status),
                 KS("why", a->error ? a->error : ""), KSPAN("output", a->text));
    fallback_ended(c, good);
}

void fallback_post(struct call *c)
{
    struct jobs *j = c->jobs;
    const struct record rec = { .lsn = c->lsn, .body = buf_as_span(&c->body) };

    c->to = (struct post_target){ j->cfg->fallback.url, j->cfg->fallback.ca,
                                  j->cfg->fallback.timeout_ms };
    sink_signer_sign(j->signer, &rec, wal_log_id(j->wal), clock_wall_ms(), &c->headers);
    c->post = post_start(j->poster, &c->to, buf_as_span(&c->headers), rec.body, on_answer, c);
}

void fallback_post_end(struct call *c)
{
    post_cancel(c->post);
    log_warn("the fallback failed", KS("job", c->job), KI("status", 0), KS("why", "stopping"),
             KSPAN("output", SPAN_NONE));
    fallback_ended(c, false);
}
