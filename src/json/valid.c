/* SPDX-License-Identifier: Apache-2.0 */
/* Is it one valid JSON text (RFC 8259)? And what a string with escapes means. Iterative: the
 * nesting is a bit a level, object or array. */
#include <string.h>

#include "room.h"

#define DEPTH_MAX 512

struct text {
    const char *p, *end;
};

static void blanks(struct text *t)
{
    t->p = token_blanks(t->p, t->end);
}

static bool take(struct text *t, char c)
{
    if (t->p == t->end || *t->p != c)
        return false;
    t->p++;
    return true;
}

/* What a token function returned. */
static bool took(struct text *t, const char *stop)
{
    if (stop)
        t->p = stop;
    return stop != NULL;
}

/* Bytes of one character after RFC 3629; 0 when it is none. */
static size_t utf8(const unsigned char *p, size_t left)
{
    size_t n = *p < 0x80 ? 1 : *p < 0xc2 ? 0 : *p < 0xe0 ? 2 : *p < 0xf0 ? 3 : *p < 0xf5 ? 4 : 0;

    if (n > left)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    if ((*p == 0xe0 && p[1] < 0xa0) || (*p == 0xed && p[1] > 0x9f) || (*p == 0xf0 && p[1] < 0x90) ||
        (*p == 0xf4 && p[1] > 0x8f))
        return 0;
    return n;
}

static bool string(struct text *t)
{
    const unsigned char *p = (const unsigned char *)t->p, *stop;
    bool escaped;

    if (!took(t, token_string(t->p, t->end, &escaped)))
        return false;
    stop = (const unsigned char *)t->p;
    for (size_t n; p < stop; p += n)
        if (!(n = utf8(p, (size_t)(stop - p))))
            return false;
    return true;
}

static bool scalar(struct text *t)
{
    switch (t->p < t->end ? *t->p : 0) {
    case '"':
        return string(t);
    case 't':
        return took(t, token_word(t->p, t->end, S("true")));
    case 'f':
        return took(t, token_word(t->p, t->end, S("false")));
    case 'n':
        return took(t, token_word(t->p, t->end, S("null")));
    default:
        return took(t, token_number(t->p, t->end));
    }
}

/* A member's key and colon, where one is due. */
static bool key(struct text *t)
{
    blanks(t);
    if (!string(t))
        return false;
    blanks(t);
    return take(t, ':');
}

bool json_valid(struct span s)
{
    struct text t = { s.p, s.p + s.n };
    bool object[DEPTH_MAX];
    size_t depth = 0;

    for (;;) {
        bool opened = false;
        blanks(&t);
        if (t.p < t.end && (*t.p == '{' || *t.p == '[')) {
            if (depth == DEPTH_MAX)
                return false;
            object[depth] = *t.p++ == '{';
            blanks(&t);
            opened = !take(&t, object[depth] ? '}' : ']');
            if (opened) {
                if (object[depth++] && !key(&t))
                    return false;
                continue;
            }
        } else if (!scalar(&t)) {
            return false;
        }
        for (blanks(&t); depth && take(&t, object[depth - 1] ? '}' : ']'); blanks(&t))
            depth--;
        if (!depth)
            return t.p == t.end;
        if (!take(&t, ',') || (object[depth - 1] && !key(&t)))
            return false;
    }
}

static void put_utf8(struct buf *out, unsigned c)
{
    if (c < 0x80) {
        buf_addc(out, (char)c);
    } else if (c < 0x800) {
        buf_addc(out, (char)(0xc0 | c >> 6));
        buf_addc(out, (char)(0x80 | (c & 63)));
    } else if (c < 0x10000) {
        buf_addc(out, (char)(0xe0 | c >> 12));
        buf_addc(out, (char)(0x80 | (c >> 6 & 63)));
        buf_addc(out, (char)(0x80 | (c & 63)));
    } else {
        buf_addc(out, (char)(0xf0 | c >> 18));
        buf_addc(out, (char)(0x80 | (c >> 12 & 63)));
        buf_addc(out, (char)(0x80 | (c >> 6 & 63)));
        buf_addc(out, (char)(0x80 | (c & 63)));
    }
}

/* p behind "\u"; returns behind what was used, NULL for a lone surrogate. */
static const char *unicode(const char *p, const char *end, struct buf *out)
{
    int high = token_hex4(p, end), low;

    if (high < 0 || (high >= 0xdc00 && high < 0xe000))
        return NULL;
    p += 4;
    if (high < 0xd800 || high >= 0xe000) {
        put_utf8(out, (unsigned)high);
        return p;
    }
    if (end - p < 6 || p[0] != '\\' || p[1] != 'u' || (low = token_hex4(p + 2, end)) < 0xdc00 ||
        low >= 0xe000)
        return NULL;
    put_utf8(out, 0x10000u + ((unsigned)(high - 0xd800) << 10) + (unsigned)(low - 0xdc00));
    return p + 6;
}

bool json_unescape(struct span raw, struct buf *out)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const char *p = raw.p, *end = p + raw.n;

    while (p && p < end) {
        const char *at;
        if (*p != '\\') {
            buf_addc(out, *p++);
        } else if (++p < end && *p == 'u') {
            p = unicode(p + 1, end, out);
        } else if (p < end && *p && (at = strchr(from, *p))) {
            buf_addc(out, to[at - from]);
            p++;
        } else {
            return false;
        }
    }
    return p != NULL;
}
