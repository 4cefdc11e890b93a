/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this room share: the log, its segments, and who may touch what.
 *
 * log thread:    active, end of the active segment, batch buffer, deduplication index
 * sync thread:   durable_lsn while anything is handed over to it, answers
 * any thread:    the table of segments, the spare, cursors and watches, each under `lock`;
 *                positions and states as atomics
 * helper thread: files of sealed segments, sidecars, the spare before it is published */
#pragma once

#include <pthread.h>

#include "file.h"
#include "format.h"
#include "wal.h"

struct wal_map {
    atomic_uint refs;
    uint8_t *p;
    size_t n;
};

struct segment {
    uint64_t number, salt, bytes; /* bytes: of the file */
    uint64_t first_lsn, last_lsn; /* last_lsn of the active one is kept by the log thread */
    uint64_t end;                 /* where the batches end; of the active one: the log thread's */
    uint32_t chain;
    int64_t first_ms, last_ms; /* wall time of the first record (once it has a sidecar) and the
                                  last, 0: none */
    int64_t sealed_boot_ms;    /* CLOCK_BOOTTIME when it was sealed: its age counts from here */
    bool sealed, has_sidecar, recycled, mended;
    bool has_ids; /* its sidecar has a table of so many ids, the whole segment's */
    uint32_t ids;
    bool cached; /* its pages are in the page cache, since it was written or read again */
    bool damaged, scrub_told; /* damage found at a start or by the scrub; named by the scrub */
    bool suspect;             /* a reader or the scrub met damage: the helper looks (heal.c) */
    uint64_t waits_for_lsn;   /* it did, and may set it aside once all sinks have this LSN */
    int fd;                   /* of the active one and the spare, else -1 */
    struct wal_map *map;      /* made by the first reader */
    struct sidecar *sidecar;  /* of one that was just sealed, to be written by the helper */
};

struct kept { /* a file that holds what was damaged */
    uint64_t segment, offset, bytes, first_lsn, last_lsn;
    char name[64];
};

struct dedup;
struct wal_cursor {
    struct wal_cursor *next;
    struct wal *wal;
    char *name;
    int fd;
    uint32_t mode;
    uint64_t dest, sequence;
    unsigned slot;
    bool dirty;
    _Atomic uint64_t lsn, synced_lsn;
};

/* A group on its way from the log thread to the sync thread. */
struct commit {
    struct msg_list group;
    uint64_t last_lsn, records;
    int64_t started_us;
    int fd; /* of the active segment, which stays open until this is synced */
    bool
        written; /* false: only repeats and refusals, which wait for what was written before them */
    char name[32];
};

struct syncer {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake, moved; /* for the sync thread, for the log thread */
    struct commit next;
    bool waiting, busy, stop; /* waiting: next is there and not taken yet */
};

struct wal {
    char *dir;
    int lock_fd;
    uint8_t log_id[16], dedup_key[16];
    char id[LOG_ID_TEXT_MAX];
    uint8_t *old_ids; /* 16 bytes each: what it was called before it was forked */
    size_t old_ids_n;

    pthread_mutex_t lock; /* segments, spare, cursors, watches, cfg */
    pthread_cond_t helper_wake, spare_ready;
    struct wal_cfg cfg;
    struct wal_dedup_cfg dedup_cfg;
    struct segment **segs; /* by number; the last is the active one */
    size_t segs_n;
    struct segment *spare; /* NULL: the helper is making it, or cannot */
    struct wal_cursor *cursors;
    struct wal_watch *watches;
    atomic_bool stopping, helper_stop; /* the helper goes last: the log thread may need a spare */

    /* log thread */
    struct inbox in;
    pthread_t thread, helper;
    atomic_bool started;
    struct msg_list group;
    struct segment *active;  /* NULL: none yet, see `waiting` */
    struct segment *waiting; /* recovery has no room to copy this one's tail to */
    uint8_t *batch;
    size_t batch_n, batch_cap;
    uint32_t batch_count;
    int64_t active_first_ms;       /* wall time of the first record, when all were appended by us */
    bool active_ours, first_batch; /* first_batch: the active segment holds one */
    bool active_unclaimed;         /* it has a record whose id the index does not know */
    uint64_t next_lsn, marked_lsn; /* durable_lsn that is on disk already */
    struct marker previous;        /* what the opening record of the active segment says */
    enum marker_kind opening;
    struct dedup *dedup;
    struct syncer sync;
    struct inbox *failed_to;
    struct msg *failed_msg;
    struct msg stopped; /* to the log thread, once */
    bool tell_owner;    /* log thread: it has come */

    _Atomic uint64_t durable_lsn, first_lsn, backlog_bytes, free_bytes;
    _Atomic int64_t writing_since_ms, syncing_since_ms, turned_ms, oldest_ms, dedup_oldest_ms;
    atomic_bool full, backlog_full, failed, helper_failed;
    bool aside,
        spare_denied; /* helper: raw material for a spare exists; there was no room for one */
    struct histogram commit_seconds, commit_records;
    struct counter discarded_bytes;
    struct kept *kept; /* what was set aside, the latest; under lock */
    size_t kept_n;
    uint64_t kept_all, lost_all;
    struct counter scrubbed_bytes, scrub_passes, scrub_found;
    struct msg
        roll_msg; /* the helper asks for the active segment to be sealed, so that it can mend it */
    atomic_bool roll_posted;
    bool roll;
};

/* segment.c */
char *segment_path(const struct wal *w, uint64_t number);
void segment_name(uint64_t number, char out[32]);
struct segment_plan {
    uint64_t number, bytes;
    bool recycle; /* from the file that was set aside, which has that size */
};
/* Makes NUMBER.wal whole: header, zeros, fsync, rename, fsync of the folder. */
MUST_CHECK int segment_create(struct wal *w, const struct segment_plan *plan, struct segment **out,
                              struct err *e);
/* Renames a trimmed segment to what the next one is made of. The folder is synced before anything
 * is written to it: until then a crash may bring the old name back, and the bytes under it must
 * still be those of the old segment. */
MUST_CHECK int segment_set_aside(struct wal *w, const struct segment *s, struct err *e);
void segment_discard_aside(struct wal *w); /* what was set aside, if anything */
MUST_CHECK int segment_open_fd(const struct wal *w, struct segment *s, struct err *e);
void segment_free(struct segment *s);
void segment_publish(struct wal *w, struct segment *s); /* appends to the table; takes it */
/* The segment that holds the first record with LSN > after, mapped and held; NULL when there is
 * none. */
struct wal_map *segment_hold(struct wal *w, uint64_t after, struct segment *copy, struct err *e);
struct wal_map *map_new(int fd, size_t n);
void segment_install_signals(void);

/* scan.c: walks a segment with pread, one batch at a time, in bounded memory. */
struct scan {
    int fd;
    char name[32];
    uint64_t salt, bytes, pos;
    bool lenient; /* what cannot be read is zeros */
    uint8_t *buf;
    size_t cap;
    struct batch_header batch;
    uint8_t raw[BATCH_HEADER];
    size_t at;                               /* next record in buf */
    uint64_t bad_offset, bad_lsn, bad_later; /* SCAN_BAD: where, and how many behind it in the
                                                batch are right */
};
enum scan_result { SCAN_BATCH, SCAN_END, SCAN_BAD, SCAN_ERROR };
void scan_init(struct scan *sc, int fd, const struct segment *s, uint64_t pos);
enum scan_result scan_batch(struct scan *sc, struct err *e); /* and moves pos behind it */
bool scan_record(struct scan *sc, struct record *rec);       /* next of the batch; markers too */
/* The next position >= pos where a batch of this segment begins; SCAN_BATCH leaves pos there. */
enum scan_result scan_resync(struct scan *sc, struct err *e);
void scan_free(struct scan *sc);

/* scrub.c: helper thread. */
struct scrub {
    struct segment seg; /* a copy of the one that is read, or was last */
    struct scan scan;
    uint64_t next_lsn;
    uint32_t chain;
    bool busy, through;       /* through: nothing sealed is left for this pass */
    int64_t next_ms, pass_ms; /* CLOCK_MONOTONIC */
};
void scrub_init(struct scrub *sb);
void scrub_some(struct wal *w, struct scrub *sb); /* a piece, when it is time for one */
void scrub_close(struct scrub *sb);

/* heal.c: helper thread, but for heal_suspect (a reader's) and heal_load (at the start). */
void heal_suspect(struct wal *w, uint64_t number);
void heal_some(struct wal *w);
MUST_CHECK int heal_load(struct wal *w, struct err *e);

/* append.c */
void *append_thread(void *wal);
/* Writes and syncs the batch buffer, once nothing is under way; both log thread and recovery. */
MUST_CHECK int append_flush(struct wal *w, uint64_t flags, struct err *e);
void append_record(struct wal *w, const struct record *rec);
void append_begin(struct wal *w, struct segment *s);

/* commit.c; but for the thread itself and commit_fail() the log thread's. */
void *commit_thread(void *wal);
void commit_wait_room(struct wal *w); /* until a group can be handed over */
void commit_hand_over(struct wal *w, const struct commit *c);
bool commit_idle(struct wal *w);  /* everything that was handed over has been answered */
void commit_drain(struct wal *w); /* waits for that */
void commit_stop(struct wal *w);  /* joins; nothing may be under way */
void commit_publish(struct wal *w, uint64_t lsn);
void commit_answer(struct msg_list *group, bool failed);
void commit_fail(struct wal *w, const struct err *e);

/* helper.c */
void *helper_thread(void *wal);
void helper_check_space(struct wal *w);
bool helper_is_space_error(int error);

/* tail.c: the last segment at a start. */
struct tail {
    uint64_t end;      /* of the valid batches */
    uint64_t next_lsn; /* behind them */
    uint64_t watermark, torn;
    uint32_t chain;
    bool clean, closed, copy, copy_done, opened;
    enum scan_result stop; /* SCAN_BAD: a batch announces itself behind end and is not right */
    uint64_t bad_offset, bad_lsn, later_batches, later_records;
    struct marker opening, closing;
};
MUST_CHECK int tail_read(struct segment *s, struct tail *t, struct err *e);
/* Was anything ever synced in it? False for a spare, and where the first batch (of so many bytes)
 * was torn. */
MUST_CHECK int tail_begun(struct segment *s, bool *begun, uint64_t *torn, struct err *e);
/* What lies behind the valid batches is kept beside the log, for a look. */
MUST_CHECK int tail_keep_torn(struct wal *w, struct segment *s, const struct tail *t,
                              struct err *e);
/* The marker that ends the segment at the last batch that is known to be durable. */
MUST_CHECK int tail_split(struct segment *s, const struct tail *t, struct marker *m, struct err *e);
/* Writes what stands between w->previous.end and `end` to a new segment, and syncs it. */
MUST_CHECK int tail_copy(struct wal *w, struct segment *from, uint64_t end, struct segment *to,
                         struct err *e);

/* recover.c */
MUST_CHECK int recover(struct wal *w, struct err *e);
/* Log thread: goes on with what recovery left waiting, once there is a spare. */
MUST_CHECK int recover_resume(struct wal *w, struct err *e);

/* sidecar.c */
struct sidecar_entry {
    uint8_t key[16];
    uint64_t lsn;
    int64_t time_ms;
    uint32_t body_crc;
};
struct sidecar {
    uint64_t number, first_lsn, last_lsn, end;
    uint32_t chain;
    int64_t first_ms, last_ms;
    size_t n;
    struct sidecar_entry *v;
    bool has_ids; /* of every record that has an id there is an entry */
};
MUST_CHECK int sidecar_build(struct wal *w, const struct segment *s, struct sidecar *out,
                             struct err *e);
MUST_CHECK int sidecar_write(struct wal *w, const struct sidecar *sc, struct err *e);
int sidecar_read(const struct wal *w, uint64_t number,
                 struct sidecar *out); /* 0 good, 1 not there or bad */
void sidecar_free(struct sidecar *sc);
void sidecar_known(struct segment *s, const struct sidecar *sc); /* it is on the disk */
/* The file, and where in it the table of ids is; -1: it cannot be opened. */
int sidecar_open_ids(const struct wal *w, const struct segment *s, uint64_t *at, size_t *blocks);

/* ids.c */
#define IDS_BLOCK 4096u
enum ids_answer { IDS_NONE, IDS_MAYBE, IDS_UNKNOWN };
size_t ids_blocks(size_t n);
void ids_put(const struct sidecar *sc, uint8_t *out); /* ids_blocks() zeroed blocks */
/* The first LSN behind `after` that may have an id with that hash, in a sealed segment. */
enum ids_answer ids_find(const struct wal *w, const struct segment *s, uint32_t hash,
                         uint64_t after, uint64_t *lsn);

/* dedup.c */
/* With a file in dir where that leaves as much free. */
struct dedup *dedup_new(const char *dir, const struct wal_dedup_cfg *cfg, uint64_t keep_free);
void dedup_free(struct dedup *d);
/* The window; any thread. */
void dedup_configure(struct dedup *d, const struct wal_dedup_cfg *cfg);
#define DEDUP_ID_AT 12 /* where in a key the hash of the id stands, 4 bytes */
void dedup_key(const uint8_t secret[16], const struct record *rec, uint8_t out[16]);
uint32_t dedup_id_hash(const uint8_t secret[16], struct span id);
bool dedup_find(struct dedup *d, const uint8_t key[16], int64_t now_ms,
                struct sidecar_entry *found);
void dedup_claim(struct dedup *d, const struct sidecar_entry *entry);
/* Many at a time: their memory comes while the first are looked up. */
void dedup_prefetch(const struct dedup *d, const uint8_t key[16]);
/* What was claimed for these LSNs, the last of which is the last of all, in order; NULL when some
 * may be missing. The caller frees it. */
struct sidecar_entry *dedup_range(struct dedup *d, uint64_t first, uint64_t last, size_t *n);
int64_t dedup_oldest_ms(const struct dedup *d);
size_t dedup_count(const struct dedup *d);

/* siphash.c: SipHash-2-4 with 128 bits of output (Aumasson, Bernstein 2012; the authors'
 * siphash.c). */
struct siphash {
    uint64_t v[4], tail;
    size_t n;
};
void siphash_init(struct siphash *h, const uint8_t key[16]);
void siphash_add(struct siphash *h, const void *p, size_t n);
void siphash_end(struct siphash *h, uint8_t out[16]);

/* wal.c */
MUST_CHECK int wal_lock(struct wal *w, struct err *e);

/* identity.c */
MUST_CHECK int identity_load(struct wal *w, struct err *e);       /* made where there is none */
bool identity_is_ours(const struct wal *w, const uint8_t id[16]); /* now, or before a fork */
bool identity_is_right(const uint8_t *b, size_t n);
/* -1 with 78 where the bytes are right and of a format that this release does not know. */
MUST_CHECK int identity_refuse_newer(const char *dir, const uint8_t *b, size_t n, struct err *e);
bool identity_peek(const char *dir, char out[LOG_ID_TEXT_MAX]);
void identity_text(const uint8_t id[16], char out[LOG_ID_TEXT_MAX]);

/* epoch.c */
MUST_CHECK int fence_check(struct wal *w, struct err *e); /* 75 while FENCED is there */
MUST_CHECK int fence_lift(const char *dir, struct err *e);

/* cursor.c */
/* The lowest synced LSN of all cursors; false when there is none. Under lock. */
bool cursor_lowest(const struct wal *w, uint64_t *lsn);
/* The highest LSN in any cursor file, and whose it is (name[80]). */
uint64_t cursor_highest_on_disk(const struct wal *w, char *name);
void cursor_forget_all(struct wal *w);
/* The lowest LSN in any cursor file, 0 where one is bad; UINT64_MAX: there is none. */
uint64_t cursor_lowest_on_disk(const struct wal *w);
