/* span - a borrowed run of bytes. It owns nothing and need not end in a NUL. */
#pragma once

#include <string.h>

#include "base.h"

struct span {
    const char *p;
    size_t n;
};

#define S(literal) ((struct span){ (literal), sizeof(literal) - 1 })
#define SPAN_NONE ((struct span){ NULL, 0 })
/* for "%.*s" */
#define SPAN_FMT(s) (int)(s).n, (s).p

static inline struct span span_of(const void *p, size_t n)
{
    return (struct span){ p, n };
}
static inline struct span span_str(const char *s) /* NULL gives the empty span */
{
    return s ? (struct span){ s, strlen(s) } : SPAN_NONE;
}
static inline bool span_eq(struct span a, struct span b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}
static inline bool span_starts(struct span s, struct span prefix)
{
    return s.n >= prefix.n && span_eq(span_of(s.p, prefix.n), prefix);
}
bool span_ieq(struct span a, struct span b); /* ASCII case is ignored */
struct span span_trim(struct span s);        /* without spaces and tabs at both ends */
char *span_dup(struct span s);               /* a NUL-ended copy; the caller frees it */

/* Cuts s at the first `sep`: returns what stands before it and moves *s behind it. The last piece
 * leaves *s with p == NULL. */
struct span span_cut(struct span *s, char sep);

/* Decimal digits only, no sign, no blank; false when empty, too large or anything else is there. */
bool span_u64(struct span s, uint64_t *out);

/* Shell-like pattern over the whole text: * any run, ? any one byte; nothing else is special.
 * Linear in the text for one star, never exponential. */
bool span_glob(struct span pattern, struct span text);
