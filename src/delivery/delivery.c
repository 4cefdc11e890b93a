/* SPDX-License-Identifier: Apache-2.0 */
/* One sink's thread: its loop, its start and its end.
 *
 * P9: everything a sink waits for happens on its own thread; what it holds up is only its own
 * backlog. A cursor that cannot be written ends the process: what it says decides what is trimmed.
 */
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

#include "clock.h"
#include "dead.h"
#include "log.h"
#include "room.h"

#define SILENT_MS 60000

static void on_retry(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
    window_retry_due(arg);
}

static void on_again(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
    window_pump(arg);
}

static void on_durable(struct wal_watch *watch UNUSED, void *self)
{
    window_pump(self);
}

static void on_tick(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
    struct delivery *d = arg;
    struct err e = ERR_INIT;

    atomic_store(&d->turned_ms, clock_mono_ms());
    if (wal_cursor_sync(d->cursor, &e))
        die(EXIT_IO, "sink %s: %s", d->name, e.text);
    window_measure(d);
    replay_tick(d);
    window_pump(d); /* probes a sink that is blocked by damage */
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
    if (d->sink->type->stop)
        d->sink->type->stop(d->sink);
}

static void *run(void *arg)
{
    struct delivery *d = arg;
    struct err e = ERR_INIT;
    char name[16];

    snprintf(name, sizeof name, "sink-%.10s", d->name);
    prctl(PR_SET_NAME, name);
    window_pump(d);
    while (!d->stopping || (d->outstanding && clock_mono_ms() < d->stop_by_ms)) {
        event_base_loop(d->base, EVLOOP_ONCE);
        if (d->kick)
            window_pump(d);
    }
    window_advance(d);
    if (wal_cursor_sync(d->cursor, &e))
        log_error("the cursor could not be synced", KS("sink", d->name), KS("reason", e.text));
    replay_pause(d);
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
    replay_close(d);
    if (d->sink)
        d->sink->type->close(d->sink);
    for (size_t i = 0; i < d->n; i++)
        entry_drop(&d->ring[(d->first + i) % d->cap]);
    wal_watch_remove(d->wal, &d->watch);
    wal_reader_close(d->reader);
    wal_reader_close(d->counting);
    wal_cursor_close(d->cursor);
    wal_dead_close(d->dead);
    event_del(&d->inbox_ev);
    event_del(&d->tick);
    event_del(&d->retry);
    event_del(&d->again_ev);
    event_base_free(d->base);
    inbox_close(&d->inbox);
    progress_close(&d->passed_out);
    pthread_mutex_destroy(&d->lock);
    buf_free(&d->warnings);
    buf_free(&d->answer);
    program_release(d->program);
    wal_run_free(&d->run);
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
    progress_init(&d->passed_out, 0);
    inbox_init(&d->inbox);
    event_assign(&d->inbox_ev, d->base, d->inbox.fd, EV_READ | EV_PERSIST, on_inbox, d);
    event_assign(&d->tick, d->base, -1, EV_PERSIST, on_tick, d);
    event_assign(&d->retry, d->base, -1, 0, on_retry, d);
    event_assign(&d->again_ev, d->base, -1, 0, on_again, d);
    event_add(&d->inbox_ev, NULL);
    event_add(&d->tick, &second);
    d->watch.deliver = on_durable;
    d->watch.in = &d->inbox;
    wal_watch_add(d->wal, &d->watch);
    atomic_store(&d->turned_ms, clock_mono_ms());
}

static int open_all(struct delivery *d, bool first_sinks, struct err *e)
{
    const struct sink_owner owner = window_owner(d);
    int mode_before = wal_cursor_mode(d->wal, d->name);
    uint64_t from = 0;
    bool changed;

    if (!wal_cursor_exists(d->wal, d->name) && start_lsn(d->wal, d->cfg, first_sinks, &from, e))
        return -1;
    if (wal_cursor_open(d->wal, d->name, (uint32_t)d->cfg->delivery, sink_destination_hash(d->cfg),
                        from, &d->cursor, &changed, e))
        return -1;
    if (changed)
        log_info("the sink has a new destination or mode; it goes on from its cursor",
                 KS("sink", d->name));
    if (filter_remember(d->wal, d->name, d->cfg, e) ||
        resume_open(d, mode_before, changed && mode_before == d->cfg->delivery, e))
        return -1;
    d->passed = d->counted = wal_cursor_lsn(d->cursor);
    progress_move(&d->passed_out, d->passed);
    if (wal_reader_open(&d->reader, d->wal, d->passed, e) ||
        wal_reader_open(&d->counting, d->wal, d->passed, e) ||
        wal_dead_open(d->wal, d->name, d->cfg->dead_bytes, &d->dead, e) ||
        wal_cursor_paused(d->wal, d->name, &d->paused_ms, e))
        return -1;
    if (d->paused_ms)
        log_warn("the sink is paused, as an operator left it", KS("sink", d->name));
    dead_counted(d);
    d->sink = sink_type_of(d->cfg)->open(d->name, d->cfg, wal_log_id(d->wal), d->epoch, d->max_body,
                                         d->base, &owner, e);
    return d->sink ? replay_resume(d, e) : -1;
}

int delivery_start(struct delivery **out, struct wal *w, const char *name,
                   const struct sink_cfg *cfg, bool first_sinks, uint64_t max_body,
                   struct otlp *otlp, struct err *e)
{
    struct delivery *d = xcalloc(1, sizeof *d);

    d->wal = w;
    d->name = xstrdup(name);
    d->cfg = cfg;
    d->program = program_hold(cfg->program);
    d->max_body = max_body;
    d->otlp = otlp;
    d->everything = !strcmp(cfg->match.source, "*") && !strcmp(cfg->match.type, "*");
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
    return progress_at(&d->passed_out) >= wal_durable_lsn(d->wal);
}

bool delivery_turning(const struct delivery *d, int64_t now_mono_ms)
{
    return now_mono_ms - atomic_load(&d->turned_ms) <= SILENT_MS;
}

const atomic_bool *delivery_full(const struct delivery *d)
{
    return &d->full;
}

struct progress *delivery_progress(struct delivery *d)
{
    return &d->passed_out;
}
