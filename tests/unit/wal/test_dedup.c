/* SPDX-License-Identifier: Apache-2.0 */
/* The deduplication index against a plain model of it: an array of all claims. Capacities that are
 * odd and tiny, rings that wrap many times, keys that share buckets and slots, a file that is not
 * to be had, reads and writes that fail. */
#include "table.h"

#include <malloc.h>

#include "log.h"
#include "wal/disk.h"
#include "wal/room.h"

#define WINDOW 1000
#define MOST 200000

static struct sidecar_entry claims[MOST]; /* the model: the youngest of a key counts */
static size_t claimed;

static uint64_t rnd(void)
{
    static uint64_t s = 88172645463325252u;

    s ^= s << 13;
    s ^= s >> 7;
    s ^= s << 17;
    return s * 0x2545f4914f6cdd1du;
}

static struct dedup *new_index(int64_t entries)
{
    struct wal_dedup_cfg cfg = { .window_ms = WINDOW, .entries = entries };

    claimed = 0;
    return dedup_new("build", &cfg, 0);
}

/* Keys as the hash makes them, from a small number. */
static void key_of(uint64_t n, uint8_t key[16])
{
    static const uint8_t secret[16] = "0123456789abcde";
    struct siphash h;

    siphash_init(&h, secret);
    siphash_add(&h, &n, sizeof n);
    siphash_end(&h, key);
}

static struct sidecar_entry entry_of(uint64_t n, int64_t now)
{
    struct sidecar_entry e = { .lsn = (uint64_t)1 << 40 | claimed,
                               .time_ms = now,
                               .body_crc = (uint32_t)rnd() };

    key_of(n, e.key);
    return e;
}

static void claim(struct dedup *d, const struct sidecar_entry *e)
{
    dedup_claim(d, e);
    claims[claimed++] = *e;
}

/* What the last `cap` claims say of a key. */
static const struct sidecar_entry *model_find(size_t cap, const uint8_t key[16], int64_t now)
{
    for (size_t i = claimed; i && i + cap > claimed; i--)
        if (!memcmp(claims[i - 1].key, key, 16))
            return now - claims[i - 1].time_ms <= WINDOW ? &claims[i - 1] : NULL;
    return NULL;
}

static void check_find(struct dedup *d, size_t cap, const uint8_t key[16], int64_t now)
{
    const struct sidecar_entry *want = model_find(cap, key, now);
    struct sidecar_entry got;

    assert_int_equal(dedup_find(d, key, now, &got), want != NULL);
    if (!want)
        return;
    assert_memory_equal(got.key, want->key, 16);
    assert_int_equal(got.lsn, want->lsn);
    assert_int_equal(got.time_ms, want->time_ms);
    assert_int_equal(got.body_crc, want->body_crc);
}

static const struct row {
    const char *name;
    int64_t entries;
    unsigned steps, keys; /* keys: fewer than there are places: they come back and are found */
    int64_t start_ms;
} rows[] = {
    { "no entries", 0, 1000, 10, 0 },
    { "one entry", 1, 1000, 3, 0 },
    { "two entries", 2, 10000, 5, 0 },
    { "an odd number below a block", 77, MOST, 100, 0 },
    { "one block", 128, MOST, 200, 0 },
    { "a block and one", 129, MOST, 200, 0 },
    { "an odd number of blocks", 1001, MOST, 1500, 0 },
    { "keys that are claimed again and again", 1000, MOST, 300, 0 },
    { "keys that hardly ever come back", 500, MOST, 1000000, 0 },
    { "times before 1970", 300, 20000, 400, -5000 },
    { "times of today", 300, 20000, 400, INT64_C(1800000000000) },
    { "times of the year 4000", 300, 20000, 400, INT64_C(64060588800000) },
};

/* What hookline does with each delivery: look up, then claim if it is new. And a look at others. */
static void like_the_model(void **state)
{
    const struct row *row = *state;
    struct dedup *d = new_index(row->entries);
    size_t cap = (size_t)row->entries;
    int64_t now = row->start_ms;
    struct sidecar_entry e, got;
    uint8_t other[16];

    for (unsigned i = 0; i < row->steps; i++) {
        now += (int64_t)(rnd() % 8);
        e = entry_of(rnd() % row->keys, now);
        check_find(d, cap, e.key, now);
        if (!dedup_find(d, e.key, now, &got) || rnd() % 8 == 0)
            claim(d, &e);
        key_of(rnd() % row->keys, other);
        check_find(d, cap, other, now);
        assert_int_equal(dedup_count(d), MIN(claimed, cap));
        if (claimed && cap)
            assert_int_equal(dedup_oldest_ms(d), claims[claimed - MIN(claimed, cap)].time_ms);
    }
    dedup_free(d);
}

/* n keys that look up the same two buckets and have the same part in their slots. */
static void alike(uint8_t key[16], uint64_t n)
{
    memset(key, 0x5a, 16);
    memcpy(key + 12, &n, 4);
}

static void keys_with_equal_slots_are_told_apart(void **state UNUSED)
{
    struct dedup *d = new_index(1000);
    struct sidecar_entry e = { 0 }, got;

    for (uint64_t n = 0; n < 32; n++) {
        alike(e.key, n);
        assert_false(dedup_find(d, e.key, 0, &got));
        e.lsn = n + 1;
        dedup_claim(d, &e);
    }
    for (uint64_t n = 0; n < 32; n++) {
        alike(e.key, n);
        assert_true(dedup_find(d, e.key, 0, &got));
        assert_int_equal(got.lsn, n + 1);
    }
    dedup_free(d);
}

/* Both buckets are full: the oldest in them is forgotten, also where the ring has wrapped. */
static void the_oldest_of_full_buckets_makes_room(void **state UNUSED)
{
    struct dedup *d = new_index(1000);
    struct sidecar_entry e = { 0 }, got;
    unsigned found;

    for (uint64_t n = 0; n < 980; n++) {
        e = entry_of(n, 0);
        claim(d, &e);
    }
    for (uint64_t n = 0; n < 100; n++) {
        alike(e.key, n);
        dedup_claim(d, &e);
    }
    found = 0;
    for (uint64_t n = 0; n < 100; n++) {
        alike(e.key, n);
        if (dedup_find(d, e.key, 0, &got)) {
            found++;
            assert_true(n >= 68);
        }
    }
    assert_int_equal(found, 32);
    dedup_free(d);
}

/* With 40 times as many claims as entries no key finds both of its buckets full. */
static void buckets_fill_evenly(void **state UNUSED)
{
    enum { CAP = 20000 };
    struct dedup *d = new_index(CAP);
    struct sidecar_entry e = { 0 }, got;

    for (uint64_t n = 0; n < 40 * CAP; n++) {
        key_of(n, e.key);
        dedup_claim(d, &e);
    }
    for (uint64_t n = 0; n < 40 * CAP; n++) {
        key_of(n, e.key);
        assert_int_equal(dedup_find(d, e.key, 0, &got), n >= 39 * CAP);
    }
    dedup_free(d);
}

static void the_window_can_be_changed(void **state UNUSED)
{
    struct wal_dedup_cfg cfg = { .window_ms = 10, .entries = 5 };
    struct dedup *d = new_index(5);
    struct sidecar_entry e = entry_of(1, 0), got;

    dedup_claim(d, &e);
    assert_true(dedup_find(d, e.key, WINDOW, &got));
    assert_false(dedup_find(d, e.key, WINDOW + 1, &got));
    dedup_configure(d, &cfg);
    assert_true(dedup_find(d, e.key, 10, &got));
    assert_false(dedup_find(d, e.key, 11, &got));
    dedup_free(d);
}

/* The C library's own count: the sanitizers have another allocator, of which it knows nothing. */
static size_t allocated(void)
{
    struct mallinfo2 m = mallinfo2();

    return m.uordblks + m.hblkhd;
}

static const struct memory {
    const char *name, *dir;
    size_t most; /* bytes an entry */
} memories[] = {
    { "memory of an entry, with a file", "build", 8 },
    { "memory of an entry where no file is to be had", "build/none", 40 },
};

static void memory_of_an_entry(void **state)
{
    const struct memory *m = *state;
    struct wal_dedup_cfg cfg = { .window_ms = WINDOW, .entries = 1000000 };
    size_t before = allocated(), bytes;
    struct dedup *d = dedup_new(m->dir, &cfg, 0);
    struct sidecar_entry e = { 0 };

    for (uint64_t n = 0; n < 1200000; n++) { /* full, and over it */
        key_of(n, e.key);
        e.lsn = n + 1;
        dedup_claim(d, &e);
    }
    assert_int_equal(dedup_count(d), 1000000);
    bytes = allocated() - before;
    dedup_free(d);
    if (!bytes)
        skip();
    print_message("# %s: %.1f bytes\n", m->name, (double)bytes / 1e6);
    assert_in_range(bytes, 1, m->most * 1000000);
}

/* --- the file
 * ------------------------------------------------------------------------------------------- */

static unsigned open_files(void)
{
    char **names;
    size_t n;

    assert_int_equal(io_list("/proc/self/fd", &names, &n), 0);
    for (size_t i = 0; i < n; i++)
        free(names[i]);
    free(names);
    return (unsigned)n;
}

static const struct no_file {
    const char *name, *dir;
    int64_t entries;
    enum disk_mode mode;
    unsigned fail_at;
    uint64_t keep_free;
    bool file;
} no_files[] = {
    { "a good disk", "build", 1000, DISK_GOOD, 0, 0, true },
    { "a ring of a page needs none", "build", 128, DISK_GOOD, 0, 0, false },
    { "free space cannot be had", "build", 1000, DISK_EIO, 1, 0, true },
    { "the file cannot be made", "build", 1000, DISK_EIO, 2, 0, false },
    { "its room cannot be reserved", "build", 1000, DISK_EIO, 3, 0, false },
    { "the disk is full", "build", 1000, DISK_FULL, 1, 0, false },
    { "too little would be left", "build", 1000, DISK_GOOD, 0, UINT64_C(1) << 60, false },
    { "no such folder", "build/none", 1000, DISK_GOOD, 0, 0, false },
};

/* It answers the same with and without. */
static void file_or_memory(void **state)
{
    const struct no_file *row = *state;
    struct wal_dedup_cfg cfg = { .window_ms = WINDOW, .entries = row->entries };
    unsigned before = open_files();
    struct sidecar_entry e, got;
    struct dedup *d;

    claimed = 0;
    disk_reset(row->mode, row->fail_at);
    d = dedup_new(row->dir, &cfg, row->keep_free);
    disk_reset(DISK_GOOD, 0);
    assert_int_equal(open_files(), before + row->file);
    for (uint64_t n = 0; n < 5000; n++) {
        e = entry_of(n, 0);
        claim(d, &e);
        check_find(d, (size_t)row->entries, claims[rnd() % claimed].key, 0);
    }
    for (size_t i = 0; i < claimed; i++)
        assert_int_equal(dedup_find(d, claims[i].key, 0, &got),
                         i + (size_t)row->entries >= claimed);
    dedup_free(d);
    assert_int_equal(open_files(), before);
}

static const struct bad_call {
    const char *name;
    enum disk_mode mode;
    bool forgets;
} bad_calls[] = {
    { "the n-th read or write fails", DISK_EIO, true },
    { "the n-th read or write is short", DISK_SHORT, false },
    { "the n-th read or write is interrupted", DISK_EINTR, false },
    { "nothing can be read or written from the n-th call on", DISK_DEAD, true },
};

/* What is forgotten is taken for new; what is found is right, and the latest is always found. */
static void wrong_call(void **state)
{
    const struct bad_call *row = *state;
    struct sidecar_entry e, got;
    unsigned missing = 0, spoiled = 0, n, calls = 0;

    for (n = 1; n <= calls + 1; n++) {
        struct dedup *d = new_index(1001);
        disk_reset(row->mode, n);
        for (uint64_t k = 0; k < 4000; k++) {
            e = entry_of(k, 0);
            claim(d, &e);
            assert_true(dedup_find(d, e.key, 0, &got));
        }
        calls = disk.calls;
        assert_int_equal(disk.hit, n <= calls);
        disk_reset(DISK_GOOD, 0);
        for (size_t i = 0; i < claimed; i++) {
            bool found = dedup_find(d, claims[i].key, 0, &got);
            missing += !found && i + 1001 >= claimed;
            spoiled += found && got.lsn != claims[i].lsn;
        }
        dedup_free(d);
    }
    assert_true(n > 60);
    assert_int_equal(spoiled, 0);
    assert_int_equal(missing > 0, row->forgets);
}

/* The claims from an LSN on are all there, or it is told that they may not be. */
static void check_range(struct dedup *d, size_t cap, size_t from)
{
    size_t n, want = claimed - from;
    struct sidecar_entry *got = dedup_range(d, claims[from].lsn, claims[claimed - 1].lsn, &n);

    if (want > cap) {
        assert_null(got);
        return;
    }
    if (!got) { /* only where nothing older is left to tell that these are all */
        assert_true(want == cap);
        return;
    }
    assert_int_equal(n, want);
    for (size_t i = 0; i < n; i++) {
        assert_memory_equal(got[i].key, claims[from + i].key, 16);
        assert_int_equal(got[i].lsn, claims[from + i].lsn);
        assert_int_equal(got[i].time_ms, claims[from + i].time_ms);
        assert_int_equal(got[i].body_crc, claims[from + i].body_crc);
    }
    free(got);
}

static void ranges_are_whole(void **state UNUSED)
{
    static const size_t caps[] = { 0, 1, 127, 128, 129, 1001 };

    for (size_t c = 0; c < ARRAY_LEN(caps); c++) {
        struct dedup *d = new_index((int64_t)caps[c]);
        for (uint64_t n = 0; n < 3000; n++) {
            struct sidecar_entry e = entry_of(n, (int64_t)n);
            claim(d, &e);
            check_range(d, caps[c], (size_t)rnd() % claimed);
        }
        dedup_free(d);
    }
}

static void an_unreadable_range_is_told(void **state UNUSED)
{
    struct dedup *d = new_index(1001);
    size_t n;

    for (uint64_t k = 0; k < 900; k++) {
        struct sidecar_entry e = entry_of(k, 0);
        claim(d, &e);
    }
    disk_reset(DISK_DEAD, 1);
    assert_null(dedup_range(d, claims[1].lsn, claims[899].lsn, &n));
    disk_reset(DISK_GOOD, 0);
    dedup_free(d);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_with_equal_slots_are_told_apart),
        cmocka_unit_test(the_oldest_of_full_buckets_makes_room),
        cmocka_unit_test(buckets_fill_evenly),
        cmocka_unit_test(the_window_can_be_changed),
        cmocka_unit_test(ranges_are_whole),
        cmocka_unit_test(an_unreadable_range_is_told),
    };

    log_init(LOG_TEXT, LOG_ERROR);
    return T_TABLE(rows, like_the_model) + T_TABLE(no_files, file_or_memory) +
           T_TABLE(bad_calls, wrong_call) + T_TABLE(memories, memory_of_an_entry) + T_RUN(tests);
}
