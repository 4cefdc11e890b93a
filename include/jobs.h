/* jobs - what is known of each job, and who waits for it.
 *
 * A job is what the subject of an event names. The table is made of the log alone, by a reader of
 * its own: of the events, whose outcome the presets tell, and of records of ours (RECORD_INTERNAL)
 * that say which jobs somebody expects, and until when. So it is there again after every start, as
 * far as the log is retained. Ids are compared as they are, and with and without a leading
 * "collection/". Everything runs on the loop it was opened with, the main thread's. */
#pragma once

#include <event2/event.h>

#include "source.h"
#include "wal.h"

struct jobs_cfg { /* section `jobs` */
    int64_t entries, waiters;
    struct {
        struct cfg_strs command; /* none, and no url: nothing is called */
        char *url, *ca;
        struct cfg_secrets secrets;
        int64_t timeout_ms;
    } fallback;
};
const struct cfg_key *jobs_cfg_keys(void);
void jobs_check(const struct jobs_cfg *cfg, const struct cfg_node *at, struct err_list *errs,
                struct err_list *warns);

#define JOB_ID_MAX 1024 /* events with longer subjects are no job's */
#define JOB_WAIT_MAX_MS 600000
#define JOB_SOURCE "hookline" /* of what we say ourselves */
#define JOB_OVERDUE_TYPE "hookline.job.overdue"

struct jobs;
struct jobs *jobs_open(struct wal *w, struct event_base *base, const struct jobs_cfg *cfg);
/* Which outcome a type has, from now on. Borrowed until the next call. */
void jobs_plans(struct jobs *j, struct source_plan *const *plans, size_t n);
/* Before the log closes: who waits is told, nothing is read or asked any more. */
void jobs_stop(struct jobs *j);
/* Once the log is closed: who asked for something last has an answer. */
void jobs_free(struct jobs *j);

struct job_info {                 /* spans are valid until the loop's next turn */
    struct span id, source, type; /* source and type are empty before the first event */
    const char *state;            /* of the closed list in jobs_states() */
    bool final;                   /* succeeded, failed, cancelled */
    int64_t first_ms, last_ms;    /* wall clock; first: registered or heard of */
    int64_t deadline_ms;          /* 0: nobody expects it, or not any more */
    uint64_t lsn;                 /* of the event that says its state, 0: none yet */
};
const char *const *jobs_states(void);  /* NULL-ended */
bool jobs_ready(const struct jobs *j); /* the retained log has been read to its end once */
/* An empty source is any. What is durable by now is known. */
bool jobs_find(struct jobs *j, struct span id, struct span source, struct job_info *out);
/* The newest first, at most `limit`; a state of NULL is any. */
void jobs_list(struct jobs *j, struct span source, const char *state, uint64_t limit,
               void (*show)(void *arg, const struct job_info *job), void *arg);

/* --- waiting
 * -------------------------------------------------------------------------------------------- */

struct job_wait;
struct job_told {
    struct span id, source;   /* as they were asked for */
    const struct record *rec; /* NULL: the time is over */
    const char *state;        /* that this event says */
};
struct job_question {
    struct span id, source;
    bool any;       /* any event of it, not only a final one */
    uint64_t after; /* only events with a higher LSN */
    int64_t wait_ms;
};
/* Calls `told` once, later; NULL: too many wait. */
struct job_wait *jobs_wait(struct jobs *j, const struct job_question *q,
                           void (*told)(void *arg, const struct job_told *t), void *arg);
void jobs_wait_cancel(struct job_wait *w); /* told is not called any more */
/* Whether an answer is there already: the LSN of the event, 0: no. */
uint64_t jobs_answer(struct jobs *j, const struct job_question *q, struct job_info *out);

/* --- expecting
 * ------------------------------------------------------------------------------------------ */

typedef void job_done(void *arg, enum wal_result result);
/* Without a final event by then, one event JOB_OVERDUE_TYPE of source JOB_SOURCE goes into the log,
 * and from there to the sinks. Durable when `done` is called with WAL_DURABLE. False: as many jobs
 * as the table holds are expected already. */
bool jobs_expect(struct jobs *j, struct span id, struct span source, int64_t deadline_ms,
                 job_done *done, void *arg);
/* Forgets it, deadline and all. False: no such job. */
bool jobs_forget(struct jobs *j, struct span id, struct span source, job_done *done, void *arg);

void jobs_status(const struct jobs *j, struct buf *json); /* the value of "jobs" */
void jobs_metrics(const struct jobs *j, struct buf *out);
