/* SPDX-License-Identifier: Apache-2.0 */
/* /v1/replay: a retained range once more to a sink, how far it has come, and its end. What is no
 * longer retained is 410 with the first LSN that is, never a silent gap. */
#include <string.h>

#include "clock.h"
#include "json.h"
#include "room.h"

void admin_answer_run(struct admin_ask *k)
{
    buf_addc(&k->ask.run, '\n');
    admin_reply(k->req, k->ask.what == ASK_CANCEL ? 200 : 202, "application/json", &k->ask.run);
}

/* --- the range
 * ------------------------------------------------------------------------------------------- */

struct bound {
    bool end;
    uint64_t lsn;
    bool by_time;
    int64_t ms;
};

/* An LSN as a number or a text, a time, "oldest" or "now". An end that is a time means what was
 * received before it. */
static bool read_bound(struct bound *b, struct json_value v, struct wal *w,
                       const struct wal_info *i)
{
    if (v.type == JSON_NONE && b->end)
        b->lsn = i->durable_lsn;
    else if (v.type == JSON_NUMBER || (v.type == JSON_STRING && span_u64(v.raw, &b->lsn)))
        return span_u64(v.raw, &b->lsn) && b->lsn;
    else if (v.type != JSON_STRING)
        return false;
    else if (!b->end && span_eq(v.raw, S("oldest")))
        b->lsn = i->first_lsn;
    else if (b->end && span_eq(v.raw, S("now")))
        b->lsn = i->durable_lsn;
    else if ((b->by_time = clock_parse(v.raw, &b->ms)))
        b->lsn =
            b->end ? MIN(wal_lsn_at_time(w, b->ms) - 1, i->durable_lsn) : wal_lsn_at_time(w, b->ms);
    else
        return false;
    return true;
}

static void refuse(struct net_request *req, int status, const char *code, const char *detail,
                   const char *name, uint64_t lsn)
{
    struct buf b = BUF_INIT;

    buf_printf(&b, "{\"error\":\"%s\",\"detail\":\"%s\",\"%s\":%llu}\n", code, detail, name,
               (unsigned long long)lsn);
    admin_reply(req, status, "application/json", &b);
    buf_free(&b);
}

/* Of a time before the oldest record nobody knows whether something was trimmed behind it, unless
 * nothing ever was. */
static bool is_gone(const struct bound *from, const struct wal_info *i)
{
    return from->lsn < i->first_lsn ||
           (from->by_time && i->first_lsn > 1 && from->lsn == i->first_lsn &&
            (!i->oldest_ms || from->ms < i->oldest_ms));
}

static bool good_range(struct net_request *req, const struct bound *from, const struct bound *to,
                       const struct wal_info *i)
{
    if (is_gone(from, i))
        refuse(req, 410, "gone", "the range begins before what is retained", "first_lsn",
               i->first_lsn);
    else if (from->lsn > i->durable_lsn || to->lsn > i->durable_lsn)
        refuse(req, 409, "conflict", "the range ends behind the last event", "last_lsn",
               i->durable_lsn);
    else if (from->lsn > to->lsn)
        admin_reply_error(req, 400, "bad_parameter", "the range is empty");
    else
        return true;
    return false;
}

static void start(struct admin *a, struct net_request *req)
{
    static const struct span names[] = { { "sink", 4 }, { "from", 4 }, { "to", 2 } };
    struct span body = http_body(&req->http, req->bytes);
    struct bound from = { .end = false }, to = { .end = true };
    struct delivery *sink;
    struct json_value v[3];
    struct admin_ask *k;
    struct wal_info i;

    wal_info(a->view->wal, &i);
    json_find_all(body, names, 3, v);
    if (!json_valid(body) || v[0].type != JSON_STRING ||
        !read_bound(&from, v[1], a->view->wal, &i) || !read_bound(&to, v[2], a->view->wal, &i)) {
        admin_reply_error(req, 400, "bad_parameter",
                          "the body is {\"sink\":NAME,\"from\":LSN or time or \"oldest\","
                          "\"to\":LSN or time or \"now\"}");
        return;
    }
    sink = admin_sink(a, v[0].raw);
    if (!sink)
        admin_reply_error(req, 404, "not_found", "no sink has that name");
    if (!sink || !good_range(req, &from, &to, &i))
        return;
    k = admin_ask_new(a, req, sink, v[0].raw);
    k->ask.what = ASK_REPLAY;
    k->ask.from = from.lsn;
    k->ask.to = to.lsn;
    k->answer = admin_answer_run;
    admin_ask_send(k);
}

/* --- looking and ending
 * --------------------------------------------------------------------------------------- */

static void list(struct admin *a, struct net_request *req)
{
    struct buf b = BUF_INIT, one = BUF_INIT;
    bool any = false;

    buf_adds(&b, "{\"runs\":[");
    for (size_t i = 0; i < a->view->sinks_n; i++) {
        one.n = 0;
        if (!delivery_run(a->view->sinks[i], &one))
            continue;
        buf_adds(&b, any ? ",\n" : "\n");
        buf_span(&b, buf_as_span(&one));
        any = true;
    }
    buf_adds(&b, "]}\n");
    admin_reply(req, 200, "application/json", &b);
    buf_free(&one);
    buf_free(&b);
}

void admin_replay(struct admin *a, struct net_request *req, struct span id)
{
    struct buf b = BUF_INIT;
    struct delivery *sink = NULL;
    struct admin_ask *k;

    if (!id.p) {
        if (!admin_method(req, METHODS_GET | METHODS_POST, "GET, HEAD, POST"))
            return;
        if (req->http.method == METHOD_POST)
            start(a, req);
        else
            list(a, req);
        return;
    }
    if (!admin_method(req, METHODS_GET | METHODS_DELETE, "GET, HEAD, DELETE"))
        return;
    for (size_t i = 0; i < a->view->sinks_n && !sink; i++)
        if (delivery_run_is(a->view->sinks[i], id))
            sink = a->view->sinks[i];
    if (!sink) {
        admin_reply_error(req, 404, "not_found",
                          "no run has that id; each sink keeps its last one");
    } else if (req->http.method == METHOD_DELETE) {
        k = admin_ask_new(a, req, sink, SPAN_NONE);
        k->ask.what = ASK_CANCEL;
        memcpy(k->ask.id, id.p, MIN(id.n, RUN_ID_BYTES));
        k->none = "no run has that id";
        k->answer = admin_answer_run;
        admin_ask_send(k);
    } else {
        delivery_run(sink, &b);
        buf_addc(&b, '\n');
        admin_reply(req, 200, "application/json", &b);
        buf_free(&b);
    }
}
