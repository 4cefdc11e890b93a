/* SPDX-License-Identifier: Apache-2.0 */
/* Faults planted on purpose, to see that they are found. The product has no hook for them: some are
 * in disk.c and life.c, the others here, where the linker puts these functions in place of those
 * that one file of the log calls in another. */
#include "log.h"
#include "sim.h"

enum plant plant;

const struct plant_row plants[PLANT_COUNT] = {
    [PLANT_NO_SYNC] = { "no-sync", "answers without a sync of the segment" },
    [PLANT_NO_FOLDER_SYNC] = { "no-folder-sync", "never syncs the folder" },
    [PLANT_CURSOR_AHEAD] = { "cursor-ahead", "a cursor says more than was delivered" },
    [PLANT_SALT_IGNORED] = { "salt-ignored", "checksums do not depend on the segment's salt" },
    [PLANT_STOPS_AT_BAD] = { "stops-at-bad", "recovery takes the first bad place for the end" },
    [PLANT_RENAME_FIRST] = { "rename-first", "renames a new file first and syncs it then" },
    [PLANT_WATERMARK_HIGH] = { "watermark-high", "a batch says that it is itself durable" },
    [PLANT_TORN_IS_DAMAGE] = { "torn-is-damage", "a torn tail is refused as damage" },
    [PLANT_DEAD_UNSYNCED] = { "dead-unsynced",
                              "moves the cursor before the dead letter is synced" },
    [PLANT_TAIL_UNSYNCED] = { "tail-unsynced", "recovery does not sync the tail that it saved" },
    [PLANT_RECYCLE_UNSYNCED] = { "recycle-unsynced",
                                 "uses a trimmed file again before its new name is durable" },
    [PLANT_TRIM_UNSYNCED] = { "trim-unsynced", "trims by cursors that are not synced" },
    [PLANT_KEYS_FORGOTTEN] = { "keys-forgotten", "recovery does not rebuild the index" },
    [PLANT_SYNC_AGAIN] = { "sync-again", "a failed sync is tried again and believed" },
    [PLANT_EARLY_ANSWER] = { "early-answer", "a sync does not cover the last write before it" },
};

void __real_format_put_batch(uint8_t out[BATCH_HEADER], const struct batch_header *h,
                             uint64_t salt);
bool __real_format_get_batch(const uint8_t in[BATCH_HEADER], struct batch_header *h, uint64_t salt,
                             uint64_t position);
void __real_format_put_record(uint8_t *out, const struct record *rec, uint64_t salt,
                              uint64_t position);
size_t __real_format_get_record(const uint8_t *in, size_t n, struct record *rec, uint64_t salt,
                                uint64_t position);
int __real_tail_read(struct segment *s, struct tail *t, struct err *e);
bool __real_cursor_lowest(const struct wal *w, uint64_t *lsn);
void __real_dedup_claim(struct dedup *d, const struct sidecar_entry *entry);
void __wrap_format_put_batch(uint8_t out[BATCH_HEADER], const struct batch_header *h,
                             uint64_t salt);
bool __wrap_format_get_batch(const uint8_t in[BATCH_HEADER], struct batch_header *h, uint64_t salt,
                             uint64_t position);
void __wrap_format_put_record(uint8_t *out, const struct record *rec, uint64_t salt,
                              uint64_t position);
size_t __wrap_format_get_record(const uint8_t *in, size_t n, struct record *rec, uint64_t salt,
                                uint64_t position);
int __wrap_tail_read(struct segment *s, struct tail *t, struct err *e);
bool __wrap_cursor_lowest(const struct wal *w, uint64_t *lsn);
void __wrap_dedup_claim(struct dedup *d, const struct sidecar_entry *entry);
void __wrap_crypto_random(void *out, size_t n);
void __wrap_log_line(enum log_level level, const char *message, const struct log_pair *pairs,
                     size_t n);

static uint64_t salt_of(uint64_t salt)
{
    return plant == PLANT_SALT_IGNORED ? 0 : salt;
}

void __wrap_format_put_batch(uint8_t out[BATCH_HEADER], const struct batch_header *h, uint64_t salt)
{
    struct batch_header copy = *h;

    if (plant == PLANT_WATERMARK_HIGH)
        copy.durable_lsn = h->first_lsn + h->count - 1;
    __real_format_put_batch(out, &copy, salt_of(salt));
}

bool __wrap_format_get_batch(const uint8_t in[BATCH_HEADER], struct batch_header *h, uint64_t salt,
                             uint64_t position)
{
    return __real_format_get_batch(in, h, salt_of(salt), position);
}

void __wrap_format_put_record(uint8_t *out, const struct record *rec, uint64_t salt,
                              uint64_t position)
{
    __real_format_put_record(out, rec, salt_of(salt), position);
}

size_t __wrap_format_get_record(const uint8_t *in, size_t n, struct record *rec, uint64_t salt,
                                uint64_t position)
{
    return __real_format_get_record(in, n, rec, salt_of(salt), position);
}

int __wrap_tail_read(struct segment *s, struct tail *t, struct err *e)
{
    int rc = __real_tail_read(s, t, e);

    if (plant == PLANT_STOPS_AT_BAD) {
        t->watermark = MIN(t->watermark, t->next_lsn - 1);
        t->later_records = t->later_batches = 0;
    } else if (plant == PLANT_TORN_IS_DAMAGE && t->stop == SCAN_BAD) {
        t->watermark = MAX(t->watermark, t->next_lsn);
    }
    return rc;
}

bool __wrap_cursor_lowest(const struct wal *w, uint64_t *lsn)
{
    bool any = __real_cursor_lowest(w, lsn);

    if (plant == PLANT_TRIM_UNSYNCED) {
        *lsn = UINT64_MAX;
        for (struct wal_cursor *c = w->cursors; c; c = c->next)
            *lsn = MIN(*lsn, atomic_load(&c->lsn));
    }
    return any;
}

void __wrap_dedup_claim(struct dedup *d, const struct sidecar_entry *entry)
{
    if (plant != PLANT_KEYS_FORGOTTEN || !disk_recovering)
        __real_dedup_claim(d, entry);
}

/* A seed is a run: salts and ids come from one row of numbers. */
void __wrap_crypto_random(void *out, size_t n)
{
    static struct rng rng = { 42 };
    uint8_t *p = out;

    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)rng_next(&rng);
}

/* Thousands of starts would say what they found. */
void __wrap_log_line(enum log_level level UNUSED, const char *message UNUSED,
                     const struct log_pair *pairs UNUSED, size_t n UNUSED)
{
}
