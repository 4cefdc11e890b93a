/* SPDX-License-Identifier: Apache-2.0 */
/* Requests that are answered, not logged: who gets which answer, and who gets none. */
#include "presets.h"

#include <stdio.h>

#define NOW 1700000000000
#define NOSNIFF "X-Content-Type-Options: nosniff\r\n"

#define META "provider: meta\nsecrets: [key]\nverify_token: sesame\n"
#define GRAPH "provider: microsoft-graph\nsecrets: [key]\n"
#define X_SECRET "z3ZX4v7mAAUGykl3EcmkqbartmuW8VFOOzCloLx9Q45P0hLrFu"
#define X "provider: x\nsecrets: [" X_SECRET ", other]\n"
#define CE "provider: cloudevents\nsecrets: [t0ken]\n"
#define CE_ONE CE "handshake: { origins: [eventgrid.example.net] }\n"
#define ORIGIN "WebHook-Request-Origin: eventgrid.example.net\r\n"
#define JSON_ANSWER "{\"response_token\":\"sha256=Cytd4Sq+NvEcV3MMrXxWJGJx5A+y/lXzzU2Maartkx8=\"}"
static const struct open_row {
    const char *name, *config, *method, *query, *headers, *body;
    enum verdict want;
    const char *answer; /* NULL: it is no handshake */
    const char *extra;
} open_rows[] = {
    { "meta", META, "GET", "hub.mode=subscribe&hub.challenge=115&hub.verify_token=sesame", "", "",
      VERDICT_OK, "115", NOSNIFF },
    { "meta: markup stays plain text", META, "GET",
      "hub.challenge=%3Cscript%3E&hub.verify_token=sesame", "", "", VERDICT_OK, "<script>",
      NOSNIFF },
    { "meta: another token", META, "GET", "hub.challenge=115&hub.verify_token=sesam", "", "",
      VERDICT_BAD_SIGNATURE, NULL, NULL },
    { "meta: no token", META, "GET", "hub.challenge=115", "", "", VERDICT_BAD_SIGNATURE, NULL,
      NULL },
    { "meta: no challenge", META, "GET", "hub.verify_token=sesame", "", "", VERDICT_UNSIGNED, NULL,
      NULL },
    { "meta: an empty challenge", META, "GET", "hub.challenge=&hub.verify_token=sesame", "", "",
      VERDICT_UNSIGNED, NULL, NULL },
    { "meta: a challenge with a delivery changes nothing", META, "POST",
      "hub.challenge=115&hub.verify_token=sesame", "", "{}", VERDICT_UNSIGNED, NULL, NULL },
    { "graph", GRAPH, "POST", "validationToken=Validation%3A+a%2Fb", "", "", VERDICT_OK,
      "Validation: a/b", NOSNIFF },
    { "graph: with a body it is a handshake all the same", GRAPH, "POST", "validationToken=a", "",
      "{\"value\":[{\"clientState\":\"key\"}]}", VERDICT_OK, "a", NOSNIFF },
    { "graph: empty", GRAPH, "POST", "validationToken=", "", "{}", VERDICT_UNSIGNED, NULL, NULL },
    { "graph: a broken escape", GRAPH, "POST", "validationToken=%2", "", "{}", VERDICT_UNSIGNED,
      NULL, NULL },
    { "graph: a delivery", GRAPH, "POST", "", "", "{\"value\":[{\"clientState\":\"key\"}]}",
      VERDICT_OK, NULL, NULL },
    { "x", X, "GET", "crc_token=9b4507b3-9040-4669-9ca3-6b94edb50553", "", "", VERDICT_OK,
      JSON_ANSWER, NOSNIFF },
    { "x: no token", X, "GET", "", "", "", VERDICT_UNSIGNED, NULL, NULL },
    { "x: a token that is a body", X, "GET", "crc_token=%7B%7D", "", "", VERDICT_MALFORMED, NULL,
      NULL },
    { "x: a body that could be a token", X, "POST", "",
      "x-twitter-webhooks-signature: sha256=Cytd4Sq+NvEcV3MMrXxWJGJx5A+y/lXzzU2Maartkx8=\r\n",
      "9b4507b3-9040-4669-9ca3-6b94edb50553", VERDICT_MALFORMED, NULL, NULL },
    { "cloudevents", CE, "OPTIONS", "", ORIGIN, "", VERDICT_OK, "",
      "Allow: POST\r\nWebHook-Allowed-Origin: eventgrid.example.net\r\n"
      "WebHook-Allowed-Rate: *\r\n" },
    { "cloudevents: without an origin", CE, "OPTIONS", "", "", "", VERDICT_UNSIGNED, NULL, NULL },
    { "cloudevents: two origins", CE, "OPTIONS", "", ORIGIN ORIGIN, "", VERDICT_MALFORMED, NULL,
      NULL },
    { "cloudevents: one of the named", CE_ONE, "OPTIONS", "", ORIGIN, "", VERDICT_OK, "",
      "Allow: POST\r\nWebHook-Allowed-Origin: eventgrid.example.net\r\n"
      "WebHook-Allowed-Rate: *\r\n" },
    { "cloudevents: none of the named", CE_ONE, "OPTIONS", "",
      "WebHook-Request-Origin: evil.example.net\r\n", "", VERDICT_BAD_SIGNATURE, NULL, NULL },
    { "cloudevents: a delivery needs its token", CE, "POST", "", ORIGIN, "{}", VERDICT_UNSIGNED,
      NULL, NULL },
};

static void check_answer(const struct source_event *ev, const char *answer, const char *extra)
{
    assert_true(ev->handshake == (answer != NULL));
    if (!answer)
        return;
    assert_true(span_eq(buf_as_span(&ev->handshake_body), span_str(answer)));
    assert_true(span_eq(buf_as_span(&ev->handshake_headers), span_str(extra)));
}

static void open_handshake(void **state)
{
    const struct open_row *r = *state;
    struct source_event ev = { 0 };
    struct http_request req;
    struct made m;
    char *bytes;

    make_good(&m, r->config);
    bytes = delivery(&req, r->method, span_str(r->query), span_str(r->headers), span_str(r->body));
    assert_string_equal(verdict_name(source_verify(m.plan, &req, bytes, SPAN_NONE, NOW, &ev)),
                        verdict_name(r->want));
    check_answer(&ev, r->answer, r->extra);
    free(bytes);
    source_event_free(&ev);
    unmake(&m);
}

/* Those that a signature comes with, as the provider sends them. */
static const struct signed_row {
    const char *name, *provider, *body, *answer, *type;
    int status;
} signed_rows[] = {
    { "slack", "slack", "{\"type\":\"url_verification\",\"challenge\":\"3eZ\\u0062\"}", "3eZb",
      "text/plain; charset=utf-8", 200 },
    { "slack: another type", "slack", "{\"type\":\"event_callback\",\"challenge\":\"3eZ\"}", NULL,
      NULL, 0 },
    { "slack: no challenge", "slack", "{\"type\":\"url_verification\"}", "",
      "text/plain; charset=utf-8", 200 },
    { "mcp", "mcp", "{\"type\":\"verification\",\"challenge\":\"a\\\"b\"}",
      "{\"challenge\":\"a\\\"b\"}", "application/json", 200 },
    { "zoom", "zoom",
      "{\"event\":\"endpoint.url_validation\",\"payload\":{\"plainToken\":"
      "\"qgg8vlvZRS6UYooatFL8Aw\"}}",
      "{\"plainToken\":\"qgg8vlvZRS6UYooatFL8Aw\",\"encryptedToken\":"
      "\"7082a5aa048ebcb2e9f150fbc1147fc4c9d0e0ebe08a846b2c9fd4bca395f3fe\"}",
      "application/json", 200 },
    { "discord", "discord", "{\"version\":1,\"type\":0}", "", "text/plain; charset=utf-8", 204 },
    { "discord: an event", "discord", "{\"version\":1,\"type\":1,\"event\":{\"type\":\"A\"}}", NULL,
      NULL, 0 },
    { "discord: interactions", "discord-interactions", "{\"type\":1}", "{\"type\":1}",
      "application/json", 200 },
};

static void signed_handshake(void **state)
{
    const struct signed_row *r = *state;
    struct buf config = BUF_INIT, key = BUF_INIT;
    struct source_outgoing o = { .now_ms = NOW, .body = span_str(r->body) };
    struct source_event ev = { 0 };
    struct err e = ERR_INIT;
    struct http_request req;
    struct made m;
    char *bytes;

    buf_printf(&config, "provider: %s\n", r->provider);
    add_needs(r->provider, &config, &key);
    make_good(&m, buf_cstr(&config));
    o.key = buf_as_span(&key);
    assert_int_equal(source_sign(m.plan, &o, &e), 0);
    bytes = delivery(&req, "POST", SPAN_NONE, buf_as_span(&o.headers), buf_as_span(&o.text));
    assert_int_equal(source_verify(m.plan, &req, bytes, SPAN_NONE, NOW, &ev), VERDICT_OK);
    check_answer(&ev, r->answer, NOSNIFF);
    if (r->answer) {
        assert_string_equal(ev.handshake_type, r->type);
        assert_int_equal(ev.handshake_status, r->status);
    }
    free(bytes); /* and without its signature there is no answer */
    bytes = delivery(&req, "POST", SPAN_NONE, SPAN_NONE, buf_as_span(&o.text));
    assert_int_not_equal(source_verify(m.plan, &req, bytes, SPAN_NONE, NOW, &ev), VERDICT_OK);
    assert_false(ev.handshake);
    free(bytes);
    source_outgoing_free(&o);
    source_event_free(&ev);
    unmake(&m);
    buf_free(&config);
    buf_free(&key);
}

/* Zoom's answer with the secret that holds on, while another one is on its way out. */
static void zoom_answers_with_the_secret_that_stays(void **state UNUSED)
{
    struct source_outgoing o = { .now_ms = NOW,
                                 .body = S(
                                     "{\"event\":\"endpoint.url_validation\","
                                     "\"payload\":{\"plainToken\":\"qgg8vlvZRS6UYooatFL8Aw\"}}") };
    struct source_event ev = { 0 };
    struct http_request req;
    struct err e = ERR_INIT;
    struct made m;
    char *bytes;

    setenv("HOOKLINE_TEST_OLD", "old", 1);
    setenv("HOOKLINE_TEST_NEW", "zoomsecret", 1);
    make_good(&m, "provider: zoom\nsecrets: [{ env: HOOKLINE_TEST_OLD, not_after: "
                  "2023-12-31T00:00:00Z }, { env: HOOKLINE_TEST_NEW }]\n");
    assert_int_equal(source_sign(m.plan, &o, &e), 0);
    bytes = delivery(&req, "POST", SPAN_NONE, buf_as_span(&o.headers), buf_as_span(&o.text));
    assert_int_equal(source_verify(m.plan, &req, bytes, SPAN_NONE, NOW, &ev), VERDICT_OK);
    check_answer(&ev,
                 "{\"plainToken\":\"qgg8vlvZRS6UYooatFL8Aw\",\"encryptedToken\":"
                 "\"83b2a60d4bbe49dc93763ed9e727a9a7"
                 "690cbe4c1f8bb0adc0ffccd09ecb1384\"}",
                 NOSNIFF);
    free(bytes);
    source_outgoing_free(&o);
    source_event_free(&ev);
    unmake(&m);
}

/* A handshake of a path with a token needs the token too. */
static void the_path_token_comes_first(void **state UNUSED)
{
    struct source_event ev = { 0 };
    struct http_request req;
    struct made m;
    char *bytes = delivery(&req, "POST", S("validationToken=a"), SPAN_NONE, SPAN_NONE);

    make_good(&m, GRAPH "path: /h/{token}\npath_token: tkn\n");
    assert_int_equal(source_verify(m.plan, &req, bytes, S("tkm"), NOW, &ev), VERDICT_BAD_SIGNATURE);
    assert_false(ev.handshake);
    assert_int_equal(source_verify(m.plan, &req, bytes, S("tkn"), NOW, &ev), VERDICT_OK);
    assert_true(ev.handshake);
    free(bytes);
    source_event_free(&ev);
    unmake(&m);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_path_token_comes_first),
        cmocka_unit_test(zoom_answers_with_the_secret_that_stays),
    };

    return T_TABLE(open_rows, open_handshake) + T_TABLE(signed_rows, signed_handshake) +
           T_RUN(tests);
}
