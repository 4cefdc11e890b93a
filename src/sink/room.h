/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this room share. */
#pragma once

#include "clock.h"
#include "sink.h"

struct sink_kafka_cfg {
    char *brokers, *topic, *key, *fallback_topic;
    bool cloudevents;
    struct sink_create {
        int64_t partitions, replication;
    } * create;
    struct cfg_strmap properties;
};

struct sink_trim {
    int64_t maxlen, maxage_ms;
    bool consumed;
};

struct sink_redis_cfg {
    char *url, *user, *stream;
    struct cfg_secret password;
    struct sink_trim trim;
    struct sink_redis_tls {
        char *ca, *cert, *key; /* PEM files */
    } tls;
};

struct sink_http_cfg {
    char *url, *key, *ca;
    struct cfg_secrets secrets;
    int64_t concurrency, timeout_ms, give_up_ms;
};

extern const struct sink_type sink_kafka, sink_redis, sink_http;
const struct cfg_key *sink_kafka_keys(void);
const struct cfg_key *sink_redis_keys(void);
const struct cfg_key *sink_http_keys(void);
void sink_kafka_check(const char *name, const struct sink_kafka_cfg *cfg, const struct cfg_node *at,
                      struct err_list *errs);
void sink_redis_check(const char *name, const struct sink_redis_cfg *cfg, const struct cfg_node *at,
                      struct err_list *errs);

void sink_http_check(const char *name, const struct sink_http_cfg *cfg, const struct cfg_node *at,
                     struct err_list *errs, struct err_list *warns);

/* A body that is itself a CloudEvent carries its attributes inside. */
bool sink_is_structured(struct span content_type);

/* template.c: "hooks.{source}" for a record. {{tag}} writes {tag}. */
bool template_good(const char *t, const char **why);
bool template_by_content(const char *t); /* names something that comes from outside */
/* safe: bytes other than [A-Za-z0-9._-] become _ (names of Kafka topics). */
void template_write(const char *t, const struct record *rec, struct span id, bool safe,
                    struct buf *out);

/* redis_url.c */
struct redis_host {
    char *host; /* NULL: path is a Unix socket */
    char *path;
    int port;
};
struct redis_url {
    enum redis_kind { REDIS_ONE, REDIS_SENTINEL, REDIS_CLUSTER } kind;
    bool tls;
    struct redis_host *hosts; /* the server, or some of the sentinels or of the cluster */
    size_t n;
    char *user, *password; /* REDIS_SENTINEL: for the sentinels */
    char *name;            /* REDIS_SENTINEL: of the master */
    int db;
};
bool redis_url_parse(const char *text, struct redis_url *out);
bool redis_host_parse(struct span text, int port, struct redis_host *out); /* port: the default */
void redis_host_free(struct redis_host *h);
void redis_url_free(struct redis_url *u);

/* redis_conf.c: what an error reply means for the record it answers. */
struct redis_error {
    const char *start;
    enum {
        REDIS_PASSES,  /* by itself: retry */
        REDIS_BLOCKS,  /* somebody has to mend the server or the settings */
        REDIS_KEY,     /* about the stream's key: blocks, unless the event itself names it */
        REDIS_POISONS, /* this record will never be taken */
    } kind;
    const char *mend;
};
const struct redis_error *redis_error_of(const char *text);
const char *redis_error_core(const char *text);

/* Texts that every message needs, without printf. That of a time is remembered for its second and
 * stays until the next call; that of a number stands in `out`. */
#define NUMBER_MAX 20
struct sink_time {
    int64_t second;
    char text[CLOCK_TEXT_MAX];
};
struct span sink_time_text(struct sink_time *t, int64_t ms);
struct span sink_number_text(uint64_t v, char out[NUMBER_MAX]);

/* redis_xadd.c */
struct redis_header {
    struct span name, value;
};
struct redis_xadd {
    const struct sink_redis_cfg *cfg;
    const char *logid;
    struct buf stream, json, value; /* reused, like the rest */
    struct redis_header *headers;
    size_t headers_cap;
    struct sink_time time;
};
void redis_bulk(struct buf *b, struct span s); /* one argument of a command */
/* The stream's name lives in x until the next call. */
struct span redis_xadd_stream(struct redis_xadd *x, const struct record *rec);
void redis_xadd(struct redis_xadd *x, struct span stream, const struct record *rec,
                struct buf *out);
void redis_xadd_values(struct redis_xadd *x, const struct record *rec, struct buf *out);
void redis_trim_value(const struct sink_trim *trim, char *out, size_t n); /* "": none */
void redis_xadd_free(struct redis_xadd *x);

/* Doubles from 100 ms to 5 s, each time between half and all of it. */
int64_t backoff_ms(unsigned attempt);
int64_t backoff_within(unsigned attempt, int64_t most_ms); /* the same with another end */
