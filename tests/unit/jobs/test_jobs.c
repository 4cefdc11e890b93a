/* SPDX-License-Identifier: Apache-2.0 */
/* The table of jobs over a real log: what records make of it, now and after a start; deadlines; who
 * waits. */
#include "harness.h"

/* --- states
 * ------------------------------------------------------------------------------------------- */

static const struct row {
    const char *name;
    const char *types[4]; /* of source `test`, all about job j */
    const char *want;
} rows[] = {
    { "progress", { "job.progress" }, "running" },
    { "needs somebody", { "job.requires_action" }, "waiting" },
    { "succeeded", { "job.progress", "job.succeeded" }, "succeeded" },
    { "failed", { "job.failed" }, "failed" },
    { "cancelled", { "job.requires_action", "job.cancelled" }, "cancelled" },
    { "progress that was overtaken", { "job.succeeded", "job.progress" }, "succeeded" },
    { "tried again", { "job.failed", "job.succeeded" }, "succeeded" },
    { "goes on", { "job.requires_action", "job.progress" }, "running" },
};

static void states(void **state)
{
    const struct row *r = *state;
    void *at;
    struct world *w;

    set_up_world(&at);
    w = at;
    for (size_t i = 0; i < ARRAY_LEN(r->types) && r->types[i]; i++)
        event_of(w, "test", r->types[i], S("j"));
    assert_string_equal(state_of(w, S("j"), ""), r->want);
    again(w);
    assert_string_equal(state_of(w, S("c/j"), "test"), r->want);
    assert_string_equal(state_of(w, S("j"), "other"), "unknown");
    tear_down_world(&at);
}

struct seen {
    unsigned n;
    char text[4096];
};

static void see(void *arg, const struct job_info *job)
{
    struct seen *s = arg;
    size_t at = strlen(s->text);

    s->n++;
    snprintf(s->text + at, sizeof s->text - at, "%.*s:%.*s:%s ", SPAN_FMT(job->source),
             SPAN_FMT(job->id), job->state);
}

static void the_list_is_newest_first(void **state)
{
    struct world *w = *state;
    struct seen all = { 0 }, ours = { 0 }, one = { 0 }, failed = { 0 };

    event_of(w, "test", "a.failed", S("1"));
    event_of(w, "other", "a.failed", S("2"));
    expect_job(w, S("3"), "", 3600000);
    event_of(w, "test", "a.progress", S("1"));
    event_of(w, "test", "a.progress", S("4"));
    event_of(w, "other", "a.failed", S("1"));
    event_of(w, "test", "a.failed", SPAN_NONE);
    for (int i = 0; i < 2; i++) {
        all = (struct seen){ 0 };
        jobs_list(w->jobs, SPAN_NONE, NULL, 100, see, &all);
        assert_string_equal(all.text, "other:1:running test:4:running :3:expected other:2:running "
                                      "test:1:failed ");
        again(w);
    }
    jobs_list(w->jobs, S("test"), NULL, 100, see, &ours);
    assert_string_equal(ours.text, "test:4:running test:1:failed ");
    jobs_list(w->jobs, SPAN_NONE, NULL, 1, see, &one);
    assert_int_equal(one.n, 1);
    jobs_list(w->jobs, SPAN_NONE, "failed", 100, see, &failed);
    assert_string_equal(failed.text, "test:1:failed ");
}

static void any_bytes_are_an_id(void **state)
{
    struct world *w = *state;
    char long_id[JOB_ID_MAX + 1];
    struct span odd = { "a/\0\xff\r\n\"{}%", 10 };

    memset(long_id, 'x', sizeof long_id);
    expect_job(w, odd, "", 3600000);
    assert_string_equal(state_of(w, odd, ""), "expected");
    event_of(w, "test", "a.succeeded", span_of(odd.p + 2, odd.n - 2));
    assert_string_equal(state_of(w, odd, ""), "succeeded");
    event_of(w, "test", "a.succeeded", span_of(long_id, sizeof long_id));
    event_of(w, "test", "a.succeeded", span_of(long_id, JOB_ID_MAX));
    assert_string_equal(state_of(w, span_of(long_id, sizeof long_id), ""), "unknown");
    assert_string_equal(state_of(w, span_of(long_id, JOB_ID_MAX), ""), "succeeded");
}

static void the_oldest_finished_goes_first(void **state)
{
    struct world *w = *state;
    char id[16];

    event_of(w, "test", "a.progress", S("going"));
    expect_job(w, S("expected"), "", 3600000);
    for (int i = 0; i < 98; i++)
        event_of(w, "test", "a.succeeded", span_of(id, (size_t)sprintf(id, "done-%d", i)));
    assert_string_equal(state_of(w, S("done-0"), ""), "succeeded");
    event_of(w, "test", "a.progress", S("new"));
    assert_string_equal(state_of(w, S("done-0"), ""), "unknown");
    assert_string_equal(state_of(w, S("done-1"), ""), "succeeded");
    assert_string_equal(state_of(w, S("going"), ""), "running");
    for (int i = 0; i < 97; i++)
        event_of(w, "test", "a.progress", span_of(id, (size_t)sprintf(id, "going-%d", i)));
    assert_string_equal(state_of(w, S("going"), ""), "running");
    event_of(w, "test", "a.progress", S("newer"));
    assert_string_equal(state_of(w, S("going"), ""), "unknown");
    assert_string_equal(state_of(w, S("expected"), ""), "expected");
}

static void a_table_of_expected_ones_takes_no_more(void **state)
{
    struct world *w = *state;
    int result;
    char id[16];

    for (int i = 0; i < 100; i++)
        expect_job(w, span_of(id, (size_t)sprintf(id, "%d", i)), "", 3600000);
    assert_false(
        jobs_expect(w->jobs, S("more"), SPAN_NONE, clock_wall_ms() + 1000, on_written, &result));
    event_of(w, "test", "a.progress", S("stranger"));
    assert_string_equal(state_of(w, S("stranger"), ""), "unknown");
    assert_string_equal(state_of(w, S("0"), ""), "expected");
    event_of(w, "test", "a.failed", S("0"));
    expect_job(w, S("more"), "", 3600000);
    assert_string_equal(state_of(w, S("more"), ""), "expected");
}

/* --- deadlines
 * ---------------------------------------------------------------------------------------- */

static void overdue_once(void **state)
{
    struct world *w = *state;

    expect_job(w, S("c/late"), "test", 1);
    expect_job(w, S("in-time"), "", 3600000);
    EVENTUALLY(w, !strcmp(state_of(w, S("late"), ""), "overdue"));
    for (int i = 0; i < 3; i++) {
        again(w);
        for (int k = 0; k < 50; k++)
            turn(w);
        expect_tick(w->jobs);
        assert_string_equal(state_of(w, S("late"), "test"), "overdue");
        assert_string_equal(state_of(w, S("in-time"), ""), "expected");
    }
    assert_int_equal(count_type(w, JOB_OVERDUE_TYPE), 1);
    event_of(w, "test", "a.succeeded", S("late")); /* after all */
    assert_string_equal(state_of(w, S("late"), ""), "succeeded");
}

/* The process was not there when the deadline passed. */
static void overdue_after_a_start(void **state)
{
    struct world *w = *state;

    expect_job(w, S("late"), "", 300);
    close_all(w);
    usleep(400000);
    open_log(w->box);
    open_jobs(w);
    EVENTUALLY(w, !strcmp(state_of(w, S("late"), ""), "overdue"));
    assert_int_equal(count_type(w, JOB_OVERDUE_TYPE), 1);
}

/* It was written, and the process ended before it was read back. */
static void overdue_that_was_written_is_not_written_again(void **state)
{
    struct world *w = *state;

    expect_job(w, S("late"), "", 1);
    usleep(20000);
    expect_tick(w->jobs);
    assert_int_equal(w->jobs->ops, 1);
    close_all(w);
    open_log(w->box);
    open_jobs(w);
    EVENTUALLY(w, !strcmp(state_of(w, S("late"), ""), "overdue"));
    for (int k = 0; k < 50; k++)
        turn(w);
    assert_int_equal(count_type(w, JOB_OVERDUE_TYPE), 1);
}

/* Even a table that does not know of it does not make the log hold it twice. */
static void overdue_is_a_repeat_to_the_log(void **state)
{
    struct world *w = *state;
    struct job *job;

    expect_job(w, S("late"), "", 1);
    EVENTUALLY(w, !strcmp(state_of(w, S("late"), ""), "overdue"));
    job = table_find(w->jobs, S("late"), SPAN_NONE);
    TAILQ_REMOVE(&w->jobs->lists[job->list], job, link);
    w->jobs->list_n[job->list]--;
    job->list = LIST_EXPECTED;
    job->overdue = false;
    job->deadline_ms = 1;
    w->jobs->next_due_ms = 0;
    TAILQ_INSERT_TAIL(&w->jobs->lists[LIST_EXPECTED], job, link);
    w->jobs->list_n[LIST_EXPECTED]++;
    EVENTUALLY(w, job->overdue && !job->deadline_ms);
    assert_int_equal(count_type(w, JOB_OVERDUE_TYPE), 1);
}

static void a_final_event_ends_the_deadline(void **state)
{
    struct world *w = *state;

    expect_job(w, S("c/j"), "", 600);
    event_of(w, "test", "a.progress", S("j"));
    event_of(w, "test", "a.failed", S("j"));
    event_of(w, "test", "a.failed", S("before"));
    expect_job(w, S("c/before"), "", 600); /* it was faster than the one who asked */
    usleep(700000);
    for (int k = 0; k < 1500; k++)
        turn(w);
    assert_string_equal(state_of(w, S("j"), ""), "failed");
    assert_string_equal(state_of(w, S("before"), ""), "failed");
    assert_int_equal(count_type(w, JOB_OVERDUE_TYPE), 0);
}

static void a_later_deadline_holds(void **state)
{
    struct world *w = *state;
    struct job_info info;

    expect_job(w, S("j"), "", 50);
    expect_job(w, S("j"), "", 3600000);
    usleep(100000);
    expect_tick(w->jobs);
    assert_string_equal(state_of(w, S("j"), ""), "expected");
    expect_job(w, S("j"), "", 1);
    EVENTUALLY(w, !strcmp(state_of(w, S("j"), ""), "overdue"));
    expect_job(w, S("j"), "", 3600000); /* once more */
    assert_string_equal(state_of(w, S("j"), ""), "expected");
    expect_job(w, S("j"), "", 1);
    EVENTUALLY(w, count_type(w, JOB_OVERDUE_TYPE) == 2);
    again(w);
    assert_true(jobs_find(w->jobs, S("j"), SPAN_NONE, &info));
    assert_string_equal(info.state, "overdue");
    assert_int_equal(info.deadline_ms, 0);
}

static void what_is_forgotten_stays_forgotten(void **state)
{
    struct world *w = *state;
    int result = -1;

    expect_job(w, S("c/j"), "", 200);
    assert_false(jobs_forget(w->jobs, S("other"), SPAN_NONE, on_written, &result));
    assert_true(jobs_forget(w->jobs, S("j"), SPAN_NONE, on_written, &result));
    EVENTUALLY(w, result == WAL_DURABLE);
    assert_string_equal(state_of(w, S("j"), ""), "unknown");
    usleep(250000);
    again(w);
    expect_tick(w->jobs);
    assert_string_equal(state_of(w, S("j"), ""), "unknown");
    assert_int_equal(count_type(w, JOB_OVERDUE_TYPE), 0);
}

/* The log turns over many times; the record that says who is expected does not get lost. */
static void a_deadline_outlives_the_retained_log(void **state)
{
    struct world *w = *state;
    struct wal_info i;
    struct job_info before, after;
    char *body = calloc(1, 8192);

    memset(body, 'b', 8191);
    close_all(w);
    w->box->cfg.retain_bytes = 4 * SEGMENT;
    open_log(w->box);
    open_jobs(w);
    expect_job(w, S("long"), "test", 3600000);
    event_of(w, "test", "a.succeeded", S("old"));
    jobs_find(w->jobs, S("long"), SPAN_NONE, &before);
    wal_info(w->box->wal, &i);
    for (int n = 0; i.first_lsn < 100; n++) {
        struct one o;
        prepare(w->box, &o, "", body, false);
        submit(w->box, &o);
        w->jobs->next_keep_ms = 0;
        expect_tick(w->jobs);
        turn(w);
        wal_info(w->box->wal, &i);
        assert_true(n < 20000);
    }
    again(w);
    assert_true(jobs_find(w->jobs, S("long"), SPAN_NONE, &after));
    assert_string_equal(after.state, "expected");
    assert_int_equal(after.deadline_ms, before.deadline_ms);
    assert_string_equal(state_of(w, S("old"), ""), "unknown");
    free(body);
}

/* --- waiting
 * ------------------------------------------------------------------------------------------ */

struct told {
    unsigned n;
    uint64_t lsn;
    char state[16];
    struct job_wait *cancels;
};

static void on_told(void *arg, const struct job_told *t)
{
    struct told *told = arg;

    told->n++;
    told->lsn = t->rec ? t->rec->lsn : 0;
    snprintf(told->state, sizeof told->state, "%s", t->state ? t->state : "");
    if (told->cancels)
        jobs_wait_cancel(told->cancels);
}

static struct job_wait *wait_for(struct world *w, struct told *t, struct job_question q)
{
    q.wait_ms = q.wait_ms ? q.wait_ms : 60000;
    return jobs_wait(w->jobs, &q, on_told, t);
}

static void who_waits_is_told(void **state)
{
    struct world *w = *state;
    struct told final = { 0 }, any = { 0 }, later = { 0 }, ours = { 0 }, other = { 0 };
    uint64_t first, last;

    first = event_of(w, "test", "a.progress", S("c/j"));
    assert_string_equal(state_of(w, S("j"), ""), "running");
    assert_non_null(wait_for(w, &final, (struct job_question){ .id = S("j") }));
    wait_for(w, &any, (struct job_question){ .id = S("c/j"), .any = true });
    wait_for(w, &later, (struct job_question){ .id = S("j"), .any = true, .after = first + 1 });
    wait_for(w, &ours, (struct job_question){ .id = S("j"), .source = S("test") });
    wait_for(w, &other, (struct job_question){ .id = S("j"), .source = S("other"), .wait_ms = 1 });
    event_of(w, "test", "a.requires_action", S("j"));
    EVENTUALLY(w, any.n);
    assert_string_equal(any.state, "waiting");
    assert_int_equal(final.n + later.n + ours.n, 0);
    event_of(w, "test", "a.succeeded", S("x/j")); /* another collection */
    last = event_of(w, "test", "a.failed", S("c/j"));
    EVENTUALLY(w, ours.n && later.n && other.n);
    assert_string_equal(ours.state, "succeeded"); /* without one, "j" is either */
    assert_int_equal(ours.lsn, last - 1);
    assert_int_equal(final.n + any.n + later.n + ours.n, 4);
    assert_int_equal(other.lsn, 0);
    assert_int_equal(w->jobs->waits_n, 0);
}

static void an_overdue_event_is_an_event(void **state)
{
    struct world *w = *state;
    struct told any = { 0 }, final = { 0 };
    struct job_wait *left;

    wait_for(w, &any, (struct job_question){ .id = S("j"), .any = true });
    left = wait_for(w, &final, (struct job_question){ .id = S("j") });
    expect_job(w, S("c/j"), "", 1);
    EVENTUALLY(w, any.n);
    assert_string_equal(any.state, "overdue");
    assert_int_equal(final.n, 0);
    jobs_wait_cancel(left);
}

static void there_are_limits_to_waiting(void **state)
{
    struct world *w = *state;
    struct told t[101] = { { 0 } };
    struct job_wait *one = NULL;
    unsigned n = 0;

    for (int i = 0; i < 100; i++)
        assert_non_null(one = wait_for(w, &t[i], (struct job_question){ .id = S("c/j") }));
    assert_null(wait_for(w, &t[100], (struct job_question){ .id = S("j") }));
    jobs_wait_cancel(one);
    assert_non_null(one = wait_for(w, &t[100], (struct job_question){ .id = S("j") }));
    event_of(w, "test", "a.succeeded", S("j"));
    EVENTUALLY(w, t[100].n && t[98].n);
    for (int i = 0; i < 101; i++)
        n += t[i].n;
    assert_int_equal(n, 100);
    assert_int_equal(t[99].n, 0);
}

/* One that is about to be told as well. */
static void who_is_told_may_cancel_another(void **state)
{
    struct world *w = *state;
    struct told a = { 0 }, b = { 0 };
    struct job_wait *first = wait_for(w, &a, (struct job_question){ .id = S("j") });

    b.cancels = first;
    a.cancels = wait_for(w, &b, (struct job_question){ .id = S("j") });
    event_of(w, "test", "a.succeeded", S("j"));
    EVENTUALLY(w, a.n + b.n);
    for (int k = 0; k < 20; k++)
        turn(w);
    assert_int_equal(a.n + b.n, 1);
    assert_int_equal(w->jobs->waits_n, 0);
}

static void a_stop_tells_all(void **state)
{
    struct world *w = *state;
    struct told a = { 0 }, b = { 0 };

    wait_for(w, &a, (struct job_question){ .id = S("j") });
    wait_for(w, &b, (struct job_question){ .id = S("k"), .any = true });
    jobs_stop(w->jobs);
    assert_int_equal(a.n, 1);
    assert_int_equal(b.n, 1);
    assert_int_equal(a.lsn + b.lsn, 0);
    assert_null(wait_for(w, &a, (struct job_question){ .id = S("j") }));
}

/* What a body of ours cannot be is no record of ours. */
static const struct body_row {
    const char *name, *body;
    bool good;
    uint64_t asked;
    const char *source;
} body_rows[] = {
    { "a first one", "{\"source\":\"\",\"deadline_ms\":5,\"asked\":0}", true, 0, "" },
    { "said again", "{\"source\":\"s\",\"deadline_ms\":5,\"asked\":7,\"more\":1}", true, 7, "s" },
    { "no deadline", "{\"source\":\"s\",\"asked\":7}", false, 0, "s" },
    { "negative", "{\"source\":\"\",\"deadline_ms\":-5,\"asked\":0}", false, 0, "" },
    { "too large", "{\"source\":\"\",\"deadline_ms\":18446744073709551615,\"asked\":0}", false, 0,
      "" },
    { "not JSON", "deadline", false, 0, "" },
    { "nothing", "", false, 0, "" },
};

static void bodies(void **state)
{
    const struct body_row *r = *state;
    struct expected x;

    assert_int_equal(expected_parse(span_str(r->body), &x), r->good);
    if (!r->good)
        return;
    assert_int_equal(x.asked_lsn, r->asked);
    assert_true(span_eq(x.source, span_str(r->source)));
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up_world, tear_down_world)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        T(the_list_is_newest_first),
        T(any_bytes_are_an_id),
        T(the_oldest_finished_goes_first),
        T(a_table_of_expected_ones_takes_no_more),
        T(overdue_once),
        T(overdue_after_a_start),
        T(overdue_that_was_written_is_not_written_again),
        T(overdue_is_a_repeat_to_the_log),
        T(a_final_event_ends_the_deadline),
        T(a_later_deadline_holds),
        T(what_is_forgotten_stays_forgotten),
        T(a_deadline_outlives_the_retained_log),
        T(who_waits_is_told),
        T(an_overdue_event_is_an_event),
        T(there_are_limits_to_waiting),
        T(who_is_told_may_cancel_another),
        T(a_stop_tells_all),
    };

    log_init(LOG_TEXT, LOG_ERROR);
    return T_TABLE(rows, states) + T_TABLE(body_rows, bodies) + T_RUN(tests);
}
