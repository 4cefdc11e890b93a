/* SPDX-License-Identifier: Apache-2.0 */
/* hookline dead: the letters that a sink of a running bridge refused. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "json.h"

#define USAGE                                                                                      \
    "dead ls SINK [--after LSN] [--limit N] [--json]\n"                                            \
    "       hookline dead show SINK LSN\n"                                                         \
    "       hookline dead redrive SINK LSN...|--all\n"                                             \
    "       hookline dead drop SINK LSN...|--all\n"                                                \
    "       each with [--admin URL] [--token-file FILE]; --sink S may stand for SINK"

struct dead {
    struct admin_client c;
    const char *sink, *after, *limit;
    bool json, all;
    char **lsns; /* what is left of argv */
    int lsns_n;
};

static char *path_of(const struct dead *d, const char *rest)
{
    struct buf b = BUF_INIT;

    buf_adds(&b, "/v1/dead/");
    client_escape(&b, d->sink);
    buf_adds(&b, rest);
    return buf_take(&b);
}

static int numbers_only(const struct dead *d)
{
    uint64_t lsn;

    for (int i = 0; i < d->lsns_n; i++)
        if (!span_u64(span_str(d->lsns[i]), &lsn) || !lsn) {
            fprintf(stderr, "hookline dead: %s is no LSN\n", d->lsns[i]);
            return EXIT_BAD_USAGE;
        }
    return EXIT_OK;
}

/* --- ls
 * ------------------------------------------------------------------------------------------------
 */

/* Escapes stay escaped: nothing reaches the terminal raw. */
static void print_letter(struct span letter)
{
    static const char *const columns[] = { "lsn", "last_at", "source",   "type",
                                           "id",  "bytes",   "attempts", "reason" };

    for (size_t i = 0; i < ARRAY_LEN(columns); i++) {
        struct json_value v = json_find(letter, span_str(columns[i]));
        printf("%s%.*s", i ? "  " : "", SPAN_FMT(v.raw.n ? v.raw : S("-")));
    }
    putchar('\n');
}

static uint64_t print_page(const struct dead *d, struct span page)
{
    struct span list = json_find(page, S("letters")).raw;
    struct json_value v;
    uint64_t n = 0;

    for (; json_next(&list, &v); n++)
        if (d->json)
            printf("%.*s\n", SPAN_FMT(v.raw));
        else
            print_letter(v.raw);
    return n;
}

static int ls(struct dead *d)
{
    uint64_t left = UINT64_MAX, next = 0, n;
    int rc;

    if ((d->limit && (!span_u64(span_str(d->limit), &left) || !left)) ||
        (d->after && !span_u64(span_str(d->after), &next))) {
        fprintf(stderr, "hookline dead: --after is an LSN, --limit a number above 0\n");
        return EXIT_BAD_USAGE;
    }
    do {
        char *query = xasprintf("?after=%" PRIu64 "&limit=%" PRIu64, next, MIN(left, 1000u));
        struct span page;
        rc = admin_client_call(&d->c, "GET", path_of(d, query), SPAN_NONE, false);
        free(query);
        if (rc)
            return rc;
        page = buf_as_span(&d->c.call.text);
        n = print_page(d, page);
        left -= n;
        if (!span_u64(json_find(page, S("next")).raw, &next))
            break;
    } while (left && n);
    return EXIT_OK;
}

/* --- the others
 * ------------------------------------------------------------------------------------- */

static int print_answer(struct dead *d, int rc)
{
    if (!rc)
        printf("%.*s", SPAN_FMT(buf_as_span(&d->c.call.text)));
    return rc;
}

static int show(struct dead *d)
{
    char *rest = xasprintf("/%s", d->lsns[0]);
    int rc = admin_client_call(&d->c, "GET", path_of(d, rest), SPAN_NONE, false);

    free(rest);
    return print_answer(d, rc);
}

static void which(const struct dead *d, struct buf *body)
{
    if (d->all) {
        buf_adds(body, "{\"all\":true}");
        return;
    }
    for (int i = 0; i < d->lsns_n; i++)
        buf_printf(body, "%s%s", i ? "," : "{\"lsns\":[", d->lsns[i]);
    buf_adds(body, "]}");
}

static int redrive(struct dead *d)
{
    struct buf body = BUF_INIT;
    int rc;

    which(d, &body);
    rc = admin_client_call(&d->c, "POST", path_of(d, "/redrive"), buf_as_span(&body), false);
    buf_free(&body);
    return rc ? rc : admin_client_follow(&d->c);
}

static int drop(struct dead *d)
{
    struct buf body = BUF_INIT;
    int rc;

    which(d, &body);
    rc = admin_client_call(&d->c, "DELETE", path_of(d, ""), buf_as_span(&body), false);
    buf_free(&body);
    return print_answer(d, rc);
}

static const struct verb {
    const char *name;
    int (*run)(struct dead *d);
    bool some; /* LSNs or --all */
    int lsns_max;
} verbs[] = {
    { "ls", ls, false, 0 },
    { "show", show, true, 1 },
    { "redrive", redrive, true, 10000 },
    { "drop", drop, true, 10000 },
};

/* NULL: what was given makes no sense. */
static const struct verb *understand(struct dead *d, char **argv, int left)
{
    const struct verb *v = NULL;

    for (size_t i = 0; left > 0 && i < ARRAY_LEN(verbs); i++)
        if (!strcmp(argv[0], verbs[i].name))
            v = &verbs[i];
    argv++;
    left--;
    if (v && !d->sink && left > 0) {
        d->sink = *argv++;
        left--;
    }
    d->lsns = argv;
    d->lsns_n = left;
    if (!v || !d->sink || left > v->lsns_max || (v->some && (left > 0) == d->all) ||
        (d->all && (!v->some || v->lsns_max == 1)))
        return NULL;
    return v;
}

int cmd_dead(int argc, char **argv)
{
    struct dead d = { .c.command = "dead" };
    const struct option_row rows[] = { { "--sink", NULL, &d.sink, NULL },
                                       { "--after", NULL, &d.after, NULL },
                                       { "--limit", NULL, &d.limit, NULL },
                                       { "--json", NULL, NULL, &d.json },
                                       { "--all", NULL, NULL, &d.all },
                                       { "--admin", NULL, &d.c.admin, NULL },
                                       { "--token-file", NULL, &d.c.token_file, NULL },
                                       { 0 } };
    int left = options_take(argc, argv, rows, USAGE), rc;
    const struct verb *v;

    if (left < 0)
        return left == -2 ? EXIT_OK : EXIT_BAD_USAGE;
    v = understand(&d, argv, left);
    if (!v) {
        fprintf(stderr, "usage: hookline %s\n", USAGE);
        return EXIT_BAD_USAGE;
    }
    rc = numbers_only(&d);
    if (!rc)
        rc = admin_client_init(&d.c);
    if (!rc)
        rc = v->run(&d);
    admin_client_free(&d.c);
    return rc;
}
