/* SPDX-License-Identifier: Apache-2.0 */
/* Servers and listeners. When descriptors run out, accepting pauses until the next tick instead of
 * spinning; above the connection limit a client is told 503 and closed. */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "address.h"
#include "crypto.h"
#include "log.h"
#include "rate.h"
#include "room.h"

#define BACKLOG 4096
#define ACCEPTS 64 /* a pass, so that connections that are there get their turn */

struct net_server *net_server_new(struct event_base *base, const struct net_limits *limits,
                                  _Atomic uint64_t *held, const struct net_handler *h, void *arg,
                                  size_t extra)
{
    static const struct timeval quarter = { 0, 250000 };
    struct net_server *s = xcalloc(1, sizeof *s);

    *s = (struct net_server){
        .base = base, .limits = *limits, .held = held, .h = *h, .arg = arg, .extra = extra
    };
    TAILQ_INIT(&s->all);
    TAILQ_INIT(&s->dead);
    for (int w = 0; w < WAITS; w++)
        TAILQ_INIT(&s->waits[w]);
    crypto_random(&s->ids, sizeof s->ids);
    event_assign(&s->tick, base, -1, EV_PERSIST, deadline_tick, s);
    event_add(&s->tick, &quarter);
    return s;
}

bool conn_takes_place(struct net_conn *c, const struct net_peer *p)
{
    const struct net_limits *l = &c->server->limits;

    if (!l->network_connections || (l->uncounted && address_in(l->uncounted, p)) ||
        (l->local_uncounted && address_is_local(p)))
        return true;
    c->place = rate_places_take(l->places, p, &l->prefixes, l->network_connections);
    return c->place >= 0;
}

/* To who has not begun to speak TLS or to name himself; for the others there are no words yet. */
static void say_too_many(int fd)
{
    struct buf b = BUF_INIT;

    http_write_error(&b, &(struct http_reply){ .close = true }, HTTP_ERR_TOO_MANY_CONNECTIONS, NULL,
                     NULL);
    if (send(fd, b.p, b.n, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        errno = 0; /* it was a courtesy */
    shutdown(fd, SHUT_WR);
    buf_free(&b);
}

static void turn_away(struct listener *l, int fd)
{
    static struct log_limit limit;
    uint64_t left_out;

    if (l->server->h.refused)
        l->server->h.refused(HTTP_ERR_TOO_MANY_CONNECTIONS, NULL, l->server->arg);
    if (!l->door.tls && !l->door.proxy)
        say_too_many(fd);
    close(fd);
    if (log_limit_pass(&limit, &left_out))
        log_warn("the connection limit is reached; clients get 503", KU("left_out", left_out));
}

static void pause_accepting(struct net_server *s, int error)
{
    static struct log_limit limit;
    uint64_t left_out;

    s->accepting_paused = true;
    for (struct listener *l = s->listeners; l; l = l->next)
        event_del(&l->ev);
    errno = error;
    if (log_limit_pass(&limit, &left_out))
        log_warn("accepting pauses", KERRNO(), KU("left_out", left_out));
}

/* Behind a PROXY header another address counts: greet.c asks again. */
static void take_in(struct listener *l, int fd, const struct net_address *from)
{
    static struct log_limit limit;
    struct net_server *s = l->server;
    struct net_conn *c = conn_new(s, fd, &l->door);
    struct net_peer p;
    uint64_t left_out;

    if (!s->limits.network_connections && !l->door.proxy)
        return;
    net_peer_at(from, &p);
    if (l->door.proxy) {
        if (l->door.from && l->door.from->n && !address_in(l->door.from, &p))
            greet_fail(c, HANDSHAKE_PROXY, "not from a trusted proxy");
        return;
    }
    if (conn_takes_place(c, &p))
        return;
    if (s->h.refused)
        s->h.refused(HTTP_ERR_TOO_MANY_CONNECTIONS, NULL, s->arg);
    if (!c->tls)
        say_too_many(fd);
    conn_close(c);
    if (log_limit_pass(&limit, &left_out))
        log_warn("one network has as many connections as it may", KU("left_out", left_out));
}

static void on_accept(evutil_socket_t fd, short what UNUSED, void *arg)
{
    struct listener *l = arg;
    struct net_server *s = l->server;

    for (int i = 0; i < ACCEPTS; i++) {
        struct net_address from = { .n = sizeof from.a };
        int client = accept4(fd, &from.a.any, &from.n, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (client < 0) {
            if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED && errno != EPROTO)
                pause_accepting(s, errno);
            return;
        }
        if (s->conns >= s->limits.connections)
            turn_away(l, client);
        else
            take_in(l, client, &from);
    }
}

static void add_listener(struct net_server *s, int fd, bool shared)
{
    struct listener *l = xcalloc(1, sizeof *l);
    int one = 1;

    /* what is accepted here inherits it; fails on Unix sockets, no matter */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    *l = (struct listener){ .next = s->listeners, .server = s, .fd = fd, .shared = shared };
    s->listeners = l;
    s->listeners_n++;
    event_assign(&l->ev, s->base, fd, EV_READ | EV_PERSIST, on_accept, l);
    event_add(&l->ev, NULL);
}

void net_set_door(struct net_server *s, size_t at, const struct net_door *door)
{
    size_t i = s->listeners_n;

    for (struct listener *l = s->listeners; l; l = l->next)
        if (--i == at)
            l->door = *door;
}

void net_listen_fd(struct net_server *s, int fd)
{
    add_listener(s, fd, true);
}

static int bind_unix(const char *path, struct err *e)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    int fd;

    if (strlen(path) >= sizeof a.sun_path)
        return err_set(e, EXIT_BAD_CONFIG, "listen unix:%s: the path is too long", path);
    strcpy(a.sun_path, path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof a) == 0) {
        close(fd);
        return err_set(e, EXIT_TEMPORARY, "listen unix:%s: another process serves it", path);
    }
    unlink(path);
    if (fd >= 0 && !bind(fd, (struct sockaddr *)&a, sizeof a) && !chmod(path, 0660) &&
        !listen(fd, BACKLOG))
        return fd;
    err_errno(e, EXIT_TEMPORARY, "listen unix:%s", path);
    if (fd >= 0)
        close(fd);
    return -1;
}

/* "host:port" or "[v6]:port" */
int net_resolve(const char *address, struct addrinfo **out, struct err *e)
{
    struct addrinfo hints = { .ai_flags = AI_PASSIVE, .ai_socktype = SOCK_STREAM };
    const char *colon = strrchr(address, ':');
    struct span host;
    char *name;
    int rc;

    if (!colon || !colon[1])
        return err_set(e, EXIT_BAD_CONFIG,
                       "listen %s: host:port, [v6]:port or unix:/path is expected", address);
    host = span_of(address, (size_t)(colon - address));
    if (host.n > 1 && host.p[0] == '[' && host.p[host.n - 1] == ']')
        host = span_of(host.p + 1, host.n - 2);
    name = span_dup(host);
    rc = getaddrinfo(name[0] ? name : NULL, colon + 1, &hints, out);
    free(name);
    return rc ? err_set(e, EXIT_BAD_CONFIG, "listen %s: %s", address, gai_strerror(rc)) : 0;
}

int net_bind_tcp(const char *address, const struct addrinfo *ai, bool reuse, struct err *e)
{
    int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;

    if (fd >= 0) {
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        if (reuse)
            setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
        if (ai->ai_family == AF_INET6)
            setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
    }
    if (fd >= 0 && !bind(fd, ai->ai_addr, ai->ai_addrlen))
        return fd;
    err_errno(e, EXIT_TEMPORARY, "listen %s", address);
    if (fd >= 0)
        close(fd);
    return -1;
}

static int listen_tcp(const char *address, bool reuse, struct err *e)
{
    struct addrinfo *ai = NULL;
    int fd;

    if (net_resolve(address, &ai, e) || !ai)
        return -1;
    fd = net_reserved(ai);
    if (fd < 0)
        fd = net_bind_tcp(address, ai, reuse, e);
    freeaddrinfo(ai);
    if (fd >= 0 && listen(fd, BACKLOG)) {
        err_errno(e, EXIT_TEMPORARY, "listen %s", address);
        close(fd);
        fd = -1;
    }
    return fd;
}

static void bound_text(int fd, const char *address, char *out)
{
    struct sockaddr_storage a = { 0 };
    socklen_t n = sizeof a;
    char host[64];

    getsockname(fd, (struct sockaddr *)&a, &n);
    if (a.ss_family == AF_INET6) {
        struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&a;
        evutil_inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof host);
        snprintf(out, 128, "[%s]:%d", host, ntohs(v6->sin6_port));
    } else if (a.ss_family == AF_INET) {
        struct sockaddr_in *v4 = (struct sockaddr_in *)&a;
        evutil_inet_ntop(AF_INET, &v4->sin_addr, host, sizeof host);
        snprintf(out, 128, "%s:%d", host, ntohs(v4->sin_port));
    } else {
        snprintf(out, 128, "%s", address);
    }
}

int net_bind(const char *address, bool reuse, char *out, struct err *e)
{
    int fd =
        !strncmp(address, "unix:", 5) ? bind_unix(address + 5, e) : listen_tcp(address, reuse, e);

    if (fd >= 0 && out)
        bound_text(fd, address, out);
    return fd;
}

int net_listen(struct net_server *s, const char *address, bool reuse, char *out, struct err *e)
{
    int fd = net_bind(address, reuse, out, e);

    if (fd < 0)
        return -1;
    add_listener(s, fd, false);
    return 0;
}

void net_set_limits(struct net_server *s, const struct net_limits *limits)
{
    s->limits = *limits;
}

void net_stop_listening(struct net_server *s)
{
    struct listener *l, *next;

    s->listening_stopped = true;
    for (l = s->listeners; l; l = next) {
        next = l->next;
        event_del(&l->ev);
        if (!l->shared)
            close(l->fd);
        free(l);
    }
    s->listeners = NULL;
}

void net_drain(struct net_server *s)
{
    struct net_conn *c, *next;

    s->draining = true;
    for (c = TAILQ_FIRST(&s->all); c; c = next) {
        next = TAILQ_NEXT(c, all);
        if (!c->first && !c->out.n && !c->stream && (!c->reading || !c->reading->have))
            conn_close(c);
    }
}

size_t net_connections(const struct net_server *s)
{
    return s->conns;
}

size_t net_unanswered(const struct net_server *s)
{
    return s->unanswered + s->writing;
}

void net_server_free(struct net_server *s)
{
    struct net_conn *c;
    struct net_request *req;

    if (!s)
        return;
    net_stop_listening(s);
    while ((c = TAILQ_FIRST(&s->all)))
        conn_close(c);
    event_del(&s->tick);
    deadline_tick(-1, 0, s);
    while ((req = s->free_requests)) {
        s->free_requests = req->next;
        free(req->bytes);
        buf_free(&req->reply);
        free(req);
    }
    free(s);
}

uint32_t net_spare_connections(uint32_t wanted, uint32_t others)
{
    struct rlimit r;

    if (getrlimit(RLIMIT_NOFILE, &r))
        return 0;
    if (r.rlim_cur < r.rlim_max && r.rlim_cur < (rlim_t)wanted + others) {
        r.rlim_cur = MIN(r.rlim_max, (rlim_t)wanted + others);
        if (setrlimit(RLIMIT_NOFILE, &r) || getrlimit(RLIMIT_NOFILE, &r))
            return 0;
    }
    return r.rlim_cur > others ? (uint32_t)MIN(r.rlim_cur - others, (rlim_t)wanted) : 0;
}

uint32_t net_connection_limit(uint32_t wanted, uint32_t reserve)
{
    static struct log_limit limit;
    struct rlimit r;
    uint32_t most;
    uint64_t left_out;

    if (getrlimit(RLIMIT_NOFILE, &r))
        return wanted;
    if (r.rlim_cur < r.rlim_max && r.rlim_cur < wanted + reserve) {
        r.rlim_cur = MIN(r.rlim_max, (rlim_t)wanted + reserve);
        if (setrlimit(RLIMIT_NOFILE, &r) || getrlimit(RLIMIT_NOFILE, &r))
            return wanted;
    }
    if (r.rlim_cur >= (rlim_t)wanted + reserve)
        return wanted;
    most = (uint32_t)MAX(r.rlim_cur - MIN(r.rlim_cur / 2, (rlim_t)reserve), 1u);
    if (log_limit_pass(&limit, &left_out))
        log_warn("the limit of open files allows fewer connections than configured",
                 KU("connections", most), KU("configured", wanted), KU("files", r.rlim_cur));
    return MIN(wanted, most);
}
