/* otlp - traces: the settings, and the spans that go to a collector by OTLP over HTTP, as JSON.
 *
 * Whoever has done a piece of sampled work copies what is to be said of it into a queue and goes
 * on. A thread of its own sends what has gathered, once a second or when much is there. The queue
 * is bounded: what comes while it is full, and what a collector that is away, hangs or refuses did
 * not take, is lost and counted; nobody waits. */
#pragma once

#include "cfg.h"
#include "metrics.h"
#include "trace.h"

struct otlp_cfg { /* section `tracing` */
    bool enabled;
    int64_t rate;   /* of traces that begin here and are sampled, a second */
    char *endpoint; /* "": no spans */
    char *service;
};
const struct cfg_key *otlp_cfg_keys(void);
void otlp_check(const struct otlp_cfg *cfg, const struct cfg_node *at, struct err_list *errs);

enum otlp_kind { OTLP_INTERNAL = 1, OTLP_SERVER = 2, OTLP_PRODUCER = 4 }; /* as in the protocol */
#define OTLP_NAME 64
#define OTLP_ID 128
/* One piece of work. Constants must stay; texts are copied into the arrays, cut where they are
 * longer. */
struct otlp_span {
    struct trace_context context; /* its own; a span of zeros: one is made */
    uint8_t parent[8];            /* zeros: none */
    const char *name;             /* constant */
    enum otlp_kind kind;
    int64_t start_us, duration_us; /* CLOCK_MONOTONIC */
    const char *failed;            /* constant: why; NULL: it went well */
    /* what is 0 or empty is left out */
    char source[OTLP_NAME], sink[OTLP_NAME], id[OTLP_ID];
    const char *system; /* constant: of the sink */
    const char *result; /* constant */
    int status;         /* of HTTP */
    unsigned tries;
    uint64_t lsn, bytes, request;
};
void otlp_text(char *to, size_t size, struct span text); /* cut to size - 1 and ended by a NUL */

struct otlp;
/* NULL where no spans are to be sent. cfg is copied; log_id names this instance. */
struct otlp *otlp_start(const struct otlp_cfg *cfg, const char *log_id);
/* Any thread; o may be NULL. */
void otlp_add(struct otlp *o, const struct otlp_span *s);
void otlp_metrics(const struct otlp *o, struct buf *out); /* any thread */
/* Nobody adds any more. What is there is sent if the collector takes it within two seconds. */
void otlp_stop(struct otlp *o);
