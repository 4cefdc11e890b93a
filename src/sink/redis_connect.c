/* SPDX-License-Identifier: Apache-2.0 */
/* How a connection to Redis comes to be: a name is looked up, a socket connected, TLS begun, the
 * server greeted with AUTH and SELECT, and a PING so that there is an answer to wait for. */
#include <errno.h>
#include <event2/util.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "clock.h"
#include "redis.h"

/* Sentinels have a login of their own, in the URL. */
static void login(const struct redis_link *l, struct span *user, struct span *password)
{
    const struct redis *r = l->r;
    const struct cfg_secret *secret = &r->cfg->password;
    bool url = r->url.kind != REDIS_SENTINEL || l->sentinel;

    *user = span_str(r->cfg->user && !l->sentinel ? r->cfg->user : url ? r->url.user : NULL);
    *password = secret->bytes && !l->sentinel ? span_of(secret->bytes, secret->n)
                                              : span_str(url ? r->url.password : NULL);
}

void redis_hello(struct redis_link *l)
{
    const struct redis *r = l->r;
    struct span user, password;
    char db[NUMBER_MAX];
    const struct span choose[] = { S("SELECT"), sink_number_text((uint64_t)r->url.db, db) };
    const struct span info[] = { S("INFO"), S("memory") };

    login(l, &user, &password);
    l->phase = REDIS_HELLO;
    l->since_ms = clock_mono_ms();
    l->reader = redis_link_reader(l);
    if (password.p && user.p)
        redis_link_ask(l, (struct redis_asked){ REDIS_ASKED_HELLO },
                       (struct span[]){ S("AUTH"), user, password }, 3);
    else if (password.p)
        redis_link_ask(l, (struct redis_asked){ REDIS_ASKED_HELLO },
                       (struct span[]){ S("AUTH"), password }, 2);
    if (r->url.db && !l->sentinel)
        redis_link_ask(l, (struct redis_asked){ REDIS_ASKED_HELLO }, choose, 2);
    if (r->epoch && !l->sentinel)
        redis_link_ask(l, (struct redis_asked){ REDIS_ASKED_POLICY }, info, 2);
    if (!l->sentinel)
        redis_scripts_load(l);
    redis_link_ask(l, (struct redis_asked){ REDIS_ASKED_LAST }, &S("PING"), 1);
    redis_link_flush(l);
}

static const char *where(const struct redis_link *l)
{
    return l->host.path ? l->host.path : l->host.host;
}

void redis_connected(struct redis_link *l)
{
    int error = 0, one = 1, much = REDIS_OUT_MAX;
    socklen_t n = sizeof error;
    char reason[300];

    getsockopt(l->fd, SOL_SOCKET, SO_ERROR, &error, &n);
    if (error) {
        snprintf(reason, sizeof reason, "connect %s: %s", where(l), strerrordesc_np(error));
        redis_link_down(l, SINK_RETRYING, reason);
        return;
    }
    setsockopt(l->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (l->host.path) /* TCP finds its own; here a full buffer is told of only when nearly empty */
        setsockopt(l->fd, SOL_SOCKET, SO_SNDBUF, &much, sizeof much);
    setsockopt(l->fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
    redis_link_wait(l, EV_READ);
    if (l->r->tls)
        redis_tls_start(l);
    else
        redis_hello(l);
}

static void connect_to(struct redis_link *l, const struct sockaddr *a, socklen_t n)
{
    char reason[300];

    l->fd = socket(a->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (l->fd >= 0 && (connect(l->fd, a, n) == 0 || errno == EINPROGRESS)) {
        l->phase = REDIS_CONNECTING;
        l->since_ms = clock_mono_ms();
        redis_link_timer(l, REDIS_TICK_MS);
        redis_link_wait(l, EV_WRITE);
        return;
    }
    snprintf(reason, sizeof reason, "connect %s: %s", where(l), strerrordesc_np(errno));
    redis_link_down(l, SINK_RETRYING, reason);
}

static void on_resolved(int error, struct evutil_addrinfo *ai, void *arg)
{
    struct redis_link *l = arg;
    char reason[300];

    l->lookup = NULL;
    if (l->lookup_void && l->phase == REDIS_RESOLVING)
        redis_connect(l);
    else if (l->phase == REDIS_RESOLVING && !error) {
        connect_to(l, ai->ai_addr, ai->ai_addrlen);
    } else if (l->phase == REDIS_RESOLVING) {
        snprintf(reason, sizeof reason, "resolve %s: %s", l->host.host, evutil_gai_strerror(error));
        redis_link_down(l, SINK_RETRYING, reason);
    }
    l->lookup_void = false;
    if (ai)
        evutil_freeaddrinfo(ai);
}

static void look_up(struct redis_link *l, const char *host, const char *port)
{
    struct evutil_addrinfo hints = { .ai_family = AF_UNSPEC,
                                     .ai_socktype = SOCK_STREAM,
                                     .ai_flags = EVUTIL_AI_NUMERICSERV };
    struct evutil_addrinfo numeric = { .ai_family = AF_UNSPEC,
                                       .ai_socktype = SOCK_STREAM,
                                       .ai_flags = EVUTIL_AI_NUMERICHOST | EVUTIL_AI_NUMERICSERV };
    struct evutil_addrinfo *ai;

    if (!evutil_getaddrinfo(host, port, &numeric, &ai)) {
        connect_to(l, ai->ai_addr, (socklen_t)ai->ai_addrlen);
        evutil_freeaddrinfo(ai);
        return;
    }
    if (!l->dns) {
        l->dns = evdns_base_new(l->base, EVDNS_BASE_INITIALIZE_NAMESERVERS |
                                             EVDNS_BASE_DISABLE_WHEN_INACTIVE);
        /* name servers of container engines answer in small letters, and would not be believed */
        if (l->dns)
            evdns_base_set_option(l->dns, "randomize-case:", "0");
    }
    if (!l->dns) {
        redis_link_down(l, SINK_RETRYING, "no name server is known");
        return;
    }
    if (!l->lookup) /* else the last one is still under way */
        l->lookup = evdns_getaddrinfo(l->dns, host, port, &hints, on_resolved, l);
}

void redis_connect(struct redis_link *l)
{
    struct sockaddr_un un = { .sun_family = AF_UNIX };
    char port[16];

    if (l->host.path) {
        snprintf(un.sun_path, sizeof un.sun_path, "%s", l->host.path);
        connect_to(l, (struct sockaddr *)&un, sizeof un);
        return;
    }
    l->phase = REDIS_RESOLVING;
    l->since_ms = clock_mono_ms();
    snprintf(port, sizeof port, "%d", l->host.port);
    look_up(l, l->host.host, port);
}

/* libevent frees a lookup only where it calls back, and that only from the loop. */
void redis_connect_cancel(struct redis_link *l)
{
    l->phase = REDIS_DOWN;
    if (l->lookup)
        evdns_getaddrinfo_cancel(l->lookup);
    for (int turns = 0; l->lookup && turns < 100; turns++)
        event_base_loop(l->base, EVLOOP_NONBLOCK);
    if (l->dns)
        evdns_base_free(l->dns, 0);
    l->dns = NULL;
}
