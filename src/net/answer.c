/* SPDX-License-Identifier: Apache-2.0 */
/* Answers: one a request, in the order of the requests, or a stream behind its head. */
#include "room.h"

/* What the connection adds to an answer. Only its last one says that it is the last, and nothing is
 * taken behind that one. */
static void add_conditions(struct net_request *req, struct http_reply *r)
{
    struct net_conn *c = req->conn;
    bool last = !c || c->last == req;

    r->close = !req->http.keep_alive || (last && (req->server->draining || (c && c->closing)));
    r->id = req->id;
    r->http10 = req->http.http10;
    r->head = req->http.method == METHOD_HEAD;
    req->close = r->close;
    if (c && r->close)
        c->closing = true;
}

static void answered(struct net_request *req)
{
    req->server->unanswered--;
    req->answered = true;
    if (req->conn)
        conn_flush(req->conn);
    else
        request_recycle(req);
}

void net_answer(struct net_request *req, const struct http_reply *reply)
{
    struct http_reply r = *reply;

    add_conditions(req, &r);
    http_write_reply(&req->reply, &r);
    answered(req);
}

void net_answer_error(struct net_request *req, enum http_error e, const char *detail,
                      const char *allow)
{
    struct http_reply r = { .status = 0 };

    add_conditions(req, &r);
    http_write_error(&req->reply, &r, e, detail, allow);
    answered(req);
}

static void not_begun(void *arg UNUSED)
{
}

struct net_stream *net_answer_later(struct net_request *req, void (*closed)(void *arg), void *arg)
{
    struct net_conn *c = req->conn;
    struct net_stream *st;

    if (!c) {
        answered(req);
        return NULL;
    }
    st = xcalloc(1, sizeof *st);
    *st = (struct net_stream){ .conn = c, .closed = not_begun };
    c->stream = st;
    c->closing = true; /* nothing is read as a request any more */
    answered(req);
    if (c->dead)
        return NULL;
    st->closed = closed;
    st->arg = arg;
    return st;
}

struct net_stream *net_answer_stream(struct net_request *req, const struct http_reply *reply,
                                     void (*closed)(void *arg), void *arg)
{
    struct http_reply r = *reply;

    if (!req->conn) {
        net_answer(req, reply);
        return NULL;
    }
    r.stream = true;
    r.id = req->id;
    http_write_reply(&req->reply, &r);
    return net_answer_later(req, closed, arg);
}

void net_stream_write(struct net_stream *st, struct span bytes)
{
    struct net_conn *c = st->conn;

    if (c->first) /* its head still waits for the answers before it */
        buf_span(&c->last->reply, bytes);
    else if (conn_send(c, bytes.p, bytes.n))
        conn_settle(c);
}

size_t net_stream_pending(const struct net_stream *st)
{
    return st->conn->first ? st->conn->last->reply.n : st->conn->out.n;
}

void net_stream_end(struct net_stream *st)
{
    struct net_conn *c = st->conn;

    conn_end_stream(c);
    conn_settle(c);
}

void net_stream_finish(struct net_stream *st, struct span bytes)
{
    struct net_conn *c = st->conn; /* stays until the next tick */

    net_stream_write(st, bytes);
    if (c->stream == st) /* else it broke under the write, and `closed` ran */
        net_stream_end(st);
}
