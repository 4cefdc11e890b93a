/* SPDX-License-Identifier: Apache-2.0 */
/* What webhooks name by URL: certificates and confirmations. Strangers choose these URLs. */
#include "world.h"

#include <glob.h>

#define PEM(text) "200 0\n\n-----BEGIN CERTIFICATE-----\n" text "\n-----END CERTIFICATE-----\n"

static enum keys_answer ask(struct world *w, const char *name, struct keys_doc **doc)
{
    char *url = https_url(&server, name);
    enum keys_answer a = keys_cert_hold(w->keys, span_str(url), &w->rules, doc);

    free(url);
    return a;
}

static bool held(struct world *w, const char *name)
{
    struct keys_doc *doc;
    enum keys_answer a = ask(w, name, &doc);

    assert_int_equal(doc != NULL, a == KEYS_HELD);
    keys_release(doc);
    return a == KEYS_HELD;
}

static void opened(struct world *w)
{
    world_init(w);
    w->rules.hosts = local;
    w->cfg.pace_ms = 1;
    world_open(w);
}

static size_t files(const struct world *w)
{
    char *pattern = xasprintf("%s/*", w->dir);
    glob_t found;
    size_t n = glob(pattern, 0, NULL, &found) ? 0 : found.gl_pathc;

    globfree(&found);
    free(pattern);
    return n;
}

static void later_then_held(void **state UNUSED)
{
    struct keys_doc *doc;
    struct world w;

    opened(&w);
    https_answer(&server, "cert.pem", PEM("one"));
    assert_int_equal(ask(&w, "cert.pem", &doc), KEYS_LATER);
    assert_null(doc);
    UNTIL(held(&w, "cert.pem"));
    assert_int_equal(ask(&w, "cert.pem", &doc), KEYS_HELD);
    assert_true(span_starts(buf_as_span(&doc->pem), S("-----BEGIN CERTIFICATE-----\none\n")));
    assert_null(doc->set);
    assert_int_equal(https_count(&server, "cert.pem"), 1);
    assert_true(SAYS(&w, "\"certificates\":{\"held\":1,\"tried\":0}"));
    assert_true(COUNTS(&w, "hookline_keys_certificates 1\n"));
    world_close(&w);
    keys_release(doc); /* outlives everything */
}

static const char *const sns[] = { "sns.???*.amazonaws.com", NULL };

static const struct refused_row {
    const char *name, *url;
    const char *const *hosts;
} refused_rows[] = {
    { "another host", "https://evil.example/x.pem", sns },
    { "somebody's bucket", "https://sns.evil.s3.amazonaws.com/x.pem", sns },
    { "http", "http://sns.us-east-1.amazonaws.com/x.pem", sns },
    { "another port", "https://sns.us-east-1.amazonaws.com:444/x.pem", sns },
    { "another path", "https://sns.us-east-1.amazonaws.com/x.txt", sns },
    { "no host is named in the rules", "https://sns.us-east-1.amazonaws.com/x.pem", NULL },
    { "metadata", "https://169.254.169.254/x.pem", sns },
    { "empty", "", sns },
    { "no URL", "x.pem", sns },
};

static void refused(void **state)
{
    const struct refused_row *row = *state;
    struct fetch_rules r = { .hosts = row->hosts, .path = "/*.pem" };
    struct keys_doc *doc;
    struct world w;

    opened(&w);
    assert_int_equal(keys_cert_hold(w.keys, span_str(row->url), &r, &doc), KEYS_REFUSED);
    assert_null(doc);
    assert_int_equal(keys_get_once(w.keys, span_str(row->url), &r), KEYS_REFUSED);
    assert_true(SAYS(&w, "\"certificates\":{\"held\":0,\"tried\":0}"));
    world_close(&w);
}

static void too_long_or_with_a_nul(void **state UNUSED)
{
    static const char nul[] = "https://localhost:1/a\0.pem";
    char *url;
    struct keys_doc *doc;
    struct world w;

    opened(&w);
    assert_int_equal(keys_cert_hold(w.keys, span_of(nul, sizeof nul - 1), &w.rules, &doc),
                     KEYS_REFUSED);
    url = xasprintf("https://localhost:1/%02048d", 0);
    assert_int_equal(keys_cert_hold(w.keys, span_str(url), &w.rules, &doc), KEYS_REFUSED);
    free(url);
    world_close(&w);
}

static const struct bad_row {
    const char *name, *answer;
} bad_rows[] = {
    { "not found", "404 0\n\nx" },
    { "a page", "200 0\n\n<html>" },
    { "empty", "200 0\n\n" },
    { "a key", "200 0\n\n-----BEGIN PRIVATE KEY-----\nx" },
    { "redirect", "302 0\nLocation: https://example.com/x.pem\n\n" },
};

static void bad(void **state)
{
    const struct bad_row *row = *state;
    char *name = xasprintf("bad%d", (int)(row - bad_rows));
    struct world w;
    int tries;

    opened(&w);
    https_answer(&server, name, row->answer);
    assert_false(held(&w, name));
    UNTIL(SAYS(&w, "\"tried\":0}")); /* a few tries, then it is forgotten */
    tries = https_count(&server, name);
    assert_int_equal(tries, 5);
    assert_true(COUNTS(&w, "hookline_keys_certificate_failures_total 5\n"));
    usleep(150 * 1000);
    assert_int_equal(https_count(&server, name), tries);
    https_answer(&server, name, PEM("good"));
    UNTIL(held(&w, name));
    free(name);
    world_close(&w);
}

static void the_least_used_goes(void **state UNUSED)
{
    struct world w;

    world_init(&w);
    w.rules.hosts = local;
    w.cfg.pace_ms = 1;
    w.cfg.certs = 2;
    world_open(&w);
    https_answer(&server, "lru1", PEM("1"));
    https_answer(&server, "lru2", PEM("2"));
    https_answer(&server, "lru3", PEM("3"));
    UNTIL(held(&w, "lru1"));
    UNTIL(held(&w, "lru2"));
    usleep(2000);
    assert_true(held(&w, "lru1"));
    UNTIL(held(&w, "lru3"));
    assert_true(held(&w, "lru1"));
    assert_true(SAYS(&w, "\"held\":2,"));
    UNTIL(!SAYS(&w, "\"held\":3,"));
    UNTIL(files(&w) == 2); /* the evicted one's is gone as well */
    assert_false(held(&w, "lru2"));
    world_close(&w);
}

/* A stranger makes up URLs: no more than a table of them is tried, and what was good stays. */
static void a_flood_pushes_out_nothing(void **state UNUSED)
{
    char name[32];
    struct world w;

    world_init(&w);
    w.rules.hosts = local;
    w.cfg.pace_ms = 50;
    w.cfg.certs = 1;
    world_open(&w);
    https_answer(&server, "kept", PEM("kept"));
    UNTIL(held(&w, "kept"));
    for (int i = 0; i < 200; i++) {
        snprintf(name, sizeof name, "flood%d", i);
        assert_false(held(&w, name));
    }
    assert_true(SAYS(&w, "\"certificates\":{\"held\":1,\"tried\":16}"));
    usleep(300 * 1000);
    assert_true(https_count(&server, "flood15") <= 1); /* ten at once, then one in 50 ms */
    assert_true(held(&w, "kept"));
    world_close(&w);
}

static void a_restart_with_the_server_down(void **state UNUSED)
{
    struct world w;

    opened(&w);
    https_answer(&server, "disk.pem", PEM("disk"));
    UNTIL(held(&w, "disk.pem"));
    https_stop(&server);
    keys_free(w.keys);
    world_open(&w);
    UNTIL(held(&w, "disk.pem"));
    https_start(&server, false);
    world_close(&w);
}

static void an_old_one_is_refreshed_when_asked_for(void **state UNUSED)
{
    struct world w;

    world_init(&w);
    w.rules.hosts = local;
    w.cfg.pace_ms = 1;
    w.cfg.max_ms = 100;
    world_open(&w);
    https_answer(&server, "old.pem", PEM("old"));
    UNTIL(held(&w, "old.pem"));
    usleep(250 * 1000);
    assert_int_equal(https_count(&server, "old.pem"), 1);
    https_answer(&server, "old.pem", "500 0\n\n");
    assert_true(held(&w, "old.pem"));
    UNTIL(https_count(&server, "old.pem") >= 2);
    UNTIL(COUNTS(&w, "hookline_keys_certificate_failures_total 1\n"));
    assert_true(held(&w, "old.pem")); /* the last good one */
    world_close(&w);
}

static void stricter_rules_do_not_see_it(void **state UNUSED)
{
    struct keys_doc *doc;
    struct world w;

    opened(&w);
    https_answer(&server, "strict.pem", PEM("strict"));
    UNTIL(held(&w, "strict.pem"));
    w.cfg.dir = NULL;
    w.rules.allow_private = false;
    assert_int_equal(ask(&w, "strict.pem", &doc), KEYS_LATER);
    world_close(&w);
}

/* --- single fetches -----------------------------------------------------------------------------
 */

static enum keys_answer confirm(struct world *w, const char *name)
{
    char *url = https_url(&server, name);
    enum keys_answer a = keys_get_once(w->keys, span_str(url), &w->rules);

    free(url);
    return a;
}

static void once_is_once(void **state UNUSED)
{
    struct world w;

    opened(&w);
    https_answer(&server, "confirm", "200 0\n\nok");
    assert_int_equal(confirm(&w, "confirm?Token=secret"), KEYS_HELD);
    UNTIL(https_count(&server, "confirm?Token=secret") == 1);
    usleep(200 * 1000);
    assert_int_equal(https_count(&server, "confirm?Token=secret"), 1);
    world_close(&w);
}

static void once_is_tried_again_when_it_fails(void **state UNUSED)
{
    struct world w;

    opened(&w);
    https_answer(&server, "flaky", "500 0\n\n");
    assert_int_equal(confirm(&w, "flaky"), KEYS_HELD);
    assert_int_equal(confirm(&w, "flaky"), KEYS_HELD); /* the same one */
    UNTIL(https_count(&server, "flaky") == 5);
    usleep(300 * 1000);
    assert_int_equal(https_count(&server, "flaky"), 5);
    world_close(&w);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(later_then_held),
    cmocka_unit_test(too_long_or_with_a_nul),
    cmocka_unit_test(the_least_used_goes),
    cmocka_unit_test(a_flood_pushes_out_nothing),
    cmocka_unit_test(a_restart_with_the_server_down),
    cmocka_unit_test(an_old_one_is_refreshed_when_asked_for),
    cmocka_unit_test(stricter_rules_do_not_see_it),
    cmocka_unit_test(once_is_once),
    cmocka_unit_test(once_is_tried_again_when_it_fails),
};

int main(void)
{
    int failed;

    https_init(&server);
    https_start(&server, false);
    failed = T_RUN(tests) + T_TABLE(refused_rows, refused) + T_TABLE(bad_rows, bad);
    https_stop(&server);
    https_close(&server);
    return failed;
}
