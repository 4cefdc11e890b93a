/* SPDX-License-Identifier: Apache-2.0 */
/* hookline providers: the presets, their page, and keys to try them with. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli.h"
#include "source.h"

#define USAGE "providers [NAME | --docs | keygen NAME DIR]"

/* Nothing is written over: a key that is in use cannot be made again. */
static int write_one(const char *dir, const char *name, const struct buf *text, struct err *e)
{
    char *path = xasprintf("%s/%s", dir, name);
    int fd = -1, rc = 0;

    if (text->n) {
        fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd < 0 || write(fd, text->p, text->n) != (ssize_t)text->n)
            rc = err_errno(e, EXIT_IO, "write %s", path);
        else
            puts(path);
    }
    if (fd >= 0)
        close(fd);
    free(path);
    return rc;
}

static int keygen(const char *name, const char *dir, struct err *e)
{
    struct source_pair pair = { { NULL, 0, 0 } };
    int rc = source_keygen(name, &pair, e);

    if (!rc && mkdir(dir, 0700) && errno != EEXIST)
        rc = err_errno(e, EXIT_IO, "create %s", dir);
    if (!rc && pair.secret.n)
        buf_addc(&pair.secret, '\n');
    if (!rc && pair.public.n)
        buf_addc(&pair.public, '\n');
    if (!rc)
        rc = write_one(dir, "secret", &pair.secret, e) ||
             write_one(dir, "private.pem", &pair.private, e) ||
             write_one(dir, "public", &pair.public, e) ||
             write_one(dir, "jwks.json", &pair.jwks, e);
    source_pair_free(&pair);
    return rc;
}

static void print_docs(void)
{
    struct buf page = BUF_INIT;

    source_docs(&page);
    fwrite(page.p, 1, page.n, stdout);
    buf_free(&page);
}

static int print_preset(const char *name, struct err *e)
{
    struct span text = source_preset_text(name);

    if (!text.p)
        return err_set(e, EXIT_BAD_USAGE, "there is no %s", name);
    fwrite(text.p, 1, text.n, stdout);
    return 0;
}

int cmd_providers(int argc, char **argv)
{
    bool docs = false;
    const struct option_row rows[] = { { "--docs", NULL, NULL, &docs }, { 0 } };
    int left = options_take(argc, argv, rows, USAGE), rc = 0;
    bool make = left == 3 && !strcmp(argv[0], "keygen");
    struct err e = ERR_INIT;

    if (left < 0)
        return left == -2 ? EXIT_OK : EXIT_BAD_USAGE;
    if (docs ? left > 0 : left > 1 && !make) {
        fprintf(stderr, "usage: hookline %s\n", USAGE);
        return EXIT_BAD_USAGE;
    }
    if (docs)
        print_docs();
    else if (make)
        rc = keygen(argv[1], argv[2], &e);
    else if (left)
        rc = print_preset(argv[0], &e);
    for (const char *const *n = source_preset_names(); !docs && !left && *n; n++)
        puts(*n);
    if (rc)
        fprintf(stderr, "hookline providers: %s\n", e.text);
    return rc ? (int)e.code : EXIT_OK;
}
