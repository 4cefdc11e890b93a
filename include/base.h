/* base - what every room may use: attributes, allocation that ends the process, exit codes.
 *
 * Out of memory is not an outcome that callers handle: sizes that come from outside are limited
 * before they are allocated, and what was acknowledged is on disk, so the process ends. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#define MUST_CHECK __attribute__((warn_unused_result))
#define NORETURN __attribute__((noreturn))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))
#define UNUSED __attribute__((unused))

#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))
#define ARRAY_LEN(a) (sizeof(a) / sizeof(a)[0])
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

#define KIB(n) ((uint64_t)(n) << 10)
#define MIB(n) ((uint64_t)(n) << 20)
#define GIB(n) ((uint64_t)(n) << 30)
#define TIB(n) ((uint64_t)(n) << 40)

/* Exit codes, after sysexits.h; the table for operators is in the manual page. */
enum exit_code {
    EXIT_OK = 0,
    EXIT_JOB_FAILED = 1,
    EXIT_BAD_USAGE = 64,
    EXIT_DAMAGED = 65,
    EXIT_NO_SERVICE = 69,
    EXIT_IO = 74,
    EXIT_TEMPORARY = 75,
    EXIT_BAD_CONFIG = 78,
};

/* Never return NULL: out of memory ends the process with a line that says how much was asked for.
 */
void *xmalloc(size_t n) __attribute__((malloc, returns_nonnull));
void *xcalloc(size_t count, size_t size) __attribute__((returns_nonnull));
void *xrealloc(void *p, size_t n) __attribute__((returns_nonnull));
char *xstrdup(const char *s) __attribute__((returns_nonnull));
char *xasprintf(const char *fmt, ...) PRINTF_LIKE(1, 2);

/* splitmix64 (Steele, Lea, Flood 2014): each of 2^64 values once, in an order that the first state
 * decides. For what has to be different, not for what has to be secret. */
static inline uint64_t next_number(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* Ends the process because a promise cannot be kept: one log line, then _exit(code). */
NORETURN void die(enum exit_code code, const char *fmt, ...) PRINTF_LIKE(2, 3);
