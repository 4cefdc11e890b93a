/* SPDX-License-Identifier: Apache-2.0 */
/* The access log: what a line says, what cannot get into one, and that a reader who stands still
 * holds up no writer. */
#include "table.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "access/room.h"

/* --- one line
 * ------------------------------------------------------------------------------------ */

static const struct row {
    const char *name;
    struct access_entry e;
    const char *text, *json;
} rows[] = {
    { "an accepted delivery",
      { .request = 0x2a,
        .lsn = 7,
        .time_ms = 1700000000045,
        .bytes = 600,
        .duration_us = 812,
        .status = 200,
        .source = "demo",
        .method = "POST",
        .result = "accepted",
        .peer = { AF_INET, { 192, 0, 2, 1 } },
        .id = S("msg_1"),
        .type = S("a.b") },
      "2023-11-14T22:13:20.045Z request=000000000000002a remote=192.0.2.1 method=POST source=demo "
      "status=200 result=accepted bytes=600 duration_us=812 id=\"msg_1\" type=\"a.b\" lsn=7\n",
      "{\"time\":\"2023-11-14T22:13:20.045Z\",\"request\":\"000000000000002a\",\"remote\":"
      "\"192.0.2.1\",\"method\":\"POST\",\"source\":\"demo\",\"status\":200,\"result\":"
      "\"accepted\",\"bytes\":600,\"duration_us\":812,\"id\":\"msg_1\",\"type\":\"a.b\","
      "\"lsn\":7}\n" },
    { "a refusal that was no HTTP",
      { .request = 1,
        .time_ms = 1700000000999,
        .status = 400,
        .source = "-",
        .result = "bad_request_line" },
      "2023-11-14T22:13:20.999Z request=0000000000000001 remote=gone source=- status=400 "
      "result=bad_request_line bytes=0 duration_us=0\n",
      "{\"time\":\"2023-11-14T22:13:20.999Z\",\"request\":\"0000000000000001\",\"remote\":"
      "\"gone\",\"source\":\"-\",\"status\":400,\"result\":\"bad_request_line\",\"bytes\":0,"
      "\"duration_us\":0}\n" },
    { "what would end a line, a string, or speak to a terminal",
      { .request = 1,
        .time_ms = 1700000001000,
        .status = 404,
        .source = "-",
        .method = "GET",
        .result = "not_found",
        .reason = "stale",
        .path = S("/\n\"\\\x1b[2J\x9b\x7f\xff") },
      "2023-11-14T22:13:21.000Z request=0000000000000001 remote=gone method=GET source=- "
      "path=\"/\\u000a\\\"\\\\\\u001b[2J\\u009b\\u007f\\u00ff\" status=404 result=not_found "
      "reason=stale bytes=0 duration_us=0\n",
      "{\"time\":\"2023-11-14T22:13:21.000Z\",\"request\":\"0000000000000001\",\"remote\":"
      "\"gone\",\"method\":\"GET\",\"source\":\"-\",\"path\":\"/\\u000a\\\"\\\\\\u001b[2J\\u009b"
      "\\u007f\\u00ff\",\"status\":404,\"result\":\"not_found\",\"reason\":\"stale\",\"bytes\":0,"
      "\"duration_us\":0}\n" },
};

static void line(void **state)
{
    static struct line_memory m; /* of the row before: the second and the peer are remembered */
    const struct row *r = *state;
    struct buf b = BUF_INIT;

    line_write(&b, ACCESS_TEXT, &r->e, &m);
    assert_string_equal(buf_cstr(&b), r->text);
    b.n = 0;
    line_write(&b, ACCESS_JSON, &r->e, &m);
    assert_string_equal(buf_cstr(&b), r->json);
    buf_free(&b);
}

/* --- the whole
 * ----------------------------------------------------------------------------------- */

static double metric(const struct access *a, const char *name)
{
    struct buf b = BUF_INIT;
    const char *at;
    double v;

    access_metrics(a, &b);
    at = strstr(buf_cstr(&b), name);
    assert_non_null(at);
    v = atof(at + strlen(name));
    buf_free(&b);
    return v;
}

#define WRITTEN "\nhookline_access_log_lines_total "
#define FULL "\nhookline_access_log_dropped_total{reason=\"full\"} "
#define OUTPUT "\nhookline_access_log_dropped_total{reason=\"output\"} "

static struct access_entry entry(int status, const char *id)
{
    return (struct access_entry){
        .request = 1, .status = status, .source = "demo", .result = "x", .id = span_str(id)
    };
}

static void what_is_long_is_cut(void **state UNUSED)
{
    struct access_entry e;
    char id[1025], got[4096];
    struct access *a;
    ssize_t n;
    int p[2];

    memset(id, '\n', sizeof id - 1);
    id[sizeof id - 1] = '\0';
    e = entry(200, id);
    assert_int_equal(pipe(p), 0);
    a = access_new(1, p[1]);
    access_use(a, ACCESS_TEXT);
    access_note(a, 0, &e);
    access_free(a);
    n = read(p[0], got, sizeof got - 1);
    assert_true(n > 0);
    got[n] = '\0';
    assert_non_null(strstr(got, "\\u000a...\"\n"));
    assert_int_equal(strlen(strstr(got, "id=")), 3 + 1 + 124 * 6 + 3 + 2);
    close(p[0]);
    close(p[1]);
}

/* Two threads' worth of entries through one pipe: every line is there, whole. */
static void all_come_out(void **state UNUSED)
{
    static const char path[] = "build/access-test";
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    struct access *a = access_new(2, fd);
    struct access_entry e = entry(200, "msg");
    char line_got[512];
    FILE *f;
    int lines = 0;

    access_use(a, ACCESS_JSON);
    for (int i = 0; i < 5000; i++)
        access_note(a, (unsigned)i % 2, &e);
    access_use(a, ACCESS_OFF);
    access_free(a);
    f = fopen(path, "re");
    for (; fgets(line_got, sizeof line_got, f); lines++)
        assert_string_equal(strstr(line_got, "\"id\""), "\"id\":\"msg\"}\n");
    assert_int_equal(lines, 5000);
    fclose(f);
    close(fd);
    unlink(path);
}

/* The pipe is full and nobody reads: buffers fill, the rest is counted, and refusals leave half of
 * the room to what is genuine. */
static void nobody_reads(void **state UNUSED)
{
    struct access_entry bad = entry(401, ""), good = entry(200, "");
    double refused, before;
    struct access *a;
    int p[2];

    assert_int_equal(pipe(p), 0);
    a = access_new(1, p[1]);
    access_use(a, ACCESS_TEXT);
    for (int i = 0; metric(a, FULL) < 1000; i++)
        access_note(a, 0, &bad);
    refused = metric(a, FULL);
    for (int i = 0; i < 1000; i++)
        access_note(a, 0, &good);
    before = metric(a, FULL);
    assert_true(before == refused);
    for (int i = 0; metric(a, FULL) < before + 10; i++)
        access_note(a, 0, &good);
    access_free(a);
    close(p[0]);
    close(p[1]);
}

static void the_reader_is_gone(void **state UNUSED)
{
    struct access_entry e = entry(200, "");
    struct access *a;
    int p[2];

    assert_int_equal(pipe(p), 0);
    close(p[0]);
    a = access_new(1, p[1]);
    access_use(a, ACCESS_TEXT);
    access_note(a, 0, &e);
    for (int i = 0; i < 20000 && metric(a, OUTPUT) < 1; i++)
        usleep(1000);
    assert_true(metric(a, OUTPUT) == 1 && metric(a, WRITTEN) == 0);
    access_free(a);
    close(p[1]);
}

int main(void)
{
    static const struct CMUnitTest tests[] = { cmocka_unit_test(what_is_long_is_cut),
                                               cmocka_unit_test(all_come_out),
                                               cmocka_unit_test(nobody_reads),
                                               cmocka_unit_test(the_reader_is_gone) };

    signal(SIGPIPE, SIG_IGN);
    return T_TABLE(rows, line) + T_RUN(tests);
}
