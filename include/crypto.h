/* crypto - signatures, key sets, tokens and digests over OpenSSL, in the shape that verification
 * wants. Fails closed: whatever is odd, out of bounds or not understood does not verify.
 *
 * HMAC starts from inner and outer states computed once per secret: no key set-up per request.
 * Thread-safe after construction: keys, sets and roots are read only and may be shared. Texts and
 * spans are borrowed for the call. Every free accepts NULL. No I/O but crypto_roots_new(). */
#pragma once

#include <sys/types.h>

#include "buf.h"
#include "err.h"

/* First of all, in a program that must not take want of memory for a bad signature: it ends. */
void crypto_end_without_memory(void);

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

/* Signatures. The scheme belongs to the key: nothing that is sent chooses it. An ECDSA signature is
 * DER (RFC 3279 2.2.3; r and s side by side only inside a JWT), the others are their plain bytes.
 */
enum crypto_scheme {
    CRYPTO_ED25519,    /* RFC 8032 */
    CRYPTO_ECDSA_P256, /* with SHA-256 */
    CRYPTO_RSA_SHA256, /* RFC 8017 8.2, PKCS#1 v1.5; 2048 to 8192 bits */
    CRYPTO_RSA_SHA1,   /* the same with SHA-1: for version 1 of SNS alone; not in JWK sets, not in
                          JWTs */
};

struct crypto_public;

/* A public key as providers print it: PEM or base64 of SubjectPublicKeyInfo (RFC 5280 4.1); for
 * Ed25519 also the 32 bytes as whpk_ + base64, base64, base64url or hex. Blanks around it are
 * ignored. NULL for another kind of key, another curve, explicit curve parameters, a size out of
 * bounds, an Ed25519 point of small order (all zeros is one, and would let everybody sign). */
struct crypto_public *crypto_public_new(enum crypto_scheme scheme, struct span text, struct err *e);
void crypto_public_free(struct crypto_public *k);
/* Over the parts one after another. */
bool crypto_verify(const struct crypto_public *k, const struct span *parts, size_t n,
                   struct span signature);

enum crypto_form { CRYPTO_PEM, CRYPTO_SPKI, CRYPTO_WHPK, CRYPTO_HEX }; /* the last two: Ed25519 */
void crypto_public_print(const struct crypto_public *k, enum crypto_form form, struct buf *out);

/* Key sets: immutable, in the order of their document. `kid` with p == NULL means any key. */
struct crypto_keyset;
#define CRYPTO_JWKS_MAX (256 << 10) /* bytes of a document; at most 64 usable keys */

/* From a JWK set (RFC 7517, RFC 8037). Entries with another kty, crv, use, key_ops or alg and
 * entries that are wrong are skipped. NULL for a document that is no JSON, has an object with a
 * member twice, is too large or has no usable key. Keys may share a kid: each is tried. */
struct crypto_keyset *crypto_keyset_new(struct span document, struct err *e);
/* From single keys, which stay the caller's. kids NULL: none has a kid. */
struct crypto_keyset *crypto_keyset_of(const struct crypto_public *const *keys,
                                       const struct span *kids, size_t n);
void crypto_keyset_free(struct crypto_keyset *set);
size_t crypto_keyset_count(const struct crypto_keyset *set, enum crypto_scheme scheme,
                           struct span kid);
/* Tries the keys of that scheme and kid; the index of the one that verifies, or -1. */
int crypto_keyset_verify(const struct crypto_keyset *set, enum crypto_scheme scheme,
                         struct span kid, const struct span *parts, size_t n,
                         struct span signature);
struct span crypto_keyset_kid(const struct crypto_keyset *set, size_t index); /* p NULL: none */
void crypto_keyset_print(const struct crypto_keyset *set, struct buf *out);   /* as a JWK set */

/* JSON Web Tokens (RFC 7519) in compact form (RFC 7515 7.1), checked as RFC 8725 advises. */
enum crypto_jwt {
    CRYPTO_JWT_OK,
    CRYPTO_JWT_MALFORMED,   /* no compact JWS, over 16 KiB (header 4), crit, a member twice */
    CRYPTO_JWT_ALGORITHM,   /* none, HS256, one that is not allowed, or not that of the kid's key */
    CRYPTO_JWT_UNKNOWN_KID, /* newer keys may help; so when the set has no key of that kind */
    CRYPTO_JWT_BAD_SIGNATURE, /* without a kid newer keys may help */
    CRYPTO_JWT_EXPIRED,       /* exp, or iat older than max_age_ms */
    CRYPTO_JWT_NOT_YET,       /* nbf or iat in the future */
    CRYPTO_JWT_WRONG_CLAIM,   /* another value, another type, or missing */
    CRYPTO_JWT_WRONG_BODY,    /* the body's hash is another or missing */
};

struct crypto_jwt_rules {
    unsigned
        schemes; /* bits 1u << scheme: RS256, ES256 (RFC 7518 3.3, 3.4), EdDSA (RFC 8037 3.1) */
    struct span issuer, audience; /* empty: not looked at; aud may be a list that holds it */
    const struct crypto_claim {
        struct span name, value; /* a string; or the text of true, false or an integer */
    } * claims;                  /* all of them must be there */
    size_t n_claims;
    struct span body_hash; /* claim with the SHA-256 of the body in hex, base64 or base64url */
    bool exp_optional;     /* otherwise a token without exp is CRYPTO_JWT_WRONG_CLAIM */
    int64_t leeway_ms;     /* for exp, nbf, iat and max_age_ms */
    int64_t max_age_ms;    /* > 0: iat must be there and at most so old */
};

/* jwk, jku, x5u and x5c of the header are ignored: keys come from the set alone. `payload`, when
 * not NULL, gets the claims' text behind what it holds, only with CRYPTO_JWT_OK. */
enum crypto_jwt crypto_jwt_verify(struct span token, const struct crypto_keyset *set,
                                  const struct crypto_jwt_rules *rules, struct span body,
                                  int64_t now_ms, struct buf *payload);
const char *crypto_jwt_text(enum crypto_jwt outcome); /* for the refusals' log */

/* The other direction, for trying and for tests. */
struct crypto_private;
struct crypto_private *crypto_private_generate(enum crypto_scheme scheme); /* RSA: 2048 bits */
/* From PEM without a password, for Ed25519 also whsk_ + base64 of seed and public key. */
struct crypto_private *crypto_private_new(enum crypto_scheme scheme, struct span text,
                                          struct err *e);
void crypto_private_free(struct crypto_private *k);
const struct crypto_public *crypto_private_public(const struct crypto_private *k); /* lives in k */
void crypto_private_print(const struct crypto_private *k, struct buf *out);        /* PEM, PKCS#8 */
void crypto_sign(const struct crypto_private *k, const struct span *parts, size_t n,
                 struct buf *out); /* the signature's bytes */
/* claims: a JSON object. kid empty: none. Not for CRYPTO_RSA_SHA1. */
void crypto_jwt_make(const struct crypto_private *k, struct span kid, struct span claims,
                     struct buf *out);

/* Certificates (RFC 5280). roots_new: those in `pem`, each trusted whoever issued it, or the
 * system's roots when it is empty. */
struct crypto_roots;
struct crypto_roots *crypto_roots_new(struct span pem, struct err *e);
void crypto_roots_free(struct crypto_roots *roots);
/* The key of the first certificate in `pem` (at most 64 KiB, 8 certificates, the issuers behind it)
 * once the chain leads to a root, every certificate is valid at now_ms, and the first is for one of
 * the `hosts` (RFC 6125, as X509_check_host does; without any it is refused). Revocation is not
 * looked at. *not_after_ms, when not NULL: when the first certificate expires. */
struct crypto_public *crypto_certificate_key(enum crypto_scheme scheme, struct span pem,
                                             const struct crypto_roots *roots,
                                             const struct span *hosts, size_t n_hosts,
                                             int64_t now_ms, int64_t *not_after_ms, struct err *e);
