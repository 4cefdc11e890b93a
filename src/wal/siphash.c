/* SPDX-License-Identifier: Apache-2.0 */
#include "room.h"

#include <string.h>

static uint64_t rotate(uint64_t x, int bits)
{
    return x << bits | x >> (64 - bits);
}

static void rounds(uint64_t v[4], int n)
{
    while (n--) {
        v[0] += v[1];
        v[1] = rotate(v[1], 13) ^ v[0];
        v[0] = rotate(v[0], 32);
        v[2] += v[3];
        v[3] = rotate(v[3], 16) ^ v[2];
        v[0] += v[3];
        v[3] = rotate(v[3], 21) ^ v[0];
        v[2] += v[1];
        v[1] = rotate(v[1], 17) ^ v[2];
        v[2] = rotate(v[2], 32);
    }
}

static void word(struct siphash *h, uint64_t m)
{
    h->v[3] ^= m;
    rounds(h->v, 2);
    h->v[0] ^= m;
}

void siphash_init(struct siphash *h, const uint8_t key[16])
{
    uint64_t k0 = format_get64(key), k1 = format_get64(key + 8);

    *h = (struct siphash){ .v = { k0 ^ 0x736f6d6570736575u, k1 ^ 0x646f72616e646f6du ^ 0xee,
                                  k0 ^ 0x6c7967656e657261u, k1 ^ 0x7465646279746573u } };
}

void siphash_add(struct siphash *h, const void *data, size_t n)
{
    const uint8_t *p = data;
    unsigned have = 8 * (h->n & 7); /* bits in the tail */

    h->n += n;
    for (; n >= 8; n -= 8, p += 8) {
        uint64_t m = format_get64(p);
        word(h, h->tail | m << have);
        h->tail = have ? m >> (64 - have) : 0;
    }
    for (; n; n--, p++) {
        h->tail |= (uint64_t)*p << have;
        have = (have + 8) & 63;
        if (!have) {
            word(h, h->tail);
            h->tail = 0;
        }
    }
}

void siphash_end(struct siphash *h, uint8_t out[16])
{
    word(h, h->tail | (uint64_t)h->n << 56);
    h->v[2] ^= 0xee;
    rounds(h->v, 4);
    format_put64(out, h->v[0] ^ h->v[1] ^ h->v[2] ^ h->v[3]);
    h->v[1] ^= 0xdd;
    rounds(h->v, 4);
    format_put64(out + 8, h->v[0] ^ h->v[1] ^ h->v[2] ^ h->v[3]);
}
