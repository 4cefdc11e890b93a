/* SPDX-License-Identifier: Apache-2.0 */
/* A real HTTPS server for tests: its authority and certificates are made by openssl when the test
 * begins, what it answers stands in files that the test writes, and it can be killed and started
 * again on the same port. */
#pragma once

#include "table.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base.h"

struct https {
    char dir[64], ca[96], other_ca[96];
    pid_t pid;
    int port;
};

static UNUSED void sh(const char *fmt, const char *dir)
{
    char *command = xasprintf("d=%s; %s", dir, fmt);

    assert_int_equal(system(command), 0);
    free(command);
}

static UNUSED void https_start(struct https *s, bool plain)
{
    char port[16], *line = NULL;
    size_t cap = 0;
    int out[2];
    FILE *f;

    snprintf(port, sizeof port, "%d", s->port);
    assert_int_equal(pipe(out), 0);
    s->pid = fork();
    if (s->pid == 0) {
        dup2(out[1], STDOUT_FILENO);
        close(out[0]);
        close(out[1]);
        execlp("python3", "python3", "tests/unit/https.py", s->dir, port, plain ? "plain" : NULL,
               NULL);
        _exit(127);
    }
    close(out[1]);
    f = fdopen(out[0], "r");
    assert_true(getline(&line, &cap, f) > 0);
    s->port = atoi(line);
    free(line);
    fclose(f);
}

static UNUSED void https_stop(struct https *s)
{
    kill(s->pid, SIGKILL);
    waitpid(s->pid, NULL, 0);
}

/* The folder and certificates; the server's is for localhost alone. */
static UNUSED void https_init(struct https *s)
{
    *s = (struct https){ .dir = "/tmp/hookline-https-XXXXXX" };
    assert_non_null(mkdtemp(s->dir));
    snprintf(s->ca, sizeof s->ca, "%s/ca.pem", s->dir);
    snprintf(s->other_ca, sizeof s->other_ca, "%s/other.pem", s->dir);
    sh("for ca in ca other; do openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 "
       "-nodes "
       "-subj /CN=test-$ca -days 2 -keyout $d/$ca.key -out $d/$ca.pem 2>/dev/null; done; "
       "openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=server "
       "-keyout $d/server.key -out $d/server.csr 2>/dev/null; "
       "echo subjectAltName=DNS:localhost >$d/ext; "
       "openssl x509 -req -in $d/server.csr -CA $d/ca.pem -CAkey $d/ca.key -CAcreateserial -days 1 "
       "-extfile $d/ext -out $d/server.pem 2>/dev/null",
       s->dir);
}

static UNUSED void https_close(struct https *s)
{
    sh("rm -rf $d", s->dir);
}

/* What /NAME is answered with: "STATUS DELAY_MS\nHeader: x\n\nbody". */
static UNUSED void https_answer(const struct https *s, const char *name, const char *text)
{
    char *path = xasprintf("%s/%s", s->dir, name), *tmp = xasprintf("%s/tmp", s->dir);
    FILE *f = fopen(tmp, "w");

    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(rename(tmp, path), 0);
    free(path);
    free(tmp);
}

static UNUSED char *https_url(const struct https *s, const char *name)
{
    return xasprintf("https://localhost:%d/%s", s->port, name);
}

/* How many requests for /name have come. */
static UNUSED int https_count(const struct https *s, const char *name)
{
    char *path = xasprintf("%s/log", s->dir), *line = NULL;
    FILE *f = fopen(path, "r");
    size_t cap = 0;
    ssize_t n;
    int count = 0;

    while (f && (n = getline(&line, &cap, f)) > 0)
        count += (size_t)n == strlen(name) + 2 && memcmp(line + 1, name, (size_t)n - 2) == 0;
    if (f)
        fclose(f);
    free(line);
    free(path);
    return count;
}
