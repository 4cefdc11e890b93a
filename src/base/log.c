/* SPDX-License-Identifier: Apache-2.0 */
/* One call, two printers. A line is built on the stack and leaves in one write(2), so lines of
 * several threads do not mix; when stderr cannot take it (full pipe, full disk) the line is lost
 * and nothing else happens: logging never holds up an acknowledgement. The next line that can be
 * written is preceded by one that counts them. */
#include "log.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"

#define LINE_MAX_BYTES 4096
#define VALUE_MAX_BYTES 512
#define PLAIN_WAIT_MS 100 /* somebody may be paging through the errors of a configuration */

static struct {
    _Atomic int format, least; /* enum log_format, enum log_level */
} settings = { LOG_TEXT, LOG_INFO };

static struct {
    pthread_mutex_t lock;
    uint64_t lost;
} out = { PTHREAD_MUTEX_INITIALIZER, 0 };

static const char *const level_names[] = { "debug", "info", "warn", "error", NULL };
static const char *const format_names[] = { "text", "json", NULL };

struct line {
    char p[LINE_MAX_BYTES];
    size_t n;
};

static void put(struct line *l, const char *p, size_t n)
{
    size_t room = sizeof l->p - 2 - l->n; /* the brace and the line feed always fit */

    n = MIN(n, room);
    memcpy(l->p + l->n, p, n);
    l->n += n;
}

static void puts_(struct line *l, const char *s)
{
    put(l, s, strlen(s));
}

/* Quoted, with everything escaped that could end the line or the string. Bytes above 0x7f pass only
 * in text; as JSON they become \u00XX, which is safe whatever the encoding was. */
static void put_string(struct line *l, struct span s)
{
    bool cut = s.n > VALUE_MAX_BYTES;
    char esc[8];

    s.n = MIN(s.n, (size_t)VALUE_MAX_BYTES);
    puts_(l, "\"");
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c == '"' || c == '\\') {
            snprintf(esc, sizeof esc, "\\%c", c);
            puts_(l, esc);
        } else if (c < 0x20 || c >= 0x7f) {
            snprintf(esc, sizeof esc, "\\u%04x", c);
            puts_(l, esc);
        } else {
            put(l, s.p + i, 1);
        }
    }
    puts_(l, cut ? "...\"" : "\"");
}

static void put_value(struct line *l, const struct log_pair *pair, int error)
{
    char number[32];

    switch (pair->kind) {
    case LOG_PAIR_STR:
        put_string(l, pair->s);
        return;
    case LOG_PAIR_INT:
        snprintf(number, sizeof number, "%lld", (long long)pair->i);
        break;
    case LOG_PAIR_UINT:
        snprintf(number, sizeof number, "%llu", (unsigned long long)pair->u);
        break;
    case LOG_PAIR_ERRNO:
        put_string(l, span_str(strerrordesc_np(error)));
        return;
    }
    puts_(l, number);
}

static void print_text(struct line *l, enum log_level level, const char *message,
                       const struct log_pair *pairs, size_t n, int error)
{
    char when[CLOCK_TEXT_MAX];

    puts_(l, clock_text(clock_wall_ms(), when));
    puts_(l, " ");
    puts_(l, level_names[level]);
    puts_(l, " ");
    puts_(l, message);
    for (size_t i = 0; i < n; i++) {
        puts_(l, " ");
        puts_(l, pairs[i].key);
        puts_(l, "=");
        put_value(l, &pairs[i], error);
    }
}

static void print_json(struct line *l, enum log_level level, const char *message,
                       const struct log_pair *pairs, size_t n, int error)
{
    char when[CLOCK_TEXT_MAX];

    puts_(l, "{\"time\":\"");
    puts_(l, clock_text(clock_wall_ms(), when));
    puts_(l, "\",\"level\":\"");
    puts_(l, level_names[level]);
    puts_(l, "\",\"message\":");
    put_string(l, span_str(message));
    for (size_t i = 0; i < n; i++) {
        size_t before = l->n;
        puts_(l, ",");
        put_string(l, span_str(pairs[i].key));
        puts_(l, ":");
        put_value(l, &pairs[i], error);
        if (l->n == sizeof l->p - 2) { /* did not fit: leave the pair out, keep the line JSON */
            l->n = before;
            break;
        }
    }
    l->p[l->n++] = '}';
}

const char *const *log_level_words(void)
{
    return level_names;
}

const char *const *log_format_words(void)
{
    return format_names;
}

void log_init(enum log_format format, enum log_level least)
{
    atomic_store_explicit(&settings.format, (int)format, memory_order_relaxed);
    log_set_level(least);
}

void log_set_level(enum log_level least)
{
    atomic_store_explicit(&settings.least, (int)least, memory_order_relaxed);
}

enum log_level log_level(void)
{
    return (enum log_level)atomic_load_explicit(&settings.least, memory_order_relaxed);
}

static void print(struct line *l, enum log_level level, const char *message,
                  const struct log_pair *pairs, size_t n, int error)
{
    bool json = atomic_load_explicit(&settings.format, memory_order_relaxed) == LOG_JSON;

    l->n = 0;
    (json ? print_json : print_text)(l, level, message, pairs, n, error);
    l->p[l->n++] = '\n';
}

/* Whether stderr took the line. It may be a pipe that others write to as well, so it is not made
 * non-blocking: it is asked first. A pipe that can be written to takes a page, which is the longest
 * line, and the lock keeps our other threads from taking that room in between. */
static bool put_out(const struct line *l)
{
    struct pollfd p = { .fd = STDERR_FILENO, .events = POLLOUT };

    return poll(&p, 1, 0) == 1 && (p.revents & POLLOUT) && write(p.fd, l->p, l->n) >= 0;
}

/* The lock is held. Lines that got lost are told of before the next one. */
static void put_line(const struct line *l)
{
    struct line told;

    if (out.lost > 0) {
        struct log_pair lines = KU("lines", out.lost);
        print(&told, LOG_WARN, "lines of this log are lost: stderr could not take them", &lines, 1,
              0);
        if (put_out(&told))
            out.lost = 0;
    }
    if (out.lost > 0 || !put_out(l))
        out.lost++;
}

void log_line(enum log_level level, const char *message, const struct log_pair *pairs, size_t n)
{
    int error = errno;
    struct line l;

    if (level < log_level())
        return;
    print(&l, level, message, pairs, n, error);
    pthread_mutex_lock(&out.lock);
    put_line(&l);
    pthread_mutex_unlock(&out.lock);
    errno = error;
}

void log_plain(const char *prefix, const char *text)
{
    struct pollfd p = { .fd = STDERR_FILENO, .events = POLLOUT };
    struct line l = { .n = 0 };

    puts_(&l, prefix);
    puts_(&l, text);
    l.p[l.n++] = '\n';
    poll(&p, 1, PLAIN_WAIT_MS); /* not under the lock: others have no time */
    pthread_mutex_lock(&out.lock);
    put_line(&l);
    pthread_mutex_unlock(&out.lock);
}

bool log_limit_pass(struct log_limit *l, uint64_t *left_out)
{
    int64_t now = clock_mono_ms() + 1, last = atomic_load(&l->last_ms); /* 0 is "never" */

    if ((last != 0 && now - last < 1000) ||
        !atomic_compare_exchange_strong(&l->last_ms, &last, now)) {
        atomic_fetch_add(&l->left_out, 1);
        return false;
    }
    *left_out = atomic_exchange(&l->left_out, 0);
    return true;
}
