/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the Redis sink share: redis.c the sink, redis_connect.c how a connection comes
 * to be, redis_link.c its bytes and whose the replies are, redis_reply.c what they mean. */
#pragma once

#include <event2/dns.h>
#include <event2/event_struct.h>
#include <hiredis/hiredis.h>

#include "room.h"

#define REDIS_OUT_MAX (512u << 10)   /* commands that wait for the kernel */
#define REDIS_LEAST_LIMIT (1u << 20) /* of client-query-buffer-limit */
#define REDIS_CONNECT_MS 5000
#define REDIS_TICK_MS 1000

enum redis_phase { REDIS_DOWN, REDIS_RESOLVING, REDIS_CONNECTING, REDIS_HELLO, REDIS_UP };

/* A command without a reply. Replies come in the order of the commands. */
struct redis_asked {
    enum redis_what {
        REDIS_ASKED_HELLO, /* AUTH, SELECT */
        REDIS_ASKED_LAST,  /* the PING that ends the greeting */
        REDIS_ASKED_PING,
        REDIS_ASKED_XADD,
    } what;
    uint64_t lsn;
    size_t bytes; /* of the command */
};

/* hiredis fills this instead of an object of its own for each reply. */
struct redis_reply {
    bool error;
    char text[256];
};

/* One non-blocking connection. */
struct redis_link {
    struct redis *r;
    struct event_base *base;
    struct evdns_base *dns;
    struct evdns_getaddrinfo_request *lookup; /* under way */
    struct event io, timer;
    enum redis_phase phase;
    int fd;
    unsigned attempt;
    int64_t since_ms; /* of the phase, or of the last reply */
    struct buf out,
        sending; /* commands are made in one while the other goes out, so none is moved */
    size_t sent; /* of `sending`, taken by the kernel */
    struct redis_reply reply; /* the one the reader has just finished */
    redisReader *reader;
    struct redis_asked *ring;
    size_t ring_cap, ring_first, ring_n;
    bool writing;
};

struct redis {
    struct sink sink;
    const struct sink_redis_cfg *cfg;
    struct redis_url url;
    struct redis_link link;
    struct redis_xadd xadd;
    bool was_full;
    bool reconnect; /* once nothing is in flight */
    /* LSNs: sent alone up to here; of the last one that was cut alone; that is poison. */
    uint64_t careful_until, cut, poison;
};

/* redis_connect.c */
void redis_connect(struct redis_link *l);
void redis_connect_cancel(struct redis_link *l);
void redis_connected(struct redis_link *l); /* or not: the socket says */

/* redis_link.c */
void redis_link_init(struct redis_link *l, struct redis *r, struct event_base *base);
void redis_link_close(struct redis_link *l);
void redis_link_timer(struct redis_link *l, int64_t ms);
void redis_link_wait(struct redis_link *l, short what);
/* Down, and again after a while. Everything in flight is void. */
void redis_link_down(struct redis_link *l, enum sink_state state, const char *reason);
void redis_link_ask(struct redis_link *l, enum redis_what what, int argc, const char **argv,
                    const size_t *lens);
void redis_link_push(struct redis_link *l, struct redis_asked asked);
const struct redis_asked *redis_link_oldest(const struct redis_link *l, size_t i);
struct redis_asked redis_link_pop(struct redis_link *l);
size_t redis_link_waiting(const struct redis_link *l); /* bytes */
void redis_link_flush(struct redis_link *l);
redisReader *redis_link_reader(struct redis_link *l);

/* redis_reply.c */
void redis_on_reply(struct redis_link *l);
void redis_on_cut(struct redis_link *l); /* the server hung up */

/* redis.c: what a link tells. */
void redis_on_up(struct redis_link *l);
void redis_on_down(struct redis_link *l, enum sink_state state, const char *reason);
void redis_on_timer(struct redis_link *l);
void redis_offer_room(struct redis *r);
