/* SPDX-License-Identifier: Apache-2.0 */
/* Writing answers, RFC 9110 and 9112. The Date line is made once a second a thread. */
#include "http.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static const char *reason(int status)
{
    switch (status) {
    case 200:
        return "OK";
    case 202:
        return "Accepted";
    case 204:
        return "No Content";
    case 400:
        return "Bad Request";
    case 401:
        return "Unauthorized";
    case 403:
        return "Forbidden";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 408:
        return "Request Timeout";
    case 409:
        return "Conflict";
    case 410:
        return "Gone";
    case 411:
        return "Length Required";
    case 413:
        return "Content Too Large";
    case 414:
        return "URI Too Long";
    case 417:
        return "Expectation Failed";
    case 431:
        return "Request Header Fields Too Large";
    case 500:
        return "Internal Server Error";
    case 501:
        return "Not Implemented";
    case 503:
        return "Service Unavailable";
    case 505:
        return "HTTP Version Not Supported";
    default:
        return "Unknown";
    }
}

/* A cache of the thread's own: formatting the date costs more than the rest of the answer. */
static struct span date_line(void)
{
    static _Thread_local struct {
        time_t at;
        size_t n;
        char text[64];
    } cache;
    time_t now = time(NULL);
    struct tm tm;

    if (now != cache.at || !cache.n) {
        gmtime_r(&now, &tm);
        cache.n =
            strftime(cache.text, sizeof cache.text, "Date: %a, %d %b %Y %H:%M:%S GMT\r\n", &tm);
        cache.at = now;
    }
    return span_of(cache.text, cache.n);
}

static void add_connection(struct buf *out, const struct http_reply *r)
{
    if (r->close || r->stream)
        buf_span(out, S("Connection: close\r\n"));
    else if (r->http10)
        buf_span(out, S("Connection: keep-alive\r\n"));
}

void http_id_text(uint64_t id, char out[HTTP_ID_TEXT])
{
    for (int i = HTTP_ID_TEXT; i-- > 0; id >>= 4)
        out[i] = "0123456789abcdef"[id & 15];
}

static void add_id(struct buf *out, uint64_t id)
{
    char text[HTTP_ID_TEXT];

    http_id_text(id, text);
    buf_span(out, S("Hookline-Request: "));
    buf_add(out, text, sizeof text);
    buf_span(out, S("\r\n"));
}

void http_write_reply(struct buf *out, const struct http_reply *r)
{
    buf_reserve(out, 300 + r->extra.n + r->body.n);
    buf_span(out, S("HTTP/1.1 "));
    buf_u64(out, (uint64_t)r->status);
    buf_addc(out, ' ');
    buf_adds(out, reason(r->status));
    buf_span(out, S("\r\n"));
    buf_span(out, date_line());
    if (r->content_type) {
        buf_span(out, S("Content-Type: "));
        buf_adds(out, r->content_type);
        buf_span(out, S("\r\n"));
    }
    if (!r->stream && r->status != 204 && r->status >= 200) {
        buf_span(out, S("Content-Length: "));
        buf_u64(out, r->body.n);
        buf_span(out, S("\r\n"));
    }
    add_connection(out, r);
    if (r->id)
        add_id(out, r->id);
    buf_span(out, r->extra);
    buf_span(out, S("\r\n"));
    if (!r->head && r->status != 204)
        buf_span(out, r->body);
}

void http_write_error(struct buf *out, const struct http_reply *how, enum http_error e,
                      const char *detail, const char *allow)
{
    const struct http_error_info *info = http_error(e);
    struct buf body = BUF_INIT, extra = BUF_INIT;

    buf_printf(&body, "{\"error\":\"%s\",\"detail\":", info->code);
    buf_json_string(&body, span_str(detail ? detail : info->detail));
    buf_addc(&body, '}');
    if (info->retry_after_s)
        buf_printf(&extra, "Retry-After: %d\r\n", info->retry_after_s);
    if (allow)
        buf_printf(&extra, "Allow: %s\r\n", allow);
    http_write_reply(out, &(struct http_reply){ .status = info->status,
                                                .content_type = "application/json",
                                                .extra = buf_as_span(&extra),
                                                .body = buf_as_span(&body),
                                                .id = how->id,
                                                .head = how->head,
                                                .close = how->close,
                                                .http10 = how->http10 });
    buf_free(&body);
    buf_free(&extra);
}
