/* What the files of this room share. */
#pragma once

#include <openssl/evp.h>

#include "crypto.h"

struct crypto_public {
    enum crypto_scheme scheme;
    EVP_PKEY *pkey;
};

struct crypto_private {
    struct crypto_public key; /* the pair; its public half is all that a verifier uses */
};

/* -1 unless the key is one of the scheme, of an accepted curve and size. */
MUST_CHECK int public_check(const EVP_PKEY *pkey, enum crypto_scheme scheme, struct err *e);
struct crypto_public *public_take(EVP_PKEY *pkey, enum crypto_scheme scheme);
EVP_PKEY *public_ed25519(const uint8_t *raw); /* 32 bytes */
/* The 32 bytes of an Ed25519 key; or those of x and y of a P-256 key. */
void public_point(const struct crypto_public *k, uint8_t *out, size_t n);

/* A message made ready once for any number of keys of one scheme: hashed, or joined for Ed25519,
 * which reads it twice. */
struct message {
    enum crypto_scheme scheme;
    struct span bytes;
    char *heap;
    char small[2048];
};

void message_init(struct message *m, enum crypto_scheme scheme, const struct span *parts, size_t n);
void message_close(struct message *m);
bool message_verify(const struct message *m, const struct crypto_public *k, struct span signature);
void message_sign(const struct message *m, const struct crypto_public *k, struct buf *out);

size_t hash_parts(enum crypto_hash hash, const struct span *parts, size_t n, uint8_t *out);

/* RFC 7515 2: base64url without padding. */
ssize_t from_base64url(struct span text, void *out, size_t cap);
void add_base64url(struct buf *out, struct span s);

/* "RS256" and its like of RFC 7518 3.1 and RFC 8037 3.1; NULL for a scheme that has none. */
const char *jwt_algorithm(enum crypto_scheme scheme);
bool jwt_scheme(const char *algorithm, enum crypto_scheme *scheme);
