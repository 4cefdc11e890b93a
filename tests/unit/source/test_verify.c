/* SPDX-License-Identifier: Apache-2.0 */
/* Official vectors of the providers, and everything that must be refused (P10). */
#include "table.h"

#include <stdio.h>
#include <string.h>

#include "source.h"

#define SW "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
#define SW_ID "webhook-id: msg_p5jXN8AQM9LWM0D4loKWxJek\r\n"
#define SW_TS "webhook-timestamp: 1614265330\r\n"
#define SW_BODY "{\"test\": 2432232314}"
#define SW_SIG "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
#define SW_BAD "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OA="
#define SW_OTHER "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc="
#define SIG(s) "webhook-signature: " s "\r\n"
#define SW_NOW 1614265330
#define STD "provider: standard-webhooks\nsecrets: ['" SW "']\n"

#define SLACK_BODY                                                                                 \
    "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id="         \
    "G8PSS9T3V&channel_name="                                                                      \
    "foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=" \
    "https%3A%2F%"                                                                                 \
    "2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_"  \
    "id=398738663015."                                                                             \
    "47445629121.803a0bc887a14d10d2c447fce8b6703c"

static const struct row {
    const char *name, *config, *headers, *body;
    int64_t now_s;
    enum verdict want;
} rows[] = {
    { "standard webhooks vector", STD, SW_ID SW_TS SIG(SW_SIG), SW_BODY, SW_NOW, VERDICT_OK },
    { "one bit off", STD, SW_ID SW_TS SIG(SW_BAD), SW_BODY, SW_NOW, VERDICT_BAD_SIGNATURE },
    { "another body", STD, SW_ID SW_TS SIG(SW_SIG), "{\"test\":2432232314}", SW_NOW,
      VERDICT_BAD_SIGNATURE },
    { "several, one of them ours", STD, SW_ID SW_TS SIG(SW_OTHER " v2,xyz " SW_SIG " " SW_OTHER),
      SW_BODY, SW_NOW, VERDICT_OK },
    { "a version we do not know alone", STD,
      SW_ID SW_TS SIG("v2,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="), SW_BODY, SW_NOW,
      VERDICT_UNSIGNED },
    { "five minutes old to the second", STD, SW_ID SW_TS SIG(SW_SIG), SW_BODY, SW_NOW + 300,
      VERDICT_OK },
    { "a second more", STD, SW_ID SW_TS SIG(SW_SIG), SW_BODY, SW_NOW + 301, VERDICT_STALE },
    { "five minutes ahead", STD, SW_ID SW_TS SIG(SW_SIG), SW_BODY, SW_NOW - 300, VERDICT_OK },
    { "further ahead", STD, SW_ID SW_TS SIG(SW_SIG), SW_BODY, SW_NOW - 301, VERDICT_FUTURE },
    { "no signature", STD, SW_ID SW_TS, SW_BODY, SW_NOW, VERDICT_UNSIGNED },
    { "no timestamp", STD, SW_ID SIG(SW_SIG), SW_BODY, SW_NOW, VERDICT_UNSIGNED },
    { "no id", STD, SW_TS SIG(SW_SIG), SW_BODY, SW_NOW, VERDICT_UNSIGNED },
    { "id twice", STD, SW_ID SW_ID SW_TS SIG(SW_SIG), SW_BODY, SW_NOW, VERDICT_MALFORMED },
    { "timestamp twice", STD, SW_ID SW_TS SW_TS SIG(SW_SIG), SW_BODY, SW_NOW, VERDICT_MALFORMED },
    { "signature twice, the same text", STD, SW_ID SW_TS SIG(SW_SIG) SIG(SW_SIG), SW_BODY, SW_NOW,
      VERDICT_OK },
    { "signature twice, different", STD, SW_ID SW_TS SIG(SW_SIG) SIG(SW_OTHER), SW_BODY, SW_NOW,
      VERDICT_MALFORMED },
    { "base64 without padding", STD,
      SW_ID SW_TS SIG("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE"), SW_BODY, SW_NOW,
      VERDICT_MALFORMED },
    { "base64 with a loose tail", STD,
      SW_ID SW_TS SIG("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OF="), SW_BODY, SW_NOW,
      VERDICT_MALFORMED },
    { "signature cut short", STD, SW_ID SW_TS SIG("v1,g0hM9SsE"), SW_BODY, SW_NOW,
      VERDICT_MALFORMED },
    { "seventeen signatures", STD,
      SW_ID SW_TS SIG(SW_OTHER " " SW_OTHER " " SW_OTHER " " SW_OTHER " " SW_OTHER " " SW_OTHER
                               " " SW_OTHER " " SW_OTHER " " SW_OTHER " " SW_OTHER " " SW_OTHER
                               " " SW_OTHER " " SW_OTHER " " SW_OTHER " " SW_OTHER " " SW_OTHER
                               " " SW_SIG),
      SW_BODY, SW_NOW, VERDICT_MALFORMED },
    { "rotated: the old secret still holds",
      "provider: standard-webhooks\nsecrets: ['whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA', '" SW
      "']\n",
      SW_ID SW_TS SIG(SW_SIG), SW_BODY, SW_NOW, VERDICT_OK },
    { "secret without its prefix",
      "provider: gemini\nsecrets: ['MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw']\n", SW_ID SW_TS SIG(SW_SIG),
      SW_BODY, SW_NOW, VERDICT_OK },
    { "gemini static", "provider: gemini\nsecrets: ['" SW "']\n",
      "webhook-id: msg_00000000-0000-4000-8000-000000000001\r\nwebhook-timestamp: 1767225600\r\n"
      "webhook-signature: v1,jTooAbUhVZH9IZwe9GP9NHXReYqkqHJRWVZiu4oilmc=\r\n",
      "{\"type\":\"interaction.completed\",\"version\":\"v1\",\"timestamp\":\"2026-01-22T12:00:"
      "00Z\",\"data\":{\"id\":\"int_1\"}}",
      1767225600, VERDICT_OK },
    { "openai vector",
      "provider: openai\nsecrets: ['whsec_RdvaYFYUXuIFuEbvZHwMfYFhUf7aMYjYcmM24+Aj40c=']\n",
      "webhook-id: wh_685c059ae39c8190af8c71ed1022a24d\r\nwebhook-timestamp: 1750861210\r\n"
      "webhook-signature: v1,gUAg4R2hWouRZqRQG4uJypNS8YK885G838+EHb4nKBY=\r\n",
      "{\"id\": \"evt_685c059ae3a481909bdc86819b066fb6\", \"object\": \"event\", \"created_at\": "
      "1750861210, \"type\": "
      "\"response.completed\", \"data\": {\"id\": \"resp_123\"}}",
      1750861210, VERDICT_OK },
    { "github vector", "provider: github\nsecrets: [\"It's a Secret to Everybody\"]\n",
      "X-GitHub-Delivery: 1\r\nX-GitHub-Event: push\r\nX-Hub-Signature-256: "
      "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17\r\n",
      "Hello, World!", 0, VERDICT_OK },
    { "github with sha1 only", "provider: github\nsecrets: [\"It's a Secret to Everybody\"]\n",
      "X-Hub-Signature: sha1=01dc10d0c83e72ed246219cdd91669667fe2ca59\r\n", "Hello, World!", 0,
      VERDICT_UNSIGNED },
    { "slack vector", "provider: slack\nsecrets: ['8f742231b10e8888abcd99yyyzzz85a5']\n",
      "X-Slack-Request-Timestamp: 1531420618\r\nX-Slack-Signature: "
      "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503\r\n",
      SLACK_BODY, 1531420618, VERDICT_OK },
    { "bearer token", "provider: token\nsecrets: [s3cret]\n", "Authorization: Bearer s3cret\r\n",
      "{}", 0, VERDICT_OK },
    { "bearer token, wrong", "provider: token\nsecrets: [s3cret]\n",
      "Authorization: Bearer s3cres\r\n", "{}", 0, VERDICT_BAD_SIGNATURE },
    { "bearer token, a prefix of it", "provider: token\nsecrets: [s3cret]\n",
      "Authorization: Bearer s3cre\r\n", "{}", 0, VERDICT_BAD_SIGNATURE },
    { "token in a header of its own", "provider: token\nheader: X-Auth\nsecrets: [a, s3cret]\n",
      "x-auth: s3cret\r\n", "{}", 0, VERDICT_OK },
    { "token missing", "provider: token\nheader: X-Auth\nsecrets: [s3cret]\n", "", "{}", 0,
      VERDICT_UNSIGNED },
    { "nothing is checked", "provider: none\n", "", "x", 0, VERDICT_OK },
    { "a timestamp moved to another place",
      "provider: gemini\nsecrets: ['" SW "']\nsignature: { timestamp: { path: at, unit: s } }\n",
      SW_ID SW_TS SIG(SW_SIG), SW_BODY, SW_NOW, VERDICT_MALFORMED },
    { "several query parts keep their places",
      "signature: { algorithm: hmac-sha256, header: x-sig, encoding: hex, message: "
      "'{query:a}{query:a}{query:a}{query:a}{body}' }\nsecrets: [k]\n",
      "x-sig: 0000000000000000000000000000000000000000000000000000000000000000\r\n", "x", 0,
      VERDICT_BAD_SIGNATURE },
    { "own block: sha512, base64url, url",
      "signature: { algorithm: hmac-sha512, message: '{url}|{body}', header: x-sig, encoding: hex "
      "}\nurl: "
      "https://a.example/h\nsecrets: [k]\n",
      "x-sig: 00\r\n", "x", 0, VERDICT_MALFORMED },
};

/* A parsed request of these headers and this body. */
static char *request(struct http_request *req, const char *headers, const char *body)
{
    static const struct http_limits limits = { 65536, 8192, 1 << 20 };
    struct buf b = BUF_INIT;

    buf_printf(&b,
               "POST /hooks/test?a=%0999d HTTP/1.1\r\nHost: a\r\nContent-Length: %zu\r\n%s\r\n%s",
               0, strlen(body), headers, body);
    http_request_init(req, &limits);
    assert_int_equal(http_parse(req, b.p, b.n, &limits), HTTP_HEAD);
    assert_int_equal(http_parse(req, b.p, b.n, &limits), HTTP_DONE);
    return buf_take(&b);
}

struct made {
    struct source_cfg *cfg;
    struct source_plan *plan;
    struct err_list errs, warns;
};

static void make(struct made *m, const char *config)
{
    struct cfg_doc *doc;

    *m = (struct made){ .cfg = calloc(1, source_cfg_size()) };
    doc = cfg_parse("t.yaml", span_str(config), false, &m->errs);
    assert_non_null(doc);
    cfg_load(source_cfg_keys(), cfg_root(doc), m->cfg, &m->errs);
    if (!m->errs.n)
        m->plan = source_compile("test", m->cfg, cfg_root(doc), INT64_MAX, &m->errs, &m->warns);
    cfg_doc_free(doc);
}

static void unmake(struct made *m)
{
    source_plan_free(m->plan);
    cfg_release(source_cfg_keys(), m->cfg);
    free(m->cfg);
    err_list_free(&m->errs);
    err_list_free(&m->warns);
}

static void verdict(void **state)
{
    const struct row *r = *state;
    struct source_event ev = { 0 };
    struct http_request req;
    struct made m;
    char *bytes;

    make(&m, r->config);
    if (!m.plan)
        fail_msg("%s", m.errs.line[0]);
    bytes = request(&req, r->headers, r->body);
    assert_string_equal(
        verdict_name(source_verify(m.plan, &req, bytes, SPAN_NONE, r->now_s * 1000, &ev)),
        verdict_name(r->want));
    free(bytes);
    source_event_free(&ev);
    unmake(&m);
}

static const struct bad_row {
    const char *name, *config, *says;
} bad[] = {
    { "no secrets", "provider: gemini\n", "secrets is missing" },
    { "empty secret", "provider: gemini\nsecrets: ['']\n", "empty" },
    { "bare whsec_", "provider: gemini\nsecrets: [whsec_]\n", "empty" },
    { "secret that is no base64", "provider: gemini\nsecrets: ['whsec_!!!!']\n",
      "cannot be decoded" },
    { "unknown provider", "provider: gemmini\n", "unknown provider gemmini" },
    { "no provider", "path: /x\n", "no provider" },
    { "unknown algorithm", "signature: { algorithm: md5 }\nsecrets: [x]\n", "is none of" },
    { "message without the body",
      "signature: { algorithm: hmac-sha256, header: x, message: '{header:y}' }\nsecrets: [x]\n",
      "leaves the body out" },
    { "url that is not said",
      "signature: { algorithm: hmac-sha256, header: x, message: '{url}{body}' }\nsecrets: [x]\n",
      "url is missing" },
    { "unknown piece",
      "signature: { algorithm: hmac-sha256, header: x, message: '{bodi}{body}' }\nsecrets: [x]\n",
      "{bodi} is not known" },
    { "{token} without path_token", "provider: none\npath: /h/{token}\n", "path_token is missing" },
    { "path_token without {token}", "provider: none\npath_token: x\n", "no {token}" },
    { "two places", "provider: none\nid: { header: a, path: b }\n", "one place" },
    { "token without anything", "provider: token\n", "needs secrets" },
    { "unknown key names the nearest", "provider: none\nsecrts: [x]\n", "did you mean secrets" },
    { "status 500", "provider: none\nstatus: 500\n", "between" },
};

static void refused(void **state)
{
    const struct bad_row *r = *state;
    struct made m;

    make(&m, r->config);
    assert_null(m.plan);
    assert_true(m.errs.n > 0);
    assert_non_null(strstr(m.errs.line[0], r->says));
    assert_non_null(strstr(m.errs.line[0], "t.yaml:")); /* FILE:LINE */
    unmake(&m);
}

static void attributes(void **state UNUSED)
{
    struct source_event ev = { 0 };
    struct http_request req;
    struct made m;
    char *bytes;

    make(&m, "provider: none\nid: { path: data.id }\ntype: { path: type }\nsubject: { path: "
             "'items.1.s' }\n"
             "keep_headers: [x-keep, authorization]\noutcome: { failed: ['*.bad'] }\n");
    bytes = request(
        &req, "X-Keep: v\r\nAuthorization: secret\r\nContent-Type: a/b\r\n",
        "{\"type\":\"job\\u002ebad\",\"data\":{\"id\":17},\"items\":[{\"s\":1},{\"s\":\"two\"}]}");
    assert_int_equal(source_verify(m.plan, &req, bytes, SPAN_NONE, 0, &ev), VERDICT_OK);
    assert_true(span_eq(ev.id, S("17")));
    assert_true(span_eq(ev.type, S("job.bad")));
    assert_true(span_eq(ev.subject, S("two")));
    assert_true(span_eq(ev.content_type, S("a/b")));
    assert_true(span_eq(buf_as_span(&ev.headers), S("x-keep:v\n"))); /* never authorization */
    assert_true(ev.dedup);
    assert_int_equal(source_outcome(m.plan, ev.type), OUTCOME_FAILED);
    assert_int_equal(source_outcome(m.plan, S("job.good")), OUTCOME_NONE);
    free(bytes);
    source_event_free(&ev);
    unmake(&m);
}

/* Slack's handshake: answered, not logged, and only when signed. What send makes, verify takes. */
static void handshake_and_signing(void **state UNUSED)
{
    static const char *const presets[] = {
        "standard-webhooks", "gemini", "openai", "github", "stripe", "slack"
    };
    struct source_event ev = { 0 };
    struct err e = ERR_INIT;

    for (size_t i = 0; i < ARRAY_LEN(presets); i++) {
        struct source_outgoing o = {
            .now_ms = 1700000000000,
            .body = S("{\"type\":\"url_verification\",\"challenge\":\"3eZb\"}")
        };
        struct http_request req;
        char config[256], *bytes;
        struct made m;

        snprintf(config, sizeof config,
                 "provider: %s\nsecrets: [whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw]\n", presets[i]);
        make(&m, config);
        assert_int_equal(source_sign(m.plan, &o, &e), 0);
        bytes = request(&req, buf_cstr(&o.headers), buf_cstr(&o.text));
        assert_int_equal(source_verify(m.plan, &req, bytes, SPAN_NONE, 1700000000000, &ev),
                         VERDICT_OK);
        assert_int_equal(ev.handshake, !strcmp(presets[i], "slack"));
        if (ev.handshake)
            assert_true(span_eq(buf_as_span(&ev.handshake_body), S("3eZb")));
        free(bytes);
        source_outgoing_free(&o);
        unmake(&m);
    }
    source_event_free(&ev);
}

static void path_tokens(void **state UNUSED)
{
    struct source_event ev = { 0 };
    struct http_request req;
    struct span token;
    struct made m;
    char *bytes;

    make(&m, "provider: none\npath: /h/{token}/x\npath_token: t0ken\n");
    assert_true(source_match_path(m.plan, S("/h/t0ken/x"), &token));
    assert_true(span_eq(token, S("t0ken")));
    assert_false(source_match_path(m.plan, S("/h/a/b/x"), &token));
    assert_false(source_match_path(m.plan, S("/h//x"), &token));
    bytes = request(&req, "", "{}");
    assert_int_equal(source_verify(m.plan, &req, bytes, S("t0ken"), 0, &ev), VERDICT_OK);
    assert_int_equal(source_verify(m.plan, &req, bytes, S("other"), 0, &ev), VERDICT_BAD_SIGNATURE);
    free(bytes);
    source_event_free(&ev);
    unmake(&m);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(attributes),
        cmocka_unit_test(handshake_and_signing),
        cmocka_unit_test(path_tokens),
    };

    return T_TABLE(rows, verdict) + T_TABLE(bad, refused) + T_RUN(tests);
}
