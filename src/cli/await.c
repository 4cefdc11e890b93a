/* SPDX-License-Identifier: Apache-2.0 */
/* hookline await: waits for the final event of a job and prints it. A bridge that is restarted
 * meanwhile has the job again from its log, so a connection that breaks is made anew. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cfg.h"
#include "cli.h"
#include "clock.h"

#define USAGE                                                                                      \
    "await JOB [--admin URL] [--token-file FILE] [--source S] [--timeout 60s] [--deadline D]\n"    \
    "exit: 0 succeeded, 1 failed or cancelled, 75 time is up, 69 not reachable"
#define ONE_WAIT_MS 60000
#define PATIENCE_MS 30000
#define RETRY_US 300000

struct await {
    const char *job, *source, *timeout, *deadline;
    struct admin_client client;
    int64_t until_ms, failed_ms; /* failed_ms: since when no call went well, 0: the last did */
    bool heard;
};

/* "/v1/jobs/ID?NAME=VALUE" and the source. */
static char *make_path(const struct await *a, const char *name, const char *value)
{
    struct buf b = BUF_INIT;

    buf_adds(&b, "/v1/jobs/");
    client_escape(&b, a->job);
    buf_printf(&b, "?%s=", name);
    client_escape(&b, value);
    if (a->source) {
        buf_adds(&b, "&source=");
        client_escape(&b, a->source);
    }
    return buf_take(&b);
}

static char *question(const struct await *a, int64_t left_ms)
{
    char s[24];

    snprintf(s, sizeof s, "%lld", (long long)(MIN(MAX(left_ms, 0), ONE_WAIT_MS) + 999) / 1000);
    return make_path(a, "wait", s);
}

static int verdict(const struct await *a)
{
    const struct http_call *c = &a->client.call;

    printf("%.*s\n", SPAN_FMT(buf_as_span(&c->text)));
    return strcmp(c->outcome, "succeeded") ? EXIT_JOB_FAILED : EXIT_OK;
}

/* It refused, or was never there, or has been away for too long. */
static bool gives_up(struct await *a)
{
    const struct http_call *c = &a->client.call;
    int64_t now = clock_mono_ms();

    if (!a->failed_ms)
        a->failed_ms = now;
    return !a->heard || c->status / 100 == 4 || c->status == 500 ||
           now - a->failed_ms > PATIENCE_MS;
}

/* One call; -1: not yet. The first does not wait: whether there is a bridge is known at once. */
static int ask(struct await *a)
{
    struct http_call *c = &a->client.call;
    int64_t left = a->heard ? a->until_ms - clock_mono_ms() : 0;

    if (!admin_client_call(&a->client, "GET", question(a, left), SPAN_NONE, true))
        return verdict(a);
    a->heard |= c->status == 503;
    if (c->status == 404 && c->log_id[0]) {
        a->heard = true;
        a->failed_ms = 0;
        return -1;
    }
    if (!gives_up(a)) {
        usleep(RETRY_US);
        return -1;
    }
    fprintf(stderr, "hookline await: %s\n",
            c->status ? buf_cstr(&c->text) : "the bridge could not be reached");
    return EXIT_NO_SERVICE;
}

int cmd_await(int argc, char **argv)
{
    struct await a = { .client.command = "await", .timeout = "60s" };
    const struct option_row rows[] = { { "--admin", NULL, &a.client.admin, NULL },
                                       { "--token-file", NULL, &a.client.token_file, NULL },
                                       { "--source", NULL, &a.source, NULL },
                                       { "--timeout", NULL, &a.timeout, NULL },
                                       { "--deadline", NULL, &a.deadline, NULL },
                                       { 0 } };
    int left = options_take(argc, argv, rows, USAGE), rc;
    int64_t ms;

    if (left == -2)
        return EXIT_OK;
    if (left != 1 || !argv[0][0] || !cfg_msec(span_str(a.timeout), &ms)) {
        if (left >= 0)
            fprintf(stderr, "usage: hookline %s\n", USAGE);
        return EXIT_BAD_USAGE;
    }
    a.job = argv[0];
    a.until_ms = clock_mono_ms() + ms;
    rc = admin_client_init(&a.client);
    if (!rc && a.deadline)
        rc = admin_client_call(&a.client, "PUT", make_path(&a, "deadline", a.deadline), SPAN_NONE,
                               false);
    if (!rc)
        while ((rc = ask(&a)) < 0 && clock_mono_ms() < a.until_ms)
            ;
    if (rc < 0) {
        fprintf(stderr, "hookline await: %s: no final event within %s\n", a.job, a.timeout);
        rc = EXIT_TEMPORARY;
    }
    admin_client_free(&a.client);
    return rc;
}
