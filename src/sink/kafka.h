/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the Kafka sink share: kafka.c sends and acts on reports, kafka_topic.c knows
 * the destinations, kafka_park.c keeps what waits for one, kafka_message.c makes headers,
 * kafka_conf.c the settings. */
#pragma once

#include <event2/event_struct.h>
#include <librdkafka/rdkafka.h>

#include "room.h"

struct topic {
    char *name;
    rd_kafka_topic_t *handle;
    bool fixed;         /* named by the settings alone: if it is missing the sink is blocked */
    bool asking;        /* its limits are being read: nothing is sent to it yet */
    bool cold;          /* in transactions: its metadata is not known yet */
    unsigned tries;     /* answers so far that say it does not exist */
    int64_t missing_ms; /* since when it cannot be used; 0: it can, as far as is known */
    int64_t trouble_ms; /* the first time since it last took a record; 0: never */
    int64_t asked_ms;
    bool making;                 /* the brokers were asked to make it and did not answer yet */
    int64_t make_ms;             /* when they were asked last */
    rd_kafka_resp_err_t refused; /* why the broker did not make it; 0: not known */
    uint64_t max_bytes;          /* max.message.bytes; 0: not known */
};

struct parked;
struct kafka_tx;
struct kafka {
    struct sink sink;
    const struct sink_cfg *cfg;
    char *name;
    const char *logid;
    uint64_t max_body;
    struct event_base *base;
    struct event io, timer;
    int fd, ask_ms; /* how long an answer about a topic is waited for */
    rd_kafka_t *rk;
    rd_kafka_queue_t *queue;
    struct topic *topics;
    size_t topics_n, last_topic, in_flight;
    struct parked *parked, **parked_end;
    int missing_ms;         /* how long an event waits for a missing topic that it names itself */
    uint64_t batch_bytes;   /* below the smallest max.message.bytes seen */
    uint64_t careful_until; /* LSN up to which records are sent one at a time */
    struct buf scratch, key;
    struct sink_time time;
    bool by_content; /* the topic is named by what comes from outside */
    bool compressed; /* then only the broker can tell what is too large */
    bool was_full, fatal;
    bool renew;          /* make the producer again as soon as nothing is in flight */
    bool trouble;        /* the brokers were unreachable or refused us; a probe is under way */
    struct kafka_tx *tx; /* exactly once, else NULL */
};

/* kafka_conf.c */
MUST_CHECK int kafka_configure(const struct kafka *k, rd_kafka_conf_t *conf, struct err *e);
/* A consumer that reads the offset of a group and joins none. */
MUST_CHECK int kafka_configure_reader(const struct kafka *k, const char *group,
                                      rd_kafka_conf_t *conf, struct err *e);

/* kafka_topic.c */
/* The topic of that name, made known at its first use; NULL when the table is full. */
struct topic *kafka_topic(struct kafka *k, const char *name);
void kafka_topic_ask(struct kafka *k, struct topic *t);
void kafka_topic_missing(struct topic *t);
void kafka_topics_drop(struct kafka *k);
void kafka_topics_recheck(struct kafka *k); /* asks again for what is missing */
/* Whether records for it have waited long enough: they are dead. */
bool kafka_topic_given_up(const struct kafka *k, const struct topic *t);
/* Any answer to any request shows that a broker is reachable and lets us in. */
void kafka_probe(struct kafka *k);
void kafka_on_created(struct kafka *k, rd_kafka_event_t *ev);
void kafka_on_limits(struct kafka *k, rd_kafka_event_t *ev);
void kafka_topic_warnings(const struct kafka *k, struct buf *out);

/* kafka_park.c: records whose topic, named by themselves, is being asked for or is missing. They
 * wait here, in order, so that the others need not. */
void kafka_park(struct kafka *k, struct topic *t, const struct record *rec);
void kafka_unpark(struct kafka *k); /* what can be sent is sent, what has waited too long is dead */
void kafka_park_drop(struct kafka *k);

/* kafka_message.c */
rd_kafka_headers_t *kafka_headers(struct kafka *k, const struct record *rec, struct span id);

/* kafka.c */
/* Sends to a topic that is not being asked for. 0: librdkafka has it, or its end was reported. */
int kafka_produce(struct kafka *k, const struct record *rec, struct topic *t);
bool kafka_is_fallback(const struct kafka *k, const char *topic);
void kafka_report(struct kafka *k, uint64_t lsn, enum sink_outcome outcome, const char *reason);
void kafka_drop(struct kafka *k);   /* the producer, its topics, what waits for them */
int kafka_rebuild(struct kafka *k); /* what was handed over is lost; -1: the settings are bad */
void kafka_say(struct kafka *k, enum sink_state state, const char *reason);
void kafka_wake(struct kafka *k, int64_t after_ms);
