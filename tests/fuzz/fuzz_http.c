/* SPDX-License-Identifier: Apache-2.0 */
/* The request parser: a request in random pieces gives what it gives at once, and everything it
 * reports lies inside the bytes that came.
 *
 * The first byte chooses the limits, the second seeds the pieces, the rest is the request. */
#include "fuzz.h"

#include "http.h"

static const struct http_limits wide = { 16384, 8192, 1 << 20 }, narrow = { 96, 24, 16 };

struct run {
    enum http_result result;
    struct http_request req;
    char *bytes;
};

/* Feeds `step` bytes a call; 0: as many as a generator says. Each call has a buffer of its own that
 * ends with the bytes it may look at, and is gone after it. */
static void feed(struct run *r, const uint8_t *data, size_t n, uint32_t seed,
                 const struct http_limits *limits)
{
    size_t have = 0;

    http_request_init(&r->req, limits);
    r->result = HTTP_MORE;
    r->bytes = NULL;
    do {
        size_t old = have, more = n - have;
        if (seed) {
            seed = seed * 1664525 + 1013904223;
            more = MIN(more, (seed >> 24) % 9 + 1);
        }
        have += more;
        char *longer = fuzz_copy(data, have);
        if (old)
            memcpy(longer, r->bytes, old); /* a chunked body was moved together there */
        free(r->bytes);
        r->bytes = longer;
        do
            r->result = http_parse(&r->req, r->bytes, have, limits);
        while (r->result == HTTP_HEAD);
    } while (r->result == HTTP_MORE && have < n);
}

static void check_inside(const struct run *r, size_t n)
{
    const struct http_request *req = &r->req;

    must(req->consumed <= n && req->body_off <= n && req->body_len <= n - req->body_off);
    must(req->body_len <= req->body_max);
    must(req->target_len <= n && req->target <= n - req->target_len);
    must(req->path_len <= req->target_len);
    must(req->fields_n <= HTTP_FIELDS_MAX);
    for (uint32_t i = 0; i < req->fields_n; i++) {
        const struct http_field *f = &req->fields[i];
        must(f->name + f->name_len <= req->body_off && f->value + f->value_len <= req->body_off);
        must(!memchr(r->bytes + f->value, '\n', f->value_len));
    }
}

static void same_fields(const struct run *a, const struct run *b)
{
    must(a->req.fields_n == b->req.fields_n);
    for (uint32_t i = 0; i < a->req.fields_n; i++) {
        const struct http_field *x = &a->req.fields[i], *y = &b->req.fields[i];
        must(x->name == y->name && x->name_len == y->name_len);
        must(x->value == y->value && x->value_len == y->value_len);
    }
}

static void use_it(const struct run *r)
{
    struct buf b = BUF_INIT;

    http_header(&r->req, r->bytes, S("host"), NULL);
    http_query_get(http_query(&r->req, r->bytes), S("a"), &b);
    http_unescape(http_path(&r->req, r->bytes), &b);
    buf_free(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const struct http_limits *limits;
    struct run whole, pieces;

    if (n < 2)
        return 0;
    limits = data[0] & 1 ? &narrow : &wide;
    feed(&whole, data + 2, n - 2, 0, limits);
    feed(&pieces, data + 2, n - 2, data[1] + 1u, limits);
    must(whole.result == pieces.result);
    must(whole.req.error == pieces.req.error);
    must((whole.result == HTTP_REFUSED) == (whole.req.error != HTTP_ERR_NONE));
    if (whole.result == HTTP_DONE) {
        must(whole.req.consumed == pieces.req.consumed);
        same_fields(&whole, &pieces);
        must(span_eq(http_body(&whole.req, whole.bytes), http_body(&pieces.req, pieces.bytes)));
        must(span_eq(http_target(&whole.req, whole.bytes), http_target(&pieces.req, pieces.bytes)));
        check_inside(&whole, n - 2);
        use_it(&whole);
    }
    free(whole.bytes);
    free(pieces.bytes);
    return 0;
}
