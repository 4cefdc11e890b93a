/* SPDX-License-Identifier: Apache-2.0 */
/* check: what it costs to judge a webhook of 600 bytes, the whole plan with id, type, subject and
 * kept headers, beside the plain digest of its body; and an Ed25519 signature against a set of three
 * keys, beside the bare check of it. Best of many short runs; prints one JSON object. */
#include <err.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "crypto.h"
#include "source.h"

#define BODY 600
#define NOW_MS 1767225600000
#define RUNS 400
#define HMAC_TURNS 500
#define ED25519_TURNS 10

struct delivery {
    struct source_cfg *cfg;
    struct source_plan *plan;
    struct source_outgoing out;
    struct buf bytes;
    struct http_request req;
    struct source_event ev;
};

static int64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static void make_plan(struct delivery *d, const char *config)
{
    struct err_list errs = { NULL, 0 }, warns = { NULL, 0 };
    struct cfg_doc *doc = cfg_parse("check", span_str(config), false, &errs);

    d->cfg = xcalloc(1, source_cfg_size());
    if (doc)
        cfg_load(source_cfg_keys(), cfg_root(doc), d->cfg, &errs);
    if (!errs.n)
        d->plan = source_compile("check", d->cfg, cfg_root(doc), INT64_MAX, &errs, &warns);
    if (!d->plan)
        errx(1, "check: %s", errs.line[0]);
    cfg_doc_free(doc);
    err_list_free(&warns);
}

/* The request as it lies in a connection's buffer. */
static void make_request(struct delivery *d, struct span key)
{
    static const struct http_limits limits = { 16384, 8192, 1 << 20 };
    static char body[BODY + 8];
    struct err e = ERR_INIT;

    snprintf(body, sizeof body,
             "{\"type\":\"batch.succeeded\",\"version\":\"v1\",\"timestamp\":\"2026-01-22T12:00:00Z"
             "\",\"data\":{\"id\":\"batch_123456\",\"output_file_uri\":\"%0*d\"}}",
             BODY - 126, 0);
    d->out = (struct source_outgoing){ .now_ms = NOW_MS, .body = span_str(body), .key = key };
    if (source_sign(d->plan, &d->out, &e))
        errx(1, "check: %s", e.text);
    buf_printf(&d->bytes,
               "POST /hooks/check HTTP/1.1\r\nHost: hooks.example.com\r\nUser-Agent: bench\r\n"
               "Accept: */*\r\nContent-Length: %zu\r\n",
               d->out.text.n);
    buf_span(&d->bytes, buf_as_span(&d->out.headers));
    buf_adds(&d->bytes, "\r\n");
    buf_span(&d->bytes, buf_as_span(&d->out.text));
    http_request_init(&d->req, &limits);
    while (http_parse(&d->req, d->bytes.p, d->bytes.n, &limits) == HTTP_HEAD)
        ;
}

static void judge(struct delivery *d)
{
    if (source_verify(d->plan, &d->req, d->bytes.p, SPAN_NONE, NOW_MS, &d->ev) != VERDICT_OK)
        errx(1, "check: a genuine delivery was refused");
}

static void digest(struct delivery *d)
{
    uint8_t out[CRYPTO_HASH_MAX];

    crypto_hash(CRYPTO_SHA256, buf_as_span(&d->out.text), out);
    __asm__ volatile("" : : "r"(out) : "memory");
}

/* The last key of three is the right one: what a provider's new key is until the old ones go. */
static EVP_PKEY *bare_key;
static uint8_t bare_signature[64];

static void bare(struct delivery *d)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();

    if (EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, bare_key) != 1 ||
        EVP_DigestVerify(ctx, bare_signature, sizeof bare_signature, (uint8_t *)d->out.text.p,
                         d->out.text.n) != 1)
        errx(1, "check: the bare signature was refused");
    EVP_MD_CTX_free(ctx);
}

static double best_ns(void (*what)(struct delivery *d), struct delivery *d, int turns)
{
    double best = 1e18;

    for (int run = 0; run < RUNS; run++) {
        int64_t start = now_ns();
        for (int i = 0; i < turns; i++)
            what(d);
        best = MIN(best, (double)(now_ns() - start) / turns);
    }
    return best;
}

static void make_ed25519(struct delivery *d)
{
    struct buf config = BUF_INIT, key = BUF_INIT;
    size_t n = sizeof bare_signature;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();

    buf_adds(&config, "provider: standard-webhooks\npublic_keys:\n");
    for (int i = 0; i < 3; i++) {
        struct crypto_private *k = crypto_private_generate(CRYPTO_ED25519);
        buf_adds(&config, "  - ");
        crypto_public_print(crypto_private_public(k), CRYPTO_WHPK, &config);
        buf_addc(&config, '\n');
        key.n = 0;
        crypto_private_print(k, &key);
        crypto_private_free(k);
    }
    make_plan(d, buf_cstr(&config));
    make_request(d, buf_as_span(&key));
    bare_key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    if (EVP_DigestSignInit(ctx, NULL, NULL, NULL, bare_key) != 1 ||
        EVP_DigestSign(ctx, bare_signature, &n, (uint8_t *)d->out.text.p, d->out.text.n) != 1)
        errx(1, "check: nothing could be signed");
    EVP_MD_CTX_free(ctx);
    buf_free(&config);
    buf_free(&key);
}

int main(void)
{
    struct delivery hmac = { 0 }, ed = { 0 };

    make_plan(&hmac, "provider: gemini\nsecrets: [whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw]\n");
    make_request(&hmac, SPAN_NONE);
    make_ed25519(&ed);
    printf("{\"body_bytes\":%zu,\"hmac_ns\":%.0f,\"sha256_ns\":%.0f,\"ed25519_ns\":%.0f,"
           "\"bare_ed25519_ns\":%.0f}\n",
           hmac.out.text.n, best_ns(judge, &hmac, HMAC_TURNS), best_ns(digest, &hmac, HMAC_TURNS),
           best_ns(judge, &ed, ED25519_TURNS), best_ns(bare, &ed, ED25519_TURNS));
    return 0;
}
