/* SPDX-License-Identifier: Apache-2.0 */
/* A connection: answers in the order of the requests whatever the order of the handler, reading
 * that stops and goes on, output that the kernel does not take, clients that leave. */
#include "harness.h"

#include <netinet/tcp.h>

#define BIG (size_t) MIB(4)

static void answers_leave_in_the_order_of_the_requests(void **state UNUSED)
{
    struct world w;
    struct client c = { 0 };

    world_open(&w, &roomy);
    client_connect(&c, &w);
    says(&w, &c, POST_A POST_B POST_C);
    UNTIL(&w, w.got_n == 3);
    assert_int_equal(net_unanswered(w.server), 3);
    answer(w.got[2], "<third>");
    answer(w.got[1], "<second>");
    settle(&w);
    hear(&c);
    assert_int_equal(c.got.n, 0);
    answer(w.got[0], "<first>");
    UNTIL_HEARD(&w, &c, "<third>");
    assert_true(strstr(c.got.p, "<first>") < strstr(c.got.p, "<second>"));
    assert_true(strstr(c.got.p, "<second>") < strstr(c.got.p, "<third>"));
    assert_int_equal(net_unanswered(w.server), 0);
    client_free(&c);
    world_close(&w);
}

static void a_full_pipeline_pauses_reading(void **state UNUSED)
{
    struct net_limits limits = roomy;
    struct world w;
    struct client c = { 0 };

    limits.pipeline = 4;
    world_open(&w, &limits);
    client_connect(&c, &w);
    for (int i = 0; i < 10; i++)
        says(&w, &c, POST_A);
    UNTIL(&w, w.got_n == 4);
    settle(&w);
    assert_int_equal(w.got_n, 4);
    answer(w.got[1], "out of turn");
    settle(&w);
    assert_int_equal(w.got_n, 4); /* it makes no room before the first is out */
    answer(w.got[0], "in turn");
    UNTIL(&w, w.got_n == 6);
    for (size_t i = 2; i < 10; i++) {
        UNTIL(&w, w.got_n > i);
        answer(w.got[i], "later");
    }
    UNTIL(&w, count(&c, "HTTP/1.1 200") == 10);
    client_free(&c);
    world_close(&w);
}

static void a_handler_that_answers_at_once_does_not_nest(void **state UNUSED)
{
    struct net_limits limits = roomy;
    struct world w;
    struct client c = { 0 };
    struct buf many = BUF_INIT;

    limits.pipeline = 1; /* each answer makes room for the next request */
    limits.http.body_bytes = MIB(8);
    world_open(&w, &limits);
    w.at_once = true;
    client_connect(&c, &w);
    for (int i = 0; i < 20000; i++)
        buf_adds(&many, POST_A);
    while (many.n) {
        size_t piece = MIN(many.n, (size_t)60000);
        say(&w, &c, many.p, piece);
        buf_drop(&many, piece);
        turn(&w);
        hear(&c);
    }
    UNTIL(&w, hear(&c) && w.served == 20000);
    UNTIL(&w, count(&c, "HTTP/1.1 200") == 20000);
    assert_int_equal(w.deepest, 1);
    buf_free(&many);
    client_free(&c);
    world_close(&w);
}

static char *pattern(size_t n)
{
    char *p = malloc(n + 1);

    for (size_t i = 0; i < n; i++)
        p[i] = (char)('a' + i * 7 % 26);
    p[n] = '\0';
    return p;
}

static int armed(const struct net_conn *c)
{
    return c->armed & (EV_READ | EV_WRITE);
}

/* A client that has asked and reads nothing yet; the first answer does not fit into the sockets. */
static void ask_for_much(struct world *w, struct client *c, const char *more)
{
    int small = 4096;

    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    client_connect(c, w);
    says(w, c, POST_A);
    says(w, c, more);
    UNTIL(w, w->got_n >= 1);
    setsockopt(w->got[0]->conn->fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
}

/* Nagle's algorithm would keep a small answer back until the one before it is acknowledged. */
static void an_accepted_connection_sends_at_once(void **state UNUSED)
{
    struct world w;
    struct client c = { 0 };
    int no_delay = 0;
    socklen_t n = sizeof no_delay;

    world_open(&w, &roomy);
    client_connect(&c, &w);
    says(&w, &c, POST_A);
    UNTIL(&w, w.got_n == 1);
    assert_int_equal(getsockopt(w.got[0]->conn->fd, IPPROTO_TCP, TCP_NODELAY, &no_delay, &n), 0);
    assert_int_equal(no_delay, 1);
    answer(w.got[0], "");
    client_free(&c);
    world_close(&w);
}

static void what_the_kernel_does_not_take_is_sent_later(void **state UNUSED)
{
    struct world w;
    struct client c = { 0 };
    char *body = pattern(BIG);
    struct net_conn *conn;

    world_open(&w, &roomy);
    ask_for_much(&w, &c, "");
    conn = w.got[0]->conn;
    assert_int_equal(armed(conn), EV_READ);
    answer(w.got[0], body);
    assert_int_equal(armed(conn), EV_WRITE);
    assert_int_equal(net_unanswered(w.server), 1); /* a shutdown must not cut it off */
    UNTIL(&w, hear(&c) && c.got.n > BIG);
    assert_string_equal(strstr(buf_cstr(&c.got), "\r\n\r\n") + 4, body);
    UNTIL(&w, armed(conn) == EV_READ);
    assert_int_equal(net_unanswered(w.server), 0);
    assert_null(conn->out.p); /* nothing is held for a connection that waits */
    free(body);
    client_free(&c);
    world_close(&w);
}

static void a_client_that_does_not_read_is_not_read(void **state UNUSED)
{
    struct world w;
    struct client c = { 0 };
    char *body = pattern(BIG);

    world_open(&w, &roomy);
    ask_for_much(&w, &c, "");
    answer(w.got[0], body);
    says(&w, &c, POST_B POST_C);
    settle(&w);
    assert_int_equal(w.got_n, 1);
    w.at_once = true;
    UNTIL(&w, hear(&c) && w.served == 3);
    UNTIL(&w, count(&c, "HTTP/1.1 200") == 3);
    free(body);
    client_free(&c);
    world_close(&w);
}

static void requests_already_read_wait_as_well(void **state UNUSED)
{
    struct world w;
    struct client c = { 0 };
    char *body = pattern(BIG);

    world_open(&w, &roomy);
    ask_for_much(&w, &c, POST_B POST_C); /* all three came in one piece */
    UNTIL(&w, w.got_n == 3);
    answer(w.got[0], body);
    answer(w.got[1], "<second>");
    answer(w.got[2], "<third>");
    UNTIL_HEARD(&w, &c, "<third>");
    assert_true(strstr(c.got.p, "<second>") < strstr(c.got.p, "<third>"));
    free(body);
    client_free(&c);
    world_close(&w);
}

static void a_client_that_has_said_all_still_gets_its_answer(void **state UNUSED)
{
    struct world w;
    struct client c = { 0 };
    char *body = pattern(BIG);

    world_open(&w, &roomy);
    ask_for_much(&w, &c, "POST / HTTP/1.1\r\nHost: a\r\n"); /* the second is never finished */
    shutdown(c.fd, SHUT_WR);
    settle(&w);
    answer(w.got[0], body);
    UNTIL_ENDED(&w, &c);
    assert_false(c.reset);
    assert_int_equal(count(&c, "HTTP/1.1 "), 1);
    assert_string_equal(strstr(buf_cstr(&c.got), "\r\n\r\n") + 4, body);
    UNTIL(&w, net_connections(w.server) == 0);
    free(body);
    client_free(&c);
    world_close(&w);
}

/* A client whose connection the server has taken, and has no event of yet. */
static void meet(struct world *w, struct client *c)
{
    world_open(w, &roomy);
    client_connect(c, w);
    settle(w);
}

/* All of it is in the socket before the server's next turn. */
static void says_at_once(struct client *c, const char *p, size_t n)
{
    assert_int_equal(send(c->fd, p, n, MSG_NOSIGNAL), n);
}

/* One event tells of both. */
static void an_end_that_comes_with_the_bytes_is_seen(void **state UNUSED)
{
    static const char *const said[] = { POST_A, POST_A POST_B, "POST / HTTP/1.1\r\nHost", "",
                                        "nonsense\r\n and more" };

    for (size_t i = 0; i < ARRAY_LEN(said); i++) {
        struct world w;
        struct client c = { 0 };

        meet(&w, &c);
        w.at_once = true;
        says_at_once(&c, said[i], strlen(said[i]));
        shutdown(c.fd, SHUT_WR);
        settle(&w);
        assert_int_equal(net_connections(w.server), 0);
        UNTIL_ENDED(&w, &c);
        assert_false(c.reset);
        client_free(&c);
        world_close(&w);
    }
}

static void a_stream_ends_with_an_end_that_came_before_it(void **state UNUSED)
{
    struct world w;
    struct client c = { 0 };

    meet(&w, &c);
    w.as_stream = true;
    says_at_once(&c, GET, strlen(GET));
    shutdown(c.fd, SHUT_WR);
    settle(&w);
    assert_int_equal(w.served, 1);
    assert_int_equal(w.stream_closed, 1);
    assert_int_equal(net_connections(w.server), 0);
    client_free(&c);
    world_close(&w);
}

static void leave(struct client *c)
{
    static const struct linger now = { 1, 0 };

    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now); /* a reset */
    client_free(c);
}

/* The bytes are read first, and no further event tells of the reset. */
static void a_reset_that_comes_with_the_bytes_is_seen(void **state UNUSED)
{
    static const char *const said[] = { POST_A, "POST / HTTP/1.1\r\nHost", GET };

    for (size_t i = 0; i < ARRAY_LEN(said); i++) {
        struct world w;
        struct client c = { 0 };

        meet(&w, &c);
        w.at_once = w.as_later = true;
        says_at_once(&c, said[i], strlen(said[i]));
        leave(&c);
        settle(&w);
        assert_int_equal(net_connections(w.server), 0);
        assert_int_equal(w.stream_closed, said[i][0] == 'G');
        world_close(&w);
    }
}

/* Its owner learns it from NULL alone. */
static void a_stream_that_never_began_is_not_closed(void **state UNUSED)
{
    struct world w;
    struct client c = { 0 };

    meet(&w, &c);
    w.as_stream = true;
    says_at_once(&c, GET, strlen(GET));
    leave(&c); /* so that the head of the stream cannot be sent */
    settle(&w);
    assert_int_equal(w.served, 1);
    assert_null(w.stream);
    assert_int_equal(w.stream_closed, 0);
    assert_int_equal(net_connections(w.server), 0);
    world_close(&w);
}

static void one_client_does_not_take_every_turn(void **state UNUSED)
{
    struct world w;
    struct client c = { 0 };
    struct buf all = BUF_INIT;

    meet(&w, &c);
    w.at_once = true;
    for (int i = 0; i < 3000; i++)
        buf_adds(&all, POST_A);
    says_at_once(&c, all.p, all.n);
    event_base_loop(w.base, EVLOOP_ONCE);
    assert_in_range(w.served, 1, 2000);
    UNTIL(&w, hear(&c) && w.served == 3000);
    buf_free(&all);
    client_free(&c);
    world_close(&w);
}

/* More than one read takes, all in the socket before the first. */
static void what_is_there_at_once_is_taken_to_its_end(void **state UNUSED)
{
    struct world w;
    struct client c = { 0 };
    char *body = pattern(60000);
    struct buf all = BUF_INIT;

    meet(&w, &c);
    w.at_once = true;
    buf_printf(&all, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n%s", body);
    for (int i = 0; i < 20; i++)
        buf_adds(&all, POST_A);
    says_at_once(&c, all.p, all.n);
    UNTIL(&w, w.served == 21);
    UNTIL(&w, hear(&c) && count(&c, "HTTP/1.1 200") == 21);
    buf_free(&all);
    free(body);
    client_free(&c);
    world_close(&w);
}

static void what_lies_behind_a_refusal_is_thrown_away_at_once(void **state UNUSED)
{
    struct world w;
    struct client c = { 0 };
    char *junk = pattern(50000);

    meet(&w, &c);
    memcpy(junk, "nonsense\r\n", 10);
    says_at_once(&c, junk, 50000);
    shutdown(c.fd, SHUT_WR);
    settle(&w);
    assert_int_equal(net_connections(w.server), 0);
    UNTIL_ENDED(&w, &c);
    assert_false(c.reset);
    free(junk);
    client_free(&c);
    world_close(&w);
}

static void a_request_outlives_its_client(void **state UNUSED)
{
    struct world w;
    struct client c = { 0 };

    world_open(&w, &roomy);
    client_connect(&c, &w);
    says(&w, &c, POST_A POST_B);
    UNTIL(&w, w.got_n == 2);
    answer(w.got[1], "waits for the first"); /* answered, never sent */
    leave(&c);
    UNTIL(&w, w.got[0]->gone);
    assert_true(span_eq(http_body(&w.got[0]->http, w.got[0]->bytes), S("A")));
    assert_int_equal(net_connections(w.server), 0);
    assert_int_equal(net_unanswered(w.server), 1);
    answer(w.got[0], "nobody hears it");
    assert_int_equal(net_unanswered(w.server), 0);
    world_close(&w);
}

/* The record of a request may stay with the log longer than its answer with us. */
static void a_kept_request_outlives_its_answer(void **state UNUSED)
{
    struct world w;
    struct client c = { 0 };

    world_open(&w, &roomy);
    w.keep = true;
    client_connect(&c, &w);
    says(&w, &c, POST_A POST_B);
    UNTIL(&w, w.got_n == 2);
    answer(w.got[0], "<first>");
    UNTIL_HEARD(&w, &c, "<first>");
    assert_true(span_eq(http_body(&w.got[0]->http, w.got[0]->bytes), S("A")));
    net_request_release(w.got[1]); /* released before its answer: the answer gives it back */
    answer(w.got[1], "<second>");
    UNTIL_HEARD(&w, &c, "<second>");
    assert_int_equal(w.held, REQUEST_BYTES);
    net_request_release(w.got[0]);
    assert_int_equal(w.held, 0);
    client_free(&c);
    world_close(&w);
}

static void memory_of_all_requests_is_bounded(void **state UNUSED)
{
    struct net_limits limits = roomy;
    struct world w;
    struct client a = { 0 }, b = { 0 };
    static const char head[] = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 30000\r\n\r\n";
    char *body = pattern(30000);

    limits.buffer_bytes = 40000;
    world_open(&w, &limits);
    client_connect(&a, &w);
    says(&w, &a, head);
    say(&w, &a, body, 29999);
    UNTIL(&w, w.held > 30000);
    client_connect(&b, &w);
    says(&w, &b, head);
    say(&w, &b, body, 20000);
    UNTIL_HEARD(&w, &b, "503 Service Unavailable");
    assert_true(heard(&b, "\"overloaded\"") && heard(&b, "Retry-After: ") &&
                heard(&b, "Connection: close"));
    assert_int_equal(w.refused, HTTP_ERR_OVERLOADED);
    says(&w, &a, "x"); /* who was there first is served */
    UNTIL(&w, w.got_n == 1);
    answer(w.got[0], "<whole>");
    UNTIL_HEARD(&w, &a, "<whole>");
    client_free(&a);
    client_free(&b);
    UNTIL(&w, w.held == 0);
    free(body);
    world_close(&w);
}

static void refusing_lingers_for_a_client_that_still_sends(void **state UNUSED)
{
    struct world w;
    struct client c = { 0 };
    char *rest = pattern(30000);

    world_open(&w, &roomy);
    w.refuse_head = HTTP_ERR_NOT_FOUND;
    client_connect(&c, &w);
    says(&w, &c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 40000\r\n\r\n");
    UNTIL(&w, w.refused_n == 1);
    say(&w, &c, rest, 30000);
    UNTIL_ENDED(&w, &c);
    assert_false(c.reset);
    assert_true(heard(&c, "404 Not Found") && heard(&c, "not_found"));
    assert_int_equal(net_connections(w.server), 1); /* until the client closes, or a second */
    UNTIL(&w, net_connections(w.server) == 0);
    free(rest);
    client_free(&c);
    world_close(&w);
}

static void lingering_has_an_end(void **state UNUSED)
{
    struct world w;
    struct client c = { 0 };
    char *much = pattern(200000);

    world_open(&w, &roomy);
    client_connect(&c, &w);
    says(&w, &c, "nonsense\r\n");
    UNTIL(&w, w.refused_n == 1);
    for (size_t at = 0; at < 200000 && net_connections(w.server); at += 10000) {
        ssize_t ignored = send(c.fd, much + at, 10000, MSG_NOSIGNAL);
        (void)ignored;
        turn(&w);
    }
    UNTIL(&w, net_connections(w.server) == 0);
    free(much);
    client_free(&c);
    world_close(&w);
}

static void what_lies_behind_a_refusal_does_not_cost_the_answers_before_it(void **state UNUSED)
{
    struct world w;
    struct client c = { 0 };
    char *junk = pattern(200000);

    world_open(&w, &roomy);
    client_connect(&c, &w);
    says(&w, &c, POST_A "nonsense\r\n");
    UNTIL(&w, w.refused_n == 1);
    for (int i = 0; i < 10; i++) {
        ssize_t ignored = send(c.fd, junk, 20000, MSG_NOSIGNAL);
        (void)ignored;
        turn(&w);
    }
    assert_false(w.got[0]->gone);
    answer(w.got[0], "<first>");
    UNTIL_ENDED(&w, &c);
    assert_true(heard(&c, "<first>") && heard(&c, "bad_request_line"));
    free(junk);
    client_free(&c);
    world_close(&w);
}

static void continue_waits_for_the_answers_before_it(void **state UNUSED)
{
    struct world w;
    struct client c = { 0 };

    world_open(&w, &roomy);
    client_connect(&c, &w);
    says(&w, &c,
         POST_A "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n"
                "Expect: 100-continue\r\n\r\n");
    UNTIL(&w, w.got_n == 1);
    settle(&w);
    assert_false(heard(&c, "100 Continue"));
    answer(w.got[0], "<first>");
    UNTIL_HEARD(&w, &c, "100 Continue");
    assert_true(strstr(c.got.p, "<first>") < strstr(c.got.p, "100 Continue"));
    says(&w, &c, "abc");
    UNTIL(&w, w.got_n == 2);
    answer(w.got[1], "<second>");
    UNTIL_HEARD(&w, &c, "<second>");
    assert_int_equal(count(&c, "100 Continue"), 1);
    client_free(&c);
    world_close(&w);
}

static void a_body_that_did_not_wait_needs_no_continue(void **state UNUSED)
{
    struct world w;
    struct client c = { 0 };

    world_open(&w, &roomy);
    client_connect(&c, &w);
    says(&w, &c,
         POST_A "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n"
                "Expect: 100-continue\r\n\r\n");
    UNTIL(&w, w.got_n == 1);
    says(&w, &c, "abc");
    UNTIL(&w, w.got_n == 2);
    answer(w.got[0], "<first>");
    answer(w.got[1], "<second>");
    UNTIL_HEARD(&w, &c, "<second>");
    assert_false(heard(&c, "100 Continue"));
    client_free(&c);
    world_close(&w);
}

static void an_answer_to_head_has_no_body(void **state UNUSED)
{
    struct world w;
    struct client c = { 0 };

    world_open(&w, &roomy);
    client_connect(&c, &w);
    says(&w, &c, "HEAD / HTTP/1.1\r\nHost: a\r\n\r\nHEAD / HTTP/1.1\r\nHost: a\r\n\r\n" POST_A);
    UNTIL(&w, w.got_n == 3);
    answer(w.got[0], "unseen");
    net_answer_error(w.got[1], HTTP_ERR_NOT_FOUND, NULL, NULL);
    answer(w.got[2], "seen");
    UNTIL(&w, count(&c, "HTTP/1.1 ") == 3);
    assert_false(heard(&c, "unseen") || heard(&c, "not_found"));
    assert_true(heard(&c, "Content-Length: 6\r\n"));
    client_free(&c);
    world_close(&w);
}

/* A chunk size that promises more than there is keeps a large buffer; what is pipelined behind the
 * body must not be copied from one such buffer to the next. */
static void little_is_read_behind_a_chunked_body(void **state UNUSED)
{
    struct world w;
    struct client c = { 0 };
    char *body = pattern(300000);
    struct buf all = BUF_INIT;

    world_open(&w, &roomy);
    client_connect(&c, &w);
    buf_printf(&all, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n",
               300000);
    buf_add(&all, body, 300000);
    buf_adds(&all, "\r\n0\r\n\r\n");
    for (int i = 0; i < 4000; i++)
        buf_adds(&all, POST_B);
    while (w.got_n < 32) { /* the pipeline is full */
        size_t n = MIN(all.n, (size_t)50000);
        ssize_t sent = send(c.fd, all.p, n, MSG_NOSIGNAL);
        if (sent > 0)
            buf_drop(&all, (size_t)sent);
        turn(&w);
    }
    assert_in_range(w.held, 300000, 300000 * 2 + 32 * (KIB(32) + REQUEST_BYTES));
    w.at_once = true;
    for (size_t i = 0; i < 32; i++)
        answer(w.got[i], "");
    buf_free(&all);
    free(body);
    client_free(&c);
    world_close(&w);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_leave_in_the_order_of_the_requests),
        cmocka_unit_test(a_full_pipeline_pauses_reading),
        cmocka_unit_test(a_handler_that_answers_at_once_does_not_nest),
        cmocka_unit_test(an_accepted_connection_sends_at_once),
        cmocka_unit_test(what_the_kernel_does_not_take_is_sent_later),
        cmocka_unit_test(a_client_that_does_not_read_is_not_read),
        cmocka_unit_test(requests_already_read_wait_as_well),
        cmocka_unit_test(a_client_that_has_said_all_still_gets_its_answer),
        cmocka_unit_test(an_end_that_comes_with_the_bytes_is_seen),
        cmocka_unit_test(a_stream_ends_with_an_end_that_came_before_it),
        cmocka_unit_test(a_reset_that_comes_with_the_bytes_is_seen),
        cmocka_unit_test(a_stream_that_never_began_is_not_closed),
        cmocka_unit_test(one_client_does_not_take_every_turn),
        cmocka_unit_test(what_is_there_at_once_is_taken_to_its_end),
        cmocka_unit_test(what_lies_behind_a_refusal_is_thrown_away_at_once),
        cmocka_unit_test(a_request_outlives_its_client),
        cmocka_unit_test(a_kept_request_outlives_its_answer),
        cmocka_unit_test(memory_of_all_requests_is_bounded),
        cmocka_unit_test(refusing_lingers_for_a_client_that_still_sends),
        cmocka_unit_test(lingering_has_an_end),
        cmocka_unit_test(what_lies_behind_a_refusal_does_not_cost_the_answers_before_it),
        cmocka_unit_test(continue_waits_for_the_answers_before_it),
        cmocka_unit_test(a_body_that_did_not_wait_needs_no_continue),
        cmocka_unit_test(an_answer_to_head_has_no_body),
        cmocka_unit_test(little_is_read_behind_a_chunked_body),
    };

    return T_RUN(tests);
}
