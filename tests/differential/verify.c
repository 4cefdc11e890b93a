/* SPDX-License-Identifier: Apache-2.0 */
/* What hookline says of raw requests, for the comparison with the providers' own libraries.
 *
 * A line {"config":YAML,"now_ms":N,"request":BASE64} on standard input, a line {"verdict":V,...} on
 * standard output. The plan is made as the program makes it and kept for the next line with the
 * same config; the bytes go through the parser, the path and the verification, as in intake. What
 * is refused earlier has its own verdicts: config, http, path. */
#include <stdio.h>
#include <string.h>

#include "crypto.h"
#include "json.h"
#include "source.h"

struct known {
    char *config, *refusal; /* of a plan that could not be made */
    struct source_cfg *cfg;
    struct source_plan *plan;
};
static struct known *plans;
static size_t plans_n;

static void compile(struct known *k)
{
    struct err_list errs = { NULL, 0 }, warns = { NULL, 0 };
    struct cfg_doc *doc = cfg_parse("config", span_str(k->config), false, &errs);

    k->cfg = xcalloc(1, source_cfg_size());
    if (doc)
        cfg_load(source_cfg_keys(), cfg_root(doc), k->cfg, &errs);
    if (doc && !errs.n)
        k->plan = source_compile("differential", k->cfg, cfg_root(doc), INT64_MAX, &errs, &warns);
    if (!k->plan)
        k->refusal = xstrdup(errs.n ? errs.line[0] : "?");
    cfg_doc_free(doc);
    err_list_free(&errs);
    err_list_free(&warns);
}

static const struct known *plan_of(struct span config)
{
    for (size_t i = plans_n; i > 0; i--)
        if (span_eq(config, span_str(plans[i - 1].config)))
            return &plans[i - 1];
    plans = xrealloc(plans, (plans_n + 1) * sizeof *plans);
    plans[plans_n] = (struct known){ .config = span_dup(config) };
    compile(&plans[plans_n]);
    return &plans[plans_n++];
}

static bool parse(struct http_request *req, struct buf *bytes)
{
    static const struct http_limits limits = { KIB(16), KIB(8), MIB(1) };
    enum http_result r;

    http_request_init(req, &limits);
    do
        r = http_parse(req, bytes->p, bytes->n, &limits);
    while (r == HTTP_HEAD);
    return r == HTTP_DONE && req->consumed == bytes->n;
}

static void say(const char *verdict, const char *detail)
{
    struct buf out = BUF_INIT;

    buf_printf(&out, "{\"verdict\":\"%s\",\"detail\":", verdict);
    buf_json_string(&out, span_str(detail));
    buf_adds(&out, "}\n");
    fwrite(out.p, 1, out.n, stdout);
    buf_free(&out);
}

static void say_event(const struct source_event *ev)
{
    struct buf out = BUF_INIT;

    buf_adds(&out, "{\"verdict\":\"ok\",\"id\":");
    buf_json_string(&out, ev->id);
    buf_adds(&out, ",\"type\":");
    buf_json_string(&out, ev->type);
    buf_printf(&out, ",\"handshake\":%s}\n", ev->handshake ? "true" : "false");
    fwrite(out.p, 1, out.n, stdout);
    buf_free(&out);
}

static void verify(const struct known *k, struct buf *bytes, int64_t now_ms)
{
    static struct source_event ev;
    struct http_request req;
    struct span token;
    enum verdict v;

    if (!k->plan) {
        say("config", k->refusal);
        return;
    }
    if (!parse(&req, bytes)) {
        say("http", http_error(req.error)->code);
        return;
    }
    if (!source_match_path(k->plan, http_path(&req, bytes->p), &token)) {
        say("path", "");
        return;
    }
    v = source_verify(k->plan, &req, bytes->p, token, now_ms, &ev);
    if (v == VERDICT_OK)
        say_event(&ev);
    else
        say(verdict_name(v), "");
}

static void one(struct span line)
{
    static const struct span paths[] = { { "config", 6 }, { "now_ms", 6 }, { "request", 7 } };
    static struct buf config, bytes;
    struct json_value v[ARRAY_LEN(paths)];
    ssize_t n;

    json_find_all(line, paths, ARRAY_LEN(paths), v);
    config.n = bytes.n = 0;
    buf_reserve(&bytes, v[2].raw.n + 1);
    n = crypto_from_base64(v[2].raw, false, false, (uint8_t *)bytes.p, bytes.cap);
    if (n < 0 || !json_unescape(v[0].raw, &config))
        die(EXIT_BAD_USAGE, "not a line of ours: %.*s", SPAN_FMT(line));
    bytes.n = (size_t)n;
    verify(plan_of(buf_as_span(&config)), &bytes, strtoll(v[1].raw.p, NULL, 10));
}

int main(void)
{
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;

    setvbuf(stdout, NULL, _IOLBF, 0); /* who asks waits for each answer */
    while ((n = getline(&line, &cap, stdin)) > 0)
        one(span_of(line, (size_t)n));
    free(line);
    for (size_t i = 0; i < plans_n; i++) {
        source_plan_free(plans[i].plan);
        cfg_release(source_cfg_keys(), plans[i].cfg);
        free(plans[i].cfg);
        free(plans[i].config);
        free(plans[i].refusal);
    }
    free(plans);
    return 0;
}
