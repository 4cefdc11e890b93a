/* SPDX-License-Identifier: Apache-2.0 */
/* Requests and their buffers, reused from a free list: a request on the common path allocates
 * nothing. */
#include <string.h>

#include "clock.h"
#include "room.h"

struct net_request *request_take(struct net_conn *c)
{
    struct net_server *s = c->server;
    struct net_request *req = s->free_requests;

    if (req) {
        s->free_requests = req->next;
        s->free_n--;
    } else {
        req = xcalloc(1, sizeof *req + s->extra);
        req->cap = REQUEST_BYTES;
        req->bytes = xmalloc(req->cap);
    }
    http_request_init(&req->http, &s->limits.http);
    req->conn = c;
    req->server = s;
    req->next = NULL;
    req->have = 0;
    req->reply.n = 0;
    req->gone = req->answered = req->close = req->keep = req->kept = false;
    memset(req->extra, 0, s->extra);
    req->started_us = clock_mono_us();
    req->id = next_number(&s->ids);
    atomic_fetch_add_explicit(s->held, req->cap, memory_order_relaxed);
    return req;
}

void request_recycle(struct net_request *req)
{
    struct net_server *s = req->server;

    if (req->keep) { /* its owner still needs the bytes: net_request_release */
        req->kept = true;
        req->conn = NULL;
        return;
    }
    atomic_fetch_sub_explicit(s->held, req->cap, memory_order_relaxed);
    if (s->free_n == FREE_REQUESTS || req->cap > REQUEST_BYTES || req->reply.cap > REQUEST_BYTES) {
        free(req->bytes);
        buf_free(&req->reply);
        free(req);
        return;
    }
    req->next = s->free_requests;
    s->free_requests = req;
    s->free_n++;
}

/* False when all requests together would hold more than they may. */
bool request_grow(struct net_request *req, size_t cap)
{
    struct net_server *s = req->server;
    uint64_t more = cap - req->cap;

    if (atomic_fetch_add(s->held, more) + more > s->limits.buffer_bytes) {
        atomic_fetch_sub(s->held, more);
        return false;
    }
    req->bytes = xrealloc(req->bytes, cap);
    req->cap = cap;
    return true;
}

void net_request_release(struct net_request *req)
{
    req->keep = false;
    if (req->kept)
        request_recycle(req);
}
