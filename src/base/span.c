/* SPDX-License-Identifier: Apache-2.0 */
/* Comparing and cutting borrowed bytes. Pure. */
#include "span.h"

/* Most names come just as they are looked for. */
bool span_ieq(struct span a, struct span b)
{
    if (a.n != b.n)
        return false;
    if (a.n && ((a.p[a.n - 1] ^ b.p[a.n - 1]) & ~32)) /* headers begin alike and end differently */
        return false;
    if (span_eq(a, b))
        return true;
    for (size_t i = 0; i < a.n; i++) {
        unsigned differ = (unsigned char)(a.p[i] ^ b.p[i]);
        if (differ && (differ != 32 || (unsigned)((a.p[i] | 32) - 'a') > 'z' - 'a'))
            return false;
    }
    return true;
}

struct span span_trim(struct span s)
{
    while (s.n && (s.p[0] == ' ' || s.p[0] == '\t')) {
        s.p++;
        s.n--;
    }
    while (s.n && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
        s.n--;
    return s;
}

char *span_dup(struct span s)
{
    char *out = xmalloc(s.n + 1);

    if (s.n)
        memcpy(out, s.p, s.n);
    out[s.n] = '\0';
    return out;
}

struct span span_cut(struct span *s, char sep)
{
    const char *at = s->n ? memchr(s->p, sep, s->n) : NULL;
    struct span piece = *s;

    if (!at) {
        *s = SPAN_NONE;
        return piece;
    }
    piece.n = (size_t)(at - s->p);
    s->p = at + 1;
    s->n -= piece.n + 1;
    return piece;
}

bool span_u64(struct span s, uint64_t *out)
{
    uint64_t v = 0;

    if (s.n == 0)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        unsigned digit = (unsigned)(unsigned char)s.p[i] - '0';
        if (digit > 9 || __builtin_mul_overflow(v, 10u, &v) || __builtin_add_overflow(v, digit, &v))
            return false;
    }
    *out = v;
    return true;
}

/* On a mismatch only the last star is tried again, one byte further on: what an earlier star could
 * have taken, the last one can take as well. */
bool span_glob(struct span pattern, struct span text)
{
    size_t p = 0, t = 0, star = SIZE_MAX, from = 0;

    while (t < text.n) {
        if (p < pattern.n && pattern.p[p] == '*') {
            star = p++;
            from = t;
        } else if (p < pattern.n && (pattern.p[p] == '?' || pattern.p[p] == text.p[t])) {
            p++;
            t++;
        } else if (star != SIZE_MAX) {
            p = star + 1;
            t = ++from;
        } else {
            return false;
        }
    }
    while (p < pattern.n && pattern.p[p] == '*')
        p++;
    return p == pattern.n;
}
