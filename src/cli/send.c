/* SPDX-License-Identifier: Apache-2.0 */
/* hookline send: a webhook as its provider would send it. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "clock.h"
#include "source.h"

#define USAGE                                                                                      \
    "send [--provider P] [--secret S|@FILE] [--type T] [--job ID] [--id ID] [--data FILE|-]\n"     \
    "                     [--count N] [--print] URL"

struct send {
    const char *provider, *secret, *type, *job, *id, *data, *count;
    bool print;
    const char *url;
    struct buf body;
};

static int read_all(const char *name, struct buf *out, struct err *e)
{
    int fd = !strcmp(name, "-") ? STDIN_FILENO : open(name, O_RDONLY | O_CLOEXEC);
    char piece[65536];
    ssize_t n = -1;

    while (fd >= 0 && (n = read(fd, piece, sizeof piece)) > 0)
        buf_add(out, piece, (size_t)n);
    if (n < 0)
        err_errno(e, EXIT_BAD_USAGE, "read %s", name);
    if (fd > STDIN_FILENO)
        close(fd);
    return n < 0 ? -1 : 0;
}

/* A source of the asked provider with the asked secret, as a document of the configuration. */
static struct source_plan *make_plan(const struct send *s, struct source_cfg **cfg, struct err *e)
{
    struct err_list errs = { NULL, 0 }, warns = { NULL, 0 };
    struct buf text = BUF_INIT, secret = BUF_INIT;
    struct source_plan *p = NULL;
    struct cfg_doc *doc = NULL;

    if (s->secret && s->secret[0] == '@' ? read_all(s->secret + 1, &secret, e) : 0)
        goto out;
    if (s->secret && s->secret[0] != '@')
        buf_adds(&secret, s->secret);
    while (secret.n && (secret.p[secret.n - 1] == '\n' || secret.p[secret.n - 1] == '\r'))
        secret.n--;
    buf_adds(&text, "provider: ");
    buf_json_string(&text, span_str(s->provider));
    if (secret.n) {
        buf_adds(&text, "\nsecrets: [");
        buf_json_string(&text, buf_as_span(&secret));
        buf_addc(&text, ']');
    }
    *cfg = xcalloc(1, source_cfg_size());
    doc = cfg_parse("send", buf_as_span(&text), false, &errs);
    if (doc) {
        cfg_load(source_cfg_keys(), cfg_root(doc), *cfg, &errs);
        if (!errs.n)
            p = source_compile("send", *cfg, cfg_root(doc), INT64_MAX, &errs, &warns);
    }
    if (!p)
        err_set(e, EXIT_BAD_USAGE, "%s", errs.n ? errs.line[0] : "the provider cannot be used");
out:
    cfg_doc_free(doc);
    err_list_free(&errs);
    err_list_free(&warns);
    buf_free(&text);
    buf_free(&secret);
    return p;
}

static void quote(struct span s)
{
    putchar('\'');
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] == '\'')
            fputs("'\\''", stdout);
        else
            putchar(s.p[i]);
    putchar('\'');
}

static void print_curl(const struct send *s, const struct source_outgoing *o)
{
    struct span rest = buf_as_span(&o->headers);

    fputs("curl -sS -X POST", stdout);
    while (rest.n) {
        struct span line = span_cut(&rest, '\n');
        if (!line.n)
            continue;
        fputs(" -H ", stdout);
        quote(span_of(line.p, line.n - (line.p[line.n - 1] == '\r')));
    }
    fputs(" --data-binary ", stdout);
    quote(buf_as_span(&o->text));
    putchar(' ');
    quote(span_str(s->url));
    putchar('\n');
}

static int deliver(const struct send *s, const struct source_outgoing *o, struct err *e)
{
    struct http_call call = { .method = "POST",
                              .url = s->url,
                              .timeout_s = 30,
                              .headers = buf_as_span(&o->headers),
                              .body = buf_as_span(&o->text) };
    int rc = client_call(&call, e);

    if (!rc) {
        printf("%ld %.*s\n", call.status, SPAN_FMT(buf_as_span(&call.text)));
        if (call.status < 200 || call.status > 299)
            rc = err_set(e, EXIT_NO_SERVICE, "the bridge refused it");
    }
    buf_free(&call.text);
    return rc;
}

static int send_one(const struct send *s, const struct source_plan *p, struct err *e)
{
    struct source_outgoing o = { .id = span_str(s->id),
                                 .type = span_str(s->type),
                                 .subject = span_str(s->job),
                                 .body = s->data ? buf_as_span(&s->body) : SPAN_NONE,
                                 .now_ms = clock_wall_ms() };
    int rc;

    if (s->data && !o.body.p)
        o.body = S("");
    buf_adds(&o.headers, "Content-Type: application/json\r\n");
    rc = source_sign(p, &o, e);
    if (!rc && s->print)
        print_curl(s, &o);
    else if (!rc)
        rc = deliver(s, &o, e);
    source_outgoing_free(&o);
    return rc;
}

int cmd_send(int argc, char **argv)
{
    struct send s = { .provider = "gemini", .count = "1" };
    const struct option_row rows[] = { { "--provider", NULL, &s.provider, NULL },
                                       { "--secret", NULL, &s.secret, NULL },
                                       { "--type", NULL, &s.type, NULL },
                                       { "--job", NULL, &s.job, NULL },
                                       { "--id", NULL, &s.id, NULL },
                                       { "--data", NULL, &s.data, NULL },
                                       { "--count", NULL, &s.count, NULL },
                                       { "--print", NULL, NULL, &s.print },
                                       { 0 } };
    int left = options_take(argc, argv, rows, USAGE), rc = -1;
    struct source_cfg *cfg = NULL;
    struct source_plan *p = NULL;
    struct err e = ERR_INIT;
    uint64_t count;

    if (left == -2)
        return EXIT_OK;
    if (left != 1 || !span_u64(span_str(s.count), &count)) {
        fprintf(stderr, "usage: hookline %s\n", USAGE);
        return EXIT_BAD_USAGE;
    }
    s.url = argv[0];
    if ((!s.data || !read_all(s.data, &s.body, &e)) && (p = make_plan(&s, &cfg, &e)))
        for (rc = 0; count && !rc; count--)
            rc = send_one(&s, p, &e);
    if (rc)
        fprintf(stderr, "hookline send: %s\n", e.text);
    source_plan_free(p);
    if (cfg)
        cfg_release(source_cfg_keys(), cfg);
    free(cfg);
    buf_free(&s.body);
    return rc ? (int)e.code : EXIT_OK;
}
