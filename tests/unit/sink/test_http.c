/* SPDX-License-Identifier: Apache-2.0 */
#include "harness.h"
#include "sink/http_sink.h"

#define SECRET "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
#define SIGNED ", secrets: [{ env: T_SECRET }]"

static const struct conf_row confs[] = {
    { "all keys",
      "http: { url: 'https://h:8443/x?token=1', key: '{source}/{subject}', ca: /ca" SIGNED
      ", concurrency: 3, timeout: 1s, give_up: 0s }",
      NULL },
    { "plain http", "http: { url: 'http://[::1]:80/'" SIGNED " }", NULL },
    { "two secrets", "http: { url: 'http://h', secrets: [{ env: T_SECRET }, { env: T_SECRET }] }",
      NULL },
    { "each event a key of its own", "http: { url: 'http://h', key: ''" SIGNED " }", NULL },
    { "another scheme", "http: { url: 'ftp://h/'" SIGNED " }", "https" },
    { "a login in the url", "http: { url: 'http://u:p@h/'" SIGNED " }", "url" },
    { "a fragment", "http: { url: 'http://h/#a'" SIGNED " }", "fragment" },
    { "an unknown name in the key", "http: { url: 'http://h', key: '{body}'" SIGNED " }", "key" },
    { "ca without TLS", "http: { url: 'http://h', ca: /ca" SIGNED " }", "ca is for https" },
    { "nobody signs", "http: { url: 'http://h' }", "cannot tell who sends" },
    { "a secret that is none", "http: { url: 'http://h', secrets: [{ env: T_TEXT }] }", "whsec_" },
    { "a secret in the file", "http: { url: 'http://h', secrets: ['" SECRET "'] }",
      "keeps it out" },
    { "exactly once", "{ http: { url: 'http://h'" SIGNED " }, delivery: exactly-once }",
      "at-least-once only" },
    { "wait", "{ http: { url: 'http://h'" SIGNED " }, wait: { replicas: 1 } }", "redis" },
};

static const struct word_row {
    const char *name;
    struct post_answer answer;
    enum http_word want;
    const char *text; /* a part of what is said */
} words[] = {
    { "200", { .status = 200 }, HTTP_TAKEN, "answered 200" },
    { "204", { .status = 204 }, HTTP_TAKEN, "" },
    { "a redirect", { .status = 301 }, HTTP_BLOCKED, "redirects are not followed" },
    { "not modified", { .status = 304 }, HTTP_BLOCKED, "" },
    { "bad request",
      { .status = 400, .text = S("no such field") },
      HTTP_REFUSED,
      "http://h/p answered 400: no such field" },
    { "no right", { .status = 401 }, HTTP_BLOCKED, "check secrets" },
    { "forbidden", { .status = 403 }, HTTP_BLOCKED, "" },
    { "not found", { .status = 404 }, HTTP_BLOCKED, "check the path" },
    { "request timeout", { .status = 408 }, HTTP_FAILED, "" },
    { "conflict", { .status = 409 }, HTTP_REFUSED, "" },
    { "gone", { .status = 410 }, HTTP_BLOCKED, "" },
    { "too large", { .status = 413 }, HTTP_REFUSED, "" },
    { "not to be processed", { .status = 422 }, HTTP_REFUSED, "" },
    { "too early", { .status = 425 }, HTTP_FAILED, "" },
    { "too many", { .status = 429 }, HTTP_BUSY, "" },
    { "fault", { .status = 500 }, HTTP_FAILED, "" },
    { "not implemented", { .status = 501 }, HTTP_FAILED, "" },
    { "bad gateway", { .status = 502 }, HTTP_BUSY, "" },
    { "unavailable", { .status = 503 }, HTTP_BUSY, "" },
    { "gateway timeout", { .status = 504 }, HTTP_BUSY, "" },
    { "nobody is there", { .error = "Connection refused" }, HTTP_BUSY, "http://h/p: Connection" },
    { "no answer",
      { .error = "Timeout was reached", .timed_out = true },
      HTTP_FAILED,
      "no full answer in time" },
    { "a stranger", { .error = "self-signed", .untrusted = true }, HTTP_BLOCKED, "self-signed" },
};

static void word(void **state)
{
    const struct word_row *r = *state;
    char url[] = "http://h/p?token=hidden", text[200];
    const struct sink_http_cfg cfg = { .url = url };

    assert_int_equal(http_word_of(&r->answer), r->want);
    http_explain(&cfg, &r->answer, text, sizeof text);
    if (!strstr(text, r->text) || strstr(text, "hidden"))
        fail_msg("%s", text);
}

static const struct headers_row {
    const char *name;
    struct record rec;
    bool is_signed;
    const char *want;
} headers[] = {
    { "attributes and kept headers",
      { .source = S("demo"),
        .id = S("m-1"),
        .type = S("a.b"),
        .subject = S("job"),
        .content_type = S("text/plain; charset=utf-8"),
        .headers = S("x-a:1\nx-empty:\nx-a:2\n") },
      true,
      "ce-specversion:1.0\nce-id:m-1\nce-source:demo\nce-type:a.b\nce-time:1970-01-01T00:00:00.000Z"
      "\nce-subject:job\nce-lsn:7\nce-logid:" LOGID
      "\ncontent-type:text/plain; charset=utf-8\nx-a:1\nx-empty:\nx-a:2\n" },
    { "an id that the log made, no subject, no content type",
      { .source = S("s"), .type = S("webhook") },
      true,
      "ce-specversion:1.0\nce-id:" LOGID "-7\nce-source:s\nce-type:webhook\nce-time:1970-01-01T00:"
      "00:00.000Z\nce-lsn:7\nce-logid:" LOGID "\n" },
    { "bytes that would end a header",
      { .source = S("s"), .id = S("a\r\nx-evil: 1%\""), .type = S("\xc3\xa9 \x7f") },
      true,
      "ce-specversion:1.0\nce-id:a%0D%0Ax-evil:%201%25%22\nce-source:s\nce-type:%C3%A9%20%7F\n"
      "ce-time:1970-01-01T00:00:00.000Z\nce-lsn:7\nce-logid:" LOGID "\n" },
    { "nobody else says what ours say",
      { .source = S("s"),
        .id = S("i"),
        .type = S("t"),
        .content_type = S("a/b"),
        .headers = S("ce-id:other\nwebhook-id:other\ncontent-type:other\nx:y\n") },
      true,
      "ce-specversion:1.0\nce-id:i\nce-source:s\nce-type:t\nce-time:1970-01-01T00:00:00.000Z\n"
      "ce-lsn:7\nce-logid:" LOGID "\ncontent-type:a/b\nx:y\n" },
    { "without a signature of ours the provider's goes through",
      { .source = S("s"), .id = S("i"), .type = S("t"), .headers = S("webhook-id:other\n") },
      false,
      "ce-specversion:1.0\nce-id:i\nce-source:s\nce-type:t\nce-time:1970-01-01T00:00:00.000Z\n"
      "ce-lsn:7\nce-logid:" LOGID "\nwebhook-id:other\n" },
    { "made by a program, with the trace that came",
      { .source = S("s"),
        .id = S("i"),
        .type = S("t"),
        .content_type = S("application/json"),
        .headers = S("traceparent:00-1-2-01\n"),
        .transformed = true },
      true,
      "ce-specversion:1.0\nce-id:i\nce-source:s\nce-type:t\nce-time:1970-01-01T00:00:00.000Z\n"
      "ce-lsn:7\nce-logid:" LOGID "\nce-transformed:true\ncontent-type:application/json\n"
      "traceparent:00-1-2-01\n" },
    { "a body that is a CloudEvent itself, once more",
      { .source = S("s"),
        .id = S("i"),
        .type = S("t"),
        .content_type = S("application/cloudevents+json; charset=utf-8"),
        .replay = S("run1") },
      true,
      "ce-replay:run1\ncontent-type:application/cloudevents+json; charset=utf-8\n" },
};

static void header(void **state)
{
    const struct headers_row *r = *state;
    struct record rec = r->rec;
    struct buf b = BUF_INIT;

    rec.lsn = 7;
    sink_http_headers(&rec, LOGID, r->is_signed, &b);
    assert_string_equal(buf_cstr(&b), r->want);
    buf_free(&b);
}

/* The id of a message is that of the event in its log: the provider's may say two things. */
static void signature(void **state UNUSED)
{
    struct cfg_secret v[] = {
        { .bytes = SECRET, .n = strlen(SECRET) },
        { .bytes = SECRET, .n = strlen(SECRET), .not_after_ms = 1700000000000 }
    };
    struct cfg_secrets secrets = { v, 2 };
    struct sink_signer *s = sink_signer_new(&secrets);
    struct record rec = { .lsn = 7, .id = S("a.b"), .body = S("{}") };
    struct buf b = BUF_INIT;

    sink_signer_sign(s, &rec, LOGID, 1700000000000, &b);
    assert_non_null(strstr(buf_cstr(&b), "webhook-id:" LOGID "-7\nwebhook-timestamp:1700000000\n"));
    assert_non_null(strstr(b.p, " v1,"));
    b.n = 0;
    sink_signer_sign(s, &rec, LOGID, 1700000000001, &b);
    assert_null(strstr(buf_cstr(&b), " v1,")); /* one has ended */
    b.n = 0;
    secrets.n = 0;
    sink_signer_sign(s, &rec, LOGID, 1700000000000, &b);
    assert_int_equal(b.n, 0);
    secrets.n = 2;
    sink_signer_free(s);
    buf_free(&b);
}

int main(void)
{
    static const struct CMUnitTest tests[] = { cmocka_unit_test(signature) };

    setenv("T_SECRET", SECRET, 1);
    setenv("T_TEXT", "not!", 1);
    return T_TABLE(confs, conf) + T_TABLE(words, word) + T_TABLE(headers, header) + T_RUN(tests);
}
