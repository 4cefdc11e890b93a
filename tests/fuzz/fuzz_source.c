/* SPDX-License-Identifier: Apache-2.0 */
/* Verification fails closed (P10): no request that was made up is taken by a preset that signs; one
 * that was signed is taken, and not any more once a bit of its body is another.
 *
 * The first byte chooses: a whole request for every plan, or a body that one plan signs. The second
 * and third say which plan, and which byte is changed. */
#include "fuzz.h"

#include <stdio.h>
#include <string.h>

#include "crypto.h"
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
    bool open;        /* takes what nobody signed */
    bool signs;       /* the body: a token does not */
    bool certificate; /* that nobody fetches here */
    struct buf key;
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

/* What a user must add to a preset, and the private key of those that have one. */
static const struct {
    const char *name, *more;
    int scheme;
} needs[] = {
    { "gemini-dynamic", "require: none\naudience: me\n", CRYPTO_ED25519 },
    { "fal", "", CRYPTO_ED25519 },
    { "discord", "", CRYPTO_ED25519 },
    { "discord-interactions", "", CRYPTO_ED25519 },
    { "telnyx", "", CRYPTO_ED25519 },
    { "sendgrid", "", CRYPTO_ECDSA_P256 },
    { "kick", "", CRYPTO_RSA_SHA256 },
    { "plaid", "", CRYPTO_ECDSA_P256 },
    { "google-pubsub", "audience: me\nemail: a@b\n", CRYPTO_RSA_SHA256 },
    { "assemblyai", "header: x-auth\n", -1 },
    { "twilio", "url: https://hooks.example.com/h\n", -1 },
    { "square", "url: https://hooks.example.com/h\n", -1 },
    { "meta", "verify_token: shibboleth\n", -1 },
    { "paypal", "config: { webhook_id: w }\n", CRYPTO_RSA_SHA256 },
    { "aws-sns", "equals: { TopicArn: a }\n", CRYPTO_RSA_SHA256 },
};

/* Only these leave the body out of what they prove; a form is signed in another order than it
 * stands, so that several bodies say the same. */
static bool signs_body(const char *name)
{
    static const char *const not [] = { "none",        "token",         "assemblyai",
                                        "luma",        "huggingface",   "microsoft-graph",
                                        "cloudevents", "google-pubsub", "twilio" };

    for (size_t i = 0; i < ARRAY_LEN(not ); i++)
        if (!strcmp(not [i], name))
            return false;
    return true;
}

static void add_public(int scheme, bool certificate, struct buf *config)
{
    struct crypto_private *k = crypto_private_generate((enum crypto_scheme)scheme);
    struct buf public = BUF_INIT;

    crypto_public_print(crypto_private_public(k), CRYPTO_SPKI, &public);
    if (!certificate)
        buf_printf(config, "public_keys: ['%s']\n", buf_cstr(&public));
    plans[plans_n].key.n = 0;
    crypto_private_print(k, &plans[plans_n].key);
    buf_free(&public);
    crypto_private_free(k);
}

static void add_preset(const char *name)
{
    bool open = !strcmp(name, "none"),
         certificate = !strcmp(name, "paypal") || !strcmp(name, "aws-sns");
    struct buf config = BUF_INIT;
    int scheme = -1;

    buf_printf(&config, "provider: %s\n", name);
    for (size_t i = 0; i < ARRAY_LEN(needs); i++)
        if (!strcmp(needs[i].name, name)) {
            buf_adds(&config, needs[i].more);
            scheme = needs[i].scheme;
        }
    if (scheme >= 0)
        add_public(scheme, certificate, &config);
    else if (!open)
        buf_adds(&config, "secrets: ['" SECRET "']\n");
    plans[plans_n].certificate = certificate;
    add(buf_cstr(&config), open, signs_body(name));
    buf_free(&config);
}

static void make_plans(void)
{
    char config[1024];

    for (const char *const *name = source_preset_names(); *name; name++)
        add_preset(*name);
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

/* Whatever came, what is said of it is short and printable. */
static void explained(const struct source_plan *p, const struct http_request *req,
                      const char *bytes)
{
    char text[SOURCE_EXPLAIN_MAX];
    size_t n = source_explain(p, req, bytes, &ev, text);

    must(n > 0 && n <= sizeof text);
    for (size_t i = 0; i < n; i++)
        must(text[i] >= ' ' && text[i] <= '~');
}

static void made_up(const uint8_t *data, size_t n)
{
    char *bytes = fuzz_copy(data, n);
    struct http_request req;

    if (parse(&req, bytes, n))
        for (size_t i = 0; i < plans_n; i++) {
            enum verdict v = source_verify(plans[i].plan, &req, bytes, SPAN_NONE, NOW_MS, &ev);
            must(plans[i].open || v != VERDICT_OK || ev.handshake);
            must(v == VERDICT_OK || (!ev.id.p && !ev.type.p && !ev.subject.p && !ev.headers.n));
            source_outcome(plans[i].plan, ev.type);
            if (v != VERDICT_OK)
                explained(plans[i].plan, &req, bytes);
        }
    free(bytes);
}

static void signed_by(const struct one *o, uint8_t change, struct span body)
{
    struct source_outgoing out = { .now_ms = NOW_MS, .body = body, .key = buf_as_span(&o->key) };
    struct http_request req;
    struct buf b = BUF_INIT;
    struct err e = ERR_INIT;

    if (source_sign(o->plan, &out, &e)) {
        must(o->certificate && body.p); /* a version in the body that nobody signs */
        source_outgoing_free(&out);
        return;
    }
    buf_printf(&b, "POST /hooks/fuzz%s", out.query.n ? "?" : "");
    buf_span(&b, buf_as_span(&out.query));
    buf_printf(&b, " HTTP/1.1\r\nHost: a\r\nContent-Length: %zu\r\n", out.text.n);
    buf_span(&b, buf_as_span(&out.headers));
    buf_adds(&b, "\r\n");
    buf_span(&b, buf_as_span(&out.text));
    must(parse(&req, b.p, b.n));
    if (o->certificate)
        must(source_verify(o->plan, &req, b.p, SPAN_NONE, NOW_MS, &ev) != VERDICT_OK);
    else if (source_verify(o->plan, &req, b.p, SPAN_NONE, NOW_MS, &ev) != VERDICT_OK)
        must(body.p); /* what the body must hold, or may not: a time, a token, a form */
    else if (req.body_len && o->signs) {
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
        signed_by(&plans[data[1] % plans_n], data[2],
                  data[0] & 2 ? SPAN_NONE : span_of(data + 3, n - 3));
    else
        made_up(data + 1, n - 1);
    return 0;
}
