/* SPDX-License-Identifier: Apache-2.0 */
/* Token buckets, the table of them, and places. */
#include "table.h"

#include <netinet/in.h>
#include <pthread.h>

#include "address.h"
#include "rate.h"

#define SECOND 1000000
static const struct net_prefixes whole = { 32, 128 }, usual = { 24, 64 };

static struct net_peer peer(const char *text)
{
    struct net_peer p;

    assert_true(address_parse(span_str(text), &p));
    return p;
}

static unsigned taken(struct rate_bucket *b, uint64_t rate, uint64_t burst, int64_t now, unsigned n)
{
    unsigned got = 0;

    for (unsigned i = 0; i < n; i++)
        got += rate_take(b, rate, burst, now);
    return got;
}

static const struct row {
    const char *name;
    uint64_t rate, burst;
    int64_t pause_us;
    unsigned first, after; /* how many of 1000 pass at once, and after the pause */
} rows[] = {
    { "one a second", 1, 1, SECOND, 1, 1 },
    { "too early", 1, 1, SECOND - 1, 1, 0 },
    { "a burst", 1, 10, SECOND, 10, 1 },
    { "a burst comes back in time", 1, 10, 5 * SECOND, 10, 5 },
    { "no more than a burst", 1, 10, 1000 * SECOND, 10, 10 },
    { "a hundred a second", 100, 100, SECOND / 2, 100, 50 },
    { "a million a second", 1000000, 1, 1, 1, 1 },
    { "burst below the rate", 100, 1, SECOND, 1, 1 },
};

static void a_bucket(void **state)
{
    const struct row *r = *state;
    struct rate_bucket b = { 0 };
    int64_t now = 77 * SECOND;

    assert_int_equal(taken(&b, r->rate, r->burst, now, 1000), r->first);
    assert_int_equal(taken(&b, r->rate, r->burst, now + r->pause_us, 1000), r->after);
}

/* What was refused costs nothing: who goes on asking is served as often as one who waits. */
static void refusals_cost_nothing(void **state UNUSED)
{
    struct rate_bucket b = { 0 };
    unsigned got = 0;

    for (int64_t ms = 0; ms < 10000; ms++)
        got += rate_take(&b, 10, 1, 1 + ms * 1000);
    assert_in_range(got, 99, 101);
}

static void networks(void **state UNUSED)
{
    static const struct {
        const char *a, *b;
        bool same;
    } pairs[] = {
        { "192.0.2.1", "192.0.2.1", true },          { "192.0.2.1", "192.0.2.200", true },
        { "192.0.2.1", "192.0.3.1", false },         { "2001:db8::1", "2001:db8::ffff", true },
        { "2001:db8::1", "2001:db8:0:1::1", false }, { "0.0.0.0", "::", false }
    };
    struct rate_table *t = rate_table_new(1024);

    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        struct net_peer a = peer(pairs[i].a), b = peer(pairs[i].b);
        struct rate_bucket *one = rate_table_find(t, &a, &usual);
        assert_int_equal(one == rate_table_find(t, &b, &usual), pairs[i].same);
        assert_ptr_equal(one, rate_table_find(t, &a, &usual));
    }
    rate_table_free(t);
}

static struct net_peer numbered(uint32_t n)
{
    struct net_peer p = { .family = AF_INET };

    n = htonl(n);
    memcpy(p.address, &n, 4);
    return p;
}

/* Far more networks than there are buckets: those in use are forgotten last, and the table stays as
 * large as it is. */
static void a_flood_of_networks(void **state UNUSED)
{
    struct rate_table *t = rate_table_new(4096);
    struct net_peer busy = peer("192.0.2.1");
    unsigned got = 0;

    for (uint32_t i = 0; i < 100000; i++) {
        struct net_peer other = numbered(i);
        rate_take(rate_table_find(t, &other, &whole), 1000, 10, SECOND);
        if (i % 10 == 0) /* much beyond its rate, so it is full last */
            got += rate_take(rate_table_find(t, &busy, &whole), 1, 10, SECOND);
    }
    assert_in_range(got, 10, 20);
    rate_table_free(t);
}

static void places(void **state UNUSED)
{
    struct rate_places *c = rate_places_new(1024);
    struct net_peer a = peer("192.0.2.1"), near = peer("192.0.2.9");
    int64_t taken_at[3];

    for (int i = 0; i < 3; i++)
        assert_true((taken_at[i] = rate_places_take(c, &a, &usual, 3)) >= 0);
    assert_int_equal(rate_places_take(c, &near, &usual, 3), -1);
    assert_int_equal(rate_places_take(c, &near, &usual, 3), -1);
    rate_places_give(c, taken_at[0]);
    assert_true(rate_places_take(c, &near, &usual, 3) >= 0);
    assert_int_equal(rate_places_take(c, &a, &usual, 3), -1);
    rate_places_free(c);
}

static struct rate_bucket shared;

static void *hammer(void *arg)
{
    for (int i = 0; i < 20000; i++)
        *(unsigned *)arg += rate_take(&shared, 1, 5000, SECOND);
    return NULL;
}

static void threads_share_a_bucket(void **state UNUSED)
{
    pthread_t t[4];
    unsigned got[4] = { 0 }, all = 0;

    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&t[i], NULL, hammer, &got[i]), 0);
    for (int i = 0; i < 4; i++) {
        pthread_join(t[i], NULL);
        all += got[i];
    }
    assert_int_equal(all, 5000);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(refusals_cost_nothing),  cmocka_unit_test(networks),
        cmocka_unit_test(a_flood_of_networks),    cmocka_unit_test(places),
        cmocka_unit_test(threads_share_a_bucket),
    };

    return T_TABLE(rows, a_bucket) + T_RUN(tests);
}
