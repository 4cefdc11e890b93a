/* SPDX-License-Identifier: Apache-2.0 */
/* What is noted of an answer: the counters, the line of the access log, and, while the log's level
 * is debug, a line there. Nothing here can hold an answer up. */
#include "clock.h"
#include "log.h"
#include "room.h"

#define PATH_PIECES 2

struct pending *pending_of(struct net_request *req)
{
    return (struct pending *)(void *)req->extra;
}

static const char *method_name(const struct net_request *req)
{
    static const char *const names[METHODS] = {
        [METHOD_GET] = "GET",     [METHOD_HEAD] = "HEAD",       [METHOD_POST] = "POST",
        [METHOD_PUT] = "PUT",     [METHOD_DELETE] = "DELETE",   [METHOD_OPTIONS] = "OPTIONS",
        [METHOD_TRACE] = "TRACE", [METHOD_CONNECT] = "CONNECT", [METHOD_PATCH] = "PATCH",
    };

    return req->http.target_len ? names[req->http.method] : NULL;
}

/* Of a path that no source has its first pieces: what stands behind them may be somebody's token.
 */
static struct span start_of_path(const struct net_request *req)
{
    struct span path = http_path(&req->http, req->bytes);
    size_t n = 0;

    for (int pieces = 0; n < path.n && (path.p[n] != '/' || pieces++ < PATH_PIECES); n++)
        ;
    return span_of(path.p, n);
}

static void note(struct intake_thread *t, struct net_request *req, int status, const char *result)
{
    const struct pending *p = pending_of(req);
    struct access_entry e = { .request = req->id,
                              .time_ms = clock_wall_ms(),
                              .bytes = req->http.body_len,
                              .duration_us = (uint32_t)(clock_mono_us() - req->started_us),
                              .status = status,
                              .source = p->stats ? p->stats->name : t->unmatched->name,
                              .method = method_name(req),
                              .result = result,
                              .id = p->append.rec.id,
                              .type = p->append.rec.type };
    char made[RECORD_ID_MAX];

    if (status < 300 && p->append.lsn) { /* else the log may have it, and give it one just now */
        struct record rec = p->append.rec;
        rec.lsn = e.lsn = p->append.lsn;
        e.id = record_id(&rec, wal_log_id(t->in->wal), made);
    }
    if (p->verdict != VERDICT_OK)
        e.reason = verdict_name(p->verdict);
    if (!p->stats && req->http.path_len)
        e.path = start_of_path(req);
    if (p->traced)
        e.trace = &p->trace;
    guard_peer(t, req, &e.peer);
    access_note(t->conf->access, t->number, &e);
}

static void debug_line(const struct net_request *req, const struct source_stats *stats, int status,
                       const char *result)
{
    char id[HTTP_ID_TEXT];

    http_id_text(req->id, id);
    log_debug("answered", KSPAN("request", span_of(id, sizeof id)), KS("source", stats->name),
              KI("status", status), KS("result", result));
}

void answered(struct intake_thread *t, struct net_request *req, int status, const char *result)
{
    struct source_stats *stats = req ? pending_of(req)->stats : NULL;

    stats = stats ? stats : t->unmatched;
    counter_add(&stats->part[t->number].codes[code_index(status)], 1);
    if (!req)
        return;
    if (pending_of(req)->spans)
        traced_answer(t, pending_of(req), status, result);
    if (t->conf->access && ++t->not_sampled >= t->conf->access_sample) {
        t->not_sampled = 0;
        note(t, req, status, result);
    }
    if (log_level() == LOG_DEBUG)
        debug_line(req, stats, status, result);
}
