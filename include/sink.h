/* sink - given a record, publish it and say what became of it. Knows nothing of the log or of HTTP.
 *
 * One const struct sink_type each (kafka.c, redis.c). A sink lives on one thread with that thread's
 * event_base and never blocks it. At least once: what is reported SINK_DONE is stored by the server
 * to the degree that its settings promise (acks=all; Redis replied). */
#pragma once

#include <event2/event.h>

#include "cfg.h"
#include "inbox.h"
#include "metrics.h"
#include "record.h"

struct sink_kafka_cfg;
struct sink_redis_cfg;

/* One entry of `sinks`: what all sinks share and one pointer for the kind that is configured. */
struct sink_cfg {
    struct sink_kafka_cfg *kafka;
    struct sink_redis_cfg *redis;
    int delivery; /* 0 at-least-once */
    struct {
        char *source, *type;
    } match;
    char *from; /* "" (default rule), now, oldest, an LSN or a time */
    struct {
        int64_t events;
        uint64_t bytes;
    } in_flight;
    uint64_t backlog_bytes;
};
const struct cfg_key *sink_cfg_keys(void);
/* Cross checks: exactly one kind, refused librdkafka properties, templates. max_body: largest body
 * of any source. */
void sink_check(const char *name, const struct sink_cfg *cfg, const struct cfg_node *at,
                uint64_t max_body, struct err_list *errs, struct err_list *warns);
uint64_t sink_destination_hash(const struct sink_cfg *cfg); /* for the cursor */
bool sink_matches(const struct sink_cfg *cfg, struct span source, struct span type);

/* Where one Redis is, from `redis://...` or `unix:/path`; for who keeps something else there. */
struct sink_endpoint {
    char *host, *path, *user, *password;
    int port, db;
};
bool sink_endpoint(const char *url, struct sink_endpoint *out); /* free it in any case */
void sink_endpoint_free(struct sink_endpoint *at);

enum sink_outcome {
    SINK_DONE,
    SINK_RETRY,  /* transient: send it again, in order */
    SINK_POISON, /* can never be accepted: to the dead letters, with the reason */
};
enum sink_state { SINK_RUNNING, SINK_RETRYING, SINK_BLOCKED };
const char *sink_state_name(enum sink_state s);

/* Told to the owner, on the sink's thread, also from inside `send`
 * where the verdict is known at once. */
struct sink_owner {
    void *arg;
    void (*done)(void *arg, uint64_t lsn, enum sink_outcome outcome, const char *reason);
    /* Everything handed over and not reported is void (a reconnect, a rebuilt producer): send again
     * from the oldest. */
    void (*lost)(void *arg, const char *reason);
    void (*state)(void *arg, enum sink_state state, const char *reason);
    void (*ready)(void *arg); /* a full sink takes records again */
};

struct sink {
    const struct sink_type *type;
    struct sink_owner owner;
};

struct sink_type {
    const char *name; /* "kafka", "redis" */
    /* Connects in the background; max_body sizes buffers and message.max.bytes. */
    struct sink *(*open)(const char *name, const struct sink_cfg *cfg, const char *logid,
                         uint64_t max_body, struct event_base *base, const struct sink_owner *owner,
                         struct err *e);
    /* 0 taken (rec's spans stay valid until done or lost), 1 full or not connected: wait for
     * `ready`. */
    int (*send)(struct sink *s, const struct record *rec);
    void (*flush)(struct sink *s); /* the pass is over: let it go out */
    void (*warnings)(struct sink *s, struct buf *json_array_items); /* for /status; may be NULL */
    void (*close)(struct sink *s); /* drops what was not reported */
};
const struct sink_type *sink_type_of(const struct sink_cfg *cfg);
