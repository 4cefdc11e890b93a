/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this room share: claim.c what is said, link.c the connection. */
#pragma once

#include <event2/bufferevent.h>
#include <event2/dns.h>
#include <event2/event_struct.h>
#include <hiredis/hiredis.h>
#include <pthread.h>

#include "claim.h"
#include "sink.h"

enum command_kind {
    COMMAND_HELLO, /* AUTH, SELECT */
    COMMAND_READY, /* the PING behind them */
    COMMAND_PING,
    COMMAND_TRY,  /* SET NX of a claim */
    COMMAND_LOOK, /* GET of it */
    COMMAND_MARK,
    COMMAND_DROP,
};

struct command {
    enum command_kind kind;
    struct claim *claim; /* COMMAND_LOOK; NULL: cancelled */
    int64_t sent_ms;
};

struct claims {
    const struct claim_cfg *cfg;
    char logid[LOG_ID_TEXT_MAX], instance[17];
    uint64_t number; /* of the last claim */
    void *arg;
    struct claim_times times;
    struct buf text; /* of the command that is being made */

    struct event_base *base;
    struct sink_endpoint at;
    enum { LINK_DOWN, LINK_CONNECTING, LINK_UP } phase;
    struct bufferevent *bev;
    struct evdns_base *dns;
    struct evdns_getaddrinfo_request *lookup;
    struct event tick;
    redisReader *reader;
    struct command *ring; /* commands without a reply, in order */
    size_t ring_cap, ring_n;
    uint64_t ring_first; /* number of the oldest since the start */
    unsigned attempt;    /* since a claim was last answered */
    int64_t since_ms;    /* of the phase, or of the last reply; LINK_DOWN: when to try again */

    atomic_bool up;
    pthread_mutex_t lock; /* reason */
    char reason[256];
    struct counter missed_claims, missed_marks;
};

/* link.c */
void link_open(struct claims *cs);
void link_close(struct claims *cs);
/* Commands are taken: it is up, or connects for the first time. */
bool link_ready(const struct claims *cs);
void link_send(struct claims *cs, enum command_kind kind, struct claim *c, const struct span *argv,
               size_t n);
/* Everything under way is void; another attempt follows. */
void link_down(struct claims *cs, const char *reason);

/* claim.c: what became of a command. False: the connection went down. */
bool claims_on_reply(struct claims *cs, const struct command *cmd, const redisReply *reply);
void claims_on_void(struct claims *cs, const struct command *cmd);
