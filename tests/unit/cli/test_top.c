/* SPDX-License-Identifier: Apache-2.0 */
/* What `hookline top` makes of two looks: every figure, cut to the size, nothing raw from outside.
 */
#include <string.h>

#include "cli/top.h"
#include "table.h"

#define ACK(fast, slow, all)                                                                       \
    "hookline_ack_duration_seconds_bucket{le=\"0.001\"} " fast "\n"                                \
    "hookline_ack_duration_seconds_bucket{le=\"0.002\"} " slow "\n"                                \
    "hookline_ack_duration_seconds_bucket{le=\"+Inf\"} " all "\n"
#define SOURCES(demo, repeats, refused)                                                            \
    "# HELP hookline_accepted_total Deliveries that became durable.\n"                             \
    "hookline_accepted_total{source=\"demo\"} " demo "\n"                                          \
    "hookline_accepted_total{source=\"demo-2\"} 7\n"                                               \
    "hookline_duplicates_total{source=\"demo\"} " repeats "\n"                                     \
    "hookline_rejected_total{source=\"demo\",reason=\"stale\"} " refused "\n"                      \
    "hookline_rejected_total{source=\"demo\",reason=\"unsigned\"} 4\n"
#define SINK(delivered)                                                                            \
    "hookline_sink_lsn{sink=\"events\"} 40\nhookline_sink_lag_events{sink=\"events\"} 2\n"         \
    "hookline_sink_lag_seconds{sink=\"events\"} 0.25\n"                                            \
    "hookline_sink_delivered_total{sink=\"events\"} " delivered "\n"                               \
    "hookline_dead_events{sink=\"events\"} 3\n"
#define REST                                                                                       \
    "hookline_log_bytes 67108864\nhookline_log_backlog_bytes 1536\n"                               \
    "hookline_log_free_bytes 9e9\nhookline_connections 5\nhookline_log_last_lsn 42\n"              \
    "hookline_jobs 9\nhookline_jobs_expected 2\nhookline_jobs_overdue_total 1\n"
#define STATUS(state, reason)                                                                      \
    "{\"version\":\"1.2.3\",\"uptime_seconds\":90,\"log\":{\"state\":\"ok\",\"durable_lsn\":42},"  \
    "\"sinks\":{\"events\":{\"state\":\"" state "\",\"reason\":\"" reason "\"}},"                  \
    "\"jobs\":{\"known\":9,\"expected\":2,\"finished\":6,\"waiting\":1,\"overdue_total\":1}}"

static const char *const first = ACK("10", "10", "10") SOURCES("100", "5", "1") SINK("38") REST;
static const char *const second = ACK("60", "109", "110") SOURCES("350", "5", "3") SINK("40") REST;

static struct top_shot shot(const char *metrics, const char *status, int64_t at_ms)
{
    struct top_shot s = { .at_ms = at_ms };

    buf_adds(&s.metrics, metrics);
    buf_adds(&s.status, status);
    return s;
}

static void drop(struct top_shot *s)
{
    buf_free(&s->metrics);
    buf_free(&s->status);
}

/* The screen of two looks two seconds apart; of the second alone where there is no first. */
static char *screen(const char *before, const char *now, const char *status, struct top_size size)
{
    struct top_shot a = shot(before ? before : "", status, 1000), b = shot(now, status, 3000);
    struct buf out = BUF_INIT;

    top_screen(before ? &a : NULL, &b, "http://h:1", &size, &out);
    drop(&a);
    drop(&b);
    return buf_take(&out);
}

static void every_figure(void **state)
{
    char *text = screen(first, second, STATUS("running", ""), (struct top_size){ 120, 50, false });

    (void)state;
    assert_string_equal(
        text,
        "hookline 1.2.3  up 90.0 s  http://h:1\n"
        "log   ok  durable LSN 42  size 64.0 MiB  backlog 1.5 KiB  disk free 8.4 GiB\n"
        "ack   p50 1.00 ms  p99 2.00 ms  connections 5\n"
        "sync  p50 -  p99 -\n"
        "jobs  9 known  2 expected  6 finished  1 waiting requests  1 overdue since the start\n"
        "\n"
        "SINK                     STATE       DELIVERED/S   LAG EVENTS        LAG     DEAD\n"
        "events                   running             1.0            2     250 ms        3\n"
        "\n"
        "SOURCE                     ACCEPTED/S    REFUSED/S  DUPLICATE/S       ACCEPTED\n"
        "demo                              125          1.0            0            350\n"
        "demo-2                              0            0            0              7");
    free(text);
}

static void the_first_look_knows_no_rate(void **state)
{
    char *text = screen(NULL, second, STATUS("running", ""), (struct top_size){ 120, 50, false });

    (void)state;
    assert_non_null(strstr(text, "ack   p50 -  p99 -"));
    assert_non_null(
        strstr(text, "\ndemo                                -            -            -"));
    free(text);
}

static void a_restart_counts_from_zero(void **state)
{
    char *text = screen(second, first, STATUS("running", ""), (struct top_size){ 120, 50, false });

    (void)state;
    assert_non_null(strstr(text, "\ndemo                             50.0"));
    free(text);
}

static void cut_to_the_size(void **state)
{
    static const struct top_size sizes[] = { { 10, 4, false }, { 1, 1, false }, { 200, 8, false } };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        char *text = screen(first, second, STATUS("running", ""), sizes[i]);
        struct span rest = span_str(text);
        unsigned lines = 0;

        for (; rest.p; lines++)
            assert_true(span_cut(&rest, '\n').n <= sizes[i].columns);
        assert_int_equal(lines, sizes[i].rows);
        free(text);
    }
}

static void colours_do_not_count(void **state)
{
    char *text = screen(first, second, STATUS("blocked", "no right to write"),
                        (struct top_size){ 8, 50, true });

    (void)state;
    assert_non_null(strstr(text, "\033[1;31mevents  \033[0m\n\033[1;31m    no r\033[0m\n"));
    assert_non_null(strstr(text, "\033[33mdemo    \033[0m\n"));
    free(text);
}

static void nothing_raw_reaches_the_terminal(void **state)
{
    char *text = screen(first, second, STATUS("retrying", "a\x7f[2J\x9b\xc2\x9b\\u001b"),
                        (struct top_size){ 120, 50, false });

    (void)state;
    assert_non_null(strstr(text, "\n    a?[2J???\\u001b\n"));
    free(text);
}

/* A bridge that recovers has neither sources nor sinks, nor jobs. */
static void nothing_there_yet(void **state)
{
    char *text = screen("", "", "{\"version\":\"1.2.3\",\"log\":{\"state\":\"recovering\"}}",
                        (struct top_size){ 120, 50, true });

    (void)state;
    assert_non_null(strstr(text, "\033[1;31mlog   recovering"));
    assert_null(strstr(text, "jobs"));
    free(text);
    text = screen("", "hookline_accepted_total", "", (struct top_size){ 120, 50, false });
    assert_non_null(strstr(text, "SOURCE"));
    free(text);
}

static void one_line(void **state)
{
    struct top_shot a = shot(first, STATUS("running", ""), 1000),
                    b = shot(second, STATUS("retrying", "away"), 3000);
    struct buf out = BUF_INIT;

    (void)state;
    top_line(&a, &b, "NOW", &out);
    assert_string_equal(buf_cstr(&out),
                        "NOW accepted 125/s refused 1.0/s duplicate 0/s ack p50 1.00 ms p99 2.00 "
                        "ms log ok lsn 42 size 64.0 MiB free 8.4 GiB sink events retrying lag 2 "
                        "dead 3 jobs 9 expected 2 overdue 1\n");
    buf_free(&out);
    drop(&a);
    drop(&b);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_figure),
        cmocka_unit_test(the_first_look_knows_no_rate),
        cmocka_unit_test(a_restart_counts_from_zero),
        cmocka_unit_test(cut_to_the_size),
        cmocka_unit_test(colours_do_not_count),
        cmocka_unit_test(nothing_raw_reaches_the_terminal),
        cmocka_unit_test(nothing_there_yet),
        cmocka_unit_test(one_line),
    };

    return T_RUN(tests);
}
