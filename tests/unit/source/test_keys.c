/* SPDX-License-Identifier: Apache-2.0 */
/* Deliveries that are judged by keys on a server: both forms of a dynamic Gemini webhook through a
 * rotation of the keys, with the server down, and after a restart with it down. */
#include "https.h"
#include "presets.h"

#include "clock.h"

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
    assert_int_equal(deliver(&w, w.ed), VERDICT_OK);
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
    };
    int failed;

    https_init(&server);
    https_start(&server, false);
    failed = T_RUN(tests);
    https_stop(&server);
    https_close(&server);
    return failed;
}
