/* SPDX-License-Identifier: Apache-2.0 */
/* Who waits: an id, a timer and whom to tell, a few hundred bytes each. An event is looked up among
 * the ids that are waited for, so its cost does not grow with how many wait for others. */
#include <assert.h>
#include <string.h>

#include "room.h"

struct job_wait {
    struct name name;
    TAILQ_ENTRY(job_wait) link;
    struct jobs *jobs;
    struct event timer;
    void (*told)(void *arg, const struct job_told *t);
    void *arg;
    uint64_t after;
    uint32_t source_n; /* the source stands behind the id */
    bool any, due;     /* due: it is about to be told */
    char id[];
};

static struct span source_of(const struct job_wait *w)
{
    return span_of(w->id + w->name.id.n, w->source_n);
}

static void take_out(struct jobs *j, struct job_wait *w)
{
    names_remove(&w->name);
    TAILQ_REMOVE(&j->waits, w, link);
    j->waits_n--;
    event_del(&w->timer);
}

static void tell(struct job_wait *w, const struct record *rec, const char *state)
{
    const struct job_told t = { w->name.id, source_of(w), rec, state };

    w->jobs->answered_n += rec != NULL;
    w->told(w->arg, &t);
    free(w);
}

static void on_timer(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
    struct job_wait *w = arg;

    take_out(w->jobs, w);
    tell(w, NULL, NULL);
}

struct job_wait *jobs_wait(struct jobs *j, const struct job_question *q,
                           void (*told)(void *arg, const struct job_told *t), void *arg)
{
    int64_t ms = MIN(MAX(q->wait_ms, 0), (int64_t)JOB_WAIT_MAX_MS);
    struct timeval tv = { ms / 1000, ms % 1000 * 1000 };
    struct job_wait *w;

    if (j->stopped || j->waits_n >= (size_t)j->cfg->waiters)
        return NULL;
    w = xmalloc(sizeof *w + q->id.n + q->source.n);
    *w = (struct job_wait){ .jobs = j,
                            .told = told,
                            .arg = arg,
                            .after = q->after,
                            .any = q->any,
                            .source_n = (uint32_t)q->source.n };
    memcpy(w->id, q->id.p, q->id.n);
    if (q->source.n)
        memcpy(w->id + q->id.n, q->source.p, q->source.n);
    w->name.id = span_of(w->id, q->id.n);
    names_add(&j->waited, &w->name);
    TAILQ_INSERT_TAIL(&j->waits, w, link);
    j->waits_n++;
    event_assign(&w->timer, j->base, -1, 0, on_timer, w);
    event_add(&w->timer, &tv);
    jobs_listen(j);
    return w;
}

void jobs_wait_cancel(struct job_wait *w)
{
    if (w->due)
        TAILQ_REMOVE(&w->jobs->due, w, link);
    else
        take_out(w->jobs, w);
    free(w);
}

static bool answers(const struct job_wait *w, const struct record *rec, enum source_outcome outcome)
{
    return rec->lsn > w->after && (w->any || table_is_final(outcome)) &&
           (!w->source_n || span_eq(source_of(w), rec->source));
}

/* All are taken out before the first is told: who is told may cancel others. */
void wait_wake(struct jobs *j, const struct record *rec)
{
    enum source_outcome outcome;
    struct names_walk walk;
    struct job_wait *w;
    struct name *name;
    bool overdue;

    if (!j->waits_n || rec->kind != RECORD_WEBHOOK || !rec->subject.n)
        return;
    overdue = table_is_overdue(rec);
    outcome = overdue ? OUTCOME_NONE : table_outcome(j, rec);
    names_find(&j->waited, rec->subject, &walk);
    while ((name = names_next(&walk))) {
        w = container_of(name, struct job_wait, name);
        if (!answers(w, rec, outcome))
            continue;
        take_out(j, w);
        w->due = true;
        TAILQ_INSERT_TAIL(&j->due, w, link);
    }
    while ((w = TAILQ_FIRST(&j->due))) {
        TAILQ_REMOVE(&j->due, w, link);
        tell(w, rec, overdue ? "overdue" : table_word(outcome));
    }
}

void wait_end_all(struct jobs *j)
{
    struct job_wait *w;

    while ((w = TAILQ_FIRST(&j->waits))) {
        take_out(j, w);
        assert(TAILQ_FIRST(&j->waits) != w);
        tell(w, NULL, NULL);
    }
}

uint64_t jobs_answer(struct jobs *j, const struct job_question *q, struct job_info *out)
{
    if (!jobs_find(j, q->id, q->source, out) || !out->lsn || out->lsn <= q->after)
        return 0;
    return q->any || out->final ? out->lsn : 0;
}
