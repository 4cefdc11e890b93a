/* buf - bytes that grow. Zero-initialised is empty and valid; buf_free leaves it empty again. */
#pragma once

#include <stdarg.h>

#include "span.h"

struct buf {
    char *p;
    size_t n;   /* bytes in use */
    size_t cap; /* bytes allocated */
};

#define BUF_INIT                                                                                   \
    {                                                                                              \
        NULL, 0, 0                                                                                 \
    }

void buf_reserve(struct buf *b, size_t more); /* room for `more` bytes behind n */
static inline void buf_add(struct buf *b, const void *p, size_t n)
{
    if (n > b->cap - b->n)
        buf_reserve(b, n);
    if (n)
        memcpy(b->p + b->n, p, n);
    b->n += n;
}
static inline void buf_addc(struct buf *b, char c)
{
    if (b->n == b->cap)
        buf_reserve(b, 1);
    b->p[b->n++] = c;
}
static inline void buf_span(struct buf *b, struct span s)
{
    buf_add(b, s.p, s.n);
}
static inline void buf_adds(struct buf *b, const char *s)
{
    buf_add(b, s, strlen(s));
}
void buf_u64(struct buf *b, uint64_t v); /* in decimal */
void buf_printf(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
void buf_vprintf(struct buf *b, const char *fmt, va_list ap);
void buf_drop(struct buf *b, size_t n); /* takes n bytes off the front */
void buf_free(struct buf *b);
char *buf_cstr(struct buf *b); /* NUL behind the bytes (not counted); stays the buffer's */
char *buf_take(struct buf *b); /* NUL-ended, the caller's now; b is empty */

/* JSON text: the string with its quotes; bytes that are not UTF-8 become U+FFFD. */
void buf_json_string(struct buf *b, struct span s);
void buf_base64(struct buf *b, struct span s); /* standard alphabet with padding */
void buf_hex(struct buf *b, struct span s);    /* lower case */

static inline struct span buf_as_span(const struct buf *b)
{
    return (struct span){ b->p, b->n };
}
