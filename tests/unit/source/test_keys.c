/* SPDX-License-Identifier: Apache-2.0 */
/* Deliveries that are judged by keys on a server: both forms of a dynamic Gemini webhook through a
 * rotation of the keys, with the server down, and after a restart with it down. */
#include "https.h"
#include "presets.h"

#include "clock.h"
#include "source/room.h"

#define PATIENCE_MS 20000

static struct https server;

struct world {
    char dir[64];
    struct crypto_private *ed, *rsa;
    struct keys *keys;
    struct made m;
};

static void publish(const struct world *w, const char *kid)
{
    const struct crypto_public *public[] = { crypto_private_public(w->ed),
                                             crypto_private_public(w->rsa) };
    struct span kids[] = { SPAN_NONE, span_str(kid) };
    struct crypto_keyset *set = crypto_keyset_of(public, kids, 2);
    struct buf text = BUF_INIT;

    buf_adds(&text, "200 0\nCache-Control: max-age=3600\n\n");
    crypto_keyset_print(set, &text);
    https_answer(&server, "jwks.json", buf_cstr(&text));
    buf_free(&text);
    crypto_keyset_free(set);
}

static void new_keys(struct world *w, const char *kid)
{
    crypto_private_free(w->ed);
    crypto_private_free(w->rsa);
    w->ed = crypto_private_generate(CRYPTO_ED25519);
    w->rsa = crypto_private_generate(CRYPTO_RSA_SHA256);
    publish(w, kid);
}

static void start(struct world *w)
{
    struct keys_cfg cfg = keys_defaults(w->dir);
    struct err e = ERR_INIT;

    cfg.wanted_ms = cfg.retry_min_ms = 20; /* not a minute: nobody waits for a test */
    assert_int_equal(keys_new(&w->keys, &cfg, &e), 0);
    assert_int_equal(source_register_keys(w->m.plan, w->keys, &e), 0);
    keys_warm(w->keys, PATIENCE_MS);
}

static void stop(struct world *w)
{
    source_forget_keys(w->m.plan);
    keys_free(w->keys);
    w->keys = NULL;
}

static void open_world(struct world *w)
{
    struct buf config = BUF_INIT;
    char *url = https_url(&server, "jwks.json");

    *w = (struct world){ .dir = "/tmp/hookline-keys-XXXXXX" };
    assert_non_null(mkdtemp(w->dir));
    buf_printf(&config,
               "provider: gemini-dynamic\nrequire: none\naudience: me\n"
               "jwks: { url: '%s', ca_file: %s, allow_private: true }\n",
               url, server.ca);
    make_good(&w->m, buf_cstr(&config));
    assert_true(source_wants_keys(w->m.plan));
    buf_free(&config);
    free(url);
}

static void close_world(struct world *w)
{
    stop(w);
    unmake(&w->m);
    crypto_private_free(w->ed);
    crypto_private_free(w->rsa);
    sh("rm -rf $d", w->dir);
}

/* The form is that of the key: v1a for Ed25519, a JWT for RSA. */
static enum verdict deliver(struct world *w, const struct crypto_private *k)
{
    struct buf key = BUF_INIT;
    struct source_outgoing o = { .now_ms = clock_wall_ms() };
    struct source_event ev = { 0 };
    struct http_request req;
    struct err e = ERR_INIT;
    enum verdict v;
    char *bytes;

    crypto_private_print(k, &key);
    o.key = buf_as_span(&key);
    assert_int_equal(source_sign(w->m.plan, &o, &e), 0);
    bytes = delivery(&req, "POST", SPAN_NONE, buf_as_span(&o.headers), buf_as_span(&o.text));
    v = source_verify(w->m.plan, &req, bytes, SPAN_NONE, o.now_ms, &ev);
    free(bytes);
    source_outgoing_free(&o);
    source_event_free(&ev);
    buf_free(&key);
    return v;
}

/* A sender tries again after 503; what it is told in the end. */
static enum verdict insist(struct world *w, const struct crypto_private *k)
{
    int64_t give_up = clock_mono_ms() + PATIENCE_MS;
    enum verdict v;

    while ((v = deliver(w, k)) == VERDICT_KEYS_UNAVAILABLE && clock_mono_ms() < give_up)
        usleep(5000);
    return v;
}

static void without_any_keys(void **state UNUSED)
{
    struct world w;

    open_world(&w);
    w.ed = crypto_private_generate(CRYPTO_ED25519);
    w.rsa = crypto_private_generate(CRYPTO_RSA_SHA256);
    https_answer(&server, "jwks.json", "500 0\n\n");
    assert_int_equal(deliver(&w, w.ed), VERDICT_KEYS_UNAVAILABLE); /* not registered */
    start(&w);
    assert_int_equal(deliver(&w, w.ed), VERDICT_KEYS_UNAVAILABLE);
    assert_int_equal(deliver(&w, w.rsa), VERDICT_KEYS_UNAVAILABLE);
    publish(&w, "k1");
    assert_int_equal(insist(&w, w.ed), VERDICT_OK);
    assert_int_equal(insist(&w, w.rsa), VERDICT_OK);
    close_world(&w);
}

static void through_a_rotation_and_a_restart(void **state UNUSED)
{
    struct crypto_private *stranger = crypto_private_generate(CRYPTO_ED25519);
    struct world w;

    open_world(&w);
    new_keys(&w, "k1");
    start(&w);
    assert_int_equal(insist(&w, w.ed), VERDICT_OK); /* a slow server is not waited for in start() */
    assert_int_equal(deliver(&w, w.rsa), VERDICT_OK);
    new_keys(&w, "k2"); /* whose signatures ask for them */
    assert_int_equal(insist(&w, w.ed), VERDICT_OK);
    assert_int_equal(insist(&w, w.rsa), VERDICT_OK);
    assert_int_equal(insist(&w, stranger), VERDICT_BAD_SIGNATURE);
    https_stop(&server);
    assert_int_equal(deliver(&w, w.ed), VERDICT_OK);
    assert_int_equal(deliver(&w, w.rsa), VERDICT_OK);
    stop(&w);
    start(&w); /* the server is still down: what it said stands on the disk */
    assert_int_equal(deliver(&w, w.ed), VERDICT_OK);
    assert_int_equal(deliver(&w, w.rsa), VERDICT_OK);
    https_start(&server, false);
    close_world(&w);
    crypto_private_free(stranger);
}

/* --- certificates that a delivery names ----------------------------------------------------------
 */
/* A key with a certificate for localhost of the server's authority, or of another. */
static void make_certificate(const char *name, const char *authority)
{
    char *line = xasprintf("export n=%s a=%s; openssl req -newkey rsa:2048 -nodes -subj /CN=signer "
                           "-keyout $d/$n.key -out $d/$n.csr 2>/dev/null; "
                           "openssl x509 -req -in $d/$n.csr -CA $d/$a.pem -CAkey $d/$a.key "
                           "-CAcreateserial -days 1 -extfile $d/ext -out $d/$n.crt 2>/dev/null; "
                           "{ printf '200 0\\n\\n'; cat $d/$n.crt; } >$d/$n.pem",
                           name, authority);

    sh(line, server.dir);
    free(line);
}

static const struct certificate_row {
    const char *name, *provider;
    const char *url;  /* # is the port */
    const char *body; /* of SNS: ~ is the URL, ^ the time; NULL: the preset's */
    const char *key;
    char from, to; /* changed in the body on the way; 0: nothing */
    enum verdict want;
} certificates[] = {
#define SIGNER "https://localhost:#/signer.pem"
#define SNS(version, topic)                                                                        \
    "{\"Type\":\"Notification\",\"MessageId\":\"m-1\",\"TopicArn\":\"" topic                       \
    "\",\"Message\":\"a\\nb\",\"Timestamp\":\"^\",\"SignatureVersion\":"                           \
    "\"" version "\",\"Signature\":\"\",\"SigningCertURL\":\"~\"}"
    { "paypal", "paypal", SIGNER, NULL, "signer", 0, 0, VERDICT_OK },
    { "paypal, another body", "paypal", SIGNER, NULL, "signer", '1', '2', VERDICT_BAD_SIGNATURE },
    { "paypal, another key", "paypal", SIGNER, NULL, "stranger", 0, 0, VERDICT_BAD_SIGNATURE },
    { "paypal, a certificate of nobody we trust", "paypal", "https://localhost:#/stranger.pem",
      NULL, "stranger", 0, 0, VERDICT_UNKNOWN_KEY },
    { "paypal, another host", "paypal", "https://127.0.0.1:#/signer.pem", NULL, "signer", 0, 0,
      VERDICT_UNKNOWN_KEY },
    { "paypal, no certificate there", "paypal", "https://localhost:#/none.pem", NULL, "signer", 0,
      0, VERDICT_KEYS_UNAVAILABLE },
    { "sns, version 2", "aws-sns", SIGNER, SNS("2", "arn"), "signer", 0, 0, VERDICT_OK },
    { "sns, version 1", "aws-sns", SIGNER, SNS("1", "arn"), "signer", 0, 0, VERDICT_OK },
    { "sns, one version as the other", "aws-sns", SIGNER, SNS("2", "arn"), "signer", '2', '1',
      VERDICT_BAD_SIGNATURE },
    { "sns, another message", "aws-sns", SIGNER, SNS("2", "arn"), "signer", 'b', 'c',
      VERDICT_BAD_SIGNATURE },
    { "sns, another topic", "aws-sns", SIGNER, SNS("2", "arm"), "signer", 0, 0,
      VERDICT_BAD_SIGNATURE },
    { "sns, a path that is no certificate", "aws-sns", "https://localhost:#/signer.crt",
      SNS("2", "arn"), "signer", 0, 0, VERDICT_UNKNOWN_KEY },
};

static void replace(struct buf *out, const char *text, char mark, const char *by)
{
    for (; *text; text++)
        if (*text == mark)
            buf_adds(out, by);
        else
            buf_addc(out, *text);
}

static void configure_certificate(const struct certificate_row *r, const char *url, struct made *m)
{
    struct buf config = BUF_INIT;

    buf_printf(&config,
               "provider: %s\n%ssample: { certificate: '%s' }\nsignature:\n  certificate: { hosts: "
               "['localhost:*'], ca_file: %s, allow_private: true }\n",
               r->provider, needs_of(r->provider).more, url, server.ca);
    make_good(m, buf_cstr(&config));
    buf_free(&config);
}

static enum verdict judged(const struct source_plan *p, const struct source_outgoing *o)
{
    int64_t give_up = clock_mono_ms() + 3000;
    struct source_event ev = { 0 };
    struct http_request req;
    char *bytes =
        delivery(&req, "POST", SPAN_NONE, buf_as_span(&o->headers), buf_as_span(&o->text));
    enum verdict v;

    while ((v = source_verify(p, &req, bytes, SPAN_NONE, o->now_ms, &ev)) ==
               VERDICT_KEYS_UNAVAILABLE &&
           clock_mono_ms() < give_up)
        usleep(5000);
    free(bytes);
    source_event_free(&ev);
    return v;
}

static void certificate(void **state)
{
    const struct certificate_row *r = *state;
    char dir[] = "/tmp/hookline-keys-XXXXXX", port[16], time[CLOCK_TEXT_MAX];
    struct buf url = BUF_INIT, half = BUF_INIT, body = BUF_INIT, key = BUF_INIT;
    struct source_outgoing o = { .now_ms = clock_wall_ms() };
    char *key_file = xasprintf("%s/%s.key", server.dir, r->key), *at;
    struct keys_cfg cfg = keys_defaults(mkdtemp(dir));
    struct err e = ERR_INIT;
    struct keys *keys;
    struct made m;

    snprintf(port, sizeof port, "%d", server.port);
    replace(&url, r->url, '#', port);
    if (r->body)
        replace(&half, r->body, '~', buf_cstr(&url));
    replace(&body, buf_cstr(&half), '^', clock_text(o.now_ms, time));
    assert_int_equal(source_read_file(key_file, &key), 0);
    configure_certificate(r, buf_cstr(&url), &m);
    assert_int_equal(keys_new(&keys, &cfg, &e), 0);
    assert_int_equal(source_register_keys(m.plan, keys, &e), 0);
    o.key = buf_as_span(&key);
    o.body = r->body ? buf_as_span(&body) : SPAN_NONE;
    if (source_sign(m.plan, &o, &e))
        fail_msg("%s", e.text);
    at = r->from ? memchr(o.text.p, r->from, o.text.n) : NULL;
    if (at)
        *at = r->to;
    assert_string_equal(verdict_name(judged(m.plan, &o)), verdict_name(r->want));
    source_forget_keys(m.plan);
    keys_free(keys);
    unmake(&m);
    source_outgoing_free(&o);
    buf_free(&url);
    buf_free(&half);
    buf_free(&body);
    buf_free(&key);
    free(key_file);
    sh("rm -rf $d", dir);
}

/* Opened once, where that is switched on; from a host of the settings alone. */
static void confirmation(const char *more, const char *url, enum verdict want, int opened)
{
    char dir[] = "/tmp/hookline-keys-XXXXXX", time[CLOCK_TEXT_MAX];
    struct source_outgoing o = { .now_ms = clock_wall_ms() };
    struct buf config = BUF_INIT, body = BUF_INIT, key = BUF_INIT;
    char *key_file = xasprintf("%s/signer.key", server.dir);
    struct keys_cfg cfg = keys_defaults(mkdtemp(dir));
    int64_t give_up = clock_mono_ms() + (opened ? PATIENCE_MS : 200);
    struct err e = ERR_INIT;
    struct keys *keys;
    struct made m;

    https_answer(&server, "confirm", "200 0\n\nok");
    buf_printf(&config,
               "provider: aws-sns\nequals: { TopicArn: arn }\n%ssignature:\n  certificate: { "
               "hosts: ['localhost:*'], ca_file: %s, allow_private: true }\n",
               more, server.ca);
    buf_printf(
        &body,
        "{\"Type\":\"SubscriptionConfirmation\",\"MessageId\":\"m\",\"Token\":\"t\",\"TopicArn\":"
        "\"arn\",\"Message\":\"x\",\"SubscribeURL\":\"%s:%d/confirm?a=b\",\"Timestamp\":\"%s\","
        "\"SignatureVersion\":\"2\",\"Signature\":\"\",\"SigningCertURL\":\"https://"
        "localhost:%d/signer.pem\"}",
        url, server.port, clock_text(o.now_ms, time), server.port);
    assert_int_equal(source_read_file(key_file, &key), 0);
    make_good(&m, buf_cstr(&config));
    assert_int_equal(keys_new(&keys, &cfg, &e), 0);
    assert_int_equal(source_register_keys(m.plan, keys, &e), 0);
    o.key = buf_as_span(&key);
    o.body = buf_as_span(&body);
    assert_int_equal(source_sign(m.plan, &o, &e), 0);
    opened += https_count(&server, "confirm?a=b");
    assert_string_equal(verdict_name(judged(m.plan, &o)), verdict_name(want));
    while (https_count(&server, "confirm?a=b") < opened && clock_mono_ms() < give_up)
        usleep(5000);
    assert_int_equal(https_count(&server, "confirm?a=b"), opened);
    source_forget_keys(m.plan);
    keys_free(keys);
    unmake(&m);
    source_outgoing_free(&o);
    buf_free(&config);
    buf_free(&body);
    buf_free(&key);
    free(key_file);
    sh("rm -rf $d", dir);
}

static void subscriptions_are_confirmed_when_told_to(void **state UNUSED)
{
    confirmation("", "https://localhost", VERDICT_OK, 0);
    confirmation("confirm_subscriptions: true\n", "https://localhost", VERDICT_OK, 1);
    confirmation("confirm_subscriptions: true\n", "https://127.0.0.1", VERDICT_MALFORMED, 0);
}

static void urls_are_checked_when_they_are_read(void **state UNUSED)
{
    struct made m;

    make(&m, "provider: fal\njwks:\n  url: http://rest.fal.ai/jwks.json\n");
    assert_null(m.plan);
    assert_non_null(strstr(m.errs.line[0], "t.yaml:3: jwks.url: "));
    unmake(&m);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_any_keys),
        cmocka_unit_test(through_a_rotation_and_a_restart),
        cmocka_unit_test(urls_are_checked_when_they_are_read),
        cmocka_unit_test(subscriptions_are_confirmed_when_told_to),
    };
    int failed;

    https_init(&server);
    https_start(&server, false);
    make_certificate("signer", "ca");
    make_certificate("stranger", "other");
    failed = T_RUN(tests) + T_TABLE(certificates, certificate);
    https_stop(&server);
    https_close(&server);
    return failed;
}
