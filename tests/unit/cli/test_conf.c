/* SPDX-License-Identifier: Apache-2.0 */
/* Configurations that are taken, refused with FILE:LINE, printed and read back; and that the
 * generated pages are the committed ones. */
#include "table.h"

#include <stdio.h>
#include <string.h>

#include "cli/conf.h"

#define SOURCE "sources:\n  a: { provider: none }\n"

static const struct row {
    const char *name, *text, *says; /* NULL: it is good */
} rows[] = {
    { "the least", SOURCE, NULL },
    { "JSON", "{\"sources\": {\"a\": {\"provider\": \"none\"}}, \"log\": {\"retain\": \"5m\"}}",
      NULL },
    { "no sources", "threads: 1\n", "t.yaml:1: sources is missing" },
    { "unknown key", SOURCE "thread: 1\n", "t.yaml:3: unknown key thread; did you mean threads?" },
    { "nested unknown key", SOURCE "log:\n  retian: 1h\n",
      "t.yaml:4: unknown key retian; did you mean retain?" },
    { "key twice", SOURCE "threads: 1\nthreads: 2\n",
      "t.yaml:4: threads stands twice (first in line 3)" },
    { "bad size", SOURCE "limits: { body_bytes: 1MB }\n", "t.yaml:3: body_bytes is a size" },
    { "bad duration", SOURCE "log: { retain: 5 }\n", "is a duration" },
    { "out of range", SOURCE "threads: 65\n", "threads is between 0 and 64" },
    { "reserved name", "sources:\n  hookline: { provider: none }\n",
      "t.yaml:2: \"hookline\" is not a name" },
    { "bad name", "sources:\n  A_b: { provider: none }\n", "is not a name" },
    { "same path twice",
      "sources:\n  a: { provider: none, path: /x }\n  b: { provider: none, path: /x }\n",
      "t.yaml:3: path /x belongs to source a already" },
    { "admin from outside without a token", SOURCE "admin: { listen: 0.0.0.0:9180 }\n",
      "admin.token is missing" },
    { "admin from outside with a token", SOURCE "admin: { listen: 0.0.0.0:9180, token: x }\n",
      NULL },
    { "sink without a kind", SOURCE "sinks:\n  k: { from: now }\n",
      "exactly one of kafka and redis" },
    { "property with a promise", SOURCE "sinks:\n  k: { kafka: { properties: { acks: 1 } } }\n",
      "acks cannot be set" },
    { "property with a promise by pattern",
      SOURCE "sinks:\n  k: { kafka: { properties: { queue.buffering.max.ms: 1 } } }\n",
      "cannot be set" },
    { "a harmless property",
      SOURCE "sinks:\n  k: { kafka: { properties: { compression.type: lz4 } } }\n", NULL },
    { "bad template", SOURCE "sinks:\n  k: { kafka: { topic: '{nope}' } }\n",
      "only {source}, {type}, {subject} and {id}" },
    { "exactly once into Kafka",
      SOURCE "sinks:\n  k: { kafka: {}, delivery: exactly-once, transaction: { interval: 1ms } }\n",
      NULL },
    { "another guarantee", SOURCE "sinks:\n  k: { kafka: {}, delivery: at-most-once }\n",
      "t.yaml:4: delivery is one of at-least-once, exactly-once" },
    { "a transaction for too long",
      SOURCE "sinks:\n  k: { kafka: {}, transaction: { interval: 1m } }\n", "interval is out of range" },
    { "trim none", SOURCE "sinks:\n  k: { redis: { trim: none } }\n", NULL },
    { "trim by length", SOURCE "sinks:\n  k: { redis: { trim: { maxlen: 5 } } }\n", NULL },
    { "alias", "a: &x 1\nb: *x\n", "aliases" },
    { "not YAML", "a: [", "t.yaml:" },
    { "a list at the top", "- a\n", "keys and values are expected" },
    { "an env secret that is not there",
      "sources:\n  a: { provider: gemini, secrets: { env: HOOKLINE_NOT_SET } }\n",
      "t.yaml:2: the environment has no HOOKLINE_NOT_SET" },
};

static struct conf *load(const char *text, struct err_list *errs)
{
    struct err_list warns = { NULL, 0 };
    struct conf *c = conf_load("t.yaml", text, errs, &warns);

    err_list_free(&warns);
    return c;
}

static void taken_or_refused(void **state)
{
    const struct row *r = *state;
    struct err_list errs = { NULL, 0 };
    struct conf *c = load(r->text, &errs);

    if (!r->says && errs.n)
        fail_msg("%s", errs.line[0]);
    assert_int_equal(c != NULL, r->says == NULL);
    if (r->says && !strstr(errs.line[0], r->says))
        fail_msg("\"%s\" does not say \"%s\"", errs.line[0], r->says);
    conf_free(c);
    err_list_free(&errs);
}

static void what_it_prints_it_prints_again(void **state UNUSED)
{
    struct err_list errs = { NULL, 0 };
    struct buf one = BUF_INIT, two = BUF_INIT;
    struct conf *c =
        load("listen: [127.0.0.1:1, 'unix:/x']\nsources:\n  a: { provider: gemini, secrets: "
             "[whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw] }\n  b: { provider: none, type: { const: "
             "x } }\n"
             "sinks:\n  k: { kafka: { topic: 'a.{source}', properties: { client.rack: r } } }\n",
             &errs);

    assert_non_null(c);
    cfg_print(conf_keys(), c, &one);
    conf_free(c);
    assert_null(strstr(buf_cstr(&one), "MfKQ9r8G")); /* masked */
    {
        struct buf fixed = BUF_INIT; /* the mask is no secret of this provider's form */
        const char *at = strstr(one.p, "\"********\"");
        assert_non_null(at);
        buf_add(&fixed, one.p, (size_t)(at - one.p));
        buf_adds(&fixed, "\"whsec_AAAA\"");
        buf_adds(&fixed, at + 10);
        c = load(buf_cstr(&fixed), &errs);
        buf_free(&fixed);
    }
    if (!c)
        fail_msg("%s", errs.line[0]);
    cfg_print(conf_keys(), c, &two);
    assert_string_equal(buf_cstr(&one), buf_cstr(&two));
    conf_free(c);
    buf_free(&one);
    buf_free(&two);
}

static void an_empty_list_is_printed(void **state UNUSED)
{
    struct err_list errs = { NULL, 0 };
    struct buf b = BUF_INIT;
    struct conf *c = load("listen: []\n" SOURCE, &errs);

    assert_non_null(c);
    cfg_print(conf_keys(), c, &b);
    assert_non_null(strstr(buf_cstr(&b), "listen: []\n"));
    conf_free(c);
    buf_free(&b);
}

static void what_a_reload_cannot_change_is_named(void **state UNUSED)
{
    struct err_list errs = { NULL, 0 };
    struct conf *a = load(SOURCE, &errs), *b = load(SOURCE "log: { dir: /elsewhere }\n", &errs),
                *c = load("sources:\n  b: { provider: none }\nlog: { retain: 1h }\n", &errs);
    char key[128];

    assert_string_equal(cfg_needs_restart(conf_keys(), a, b, key), "log.dir");
    assert_null(cfg_needs_restart(conf_keys(), a, c, key));
    conf_free(a);
    conf_free(b);
    conf_free(c);
    a = load(SOURCE "sinks:\n  k: { redis: { password: one } }\n", &errs);
    b = load(SOURCE "sinks:\n  k: { redis: { password: two } }\n", &errs);
    assert_string_equal(cfg_needs_restart(conf_keys(), a, b, key),
                        "sinks"); /* secrets are compared, not their masks */
    conf_free(a);
    conf_free(b);
}

static void environment(void **state UNUSED)
{
    struct err_list errs = { NULL, 0 };
    struct cfg_doc *doc;

    setenv("HOOKLINE_TEST_VALUE", "x: y\n- z", 1);
    doc = cfg_parse("t.yaml", S("a: ${HOOKLINE_TEST_VALUE}\nb: ${HOOKLINE_NOT_SET:-d}\nc: $$5\n"),
                    true, &errs);
    assert_non_null(doc);
    assert_string_equal(cfg_find(cfg_root(doc), "a")->text,
                        "x: y\n- z"); /* it cannot add structure */
    assert_string_equal(cfg_find(cfg_root(doc), "b")->text, "d");
    assert_string_equal(cfg_find(cfg_root(doc), "c")->text, "$5");
    cfg_doc_free(doc);
    cfg_doc_free(cfg_parse("t.yaml", S("a: ${HOOKLINE_NOT_SET}\n"), true, &errs));
    assert_int_equal(errs.n, 1);
    assert_non_null(strstr(errs.line[0], "t.yaml:1:"));
    err_list_free(&errs);
}

static void same_as_committed(const char *path, void (*print)(const struct cfg_key *, struct buf *))
{
    struct buf want = BUF_INIT;
    FILE *f = fopen(path, "r");
    char piece[4096];
    struct buf have = BUF_INIT;
    size_t n;

    assert_non_null(f);
    while ((n = fread(piece, 1, sizeof piece, f)))
        buf_add(&have, piece, n);
    fclose(f);
    print(conf_keys(), &want);
    assert_true(have.n > want.n);
    assert_memory_equal(have.p + have.n - want.n, want.p, want.n);
    buf_free(&want);
    buf_free(&have);
}

static void generated_pages_are_the_committed_ones(void **state UNUSED)
{
    same_as_committed("deploy/hookline.example.yaml", cfg_example);
    same_as_committed("docs/configuration.md", cfg_reference);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_it_prints_it_prints_again),
        cmocka_unit_test(an_empty_list_is_printed),
        cmocka_unit_test(what_a_reload_cannot_change_is_named),
        cmocka_unit_test(environment),
        cmocka_unit_test(generated_pages_are_the_committed_ones),
    };

    return T_TABLE(rows, taken_or_refused) + T_RUN(tests);
}
