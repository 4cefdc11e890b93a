/* SPDX-License-Identifier: Apache-2.0 */
/* Is it one valid JSON text (RFC 8259)? And what a string with escapes means. Iterative: the
 * nesting is a bit a level, object or array. */
#include "json.h"

#include <string.h>

#define DEPTH_MAX 512

struct text {
    const unsigned char *p, *end;
};

static void blanks(struct text *t)
{
    while (t->p < t->end && (*t->p == ' ' || *t->p == '\t' || *t->p == '\n' || *t->p == '\r'))
        t->p++;
}

static bool take(struct text *t, unsigned char c)
{
    if (t->p == t->end || *t->p != c)
        return false;
    t->p++;
    return true;
}

static int hex4(const unsigned char *p)
{
    int v = 0;

    for (int i = 0; i < 4; i++) {
        unsigned char c = p[i], l = c | 32;
        if (c >= '0' && c <= '9')
            v = v << 4 | (c - '0');
        else if (l >= 'a' && l <= 'f')
            v = v << 4 | (l - 'a' + 10);
        else
            return -1;
    }
    return v;
}

/* RFC 3629 */
static bool utf8(struct text *t)
{
    const unsigned char *p = t->p;
    size_t n = *p < 0x80 ? 1 : *p < 0xc2 ? 0 : *p < 0xe0 ? 2 : *p < 0xf0 ? 3 : *p < 0xf5 ? 4 : 0;

    if (!n || n > (size_t)(t->end - p))
        return false;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80)
            return false;
    if ((*p == 0xe0 && p[1] < 0xa0) || (*p == 0xed && p[1] > 0x9f) || (*p == 0xf0 && p[1] < 0x90) ||
        (*p == 0xf4 && p[1] > 0x8f))
        return false;
    t->p += n;
    return true;
}

static bool escape(struct text *t)
{
    if (t->p == t->end)
        return false;
    if (*t->p == 'u') {
        if (t->end - t->p < 5 || hex4(t->p + 1) < 0)
            return false;
        t->p += 5;
        return true;
    }
    return *t->p && strchr("\"\\/bfnrt", *t->p++) != NULL;
}

static bool string(struct text *t)
{
    if (!take(t, '"'))
        return false;
    while (t->p < t->end) {
        if (take(t, '"'))
            return true;
        if (*t->p < 0x20 || (take(t, '\\') ? !escape(t) : !utf8(t)))
            return false;
    }
    return false;
}

static bool digits(struct text *t)
{
    const unsigned char *start = t->p;

    while (t->p < t->end && *t->p >= '0' && *t->p <= '9')
        t->p++;
    return t->p > start;
}

static bool number(struct text *t)
{
    take(t, '-');
    if (!take(t, '0') && !digits(t))
        return false;
    if (take(t, '.') && !digits(t))
        return false;
    if (take(t, 'e') || take(t, 'E')) {
        if (!take(t, '+'))
            take(t, '-');
        return digits(t);
    }
    return true;
}

static bool word(struct text *t, const char *w)
{
    size_t n = strlen(w);

    if ((size_t)(t->end - t->p) < n || memcmp(t->p, w, n))
        return false;
    t->p += n;
    return true;
}

static bool scalar(struct text *t)
{
    switch (t->p < t->end ? *t->p : 0) {
    case '"':
        return string(t);
    case 't':
        return word(t, "true");
    case 'f':
        return word(t, "false");
    case 'n':
        return word(t, "null");
    default:
        return number(t);
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
    struct text t = { (const unsigned char *)s.p, (const unsigned char *)s.p + s.n };
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
static const unsigned char *unicode(const unsigned char *p, const unsigned char *end,
                                    struct buf *out)
{
    int high = end - p < 4 ? -1 : hex4(p), low;

    if (high < 0 || (high >= 0xdc00 && high < 0xe000))
        return NULL;
    p += 4;
    if (high < 0xd800 || high >= 0xe000) {
        put_utf8(out, (unsigned)high);
        return p;
    }
    if (end - p < 6 || p[0] != '\\' || p[1] != 'u' || (low = hex4(p + 2)) < 0xdc00 || low >= 0xe000)
        return NULL;
    put_utf8(out, 0x10000u + ((unsigned)(high - 0xd800) << 10) + (unsigned)(low - 0xdc00));
    return p + 6;
}

bool json_unescape(struct span raw, struct buf *out)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const unsigned char *p = (const unsigned char *)raw.p, *end = p + raw.n;

    while (p && p < end) {
        const char *at;
        if (*p != '\\') {
            buf_addc(out, (char)*p++);
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
