/* SPDX-License-Identifier: Apache-2.0 */
/* Allocation that cannot fail, and the way out when a promise cannot be kept. Any thread. */
#include "base.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "log.h"

static void *need(void *p, size_t n)
{
    if (!p)
        die(EXIT_IO, "out of memory: %zu bytes asked for", n);
    return p;
}

void *xmalloc(size_t n)
{
    return need(malloc(n ? n : 1), n);
}

void *xcalloc(size_t count, size_t size)
{
    return need(calloc(count ? count : 1, size ? size : 1), count * size);
}

void *xrealloc(void *p, size_t n)
{
    return need(realloc(p, n ? n : 1), n);
}

char *xstrdup(const char *s)
{
    return need(strdup(s), strlen(s) + 1);
}

char *xasprintf(const char *fmt, ...)
{
    va_list ap;
    char *s = NULL;
    int n;

    va_start(ap, fmt);
    n = vasprintf(&s, fmt, ap);
    va_end(ap);
    return need(n < 0 ? NULL : s, 0);
}

void die(enum exit_code code, const char *fmt, ...)
{
    char text[512];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    log_error("hookline cannot go on", KS("reason", text), KI("exit", code));
    _exit((int)code);
}
