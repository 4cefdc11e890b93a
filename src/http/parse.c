/* SPDX-License-Identifier: Apache-2.0 */
/* The head of a request: request line and headers, RFC 9112 sections 2 to 5.
 *
 * One pass: `in.pos` is the next byte to look at, `in.mark` where the current piece began, so a
 * call with more bytes goes on where the last one stopped. Runs of plain bytes are skipped in tight
 * loops over the class table; everything else is one step of the switch. */
#include "parse.h"

#include <string.h>

#define METHOD_BYTES 16
#define VERSION_BYTES 16

static const char *const method_names[METHODS] = {
    [METHOD_GET] = "GET",     [METHOD_HEAD] = "HEAD",       [METHOD_POST] = "POST",
    [METHOD_PUT] = "PUT",     [METHOD_DELETE] = "DELETE",   [METHOD_OPTIONS] = "OPTIONS",
    [METHOD_TRACE] = "TRACE", [METHOD_CONNECT] = "CONNECT", [METHOD_PATCH] = "PATCH",
};

void http_request_init(struct http_request *req, const struct http_limits *limits)
{
    memset(req, 0, offsetof(struct http_request, fields));
    req->body_max = limits->body_bytes;
    req->in.state = ST_METHOD;
}

enum http_result http_refuse(struct http_request *req, enum http_error e)
{
    req->error = e;
    req->keep_alive = false;
    req->in.state = ST_REFUSED;
    return HTTP_REFUSED;
}

/* Eight bytes that a value may hold, tabs and DEL left out: none is below a blank or is 127.
 * The top bit of a byte of `low` or `del` is set where one is; a borrow from the byte below can
 * only set one more, and then the bytes are looked at one by one. */
static bool all_plain(const char *p)
{
    const uint64_t ones = UINT64_MAX / 255, tops = ones << 7;
    uint64_t v, del, low;

    memcpy(&v, p, sizeof v);
    low = (v - ones * 0x20) & ~v;
    del = ((v ^ ones * 0x7f) - ones) & ~(v ^ ones * 0x7f);
    return !((low | del) & tops);
}

static size_t skip(const char *bytes, size_t pos, size_t n, unsigned char class)
{
    if (class == CLASS_VALUE)
        while (pos + 8 <= n && all_plain(bytes + pos))
            pos += 8;
    while (pos < n && is((unsigned char)bytes[pos], class))
        pos++;
    return pos;
}

/* A line that ends in LF alone has one name wherever it stands. */
static enum http_error unless_lf(char c, enum http_error e)
{
    return c == '\n' ? HTTP_ERR_BARE_LF : e;
}

static enum http_error end_method(struct http_request *req, const char *bytes)
{
    struct span name = { bytes, req->in.pos };

    if (bytes[req->in.pos] != ' ' || name.n == 0)
        return unless_lf(bytes[req->in.pos], HTTP_ERR_BAD_REQUEST_LINE);
    req->method = METHODS; /* unknown until the line's version says that this is HTTP at all */
    for (int m = 0; m < METHODS; m++)
        if (span_eq(name, span_str(method_names[m])))
            req->method = (enum http_method)m;
    req->target = (uint32_t)++req->in.pos;
    req->in.state = ST_TARGET;
    return HTTP_ERR_NONE;
}

static enum http_error end_target(struct http_request *req, const char *bytes)
{
    const char *query;

    req->target_len = (uint32_t)(req->in.pos - req->target);
    if (bytes[req->in.pos] != ' ' || req->target_len == 0)
        return unless_lf(bytes[req->in.pos], HTTP_ERR_BAD_REQUEST_LINE);
    query = memchr(bytes + req->target, '?', req->target_len);
    req->path_len = query ? (uint32_t)(query - bytes) - req->target : req->target_len;
    req->in.mark = ++req->in.pos;
    req->in.state = ST_VERSION;
    return HTTP_ERR_NONE;
}

static enum http_error end_version(struct http_request *req, const char *bytes)
{
    struct span version = { bytes + req->in.mark, req->in.pos - req->in.mark };

    if (bytes[req->in.pos] != '\r')
        return unless_lf(bytes[req->in.pos], HTTP_ERR_BAD_VERSION);
    if (span_eq(version, S("HTTP/1.0")))
        req->http10 = true;
    else if (!span_eq(version, S("HTTP/1.1")))
        return HTTP_ERR_BAD_VERSION;
    if (req->method == METHODS)
        return HTTP_ERR_METHOD_UNKNOWN;
    req->keep_alive = !req->http10;
    req->in.pos++;
    req->in.state = ST_LINE_LF;
    return HTTP_ERR_NONE;
}

static enum http_error start_line(struct http_request *req, const char *bytes)
{
    char c = bytes[req->in.pos];

    if (c == '\r') {
        req->in.pos++;
        req->in.state = ST_HEAD_LF;
        return HTTP_ERR_NONE;
    }
    if (!is((unsigned char)c, CLASS_TOKEN)) /* obs-fold and a leading blank end here as well */
        return unless_lf(c, HTTP_ERR_BAD_HEADER);
    if (req->fields_n == HTTP_FIELDS_MAX)
        return HTTP_ERR_HEADERS_TOO_LARGE;
    req->in.mark = req->in.pos++;
    req->in.state = ST_NAME;
    return HTTP_ERR_NONE;
}

static enum http_error end_name(struct http_request *req, const char *bytes)
{
    struct http_field *f = &req->fields[req->fields_n];
    size_t len = req->in.pos - req->in.mark;

    if (bytes[req->in.pos] != ':')
        return unless_lf(bytes[req->in.pos], HTTP_ERR_BAD_HEADER);
    if (len > UINT16_MAX)
        return HTTP_ERR_HEADERS_TOO_LARGE;
    f->name = (uint32_t)req->in.mark;
    f->name_len = (uint16_t)len;
    req->in.kind = http_field_kind(span_of(bytes + req->in.mark, len));
    req->in.pos++;
    req->in.state = ST_VALUE_0;
    return HTTP_ERR_NONE;
}

static enum http_error end_value(struct http_request *req, const char *bytes)
{
    struct http_field *f = &req->fields[req->fields_n];
    size_t end = req->in.pos;

    if (bytes[end] != '\r')
        return unless_lf(bytes[end], http_field_bad_byte((enum field_kind)req->in.kind));
    while (end > req->in.mark && (bytes[end - 1] == ' ' || bytes[end - 1] == '\t'))
        end--;
    f->value = (uint32_t)req->in.mark;
    f->value_len = (uint32_t)(end - req->in.mark);
    req->in.pos++;
    req->in.state = ST_VALUE_LF;
    return HTTP_ERR_NONE;
}

static enum http_error end_line(struct http_request *req, const char *bytes)
{
    struct http_field *f = &req->fields[req->fields_n];

    if (bytes[req->in.pos] != '\n')
        return http_field_bad_byte((enum field_kind)req->in.kind);
    req->fields_n++;
    req->in.pos++;
    req->in.state = ST_NAME_0;
    if (req->in.kind == FIELD_OTHER)
        return HTTP_ERR_NONE;
    return http_field_take(req, (enum field_kind)req->in.kind,
                           span_of(bytes + f->value, f->value_len));
}

static enum http_error end_head(struct http_request *req, const char *bytes)
{
    if (bytes[req->in.pos] != '\n')
        return HTTP_ERR_BAD_HEADER;
    req->body_off = (uint32_t)++req->in.pos;
    req->in.state = ST_HEAD_END;
    return http_head_check(req, bytes);
}

/* One piece of the head whose last byte is at in.pos (there is one). */
static enum http_error step(struct http_request *req, const char *bytes)
{
    switch ((enum state)req->in.state) {
    case ST_METHOD:
        return end_method(req, bytes);
    case ST_TARGET:
        return end_target(req, bytes);
    case ST_VERSION:
        return end_version(req, bytes);
    case ST_LINE_LF:
        if (bytes[req->in.pos++] != '\n')
            return HTTP_ERR_BAD_REQUEST_LINE;
        req->in.state = ST_NAME_0;
        return HTTP_ERR_NONE;
    case ST_NAME_0:
        return start_line(req, bytes);
    case ST_NAME:
        return end_name(req, bytes);
    case ST_VALUE_0:
        req->in.mark = req->in.pos;
        req->in.state = ST_VALUE;
        return HTTP_ERR_NONE;
    case ST_VALUE:
        return end_value(req, bytes);
    case ST_VALUE_LF:
        return end_line(req, bytes);
    default:
        return end_head(req, bytes);
    }
}

/* Skips what belongs to the piece; in.pos then stands on the byte that ends it, or at n. */
static void run(struct http_request *req, const char *bytes, size_t n)
{
    static const unsigned char class[] = {
        [ST_METHOD] = CLASS_TOKEN, [ST_TARGET] = CLASS_TARGET, [ST_VERSION] = CLASS_TARGET,
        [ST_NAME] = CLASS_TOKEN,   [ST_VALUE] = CLASS_VALUE,   [ST_HEAD_LF] = 0
    };

    if (req->in.state == ST_VALUE_0)
        while (req->in.pos < n && (bytes[req->in.pos] == ' ' || bytes[req->in.pos] == '\t'))
            req->in.pos++;
    else
        req->in.pos = skip(bytes, req->in.pos, n, class[req->in.state]);
}

/* The pieces that have limits of their own, checked also while they are incomplete. */
static enum http_error over_limit(const struct http_request *req, const struct http_limits *limits)
{
    size_t pos = req->in.pos;

    if (req->in.state == ST_METHOD && pos > METHOD_BYTES)
        return HTTP_ERR_METHOD_UNKNOWN;
    if (req->in.state == ST_TARGET && pos - req->target > limits->target_bytes)
        return HTTP_ERR_TARGET_TOO_LONG;
    if (req->in.state == ST_VERSION && pos - req->in.mark > VERSION_BYTES)
        return HTTP_ERR_BAD_VERSION;
    return pos > limits->header_bytes ? HTTP_ERR_HEADERS_TOO_LARGE : HTTP_ERR_NONE;
}

static enum http_result parse_head(struct http_request *req, const char *bytes, size_t n,
                                   const struct http_limits *limits)
{
    enum http_error e;

    while (req->in.state < ST_HEAD_END) {
        run(req, bytes, n);
        if ((e = over_limit(req, limits)))
            return http_refuse(req, e);
        if (req->in.pos >= n)
            return HTTP_MORE;
        if ((e = step(req, bytes)))
            return http_refuse(req, e);
    }
    return HTTP_HEAD;
}

enum http_result http_parse(struct http_request *req, char *bytes, size_t n,
                            const struct http_limits *limits)
{
    if (req->in.state < ST_HEAD_END)
        return parse_head(req, bytes, n, limits);
    return http_parse_body(req, bytes, n);
}
