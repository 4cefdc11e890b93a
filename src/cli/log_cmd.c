/* SPDX-License-Identifier: Apache-2.0 */
/* hookline log ls|verify|dump DIR: read only, also beside a running bridge; repair DIR: without
 * one. */
#include <stdio.h>
#include <string.h>

#include "admin.h"
#include "cli.h"

#define USAGE "log ls|verify|dump|repair DIR"

static void show(const struct record *rec, const char *logid, void *arg)
{
    struct buf *b = arg;

    b->n = 0;
    admin_event_json(b, rec, logid);
    buf_addc(b, '\n');
    fwrite(b->p, 1, b->n, stdout);
}

int cmd_log(int argc, char **argv)
{
    const struct option_row rows[] = { { 0 } };
    int left = options_take(argc, argv, rows, USAGE), rc = -1;
    struct err e = ERR_INIT;
    struct buf b = BUF_INIT;

    if (left == -2)
        return EXIT_OK;
    if (left == 2 && !strcmp(argv[0], "ls")) {
        rc = wal_ls(argv[1], stdout, &e);
    } else if (left == 2 && !strcmp(argv[0], "verify")) {
        rc = wal_verify(argv[1], stdout, &e);
    } else if (left == 2 && !strcmp(argv[0], "repair")) {
        rc = wal_repair(argv[1], stdout, &e);
    } else if (left == 2 && !strcmp(argv[0], "dump")) {
        rc = wal_dump(argv[1], show, &b, &e);
        buf_free(&b);
    } else {
        fprintf(stderr, "usage: hookline %s\n", USAGE);
        return EXIT_BAD_USAGE;
    }
    if (rc)
        fprintf(stderr, "hookline log: %s\n", e.text);
    return rc ? (int)e.code : EXIT_OK;
}
