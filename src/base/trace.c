/* SPDX-License-Identifier: Apache-2.0 */
/* https://www.w3.org/TR/trace-context/, sections 3.2 and 3.3. In a record the context is a kept
 * header, so that logs of before and after it read alike. */
#include "trace.h"

#define STATE_BYTES 512
#define STATE_MEMBERS 32
#define STATE_KEY 256

static int digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* n bytes from 2n lower-case digits; false where another stands there. */
static bool bytes(const char *text, uint8_t *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int high = digit(text[2 * i]), low = digit(text[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        out[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

static bool is_zero(const uint8_t *p, size_t n)
{
    uint8_t any = 0;

    for (size_t i = 0; i < n; i++)
        any |= p[i];
    return !any;
}

/* version 2, "-", trace 32, "-", parent 16, "-", flags 2; later versions may add "-" and more. */
bool trace_parse(struct span text, struct trace_context *out)
{
    const char *p = text.p;
    uint8_t version, flags;

    if (text.n < TRACEPARENT_BYTES || !bytes(p, &version, 1) || version == 0xff)
        return false;
    if (text.n > TRACEPARENT_BYTES && (!version || p[TRACEPARENT_BYTES] != '-'))
        return false;
    if (p[2] != '-' || !bytes(p + 3, out->trace, sizeof out->trace) || p[35] != '-' ||
        !bytes(p + 36, out->span, sizeof out->span) || p[52] != '-' || !bytes(p + 53, &flags, 1))
        return false;
    out->sampled = flags & 1;
    return !is_zero(out->trace, sizeof out->trace) && !is_zero(out->span, sizeof out->span);
}

static char *put_hex(char *to, const uint8_t *p, size_t n)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < n; i++, to += 2) {
        to[0] = digits[p[i] >> 4];
        to[1] = digits[p[i] & 15];
    }
    return to;
}

void trace_write(const struct trace_context *c, char out[TRACEPARENT_BYTES])
{
    char *at = mempcpy(out, "00-", 3);

    at = put_hex(at, c->trace, sizeof c->trace);
    *at++ = '-';
    at = put_hex(at, c->span, sizeof c->span);
    memcpy(at, c->sampled ? "-01" : "-00", 3);
}

static bool is_key(struct span key)
{
    for (size_t i = 0; i < key.n; i++) {
        char c = key.p[i];
        bool start = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        if (!start && (i == 0 || c == '\0' || !strchr("_-*/@", c)))
            return false;
    }
    return key.n && key.n <= STATE_KEY;
}

static bool is_value(struct span value)
{
    for (size_t i = 0; i < value.n; i++)
        if (value.p[i] < ' ' || value.p[i] > '~' || value.p[i] == '=')
            return false;
    return value.n && value.n <= STATE_KEY;
}

bool trace_state_good(struct span text)
{
    size_t members = 0;

    if (!text.n || text.n > STATE_BYTES)
        return false;
    while (text.p) {
        struct span value = span_trim(span_cut(&text, ',')), key;
        if (!value.n) /* may be empty */
            continue;
        key = span_cut(&value, '=');
        if (++members > STATE_MEMBERS || !value.p || !is_key(key) || !is_value(value))
            return false;
    }
    return members > 0;
}

struct span trace_of(const struct record *rec, struct trace_context *out)
{
    struct span at = rec->headers, name, value;
    struct trace_context made;

    while (record_next_header(&at, &name, &value))
        if (span_eq(name, S("traceparent")))
            return trace_parse(value, out ? out : &made) ? value : SPAN_NONE;
    return SPAN_NONE;
}
