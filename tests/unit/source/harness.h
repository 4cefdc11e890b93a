/* SPDX-License-Identifier: Apache-2.0 */
/* Plans from YAML text, and parsed requests, for the tests of this room. */
#pragma once

#include "table.h"

#include <string.h>

#include "json.h"
#include "source.h"

struct made {
    struct source_cfg *cfg;
    struct source_plan *plan;
    struct err_list errs, warns;
};

/* The source `test` of t.yaml; m->plan is NULL and m->errs says why where it is refused. */
static inline void make(struct made *m, const char *config)
{
    struct cfg_doc *doc;

    *m = (struct made){ .cfg = calloc(1, source_cfg_size()) };
    doc = cfg_parse("t.yaml", span_str(config), false, &m->errs);
    assert_non_null(doc);
    cfg_load(source_cfg_keys(), cfg_root(doc), m->cfg, &m->errs);
    if (!m->errs.n)
        m->plan = source_compile("test", m->cfg, cfg_root(doc), 0, &m->errs, &m->warns);
    cfg_doc_free(doc);
}

static inline void make_good(struct made *m, const char *config)
{
    make(m, config);
    if (!m->plan)
        fail_msg("%s", m->errs.line[0]);
}

static inline void unmake(struct made *m)
{
    source_plan_free(m->plan);
    cfg_release(source_cfg_keys(), m->cfg);
    free(m->cfg);
    err_list_free(&m->errs);
    err_list_free(&m->warns);
}

/* Its bytes; the caller frees them. The query holds a thousand bytes in `a`, little in `b`. */
static inline char *request(struct http_request *req, struct span headers, struct span body)
{
    static const struct http_limits limits = { 65536, 8192, 1 << 20 };
    struct buf b = BUF_INIT;

    buf_printf(&b,
               "POST /hooks/test?a=%01000d&b=%%2099d HTTP/1.1\r\nHost: a\r\nContent-Length: ", 0);
    buf_printf(&b, "%zu\r\n", body.n);
    buf_span(&b, headers);
    buf_adds(&b, "\r\n");
    buf_span(&b, body);
    http_request_init(req, &limits);
    assert_int_equal(http_parse(req, b.p, b.n, &limits), HTTP_HEAD);
    assert_int_equal(http_parse(req, b.p, b.n, &limits), HTTP_DONE);
    return buf_take(&b);
}

/* The verdict alone. */
static inline enum verdict verdict_of(const struct source_plan *p, struct span headers,
                                      struct span body, int64_t now_ms)
{
    struct source_event ev = { 0 };
    struct http_request req;
    char *bytes = request(&req, headers, body);
    enum verdict v = source_verify(p, &req, bytes, SPAN_NONE, now_ms, &ev);

    if (v != VERDICT_OK)
        assert_false(ev.handshake || ev.id.p || ev.type.p || ev.headers.n);
    free(bytes);
    source_event_free(&ev);
    return v;
}
