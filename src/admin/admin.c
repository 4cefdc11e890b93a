/* SPDX-License-Identifier: Apache-2.0 */
/* The admin listener and the probes: routing, the token, parameters. */
#include "admin.h"

#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "crypto.h"
#include "log.h"
#include "room.h"
#include "tls.h"

#define F(m) offsetof(struct admin_cfg, m)

#define HEADERS                                                                                    \
    "Content-Security-Policy: default-src 'none'; frame-ancestors 'none'\r\n" ADMIN_HEADERS

const struct cfg_key *admin_cfg_keys(void)
{
    static struct cfg_key keys[] = {
        { "listen", CFG_STR, F(listen), "127.0.0.1:9180",
          .help = "Address of the admin listener; beyond loopback it needs a token or client "
                  "certificates." },
        { "token", CFG_SECRET, F(token), .flags = CFG_RELOAD,
          .help = "Sent as `Authorization: Bearer`; may do everything." },
        { "read_token", CFG_SECRET, F(read_token), .flags = CFG_RELOAD,
          .help = "Another that may only read." },
        { "tls", CFG_OPTION, F(tls), .sub_size = sizeof(struct net_tls_cfg),
          .help = "HTTPS; a client with a certificate of `client_ca` needs no token." },
        { "hosts", CFG_STRS, F(hosts), .flags = CFG_RELOAD,
          .help = "Names that a request may give as its `Host` where no token is asked for, beside "
                  "addresses and names without a dot: a page in a browser could make up others." },
        { "show_bodies", CFG_BOOL, F(show_bodies), "true", .flags = CFG_RELOAD,
          .help = "Whether the page shows headers and bodies of events; `/v1/events` gives bodies "
                  "in any case, since consumers read it." },
        { "probes", CFG_STR, F(probes), "",
          .help = "Address for /livez, /startupz, /readyz and /metrics without a token; none by "
                  "default." },
        { 0 }
    };

    keys[3].sub = net_tls_keys();
    return keys;
}

static bool is_local(const char *address)
{
    struct span s = span_str(address);

    return span_starts(s, S("127.")) || span_starts(s, S("localhost:")) ||
           span_starts(s, S("[::1]:")) || span_starts(s, S("unix:"));
}

void admin_check(const struct admin_cfg *cfg, const struct cfg_node *at, struct err_list *errs)
{
    bool certificates = cfg->tls && cfg->tls->client_ca && cfg->tls->client == TLS_CLIENT_REQUIRED;

    if (!is_local(cfg->listen) && !cfg->token.bytes && !certificates)
        cfg_error(errs, at, "admin.listen %s can be reached from outside: admin.token is missing",
                  cfg->listen);
    if (cfg->read_token.bytes && !cfg->token.bytes)
        cfg_error(errs, at, "admin.read_token needs an admin.token beside it");
    if (cfg->read_token.bytes && cfg->token.bytes &&
        crypto_equal(cfg->token.bytes, cfg->token.n, cfg->read_token.bytes, cfg->read_token.n))
        cfg_error(errs, at, "admin.read_token is admin.token");
}

void admin_reply(struct net_request *req, int status, const char *type, const struct buf *body)
{
    net_answer(req, &(struct http_reply){ .status = status,
                                          .content_type = type,
                                          .body = buf_as_span(body),
                                          .extra = status == 401
                                                       ? S(HEADERS "WWW-Authenticate: Bearer\r\n")
                                                       : S(HEADERS) });
}

void admin_reply_error(struct net_request *req, int status, const char *code, const char *detail)
{
    struct buf b = BUF_INIT;

    buf_printf(&b, "{\"error\":\"%s\",\"detail\":", code);
    buf_json_string(&b, span_str(detail));
    buf_adds(&b, "}\n");
    admin_reply(req, status, "application/json", &b);
    buf_free(&b);
}

/* --- parameters
 * ----------------------------------------------------------------------------------------- */

static bool number(struct span query, struct span name, uint64_t *out, bool *there)
{
    struct buf b = BUF_INIT;
    bool good = true;

    *there = http_query_get(query, name, &b);
    if (*there)
        good = span_u64(buf_as_span(&b), out);
    buf_free(&b);
    return good;
}

static bool time_of(struct span query, struct span name, int64_t *out, bool *there)
{
    struct buf b = BUF_INIT;
    bool good = true;

    *there = http_query_get(query, name, &b);
    if (*there)
        good = clock_parse(buf_as_span(&b), out);
    buf_free(&b);
    return good;
}

bool admin_params(struct net_request *req, struct admin_params *out, const char **bad)
{
    struct span query = http_query(&req->http, req->bytes);
    struct span last = http_header(&req->http, req->bytes, S("last-event-id"), NULL);
    struct buf data = BUF_INIT;
    uint64_t wait = 0;
    bool there;

    *out = (struct admin_params){ .limit = 100, .to_ms = INT64_MAX, .end = UINT64_MAX };
    if (!number(query, S("after"), &out->after, &out->has_after))
        *bad = "after is an LSN";
    else if (!number(query, S("limit"), &out->limit, &there) || out->limit == 0)
        *bad = "limit is a number above 0";
    else if (!number(query, S("wait"), &wait, &there) || wait > 300)
        *bad = "wait is a number of seconds, at most 300";
    else if (!time_of(query, S("from"), &out->from_ms, &out->has_from) ||
             !time_of(query, S("to"), &out->to_ms, &out->has_to))
        *bad = "from and to are times such as 2026-11-23T12:00:00Z (a + is %2B)";
    else if (last.p && !span_u64(last, &out->after))
        *bad = "Last-Event-ID is an LSN";
    else if (http_query_get(query, S("data"), &data) &&
             !(out->brief = span_eq(buf_as_span(&data), S("false"))) &&
             !span_eq(buf_as_span(&data), S("true")))
        *bad = "data is true or false";
    buf_free(&data);
    out->has_after |= last.p != NULL;
    out->wait_ms = (int64_t)wait * 1000;
    http_query_get(query, S("source"), &out->source);
    http_query_get(query, S("type"), &out->type);
    http_query_get(query, S("log"), &out->log);
    http_query_get(query, S("subject"), &out->subject);
    http_query_get(query, S("id"), &out->id);
    return !*bad;
}

void admin_params_free(struct admin_params *p)
{
    buf_free(&p->source);
    buf_free(&p->type);
    buf_free(&p->log);
    buf_free(&p->subject);
    buf_free(&p->id);
}

/* --- routing
 * --------------------------------------------------------------------------------------------- */

static const struct route {
    const char *path;
    void (*run)(struct admin *a, struct net_request *req);
    bool probe, needs_log, for_all;
} routes[] = {
    { "/", admin_page, false, false, true },      { "/livez", admin_livez, true, false },
    { "/startupz", admin_startupz, true, false }, { "/readyz", admin_readyz, true, false },
    { "/metrics", admin_metrics, true, false },   { "/status", admin_status, false, false },
    { "/v1/events", admin_events, false, true },  { "/v1/rejected", admin_rejected, false, false },
};

/* What stands behind the last / names something: an event, a sink, a run. These look at the method
 * themselves. */
static const struct things {
    const char *path;
    void (*run)(struct admin *a, struct net_request *req, struct span which);
    bool without_log;
} things[] = {
    { "/v1/events/", admin_event },  { "/v1/jobs/", admin_job },
    { "/v1/jobs", admin_jobs },      { "/v1/dead/", admin_dead },
    { "/v1/replay/", admin_replay }, { "/v1/replay", admin_replay },
    { "/v1/sinks/", admin_steer },   { "/v1/log-level", admin_log_level, true },
};

static const struct things *find_thing(struct span path, struct span *which)
{
    for (size_t i = 0; i < ARRAY_LEN(things); i++) {
        struct span p = span_str(things[i].path);
        bool prefix = p.n && p.p[p.n - 1] == '/';
        *which = prefix ? span_of(path.p + p.n, path.n - p.n) : SPAN_NONE;
        if (prefix ? span_starts(path, p) : span_eq(path, p))
            return &things[i];
    }
    return NULL;
}

static const struct route *find(struct span path)
{
    for (size_t i = 0; i < ARRAY_LEN(routes); i++)
        if (span_eq(path, span_str(routes[i].path)))
            return &routes[i];
    return NULL;
}

static void dispatch(struct admin *a, struct net_request *req, bool probe)
{
    struct span path = http_path(&req->http, req->bytes), which = SPAN_NONE;
    const struct route *r = find(path);
    const struct things *t = probe ? NULL : find_thing(path, &which);

    if (!probe && !(r && r->for_all) && !admin_allowed(a, req))
        return;
    if ((!r && !t) || (probe && !r->probe)) {
        net_answer_error(req, HTTP_ERR_NOT_FOUND, "no such path", NULL);
        return;
    }
    if (!t && !admin_method(req, METHODS_GET, "GET, HEAD"))
        return;
    if ((t ? !t->without_log : r->needs_log) && (!a->view->wal || a->view->stopping))
        net_answer_error(req, HTTP_ERR_SHUTTING_DOWN,
                         a->view->wal ? NULL : "the log is being recovered", NULL);
    else if (t)
        t->run(a, req, which);
    else
        r->run(a, req);
}

static void on_admin(struct net_request *req, void *arg)
{
    dispatch(arg, req, false);
}

static void on_probe(struct net_request *req, void *arg)
{
    dispatch(arg, req, true);
}

/* --- starting
 * ---------------------------------------------------------------------------------------------- */

static void on_inbox(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
    struct admin *a = arg;

    inbox_run(&a->inbox, a);
}

static void on_durable(struct wal_watch *watch UNUSED, void *self)
{
    struct admin *a = self;

    if (a->watching) /* else the log was closed while this was on its way */
        admin_on_durable(a);
}

void admin_log_open(struct admin *a)
{
    a->watch.deliver = on_durable;
    a->watch.in = &a->inbox;
    wal_watch_add(a->view->wal, &a->watch);
    a->watching = true;
}

void admin_log_closing(struct admin *a)
{
    admin_drop_waiters(a);
    if (a->watching)
        wal_watch_remove(a->view->wal, &a->watch);
    a->watching = false;
}

/* Lists of LSNs are all that is sent here; the probes take no body at all. */
#define BODY_BYTES KIB(256)
#define RESERVED_FDS 256 /* for the log, the sinks and the probes */

static const struct net_limits limits = {
    .http = { .header_bytes = 16384, .target_bytes = 8192, .body_bytes = 0 },
    .buffer_bytes = 64u << 20,
    .connections = 1024,
    .handshake_timeout_ms = 5000,
    .header_timeout_ms = 10000,
    .body_timeout_ms = 10000,
    .idle_timeout_ms = 60000,
    .reply_timeout_ms = 30000,
    .pipeline = 8,
};

void admin_configure(struct admin *a, const struct admin_cfg *cfg, const struct net_door *door)
{
    a->cfg = cfg;
    a->door = door;
    net_set_door(a->server, 0, door);
}

int admin_start(struct admin **out, struct event_base *base, const struct admin_cfg *cfg,
                const struct net_door *door, const struct admin_view *view, char *bound,
                struct err *e)
{
    static const struct net_handler admin_handler = { .request = on_admin },
                                    probe_handler = { .request = on_probe };
    struct net_limits admin_limits = limits;
    struct admin *a = xcalloc(1, sizeof *a);
    char text[128];

    *a = (struct admin){ .base = base, .cfg = cfg, .view = view, .started_ms = clock_mono_ms() };
    admin_page_headers(&a->page_headers);
    inbox_init(&a->inbox);
    event_assign(&a->inbox_ev, base, a->inbox.fd, EV_READ | EV_PERSIST, on_inbox, a);
    event_add(&a->inbox_ev, NULL);
    admin_limits.http.body_bytes = BODY_BYTES;
    admin_limits.connections +=
        net_spare_connections((uint32_t)view->job_waiters, (uint32_t)view->intake_connections +
                                                               limits.connections + RESERVED_FDS);
    a->server = net_server_new(base, &admin_limits, &a->held, &admin_handler, a, 0);
    a->probes = net_server_new(base, &limits, &a->held, &probe_handler, a, 0);
    *out = a;
    if (cfg->probes[0]) {
        if (net_listen(a->probes, cfg->probes, false, text, e))
            return err_wrap(e, "admin.probes");
        log_info("probes", KS("address", text));
    }
    if (net_listen(a->server, cfg->listen, false, text, e))
        return err_wrap(e, "admin");
    log_info("admin", KS("address", text));
    admin_configure(a, cfg, door);
    if (bound)
        snprintf(bound, 160, "%s%s",
                 !strncmp(text, "unix:", 5) ? ""
                 : door->tls                ? "https://"
                                            : "http://",
                 text);
    return 0;
}

void admin_stop(struct admin *a)
{
    if (!a)
        return;
    inbox_run(&a->inbox, a); /* the sinks have stopped: their last answers are here */
    net_server_free(a->server);
    net_server_free(a->probes);
    event_del(&a->inbox_ev);
    inbox_close(&a->inbox);
    buf_free(&a->page_headers);
    free(a);
}
