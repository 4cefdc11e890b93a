/* SPDX-License-Identifier: Apache-2.0 */
/* Signing and checking over a message that comes in pieces. RSA and ECDSA need its digest alone,
 * made once however many keys are tried; Ed25519 hashes it behind values of its own and needs it
 * whole. */
#include "room.h"

#include <assert.h>
#include <openssl/err.h>
#include <openssl/rsa.h>
#include <string.h>

#define SIGNATURE_MAX 1024 /* RSA, 8192 bits */

static void join(struct message *m, const struct span *parts, size_t n)
{
    size_t total = 0, at = 0;
    char *p = m->small;

    if (n == 1) {
        m->bytes = span_of(parts[0].p ? parts[0].p : "", parts[0].n);
        return;
    }
    for (size_t i = 0; i < n; i++)
        total += parts[i].n;
    if (total > sizeof m->small)
        p = m->heap = xmalloc(total);
    for (size_t i = 0; i < n; i++) {
        if (parts[i].n)
            memcpy(p + at, parts[i].p, parts[i].n);
        at += parts[i].n;
    }
    m->bytes = span_of(p, total);
}

void message_init(struct message *m, enum crypto_scheme scheme, const struct span *parts, size_t n)
{
    enum crypto_hash hash = scheme == CRYPTO_RSA_SHA1 ? CRYPTO_SHA1 : CRYPTO_SHA256;

    m->scheme = scheme;
    m->heap = NULL;
    if (scheme == CRYPTO_ED25519)
        join(m, parts, n);
    else
        m->bytes = span_of(m->small, hash_parts(hash, parts, n, (uint8_t *)m->small));
}

void message_close(struct message *m)
{
    free(m->heap);
}

static const uint8_t *bytes(struct span s)
{
    return (const uint8_t *)s.p;
}

static bool verify_whole(const struct message *m, EVP_PKEY *pkey, struct span signature)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok =
        ctx && EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, pkey) == 1 &&
        EVP_DigestVerify(ctx, bytes(signature), signature.n, bytes(m->bytes), m->bytes.n) == 1;

    EVP_MD_CTX_free(ctx);
    return ok;
}

/* Both directions set the digest's kind: without it PKCS#1 would be padded without its name. */
static bool set_up(EVP_PKEY_CTX *ctx, enum crypto_scheme scheme)
{
    const EVP_MD *md = scheme == CRYPTO_RSA_SHA1 ? EVP_sha1() : EVP_sha256();

    if (scheme != CRYPTO_ECDSA_P256 && EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING) != 1)
        return false;
    return EVP_PKEY_CTX_set_signature_md(ctx, md) == 1;
}

static bool verify_digest(const struct message *m, EVP_PKEY *pkey, struct span signature)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, pkey, NULL);
    bool ok = ctx && EVP_PKEY_verify_init(ctx) == 1 && set_up(ctx, m->scheme) &&
              EVP_PKEY_verify(ctx, bytes(signature), signature.n, bytes(m->bytes), m->bytes.n) == 1;

    EVP_PKEY_CTX_free(ctx);
    return ok;
}

bool message_verify(const struct message *m, const struct crypto_public *k, struct span signature)
{
    bool ok;

    assert(k->scheme == m->scheme);
    if (!signature.n || signature.n > SIGNATURE_MAX)
        return false;
    ok = m->scheme == CRYPTO_ED25519 ? verify_whole(m, k->pkey, signature)
                                     : verify_digest(m, k->pkey, signature);
    if (!ok)
        ERR_clear_error();
    return ok;
}

static bool sign_whole(const struct message *m, EVP_PKEY *pkey, uint8_t *out, size_t *n)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = ctx && EVP_DigestSignInit(ctx, NULL, NULL, NULL, pkey) == 1 &&
              EVP_DigestSign(ctx, out, n, bytes(m->bytes), m->bytes.n) == 1;

    EVP_MD_CTX_free(ctx);
    return ok;
}

static bool sign_digest(const struct message *m, EVP_PKEY *pkey, uint8_t *out, size_t *n)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, pkey, NULL);
    bool ok = ctx && EVP_PKEY_sign_init(ctx) == 1 && set_up(ctx, m->scheme) &&
              EVP_PKEY_sign(ctx, out, n, bytes(m->bytes), m->bytes.n) == 1;

    EVP_PKEY_CTX_free(ctx);
    return ok;
}

void message_sign(const struct message *m, const struct crypto_public *k, struct buf *out)
{
    uint8_t signature[SIGNATURE_MAX];
    size_t n = sizeof signature;
    bool ok = m->scheme == CRYPTO_ED25519 ? sign_whole(m, k->pkey, signature, &n)
                                          : sign_digest(m, k->pkey, signature, &n);

    if (!ok)
        die(EXIT_IO, "OpenSSL cannot sign");
    buf_add(out, signature, n);
}
