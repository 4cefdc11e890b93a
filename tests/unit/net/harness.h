/* SPDX-License-Identifier: Apache-2.0 */
/* A server on a loop of its own, with clients on the same thread: everything happens in turns of
 * that loop, so a test decides what comes first. The handler keeps each request until the test
 * answers it, or answers at once. Waiting has a generous bound against hanging. */
#pragma once

#include "table.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "address.h"
#include "net/room.h"

#define REQUESTS 64
#define PATIENCE_MS 20000

struct world {
    struct event_base *base;
    struct net_server *server;
    _Atomic uint64_t held;
    char address[128];
    bool at_once;                      /* answer in the handler: 200 with the request's body */
    bool as_stream;                    /* answer GET with a stream */
    bool as_later;                     /* or with one that has no head yet */
    struct net_request *got[REQUESTS]; /* kept, in the order they came */
    size_t got_n, refused_n, served;
    enum http_error refused;
    bool refused_without_request, keep;
    enum http_error refuse_head;
    struct net_door door; /* closed by the test that opened it */
    struct net_stream *stream;
    int stream_closed, depth, deepest; /* of handlers within handlers */
};

static inline void answer(struct net_request *req, const char *text)
{
    net_answer(req, &(struct http_reply){
                        .status = 200, .content_type = "text/plain", .body = span_str(text) });
}

static inline void on_stream_closed(void *arg)
{
    struct world *w = arg;

    w->stream_closed++;
    w->stream = NULL;
}

static inline void on_request(struct net_request *req, void *arg)
{
    struct world *w = arg;

    w->served++;
    w->depth++;
    w->deepest = MAX(w->deepest, w->depth);
    req->keep = w->keep;
    if (w->as_stream && req->http.method == METHOD_GET) {
        w->stream = net_answer_stream(
            req, &(struct http_reply){ .status = 200, .content_type = "text/event-stream" },
            on_stream_closed, w);
    } else if (w->as_later && req->http.method == METHOD_GET) {
        w->stream = net_answer_later(req, on_stream_closed, w);
    } else if (w->at_once) {
        net_answer(req, &(struct http_reply){ .status = 200,
                                              .content_type = "text/plain",
                                              .body = http_body(&req->http, req->bytes) });
    } else {
        assert_in_range(w->got_n, 0, REQUESTS - 1);
        w->got[w->got_n++] = req;
    }
    w->depth--;
}

static inline enum http_error on_head(struct net_request *req UNUSED, void *arg)
{
    return ((struct world *)arg)->refuse_head;
}

static inline void on_refused(enum http_error e, struct net_request *req, void *arg)
{
    struct world *w = arg;

    w->refused_n++;
    w->refused = e;
    w->refused_without_request = !req;
}

static const struct net_limits roomy = { .http = { 16384, 8192, MIB(1) },
                                         .buffer_bytes = MIB(64),
                                         .connections = 100,
                                         .header_timeout_ms = 60000,
                                         .body_timeout_ms = 60000,
                                         .handshake_timeout_ms = 60000,
                                         .idle_timeout_ms = 60000,
                                         .reply_timeout_ms = 60000,
                                         .pipeline = 32 };

static inline void world_listen(struct world *w, const char *address)
{
    struct err e = ERR_INIT;

    if (net_listen(w->server, address, false, w->address, &e))
        fail_msg("%s", e.text);
}

static inline void world_open(struct world *w, const struct net_limits *limits)
{
    static const struct net_handler handler = { on_head, on_request, on_refused };

    *w = (struct world){ .base = event_base_new() };
    w->server = net_server_new(w->base, limits, &w->held, &handler, w, 16);
    world_listen(w, "127.0.0.1:0");
}

/* What is left must be nothing: every request given back, every byte counted. */
static inline void world_close(struct world *w)
{
    net_server_free(w->server);
    assert_int_equal(w->held, 0);
    event_base_free(w->base);
}

static inline void turn(struct world *w)
{
    static const struct timeval little = { 0, 2000 };

    event_base_loopexit(w->base, &little);
    event_base_dispatch(w->base);
}

#define UNTIL(w, condition)                                                                        \
    do {                                                                                           \
        int64_t end_ = clock_mono_ms() + PATIENCE_MS;                                              \
        while (!(condition)) {                                                                     \
            turn(w);                                                                               \
            if (clock_mono_ms() > end_)                                                            \
                fail_msg("waited in vain for %s", #condition);                                     \
        }                                                                                          \
    } while (0)

/* Turns in which whatever is going to happen at once has happened. */
static inline void settle(struct world *w)
{
    for (int i = 0; i < 5; i++)
        turn(w);
}

struct client {
    int fd;
    struct buf got;
    bool ended, reset;
};

static inline void client_connect(struct client *c, const struct world *w)
{
    struct sockaddr_in a = { .sin_family = AF_INET,
                             .sin_port = htons((uint16_t)atoi(strrchr(w->address, ':') + 1)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

    if (!c->fd)
        c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(c->fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(fcntl(c->fd, F_SETFL, O_NONBLOCK), 0);
}

static inline void client_free(struct client *c)
{
    if (c->fd > 0)
        close(c->fd);
    buf_free(&c->got);
    *c = (struct client){ 0 };
}

/* Sends everything while the server's turns go on; what a server that reads no more does not take
 * is an error of the test. */
static inline void say(struct world *w, struct client *c, const char *p, size_t n)
{
    int64_t end = clock_mono_ms() + PATIENCE_MS;

    while (n) {
        ssize_t sent = send(c->fd, p, n, MSG_NOSIGNAL);
        if (sent > 0) {
            p += sent;
            n -= (size_t)sent;
        } else if (errno != EAGAIN || clock_mono_ms() > end) {
            fail_msg("send: %s", strerror(errno));
        } else {
            turn(w);
        }
    }
}

static inline void says(struct world *w, struct client *c, const char *text)
{
    say(w, c, text, strlen(text));
}

static inline bool hear(struct client *c)
{
    char piece[65536];
    ssize_t n;

    if (c->ended)
        return true;
    while ((n = recv(c->fd, piece, sizeof piece, 0)) > 0)
        buf_add(&c->got, piece, (size_t)n);
    c->ended = n == 0 || errno != EAGAIN;
    c->reset = c->ended && n < 0;
    return true;
}

static inline bool heard(struct client *c, const char *text)
{
    hear(c);
    return c->got.n && strstr(buf_cstr(&c->got), text);
}

static inline size_t count(struct client *c, const char *text)
{
    size_t n = 0;

    hear(c);
    for (const char *at = buf_cstr(&c->got); (at = strstr(at, text)); at += strlen(text))
        n++;
    return n;
}

#define UNTIL_HEARD(w, c, text) UNTIL(w, heard(c, text))
#define UNTIL_ENDED(w, c) UNTIL(w, hear(c) && (c)->ended)

#define POST_A "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nA"
#define POST_B "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nB"
#define POST_C "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nC"
#define GET "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
