/* SPDX-License-Identifier: Apache-2.0 */
/* JWK sets. A set that is taken has keys, is the same set when it is printed and read again, and
 * none of its keys takes a signature that anybody can write down. The same bytes are then read as a
 * single public key and as certificates. */
#include "fuzz.h"

#include "crypto.h"

static const enum crypto_scheme schemes[] = { CRYPTO_ED25519, CRYPTO_ECDSA_P256, CRYPTO_RSA_SHA256,
                                              CRYPTO_RSA_SHA1 };

static size_t count(const struct crypto_keyset *set)
{
    size_t n = 0;

    for (size_t i = 0; i < ARRAY_LEN(schemes); i++)
        n += crypto_keyset_count(set, schemes[i], SPAN_NONE);
    return n;
}

static void check_forgeries(const struct crypto_keyset *set)
{
    static const uint8_t zeros[256], neutral[64] = { 1 }, one[256] = { [255] = 1 };
    static const struct span message = S("message");
    const struct span forged[] = { span_of(zeros, 64), span_of(neutral, 64), span_of(zeros, 256),
                                   span_of(one, 256), S("\x30\x06\x02\x01\x00\x02\x01\x00") };

    for (size_t s = 0; s < ARRAY_LEN(schemes); s++) {
        for (size_t i = 0; i < ARRAY_LEN(forged); i++)
            must(crypto_keyset_verify(set, schemes[s], SPAN_NONE, &message, 1, forged[i]) < 0);
    }
}

static void check_again(const struct crypto_keyset *set)
{
    struct buf text = BUF_INIT, same = BUF_INIT;
    struct err e = ERR_INIT;
    struct crypto_keyset *again;

    crypto_keyset_print(set, &text);
    again = crypto_keyset_new(buf_as_span(&text), &e);
    must(again && count(again) == count(set));
    for (size_t i = 0; i < count(set); i++)
        must(span_eq(crypto_keyset_kid(set, i), crypto_keyset_kid(again, i)));
    crypto_keyset_print(again, &same);
    must(span_eq(buf_as_span(&text), buf_as_span(&same)));
    crypto_keyset_free(again);
    buf_free(&text);
    buf_free(&same);
}

static void check_single(struct span text)
{
    for (size_t i = 0; i < ARRAY_LEN(schemes); i++) {
        struct err e = ERR_INIT;
        struct crypto_public *k = crypto_public_new(schemes[i], text, &e), *again;
        struct buf pem = BUF_INIT;

        must(k || e.text[0]);
        if (k) {
            crypto_public_print(k, CRYPTO_PEM, &pem);
            again = crypto_public_new(schemes[i], buf_as_span(&pem), &e);
            must(again);
            crypto_public_free(again);
            crypto_public_free(k);
        }
        buf_free(&pem);
    }
}

static void check_certificate(struct span pem)
{
    static struct crypto_roots *roots;
    static const struct span host = S("sns.example.com");
    struct err e = ERR_INIT;

    if (!roots)
        roots = crypto_roots_new(SPAN_NONE, &e);
    must(!crypto_certificate_key(CRYPTO_RSA_SHA256, pem, roots, &host, 1, 1700000000000, NULL, &e));
    must(e.text[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    char *copy = fuzz_copy(data, n);
    struct span text = { copy, n };
    struct err e = ERR_INIT;
    struct crypto_keyset *set = crypto_keyset_new(text, &e);

    must(set || e.text[0]);
    if (set) {
        must(count(set) > 0 && count(set) <= 64);
        check_forgeries(set);
        check_again(set);
    }
    crypto_keyset_free(set);
    check_single(text);
    if (n && data[0] == '-')
        check_certificate(text);
    free(copy);
    return 0;
}
