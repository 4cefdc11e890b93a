/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs over a real log, on a loop that the test turns. Source `test` has outcomes, `other` has
 * none.
 */
#pragma once

#include "wal/box.h"

#include "jobs/room.h"
#include "source/harness.h"

#define OUTCOMES                                                                                   \
    "provider: none\noutcome: { succeeded: ['*.succeeded'], failed: ['*.failed'], cancelled: "     \
    "['*.cancelled'], waiting: ['*.requires_action'] }\n"

struct world {
    struct box *box;
    struct event_base *base;
    struct jobs_cfg cfg;
    struct made made;
    struct source_plan *plans[1];
    struct jobs *jobs;
};

static UNUSED void open_jobs(struct world *w)
{
    w->jobs = jobs_open(w->box->wal, w->base, &w->cfg);
    jobs_plans(w->jobs, w->plans, 1);
}

static UNUSED void turn(struct world *w)
{
    event_base_loop(w->base, EVLOOP_NONBLOCK);
    inbox_run(&w->box->in, w->box);
    usleep(200);
}

/* Turns the loop; a generous deadline against waiting for ever. */
#define EVENTUALLY(w, what)                                                                        \
    do {                                                                                           \
        int64_t until_ = clock_mono_ms() + 30000;                                                  \
        while (!(what)) {                                                                          \
            turn(w);                                                                               \
            if (clock_mono_ms() > until_)                                                          \
                fail_msg("never: %s", #what);                                                      \
        }                                                                                          \
    } while (0)

static UNUSED int set_up_world(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    void *box;

    set_up(&box);
    w->box = box;
    w->base = event_base_new();
    w->cfg = (struct jobs_cfg){ .entries = 100, .waiters = 100 };
    make_good(&w->made, OUTCOMES);
    w->plans[0] = w->made.plan;
    open_log(w->box);
    open_jobs(w);
    EVENTUALLY(w, jobs_ready(w->jobs));
    *state = w;
    return 0;
}

static UNUSED void close_all(struct world *w)
{
    jobs_stop(w->jobs);
    wal_close(w->box->wal);
    w->box->wal = NULL;
    jobs_free(w->jobs);
    w->jobs = NULL;
}

static UNUSED int tear_down_world(void **state)
{
    struct world *w = *state;
    void *box = w->box;

    close_all(w);
    event_base_free(w->base);
    unmake(&w->made);
    free(w);
    return tear_down(&box);
}

static UNUSED void again(struct world *w)
{
    close_all(w);
    open_log(w->box);
    open_jobs(w);
    EVENTUALLY(w, jobs_ready(w->jobs));
}

static UNUSED uint64_t event_of(struct world *w, const char *source, const char *type,
                                struct span subject)
{
    struct one o;

    prepare(w->box, &o, "", "{}", false);
    o.append.rec.source = span_str(source);
    o.append.rec.type = span_str(type);
    o.append.rec.subject = subject;
    submit(w->box, &o);
    assert_int_equal(o.append.result, WAL_DURABLE);
    return o.append.lsn;
}

static UNUSED void on_written(void *arg, enum wal_result result)
{
    *(int *)arg = (int)result;
}

static UNUSED void expect_job(struct world *w, struct span id, const char *source, int64_t in_ms)
{
    int result = -1;

    assert_true(
        jobs_expect(w->jobs, id, span_str(source), clock_wall_ms() + in_ms, on_written, &result));
    EVENTUALLY(w, result >= 0);
    assert_int_equal(result, WAL_DURABLE);
}

static UNUSED const char *state_of(struct world *w, struct span id, const char *source)
{
    struct job_info info;

    return jobs_find(w->jobs, id, span_str(source), &info) ? info.state : "unknown";
}

/* How many records of that type the log holds. */
static UNUSED unsigned count_type(struct world *w, const char *type)
{
    struct err e = ERR_INIT;
    struct wal_reader *r;
    struct wal_info i;
    struct record rec;
    unsigned n = 0;

    wal_info(w->box->wal, &i);
    assert_int_equal(wal_reader_open(&r, w->box->wal, i.first_lsn - 1, &e), 0);
    while (wal_reader_next(r, &rec, NULL, &e) == WAL_READ_OK)
        n += span_eq(rec.type, span_str(type));
    wal_reader_close(r);
    return n;
}
