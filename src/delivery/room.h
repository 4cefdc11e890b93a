/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this room share: delivery.c the thread and its life, window.c what is read,
 * sent and reported, resume.c where exactly once goes on, replay.c the same for what is sent once
 * more, judge.c what a program says of a record, steer.c what the admin listener asks for, report.c
 * what is shown, retire.c sinks that left the configuration. */
#pragma once

#include <event2/event_struct.h>

#include "dead.h"
#include "delivery.h"

#define REASONS 8
#define DEAD_FULL                                                                                  \
    "the dead-letter log is full: drop or redrive letters with `hookline dead`, or raise "         \
    "dead_bytes"

struct entry {
    struct record rec;
    struct wal_map *hold;
    size_t bytes;
    unsigned tries;
    bool matches, sent, done, again, dead;
    bool spans;       /* its trace is sampled, and spans are sent */
    int64_t first_us; /* where `spans`: when it was handed over first */
    bool judged;      /* by the sink's program */
    bool skipped;     /* not for this sink: the program says so */
    char *made;       /* what the program made of the body, NULL: nothing */
    size_t made_n;
};

struct retry_count {
    char reason[48];
    struct counter n;
};

struct delivery {
    struct wal *wal;
    char *name;
    const struct sink_cfg *cfg;
    struct program *program; /* NULL: none; see judge.c */
    struct buf answer;       /* of the program, the last one */
    uint64_t max_body;
    struct otlp *otlp; /* NULL: no spans */
    pthread_t thread;
    struct event_base *base;
    struct inbox inbox;
    struct event inbox_ev, tick, retry, again_ev;
    struct wal_watch watch;
    struct msg stop_msg;
    struct wal_cursor *cursor;
    struct wal_reader *reader, *counting;
    struct wal_dead *dead;
    struct sink *sink;
    struct replay *replay; /* what is under way, NULL: nothing */
    struct wal_run run;    /* that, or the last one; this thread's, shown under `lock` */

    struct entry *ring;
    size_t cap, first, n, bytes, outstanding, again;
    uint64_t passed;                        /* LSN; everything up to here is done with */
    uint64_t matched_ahead, matched_passed; /* what matches up to `counted`, up to `passed` */
    uint64_t counted;                       /* LSN, of the reader that runs ahead */
    bool everything;                        /* the filter lets all pass */
    unsigned attempt;
    bool unsent; /* the newest of the ring: the sink had no room for it */
    bool sink_full, waiting_retry, damaged, dead_full, pumping;
    bool no_program;          /* it could not be run when it was tried last */
    bool kick;                /* something was reported since the last pump */
    uint64_t epoch;           /* exactly once, else 0; see resume.c */
    uint64_t confirmed;       /* the highest LSN that the sink is known to have */
    uint64_t floor;           /* LSN below which no mark counts */
    bool settled;             /* it is known where to go on: the cursor may move */
    bool wrote, wrote_before; /* state was kept in the sink: by us, by an earlier start */
    bool state_lost;
    int64_t stop_by_ms;
    atomic_bool stopping;

    pthread_mutex_t lock; /* state and reason, for /status */
    enum sink_state state;
    char reason[512];
    int64_t paused_ms; /* by an operator, since then (wall); 0: not. Written by this thread only */
    struct buf warnings; /* items of a JSON array */
    struct retry_count retries[REASONS];
    struct counter delivered, filtered, gone, lost, states_lost, replayed;
    atomic_bool full;
    struct progress passed_out;
    _Atomic uint64_t lag_events, dead_n, dead_bytes, dead_total;
    _Atomic int64_t turned_ms, oldest_ms;
};

/* Durable beside the cursor, for the day when the sink leaves the configuration. */
MUST_CHECK int filter_remember(struct wal *w, const char *name, const struct sink_cfg *cfg,
                               struct err *e);
void entry_drop(struct entry *en); /* gives back what it holds */
void window_pump(struct delivery *d);
void window_advance(struct delivery *d);
void window_retry_due(struct delivery *d);
/* resume.c: exactly once. */
MUST_CHECK int resume_open(struct delivery *d, int mode_before, bool new_destination,
                           struct err *e);
enum sink_verdict resume_judge(void *arg, const struct sink_mark *found, bool running,
                               struct buf *reason);
void resume_from(void *arg, uint64_t lsn);
uint64_t resume_cursor(void *arg);
void resume_mark(void *arg, uint64_t lsn, struct sink_mark *out);
void resume_wrote(struct delivery *d); /* the first confirmed event of this start */
struct sink_owner window_owner(struct delivery *d);
void window_measure(struct delivery *d); /* lag, quota and warnings, for report.c */

/* spans.c: of a record that is being handed over, and that is done with; failed: why not */
void spans_begin(struct entry *en);
void spans_end(struct delivery *d, const struct entry *en, const char *failed);

/* replay.c */
/* Takes the LSNs of the run. Durable when it returns 0. */
MUST_CHECK int replay_start(struct delivery *d, struct wal_run *run, struct err *e);
MUST_CHECK int replay_resume(struct delivery *d, struct err *e); /* what a stop left unfinished */
void replay_cancel(struct delivery *d);
void replay_tick(struct delivery *d);
void replay_go_on(struct delivery *d); /* the sink is paused no longer */
void replay_pause(struct delivery *d); /* the process ends: what was reported is kept */
void replay_close(struct delivery *d);
const char *replay_state(const struct replay *r, const char **reason); /* under d->lock */
void replay_room(struct delivery *d);                                  /* letters were taken out */
/* judge.c */
enum judged {
    JUDGED_SEND,
    JUDGED_SKIP,  /* done with it */
    JUDGED_BAD,   /* to the dead letters, with the reason */
    JUDGED_LATER, /* the program cannot be run now; the reason says why */
};
#define JUDGED_TURN_MS 50 /* so long it judges before the loop gets its turn */
/* In our log, where no body may stand: jq quotes what it cannot work with. */
#define JUDGED_BAD_SAID "match.jq or transform.jq failed; the letter says why"
/* made is the caller's where the record was transformed, else NULL; the reason is NUL-ended and
 * stays until the next call on this thread. */
enum judged judge_record(struct delivery *d, const struct record *rec, char **made, size_t *made_n,
                         const char **reason);
/* What goes to the sink; its spans are those of rec and made. */
struct record judged_record(const struct record *rec, const char *made, size_t made_n);
bool judging_long(const struct delivery *d, int64_t since_ms);

/* steer.c */
void dead_counted(struct delivery *d);
