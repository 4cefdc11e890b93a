/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this room share: jobs.c reading and life, names.c look-ups by id, table.c what
 * a record says of a job, wait.c who waits, expect.c what we write ourselves, fallback*.c
 * the call for an overdue one. Everything belongs to one thread. */
#pragma once

#include <event2/event_struct.h>
#include <sys/queue.h>

#include "jobs.h"
#include "post.h"
#include "sink.h"

/* --- names.c: ids with and without their collection --- */

struct name {
    struct name *next[2], **at[2]; /* by the whole id; by what follows its collection */
    struct span id;                /* its owner's */
};
struct names {
    struct name **slot[2];
    uint64_t mask, key;
};
struct names_walk {
    const struct names *names;
    struct span id, bare;
    struct name *at;
    unsigned phase;
};
void names_init(struct names *n, uint64_t entries);
void names_free(struct names *n);
void names_add(struct names *n, struct name *name);
void names_remove(struct name *name);
void names_find(const struct names *n, struct span id, struct names_walk *walk);
/* All that the id means, those that are the same to the byte first; NULL behind the last. */
struct name *names_next(struct names_walk *walk);

/* --- the table --- */

enum list { LIST_GOING, LIST_FINISHED, LIST_EXPECTED, LISTS };

struct job {
    struct name name;
    TAILQ_ENTRY(job) link; /* in its list, by `touched` */
    char *source, *type;   /* NULL: none yet */
    uint64_t touched;      /* the last LSN that changed it */
    uint64_t lsn;          /* of the event that says its state, 0: none */
    uint64_t asked_lsn;    /* of the record that first expected it, 0: none did */
    uint64_t kept_lsn;     /* of the last one that says the same */
    int64_t first_ms, last_ms, deadline_ms;
    uint32_t busy; /* records about it on their way to the log */
    uint8_t list, outcome;
    bool overdue;
    char id[];
};
TAILQ_HEAD(job_list, job);
TAILQ_HEAD(wait_list, job_wait);
TAILQ_HEAD(call_list, call);

struct jobs {
    struct wal *wal;
    struct event_base *base;
    const struct jobs_cfg *cfg;
    struct source_plan *const *plans;
    size_t plans_n;
    struct inbox inbox;
    struct event inbox_ev, tick, turn;
    struct wal_watch watch;
    struct wal_reader *reader;
    uint64_t at; /* LSN that was read last */
    bool known, stopped;
    struct names names, waited;
    struct job_list lists[LISTS];
    size_t n, list_n[LISTS], waits_n;
    struct wait_list waits, due;
    struct call_list running, queued;
    size_t running_n, queued_n;
    struct poster *poster; /* where a URL is called */
    struct sink_signer *signer;
    int64_t next_due_ms; /* no deadline is before it */
    int64_t next_keep_ms;
    size_t ops;                                  /* records on their way to the log */
    uint64_t overdue_n, forgotten_n, answered_n; /* since the start */
    uint64_t fallback_n[2];                      /* calls that failed, that did not */
};

/* table.c */
/* Its deadline passed; lsn: of the event that says so. */
void table_set_overdue(struct jobs *j, struct job *job, uint64_t lsn, int64_t time_ms);
void table_apply(struct jobs *j, const struct record *rec);
struct job *table_find(const struct jobs *j, struct span id, struct span source);
void table_forget_below(struct jobs *j, uint64_t first_lsn);
void table_free(struct jobs *j);
void table_info(const struct job *job, struct job_info *out);
enum source_outcome table_outcome(const struct jobs *j, const struct record *rec);
const char *table_word(enum source_outcome o);
bool table_is_final(enum source_outcome o);
bool table_is_overdue(const struct record *rec);

/* wait.c */
void wait_wake(struct jobs *j, const struct record *rec);
void wait_end_all(struct jobs *j);

/* expect.c */
#define EXPECTED_TYPE "hookline.job.expected"
#define FORGOTTEN_TYPE "hookline.job.forgotten"
struct expected { /* the body of such a record, and of the overdue event */
    struct span source;
    int64_t deadline_ms;
    uint64_t asked_lsn; /* 0: this record is the first */
};
bool expected_parse(struct span body, struct expected *out);
void expect_tick(struct jobs *j);

/* fallback.c */
void fallback_call(struct jobs *j, const struct job *job, const struct record *rec);
void fallback_stop(struct jobs *j); /* what is still under way is cut off */

/* jobs.c */
void jobs_read_on(struct jobs *j); /* to the end of what is durable, once it has been there */
void jobs_listen(struct jobs *j);  /* somebody waits: what becomes durable is read at once */
