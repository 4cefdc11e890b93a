/* SPDX-License-Identifier: Apache-2.0 */
/* Programs in their process: what they answer, what they cannot have, how they end, and that
 * nothing is left behind. */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "program.h"
#include "table.h"

#define EVENTUALLY(condition)                                                                      \
    do {                                                                                           \
        int64_t by = clock_mono_ms() + 20000;                                                      \
        while (!(condition) && clock_mono_ms() < by)                                               \
            usleep(5000);                                                                          \
        assert_true(condition);                                                                    \
    } while (0)
#define BODY_MAX 65536

static struct program *made(const char *match, const char *transform, int64_t timeout_ms,
                            struct err *e)
{
    const struct program_cfg cfg = { match, transform, timeout_ms, MIB(64) };
    struct program *p = NULL;

    return program_new(&p, &cfg, BODY_MAX, e) ? NULL : p;
}

static struct program *good(const char *match, const char *transform, int64_t ms)
{
    struct err e = ERR_INIT;
    struct program *p = made(match, transform, ms, &e);

    assert_string_equal(e.text, "");
    assert_non_null(p);
    return p;
}

/* Where a sanitizer is at work: memory that runs out is told to who asked for it, and a fault is a
 * signal, as without one. */
const char *__asan_default_options(void);
const char *__tsan_default_options(void);
const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1:handle_segv=0";
}
const char *__tsan_default_options(void)
{
    return "allocator_may_return_null=1:handle_segv=0";
}

static const struct row {
    const char *name, *match, *transform, *body;
    enum program_verdict want;
    const char *out; /* in full; of a reason: a part */
    int64_t ms;
} rows[] = {
    { "match: true", ".a == 1", "", "{\"a\":1}", PROGRAM_TAKES, "" },
    { "match: false", ".a == 2", "", "{\"a\":1}", PROGRAM_PASSES, "" },
    { "match: null", ".b", "", "{\"a\":1}", PROGRAM_PASSES, "" },
    { "match: nothing", "empty", "", "{}", PROGRAM_PASSES, "" },
    { "match: zero and the empty string are true", "0", "", "{}", PROGRAM_TAKES, "" },
    { "match: the first result counts", "(true, false)", "", "1", PROGRAM_TAKES, "" },
    { "match: an error", ".a.b", "", "{\"a\":1}", PROGRAM_FAILS, "match.jq: Cannot index number" },
    { "match: halt", "halt", "", "1", PROGRAM_FAILS, "match.jq: it halted" },
    { "transform", "", "{ x: .a }", "{\"a\": [1, 2]}", PROGRAM_CHANGES, "{\"x\":[1,2]}" },
    { "transform: the first result", "", ".[]", "[3,4]", PROGRAM_CHANGES, "3" },
    { "transform: null is a value", "", ".a", "{}", PROGRAM_CHANGES, "null" },
    { "transform: nothing", "", "empty", "{}", PROGRAM_FAILS, "transform.jq: it gave no result" },
    { "transform: an error of its own", "", "error(\"so\")", "{}", PROGRAM_FAILS,
      "transform.jq: so" },
    { "transform: an error that is no string", "", "error({x:1})", "{}", PROGRAM_FAILS,
      "transform.jq: {\"x\":1}" },
    { "transform: not ASCII", "", ".", "\"\xC3\xA4\\u20ac\"", PROGRAM_CHANGES,
      "\"\xC3\xA4\xE2\x82\xAC\"" },
    { "transform: too large", "", "[range(20000)]", "1", PROGRAM_FAILS,
      "the result is larger than limits.body_bytes" },
    { "both: passes", ".a", "{}", "{}", PROGRAM_PASSES, "" },
    { "both: changes", ".a", ".a", "{\"a\":\"b\"}", PROGRAM_CHANGES, "\"b\"" },
    { "both: the second fails", ".a", ".a.b", "{\"a\":1}", PROGRAM_FAILS, "transform.jq: Cannot" },
    { "no JSON", ".", "", "a=b", PROGRAM_FAILS, "the body is not JSON" },
    { "no body", ".", "", "", PROGRAM_FAILS, "the body is not JSON" },
    { "two values", ".", "", "1 2", PROGRAM_FAILS, "the body is not JSON" },
    { "the environment is empty", "", "[env, $ENV]", "1", PROGRAM_CHANGES, "[{},{}]" },
    { "no input", "", "input", "1", PROGRAM_FAILS, "transform.jq: " },
    { "no further inputs", "", "[inputs]", "1", PROGRAM_CHANGES, "[]" },
    { "what it prints goes nowhere", "", "debug | stderr", "1", PROGRAM_CHANGES, "1" },
    { "no folder of modules", "", "get_search_list", "1", PROGRAM_CHANGES, "[]" },
    { "a loop", "def f: f; f", "", "1", PROGRAM_FAILS,
      "jq: took more than 300 ms of processor time (jq.timeout)" },
    { "a bomb", "", "reduce range(40) as $i (\"x\"; . + .)", "1", PROGRAM_FAILS,
      "jq: needed more than 67108864 bytes of memory (jq.memory)" },
    { "too deep for its stack", "", "reduce range(4e5) as $i (0; [.]) | length", "1", PROGRAM_FAILS,
      "jq: the process was ended by signal 11, twice", 5000 },
};

static void verdict(void **state)
{
    const struct row *r = *state;
    struct program *p = good(r->match, r->transform, r->ms ? r->ms : 300);
    struct buf out = BUF_INIT;

    for (int again = 0; again < 2; again++) { /* also by the next worker */
        assert_int_equal(program_run(p, span_str(r->body), &out), r->want);
        if (r->want == PROGRAM_FAILS)
            assert_non_null(strstr(buf_cstr(&out), r->out));
        else
            assert_string_equal(buf_cstr(&out), r->out);
    }
    buf_free(&out);
    program_release(p);
}

static const struct wrong {
    const char *name, *match, *transform, *why;
} wrongs[] = {
    { "wrong: syntax", ".a |", "", "match.jq: syntax error" },
    { "wrong: the second", ".", ".\n| foo", "transform.jq: foo/0 is not defined at <top-level>" },
    { "wrong: a module", "import \"x\" as x; .", "", "match.jq: module not found: x" },
    { "wrong: included", "", "include \"x\"; .", "transform.jq: module not found: x" },
    { "wrong: never compiled", "", "[[[", "transform.jq: " },
};

static void refused(void **state)
{
    const struct wrong *w = *state;
    struct err e = ERR_INIT;

    assert_null(made(w->match, w->transform, 1000, &e));
    assert_non_null(strstr(e.text, w->why));
    assert_null(strchr(e.text, '\n'));
}

/* --- processes
 * ----------------------------------------------------------------------------------------- */

static pid_t parent_of(pid_t pid)
{
    char path[64], text[256] = "";
    char *end;
    int fd;

    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, text, sizeof text - 1) <= 0 || !(end = strrchr(text, ')'))) {
        if (fd >= 0)
            close(fd);
        return -1;
    }
    close(fd);
    return end[2] == 'Z' ? -1 : (pid_t)atoi(end + 4);
}

/* The living child of that process with the highest number, 0: none; *n: how many. */
static pid_t child_of(pid_t pid, int *n)
{
    DIR *proc = opendir("/proc");
    pid_t last = 0;

    *n = 0;
    for (struct dirent *d; (d = readdir(proc));)
        if (atoi(d->d_name) && parent_of(atoi(d->d_name)) == pid) {
            last = atoi(d->d_name);
            ++*n;
        }
    closedir(proc);
    return last;
}

static pid_t nursery(void)
{
    int n;
    pid_t pid = child_of(getpid(), &n);

    assert_int_equal(n, 1);
    return pid;
}

static int keepers(void)
{
    int n;

    child_of(nursery(), &n);
    return n;
}

static pid_t the_keeper(void)
{
    int n;

    return child_of(nursery(), &n);
}

static pid_t the_worker(void)
{
    int n;

    return child_of(the_keeper(), &n);
}

static void expect_two(struct program *p)
{
    struct buf out = BUF_INIT;
    enum program_verdict v;
    int64_t by = clock_mono_ms() + 20000;

    while ((v = program_run(p, S("1"), &out)) == PROGRAM_ABSENT && clock_mono_ms() < by)
        usleep(5000);
    assert_int_equal(v, PROGRAM_CHANGES);
    assert_string_equal(buf_cstr(&out), "2");
    buf_free(&out);
}

static void nothing_is_left(void **state UNUSED)
{
    struct program *p, *q;

    EVENTUALLY(keepers() == 0);
    p = good(".", "", 300);
    q = good(".", "", 300);
    assert_int_equal(keepers(), 2);
    program_hold(p);
    program_release(p);
    program_release(q);
    EVENTUALLY(keepers() == 1);
    program_release(p);
    EVENTUALLY(keepers() == 0);
}

static void a_killed_worker_is_followed_by_another(void **state UNUSED)
{
    struct program *p = good("", ". + 1", 300);

    for (int i = 0; i < 3; i++) {
        expect_two(p);
        kill(the_worker(), SIGKILL);
    }
    expect_two(p);
    program_release(p);
    EVENTUALLY(keepers() == 0);
}

static void a_killed_keeper_is_followed_by_another(void **state UNUSED)
{
    struct program *p = good("", ". + 1", 300);

    expect_two(p);
    kill(the_keeper(), SIGKILL);
    expect_two(p);
    program_release(p);
    EVENTUALLY(keepers() == 0);
}

/* What a file would tell must not be had, neither when a program is compiled nor when it runs. */
static void no_file_is_read(void **state UNUSED)
{
    char dir[] = "/tmp/program-XXXXXX", *path, *text;
    struct err e = ERR_INIT;
    struct program *p;
    struct buf out = BUF_INIT;
    FILE *f;

    assert_non_null(mkdtemp(dir));
    path = xasprintf("%s/secret.json", dir);
    f = fopen(path, "we");
    fputs("{\"key\":\"sesame\"}\n", f);
    fclose(f);
    text = xasprintf("import \"secret\" as $s {search:\"%s\"}; $s", dir);
    assert_null(made("", text, 1000, &e));
    assert_null(strstr(e.text, "sesame"));
    free(text);
    text = xasprintf("\"%s/secret\" | modulemeta", dir);
    p = good("", text, 300);
    assert_int_equal(program_run(p, S("1"), &out), PROGRAM_FAILS);
    assert_null(strstr(buf_cstr(&out), "sesame"));
    program_release(p);
    buf_free(&out);
    free(text);
    unlink(path);
    rmdir(dir);
    free(path);
}

static void a_body_too_large(void **state UNUSED)
{
    struct program *p = good(".", "", 300);
    struct buf body = BUF_INIT, out = BUF_INIT;

    buf_addc(&body, '"');
    while (body.n < BODY_MAX)
        buf_addc(&body, 'x');
    buf_addc(&body, '"');
    assert_int_equal(program_run(p, buf_as_span(&body), &out), PROGRAM_FAILS);
    assert_non_null(strstr(buf_cstr(&out), "limits.body_bytes"));
    buf_free(&body);
    buf_free(&out);
    program_release(p);
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_left),
        cmocka_unit_test(a_killed_worker_is_followed_by_another),
        cmocka_unit_test(a_killed_keeper_is_followed_by_another),
        cmocka_unit_test(no_file_is_read),
        cmocka_unit_test(a_body_too_large),
    };
    int rc = program_process(argc, argv);

    if (rc >= 0)
        return rc;
    setenv("SECRET_OF_OURS", "sesame", 1);
    rc = T_TABLE(rows, verdict) + T_TABLE(wrongs, refused) + T_RUN(tests);
    program_end();
    return rc;
}
