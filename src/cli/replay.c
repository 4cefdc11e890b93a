/* SPDX-License-Identifier: Apache-2.0 */
/* hookline replay: starts a replay in a running bridge and follows it. The bridge does it, also
 * when this command is ended. */
#include <stdio.h>

#include "cli.h"

#define USAGE                                                                                      \
    "replay --sink S --from LSN|TIME|oldest [--to LSN|TIME|now] [--admin URL] [--token-file FILE]" \
    "\n       hookline replay --cancel ID [--admin URL] [--token-file FILE]"

static void member(struct buf *b, const char *name, const char *value)
{
    if (!value)
        return;
    buf_printf(b, "%s\"%s\":", b->n ? "," : "{", name);
    buf_json_string(b, span_str(value));
}

static int start(struct admin_client *c, const char *sink, const char *from, const char *to)
{
    struct buf b = BUF_INIT;
    int rc;

    member(&b, "sink", sink);
    member(&b, "from", from);
    member(&b, "to", to);
    buf_addc(&b, '}');
    rc = admin_client_call(c, "POST", xstrdup("/v1/replay"), buf_as_span(&b), false);
    buf_free(&b);
    return rc ? rc : admin_client_follow(c);
}

static int cancel(struct admin_client *c, const char *id)
{
    struct buf path = BUF_INIT;
    int rc;

    buf_adds(&path, "/v1/replay/");
    client_escape(&path, id);
    rc = admin_client_call(c, "DELETE", buf_take(&path), SPAN_NONE, false);
    if (!rc)
        printf("%.*s", SPAN_FMT(buf_as_span(&c->call.text)));
    return rc;
}

int cmd_replay(int argc, char **argv)
{
    const char *sink = NULL, *from = NULL, *to = NULL, *id = NULL;
    struct admin_client c = { .command = "replay" };
    const struct option_row rows[] = { { "--sink", NULL, &sink, NULL },
                                       { "--from", NULL, &from, NULL },
                                       { "--to", NULL, &to, NULL },
                                       { "--cancel", NULL, &id, NULL },
                                       { "--admin", NULL, &c.admin, NULL },
                                       { "--token-file", NULL, &c.token_file, NULL },
                                       { 0 } };
    int left = options_take(argc, argv, rows, USAGE), rc;

    if (left == -2)
        return EXIT_OK;
    if (left || (id ? sink || from || to : !sink || !from)) {
        if (left >= 0)
            fprintf(stderr, "usage: hookline %s\n", USAGE);
        return EXIT_BAD_USAGE;
    }
    rc = admin_client_init(&c);
    if (!rc)
        rc = id ? cancel(&c, id) : start(&c, sink, from, to);
    admin_client_free(&c);
    return rc;
}
