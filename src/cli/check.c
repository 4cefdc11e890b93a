/* SPDX-License-Identifier: Apache-2.0 */
/* hookline check, providers, version, health: commands of a few lines each. */
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "conf.h"

int cmd_check(int argc, char **argv)
{
    const char *file = "/etc/hookline/hookline.yaml";
    struct err_list errs = { NULL, 0 }, warns = { NULL, 0 };
    bool print = false;
    const struct option_row rows[] = { { "--config", "-c", &file, NULL },
                                       { "--print", NULL, NULL, &print },
                                       { 0 } };
    int left = options_take(argc, argv, rows, "check [-c FILE] [--print]");
    struct buf out = BUF_INIT;
    struct conf *c;

    if (left)
        return left == -2 ? EXIT_OK : EXIT_BAD_USAGE;
    c = conf_load(file, NULL, &errs, &warns);
    conf_complain(&warns, "warning: ");
    conf_complain(&errs, "");
    err_list_free(&warns);
    if (!c) {
        err_list_free(&errs);
        return EXIT_BAD_CONFIG;
    }
    if (print) {
        cfg_print(conf_keys(), c, &out);
        fwrite(out.p, 1, out.n, stdout);
        buf_free(&out);
    } else {
        printf("%s: good: %zu sources, %zu sinks\n", file, c->sources.n, c->sinks.n);
    }
    conf_free(c);
    return EXIT_OK;
}

int cmd_version(int argc, char **argv)
{
    const struct option_row rows[] = { { 0 } };
    int left = options_take(argc, argv, rows, "version");

    if (left)
        return left == -2 ? EXIT_OK : EXIT_BAD_USAGE;
    puts("hookline " HOOKLINE_VERSION);
    return EXIT_OK;
}

int cmd_health(int argc, char **argv)
{
    const char *admin = NULL;
    const struct option_row rows[] = { { "--admin", NULL, &admin, NULL }, { 0 } };
    int left = options_take(argc, argv, rows, "health [--admin URL]"), rc;
    struct http_call call = { .method = "GET", .timeout_s = 5 };
    struct err e = ERR_INIT;
    char *url, *token;

    if (left)
        return left == -2 ? EXIT_OK : EXIT_BAD_USAGE;
    url = xasprintf("%s/readyz", client_admin(admin));
    call.token = token = client_token(NULL, &e);
    call.url = url;
    rc = client_call(&call, &e);
    if (rc)
        fprintf(stderr, "hookline health: %s\n", e.text);
    else
        fwrite(call.text.p, 1, call.text.n, call.status == 200 ? stdout : stderr);
    buf_free(&call.text);
    free(token);
    free(url);
    return rc || call.status != 200 ? EXIT_NO_SERVICE : EXIT_OK;
}
