/* SPDX-License-Identifier: Apache-2.0 */
/* What the admin listener asks of a sink: its dead letters, a redrive, a replay, a pause. The
 * sink's thread does it between two turns of its loop, so nothing here needs a lock; a page is
 * bounded, so that the live flow does not wait for it. */
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "crypto.h"
#include "log.h"
#include "room.h"

#define PAGE_BYTES (4u << 20)

void dead_counted(struct delivery *d)
{
    atomic_store(&d->dead_n, wal_dead_count(d->dead));
    atomic_store(&d->dead_bytes, wal_dead_bytes(d->dead));
}

static void letters(struct delivery *d, struct delivery_ask *a)
{
    size_t cap = 0, bytes = 0;
    uint64_t after = a->after;
    struct wal_letter l;
    int rc;

    while (a->letters_n < a->limit && bytes < PAGE_BYTES &&
           (rc = wal_dead_read(d->dead, after, &l, &a->err)) != 1) {
        if (rc) {
            a->answer = ASK_FAILED;
            return;
        }
        if (a->letters_n == cap) {
            cap = cap ? 2 * cap : 8;
            a->letters = xrealloc(a->letters, cap * sizeof l);
        }
        a->letters[a->letters_n++] = l;
        after = l.rec.lsn;
        bytes += l.rec.body.n + l.rec.headers.n;
    }
    a->more = wal_dead_last(d->dead) > after;
    a->count = wal_dead_count(d->dead);
    a->bytes = wal_dead_bytes(d->dead);
}

static void all_letters(struct delivery *d, struct delivery_ask *a)
{
    a->lsns = xcalloc(wal_dead_count(d->dead) + 1, sizeof *a->lsns);
    a->lsns_n = wal_dead_lsns(d->dead, a->lsns);
}

static void drop(struct delivery *d, struct delivery_ask *a)
{
    if (!a->lsns)
        all_letters(d, a);
    if (wal_dead_remove(d->dead, a->lsns, a->lsns_n, &a->count, &a->err))
        die(EXIT_IO, "sink %s: %s", d->name, a->err.text);
    log_info("dead letters dropped", KS("sink", d->name), KU("letters", a->count));
    dead_counted(d);
    replay_room(d);
}

static void new_id(char id[RUN_ID_BYTES + 1])
{
    uint8_t bytes[RUN_ID_BYTES / 2];

    crypto_random(bytes, sizeof bytes);
    for (size_t i = 0; i < sizeof bytes; i++)
        snprintf(id + 2 * i, 3, "%02x", bytes[i]);
}

static uint64_t letters_there(struct delivery *d, const struct delivery_ask *a)
{
    uint64_t n = 0;

    for (size_t i = 0; i < a->lsns_n; i++)
        n += wal_dead_has(d->dead, a->lsns[i]);
    return n;
}

static void start(struct delivery *d, struct delivery_ask *a)
{
    struct wal_run run = { .state = RUN_GOING, .started_ms = clock_wall_ms() };

    new_id(run.id);
    if (a->what == ASK_REPLAY) {
        run.kind = RUN_REPLAY;
        run.from = a->from;
        run.to = a->to;
    } else {
        run.kind = RUN_REDRIVE;
        run.from = 1;
        run.to = wal_dead_last(d->dead);
        run.lsns = a->lsns;
        run.lsns_n = a->lsns_n;
        run.total = a->lsns ? letters_there(d, a) : wal_dead_count(d->dead);
        a->lsns = NULL;
        if (!run.total) {
            wal_run_free(&run);
            a->answer = ASK_NONE;
            return;
        }
    }
    run.at = run.from - 1;
    if (replay_start(d, &run, &a->err))
        a->answer = ASK_FAILED;
}

static void start_one(struct delivery *d, struct delivery_ask *a)
{
    if (!d->replay) {
        start(d, a);
        return;
    }
    a->answer = ASK_BUSY;
    err_set(&a->err, EXIT_TEMPORARY, "run %s of this sink is under way: wait for it or cancel it",
            d->run.id);
}

static void cancel(struct delivery *d, struct delivery_ask *a)
{
    if (!d->run.id[0] || strcmp(d->run.id, a->id))
        a->answer = ASK_NONE;
    else if (d->replay)
        replay_cancel(d);
}

/* What is under way is finished: it may be with the server already. */
static void pause_or_resume(struct delivery *d, struct delivery_ask *a)
{
    int64_t since = a->what == ASK_RESUME ? 0 : d->paused_ms ? d->paused_ms : clock_wall_ms();

    if (since == d->paused_ms)
        return;
    if (wal_cursor_pause(d->wal, d->name, since, &a->err)) {
        a->answer = ASK_FAILED;
        return;
    }
    pthread_mutex_lock(&d->lock);
    d->paused_ms = since;
    pthread_mutex_unlock(&d->lock);
    log_info(since ? "sink paused" : "sink resumed", KS("sink", d->name));
    window_pump(d);
    replay_go_on(d);
}

static void on_answer(struct msg *m, void *self)
{
    struct delivery_ask *a = container_of(m, struct delivery_ask, msg);

    a->done(a, self);
}

static void on_ask(struct msg *m, void *self)
{
    struct delivery_ask *a = container_of(m, struct delivery_ask, msg);
    struct delivery *d = self;

    switch (a->what) {
    case ASK_LETTERS:
        letters(d, a);
        break;
    case ASK_DROP:
        drop(d, a);
        break;
    case ASK_REDRIVE:
    case ASK_REPLAY:
        start_one(d, a);
        delivery_run(d, &a->run);
        break;
    case ASK_CANCEL:
        cancel(d, a);
        delivery_run(d, &a->run);
        break;
    case ASK_PAUSE:
    case ASK_RESUME:
        pause_or_resume(d, a);
        delivery_status(d, &a->run);
    }
    a->msg.deliver = on_answer;
    inbox_post(a->reply, &a->msg);
}

void delivery_ask(struct delivery *d, struct delivery_ask *a)
{
    a->msg.deliver = on_ask;
    inbox_post(&d->inbox, &a->msg);
}

void delivery_ask_free(struct delivery_ask *a)
{
    for (size_t i = 0; i < a->letters_n; i++)
        wal_letter_free(&a->letters[i]);
    free(a->letters);
    buf_free(&a->run);
    free(a->lsns);
}

/* --- what is shown of a run; any thread
 * -------------------------------------------------------------------------------- */

static void when(struct buf *json, const char *name, int64_t ms)
{
    char text[CLOCK_TEXT_MAX];

    if (ms)
        buf_printf(json, ",\"%s\":\"%s\"", name, clock_text(ms, text));
}

static void run_json(const struct delivery *d, struct buf *json)
{
    static const char *const ends[] = { [RUN_GOING] = "running",
                                        [RUN_DONE] = "done",
                                        [RUN_FAILED] = "failed",
                                        [RUN_CANCELLED] = "cancelled" };
    const struct wal_run *r = &d->run;
    const char *reason = r->reason, *state = ends[r->state];

    if (d->replay)
        state = replay_state(d->replay, &reason);
    if (d->replay && d->paused_ms)
        state = "paused";
    buf_printf(json,
               "{\"id\":\"%s\",\"kind\":\"%s\",\"sink\":\"%s\",\"state\":\"%s\",\"reason\":", r->id,
               r->kind == RUN_REPLAY ? "replay" : "redrive", d->name, state);
    buf_json_string(json, span_str(reason));
    buf_printf(json, ",\"from\":%llu,\"to\":%llu,\"lsn\":%llu", (unsigned long long)r->from,
               (unsigned long long)r->to, (unsigned long long)r->at);
    if (r->kind == RUN_REDRIVE)
        buf_printf(json, ",\"total\":%llu", (unsigned long long)r->total);
    buf_printf(json, ",\"delivered\":%llu,\"dead\":%llu", (unsigned long long)r->delivered,
               (unsigned long long)r->dead);
    when(json, "started_at", r->started_ms);
    when(json, "ended_at", r->ended_ms);
    buf_addc(json, '}');
}

bool delivery_run(const struct delivery *d, struct buf *json)
{
    pthread_mutex_t *lock = (pthread_mutex_t *)(uintptr_t)&d->lock;
    bool there;

    pthread_mutex_lock(lock);
    there = d->run.id[0];
    if (there)
        run_json(d, json);
    pthread_mutex_unlock(lock);
    return there;
}

bool delivery_run_is(const struct delivery *d, struct span id)
{
    pthread_mutex_t *lock = (pthread_mutex_t *)(uintptr_t)&d->lock;
    bool is;

    pthread_mutex_lock(lock);
    is = d->run.id[0] && span_eq(id, span_str(d->run.id));
    pthread_mutex_unlock(lock);
    return is;
}
