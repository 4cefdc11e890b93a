/* SPDX-License-Identifier: Apache-2.0 */
/* The table: what each record of the log says of a job. The same records make the same table, so
 * nothing but the log has to survive.
 *
 * Three lists, each in the order of the LSNs that changed their jobs last: expected (a deadline is
 * running), finished, and all others. Room is made by forgetting the oldest finished one, then the
 * oldest that nobody expects; one that is expected stays until its deadline, its end or its
 * withdrawal. */
#include <string.h>

#include "clock.h"
#include "log.h"
#include "room.h"

#define LOOKED_AT 64 /* ids that so many collections share are told by their whole name only */
#define TYPE_SHOWN 255

/* --- words
 * -------------------------------------------------------------------------------------------- */

static const char *const words[] = { "running", "succeeded", "failed",  "cancelled",
                                     "waiting", "expected",  "overdue", NULL };

const char *const *jobs_states(void)
{
    return words;
}

const char *table_word(enum source_outcome o)
{
    return words[o];
}

bool table_is_final(enum source_outcome o)
{
    return o == OUTCOME_SUCCEEDED || o == OUTCOME_FAILED || o == OUTCOME_CANCELLED;
}

bool table_is_overdue(const struct record *rec)
{
    return span_eq(rec->source, S(JOB_SOURCE)) && span_eq(rec->type, S(JOB_OVERDUE_TYPE));
}

enum source_outcome table_outcome(const struct jobs *j, const struct record *rec)
{
    for (size_t i = 0; i < j->plans_n; i++)
        if (span_eq(rec->source, span_str(source_info(j->plans[i])->name)))
            return source_outcome(j->plans[i], rec->type);
    return OUTCOME_NONE;
}

static const char *state_of(const struct job *job)
{
    if (table_is_final(job->outcome))
        return words[job->outcome];
    if (job->overdue)
        return words[6];
    return job->type ? words[job->outcome] : words[5];
}

void table_info(const struct job *job, struct job_info *out)
{
    *out = (struct job_info){ .id = job->name.id,
                              .source = span_str(job->source),
                              .type = span_str(job->type),
                              .state = state_of(job),
                              .final = table_is_final(job->outcome),
                              .first_ms = job->first_ms,
                              .last_ms = job->last_ms,
                              .deadline_ms = job->deadline_ms,
                              .lsn = job->lsn };
}

/* --- entries
 * ------------------------------------------------------------------------------------------ */

static bool may_be_of(const struct job *job, struct span source)
{
    return !source.n || !job->source || span_eq(source, span_str(job->source));
}

struct job *table_find(const struct jobs *j, struct span id, struct span source)
{
    struct job *best = NULL;
    struct names_walk walk;
    struct name *name;
    int looked = 0;

    names_find(&j->names, id, &walk);
    while (looked++ < LOOKED_AT && (name = names_next(&walk))) {
        struct job *job = container_of(name, struct job, name);
        if (best && walk.phase && span_eq(best->name.id, id))
            break; /* to the byte comes before any other */
        if (may_be_of(job, source) && (!best || job->touched > best->touched))
            best = job;
    }
    return best;
}

static void unlist(struct jobs *j, struct job *job)
{
    TAILQ_REMOVE(&j->lists[job->list], job, link);
    j->list_n[job->list]--;
}

static void enlist(struct jobs *j, struct job *job)
{
    job->list = (uint8_t)(job->deadline_ms               ? LIST_EXPECTED
                          : table_is_final(job->outcome) ? LIST_FINISHED
                                                         : LIST_GOING);
    TAILQ_INSERT_TAIL(&j->lists[job->list], job, link);
    j->list_n[job->list]++;
}

static void drop(struct jobs *j, struct job *job)
{
    unlist(j, job);
    names_remove(&job->name);
    j->n--;
    free(job->source);
    free(job->type);
    free(job);
}

static bool make_room(struct jobs *j)
{
    struct job *oldest;

    if (j->n < (size_t)j->cfg->entries)
        return true;
    oldest = TAILQ_FIRST(&j->lists[LIST_FINISHED]);
    if (!oldest)
        oldest = TAILQ_FIRST(&j->lists[LIST_GOING]);
    if (!oldest)
        return false;
    drop(j, oldest);
    j->forgotten_n++;
    return true;
}

/* NULL: everything that is in the table is expected. */
static struct job *make(struct jobs *j, struct span id, int64_t now_ms)
{
    struct job *job;

    if (!make_room(j))
        return NULL;
    job = xcalloc(1, sizeof *job + id.n + 1);
    memcpy(job->id, id.p, id.n);
    job->name.id = span_of(job->id, id.n);
    job->first_ms = job->last_ms = now_ms;
    names_add(&j->names, &job->name);
    j->n++;
    enlist(j, job);
    return job;
}

/* The list, and the place in it, follow what the record changed. */
static void touch(struct jobs *j, struct job *job, uint64_t lsn, int64_t time_ms)
{
    unlist(j, job);
    job->touched = lsn;
    job->last_ms = time_ms;
    enlist(j, job);
}

static void set_text(char **at, struct span s)
{
    if (*at && span_eq(span_str(*at), s))
        return;
    free(*at);
    *at = span_dup(s);
}

/* --- records
 * ------------------------------------------------------------------------------------------ */

static void apply_event(struct jobs *j, const struct record *rec)
{
    enum source_outcome outcome = table_outcome(j, rec);
    struct job *job = table_find(j, rec->subject, rec->source);

    if (!job && !(job = make(j, rec->subject, rec->time_ms)))
        return;
    if (table_is_final(job->outcome) && !table_is_final(outcome))
        return; /* progress that was overtaken */
    set_text(&job->source, rec->source);
    set_text(&job->type, span_of(rec->type.p, MIN(rec->type.n, (size_t)TYPE_SHOWN)));
    job->outcome = (uint8_t)outcome;
    job->lsn = rec->lsn;
    job->overdue = false;
    if (table_is_final(outcome))
        job->deadline_ms = 0;
    touch(j, job, rec->lsn, rec->time_ms);
}

void table_set_overdue(struct jobs *j, struct job *job, uint64_t lsn, int64_t time_ms)
{
    char text[CLOCK_TEXT_MAX];

    if (j->known) {
        j->overdue_n++;
        log_warn("a job is overdue", KSPAN("job", job->name.id), KU("lsn", lsn),
                 KS("deadline", clock_text(job->deadline_ms, text)));
    }
    job->deadline_ms = 0;
    job->overdue = true;
    job->lsn = lsn;
    touch(j, job, lsn, time_ms);
}

static void apply_overdue(struct jobs *j, const struct record *rec)
{
    struct expected x;
    struct job *job;

    if (!expected_parse(rec->body, &x))
        return;
    job = table_find(j, rec->subject, x.source);
    if (!job)
        job = make(j, rec->subject, rec->time_ms);
    if (!job || table_is_final(job->outcome) || job->asked_lsn > x.asked_lsn)
        return; /* expected anew meanwhile */
    job->asked_lsn = x.asked_lsn;
    table_set_overdue(j, job, rec->lsn, rec->time_ms);
    if (j->known)
        fallback_call(j, job, rec);
}

/* A record that only says again what an older one said changes nothing where that is over. */
static void apply_expected(struct jobs *j, const struct record *rec)
{
    struct expected x;
    struct job *job;

    if (!expected_parse(rec->body, &x))
        return;
    job = table_find(j, rec->subject, x.source);
    if (!job && !(job = make(j, rec->subject, rec->time_ms))) {
        log_warn("more jobs are expected than jobs.entries allows; one is not watched",
                 KU("lsn", rec->lsn));
        return;
    }
    if (table_is_final(job->outcome) || (x.asked_lsn && job->overdue))
        return;
    if (x.asked_lsn && x.asked_lsn == job->asked_lsn) {
        job->kept_lsn = rec->lsn;
        return;
    }
    if (!job->source && x.source.n)
        set_text(&job->source, x.source);
    job->asked_lsn = x.asked_lsn ? x.asked_lsn : rec->lsn;
    job->kept_lsn = rec->lsn;
    job->deadline_ms = x.deadline_ms;
    job->overdue = false;
    j->next_due_ms = MIN(j->next_due_ms, job->deadline_ms);
    touch(j, job, rec->lsn, rec->time_ms);
}

static void apply_internal(struct jobs *j, const struct record *rec)
{
    struct expected x;
    struct job *job;

    if (span_eq(rec->type, S(EXPECTED_TYPE)))
        apply_expected(j, rec);
    else if (span_eq(rec->type, S(FORGOTTEN_TYPE)) && expected_parse(rec->body, &x) &&
             (job = table_find(j, rec->subject, x.source)))
        drop(j, job);
}

void table_apply(struct jobs *j, const struct record *rec)
{
    if (!rec->subject.n || rec->subject.n > JOB_ID_MAX)
        return;
    if (rec->kind == RECORD_INTERNAL)
        apply_internal(j, rec);
    else if (rec->kind == RECORD_WEBHOOK && table_is_overdue(rec))
        apply_overdue(j, rec);
    else if (rec->kind == RECORD_WEBHOOK)
        apply_event(j, rec);
}

/* A start would not find them either. */
void table_forget_below(struct jobs *j, uint64_t first_lsn)
{
    for (int l = LIST_GOING; l <= LIST_FINISHED; l++) {
        struct job *job = TAILQ_FIRST(&j->lists[l]), *next;
        for (; job && job->touched < first_lsn; job = next) {
            next = TAILQ_NEXT(job, link);
            drop(j, job);
        }
    }
}

void table_free(struct jobs *j)
{
    for (int l = 0; l < LISTS; l++) {
        struct job *job = TAILQ_FIRST(&j->lists[l]), *next;
        for (; job; job = next) {
            next = TAILQ_NEXT(job, link);
            drop(j, job);
        }
    }
    names_free(&j->names);
}

/* --- looking
 * ------------------------------------------------------------------------------------------ */

void jobs_list(struct jobs *j, struct span source, const char *state, uint64_t limit,
               void (*show)(void *arg, const struct job_info *job), void *arg)
{
    struct job *at[LISTS];

    jobs_read_on(j);
    for (int l = 0; l < LISTS; l++)
        at[l] = TAILQ_LAST(&j->lists[l], job_list);
    while (limit) {
        struct job_info info;
        int newest = 0;
        for (int l = 1; l < LISTS; l++)
            if (at[l] && (!at[newest] || at[l]->touched > at[newest]->touched))
                newest = l;
        if (!at[newest])
            return;
        table_info(at[newest], &info);
        at[newest] = TAILQ_PREV(at[newest], job_list, link);
        if ((source.n && !span_eq(source, info.source)) || (state && strcmp(state, info.state)))
            continue;
        show(arg, &info);
        limit--;
    }
}

bool jobs_find(struct jobs *j, struct span id, struct span source, struct job_info *out)
{
    struct job *job;

    jobs_read_on(j);
    job = table_find(j, id, source);
    if (job)
        table_info(job, out);
    return job != NULL;
}
