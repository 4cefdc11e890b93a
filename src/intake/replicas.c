/* SPDX-License-Identifier: Apache-2.0 */
/* `dedup.redis`: a delivery is claimed among the replicas before it goes to the log, and marked
 * when it is durable; with `ack: broker` once more when the sinks have it. Where it is not
 * configured none of this is entered. After a start the last records are marked again, since a
 * crash may have come between their sync and their mark. */
#include <string.h>

#include "clock.h"
#include "log.h"
#include "room.h"

#define PENDING_MS 30000 /* a sync, however slow, should be over by then */
#define TAIL 20000       /* records; as many as one thread can have under way */
#define TAIL_AHEAD 1000  /* marks without a reply */

struct asked {
    struct claim claim;
    struct pending *p;
};

/* Half of a sender's patience for Redis, half for the disk. */
static struct claim_times times_of(const struct intake_conf *conf)
{
    int64_t commit_ms = conf->limits.commit_timeout_ms;

    return (struct claim_times){ conf->dedup_window_ms, MAX((int64_t)PENDING_MS, 2 * commit_ms),
                                 commit_ms / 2 };
}

static struct claims *connect_as(const struct wal *w, const struct intake_conf *conf,
                                 struct event_base *base, void *arg)
{
    struct claim_times times = times_of(conf);

    return claims_new(base, conf->claim, wal_log_id(w), &times, arg);
}

void replicas_start(struct intake_thread *t)
{
    if (!t->conf->claim || !t->conf->claim->redis[0])
        return;
    t->claims = connect_as(t->in->wal, t->conf, t->base, t);
}

void replicas_configure(struct intake_thread *t)
{
    struct claim_times times = times_of(t->conf);

    if (t->claims)
        claims_configure(t->claims, &times);
}

static void on_answered(struct claim *c, void *arg)
{
    struct intake_thread *t = arg;
    struct pending *p = container_of(c, struct asked, claim)->p;

    t->parked_n--;
    switch (c->answer) {
    case CLAIM_OURS:
        intake_log(t, p);
        return;
    case CLAIM_ELSEWHERE:
        intake_refuse(t, p, HTTP_ERR_IN_PROGRESS);
        return;
    case CLAIM_DONE:
        p->append.result = WAL_DUPLICATE;
        p->append.lsn = c->lsn;
        p->append.other_body = c->other_body;
        intake_count(t, p);
        intake_confirm(t, p);
    }
}

bool replicas_ask(struct intake_thread *t, struct pending *p)
{
    p->asked = xcalloc(1, sizeof *p->asked);
    *p->asked = (struct asked){ .claim.answered = on_answered, .p = p };
    if (!claims_ask(t->claims, &p->asked->claim, &p->append.rec))
        return false;
    p->stage = AT_REPLICAS;
    t->parked_n++;
    return true;
}

void replicas_leave(struct intake_thread *t, struct pending *p)
{
    t->parked_n--;
    claims_cancel(t->claims, &p->asked->claim);
    claims_drop(t->claims, &p->asked->claim);
}

void replicas_refused(struct intake_thread *t, struct pending *p)
{
    claims_drop(t->claims, &p->asked->claim);
}

void replicas_mark(struct intake_thread *t, struct pending *p, bool done)
{
    claims_mark(t->claims, &p->append.rec, p->append.lsn, done ? CLAIM_IS_DONE : CLAIM_IS_STORED);
}

/* --- the tail after a start
 * ---------------------------------------------------------------------- */

static const struct source_info *info_of(const struct intake_conf *conf, struct span source)
{
    for (size_t i = 0; i < conf->n; i++)
        if (span_eq(span_str(source_info(conf->plans[i])->name), source))
            return source_info(conf->plans[i]);
    return NULL;
}

/* Lets replies in until at most `left` are missing; false when there is no time for it. */
static bool settle(struct claims *cs, struct event_base *base, size_t left, int64_t by_ms)
{
    while (claims_in_flight(cs) > left) {
        if (clock_mono_ms() > by_ms)
            return false;
        event_base_loop(base, EVLOOP_ONCE);
    }
    return true;
}

static void mark_tail(struct wal *w, const struct intake_conf *conf, struct claims *cs,
                      struct event_base *base, int64_t by_ms)
{
    uint64_t durable = wal_durable_lsn(w);
    struct err e = ERR_INIT;
    struct wal_reader *r;
    struct record rec;
    bool in_time = true;

    if (wal_reader_open(&r, w, durable > TAIL ? durable - TAIL : 0, &e)) {
        log_warn("the last records could not be marked in dedup.redis", KS("reason", e.text));
        return;
    }
    for (;;) {
        enum wal_read got = wal_reader_next(r, &rec, NULL, &e);
        const struct source_info *info;
        if (got == WAL_READ_GONE)
            continue; /* the position has moved to what is retained */
        if (got != WAL_READ_OK || !in_time)
            break;
        info = rec.kind == RECORD_WEBHOOK && rec.id.n ? info_of(conf, rec.source) : NULL;
        if (!info || !info->dedups)
            continue;
        claims_mark(cs, &rec, rec.lsn, info->ack_broker ? CLAIM_IS_STORED : CLAIM_IS_DONE);
        in_time = settle(cs, base, TAIL_AHEAD, by_ms);
    }
    settle(cs, base, 0, by_ms);
    wal_reader_close(r);
}

void intake_mark_tail(struct wal *w, const struct intake_conf *conf, int64_t most_ms)
{
    struct claims_report report;
    struct event_base *base;
    struct claims *cs;

    if (!conf->claim || !conf->claim->redis[0])
        return;
    base = event_base_new();
    if (!base)
        die(EXIT_IO, "no event loop could be made");
    cs = connect_as(w, conf, base, NULL);
    mark_tail(w, conf, cs, base, clock_mono_ms() + most_ms);
    claims_report(cs, &report);
    if (report.missed_marks || claims_in_flight(cs))
        log_warn("not all of the last records could be marked in dedup.redis",
                 KS("reason", report.reason),
                 KU("records", report.missed_marks + claims_in_flight(cs)));
    claims_free(cs);
    event_base_free(base);
}

/* --- what is shown
 * ------------------------------------------------------------------------------- */

static bool sum(const struct intake *in, struct claims_report *all)
{
    *all = (struct claims_report){ .up = true };
    for (unsigned i = 0; i < in->n; i++) {
        struct claims_report one;
        if (!in->threads[i].claims)
            return false;
        claims_report(in->threads[i].claims, &one);
        all->missed_claims += one.missed_claims;
        all->missed_marks += one.missed_marks;
        all->up &= one.up;
        if (one.reason[0])
            memcpy(all->reason, one.reason, sizeof all->reason);
    }
    return true;
}

bool intake_dedup_status(const struct intake *in, struct buf *json)
{
    struct claims_report all;

    if (!sum(in, &all))
        return false;
    buf_printf(json, "{\"redis\":\"%s\",\"reason\":", all.up ? "up" : "away");
    buf_json_string(json, span_str(all.reason));
    buf_printf(json, ",\"missed_claims\":%llu,\"missed_marks\":%llu}",
               (unsigned long long)all.missed_claims, (unsigned long long)all.missed_marks);
    return true;
}

void replicas_metrics(const struct intake *in, struct buf *out)
{
    static const char missed[] = "hookline_dedup_redis_missed_total";
    struct claims_report all;

    if (!sum(in, &all))
        return;
    metrics_head(out, "hookline_dedup_redis_up", "gauge",
                 "1 while all threads can ask the Redis of dedup.redis.");
    metrics_value(out, "hookline_dedup_redis_up", all.up, NULL);
    metrics_head(out, missed, "counter",
                 "Deliveries that were taken without a claim, or not marked for other replicas.");
    metrics_value(out, missed, (double)all.missed_claims, "step", "claim", NULL);
    metrics_value(out, missed, (double)all.missed_marks, "step", "mark", NULL);
}
