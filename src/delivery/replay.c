/* SPDX-License-Identifier: Apache-2.0 */
/* A run: a retained range, or dead letters, once more to their sink, beside the live flow.
 *
 * It has a window, a back-off and a connection of its own (another instance of the sink, always at
 * least once, so that nothing that the sink keeps of the live flow is asked or changed), and never
 * touches the live cursor. `at` is saved each second: after a crash what was sent since is sent
 * again. A redriven letter is taken out once the sink has it. What retention removes under way ends
 * the run with the reason; nothing is skipped. Everything happens in pump(), which runs as an event
 * of its own, never inside a call of the sink. Runs on the sink's thread. */
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "log.h"
#include "replay.h"

#define READS_A_PASS 256
#define WINDOW 2000

static void pump_soon(struct replay *r)
{
    event_active(&r->turn, EV_TIMEOUT, 0);
}

void replay_say(struct replay *r, enum sink_state state, const char *reason)
{
    bool changed = r->state != state || strcmp(r->reason, reason);

    pthread_mutex_lock(&r->d->lock);
    r->state = state;
    snprintf(r->reason, sizeof r->reason, "%s", reason);
    pthread_mutex_unlock(&r->d->lock);
    if (changed && state != SINK_RUNNING)
        log_warn("the run waits", KS("sink", r->d->name), KS("run", r->d->run.id),
                 KS("reason", reason));
}

const char *replay_state(const struct replay *r, const char **reason)
{
    *reason = r->reason;
    return sink_state_name(r->state);
}

/* --- reports
 * -------------------------------------------------------------------------------------------- */

static struct item *at(struct replay *r, size_t i)
{
    return &r->ring[(r->first + i) % r->cap];
}

static struct item *find(struct replay *r, uint64_t lsn)
{
    size_t low = 0, high = r->n;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (at(r, middle)->rec.lsn < lsn)
            low = middle + 1;
        else
            high = middle;
    }
    return low < r->n && at(r, low)->rec.lsn == lsn ? at(r, low) : NULL;
}

static void send_later(struct replay *r, struct item *it)
{
    int64_t ms = MIN((int64_t)100 << MIN(r->attempt, 6u), 5000);
    struct timeval tv = { ms / 1000, ms % 1000 * 1000 };

    it->again = true;
    r->again++;
    if (r->waiting_retry)
        return;
    r->attempt++;
    r->waiting_retry = true;
    event_add(&r->retry, &tv);
}

/* said: the reason as it is logged. */
static void refused(struct replay *r, struct item *it, const char *reason, const char *said)
{
    struct delivery *d = r->d;
    struct err e = ERR_INIT;
    bool redrive = d->run.kind == RUN_REDRIVE, there = wal_dead_has(d->dead, it->rec.lsn);
    int rc = redrive && !there ? 0 /* dropped in the meantime */
                               : wal_dead_refuse(d->dead, &it->rec, reason, it->tries, &e);

    if (rc < 0)
        die(EXIT_IO, "sink %s: %s", d->name, e.text);
    if (rc) {
        replay_say(r, SINK_BLOCKED, DEAD_FULL);
        send_later(r, it);
        return;
    }
    it->done = true;
    it->refused = true;
    dead_counted(d);
    if (!there)
        atomic_fetch_add(&d->dead_total, 1);
    log_warn(redrive ? "a redriven letter was refused again" : "dead letter", KS("sink", d->name),
             KU("lsn", it->rec.lsn), KS("reason", said));
}

static void on_done(void *arg, uint64_t lsn, enum sink_outcome outcome, const char *reason)
{
    struct replay *r = arg;
    struct item *it = find(r, lsn);

    if (!it || !it->sent || it->done)
        return;
    it->sent = false;
    r->outstanding--;
    pump_soon(r);
    switch (outcome) {
    case SINK_DONE:
        it->done = true;
        it->has_it = true;
        counter_add(&r->d->replayed, 1);
        if (!r->waiting_retry)
            r->attempt = 0;
        if (r->state != SINK_RUNNING && !r->again && !r->damaged)
            replay_say(r, SINK_RUNNING, "");
        break;
    case SINK_RETRY:
        send_later(r, it);
        break;
    case SINK_POISON:
        refused(r, it, reason, reason);
    }
}

static void on_retried(void *arg, uint64_t lsn, const char *reason UNUSED)
{
    struct item *it = find(arg, lsn);

    if (it)
        it->tries++;
}

static void on_lost(void *arg, const char *reason UNUSED)
{
    struct replay *r = arg;

    for (size_t i = 0; i < r->n; i++)
        if (at(r, i)->sent) {
            at(r, i)->sent = false;
            at(r, i)->again = true;
            r->again++;
        }
    r->outstanding = 0;
    r->full = true;
}

static void on_state(void *arg, enum sink_state state, const char *reason)
{
    replay_say(arg, state, reason);
}

static void on_ready(void *arg)
{
    struct replay *r = arg;

    r->full = false;
    pump_soon(r);
}

/* --- sending
 * -------------------------------------------------------------------------------------------- */

/* As in window.c. A letter that is not for this sink any more is taken out. */
static bool passes_judgement(struct replay *r, struct item *it)
{
    const char *reason;

    switch (judge_record(r->d, &it->rec, &it->made, &it->made_n, &reason)) {
    case JUDGED_SEND:
        it->judged = true;
        it->size += it->made_n;
        r->bytes += it->made_n;
        return true;
    case JUDGED_SKIP:
        it->done = it->has_it = it->skipped = true;
        break;
    case JUDGED_BAD:
        it->tries++;
        refused(r, it, reason, JUDGED_BAD_SAID);
        break;
    case JUDGED_LATER:
        replay_say(r, SINK_RETRYING, reason);
        send_later(r, it);
    }
    pump_soon(r);
    return false;
}

static bool hand_over(struct replay *r, struct item *it)
{
    struct record out;

    if (!it->judged && r->d->program && !passes_judgement(r, it))
        return true;
    out = judged_record(&it->rec, it->made, it->made_n);
    it->sent = true;
    it->tries++;
    r->outstanding++;
    if (r->sink->type->send(r->sink, &out) == 0)
        return true;
    it->sent = false;
    it->tries--;
    r->outstanding--;
    r->full = true;
    return false;
}

/* As in window.c: in order, once nothing else is under way; after a refusal one alone. */
static void send_again(struct replay *r)
{
    bool probe = r->attempt > 0;

    for (size_t i = 0; i < r->n && r->again && !r->full; i++) {
        struct item *it = at(r, i);
        if (!it->again)
            continue;
        it->again = false;
        r->again--;
        if (!hand_over(r, it)) {
            it->again = true;
            r->again++;
        }
        if (probe || r->waiting_retry)
            break;
    }
}

void replay_push(struct replay *r, const struct record *rec, struct wal_map *hold, char *bytes)
{
    struct item *it = at(r, r->n);

    *it = (struct item){
        .rec = *rec, .hold = hold, .bytes = bytes, .size = rec->body.n + rec->headers.n + 256
    };
    it->rec.replay = span_str(r->d->run.id);
    r->n++;
    r->bytes += it->size;
    r->unsent = !hand_over(r, it);
}

static void drop_item(struct item *it)
{
    if (it->hold)
        wal_release(it->hold);
    free(it->bytes);
    free(it->made);
}

static void free_replay(struct replay *r)
{
    if (r->sink)
        r->sink->type->close(r->sink);
    for (size_t i = 0; i < r->n; i++)
        drop_item(at(r, i));
    event_del(&r->retry);
    event_del(&r->turn);
    wal_reader_close(r->reader);
    free(r->ring);
    free(r->out);
    free(r);
}

static void save(struct delivery *d)
{
    struct err e = ERR_INIT;

    if (wal_run_save(d->wal, d->name, &d->run, &e))
        die(EXIT_IO, "sink %s: %s", d->name, e.text);
}

static void finish(struct replay *r, enum wal_run_state state, const char *reason)
{
    struct delivery *d = r->d;

    pthread_mutex_lock(&d->lock);
    d->replay = NULL;
    d->run.state = state;
    d->run.ended_ms = clock_wall_ms();
    snprintf(d->run.reason, sizeof d->run.reason, "%s", reason);
    pthread_mutex_unlock(&d->lock);
    wal_run_free(&d->run); /* of a run that is over nobody asks for its letters */
    save(d);
    log_info("run ended", KS("sink", d->name), KS("run", d->run.id),
             KU("delivered", d->run.delivered), KU("dead", d->run.dead), KS("reason", reason));
    free_replay(r);
}

/* --- the run, step by step
 * -------------------------------------------------------------------------------------------- */

/* Letters that the sink has now, many at once. */
static void take_out(struct replay *r)
{
    struct delivery *d = r->d;
    struct err e = ERR_INIT;
    uint64_t removed, skipped = 0;
    size_t n = 0;

    for (size_t i = 0; i < r->n; i++) {
        if (!at(r, i)->has_it)
            continue;
        r->out[n++] = at(r, i)->rec.lsn;
        skipped += at(r, i)->skipped;
        at(r, i)->has_it = false;
    }
    if (!n)
        return;
    if (wal_dead_remove(d->dead, r->out, n, &removed, &e))
        die(EXIT_IO, "sink %s: %s", d->name, e.text);
    pthread_mutex_lock(&d->lock);
    d->run.delivered += n - skipped;
    pthread_mutex_unlock(&d->lock);
    dead_counted(d);
    replay_room(d);
}

/* What is done with leaves the ring, and is counted then: what is shown, and saved, of a replay are
 * the events up to `at`. */
static void pass_done(struct replay *r)
{
    struct delivery *d = r->d;
    bool redrive = d->run.kind == RUN_REDRIVE;
    uint64_t before = d->run.at, delivered = 0, dead = 0;

    if (redrive)
        take_out(r);
    while (r->n && at(r, 0)->done) {
        struct item *it = at(r, 0);
        dead += it->refused;
        delivered += !it->refused && !it->skipped && !redrive;
        r->bytes -= it->size;
        drop_item(it);
        r->first = (r->first + 1) % r->cap;
        r->n--;
    }
    pthread_mutex_lock(&d->lock);
    d->run.at = r->n ? at(r, 0)->rec.lsn - 1 : r->read;
    d->run.delivered += delivered;
    d->run.dead += dead;
    pthread_mutex_unlock(&d->lock);
    r->dirty |= d->run.at != before;
}

static bool can_read(const struct replay *r)
{
    return !r->again && !r->full && !r->unsent && !r->ended && r->n < r->cap &&
           (!r->n || r->bytes < r->bytes_max);
}

static void pump(struct replay *r)
{
    bool replays = r->d->run.kind == RUN_REPLAY;
    int64_t since = clock_mono_ms();
    struct err e = ERR_INIT;
    enum got got = GOT;
    int reads = 0;

    if (r->again && !r->outstanding && !r->waiting_retry && !r->full)
        send_again(r);
    if (r->unsent && !r->full && !r->again)
        r->unsent = !hand_over(r, at(r, r->n - 1));
    while (got == GOT && reads++ < READS_A_PASS && can_read(r) && !judging_long(r->d, since))
        got = replays ? replay_next_record(r, &e) : replay_next_letter(r, &e);
    pass_done(r);
    r->sink->type->flush(r->sink);
    if (got == GOT_FAILED)
        finish(r, RUN_FAILED, e.text);
    else if (r->ended && !r->n)
        finish(r, RUN_DONE, "");
    else if (got == GOT && can_read(r))
        pump_soon(r); /* the live flow gets its turn first */
}

static void on_turn(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
    struct replay *r = arg;

    if (!r->d->stopping && !r->d->paused_ms)
        pump(r);
}

static void on_retry(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
    struct replay *r = arg;

    r->waiting_retry = false;
    pump_soon(r);
}

/* --- its life
 * -----------------------------------------------------------------------------------------------
 */

static int begin(struct delivery *d, struct err *e)
{
    struct replay *r = xcalloc(1, sizeof *r);
    const struct sink_owner owner = { .arg = r,
                                      .done = on_done,
                                      .retried = on_retried,
                                      .lost = on_lost,
                                      .state = on_state,
                                      .ready = on_ready };

    *r = (struct replay){ .d = d,
                          .cfg = *d->cfg,
                          .cap = (size_t)MIN(d->cfg->in_flight.events, WINDOW),
                          .bytes_max = d->cfg->in_flight.bytes / 4,
                          .read = d->run.at,
                          .ended = d->run.at >= d->run.to,
                          .state = SINK_RETRYING,
                          .reason = "connecting" };
    r->cfg.delivery = 0;
    r->ring = xcalloc(r->cap, sizeof *r->ring);
    r->out = xcalloc(r->cap, sizeof *r->out);
    event_assign(&r->retry, d->base, -1, 0, on_retry, r);
    event_assign(&r->turn, d->base, -1, 0, on_turn, r);
    pthread_mutex_lock(&d->lock);
    d->replay = r;
    pthread_mutex_unlock(&d->lock);
    if (d->run.kind == RUN_REDRIVE || !wal_reader_open(&r->reader, d->wal, d->run.at, e))
        r->sink = sink_type_of(&r->cfg)->open(d->name, &r->cfg, wal_log_id(d->wal), 0, d->max_body,
                                              d->base, &owner, e);
    if (!r->sink) {
        finish(r, RUN_FAILED, e->text);
        return -1;
    }
    pump_soon(r);
    return 0;
}

int replay_start(struct delivery *d, struct wal_run *run, struct err *e)
{
    wal_run_free(&d->run);
    pthread_mutex_lock(&d->lock);
    d->run = *run;
    pthread_mutex_unlock(&d->lock);
    save(d);
    log_info(run->kind == RUN_REPLAY ? "replay" : "redrive", KS("sink", d->name),
             KS("run", run->id), KU("from", run->from), KU("to", run->to));
    return begin(d, e);
}

int replay_resume(struct delivery *d, struct err *e)
{
    struct err ignored = ERR_INIT;

    if (wal_run_load(d->wal, d->name, &d->run, e) < 0)
        return -1;
    if (!d->run.id[0] || d->run.state != RUN_GOING)
        return 0;
    log_info("a run goes on", KS("sink", d->name), KS("run", d->run.id), KU("at", d->run.at));
    if (begin(d, &ignored)) /* told as the end of the run; the live flow goes on */
        log_error("the run could not go on", KS("sink", d->name), KS("reason", ignored.text));
    return 0;
}

void replay_cancel(struct delivery *d)
{
    pass_done(d->replay); /* letters that the sink has are taken out */
    finish(d->replay, RUN_CANCELLED, "cancelled");
}

void replay_tick(struct delivery *d)
{
    if (!d->replay)
        return;
    if (d->replay->dirty)
        save(d);
    d->replay->dirty = false;
    pump_soon(d->replay);
}

void replay_go_on(struct delivery *d)
{
    if (d->replay)
        pump_soon(d->replay);
}

void replay_room(struct delivery *d)
{
    if (d->dead_full)
        event_active(&d->retry, EV_TIMEOUT, 0);
    if (d->replay && d->replay->waiting_retry)
        event_active(&d->replay->retry, EV_TIMEOUT, 0);
}

void replay_pause(struct delivery *d)
{
    if (!d->replay)
        return;
    pass_done(d->replay);
    save(d);
}

void replay_close(struct delivery *d)
{
    if (d->replay)
        free_replay(d->replay);
    d->replay = NULL;
}
