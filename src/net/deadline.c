/* SPDX-License-Identifier: Apache-2.0 */
/* Total deadlines. Within one kind all deadlines are equally long, so each list is in the order of
 * its deadlines and a tick looks at the heads only; four ticks a second. Bodies also have a least
 * rate, so that a drip cannot hold a connection for the whole deadline. */
#include "clock.h"
#include "room.h"

#define LINGER_MS 1000
#define BODY_RATE 1024 /* bytes a second, after a grace of five */
#define BODY_GRACE_MS 5000

int64_t deadline_of(const struct net_server *s, enum wait w)
{
    switch (w) {
    case WAIT_HANDSHAKE:
        return s->limits.handshake_timeout_ms;
    case WAIT_FIRST:
    case WAIT_HEADER:
        return s->limits.header_timeout_ms;
    case WAIT_BODY:
        return s->limits.body_timeout_ms;
    case WAIT_IDLE:
        return s->limits.idle_timeout_ms;
    case WAIT_REPLY:
        return s->limits.reply_timeout_ms;
    case WAIT_LINGER:
    case WAIT_NONE:
    case WAITS:
        break;
    }
    return LINGER_MS;
}

static void expire(struct net_conn *c)
{
    switch ((enum wait)c->wait) {
    case WAIT_HEADER:
        conn_refuse(c, HTTP_ERR_HEADER_TIMEOUT);
        break;
    case WAIT_BODY:
        conn_refuse(c, HTTP_ERR_BODY_TIMEOUT);
        break;
    case WAIT_HANDSHAKE:
        counter_add(&c->server->handshakes[HANDSHAKE_TIMEOUT], 1);
        conn_close(c);
        break;
    default:
        conn_close(c);
    }
}

static void check_rates(struct net_server *s, int64_t now)
{
    struct net_conn *c, *next;

    for (c = TAILQ_FIRST(&s->waits[WAIT_BODY]); c; c = next) {
        int64_t age = now - c->since_ms;
        next = TAILQ_NEXT(c, waiting);
        if (age > BODY_GRACE_MS &&
            (int64_t)(c->reading->have - c->reading->http.body_off) < age * BODY_RATE / 1000)
            conn_refuse(c, HTTP_ERR_BODY_TIMEOUT);
    }
}

static void free_dead(struct net_server *s)
{
    struct net_conn *c;

    while ((c = TAILQ_FIRST(&s->dead))) {
        TAILQ_REMOVE(&s->dead, c, waiting);
        buf_free(&c->out);
        buf_free(&c->names);
        free(c);
    }
}

static void resume_accepting(struct net_server *s)
{
    if (!s->accepting_paused || s->listening_stopped)
        return;
    s->accepting_paused = false;
    for (struct listener *l = s->listeners; l; l = l->next)
        event_add(&l->ev, NULL);
}

void deadline_tick(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
    struct net_server *s = arg;
    int64_t now = clock_mono_ms();
    struct net_conn *c;

    free_dead(s);
    for (int w = WAIT_NONE + 1; w < WAITS; w++)
        while ((c = TAILQ_FIRST(&s->waits[w])) && c->deadline_ms <= now)
            expire(c);
    check_rates(s, now);
    resume_accepting(s);
}
