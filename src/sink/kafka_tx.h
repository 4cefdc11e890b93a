/* SPDX-License-Identifier: Apache-2.0 */
/* Kafka, exactly once: kafka_tx.c knows where a transaction stands, on the sink's thread;
 * kafka_call.c makes the calls that block, on a thread of its own; kafka_poison.c finds the record
 * that spoils a transaction. */
#pragma once

#include "inbox.h"
#include "kafka.h"

#define TX_CURSOR_TOPIC "hookline.cursor" /* the group's offset stands on its partition 0 */

#define TX_WHY_MAX 480

enum tx_step {
    TX_OPEN_STEP,   /* fence whoever was before, find the topic, read back */
    TX_COMMIT_STEP, /* the offset and the commit; with `begin` the transaction too */
    TX_WARM_STEP,   /* asks for a topic's metadata, which the first record would wait for */
};

/* One call that blocks, with its answer; one at a time. */
struct tx_call {
    struct msg msg;
    struct tx_calls *calls;
    enum tx_step step;
    rd_kafka_t *rk;
    rd_kafka_topic_t *topic; /* TX_WARM_STEP */
    bool begin;
    struct sink_mark mark; /* to be kept, or what was found */
    bool found;
    rd_kafka_resp_err_t err; /* 0: done */
    bool blocked;            /* somebody has to mend something */
    char why[TX_WHY_MAX];
};

/* The thread that may wait. Fields but `stop` are not touched while it runs. */
struct tx_calls {
    const struct kafka *k;
    const char *id; /* transactional.id, and the group */
    pthread_t thread;
    struct inbox in, *reply;
    void (*done)(struct msg *m, void *self); /* on the sink's thread; m is the call's */
    atomic_bool stop;
    int wait_ms; /* at most, for one step */
};
void tx_calls_start(struct tx_calls *c);
void tx_calls_stop(struct tx_calls *c); /* waits for the call that is under way */
void tx_calls_post(struct tx_calls *c, struct tx_call *call);
/* The words for an error; true where somebody has to mend something. */
bool tx_explain(const char *id, rd_kafka_resp_err_t err, const char *text, char why[TX_WHY_MAX]);
/* What is kept in the offset's metadata, 128 bytes at most. */
#define TX_MARK_MAX 128
void tx_mark_write(const struct sink_mark *m, char out[TX_MARK_MAX]);
bool tx_mark_read(const char *text, size_t n, int64_t offset, struct sink_mark *m);

/* kafka_poison.c: how much may go into one transaction while a record that spoils it is looked for.
 */
struct tx_search {
    uint64_t first, last; /* the records that may be it; 0: none is looked for */
    size_t limit;         /* how many of them go together */
};
enum tx_room { TX_ROOM, TX_COMMIT_FIRST };
/* Whether this record may join a transaction of n records that began with `begun`. */
enum tx_room tx_search_room(const struct tx_search *s, uint64_t begun, size_t n, uint64_t lsn);
/* A transaction of n records failed: `bad` of them, from first to last, were refused. True: it is
 * found, first alone is it. */
bool tx_search_failed(struct tx_search *s, size_t n, uint64_t first, uint64_t last, size_t bad);
void tx_search_passed(struct tx_search *s, uint64_t lsn); /* everything up to here is stored */

enum tx_state {
    TX_OPENING,    /* read back, judged, claimed */
    TX_DIVERGED,   /* somebody else's: nothing is sent */
    TX_READY,      /* no transaction */
    TX_GATHERING,  /* one that takes records */
    TX_COMMITTING, /* one that takes no more */
    TX_BROKEN,     /* waits until the producer can be made again */
};

struct kafka_tx {
    struct kafka *k;
    enum tx_state state;
    uint64_t epoch;
    char *id;
    struct tx_calls calls;
    struct tx_call call;
    struct inbox in;
    struct event in_ev, due, again, renew;
    bool busy;    /* a call is under way */
    bool claimed; /* our epoch has been kept on the other side */
    bool resumed; /* of this producer: the owner knows from where */
    unsigned attempt;
    int64_t begun_ms, before_ms; /* when this transaction began, and the one before */
    int renew_ms, open_wait_ms;
    struct sink_mark kept; /* on the other side */
    uint64_t *lsns;        /* of this transaction, in order */
    size_t n, max, cap;    /* cap: as many as fit after a failure, doubled by each success */
    uint64_t bytes, max_bytes;
    struct record last; /* of this transaction; its spans stay until it is reported */
    struct tx_search search;
    uint64_t bad_first, bad_last; /* refused in this transaction, perhaps innocent */
    size_t bad_n;
    char bad_why[TX_WHY_MAX];
    uint64_t dead; /* the highest LSN that was reported as poison */
    bool spoilt;   /* events failed, and none was stored since */
};

struct kafka_tx *kafka_tx_new(struct kafka *k, uint64_t epoch);
void kafka_tx_stop(struct kafka_tx *tx); /* no call uses the producer any more */
void kafka_tx_free(struct kafka_tx *tx);
void kafka_tx_open(struct kafka_tx *tx); /* with a producer that was just made */
bool kafka_tx_running(const struct kafka_tx *tx);
bool kafka_tx_silent(const struct kafka_tx *tx); /* has said all there is to say */
/* Whether that record may be sent now; if not, `ready` follows. */
bool kafka_tx_takes(struct kafka_tx *tx, const struct record *rec);
bool kafka_tx_begin(struct kafka_tx *tx);
void kafka_tx_added(struct kafka_tx *tx, const struct record *rec);
/* That record was refused; may_be_innocent: because of another one, perhaps. */
void kafka_tx_refused(struct kafka_tx *tx, uint64_t lsn, bool may_be_innocent, const char *why,
                      bool blocked);
void kafka_tx_poisoned(struct kafka_tx *tx, uint64_t lsn); /* it was reported */
void kafka_tx_break(struct kafka_tx *tx, const char *why, bool blocked);
void kafka_tx_flush(struct kafka_tx *tx);
/* An error that librdkafka tells of beside the calls; true: nothing more is to be said of it. */
bool kafka_tx_error(struct kafka_tx *tx, rd_kafka_resp_err_t err, const char *text);
/* What has been told since the last look; fatal: 0, or why the producer is of no more use. */
void kafka_tx_after(struct kafka_tx *tx, rd_kafka_resp_err_t fatal, const char *text);
