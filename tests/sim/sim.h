/* SPDX-License-Identifier: Apache-2.0 */
/* The crash simulator: what its files share. README.md says how it works.
 *
 *   sched.c   the log's threads, one at a time, and a clock of their own: a seed is a run
 *   disk.c    the folder of the log in memory, in place of src/wal/io.c; writes down what is done
 *   image.c   from what was written down to what may lie on the disk after a crash
 *   life.c    one life of the log: senders, sinks, retention, a clean stop
 *   judge.c   a start on an image, and what must be true of it
 *   plant.c   faults planted on purpose
 *   main.c    options, lives after lives, the report */
#pragma once

#include <stdio.h>

#include "wal/room.h"

/* --- chance ------------------------------------------------------------------------------------
 */

struct rng {
    uint64_t s;
};
uint64_t rng_next(struct rng *r);
unsigned rng_below(struct rng *r, unsigned n); /* 0 to n - 1 */
static inline bool rng_one_in(struct rng *r, unsigned n)
{
    return rng_below(r, n) == 0;
}

/* --- sched.c -----------------------------------------------------------------------------------
 */

/* Between the two every thread of the process runs only while it is its turn; at each call that
 * may wait, and around each call of the disk, the seed decides whose turn it is next. The clock
 * stands still until everybody waits. */
void sched_begin(uint64_t seed);
void sched_end(void); /* all other threads have ended */
void sched_yield_here(void);
void sched_sleep_us(int64_t us);
double cpu_seconds(void);

/* --- disk.c ------------------------------------------------------------------------------------
 */

#define NAME_MAX_ 48
#define FOLDER (-2)
#define SECTOR 512

struct file {
    uint8_t *p;
    size_t n, cap;
    bool own; /* else p is another image's and is copied before it changes */
};
struct name {
    char s[NAME_MAX_];
    int file;
};
struct image { /* what is on a disk */
    struct file *files;
    size_t files_n, files_cap;
    struct name *names;
    size_t names_n, names_cap;
};
void image_borrow(struct image *to, const struct image *from); /* from must live longer */
void image_copy(struct image *to, const struct image *from);
void image_free(struct image *im);

enum op_kind {
    OP_WRITE,
    OP_TRUNCATE,
    OP_CREATE,
    OP_RENAME,
    OP_UNLINK,
    OP_SYNC,  /* ended here; covers what was done before `began` */
    OP_EVENT, /* something was promised or asked for */
};
enum event {
    EVENT_PROMISED, /* everything up to `lsn` was acknowledged or read */
    EVENT_OPENED,   /* recovery is through */
    EVENT_CURSOR_MADE,
    EVENT_CURSOR_SET, /* about to be written */
    EVENT_CURSOR_SYNCED,
    EVENT_DEAD, /* dead letters up to `lsn` are durable */
};
struct op {
    enum op_kind kind;
    int file; /* FOLDER: the names */
    uint64_t off, lsn;
    size_t n, began;
    size_t lost_at; /* a sync failed there: later ones do not cover this write any more */
    uint8_t *data;
    char from[NAME_MAX_], to[NAME_MAX_];
    enum event event;
    unsigned sink;
    bool sure; /* on the disk; here because it lies over one whose sync failed */
};
struct record_of_ops {
    struct op *v;
    size_t n, cap;
    size_t carried; /* the first ones were done before, and not synced */
};
void op_free(struct op *o);
void ops_free(struct record_of_ops *r);
struct op *ops_add(struct record_of_ops *r, const struct op *o); /* takes o's data */
void image_apply(struct image *im, const struct op *o);
void image_write(struct image *im, int file, uint64_t off, const uint8_t *p, size_t n);
void image_fit(struct image *im, int file);
const char *op_text(const struct op *o, char out[160]);

/* The disk becomes a copy of `base` with `ops` done; what is done from now on is added to `ops`,
 * or, when it is NULL, not written down. */
void disk_load(const struct image *base, struct record_of_ops *ops);
void disk_event(enum event event, unsigned sink, uint64_t lsn);
void disk_fail_sync(unsigned nth); /* the n-th sync from here on fails; 0: none */
bool disk_sync_failed(void);
extern bool disk_recovering; /* set around wal_open(): plants look at it */

/* --- image.c -----------------------------------------------------------------------------------
 */

#define SINKS 2
struct facts { /* what the world may rely on at one moment */
    uint64_t promised;
    bool opened;
    struct {
        bool made;
        uint64_t synced, set, dead;
    } sinks[SINKS];
};
struct walk { /* through what was written down, one operation at a time */
    const struct record_of_ops *ops;
    size_t at; /* operations done */
    struct image stable;
    struct pending {
        size_t op;
        bool sure;
    } * pending; /* what a crash may leave out, but for what is sure */
    size_t pending_n, pending_cap;
    struct facts facts;
};
void walk_begin(struct walk *w, const struct image *base, const struct record_of_ops *ops,
                const struct facts *facts);
bool walk_step(struct walk *w); /* false at the end */
void walk_end(struct walk *w);
/* One of the images that a power cut here may leave. Variant 0: nothing that was not synced, 1: all
 * of it; the following ones leave out or keep one, tear, and mix. It borrows from the walk. */
void walk_image(const struct walk *w, unsigned variant, struct rng *rng, struct image *out);
/* A kill: all is visible, and what was not synced still is not. */
void walk_kill(const struct walk *w, struct image *base, struct record_of_ops *pending);

/* --- life.c ------------------------------------------------------------------------------------
 */

#define LSNS 16384
struct item { /* one event of the outside world */
    char id[24];
    char *body;
    size_t n;
    int64_t time_ms;
    uint64_t lsn; /* 0: not logged, or lost before it was acknowledged */
    bool poison;
    uint8_t key[16];
};
struct truth {
    struct item **items;
    size_t n, cap;
    struct item *before[LSNS], *after[LSNS]; /* by LSN: until this life's recovery, and since */
    bool has_keys;
};
struct life {
    uint64_t seed;
    struct image base;
    struct record_of_ops ops;
    struct facts facts; /* at its start */
    bool fails;         /* a sync fails in it */
};
void item_record(const struct item *it, struct record *rec);
/* Runs it to its clean stop. False: something that must be was not; `violation_text` says what. */
bool life_run(struct life *l, struct truth *t);
struct wal_cfg sim_cfg(void);
struct wal_dedup_cfg sim_dedup_cfg(void);
extern const char *const sim_sinks[SINKS];

/* --- judge.c -----------------------------------------------------------------------------------
 */

extern char violation_text[512];
bool violated(const char *fmt, ...) PRINTF_LIKE(1, 2); /* false */

/* What must be true of a log that was just opened, by what was promised. */
bool judge_log(struct wal *w, const struct facts *f, struct truth *t, struct item **by_lsn);
/* A start on the disk as it is. */
bool judge_start(const struct facts *f, struct truth *t);
/* What `hookline log verify` says of the disk as it is. */
bool judge_verify(void);
/* A start on the image with one byte of acknowledged data changed; not *done: no such byte. */
bool judge_damage(struct image *im, const struct facts *f, struct truth *t, struct rng *rng,
                  bool *done);
/* The log goes on behind the image: a few more records, a clean stop, another start. */
bool judge_going_on(uint64_t seed);

/* --- plant.c -----------------------------------------------------------------------------------
 */

enum plant {
    PLANT_NONE,
    PLANT_NO_SYNC,
    PLANT_NO_FOLDER_SYNC,
    PLANT_CURSOR_AHEAD,
    PLANT_SALT_IGNORED,
    PLANT_STOPS_AT_BAD,
    PLANT_RENAME_FIRST,
    PLANT_WATERMARK_HIGH,
    PLANT_TORN_IS_DAMAGE,
    PLANT_DEAD_UNSYNCED,
    PLANT_TAIL_UNSYNCED,
    PLANT_RECYCLE_UNSYNCED,
    PLANT_TRIM_UNSYNCED,
    PLANT_KEYS_FORGOTTEN,
    PLANT_SYNC_AGAIN,
    PLANT_EARLY_ANSWER,
    PLANT_COUNT,
};
extern enum plant plant;
struct plant_row {
    const char *name, *what;
};
extern const struct plant_row plants[PLANT_COUNT];
