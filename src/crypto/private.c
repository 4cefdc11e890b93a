/* SPDX-License-Identifier: Apache-2.0 */
/* Key pairs: what a provider does, so that a webhook can be signed for trying and for tests. A
 * failure of OpenSSL to generate or to sign ends the process: no daemon signs. */
#include "room.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <string.h>

#define RAW 32
#define TEXT_MAX (16 << 10)

static struct crypto_private *take(EVP_PKEY *pkey, enum crypto_scheme scheme)
{
    struct crypto_private *k = xcalloc(1, sizeof *k);

    k->key = (struct crypto_public){ scheme, pkey };
    return k;
}

struct crypto_private *crypto_private_generate(enum crypto_scheme scheme)
{
    EVP_PKEY *pkey = NULL;

    switch (scheme) {
    case CRYPTO_ED25519:
        pkey = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
        break;
    case CRYPTO_ECDSA_P256:
        pkey = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
        break;
    case CRYPTO_RSA_SHA256:
    case CRYPTO_RSA_SHA1:
        pkey = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2048);
        break;
    }
    if (!pkey)
        die(EXIT_IO, "OpenSSL cannot generate a key");
    return take(pkey, scheme);
}

/* whsk_: seed and public key, which must belong together. */
static EVP_PKEY *from_whsk(struct span text)
{
    uint8_t raw[2 * RAW], public[RAW];
    size_t n = sizeof public;
    EVP_PKEY *pkey = NULL;

    if (crypto_from_base64(text, false, true, raw, sizeof raw) == sizeof raw)
        pkey = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, raw, RAW);
    if (pkey && (EVP_PKEY_get_raw_public_key(pkey, public, &n) != 1 ||
                 memcmp(public, raw + RAW, RAW) != 0)) {
        EVP_PKEY_free(pkey);
        pkey = NULL;
    }
    crypto_wipe(raw, sizeof raw);
    return pkey;
}

/* Instead of OpenSSL's own, which asks at the terminal. */
static int no_password(char *text UNUSED, int size UNUSED, int writing UNUSED, void *arg UNUSED)
{
    return -1;
}

static EVP_PKEY *from_pem(struct span text)
{
    BIO *in = BIO_new_mem_buf(text.p, (int)text.n);
    EVP_PKEY *pkey = in ? PEM_read_bio_PrivateKey(in, NULL, no_password, NULL) : NULL;

    BIO_free(in);
    return pkey;
}

struct crypto_private *crypto_private_new(enum crypto_scheme scheme, struct span text,
                                          struct err *e)
{
    const struct span prefix = S("whsk_");
    EVP_PKEY *pkey = NULL;

    text = span_trim(text);
    if (scheme == CRYPTO_ED25519 && span_starts(text, prefix))
        pkey = from_whsk(span_of(text.p + prefix.n, text.n - prefix.n));
    else if (text.n && text.n <= TEXT_MAX)
        pkey = from_pem(text);
    if (pkey && !public_check(pkey, scheme, e))
        return take(pkey, scheme);
    if (!pkey)
        err_set(e, EXIT_BAD_CONFIG, "not a private key in PEM%s",
                scheme == CRYPTO_ED25519 ? " or whsk_ form" : "");
    ERR_clear_error();
    EVP_PKEY_free(pkey);
    return NULL;
}

void crypto_private_free(struct crypto_private *k)
{
    if (!k)
        return;
    EVP_PKEY_free(k->key.pkey);
    free(k);
}

const struct crypto_public *crypto_private_public(const struct crypto_private *k)
{
    return &k->key;
}

void crypto_private_print(const struct crypto_private *k, struct buf *out)
{
    BIO *to = BIO_new(BIO_s_mem());
    char *p = NULL;
    long n;

    if (!to || PEM_write_bio_PrivateKey(to, k->key.pkey, NULL, NULL, 0, NULL, NULL) != 1)
        die(EXIT_IO, "OpenSSL cannot write a private key");
    n = BIO_get_mem_data(to, &p);
    buf_add(out, p, (size_t)n);
    crypto_wipe(p, (size_t)n);
    BIO_free(to);
}

void crypto_sign(const struct crypto_private *k, const struct span *parts, size_t n,
                 struct buf *out)
{
    struct message m;

    message_init(&m, k->key.scheme, parts, n);
    message_sign(&m, &k->key, out);
    message_close(&m);
}
