/* SPDX-License-Identifier: Apache-2.0 */
/* check: what it costs to judge a webhook of 600 bytes signed by HMAC-SHA256, the whole plan with
 * id, type, subject and kept headers, beside the plain SHA-256 of its body. Best of many short
 * runs; prints one JSON object. */
#include <err.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "crypto.h"
#include "source.h"

#define BODY 600
#define NOW_MS 1767225600000
#define RUNS 400
#define TURNS 500

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
static void make_request(struct delivery *d)
{
    static const struct http_limits limits = { 16384, 8192, 1 << 20 };
    static char body[BODY + 8];
    struct err e = ERR_INIT;

    snprintf(body, sizeof body,
             "{\"type\":\"batch.succeeded\",\"version\":\"v1\",\"timestamp\":\"2026-01-22T12:00:00Z"
             "\",\"data\":{\"id\":\"batch_123456\",\"output_file_uri\":\"%0*d\"}}",
             BODY - 126, 0);
    d->out = (struct source_outgoing){ .now_ms = NOW_MS, .body = span_str(body) };
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

static double best_ns(void (*what)(struct delivery *d), struct delivery *d)
{
    double best = 1e18;

    for (int run = 0; run < RUNS; run++) {
        int64_t start = now_ns();
        for (int i = 0; i < TURNS; i++)
            what(d);
        best = MIN(best, (double)(now_ns() - start) / TURNS);
    }
    return best;
}

int main(void)
{
    struct delivery hmac = { 0 };

    make_plan(&hmac, "provider: gemini\nsecrets: [whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw]\n");
    make_request(&hmac);
    printf("{\"body_bytes\":%zu,\"whole_ns\":%.0f,\"digest_ns\":%.0f}\n", hmac.out.text.n,
           best_ns(judge, &hmac), best_ns(digest, &hmac));
    return 0;
}
