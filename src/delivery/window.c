/* SPDX-License-Identifier: Apache-2.0 */
/* The window: a ring of the records that were read and are not passed yet.
 *
 * P2: the cursor passes a record only when the sink reported it done, when it does not match, or
 * when it is in the dead-letter log; window_advance() is the only place that moves it. LSNs in the
 * ring are contiguous, so a report finds its entry by subtraction. What failed transiently is sent
 * again after everything in flight has been reported, in order; what a full sink did not take goes
 * first as soon as it has room. A wake-up cannot be lost: arm, look
 * again, wait (see wal.h). Runs on the sink's thread. */
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "dead.h"
#include "log.h"
#include "room.h"

#define READS_A_PASS 2048
#define COUNTS_A_TICK 100000

static void set_state(struct delivery *d, enum sink_state state, const char *reason)
{
    bool changed;

    pthread_mutex_lock(&d->lock);
    changed = d->state != state || strcmp(d->reason, reason);
    d->state = state;
    snprintf(d->reason, sizeof d->reason, "%s", reason);
    pthread_mutex_unlock(&d->lock);
    if (!changed)
        return;
    if (state == SINK_RUNNING)
        log_info("sink running", KS("sink", d->name));
    else
        log_warn(state == SINK_BLOCKED ? "sink blocked" : "sink retrying", KS("sink", d->name),
                 KS("reason", reason));
}

static void count_retry(struct delivery *d, const char *reason)
{
    size_t i = 0;

    while (i < REASONS - 1 && d->retries[i].reason[0] && strcmp(d->retries[i].reason, reason))
        i++;
    if (!d->retries[i].reason[0]) {
        pthread_mutex_lock(&d->lock);
        snprintf(d->retries[i].reason, sizeof d->retries[i].reason, "%s",
                 i == REASONS - 1 ? "other" : reason);
        pthread_mutex_unlock(&d->lock);
    }
    counter_add(&d->retries[i].n, 1);
}

/* --- the window
 * ---------------------------------------------------------------------------------------- */

static struct entry *at(struct delivery *d, size_t i)
{
    return &d->ring[(d->first + i) % d->cap];
}

static struct entry *find(struct delivery *d, uint64_t lsn)
{
    return lsn > d->passed && lsn - d->passed <= d->n ? at(d, (size_t)(lsn - d->passed - 1)) : NULL;
}

void entry_drop(struct entry *en)
{
    if (en->hold)
        wal_release(en->hold);
    free(en->made);
    en->hold = NULL;
    en->made = NULL;
}

/* What is done with leaves the ring. */
static void pass_done(struct delivery *d)
{
    while (d->n && at(d, 0)->done) {
        struct entry *en = at(d, 0);
        d->passed = en->rec.lsn;
        d->bytes -= en->bytes;
        d->matched_passed += en->matches;
        entry_drop(en);
        d->first = (d->first + 1) % d->cap;
        d->n--;
    }
}

void window_advance(struct delivery *d)
{
    struct err e = ERR_INIT;

    pass_done(d);
    atomic_store(&d->oldest_ms, d->n ? at(d, 0)->rec.time_ms : 0);
    if (d->settled && wal_cursor_set(d->cursor, d->passed, &e))
        die(EXIT_IO, "sink %s: %s", d->name, e.text);
    progress_move(&d->passed_out, d->passed);
}

static void retry_later(struct delivery *d)
{
    int64_t ms = MIN((int64_t)100 << MIN(d->attempt, 6u), 5000);
    struct timeval tv;

    if (d->waiting_retry)
        return;
    ms -= clock_mono_us() % (ms / 2 + 1); /* so that several sinks do not knock together */
    tv = (struct timeval){ ms / 1000, ms % 1000 * 1000 };
    d->attempt++;
    d->waiting_retry = true;
    event_add(&d->retry, &tv);
}

/* said: the reason as it is logged. */
static void to_dead(struct delivery *d, struct entry *en, const char *reason, const char *said)
{
    struct err e = ERR_INIT;

    switch (wal_dead_refuse(d->dead, &en->rec, reason, en->tries, &e)) {
    case 0:
        en->done = en->dead = true;
        spans_end(d, en, "dead letter");
        dead_counted(d);
        atomic_fetch_add(&d->dead_total, 1);
        log_warn("dead letter", KS("sink", d->name), KU("lsn", en->rec.lsn), KS("reason", said));
        return;
    case 1:
        set_state(d, SINK_BLOCKED, DEAD_FULL);
        d->dead_full = true;
        en->again = true;
        d->again++;
        retry_later(d);
        return;
    default:
        die(EXIT_IO, "sink %s: %s", d->name, e.text);
    }
}

static void on_done(void *arg, uint64_t lsn, enum sink_outcome outcome, const char *reason)
{
    struct delivery *d = arg;
    struct entry *en = find(d, lsn);

    if (!en || !en->sent || en->done)
        return;
    en->sent = false;
    d->outstanding--;
    d->kick = true;
    switch (outcome) {
    case SINK_DONE:
        en->done = true;
        spans_end(d, en, NULL);
        d->confirmed = MAX(d->confirmed, lsn);
        if (!d->waiting_retry) /* else it was under way beside what was refused, and proves nothing
                                */
            d->attempt = 0;
        counter_add(&d->delivered, 1);
        if (d->epoch && !d->wrote)
            resume_wrote(d);
        if (d->state != SINK_RUNNING && !d->again && !d->damaged)
            set_state(d, SINK_RUNNING, "");
        break;
    case SINK_RETRY:
        en->again = true;
        d->again++;
        count_retry(d, reason);
        retry_later(d);
        break;
    case SINK_POISON:
        to_dead(d, en, reason, reason);
    }
}

static void on_retried(void *arg, uint64_t lsn, const char *reason)
{
    struct entry *en = find(arg, lsn);

    if (en)
        en->tries++;
    count_retry(arg, reason);
}

static void on_lost(void *arg, const char *reason UNUSED)
{
    struct delivery *d = arg;

    for (size_t i = 0; i < d->n; i++) {
        struct entry *en = at(d, i);
        if (en->sent) {
            en->sent = false;
            en->again = true;
            d->again++;
        }
    }
    if (d->outstanding)
        count_retry(d, "connection lost");
    d->outstanding = 0;
    d->sink_full = true;
}

static void on_state(void *arg, enum sink_state state, const char *reason)
{
    struct delivery *d = arg;

    if (d->damaged || d->dead_full)
        return;
    if (state == SINK_RUNNING && d->again && d->state != SINK_RUNNING)
        return; /* connected, but what was refused has not been taken yet */
    set_state(d, state, reason);
}

static void on_ready(void *arg)
{
    struct delivery *d = arg;

    d->sink_full = false;
    d->kick = true; /* where this comes from within a pump, the next one follows at once */
    window_pump(d);
}

/* --- reading and sending
 * --------------------------------------------------------------------------------- */

/* A program that cannot be run holds the sink up, as a server that is away does; somebody has to
 * look at it when that does not pass. */
static void judge_later(struct delivery *d, struct entry *en, const char *reason)
{
    d->no_program = true;
    en->again = true;
    d->again++;
    count_retry(d, "jq");
    set_state(d, d->attempt < 4 ? SINK_RETRYING : SINK_BLOCKED, reason);
    retry_later(d);
}

/* Whether it is to be sent; else it is done with, dead, or comes again. */
static bool passes_judgement(struct delivery *d, struct entry *en)
{
    const char *reason;
    enum judged judged = judge_record(d, &en->rec, &en->made, &en->made_n, &reason);

    if (judged != JUDGED_LATER && d->no_program) {
        d->no_program = false;
        d->attempt = 0;
        set_state(d, SINK_RUNNING, "");
    }
    switch (judged) {
    case JUDGED_SEND:
        en->judged = true;
        en->bytes += en->made_n;
        d->bytes += en->made_n;
        return true;
    case JUDGED_SKIP:
        en->done = en->skipped = true;
        event_active(&d->again_ev, EV_TIMEOUT, 0); /* what waits behind a probe follows */
        break;
    case JUDGED_BAD:
        en->tries++;
        to_dead(d, en, reason, JUDGED_BAD_SAID);
        event_active(&d->again_ev, EV_TIMEOUT, 0);
        break;
    case JUDGED_LATER:
        judge_later(d, en, reason);
    }
    return false;
}

/* False: the sink has no room. */
static bool hand_over(struct delivery *d, struct entry *en)
{
    struct record out;

    if (!en->judged && d->program && !passes_judgement(d, en))
        return true;
    out = judged_record(&en->rec, en->made, en->made_n);
    en->sent = true;
    en->tries++;
    d->outstanding++;
    if (d->sink->type->send(d->sink, &out) == 0)
        return true;
    en->sent = false;
    en->tries--;
    d->outstanding--;
    d->sink_full = true;
    return false;
}

/* What has to be sent again, in order, once nothing else is under way. After a refusal the oldest
 * goes alone, as a probe: the others follow once it was taken. */
static void send_again(struct delivery *d)
{
    bool probe = d->attempt > 0;

    for (size_t i = 0; i < d->n && d->again && !d->sink_full; i++) {
        struct entry *en = at(d, i);
        if (!en->again)
            continue;
        en->again = false;
        d->again--;
        if (!hand_over(d, en)) {
            en->again = true;
            d->again++;
        }
        if (probe || d->waiting_retry)
            break; /* refused at once: what stands behind it waits too */
    }
}

static bool held_up(const struct delivery *d)
{
    return d->paused_ms || d->sink_full;
}

static bool is_ours(const struct delivery *d, const struct record *rec)
{
    return rec->kind == RECORD_WEBHOOK &&
           (d->everything || sink_matches(d->cfg, rec->source, rec->type));
}

static void push(struct delivery *d, const struct record *rec, struct wal_map *hold)
{
    struct entry *en = at(d, d->n);
    bool matches = is_ours(d, rec);

    *en = (struct entry){ .rec = *rec,
                          .hold = hold,
                          .matches = matches,
                          .done = !matches,
                          .bytes = rec->body.n + rec->headers.n + 256 };
    d->bytes += en->bytes;
    d->n++;
    if (rec->kind ==
        RECORD_LOST) /* named where it was set aside; which sink it was for is unknown */
        counter_add(&d->lost, 1);
    if (matches && d->otlp)
        spans_begin(en);
    if (matches)
        d->unsent = held_up(d) || !hand_over(d, en);
}

/* Records that are gone were trimmed before this sink read them: only after its cursor was lost. */
static void skip_gone(struct delivery *d)
{
    struct wal_info info;
    uint64_t n;

    wal_info(d->wal, &info);
    n = info.first_lsn - 1 - d->passed;
    log_error("records are no longer retained; the sink goes on behind them", KS("sink", d->name),
              KU("records", n), KU("first_lsn", info.first_lsn));
    counter_add(&d->gone, n);
    d->passed = info.first_lsn - 1;
}

static bool read_one(struct delivery *d)
{
    struct err e = ERR_INIT;
    struct wal_map *hold;
    struct record rec;

    switch (wal_reader_next(d->reader, &rec, &hold, &e)) {
    case WAL_READ_OK:
        if (d->damaged) {
            d->damaged = false;
            set_state(d, SINK_RUNNING, "");
        }
        push(d, &rec, hold);
        return true;
    case WAL_READ_GONE:
        if (d->n)
            return false; /* first what was read is finished */
        skip_gone(d);
        return true;
    case WAL_READ_DAMAGED:
        d->damaged = true;
        set_state(d, SINK_BLOCKED, e.text);
        return false;
    case WAL_READ_END:
        break;
    }
    return false;
}

static bool has_room(struct delivery *d)
{
    if (d->n == d->cap || d->bytes >= d->cfg->in_flight.bytes)
        pass_done(d);
    return d->n < d->cap && (d->n == 0 || d->bytes < d->cfg->in_flight.bytes);
}

static void window_quota(struct delivery *d)
{
    if (d->cfg->backlog_bytes)
        atomic_store(&d->full, wal_backlog_bytes(d->wal, d->passed) >= d->cfg->backlog_bytes);
}

/* What is new comes after what has to be sent again. A sink that takes nothing, being paused, full
 * or not connected, reads on up to the first record that it would send, so that its lag is known.
 */
static bool can_go_on(const struct delivery *d)
{
    return !d->again && !d->stopping && !(d->unsent && held_up(d));
}

static bool can_send_again(const struct delivery *d)
{
    return d->again && !d->outstanding && !d->waiting_retry && !d->sink_full && !d->stopping &&
           !d->paused_ms;
}

/* Arms the watch, then takes what there is; a record that came in between is seen by one or the
 * other. */
void window_pump(struct delivery *d)
{
    struct timeval now = { 0, 0 };
    int64_t since = clock_mono_ms();
    int reads = 0;

    if (d->pumping)
        return;
    d->pumping = true;
    d->kick = false;
    wal_watch_arm(&d->watch);
    if (can_send_again(d))
        send_again(d);
    if (d->unsent && can_go_on(d))
        d->unsent = !hand_over(d, at(d, d->n - 1));
    while (can_go_on(d) && has_room(d) && reads < READS_A_PASS && !judging_long(d, since) &&
           read_one(d))
        reads++;
    if (reads == READS_A_PASS || judging_long(d, since))
        event_add(&d->again_ev, &now); /* let the loop turn, then go on */
    window_advance(d);
    d->sink->type->flush(d->sink);
    window_quota(d);
    d->pumping = false;
}

void window_retry_due(struct delivery *d)
{
    d->waiting_retry = d->dead_full = false;
    window_pump(d);
}

struct sink_owner window_owner(struct delivery *d)
{
    return (struct sink_owner){ .arg = d,
                                .done = on_done,
                                .retried = on_retried,
                                .lost = on_lost,
                                .state = on_state,
                                .ready = on_ready,
                                .judge = resume_judge,
                                .resume = resume_from,
                                .cursor = resume_cursor,
                                .mark = resume_mark };
}

/* With a filter, what matches is counted by a reader of its own that runs ahead, so much a tick;
 * where the sink has overtaken it there is nothing behind to count. */
static uint64_t matching_lag(struct delivery *d)
{
    struct err e = ERR_INIT;
    struct record rec;

    if (d->counted < d->passed) {
        wal_reader_seek(d->counting, d->passed);
        d->counted = d->passed;
        d->matched_ahead = d->matched_passed;
    }
    for (int i = 0; i < COUNTS_A_TICK; i++) {
        if (wal_reader_next(d->counting, &rec, NULL, &e) != WAL_READ_OK)
            break;
        d->counted = rec.lsn;
        d->matched_ahead += is_ours(d, &rec);
    }
    return d->matched_ahead - d->matched_passed;
}

void window_measure(struct delivery *d)
{
    struct buf warnings = BUF_INIT;

    if (!d->everything)
        atomic_store(&d->lag_events, matching_lag(d));
    window_quota(d);
    if (d->sink->type->warnings)
        d->sink->type->warnings(d->sink, &warnings);
    if (d->state_lost)
        buf_printf(&warnings,
                   "%s\"state_lost: the state kept in the sink was gone; it went on "
                   "from the local cursor, which may have repeated events\"",
                   warnings.n ? "," : "");
    pthread_mutex_lock(&d->lock);
    buf_free(&d->warnings);
    d->warnings = warnings;
    pthread_mutex_unlock(&d->lock);
}
