/* SPDX-License-Identifier: Apache-2.0 */
/* The command of jobs.fallback: without a shell, with the body of the overdue event on its stdin
 * and the job in its environment, never as an argument: an id comes from outside. It runs in a
 * process group of its own, which is killed when its time is up; of what it prints the beginning is
 * logged.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fallback.h"
#include "log.h"
#include "spawn.h"

/* What it prints beyond the bound is read all the same, so that it does not stand still. */
static void read_output(struct call *c)
{
    char piece[4096];
    ssize_t n;

    while ((n = read(c->out, piece, sizeof piece)) > 0) {
        size_t take = MIN((size_t)n, sizeof c->output - c->output_n);
        memcpy(c->output + c->output_n, piece, take);
        c->output_n += take;
    }
    if (n == 0)
        event_del(&c->out_ev);
}

static void on_output(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
    read_output(arg);
}

static void on_time(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
    struct call *c = arg;

    c->timed_out = true;
    kill(-c->pid, SIGKILL);
}

static void reap(struct call *c)
{
    struct span output;
    int status = 0;
    bool good;

    waitpid(c->pid, &status, 0);
    read_output(c);
    output = span_of(c->output, c->output_n);
    good = WIFEXITED(status) && !WEXITSTATUS(status);
    if (good)
        log_info("the fallback was called", KS("job", c->job), KSPAN("output", output));
    else
        log_warn("the fallback failed", KS("job", c->job),
                 KI("exit", WIFEXITED(status) ? WEXITSTATUS(status) : -1),
                 KS("why", c->timed_out ? "time is up" : ""), KSPAN("output", output));
    event_del(&c->exit_ev);
    event_del(&c->out_ev);
    event_del(&c->time_ev);
    close(c->pidfd);
    close(c->out);
    fallback_ended(c, good);
}

static void on_exit_of(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
    reap(arg);
}

/* The environment of ours, and what the call is about. */
static char **environment(const struct call *c, char *more[2])
{
    size_t n = 0;
    char **out;

    while (environ[n])
        n++;
    out = xcalloc(n + 3, sizeof *out);
    memcpy(out, environ, n * sizeof *out);
    out[n++] = more[0] = xasprintf("HOOKLINE_JOB=%s", c->job);
    out[n] = more[1] = xasprintf("HOOKLINE_SOURCE=%s", c->source);
    return out;
}

static int spawn(struct call *c, int in, int out)
{
    const struct cfg_strs *command = &c->jobs->cfg->fallback.command;
    char **argv = xcalloc(command->n + 1, sizeof *argv), *more[2], **env = environment(c, more);
    posix_spawn_file_actions_t files;
    int rc;

    memcpy(argv, command->v, command->n * sizeof *argv);
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, in, 0);
    posix_spawn_file_actions_adddup2(&files, out, 1);
    posix_spawn_file_actions_adddup2(&files, out, 2);
    rc = spawn_apart(&c->pid, argv[0], &files, argv, env);
    posix_spawn_file_actions_destroy(&files);
    free(more[0]);
    free(more[1]);
    free(env);
    free(argv);
    return rc;
}

/* The body is smaller than a pipe holds: an id of a kibibyte, escaped. errno, 0: it runs. */
static int run(struct call *c)
{
    int in[2] = { -1, -1 }, out[2] = { -1, -1 }, rc = 0;

    c->pidfd = -1;
    if (pipe2(in, O_CLOEXEC | O_NONBLOCK) || pipe2(out, O_CLOEXEC) ||
        write(in[1], c->body.p, c->body.n) != (ssize_t)c->body.n || fcntl(in[0], F_SETFL, 0) ||
        fcntl(out[0], F_SETFL, O_NONBLOCK))
        rc = errno;
    if (!rc)
        rc = spawn(c, in[0], out[1]);
    if (!rc && (c->pidfd = pidfd_open(c->pid, 0)) < 0) {
        rc = errno;
        kill(-c->pid, SIGKILL);
        waitpid(c->pid, NULL, 0);
    }
    for (int i = 0; i < 2; i++)
        if (in[i] >= 0)
            close(in[i]);
    if (out[1] >= 0)
        close(out[1]);
    c->out = out[0];
    if (rc && out[0] >= 0)
        close(out[0]);
    return rc;
}

void fallback_run(struct call *c)
{
    struct jobs *j = c->jobs;
    int64_t ms = j->cfg->fallback.timeout_ms;
    struct timeval tv = { ms / 1000, ms % 1000 * 1000 };
    int rc = run(c);

    if (rc) {
        log_error("the fallback could not be started", KS("command", j->cfg->fallback.command.v[0]),
                  KS("reason", strerrordesc_np(rc)));
        fallback_ended(c, false);
        return;
    }
    event_assign(&c->exit_ev, j->base, c->pidfd, EV_READ, on_exit_of, c);
    event_assign(&c->out_ev, j->base, c->out, EV_READ | EV_PERSIST, on_output, c);
    event_assign(&c->time_ev, j->base, -1, 0, on_time, c);
    event_add(&c->exit_ev, NULL);
    event_add(&c->out_ev, NULL);
    event_add(&c->time_ev, &tv);
}

void fallback_run_end(struct call *c)
{
    kill(-c->pid, SIGKILL);
    reap(c);
}
