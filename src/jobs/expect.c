/* SPDX-License-Identifier: Apache-2.0 */
/* What we write ourselves: who is expected until when, who is not any more, and that one is
 * overdue.
 *
 * Nothing of it changes the table here: the records do, once they are durable and read back, the
 * same now as after a start. So an overdue event that reached the log is not written a second time,
 * and one that did not is. One record about a job is under way at a time, which keeps their order
 * that of their causes. Before the log forgets a record that still matters it is written again. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "json.h"
#include "room.h"

#define OPS_MAX 1024 /* overdue and repeated ones under way together */
#define KEEP_MS 1000

struct op {
    struct wal_append append;
    struct jobs *jobs;
    job_done *done; /* NULL: nobody asked */
    void *arg;
    struct buf id, source, body, event_id; /* source: the job's */
};

bool expected_parse(struct span body, struct expected *out)
{
    static const struct span names[] = { { "source", 6 }, { "deadline_ms", 11 }, { "asked", 5 } };
    struct json_value v[3];
    uint64_t deadline = 0;

    *out = (struct expected){ .asked_lsn = 0 };
    json_find_all(body, names, 3, v);
    out->source = v[0].type == JSON_STRING ? v[0].raw : SPAN_NONE;
    if (v[1].type != JSON_NUMBER || !span_u64(v[1].raw, &deadline) || deadline > INT64_MAX)
        return false;
    out->deadline_ms = (int64_t)deadline;
    return v[2].type == JSON_NUMBER && span_u64(v[2].raw, &out->asked_lsn);
}

static struct job *job_of(const struct op *op)
{
    return table_find(op->jobs, buf_as_span(&op->id), buf_as_span(&op->source));
}

static void on_back(struct msg *m, void *self UNUSED)
{
    struct op *op = container_of(container_of(m, struct wal_append, msg), struct op, append);
    struct jobs *j = op->jobs;
    struct job *job;

    if (!j->stopped && op->append.result == WAL_DURABLE)
        jobs_read_on(j);
    job = job_of(op);
    if (job && job->busy)
        job->busy--;
    if (job && op->append.result == WAL_DUPLICATE && job->deadline_ms)
        table_set_overdue(j, job, op->append.lsn, clock_wall_ms());
    j->ops--;
    if (op->done)
        op->done(op->arg, op->append.result);
    buf_free(&op->id);
    buf_free(&op->source);
    buf_free(&op->body);
    buf_free(&op->event_id);
    free(op);
}

static struct op *op_new(struct jobs *j, struct span id, struct span source, job_done *done,
                         void *arg)
{
    struct op *op = xcalloc(1, sizeof *op);

    op->jobs = j;
    op->done = done;
    op->arg = arg;
    buf_span(&op->id, id);
    buf_span(&op->source, source);
    return op;
}

static void submit(struct op *op, enum record_kind kind, const char *type)
{
    struct msg_list l = { NULL, NULL };
    struct job *job = job_of(op);

    op->append.rec = (struct record){ .kind = kind,
                                      .time_ms = clock_wall_ms(),
                                      .source = S(JOB_SOURCE),
                                      .id = buf_as_span(&op->event_id),
                                      .type = span_str(type),
                                      .subject = buf_as_span(&op->id),
                                      .content_type = S("application/json"),
                                      .body = buf_as_span(&op->body) };
    op->append.dedup = op->event_id.n != 0;
    op->append.reply = &op->jobs->inbox;
    op->append.done = on_back;
    if (job)
        job->busy++;
    op->jobs->ops++;
    msg_list_add(&l, &op->append.msg);
    wal_submit(op->jobs->wal, &l);
}

/* What expected_parse reads. */
static void begin_body(struct op *op, int64_t deadline_ms, uint64_t asked_lsn)
{
    buf_adds(&op->body, "{\"source\":");
    buf_json_string(&op->body, buf_as_span(&op->source));
    buf_printf(&op->body, ",\"deadline_ms\":%" PRId64 ",\"asked\":%" PRIu64, deadline_ms,
               asked_lsn);
}

bool jobs_expect(struct jobs *j, struct span id, struct span source, int64_t deadline_ms,
                 job_done *done, void *arg)
{
    struct op *op;

    jobs_read_on(j);
    if (j->list_n[LIST_EXPECTED] + j->ops >= (size_t)j->cfg->entries)
        return false;
    op = op_new(j, id, source, done, arg);
    begin_body(op, deadline_ms, 0);
    buf_addc(&op->body, '}');
    submit(op, RECORD_INTERNAL, EXPECTED_TYPE);
    return true;
}

bool jobs_forget(struct jobs *j, struct span id, struct span source, job_done *done, void *arg)
{
    struct job *job;
    struct op *op;

    jobs_read_on(j);
    job = table_find(j, id, source);
    if (!job)
        return false;
    op = op_new(j, job->name.id, span_str(job->source), done, arg);
    begin_body(op, 0, 0);
    buf_addc(&op->body, '}');
    submit(op, RECORD_INTERNAL, FORGOTTEN_TYPE);
    return true;
}

/* --- what is overdue
 * ---------------------------------------------------------------------------------------- */

/* Its id is that of the question, so that a log which already has it takes it for a repeat. */
static void tell_overdue(struct jobs *j, const struct job *job)
{
    struct op *op = op_new(j, job->name.id, span_str(job->source), NULL, NULL);
    char text[CLOCK_TEXT_MAX];

    buf_printf(&op->event_id, "%s-overdue-%" PRIu64, wal_log_id(j->wal), job->asked_lsn);
    begin_body(op, job->deadline_ms, job->asked_lsn);
    buf_adds(&op->body, ",\"job\":");
    buf_json_string(&op->body, job->name.id);
    buf_printf(&op->body, ",\"deadline\":\"%s\",\"last\":", clock_text(job->deadline_ms, text));
    if (job->lsn && job->type) {
        buf_adds(&op->body, "{\"type\":");
        buf_json_string(&op->body, span_str(job->type));
        buf_printf(&op->body, ",\"time\":\"%s\",\"lsn\":\"%" PRIu64 "\"}}",
                   clock_text(job->last_ms, text), job->lsn);
    } else {
        buf_adds(&op->body, "null}");
    }
    submit(op, RECORD_WEBHOOK, JOB_OVERDUE_TYPE);
}

static void look_for_overdue(struct jobs *j)
{
    int64_t now = clock_wall_ms();
    struct job *job;

    if (now < j->next_due_ms || !j->known)
        return;
    j->next_due_ms = INT64_MAX;
    for (job = TAILQ_FIRST(&j->lists[LIST_EXPECTED]); job; job = TAILQ_NEXT(job, link)) {
        if (job->deadline_ms <= now && !job->busy && j->ops < OPS_MAX)
            tell_overdue(j, job);
        j->next_due_ms = MIN(j->next_due_ms, job->deadline_ms);
    }
}

/* --- what must outlive the retained log
 * ------------------------------------------------------------------------------------- */

static void write_again(struct jobs *j, const struct job *job)
{
    struct op *op = op_new(j, job->name.id, span_str(job->source), NULL, NULL);

    begin_body(op, job->deadline_ms, job->asked_lsn);
    buf_addc(&op->body, '}');
    submit(op, RECORD_INTERNAL, EXPECTED_TYPE);
}

/* Trimming takes the oldest segment. A record in the older half of the log is written again, so it
 * is in the newer half long before its turn comes; there are few of them and that is seldom. */
static void keep(struct jobs *j)
{
    int64_t now = clock_mono_ms();
    struct wal_info i;
    struct job *job;
    uint64_t half;

    if (now < j->next_keep_ms || !j->known)
        return;
    j->next_keep_ms = now + KEEP_MS;
    wal_info(j->wal, &i);
    half = i.first_lsn + (i.durable_lsn - i.first_lsn) / 2;
    if (i.segments < 2 || i.durable_lsn < i.first_lsn)
        return;
    for (job = TAILQ_FIRST(&j->lists[LIST_EXPECTED]); job; job = TAILQ_NEXT(job, link))
        if (job->kept_lsn < half && !job->busy && j->ops < OPS_MAX)
            write_again(j, job);
}

void expect_tick(struct jobs *j)
{
    look_for_overdue(j);
    keep(j);
}
