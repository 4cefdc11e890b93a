/* SPDX-License-Identifier: Apache-2.0 */
/* The deduplication index (P6): which deliveries were logged, and as which LSN.
 *
 * A ring of a fixed number of entries in the order of their LSNs, 32 bytes each, and a table that
 * finds them. When the ring is full the oldest entry makes room. Keys are 128-bit keyed hashes: a
 * stranger cannot make two deliveries collide, nor fill a bucket. Only the log thread touches it,
 * but for dedup_configure.
 *
 * The ring lies in a file without a name, written a block at a time in its own order and read at
 * one place in each block's turn, and where a key seems to be known: memory does not grow with it
 * (P8), and the disk sees few, sequential writes. Nobody syncs it or reads it at a start; sidecars
 * are what the index is rebuilt from. Its room is reserved, so that it works on a disk that became
 * full. Where no file is to be had the ring is in memory. An entry that cannot be written or read
 * back is forgotten, which is said once; the log goes on.
 *
 * The table is in memory, because it is touched at random: pages of a file would be written back
 * one for each delivery. A bucket is a cache line of 16 slots; a key may be in either of two. A
 * slot holds where in the ring, and as much of the key as fits beside it, so that few look-ups of
 * new keys go on to the ring. */
#include "room.h"

#include <fcntl.h>
#include <string.h>

#include "crc32c.h"
#include "log.h"

#define WAYS 16
/* Entries for each bucket. In a simulation of 4 * 10^7 deliveries none found both of its buckets
 * full; with 12 one of 10^7 did in a small ring, with 13 one of 4000. */
#define FILL 11
#define BLOCK 128 /* entries, a page */

struct entry { /* 48 bits of LSN, 48 of the time, 16 of the body's CRC beside each */
    uint8_t key[16];
    uint64_t lsn_crc, time_crc;
};

typedef uint32_t slots __attribute__((vector_size(4 * WAYS), may_alias));

struct bucket {
    uint32_t slot[WAYS]; /* part of the key, then index into the ring + 1; 0: free */
};

struct dedup {
    void *memory; /* of the table */
    struct bucket *table;
    uint32_t buckets, index_mask;
    size_t cap, n, first; /* used, and the oldest */
    int64_t oldest_ms;
    _Atomic int64_t window_ms;
    int fd;              /* -1: the block is the whole ring */
    struct entry *block; /* the one that is being filled; what is not filled is still the old */
    size_t base, block_n;
    struct entry one; /* the last that was read from another block */
    bool told;
};

struct place {
    struct bucket *b[2];
    uint32_t part;
};

/* --- the ring
 * ------------------------------------------------------------------------------------------ */

static int open_ring(const char *dir, uint64_t bytes, uint64_t keep_free, struct err *e)
{
    struct statvfs fs;
    int fd;

    if (!io_statvfs(dir, &fs) && (uint64_t)fs.f_bavail * fs.f_frsize < bytes + keep_free) {
        err_set(e, EXIT_IO, "less than %llu bytes free", (unsigned long long)(bytes + keep_free));
        return -1;
    }
    fd = io_open(dir, O_RDWR | O_TMPFILE, 0600);
    if (fd >= 0 && !io_reserve(fd, bytes))
        return fd;
    err_errno(e, EXIT_IO, "a file without a name in %s", dir);
    if (fd >= 0)
        io_close(fd);
    return -1;
}

static void new_ring(struct dedup *d, const char *dir, uint64_t keep_free)
{
    uint64_t bytes = d->cap * sizeof *d->block;
    struct err e = ERR_INIT;

    d->fd = d->cap > BLOCK ? open_ring(dir, bytes, keep_free, &e) : -1;
    if (d->cap > BLOCK && d->fd < 0)
        log_warn("the deduplication index is in memory, not in a file", KS("reason", e.text),
                 KU("bytes", bytes));
    d->block_n = d->fd < 0 ? d->cap : BLOCK;
    d->block = xcalloc(MAX(d->block_n, 1), sizeof *d->block);
}

static void tell(struct dedup *d, const struct err *e)
{
    if (!d->told)
        log_warn("some deliveries are forgotten; if they are repeated they are taken for new",
                 KS("reason", e->text));
    d->told = true;
}

static void read_ring(struct dedup *d, struct entry *to, size_t i, size_t n)
{
    struct err e = ERR_INIT;
    size_t got;

    memset(to, 0, n * sizeof *to);
    if (file_read(d->fd, "deduplication index", to, n * sizeof *to, i * sizeof *to, &got, &e))
        tell(d, &e);
}

static const struct entry *ring_at(struct dedup *d, size_t i)
{
    if (i - d->base < d->block_n)
        return &d->block[i - d->base];
    read_ring(d, &d->one, i, 1);
    return &d->one;
}

/* The block that i is the first of, with what it held: that has yet to be forgotten. */
static void begin_block(struct dedup *d, size_t i)
{
    d->base = i;
    if (d->n == d->cap)
        read_ring(d, d->block, i, MIN((size_t)BLOCK, d->cap - i));
}

static void end_block(struct dedup *d)
{
    size_t n = MIN((size_t)BLOCK, d->cap - d->base);
    struct err e = ERR_INIT;

    if (file_write(d->fd, "deduplication index", d->block, n * sizeof *d->block,
                   d->base * sizeof *d->block, &e))
        tell(d, &e);
}

static struct entry pack(const struct sidecar_entry *e)
{
    struct entry out = { .lsn_crc = e->lsn << 16 | (e->body_crc & 0xffff),
                         .time_crc = (uint64_t)e->time_ms << 16 | e->body_crc >> 16 };

    memcpy(out.key, e->key, sizeof out.key);
    return out;
}

static struct sidecar_entry unpack(const struct entry *e)
{
    struct sidecar_entry out = { .lsn = e->lsn_crc >> 16,
                                 .time_ms = (int64_t)e->time_crc >> 16,
                                 .body_crc = (uint32_t)(e->lsn_crc & 0xffff) |
                                             (uint32_t)(e->time_crc & 0xffff) << 16 };

    memcpy(out.key, e->key, sizeof out.key);
    return out;
}

/* --- the table
 * ----------------------------------------------------------------------------------------- */

/* Two different buckets, where there are two. */
static struct place place_of(const struct dedup *d, const uint8_t key[16])
{
    uint64_t word = format_get64(key);
    uint64_t a = (word >> 32) * d->buckets >> 32;
    uint64_t b = a + 1 + ((word & UINT32_MAX) * (d->buckets - 1) >> 32);

    return (struct place){ { &d->table[a], &d->table[b < d->buckets ? b : b - d->buckets] },
                           (uint32_t)format_get64(key + 8) & ~d->index_mask };
}

/* Does any slot hold that part of a key? Nearly always none does: all are compared at once. */
static bool any_alike(const struct bucket *b, uint32_t part, uint32_t index_mask)
{
    union {
        slots equal;
        uint64_t word[sizeof(slots) / 8];
    } u = { .equal = (slots)(((*(const slots *)b->slot ^ part) & ~index_mask) == 0) };
    uint64_t any = 0;

    for (size_t i = 0; i < ARRAY_LEN(u.word); i++)
        any |= u.word[i];
    return any;
}

/* The slot of a key that is known; *e is what the ring says of it. */
static uint32_t *slot_of(struct dedup *d, const struct place *at, const uint8_t key[16],
                         const struct entry **e)
{
    for (size_t b = 0; b < 2; b++) {
        if (!any_alike(at->b[b], at->part, d->index_mask))
            continue;
        for (uint32_t *s = at->b[b]->slot; s < at->b[b]->slot + WAYS; s++) {
            if ((*s ^ at->part) > d->index_mask || !(*s & d->index_mask))
                continue;
            *e = ring_at(d, (*s & d->index_mask) - 1);
            if (!memcmp((*e)->key, key, 16))
                return s;
        }
    }
    return NULL;
}

static uint32_t *free_slot(struct bucket *b, size_t *n)
{
    uint32_t *found = NULL;

    *n = 0;
    for (size_t i = 0; i < WAYS; i++)
        if (!b->slot[i]) {
            found = &b->slot[i];
            ++*n;
        }
    return found;
}

static size_t age(const struct dedup *d, uint32_t slot)
{
    size_t i = (slot & d->index_mask) - 1;

    return i < d->first ? d->cap - d->first + i : i - d->first;
}

/* A slot for a new key: in the emptier bucket, else that of the oldest entry. */
static uint32_t *slot_for(const struct dedup *d, const struct place *at)
{
    size_t n[2];
    uint32_t *free_in[2] = { free_slot(at->b[0], &n[0]), free_slot(at->b[1], &n[1]) };
    uint32_t *oldest = &at->b[0]->slot[0];

    if (n[0] || n[1])
        return free_in[n[1] > n[0]];
    for (size_t i = 1; i < 2 * WAYS; i++) {
        uint32_t *s = &at->b[i / WAYS]->slot[i % WAYS];
        if (age(d, *s) < age(d, *oldest))
            oldest = s;
    }
    return oldest;
}

/* Unless the key was claimed again: its slot points to the younger entry then. */
static void forget_oldest(struct dedup *d)
{
    struct place at = place_of(d, ring_at(d, d->first)->key);
    uint32_t slot = at.part | (uint32_t)(d->first + 1);

    for (size_t i = 0; i < 2 * WAYS; i++)
        if (at.b[i / WAYS]->slot[i % WAYS] == slot)
            at.b[i / WAYS]->slot[i % WAYS] = 0;
    d->first = (d->first + 1) % d->cap;
    d->n--;
}

/* --- the index
 * ----------------------------------------------------------------------------------------- */

struct dedup *dedup_new(const char *dir, const struct wal_dedup_cfg *cfg, uint64_t keep_free)
{
    struct dedup *d = xcalloc(1, sizeof *d);

    d->cap = (size_t)cfg->entries;
    d->window_ms = cfg->window_ms;
    d->buckets = (uint32_t)(d->cap / FILL + 1);
    while (d->index_mask < d->cap)
        d->index_mask = 2 * d->index_mask + 1;
    d->memory = xcalloc(d->buckets + 1, sizeof *d->table); /* one for the alignment */
    d->table =
        (struct bucket *)(((uintptr_t)d->memory + sizeof *d->table - 1) & ~(sizeof *d->table - 1));
    new_ring(d, dir, keep_free);
    return d;
}

void dedup_free(struct dedup *d)
{
    if (!d)
        return;
    if (d->fd >= 0)
        io_close(d->fd);
    free(d->block);
    free(d->memory);
    free(d);
}

void dedup_configure(struct dedup *d, const struct wal_dedup_cfg *cfg)
{
    d->window_ms = cfg->window_ms;
}

static void add_text(struct siphash *h, struct span text)
{
    uint8_t n[8];

    format_put64(n, text.n);
    siphash_add(h, n, sizeof n);
    siphash_add(h, text.p, text.n);
}

static uint32_t end_id(struct siphash h)
{
    uint8_t out[16];

    siphash_end(&h, out);
    return format_get32(out);
}

uint32_t dedup_id_hash(const uint8_t secret[16], struct span id)
{
    struct siphash h;

    siphash_init(&h, secret);
    add_text(&h, id);
    return end_id(h);
}

/* Lengths stand before the texts, so that ("ab","c") and ("a","bc") differ. The last four bytes are
 * a hash of the id alone, by which it is found in the sidecars. */
void dedup_key(const uint8_t secret[16], const struct record *rec, uint8_t out[16])
{
    struct siphash h;
    uint32_t id;

    siphash_init(&h, secret);
    add_text(&h, rec->id);
    id = end_id(h);
    add_text(&h, rec->source);
    add_text(&h, rec->type);
    siphash_end(&h, out);
    format_put32(out + DEDUP_ID_AT, id);
}

bool dedup_find(struct dedup *d, const uint8_t key[16], int64_t now_ms, struct sidecar_entry *found)
{
    struct place at = place_of(d, key);
    const struct entry *e;

    if (!slot_of(d, &at, key, &e))
        return false;
    *found = unpack(e);
    return now_ms - found->time_ms <= d->window_ms;
}

void dedup_claim(struct dedup *d, const struct sidecar_entry *entry)
{
    struct place at = place_of(d, entry->key);
    const struct entry *e;
    uint32_t *slot;
    bool moved;
    size_t i;

    if (!d->cap)
        return;
    i = (d->first + d->n) % d->cap;
    if (d->fd >= 0 && i % BLOCK == 0)
        begin_block(d, i);
    moved = d->n == d->cap;
    if (moved)
        forget_oldest(d);
    d->n++;
    slot = slot_of(d, &at, entry->key, &e);
    if (!slot)
        slot = slot_for(d, &at);
    *slot = at.part | (uint32_t)(i + 1);
    d->block[i - d->base] = pack(entry);
    if (d->fd >= 0 && (i % BLOCK == BLOCK - 1 || i == d->cap - 1))
        end_block(d);
    if (moved || d->n == 1)
        d->oldest_ms = unpack(ring_at(d, d->first)).time_ms;
}

void dedup_prefetch(const struct dedup *d, const uint8_t key[16])
{
    struct place at = place_of(d, key);

    __builtin_prefetch(at.b[0]);
    __builtin_prefetch(at.b[1]);
}

struct sidecar_entry *dedup_range(struct dedup *d, uint64_t first, uint64_t last, size_t *n)
{
    size_t most = last < first ? 0 : (size_t)(last - first + 1), base = SIZE_MAX, left = d->n;
    struct sidecar_entry *out = xmalloc((most + 1) * sizeof *out), e = { .lsn = last };
    struct entry block[BLOCK];

    for (*n = 0; left && *n < most; left--) {
        size_t i = (d->first + left - 1) % d->cap;
        if (i - d->base >= d->block_n && (base == SIZE_MAX || i - base >= BLOCK)) {
            base = i / BLOCK * BLOCK;
            read_ring(d, block, base, MIN((size_t)BLOCK, d->cap - base));
        }
        e = unpack(i - d->base < d->block_n ? &d->block[i - d->base] : &block[i - base]);
        if (e.lsn < first)
            break;
        out[most - ++*n] = e;
    }
    if (!e.lsn || (!left && d->n == d->cap)) { /* unreadable, or there was no room for all */
        free(out);
        return NULL;
    }
    memmove(out, out + most - *n, *n * sizeof *out);
    return out;
}

int64_t dedup_oldest_ms(const struct dedup *d)
{
    return d->n ? d->oldest_ms : 0;
}

size_t dedup_count(const struct dedup *d)
{
    return d->n;
}
