/* SPDX-License-Identifier: Apache-2.0 */
/* Looking into a parsed request, and percent-decoding (RFC 3986 section 2.1). */
#include "parse.h"

struct span http_header(const struct http_request *req, const char *bytes, struct span name,
                        unsigned *count)
{
    struct span first = SPAN_NONE;
    unsigned n = 0;

    for (uint32_t i = 0; i < req->fields_n; i++) {
        const struct http_field *f = &req->fields[i];
        if (f->name_len != name.n || !span_ieq(span_of(bytes + f->name, f->name_len), name))
            continue;
        if (n++ == 0)
            first = span_of(bytes + f->value, f->value_len);
        if (!count)
            break;
    }
    if (count)
        *count = n;
    return first;
}

struct span http_target(const struct http_request *req, const char *bytes)
{
    return span_of(bytes + req->target, req->target_len);
}

struct span http_path(const struct http_request *req, const char *bytes)
{
    return span_of(bytes + req->target, req->path_len);
}

struct span http_query(const struct http_request *req, const char *bytes)
{
    if (req->path_len == req->target_len)
        return SPAN_NONE;
    return span_of(bytes + req->target + req->path_len + 1, req->target_len - req->path_len - 1);
}

struct span http_body(const struct http_request *req, const char *bytes)
{
    return span_of(bytes + req->body_off, (size_t)req->body_len);
}

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 32;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool unescape(struct span s, bool plus, struct buf *out)
{
    for (size_t i = 0; i < s.n; i++) {
        int high, low;
        if (s.p[i] != '%') {
            buf_addc(out, plus && s.p[i] == '+' ? ' ' : s.p[i]);
            continue;
        }
        if (i + 2 >= s.n || (high = hex(s.p[i + 1])) < 0 || (low = hex(s.p[i + 2])) < 0 ||
            (high | low) == 0)
            return false;
        buf_addc(out, (char)(high << 4 | low));
        i += 2;
    }
    return true;
}

bool http_unescape(struct span s, struct buf *out)
{
    return unescape(s, false, out);
}

bool http_unescape_form(struct span s, struct buf *out)
{
    return unescape(s, true, out);
}

bool http_query_get(struct span query, struct span name, struct buf *out)
{
    while (query.p) {
        struct span value = span_cut(&query, '&');
        struct span key = span_cut(&value, '=');
        if (span_eq(key, name))
            return unescape(value, true, out);
    }
    return false;
}
