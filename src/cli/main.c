/* SPDX-License-Identifier: Apache-2.0 */
/* The command line: one row a subcommand, one file each. */
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "program.h"

const struct command commands[] = {
    { "serve", cmd_serve, "run the bridge" },
    { "check", cmd_check, "validate a configuration, print the effective one" },
    { "health", cmd_health, "ask a running bridge whether it is ready" },
    { "send", cmd_send, "sign a webhook as a provider would and deliver it" },
    { "top", cmd_top, "what a running bridge does, at a glance" },
    { "tail", cmd_tail, "follow the events of a running bridge" },
    { "await", cmd_await, "wait for the final event of a job" },
    { "log", cmd_log, "look into a log folder", "ls verify dump repair fork" },
    { "dead", cmd_dead, "letters that a sink refused", "ls show redrive drop" },
    { "replay", cmd_replay, "a retained range once more to a sink" },
    { "providers", cmd_providers, "list the presets, print one, make keys to try one", "keygen" },
    { "completion", cmd_completion, "print what completes commands in a shell", "bash zsh fish" },
    { "version", cmd_version, "print the version" },
    { 0 },
};

static void usage(FILE *out)
{
    fprintf(out, "usage: hookline COMMAND [OPTIONS]\n\n");
    for (const struct command *c = commands; c->name; c++)
        fprintf(out, "  %-10s %s%s%s\n", c->name, c->help, c->words ? ": " : "",
                c->words ? c->words : "");
    fprintf(out, "\n`hookline COMMAND --help` says more; so does the manual page hookline(1).\n");
}

int main(int argc, char **argv)
{
    int rc = program_process(argc, argv);

    if (rc >= 0)
        return rc;
    if (argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
        usage(stdout);
        return EXIT_OK;
    }
    for (const struct command *c = commands; argc > 1 && c->name; c++)
        if (!strcmp(argv[1], c->name)) {
            rc = c->run(argc - 1, argv + 1);
            program_end();
            return rc;
        }
    if (argc > 1)
        fprintf(stderr, "hookline: unknown command %s\n", argv[1]);
    usage(stderr);
    return EXIT_BAD_USAGE;
}
