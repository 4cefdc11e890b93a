/* SPDX-License-Identifier: Apache-2.0 */
/* Digests, HMAC and decoders. HMAC copies a hash state of a hundred bytes instead of going through
 * OpenSSL's EVP: copying an EVP_MD_CTX takes a lock and an allocation, which cost more than hashing
 * a webhook. The low-level functions are marked as deprecated since OpenSSL 3.0 and still there. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "room.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <string.h>

#define BLOCK_MAX 128

union state {
    SHA_CTX sha1;
    SHA256_CTX sha256;
    SHA512_CTX sha512;
};

static const struct {
    size_t bytes, block;
} sizes[] = {
    [CRYPTO_SHA1] = { 20, 64 },
    [CRYPTO_SHA256] = { 32, 64 },
    [CRYPTO_SHA512] = { 64, 128 },
};

struct crypto_hmac {
    enum crypto_hash hash;
    union state inner, outer;
};

static void start(enum crypto_hash hash, union state *s)
{
    switch (hash) {
    case CRYPTO_SHA1:
        SHA1_Init(&s->sha1);
        break;
    case CRYPTO_SHA256:
        SHA256_Init(&s->sha256);
        break;
    case CRYPTO_SHA512:
        SHA512_Init(&s->sha512);
        break;
    }
}

static void add(enum crypto_hash hash, union state *s, const void *p, size_t n)
{
    switch (hash) {
    case CRYPTO_SHA1:
        SHA1_Update(&s->sha1, p, n);
        break;
    case CRYPTO_SHA256:
        SHA256_Update(&s->sha256, p, n);
        break;
    case CRYPTO_SHA512:
        SHA512_Update(&s->sha512, p, n);
        break;
    }
}

static void finish(enum crypto_hash hash, union state *s, uint8_t *out)
{
    switch (hash) {
    case CRYPTO_SHA1:
        SHA1_Final(out, &s->sha1);
        break;
    case CRYPTO_SHA256:
        SHA256_Final(out, &s->sha256);
        break;
    case CRYPTO_SHA512:
        SHA512_Final(out, &s->sha512);
        break;
    }
}

size_t hash_parts(enum crypto_hash hash, const struct span *parts, size_t n, uint8_t *out)
{
    union state s;

    start(hash, &s);
    for (size_t i = 0; i < n; i++)
        add(hash, &s, parts[i].p, parts[i].n);
    finish(hash, &s, out);
    return sizes[hash].bytes;
}

size_t crypto_hash(enum crypto_hash hash, struct span data, uint8_t *out)
{
    return hash_parts(hash, &data, 1, out);
}

/* RFC 2104: the key, hashed when longer than a block, then padded with zeros. */
struct crypto_hmac *crypto_hmac_new(enum crypto_hash hash, struct span key)
{
    struct crypto_hmac *k = xcalloc(1, sizeof *k);
    uint8_t block[BLOCK_MAX] = { 0 };

    k->hash = hash;
    if (key.n > sizes[hash].block)
        crypto_hash(hash, key, block);
    else if (key.n)
        memcpy(block, key.p, key.n);
    for (size_t i = 0; i < sizes[hash].block; i++)
        block[i] ^= 0x36;
    start(hash, &k->inner);
    add(hash, &k->inner, block, sizes[hash].block);
    for (size_t i = 0; i < sizes[hash].block; i++)
        block[i] ^= 0x36 ^ 0x5c;
    start(hash, &k->outer);
    add(hash, &k->outer, block, sizes[hash].block);
    crypto_wipe(block, sizeof block);
    return k;
}

void crypto_hmac_free(struct crypto_hmac *k)
{
    if (!k)
        return;
    crypto_wipe(k, sizeof *k);
    free(k);
}

size_t crypto_hmac(const struct crypto_hmac *k, const struct span *parts, size_t n, uint8_t *out)
{
    union state s = k->inner;

    for (size_t i = 0; i < n; i++)
        add(k->hash, &s, parts[i].p, parts[i].n);
    finish(k->hash, &s, out);
    s = k->outer;
    add(k->hash, &s, out, sizes[k->hash].bytes);
    finish(k->hash, &s, out);
    return sizes[k->hash].bytes;
}

bool crypto_equal(const void *a, size_t an, const void *b, size_t bn)
{
    return an == bn && CRYPTO_memcmp(a, b, an) == 0;
}

void crypto_random(void *out, size_t n)
{
    if (RAND_bytes(out, (int)n) != 1)
        die(EXIT_IO, "no random numbers to be had");
}

void crypto_wipe(void *p, size_t n)
{
    OPENSSL_cleanse(p, n);
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 32;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

ssize_t crypto_from_hex(struct span text, uint8_t *out, size_t cap)
{
    if (text.n % 2 || text.n / 2 > cap)
        return -1;
    for (size_t i = 0; i < text.n; i += 2) {
        int high = hex_digit(text.p[i]), low = hex_digit(text.p[i + 1]);
        if (high < 0 || low < 0)
            return -1;
        out[i / 2] = (uint8_t)(high << 4 | low);
    }
    return (ssize_t)(text.n / 2);
}

/* A digit's value + 1; 0: none. The two alphabets differ in their last two digits. */
#define DIGITS                                                                                     \
    ['A'] = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, \
    25, 26, ['a'] = 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45,    \
    46, 47, 48, 49, 50, 51, 52, ['0'] = 53, 54, 55, 56, 57, 58, 59, 60, 61, 62
static const uint8_t base64_digits[2][256] = { { DIGITS, ['+'] = 63, ['/'] = 64 },
                                               { DIGITS, ['-'] = 63, ['_'] = 64 } };

static uint8_t digit_at(const uint8_t *digits, char c) /* above 127: none */
{
    return (uint8_t)(digits[(uint8_t)c] - 1);
}

/* Two to four digits as 24 bits; -1: one is none. */
static int32_t base64_group(const uint8_t *digits, const char *p, size_t n)
{
    uint8_t a = digit_at(digits, p[0]), b = digit_at(digits, p[1]);
    uint8_t c = n > 2 ? digit_at(digits, p[2]) : 0, d = n > 3 ? digit_at(digits, p[3]) : 0;

    return (a | b | c | d) & 128 ? -1 : a << 18 | b << 12 | c << 6 | d;
}

/* RFC 4648; bits left over in the last digit must be zero, so that every value has one text. */
ssize_t crypto_from_base64(struct span text, bool url, bool padding_optional, uint8_t *out,
                           size_t cap)
{
    const uint8_t *alphabet = base64_digits[url];
    size_t digits = text.n, n = 0, left;
    int32_t bits;

    while (digits && text.n - digits < 2 && text.p[digits - 1] == '=')
        digits--;
    left = digits % 4;
    if (left == 1 || (text.n % 4 && (!padding_optional || digits != text.n)) ||
        digits / 4 * 3 + (left ? left - 1 : 0) > cap)
        return -1;
    for (size_t i = 0; i + 4 <= digits; i += 4, n += 3) {
        if ((bits = base64_group(alphabet, text.p + i, 4)) < 0)
            return -1;
        out[n] = (uint8_t)(bits >> 16);
        out[n + 1] = (uint8_t)(bits >> 8);
        out[n + 2] = (uint8_t)bits;
    }
    if (!left)
        return (ssize_t)n;
    bits = base64_group(alphabet, text.p + digits - left, left);
    if (bits < 0 || bits & (left == 2 ? 0xffff : 0xff))
        return -1;
    out[n++] = (uint8_t)(bits >> 16);
    if (left == 3)
        out[n++] = (uint8_t)(bits >> 8);
    return (ssize_t)n;
}
