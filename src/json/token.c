/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens of JSON text. Strings are most of a webhook's bytes, so they are looked at eight at a time
 * with plain 64-bit arithmetic, which every machine has. Pure; reads nothing at or behind `end`. */
#include <endian.h>
#include <string.h>

#include "room.h"

#define EACH(byte) (~UINT64_C(0) / 255 * (byte))

const char *token_blanks(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r'))
        p++;
    return p;
}

/* The high bit of the first byte that is a quote, a backslash or a control byte. The subtractions
 * borrow from the byte above only where there was a hit below, so the lowest hit is always true. */
static uint64_t special(uint64_t w)
{
    uint64_t quote = w ^ EACH('"'), slash = w ^ EACH('\\');

    return (((quote - EACH(1)) & ~quote) | ((slash - EACH(1)) & ~slash) | ((w - EACH(' ')) & ~w)) &
           EACH(0x80);
}

/* The first byte from p on that is not plain text of a string; end when there is none. */
static const char *plain_end(const char *p, const char *end)
{
    for (uint64_t w; end - p >= 8; p += 8) {
        memcpy(&w, p, sizeof w);
        w = special(le64toh(w));
        if (w)
            return p + __builtin_ctzll(w) / 8;
    }
    while (p < end && *p != '"' && *p != '\\' && (unsigned char)*p >= ' ')
        p++;
    return p;
}

int token_hex4(const char *p, const char *end)
{
    int v = 0;

    if (end - p < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        char c = p[i], l = (char)(c | 32);
        if (c >= '0' && c <= '9')
            v = v << 4 | (c - '0');
        else if (l >= 'a' && l <= 'f')
            v = v << 4 | (l - 'a' + 10);
        else
            return -1;
    }
    return v;
}

/* p behind the backslash */
static const char *escape_end(const char *p, const char *end)
{
    if (p == end)
        return NULL;
    if (*p == 'u')
        return token_hex4(p + 1, end) < 0 ? NULL : p + 5;
    return *p && strchr("\"\\/bfnrt", *p) ? p + 1 : NULL;
}

const char *token_string(const char *p, const char *end, bool *escaped)
{
    *escaped = false;
    if (p == end || *p++ != '"')
        return NULL;
    while (p && (p = plain_end(p, end)) < end) {
        if (*p == '"')
            return p + 1;
        if (*p != '\\')
            return NULL;
        *escaped = true;
        p = escape_end(p + 1, end);
    }
    return NULL;
}

static const char *digits(const char *p, const char *end)
{
    const char *start = p;

    while (p < end && *p >= '0' && *p <= '9')
        p++;
    return p == start ? NULL : p;
}

const char *token_number(const char *p, const char *end)
{
    if (p < end && *p == '-')
        p++;
    p = p < end && *p == '0' ? p + 1 : digits(p, end);
    if (p && p < end && *p == '.')
        p = digits(p + 1, end);
    if (p && p < end && (*p == 'e' || *p == 'E')) {
        p++;
        p = digits(p < end && (*p == '+' || *p == '-') ? p + 1 : p, end);
    }
    return p;
}

const char *token_word(const char *p, const char *end, struct span word)
{
    return span_starts(span_of(p, (size_t)(end - p)), word) ? p + word.n : NULL;
}
