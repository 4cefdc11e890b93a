/* SPDX-License-Identifier: Apache-2.0 */
/* Damaged headers, put right. A checksum tells which one of all single bits was flipped. And a
 * segment's salt, where its header is lost, is in its batches: a checksum can be run backwards over
 * the bytes that it covers, to the state that the salt left; every salt with that state makes the
 * same checksums. */
#include <string.h>

#include "crc32c.h"
#include "mend.h"

#define POLYNOMIAL 0x82f63b78u /* CRC-32C, reflected */
#define WINDOW (64 * 1024)

bool guess_segment(const uint8_t raw[SEGMENT_HEADER], struct segment_header *h)
{
    uint8_t b[SEGMENT_HEADER];

    memcpy(b, raw, sizeof b);
    for (size_t bit = 0; bit < 96 * 8; bit++) {
        b[bit / 8] = (uint8_t)(b[bit / 8] ^ 1u << bit % 8);
        if (format_get_segment(b, h) == 0)
            return true;
        b[bit / 8] = raw[bit / 8];
    }
    return false;
}

bool guess_batch(const uint8_t raw[BATCH_HEADER], struct batch_header *h, uint64_t salt,
                 uint64_t position)
{
    uint8_t b[BATCH_HEADER];

    memcpy(b, raw, sizeof b);
    for (size_t bit = 0; bit < BATCH_HEADER * 8; bit++) {
        b[bit / 8] = (uint8_t)(b[bit / 8] ^ 1u << bit % 8);
        if (format_get_batch(b, h, salt, position))
            return true;
        b[bit / 8] = raw[bit / 8];
    }
    return false;
}

/* The state in front of n bytes, from the one behind them; states as they are between two bytes. */
static uint32_t backwards(uint32_t state, const uint8_t *p, size_t n)
{
    while (n--) {
        for (int bit = 0; bit < 8; bit++)
            state = state & 0x80000000u ? (state ^ POLYNOMIAL) << 1 | 1 : state << 1;
        state ^= p[n];
    }
    return state;
}

/* The salt whose last four bytes are zero under which this batch header at `position` is right. */
static uint64_t salt_of(const uint8_t raw[BATCH_HEADER], uint64_t position)
{
    static const uint8_t zeros[8];
    uint8_t at[8];
    uint32_t state = backwards(~format_get32(raw + 4), raw + 8, BATCH_HEADER - 8);

    format_put64(at, position);
    state = backwards(state, at, sizeof at);
    state =
        backwards(state, zeros, sizeof zeros); /* what the first half makes of the first state */
    return (uint64_t)(state ^ 0xffffffffu);
}

/* One batch makes any salt right for itself; its records then have to be. */
static bool fits(int fd, const struct segment *s, uint64_t pos, uint64_t salt, uint64_t lowest)
{
    struct segment with = *s;
    struct err ignored = ERR_INIT;
    struct scan sc;
    bool good;

    with.salt = salt;
    scan_init(&sc, fd, &with, pos);
    good =
        scan_batch(&sc, &ignored) == SCAN_BATCH && sc.batch.length && sc.batch.first_lsn >= lowest;
    scan_free(&sc);
    return good;
}

int guess_salt(int fd, const struct segment *s, uint64_t lowest, uint64_t *salt, struct err *e)
{
    uint8_t *b = xmalloc(WINDOW + BATCH_HEADER);
    int rc = 1;
    size_t got;

    for (uint64_t pos = SEGMENT_HEADER; rc > 0 && pos < s->bytes; pos += WINDOW) {
        if (file_read(fd, "segment", b, WINDOW + BATCH_HEADER, pos, &got, e)) {
            rc = -1;
            break;
        }
        for (size_t i = 0; rc > 0 && i < WINDOW && i + BATCH_HEADER <= got; i += 8)
            if (!memcmp(b + i, "HLB1", 4) && format_get64(b + i + 32) == pos + i) {
                *salt = salt_of(b + i, pos + i);
                rc = !fits(fd, s, pos + i, *salt, lowest);
            }
    }
    free(b);
    return rc;
}
