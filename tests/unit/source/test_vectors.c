/* SPDX-License-Identifier: Apache-2.0 */
/* The vectors in tests/data/vectors, one file each: taken as they stand; refused with another body,
 * another signature, another secret, and too late. `kind` says whether the provider published the
 * signature or it follows the published rule. */
#include "presets.h"

#include <glob.h>
#include <stdio.h>

#include "json.h"

struct vector {
    const char *name; /* of the file */
    struct buf text, headers, body, config, query;
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

/* A secret or a public key: the vector's, or another one that its provider could have. */
static void configure(struct vector *v, bool right)
{
    struct buf public = BUF_INIT, secret = BUF_INIT;

    member(v, "public", &public);
    member(v, "secret", &secret);
    v->config.n = 0;
    buf_adds(&v->config, "provider: ");
    member(v, "provider", &v->config);
    buf_adds(&v->config, public.n ? "\npublic_keys: [" : "\nsecrets: [");
    if (right)
        buf_json_string(&v->config, buf_as_span(public.n ? &public : &secret));
    else
        buf_adds(&v->config, public.n
                                 ? "'d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f7"
                                   "07511a'"
                                 : "'whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'");
    buf_adds(&v->config, "]\n");
    member(v, "more", &v->config);
    buf_free(&public);
    buf_free(&secret);
}

static int64_t seconds(const struct vector *v, const char *path, int64_t fallback)
{
    struct json_value j = json_find(buf_as_span(&v->text), span_str(path));

    return j.type == JSON_NUMBER ? atoll(j.raw.p) : fallback;
}

static void load(struct vector *v)
{
    char path[32];

    read_file(v->name, &v->text);
    configure(v, true);
    v->time_ms = seconds(v, "time", 0) * 1000;
    member(v, "query", &v->query);
    member(v, "body", &v->body);
    for (int i = 0; i < 10; i++) {
        size_t before = v->headers.n;
        snprintf(path, sizeof path, "headers.%d", i);
        member(v, path, &v->headers);
        if (v->headers.n > before)
            buf_adds(&v->headers, "\r\n");
    }
}

static void unload(struct vector *v)
{
    buf_free(&v->text);
    buf_free(&v->headers);
    buf_free(&v->body);
    buf_free(&v->config);
    buf_free(&v->query);
}

static enum verdict with(struct vector *v, struct span headers, struct span body, int64_t later_ms)
{
    struct source_event ev = { 0 };
    struct http_request req;
    enum verdict verdict;
    struct made m;
    char *bytes;

    make_good(&m, buf_cstr(&v->config));
    bytes = delivery(&req, "POST", buf_as_span(&v->query), headers, body);
    verdict = source_verify(m.plan, &req, bytes, SPAN_NONE, v->time_ms + later_ms, &ev);
    free(bytes);
    source_event_free(&ev);
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
    char *bytes = delivery(&req, "POST", buf_as_span(&v->query), buf_as_span(&v->headers),
                           buf_as_span(&v->body));

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
    int64_t late;

    load(&v);
    headers = buf_as_span(&v.headers);
    body = buf_as_span(&v.body);
    what_it_is(&v);
    v.body.p[v.body.n / 2] ^= 1;
    assert_int_equal(with(&v, headers, body, 0), VERDICT_BAD_SIGNATURE);
    v.body.p[v.body.n / 2] ^= 1;
    late = seconds(&v, "tolerance", 300) * 1000 + 1000;
    assert_int_equal(with(&v, headers, body, late), v.time_ms ? VERDICT_STALE : VERDICT_OK);
    assert_int_equal(with(&v, headers, body, -301000), v.time_ms ? VERDICT_FUTURE : VERDICT_OK);
    /* a digit in the middle of the signature, which ends the last header */
    v.headers.p[headers.n - 12] = v.headers.p[headers.n - 12] == 'a' ? 'b' : 'a';
    assert_int_equal(with(&v, headers, body, 0), VERDICT_BAD_SIGNATURE);
    unload(&v);
    load(&v);
    configure(&v, false);
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
