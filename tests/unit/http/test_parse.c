/* SPDX-License-Identifier: Apache-2.0 */
/* Every variant of the framing faults, cases 1 to 15, each row three ways: all at once, byte by
 * byte, and behind a good request on the same connection. The verdict must be the same. */
#include "table.h"

#include <string.h>

#include "http.h"

static const struct http_limits limits = { 16384, 8192, 1048576 };

#define GOOD "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok"
#define HEAD "POST / HTTP/1.1\r\nHost: a\r\n"
#define CL HEAD "Content-Length: "
#define TE HEAD "Transfer-Encoding: "
#define CHUNKED TE "chunked\r\n\r\n"
#define X16 "xxxxxxxxxxxxxxxx"
#define X256 X16 X16 X16 X16 X16 X16 X16 X16 X16 X16 X16 X16 X16 X16 X16 X16
#define X1K X256 X256 X256 X256
#define X4K X1K X1K X1K X1K

struct outcome {
    enum http_result result;
    enum http_error error;
    size_t consumed, body_len;
    char body[4096];
};

/* Runs the parser with `step` more bytes a call. */
static void run(const char *bytes, size_t n, size_t step, struct outcome *out)
{
    char *copy = malloc(n + 1);
    struct http_request req;
    size_t have = 0;

    memcpy(copy, bytes, n);
    http_request_init(&req, &limits);
    out->result = HTTP_MORE;
    while (out->result == HTTP_MORE && have < n) {
        have = have + step < n ? have + step : n;
        do
            out->result = http_parse(&req, copy, have, &limits);
        while (out->result == HTTP_HEAD);
    }
    out->error = req.error;
    out->consumed = out->result == HTTP_DONE ? req.consumed : 0;
    out->body_len = out->result == HTTP_DONE ? (size_t)req.body_len : 0;
    if (out->body_len < sizeof out->body)
        memcpy(out->body, copy + req.body_off, out->body_len);
    free(copy);
}

#define R(name, text, error)                                                                       \
    {                                                                                              \
        name, text, sizeof text - 1, error                                                         \
    }
static const struct row {
    const char *name, *text;
    size_t n;
    enum http_error error;
} bad[] = {
    R("case 1: CL then TE", CL "3\r\nTransfer-Encoding: chunked\r\n\r\n",
      HTTP_ERR_FRAMING_CONFLICT),
    R("case 1: TE then CL", TE "chunked\r\nCONTENT-LENGTH: 3\r\n\r\n", HTTP_ERR_FRAMING_CONFLICT),
    R("case 2: two CL, same", CL "3\r\nContent-Length: 3\r\n\r\nabc", HTTP_ERR_BAD_CONTENT_LENGTH),
    R("case 2: two CL, different", CL "3\r\nContent-Length: 4\r\n\r\nabc",
      HTTP_ERR_BAD_CONTENT_LENGTH),
    R("case 2: CL list", CL "3, 3\r\n\r\nabc", HTTP_ERR_BAD_CONTENT_LENGTH),
    R("case 3: CL +3", CL "+3\r\n\r\nabc", HTTP_ERR_BAD_CONTENT_LENGTH),
    R("case 3: CL -1", CL "-1\r\n\r\n", HTTP_ERR_BAD_CONTENT_LENGTH),
    R("case 3: CL 0x3", CL "0x3\r\n\r\nabc", HTTP_ERR_BAD_CONTENT_LENGTH),
    R("case 3: CL VT 3", CL "\v3\r\n\r\nabc", HTTP_ERR_BAD_CONTENT_LENGTH),
    R("case 3: CL 3 NUL", CL "3\0\r\n\r\nabc", HTTP_ERR_BAD_CONTENT_LENGTH),
    R("case 3: CL empty", CL "\r\n\r\n", HTTP_ERR_BAD_CONTENT_LENGTH),
    R("case 3: CL 3 3", CL "3 3\r\n\r\nabc", HTTP_ERR_BAD_CONTENT_LENGTH),
    R("case 3: CL of 20 digits", CL "00000000000000000003\r\n\r\nabc", HTTP_ERR_BAD_CONTENT_LENGTH),
    R("case 3: CL valid, over the limit", CL "1048577\r\n\r\n", HTTP_ERR_BODY_TOO_LARGE),
    R("case 3: CL of 19 digits, over the limit", CL "9999999999999999999\r\n\r\n",
      HTTP_ERR_BODY_TOO_LARGE),
    R("case 4: TE xchunked", TE "xchunked\r\n\r\n", HTTP_ERR_BAD_TRANSFER_ENCODING),
    R("case 4: TE identity", TE "identity\r\n\r\n", HTTP_ERR_BAD_TRANSFER_ENCODING),
    R("case 4: TE gzip, chunked", TE "gzip, chunked\r\n\r\n", HTTP_ERR_TE_UNSUPPORTED),
    R("case 4: TE chunked, chunked", TE "chunked, chunked\r\n\r\n", HTTP_ERR_BAD_TRANSFER_ENCODING),
    R("case 4: TE chunked, gzip", TE "chunked, gzip\r\n\r\n", HTTP_ERR_BAD_TRANSFER_ENCODING),
    R("case 4: TE empty", TE "\r\n\r\n", HTTP_ERR_BAD_TRANSFER_ENCODING),
    R("case 4: two TE lines", TE "chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
      HTTP_ERR_BAD_TRANSFER_ENCODING),
    R("case 4: TE VT chunked", TE "\vchunked\r\n\r\n", HTTP_ERR_BAD_TRANSFER_ENCODING),
    R("case 4: TE on HTTP/1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
      HTTP_ERR_BAD_TRANSFER_ENCODING),
    R("case 5: space before the colon", HEAD "X : 1\r\n\r\n", HTTP_ERR_BAD_HEADER),
    R("case 5: tab before the colon", HEAD "X\t: 1\r\n\r\n", HTTP_ERR_BAD_HEADER),
    R("case 5: empty name", HEAD ": 1\r\n\r\n", HTTP_ERR_BAD_HEADER),
    R("case 5: control byte in the name", HEAD "X\x01: 1\r\n\r\n", HTTP_ERR_BAD_HEADER),
    R("case 5: 8-bit byte in the name", HEAD "X\xe9: 1\r\n\r\n", HTTP_ERR_BAD_HEADER),
    R("case 5: NUL in the name", HEAD "X\0: 1\r\n\r\n", HTTP_ERR_BAD_HEADER),
    R("case 5: NUL in the value", HEAD "X: 1\0\r\n\r\n", HTTP_ERR_BAD_HEADER),
    R("case 5: bare CR in the value", HEAD "X: 1\r2\r\n\r\n", HTTP_ERR_BAD_HEADER),
    R("case 5: obs-fold", HEAD "X: 1\r\n 2\r\n\r\n", HTTP_ERR_BAD_HEADER),
    R("case 5: line without colon", HEAD "nothing\r\n\r\n", HTTP_ERR_BAD_HEADER),
    R("case 5: leading space", "POST / HTTP/1.1\r\n Host: a\r\n\r\n", HTTP_ERR_BAD_HEADER),
    R("case 6: bare LF behind the request line", "POST / HTTP/1.1\nHost: a\r\n\r\n",
      HTTP_ERR_BARE_LF),
    R("case 6: bare LF behind a header", "POST / HTTP/1.1\r\nHost: a\n\r\n", HTTP_ERR_BARE_LF),
    R("case 6: bare LF for the empty line", HEAD "\n", HTTP_ERR_BARE_LF),
    R("case 6: bare LF behind a chunk size", CHUNKED "3\nabc\r\n0\r\n\r\n", HTTP_ERR_BARE_LF),
    R("case 6: bare LF behind chunk data", CHUNKED "3\r\nabc\n0\r\n\r\n", HTTP_ERR_BARE_LF),
    R("case 6: bare LF in the trailers", CHUNKED "0\r\nX: 1\n\r\n", HTTP_ERR_BARE_LF),
    R("case 7: size 0x3", CHUNKED "0x3\r\nabc\r\n0\r\n\r\n", HTTP_ERR_BAD_CHUNK),
    R("case 7: size +3", CHUNKED "+3\r\nabc\r\n0\r\n\r\n", HTTP_ERR_BAD_CHUNK),
    R("case 7: size -0", CHUNKED "-0\r\n\r\n", HTTP_ERR_BAD_CHUNK),
    R("case 7: size with a leading space", CHUNKED " 3\r\nabc\r\n0\r\n\r\n", HTTP_ERR_BAD_CHUNK),
    R("case 7: size with a trailing space", CHUNKED "3 \r\nabc\r\n0\r\n\r\n", HTTP_ERR_BAD_CHUNK),
    R("case 7: size 3_0", CHUNKED "3_0\r\nabc\r\n0\r\n\r\n", HTTP_ERR_BAD_CHUNK),
    R("case 7: size empty", CHUNKED "\r\nabc\r\n0\r\n\r\n", HTTP_ERR_BAD_CHUNK),
    R("case 7: size of 17 digits", CHUNKED "00000000000000003\r\nabc\r\n", HTTP_ERR_BAD_CHUNK),
    R("case 7: no CRLF behind the data", CHUNKED "3\r\nabc0\r\n\r\n", HTTP_ERR_BAD_CHUNK),
    R("case 7: data longer than its size", CHUNKED "3\r\nabcd\r\n0\r\n\r\n", HTTP_ERR_BAD_CHUNK),
    R("case 7: bare CR behind the size", CHUNKED "3\rabc\r\n0\r\n\r\n", HTTP_ERR_BAD_CHUNK),
    R("case 8: extensions over 1 KiB", CHUNKED "3;" X1K "x\r\nabc\r\n0\r\n\r\n",
      HTTP_ERR_CHUNK_EXT_TOO_LONG),
    R("case 8: control byte in an extension", CHUNKED "3;a=\x01\r\nabc\r\n0\r\n\r\n",
      HTTP_ERR_BAD_CHUNK),
    R("case 8: CR in a quoted extension", CHUNKED "3;a=\"\r\n\"\r\nabc\r\n0\r\n\r\n",
      HTTP_ERR_BAD_CHUNK),
    R("case 8: LF in an extension", CHUNKED "3;a\nabc\r\n0\r\n\r\n", HTTP_ERR_BARE_LF),
    R("case 9: trailers over 4 KiB", CHUNKED "0\r\nX: " X4K "\r\n\r\n", HTTP_ERR_HEADERS_TOO_LARGE),
    R("case 9: malformed trailer", CHUNKED "0\r\nX : 1\r\n\r\n", HTTP_ERR_BAD_HEADER),
    R("case 10: no Host", "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", HTTP_ERR_BAD_HOST),
    R("case 10: two Hosts", HEAD "Host: a\r\nContent-Length: 0\r\n\r\n", HTTP_ERR_BAD_HOST),
    R("case 10: Host with a comma", "POST / HTTP/1.1\r\nHost: a, b\r\n\r\n", HTTP_ERR_BAD_HOST),
    R("case 10: Host with userinfo", "POST / HTTP/1.1\r\nHost: u@a\r\n\r\n", HTTP_ERR_BAD_HOST),
    R("case 10: Host with a path", "POST / HTTP/1.1\r\nHost: a/b\r\n\r\n", HTTP_ERR_BAD_HOST),
    R("case 11: HTTP/0.9", "GET /\r\n", HTTP_ERR_BAD_REQUEST_LINE),
    R("case 11: a huge version", "GET / HTTP/1.18446744073709551617\r\n\r\n", HTTP_ERR_BAD_VERSION),
    R("case 11: HTTP/2.0", "GET / HTTP/2.0\r\n\r\n", HTTP_ERR_BAD_VERSION),
    R("case 11, 23: HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", HTTP_ERR_BAD_VERSION),
    R("case 11: http/1.1", "GET / http/1.1\r\n\r\n", HTTP_ERR_BAD_VERSION),
    R("case 11: random bytes", "\x80\x01\x02 zzz", HTTP_ERR_BAD_REQUEST_LINE),
    R("case 11: TLS hello", "\x16\x03\x01\x02\x00\x01\x00", HTTP_ERR_BAD_REQUEST_LINE),
    R("absolute form", "POST http://a/ HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
      HTTP_ERR_BAD_REQUEST_LINE),
    R("two blanks", "POST  / HTTP/1.1\r\nHost: a\r\n\r\n", HTTP_ERR_BAD_REQUEST_LINE),
    R("case 13: headers over 16 KiB", HEAD "X: " X4K X4K X4K X4K "\r\n\r\n",
      HTTP_ERR_HEADERS_TOO_LARGE),
    R("case 13: target over 8 KiB", "POST /" X4K X4K " HTTP/1.1\r\n", HTTP_ERR_TARGET_TOO_LONG),
    R("case 13: method of 17 bytes", "ABCDEFGHIJKLMNOPQ / HTTP/1.1\r\nHost: a\r\n\r\n",
      HTTP_ERR_METHOD_UNKNOWN),
    R("unknown method", "BREW / HTTP/1.1\r\nHost: a\r\n\r\n", HTTP_ERR_METHOD_UNKNOWN),
    R("case 14: chunks over the limit", CHUNKED "100001\r\n", HTTP_ERR_BODY_TOO_LARGE),
    R("case 14: chunk size that would overflow", CHUNKED "3\r\nabc\r\nffffffffffffffff\r\n",
      HTTP_ERR_BODY_TOO_LARGE),
    R("case 14: over the limit with Expect", CL "1048577\r\nExpect: 100-continue\r\n\r\n",
      HTTP_ERR_BODY_TOO_LARGE),
    R("case 15: Expect: foo", HEAD "Expect: foo\r\nContent-Length: 1\r\n\r\n",
      HTTP_ERR_EXPECTATION_FAILED),
    R("length required", HEAD "\r\n", HTTP_ERR_LENGTH_REQUIRED),
};

static void refused_always(void **state)
{
    const struct row *r = *state;
    struct outcome once, bytewise, behind;
    char *both = malloc(sizeof GOOD - 1 + r->n);

    run(r->text, r->n, r->n, &once);
    run(r->text, r->n, 1, &bytewise);
    assert_int_equal(once.result, HTTP_REFUSED);
    assert_string_equal(http_error(once.error)->code, http_error(r->error)->code);
    assert_int_equal(bytewise.error, once.error);
    memcpy(both, GOOD, sizeof GOOD - 1);
    memcpy(both + sizeof GOOD - 1, r->text, r->n);
    run(both, sizeof GOOD - 1 + r->n, 7, &behind);
    assert_int_equal(behind.result, HTTP_DONE);
    assert_int_equal(behind.consumed, sizeof GOOD - 1);
    run(both + behind.consumed, r->n, r->n, &behind);
    assert_int_equal(behind.error, r->error);
    free(both);
}

static const struct good_row {
    const char *name, *text, *body;
    size_t behind; /* bytes that belong to the next request */
} good[] = {
    { "Content-Length", CL "3\r\n\r\nabc", "abc", 0 },
    { "empty body", CL "0\r\n\r\n", "", 0 },
    { "the next request stays", CL "3\r\n\r\nabcPOST", "abc", 4 },
    { "chunks are moved together", CHUNKED "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", "abcde", 0 },
    { "case 8: extension", CHUNKED "3;a=b\r\nabc\r\n0;x\r\n\r\n", "abc", 0 },
    { "case 8: quoted extension", CHUNKED "3;a=\"q;\\\"\"\r\nabc\r\n0\r\n\r\n", "abc", 0 },
    { "case 9: trailers are dropped",
      CHUNKED "3\r\nabc\r\n0\r\nContent-Length: 9\r\nHost: b\r\n\r\nGET", "abc", 3 },
    { "case 4: TE in another case", TE "CHUNKED\r\n\r\n0\r\n\r\n", "", 0 },
    { "case 10: HTTP/1.0 without Host", "POST / HTTP/1.0\r\nContent-Length: 1\r\n\r\nx", "x", 0 },
    { "case 11: Upgrade is ignored", HEAD "Upgrade: h2c\r\nContent-Length: 1\r\n\r\nx", "x", 0 },
    { "case 15: Expect: 100-continue", CL "1\r\nExpect: 100-continue\r\n\r\nx", "x", 0 },
    { "case 15: Expect on HTTP/1.0", "POST / HTTP/1.0\r\nExpect: foo\r\nContent-Length: 1\r\n\r\nx",
      "x", 0 },
    { "body with CR LF and NUL-like text", CL "4\r\n\r\n\r\n\r\n", "\r\n\r\n", 0 },
    { "GET without a body", "GET /a?b HTTP/1.1\r\nHost: a\r\n\r\n", "", 0 },
};

static void taken(void **state)
{
    const struct good_row *r = *state;
    size_t n = strlen(r->text);

    for (size_t step = 1; step <= n; step += step < 5 ? 1 : n / 3 + 1) {
        struct outcome o;
        run(r->text, n - (step == 1 ? r->behind : 0), step, &o);
        assert_int_equal(o.result, HTTP_DONE);
        assert_int_equal(o.consumed, n - r->behind);
        assert_int_equal(o.body_len, strlen(r->body));
        assert_memory_equal(o.body, r->body, o.body_len);
    }
}

static void too_many_fields(void **state UNUSED)
{
    struct outcome o;
    char text[1024] = HEAD;

    for (int i = 0; i < 99; i++)
        strcat(text, "a:\r\n");
    strcat(text, "\r\n");
    run(text, strlen(text), strlen(text), &o);
    assert_int_equal(o.error, HTTP_ERR_LENGTH_REQUIRED); /* a hundred fields pass */
    strcpy(text + strlen(text) - 2, "a:\r\n\r\n");
    run(text, strlen(text), strlen(text), &o);
    assert_int_equal(o.error, HTTP_ERR_HEADERS_TOO_LARGE); /* case 13 */
}

static void look_ups(void **state UNUSED)
{
    char text[] = "POST /hooks/a?x=1%202&y=%zz&n HTTP/1.1\r\nHost: a\r\nX-Twice: 1 "
                  "\r\nx-twice:2\r\nConnection: "
                  "close\r\nContent-Length: 0\r\n\r\n";
    struct http_request req;
    struct buf b = BUF_INIT;
    unsigned count;

    http_request_init(&req, &limits);
    assert_int_equal(http_parse(&req, text, sizeof text - 1, &limits), HTTP_HEAD);
    assert_true(span_eq(http_path(&req, text), S("/hooks/a")));
    assert_true(span_eq(http_header(&req, text, S("X-TWICE"), &count), S("1")));
    assert_int_equal(count, 2);
    assert_null(http_header(&req, text, S("absent"), NULL).p);
    assert_true(http_query_get(http_query(&req, text), S("x"), &b));
    assert_string_equal(buf_cstr(&b), "1 2");
    assert_false(http_query_get(http_query(&req, text), S("y"), &b));
    assert_false(req.keep_alive);
    buf_free(&b);
}

static void every_error_has_an_answer(void **state UNUSED)
{
    for (int e = HTTP_ERR_NONE + 1; e < HTTP_ERRORS; e++) {
        const struct http_error_info *i = http_error((enum http_error)e);
        struct buf b = BUF_INIT;
        assert_non_null(i->code);
        assert_true(i->status >= 400);
        assert_true((i->status == 503 || i->status == 429) ==
                    (i->retry_after_s > 0)); /* what passes says when to come back */
        http_write_error(&b, &(struct http_reply){ .close = true }, (enum http_error)e, NULL, NULL);
        assert_non_null(strstr(buf_cstr(&b), "Connection: close\r\n"));
        assert_non_null(strstr(b.p, i->code));
        buf_free(&b);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(too_many_fields),
        cmocka_unit_test(look_ups),
        cmocka_unit_test(every_error_has_an_answer),
    };

    return T_TABLE(bad, refused_always) + T_TABLE(good, taken) + T_RUN(tests);
}
