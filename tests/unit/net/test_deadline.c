/* SPDX-License-Identifier: Apache-2.0 */
/* Deadlines of each kind: which one holds after which bytes, and what the client is told. */
#include "harness.h"

#define SHORT_MS 150

enum kind { HEADER, BODY, IDLE, REPLY };

static struct net_limits only(enum kind k)
{
    struct net_limits l = roomy;

    *(k == HEADER ? &l.header_timeout_ms
      : k == BODY ? &l.body_timeout_ms
      : k == IDLE ? &l.idle_timeout_ms
                  : &l.reply_timeout_ms) = SHORT_MS;
    return l;
}

#define CHUNKED_POST "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
static const struct row {
    const char *name;
    enum kind kind;
    const char *bytes;
    const char *told; /* NULL: the connection ends silently */
    size_t answers;   /* with that */
} ending[] = {
    { "no byte at all", HEADER, "", NULL, 0 },
    { "one byte", HEADER, "P", "header_timeout", 1 },
    { "headers without an end", HEADER, "POST / HTTP/1.1\r\nHost: a\r\n", "header_timeout", 1 },
    { "the next request without an end", HEADER, POST_A "POST /", "header_timeout", 2 },
    { "a body without an end", BODY, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nab",
      "body_timeout", 1 },
    { "a chunked body without an end", BODY, CHUNKED_POST "2\r\nab\r\n", "body_timeout", 1 },
    { "trailers without an end", BODY, CHUNKED_POST "0\r\nX: ", "body_timeout", 1 },
    { "nothing behind 100 Continue", BODY,
      "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n",
      "body_timeout", 2 },
    { "idle between requests", IDLE, POST_A, NULL, 1 },
    { "idle behind a pipeline", IDLE, POST_A POST_B, NULL, 2 },
};

static void ends(void **state)
{
    const struct row *r = *state;
    struct net_limits limits = only(r->kind);
    struct world w;
    struct client c = { 0 };

    world_open(&w, &limits);
    w.at_once = true;
    client_connect(&c, &w);
    says(&w, &c, r->bytes);
    UNTIL_ENDED(&w, &c);
    assert_false(c.reset);
    assert_int_equal(count(&c, "HTTP/1.1 "), r->answers);
    if (r->told) {
        assert_true(heard(&c, "408 Request Timeout") && heard(&c, "Connection: close"));
        assert_true(heard(&c, r->told));
    } else {
        assert_false(heard(&c, "408"));
    }
    client_free(&c);
    UNTIL(&w, net_connections(w.server) == 0);
    world_close(&w);
}

static const struct stay_row {
    const char *name;
    enum kind kind;
    const char *bytes;
} staying[] = {
    { "idle does not fall under the header deadline", HEADER, POST_A },
    { "a body does not fall under the header deadline", HEADER,
      "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nab" },
    { "headers do not fall under the body deadline", BODY, "POST /" },
    { "headers do not fall under the idle deadline", IDLE, "POST /" },
    { "silence does not fall under the idle deadline", IDLE, "" },
};

static void stays(void **state)
{
    const struct stay_row *r = *state;
    struct net_limits limits = only(r->kind);
    struct world w;
    struct client c = { 0 };
    int64_t end;

    world_open(&w, &limits);
    w.at_once = true;
    client_connect(&c, &w);
    says(&w, &c, r->bytes);
    end = clock_mono_ms() + 4 * SHORT_MS;
    UNTIL(&w, clock_mono_ms() > end);
    hear(&c);
    assert_false(c.ended);
    client_free(&c);
    world_close(&w);
}

/* Each byte comes within the deadline, the whole does not. */
static void a_drip_does_not_move_the_deadline(void **state)
{
    bool body = *state != NULL;
    struct net_limits limits = only(body ? BODY : HEADER);
    struct world w;
    struct client c = { 0 };

    world_open(&w, &limits);
    client_connect(&c, &w);
    says(&w, &c,
         body ? "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n"
              : "POST / HTTP/1.1\r\nX: ");
    while (hear(&c) && !c.ended) {
        ssize_t ignored = send(c.fd, "x", 1, MSG_NOSIGNAL);
        (void)ignored;
        turn(&w);
    }
    assert_true(heard(&c, body ? "body_timeout" : "header_timeout"));
    client_free(&c);
    UNTIL(&w, net_connections(w.server) == 0);
    world_close(&w);
}

/* What waits for the handler is the handler's business; no deadline of ours is under way. */
static void no_deadline_while_the_handler_has_the_request(void **state UNUSED)
{
    struct net_limits limits = roomy;
    struct world w;
    struct client c = { 0 };
    int64_t end;

    limits.header_timeout_ms = limits.body_timeout_ms = limits.idle_timeout_ms =
        limits.reply_timeout_ms = SHORT_MS;
    world_open(&w, &limits);
    client_connect(&c, &w);
    says(&w, &c, POST_A);
    UNTIL(&w, w.got_n == 1);
    end = clock_mono_ms() + 4 * SHORT_MS;
    UNTIL(&w, clock_mono_ms() > end);
    answer(w.got[0], "<late>");
    UNTIL_HEARD(&w, &c, "<late>");
    UNTIL_ENDED(&w, &c); /* now it is idle */
    client_free(&c);
    world_close(&w);
}

static void a_client_that_does_not_read_is_closed(void **state UNUSED)
{
    struct net_limits limits = only(REPLY);
    struct world w;
    struct client c = { 0 };
    int small = 4096;
    char *body = malloc(MIB(4) + 1);

    memset(body, 'x', MIB(4));
    body[MIB(4)] = '\0';
    c.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(c.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    world_open(&w, &limits);
    client_connect(&c, &w);
    says(&w, &c, POST_A POST_B);
    UNTIL(&w, w.got_n == 2);
    answer(w.got[0], body);
    assert_int_equal(net_connections(w.server), 1);
    UNTIL(&w, net_connections(w.server) == 0);
    assert_true(w.got[1]->gone);
    answer(w.got[1], "nobody hears it");
    free(body);
    client_free(&c);
    world_close(&w);
}

static void a_deadline_of_a_reload_holds_for_what_comes_after(void **state UNUSED)
{
    struct net_limits shorter = only(HEADER);
    struct world w;
    struct client before = { 0 }, after = { 0 };

    world_open(&w, &roomy);
    client_connect(&before, &w);
    says(&w, &before, "POST /");
    settle(&w);
    net_set_limits(w.server, &shorter);
    client_connect(&after, &w);
    says(&w, &after, "POST /");
    before.ended = false;
    client_free(&before); /* the head of the list; those behind it are looked at */
    UNTIL_ENDED(&w, &after);
    assert_true(heard(&after, "header_timeout"));
    client_free(&after);
    world_close(&w);
}

int main(void)
{
    static char body[] = "body";
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_drip_does_not_move_the_deadline),
        cmocka_unit_test_prestate(a_drip_does_not_move_the_deadline, body),
        cmocka_unit_test(no_deadline_while_the_handler_has_the_request),
        cmocka_unit_test(a_client_that_does_not_read_is_closed),
        cmocka_unit_test(a_deadline_of_a_reload_holds_for_what_comes_after),
    };

    return T_TABLE(ending, ends) + T_TABLE(staying, stays) + T_RUN(tests);
}
