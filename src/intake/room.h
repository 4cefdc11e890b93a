/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this room share. */
#pragma once

#include <event2/event_struct.h>
#include <sys/queue.h>

#include "intake.h"

#define THREADS_MAX INTAKE_THREADS_MAX

/* Statuses that are counted; each error of the closed list has one of them. */
enum { CODES = 18 };
int code_index(int status);

struct stats_part { /* one thread's, a cache line of its own */
    _Alignas(64) struct counter accepted;
    struct counter duplicates, other_body;
    struct counter rejected[VERDICTS], codes[CODES];
    _Atomic int64_t last_ms, skew_ms;
    /* Requests that have a seat. Of no interest to other threads, but two intakes of one process
     * share it. */
    _Atomic uint32_t waiting;
};

/* One refusal: facts, put into words only when somebody asks. */
struct rejected {
    uint64_t request;
    int64_t time_ms, skew_ms; /* INT64_MIN: no time was verified */
    const char *why;          /* a constant text, or NULL */
    enum verdict verdict;
    int status;
    struct net_peer peer;
    size_t text_n;
    char text[SOURCE_EXPLAIN_MAX]; /* only text_n bytes of it are there */
};

#define REJECTED_MAX 64
struct rejected_ring {
    pthread_mutex_t lock;
    uint64_t count; /* since the start */
    struct rejected v[REJECTED_MAX];
};
void rejected_add(struct rejected_ring *ring, const struct rejected *r);

struct source_stats {
    struct source_stats *next;
    char *name;
    struct rejected_ring rejected;
    struct rate_bucket rate;
    struct stats_part part[THREADS_MAX];
};

struct source_stats *source_stats_first(void); /* main thread */

struct pending { /* embedded in net_request.extra */
    struct wal_append append;
    struct net_request *req;
    struct source_stats *stats;
    const struct intake_guard *guard; /* as long as the request is not submitted */
    TAILQ_ENTRY(pending) waiting;
    int64_t deadline_ms;
    char *copy; /* what did not fit behind the request's bytes */
    int status;
    enum verdict verdict;                        /* why it was refused */
    enum { AT_LOG, AT_SINK, AT_REPLICAS } stage; /* who has it */
    bool ack_broker, timed_out;
    bool traced, spans; /* it has a trace; and there is something to be said in it */
    struct trace_context trace;
    uint8_t parent[8];    /* the span that came with the request, where `spans` */
    int64_t submitted_us; /* where `spans` */
    size_t sink, place;   /* AT_SINK: which one, and where in its heap */
    int64_t seat;         /* of its network, among those who wait; -1: none */
    struct asked *asked;  /* its claim, where several replicas share one index */
};
TAILQ_HEAD(pending_list, pending);

/* The requests of one thread that wait for one sink, the lowest LSN on top. */
struct sink_queue {
    struct progress_watch watch;
    struct progress *passed;
    struct pending **heap;
    size_t n, cap;
};

struct intake_thread {
    struct intake *in;
    unsigned number;
    pthread_t thread;
    struct event_base *base;
    struct inbox inbox;
    struct event inbox_ev, tick;
    struct net_server *server;
    const struct intake_conf *conf;
    struct msg_list gathered; /* to be handed to the log */
    size_t gathered_n;
    int64_t gathered_us;         /* when the first of them was */
    struct pending_list waiting; /* for an answer, in the order of their deadlines */
    size_t waiting_n;            /* the log has, answered or not */
    struct sink_queue *queues;   /* one a sink */
    size_t parked_n;             /* in all of them, or asking the other replicas */
    size_t seats;                /* for all who wait, here or there */
    struct rate_places *networks_waiting;
    struct claims *claims; /* NULL: there are no others */
    struct source_event ev;
    struct histogram ack_seconds;
    uint64_t random[2];     /* traced.c */
    struct buf trace_lines; /* of the request that is being looked at; empty: it has no trace */
    int64_t not_sampled;    /* answers since the last line of the access log */
    _Atomic int64_t turned_ms;
    _Atomic uint64_t connections;
    struct source_stats *unmatched;
    int64_t stop_by_ms; /* 0: running */
};

struct control { /* from the main thread to one thread */
    struct msg msg;
    const struct intake_conf *conf; /* NULL: stop */
    int64_t timeout_ms;
    struct intake *in;
};

struct intake {
    struct wal *wal;
    struct intake_thread *threads;
    unsigned n;
    const struct intake_sink *sinks;
    size_t sinks_n;
    struct control *controls;
    pthread_mutex_t lock;
    pthread_cond_t done;
    unsigned acks;
    _Atomic uint64_t held;
    struct rate_table *networks;
    struct rate_bucket traces;
    struct rate_places *places;
    int *shared_fds;
    char **shared_paths;
    size_t shared_n;
};

/* answered.c: whatever is answered, and with what, is noted here, once and before the answer.
 * result: a constant, the code of an error or what became of the delivery. */
void answered(struct intake_thread *t, struct net_request *req, int status, const char *result);
struct pending *pending_of(struct net_request *req);

/* traced.c: the trace of a genuine delivery, and what is said of it there */
void traced_start(struct intake_thread *t);
void traced_begin(struct intake_thread *t, struct net_request *req);
void traced_commit(struct intake_thread *t, const struct pending *p, enum http_error e);
void traced_answer(struct intake_thread *t, const struct pending *p, int status,
                   const char *result);

/* guard.c: who sent it, proxies left out */
void guard_peer(const struct intake_thread *t, const struct net_request *req, struct net_peer *out);
/* Whether this sender may go on behind the head; *why says what he lacks. */
enum http_error guard_head(struct intake_thread *t, struct net_request *req,
                           const struct intake_guard *g, enum verdict *why);
bool guard_rate(const struct intake_guard *g, struct rate_bucket *bucket);

/* share.c: who may wait */
void share_start(struct intake_thread *t);
void share_stop(struct intake_thread *t);
void share_configure(struct intake_thread *t, uint32_t connections);
/* False: this source or network has its share, or all seats are taken. Else share_give is due. */
bool share_take(struct intake_thread *t, const struct net_request *req, struct pending *p);
void share_give(struct intake_thread *t, struct pending *p);

extern const struct net_handler intake_handler;
/* Answers those that have waited until now; their records stay with the log. */
void intake_expire(struct intake_thread *t, int64_t now_ms, bool stopping);
void intake_log(struct intake_thread *t, struct pending *p); /* to the log with it */
void intake_refuse(struct intake_thread *t, struct pending *p, enum http_error e);
/* All that was waited for has come: answers. */
void intake_confirm(struct intake_thread *t, struct pending *p);
void intake_count(struct intake_thread *t, const struct pending *p); /* durable or a duplicate */

/* broker.c */
void broker_start(struct intake_thread *t);
void broker_stop(struct intake_thread *t); /* nothing waits any more; any thread */
/* True: the durable record is not with all its sinks yet, and intake_confirm will be called. */
bool broker_wait(struct intake_thread *t, struct pending *p);
void broker_leave(struct intake_thread *t, struct pending *p);

/* replicas.c */
void replicas_start(struct intake_thread *t);
void replicas_configure(struct intake_thread *t); /* t->conf is new */
/* True: it goes on when the others have been asked. */
bool replicas_ask(struct intake_thread *t, struct pending *p);
void replicas_leave(struct intake_thread *t, struct pending *p);
void replicas_refused(struct intake_thread *t, struct pending *p); /* by the log */
void replicas_mark(struct intake_thread *t, struct pending *p, bool done);
void replicas_metrics(const struct intake *in, struct buf *out);
