/* SPDX-License-Identifier: Apache-2.0 */
/* keyset [-t SECONDS] [-n BYTES]: prints the microseconds of checking a webhook of so many bytes
 * against a set of three Ed25519 keys of which the last is the right one, and of one bare
 * EVP_DigestVerify over the same bytes. By turns, so that both see the same machine; the best batch
 * of each counts. */
#include <err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <unistd.h>

#include "clock.h"
#include "crypto.h"

#define KEYS 3
#define BATCH 50

struct bench {
    struct crypto_keyset *set;
    EVP_PKEY *bare;
    struct span parts[3]; /* as Standard Webhooks signs: id. timestamp. body */
    struct buf whole, signature;
};

static void set_up(struct bench *b, size_t bytes)
{
    const struct crypto_public *keys[KEYS];
    struct crypto_private *pair = NULL;
    struct buf pem = BUF_INIT;
    BIO *in;

    for (size_t i = 0; i < KEYS; i++) {
        pair = crypto_private_generate(CRYPTO_ED25519);
        keys[i] = crypto_private_public(pair);
    }
    b->set = crypto_keyset_of(keys, NULL, KEYS);
    b->parts[0] = S("msg_00000000-0000-4000-8000-000000000001.");
    b->parts[1] = S("1700000000.");
    b->parts[2] = span_of(xcalloc(1, bytes ? bytes : 1), bytes);
    for (size_t i = 0; i < 3; i++)
        buf_span(&b->whole, b->parts[i]);
    crypto_sign(pair, b->parts, 3, &b->signature);
    crypto_public_print(keys[KEYS - 1], CRYPTO_PEM, &pem);
    in = BIO_new_mem_buf(pem.p, (int)pem.n);
    b->bare = PEM_read_bio_PUBKEY(in, NULL, NULL, NULL);
    BIO_free(in);
    buf_free(&pem);
}

static bool ours(const struct bench *b)
{
    return crypto_keyset_verify(b->set, CRYPTO_ED25519, SPAN_NONE, b->parts, 3,
                                buf_as_span(&b->signature)) == KEYS - 1;
}

static bool bare(const struct bench *b)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, b->bare) == 1 &&
              EVP_DigestVerify(ctx, (const uint8_t *)b->signature.p, b->signature.n,
                               (const uint8_t *)b->whole.p, b->whole.n) == 1;

    EVP_MD_CTX_free(ctx);
    return ok;
}

static double batch_us(const struct bench *b, bool (*check)(const struct bench *), double best)
{
    int64_t start_us = clock_mono_us();
    double each;

    for (int i = 0; i < BATCH; i++) {
        if (!check(b))
            errx(1, "keyset: a right signature was refused");
    }
    each = (double)(clock_mono_us() - start_us) / BATCH;
    return best > 0 && best < each ? best : each;
}

int main(int argc, char **argv)
{
    struct bench b = { 0 };
    double seconds = 1, ours_us = 0, bare_us = 0;
    size_t bytes = 600;
    int64_t end_us;

    for (int opt; (opt = getopt(argc, argv, "t:n:")) != -1;) {
        if (opt == 't')
            seconds = strtod(optarg, NULL);
        else if (opt == 'n')
            bytes = strtoul(optarg, NULL, 10);
        else
            errx(64, "keyset [-t SECONDS] [-n BYTES]");
    }
    set_up(&b, bytes);
    end_us = clock_mono_us() + (int64_t)(seconds * 1e6);
    do {
        ours_us = batch_us(&b, ours, ours_us);
        bare_us = batch_us(&b, bare, bare_us);
    } while (clock_mono_us() < end_us);
    printf("{\"ours_us\":%.3f,\"bare_us\":%.3f}\n", ours_us, bare_us);
    return 0;
}
