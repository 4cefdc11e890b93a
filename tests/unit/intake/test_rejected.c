/* SPDX-License-Identifier: Apache-2.0 */
/* The rings of what was refused: bounded, one a source, the newest first, and words made of facts.
 */
#include "table.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "intake/room.h"

static struct rejected made(int64_t time_ms, const char *text)
{
    struct rejected r = { .request = 42,
                          .time_ms = time_ms,
                          .skew_ms = INT64_MIN,
                          .verdict = VERDICT_BAD_SIGNATURE,
                          .status = 401,
                          .peer = { AF_INET, { 192, 0, 2, 1 } },
                          .text_n = strlen(text) };

    memcpy(r.text, text, r.text_n);
    return r;
}

static void add(const char *source, int64_t time_ms, const char *text)
{
    struct rejected r = made(time_ms, text);

    rejected_add(&source_stats_get(source)->rejected, &r);
}

static char *shown(const char *source, uint64_t limit)
{
    struct buf b = BUF_INIT;

    intake_rejected(span_str(source), limit, &b);
    return buf_take(&b);
}

static size_t count(const char *text, const char *what)
{
    size_t n = 0;

    for (const char *at = text; (at = strstr(at, what)); at++)
        n++;
    return n;
}

static void expect(const char *source, uint64_t limit, const char *want)
{
    char *text = shown(source, limit);

    assert_string_equal(text, want);
    free(text);
}

static void nothing_yet(void **state UNUSED)
{
    source_stats_get("empty");
    expect("empty", 100, "{\"rejected\":[]}");
    expect("nobody", 100, "{\"rejected\":[]}");
}

static void one_in_full(void **state UNUSED)
{
    add("one", 1700000000123, "x 'y'");
    expect("one", 100,
           "{\"rejected\":[{\"time\":\"2023-11-14T22:13:20.123Z\",\"request\":"
           "\"000000000000002a\",\"source\":\"one\",\"status\":401,"
           "\"reason\":\"bad_signature\",\"detail\":\"x 'y'\",\"remote\":\"192.0.2.1\"}]}");
}

static void a_ring_is_bounded(void **state UNUSED)
{
    char number[16], *text;

    add("quiet", 1, "the only one");
    for (int i = 0; i < 5 * REJECTED_MAX; i++) {
        snprintf(number, sizeof number, "<%d>", i);
        add("loud", 1000 + i, number);
    }
    text = shown("loud", UINT64_MAX);
    assert_int_equal(count(text, "\"time\""), REJECTED_MAX);
    assert_null(strstr(text, "<255>"));
    assert_true(strstr(text, "<319>") < strstr(text, "<318>"));
    assert_non_null(strstr(text, "<256>"));
    free(text);
    text = shown("quiet", UINT64_MAX);
    assert_int_equal(count(text, "the only one"), 1);
    free(text);
}

static void sources_are_merged(void **state UNUSED)
{
    char *text;

    add("left", 9000000000001, "first");
    add("right", 9000000000002, "second");
    add("left", 9000000000003, "third");
    text = shown("", 3);
    assert_int_equal(count(text, "\"time\""), 3);
    assert_true(strstr(text, "third") < strstr(text, "second"));
    assert_true(strstr(text, "second") < strstr(text, "first"));
    free(text);
    text = shown("left", 1);
    assert_int_equal(count(text, "third"), 1);
    assert_int_equal(count(text, "\"time\""), 1);
    free(text);
}

static const struct row {
    const char *name, *why;
    int64_t skew_ms;
    const char *want;
} rows[] = {
    { "behind", NULL, 301000, "the signed time is 301.000 s behind our clock; t" },
    { "ahead", NULL, -1500, "the signed time is 1.500 s ahead of our clock; t" },
    { "far off", NULL, INT64_MAX, "the signed time is 9223372036854775.807 s behind our clock; t" },
    { "why", "because", INT64_MIN, "\"because; t\"" },
    { "both", "because", 0, "because; the signed time is 0.000 s behind our clock; t" },
};

static void words(void **state)
{
    const struct row *row = *state;
    struct rejected r = made(1, "t");
    char *text;

    r.why = row->why;
    r.skew_ms = row->skew_ms;
    rejected_add(&source_stats_get(row->name)->rejected, &r);
    text = shown(row->name, 1);
    assert_non_null(strstr(text, row->want));
    free(text);
}

static void a_full_text_says_so(void **state UNUSED)
{
    char full[SOURCE_EXPLAIN_MAX + 1], *text;

    memset(full, 'x', SOURCE_EXPLAIN_MAX);
    full[SOURCE_EXPLAIN_MAX] = '\0';
    add("full", 1, full);
    text = shown("full", 1);
    assert_non_null(strstr(text, "xx...\""));
    free(text);
}

static void every_peer(void **state UNUSED)
{
    static const struct {
        struct net_peer peer;
        const char *want;
    } peers[] = {
        { { AF_INET6, { [15] = 1 } }, "\"remote\":\"::1\"" },
        { { AF_UNIX, { 0 } }, "\"remote\":\"unix\"" },
        { { AF_UNSPEC, { 0 } }, "\"remote\":\"gone\"" },
    };
    struct rejected r = made(1, "t");
    char *text;

    for (size_t i = 0; i < ARRAY_LEN(peers); i++) {
        r.peer = peers[i].peer;
        r.time_ms++;
        rejected_add(&source_stats_get("peers")->rejected, &r);
        text = shown("peers", 1);
        assert_non_null(strstr(text, peers[i].want));
        free(text);
    }
}

/* Under tsan: several write, one reads. */
static void *writer(void *arg)
{
    for (int i = 0; i < 2000; i++)
        add(arg, i, "AAAA");
    return NULL;
}

static void threads(void **state UNUSED)
{
    pthread_t t[3];
    char *text;

    source_stats_get("busy"); /* made before they start, as by a configuration */
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&t[i], NULL, writer, (void *)(uintptr_t) "busy"), 0);
    for (int i = 0; i < 50; i++) {
        text = shown("busy", UINT64_MAX);
        assert_int_equal(count(text, "\"AAAA\""), count(text, "\"time\""));
        free(text);
    }
    for (size_t i = 0; i < 3; i++)
        pthread_join(t[i], NULL);
    assert_int_equal(source_stats_get("busy")->rejected.count, 6000);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_yet),         cmocka_unit_test(one_in_full),
        cmocka_unit_test(a_ring_is_bounded),   cmocka_unit_test(sources_are_merged),
        cmocka_unit_test(a_full_text_says_so), cmocka_unit_test(threads),
        cmocka_unit_test(every_peer),
    };

    return T_RUN(tests) | T_TABLE(rows, words);
}
