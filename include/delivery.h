/* delivery - the thread of one sink: cursor, reader, in-flight window, back-off, dead letters.
 *
 * Keeps P2 and P9. The cursor passes a record only when the sink reported it done, when it does not
 * match, or when it is in the dead-letter log. */
#pragma once

#include <stdatomic.h>

#include "dead.h"
#include "otlp.h"
#include "progress.h"
#include "sink.h"

struct delivery;
/* Opens the cursor and starts the thread. first_sinks: the log had no sink before (decides the
 * default of `from`). otlp: where its spans go; NULL: nowhere. */
MUST_CHECK int delivery_start(struct delivery **out, struct wal *w, const char *name,
                              const struct sink_cfg *cfg, bool first_sinks, uint64_t max_body,
                              struct otlp *otlp, struct err *e);
/* Takes the place of the program that judges records from now on (match.jq, transform.jq; NULL:
 * none), which is cfg->program at the start. What was judged already stays so. Any thread. */
void delivery_program(struct delivery *d, struct program *p);
/* Waits for outstanding acknowledgements until timeout_ms, writes and syncs the cursor, joins. */
void delivery_stop(struct delivery *d, int64_t timeout_ms);
bool delivery_drained(
    const struct delivery *d); /* everything durable has been passed (serve --drain) */
bool delivery_turning(const struct delivery *d, int64_t now_mono_ms);
const atomic_bool *delivery_full(const struct delivery *d); /* its own backlog quota is reached */
/* The LSN up to which everything that matches is with the sink or in its dead letters. */
struct progress *delivery_progress(struct delivery *d);

/* A sink that left the configuration: moves its backlog to its dead-letter log and removes the
 * cursor. */
MUST_CHECK int delivery_retire(struct wal *w, const char *name, struct err *e);
/* How many records that its filter let pass the cursor of that sink has not passed (0: may go). */
MUST_CHECK int delivery_backlog(struct wal *w, const char *name, uint64_t *events, struct err *e);

void delivery_status(const struct delivery *d, struct buf *json); /* one value of "sinks" */
/* All sinks in one call: each family's head once. */
void delivery_metrics(struct delivery *const *d, size_t n, struct buf *out);

/* --- steering
 * ------------------------------------------------------------------------------------------ */

/* What is asked of a sink. Its own thread does it, since the files are its own, and answers through
 * an inbox. */
struct delivery_ask {
    struct msg msg; /* the sink's while it has the ask */
    struct inbox *reply;
    void (*done)(struct delivery_ask *a, void *self); /* on the thread of `reply` */
    enum { ASK_LETTERS, ASK_DROP, ASK_REDRIVE, ASK_REPLAY, ASK_CANCEL, ASK_PAUSE, ASK_RESUME } what;
    uint64_t after, limit; /* letters */
    uint64_t *lsns;        /* drop, redrive: rising, without repeats, taken; NULL: all */
    size_t lsns_n;
    uint64_t from, to;         /* replay: retained LSNs */
    char id[RUN_ID_BYTES + 1]; /* cancel */
    /* out */
    enum {
        ASK_DONE,
        ASK_NONE,
        ASK_BUSY,
        ASK_FAILED
    } answer; /* none: no such letter, no such run */
    struct wal_letter *letters;
    size_t letters_n;
    bool more;
    uint64_t count, bytes; /* of all letters, or how many were dropped */
    struct buf run;        /* as delivery_run shows it; pause, resume: as delivery_status does */
    struct err err;        /* busy, failed: why */
};
/* Before delivery_stop; the answer comes in any case. */
void delivery_ask(struct delivery *d, struct delivery_ask *a);
void delivery_ask_free(struct delivery_ask *a); /* what it holds */
/* The run that is under way, or the last one, as JSON; false: there was none. */
bool delivery_run(const struct delivery *d, struct buf *json);
bool delivery_run_is(const struct delivery *d, struct span id);
