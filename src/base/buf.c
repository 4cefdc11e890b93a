/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes that grow by doubling, and the few encodings that are written into them. */
#include "buf.h"

#include <stdio.h>
#include <string.h>

void buf_reserve(struct buf *b, size_t more)
{
    size_t want = b->n + more, cap = b->cap ? b->cap : 64;

    if (want <= b->cap)
        return;
    while (cap < want)
        cap *= 2;
    b->p = xrealloc(b->p, cap);
    b->cap = cap;
}

void buf_u64(struct buf *b, uint64_t v)
{
    char digits[20];
    size_t at = sizeof digits;

    do
        digits[--at] = (char)('0' + v % 10);
    while (v /= 10);
    buf_add(b, digits + at, sizeof digits - at);
}

void buf_vprintf(struct buf *b, const char *fmt, va_list ap)
{
    va_list again;
    int n;

    va_copy(again, ap);
    n = vsnprintf(NULL, 0, fmt, ap);
    if (n > 0) {
        buf_reserve(b, (size_t)n + 1);
        vsnprintf(b->p + b->n, (size_t)n + 1, fmt, again);
        b->n += (size_t)n;
    }
    va_end(again);
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    buf_vprintf(b, fmt, ap);
    va_end(ap);
}

void buf_drop(struct buf *b, size_t n)
{
    b->n -= n;
    if (b->n)
        memmove(b->p, b->p + n, b->n);
}

void buf_free(struct buf *b)
{
    free(b->p);
    *b = (struct buf)BUF_INIT;
}

char *buf_cstr(struct buf *b)
{
    buf_reserve(b, 1);
    b->p[b->n] = '\0';
    return b->p;
}

char *buf_take(struct buf *b)
{
    char *p = buf_cstr(b);

    *b = (struct buf)BUF_INIT;
    return p;
}

/* Length of the well-formed UTF-8 sequence at p (RFC 3629: no overlong forms, no surrogates,
 * nothing above U+10FFFF), 0 when there is none. */
static size_t utf8_length(const unsigned char *p, size_t n)
{
    size_t want = p[0] < 0x80   ? 1
                  : p[0] < 0xc2 ? 0
                  : p[0] < 0xe0 ? 2
                  : p[0] < 0xf0 ? 3
                  : p[0] < 0xf5 ? 4
                                : 0;

    if (want == 0 || want > n)
        return 0;
    for (size_t i = 1; i < want; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
        (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
        return 0;
    return want;
}

/* Bytes at the front that stand for themselves in a JSON string. */
static size_t plain_length(const unsigned char *p, size_t n)
{
    size_t i = 0;

    while (i < n && p[i] >= 0x20 && p[i] < 0x80 && p[i] != '"' && p[i] != '\\')
        i++;
    return i;
}

void buf_json_string(struct buf *b, struct span s)
{
    const unsigned char *p = (const unsigned char *)s.p;

    buf_addc(b, '"');
    for (size_t i = 0; i < s.n;) {
        size_t n = plain_length(p + i, s.n - i);

        if (n) {
            buf_add(b, p + i, n);
            i += n;
            continue;
        }
        n = utf8_length(p + i, s.n - i);
        if (n == 0) {
            buf_adds(b, "\xef\xbf\xbd");
            n = 1;
        } else if (p[i] == '"' || p[i] == '\\') {
            buf_addc(b, '\\');
            buf_addc(b, s.p[i]);
        } else if (p[i] < 0x20) {
            buf_printf(b, "\\u%04x", p[i]);
        } else {
            buf_add(b, p + i, n);
        }
        i += n;
    }
    buf_addc(b, '"');
}

void buf_base64(struct buf *b, struct span s)
{
    static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *p = (const unsigned char *)s.p;

    buf_reserve(b, (s.n + 2) / 3 * 4);
    for (size_t i = 0; i < s.n; i += 3) {
        size_t left = s.n - i;
        unsigned v = (unsigned)p[i] << 16 | (left > 1 ? (unsigned)p[i + 1] << 8 : 0) |
                     (left > 2 ? p[i + 2] : 0u);
        char four[4] = { digit[v >> 18], digit[v >> 12 & 63], left > 1 ? digit[v >> 6 & 63] : '=',
                         left > 2 ? digit[v & 63] : '=' };
        buf_add(b, four, sizeof four);
    }
}

void buf_hex(struct buf *b, struct span s)
{
    buf_reserve(b, s.n * 2);
    for (size_t i = 0; i < s.n; i++) {
        b->p[b->n++] = "0123456789abcdef"[(unsigned char)s.p[i] >> 4];
        b->p[b->n++] = "0123456789abcdef"[s.p[i] & 15];
    }
}
