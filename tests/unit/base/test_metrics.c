/* SPDX-License-Identifier: Apache-2.0 */
/* The text that Prometheus reads, and log lines that nobody outside can forge. */
#include "table.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "err.h"
#include "log.h"
#include "metrics.h"

static void values_and_labels(void **state UNUSED)
{
    struct buf b = BUF_INIT;

    metrics_head(&b, "hookline_x_total", "counter", "What x counts.");
    metrics_value(&b, "hookline_x_total", 3, "source", "a\"b", "code", "200", NULL);
    metrics_value(&b, "hookline_y", 0.25, NULL);
    assert_string_equal(buf_cstr(&b), "# HELP hookline_x_total What x counts.\n"
                                      "# TYPE hookline_x_total counter\n"
                                      "hookline_x_total{source=\"a\\\"b\",code=\"200\"} 3\n"
                                      "hookline_y 0.25\n");
    buf_free(&b);
}

static void histogram_counts_up(void **state UNUSED)
{
    struct buf b = BUF_INIT;
    struct histogram one, sum;
    const char *text;

    histogram_init_seconds(&one);
    histogram_init_seconds(&sum);
    histogram_add(&one, 50);       /* on the bound: inside */
    histogram_add(&one, 51);       /* next bucket */
    histogram_add(&one, 60000000); /* above all */
    histogram_merge(&sum, &one);
    metrics_histogram(&b, "h", &sum, "s", "x", NULL);
    text = buf_cstr(&b);
    assert_non_null(strstr(text, "h_bucket{s=\"x\",le=\"5e-05\"} 1\n"));
    assert_non_null(strstr(text, "h_bucket{s=\"x\",le=\"0.0001\"} 2\n"));
    assert_non_null(strstr(text, "h_bucket{s=\"x\",le=\"10\"} 2\n"));
    assert_non_null(strstr(text, "h_bucket{s=\"x\",le=\"+Inf\"} 3\n"));
    assert_non_null(strstr(text, "h_sum{s=\"x\"} 60.000101\n"));
    assert_non_null(strstr(text, "h_count{s=\"x\"} 3\n"));
    buf_free(&b);
}

/* What one log call writes to stderr. */
static size_t captured(enum log_format format, struct span value, char *out, size_t cap)
{
    int pipefd[2], keep = dup(STDERR_FILENO);
    ssize_t n;

    assert_int_equal(pipe(pipefd), 0);
    dup2(pipefd[1], STDERR_FILENO);
    log_init(format, LOG_INFO);
    log_debug("not shown");
    log_warn("refused", KSPAN("value", value), KU("n", 7));
    dup2(keep, STDERR_FILENO);
    close(keep);
    close(pipefd[1]);
    n = read(pipefd[0], out, cap - 1);
    close(pipefd[0]);
    assert_true(n > 0);
    out[n] = '\0';
    return (size_t)n;
}

static void log_lines_cannot_be_forged(void **state UNUSED)
{
    char out[8192], long_value[3000];

    captured(LOG_TEXT, S("a\nfake level=error \x1b[31m\xff"), out, sizeof out);
    assert_non_null(
        strstr(out, " warn refused value=\"a\\u000afake level=error \\u001b[31m\\u00ff\" n=7\n"));
    assert_ptr_equal(strchr(out, '\n'), out + strlen(out) - 1);
    captured(LOG_JSON, S("q\"}\n{"), out, sizeof out);
    assert_non_null(strstr(out, "\"message\":\"refused\",\"value\":\"q\\\"}\\u000a{\",\"n\":7}\n"));
    memset(long_value, 'x', sizeof long_value);
    assert_true(captured(LOG_TEXT, span_of(long_value, sizeof long_value), out, sizeof out) < 700);
}

static void one_cause_one_line_a_second(void **state UNUSED)
{
    struct log_limit l = { 0 };
    uint64_t left_out = 99;
    unsigned passed = 0;

    for (int i = 0; i < 1000; i++)
        passed += log_limit_pass(&l, &left_out);
    assert_in_range(passed, 1, 999);
    assert_int_equal(left_out, 0);
    l.last_ms -= 1000;
    assert_true(log_limit_pass(&l, &left_out));
    assert_int_equal(left_out + passed, 1000);
}

static void errors_read_from_the_outside_in(void **state UNUSED)
{
    struct err e = ERR_INIT;

    assert_int_equal(err_set(&e, EXIT_DAMAGED, "record %d: checksum mismatch", 7), -1);
    err_wrap(&e, "segment %s", "41.wal");
    assert_string_equal(e.text, "segment 41.wal: record 7: checksum mismatch");
    assert_int_equal(e.code, EXIT_DAMAGED);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_and_labels),
        cmocka_unit_test(histogram_counts_up),
        cmocka_unit_test(log_lines_cannot_be_forged),
        cmocka_unit_test(one_cause_one_line_a_second),
        cmocka_unit_test(errors_read_from_the_outside_in),
    };

    return T_RUN(tests);
}
