/* SPDX-License-Identifier: Apache-2.0 */
/* Connections over TLS and behind PROXY headers: the same promises as plain ones. */
#include "certs.h"
#include "harness.h"

#include <signal.h>

#define PROXY "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"

static char cert_path[64], key_path[64], ca_path[64];
static struct authority ours, sender;

static void open_over_tls(struct world *w, const struct net_limits *limits, bool proxy,
                          const char *client_ca)
{
    char *cert[] = { cert_path }, *key[] = { key_path };
    struct net_tls_cfg tls = { .cert = { cert, 1 },
                               .key = { key, 1 },
                               .client_ca = (char *)(uintptr_t)client_ca };
    struct net_limits l = *limits;
    struct net_door door;
    struct err e = ERR_INIT;

    if (!l.handshake_timeout_ms)
        l.handshake_timeout_ms = 60000;
    world_open(w, &l);
    if (net_door_open(&door, &tls, proxy, &e))
        fail_msg("%s", e.text);
    net_set_door(w->server, 0, &door);
    w->door = door;
}

static void close_world(struct world *w)
{
    world_close(w);
    net_door_close(&w->door);
}

struct secure {
    struct client c;
    SSL_CTX *ctx;
    SSL *ssl;
    bool ended;
};

static void secure_connect(struct world *w, struct secure *s, const struct authority *own)
{
    int rc;

    *s = (struct secure){ .ctx = client_context(&ours, own) };
    client_connect(&s->c, w);
    s->ssl = client_new(s->ctx, s->c.fd);
    UNTIL(w, (rc = SSL_do_handshake(s->ssl)) == 1);
}

static void secure_free(struct secure *s)
{
    SSL_free(s->ssl);
    SSL_CTX_free(s->ctx);
    client_free(&s->c);
}

static void secure_say(struct world *w, struct secure *s, const char *p, size_t n)
{
    SSL_set_mode(s->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    while (n) {
        int sent = SSL_write(s->ssl, p, (int)n);
        if (sent > 0) {
            p += sent;
            n -= (size_t)sent;
        } else {
            assert_int_not_equal(SSL_get_error(s->ssl, sent), SSL_ERROR_SSL);
            turn(w);
        }
    }
}

static bool secure_hear(struct secure *s)
{
    char piece[65536];
    int n;

    while ((n = SSL_read(s->ssl, piece, sizeof piece)) > 0)
        buf_add(&s->c.got, piece, (size_t)n);
    s->ended = SSL_get_error(s->ssl, n) == SSL_ERROR_ZERO_RETURN;
    return true;
}

static size_t secure_count(struct secure *s, const char *text)
{
    size_t n = 0;

    secure_hear(s);
    for (const char *at = buf_cstr(&s->c.got); (at = strstr(at, text)); at += strlen(text))
        n++;
    return n;
}

static void requests_and_answers(void **state UNUSED)
{
    struct world w;
    struct secure s;

    open_over_tls(&w, &roomy, false, NULL);
    w.at_once = true;
    secure_connect(&w, &s, NULL);
    secure_say(&w, &s, POST_A, strlen(POST_A));
    UNTIL(&w, secure_count(&s, "HTTP/1.1 200") == 1);
    secure_say(&w, &s, POST_B POST_C, strlen(POST_B POST_C)); /* in one record */
    UNTIL(&w, secure_count(&s, "HTTP/1.1 200") == 3);
    assert_non_null(strstr(buf_cstr(&s.c.got), "\r\n\r\nC"));
    assert_int_equal(net_handshakes(w.server, HANDSHAKE_DONE), 1);
    secure_free(&s);
    UNTIL(&w, net_connections(w.server) == 0);
    close_world(&w);
}

/* Many records at once, more than the buffer of a request takes, of which the last bytes wait
 * inside TLS: no event of the socket tells of them. */
static void bytes_that_wait_inside_tls(void **state)
{
    size_t piece = (size_t)(uintptr_t)*state;
    struct world w;
    struct secure s;
    char *body = malloc(MIB(1)), head[128];
    int n = snprintf(head, sizeof head, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n",
                     piece < 100 ? 5000 : (int)MIB(1));
    size_t left = piece < 100 ? 5000 : MIB(1);

    memset(body, 'x', MIB(1));
    open_over_tls(&w, &roomy, false, NULL);
    w.at_once = true;
    secure_connect(&w, &s, NULL);
    secure_say(&w, &s, head, (size_t)n);
    for (; left; left -= MIN(left, piece))
        secure_say(&w, &s, body, MIN(left, piece));
    UNTIL(&w, secure_count(&s, "HTTP/1.1 200") == 1);
    free(body);
    secure_free(&s);
    close_world(&w);
}

/* Answered later, in the order of the requests, though 32 were pipelined and the rest had to wait
 * inside TLS. */
static void a_long_pipeline(void **state UNUSED)
{
    struct net_limits limits = roomy;
    struct world w;
    struct secure s;

    limits.pipeline = 4;
    open_over_tls(&w, &limits, false, NULL);
    secure_connect(&w, &s, NULL);
    for (int i = 0; i < 40; i++)
        secure_say(&w, &s, POST_A, strlen(POST_A));
    for (size_t i = 0; i < 40; i++) {
        UNTIL(&w, w.got_n == i + 1 || w.got_n == MIN(i + 4, (size_t)40));
        assert_true(w.got_n <= i + 4);
        answer(w.got[i], "later");
    }
    UNTIL(&w, secure_count(&s, "later") == 40);
    secure_free(&s);
    close_world(&w);
}

/* A client that does not read: what is answered waits, is bounded by the deadline, and comes whole
 * to one that reads in the end. */
static void answers_that_do_not_fit(void **state UNUSED)
{
    struct world w;
    struct secure s;
    size_t size = 8 << 20;
    char *text = malloc(size + 1);

    memset(text, 'y', size);
    text[size] = 0;
    open_over_tls(&w, &roomy, false, NULL);
    secure_connect(&w, &s, NULL);
    secure_say(&w, &s, POST_A, strlen(POST_A));
    UNTIL(&w, w.got_n == 1);
    answer(w.got[0], text);
    settle(&w);
    assert_int_equal(net_unanswered(w.server), 1);
    UNTIL(&w, secure_hear(&s) && s.c.got.n > size);
    assert_memory_equal(s.c.got.p + s.c.got.n - size, text, size);
    UNTIL(&w, net_unanswered(w.server) == 0);
    free(text);
    secure_free(&s);
    close_world(&w);
}

static const struct end_row {
    const char *name, *bytes; /* what is sent instead of a handshake; NULL: nothing */
    size_t n;
    bool failed;
} ends[] = {
    { "nothing", NULL, 0, false },
    { "a part of a hello", "\x16\x03\x01\x02", 4, false },
    { "garbage", "garbage and more of it", 22, true },
    { "plain HTTP", POST_A, sizeof POST_A - 1, true },
    { "a part of SSL 2", "\x80\x2e\x01\0\2\0\x15\0\0\0\x10", 11, false },
};

static void no_handshake(void **state)
{
    const struct end_row *r = *state;
    struct net_limits limits = roomy;
    struct client c = { 0 };
    struct world w;

    limits.handshake_timeout_ms = 300;
    open_over_tls(&w, &limits, false, NULL);
    client_connect(&c, &w);
    say(&w, &c, r->bytes, r->n);
    UNTIL_ENDED(&w, &c);
    assert_int_equal(net_handshakes(w.server, HANDSHAKE_FAILED), r->failed);
    assert_int_equal(net_handshakes(w.server, HANDSHAKE_TIMEOUT), !r->failed);
    assert_int_equal(w.served + w.refused_n, 0);
    client_free(&c);
    close_world(&w);
}

/* The deadline of a handshake is not that of the requests behind it. */
static void a_handshake_ends_its_deadline(void **state UNUSED)
{
    struct net_limits limits = roomy;
    struct world w;
    struct secure s;
    int64_t end;

    limits.handshake_timeout_ms = 1000;
    open_over_tls(&w, &limits, false, NULL);
    w.at_once = true;
    secure_connect(&w, &s, NULL);
    for (end = clock_mono_ms() + 1600; clock_mono_ms() < end;)
        turn(&w);
    secure_say(&w, &s, POST_A, strlen(POST_A));
    UNTIL(&w, secure_count(&s, "HTTP/1.1 200") == 1);
    secure_free(&s);
    close_world(&w);
}

static void goodbye_is_said(void **state UNUSED)
{
    struct world w;
    struct secure s;
    static const char last[] =
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 1\r\n\r\nA";

    open_over_tls(&w, &roomy, false, NULL);
    w.at_once = true;
    secure_connect(&w, &s, NULL);
    secure_say(&w, &s, last, sizeof last - 1);
    UNTIL(&w, secure_hear(&s) && s.ended);
    assert_non_null(strstr(buf_cstr(&s.c.got), "HTTP/1.1 200"));
    secure_free(&s);
    close_world(&w);
}

static void an_answer_that_comes_later(void **state UNUSED)
{
    struct world w;
    struct secure s;

    open_over_tls(&w, &roomy, false, NULL);
    w.as_later = true;
    secure_connect(&w, &s, NULL);
    secure_say(&w, &s, GET, strlen(GET));
    UNTIL(&w, w.served == 1);
    settle(&w);
    assert_int_equal(w.stream_closed, 0);
    assert_non_null(w.stream);
    net_stream_finish(w.stream, S("HTTP/1.1 204 No Content\r\n\r\n"));
    UNTIL(&w, secure_hear(&s) && s.ended);
    assert_non_null(strstr(buf_cstr(&s.c.got), "HTTP/1.1 204"));
    secure_free(&s);
    close_world(&w);
}

static void a_refusal_is_heard(void **state UNUSED)
{
    struct world w;
    struct secure s;

    open_over_tls(&w, &roomy, false, NULL);
    secure_connect(&w, &s, NULL);
    secure_say(&w, &s, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24);
    UNTIL(&w, secure_hear(&s) && s.ended);
    assert_non_null(strstr(buf_cstr(&s.c.got), "HTTP/1.1 505"));
    secure_free(&s);
    close_world(&w);
}

static void an_abrupt_end(void **state UNUSED)
{
    struct world w;
    struct secure s;

    open_over_tls(&w, &roomy, false, NULL);
    secure_connect(&w, &s, NULL);
    secure_say(&w, &s, POST_A "POST / HT", strlen(POST_A) + 9);
    UNTIL(&w, w.got_n == 1);
    close(s.c.fd); /* no goodbye */
    s.c.fd = 0;
    settle(&w);
    answer(w.got[0], "to nobody");
    UNTIL(&w, net_connections(w.server) == 0);
    secure_free(&s);
    close_world(&w);
}

static void who_the_client_is(void **state UNUSED)
{
    struct world w;
    struct secure s;

    open_over_tls(&w, &roomy, false, ca_path);
    secure_connect(&w, &s, &sender);
    secure_say(&w, &s, POST_A, strlen(POST_A));
    UNTIL(&w, w.got_n == 1);
    assert_string_equal(net_client_names(w.got[0]).p, "dns:sender.example");
    answer(w.got[0], "hello");
    UNTIL(&w, secure_count(&s, "hello") == 1);
    secure_free(&s);
    close_world(&w);
}

/* --- PROXY headers -------------------------------------------------------------------------------
 */

static void remote_is(struct world *w, const char *text)
{
    char got[NET_PEER_TEXT_MAX];
    struct net_peer p;

    net_peer(w->got[0], &p);
    assert_string_equal(net_peer_text(&p, got), text);
}

static const struct split_row {
    const char *name;
    size_t at; /* the header comes in two parts; 0: with all that follows */
} splits[] = { { "at once", 0 }, { "in two", 9 }, { "byte by byte", 1 } };

static void behind_a_proxy(void **state)
{
    const struct split_row *r = *state;
    static const char all[] = PROXY POST_A;
    struct client c = { 0 };
    struct world w;
    size_t at = 0;

    world_open(&w, &roomy);
    net_set_limits(w.server, &(struct net_limits){ .http = roomy.http,
                                                   .buffer_bytes = MIB(64),
                                                   .connections = 9,
                                                   .header_timeout_ms = 60000,
                                                   .handshake_timeout_ms = 60000,
                                                   .pipeline = 32 });
    net_set_door(w.server, 0, &(struct net_door){ .proxy = true });
    client_connect(&c, &w);
    while (at < sizeof all - 1) {
        size_t n = r->at ? MIN(r->at, sizeof all - 1 - at) : sizeof all - 1;
        say(&w, &c, all + at, n);
        at += n;
        turn(&w);
    }
    UNTIL(&w, w.got_n == 1);
    remote_is(&w, "192.0.2.1");
    answer(w.got[0], "hello");
    UNTIL_HEARD(&w, &c, "hello");
    client_free(&c);
    world_close(&w);
}

static void behind_a_proxy_and_tls(void **state UNUSED)
{
    struct world w;
    struct secure s = { .ctx = client_context(&ours, NULL) };

    open_over_tls(&w, &roomy, true, NULL);
    client_connect(&s.c, &w);
    says(&w, &s.c, PROXY);
    s.ssl = client_new(s.ctx, s.c.fd);
    UNTIL(&w, SSL_do_handshake(s.ssl) == 1);
    secure_say(&w, &s, POST_A, strlen(POST_A));
    UNTIL(&w, w.got_n == 1);
    remote_is(&w, "192.0.2.1");
    answer(w.got[0], "hello");
    UNTIL(&w, secure_count(&s, "hello") == 1);
    secure_free(&s);
    close_world(&w);
}

static void without_a_header(void **state UNUSED)
{
    struct client c = { 0 };
    struct world w;

    world_open(&w, &roomy);
    net_set_door(w.server, 0, &(struct net_door){ .proxy = true });
    client_connect(&c, &w);
    says(&w, &c, POST_A);
    UNTIL_ENDED(&w, &c);
    assert_int_equal(c.got.n, 0);
    assert_int_equal(w.served + w.refused_n, 0);
    assert_int_equal(net_handshakes(w.server, HANDSHAKE_PROXY), 1);
    client_free(&c);
    world_close(&w);
}

static void header_of_a_stranger(void **state UNUSED)
{
    char *texts[] = { "192.0.2.0/24" };
    struct cfg_strs strs = { texts, 1 };
    struct address_nets from;
    struct err e = ERR_INIT;
    struct client c = { 0 };
    struct world w;

    assert_int_equal(address_nets_init(&from, &strs, &e), 0);
    world_open(&w, &roomy);
    net_set_door(w.server, 0, &(struct net_door){ .proxy = true, .from = &from });
    client_connect(&c, &w);
    says(&w, &c, PROXY POST_A);
    UNTIL_ENDED(&w, &c);
    assert_int_equal(w.served, 0);
    assert_int_equal(net_handshakes(w.server, HANDSHAKE_PROXY), 1);
    client_free(&c);
    world_close(&w);
    address_nets_close(&from);
}

/* What is greeted goes on by the door that it came through; what comes later finds the new one. */
static void a_door_is_changed(void **state UNUSED)
{
    struct world w;
    struct secure s;
    struct client c = { 0 };

    open_over_tls(&w, &roomy, false, NULL);
    w.at_once = true;
    secure_connect(&w, &s, NULL);
    net_set_door(w.server, 0, &(struct net_door){ .proxy = false });
    net_door_close(&w.door);
    secure_say(&w, &s, POST_A, strlen(POST_A));
    UNTIL(&w, secure_count(&s, "HTTP/1.1 200") == 1);
    client_connect(&c, &w);
    says(&w, &c, POST_A);
    UNTIL_HEARD(&w, &c, "HTTP/1.1 200");
    client_free(&c);
    secure_free(&s);
    close_world(&w);
}

int main(void)
{
    static char dir[] = "/tmp/hookline-nettls-XXXXXX";
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_and_answers),
        { "small records", bytes_that_wait_inside_tls, NULL, NULL, (void *)(uintptr_t)7 },
        { "large records", bytes_that_wait_inside_tls, NULL, NULL, (void *)(uintptr_t)16384 },
        { "uneven records", bytes_that_wait_inside_tls, NULL, NULL, (void *)(uintptr_t)5001 },
        cmocka_unit_test(a_long_pipeline),
        cmocka_unit_test(answers_that_do_not_fit),
        cmocka_unit_test(a_handshake_ends_its_deadline),
        cmocka_unit_test(goodbye_is_said),
        cmocka_unit_test(an_answer_that_comes_later),
        cmocka_unit_test(a_refusal_is_heard),
        cmocka_unit_test(an_abrupt_end),
        cmocka_unit_test(who_the_client_is),
        cmocka_unit_test(behind_a_proxy_and_tls),
        cmocka_unit_test(without_a_header),
        cmocka_unit_test(header_of_a_stranger),
        cmocka_unit_test(a_door_is_changed),
    };
    int failed;

    signal(SIGPIPE, SIG_IGN);
    if (!mkdtemp(dir))
        return 1;
    snprintf(cert_path, sizeof cert_path, "%s/crt", dir);
    snprintf(key_path, sizeof key_path, "%s/key", dir);
    snprintf(ca_path, sizeof ca_path, "%s/ca", dir);
    ours = certify("localhost", "DNS:localhost", false, NULL);
    sender = certify("sender", "DNS:sender.example", false, &ours);
    write_pem(cert_path, &ours, false);
    write_pem(key_path, &ours, true);
    write_pem(ca_path, &ours, false);
    failed = T_TABLE(ends, no_handshake) + T_TABLE(splits, behind_a_proxy) + T_RUN(tests);
    unlink(cert_path);
    unlink(key_path);
    unlink(ca_path);
    rmdir(dir);
    authority_free(&ours);
    authority_free(&sender);
    return failed;
}
