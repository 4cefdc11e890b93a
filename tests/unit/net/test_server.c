/* SPDX-License-Identifier: Apache-2.0 */
/* The server: addresses, the connection limit, descriptors that run out, draining, streams. */
#include "harness.h"

#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#define LONG "0123456789012345678901234567890123456789"

static const struct row {
    const char *name, *address;
    int code;
    const char *text;
} refused[] = {
    { "no port", "127.0.0.1", EXIT_BAD_CONFIG, "host:port" },
    { "an empty port", "127.0.0.1:", EXIT_BAD_CONFIG, "host:port" },
    { "a port that is none", "127.0.0.1:http?", EXIT_BAD_CONFIG, "127.0.0.1:http?" },
    { "a host that is none", "[::zz]:1", EXIT_BAD_CONFIG, "[::zz]:1" },
    { "an address that is not ours", "192.0.2.1:1", EXIT_TEMPORARY, "192.0.2.1:1" },
    { "a folder that is not there", "unix:/nonexistent/s", EXIT_TEMPORARY, "unix:/nonexistent/s" },
    { "a path that is too long", "unix:/" LONG LONG LONG, EXIT_BAD_CONFIG, "too long" },
};

static void no_listener(void **state)
{
    const struct row *r = *state;
    struct err e = ERR_INIT;

    assert_int_equal(net_bind(r->address, false, NULL, &e), -1);
    assert_int_equal(e.code, r->code);
    assert_non_null(strstr(e.text, r->text));
}

static void a_port_that_is_taken(void **state UNUSED)
{
    struct world w;
    struct err e = ERR_INIT;

    world_open(&w, &roomy);
    assert_int_equal(net_bind(w.address, false, NULL, &e), -1);
    assert_int_equal(e.code, EXIT_TEMPORARY);
    world_close(&w);
}

static int connect_unix(const char *path)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    strcpy(a.sun_path, path);
    if (connect(fd, (struct sockaddr *)&a, sizeof a)) {
        close(fd);
        return -1;
    }
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

static const char *remote_of(const struct net_request *req, char *out)
{
    struct net_peer peer;

    net_peer(req, &peer);
    return net_peer_text(&peer, out);
}

static void a_unix_socket(void **state UNUSED)
{
    char dir[] = "/tmp/hookline-net-XXXXXX", path[64], address[80], remote[64];
    struct err e = ERR_INIT;
    struct client c = { 0 };
    struct world w;
    struct stat st;
    int stale;

    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/s", dir);
    snprintf(address, sizeof address, "unix:%s", path);
    stale = net_bind(address, false, NULL, &e);
    assert_true(stale >= 0);
    assert_int_equal(net_bind(address, false, NULL, &e), -1); /* somebody serves it */
    assert_int_equal(e.code, EXIT_TEMPORARY);
    close(stale); /* its file stays, as after kill -9 */
    world_open(&w, &roomy);
    world_listen(&w, address);
    assert_string_equal(w.address, address);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0660);
    c.fd = connect_unix(path);
    says(&w, &c, POST_A);
    UNTIL(&w, w.got_n == 1);
    assert_string_equal(remote_of(w.got[0], remote), "unix");
    answer(w.got[0], "<over a file>");
    UNTIL_HEARD(&w, &c, "<over a file>");
    client_free(&c);
    world_close(&w);
    unlink(path);
    rmdir(dir);
}

static void remotes(void **state UNUSED)
{
    struct world w;
    struct client c = { 0 };
    char text[64];

    world_open(&w, &roomy);
    client_connect(&c, &w);
    says(&w, &c, POST_A);
    UNTIL(&w, w.got_n == 1);
    assert_string_equal(remote_of(w.got[0], text), "127.0.0.1");
    client_free(&c);
    UNTIL(&w, net_connections(w.server) == 1); /* it said FIN; it may still want its answer */
    answer(w.got[0], "");
    UNTIL(&w, net_connections(w.server) == 0);
    client_connect(&c, &w);
    says(&w, &c, "POST / HTTP/1.1\r\nHost: [::1]:80\r\nContent-Length: 0\r\n\r\n");
    UNTIL(&w, w.got_n == 2);
    setsockopt(c.fd, SOL_SOCKET, SO_LINGER, &(struct linger){ 1, 0 }, sizeof(struct linger));
    client_free(&c);
    UNTIL(&w, w.got[1]->gone);
    assert_string_equal(remote_of(w.got[1], text), "gone");
    answer(w.got[1], "");
    world_close(&w);
}

static void over_the_limit_clients_are_told(void **state UNUSED)
{
    struct net_limits limits = roomy;
    struct world w;
    struct client c[4] = { { 0 } };

    limits.connections = 2;
    world_open(&w, &limits);
    w.at_once = true;
    for (int i = 0; i < 3; i++) {
        client_connect(&c[i], &w);
        settle(&w);
    }
    UNTIL_ENDED(&w, &c[2]);
    assert_true(heard(&c[2], "503 Service Unavailable") && heard(&c[2], "too_many_connections") &&
                heard(&c[2], "Connection: close") && heard(&c[2], "Retry-After: "));
    assert_int_equal(w.refused, HTTP_ERR_TOO_MANY_CONNECTIONS);
    assert_true(w.refused_without_request);
    assert_int_equal(net_connections(w.server), 2);
    says(&w, &c[1], POST_A);
    UNTIL_HEARD(&w, &c[1], "200 OK");
    client_free(&c[0]);
    UNTIL(&w, net_connections(w.server) == 1);
    client_connect(&c[3], &w);
    says(&w, &c[3], POST_B);
    UNTIL_HEARD(&w, &c[3], "200 OK");
    for (int i = 0; i < 4; i++)
        client_free(&c[i]);
    world_close(&w);
}

static void without_descriptors_accepting_pauses(void **state UNUSED)
{
    struct world w;
    struct client c = { 0 };
    struct rlimit before, none;
    int highest;

    world_open(&w, &roomy);
    w.at_once = true;
    c.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    getrlimit(RLIMIT_NOFILE, &before);
    highest = dup(c.fd);
    close(highest);
    none = (struct rlimit){ (rlim_t)highest, before.rlim_max };
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    client_connect(&c, &w);
    says(&w, &c, POST_A);
    UNTIL(&w, w.server->accepting_paused);
    assert_false(event_pending(&w.server->listeners->ev, EV_READ, NULL)); /* so it cannot spin */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    UNTIL_HEARD(&w, &c, "200 OK"); /* it waited in the backlog */
    assert_false(w.server->accepting_paused);
    client_free(&c);
    world_close(&w);
}

static const struct limit_row {
    const char *name;
    rlim_t soft, hard;
    uint32_t wanted, reserve, want;
} connection_limits[] = {
    { "enough", 1000, 1000, 500, 128, 500 },
    { "exactly enough", 628, 628, 500, 128, 500 },
    { "the soft limit is raised", 200, 1000, 500, 128, 500 },
    { "raised as far as it goes", 200, 400, 500, 128, 272 },
    { "very few", 64, 64, 500, 128, 32 },
};

static void connections_leave_descriptors_for_others(void **state)
{
    const struct limit_row *r = *state;
    struct rlimit before;

    getrlimit(RLIMIT_NOFILE, &before);
    if (before.rlim_max < r->hard)
        skip();
    if (!fork()) { /* a hard limit cannot be raised again */
        struct rlimit l = { r->soft, r->hard };
        uint32_t got =
            setrlimit(RLIMIT_NOFILE, &l) ? 0 : net_connection_limit(r->wanted, r->reserve);
        _exit(got == r->want ? 0 : 1);
    } else {
        int status;
        assert_true(wait(&status) > 0);
        assert_int_equal(status, 0);
    }
}

static void draining_ends_what_is_idle_and_says_close_once(void **state UNUSED)
{
    struct world w;
    struct client idle = { 0 }, busy = { 0 }, fresh = { 0 };

    world_open(&w, &roomy);
    w.at_once = true;
    client_connect(&idle, &w);
    client_connect(&fresh, &w);
    says(&w, &idle, POST_A);
    UNTIL_HEARD(&w, &idle, "200 OK");
    w.at_once = false;
    client_connect(&busy, &w);
    says(&w, &busy, POST_A POST_B "POST");
    UNTIL(&w, w.got_n == 2);
    net_stop_listening(w.server);
    net_drain(w.server);
    UNTIL_ENDED(&w, &idle);
    UNTIL_ENDED(&w, &fresh);
    assert_false(idle.reset || fresh.reset);
    answer(w.got[0], "<first>");
    says(&w, &busy, " / HTTP/1.1\r\n");
    answer(w.got[1], "<second>");
    UNTIL_ENDED(&w, &busy);
    assert_true(heard(&busy, "<first>") && heard(&busy, "<second>"));
    assert_int_equal(count(&busy, "Connection: close"), 1);
    assert_true(strstr(busy.got.p, "<first>") < strstr(busy.got.p, "Connection: close"));
    client_free(&idle);
    client_free(&busy);
    client_free(&fresh);
    UNTIL(&w, net_connections(w.server) == 0);
    world_close(&w);
}

static void a_stream_goes_on_until_it_is_ended(void **state UNUSED)
{
    struct world w;
    struct client c = { 0 };

    world_open(&w, &roomy);
    w.as_stream = true;
    client_connect(&c, &w);
    says(&w, &c, GET);
    UNTIL(&w, w.stream);
    UNTIL_HEARD(&w, &c, "\r\n\r\n");
    assert_false(heard(&c, "Content-Length"));
    assert_true(heard(&c, "Connection: close"));
    net_stream_write(w.stream, S("piece 1\n"));
    UNTIL_HEARD(&w, &c, "piece 1\n");
    says(&w, &c, POST_A); /* not looked at any more */
    net_stream_write(w.stream, S("piece 2\n"));
    UNTIL_HEARD(&w, &c, "piece 2\n");
    assert_int_equal(net_stream_pending(w.stream), 0);
    net_stream_end(w.stream);
    assert_int_equal(w.stream_closed, 1);
    UNTIL_ENDED(&w, &c);
    assert_int_equal(w.served, 1);
    client_free(&c);
    UNTIL(&w, net_connections(w.server) == 0);
    world_close(&w);
}

static void a_stream_ends_with_its_client(void **state UNUSED)
{
    struct world w;
    struct client c = { 0 };

    world_open(&w, &roomy);
    w.as_stream = true;
    client_connect(&c, &w);
    says(&w, &c, GET);
    UNTIL(&w, w.stream);
    client_free(&c);
    UNTIL(&w, w.stream_closed == 1);
    UNTIL(&w, net_connections(w.server) == 0);
    world_close(&w);
}

static void a_stream_tells_what_the_client_does_not_take(void **state UNUSED)
{
    struct world w;
    struct client c = { 0 };
    struct buf piece = BUF_INIT;
    size_t sent = 0, head;
    int small = 4096;

    world_open(&w, &roomy);
    w.as_stream = true;
    c.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(c.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    client_connect(&c, &w);
    says(&w, &c, GET);
    UNTIL_HEARD(&w, &c, "\r\n\r\n");
    head = c.got.n;
    for (int i = 0; i < 2000; i++)
        buf_adds(&piece, "0123456789");
    for (; !net_stream_pending(w.stream); sent += piece.n)
        net_stream_write(w.stream, buf_as_span(&piece));
    net_stream_end(w.stream); /* what waits still goes out */
    UNTIL_ENDED(&w, &c);
    assert_false(c.reset);
    assert_int_equal(c.got.n, head + sent);
    buf_free(&piece);
    client_free(&c);
    world_close(&w);
}

static void a_stream_waits_for_the_answers_before_it(void **state UNUSED)
{
    struct world w;
    struct client c = { 0 };

    world_open(&w, &roomy);
    w.as_stream = true;
    client_connect(&c, &w);
    says(&w, &c, POST_A GET);
    UNTIL(&w, w.stream);
    net_stream_write(w.stream, S("<piece>"));
    assert_true(net_stream_pending(w.stream) > 7);
    settle(&w);
    hear(&c);
    assert_int_equal(c.got.n, 0);
    answer(w.got[0], "<first>");
    UNTIL_HEARD(&w, &c, "<piece>");
    assert_true(strstr(c.got.p, "<first>") < strstr(c.got.p, "event-stream"));
    assert_true(strstr(c.got.p, "event-stream") < strstr(c.got.p, "<piece>"));
    net_stream_end(w.stream);
    UNTIL_ENDED(&w, &c);
    client_free(&c);
    world_close(&w);
}

static void a_server_that_ends_closes_everything(void **state UNUSED)
{
    struct world w;
    struct client c[3] = { { 0 } };

    world_open(&w, &roomy);
    w.as_stream = true;
    client_connect(&c[0], &w);
    client_connect(&c[1], &w);
    client_connect(&c[2], &w);
    says(&w, &c[0], GET);
    says(&w, &c[1], "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nabc");
    UNTIL(&w, w.stream && net_connections(w.server) == 3);
    net_server_free(w.server);
    assert_int_equal(w.stream_closed, 1);
    assert_int_equal(w.held, 0);
    for (int i = 0; i < 3; i++) {
        UNTIL_ENDED(&w, &c[i]);
        client_free(&c[i]);
    }
    event_base_free(w.base);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_port_that_is_taken),
        cmocka_unit_test(a_unix_socket),
        cmocka_unit_test(remotes),
        cmocka_unit_test(over_the_limit_clients_are_told),
        cmocka_unit_test(without_descriptors_accepting_pauses),
        cmocka_unit_test(draining_ends_what_is_idle_and_says_close_once),
        cmocka_unit_test(a_stream_goes_on_until_it_is_ended),
        cmocka_unit_test(a_stream_ends_with_its_client),
        cmocka_unit_test(a_stream_tells_what_the_client_does_not_take),
        cmocka_unit_test(a_stream_waits_for_the_answers_before_it),
        cmocka_unit_test(a_server_that_ends_closes_everything),
    };

    return T_TABLE(refused, no_listener) +
           T_TABLE(connection_limits, connections_leave_descriptors_for_others) + T_RUN(tests);
}
