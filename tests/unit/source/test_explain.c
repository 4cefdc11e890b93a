/* SPDX-License-Identifier: Apache-2.0 */
/* What is said of a refused request: what was looked at and tried, and never a whole secret. */
#include "harness.h"

#define STD "{ provider: standard-webhooks, secrets: [whsec_AAAA, whsec_BBBB] }"
#define GITHUB "{ provider: github, secrets: [abc] }"
#define STRIPE "{ provider: stripe, secrets: [abc] }"
#define GITLAB "{ provider: gitlab, secrets: [whsec_AAAA] }"
#define BEARER "{ signature: { algorithm: token }, secrets: [hush-hush-hush-hush] }"
#define QUERY "{ signature: { algorithm: token, query: b }, secrets: [hush-hush-hush-hush] }"
#define PATH "{ signature: { algorithm: token, path: key }, secrets: [hush-hush-hush-hush] }"
#define MANY "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"

static const struct row {
    const char *name, *config, *headers, *want, *never;
} rows[] = {
    { "nothing came", STD, "", "no secret or key was tried; ", "'" },
    { "what is missing", STD, "", "webhook-signature missing", "'" },
    { "both secrets", STD,
      "webhook-id: a\r\nwebhook-timestamp: 1\r\nwebhook-signature: v1,"
      "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=\r\n",
      "secrets tried: 1, 2; ", "g0hM9" },
    { "a signature is cut", GITHUB, "x-hub-signature-256: sha256=0123456789abcdef\r\n",
      "x-hub-signature-256 'sha256=0123...(16)'", "01234" },
    { "of a short one, a quarter", GITHUB, "x-hub-signature-256: sha256=012345678\r\n",
      "'sha256=01...(9)'", "012" },
    { "without its prefix", GITHUB, "x-hub-signature-256: 0123456789abcdef0123\r\n",
      "'0123...(20)'", "01234" },
    { "the time among signatures is none", STRIPE,
      "stripe-signature: t=1700000000,v1=0123456789abcdef,v0=fedcba9876543210\r\n",
      "'t=1700000000,v1=0123...(16),v0=f...(19)'", "01234" },
    { "a time that is no number is cut", STRIPE, "stripe-signature: t=hidden,v1=00\r\n",
      "'t=...(8),v1=...(2)'", "hidden" },
    { "the first of many", STRIPE, "stripe-signature: a=1,a=2,a=3,a=4,a=5,a=6,a=7,a=8\r\n",
      "(3) ...'", "a=1" },
    { "an unused header of the preset", GITLAB, "x-gitlab-token: hush-hush\r\n", "", "hush" },
    { "a header of nobody", GITHUB, "x-other: hush-hush\r\n", "", "hush" },
    { "authorization is never shown as it is", STD, "authorization: hush-hush\r\n", "", "hush" },
    { "a token", BEARER, "authorization: Bearer 0123456789abcdef\r\n", "'Bearer 0123...(16)'",
      "01234" },
    { "a token under another scheme", BEARER, "authorization: basic 0123456789abcdef\r\n",
      "'basic 0123...(16)'", "01234" },
    { "in the query", QUERY, "", "query b ' ...(4)'", "99d" },
    { "in the body", PATH, "", "body key", "hush" },
    { "quotes and controls", GITHUB, "x-github-delivery: a'; \t\xc3\xa9\r\n",
      "x-github-delivery 'a?; ?\?\?'", "\xc3" },
    { "a long value", GITHUB, "x-github-delivery: " MANY MANY "\r\n", "xxxx...'", MANY },
    { "a header twice", GITHUB, "x-github-event: a\r\nx-github-event: b\r\n",
      "x-github-event more than once, first 'a'", "'b'" },
};

static void explained(void **state)
{
    const struct row *r = *state;
    char out[SOURCE_EXPLAIN_MAX + 1];
    struct source_event ev = { 0 };
    struct http_request req;
    struct made m;
    char *bytes;

    make_good(&m, r->config);
    bytes = request(&req, span_str(r->headers), S("{\"key\":\"hush-hush\"}"));
    assert_int_not_equal(source_verify(m.plan, &req, bytes, SPAN_NONE, 1000, &ev), VERDICT_OK);
    out[source_explain(m.plan, &req, bytes, &ev, out)] = '\0';
    if (!strstr(out, r->want) || strstr(out, r->never))
        fail_msg("%s", out);
    source_event_free(&ev);
    free(bytes);
    unmake(&m);
}

/* The room is never left, whatever comes. */
static void bounded(void **state UNUSED)
{
    static const char config[] =
        "{ signature: { algorithm: hmac-sha256, header: x-s, message: \"{header:x-1}.{header:x-2}."
        "{header:x-3}.{header:x-4}.{header:x-5}.{header:x-6}.{header:x-7}.{body}\" }, secrets: "
        "[abc] }";
    struct {
        char text[SOURCE_EXPLAIN_MAX], after[8];
    } out = { .after = "intact" };
    struct source_event ev = { 0 };
    struct buf headers = BUF_INIT;
    struct http_request req;
    struct made m;
    char *bytes;

    for (int i = 1; i <= 7; i++)
        buf_printf(&headers, "x-%d: " MANY MANY MANY MANY "\r\n", i);
    make_good(&m, config);
    bytes = request(&req, buf_as_span(&headers), S(""));
    assert_int_equal(source_verify(m.plan, &req, bytes, SPAN_NONE, 1000, &ev), VERDICT_UNSIGNED);
    assert_int_equal(source_explain(m.plan, &req, bytes, &ev, out.text), SOURCE_EXPLAIN_MAX);
    assert_string_equal(out.after, "intact");
    source_event_free(&ev);
    buf_free(&headers);
    free(bytes);
    unmake(&m);
}

int main(void)
{
    static const struct CMUnitTest tests[] = { cmocka_unit_test(bounded) };

    return T_TABLE(rows, explained) | T_RUN(tests);
}
