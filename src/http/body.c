/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies, RFC 9112 sections 6 and 7. A chunked body is moved together where it lies, so that it is
 * contiguous at body_off whatever way it came; trailers are checked and dropped (RFC 9110 6.5.1).
 */
#include "parse.h"

#include <string.h>

#define EXT_BYTES 1024
#define TRAILER_BYTES 4096
#define SIZE_DIGITS 16

static enum http_error start_body(struct http_request *req)
{
    if (!req->chunked && req->content_length > req->body_max)
        return HTTP_ERR_BODY_TOO_LARGE;
    req->in.state = req->chunked ? ST_SIZE_0 : ST_BODY;
    req->in.aux = 0; /* bytes of extensions, then of trailers */
    return HTTP_ERR_NONE;
}

static enum http_result whole_body(struct http_request *req, size_t n)
{
    uint64_t there = n - req->body_off;

    req->body_len = MIN(there, req->content_length);
    if (there < req->content_length)
        return HTTP_MORE;
    req->in.state = ST_DONE;
    req->consumed = req->body_off + (size_t)req->content_length;
    return HTTP_DONE;
}

static unsigned hex_value(char c)
{
    return (unsigned)(c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
}

static enum http_error size_digit(struct http_request *req, char c)
{
    if (req->in.state == ST_SIZE_0) {
        req->in.left = 0;
        req->in.mark = req->in.pos;
    }
    if (req->in.pos - req->in.mark >= SIZE_DIGITS)
        return HTTP_ERR_BAD_CHUNK;
    req->in.left = req->in.left << 4 | hex_value(c);
    req->in.state = ST_SIZE;
    return HTTP_ERR_NONE;
}

static enum http_error size_byte(struct http_request *req, char c)
{
    if (is((unsigned char)c, CLASS_HEX))
        return size_digit(req, c);
    if (c == '\n')
        return HTTP_ERR_BARE_LF;
    if (req->in.state == ST_SIZE_0 || (c != ';' && c != '\r'))
        return HTTP_ERR_BAD_CHUNK;
    req->in.state = c == ';' ? ST_EXT : ST_SIZE_LF;
    return HTTP_ERR_NONE;
}

/* Extensions mean nothing to us; they are only kept from hiding a line's end. */
static enum http_error extension_byte(struct http_request *req, char c)
{
    bool quoted = req->in.state != ST_EXT;

    if (c == '\r' && !quoted) {
        req->in.state = ST_SIZE_LF;
        return HTTP_ERR_NONE;
    }
    if (c == '\n' && !quoted)
        return HTTP_ERR_BARE_LF;
    if (!is((unsigned char)c, CLASS_VALUE))
        return HTTP_ERR_BAD_CHUNK;
    if (++req->in.aux > EXT_BYTES)
        return HTTP_ERR_CHUNK_EXT_TOO_LONG;
    if (req->in.state == ST_QUOTED_PAIR)
        req->in.state = ST_QUOTED;
    else if (c == '"')
        req->in.state = quoted ? ST_EXT : ST_QUOTED;
    else if (c == '\\' && quoted)
        req->in.state = ST_QUOTED_PAIR;
    return HTTP_ERR_NONE;
}

static enum http_error size_end(struct http_request *req, char c)
{
    if (c != '\n')
        return HTTP_ERR_BAD_CHUNK;
    if (req->in.left > req->body_max - req->body_len)
        return HTTP_ERR_BODY_TOO_LARGE;
    req->in.state = req->in.left ? ST_DATA : ST_TRAILER_0;
    if (!req->in.left)
        req->in.aux = 0;
    return HTTP_ERR_NONE;
}

static enum http_error trailer_byte(struct http_request *req, char c)
{
    bool bad;

    if (++req->in.aux > TRAILER_BYTES)
        return HTTP_ERR_HEADERS_TOO_LARGE;
    if (c == '\n' && req->in.state != ST_TRAILER_LF && req->in.state != ST_LAST_LF)
        return HTTP_ERR_BARE_LF;
    switch ((enum state)req->in.state) {
    case ST_TRAILER_0:
        bad = c != '\r' && !is((unsigned char)c, CLASS_TOKEN);
        req->in.state = c == '\r' ? ST_LAST_LF : ST_TRAILER_NAME;
        break;
    case ST_TRAILER_NAME:
        bad = c != ':' && !is((unsigned char)c, CLASS_TOKEN);
        if (c == ':')
            req->in.state = ST_TRAILER_VALUE;
        break;
    case ST_TRAILER_VALUE:
        bad = c != '\r' && !is((unsigned char)c, CLASS_VALUE);
        if (c == '\r')
            req->in.state = ST_TRAILER_LF;
        break;
    default: /* ST_TRAILER_LF, ST_LAST_LF */
        bad = c != '\n';
        req->in.state = req->in.state == ST_TRAILER_LF ? ST_TRAILER_0 : ST_DONE;
    }
    return bad ? HTTP_ERR_BAD_HEADER : HTTP_ERR_NONE;
}

static void move_data(struct http_request *req, char *bytes, size_t n)
{
    size_t take = (size_t)MIN(req->in.left, (uint64_t)(n - req->in.pos));

    memmove(bytes + req->body_off + req->body_len, bytes + req->in.pos, take);
    req->body_len += take;
    req->in.pos += take;
    req->in.left -= take;
    if (!req->in.left)
        req->in.state = ST_DATA_CR;
}

static enum http_error chunk_byte(struct http_request *req, char c)
{
    switch ((enum state)req->in.state) {
    case ST_SIZE_0:
    case ST_SIZE:
        return size_byte(req, c);
    case ST_EXT:
    case ST_QUOTED:
    case ST_QUOTED_PAIR:
        return extension_byte(req, c);
    case ST_SIZE_LF:
        return size_end(req, c);
    case ST_DATA_CR:
        req->in.state = ST_DATA_LF;
        return c == '\r' ? HTTP_ERR_NONE : c == '\n' ? HTTP_ERR_BARE_LF : HTTP_ERR_BAD_CHUNK;
    case ST_DATA_LF:
        req->in.state = ST_SIZE_0;
        return c == '\n' ? HTTP_ERR_NONE : HTTP_ERR_BAD_CHUNK;
    default:
        return trailer_byte(req, c);
    }
}

static enum http_result chunked_body(struct http_request *req, char *bytes, size_t n)
{
    enum http_error e;

    while (req->in.pos < n && req->in.state != ST_DONE) {
        if (req->in.state == ST_DATA) {
            move_data(req, bytes, n);
            continue;
        }
        if ((e = chunk_byte(req, bytes[req->in.pos])))
            return http_refuse(req, e);
        req->in.pos++;
    }
    if (req->in.state != ST_DONE)
        return HTTP_MORE;
    req->consumed = req->in.pos;
    return HTTP_DONE;
}

enum http_result http_parse_body(struct http_request *req, char *bytes, size_t n)
{
    enum http_error e;

    if (req->in.state == ST_HEAD_END && (e = start_body(req)))
        return http_refuse(req, e);
    if (req->in.state == ST_REFUSED)
        return HTTP_REFUSED;
    if (req->in.state == ST_DONE)
        return HTTP_DONE;
    return req->chunked ? chunked_body(req, bytes, n) : whole_body(req, n);
}
