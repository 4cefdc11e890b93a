/* SPDX-License-Identifier: Apache-2.0 */
/* One line of the access log, as text or JSON. Control bytes, quotes and all above 0x7e become
 * escapes, so that no sender can end a line, begin one, or speak to a terminal. The writer's
 * thread.
 *
 * Room for the longest line is there from the start: at most 127 bytes of each of three texts, six
 * for each, and names and words of our own. */
#include <string.h>

#include "http.h"
#include "room.h"

struct line {
    char *at;
    bool json;
};

static void put(struct line *l, struct span s)
{
    if (s.n)
        l->at = mempcpy(l->at, s.p, s.n);
}

static void key(struct line *l, struct span name)
{
    put(l, l->json ? S(",\"") : S(" "));
    put(l, name);
    put(l, l->json ? S("\":") : S("="));
}

static bool is_plain(unsigned char c)
{
    return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

static void escape(struct line *l, unsigned char c)
{
    static const char hex[] = "0123456789abcdef";

    *l->at++ = '\\';
    if (c == '"' || c == '\\') {
        *l->at++ = (char)c;
        return;
    }
    put(l, S("u00"));
    *l->at++ = hex[c >> 4];
    *l->at++ = hex[c & 15];
}

static void quoted(struct line *l, struct span name, struct span s)
{
    if (!s.n)
        return;
    key(l, name);
    *l->at++ = '"';
    for (size_t i = 0, plain; i < s.n; i = plain + 1) {
        for (plain = i; plain < s.n && is_plain((unsigned char)s.p[plain]); plain++)
            ;
        put(l, span_of(s.p + i, plain - i));
        if (plain < s.n)
            escape(l, (unsigned char)s.p[plain]);
    }
    *l->at++ = '"';
}

/* One of our own words: in text it needs no quotes. */
static void word(struct line *l, struct span name, struct span s)
{
    if (!s.n)
        return;
    key(l, name);
    put(l, l->json ? S("\"") : SPAN_NONE);
    put(l, s);
    put(l, l->json ? S("\"") : SPAN_NONE);
}

static void number(struct line *l, struct span name, uint64_t v)
{
    char digits[20];
    size_t at = sizeof digits;

    key(l, name);
    do
        digits[--at] = (char)('0' + v % 10);
    while (v /= 10);
    put(l, span_of(digits + at, sizeof digits - at));
}

/* Only the milliseconds are new within a second. */
static void begin(struct line *l, int64_t ms, struct line_memory *m)
{
    if (ms / 1000 != m->second || !m->time[0]) {
        clock_text(ms, m->time);
        m->second = ms / 1000;
    }
    for (int i = 3, left = (int)(ms % 1000); i-- > 0; left /= 10)
        m->time[20 + i] = (char)('0' + left % 10);
    put(l, l->json ? S("{\"time\":\"") : SPAN_NONE);
    put(l, span_str(m->time));
    put(l, l->json ? S("\"") : SPAN_NONE);
}

static struct span peer_text(const struct net_peer *p, struct line_memory *m)
{
    if (!m->peer_text[0] || memcmp(&m->peer, p, sizeof *p) != 0) {
        m->peer = *p;
        net_peer_text(p, m->peer_text);
    }
    return span_str(m->peer_text);
}

static void facts(struct line *l, const struct access_entry *e, struct line_memory *m)
{
    char request[HTTP_ID_TEXT];

    http_id_text(e->request, request);
    word(l, S("request"), span_of(request, sizeof request));
    word(l, S("remote"), peer_text(&e->peer, m));
    word(l, S("method"), span_str(e->method));
    word(l, S("source"), span_str(e->source));
    quoted(l, S("path"), e->path);
    number(l, S("status"), (uint64_t)e->status);
    word(l, S("result"), span_str(e->result));
    word(l, S("reason"), span_str(e->reason));
    number(l, S("bytes"), e->bytes);
    number(l, S("duration_us"), e->duration_us);
    quoted(l, S("id"), e->id);
    quoted(l, S("type"), e->type);
    if (e->lsn)
        number(l, S("lsn"), e->lsn);
}

void line_write(struct buf *out, enum access_format format, const struct access_entry *e,
                struct line_memory *m)
{
    char trace[TRACEPARENT_BYTES];
    struct line l = { NULL, format == ACCESS_JSON };

    buf_reserve(out, LINE_MAX_BYTES);
    l.at = out->p + out->n;
    begin(&l, e->time_ms, m);
    facts(&l, e, m);
    if (e->trace) {
        trace_write(e->trace, trace);
        word(&l, S("traceparent"), span_of(trace, sizeof trace));
    }
    put(&l, l.json ? S("}\n") : S("\n"));
    out->n = (size_t)(l.at - out->p);
}
