/* SPDX-License-Identifier: Apache-2.0 */
/* hookline send: a webhook as its provider would send it. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "clock.h"
#include "crypto.h"
#include "source.h"

#define USAGE                                                                                      \
    "send [--provider P] [--secret S|@FILE] [--key FILE] [--with YAML] [--type T] [--job ID]\n"    \
    "                     [--id ID] [--data FILE|-] [--count N] [--print] URL"

struct send {
    const char *provider, *secret, *key, *with, *type, *job, *id, *data, *count;
    bool print;
    const char *url;
    struct buf body, private;
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

static int read_secret(const char *option, struct buf *out, struct err *e)
{
    if (option[0] != '@')
        buf_adds(out, option);
    else if (read_all(option + 1, out, e))
        return -1;
    while (out->n && (out->p[out->n - 1] == '\n' || out->p[out->n - 1] == '\r'))
        out->n--;
    return 0;
}

static void add(struct buf *text, const struct cfg_node *more, const char *key, struct span value,
                const char *before, const char *after)
{
    if (!value.n || cfg_find(more, key))
        return;
    buf_printf(text, "%s: %s", key, before);
    buf_json_string(text, value);
    buf_printf(text, "%s\n", after);
}

/* The public half of --key, so that what is signed is also what such a source verifies. */
static int add_public(const struct buf *key, struct buf *text, struct err *e)
{
    struct crypto_private *k = NULL;
    struct buf public = BUF_INIT;

    for (int scheme = CRYPTO_ED25519; scheme <= CRYPTO_RSA_SHA256 && !k; scheme++)
        k = crypto_private_new((enum crypto_scheme)scheme, buf_as_span(key), e);
    if (!k)
        return -1;
    crypto_public_print(crypto_private_public(k), CRYPTO_SPKI, &public);
    add(text, NULL, "public_keys", buf_as_span(&public), "[", "]");
    buf_free(&public);
    crypto_private_free(k);
    return 0;
}

/* A source of the asked provider as a document of the configuration. What it must know of us is the
 * URL that we send to, and what --with says. */
static int write_source(const struct send *s, struct buf *text, struct err *e)
{
    struct err_list errs = { NULL, 0 };
    struct cfg_doc *doc = s->with ? cfg_parse("--with", span_str(s->with), false, &errs) : NULL;
    const struct cfg_node *more = doc ? cfg_root(doc) : NULL;
    struct span base = span_of(s->url, strcspn(s->url, "?"));
    struct buf secret = BUF_INIT;
    int rc = 0;

    if (errs.n)
        rc = err_set(e, EXIT_BAD_USAGE, "%s", errs.line[0]);
    if (!rc && s->secret)
        rc = read_secret(s->secret, &secret, e);
    add(text, NULL, "provider", span_str(s->provider), "", "");
    add(text, more, "secrets", buf_as_span(&secret), "[", "]");
    add(text, more, "url", base, "", "");
    add(text, more, "audience", base, "", "");
    add(text, more, "email", S("push@example.iam.gserviceaccount.com"), "", "");
    add(text, more, "verify_token", S("unused"), "", "");
    add(text, more, "require", S("none"), "", "");
    if (!rc && s->private.n)
        rc = add_public(&s->private, text, e);
    if (s->with)
        buf_printf(text, "%s\n", s->with);
    cfg_doc_free(doc);
    err_list_free(&errs);
    buf_free(&secret);
    return rc;
}

static struct source_plan *make_plan(const struct send *s, struct source_cfg **cfg, struct err *e)
{
    struct err_list errs = { NULL, 0 }, warns = { NULL, 0 };
    struct buf text = BUF_INIT;
    struct source_plan *p = NULL;
    struct cfg_doc *doc = NULL;

    if (write_source(s, &text, e))
        goto out;
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
    return p;
}

/* The URL with the query that the provider adds to it. */
static char *whole_url(const struct send *s, const struct source_outgoing *o)
{
    int base = (int)strcspn(s->url, "?");

    return xasprintf("%.*s%s%.*s", base, s->url, o->query.n ? "?" : "",
                     SPAN_FMT(buf_as_span(&o->query)));
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

static void print_curl(const char *url, const struct source_outgoing *o)
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
    quote(span_str(url));
    putchar('\n');
}

static int deliver(const char *url, const struct source_outgoing *o, struct err *e)
{
    struct http_call call = { .method = "POST",
                              .url = url,
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
                                 .key = buf_as_span(&s->private),
                                 .now_ms = clock_wall_ms() };
    const char *query = strchr(s->url, '?');
    char *url = NULL;
    int rc;

    if (s->data && !o.body.p)
        o.body = S("");
    if (query)
        buf_adds(&o.query, query + 1);
    rc = source_sign(p, &o, e);
    if (!rc)
        url = whole_url(s, &o);
    if (!rc && s->print)
        print_curl(url, &o);
    else if (!rc)
        rc = deliver(url, &o, e);
    free(url);
    source_outgoing_free(&o);
    return rc;
}

int cmd_send(int argc, char **argv)
{
    struct send s = { .provider = "gemini", .count = "1" };
    const struct option_row rows[] = { { "--provider", NULL, &s.provider, NULL },
                                       { "--secret", NULL, &s.secret, NULL },
                                       { "--key", NULL, &s.key, NULL },
                                       { "--with", NULL, &s.with, NULL },
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
    if ((!s.data || !read_all(s.data, &s.body, &e)) &&
        (!s.key || !read_all(s.key, &s.private, &e)) && (p = make_plan(&s, &cfg, &e)))
        for (rc = 0; count && !rc; count--)
            rc = send_one(&s, p, &e);
    if (rc)
        fprintf(stderr, "hookline send: %s\n", e.text);
    source_plan_free(p);
    if (cfg)
        cfg_release(source_cfg_keys(), cfg);
    free(cfg);
    buf_free(&s.body);
    buf_free(&s.private);
    return rc ? (int)e.code : EXIT_OK;
}
