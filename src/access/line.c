/* SPDX-License-Identifier: Apache-2.0 */
/* One line of the access log, as text or JSON. Control bytes, quotes and all above 0x7e become
 * escapes, so that no sender can end a line, begin one, or speak to a terminal. The writer's
 * thread.
 */
#include <string.h>

#include "http.h"
#include "room.h"

struct line {
    struct buf *out;
    bool json;
};

static void key(const struct line *l, const char *name)
{
    if (l->json) {
        buf_span(l->out, S(",\""));
        buf_adds(l->out, name);
        buf_span(l->out, S("\":"));
        return;
    }
    buf_addc(l->out, ' ');
    buf_adds(l->out, name);
    buf_addc(l->out, '=');
}

static void escaped(struct buf *out, unsigned char c)
{
    static const char hex[] = "0123456789abcdef";

    if (c == '"' || c == '\\') {
        buf_addc(out, '\\');
        buf_addc(out, (char)c);
    } else if (c < 0x20 || c >= 0x7f) {
        buf_span(out, S("\\u00"));
        buf_addc(out, hex[c >> 4]);
        buf_addc(out, hex[c & 15]);
    } else {
        buf_addc(out, (char)c);
    }
}

static void quoted(const struct line *l, const char *name, struct span s)
{
    if (!s.n)
        return;
    key(l, name);
    buf_addc(l->out, '"');
    for (size_t i = 0; i < s.n; i++)
        escaped(l->out, (unsigned char)s.p[i]);
    buf_addc(l->out, '"');
}

/* One of our own words: in text it needs no quotes. */
static void word(const struct line *l, const char *name, struct span s)
{
    if (!s.n)
        return;
    key(l, name);
    if (l->json)
        buf_addc(l->out, '"');
    buf_span(l->out, s);
    if (l->json)
        buf_addc(l->out, '"');
}

static void number(const struct line *l, const char *name, uint64_t v)
{
    key(l, name);
    buf_u64(l->out, v);
}

/* Only the milliseconds are new within a second. */
static void begin(const struct line *l, int64_t ms, struct line_time *when)
{
    if (ms / 1000 != when->second || !when->text[0]) {
        clock_text(ms, when->text);
        when->second = ms / 1000;
    }
    for (int i = 3, left = (int)(ms % 1000); i-- > 0; left /= 10)
        when->text[20 + i] = (char)('0' + left % 10);
    buf_adds(l->out, l->json ? "{\"time\":\"" : "");
    buf_adds(l->out, when->text);
    buf_adds(l->out, l->json ? "\"" : "");
}

void line_write(struct buf *out, enum access_format format, const struct access_entry *e,
                struct line_time *when)
{
    const struct line l = { out, format == ACCESS_JSON };
    char remote[NET_PEER_TEXT_MAX], request[HTTP_ID_TEXT], trace[TRACEPARENT_BYTES];

    http_id_text(e->request, request);
    begin(&l, e->time_ms, when);
    word(&l, "request", span_of(request, sizeof request));
    word(&l, "remote", span_str(net_peer_text(&e->peer, remote)));
    word(&l, "method", span_str(e->method));
    word(&l, "source", span_str(e->source));
    quoted(&l, "path", e->path);
    number(&l, "status", (uint64_t)e->status);
    word(&l, "result", span_str(e->result));
    word(&l, "reason", span_str(e->reason));
    number(&l, "bytes", e->bytes);
    number(&l, "duration_us", e->duration_us);
    quoted(&l, "id", e->id);
    quoted(&l, "type", e->type);
    if (e->lsn)
        number(&l, "lsn", e->lsn);
    if (e->trace) {
        trace_write(e->trace, trace);
        word(&l, "traceparent", span_of(trace, sizeof trace));
    }
    buf_adds(out, l.json ? "}\n" : "\n");
}
