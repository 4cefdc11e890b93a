/* SPDX-License-Identifier: Apache-2.0 */
/* The command line: one row a subcommand, one file each. */
#include <stdio.h>
#include <string.h>

#include "cli.h"

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help;
} commands[] = {
    { "serve", cmd_serve, "run the bridge" },
    { "check", cmd_check, "validate a configuration, print the effective one" },
    { "health", cmd_health, "ask a running bridge whether it is ready" },
    { "send", cmd_send, "sign a webhook as a provider would and deliver it" },
    { "tail", cmd_tail, "follow the events of a running bridge" },
    { "log", cmd_log, "look into a log folder: ls, verify, dump" },
    { "dead", cmd_dead, "letters that a sink refused: ls, show, redrive, drop" },
    { "replay", cmd_replay, "a retained range once more to a sink" },
    { "providers", cmd_providers, "list the presets, print one, make keys to try one" },
    { "version", cmd_version, "print the version" },
};

static void usage(FILE *out)
{
    fprintf(out, "usage: hookline COMMAND [OPTIONS]\n\n");
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].help);
    fprintf(out, "\n`hookline COMMAND --help` says more; so does the manual page hookline(1).\n");
}

int main(int argc, char **argv)
{
    if (argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
        usage(stdout);
        return EXIT_OK;
    }
    for (size_t i = 0; argc > 1 && i < ARRAY_LEN(commands); i++)
        if (!strcmp(argv[1], commands[i].name))
            return commands[i].run(argc - 1, argv + 1);
    if (argc > 1)
        fprintf(stderr, "hookline: unknown command %s\n", argv[1]);
    usage(stderr);
    return EXIT_BAD_USAGE;
}
