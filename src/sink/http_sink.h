/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the HTTP sink share: http.c sends and acts on answers, http_lane.c keeps the
 * order of each key, http_message.c makes headers, http_conf.c has the settings and what a status
 * means. */
#pragma once

#include <event2/event_struct.h>
#include <sys/queue.h>

#include "post.h"
#include "room.h"
#include "webhook.h"

/* One record that was handed over. */
struct http_item {
    STAILQ_ENTRY(http_item) link;
    struct record rec;
};
STAILQ_HEAD(http_items, http_item);

/* The records of one key, in order. Its first is sent until somebody has it; then the next. */
struct http_lane {
    TAILQ_ENTRY(http_lane) link; /* in `ready`, or in `waiting` */
    struct http_lane *next;      /* in its bucket */
    struct sink_http *sink;
    uint8_t tag[16]; /* of the key, under a secret of this start: nobody can find two of one */
    struct http_items items;
    struct post *post;           /* the first is under way */
    unsigned tries;              /* of the first, that failed */
    int64_t since_ms;            /* when the first was first sent; 0: not yet */
    int64_t tried_ms, before_ms; /* when it was sent last, and the time before that */
    int64_t due_ms;              /* while it waits: when it is sent again */
};
TAILQ_HEAD(http_queue, http_lane);

#define HTTP_BUCKETS 4096
struct http_lanes {
    struct http_lane *bucket[HTTP_BUCKETS];
    struct http_queue ready, waiting;
    size_t waiting_n;
    struct crypto_hmac *key;
};

struct sink_http {
    struct sink sink;
    const struct sink_http_cfg *cfg;
    const char *logid;
    struct post_target target;
    struct poster *poster;
    struct event turn;
    struct http_lanes lanes;
    struct sink_signer *signer;
    size_t flying, limit; /* requests under way, and how many may be */
    unsigned failures;    /* one after another, of all lanes */
    int64_t taken_ms;     /* when the target last took something; 0: never */
    int64_t pause_ms;     /* nothing is sent before */
    bool said_running, stopping;
    char trouble[400]; /* the last failure */
    struct buf headers, text;
};

/* http_lane.c */
void http_lanes_init(struct http_lanes *l);
void http_lanes_free(struct http_lanes *l);
void http_lane_add(struct sink_http *h, const struct record *rec);
/* The first of the lane is done with. Frees the lane where that was all. */
void http_lane_next(struct sink_http *h, struct http_lane *lane);
void http_lane_wait(struct sink_http *h, struct http_lane *lane, int64_t due_ms);
/* Reports all that is not under way as SINK_RETRY. */
void http_lanes_drop(struct sink_http *h);
/* What is due is ready; when the next is, INT64_MAX: none waits. */
int64_t http_lanes_wake(struct http_lanes *l, int64_t now_ms);

/* http_conf.c: what an answer says. */
enum http_word {
    HTTP_TAKEN,
    HTTP_FAILED,  /* this time; perhaps because of this event */
    HTTP_BUSY,    /* the target as a whole: later */
    HTTP_BLOCKED, /* the target as a whole: somebody has to mend it, or the settings */
    HTTP_REFUSED, /* this event, for good */
};
enum http_word http_word_of(const struct post_answer *a);
/* For people: what came, and what would mend it. */
void http_explain(const struct sink_http_cfg *cfg, const struct post_answer *a, char *out,
                  size_t n);
