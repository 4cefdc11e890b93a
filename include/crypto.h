/* crypto - signatures and digests over OpenSSL, in the shape that verification wants.
 *
 * HMAC starts from inner and outer states computed once per secret: no key set-up per request.
 * Thread-safe after construction: a key is read only, each call works on the caller's stack. */
#pragma once

#include <sys/types.h>

#include "span.h"

enum crypto_hash { CRYPTO_SHA1, CRYPTO_SHA256, CRYPTO_SHA512 };
#define CRYPTO_HASH_MAX 64

struct crypto_hmac; /* a key, ready to use */

struct crypto_hmac *crypto_hmac_new(enum crypto_hash hash, struct span key);
void crypto_hmac_free(struct crypto_hmac *k);
/* MAC over the parts one after another. out[CRYPTO_HASH_MAX]; returns its length. */
size_t crypto_hmac(const struct crypto_hmac *k, const struct span *parts, size_t n, uint8_t *out);

size_t crypto_hash(enum crypto_hash hash, struct span data, uint8_t *out);

/* Constant time in the bytes; the lengths are not secret. */
bool crypto_equal(const void *a, size_t an, const void *b, size_t bn);

/* Strict decoders: the whole text, canonical tail, no blanks. base64 needs its padding unless
 * `padding_optional`. Return the length, or -1; at most `cap` bytes are written. */
ssize_t crypto_from_hex(struct span text, uint8_t *out, size_t cap);
ssize_t crypto_from_base64(struct span text, bool url, bool padding_optional, uint8_t *out,
                           size_t cap);

void crypto_random(void *out, size_t n); /* ends the process when there is none */
void crypto_wipe(void *p, size_t n);
