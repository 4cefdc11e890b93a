/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "cli.h"

static const struct option_row *find(const struct option_row *rows, const char *arg, size_t n)
{
    for (; rows->name; rows++)
        if ((strlen(rows->name) == n && !strncmp(arg, rows->name, n)) ||
            (rows->brief && strlen(rows->brief) == n && !strncmp(arg, rows->brief, n)))
            return rows;
    return NULL;
}

/* One option at argv[i]: how many words it took, 0 after a complaint. */
static int take(int argc, char **argv, int i, const struct option_row *rows)
{
    const char *equals = strchr(argv[i], '=');
    size_t n = equals && argv[i][1] == '-' ? (size_t)(equals - argv[i]) : strlen(argv[i]);
    const struct option_row *r = find(rows, argv[i], n);

    if (!r || (r->flag && argv[i][n])) {
        fprintf(stderr, "hookline %s: unknown option %s\n", argv[0], argv[i]);
        return 0;
    }
    if (r->flag) {
        *r->flag = true;
        return 1;
    }
    if (argv[i][n]) {
        *r->value = argv[i] + n + 1;
        return 1;
    }
    if (i + 1 == argc) {
        fprintf(stderr, "hookline %s: %s takes a value\n", argv[0], argv[i]);
        return 0;
    }
    *r->value = argv[i + 1];
    return 2;
}

static void print(const struct option_row *rows)
{
    for (; rows->name; rows++) {
        const char *takes = rows->value ? "=" : "";

        printf("%s%s ", rows->name, takes);
        if (rows->brief)
            printf("%s%s ", rows->brief, takes);
    }
}

int options_take(int argc, char **argv, const struct option_row *rows, const char *usage)
{
    int left = 0, took;

    if (argc == 2 && !strcmp(argv[1], "--options")) {
        print(rows);
        return -2;
    }
    for (int i = 1; i < argc; i += took) {
        took = 1;
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
            printf("usage: hookline %s\n", usage);
            return -2;
        }
        if (argv[i][0] != '-' || !argv[i][1]) {
            argv[left++] = argv[i];
            continue;
        }
        if (!(took = take(argc, argv, i, rows))) {
            fprintf(stderr, "usage: hookline %s\n", usage);
            return -1;
        }
    }
    return left;
}
