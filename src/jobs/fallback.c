/* SPDX-License-Identifier: Apache-2.0 */
/* jobs.fallback: a command for a job that became overdue, so that it can ask the provider.
 *
 * It is run once for each, without a shell, with the body of the overdue event on its stdin and the
 * job in its environment, never as an argument: an id comes from outside. A few run at a time, each
 * for a limited time in a process group of its own; of what they print the beginning is logged.
 * Jobs that became overdue before a start are not asked for again: the event is in the log and the
 * sinks have it, the command is a convenience beside it. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "log.h"
#include "room.h"

#define AT_ONCE 4
#define QUEUE_MOST 1000
#define OUTPUT_MOST 2048

struct call {
    TAILQ_ENTRY(call) link;
    struct jobs *jobs;
    char *job, *source, *body;
    size_t body_n;
    pid_t pid;
    int pidfd, out;
    struct event exit_ev, out_ev, time_ev;
    char output[OUTPUT_MOST];
    size_t output_n;
    bool timed_out;
};

static void free_call(struct call *c)
{
    free(c->job);
    free(c->source);
    free(c->body);
    free(c);
}

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

static void start_next(struct jobs *j);

static void reap(struct jobs *j, struct call *c)
{
    struct span output;
    int status = 0;

    waitpid(c->pid, &status, 0);
    read_output(c);
    output = span_of(c->output, c->output_n);
    if (WIFEXITED(status) && !WEXITSTATUS(status))
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
    TAILQ_REMOVE(&j->running, c, link);
    j->running_n--;
    free_call(c);
}

static void on_exit_of(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
    struct call *c = arg;
    struct jobs *j = c->jobs;

    reap(j, c);
    start_next(j);
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

/* The signals that we block and ignore are nobody else's business. */
static int spawn(struct call *c, int in, int out)
{
    const struct cfg_strs *command = &c->jobs->cfg->fallback.command;
    char **argv = xcalloc(command->n + 1, sizeof *argv), *more[2], **env = environment(c, more);
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    sigset_t none, all;
    int rc;

    memcpy(argv, command->v, command->n * sizeof *argv);
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, in, 0);
    posix_spawn_file_actions_adddup2(&files, out, 1);
    posix_spawn_file_actions_adddup2(&files, out, 2);
    posix_spawnattr_init(&attr);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
                                        POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setsigdefault(&attr, &all);
    rc = posix_spawn(&c->pid, argv[0], &files, &attr, argv, env);
    posix_spawnattr_destroy(&attr);
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
        write(in[1], c->body, c->body_n) != (ssize_t)c->body_n || fcntl(in[0], F_SETFL, 0) ||
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

static void start(struct jobs *j, struct call *c)
{
    int64_t ms = j->cfg->fallback.timeout_ms;
    struct timeval tv = { ms / 1000, ms % 1000 * 1000 };
    int rc = run(c);

    if (rc) {
        log_error("the fallback could not be started", KS("command", j->cfg->fallback.command.v[0]),
                  KS("reason", strerrordesc_np(rc)));
        free_call(c);
        return;
    }
    TAILQ_INSERT_TAIL(&j->running, c, link);
    j->running_n++;
    event_assign(&c->exit_ev, j->base, c->pidfd, EV_READ, on_exit_of, c);
    event_assign(&c->out_ev, j->base, c->out, EV_READ | EV_PERSIST, on_output, c);
    event_assign(&c->time_ev, j->base, -1, 0, on_time, c);
    event_add(&c->exit_ev, NULL);
    event_add(&c->out_ev, NULL);
    event_add(&c->time_ev, &tv);
}

static void start_next(struct jobs *j)
{
    struct call *c;

    while (j->running_n < AT_ONCE && (c = TAILQ_FIRST(&j->queued))) {
        TAILQ_REMOVE(&j->queued, c, link);
        j->queued_n--;
        start(j, c);
    }
}

void fallback_call(struct jobs *j, const struct job *job, struct span body)
{
    struct call *c;

    if (!j->cfg->fallback.command.n)
        return;
    if (j->queued_n == QUEUE_MOST) {
        log_warn("too many jobs are overdue at once; the fallback is not called for one",
                 KSPAN("job", job->name.id));
        return;
    }
    c = xcalloc(1, sizeof *c);
    c->jobs = j;
    c->job = span_dup(job->name.id);
    c->source = span_dup(span_str(job->source));
    c->body = span_dup(body);
    c->body_n = body.n;
    TAILQ_INSERT_TAIL(&j->queued, c, link);
    j->queued_n++;
    start_next(j);
}

void fallback_stop(struct jobs *j)
{
    struct call *c, *next;

    for (c = TAILQ_FIRST(&j->queued); c; c = next) {
        next = TAILQ_NEXT(c, link);
        free_call(c);
    }
    TAILQ_INIT(&j->queued);
    for (c = TAILQ_FIRST(&j->running); c; c = next) {
        next = TAILQ_NEXT(c, link);
        kill(-c->pid, SIGKILL);
        reap(j, c);
    }
}
