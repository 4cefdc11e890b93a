/* intake - the threads that take requests: route, verify, submit to the log, answer.
 *
 * Keeps P1 together with wal: the 2xx is written behind the log's reply and nowhere else; where a
 * source says `ack: broker` it also waits for the sinks. */
#pragma once

#include "access.h"
#include "address.h"
#include "claim.h"
#include "net.h"
#include "otlp.h"
#include "progress.h"
#include "rate.h"
#include "source.h"
#include "wal.h"

struct intake_network_cfg { /* of all addresses with the same first bits */
    int64_t rate, burst, connections, ipv4_prefix, ipv6_prefix;
};
struct intake_limits_cfg { /* section `limits` */
    uint64_t buffer_bytes, body_bytes, header_bytes;
    int64_t connections;
    int64_t handshake_timeout_ms, header_timeout_ms, body_timeout_ms, idle_timeout_ms;
    int64_t commit_timeout_ms;
    struct intake_network_cfg per_network;
};
const struct cfg_key *intake_limits_keys(void);

struct intake_proxies_cfg { /* section `proxies` */
    struct cfg_strs trusted;
    int header; /* enum address_header */
};
const struct cfg_key *intake_proxies_keys(void);
struct intake_proxies {
    struct address_nets trusted;
    enum address_header header;
};

/* Who may send to a source, and how much. Borrows the info's texts. */
struct intake_guard {
    struct address_nets allow;
    struct cfg_strs names; /* of client certificates */
    uint64_t rate, burst;
};
MUST_CHECK int intake_guard_init(struct intake_guard *g, const struct source_info *info,
                                 struct err *e);
void intake_guard_close(struct intake_guard *g);

/* Whether a sink is at its quota, so that sources routed to it get 503 (P9). */
struct intake_gate {
    const char *match_source, *match_type;
    const atomic_bool *full;
};

/* A sink that sources with `ack: broker` wait for. */
struct intake_sink {
    const char *match_source, *match_type;
    struct progress *passed; /* LSN */
};

/* What is counted per source, for ever (it outlives reloads). One element a thread. */
struct source_stats;
struct source_stats *source_stats_get(const char *source); /* made at first use; main thread */

/* Immutable once published. */
struct intake_conf {
    struct intake_limits_cfg limits;
    struct source_plan **plans;
    struct source_stats **stats; /* same order */
    struct intake_guard *guards; /* same order; NULL: everybody may */
    struct intake_proxies proxies;
    size_t n;
    struct intake_gate *gates;
    size_t gates_n;
    struct net_door *doors; /* of the addresses that are listened on, in their order; or none */
    size_t doors_n;
    const struct intake_sink *sinks; /* read at the start; must outlive the threads */
    size_t sinks_n;
    struct access *access; /* NULL: off; must outlive the threads */
    int64_t access_sample;
    const struct otlp_cfg *tracing; /* NULL: off */
    struct otlp *otlp;              /* NULL: no spans; must outlive the threads */
    const struct claim_cfg *claim;  /* may be NULL; must outlive the threads */
    int64_t dedup_window_ms;
    uint32_t sink_files; /* descriptors that are left for the sinks beside the common reserve */
};

#define INTAKE_THREADS_MAX 64
struct intake;
/* Binds all addresses and starts `threads` threads. bound (may be NULL): "http://..." or
 * "https://..." of the first, 160 bytes. */
MUST_CHECK int intake_start(struct intake **out, struct wal *w, const struct intake_conf *conf,
                            char *const *listen, size_t listen_n, unsigned threads, char *bound,
                            struct err *e);
/* Publishes a new configuration to all threads; returns when none uses the old one any more. */
void intake_publish(struct intake *in, const struct intake_conf *conf);
/* Stops in the order of the shutdown: listeners closed, waiting requests answered, threads joined
 * (at most timeout_ms). */
void intake_stop(struct intake *in, int64_t timeout_ms);

/* After a start, before the threads: tells the other replicas what the end of the log holds. Takes
 * at most so long. */
void intake_mark_tail(struct wal *w, const struct intake_conf *conf, int64_t most_ms);

bool intake_turning(const struct intake *in, int64_t now_mono_ms); /* no loop silent for 60 s */
unsigned intake_default_threads(void); /* cores that affinity and the cgroup quota give */

/* For /status and /metrics; main thread. */
void intake_status(const struct intake *in, struct buf *json); /* the value of "sources" */
/* The value of "dedup"; false: nothing to say. */
bool intake_dedup_status(const struct intake *in, struct buf *json);
void intake_metrics(const struct intake *in, struct buf *out);
/* The answer of /v1/rejected: of one source, or of all when it is empty; the newest first. */
void intake_rejected(struct span source, uint64_t limit, struct buf *json);
