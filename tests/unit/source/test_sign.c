/* SPDX-License-Identifier: Apache-2.0 */
/* The other direction: what is signed is verified, and what is made up looks like the provider's.
 */
#include "harness.h"

#include "json.h"

#define NOW 1700000000000
#define OWN(algorithm, rest) "signature: { algorithm: " algorithm ", header: x-sig, " rest " }\n"
#define KEY "secrets: ['whsec_a2V5']\n"

static const struct row {
    const char *name, *config;
    const char *type, *id, *subject; /* paths into the body; NULL: not in it */
} rows[] = {
    { "standard-webhooks", "provider: standard-webhooks\n" KEY, "type", NULL, "data.id" },
    { "gemini", "provider: gemini\n" KEY, "type", NULL, "data.id" },
    { "openai", "provider: openai\n" KEY, "type", NULL, "data.id" },
    { "github", "provider: github\n" KEY, NULL, NULL, NULL },
    { "stripe", "provider: stripe\n" KEY, "type", "id", "data.object.id" },
    { "slack", "provider: slack\n" KEY, "event.type", "event_id", NULL },
    { "token", "provider: token\n" KEY, "type", "id", "data.id" },
    { "token in a header", "provider: token\nheader: x-auth\n" KEY, "type", "id", "data.id" },
    { "none", "provider: none\n", "type", "id", "data.id" },
    { "sha1, base64", OWN("hmac-sha1", "encoding: base64") KEY, "type", "id", "data.id" },
    { "sha512, base64url", OWN("hmac-sha512", "encoding: base64url") KEY, "type", "id", "data.id" },
    { "the digest of the body, twice",
      OWN("hmac-sha256", "message: '{sha256hex:body}{sha256hex:body}'") KEY, "type", "id",
      "data.id" },
    { "time as ISO 8601",
      OWN("hmac-sha256", "message: '{header:x-at}.{body}', "
                         "timestamp: { header: x-at, unit: iso8601 }") KEY,
      "type", "id", "data.id" },
    { "time in milliseconds behind a semicolon",
      OWN("hmac-sha256", "message: '{field:at}.{body}', separator: ';', field: 's=', "
                         "timestamp: { field: at, unit: ms }") KEY,
      "type", "id", "data.id" },
    { "our URL", OWN("hmac-sha256", "message: '{url}{body}'") "url: https://a/h\n" KEY, "type",
      "id", "data.id" },
};

static void expect(struct span body, const char *path, struct span want)
{
    if (path)
        assert_true(span_eq(json_find(body, span_str(path)).raw, want));
}

/* A dozen times, since base64 needs luck to hold what base64url spells differently. */
static void signed_is_verified(void **state)
{
    const struct row *r = *state;
    struct err e = ERR_INIT;
    struct made m;

    make_good(&m, r->config);
    for (int i = 0; i < 12; i++) {
        struct source_outgoing o = { .now_ms = NOW };
        assert_int_equal(source_sign(m.plan, &o, &e), 0);
        assert_true(o.id.n && o.type.n);
        assert_true(json_valid(buf_as_span(&o.text)));
        expect(buf_as_span(&o.text), r->type, o.type);
        expect(buf_as_span(&o.text), r->subject, o.subject);
        assert_int_equal(verdict_of(m.plan, buf_as_span(&o.headers), buf_as_span(&o.text), NOW),
                         VERDICT_OK);
        source_outgoing_free(&o);
    }
    unmake(&m);
}

/* What is asked for is what verification finds, wherever the preset says that it stands. */
static void asked_for_is_found(void **state)
{
    const struct row *r = *state;
    struct source_outgoing o = {
        .id = S("id \"1\""), .type = S("job.failed"), .subject = S("s{id}"), .now_ms = NOW
    };
    struct source_event ev = { 0 };
    struct http_request req;
    struct err e = ERR_INIT;
    struct made m;
    char *bytes;

    make_good(&m, r->config);
    assert_int_equal(source_sign(m.plan, &o, &e), 0);
    assert_true(json_valid(buf_as_span(&o.text)));
    bytes = request(&req, buf_as_span(&o.headers), buf_as_span(&o.text));
    assert_int_equal(source_verify(m.plan, &req, bytes, SPAN_NONE, NOW, &ev), VERDICT_OK);
    if (ev.id.n)
        assert_true(span_eq(ev.id, S("id \"1\"")));
    if (!span_eq(ev.type, S("webhook")))
        assert_true(span_eq(ev.type, S("job.failed")));
    if (ev.subject.n)
        assert_true(span_eq(ev.subject, S("s{id}")));
    expect(buf_as_span(&o.text), r->id, S("id \\\"1\\\""));
    free(bytes);
    source_event_free(&ev);
    source_outgoing_free(&o);
    unmake(&m);
}

static const struct sample_row {
    const char *name, *provider, *type, *path, *holds;
} samples[] = {
    { "gemini: a batch", "gemini", NULL, "data.output_file_uri", "gs://my-bucket/results.jsonl" },
    { "gemini: a video", "gemini", "video.generated", "data.file_name", "files/video-1" },
    { "gemini: a failure", "gemini", "interaction.failed", "data.error_code", "INTERNAL" },
    { "gemini: anything else", "gemini", "interaction.completed", "version", "v1" },
    { "openai", "openai", NULL, "object", "event" },
    { "openai: its time", "openai", NULL, "created_at", "1700000000" },
    { "github: a push", "github", NULL, "ref", "refs/heads/main" },
    { "github: a ping", "github", "ping", "hook_id", "30" },
    { "stripe: a payment", "stripe", NULL, "data.object.object", "payment_intent" },
    { "stripe: a checkout", "stripe", "checkout.session.completed", "data.object.object",
      "checkout.session" },
    { "slack: an event", "slack", NULL, "type", "event_callback" },
    { "slack: the handshake", "slack", "url_verification", "type", "url_verification" },
};

static void sample(void **state)
{
    const struct sample_row *r = *state;
    struct source_outgoing o = { .now_ms = NOW, .type = span_str(r->type) };
    struct buf config = BUF_INIT;
    struct err e = ERR_INIT;
    struct made m;

    buf_printf(&config, "provider: %s\n" KEY, r->provider);
    make_good(&m, buf_cstr(&config));
    assert_int_equal(source_sign(m.plan, &o, &e), 0);
    expect(buf_as_span(&o.text), r->path, span_str(r->holds));
    source_outgoing_free(&o);
    unmake(&m);
    buf_free(&config);
}

static void what_cannot_be_made_up_is_said(void **state UNUSED)
{
    struct source_outgoing o = { .now_ms = NOW };
    struct err e = ERR_INIT;
    struct made m;

    make_good(&m, OWN("hmac-sha256", "message: '{query:a}{body}'") KEY);
    assert_int_equal(source_sign(m.plan, &o, &e), -1);
    assert_non_null(strstr(e.text, "signs a, which send cannot make up"));
    source_outgoing_free(&o);
    unmake(&m);
}

static void an_id_with_the_separator_is_refused(void **state UNUSED)
{
    struct source_outgoing o = { .now_ms = NOW, .id = S("a.b") };
    struct err e = ERR_INIT;
    struct made m;

    make_good(&m, "provider: gemini\n" KEY);
    assert_int_equal(source_sign(m.plan, &o, &e), -1);
    assert_string_equal(e.text, "a.b may not hold \".\", which stands behind it");
    source_outgoing_free(&o);
    unmake(&m);
}

static void an_empty_body_is_signed(void **state UNUSED)
{
    struct source_outgoing o = { .now_ms = NOW, .body = S("") };
    struct err e = ERR_INIT;
    struct made m;

    make_good(&m, "provider: github\n" KEY);
    assert_int_equal(source_sign(m.plan, &o, &e), 0);
    assert_int_equal(o.text.n, 0);
    assert_int_equal(verdict_of(m.plan, buf_as_span(&o.headers), SPAN_NONE, NOW), VERDICT_OK);
    source_outgoing_free(&o);
    unmake(&m);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_cannot_be_made_up_is_said),
        cmocka_unit_test(an_empty_body_is_signed),
        cmocka_unit_test(an_id_with_the_separator_is_refused),
    };

    return T_TABLE(rows, signed_is_verified) + T_TABLE(rows, asked_for_is_found) +
           T_TABLE(samples, sample) + T_RUN(tests);
}
