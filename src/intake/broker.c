/* SPDX-License-Identifier: Apache-2.0 */
/* `ack: broker`: a sender whose record is durable waits on until every sink that takes the event
 * has it, or has it in its dead letters.
 *
 * A sink passes LSNs in their order, so it has a record once it has passed that LSN. A request
 * waits for one sink at a time, in a heap by LSN, and goes on to the next sink that takes it and
 * has not come so far. The sink's thread posts one message, however many records it has passed, and
 * only while something waits. A repeat waits by the LSN of the first. Filters change only with a
 * restart, so what a record waits for does not change while it does. */
#include <string.h>

#include "room.h"

static void put(struct sink_queue *q, size_t i, struct pending *p)
{
    q->heap[i] = p;
    p->place = i;
}

static bool before(const struct pending *a, const struct pending *b)
{
    return a->append.lsn < b->append.lsn;
}

/* Puts p where the gap at i moves to. */
static void settle(struct sink_queue *q, size_t i, struct pending *p)
{
    size_t child;

    for (; i && before(p, q->heap[(i - 1) / 2]); i = (i - 1) / 2)
        put(q, i, q->heap[(i - 1) / 2]);
    while ((child = 2 * i + 1) < q->n) {
        child += child + 1 < q->n && before(q->heap[child + 1], q->heap[child]);
        if (!before(q->heap[child], p))
            break;
        put(q, i, q->heap[child]);
        i = child;
    }
    put(q, i, p);
}

static void push(struct sink_queue *q, struct pending *p)
{
    if (q->n == q->cap) {
        q->cap = q->cap ? 2 * q->cap : 64;
        q->heap = xrealloc(q->heap, q->cap * sizeof(struct pending *));
    }
    q->n++;
    settle(q, q->n - 1, p);
}

void broker_leave(struct intake_thread *t, struct pending *p)
{
    struct sink_queue *q = &t->queues[p->sink];
    struct pending *last = q->heap[--q->n];

    t->parked_n--;
    if (last != p)
        settle(q, p->place, last);
}

static bool is_routed(const struct intake_sink *s, const struct record *rec)
{
    return span_glob(span_str(s->match_source), rec->source) &&
           span_glob(span_str(s->match_type), rec->type);
}

/* From p->sink on: the first sink that takes it and has not passed it. */
static bool wait_for_next(struct intake_thread *t, struct pending *p)
{
    for (; p->sink < t->in->sinks_n; p->sink++) {
        struct sink_queue *q = &t->queues[p->sink];
        if (!is_routed(&t->in->sinks[p->sink], &p->append.rec) ||
            progress_at(q->passed) >= p->append.lsn)
            continue;
        progress_watch_arm(q->passed, &q->watch);
        if (progress_at(q->passed) >= p->append.lsn)
            continue; /* passed before the watch was armed */
        push(q, p);
        p->stage = AT_SINK;
        t->parked_n++;
        return true;
    }
    return false;
}

bool broker_wait(struct intake_thread *t, struct pending *p)
{
    p->sink = 0;
    return wait_for_next(t, p);
}

static void on_moved(struct progress_watch *watch, void *self)
{
    struct sink_queue *q = container_of(watch, struct sink_queue, watch);
    struct intake_thread *t = self;

    while (q->n) {
        struct pending *p = q->heap[0];
        if (progress_at(q->passed) < p->append.lsn) {
            progress_watch_arm(q->passed, &q->watch);
            if (progress_at(q->passed) < p->append.lsn)
                return;
        }
        broker_leave(t, p);
        if (!wait_for_next(t, p))
            intake_confirm(t, p);
    }
}

void broker_start(struct intake_thread *t)
{
    t->queues = xcalloc(t->in->sinks_n + 1, sizeof *t->queues);
    for (size_t i = 0; i < t->in->sinks_n; i++) {
        struct sink_queue *q = &t->queues[i];
        *q = (struct sink_queue){ .watch = { .in = &t->inbox, .moved = on_moved },
                                  .passed = t->in->sinks[i].passed };
        progress_watch_add(q->passed, &q->watch);
    }
}

void broker_stop(struct intake_thread *t)
{
    for (size_t i = 0; i < t->in->sinks_n; i++) {
        progress_watch_remove(t->queues[i].passed, &t->queues[i].watch);
        free(t->queues[i].heap);
    }
    free(t->queues);
}
