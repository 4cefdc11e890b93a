/* admin - health, metrics, status and events over HTTP, on the main thread's loop. */
#pragma once

#include <event2/event.h>

#include "delivery.h"
#include "intake.h"
#include "jobs.h"
#include "net.h"
#include "wal.h"

struct admin_cfg { /* section `admin` */
    char *listen;
    struct cfg_secret token, read_token;
    struct net_tls_cfg *tls;
    struct cfg_strs hosts;
    char *probes; /* "" none */
    bool show_bodies;
};
const struct cfg_key *admin_cfg_keys(void);
void admin_check(const struct admin_cfg *cfg, const struct cfg_node *at, struct err_list *errs);

/* What the answers are made of; set by main as the parts come up (NULL until then). */
struct admin_view {
    struct wal *wal;
    struct intake *intake;
    struct jobs *jobs; /* also NULL where none are kept */
    struct keys *keys; /* also NULL where no source has keys of others */
    struct access *access;
    struct otlp *otlp; /* also NULL where no spans are sent */
    struct delivery **sinks;
    char **sink_names;
    size_t sinks_n;
    const char *config_file;
    int64_t config_loaded_ms; /* wall */
    int64_t config_failed_ms; /* last rejected reload, 0: none */
    bool config_ok;
    char config_error[512]; /* why it was rejected: the first of the reasons */
    bool recovering, stopping;
    int64_t commit_timeout_ms;
    const struct cfg_list *listen; /* of struct net_listen_cfg, and their doors */
    const struct net_door *doors;
    int64_t job_waiters, intake_connections; /* as configured */
};

/* What of the settings a reload may change; borrowed until the next call. */
struct admin;
void admin_configure(struct admin *a, const struct admin_cfg *cfg, const struct net_door *door);
/* Probes open first (before recovery), then the admin listener. The view is read at each request.
 */
MUST_CHECK int admin_start(struct admin **out, struct event_base *base, const struct admin_cfg *cfg,
                           const struct net_door *door, const struct admin_view *view, char *bound,
                           struct err *e);
/* The log is there: view->wal is set and stays until admin_log_closing, which answers all who wait.
 */
void admin_log_open(struct admin *a);
void admin_log_closing(struct admin *a);
void admin_stop(struct admin *a);

/* One event as CloudEvents JSON, as /v1/events shows it (also for `hookline log dump`). */
void admin_event_json(struct buf *out, const struct record *rec, const char *logid);
