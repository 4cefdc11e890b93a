/* SPDX-License-Identifier: Apache-2.0 */
/* jobs.fallback: a command or a URL for a job that became overdue, so that somebody can ask the
 * provider.
 *
 * It is called once for each; a few at a time, each for a limited time, and what they say is
 * bounded. Jobs that became overdue before a start are not asked for again: the event is in the log
 * and the sinks have it, the call is a convenience beside it. */
#include "fallback.h"
#include "log.h"

#define AT_ONCE 4
#define QUEUE_MOST 1000

static void free_call(struct call *c)
{
    free(c->job);
    free(c->source);
    buf_free(&c->body);
    buf_free(&c->headers);
    free(c);
}

static void start_next(struct jobs *j)
{
    struct call *c;

    while (!j->stopped && j->running_n < AT_ONCE && (c = TAILQ_FIRST(&j->queued))) {
        TAILQ_REMOVE(&j->queued, c, link);
        j->queued_n--;
        TAILQ_INSERT_TAIL(&j->running, c, link);
        j->running_n++;
        if (j->cfg->fallback.url)
            fallback_post(c);
        else
            fallback_run(c);
    }
}

void fallback_ended(struct call *c, bool good)
{
    struct jobs *j = c->jobs;

    j->fallback_n[good]++;
    TAILQ_REMOVE(&j->running, c, link);
    j->running_n--;
    free_call(c);
    start_next(j);
}

void fallback_call(struct jobs *j, const struct job *job, const struct record *rec)
{
    struct call *c;

    if (!j->cfg->fallback.command.n && !j->cfg->fallback.url)
        return;
    if (j->queued_n == QUEUE_MOST) {
        log_warn("too many jobs are overdue at once; the fallback is not called for one",
                 KSPAN("job", job->name.id));
        j->fallback_n[false]++;
        return;
    }
    c = xcalloc(1, sizeof *c);
    c->jobs = j;
    c->job = span_dup(job->name.id);
    c->source = span_dup(span_str(job->source));
    c->lsn = rec->lsn;
    buf_span(&c->body, rec->body);
    sink_http_headers(rec, wal_log_id(j->wal), j->cfg->fallback.secrets.n > 0, &c->headers);
    TAILQ_INSERT_TAIL(&j->queued, c, link);
    j->queued_n++;
    start_next(j);
}

void fallback_stop(struct jobs *j)
{
    struct call *c, *next;

    for (c = TAILQ_FIRST(&j->queued); c; c = next) {
        next = TAILQ_NEXT(c, link);
        free_call(c);
    }
    TAILQ_INIT(&j->queued);
    for (c = TAILQ_FIRST(&j->running); c; c = next) {
        next = TAILQ_NEXT(c, link);
        if (c->post)
            fallback_post_end(c);
        else
            fallback_run_end(c);
    }
    poster_free(j->poster);
    j->poster = NULL;
    sink_signer_free(j->signer);
    j->signer = NULL;
}
