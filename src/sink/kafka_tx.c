/* SPDX-License-Identifier: Apache-2.0 */
/* Kafka, exactly once: records and the state of this log go out in one transaction, so that either
 * both are there or neither is (P7).
 *
 * The state is the offset of a group that nobody joins, on a topic of its own, with log id, epoch,
 * LSN and CRC as its metadata. Its LSN is that of the last record in the transaction; records are
 * sent in the order of the log and none is left behind for later (a record whose topic is missing
 * is a dead letter at once, where at least once would park it), so everything up to it is done
 * with.
 *
 *     opening ──judged, claimed──> ready ──first record──> gathering ──due──> committing ──> ready
 *        ^  └──somebody else's──> diverged                                        │
 *        └──────────────── broken: back-off, a new producer <──── any failure ────┘
 *
 * There is one way out of every failure, of whatever step: make the producer again, which ends what
 * it left open, read back what is kept, judge it, send again what is not stored. So it does not
 * matter whether a commit that got no answer was done. _FENCED is no exception, since an own
 * transaction that timed out is told the same way: the epoch that is read back says who it was.
 *
 * When to commit: few events do not wait, but for `interval` between the beginnings of two
 * transactions; many are gathered until `interval` has passed since the first, or the transaction
 * is full. Everything here runs on the sink's
 * thread; what blocks is in kafka_call.c, and the producer is never unmade while a call uses it. */
#include <stdio.h>
#include <string.h>

#include "kafka_tx.h"
#include "log.h"

#define RENEW_MS 86400000 /* a group's offset expires after days without a commit */
#define OPEN_WAIT_MS 30000
#define BEHIND_MS 1000 /* what is kept is behind the dead letters: a start would try them again */
#define FEW 500        /* events that are no backlog */

static const struct sink_owner *owner(const struct kafka_tx *tx)
{
    return &tx->k->sink.owner;
}

static void after(struct event *ev, int64_t ms)
{
    struct timeval tv = { ms / 1000, ms % 1000 * 1000 };

    event_add(ev, &tv);
}

static void post(struct kafka_tx *tx, enum tx_step step)
{
    tx->call.step = step;
    tx->call.rk = tx->k->rk;
    tx->busy = true;
    tx_calls_post(&tx->calls, &tx->call);
}

static void renew_later(struct kafka_tx *tx)
{
    after(&tx->renew, tx->dead > tx->kept.lsn ? BEHIND_MS : tx->renew_ms);
}

bool kafka_tx_running(const struct kafka_tx *tx)
{
    return tx->state == TX_READY || tx->state == TX_GATHERING || tx->state == TX_COMMITTING;
}

bool kafka_tx_silent(const struct kafka_tx *tx)
{
    return tx->state == TX_DIVERGED;
}

/* --- breaking and making again
 * ----------------------------------------------------------------------- */

static void schedule(struct kafka_tx *tx)
{
    if (tx->state == TX_BROKEN && !tx->busy && !event_pending(&tx->again, EV_TIMEOUT, NULL))
        after(&tx->again, tx->attempt ? backoff_ms(tx->attempt - 1) : 0);
}

void kafka_tx_break(struct kafka_tx *tx, const char *why, bool blocked)
{
    if (tx->state == TX_BROKEN && blocked)
        kafka_say(tx->k, SINK_BLOCKED, why); /* better words for what is known */
    if (tx->state == TX_BROKEN || tx->state == TX_DIVERGED)
        return;
    log_warn("a transaction has failed; the producer is made again and reads back what is stored",
             KS("sink", tx->k->name), KS("reason", why), KU("events", tx->n));
    kafka_say(tx->k, blocked ? SINK_BLOCKED : SINK_RETRYING, why);
    tx->state = TX_BROKEN;
    tx->spoilt |= tx->n > 0;
    tx->attempt++;
    event_del(&tx->due);
    event_del(&tx->renew);
    schedule(tx);
}

/* Now nothing uses the producer, and what was refused is looked at once more. */
static void on_again(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
    struct kafka_tx *tx = arg;

    if (tx->bad_n && tx_search_failed(&tx->search, tx->n, tx->bad_first, tx->bad_last, tx->bad_n))
        kafka_report(tx->k, tx->bad_first, SINK_POISON, tx->bad_why);
    if (tx->n > 1) /* perhaps it was more than the line carries within its time */
        tx->cap = tx->n / 2;
    tx->n = tx->bad_n = 0;
    tx->bytes = 0;
    if (kafka_rebuild(tx->k)) {
        tx->attempt++;
        schedule(tx);
    }
}

void kafka_tx_open(struct kafka_tx *tx)
{
    tx->state = TX_OPENING;
    post(tx, TX_OPEN_STEP);
}

/* --- opening
 * ----------------------------------------------------------------------------------------- */

static void go_on(struct kafka_tx *tx)
{
    tx->state = TX_READY;
    tx->claimed = true;
    owner(tx)->resume(owner(tx)->arg, tx->kept.lsn);
    if (!tx->spoilt) /* else only what is sent again will show that it is mended */
        kafka_say(tx->k, SINK_RUNNING, "");
    renew_later(tx);
    owner(tx)->ready(owner(tx)->arg);
}

/* The offset alone, so that whoever else has this state learns of us. */
static void keep(struct kafka_tx *tx, uint64_t lsn)
{
    owner(tx)->mark(owner(tx)->arg, lsn, &tx->call.mark);
    tx->call.begin = true;
    post(tx, TX_COMMIT_STEP);
}

static void on_read_back(struct kafka_tx *tx)
{
    const struct sink_mark *found = tx->call.found ? &tx->call.mark : NULL;
    struct buf reason = BUF_INIT;

    switch (owner(tx)->judge(owner(tx)->arg, found, tx->claimed, &reason)) {
    case SINK_GO_ON:
        tx->kept = found ? *found : (struct sink_mark){ .lsn = owner(tx)->cursor(owner(tx)->arg) };
        if (tx->kept.epoch == tx->epoch)
            go_on(tx);
        else
            keep(tx, tx->kept.lsn);
        break;
    case SINK_DIVERGED:
        kafka_say(tx->k, SINK_BLOCKED, buf_cstr(&reason));
        tx->state = TX_DIVERGED;
        kafka_drop(tx->k);
        break;
    case SINK_FENCED: /* the owner ends the process */
        break;
    }
    buf_free(&reason);
}

/* --- committing
 * -------------------------------------------------------------------------------------- */

static void commit(struct kafka_tx *tx)
{
    event_del(&tx->due);
    tx->state = TX_COMMITTING;
    if (tx->busy)
        return; /* a topic is being asked about; its answer comes here again */
    tx->call.mark = tx->kept;
    tx->call.mark.epoch = tx->epoch;
    tx->call.mark.lsn = tx->last.lsn;
    tx->call.mark.crc = record_crc(&tx->last);
    tx->call.begin = false;
    post(tx, TX_COMMIT_STEP);
}

/* Smaller batches, or a new table of topics: nothing has failed, so what was gathered goes first.
 */
static void renew_producer(struct kafka_tx *tx)
{
    if (tx->state == TX_GATHERING && tx->n) {
        commit(tx);
    } else if (tx->state == TX_READY || tx->state == TX_GATHERING) {
        tx->state = TX_BROKEN;
        event_del(&tx->due);
        event_del(&tx->renew);
        schedule(tx);
    }
}

static void on_due(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
    struct kafka_tx *tx = arg;

    if (tx->state == TX_GATHERING)
        commit(tx);
}

static void on_committed(struct kafka_tx *tx)
{
    size_t n = tx->n;

    tx->kept = tx->call.mark;
    tx->attempt = 0;
    tx->cap = MIN(2 * tx->cap, tx->max);
    tx->spoilt = false;
    tx->n = 0;
    tx->bytes = 0;
    tx->state = TX_READY;
    tx_search_passed(&tx->search, tx->kept.lsn);
    for (size_t i = 0; i < n; i++)
        kafka_report(tx->k, tx->lsns[i], SINK_DONE, NULL);
    kafka_say(tx->k, SINK_RUNNING, "");
    renew_later(tx);
    owner(tx)->ready(owner(tx)->arg);
}

static void on_renew(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
    struct kafka_tx *tx = arg;

    if (tx->state != TX_READY || tx->busy) {
        after(&tx->renew, 1000);
        return;
    }
    tx->state = TX_COMMITTING;
    keep(tx, owner(tx)->cursor(owner(tx)->arg));
}

/* --- answers of the calls
 * ---------------------------------------------------------------------------- */

/* Topics that nothing was sent to yet, one after the other. */
static void warm(struct kafka_tx *tx)
{
    struct kafka *k = tx->k;

    for (size_t i = 0; i < k->topics_n && !tx->busy; i++)
        if (k->topics[i].cold && kafka_tx_running(tx) && tx->state != TX_COMMITTING) {
            tx->call.topic = k->topics[i].handle;
            post(tx, TX_WARM_STEP);
        }
}

static void on_warm(struct kafka_tx *tx)
{
    struct kafka *k = tx->k;

    for (size_t i = 0; i < k->topics_n; i++)
        if (k->topics[i].handle == tx->call.topic)
            k->topics[i].cold = false;
    if (tx->state == TX_COMMITTING)
        commit(tx);
    else if (kafka_tx_running(tx))
        owner(tx)->ready(owner(tx)->arg);
}

static void on_answer(struct msg *m, void *self)
{
    struct kafka_tx *tx = self;
    struct tx_call *call = container_of(m, struct tx_call, msg);

    tx->busy = false;
    if (call->err)
        kafka_tx_break(tx, call->why, call->blocked);
    else if (call->step == TX_WARM_STEP)
        on_warm(tx);
    else if (tx->state == TX_OPENING && call->step == TX_OPEN_STEP)
        on_read_back(tx);
    else if (tx->state == TX_OPENING) {
        tx->kept = call->mark;
        go_on(tx);
    } else if (tx->state == TX_COMMITTING)
        on_committed(tx);
    schedule(tx);
    warm(tx);
}

static void on_answers(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
    struct kafka_tx *tx = arg;

    inbox_run(&tx->in, tx);
}

/* --- records
 * ----------------------------------------------------------------------------------------- */

bool kafka_tx_takes(struct kafka_tx *tx, const struct record *rec)
{
    if (tx->state == TX_READY)
        return true;
    if (tx->state != TX_GATHERING)
        return false;
    if (tx->n < tx->cap && tx->bytes < tx->max_bytes &&
        tx_search_room(&tx->search, tx->lsns[0], tx->n, rec->lsn) == TX_ROOM)
        return true;
    commit(tx);
    return false;
}

bool kafka_tx_begin(struct kafka_tx *tx)
{
    rd_kafka_error_t *error;

    if (tx->state == TX_GATHERING)
        return true;
    error = rd_kafka_begin_transaction(tx->k->rk);
    if (error) {
        kafka_tx_break(tx, rd_kafka_error_string(error), false);
        rd_kafka_error_destroy(error);
        return false;
    }
    tx->state = TX_GATHERING;
    tx->before_ms = tx->begun_ms;
    tx->begun_ms = clock_mono_ms();
    return true;
}

void kafka_tx_added(struct kafka_tx *tx, const struct record *rec)
{
    tx->lsns[tx->n++] = rec->lsn;
    tx->bytes += rec->body.n + rec->headers.n + 256;
    tx->last = *rec;
}

void kafka_tx_refused(struct kafka_tx *tx, uint64_t lsn, bool may_be_innocent, const char *why,
                      bool blocked)
{
    if (may_be_innocent) {
        tx->bad_first = tx->bad_n ? MIN(tx->bad_first, lsn) : lsn;
        tx->bad_last = MAX(tx->bad_n ? tx->bad_last : 0, lsn);
        tx->bad_n++;
        snprintf(tx->bad_why, sizeof tx->bad_why, "%s", why);
        tx->attempt = 0; /* the broker is well: the search need not wait */
    }
    kafka_tx_break(tx, why, blocked);
}

void kafka_tx_poisoned(struct kafka_tx *tx, uint64_t lsn)
{
    tx->dead = MAX(tx->dead, lsn);
    if (tx->state == TX_READY)
        renew_later(tx);
}

void kafka_tx_flush(struct kafka_tx *tx)
{
    int64_t since = tx->n > FEW ? tx->begun_ms : tx->before_ms;
    int64_t wait = since + tx->k->cfg->transaction.interval_ms - clock_mono_ms();

    if (tx->k->renew) {
        renew_producer(tx);
    } else if (tx->state == TX_GATHERING && tx->n) {
        if (wait <= 0 || tx->n >= tx->cap || tx->bytes >= tx->max_bytes)
            commit(tx);
        else
            after(&tx->due, wait);
    }
    warm(tx);
}

bool kafka_tx_error(struct kafka_tx *tx, rd_kafka_resp_err_t err, const char *text)
{
    char why[TX_WHY_MAX];
    bool blocked = tx_explain(tx->id, err, text, why);

    if (blocked)
        kafka_say(tx->k, SINK_BLOCKED, why);
    return blocked;
}

void kafka_tx_after(struct kafka_tx *tx, rd_kafka_resp_err_t fatal, const char *text)
{
    struct kafka *k = tx->k;
    char why[TX_WHY_MAX];
    bool blocked;

    if (fatal) {
        blocked = tx_explain(tx->id, fatal, text, why);
        kafka_tx_break(tx, why, blocked);
    } else if (k->renew) {
        renew_producer(tx);
    } else if (k->was_full && kafka_tx_running(tx) && tx->state != TX_COMMITTING) {
        k->was_full = false;
        owner(tx)->ready(owner(tx)->arg);
    }
    warm(tx);
}

/* --- life
 * -------------------------------------------------------------------------------------------- */

struct kafka_tx *kafka_tx_new(struct kafka *k, uint64_t epoch)
{
    struct kafka_tx *tx = xcalloc(1, sizeof *tx);
    const struct sink_cfg *cfg = k->cfg;

    *tx = (struct kafka_tx){ .k = k,
                             .state = TX_OPENING,
                             .epoch = epoch,
                             .id = xasprintf("hookline-%s-%s", k->logid, k->name),
                             .renew_ms = RENEW_MS,
                             .max = (size_t)MIN(cfg->transaction.events, cfg->in_flight.events),
                             .max_bytes = MIN(cfg->transaction.bytes, cfg->in_flight.bytes) };
    tx->cap = tx->max;
    tx->lsns = xcalloc(tx->max, sizeof *tx->lsns);
    inbox_init(&tx->in);
    event_assign(&tx->in_ev, k->base, tx->in.fd, EV_READ | EV_PERSIST, on_answers, tx);
    event_assign(&tx->due, k->base, -1, 0, on_due, tx);
    event_assign(&tx->again, k->base, -1, 0, on_again, tx);
    event_assign(&tx->renew, k->base, -1, 0, on_renew, tx);
    event_add(&tx->in_ev, NULL);
    tx->calls = (struct tx_calls){
        .k = k, .id = tx->id, .reply = &tx->in, .done = on_answer, .wait_ms = OPEN_WAIT_MS
    };
    tx_calls_start(&tx->calls);
    return tx;
}

void kafka_tx_stop(struct kafka_tx *tx)
{
    if (tx)
        tx_calls_stop(&tx->calls);
}

void kafka_tx_free(struct kafka_tx *tx)
{
    if (!tx)
        return;
    event_del(&tx->in_ev);
    event_del(&tx->due);
    event_del(&tx->again);
    event_del(&tx->renew);
    inbox_close(&tx->in);
    free(tx->lsns);
    free(tx->id);
    free(tx);
}
