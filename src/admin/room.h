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

struct admin_params { /* of /v1/events; /v1/rejected has source and limit */
    uint64_t after, limit;
    int64_t wait_ms;
    struct buf source, type, log;
    bool has_after;
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
