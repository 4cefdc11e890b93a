/* dead - another door of wal: what stands in the dead-letter log of a sink, and how far a run (a
 * replay, a redrive) has come. One thread a sink: the one that delivers. */
#pragma once

#include "wal.h"

struct wal_letter {
    struct record rec; /* as it came; kept headers only */
    struct span reason;
    uint64_t attempts;         /* how often the sink refused it or asked for it again */
    int64_t first_ms, last_ms; /* wall clock, first and last refusal; 0: written by an older release
                                */
    char *bytes;               /* what the spans point to */
};

/* The sink refused the record for good: a new letter, or one more attempt at one that is there.
 * Durable when it returns 0. 1: the dead-letter log is full. */
MUST_CHECK int wal_dead_refuse(struct wal_dead *d, const struct record *rec, const char *reason,
                               uint64_t attempts, struct err *e);
/* The first letter with LSN > after; the caller frees it. 1: there is none. */
MUST_CHECK int wal_dead_read(struct wal_dead *d, uint64_t after, struct wal_letter *out,
                             struct err *e);
void wal_letter_free(struct wal_letter *l);
bool wal_dead_has(const struct wal_dead *d, uint64_t lsn);
/* Takes letters out; those that are not there are passed over. Durable when it returns 0. Space is
 * given back once half of the file is not needed any more. */
MUST_CHECK int wal_dead_remove(struct wal_dead *d, const uint64_t *lsns, size_t n,
                               uint64_t *removed, struct err *e);
uint64_t wal_dead_bytes(const struct wal_dead *d);             /* of the letters that are there */
uint64_t wal_dead_last(const struct wal_dead *d);              /* the highest LSN, 0: none */
size_t wal_dead_lsns(const struct wal_dead *d, uint64_t *out); /* all, rising; room for all */

/* --- runs
 * ------------------------------------------------------------------------------------------- */

enum wal_run_kind { RUN_REPLAY = 1, RUN_REDRIVE = 2 };
enum wal_run_state { RUN_GOING, RUN_DONE, RUN_FAILED, RUN_CANCELLED };
#define RUN_ID_BYTES 16

struct wal_run {
    char id[RUN_ID_BYTES + 1];
    enum wal_run_kind kind;
    enum wal_run_state state;
    uint64_t from, to, at;           /* LSNs, inclusive; everything up to `at` is done with */
    uint64_t total, delivered, dead; /* total: letters of a redrive */
    int64_t started_ms, ended_ms;
    char reason[200]; /* why it failed */
    uint64_t *lsns;   /* a redrive of these only, rising; NULL: of all */
    size_t lsns_n;
};
/* The last run of a sink; durable when it returns 0. It goes with the cursor. */
MUST_CHECK int wal_run_save(struct wal *w, const char *sink, const struct wal_run *run,
                            struct err *e);
/* 1: there was none. */
MUST_CHECK int wal_run_load(const struct wal *w, const char *sink, struct wal_run *run,
                            struct err *e);
void wal_run_free(struct wal_run *run);
