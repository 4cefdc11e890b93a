/* SPDX-License-Identifier: Apache-2.0 */
/* The ids of a sealed segment, in order, at the end of its sidecar: which records may have an id is
 * found by reading a block or two, whatever the segment holds.
 *
 * Blocks of 4096 bytes: 0 checksum of the rest, 4 how many, 8 first LSN of the segment, 16 entries
 * of 8 bytes, rising: as a number, the hash of the id above the distance from the first LSN. The
 * hash is keyed and nearly even, so it says where in the table it stands. Two ids may share one:
 * the record itself is asked. A block that is not right says nothing; the records are read then. */
#include <fcntl.h>

#include "crc32c.h"
#include "room.h"

#define HEAD 16
#define ENTRIES ((IDS_BLOCK - HEAD) / 8)
#define DIGIT 11 /* bits; three of them are a hash */

size_t ids_blocks(size_t n)
{
    return (n + ENTRIES - 1) / ENTRIES;
}

/* By the hash; those with one hash stay in the order of their LSNs. */
static void sort(uint64_t *v, uint64_t *other, size_t n)
{
    for (unsigned shift = 32; shift < 64; shift += DIGIT) {
        size_t at[1 << DIGIT] = { 0 }, sum = 0;
        uint64_t *was = v;

        for (size_t i = 0; i < n; i++)
            at[v[i] >> shift & ((1 << DIGIT) - 1)]++;
        for (size_t d = 0; d < ARRAY_LEN(at); d++) {
            size_t count = at[d];
            at[d] = sum;
            sum += count;
        }
        for (size_t i = 0; i < n; i++)
            other[at[v[i] >> shift & ((1 << DIGIT) - 1)]++] = v[i];
        v = other;
        other = was;
    }
}

void ids_put(const struct sidecar *sc, uint8_t *out)
{
    uint64_t *v = xcalloc(2 * sc->n + 1, sizeof *v), *sorted = v + sc->n;

    for (size_t i = 0; i < sc->n; i++)
        v[i] = (uint64_t)format_get32(sc->v[i].key + DEDUP_ID_AT) << 32 |
               (uint32_t)(sc->v[i].lsn - sc->first_lsn);
    sort(v, sorted, sc->n); /* an odd number of passes: the result is in the other half */
    for (size_t i = 0; i < sc->n; out += IDS_BLOCK) {
        size_t n = MIN((size_t)ENTRIES, sc->n - i);

        format_put32(out + 4, (uint32_t)n);
        format_put64(out + 8, sc->first_lsn);
        for (size_t k = 0; k < n; k++)
            format_put64(out + HEAD + 8 * k, sorted[i++]);
        format_put32(out, crc32c(0, out + 4, IDS_BLOCK - 4));
    }
    free(v);
}

struct block {
    uint8_t b[IDS_BLOCK];
    size_t n;
};

static uint64_t entry(const struct block *k, size_t i)
{
    return format_get64(k->b + HEAD + 8 * i);
}

static bool read_block(int fd, uint64_t at, uint64_t first_lsn, struct block *k)
{
    struct err ignored = ERR_INIT;
    size_t got;

    if (file_read(fd, "sidecar", k->b, IDS_BLOCK, at, &got, &ignored) || got != IDS_BLOCK ||
        format_get32(k->b) != crc32c(0, k->b + 4, IDS_BLOCK - 4))
        return false;
    k->n = format_get32(k->b + 4);
    return k->n > 0 && k->n <= ENTRIES && format_get64(k->b + 8) == first_lsn;
}

/* The lowest entry that is not below `wanted`: true and *found. */
static enum ids_answer lower_bound(int fd, uint64_t at, size_t blocks, uint64_t first_lsn,
                                   uint64_t wanted, uint64_t *found)
{
    size_t b = (size_t)((wanted >> 32) * blocks >> 32), low, high;
    bool upwards = false;
    struct block k;

    for (;;) {
        if (!read_block(fd, at + b * IDS_BLOCK, first_lsn, &k))
            return IDS_UNKNOWN;
        if (wanted <= entry(&k, 0) && b > 0 && !upwards) {
            b--;
            continue;
        }
        if (wanted <= entry(&k, k.n - 1))
            break;
        if (++b == blocks)
            return IDS_NONE;
        upwards = true;
    }
    for (low = 0, high = k.n - 1; low < high;) {
        size_t middle = (low + high) / 2;
        if (entry(&k, middle) < wanted)
            low = middle + 1;
        else
            high = middle;
    }
    *found = entry(&k, low);
    return IDS_MAYBE;
}

enum ids_answer ids_find(const struct wal *w, const struct segment *s, uint32_t hash,
                         uint64_t after, uint64_t *lsn)
{
    uint64_t from = MAX(after + 1, s->first_lsn) - s->first_lsn, at, found = 0;
    enum ids_answer answer = IDS_UNKNOWN;
    size_t blocks;
    int fd = sidecar_open_ids(w, s, &at, &blocks);

    if (fd < 0)
        return IDS_UNKNOWN;
    answer = blocks ? lower_bound(fd, at, blocks, s->first_lsn, (uint64_t)hash << 32 | from, &found)
                    : IDS_NONE;
    io_close(fd);
    if (answer == IDS_MAYBE && found >> 32 != hash)
        answer = IDS_NONE;
    *lsn = s->first_lsn + (uint32_t)found;
    return answer;
}
