/* SPDX-License-Identifier: Apache-2.0 */
/* hookline log ls|verify|dump DIR: read only, also beside a running bridge. Without one: repair
 * DIR; fork DIR, which gives the log an id of its own. */
#include <stdio.h>
#include <string.h>

#include "admin.h"
#include "cli.h"
#include "wal.h"

#define USAGE "log ls|verify|dump|repair|fork DIR"

static void show(const struct record *rec, const char *logid, void *arg)
{
    struct buf *b = arg;

    b->n = 0;
    admin_event_json(b, rec, logid);
    buf_addc(b, '\n');
    fwrite(b->p, 1, b->n, stdout);
}

static int fork_log(const char *dir, struct err *e)
{
    char before[LOG_ID_TEXT_MAX], now[LOG_ID_TEXT_MAX];

    if (wal_fork(dir, before, now, e))
        return -1;
    printf("log %s is now %s\n", before, now);
    fprintf(stderr,
            "exactly-once sinks go on from their cursors here, under names with the new id: "
            "grant its transactional.id and group where rights are given by name\n");
    return 0;
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
    } else if (left == 2 && !strcmp(argv[0], "fork")) {
        rc = fork_log(argv[1], &e);
    } else {
        fprintf(stderr, "usage: hookline %s\n", USAGE);
        return EXIT_BAD_USAGE;
    }
    if (rc)
        fprintf(stderr, "hookline log: %s\n", e.text);
    return rc ? (int)e.code : EXIT_OK;
}
