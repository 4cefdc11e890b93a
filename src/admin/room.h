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
    struct buf page_headers;
};

struct admin_params { /* of /v1/events; others know some of them */
    uint64_t after, limit;
    int64_t wait_ms;
    struct buf source, type, log, subject, id;
    int64_t from_ms, to_ms; /* received at or after, before; wall clock */
    uint64_t end;           /* no record with this LSN or behind it is looked at */
    bool has_after, has_from, has_to;
    bool brief; /* events without their bodies */
};

bool admin_params(struct net_request *req, struct admin_params *out, const char **bad);
void admin_params_free(struct admin_params *p);

/* A browser is to keep nothing, guess nothing and frame nothing of any answer. */
#define ADMIN_HEADERS                                                                              \
    "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nX-Frame-Options: DENY\r\n"      \
    "Referrer-Policy: no-referrer\r\nCross-Origin-Resource-Policy: same-origin\r\n"
void admin_reply(struct net_request *req, int status, const char *type, const struct buf *body);
void admin_reply_error(struct net_request *req, int status, const char *code, const char *detail);

/* guard.c: who may ask what. False: it has been answered. */
bool admin_allowed(struct admin *a, struct net_request *req);
bool admin_knows(struct admin *a, struct net_request *req); /* no token is needed, or it is there */

/* event_json.c: without the body, with its size as `bytes` instead; and all that is known of one
 * event, the body as base64 of the very bytes, for people to look at. */
void admin_event_brief(struct buf *out, const struct record *rec, const char *logid);
void admin_event_view(struct buf *out, const struct record *rec, const char *logid, bool bodies);

/* page.c */
void admin_page_headers(struct buf *out); /* what goes with it */
void admin_page(struct admin *a, struct net_request *req);
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
/* sinks.c */
void admin_steer(struct admin *a, struct net_request *req, struct span sink_and_verb);
/* jobs.c */
void admin_job(struct admin *a, struct net_request *req, struct span escaped_id);
void admin_jobs(struct admin *a, struct net_request *req, struct span none);
/* level.c */
void admin_log_level(struct admin *a, struct net_request *req, struct span none);
/* replay.c: id is SPAN_NONE for /v1/replay itself. */
void admin_replay(struct admin *a, struct net_request *req, struct span id);
void admin_answer_run(struct admin_ask *k);
