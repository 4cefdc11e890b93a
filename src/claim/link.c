/* SPDX-License-Identifier: Apache-2.0 */
/* The connection: commands out, replies in, each matched with its command by their order.
 *
 * What is not answered in time is given up together with the connection, so that a server that
 * hangs delays the requests of that moment and no more: those behind them are told at once that
 * nobody can be asked, while new attempts are made. */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "clock.h"
#include "log.h"
#include "room.h"

#define PING_MS 5000 /* idle for so long */
#define IN_FLIGHT_MAX 65536

static void set_reason(struct claims *cs, bool up, const char *reason)
{
    pthread_mutex_lock(&cs->lock);
    snprintf(cs->reason, sizeof cs->reason, "%s", reason);
    pthread_mutex_unlock(&cs->lock);
    atomic_store(&cs->up, up);
}

static void release(struct claims *cs)
{
    if (cs->bev)
        bufferevent_free(cs->bev);
    if (cs->reader)
        redisReaderFree(cs->reader);
    cs->bev = NULL;
    cs->reader = NULL;
}

void link_down(struct claims *cs, const char *reason)
{
    static struct log_limit limit;
    char text[256];
    uint64_t left_out;

    snprintf(text, sizeof text, "%s", reason); /* it may live in the reader */
    set_reason(cs, false, text);
    release(cs);
    cs->phase = LINK_DOWN;
    cs->since_ms = clock_mono_ms() + MIN((int64_t)100 << MIN(cs->attempt, 6u), 5000);
    cs->attempt++;
    if (log_limit_pass(&limit, &left_out))
        log_warn("dedup.redis cannot be asked; a repeat that reaches another replica is taken for "
                 "new",
                 KS("reason", text), KU("left_out", left_out));
    while (cs->ring_n) {
        struct command cmd = cs->ring[cs->ring_first % cs->ring_cap];
        cs->ring_first++;
        cs->ring_n--;
        claims_on_void(cs, &cmd);
    }
}

bool link_ready(const struct claims *cs)
{
    return cs->ring_n < IN_FLIGHT_MAX &&
           (cs->phase == LINK_UP || (cs->phase == LINK_CONNECTING && !cs->attempt));
}

static void ring_push(struct claims *cs, struct command cmd)
{
    if (cs->ring_n == cs->ring_cap) {
        size_t cap = cs->ring_cap ? 2 * cs->ring_cap : 256;
        struct command *ring = xcalloc(cap, sizeof *ring);
        for (uint64_t i = cs->ring_first; i < cs->ring_first + cs->ring_n; i++)
            ring[i % cap] = cs->ring[i % cs->ring_cap];
        free(cs->ring);
        cs->ring = ring;
        cs->ring_cap = cap;
    }
    cs->ring[(cs->ring_first + cs->ring_n++) % cs->ring_cap] = cmd;
}

void link_send(struct claims *cs, enum command_kind kind, struct claim *c, const struct span *argv,
               size_t n)
{
    struct buf *b = &cs->text;

    b->n = 0;
    buf_addc(b, '*');
    buf_u64(b, n);
    for (size_t i = 0; i < n; i++) {
        buf_adds(b, "\r\n$");
        buf_u64(b, argv[i].n);
        buf_adds(b, "\r\n");
        buf_span(b, argv[i]);
    }
    buf_adds(b, "\r\n");
    if (c)
        c->seq = cs->ring_first + cs->ring_n;
    ring_push(cs, (struct command){ kind, c, clock_mono_ms() });
    bufferevent_write(cs->bev, b->p, b->n);
}

/* --- connecting
 * ----------------------------------------------------------------------------------- */

static void say_hello(struct claims *cs)
{
    struct span user = span_str(cs->cfg->user ? cs->cfg->user : cs->at.user), password, auth[3];
    const struct cfg_secret *secret = &cs->cfg->password;
    char db[16];

    password = secret->bytes ? span_of(secret->bytes, secret->n) : span_str(cs->at.password);
    auth[0] = S("AUTH");
    auth[1] = user.n ? user : password;
    auth[2] = password;
    if (password.p)
        link_send(cs, COMMAND_HELLO, NULL, auth, user.n ? 3 : 2);
    snprintf(db, sizeof db, "%d", cs->at.db);
    if (cs->at.db)
        link_send(cs, COMMAND_HELLO, NULL, (struct span[]){ S("SELECT"), span_str(db) }, 2);
    link_send(cs, COMMAND_READY, NULL, (struct span[]){ S("PING") }, 1);
}

static void connect_to(struct claims *cs, const struct sockaddr *a, int n)
{
    /* where it fails at once libevent has said so already, or not */
    if (bufferevent_socket_connect(cs->bev, a, n) && cs->phase == LINK_CONNECTING)
        link_down(cs, "no connection could be made");
}

static void on_resolved(int error, struct evutil_addrinfo *ai, void *arg)
{
    struct claims *cs = arg;

    cs->lookup = NULL;
    if (cs->phase == LINK_CONNECTING && !error)
        connect_to(cs, ai->ai_addr, (int)ai->ai_addrlen);
    else if (cs->phase == LINK_CONNECTING)
        link_down(cs, evutil_gai_strerror(error));
    if (ai)
        evutil_freeaddrinfo(ai);
}

static void resolve(struct claims *cs)
{
    struct evutil_addrinfo hints = { .ai_family = AF_UNSPEC,
                                     .ai_socktype = SOCK_STREAM,
                                     .ai_flags = EVUTIL_AI_NUMERICSERV | EVUTIL_AI_NUMERICHOST };
    struct evutil_addrinfo *ai;
    char port[16];

    snprintf(port, sizeof port, "%d", cs->at.port);
    if (!evutil_getaddrinfo(cs->at.host, port, &hints, &ai)) {
        connect_to(cs, ai->ai_addr, (int)ai->ai_addrlen);
        evutil_freeaddrinfo(ai);
        return;
    }
    if (!cs->dns)
        cs->dns = evdns_base_new(cs->base, EVDNS_BASE_INITIALIZE_NAMESERVERS |
                                               EVDNS_BASE_DISABLE_WHEN_INACTIVE);
    if (!cs->dns) {
        link_down(cs, "no name server is known");
        return;
    }
    hints.ai_flags = EVUTIL_AI_NUMERICSERV;
    if (!cs->lookup) /* else the last one is still under way */
        cs->lookup = evdns_getaddrinfo(cs->dns, cs->at.host, port, &hints, on_resolved, cs);
}

/* True: one was there. */
static bool take_reply(struct claims *cs)
{
    struct command cmd;
    void *got = NULL;
    bool good;

    if (redisReaderGetReply(cs->reader, &got) != REDIS_OK) {
        link_down(cs, cs->reader->errstr);
        return false;
    }
    if (!got)
        return false;
    if (!cs->ring_n) {
        link_down(cs, "a reply that nobody asked for");
        freeReplyObject(got);
        return false;
    }
    cmd = cs->ring[cs->ring_first % cs->ring_cap];
    cs->ring_first++;
    cs->ring_n--;
    good = claims_on_reply(cs, &cmd, got);
    freeReplyObject(got);
    return good;
}

static void on_read(struct bufferevent *bev, void *arg)
{
    struct claims *cs = arg;
    char piece[16384];
    size_t n;

    cs->since_ms = clock_mono_ms();
    while (cs->bev == bev && (n = bufferevent_read(bev, piece, sizeof piece))) {
        redisReaderFeed(cs->reader, piece, n);
        while (cs->reader && take_reply(cs))
            ;
    }
}

static void on_event(struct bufferevent *bev UNUSED, short what, void *arg)
{
    struct claims *cs = arg;
    int one = 1, error = EVUTIL_SOCKET_ERROR();

    if (what & BEV_EVENT_CONNECTED) /* on a Unix socket it has no effect */
        setsockopt(bufferevent_getfd(cs->bev), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    else
        link_down(cs, what & BEV_EVENT_EOF ? "the server closed the connection"
                                           : strerrordesc_np(error));
}

static void start_connecting(struct claims *cs)
{
    struct sockaddr_un un = { .sun_family = AF_UNIX };

    cs->phase = LINK_CONNECTING;
    cs->since_ms = clock_mono_ms();
    cs->reader = redisReaderCreate();
    cs->bev = bufferevent_socket_new(cs->base, -1, BEV_OPT_CLOSE_ON_FREE);
    if (!cs->reader || !cs->bev)
        die(EXIT_IO, "out of memory");
    bufferevent_setcb(cs->bev, on_read, NULL, on_event, cs);
    bufferevent_enable(cs->bev, EV_READ | EV_WRITE);
    say_hello(cs);
    if (cs->at.path) {
        snprintf(un.sun_path, sizeof un.sun_path, "%s", cs->at.path);
        connect_to(cs, (struct sockaddr *)&un, sizeof un);
    } else {
        resolve(cs);
    }
}

static void on_tick(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
    struct claims *cs = arg;
    int64_t now = clock_mono_ms();

    switch (cs->phase) {
    case LINK_DOWN:
        if (now >= cs->since_ms)
            start_connecting(cs);
        break;
    case LINK_CONNECTING:
        if (now - cs->since_ms > cs->times.answer_ms)
            link_down(cs, "no connection in time");
        break;
    case LINK_UP:
        if (cs->ring_n &&
            now - cs->ring[cs->ring_first % cs->ring_cap].sent_ms > cs->times.answer_ms)
            link_down(cs, "no answer in time");
        else if (!cs->ring_n && now - cs->since_ms > PING_MS)
            link_send(cs, COMMAND_PING, NULL, (struct span[]){ S("PING") }, 1);
    }
}

void link_open(struct claims *cs)
{
    static const struct timeval tick = { 0, 100000 };

    set_reason(cs, false, "connecting");
    event_assign(&cs->tick, cs->base, -1, EV_PERSIST, on_tick, cs);
    event_add(&cs->tick, &tick);
    start_connecting(cs);
}

void link_close(struct claims *cs)
{
    event_del(&cs->tick);
    release(cs);
    cs->phase = LINK_DOWN;
    /* libevent frees a lookup only where it calls back, and that only from the loop. */
    if (cs->lookup)
        evdns_getaddrinfo_cancel(cs->lookup);
    for (int turns = 0; cs->lookup && turns < 100; turns++)
        event_base_loop(cs->base, EVLOOP_NONBLOCK);
    if (cs->dns)
        evdns_base_free(cs->dns, 0);
    free(cs->ring);
}
