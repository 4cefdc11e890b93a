/* SPDX-License-Identifier: Apache-2.0 */
/* What is shown of a sink: one object in /status, samples in /metrics. Any thread: positions and
 * counters are atomics, the state with its reason is copied under the sink's lock. */
#include "clock.h"
#include "room.h"

static double lag_seconds(const struct delivery *d)
{
    int64_t oldest = atomic_load(&d->oldest_ms);

    return oldest ? (double)MAX(clock_wall_ms() - oldest, 0) / 1e3 : 0;
}

/* Exact where all records match; else as of the last tick. */
static uint64_t lag_events(const struct delivery *d)
{
    uint64_t passed = progress_at(&d->passed_out), durable = wal_durable_lsn(d->wal);

    if (passed >= durable)
        return 0;
    return d->everything ? durable - passed : atomic_load(&d->lag_events);
}

/* Paused is what an operator wants; what the sink says besides is still told. Under d->lock. */
static void state_json(const struct delivery *d, struct buf *json)
{
    struct buf reason = BUF_INIT;
    char when[CLOCK_TEXT_MAX];

    if (d->paused_ms)
        buf_printf(&reason, "by an operator since %s; POST /v1/sinks/%s/resume lets it go on",
                   clock_text(d->paused_ms, when), d->name);
    if (d->paused_ms && d->state != SINK_RUNNING)
        buf_printf(&reason, " (%s: ", sink_state_name(d->state));
    buf_adds(&reason, d->reason);
    if (d->paused_ms && d->state != SINK_RUNNING)
        buf_addc(&reason, ')');
    buf_printf(json,
               "\"state\":\"%s\",\"reason\":", d->paused_ms ? "paused" : sink_state_name(d->state));
    buf_json_string(json, buf_as_span(&reason));
    buf_free(&reason);
}

void delivery_status(const struct delivery *d, struct buf *json)
{
    pthread_mutex_t *lock = (pthread_mutex_t *)(uintptr_t)&d->lock;

    buf_printf(json, "{\"type\":\"%s\",", sink_type_of(d->cfg)->name);
    pthread_mutex_lock(lock);
    state_json(d, json);
    if (d->warnings.n) {
        buf_adds(json, ",\"warnings\":[");
        buf_span(json, buf_as_span(&d->warnings));
        buf_addc(json, ']');
    }
    pthread_mutex_unlock(lock);
    buf_printf(
        json,
        ",\"lsn\":%llu,\"lag_events\":%llu,\"lag_seconds\":%.3f,\"delivered\":%llu,\"dead\":%llu}",
        (unsigned long long)progress_at(&d->passed_out), (unsigned long long)lag_events(d),
        lag_seconds(d), (unsigned long long)counter_get(&d->delivered),
        (unsigned long long)d->dead_n);
}

static bool is_blocked(const struct delivery *d)
{
    pthread_mutex_t *lock = (pthread_mutex_t *)(uintptr_t)&d->lock;
    bool blocked;

    pthread_mutex_lock(lock);
    blocked = d->state == SINK_BLOCKED;
    pthread_mutex_unlock(lock);
    return blocked;
}

static double paused(const struct delivery *d)
{
    pthread_mutex_t *lock = (pthread_mutex_t *)(uintptr_t)&d->lock;
    bool is;

    pthread_mutex_lock(lock);
    is = d->paused_ms;
    pthread_mutex_unlock(lock);
    return is;
}

static double lsn(const struct delivery *d)
{
    return (double)progress_at(&d->passed_out);
}

static double lag(const struct delivery *d)
{
    return (double)lag_events(d);
}

static double blocked(const struct delivery *d)
{
    return is_blocked(d);
}

#define COUNTER(member)                                                                            \
    static double member(const struct delivery *d)                                                 \
    {                                                                                              \
        return (double)counter_get(&d->member);                                                    \
    }
#define GAUGE(member)                                                                              \
    static double member(const struct delivery *d)                                                 \
    {                                                                                              \
        return (double)atomic_load(&d->member);                                                    \
    }
COUNTER(delivered)
COUNTER(filtered)
COUNTER(replayed)
COUNTER(gone)
COUNTER(states_lost)
COUNTER(lost)
GAUGE(dead_total)
GAUGE(dead_n)
GAUGE(dead_bytes)

static void retries(struct delivery *d, struct buf *out)
{
    pthread_mutex_lock(&d->lock);
    for (int r = 0; r < REASONS && d->retries[r].reason[0]; r++)
        metrics_value(out, "hookline_sink_retries_total", (double)counter_get(&d->retries[r].n),
                      "sink", d->name, "reason", d->retries[r].reason, NULL);
    pthread_mutex_unlock(&d->lock);
}

void delivery_metrics(struct delivery *const *d, size_t n, struct buf *out)
{
    static const struct {
        const char *name, *type;
        double (*value)(const struct delivery *d);
        const char *help;
    } families[] = {
        { "hookline_sink_lsn", "gauge", lsn, "LSN up to which the sink has everything." },
        { "hookline_sink_lag_events", "gauge", lag, "Events that the sink does not have yet." },
        { "hookline_sink_lag_seconds", "gauge", lag_seconds,
          "Age of the oldest event that the sink does not have." },
        { "hookline_sink_delivered_total", "counter", delivered,
          "Events that the sink confirmed." },
        { "hookline_sink_filtered_total", "counter", filtered,
          "Events that match.jq let pass by." },
        { "hookline_sink_dead_total", "counter", dead_total, "Events moved to the dead letters." },
        { "hookline_dead_events", "gauge", dead_n, "Events in the dead-letter log." },
        { "hookline_dead_bytes", "gauge", dead_bytes, "Their bytes; `dead_bytes` is their limit." },
        { "hookline_sink_replayed_total", "counter", replayed,
          "Events confirmed once more, by a replay or a redrive." },
        { "hookline_sink_gone_total", "counter", gone,
          "Records that were trimmed before this sink read them." },
        { "hookline_sink_state_lost_total", "counter", states_lost,
          "Times that the state kept in the sink was gone." },
        { "hookline_sink_lost_total", "counter", lost,
          "Damaged records that were set aside before this sink read them." },
        { "hookline_sink_blocked", "gauge", blocked, "1 while somebody has to mend something." },
        { "hookline_sink_paused", "gauge", paused,
          "1 while an operator holds the sink back; it stays so over a restart." },
    };

    for (size_t f = 0; n && f < ARRAY_LEN(families); f++) {
        metrics_head(out, families[f].name, families[f].type, families[f].help);
        for (size_t i = 0; i < n; i++)
            metrics_value(out, families[f].name, families[f].value(d[i]), "sink", d[i]->name, NULL);
    }
    if (n)
        metrics_head(out, "hookline_sink_retries_total", "counter",
                     "Events sent again, by reason.");
    for (size_t i = 0; i < n; i++)
        retries(d[i], out);
}
