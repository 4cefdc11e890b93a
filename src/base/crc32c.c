/* SPDX-License-Identifier: Apache-2.0 */
/* CRC-32C. x86-64 has an instruction (SSE4.2) with a latency of three cycles and a throughput of
 * one: three runs side by side, joined by a table, use it fully; what is left takes it plainly.
 * Elsewhere eight tables take eight bytes a step. The choice is made once. */
#include "crc32c.h"

#include <endian.h>
#include <pthread.h>
#include <string.h>

#define POLY 0x82f63b78u
#define LANE 128 /* bytes of each of the three runs: a record of half a KiB has them */

static uint32_t table[8][256];
static uint32_t shift_lane[4][256]; /* what LANE zero bytes behind it make of a CRC */
static uint32_t (*chosen)(uint32_t crc, const void *p, size_t n);
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void make_tables(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int bit = 0; bit < 8; bit++)
            c = c & 1 ? c >> 1 ^ POLY : c >> 1;
        table[0][i] = c;
    }
    for (uint32_t i = 0; i < 256; i++)
        for (int t = 1; t < 8; t++)
            table[t][i] = table[t - 1][i] >> 8 ^ table[0][table[t - 1][i] & 255];
    for (uint32_t i = 0; i < 256; i++)
        for (int byte = 0; byte < 4; byte++) {
            uint32_t c = i << 8 * byte;
            for (int zero = 0; zero < LANE; zero++)
                c = c >> 8 ^ table[0][c & 255];
            shift_lane[byte][i] = c;
        }
}

static uint32_t by_table(uint32_t crc, const void *data, size_t n)
{
    const unsigned char *p = data;

    crc = ~crc;
    for (; n >= 8; n -= 8, p += 8) {
        uint64_t v;
        memcpy(&v, p, 8);
        v = le64toh(v) ^ crc;
        crc = table[7][v & 255] ^ table[6][v >> 8 & 255] ^ table[5][v >> 16 & 255] ^
              table[4][v >> 24 & 255] ^ table[3][v >> 32 & 255] ^ table[2][v >> 40 & 255] ^
              table[1][v >> 48 & 255] ^ table[0][v >> 56];
    }
    for (; n; n--, p++)
        crc = crc >> 8 ^ table[0][(crc ^ *p) & 255];
    return ~crc;
}

#if defined(__x86_64__) /* the one place where the processor matters */
static uint32_t over_lane(uint32_t c)
{
    return shift_lane[0][c & 255] ^ shift_lane[1][c >> 8 & 255] ^ shift_lane[2][c >> 16 & 255] ^
           shift_lane[3][c >> 24];
}

static uint64_t word(const unsigned char *p)
{
    uint64_t v;

    memcpy(&v, p, 8);
    return v;
}

__attribute__((target("sse4.2"))) static uint32_t by_instruction(uint32_t crc, const void *data,
                                                                 size_t n)
{
    const unsigned char *p = data;
    uint64_t a = ~crc, b, c;

    for (; n >= 3 * LANE; n -= 3 * LANE, p += 3 * LANE) {
        b = c = 0;
        for (size_t i = 0; i < LANE; i += 8) {
            a = __builtin_ia32_crc32di(a, word(p + i));
            b = __builtin_ia32_crc32di(b, word(p + LANE + i));
            c = __builtin_ia32_crc32di(c, word(p + 2 * LANE + i));
        }
        a = over_lane(over_lane((uint32_t)a) ^ (uint32_t)b) ^ (uint32_t)c;
    }
    for (; n >= 8; n -= 8, p += 8)
        a = __builtin_ia32_crc32di(a, word(p));
    for (; n; n--, p++)
        a = __builtin_ia32_crc32qi((uint32_t)a, *p);
    return ~(uint32_t)a;
}

static void choose(void)
{
    make_tables();
    chosen = __builtin_cpu_supports("sse4.2") ? by_instruction : by_table;
}
#else
static void choose(void)
{
    make_tables();
    chosen = by_table;
}
#endif

uint32_t crc32c(uint32_t crc, const void *p, size_t n)
{
    pthread_once(&once, choose);
    return chosen(crc, p, n);
}

uint32_t crc32c_portable(uint32_t crc, const void *p, size_t n)
{
    pthread_once(&once, choose);
    return by_table(crc, p, n);
}
