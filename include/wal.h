/* wal - the write-ahead log: what was acknowledged is here, and only here, until the sinks have it.
 *
 * One thread (the log thread, started by wal_start) writes; everybody may read. The format, the
 * commit protocol and recovery are described in docs/log-format.md and at the top of the files of
 * src/wal. Promises kept here: P1 (with intake), P3, P4, P6, and P8 for the log. */
#pragma once

#include <stdatomic.h>
#include <stdio.h>

#include "cfg.h"
#include "err.h"
#include "inbox.h"
#include "metrics.h"
#include "record.h"

struct wal_cfg {
    char *dir;
    uint64_t segment_bytes, retain_bytes, backlog_bytes, reserve_bytes;
    int64_t retain_ms;
    int on_damage; /* 0 refuse, 1 quarantine */
    bool allow_volatile;
    bool takeover; /* no setting: `serve --takeover` opens a fenced log */
};
const struct cfg_key *wal_cfg_keys(void); /* section `log` */
struct wal_dedup_cfg {
    int64_t window_ms;
    int64_t entries;
};
const struct cfg_key *wal_dedup_keys(void); /* section `dedup` */

struct wal;

/* Locks the folder, recovers, and makes the spare segment. e->code is the exit code (65, 74, 75,
 * 78). When only the spare cannot be had the log opens drain-only (appends answer WAL_FULL). */
MUST_CHECK int wal_open(struct wal **out, const struct wal_cfg *cfg,
                        const struct wal_dedup_cfg *dedup, struct err *e);
/* Starts the log thread and its helper. `failed` gets one message when the log failed (P3), after
 * every waiter was answered WAL_FAILED: the process must end with 74. */
void wal_start(struct wal *w, struct inbox *failed, struct msg *failed_msg);
/* Appends what was submitted, writes the closing state, joins the threads, unlocks. */
void wal_close(struct wal *w);
void wal_reconfigure(struct wal *w, const struct wal_cfg *cfg, const struct wal_dedup_cfg *dedup);

/* --- append ------------------------------------------------------------------------------------
 */

enum wal_result {
    WAL_DURABLE,      /* lsn is on stable storage */
    WAL_DUPLICATE,    /* lsn names the earlier one, durable */
    WAL_FULL,         /* disk reserve reached and nothing left to trim */
    WAL_BACKLOG_FULL, /* log.backlog_bytes reached */
    WAL_FAILED,       /* the log has stopped; nothing is known */
};

/* One record on its way to disk; embedded in the object it is about. The spans of rec must stay
 * until it comes back. */
struct wal_append {
    struct msg msg; /* the log's while it has the record */
    struct inbox *reply;
    void (*done)(struct msg *m, void *self); /* runs on the thread of `reply`; m is &append->msg */
    struct record rec; /* lsn is given by the log; kind and everything else by the caller */
    bool dedup;        /* look (source, id, type) up and claim it */
    bool other_body;   /* answer: a duplicate whose body differs from the first */
    enum wal_result result;
    uint64_t lsn;
    /* private: made by the thread that submits, so that the one that writes has less to do */
    uint8_t key[16];
    uint32_t body_crc;
};
/* Hands over all that one pass gathered: list of wal_append.msg. Any thread. */
void wal_submit(struct wal *w, struct msg_list *l);

/* --- what is known ------------------------------------------------------------------------------
 */

struct wal_info { /* a consistent enough snapshot; any thread */
    char id[LOG_ID_TEXT_MAX];
    const char *dir;
    const char *state; /* "ok", "full", "backlog_full", "failed" */
    uint64_t first_lsn, last_lsn, durable_lsn;
    uint64_t bytes, segments, free_bytes, backlog_bytes;
    uint64_t damaged;   /* segments in which something is not right */
    uint64_t lost;      /* events whose damaged records were set aside */
    int64_t oldest_ms;  /* wall time of the oldest retained record, 0: none */
    int64_t stalled_ms; /* how long the current write or sync has been running, 0: none */
    int64_t turned_ms;  /* CLOCK_MONOTONIC when the log thread last turned */
    int64_t dedup_reach_ms;
    bool failed;
};
void wal_info(const struct wal *w, struct wal_info *out);
/* What is damaged, what was set aside and which LSNs were lost with it, what the scrub did. */
void wal_damage_json(const struct wal *w, struct buf *json);
const char *wal_log_id(const struct wal *w);
uint64_t wal_durable_lsn(const struct wal *w); /* one atomic load */
void wal_metrics(const struct wal *w,
                 struct buf *out); /* the hookline_log_*, commit and dedup families */

/* --- read ---------------------------------------------------------------------------------------
 */

enum wal_read {
    WAL_READ_OK,
    WAL_READ_END,  /* nothing durable behind the position; see wal_watch */
    WAL_READ_GONE, /* the next record is no longer retained; position moves to the first that is */
    WAL_READ_DAMAGED, /* e says "damaged seg S off O LSN N"; the position stays */
};
struct wal_reader;
struct wal_map; /* one mapped segment, counted */

/* Reads what is durable with LSN > after, one thread a reader. Internal records are returned,
 * markers not; for an LSN whose damaged record was set aside a RECORD_LOST. */
MUST_CHECK int wal_reader_open(struct wal_reader **out, struct wal *w, uint64_t after,
                               struct err *e);
/* Spans of rec point into the mapping and are valid until the next call, or, when `hold` is not
 * NULL, until wal_release(*hold). */
enum wal_read wal_reader_next(struct wal_reader *r, struct record *rec, struct wal_map **hold,
                              struct err *e);
void wal_reader_seek(struct wal_reader *r, uint64_t after);
void wal_reader_close(struct wal_reader *r);
void wal_release(struct wal_map *m); /* any thread */

/* Records are a little out of the order of their times: an intake thread may wait before it hands
 * one over, for other replicas as well. */
#define WAL_DISORDER_MS 1000
/* First LSN received at or after that wall time; last+1 when there is none. Uses the sidecars. Any
 * thread. */
uint64_t wal_lsn_at_time(struct wal *w, int64_t wall_ms);

struct wal_part {
    uint64_t from, to; /* LSNs; from > to: empty */
};
/* The next part of the log behind `after` whose records may have that id and must be read; `to` is
 * UINT64_MAX where the log's end is in it. An empty one: none have it that lie before `from`; there
 * is more to look at. Reads a few blocks of a few sidecars. Any thread. */
struct wal_part wal_find_id(struct wal *w, struct span id, uint64_t after);

/* Tells a reader's thread that more became durable. Arm, read until WAL_READ_END, then wait: what
 * became durable after arming calls `deliver` once, through `in`. Arming twice is harmless, also
 * while a call is on its way. The order "arm, look again, wait" makes a lost wake-up impossible. */
struct wal_watch {
    struct inbox *in;
    void (*deliver)(struct wal_watch *watch, void *self); /* on the thread that runs `in` */
    struct msg msg;                                       /* from here on the log's */
    atomic_bool armed, posted;
    struct wal_watch *next;
};
void wal_watch_add(struct wal *w, struct wal_watch *watch);
void wal_watch_remove(
    struct wal *w,
    struct wal_watch *watch); /* after it no message comes that was not already posted */
void wal_watch_arm(struct wal_watch *watch);

/* --- cursors and dead letters of sinks
 * ------------------------------------------------------------ */

struct wal_cursor;
/* Opens the cursor of a sink, or creates it whole at `from` (durable before it returns). mode and
 * dest (hash of the destination) are stored; *changed tells that they differ from what was stored.
 * Ahead of the log: 65. Both slots bad: starts at the oldest, with a warning. */
MUST_CHECK int wal_cursor_open(struct wal *w, const char *sink, uint32_t mode, uint64_t dest,
                               uint64_t from, struct wal_cursor **out, bool *changed,
                               struct err *e);
bool wal_cursor_exists(const struct wal *w, const char *sink);
/* The delivery mode that stands in its file; -1: no file. */
int wal_cursor_mode(const struct wal *w, const char *sink);
uint64_t
wal_cursor_lsn(const struct wal_cursor *c); /* any thread; records up to here are done with */
MUST_CHECK int wal_cursor_set(struct wal_cursor *c, uint64_t lsn,
                              struct err *e); /* writes a slot, no sync */
MUST_CHECK int wal_cursor_sync(struct wal_cursor *c, struct err *e);
uint64_t wal_backlog_bytes(const struct wal *w,
                           uint64_t after_lsn); /* bytes of log behind that LSN, roughly */
/* What it has not passed stays in the log until the cursor is opened again and passes it, or is
 * removed. */
void wal_cursor_close(struct wal_cursor *c);
/* A few words that the owner of a cursor keeps beside it; they go with it. Durable when it returns.
 */
MUST_CHECK int wal_cursor_note(struct wal *w, const char *sink, struct span note, struct err *e);
/* *note is NULL where there is none; the caller frees it. */
MUST_CHECK int wal_cursor_noted(const struct wal *w, const char *sink, char **note, struct err *e);
/* An operator's word that the sink is to get nothing, since then (wall clock; 0: it may go on). It
 * stands in the folder and goes with the cursor. Durable when it returns. */
MUST_CHECK int wal_cursor_pause(struct wal *w, const char *sink, int64_t since_ms, struct err *e);
/* *since_ms is 0 where it may go on. A file that nobody can read means that it may not. */
MUST_CHECK int wal_cursor_paused(const struct wal *w, const char *sink, int64_t *since_ms,
                                 struct err *e);
/* Names of all cursor files in the folder; the caller frees the list. */
size_t wal_cursor_names(const struct wal *w, char ***out);
MUST_CHECK int wal_cursor_remove(struct wal *w, const char *sink, struct err *e);

struct wal_dead;
MUST_CHECK int wal_dead_open(struct wal *w, const char *sink, uint64_t max_bytes,
                             struct wal_dead **out, struct err *e);
/* One at a time: wal_dead_refuse() in dead.h. For many at a time: durable once wal_dead_sync
 * returned 0; the same LSN again is no new entry. 1: the dead-letter log is full. */
MUST_CHECK int wal_dead_put(struct wal_dead *d, const struct record *rec, const char *reason,
                            struct err *e);
MUST_CHECK int wal_dead_sync(struct wal_dead *d, struct err *e);
uint64_t wal_dead_count(const struct wal_dead *d);
void wal_dead_close(struct wal_dead *d);

/* --- for sinks that keep their state on the other side (epoch.c)
 * ------------------------------------------------------------------------------- */

/* A random number for this start, never 0; durable when it returns. */
MUST_CHECK int wal_epoch_make(struct wal *w, const char *sink, uint64_t *epoch, struct err *e);
/* Whether this folder made it, under the id that the log has now. */
bool wal_epoch_known(const struct wal *w, const char *sink, uint64_t epoch);
/* Notes that state was kept on the other side with that epoch; durable when it returns. */
MUST_CHECK int wal_epoch_wrote(struct wal *w, const char *sink, uint64_t epoch, struct err *e);
bool wal_epoch_has_written(const struct wal *w, const char *sink);
/* record_crc() of that record: 0, 1 not there (not retained, not yet durable), -1 damaged. */
MUST_CHECK int wal_record_crc(struct wal *w, uint64_t lsn, uint32_t *crc, struct err *e);
/* Writes FENCED, synced: wal_open refuses the folder with 75 from now on, unless it is taken over.
 */
MUST_CHECK int wal_fence(struct wal *w, const char *text, struct err *e);
bool wal_taken_over(const struct wal *w);

/* Gives a closed log a new id, so that what sinks keep for the old one is no longer its own; lifts
 * a fence. 75: it is in use. Its segments stay as they are. */
MUST_CHECK int wal_fork(const char *dir, char before[LOG_ID_TEXT_MAX], char now[LOG_ID_TEXT_MAX],
                        struct err *e);

/* --- for `hookline log`: read only, also while a process runs
 * ------------------------------------- */

int wal_ls(const char *dir, FILE *out, struct err *e);
/* Prints what it found; 0 clean, -1 with e->code 65 on damage. */
int wal_verify(const char *dir, FILE *out, struct err *e);
/* Sets aside what is damaged, so that the log can be opened, and says on `out` what was and which
 * LSNs are lost with it. e->code: 65 it cannot be, 74, 75 somebody has the folder, 78. */
MUST_CHECK int wal_repair(const char *dir, FILE *out, struct err *e);
/* Calls `show` for every record up to the end. */
int wal_dump(const char *dir, void (*show)(const struct record *rec, const char *logid, void *arg),
             void *arg, struct err *e);
