/* SPDX-License-Identifier: Apache-2.0 */
/* /v1/jobs: await a job, see what is known, say which are expected.
 *
 * One who waits holds a connection, a few hundred bytes, and nothing else: the request is let go at
 * once. The answer ends the connection then. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "jobs.h"
#include "room.h"

#define LIST_MOST 10000
#define DEADLINE_MAX_MS (366LL * 24 * 3600 * 1000)
#define SOURCE_MAX 63

struct awaiting {
    struct admin *admin;
    struct net_stream *stream;
    struct job_wait *wait;
    uint64_t id; /* of the request */
    bool head, http10;
};

/* --- parts of answers
 * ------------------------------------------------------------------------------------------- */

static void log_headers(struct admin *a, struct buf *out)
{
    struct wal_info i;

    buf_adds(out, "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n");
    if (!a->view->wal)
        return;
    wal_info(a->view->wal, &i);
    buf_printf(out, "Hookline-Log: %s\r\nHookline-First: %" PRIu64 "\r\n", i.id, i.first_lsn);
}

/* False: it is no longer retained, or cannot be read. */
static bool put_event(struct admin *a, uint64_t lsn, struct buf *out)
{
    struct err e = ERR_INIT;
    struct wal_reader *r;
    struct record rec;
    bool good;

    if (!lsn || !a->view->wal)
        return false;
    if (wal_reader_open(&r, a->view->wal, lsn - 1, &e))
        die(EXIT_IO, "%s", e.text);
    good = wal_reader_next(r, &rec, NULL, &e) == WAL_READ_OK && rec.lsn == lsn;
    if (good)
        admin_event_json(out, &rec, wal_log_id(a->view->wal));
    wal_reader_close(r);
    return good;
}

static void put_time(struct buf *b, const char *name, int64_t ms)
{
    char text[CLOCK_TEXT_MAX];

    buf_printf(b, ms ? ",\"%s\":\"%s\"" : ",\"%s\":null", name, clock_text(ms, text));
}

/* 404 says what is known. */
static int no_event(struct admin *a, const struct job_question *q, struct buf *body)
{
    bool ready = jobs_ready(a->view->jobs);
    struct job_info info;
    size_t mark;

    if (a->view->stopping || (!jobs_find(a->view->jobs, q->id, q->source, &info) && !ready)) {
        buf_printf(body, "{\"error\":\"%s\",\"detail\":\"%s\"}\n",
                   ready ? "shutting_down" : "recovering",
                   ready ? "the bridge is being stopped" : "the log is being read");
        return 503;
    }
    if (!jobs_find(a->view->jobs, q->id, q->source, &info))
        info = (struct job_info){ .state = NULL };
    buf_printf(body,
               "{\"error\":\"not_found\",\"detail\":\"no %sevent of that job yet\",\"state\":",
               q->any ? "such " : "final ");
    if (info.state)
        buf_json_string(body, span_str(info.state));
    else
        buf_adds(body, "null");
    put_time(body, "deadline", info.deadline_ms);
    buf_adds(body, ",\"last\":");
    mark = body->n;
    if (!put_event(a, info.lsn, body)) {
        body->n = mark;
        buf_adds(body, "null");
    }
    buf_adds(body, "}\n");
    return 404;
}

/* --- waiting
 * -------------------------------------------------------------------------------------------- */

static void on_gone(void *arg)
{
    struct awaiting *w = arg;

    if (!w->wait)
        return; /* it is being answered */
    jobs_wait_cancel(w->wait);
    free(w);
}

static void on_told(void *arg, const struct job_told *t)
{
    const struct job_question q = { .id = t->id, .source = t->source };
    struct buf out = BUF_INIT, extra = BUF_INIT, body = BUF_INIT;
    struct awaiting *w = arg;
    struct http_reply r = {
        .status = 200, .id = w->id, .close = true, .head = w->head, .http10 = w->http10
    };

    w->wait = NULL;
    r.content_type = t->rec ? "application/cloudevents+json" : "application/json";
    log_headers(w->admin, &extra);
    if (t->rec) {
        buf_printf(&extra, "Hookline-Outcome: %s\r\n", t->state);
        admin_event_json(&body, t->rec, wal_log_id(w->admin->view->wal));
    } else {
        r.status = no_event(w->admin, &q, &body);
        buf_adds(&extra, r.status == 503 ? "Retry-After: 1\r\n" : "");
    }
    r.extra = buf_as_span(&extra);
    r.body = buf_as_span(&body);
    http_write_reply(&out, &r);
    net_stream_finish(w->stream, buf_as_span(&out));
    free(w);
    buf_free(&out);
    buf_free(&extra);
    buf_free(&body);
}

static void wait_for(struct admin *a, struct net_request *req, const struct job_question *q)
{
    struct awaiting *w = xcalloc(1, sizeof *w);

    *w = (struct awaiting){ .admin = a,
                            .id = req->id,
                            .head = req->http.method == METHOD_HEAD,
                            .http10 = req->http.http10 };
    w->wait = jobs_wait(a->view->jobs, q, on_told, w);
    if (!w->wait) {
        net_answer_error(req, HTTP_ERR_OVERLOADED, "too many wait for jobs already", NULL);
        free(w);
        return;
    }
    w->stream = net_answer_later(req, on_gone, w);
    if (!w->stream) {
        jobs_wait_cancel(w->wait);
        free(w);
    }
}

/* Now, since it is there, or since nobody wants to wait. */
static void answer_now(struct admin *a, struct net_request *req, const struct job_question *q,
                       uint64_t lsn, const struct job_info *info)
{
    struct buf extra = BUF_INIT, body = BUF_INIT;
    int status = 200;

    log_headers(a, &extra);
    if (lsn)
        buf_printf(&extra, "Hookline-Outcome: %s\r\n", info->state);
    if (lsn && !put_event(a, lsn, &body)) {
        status = 410;
        buf_printf(&body,
                   "{\"error\":\"gone\",\"detail\":\"the event is no longer retained\","
                   "\"state\":\"%s\"}\n",
                   info->state);
    } else if (!lsn) {
        status = no_event(a, q, &body);
    }
    net_answer(req,
               &(struct http_reply){ .status = status,
                                     .content_type = status == 200 ? "application/cloudevents+json"
                                                                   : "application/json",
                                     .extra = buf_as_span(&extra),
                                     .body = buf_as_span(&body) });
    buf_free(&extra);
    buf_free(&body);
}

static bool read_wait(struct span text, int64_t *ms)
{
    uint64_t s;

    if (span_u64(text, &s))
        *ms = (int64_t)MIN(s, (uint64_t)JOB_WAIT_MAX_MS) * 1000;
    else if (!cfg_msec(text, ms))
        return false;
    *ms = MIN(*ms, (int64_t)JOB_WAIT_MAX_MS);
    return true;
}

struct params {
    struct buf wait, source, until, after;
};

static void params_free(struct params *p)
{
    buf_free(&p->wait);
    buf_free(&p->source);
    buf_free(&p->until);
    buf_free(&p->after);
}

/* What is wrong with them, NULL: nothing. */
static const char *read_question(struct span query, struct params *p, struct job_question *q)
{
    if (http_query_get(query, S("wait"), &p->wait) &&
        !read_wait(buf_as_span(&p->wait), &q->wait_ms))
        return "wait is a number of seconds";
    if (http_query_get(query, S("after"), &p->after) &&
        !span_u64(buf_as_span(&p->after), &q->after))
        return "after is an LSN";
    if (http_query_get(query, S("until"), &p->until)) {
        q->any = span_eq(buf_as_span(&p->until), S("any"));
        if (!q->any && !span_eq(buf_as_span(&p->until), S("final")))
            return "until is final or any";
    }
    http_query_get(query, S("source"), &p->source);
    q->source = buf_as_span(&p->source);
    return q->source.n > SOURCE_MAX ? "no source has such a name" : NULL;
}

static void get(struct admin *a, struct net_request *req, struct span id)
{
    struct job_question q = { .id = id };
    struct params p = { .wait = BUF_INIT };
    struct job_info info;
    const char *bad = read_question(http_query(&req->http, req->bytes), &p, &q);
    uint64_t lsn = bad ? 0 : jobs_answer(a->view->jobs, &q, &info);

    if (bad)
        admin_reply_error(req, 400, "bad_parameter", bad);
    else if (lsn || !q.wait_ms)
        answer_now(a, req, &q, lsn, &info);
    else
        wait_for(a, req, &q);
    params_free(&p);
}

/* --- expecting
 * ------------------------------------------------------------------------------------------ */

static void on_written(void *arg, enum wal_result result)
{
    static const enum http_error errors[] = { [WAL_FULL] = HTTP_ERR_STORAGE_FULL,
                                              [WAL_BACKLOG_FULL] = HTTP_ERR_BACKLOG_FULL,
                                              [WAL_FAILED] = HTTP_ERR_STORAGE_FAILED };
    struct net_request *req = arg;

    if (result == WAL_DURABLE || result == WAL_DUPLICATE)
        net_answer(
            req, &(struct http_reply){ .status = 204, .extra = S("Cache-Control: no-store\r\n") });
    else
        net_answer_error(req, errors[result], NULL, NULL);
}

static void put(struct admin *a, struct net_request *req, struct span id)
{
    struct span query = http_query(&req->http, req->bytes);
    struct buf deadline = BUF_INIT, source = BUF_INIT;
    int64_t ms = 0;

    http_query_get(query, S("source"), &source);
    if (!http_query_get(query, S("deadline"), &deadline) ||
        !cfg_msec(buf_as_span(&deadline), &ms) || ms <= 0 || ms > DEADLINE_MAX_MS)
        admin_reply_error(req, 400, "bad_parameter",
                          "deadline is a time from now such as 90s or 2h, at most 366d");
    else if (source.n > SOURCE_MAX)
        admin_reply_error(req, 400, "bad_parameter", "no source has such a name");
    else if (!jobs_expect(a->view->jobs, id, buf_as_span(&source), clock_wall_ms() + ms, on_written,
                          req))
        net_answer_error(req, HTTP_ERR_OVERLOADED, "as many jobs as may be are expected", NULL);
    buf_free(&deadline);
    buf_free(&source);
}

static void forget(struct admin *a, struct net_request *req, struct span id)
{
    struct buf source = BUF_INIT;

    http_query_get(http_query(&req->http, req->bytes), S("source"), &source);
    if (!jobs_forget(a->view->jobs, id, buf_as_span(&source), on_written, req))
        admin_reply_error(req, 404, "not_found", "no such job is known");
    buf_free(&source);
}

void admin_job(struct admin *a, struct net_request *req, struct span escaped)
{
    struct buf id = BUF_INIT;
    struct span s;

    if (!admin_method(req, METHODS_GET | METHODS_PUT | METHODS_DELETE, "GET, HEAD, PUT, DELETE"))
        return;
    if (!a->view->jobs) {
        admin_reply_error(req, 404, "not_found", "no jobs are kept (jobs.entries is 0)");
    } else if (!http_unescape(escaped, &id) || !id.n || id.n > JOB_ID_MAX) {
        admin_reply_error(req, 400, "bad_parameter", "the id is 1 to 1024 bytes, percent-encoded");
    } else {
        s = buf_as_span(&id);
        if (req->http.method == METHOD_PUT)
            put(a, req, s);
        else if (req->http.method == METHOD_DELETE)
            forget(a, req, s);
        else
            get(a, req, s);
    }
    buf_free(&id);
}

/* --- the list
 * ------------------------------------------------------------------------------------------- */

static void show(void *arg, const struct job_info *job)
{
    struct buf *b = arg;

    buf_adds(b, b->p[b->n - 1] == '[' ? "\n{\"id\":" : ",\n{\"id\":");
    buf_json_string(b, job->id);
    buf_adds(b, ",\"source\":");
    buf_json_string(b, job->source);
    buf_adds(b, ",\"type\":");
    buf_json_string(b, job->type);
    buf_printf(b, ",\"state\":\"%s\",\"lsn\":%" PRIu64, job->state, job->lsn);
    put_time(b, "first_at", job->first_ms);
    put_time(b, "last_at", job->last_ms);
    put_time(b, "deadline", job->deadline_ms);
    buf_addc(b, '}');
}

/* The word of the closed list; false: it is none of them. */
static bool read_state(struct span s, const char **out)
{
    const char *const *word = jobs_states();

    *out = NULL;
    while (*word && !span_eq(s, span_str(*word)))
        word++;
    *out = *word;
    return *word != NULL;
}

void admin_jobs(struct admin *a, struct net_request *req, struct span none UNUSED)
{
    struct span query = http_query(&req->http, req->bytes);
    struct buf b = BUF_INIT, word = BUF_INIT;
    struct admin_params p = { .limit = 0 };
    const char *bad = NULL, *state = NULL;

    if (!admin_method(req, METHODS_GET, "GET, HEAD"))
        return;
    if (!a->view->jobs)
        admin_reply_error(req, 404, "not_found", "no jobs are kept (jobs.entries is 0)");
    else if (!admin_params(req, &p, &bad))
        admin_reply_error(req, 400, "bad_parameter", bad);
    else if (http_query_get(query, S("state"), &word) && !read_state(buf_as_span(&word), &state))
        admin_reply_error(req, 400, "bad_parameter",
                          "state is expected, running, waiting, overdue, succeeded, failed or "
                          "cancelled");
    else {
        buf_printf(&b, "{\"ready\":%s,\"jobs\":[", jobs_ready(a->view->jobs) ? "true" : "false");
        jobs_list(a->view->jobs, buf_as_span(&p.source), state, MIN(p.limit, (uint64_t)LIST_MOST),
                  show, &b);
        buf_adds(&b, "]}\n");
        admin_reply(req, 200, "application/json", &b);
    }
    admin_params_free(&p);
    buf_free(&word);
    buf_free(&b);
}
