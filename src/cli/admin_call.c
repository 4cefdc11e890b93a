/* SPDX-License-Identifier: Apache-2.0 */
/* What top, await, dead and replay share: one call of the admin API, and following a run to its
 * end. A bridge that is restarted meanwhile goes on with the run, so the one who follows waits for
 * it. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "clock.h"
#include "json.h"

#define POLL_US 200000
#define PATIENCE_MS 60000

int admin_client_init(struct admin_client *c)
{
    struct err e = ERR_INIT;

    c->token = client_token(c->token_file, &e);
    c->call = (struct http_call){ .token = c->token, .timeout_s = 90 };
    if (!e.text[0])
        return EXIT_OK;
    fprintf(stderr, "hookline %s: %s\n", c->command, e.text);
    return (int)e.code;
}

int admin_client_call(struct admin_client *c, const char *method, char *path, struct span body,
                      bool quiet)
{
    char *url = xasprintf("%s%s", client_admin(c->admin), path);
    struct err e = ERR_INIT;
    int rc = EXIT_OK;

    c->call.method = method;
    c->call.url = url;
    c->call.body = body;
    c->call.headers = body.n ? S("Content-Type: application/json\r\n") : SPAN_NONE;
    if (client_call(&c->call, &e)) {
        rc = (int)e.code;
        c->call.status = 0;
        if (!quiet)
            fprintf(stderr, "hookline %s: %s\n", c->command, e.text);
    } else if (c->call.status / 100 != 2) {
        rc = c->call.status == 400 ? EXIT_BAD_USAGE : EXIT_NO_SERVICE;
        if (!quiet)
            fprintf(stderr, "hookline %s: %ld %.*s", c->command, c->call.status,
                    SPAN_FMT(buf_as_span(&c->call.text)));
    }
    free(url);
    free(path);
    return rc;
}

static struct span word(const struct admin_client *c, const char *name)
{
    return json_find(buf_as_span(&c->call.text), span_str(name)).raw;
}

static uint64_t number(const struct admin_client *c, const char *name)
{
    uint64_t v;

    return span_u64(word(c, name), &v) ? v : 0;
}

static void progress(const struct admin_client *c, FILE *out)
{
    uint64_t from = number(c, "from"), to = number(c, "to"), at = number(c, "lsn");
    uint64_t total = number(c, "total"), delivered = number(c, "delivered");
    struct span reason = word(c, "reason");

    fprintf(out, "%.*s %.*s: %.*s, ", SPAN_FMT(word(c, "kind")), SPAN_FMT(word(c, "id")),
            SPAN_FMT(word(c, "state")));
    if (total)
        fprintf(out, "%" PRIu64 " of %" PRIu64 " letters delivered", delivered, total);
    else
        fprintf(
            out,
            "%" PRIu64 "%%, LSN %" PRIu64 " of %" PRIu64 " to %" PRIu64 ", %" PRIu64 " delivered",
            to >= from ? (at + 1 - from) * 100 / (to + 1 - from) : 100, at, from, to, delivered);
    fprintf(out, ", %" PRIu64 " refused", number(c, "dead"));
    if (reason.n)
        fprintf(out, " (%.*s)", SPAN_FMT(reason));
}

static bool is_over(const struct admin_client *c)
{
    struct span state = word(c, "state");

    return span_eq(state, S("done")) || span_eq(state, S("failed")) ||
           span_eq(state, S("cancelled"));
}

/* One line that is written over on a terminal, else one a second. */
static void show(const struct admin_client *c, int64_t *shown_ms)
{
    bool terminal = isatty(STDERR_FILENO);

    if (!terminal && *shown_ms && clock_mono_ms() - *shown_ms < 1000)
        return;
    *shown_ms = clock_mono_ms();
    fputs(terminal ? "\r\033[K" : "", stderr);
    progress(c, stderr);
    fputs(terminal ? "" : "\n", stderr);
    fflush(stderr);
}

static int end(const struct admin_client *c)
{
    if (isatty(STDERR_FILENO))
        fputs("\r\033[K", stderr);
    progress(c, stdout);
    putchar('\n');
    return span_eq(word(c, "state"), S("done")) ? EXIT_OK : EXIT_NO_SERVICE;
}

int admin_client_follow(struct admin_client *c)
{
    char *id = span_dup(word(c, "id"));
    int64_t shown_ms = 0, heard_ms = clock_mono_ms();
    int rc = 0;

    while (!is_over(c)) {
        if (!rc)
            show(c, &shown_ms);
        usleep(POLL_US);
        rc = admin_client_call(c, "GET", xasprintf("/v1/replay/%s", id), SPAN_NONE, true);
        if (!rc)
            heard_ms = clock_mono_ms();
        else if (c->call.status / 100 == 4 || clock_mono_ms() - heard_ms > PATIENCE_MS)
            break;
    }
    if (rc)
        fprintf(stderr, "hookline %s: run %s: the bridge does not answer any more\n", c->command,
                id);
    else
        rc = end(c);
    free(id);
    return rc;
}

void admin_client_free(struct admin_client *c)
{
    buf_free(&c->call.text);
    free(c->token);
}
