/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the Redis sink share: redis.c the sink; redis_connect.c how a connection comes
 * to be, redis_link.c its bytes and whose the replies are, redis_reply.c what they mean;
 * redis_script.c what runs on the server, redis_stream.c the streams that are known and the batches
 * for them, redis_once.c what is claimed there and where to go on, redis_known.c which streams
 * there were; redis_where.c masters of sentinels and nodes of clusters; redis_wait.c, redis_trim.c,
 * redis_tls.c. */
#pragma once

#include <event2/dns.h>
#include <event2/event_struct.h>
#include <hiredis/hiredis.h>

#include "room.h"

#define REDIS_OUT_MAX (512u << 10)   /* commands that wait for the kernel */
#define REDIS_LEAST_LIMIT (1u << 20) /* of client-query-buffer-limit */
#define REDIS_CONNECT_MS 5000
#define REDIS_TICK_MS 1000
#define REDIS_BATCH 128 /* records in one call of the script */

#define REDIS_SLOTS 16384
#define REDIS_LINKS 1000 /* nodes of a cluster, at most */

enum redis_phase {
    REDIS_DOWN,
    REDIS_RESOLVING,
    REDIS_CONNECTING,
    REDIS_SHAKING_HANDS, /* TLS */
    REDIS_HELLO,
    REDIS_UP
};

/* A command without a reply. Replies come in the order of the commands. */
struct redis_asked {
    enum redis_what {
        REDIS_ASKED_HELLO,  /* AUTH, SELECT */
        REDIS_ASKED_POLICY, /* INFO memory */
        REDIS_ASKED_LOAD,   /* SCRIPT LOAD */
        REDIS_ASKED_LAST,   /* the PING that ends the greeting */
        REDIS_ASKED_PING,
        REDIS_ASKED_XADD,
        REDIS_ASKED_BATCH, /* the first record of a batch; the others follow as MORE. Or none: a
                              mark only */
        REDIS_ASKED_MORE,
        REDIS_ASKED_MARK,  /* what is kept for the stream */
        REDIS_ASKED_CLAIM, /* that it is ours */
        REDIS_ASKED_KNOWN, /* the streams before this start */
        REDIS_ASKED_ADDED, /* one more of them */
        REDIS_ASKED_WAIT,  /* lsn: which write */
        REDIS_ASKED_TRIM,
        REDIS_ASKED_ASKING,
        REDIS_ASKED_SLOTS,  /* of the cluster */
        REDIS_ASKED_MASTER, /* of a sentinel */
    } what;
    uint32_t n; /* records of the batch */
    uint64_t lsn;
    size_t bytes; /* of the command */
    struct redis_stream *stream;
};

/* hiredis fills this instead of objects of its own for each reply: the leaves of nested arrays, and
 * where they stood. */
struct redis_item {
    int type, depth, path[3];
    long long number;
    size_t at, n; /* in the text; a NUL follows */
};
struct redis_reply {
    struct buf text;
    struct redis_item *items;
    size_t n, cap;
};

/* Stored, and not confirmed by replicas yet. */
struct redis_held {
    uint64_t write, lsn;
};

/* One non-blocking connection. */
struct redis_link {
    struct redis *r;
    struct redis_host host; /* where it leads to */
    bool sentinel;
    bool wanted; /* else it is not connected again */
    struct ssl_st *ssl;
    struct event_base *base;
    struct evdns_base *dns;
    struct evdns_getaddrinfo_request *lookup; /* under way */
    bool lookup_void;                         /* of another host by now */
    struct event io, timer;
    enum redis_phase phase;
    int fd;
    unsigned attempt;
    int64_t since_ms; /* of the phase, or of the last reply */
    struct buf out,
        sending; /* commands are made in one while the other goes out, so none is moved */
    size_t sent; /* of `sending`, taken by the kernel */
    struct redis_reply reply; /* the one the reader has just finished */
    redisReader *reader;
    struct redis_asked *ring;
    size_t ring_cap, ring_first, ring_n;
    bool writing;
    bool loading; /* the scripts, again */
    /* Writes are counted: sent, asked to be confirmed, confirmed. What waits for it is held. */
    uint64_t writes, waited, confirmed;
    struct buf held;
    bool no_waitaof;
};

enum redis_claim { REDIS_UNREAD, REDIS_READING, REDIS_CLAIMING, REDIS_CLAIMED };

/* A stream that records went to. */
struct redis_stream {
    struct redis_stream *next;   /* in its bucket */
    struct buf name, key, field; /* where its mark is kept: a field of a hash in the same slot */
    enum redis_claim claim;
    bool ours;             /* claimed before, by this process */
    bool known, before;    /* listed on the server; when we started */
    bool found;            /* a mark was there */
    uint64_t stored, sent; /* LSNs: confirmed by the server; handed to the connection */
    uint64_t claimed;      /* while claiming: the LSN of the mark */
    char *expected, *wanted;
    unsigned in_flight; /* commands */
    struct redis_batch *batch;
    int64_t reached_ms, trimmed_ms;
    unsigned slot;
    struct redis_link *link; /* that its last commands went to */
    struct redis_link *ask;  /* while its slot moves: it is there already; or NULL */
};

/* Records for one stream that go out as one call. */
struct redis_batch {
    struct redis_stream *stream;
    struct buf args;
    uint64_t lsns[REDIS_BATCH];
    size_t n;
};

#define REDIS_BUCKETS 1024
#define REDIS_STREAMS 4096 /* at most; those without work are forgotten and read back */
#define REDIS_BATCHES 32   /* open at once */

enum { REDIS_APPEND, REDIS_CLAIM, REDIS_TRIM, REDIS_SCRIPTS };
struct redis_script {
    char *text, sha[41];
};

struct redis {
    struct sink sink;
    const char *name;
    const struct sink_redis_cfg *cfg;
    const struct sink_wait *wait;
    struct redis_url url;
    struct event_base *base;
    struct event tick;
    struct redis_link **links; /* one, or those of the cluster */
    size_t n_links;
    struct redis_link *sentinel;
    size_t next_host; /* of the sentinels */
    int16_t *slots;   /* number of the link, -1: not known; or NULL */
    bool map_known, map_stale, map_asked;
    struct ssl_ctx_st *tls;
    struct redis_xadd xadd;
    bool was_full;
    bool reconnect; /* once nothing is in flight */
    /* LSNs: sent alone up to here; of the last one that was cut alone; that is poison. */
    uint64_t careful_until, cut, poison;

    struct redis_script scripts[REDIS_SCRIPTS];
    struct redis_stream *buckets[REDIS_BUCKETS];
    size_t n_streams, hand;
    char trim_error[160];

    /* Exactly once; see redis_once.c. */
    uint64_t epoch; /* 0: at least once */
    struct redis_batch batches[REDIS_BATCHES];
    size_t next_batch, batched; /* bytes */
    size_t claims;              /* under way */
    size_t in_flight;           /* records in calls without an answer */
    bool stalled;               /* a claim failed; tried again with the next tick */
    unsigned stalls;
    bool unsettled;            /* the owner has to be told where to go on: */
    uint64_t rewind, reach;    /* LSNs */
    struct redis_stream known; /* no stream: the list of them */
    bool known_read;
    bool policy_unknown;
};

/* redis_connect.c */
void redis_connect(struct redis_link *l);
void redis_connect_cancel(struct redis_link *l);
void redis_connected(struct redis_link *l); /* or not: the socket says */
void redis_hello(struct redis_link *l);

/* redis_link.c */
struct redis_link *redis_link_new(struct redis *r);
void redis_link_free(struct redis_link *l);
void redis_link_want(struct redis_link *l); /* connects, if it is not connected */
void redis_link_timer(struct redis_link *l, int64_t ms);
void redis_link_wait(struct redis_link *l, short what);
/* Down, and again after a while. Everything in flight is void. */
void redis_link_down(struct redis_link *l, enum sink_state state, const char *reason);
/* asked: whose the reply will be. */
void redis_link_ask(struct redis_link *l, struct redis_asked asked, const struct span *argv,
                    size_t argc);
void redis_link_push(struct redis_link *l, struct redis_asked asked);
const struct redis_asked *redis_link_oldest(const struct redis_link *l, size_t i);
struct redis_asked redis_link_pop(struct redis_link *l);
size_t redis_link_waiting(const struct redis_link *l); /* bytes */
void redis_link_flush(struct redis_link *l);
redisReader *redis_link_reader(struct redis_link *l);
bool redis_reply_is_error(const struct redis_reply *reply);
/* "" where there is none; a NUL follows. */
struct span redis_reply_text(const struct redis_reply *reply, size_t i);

/* redis_reply.c */
void redis_on_reply(struct redis_link *l);
void redis_on_cut(struct redis_link *l); /* the server hung up */
/* Tells the owner of a refusal: what is wrong, then what becomes of each record. itself: it is the
 * one that was refused. */
void redis_refused(struct redis_link *l, const char *error);
void redis_refuse(struct redis *r, uint64_t lsn, const char *error, bool itself);
bool redis_is_poison(const struct redis *r, const char *error);
void redis_scripts_again(struct redis_link *l, const char *error); /* after NOSCRIPT */

/* redis_wait.c */
/* Stored by the server: done, once it is confirmed where that is asked for. */
void redis_stored(struct redis_link *l, uint64_t lsn);
void redis_wait_ask(struct redis_link *l);
void redis_wait_replied(struct redis_link *l);
bool redis_wait_over(const struct redis_link *l); /* nothing waits for confirmation */

/* redis_script.c */
void redis_scripts_make(struct redis *r);
void redis_scripts_load(struct redis_link *l);
void redis_scripts_free(struct redis *r);
size_t redis_call_append(struct redis_link *l, const struct redis_stream *s,
                         const struct sink_mark *reach, struct span records, size_t n);
void redis_call_claim(struct redis_link *l, struct redis_stream *s);
void redis_call_trim(struct redis_link *l, struct redis_stream *s);
char *redis_mark_text(const struct sink_mark *mark, uint64_t epoch);
bool redis_mark_parse(const char *text, struct sink_mark *out);

/* redis_stream.c */
struct span redis_tag(struct span key);
struct redis_stream *redis_stream_of(struct redis *r, struct span name); /* NULL: all are busy */
void redis_streams_each(struct redis *r, void (*f)(struct redis *r, struct redis_stream *s));
void redis_streams_free(struct redis *r);
void redis_batch_add(struct redis *r, struct redis_stream *s, const struct record *rec);
void redis_batch_send(struct redis *r, struct redis_batch *b);
void redis_batches_send(struct redis *r);
void redis_streams_void(struct redis_link *l); /* what was under way there */

/* redis_known.c */
void redis_known_open(struct redis *r);
void redis_known_read(struct redis *r);
void redis_known_add(struct redis *r, struct redis_stream *s);
bool redis_known_replied(struct redis_link *l, struct redis_asked asked);

/* redis_once.c */
int redis_once_send(struct redis *r, const struct record *rec);
void redis_once_up(struct redis *r); /* a link, or a map of the cluster */
void redis_once_tick(struct redis *r);
void redis_once_replied(struct redis_link *l);
void redis_once_settle(struct redis *r);

/* redis_tls.c */
MUST_CHECK int redis_tls_open(struct redis *r, struct err *e);
void redis_tls_close(struct redis *r);
void redis_tls_start(struct redis_link *l);
void redis_tls_go_on(struct redis_link *l);
void redis_tls_end(struct redis_link *l);
ssize_t redis_link_read(struct redis_link *l, void *p, size_t n); /* as read(2), with or without */
ssize_t redis_link_write(struct redis_link *l, const void *p, size_t n);

/* redis_where.c */
void redis_where_open(struct redis *r);
void redis_where_close(struct redis *r);
void redis_where_up(struct redis_link *l);
void redis_where_down(struct redis_link *l);
void redis_where_tick(struct redis *r);
void redis_where_missing(struct redis *r, const struct redis_stream *s); /* says so, if it is */
void redis_where_replied(struct redis_link *l);
/* Follows MOVED and ASK; false: the error is neither. */
bool redis_where_moved(struct redis_link *l, struct redis_stream *s, const char *error);
unsigned redis_slot(struct span key);
/* NULL: wait, it is down or the stream is changing to it. */
struct redis_link *redis_link_of(struct redis *r, struct redis_stream *s);
void redis_asking(struct redis_link *l, const struct redis_stream *s); /* before each command */

/* redis_trim.c */
void redis_trim_tick(struct redis *r);
void redis_trim_replied(struct redis_link *l);

/* redis.c: what a link tells. */
void redis_on_up(struct redis_link *l);
void redis_on_down(struct redis_link *l, enum sink_state state, const char *reason);
void redis_on_timer(struct redis_link *l);
void redis_offer_room(struct redis_link *l);
void redis_running(struct redis *r); /* records are taken from now on */
bool redis_has_room(const struct redis_link *l, uint64_t lsn);
void redis_flush_all(struct redis *r);
void redis_tick_in(struct redis *r, int64_t ms);
