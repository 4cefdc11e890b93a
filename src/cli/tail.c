/* SPDX-License-Identifier: Apache-2.0 */
/* hookline tail: the events of a running bridge, by long polls. What cannot be shown because it is
 * no longer retained is said, never skipped in silence. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "json.h"

#define USAGE                                                                                      \
    "tail [--admin URL] [--token-file FILE] [--after LSN] [--source S] [--type GLOB] [--json] "    \
    "[--once]"

struct tail {
    const char *admin, *token_file, *after, *source, *type;
    bool json, once;
    uint64_t at;
    bool has_at;
    char log_id[64];
};

static char *make_url(const struct tail *t)
{
    struct buf b = BUF_INIT;

    buf_printf(&b, "%s/v1/events?limit=100&wait=%d", client_admin(t->admin), t->once ? 0 : 30);
    if (t->has_at)
        buf_printf(&b, "&after=%" PRIu64, t->at);
    if (t->log_id[0])
        buf_printf(&b, "&log=%s", t->log_id);
    if (t->source) {
        buf_adds(&b, "&source=");
        client_escape(&b, t->source);
    }
    if (t->type) {
        buf_adds(&b, "&type=");
        client_escape(&b, t->type);
    }
    return buf_take(&b);
}

static void print_value(struct span event, const char *path)
{
    struct json_value v = json_find(event, span_str(path));

    if (v.type == JSON_STRING)
        printf("  %.*s",
               SPAN_FMT(v.raw)); /* escapes stay escaped: nothing reaches the terminal raw */
    else
        printf("  -");
}

static void print_event(const struct tail *t, struct span event)
{
    struct json_value lsn = json_find(event, S("lsn"));

    if (t->json) {
        printf("%.*s\n", SPAN_FMT(event));
        return;
    }
    printf("%.*s", SPAN_FMT(lsn.raw));
    print_value(event, "time");
    print_value(event, "source");
    print_value(event, "type");
    print_value(event, "subject");
    print_value(event, "id");
    putchar('\n');
}

/* Prints the page; returns how many events it held. */
static unsigned print_page(const struct tail *t, struct span page)
{
    unsigned n = 0;
    char index[16];

    for (;; n++) {
        struct json_value v;
        snprintf(index, sizeof index, "%u", n);
        v = json_find(page, span_str(index));
        if (v.type != JSON_OBJECT)
            break;
        print_event(t, v.raw);
    }
    fflush(stdout);
    return n;
}

static int fell_behind(struct tail *t, const struct http_call *c)
{
    struct json_value first = json_find(buf_as_span(&c->text), S("first_lsn"));
    uint64_t lsn;

    if (c->status != 410 || !span_u64(first.raw, &lsn)) {
        fprintf(stderr, "hookline tail: %ld %.*s\n", c->status, SPAN_FMT(buf_as_span(&c->text)));
        return -1;
    }
    fprintf(stderr, "hookline tail: events %" PRIu64 " to %" PRIu64 " are no longer retained\n",
            t->at + 1, lsn - 1);
    t->at = lsn - 1;
    return 0;
}

static int follow(struct tail *t, const char *token)
{
    struct http_call c = { .method = "GET", .token = token, .timeout_s = 60 };
    struct err e = ERR_INIT;
    unsigned n = 1;
    int rc = 0;

    while (!rc && (n || !t->once)) {
        char *url = make_url(t);
        c.url = url;
        c.next = t->at;
        rc = client_call(&c, &e);
        if (rc) {
            fprintf(stderr, "hookline tail: %s\n", e.text);
        } else if (c.status == 200) {
            n = print_page(t, buf_as_span(&c.text));
            n += c.next > t->at; /* a page may hold nothing that was asked for */
            t->at = c.next;
            t->has_at = true;
            memcpy(t->log_id, c.log_id, sizeof t->log_id);
        } else {
            rc = fell_behind(t, &c);
        }
        free(url);
    }
    buf_free(&c.text);
    return rc;
}

int cmd_tail(int argc, char **argv)
{
    struct tail t = { 0 };
    const struct option_row rows[] = {
        { "--admin", NULL, &t.admin, NULL }, { "--token-file", NULL, &t.token_file, NULL },
        { "--after", NULL, &t.after, NULL }, { "--source", NULL, &t.source, NULL },
        { "--type", NULL, &t.type, NULL },   { "--json", NULL, NULL, &t.json },
        { "--once", NULL, NULL, &t.once },   { 0 }
    };
    int left = options_take(argc, argv, rows, USAGE), rc;
    struct err e = ERR_INIT;
    char *token;

    if (left)
        return left == -2 ? EXIT_OK : EXIT_BAD_USAGE;
    t.has_at = t.after != NULL;
    if (t.after && !span_u64(span_str(t.after), &t.at)) {
        fprintf(stderr, "hookline tail: --after is an LSN\n");
        return EXIT_BAD_USAGE;
    }
    token = client_token(t.token_file, &e);
    if (e.text[0]) {
        fprintf(stderr, "hookline tail: %s\n", e.text);
        return (int)e.code;
    }
    rc = follow(&t, token);
    free(token);
    return rc ? EXIT_NO_SERVICE : EXIT_OK;
}
