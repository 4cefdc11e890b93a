/* SPDX-License-Identifier: Apache-2.0 */
/* Verification fails closed (P10): no request that was made up is taken by a preset that signs; one
 * that was signed is taken, and not any more once a bit of its body is another.
 *
 * The first byte chooses: a whole request for every plan, or a body that one plan signs. The second
 * and third say which plan, and which byte is changed. */
#include "fuzz.h"

#include <stdio.h>

#include "source.h"

#define SECRET "whsec_b1JkZXJseS1wZW5ndWlucy1uZXZlci1sZWFr"
#define NOW_MS 1767225600000

/* What the presets do not use: other digests, encodings, times and parts. */
#define OWN(algorithm, rest) "signature: { algorithm: " algorithm ", header: x-sig, " rest
static const char *const own[] = {
    OWN("hmac-sha1", "encoding: base64, message: '{body}' }"),
    OWN("hmac-sha512", "encoding: base64url, message: '{url}|{sha256hex:body}|{header:x-at}', "
                       "timestamp: { header: x-at, unit: iso8601 } }\n"
                       "url: https://hooks.example.com/h\nsubject: { path: data.0.id }"),
    OWN("hmac-sha256", "separator: ',', field: 'v=', message: '{body}{field:t}', "
                       "timestamp: { field: t, unit: ms } }\nkeep_headers: [host]\ndedup: body"),
};

struct one {
    struct source_cfg *cfg;
    struct source_plan *plan;
    bool open;  /* takes what nobody signed */
    bool signs; /* the body: a token does not */
};
static struct one plans[64];
static size_t plans_n;
static struct source_event ev;

static void add(const char *config, bool open, bool signs)
{
    struct err_list errs = { NULL, 0 }, warns = { NULL, 0 };
    struct cfg_doc *doc = cfg_parse("fuzz", span_str(config), false, &errs);
    struct one *o = &plans[plans_n++];

    o->open = open;
    o->signs = signs;
    o->cfg = xcalloc(1, source_cfg_size());
    must(doc);
    cfg_load(source_cfg_keys(), cfg_root(doc), o->cfg, &errs);
    o->plan = source_compile("fuzz", o->cfg, cfg_root(doc), INT64_MAX, &errs, &warns);
    for (size_t i = 0; i < errs.n; i++)
        fprintf(stderr, "%s\n", errs.line[i]);
    must(o->plan);
    cfg_doc_free(doc);
    err_list_free(&warns);
}

static void make_plans(void)
{
    char config[1024];

    for (const char *const *name = source_preset_names(); *name; name++) {
        bool open = !strcmp(*name, "none");
        snprintf(config, sizeof config, "provider: %s\n%s", *name,
                 open ? "" : "secrets: ['" SECRET "']\n");
        add(config, open, !open && strcmp(*name, "token"));
    }
    for (size_t i = 0; i < ARRAY_LEN(own); i++) {
        snprintf(config, sizeof config, "%s\nsecrets: [a, '" SECRET "']\n", own[i]);
        add(config, false, true);
    }
}

static bool parse(struct http_request *req, char *bytes, size_t n)
{
    static const struct http_limits limits = { 16384, 8192, 1 << 20 };
    enum http_result r;

    http_request_init(req, &limits);
    do
        r = http_parse(req, bytes, n, &limits);
    while (r == HTTP_HEAD);
    return r == HTTP_DONE;
}

static void made_up(const uint8_t *data, size_t n)
{
    char *bytes = fuzz_copy(data, n);
    struct http_request req;

    if (parse(&req, bytes, n))
        for (size_t i = 0; i < plans_n; i++) {
            enum verdict v = source_verify(plans[i].plan, &req, bytes, SPAN_NONE, NOW_MS, &ev);
            must(plans[i].open || v != VERDICT_OK);
            must(v == VERDICT_OK || (!ev.id.p && !ev.type.p && !ev.subject.p && !ev.headers.n));
            source_outcome(plans[i].plan, ev.type);
        }
    free(bytes);
}

static void signed_by(const struct one *o, uint8_t change, struct span body)
{
    struct source_outgoing out = { .now_ms = NOW_MS, .body = body };
    struct http_request req;
    struct buf b = BUF_INIT;
    struct err e = ERR_INIT;

    must(source_sign(o->plan, &out, &e) == 0);
    buf_printf(&b, "POST /hooks/fuzz HTTP/1.1\r\nHost: a\r\nContent-Length: %zu\r\n", out.text.n);
    buf_span(&b, buf_as_span(&out.headers));
    buf_adds(&b, "\r\n");
    buf_span(&b, buf_as_span(&out.text));
    must(parse(&req, b.p, b.n));
    must(source_verify(o->plan, &req, b.p, SPAN_NONE, NOW_MS, &ev) == VERDICT_OK);
    if (req.body_len && o->signs) {
        b.p[req.body_off + change % req.body_len] ^= 1;
        must(source_verify(o->plan, &req, b.p, SPAN_NONE, NOW_MS, &ev) != VERDICT_OK);
    }
    buf_free(&b);
    source_outgoing_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (!plans_n)
        make_plans();
    if (n < 3)
        return 0;
    if (data[0] & 1)
        signed_by(&plans[data[1] % plans_n], data[2], span_of(data + 3, n - 3));
    else
        made_up(data + 1, n - 1);
    return 0;
}
