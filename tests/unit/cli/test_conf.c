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
      "exactly one of kafka, redis and http" },
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
      SOURCE "sinks:\n  k: { kafka: {}, transaction: { interval: 1m } }\n",
      "interval is out of range" },
    { "trim none", SOURCE "sinks:\n  k: { redis: { trim: none } }\n", NULL },
    { "trim by length", SOURCE "sinks:\n  k: { redis: { trim: { maxlen: 5 } } }\n", NULL },
    { "ack: broker without a sink", "sources:\n  a: { provider: none, ack: broker }\n",
      "t.yaml:2: source a: ack: broker, but no sink takes its events" },
    { "ack: broker, and the sinks are for others",
      "sources:\n  a: { provider: none, ack: broker }\n"
      "sinks:\n  k: { redis: {}, match: { source: 'b*' } }\n",
      "t.yaml:2: source a: ack: broker, but no sink" },
    { "ack: broker and a sink that takes some types",
      "sources:\n  abc: { provider: none, ack: broker }\n"
      "sinks:\n  k: { redis: {}, match: { source: 'a*', type: 'x.*' } }\n",
      NULL },
    { "ack: log without a sink", "sources:\n  a: { provider: none, ack: log }\n", NULL },
    { "another word for ack", "sources:\n  a: { provider: none, ack: sink }\n", "log, broker" },
    { "one index for several replicas",
      SOURCE "dedup: { redis: 'redis://u:p@h:1/2', redis_password: x, entries: 5 }\n", NULL },
    { "an index of another kind", SOURCE "dedup: { redis: 'rediss://h' }\n",
      "t.yaml:3: dedup.redis: \"rediss://h\" is not redis://" },
    { "an index nowhere", SOURCE "dedup: { redis: h }\n", "t.yaml:3: dedup.redis" },
    { "a fallback that a path would be searched for",
      SOURCE "jobs: { fallback: { command: [sh, -c, 'true'] } }\n",
      "t.yaml:3: jobs.fallback.command begins with the whole path" },
    { "a fallback by URL that is none", SOURCE "jobs: { fallback: { url: 'ftp://h' } }\n",
      "t.yaml:3: jobs.fallback: url: only https" },
    { "two fallbacks", SOURCE "jobs: { fallback: { command: /bin/true, url: 'http://h' } }\n",
      "t.yaml:3: jobs.fallback takes one of" },
    { "a fallback by URL", SOURCE "jobs: { fallback: { url: 'http://h/x', timeout: 5s } }\n",
      NULL },
    { "a fallback", SOURCE "jobs: { fallback: { command: /bin/true, timeout: 5s } }\n", NULL },
    { "alias", "a: &x 1\nb: *x\n", "aliases" },
    { "not YAML", "a: [", "t.yaml:" },
    { "one listener", SOURCE "listen: { address: '127.0.0.1:1' }\n", NULL },
    { "listeners of both forms",
      SOURCE "listen:\n  - '127.0.0.1:1'\n  - { address: 'unix:/s', proxy_protocol: true }\n",
      NULL },
    { "a listener without an address", SOURCE "listen: [{ proxy_protocol: true }]\n",
      "t.yaml:3: address is missing" },
    { "an unknown key of a listener", SOURCE "listen: [{ address: a, tsl: {} }]\n",
      "t.yaml:3: unknown key tsl; did you mean tls?" },
    { "a listener that is a list", SOURCE "listen: [[a]]\n", "address is missing" },
    { "a listener whose address is empty", SOURCE "listen: [{ address: }]\n",
      "t.yaml:3: address is missing" },
    { "TLS without a key", SOURCE "listen: { address: 'a:1', tls: { cert: /c } }\n",
      "t.yaml:3: key is missing" },
    { "TLS with more keys than certificates",
      SOURCE "listen: { address: 'a:1', tls: { cert: /c, key: [/k, /l] } }\n",
      "listen a:1: tls: as many keys as certificates" },
    { "a certificate that is not there",
      SOURCE "listen: { address: 'a:1', tls: { cert: /nonexistent/c, key: /nonexistent/k } }\n",
      "t.yaml:3: listen a:1: tls: the certificate /nonexistent/c cannot be read: No such file" },
    { "a certificate of the admin listener that is not there",
      SOURCE "admin: { tls: { cert: /nonexistent/c, key: /nonexistent/k } }\n",
      "t.yaml:3: admin: tls: the certificate /nonexistent/c cannot be read" },
    { "a token that may read, alone", SOURCE "admin: { read_token: x }\n",
      "admin.read_token needs an admin.token" },
    { "one token for both", SOURCE "admin: { token: x, read_token: x }\n",
      "admin.read_token is admin.token" },
    { "who may send",
      "sources:\n  a: { provider: none, allow: [192.0.2.0/24, unix], client_names: "
      "['dns:*.example'], rate: 5 }\nproxies: { trusted: ['::1'] }\n",
      NULL },
    { "a network that is none", "sources:\n  a:\n    provider: none\n    allow: [192.0.2.1/24]\n",
      "allow: \"192.0.2.1/24\" has bits set" },
    { "a client without a kind", "sources:\n  a: { provider: none, client_names: [x] }\n",
      "client_names: \"x\" begins with none of" },
    { "a client of an empty name", "sources:\n  a: { provider: none, client_names: ['dns:'] }\n",
      "begins with none of" },
    { "a proxy that is none", SOURCE "proxies: { trusted: [proxy.internal] }\n",
      "t.yaml:3: proxies.trusted: \"proxy.internal\" is no network" },
    { "a list at the top", "- a\n", "keys and values are expected" },
    { "an env secret that is not there",
      "sources:\n  a: { provider: gemini, secrets: { env: HOOKLINE_NOT_SET } }\n",
      "t.yaml:2: the environment has no HOOKLINE_NOT_SET" },
    { "a list where a secret is expected",
      "sources:\n  a: { provider: gemini, secrets: [[whsec_x]] }\n",
      "t.yaml:2: secrets is { env: NAME }, { file: PATH } or a string" },
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

static void note(const char *path, void *arg)
{
    buf_adds(arg, path);
    buf_addc(arg, ' ');
}

/* Listeners one by one; and which files belong to a configuration. */
static void listeners(void **state UNUSED)
{
    static const char text[] =
        "listen: [ 'a:1', { address: 'b:2', proxy_protocol: true } ]\n" SOURCE,
                      fewer[] = "listen: 'a:1'\n" SOURCE,
                      plain[] = "listen: [ 'a:1', 'b:2' ]\n" SOURCE,
                      moved[] = "listen: [ 'a:1', 'b:3' ]\n" SOURCE;
    struct err_list errs = { NULL, 0 };
    struct conf *a = load(text, &errs), *b = load(fewer, &errs), *c = load(plain, &errs),
                *d = load(moved, &errs);
    struct net_tls_cfg *tls = xcalloc(1, sizeof *tls);
    struct buf out = BUF_INIT;
    char key[128];

    assert_string_equal(cfg_needs_restart(conf_keys(), a, b, key), "listen");
    assert_string_equal(cfg_needs_restart(conf_keys(), a, d, key), "listen.address");
    assert_null(cfg_needs_restart(conf_keys(), a, c, key));
    cfg_print(conf_keys(), a, &out);
    assert_non_null(strstr(buf_cstr(&out),
                           "listen:\n  - address: \"a:1\"\n    proxy_protocol: false\n"
                           "  - address: \"b:2\"\n    proxy_protocol: true\n"));
    out.n = 0;
    tls->cert.v = xcalloc(1, sizeof *tls->cert.v);
    tls->cert.v[tls->cert.n++] = xstrdup("/cert");
    tls->client_ca = xstrdup("/ca");
    ((struct net_listen_cfg *)c->listen.v[1])->tls = tls;
    c->admin.token.ref = xstrdup("file:/token");
    cfg_files(conf_keys(), c, note, &out);
    assert_string_equal(buf_cstr(&out), "/cert /ca /token ");
    out.n = 0;
    cfg_paths(conf_keys(), c, note, &out); /* also what only looks like one */
    assert_string_equal(buf_cstr(&out), "/cert /ca /token /var/lib/hookline ");
    buf_free(&out);
    conf_free(a);
    conf_free(b);
    conf_free(c);
    conf_free(d);
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
        cmocka_unit_test(listeners),
        cmocka_unit_test(environment),
        cmocka_unit_test(generated_pages_are_the_committed_ones),
    };

    return T_TABLE(rows, taken_or_refused) + T_RUN(tests);
}
