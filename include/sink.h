/* sink - given a record, publish it and say what became of it. Knows nothing of the log or of HTTP.
 *
 * One const struct sink_type each (kafka.c, redis.c, http.c). A sink lives on one thread with that
 * thread's event_base and never blocks it. At least once: what is reported SINK_DONE is stored by
 * the server to the degree that its settings promise (acks=all; Redis replied; the target answered
 * 2xx). */
#pragma once

#include <event2/event.h>

#include "cfg.h"
#include "inbox.h"
#include "metrics.h"
#include "program.h"
#include "record.h"

struct sink_kafka_cfg;
struct sink_redis_cfg;
struct sink_http_cfg;

enum { SINK_AT_LEAST_ONCE, SINK_EXACTLY_ONCE };

/* One entry of `sinks`: what all sinks share and one pointer for the kind that is configured. */
struct sink_cfg {
    struct sink_kafka_cfg *kafka;
    struct sink_redis_cfg *redis;
    struct sink_http_cfg *http;
    int delivery; /* SINK_AT_LEAST_ONCE, SINK_EXACTLY_ONCE */
    struct {
        char *source, *type, *jq;
    } match;
    struct {
        char *jq;
    } transform;
    struct {
        int64_t timeout_ms;
        uint64_t memory_bytes;
    } jq;
    struct program *program; /* made by sink_check(); NULL: neither match.jq nor transform.jq */
    char *from;              /* "" (default rule), now, oldest, an LSN or a time */
    struct {
        int64_t events;
        uint64_t bytes;
    } in_flight;
    struct {
        int64_t interval_ms, events;
        uint64_t bytes;
    } transaction;
    uint64_t backlog_bytes;
    struct sink_wait {
        int64_t replicas, timeout_ms; /* 0 replicas: not waited for */
    } wait;
    uint64_t dead_bytes;
};
const struct cfg_key *sink_cfg_keys(void);
/* Cross checks: exactly one kind, refused librdkafka properties, templates; compiles the programs.
 * max_body: largest body of any source. */
void sink_check(const char *name, struct sink_cfg *cfg, const struct cfg_node *at,
                uint64_t max_body, struct err_list *errs, struct err_list *warns);
void sink_release(struct sink_cfg *cfg);                    /* what sink_check() made */
uint64_t sink_destination_hash(const struct sink_cfg *cfg); /* for the cursor */
/* How many connections it may open at once where that can be many, else 0. */
uint32_t sink_files(const struct sink_cfg *cfg);
bool sink_matches(const struct sink_cfg *cfg, struct span source, struct span type);

/* Where one Redis is, from `redis://...` or `unix:/path`; for who keeps something else there. */
struct sink_endpoint {
    char *host, *path, *user, *password;
    int port, db;
};
bool sink_endpoint(const char *url, struct sink_endpoint *out); /* free it in any case */
void sink_endpoint_free(struct sink_endpoint *at);

/* How an event goes over HTTP: lines "name:value\n" with its CloudEvents attributes, its content
 * type and its kept headers, without those that a signature of ours takes the place of. Any thread.
 */
void sink_http_headers(const struct record *rec, const char *logid, bool is_signed,
                       struct buf *out);
/* Appends the lines of the signature, one with each secret that has not ended; none where there is
 * none. The secrets are borrowed, and good as sink_http_check_target said. One thread. */
struct sink_signer;
struct sink_signer *sink_signer_new(const struct cfg_secrets *secrets);
void sink_signer_free(struct sink_signer *s);
void sink_signer_sign(struct sink_signer *s, const struct record *rec, const char *logid,
                      int64_t now_ms, struct buf *out);
/* what: "sink NAME", for the errors. */
void sink_http_check_target(const char *what, const char *url, const char *ca,
                            const struct cfg_secrets *secrets, const struct cfg_node *at,
                            struct err_list *errs, struct err_list *warns);

enum sink_outcome {
    SINK_DONE,
    SINK_RETRY,  /* transient: send it again, in order */
    SINK_POISON, /* can never be accepted: to the dead letters, with the reason */
};
enum sink_state { SINK_RUNNING, SINK_RETRYING, SINK_BLOCKED };
const char *sink_state_name(enum sink_state s);

/* What an exactly-once sink keeps on the other side, beside the events. */
struct sink_mark {
    char logid[LOG_ID_TEXT_MAX];
    uint64_t epoch, lsn;
    uint32_t crc; /* record_crc() of the record at lsn; 0 where that was no longer retained */
};
enum sink_verdict {
    SINK_GO_ON,    /* the LSN of the mark counts; where there is none, the local cursor */
    SINK_DIVERGED, /* block with the reason, send nothing */
    SINK_FENCED,   /* another's epoch met while running: the process ends with 75 */
};

/* Told to the owner, on the sink's thread, also from inside `send`
 * where the verdict is known at once. */
struct sink_owner {
    void *arg;
    void (*done)(void *arg, uint64_t lsn, enum sink_outcome outcome, const char *reason);
    /* It failed and the sink tries again by itself: nothing is reported yet. May be NULL where the
     * sink never does. */
    void (*retried)(void *arg, uint64_t lsn, const char *reason);
    /* Everything handed over and not reported is void (a reconnect, a rebuilt producer): send again
     * from the oldest. */
    void (*lost)(void *arg, const char *reason);
    void (*state)(void *arg, enum sink_state state, const char *reason);
    void (*ready)(void *arg); /* a full sink takes records again */

    /* For exactly-once sinks, which call judge at each start and reconnect, before anything is
     * sent: claim what it allows, then resume, then ready. What a sink does not know of the log it
     * asks for here. */
    /* A mark that was read back; NULL: none there. running: we have claimed it already. */
    enum sink_verdict (*judge)(void *arg, const struct sink_mark *found, bool running,
                               struct buf *reason);
    /* Send again everything behind that LSN, from the log where the window no longer holds it; what
     * is under way is void, and the sink full until `ready`. */
    void (*resume)(void *arg, uint64_t lsn);
    /* The lowest LSN from which something may still have to be sent: the local, synced cursor. */
    uint64_t (*cursor)(void *arg);
    /* The mark for that LSN. out->lsn may be higher: never below where the sink goes on after its
     * delivery mode was changed. */
    void (*mark)(void *arg, uint64_t lsn, struct sink_mark *out);
};

struct sink {
    const struct sink_type *type;
    struct sink_owner owner;
};

struct sink_type {
    const char *name;  /* "kafka", "redis", "http" */
    bool exactly_once; /* knows how */
    /* Connects in the background; max_body sizes buffers and message.max.bytes. epoch: of this
     * start; 0: at least once. */
    struct sink *(*open)(const char *name, const struct sink_cfg *cfg, const char *logid,
                         uint64_t epoch, uint64_t max_body, struct event_base *base,
                         const struct sink_owner *owner, struct err *e);
    /* 0 taken (rec's spans stay valid until done or lost), 1 full or not connected: wait for
     * `ready`. */
    int (*send)(struct sink *s, const struct record *rec);
    void (*flush)(struct sink *s); /* the pass is over: let it go out */
    /* The process ends: what is not under way is reported SINK_RETRY, nothing new is sent; may be
     * NULL. */
    void (*stop)(struct sink *s);
    void (*warnings)(struct sink *s, struct buf *json_array_items); /* for /status; may be NULL */
    void (*close)(struct sink *s); /* drops what was not reported */
};
const struct sink_type *sink_type_of(const struct sink_cfg *cfg);
