/* SPDX-License-Identifier: Apache-2.0 */
/* One webhook: route, verify, submit, answer.
 *
 * P1: answer_durable() is the only place that writes a 2xx for a delivery, and it runs only when
 * the log gave the record back as durable (or named an earlier durable one); with `ack: broker`
 * when the sinks have it as well (broker.c), with `dedup.redis` when another replica did all that
 * (replicas.c). P10: submit() is reached only through VERDICT_OK. */
#include <string.h>

#include "clock.h"
#include "log.h"
#include "room.h"

static void refuse(struct intake_thread *t, struct net_request *req, enum http_error e)
{
    answered(t, req, http_error(e)->status, http_error(e)->code);
    net_answer_error(req, e, NULL, NULL);
}

/* --- routing -------------------------------------------------------------------------------------
 */

/* The plan of a path, and what stands for {token} in it; NULL when there is none. */
static const struct source_plan *route(struct intake_thread *t, struct net_request *req,
                                       struct span *token)
{
    struct span path = http_path(&req->http, req->bytes);

    for (size_t i = 0; i < t->conf->n; i++)
        if (source_match_path(t->conf->plans[i], path, token)) {
            pending_of(req)->stats = t->conf->stats[i];
            pending_of(req)->guard = t->conf->guards ? &t->conf->guards[i] : NULL;
            return t->conf->plans[i];
        }
    return NULL;
}

static bool is_handshake_method(const struct source_plan *plan, enum http_method m)
{
    return (m == METHOD_GET && source_info(plan)->handshake_get) ||
           (m == METHOD_OPTIONS && source_info(plan)->handshake_options);
}

/* For those who run us: counted, kept for /v1/rejected, and logged now and then. plan NULL: nothing
 * of the request has been looked at but who sent it. */
static void note_refusal(struct intake_thread *t, struct net_request *req,
                         const struct source_plan *plan, enum verdict v, int status)
{
    static struct log_limit limit;
    struct source_stats *stats = pending_of(req)->stats;
    struct rejected r; /* not zeroed: its text is as long as it says */
    char remote[NET_PEER_TEXT_MAX], id[HTTP_ID_TEXT];
    uint64_t left_out;

    counter_add(&stats->part[t->number].rejected[v], 1);
    pending_of(req)->verdict = v;
    r.request = req->id;
    r.time_ms = clock_wall_ms();
    r.skew_ms = plan ? t->ev.skew_ms : INT64_MIN;
    r.why = plan ? t->ev.trial.why : NULL;
    r.verdict = v;
    r.status = status;
    guard_peer(t, req, &r.peer);
    r.text_n = plan ? source_explain(plan, &req->http, req->bytes, &t->ev, r.text) : 0;
    rejected_add(&stats->rejected, &r);
    http_id_text(req->id, id);
    if (log_limit_pass(&limit, &left_out))
        log_warn("a delivery was refused", KS("source", stats->name), KS("reason", verdict_name(v)),
                 KS("remote", net_peer_text(&r.peer, remote)),
                 KSPAN("request", span_of(id, sizeof id)), KU("left_out", left_out));
}

static enum http_error check_sender(struct intake_thread *t, struct net_request *req)
{
    enum verdict why;
    enum http_error e = guard_head(t, req, pending_of(req)->guard, &why);

    if (why != VERDICT_OK)
        note_refusal(t, req, NULL, why, http_error(e)->status);
    return e;
}

static enum http_error on_head(struct net_request *req, void *arg)
{
    struct intake_thread *t = arg;
    struct span token;
    const struct source_plan *plan = route(t, req, &token);
    uint64_t body_max;

    if (!plan) /* CONNECT and OPTIONS name other things than a path: no path takes them */
        return http_path(&req->http, req->bytes).p[0] == '/' ? HTTP_ERR_NOT_FOUND
                                                             : HTTP_ERR_METHOD_NOT_ALLOWED;
    if (req->http.method != METHOD_POST && !is_handshake_method(plan, req->http.method))
        return HTTP_ERR_METHOD_NOT_ALLOWED;
    body_max = source_info(plan)->body_bytes;
    req->http.body_max = body_max ? body_max : t->conf->limits.body_bytes;
    return pending_of(req)->guard ? check_sender(t, req) : HTTP_ERR_NONE;
}

static void on_refused(enum http_error e, struct net_request *req, void *arg)
{
    answered(arg, req, http_error(e)->status, http_error(e)->code);
}

/* --- answers
 * ----------------------------------------------------------------------------------------- */

static void write_json(struct buf *b, const struct wal_append *a, const char *logid)
{
    char made[RECORD_ID_MAX];
    struct record rec = a->rec;

    rec.lsn = a->lsn;
    buf_span(b, a->result == WAL_DUPLICATE ? S("{\"status\":\"duplicate\",\"id\":")
                                           : S("{\"status\":\"accepted\",\"id\":"));
    buf_json_string(b, record_id(&rec, logid, made));
    buf_span(b, S(",\"lsn\":"));
    buf_u64(b, a->lsn);
    buf_addc(b, '}');
}

/* P1: here, and nowhere else, a sender is told that its event is safe. */
static void answer_durable(struct intake_thread *t, struct pending *p)
{
    struct http_reply reply = { .status = p->status };
    char room[512];
    struct buf json = { room, 0, sizeof room };
    bool own = p->append.rec.id.n * 6 > sizeof room - 128;

    if (own)
        json = (struct buf)BUF_INIT;
    if (p->status != 204) {
        write_json(&json, &p->append, wal_log_id(t->in->wal));
        reply.content_type = "application/json";
        reply.body = buf_as_span(&json);
    }
    answered(t, p->req, p->status, p->append.result == WAL_DUPLICATE ? "duplicate" : "accepted");
    histogram_add(&t->ack_seconds, (uint64_t)(clock_mono_us() - p->req->started_us));
    net_answer(p->req, &reply);
    if (own)
        buf_free(&json);
}

void intake_count(struct intake_thread *t, const struct pending *p)
{
    static struct log_limit limit;
    struct stats_part *part = &p->stats->part[t->number];
    char id[HTTP_ID_TEXT];
    uint64_t left_out;

    if (p->append.result == WAL_DURABLE) {
        counter_add(&part->accepted, 1);
        atomic_store_explicit(&part->last_ms, p->append.rec.time_ms, memory_order_relaxed);
        return;
    }
    counter_add(&part->duplicates, 1);
    if (!p->append.other_body)
        return;
    counter_add(&part->other_body, 1);
    http_id_text(p->req->id, id);
    if (log_limit_pass(&limit, &left_out))
        log_warn("a repeated delivery came with another body", KS("source", p->stats->name),
                 KSPAN("id", p->append.rec.id), KU("lsn", p->append.lsn),
                 KSPAN("request", span_of(id, sizeof id)), KU("left_out", left_out));
}

static enum http_error log_error_of(enum wal_result r)
{
    switch (r) {
    case WAL_FULL:
        return HTTP_ERR_STORAGE_FULL;
    case WAL_BACKLOG_FULL:
        return HTTP_ERR_BACKLOG_FULL;
    case WAL_FAILED:
        return HTTP_ERR_STORAGE_FAILED;
    case WAL_DURABLE:
    case WAL_DUPLICATE:
        break;
    }
    return HTTP_ERR_NONE;
}

/* It waits for nothing any more: with its answer it goes. */
static void let_go(struct intake_thread *t, struct pending *p, enum http_error e)
{
    struct asked *asked = p->asked;
    char *copy = p->copy;

    TAILQ_REMOVE(&t->waiting, p, waiting);
    share_give(t, p);
    p->req->keep = false;
    if (e)
        refuse(t, p->req, e);
    else
        answer_durable(t, p);
    free(copy);
    free(asked);
}

void intake_refuse(struct intake_thread *t, struct pending *p, enum http_error e)
{
    let_go(t, p, e);
}

void intake_confirm(struct intake_thread *t, struct pending *p)
{
    if (p->stage == AT_SINK && t->claims && p->append.dedup)
        replicas_mark(t, p, true);
    let_go(t, p, HTTP_ERR_NONE);
}

/* The sender has its 503 already; a repeat will be answered "duplicate". */
static void forget(struct intake_thread *t, struct pending *p)
{
    struct asked *asked = p->asked;
    char *copy = p->copy;

    share_give(t, p);
    net_request_release(p->req);
    free(copy);
    free(asked);
}

/* The log gave the record back. */
static void on_logged(struct msg *m, void *self)
{
    struct intake_thread *t = self;
    struct wal_append *a = container_of(m, struct wal_append, msg);
    struct pending *p = container_of(a, struct pending, append);
    enum http_error e = log_error_of(a->result);
    bool wait = false;

    t->waiting_n--;
    if (p->spans)
        traced_commit(t, p, e);
    if (!e)
        intake_count(t, p);
    if (!e && p->ack_broker)
        wait = p->timed_out || broker_wait(t, p);
    if (t->claims && a->dedup && !e)
        replicas_mark(t, p, !wait);
    else if (p->asked && a->result != WAL_FAILED) /* else it may be on the disk */
        replicas_refused(t, p);
    if (p->timed_out)
        forget(t, p);
    else if (!wait)
        let_go(t, p, e);
}

/* What takes too long, or longer than the shutdown: the sender is told so. The log needs the bytes
 * of what it still has. */
void intake_expire(struct intake_thread *t, int64_t now_ms, bool stopping)
{
    static const enum http_error late[] = { [AT_LOG] = HTTP_ERR_COMMIT_TIMEOUT,
                                            [AT_SINK] = HTTP_ERR_BROKER_TIMEOUT,
                                            [AT_REPLICAS] = HTTP_ERR_OVERLOADED };
    struct pending *p;

    while ((p = TAILQ_FIRST(&t->waiting)) && p->deadline_ms <= now_ms) {
        enum http_error e = stopping ? HTTP_ERR_SHUTTING_DOWN : late[p->stage];
        switch (p->stage) {
        case AT_LOG:
            TAILQ_REMOVE(&t->waiting, p, waiting);
            p->timed_out = true;
            refuse(t, p->req, e);
            continue;
        case AT_SINK:
            broker_leave(t, p);
            break;
        case AT_REPLICAS:
            replicas_leave(t, p);
        }
        let_go(t, p, e);
    }
}

/* --- submitting
 * -------------------------------------------------------------------------------------- */

static bool is_of(const struct net_request *req, struct span s)
{
    return s.p >= req->bytes && s.p < req->bytes + req->cap;
}

static struct span move_to(char **at, struct span s)
{
    struct span moved = { *at, s.n };

    if (s.n)
        memcpy(*at, s.p, s.n);
    *at += s.n;
    return moved;
}

/* What verification left in the thread's scratch, or borrowed from a plan that a reload may free,
 * goes behind the request's own bytes, where it stays until the answer; only what does not fit
 * there costs an allocation. */
static void keep_borrowed(struct intake_thread *t, struct net_request *req, struct record *rec)
{
    struct pending *p = pending_of(req);
    struct span *moving[] = { &rec->id, &rec->type, &rec->subject };
    size_t need = t->trace_lines.n + t->ev.headers.n, room = req->cap - req->http.consumed;
    char *at;

    for (size_t i = 0; i < ARRAY_LEN(moving); i++)
        need += is_of(req, *moving[i]) ? 0 : moving[i]->n;
    p->copy = need > room ? xmalloc(need) : NULL;
    at = p->copy ? p->copy : req->bytes + req->http.consumed;
    rec->headers = move_to(&at, buf_as_span(&t->trace_lines));
    rec->headers.n += move_to(&at, buf_as_span(&t->ev.headers)).n;
    for (size_t i = 0; i < ARRAY_LEN(moving); i++)
        if (!is_of(req, *moving[i]))
            *moving[i] = move_to(&at, *moving[i]);
}

void intake_log(struct intake_thread *t, struct pending *p)
{
    p->stage = AT_LOG;
    if (p->spans)
        p->submitted_us = clock_mono_us();
    t->waiting_n++;
    msg_list_add(&t->gathered, &p->append.msg);
    t->gathered_n++;
}

static void submit(struct intake_thread *t, struct net_request *req, const struct source_plan *plan,
                   int64_t now_ms)
{
    struct pending *p = pending_of(req);
    struct source_event *ev = &t->ev;

    t->trace_lines.n = 0;
    if (t->conf->tracing)
        traced_begin(t, req);

    p->append.rec = (struct record){ .kind = RECORD_WEBHOOK,
                                     .time_ms = now_ms,
                                     .source = span_str(p->stats->name),
                                     .id = ev->id,
                                     .type = ev->type,
                                     .subject = ev->subject,
                                     .content_type = ev->content_type,
                                     .body = http_body(&req->http, req->bytes) };
    keep_borrowed(t, req, &p->append.rec);
    p->append.dedup = ev->dedup;
    p->append.reply = &t->inbox;
    p->append.done = on_logged;
    p->req = req;
    p->status = source_info(plan)->status;
    p->ack_broker = source_info(plan)->ack_broker;
    p->deadline_ms = clock_mono_ms() + t->conf->limits.commit_timeout_ms;
    req->keep = true;
    TAILQ_INSERT_TAIL(&t->waiting, p, waiting);
    if (!t->claims || !p->append.dedup || !replicas_ask(t, p))
        intake_log(t, p);
}

static bool gate_closed(const struct intake_thread *t, const char *source, struct span type)
{
    for (size_t i = 0; i < t->conf->gates_n; i++) {
        const struct intake_gate *g = &t->conf->gates[i];
        if (atomic_load_explicit(g->full, memory_order_relaxed) &&
            span_glob(span_str(g->match_source), span_str(source)) &&
            span_glob(span_str(g->match_type), type))
            return true;
    }
    return false;
}

/* Bad signature, with the status that this provider wants. */
static void refuse_as(struct intake_thread *t, struct net_request *req, int status)
{
    static const char text[] = "{\"error\":\"bad_signature\",\"detail\":\"%s\"}";
    char room[256];
    struct buf json = { room, 0, sizeof room };

    if (status == http_error(HTTP_ERR_BAD_SIGNATURE)->status) {
        refuse(t, req, HTTP_ERR_BAD_SIGNATURE);
        return;
    }
    buf_printf(&json, text, http_error(HTTP_ERR_BAD_SIGNATURE)->detail);
    answered(t, req, status, http_error(HTTP_ERR_BAD_SIGNATURE)->code);
    net_answer(req, &(struct http_reply){ .status = status,
                                          .content_type = "application/json",
                                          .body = buf_as_span(&json) });
}

static void reject(struct intake_thread *t, struct net_request *req, const struct source_plan *plan,
                   enum verdict v)
{
    int status = source_info(plan)->reject_status;

    note_refusal(t, req, plan, v, status);
    refuse_as(t, req, status);
}

/* The provider's keys cannot be had: it is to send again, since nobody can tell. */
static void reject_for_now(struct intake_thread *t, struct net_request *req,
                           const struct source_plan *plan)
{
    note_refusal(t, req, plan, VERDICT_KEYS_UNAVAILABLE,
                 http_error(HTTP_ERR_KEYS_UNAVAILABLE)->status);
    refuse(t, req, HTTP_ERR_KEYS_UNAVAILABLE);
}

static void answer_handshake(struct intake_thread *t, struct net_request *req)
{
    answered(t, req, t->ev.handshake_status, "handshake");
    net_answer(req, &(struct http_reply){ .status = t->ev.handshake_status,
                                          .content_type = t->ev.handshake_type,
                                          .extra = buf_as_span(&t->ev.handshake_headers),
                                          .body = buf_as_span(&t->ev.handshake_body) });
}

static void on_request(struct net_request *req, void *arg)
{
    struct intake_thread *t = arg;
    struct pending *p = pending_of(req);
    int64_t now_ms = clock_wall_ms();
    struct span token;
    const struct source_plan *plan =
        route(t, req, &token); /* again: a reload may have come in between */
    enum verdict v;

    if (!plan) {
        refuse(t, req, HTTP_ERR_NOT_FOUND);
        return;
    }
    v = source_verify(plan, &req->http, req->bytes, token, now_ms, &t->ev);
    if (t->ev.skew_ms != INT64_MIN)
        atomic_store_explicit(&p->stats->part[t->number].skew_ms, t->ev.skew_ms,
                              memory_order_relaxed);
    if (v == VERDICT_KEYS_UNAVAILABLE)
        reject_for_now(t, req, plan);
    else if (v != VERDICT_OK)
        reject(t, req, plan, v);
    else if (t->ev.handshake)
        answer_handshake(t, req);
    else if (gate_closed(t, p->stats->name, t->ev.type))
        refuse(t, req, HTTP_ERR_BACKLOG_FULL);
    else if (p->guard && !guard_rate(p->guard, &p->stats->rate))
        refuse(t, req, HTTP_ERR_RATE_LIMITED);
    else if (!share_take(t, req, p))
        refuse(t, req, HTTP_ERR_OVERLOADED);
    else
        submit(t, req, plan, now_ms);
}

const struct net_handler intake_handler = { .head = on_head,
                                            .request = on_request,
                                            .refused = on_refused };
