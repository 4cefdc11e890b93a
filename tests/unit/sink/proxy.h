/* SPDX-License-Identifier: Apache-2.0 */
/* Stands between a Redis sink and a real server, on the test's own loop, and does one harm: cuts
 * the connection after so many bytes of one direction, or refuses the n-th call of a kind with an
 * error reply, in its place, without the server hearing of it. */
#pragma once

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/listener.h>
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "base.h"

struct proxy {
    struct event_base *base;
    struct evconnlistener *listener;
    struct sockaddr_un here, server;
    struct bufferevent *client, *target;
    redisReader *reader;        /* of the server's replies: only one command is there at a time */
    long cut_in, cut_out;       /* bytes until the cut; -1: none */
    long in, out;               /* bytes that passed */
    const char *needle;         /* commands that hold it are counted */
    int count, refuse, refused; /* the n-th, from 1; how often */
    const char *error;
    const char *answer; /* to every one that holds the needle, as it stands on the wire; or NULL */
    bool busy;
};

static inline void proxy_hang_up(struct proxy *p)
{
    if (p->client)
        bufferevent_free(p->client);
    if (p->target)
        bufferevent_free(p->target);
    if (p->reader)
        redisReaderFree(p->reader);
    p->client = p->target = NULL;
    p->reader = NULL;
    p->busy = false;
}

/* Bytes of the whole command at the start, or 0. */
static inline size_t proxy_command(const char *b, size_t n)
{
    size_t at = 0;
    long left = 1;

    for (bool first = true; left > 0; first = false) {
        const char *end = n > at ? memmem(b + at, n - at, "\r\n", 2) : NULL;
        long v;
        if (!end)
            return 0;
        v = strtol(b + at + 1, NULL, 10);
        at = (size_t)(end - b) + 2;
        if (first)
            left = v;
        else
            at += (size_t)v + 2, left--;
    }
    return at <= n ? at : 0;
}

/* One command at a time, so that the replies keep their order with one of our own among them. */
static inline void proxy_forward(struct proxy *p)
{
    struct evbuffer *in = bufferevent_get_input(p->client);

    while (!p->busy && evbuffer_get_length(in)) {
        size_t have = evbuffer_get_length(in), n;
        char *b = (char *)evbuffer_pullup(in, -1);
        n = proxy_command(b, have);
        if (!n)
            return;
        bool held = memmem(b, MIN(n, 400u), p->needle, strlen(p->needle)) != NULL;
        p->count += held;
        if (held && p->answer) {
            evbuffer_add_printf(bufferevent_get_output(p->client), "%s", p->answer);
        } else if (held && p->count == p->refuse) {
            evbuffer_add_printf(bufferevent_get_output(p->client), "-%s\r\n", p->error);
            p->refused++;
        } else {
            bufferevent_write(p->target, b, n);
            p->busy = true;
        }
        evbuffer_drain(in, n);
    }
}

/* Passes on what the cut leaves; true: it was reached. */
static inline bool proxy_pass(struct bufferevent *from, struct bufferevent *to, long *passed,
                              long cut)
{
    struct evbuffer *in = bufferevent_get_input(from);
    size_t n = evbuffer_get_length(in);

    if (cut >= 0 && *passed + (long)n > cut)
        n = (size_t)MAX(cut - *passed, 0);
    *passed += (long)n;
    /* written at once: it is on its way before a connection is closed */
    if (to && n) {
        char *b = (char *)evbuffer_pullup(in, (ssize_t)n);
        if (write(bufferevent_getfd(to), b, n) != (ssize_t)n)
            abort();
    }
    evbuffer_drain(in, n);
    return cut >= 0 && *passed >= cut;
}

static inline void proxy_from_client(struct bufferevent *b, void *arg)
{
    struct proxy *p = arg;

    if (p->needle)
        proxy_forward(p);
    else if (proxy_pass(b, p->target, &p->in, p->cut_in)) {
        p->cut_in = -1;
        proxy_hang_up(p);
    }
}

static inline void proxy_from_server(struct bufferevent *b, void *arg)
{
    struct proxy *p = arg;
    struct evbuffer *in = bufferevent_get_input(b);
    void *reply;

    if (p->needle) {
        size_t n = evbuffer_get_length(in);
        char *bytes = (char *)evbuffer_pullup(in, -1);
        redisReaderFeed(p->reader, bytes, n);
        bufferevent_write(p->client, bytes, n);
        evbuffer_drain(in, n);
        if (redisReaderGetReply(p->reader, &reply) == REDIS_OK && reply) {
            freeReplyObject(reply);
            p->busy = false;
            proxy_forward(p);
        }
    } else if (proxy_pass(b, p->client, &p->out, p->cut_out)) {
        p->cut_out = -1;
        proxy_hang_up(p);
    }
}

static inline void proxy_event(struct bufferevent *b UNUSED, short what, void *arg)
{
    if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR))
        proxy_hang_up(arg);
}

static inline void proxy_accept(struct evconnlistener *l UNUSED, evutil_socket_t fd,
                                struct sockaddr *a UNUSED, int n UNUSED, void *arg)
{
    struct proxy *p = arg;

    proxy_hang_up(p);
    p->client = bufferevent_socket_new(p->base, fd, BEV_OPT_CLOSE_ON_FREE);
    p->target = bufferevent_socket_new(p->base, -1, BEV_OPT_CLOSE_ON_FREE);
    p->reader = redisReaderCreate();
    if (bufferevent_socket_connect(p->target, (struct sockaddr *)&p->server, sizeof p->server))
        abort();
    bufferevent_setcb(p->client, proxy_from_client, NULL, proxy_event, p);
    bufferevent_setcb(p->target, proxy_from_server, NULL, proxy_event, p);
    bufferevent_enable(p->client, EV_READ | EV_WRITE);
    bufferevent_enable(p->target, EV_READ | EV_WRITE);
}

static inline void proxy_start(struct proxy *p, struct event_base *base, const char *here,
                               const char *server)
{
    *p = (struct proxy){ .base = base, .cut_in = -1, .cut_out = -1 };
    p->here.sun_family = p->server.sun_family = AF_UNIX;
    snprintf(p->here.sun_path, sizeof p->here.sun_path, "%s", here);
    snprintf(p->server.sun_path, sizeof p->server.sun_path, "%s", server);
    p->listener = evconnlistener_new_bind(base, proxy_accept, p, LEV_OPT_CLOSE_ON_FREE, 8,
                                          (struct sockaddr *)&p->here, sizeof p->here);
    if (!p->listener)
        abort();
}

static inline void proxy_stop(struct proxy *p)
{
    proxy_hang_up(p);
    evconnlistener_free(p->listener);
    unlink(p->here.sun_path);
}
