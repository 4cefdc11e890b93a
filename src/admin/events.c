/* SPDX-License-Identifier: Apache-2.0 */
/* The log as a queue over HTTP: pages, long polls and server-sent events.
 *
 * Never a silent gap: what is no longer retained is 410, what is not there yet or belongs to
 * another log is 409 (a stream gets `event: reset`). Waiters hang on one watch of the log and one
 * inbox. Work is bounded a pass, and a stream whose client does not read is not read for. A search
 * looks on, pass by pass, for a moment even when nobody wants to wait; times and ids are looked up
 * in the sidecars. */
#include <limits.h>
#include <string.h>

#include "clock.h"
#include "room.h"

#define PAGE_BYTES (8u << 20)
#define SCAN_A_PASS 20000
#define LIMIT_MAX 10000
#define WAITERS_MAX 10000
#define PENDING_MAX (256u << 10)
#define KEEPALIVE_S 15
#define SEARCH_MS 2000
#define ID_COSTS 1000 /* reads: finding where an id may be takes as long */

struct waiter {
    struct waiter *next;
    struct admin *admin;
    struct net_request *req;   /* a long poll */
    struct net_stream *stream; /* or a stream */
    struct wal_reader *reader;
    struct admin_params p;
    struct event timer;
    struct buf out;
    uint64_t at;     /* LSN that was looked at last */
    uint64_t ids_to; /* looking for an id: records up to here are to be read */
    int64_t deadline_ms, search_until_ms;
    unsigned silent_s;
    bool dead;
};

/* An id that we make is looked for as it is shown. */
static bool has_id(const struct buf *id, const struct record *rec, const char *logid)
{
    char made[RECORD_ID_MAX];

    return span_eq(buf_as_span(id), rec->id.n ? rec->id : record_id(rec, logid, made));
}

static bool wanted(const struct admin *a, const struct admin_params *p, const struct record *rec)
{
    return rec->kind == RECORD_WEBHOOK &&
           (!p->source.n || span_eq(buf_as_span(&p->source), rec->source)) &&
           (!p->type.n || span_glob(buf_as_span(&p->type), rec->type)) &&
           (!p->subject.n || span_eq(buf_as_span(&p->subject), rec->subject)) &&
           (!p->id.n || has_id(&p->id, rec, wal_log_id(a->view->wal))) &&
           (!p->has_from || rec->time_ms >= p->from_ms) && rec->time_ms < p->to_ms;
}

/* --- positions
 * --------------------------------------------------------------------------------------- */

/* The part of the log in which records of that time can be. */
static void find_range(struct admin *a, struct admin_params *p)
{
    uint64_t first;

    if (p->has_to && p->to_ms < clock_wall_ms() - WAL_DISORDER_MS)
        p->end = wal_lsn_at_time(a->view->wal, p->to_ms + WAL_DISORDER_MS);
    if (!p->has_from)
        return;
    first = wal_lsn_at_time(a->view->wal, p->from_ms);
    p->after = MAX(p->after, first - 1);
}

/* An id that we made says itself which record has it. */
static bool find_made_id(struct admin *a, struct admin_params *p)
{
    struct span rest = buf_as_span(&p->id), logid = span_str(wal_log_id(a->view->wal));
    uint64_t lsn;

    if (!span_starts(rest, logid) || rest.n <= logid.n || rest.p[logid.n] != '-' ||
        !span_u64(span_of(rest.p + logid.n + 1, rest.n - logid.n - 1), &lsn) || !lsn)
        return false;
    p->after = MAX(p->after, lsn - 1);
    p->end = MIN(p->end, lsn + 1);
    return true;
}

enum place { PLACE_GOOD, PLACE_GONE, PLACE_AHEAD };

static enum place place_of(struct admin *a, struct admin_params *p)
{
    struct wal_info i;

    wal_info(a->view->wal, &i);
    if (p->log.n && !span_eq(buf_as_span(&p->log), span_str(i.id)))
        return PLACE_AHEAD;
    if (!p->has_after) {
        p->after = i.first_lsn - 1;
        return PLACE_GOOD;
    }
    if (p->after > i.durable_lsn)
        return PLACE_AHEAD;
    return p->after + 1 < i.first_lsn ? PLACE_GONE : PLACE_GOOD;
}

static void log_headers(struct admin *a, struct buf *extra)
{
    struct wal_info i;

    wal_info(a->view->wal, &i);
    buf_printf(extra, "Hookline-Log: %s\r\nHookline-First: %llu\r\n", i.id,
               (unsigned long long)i.first_lsn);
}

static void refuse_place(struct admin *a, struct net_request *req, enum place place)
{
    struct buf extra = BUF_INIT, body = BUF_INIT;
    struct wal_info i;

    wal_info(a->view->wal, &i);
    log_headers(a, &extra);
    if (place == PLACE_GONE)
        buf_printf(&body,
                   "{\"error\":\"gone\",\"detail\":\"events after that LSN are no longer "
                   "retained\",\"first_lsn\":%llu}\n",
                   (unsigned long long)i.first_lsn);
    else
        buf_printf(&body,
                   "{\"error\":\"conflict\",\"detail\":\"that LSN is not of this "
                   "log\",\"log\":\"%s\",\"last_lsn\":%llu}\n",
                   i.id, (unsigned long long)i.durable_lsn);
    net_answer(req, &(struct http_reply){ .status = place == PLACE_GONE ? 410 : 409,
                                          .content_type = "application/json",
                                          .extra = buf_as_span(&extra),
                                          .body = buf_as_span(&body) });
    buf_free(&extra);
    buf_free(&body);
}

/* --- pages
 * ---------------------------------------------------------------------------------------------- */

enum collected { COLLECTED_ALL, COLLECTED_MORE, COLLECTED_DAMAGE };

static void put_json(const struct waiter *w, struct buf *out, const struct record *rec)
{
    const char *logid = wal_log_id(w->admin->view->wal);

    if (w->p.brief)
        admin_event_brief(out, rec, logid);
    else
        admin_event_json(out, rec, logid);
}

/* Looking for an id: moves to where it may be. False: not in what was looked at so far. */
static bool find_id(struct waiter *w)
{
    struct wal_part part = wal_find_id(w->admin->view->wal, buf_as_span(&w->p.id), w->at);

    w->at = part.from - 1;
    w->ids_to = part.to;
    wal_reader_seek(w->reader, w->at);
    return part.from <= part.to;
}

/* Collects a page behind w->at. There may be more where this pass was long enough; where it met
 * damage e says which. */
static enum collected collect(struct waiter *w, struct buf *page, uint64_t *n, struct err *e)
{
    struct record rec;
    int looked = 0;

    *n = 0;
    while (*n < w->p.limit && page->n < PAGE_BYTES) {
        if (w->at + 1 >= w->p.end)
            return COLLECTED_ALL;
        if (looked++ >= SCAN_A_PASS)
            return COLLECTED_MORE;
        if (w->p.id.n && w->at >= w->ids_to) {
            looked += ID_COSTS;
            if (!find_id(w))
                continue;
        }
        switch (wal_reader_next(w->reader, &rec, NULL, e)) {
        case WAL_READ_OK:
            w->at = rec.lsn;
            if (!wanted(w->admin, &w->p, &rec))
                break;
            buf_adds(page, (*n)++ ? "," : "");
            put_json(w, page, &rec);
            break;
        case WAL_READ_END:
        case WAL_READ_GONE: /* trimmed under way: the next call is told 410 */
            return COLLECTED_ALL;
        case WAL_READ_DAMAGED:
            return *n > 0 ? COLLECTED_ALL : COLLECTED_DAMAGE;
        }
    }
    return COLLECTED_ALL;
}

static void free_waiter(struct waiter *w)
{
    struct waiter **at;

    for (at = &w->admin->waiters; *at && *at != w; at = &(*at)->next)
        ;
    if (*at) {
        *at = w->next;
        w->admin->waiters_n--;
    }
    event_del(&w->timer);
    wal_reader_close(w->reader);
    admin_params_free(&w->p);
    buf_free(&w->out);
    free(w);
}

static void answer_page(struct waiter *w, struct buf *page)
{
    struct buf extra = BUF_INIT, body = BUF_INIT;

    log_headers(w->admin, &extra);
    buf_printf(&extra, "Hookline-Next: %llu\r\n", (unsigned long long)w->at);
    buf_addc(&body, '[');
    buf_span(&body, buf_as_span(page));
    buf_adds(&body, "]\n");
    net_answer(w->req, &(struct http_reply){ .status = 200,
                                             .content_type = "application/cloudevents-batch+json",
                                             .extra = buf_as_span(&extra),
                                             .body = buf_as_span(&body) });
    buf_free(&extra);
    buf_free(&body);
}

static void wait_more(struct waiter *w, int64_t ms)
{
    struct timeval tv = { ms / 1000, ms % 1000 * 1000 };

    event_add(&w->timer, &tv);
}

/* Answers when there is something, or when the wait is over; true: the waiter is gone. */
static bool try_page(struct waiter *w)
{
    struct buf page = BUF_INIT;
    struct err e = ERR_INIT;
    uint64_t n;
    enum collected got = collect(w, &page, &n, &e);
    int64_t now = clock_mono_ms();
    bool done = true;

    if (got == COLLECTED_DAMAGE)
        admin_reply_error(w->req, 500, "damaged", e.text);
    else if (n || w->req->gone || w->at + 1 >= w->p.end ||
             now >= (got == COLLECTED_MORE ? w->search_until_ms : w->deadline_ms))
        answer_page(w, &page);
    else
        done = false;
    if (!done)
        wait_more(w, got == COLLECTED_MORE ? 0 : w->deadline_ms - now);
    buf_free(&page);
    if (done)
        free_waiter(w);
    return done;
}

/* --- streams
 * ---------------------------------------------------------------------------------------------- */

/* id, and data on one line: the event is JSON without line ends, unless the body brings some, which
 * then travels as base64. */
static void put_event(struct waiter *w, const struct record *rec)
{
    struct record plain = *rec;

    if (!w->p.brief && (memchr(rec->body.p ? rec->body.p : "", '\n', rec->body.n) ||
                        memchr(rec->body.p ? rec->body.p : "", '\r', rec->body.n)))
        plain.content_type = S("application/octet-stream");
    buf_printf(&w->out, "id: %llu\ndata: ", (unsigned long long)rec->lsn);
    if (plain.content_type.p == rec->content_type.p) {
        put_json(w, &w->out, rec);
    } else {
        struct buf b = BUF_INIT;
        size_t cut;
        admin_event_json(&b, &plain, wal_log_id(w->admin->view->wal));
        /* the content type that the sender named stays */
        cut = (size_t)((char *)memmem(b.p, b.n, "\"application/octet-stream\"", 26) - b.p);
        buf_add(&w->out, b.p, cut);
        buf_json_string(&w->out, rec->content_type.n ? rec->content_type : plain.content_type);
        buf_add(&w->out, b.p + cut + 26, b.n - cut - 26);
        buf_free(&b);
    }
    buf_adds(&w->out, "\n\n");
}

static void stream_on(struct waiter *w)
{
    struct err e = ERR_INIT;
    struct record rec;
    enum wal_read got = WAL_READ_OK;
    int looked = 0;

    w->out.n = 0;
    while (looked++ < SCAN_A_PASS && net_stream_pending(w->stream) + w->out.n < PENDING_MAX &&
           (got = wal_reader_next(w->reader, &rec, NULL, &e)) == WAL_READ_OK)
        if (wanted(w->admin, &w->p, &rec))
            put_event(w, &rec);
    if (got == WAL_READ_GONE || got == WAL_READ_DAMAGED)
        buf_adds(&w->out, "event: reset\ndata: {}\n\n");
    if (w->out.n) {
        w->silent_s = 0;
        net_stream_write(w->stream, buf_as_span(&w->out));
    }
    if (w->dead)
        free_waiter(w);
    else if (got == WAL_READ_GONE || got == WAL_READ_DAMAGED)
        net_stream_end(w->stream);
}

static void on_stream_closed(void *arg)
{
    struct waiter *w = arg;
    struct timeval now = { 0, 0 };

    w->dead = true; /* freed by its timer, never in the middle of a write */
    w->stream = NULL;
    event_add(&w->timer, &now);
}

static void on_timer(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
    static const struct timeval second = { 1, 0 };
    struct waiter *w = arg;

    if (w->dead) {
        free_waiter(w);
        return;
    }
    if (w->req) {
        try_page(w);
        return;
    }
    event_add(&w->timer, &second);
    if (++w->silent_s >= KEEPALIVE_S) {
        w->silent_s = 0;
        net_stream_write(w->stream, S(":\n\n"));
    } else {
        stream_on(w);
    }
}

static void start_stream(struct waiter *w, struct net_request *req, enum place place)
{
    static const struct timeval second = { 1, 0 };
    struct buf extra = BUF_INIT;

    log_headers(w->admin, &extra);
    buf_adds(&extra, "Cache-Control: no-store\r\n");
    w->stream = net_answer_stream(req,
                                  &(struct http_reply){ .status = 200,
                                                        .content_type = "text/event-stream",
                                                        .extra = buf_as_span(&extra) },
                                  on_stream_closed, w);
    buf_free(&extra);
    event_add(&w->timer, &second);
    if (!w->stream) {
        w->dead = true;
        return;
    }
    if (place == PLACE_GOOD) {
        stream_on(w);
        return;
    }
    net_stream_write(w->stream, S("event: reset\ndata: {}\n\n"));
    if (!w->dead)
        net_stream_end(w->stream);
}

/* --- requests
 * ------------------------------------------------------------------------------------------------
 */

void admin_on_durable(struct admin *a)
{
    struct waiter *w, *next;

    wal_watch_arm(&a->watch);
    for (w = a->waiters; w; w = next) {
        next = w->next;
        if (w->dead)
            continue;
        if (w->req)
            try_page(w);
        else
            stream_on(w);
    }
}

void admin_drop_waiters(struct admin *a)
{
    struct waiter *w, *next;

    for (w = a->waiters; w; w = next) {
        next = w->next;
        if (w->req) {
            w->deadline_ms = w->search_until_ms = 0;
            try_page(w);
        } else if (w->stream) {
            net_stream_end(w->stream);
        }
    }
}

static bool wants_stream(struct net_request *req)
{
    struct span accept = http_header(&req->http, req->bytes, S("accept"), NULL);

    return accept.n >= 17 && memmem(accept.p, accept.n, "text/event-stream", 17);
}

void admin_events(struct admin *a, struct net_request *req)
{
    struct err e = ERR_INIT;
    const char *bad = NULL;
    struct admin_params p;
    bool made_id = false;
    enum place place;
    struct waiter *w;

    if (!admin_params(req, &p, &bad) || a->waiters_n >= WAITERS_MAX) {
        admin_params_free(&p);
        admin_reply_error(req, bad ? 400 : 503, bad ? "bad_parameter" : "overloaded",
                          bad ? bad : "too many wait already");
        return;
    }
    p.limit = MIN(p.limit, (uint64_t)LIMIT_MAX);
    place = place_of(a, &p);
    if (place != PLACE_GOOD && !wants_stream(req)) {
        admin_params_free(&p);
        refuse_place(a, req, place);
        return;
    }
    if (place == PLACE_GOOD) {
        find_range(a, &p);
        made_id = find_made_id(a, &p);
    }
    w = xcalloc(1, sizeof *w);
    *w = (struct waiter){ .next = a->waiters,
                          .admin = a,
                          .p = p,
                          .at = p.after,
                          .ids_to = made_id ? UINT64_MAX : 0,
                          .deadline_ms = clock_mono_ms() + p.wait_ms,
                          .search_until_ms = clock_mono_ms() + MAX(p.wait_ms, SEARCH_MS) };
    a->waiters = w;
    a->waiters_n++;
    event_assign(&w->timer, a->base, -1, 0, on_timer, w);
    if (wal_reader_open(&w->reader, a->view->wal, p.after, &e))
        die(EXIT_IO, "%s", e.text);
    wal_watch_arm(&a->watch);
    if (wants_stream(req)) {
        start_stream(w, req, place);
        return;
    }
    w->req = req;
    try_page(w);
}

/* view=true: for people. */
static void show(struct admin *a, struct net_request *req, const struct record *rec)
{
    const char *logid = wal_log_id(a->view->wal);
    struct buf view = BUF_INIT, body = BUF_INIT;
    bool all = http_query_get(http_query(&req->http, req->bytes), S("view"), &view) &&
               span_eq(buf_as_span(&view), S("true"));

    if (all)
        admin_event_view(&body, rec, logid, a->cfg->show_bodies);
    else
        admin_event_json(&body, rec, logid);
    admin_reply(req, 200, all ? "application/json" : "application/cloudevents+json", &body);
    buf_free(&view);
    buf_free(&body);
}

void admin_event(struct admin *a, struct net_request *req, struct span number)
{
    struct err e = ERR_INIT;
    struct wal_reader *r;
    struct wal_info i;
    struct record rec;
    uint64_t lsn;

    if (!admin_method(req, METHODS_GET, "GET, HEAD"))
        return;
    wal_info(a->view->wal, &i);
    if (!span_u64(number, &lsn) || lsn == 0 || lsn > i.durable_lsn) {
        admin_reply_error(req, 404, "not_found", "no event has that LSN");
        return;
    }
    if (lsn < i.first_lsn) {
        admin_reply_error(req, 410, "gone", "the event is no longer retained");
        return;
    }
    if (wal_reader_open(&r, a->view->wal, lsn - 1, &e))
        die(EXIT_IO, "%s", e.text);
    if (wal_reader_next(r, &rec, NULL, &e) != WAL_READ_OK || rec.lsn != lsn ||
        rec.kind == RECORD_LOST) {
        admin_reply_error(req, 410, "gone", e.text[0] ? e.text : "the event is no longer retained");
    } else if (rec.kind != RECORD_WEBHOOK) {
        admin_reply_error(req, 404, "not_found", "that LSN is a record of hookline's own");
    } else {
        show(a, req, &rec);
    }
    wal_reader_close(r);
}
