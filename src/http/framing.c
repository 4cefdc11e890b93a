/* SPDX-License-Identifier: Apache-2.0 */
/* What the headers say about where this request ends and who it is for. Everything that two parties
 * could read differently is refused (RFC 9112 section 6.3, section 11.2: request smuggling). */
#include "parse.h"

enum field_kind http_field_kind(struct span name)
{
    switch (name.n) {
    case 4:
        return span_ieq(name, S("host")) ? FIELD_HOST : FIELD_OTHER;
    case 6:
        return span_ieq(name, S("expect")) ? FIELD_EXPECT : FIELD_OTHER;
    case 10:
        return span_ieq(name, S("connection")) ? FIELD_CONNECTION : FIELD_OTHER;
    case 14:
        return span_ieq(name, S("content-length")) ? FIELD_LENGTH : FIELD_OTHER;
    case 17:
        return span_ieq(name, S("transfer-encoding")) ? FIELD_CODING : FIELD_OTHER;
    default:
        return FIELD_OTHER;
    }
}

/* A byte that no value may hold is named after the header it breaks. */
enum http_error http_field_bad_byte(enum field_kind kind)
{
    switch (kind) {
    case FIELD_LENGTH:
        return HTTP_ERR_BAD_CONTENT_LENGTH;
    case FIELD_CODING:
        return HTTP_ERR_BAD_TRANSFER_ENCODING;
    case FIELD_HOST:
        return HTTP_ERR_BAD_HOST;
    case FIELD_OTHER:
    case FIELD_EXPECT:
    case FIELD_CONNECTION:
        break;
    }
    return HTTP_ERR_BAD_HEADER;
}

/* Digits only, at most 19 (RFC 9112 section 6.2 allows a list of equal numbers; we do not). */
static enum http_error take_length(struct http_request *req, struct span value)
{
    if (req->in.seen & SEEN_LENGTH || value.n > 19 || !span_u64(value, &req->content_length))
        return HTTP_ERR_BAD_CONTENT_LENGTH;
    req->in.seen |= SEEN_LENGTH;
    return HTTP_ERR_NONE;
}

/* "chunked" and nothing else. Another coding under a final chunked is well-formed, but we do not
 * know it (501); everything else is ill-formed. */
static enum http_error take_coding(struct http_request *req, struct span value)
{
    struct span rest = value, last = SPAN_NONE;
    bool others = false;

    if (req->in.seen & SEEN_CODING || req->http10)
        return HTTP_ERR_BAD_TRANSFER_ENCODING;
    req->in.seen |= SEEN_CODING;
    while (rest.p) {
        if (last.p) {
            if (last.n == 0 || span_ieq(last, S("chunked")) || span_ieq(last, S("identity")))
                return HTTP_ERR_BAD_TRANSFER_ENCODING;
            others = true;
        }
        last = span_trim(span_cut(&rest, ','));
    }
    if (!span_ieq(last, S("chunked")))
        return HTTP_ERR_BAD_TRANSFER_ENCODING;
    req->chunked = true;
    return others ? HTTP_ERR_TE_UNSUPPORTED : HTTP_ERR_NONE;
}

static enum http_error take_host(struct http_request *req, struct span value)
{
    if (req->in.seen & SEEN_HOST || value.n == 0)
        return HTTP_ERR_BAD_HOST;
    for (size_t i = 0; i < value.n; i++)
        if (!is((unsigned char)value.p[i], CLASS_HOST))
            return HTTP_ERR_BAD_HOST;
    req->in.seen |= SEEN_HOST;
    return HTTP_ERR_NONE;
}

static void take_connection(struct http_request *req, struct span value)
{
    while (value.p) {
        struct span word = span_trim(span_cut(&value, ','));
        if (span_ieq(word, S("close")))
            req->in.aux = 1; /* close wins over keep-alive, wherever it stands */
        else if (span_ieq(word, S("keep-alive")))
            req->keep_alive = true;
    }
}

enum http_error http_field_take(struct http_request *req, enum field_kind kind, struct span value)
{
    switch (kind) {
    case FIELD_LENGTH:
        return take_length(req, value);
    case FIELD_CODING:
        return take_coding(req, value);
    case FIELD_HOST:
        return take_host(req, value);
    case FIELD_CONNECTION:
        take_connection(req, value);
        break;
    case FIELD_EXPECT:
        if (req->http10) /* RFC 9110 section 10.1.1: a 1.0 client's expectation is ignored */
            break;
        if (!span_ieq(value, S("100-continue")))
            return HTTP_ERR_EXPECTATION_FAILED;
        req->expect_continue = true;
        break;
    case FIELD_OTHER:
        break;
    }
    return HTTP_ERR_NONE;
}

static bool target_fits_method(const struct http_request *req, const char *bytes)
{
    if (req->method == METHOD_CONNECT)
        return true; /* authority form; the route refuses the method */
    if (bytes[req->target] == '/')
        return true;
    return req->method == METHOD_OPTIONS && req->target_len == 1 && bytes[req->target] == '*';
}

/* All headers are there. */
enum http_error http_head_check(struct http_request *req, const char *bytes)
{
    bool length = req->in.seen & SEEN_LENGTH;

    if (!target_fits_method(req, bytes))
        return HTTP_ERR_BAD_REQUEST_LINE;
    if (!(req->in.seen & SEEN_HOST) && !req->http10)
        return HTTP_ERR_BAD_HOST;
    if (length && req->in.seen & SEEN_CODING)
        return HTTP_ERR_FRAMING_CONFLICT;
    if (req->in.aux)
        req->keep_alive = false;
    req->has_body = req->chunked || req->content_length > 0;
    /* RFC 9112 section 6.3 has no body then; of methods that are useless without one it is a slip
     */
    if (!length && !req->chunked && (req->method == METHOD_POST || req->method == METHOD_PATCH))
        return HTTP_ERR_LENGTH_REQUIRED;
    return HTTP_ERR_NONE;
}
