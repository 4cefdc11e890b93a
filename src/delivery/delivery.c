/* SPDX-License-Identifier: Apache-2.0 */
/* One sink's thread.
 *
 * P2: the cursor passes a record only when the sink reported it done, when it does not match, or
 * when it is in the dead-letter log; window_advance() is the only place that moves it. P9:
 * everything a sink waits for happens on its own thread; what it holds up is only its own backlog.
 *
 * The window is a ring of the records that were read and not yet passed; LSNs in it are contiguous,
 * so a report finds its entry by subtraction. What failed transiently is sent again after
 * everything in flight has been reported, in order. A wake-up cannot be lost: arm, look again, wait
 * (see wal.h). */
#include "delivery.h"

#include <event2/event_struct.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

#include "clock.h"
#include "log.h"

#define DEAD_BYTES (UINT64_C(256) << 20)
#define READS_A_PASS 2048
#define COUNTS_A_TICK 50000
#define SILENT_MS 60000
#define REASONS 8

struct entry {
    struct record rec;
    struct wal_map *hold;
    size_t bytes;
    bool matches, sent, done, again;
};

struct retry_count {
    char reason[48];
    struct counter n;
};

struct delivery {
    struct wal *wal;
    char *name;
    const struct sink_cfg *cfg;
    uint64_t max_body;
    pthread_t thread;
    struct event_base *base;
    struct inbox inbox;
    struct event inbox_ev, tick, retry;
    struct wal_watch watch;
    struct msg stop_msg;
    struct wal_cursor *cursor;
    struct wal_reader *reader, *counting;
    struct wal_dead *dead;
    struct sink *sink;

    struct entry *ring;
    size_t cap, first, n, bytes, outstanding, again;
    uint64_t passed; /* LSN; everything up to here is done with */
    uint64_t counted, matched_ahead, matched_passed;
    unsigned attempt;
    bool sink_full, waiting_retry, damaged, dead_full, pumping;
    int64_t stop_by_ms;
    atomic_bool stopping;

    pthread_mutex_t lock; /* state and reason, for /status */
    enum sink_state state;
    char reason[512];
    struct retry_count retries[REASONS];
    struct counter delivered, gone;
    atomic_bool full;
    _Atomic uint64_t passed_out, lag_events, dead_n;
    _Atomic int64_t turned_ms, oldest_ms;
};

static void pump(struct delivery *d);

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

static void window_advance(struct delivery *d)
{
    struct err e = ERR_INIT;

    while (d->n && at(d, 0)->done) {
        struct entry *en = at(d, 0);
        d->passed = en->rec.lsn;
        d->bytes -= en->bytes;
        d->matched_passed += en->matches;
        if (en->hold)
            wal_release(en->hold);
        d->first = (d->first + 1) % d->cap;
        d->n--;
    }
    atomic_store(&d->oldest_ms, d->n ? at(d, 0)->rec.time_ms : 0);
    atomic_store(&d->passed_out, d->passed);
    if (wal_cursor_set(d->cursor, d->passed, &e))
        die(EXIT_IO, "sink %s: %s", d->name, e.text);
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

static void to_dead(struct delivery *d, struct entry *en, const char *reason)
{
    struct err e = ERR_INIT;

    switch (wal_dead_add(d->dead, &en->rec, reason, &e)) {
    case 0:
        en->done = true;
        atomic_store(&d->dead_n, wal_dead_count(d->dead));
        log_warn("dead letter", KS("sink", d->name), KU("lsn", en->rec.lsn), KS("reason", reason));
        return;
    case 1:
        d->dead_full = true;
        set_state(d, SINK_BLOCKED, "the dead-letter log is full");
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
    switch (outcome) {
    case SINK_DONE:
        en->done = true;
        d->attempt = 0;
        counter_add(&d->delivered, 1);
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
        to_dead(d, en, reason);
    }
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

    if (!d->damaged && !d->dead_full)
        set_state(d, state, reason);
}

static void on_ready(void *arg)
{
    struct delivery *d = arg;

    d->sink_full = false;
    pump(d);
}

/* --- reading and sending
 * --------------------------------------------------------------------------------- */

static bool hand_over(struct delivery *d, struct entry *en)
{
    en->sent = true;
    d->outstanding++;
    if (d->sink->type->send(d->sink, &en->rec) == 0)
        return true;
    en->sent = false;
    d->outstanding--;
    d->sink_full = true;
    return false;
}

/* What has to be sent again, in order, once nothing else is under way. */
static void send_again(struct delivery *d)
{
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
    }
}

static void push(struct delivery *d, const struct record *rec, struct wal_map *hold)
{
    struct entry *en = at(d, d->n);
    bool matches = rec->kind == RECORD_WEBHOOK && sink_matches(d->cfg, rec->source, rec->type);

    *en = (struct entry){ .rec = *rec,
                          .hold = hold,
                          .matches = matches,
                          .done = !matches,
                          .bytes = rec->body.n + rec->headers.n + 256 };
    d->bytes += en->bytes;
    d->n++;
    if (matches && !hand_over(d, en)) {
        en->again = true;
        d->again++;
    }
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

static bool has_room(const struct delivery *d)
{
    return d->n < d->cap && (d->n == 0 || d->bytes < d->cfg->in_flight.bytes);
}

/* Arms the watch, then takes what there is; a record that came in between is seen by one or the
 * other. */
static void pump(struct delivery *d)
{
    struct timeval now = { 0, 0 };
    int reads = 0;

    if (d->pumping || d->waiting_retry)
        return;
    d->pumping = true;
    wal_watch_arm(&d->watch);
    if (d->again && !d->outstanding)
        send_again(d);
    while (!d->again && !d->sink_full && !d->stopping && has_room(d) && reads < READS_A_PASS &&
           read_one(d))
        reads++;
    if (reads == READS_A_PASS)
        event_add(&d->retry, &now); /* let the loop turn, then go on */
    window_advance(d);
    d->sink->type->flush(d->sink);
    d->pumping = false;
}

static void on_retry(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
    struct delivery *d = arg;

    d->waiting_retry = d->dead_full = false;
    pump(d);
}

static void on_durable(struct msg *m UNUSED, void *self)
{
    pump(self);
}

/* --- once in a while
 * -------------------------------------------------------------------------------------- */

/* With a filter, what matches is counted by a reader of its own that runs ahead, so much a tick. */
static uint64_t lag(struct delivery *d)
{
    struct err e = ERR_INIT;
    struct record rec;

    if (!strcmp(d->cfg->match.source, "*") && !strcmp(d->cfg->match.type, "*"))
        return wal_durable_lsn(d->wal) - d->passed;
    for (int i = 0;
         i < COUNTS_A_TICK && wal_reader_next(d->counting, &rec, NULL, &e) == WAL_READ_OK; i++)
        d->matched_ahead +=
            rec.kind == RECORD_WEBHOOK && sink_matches(d->cfg, rec.source, rec.type);
    return d->matched_ahead > d->matched_passed ? d->matched_ahead - d->matched_passed : 0;
}

static void on_tick(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
    struct delivery *d = arg;
    struct err e = ERR_INIT;

    atomic_store(&d->turned_ms, clock_mono_ms());
    if (wal_cursor_sync(d->cursor, &e))
        die(EXIT_IO, "sink %s: %s", d->name, e.text);
    atomic_store(&d->lag_events, lag(d));
    if (d->cfg->backlog_bytes)
        atomic_store(&d->full, wal_backlog_bytes(d->wal, d->passed) > d->cfg->backlog_bytes);
    pump(d); /* probes a sink that is blocked by damage */
}

static void on_inbox(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
    struct delivery *d = arg;

    inbox_run(&d->inbox, d);
}

static void on_stop(struct msg *m UNUSED, void *self)
{
    struct delivery *d = self;

    atomic_store(&d->stopping, true);
}

static void *run(void *arg)
{
    struct delivery *d = arg;
    struct err e = ERR_INIT;
    char name[16];

    snprintf(name, sizeof name, "sink-%.10s", d->name);
    prctl(PR_SET_NAME, name);
    pump(d);
    while (!d->stopping || (d->outstanding && clock_mono_ms() < d->stop_by_ms)) {
        event_base_loop(d->base, EVLOOP_ONCE);
        if (d->n && at(d, 0)->done)
            pump(d);
    }
    window_advance(d);
    if (wal_cursor_sync(d->cursor, &e))
        log_error("the cursor could not be synced", KS("sink", d->name), KS("reason", e.text));
    return NULL;
}

/* --- starting and stopping
 * ----------------------------------------------------------------------------------- */

static int start_lsn(struct wal *w, const struct sink_cfg *cfg, bool first_sinks, uint64_t *lsn,
                     struct err *e)
{
    const char *from = cfg->from[0] ? cfg->from : first_sinks ? "oldest" : "now";
    struct wal_info info;
    int64_t ms;

    wal_info(w, &info);
    if (!strcmp(from, "now"))
        *lsn = info.durable_lsn;
    else if (!strcmp(from, "oldest"))
        *lsn = info.first_lsn - 1;
    else if (span_u64(span_str(from), lsn))
        *lsn = MIN(MAX(*lsn, info.first_lsn) - 1, info.durable_lsn);
    else if (clock_parse(span_str(from), &ms))
        *lsn = MIN(wal_lsn_at_time(w, ms) - 1, info.durable_lsn);
    else
        return err_set(e, EXIT_BAD_CONFIG, "from \"%s\" is none of now, oldest, an LSN, a time",
                       from);
    return 0;
}

static void release(struct delivery *d)
{
    if (d->sink)
        d->sink->type->close(d->sink);
    for (size_t i = 0; i < d->n; i++)
        if (at(d, i)->hold)
            wal_release(at(d, i)->hold);
    wal_watch_remove(d->wal, &d->watch);
    wal_reader_close(d->reader);
    wal_reader_close(d->counting);
    wal_cursor_close(d->cursor);
    wal_dead_close(d->dead);
    event_del(&d->inbox_ev);
    event_del(&d->tick);
    event_del(&d->retry);
    event_base_free(d->base);
    inbox_close(&d->inbox);
    pthread_mutex_destroy(&d->lock);
    free(d->ring);
    free(d->name);
    free(d);
}

static void make_loop(struct delivery *d)
{
    static const struct timeval second = { 1, 0 };

    d->base = event_base_new();
    if (!d->base)
        die(EXIT_IO, "no event loop could be made");
    pthread_mutex_init(&d->lock, NULL);
    inbox_init(&d->inbox);
    event_assign(&d->inbox_ev, d->base, d->inbox.fd, EV_READ | EV_PERSIST, on_inbox, d);
    event_assign(&d->tick, d->base, -1, EV_PERSIST, on_tick, d);
    event_assign(&d->retry, d->base, -1, 0, on_retry, d);
    event_add(&d->inbox_ev, NULL);
    event_add(&d->tick, &second);
    d->watch.msg.deliver = on_durable;
    d->watch.in = &d->inbox;
    wal_watch_add(d->wal, &d->watch);
    atomic_store(&d->turned_ms, clock_mono_ms());
}

static int open_all(struct delivery *d, bool first_sinks, struct err *e)
{
    const struct sink_owner owner = { d, on_done, on_lost, on_state, on_ready };
    uint64_t from = 0;
    bool changed;

    if (!wal_cursor_exists(d->wal, d->name) && start_lsn(d->wal, d->cfg, first_sinks, &from, e))
        return -1;
    if (wal_cursor_open(d->wal, d->name, (uint32_t)d->cfg->delivery, sink_destination_hash(d->cfg),
                        from, &d->cursor, &changed, e))
        return -1;
    if (changed)
        log_info("the sink has a new destination; it goes on from its cursor", KS("sink", d->name));
    d->passed = d->counted = wal_cursor_lsn(d->cursor);
    atomic_store(&d->passed_out, d->passed);
    if (wal_reader_open(&d->reader, d->wal, d->passed, e) ||
        wal_reader_open(&d->counting, d->wal, d->passed, e) ||
        wal_dead_open(d->wal, d->name, DEAD_BYTES, &d->dead, e))
        return -1;
    atomic_store(&d->dead_n, wal_dead_count(d->dead));
    d->sink = sink_type_of(d->cfg)->open(d->name, d->cfg, wal_log_id(d->wal), d->max_body, d->base,
                                         &owner, e);
    return d->sink ? 0 : -1;
}

int delivery_start(struct delivery **out, struct wal *w, const char *name,
                   const struct sink_cfg *cfg, bool first_sinks, uint64_t max_body, struct err *e)
{
    struct delivery *d = xcalloc(1, sizeof *d);

    d->wal = w;
    d->name = xstrdup(name);
    d->cfg = cfg;
    d->max_body = max_body;
    d->cap = (size_t)cfg->in_flight.events;
    d->ring = xcalloc(d->cap, sizeof *d->ring);
    d->state = SINK_RETRYING;
    snprintf(d->reason, sizeof d->reason, "connecting");
    make_loop(d);
    if (open_all(d, first_sinks, e)) {
        err_wrap(e, "sink %s", name);
        release(d);
        return -1;
    }
    if (pthread_create(&d->thread, NULL, run, d))
        die(EXIT_IO, "the thread of sink %s could not be started", name);
    *out = d;
    return 0;
}

void delivery_stop(struct delivery *d, int64_t timeout_ms)
{
    if (!d)
        return;
    d->stop_by_ms = clock_mono_ms() + timeout_ms;
    d->stop_msg.deliver = on_stop;
    inbox_post(&d->inbox, &d->stop_msg);
    pthread_join(d->thread, NULL);
    release(d);
}

bool delivery_drained(const struct delivery *d)
{
    return atomic_load(&d->passed_out) >= wal_durable_lsn(d->wal);
}

bool delivery_turning(const struct delivery *d, int64_t now_mono_ms)
{
    return now_mono_ms - atomic_load(&d->turned_ms) <= SILENT_MS;
}

const atomic_bool *delivery_full(const struct delivery *d)
{
    return &d->full;
}

/* --- sinks that left
 * ------------------------------------------------------------------------------------------ */

int delivery_backlog(struct wal *w, const char *name, uint64_t *events, struct err *e)
{
    struct wal_cursor *c;
    bool changed;

    if (wal_cursor_open(w, name, 0, 0, 0, &c, &changed, e))
        return -1;
    *events = wal_durable_lsn(w) - wal_cursor_lsn(c);
    wal_cursor_close(c);
    return 0;
}

int delivery_retire(struct wal *w, const char *name, struct err *e)
{
    struct wal_reader *r = NULL;
    struct wal_cursor *c = NULL;
    struct wal_dead *dead = NULL;
    struct record rec;
    enum wal_read got = WAL_READ_END;
    bool changed;
    int rc = -1;

    if (wal_cursor_open(w, name, 0, 0, 0, &c, &changed, e) ||
        wal_dead_open(w, name, UINT64_MAX, &dead, e) ||
        wal_reader_open(&r, w, wal_cursor_lsn(c), e))
        goto out;
    while ((got = wal_reader_next(r, &rec, NULL, e)) == WAL_READ_OK || got == WAL_READ_GONE)
        if (got == WAL_READ_OK && rec.kind == RECORD_WEBHOOK &&
            wal_dead_add(dead, &rec, "the sink was retired", e))
            goto out;
    if (got == WAL_READ_END)
        rc = 0;
out:
    wal_reader_close(r);
    wal_dead_close(dead);
    wal_cursor_close(c);
    return rc ? rc : wal_cursor_remove(w, name, e);
}

/* --- what is known
 * -----------------------------------------------------------------------------------------------
 */

static double lag_seconds(const struct delivery *d)
{
    int64_t oldest = atomic_load(&d->oldest_ms);

    return oldest ? (double)MAX(clock_wall_ms() - oldest, 0) / 1e3 : 0;
}

/* The tick's figure, but never more than a second behind for the common case. */
static uint64_t lag_events(const struct delivery *d)
{
    return delivery_drained(d) ? 0 : MAX(atomic_load(&d->lag_events), 1);
}

void delivery_status(const struct delivery *d, struct buf *json)
{
    pthread_mutex_t *lock = (pthread_mutex_t *)(uintptr_t)&d->lock;

    pthread_mutex_lock(lock);
    buf_printf(json, "{\"type\":\"%s\",\"state\":\"%s\",\"reason\":", sink_type_of(d->cfg)->name,
               sink_state_name(d->state));
    buf_json_string(json, span_str(d->reason));
    pthread_mutex_unlock(lock);
    buf_printf(
        json,
        ",\"lsn\":%llu,\"lag_events\":%llu,\"lag_seconds\":%.3f,\"delivered\":%llu,\"dead\":%llu}",
        (unsigned long long)d->passed_out, (unsigned long long)lag_events(d), lag_seconds(d),
        (unsigned long long)counter_get(&d->delivered), (unsigned long long)d->dead_n);
}

static double value_of(const struct delivery *d, int family)
{
    switch (family) {
    case 0:
        return (double)d->passed_out;
    case 1:
        return (double)lag_events(d);
    case 2:
        return lag_seconds(d);
    case 3:
        return (double)counter_get(&d->delivered);
    case 4:
        return (double)d->dead_n;
    case 5:
        return (double)d->dead_n;
    default:
        return d->state == SINK_BLOCKED;
    }
}

void delivery_metrics(struct delivery *const *d, size_t n, struct buf *out)
{
    static const struct {
        const char *name, *type, *help;
    } families[] = {
        { "hookline_sink_lsn", "gauge", "LSN up to which the sink has everything." },
        { "hookline_sink_lag_events", "gauge", "Events that the sink does not have yet." },
        { "hookline_sink_lag_seconds", "gauge",
          "Age of the oldest event that the sink does not have." },
        { "hookline_sink_delivered_total", "counter", "Events that the sink confirmed." },
        { "hookline_sink_dead_total", "counter", "Events moved to the dead letters." },
        { "hookline_dead_events", "gauge", "Events in the dead-letter log." },
        { "hookline_sink_blocked", "gauge", "1 while somebody has to mend something." },
    };

    for (size_t f = 0; n && f < ARRAY_LEN(families); f++) {
        metrics_head(out, families[f].name, families[f].type, families[f].help);
        for (size_t i = 0; i < n; i++)
            metrics_value(out, families[f].name, value_of(d[i], (int)f), "sink", d[i]->name, NULL);
    }
    if (n)
        metrics_head(out, "hookline_sink_retries_total", "counter",
                     "Events sent again, by reason.");
    for (size_t i = 0; i < n; i++)
        for (int r = 0; r < REASONS; r++)
            if (d[i]->retries[r].reason[0])
                metrics_value(out, "hookline_sink_retries_total",
                              (double)counter_get(&d[i]->retries[r].n), "sink", d[i]->name,
                              "reason", d[i]->retries[r].reason, NULL);
}
