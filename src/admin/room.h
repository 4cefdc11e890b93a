/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this room share. Everything runs on the main thread's loop. */
#pragma once

#include <event2/event_struct.h>

#include "admin.h"

struct waiter;

struct admin {
    struct event_base *base;
    const struct admin_cfg *cfg;
    const struct net_door *door;
    const struct admin_view *view;
    struct net_server *server, *probes;
    _Atomic uint64_t held;
    struct inbox inbox;
    struct event inbox_ev;
    struct wal_watch watch;
    bool watching;
    struct waiter *waiters;
    size_t waiters_n;
    int64_t started_ms;
};

struct admin_params { /* of /v1/events; others know some of them */
    uint64_t after, limit;
    int64_t wait_ms;
    struct buf source, type, log, subject, id;
    int64_t from_ms, to_ms; /* received at or after, before; wall clock */
    uint64_t end;           /* no record with this LSN or behind it is looked at */
    bool has_after, has_from, has_to;
};

bool admin_params(struct net_request *req, struct admin_params *out, const char **bad);
void admin_params_free(struct admin_params *p);

void admin_reply(struct net_request *req, int status, const char *type, const struct buf *body);
void admin_reply_error(struct net_request *req, int status, const char *code, const char *detail);

/* guard.c: who may ask what. False: it has been answered. */
bool admin_allowed(struct admin *a, struct net_request *req);

/* health.c */
void admin_livez(struct admin *a, struct net_request *req);
void admin_startupz(struct admin *a, struct net_request *req);
void admin_readyz(struct admin *a, struct net_request *req);
/* status.c */
void admin_status(struct admin *a, struct net_request *req);
void admin_metrics(struct admin *a, struct net_request *req);
/* rejected.c */
void admin_rejected(struct admin *a, struct net_request *req);
/* events.c */
void admin_events(struct admin *a, struct net_request *req);
void admin_event(struct admin *a, struct net_request *req, struct span lsn);
void admin_on_durable(struct admin *a);
void admin_drop_waiters(struct admin *a);

/* ask.c: a request that a sink's thread answers. */
struct admin_ask {
    struct delivery_ask ask;
    struct net_request *req;
    struct delivery *sink;
    char name[64], log_id[LOG_ID_TEXT_MAX]; /* log and sink may be gone when the answer comes */
    uint64_t one;                           /* LSN, 0: several */
    const char *none;                       /* what a 404 says */
    void (*answer)(struct admin_ask *k);    /* it was done */
};
struct delivery *admin_sink(struct admin *a, struct span name); /* NULL: no such sink */
struct admin_ask *admin_ask_new(struct admin *a, struct net_request *req, struct delivery *sink,
                                struct span name);
void admin_ask_send(struct admin_ask *k); /* takes it */
void admin_ask_free(struct admin_ask *k);
/* False: it was answered, with 405 where the method is none of these. */
#define METHODS_GET (1u << METHOD_GET | 1u << METHOD_HEAD)
#define METHODS_POST (1u << METHOD_POST)
#define METHODS_PUT (1u << METHOD_PUT)
#define METHODS_DELETE (1u << METHOD_DELETE)
bool admin_method(struct net_request *req, unsigned allowed, const char *names);
/* dead.c */
void admin_dead(struct admin *a, struct net_request *req, struct span sink_and_lsn);
/* jobs.c */
void admin_job(struct admin *a, struct net_request *req, struct span escaped_id);
void admin_jobs(struct admin *a, struct net_request *req, struct span none);
/* level.c */
void admin_log_level(struct admin *a, struct net_request *req, struct span none);
/* replay.c: id is SPAN_NONE for /v1/replay itself. */
void admin_replay(struct admin *a, struct net_request *req, struct span id);
void admin_answer_run(struct admin_ask *k);
