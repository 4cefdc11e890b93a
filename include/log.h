/* log - lines for the operator on stderr, as text or JSON.
 *
 * The message is a constant, so it can be searched for and counted; values are typed pairs. Never a
 * body, a secret or a signature. Control bytes in values are escaped and long values cut, so that
 * nobody outside can write a line of ours. Any thread may call; one write(2) a line; errno is kept.
 *
 *     log_warn("segment not sealed", KS("path", s->path), KU("bytes", s->len), KERRNO());
 */
#pragma once

#include <stdatomic.h>

#include "span.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };
enum log_format { LOG_TEXT, LOG_JSON };

struct log_pair {
    const char *key;
    enum { LOG_PAIR_STR, LOG_PAIR_INT, LOG_PAIR_UINT, LOG_PAIR_ERRNO } kind;
    struct span s;
    int64_t i;
    uint64_t u;
};

#define KS(k, v) ((struct log_pair){ .key = (k), .kind = LOG_PAIR_STR, .s = span_str(v) })
#define KSPAN(k, v) ((struct log_pair){ .key = (k), .kind = LOG_PAIR_STR, .s = (v) })
#define KI(k, v) ((struct log_pair){ .key = (k), .kind = LOG_PAIR_INT, .i = (int64_t)(v) })
#define KU(k, v) ((struct log_pair){ .key = (k), .kind = LOG_PAIR_UINT, .u = (uint64_t)(v) })
#define KERRNO() ((struct log_pair){ .key = "error", .kind = LOG_PAIR_ERRNO })

/* Any thread, at any time; the lines of others that are being written keep what was. */
void log_init(enum log_format format, enum log_level least);
void log_set_level(enum log_level least);
enum log_level log_level(void);
const char *const *log_level_words(void); /* NULL-ended, in the order of enum log_level */
const char *const *log_format_words(void);

void log_line(enum log_level level, const char *message, const struct log_pair *pairs, size_t n);

/* A line as it is, for what an editor or a script reads: FILE:LINE: message. Only at a start and a
 * reload: it waits a moment for a reader. */
void log_plain(const char *prefix, const char *text);

#define LOG_PAIRS_(...) ((const struct log_pair[]){ { .key = NULL }, ##__VA_ARGS__ })
#define LOG_(level, msg, ...)                                                                      \
    log_line(level, msg, LOG_PAIRS_(__VA_ARGS__) + 1, ARRAY_LEN(LOG_PAIRS_(__VA_ARGS__)) - 1)
#define log_debug(msg, ...) LOG_(LOG_DEBUG, msg, ##__VA_ARGS__)
#define log_info(msg, ...) LOG_(LOG_INFO, msg, ##__VA_ARGS__)
#define log_warn(msg, ...) LOG_(LOG_WARN, msg, ##__VA_ARGS__)
#define log_error(msg, ...) LOG_(LOG_ERROR, msg, ##__VA_ARGS__)

/* One cause of repeated lines: the first passes, then at most one a second, which carries how many
 * were left out. Give each cause its own (zero-initialised, any thread). `left_out` gets the count.
 */
struct log_limit {
    _Atomic int64_t last_ms;
    _Atomic uint64_t left_out;
};
bool log_limit_pass(struct log_limit *l, uint64_t *left_out);
