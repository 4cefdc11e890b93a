/* SPDX-License-Identifier: Apache-2.0 */
/* The bounds of deduplication: what a full index forgets, how far back it says that it reaches, and
 * that both outlive a restart. */
#include "wal/box.h"

#define ENTRIES 50

/* A delivery that came so many seconds ago. */
static enum wal_result deliver(struct box *b, unsigned n, int seconds)
{
    char id[16];
    struct one o = { .append = { .reply = &b->in,
                                 .done = on_done,
                                 .dedup = true,
                                 .rec = { .kind = RECORD_WEBHOOK,
                                          .time_ms = clock_wall_ms() - seconds * INT64_C(1000),
                                          .source = S("demo"),
                                          .type = S("a.b"),
                                          .body = S("{}") } } };

    snprintf(id, sizeof id, "%u", n);
    o.append.rec.id = span_str(id);
    submit(b, &o);
    return o.append.result;
}

/* Seconds, of the metric. */
static double reach(const struct box *b)
{
    static const char name[] = "\nhookline_dedup_reach_seconds ";
    struct buf text = BUF_INIT;
    const char *at;
    double v;

    wal_metrics(b->wal, &text);
    at = strstr(buf_cstr(&text), name);
    assert_non_null(at);
    v = atof(at + sizeof name - 1);
    buf_free(&text);
    return v;
}

/* A busy machine takes its time. */
static void assert_reach(const struct box *b, double seconds)
{
    double v = reach(b);

    if (v < seconds || v > seconds + 60)
        fail_msg("reaches %g s, not %g s", v, seconds);
}

static void a_full_index_forgets_the_oldest_and_says_so(void **state)
{
    struct box *b = *state;

    b->dedup.entries = ENTRIES;
    open_log(b);
    assert_true(reach(b) == 0);
    for (unsigned n = 0; n < ENTRIES; n++)
        assert_int_equal(deliver(b, n, 3000 - (int)n), WAL_DURABLE);
    assert_reach(b, 3000); /* all of them are known */
    for (unsigned n = 0; n < ENTRIES; n++)
        assert_int_equal(deliver(b, n, 0), WAL_DUPLICATE);
    for (unsigned n = 0; n < 10; n++)
        assert_int_equal(deliver(b, ENTRIES + n, 2000), WAL_DURABLE);
    assert_reach(b, 2990); /* ten less */
    assert_int_equal(deliver(b, 10, 0), WAL_DUPLICATE);
    assert_int_equal(deliver(b, 9, 1000), WAL_DURABLE); /* forgotten, and taken for new */
    assert_int_equal(deliver(b, 9, 0), WAL_DUPLICATE);
    assert_int_equal(deliver(b, 10, 1000), WAL_DURABLE); /* it made room for that one */
}

static void a_restart_knows_as_much(void **state)
{
    struct box *b = *state;

    b->dedup.entries = ENTRIES;
    open_log(b);
    for (unsigned n = 0; n < 2 * ENTRIES; n++)
        assert_int_equal(deliver(b, n, 3000 - (int)n), WAL_DURABLE);
    assert_reach(b, 2950);
    wal_close(b->wal);
    open_log(b);
    assert_int_equal(deliver(b, 2 * ENTRIES - 1, 0), WAL_DUPLICATE);
    assert_reach(b, 2950);
    for (unsigned n = ENTRIES; n < 2 * ENTRIES; n++)
        assert_int_equal(deliver(b, n, 0), WAL_DUPLICATE);
    assert_int_equal(deliver(b, ENTRIES - 1, 0), WAL_DURABLE);
}

static void the_window_ends_before_a_large_index_does(void **state)
{
    struct box *b = *state;

    b->dedup.window_ms = 100000;
    open_log(b);
    assert_int_equal(deliver(b, 1, 1000), WAL_DURABLE);
    assert_int_equal(deliver(b, 2, 1000), WAL_DURABLE);
    assert_int_equal(deliver(b, 1, 950), WAL_DUPLICATE);
    assert_int_equal(deliver(b, 1, 0), WAL_DURABLE);
    assert_int_equal(deliver(b, 1, 0), WAL_DUPLICATE);
}

#define WITH_LOG(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        WITH_LOG(a_full_index_forgets_the_oldest_and_says_so),
        WITH_LOG(a_restart_knows_as_much),
        WITH_LOG(the_window_ends_before_a_large_index_does),
    };

    return T_RUN(tests);
}
