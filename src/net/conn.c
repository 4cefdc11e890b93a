/* SPDX-License-Identifier: Apache-2.0 */
/* One connection: bytes in, requests to the handler, answers out in order.
 *
 * A connection is reading (EV_READ armed) unless it is closing, has as many requests waiting as it
 * may, or has answers that the client does not take: so what it holds is bounded. Answers are sent
 * at once; only what the kernel does not take waits in `out` with EV_WRITE armed. A connection that
 * ends is marked dead and freed by the next tick, never in its own callback.
 *
 * Plain HTTP is edge-triggered, which spares the kernel a second look at every socket a request
 * (epoll(7)). A read that fills less than its room has emptied the socket; `more` says that bytes,
 * the end behind EV_CLOSED, or a reset behind the bytes may be left that no further event will tell
 * of. Then the connection is armed anew, which makes the kernel look again, others' turns apart.
 * TLS and what comes before HTTP are level-triggered. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "rate.h"
#include "room.h"

#define LINGER_BYTES (64u << 10)
#define READS 16                 /* a turn; of TLS, records */
#define CHUNKED_READ (16u << 10) /* at most so much can be behind a body of unknown length */

void conn_set_wait(struct net_conn *c, enum wait w)
{
    struct net_server *s = c->server;

    if (c->wait != WAIT_NONE)
        TAILQ_REMOVE(&s->waits[c->wait], c, waiting);
    c->wait = (uint8_t)w;
    if (w == WAIT_NONE)
        return;
    c->since_ms = clock_mono_ms();
    c->deadline_ms = c->since_ms + deadline_of(s, w);
    TAILQ_INSERT_TAIL(&s->waits[w], c, waiting);
}

/* Whether a further request may be looked at. */
static bool takes_requests(const struct net_conn *c)
{
    return !c->closing && !c->paused && !c->out.n;
}

/* A stream and a lingering close read only to notice the end. */
static bool wants_read(const struct net_conn *c)
{
    return !c->eof && (c->stream || c->wait == WAIT_LINGER || takes_requests(c));
}

static short wanted_events(const struct net_conn *c)
{
    short blocked = c->tls_blocked ? EV_WRITE : 0, what;

    if (c->stage != STAGE_HTTP)
        return blocked ? blocked : EV_READ;
    what = (short)((wants_read(c) ? EV_READ : 0) | (c->out.n ? EV_WRITE : 0) | blocked);
    return (short)(what && !c->tls ? what | EV_ET | EV_CLOSED : what);
}

static void arm(struct net_conn *c, short what)
{
    c->server->writing += !!(what & EV_WRITE);
    c->server->writing -= !!(c->armed & EV_WRITE);
    if (c->armed)
        event_del(&c->ev);
    c->armed = what;
    if (!what)
        return;
    event_assign(&c->ev, c->server->base, c->fd, (short)(what | EV_PERSIST), conn_on_event, c);
    event_add(&c->ev, NULL);
}

static void set_events(struct net_conn *c)
{
    short what = wanted_events(c);

    if (what != c->armed)
        arm(c, what);
    if (c->tls && c->more && what & EV_READ)
        event_active(&c->ev, EV_READ, 0);
}

struct net_conn *conn_new(struct net_server *s, int fd, const struct net_door *door)
{
    struct net_conn *c = xcalloc(1, sizeof *c);

    c->server = s;
    c->fd = fd;
    c->place = -1;
    TAILQ_INSERT_TAIL(&s->all, c, all);
    s->conns++;
    if (door->tls)
        c->tls = tls_accept(door->tls, fd);
    c->stage = door->proxy ? STAGE_PROXY : door->tls ? STAGE_HANDSHAKE : STAGE_HTTP;
    conn_set_wait(c, c->stage == STAGE_HTTP ? WAIT_FIRST : WAIT_HANDSHAKE);
    set_events(c);
    return c;
}

void conn_end_stream(struct net_conn *c)
{
    struct net_stream *st = c->stream;

    if (!st)
        return;
    c->stream = NULL;
    st->conn = NULL;
    st->closed(st->arg);
    free(st);
}

void conn_close(struct net_conn *c)
{
    struct net_server *s = c->server;
    struct net_request *req, *next;

    if (c->dead)
        return;
    c->dead = true;
    conn_set_wait(c, WAIT_NONE);
    event_del(&c->ev);
    s->writing -= !!(c->armed & EV_WRITE);
    if (c->tls) {
        tls_goodbye(c->tls);
        tls_free(c->tls);
        c->tls = NULL;
    }
    close(c->fd);
    if (c->reading)
        request_recycle(c->reading);
    for (req = c->first; req; req = next) {
        next = req->next;
        req->conn = NULL;
        req->gone = true;
        if (req->answered) /* nobody else will come back to it */
            request_recycle(req);
    }
    c->reading = c->first = c->last = NULL;
    TAILQ_REMOVE(&s->all, c, all);
    if (c->place >= 0)
        rate_places_give(s->limits.places, c->place);
    TAILQ_INSERT_TAIL(&s->dead, c, waiting);
    s->conns--;
    conn_end_stream(c);
}

/* No further request is taken. What was answered goes out; then the connection ends. */
static void start_closing(struct net_conn *c, bool linger)
{
    c->closing = true;
    c->linger |= linger;
    c->continue_due = c->tls_blocked = false;
    c->more &= !c->tls; /* TLS is not read any more */
    if (c->reading)
        request_recycle(c->reading);
    c->reading = NULL;
}

/* Everything is out. Without a look at what still comes in, a close would reset the connection and
 * could take the answer away from the client (RFC 9112 section 9.6). */
static void finish(struct net_conn *c)
{
    if (!c->linger || c->eof) {
        conn_close(c);
        return;
    }
    if (c->wait == WAIT_LINGER)
        return;
    if (c->tls)
        tls_goodbye(c->tls);
    shutdown(c->fd, SHUT_WR);
    conn_set_wait(c, WAIT_LINGER);
}

static ssize_t send_some(struct net_conn *c, const char *p, size_t n)
{
    ssize_t sent;

    do
        sent = c->tls ? tls_send(c->tls, p, n) : send(c->fd, p, n, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent;
}

bool conn_send(struct net_conn *c, const char *p, size_t n)
{
    ssize_t sent = 0;

    if (n && !c->out.n) {
        sent = send_some(c, p, n);
        if (sent < 0 && errno != EAGAIN) {
            conn_close(c);
            return false;
        }
        sent = MAX(sent, 0);
    }
    if ((size_t)sent < n)
        buf_add(&c->out, p + sent, n - (size_t)sent);
    return true;
}

void conn_settle(struct net_conn *c)
{
    if (c->out.n) {
        if (c->wait != WAIT_REPLY)
            conn_set_wait(c, WAIT_REPLY);
    } else if (c->closing && !c->first && !c->stream) {
        finish(c);
    } else if (c->first || c->stream) {
        conn_set_wait(c, WAIT_NONE);
    } else if (!c->reading) {
        conn_set_wait(c, WAIT_IDLE);
    } else if (c->wait == WAIT_REPLY || c->wait == WAIT_NONE) {
        conn_set_wait(c, c->reading->http.body_off ? WAIT_BODY : WAIT_HEADER);
    }
    if (!c->dead)
        set_events(c);
}

/* A client that pipelines takes an interim answer for that of its oldest request. */
static bool send_continue(struct net_conn *c)
{
    if (!c->continue_due || c->first)
        return true;
    c->continue_due = false;
    return conn_send(c, "HTTP/1.1 100 Continue\r\n\r\n", 25);
}

static void process(struct net_conn *c);

/* Sends every answer that is due, in order. */
void conn_flush(struct net_conn *c)
{
    while (c->first && c->first->answered) {
        struct net_request *req = c->first;
        bool close_after = req->close;
        c->first = req->next;
        if (!c->first)
            c->last = NULL;
        c->queued--;
        if (!conn_send(c, req->reply.p, req->reply.n)) {
            request_recycle(req);
            return;
        }
        request_recycle(req);
        if (close_after)
            start_closing(c, true);
    }
    if (!send_continue(c))
        return;
    c->paused &= c->queued >= c->server->limits.pipeline;
    conn_settle(c);
    process(c); /* what was left lying meanwhile */
}

static void enqueue(struct net_conn *c, struct net_request *req)
{
    if (c->last)
        c->last->next = req;
    else
        c->first = req;
    c->last = req;
    c->queued++;
    c->server->unanswered++;
}

/* Answers the request being read with an error and takes no further one. */
void conn_refuse(struct net_conn *c, enum http_error e)
{
    struct net_request *req = c->reading ? c->reading : request_take(c);

    c->reading = NULL;
    if (c->server->h.refused)
        c->server->h.refused(e, req, c->server->arg);
    enqueue(c, req);
    start_closing(c, true);
    net_answer_error(req, e, NULL, e == HTTP_ERR_METHOD_NOT_ALLOWED ? "POST" : NULL);
}

/* The whole request is there; what lies behind it is the start of the next one. */
static void dispatch(struct net_conn *c)
{
    struct net_server *s = c->server;
    struct net_request *req = c->reading, *next = NULL;
    size_t left = req->have - req->http.consumed;

    if (left && req->http.keep_alive) {
        next = request_take(c);
        if (left > next->cap && !request_grow(next, left)) {
            request_recycle(next);
            conn_refuse(c, HTTP_ERR_OVERLOADED);
            return;
        }
        memcpy(next->bytes, req->bytes + req->http.consumed, left);
        next->have = left;
    }
    c->reading = next;
    if (!req->http.keep_alive)
        c->closing = true;
    c->linger |= left && !next;
    c->continue_due = false;
    enqueue(c, req);
    c->paused = c->queued >= s->limits.pipeline;
    conn_set_wait(c, WAIT_NONE);
    s->h.request(req, s->arg);
}

static bool handle_head(struct net_conn *c)
{
    struct net_server *s = c->server;
    struct net_request *req = c->reading;
    enum http_error e = HTTP_ERR_NONE;

    if (s->h.head)
        e = s->h.head(req, s->arg);
    if (!e && !req->http.chunked && req->http.content_length > req->http.body_max)
        e = HTTP_ERR_BODY_TOO_LARGE;
    if (e) {
        conn_refuse(c, e);
        return false;
    }
    c->continue_due =
        req->http.expect_continue && req->http.has_body && req->have == req->http.body_off;
    return send_continue(c);
}

/* Room for more of the request: the rest of a body of known length at once, else double. */
static bool make_room(struct net_conn *c)
{
    struct net_request *req = c->reading;
    uint64_t want = 2 * (uint64_t)req->cap;

    if (req->have < req->cap)
        return true;
    if (req->http.body_off && !req->http.chunked)
        want = MIN(want, req->http.body_off + req->http.content_length + REQUEST_BYTES);
    if (request_grow(req, (size_t)want))
        return true;
    conn_refuse(c, HTTP_ERR_OVERLOADED);
    return false;
}

/* Takes what has been read as far as it goes. */
static void process_all(struct net_conn *c)
{
    while (!c->dead && c->reading && c->reading->have && takes_requests(c)) {
        struct net_request *req = c->reading;
        switch (http_parse(&req->http, req->bytes, req->have, &c->server->limits.http)) {
        case HTTP_HEAD:
            if (!handle_head(c))
                return;
            break;
        case HTTP_DONE:
            dispatch(c);
            break;
        case HTTP_REFUSED:
            conn_refuse(c, req->http.error);
            return;
        case HTTP_MORE:
            if (!make_room(c))
                return;
            if (!c->first && !c->out.n) {
                enum wait w = req->http.body_off ? WAIT_BODY : WAIT_HEADER;
                if (c->wait != w)
                    conn_set_wait(c, w);
            }
            return;
        }
    }
}

/* A handler that answers at once comes back here through conn_flush; the loop that called it goes
 * on by itself. */
static void process(struct net_conn *c)
{
    if (c->processing)
        return;
    c->processing = true;
    process_all(c);
    c->processing = false;
}

/* Whether a socket may hold more than the n bytes that a read with so much room took; n < 0: errno.
 */
static bool more_behind(const struct net_conn *c, ssize_t n, size_t room)
{
    return n < 0 ? errno == EINTR : n > 0 && ((size_t)n == room || c->hangup);
}

/* Bytes that nobody will look at: behind a refusal, or behind the request of a stream. */
static void discard(struct net_conn *c)
{
    char bin[8192];
    ssize_t n = recv(c->fd, bin, sizeof bin, 0);

    c->more = !c->tls && more_behind(c, n, sizeof bin);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    c->lingered += (uint32_t)MAX(n, 0);
    if (n <= 0 || c->lingered > LINGER_BYTES)
        conn_close(c);
}

static void receive(struct net_conn *c)
{
    struct net_request *req = c->reading ? c->reading : (c->reading = request_take(c));
    size_t room =
        req->http.chunked ? MIN(req->cap - req->have, CHUNKED_READ) : req->cap - req->have;
    ssize_t n = c->tls ? tls_recv(c->tls, req->bytes + req->have, room, &c->more, &c->tls_blocked)
                       : recv(c->fd, req->bytes + req->have, room, 0);

    if (!c->tls)
        c->more = more_behind(c, n, room);
    if (n > 0) {
        req->have += (size_t)n;
        process(c);
        /* nobody would write to who is gone: an error may stand behind the bytes */
        c->more |= !c->tls && (c->stream || c->reading);
        return;
    }
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        if (!req->have) {
            request_recycle(req);
            c->reading = NULL;
        }
        return;
    }
    /* The client has no more to say. What it asked before is still answered, unless it is gone. */
    if (n == 0 && c->first) {
        start_closing(c, false);
        c->eof = true;
        return;
    }
    conn_close(c);
}

static void write_out(struct net_conn *c)
{
    ssize_t n = send_some(c, c->out.p, c->out.n);

    if (n < 0 && errno != EAGAIN) {
        conn_close(c);
        return;
    }
    if (n > 0)
        buf_drop(&c->out, (size_t)n);
    if (!c->out.n)
        buf_free(&c->out);
    conn_settle(c);
    process(c);
}

/* What is there already is taken without waiting for the socket, others' turns apart. */
static void receive_all(struct net_conn *c)
{
    receive(c);
    for (int i = 1; i < READS && !c->dead && c->more && !c->closing && wants_read(c); i++)
        receive(c);
}

void conn_on_event(evutil_socket_t fd UNUSED, short what, void *arg)
{
    struct net_conn *c = arg;
    bool readable;

    if (c->stage != STAGE_HTTP && !greet(c)) {
        if (!c->dead)
            set_events(c);
        return;
    }
    c->hangup |= !!(what & EV_CLOSED);
    readable = what & (EV_READ | EV_CLOSED) || c->tls_blocked || c->more;
    if (what & EV_WRITE && c->out.n)
        write_out(c);
    if (!c->dead && readable && wants_read(c)) {
        if (c->closing)
            discard(c);
        else
            receive_all(c);
    }
    if (c->dead)
        return;
    set_events(c);
    if (!c->tls && c->more && c->armed & EV_READ)
        arm(c, c->armed);
}
