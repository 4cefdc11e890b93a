/* SPDX-License-Identifier: Apache-2.0 */
/* The vectors in tests/data/vectors, one file each: taken as they stand; refused with another body,
 * another signature, another secret, and too late. `kind` says whether the provider published the
 * signature or it follows the published rule. */
#include "harness.h"

#include <glob.h>
#include <stdio.h>

#include "json.h"

struct vector {
    const char *name; /* of the file */
    struct buf text, headers, body, config;
    int64_t time_ms;
};

static void read_file(const char *path, struct buf *out)
{
    char piece[4096];
    FILE *f = fopen(path, "r");
    size_t n;

    assert_non_null(f);
    while ((n = fread(piece, 1, sizeof piece, f)))
        buf_add(out, piece, n);
    fclose(f);
    assert_true(json_valid(buf_as_span(out)));
}

static void member(const struct vector *v, const char *path, struct buf *out)
{
    struct json_value j = json_find(buf_as_span(&v->text), span_str(path));

    if (j.type != JSON_NONE)
        assert_true(json_unescape(j.raw, out));
}

static void configure(struct vector *v, const char *secret)
{
    v->config.n = 0;
    buf_adds(&v->config, "provider: ");
    member(v, "provider", &v->config);
    buf_adds(&v->config, "\nsecrets: [");
    buf_json_string(&v->config, span_str(secret));
    buf_adds(&v->config, "]\n");
}

static void load(struct vector *v)
{
    struct buf secret = BUF_INIT, time = BUF_INIT;
    char path[32];

    read_file(v->name, &v->text);
    member(v, "secret", &secret);
    configure(v, buf_cstr(&secret));
    member(v, "time", &time);
    v->time_ms = atoll(buf_cstr(&time)) * 1000;
    member(v, "body", &v->body);
    for (int i = 0; i < 10; i++) {
        size_t before = v->headers.n;
        snprintf(path, sizeof path, "headers.%d", i);
        member(v, path, &v->headers);
        if (v->headers.n > before)
            buf_adds(&v->headers, "\r\n");
    }
    buf_free(&secret);
    buf_free(&time);
}

static void unload(struct vector *v)
{
    buf_free(&v->text);
    buf_free(&v->headers);
    buf_free(&v->body);
    buf_free(&v->config);
}

static enum verdict with(struct vector *v, struct span headers, struct span body, int64_t later_ms)
{
    struct made m;
    enum verdict verdict;

    make_good(&m, buf_cstr(&v->config));
    verdict = verdict_of(m.plan, headers, body, v->time_ms + later_ms);
    unmake(&m);
    return verdict;
}

static void check_attribute(const struct vector *v, const char *name, struct span is)
{
    struct buf want = BUF_INIT;

    member(v, name, &want);
    if (want.n)
        assert_true(span_eq(buf_as_span(&want), is));
    buf_free(&want);
}

static void what_it_is(struct vector *v)
{
    struct source_event ev = { 0 };
    struct http_request req;
    struct made m;
    char *bytes = request(&req, buf_as_span(&v->headers), buf_as_span(&v->body));

    make_good(&m, buf_cstr(&v->config));
    assert_int_equal(source_verify(m.plan, &req, bytes, SPAN_NONE, v->time_ms, &ev), VERDICT_OK);
    check_attribute(v, "id", ev.id);
    check_attribute(v, "type", ev.type);
    check_attribute(v, "subject", ev.subject);
    free(bytes);
    source_event_free(&ev);
    unmake(&m);
}

static void vector(void **state)
{
    struct vector v = *(const struct vector *)*state;
    struct span headers, body;

    load(&v);
    headers = buf_as_span(&v.headers);
    body = buf_as_span(&v.body);
    what_it_is(&v);
    v.body.p[v.body.n / 2] ^= 1;
    assert_int_equal(with(&v, headers, body, 0), VERDICT_BAD_SIGNATURE);
    v.body.p[v.body.n / 2] ^= 1;
    assert_int_equal(with(&v, headers, body, 301000), v.time_ms ? VERDICT_STALE : VERDICT_OK);
    assert_int_equal(with(&v, headers, body, -301000), v.time_ms ? VERDICT_FUTURE : VERDICT_OK);
    /* a digit in the middle of the signature, which ends the last header */
    v.headers.p[headers.n - 20] = v.headers.p[headers.n - 20] == 'a' ? 'b' : 'a';
    assert_int_equal(with(&v, headers, body, 0), VERDICT_BAD_SIGNATURE);
    unload(&v);
    load(&v);
    configure(&v, "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
    assert_int_equal(with(&v, buf_as_span(&v.headers), buf_as_span(&v.body), 0),
                     VERDICT_BAD_SIGNATURE);
    unload(&v);
}

int main(void)
{
    struct vector rows[64] = { { .name = NULL } };
    glob_t files;
    int failed;

    if (glob("tests/data/vectors/*.json", 0, NULL, &files) || files.gl_pathc > ARRAY_LEN(rows))
        return 1;
    for (size_t i = 0; i < files.gl_pathc; i++)
        rows[i].name = files.gl_pathv[i];
    failed = t_table("vectors", rows, files.gl_pathc, sizeof rows[0], vector);
    globfree(&files);
    return failed;
}
