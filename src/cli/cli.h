/* SPDX-License-Identifier: Apache-2.0 */
/* What the subcommands share: options, and a small HTTP client. */
#pragma once

#include "buf.h"
#include "err.h"

struct option_row {
    const char *name;   /* "--config" */
    const char *brief;  /* "-c" or NULL */
    const char **value; /* takes a value */
    bool *flag;         /* or is a switch */
};

struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help;
    const char *words; /* what may follow, or NULL */
};
extern const struct command commands[]; /* main.c; ends with a row of zeros */

/* Takes the options out of argv and leaves the rest in place: returns how many are left, -1 after a
 * complaint (exit 64), -2 when --help was asked for and printed. `--options` alone prints the
 * options, a blank behind each, "=" behind those that take a value: completion is made from them.
 */
int options_take(int argc, char **argv, const struct option_row *rows, const char *usage);

struct http_call {
    const char *method, *url, *token; /* token may be NULL */
    struct span headers;              /* "Name: value\r\n" lines */
    struct span body;
    long timeout_s;
    /* out */
    long status;
    struct buf text;
    char log_id[64], outcome[16];
    uint64_t next;
};
/* -1 and e when nobody answered. */
int client_call(struct http_call *c, struct err *e);
void client_escape(struct buf *out, const char *s); /* for a URL */
/* --admin or HOOKLINE_ADMIN or the default; --token-file or HOOKLINE_ADMIN_TOKEN. */
const char *client_admin(const char *option);
char *client_token(const char *file, struct err *e); /* may be NULL; the caller frees it */

/* What the clients of the admin API share (admin_call.c). */
struct admin_client {
    const char *command, *admin, *token_file; /* "dead" */
    char *token;
    struct http_call call;
};
/* 0; an exit code after a complaint. */
int admin_client_init(struct admin_client *c);
/* One call; path is taken. 0 where the status is 2xx; else an exit code, complained about unless
 * `quiet`. */
int admin_client_call(struct admin_client *c, const char *method, char *path, struct span body,
                      bool quiet);
/* Follows the run that the last call answered with, to its end. An exit code. */
int admin_client_follow(struct admin_client *c);
void admin_client_free(struct admin_client *c);

int cmd_serve(int argc, char **argv);
int cmd_check(int argc, char **argv);
int cmd_health(int argc, char **argv);
int cmd_send(int argc, char **argv);
int cmd_top(int argc, char **argv);
int cmd_tail(int argc, char **argv);
int cmd_await(int argc, char **argv);
int cmd_log(int argc, char **argv);
int cmd_dead(int argc, char **argv);
int cmd_replay(int argc, char **argv);
int cmd_providers(int argc, char **argv);
int cmd_completion(int argc, char **argv);
int cmd_version(int argc, char **argv);
