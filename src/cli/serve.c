/* SPDX-License-Identifier: Apache-2.0 */
/* hookline serve: the order in which things come up and go down.
 *
 * Up: probes and the admin listener; recovery, in a thread of its own so that the probes answer;
 * the sinks, so that their cursors hold the log before anything is trimmed; the log thread; the
 * intake. Down: /readyz says 503 at once; requests are taken for shutdown.delay; then the listeners
 * close, what waits is answered, the sinks' outstanding acknowledgements are awaited, the log is
 * closed. */
#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <event2/thread.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli.h"
#include "clock.h"
#include "conf.h"
#include "crypto.h"
#include "harden.h"
#include "log.h"
#include "old_sinks.h"
#include "serve.h"
#include "watch.h"

#define STALL_MS 30000
#define KEYS_WARM_MS 5000
#define TAIL_MS 5000

struct server {
    struct conf *boot; /* what the sinks and the admin listener were started from */
    struct conf *conf; /* what the intake uses; boot until a reload */
    const char *file;
    char *dev_text;
    bool drain, dev, takeover;
    struct event_base *base;
    struct inbox inbox;
    struct event inbox_ev, signal_ev, tick, delay;
    sigset_t signals;
    int signal_fd;
    struct admin *admin;
    struct admin_view view;
    struct wal *wal;
    struct keys *keys;
    struct access *access;
    struct intake_sink *routes;
    pthread_t recovery;
    struct msg recovered, failed;
    struct err err;
    bool recovery_bad, recovery_joined, stall_said, done;
    int64_t drain_by_ms, look_at_ms;
    uint8_t seen[WATCH_BYTES]; /* of the files that `conf` names, when they were last read */
    char bound[160], admin_bound[160];
    int exit_code;
};

static void leave(struct server *s, int code)
{
    s->exit_code = code;
    s->done = true;
}

/* --- up
 * ------------------------------------------------------------------------------------------- */

/* The keys that others keep for us. They are warm before the listeners open; a server that does not
 * answer holds nothing up for longer. */
static int register_keys(struct server *s, struct conf *c, int64_t warm_ms, struct err *e)
{
    bool wanted = false;
    int rc = 0;

    for (size_t i = 0; i < c->intake.n; i++)
        wanted |= source_wants_keys(c->intake.plans[i]);
    if (wanted && !s->keys) {
        char *dir = xasprintf("%s/keys", c->log.dir);
        struct keys_cfg cfg = keys_defaults(dir);
        rc = keys_new(&s->keys, &cfg, e);
        free(dir);
    }
    for (size_t i = 0; i < c->intake.n && !rc && wanted; i++)
        rc = source_register_keys(c->intake.plans[i], s->keys, e);
    if (!rc && wanted && warm_ms && !keys_warm(s->keys, warm_ms))
        log_warn("not all keys came in time; their sources answer 503 until they do");
    return rc;
}

static void *recover(void *arg)
{
    struct server *s = arg;

    s->conf->log.takeover = s->takeover;
    s->recovery_bad = wal_open(&s->wal, &s->conf->log, &s->conf->dedup.index, &s->err) != 0 ||
                      (!s->drain && register_keys(s, s->conf, KEYS_WARM_MS, &s->err));
    if (!s->recovery_bad && !s->drain)
        intake_mark_tail(s->wal, &s->conf->intake, TAIL_MS);
    inbox_post(&s->inbox, &s->recovered);
    return NULL;
}

static int start_sinks(struct server *s)
{
    struct conf *c = s->conf;
    bool first_sinks;

    if (old_sinks_settle(s->wal, c, &first_sinks, &s->err))
        return -1;
    s->view.sinks = xcalloc(c->sinks.n + 1, sizeof(struct delivery *));
    s->view.sink_names = c->sinks.name;
    for (size_t i = 0; i < c->sinks.n; i++) {
        if (delivery_start(&s->view.sinks[i], s->wal, c->sinks.name[i], c->sinks.v[i], first_sinks,
                           c->max_body, s->view.otlp, &s->err))
            return -1;
        s->view.sinks_n++;
    }
    if (!c->sinks.n)
        log_info("no sink is configured: the log is the queue, retention its only limit",
                 KI("retain_ms", c->log.retain_ms));
    return 0;
}

/* Which sinks can hold which sources up (P9). */
static void make_gates(struct server *s, struct conf *c)
{
    c->intake.gates = xcalloc(s->view.sinks_n + 1, sizeof *c->intake.gates);
    c->intake.gates_n = 0;
    for (size_t i = 0; i < s->view.sinks_n; i++) {
        const struct sink_cfg *k = s->boot->sinks.v[i];
        if (k->backlog_bytes)
            c->intake.gates[c->intake.gates_n++] =
                (struct intake_gate){ k->match.source, k->match.type,
                                      delivery_full(s->view.sinks[i]) };
    }
}

static int start_intake(struct server *s, unsigned threads)
{
    const struct cfg_list *listen = &s->conf->listen;
    char **addresses = xcalloc(listen->n + 1, sizeof *addresses);
    int rc;

    for (size_t i = 0; i < listen->n; i++)
        addresses[i] = ((const struct net_listen_cfg *)listen->v[i])->address;
    rc = intake_start(&s->view.intake, s->wal, &s->conf->intake, addresses, listen->n, threads,
                      s->bound, &s->err);
    free(addresses);
    return rc;
}

/* What sources with `ack: broker` wait for. */
static void make_routes(struct server *s)
{
    s->routes = xcalloc(s->view.sinks_n + 1, sizeof *s->routes);
    for (size_t i = 0; i < s->view.sinks_n; i++) {
        const struct sink_cfg *k = s->boot->sinks.v[i];
        s->routes[i] = (struct intake_sink){ k->match.source, k->match.type,
                                             delivery_progress(s->view.sinks[i]) };
    }
    s->conf->intake.sinks = s->routes;
    s->conf->intake.sinks_n = s->view.sinks_n;
}

static void open_jobs(struct server *s)
{
    if (s->drain || !s->boot->jobs.entries)
        return;
    s->view.jobs = jobs_open(s->wal, s->base, &s->boot->jobs);
    jobs_plans(s->view.jobs, s->conf->intake.plans, s->conf->intake.n);
}

/* What a reload may change of the lines that are written. */
static void use_logging(struct server *s, struct conf *c)
{
    enum access_format format = (enum access_format)c->logging.access.format;

    log_init((enum log_format)c->logging.format, (enum log_level)c->logging.level);
    access_use(s->access, format);
    c->intake.access = format != ACCESS_OFF ? s->access : NULL;
    c->intake.access_sample = c->logging.access.sample;
    c->intake.otlp = s->view.otlp;
}

static int start_all(struct server *s)
{
    struct conf *c = s->conf;
    unsigned threads = c->threads ? (unsigned)c->threads : intake_default_threads();

    s->view.wal = s->wal;
    s->view.keys = s->keys;
    s->view.otlp = c->intake.otlp = otlp_start(&c->tracing, wal_log_id(s->wal));
    admin_log_open(s->admin);
    if (start_sinks(s))
        return -1;
    wal_start(s->wal, &s->inbox, &s->failed);
    s->view.recovering = false;
    open_jobs(s);
    if (s->drain) {
        s->drain_by_ms = clock_mono_ms() + c->shutdown.timeout_ms;
        return 0;
    }
    make_gates(s, c);
    make_routes(s);
    return start_intake(s, threads);
}

static void on_recovered(struct msg *m, void *self UNUSED)
{
    struct server *s = container_of(m, struct server, recovered);

    pthread_join(s->recovery, NULL);
    s->recovery_joined = true;
    if (s->view.stopping)
        return;
    if (s->recovery_bad || start_all(s)) {
        if (s->wal == NULL || s->err.code == EXIT_BAD_CONFIG)
            log_plain("", s->err.text);
        log_error("hookline cannot start", KS("reason", s->err.text), KI("exit", s->err.code));
        leave(s, (int)s->err.code);
        return;
    }
    log_info("ready", KS("version", HOOKLINE_VERSION));
    if (s->dev)
        dev_hint(s->bound, s->admin_bound);
}

/* --- while it runs -------------------------------------------------------------------------------
 */

/* P3: the waiters have their answers on the way; they get a moment to leave, then the process ends.
 */
static void on_failed(struct msg *m UNUSED, void *self UNUSED)
{
    usleep(300000);
    log_error("the log failed; the restart recovers what was acknowledged", KI("exit", EXIT_IO));
    _exit(EXIT_IO);
}

static void forget_keys(struct conf *c)
{
    for (size_t i = 0; i < c->intake.n; i++)
        source_forget_keys(c->intake.plans[i]);
}

/* The same error again and again is said once. */
static void reject_reload(struct server *s, const struct err_list *errs)
{
    bool said = !s->view.config_ok && errs->n && !strcmp(s->view.config_error, errs->line[0]);

    for (size_t i = 0; i < errs->n && !said; i++)
        log_error("the new configuration is rejected, the old one stays",
                  KS("reason", errs->line[i]));
    s->view.config_ok = false;
    s->view.config_failed_ms = clock_wall_ms();
    snprintf(s->view.config_error, sizeof s->view.config_error, "%s", errs->n ? errs->line[0] : "");
}

/* Everything that reads the configuration gets the new one; nobody uses the old one after it. */
static void apply(struct server *s, struct conf *new)
{
    struct conf *old = s->conf;

    make_gates(s, new);
    use_logging(s, new);
    for (size_t i = 0; i < s->view.sinks_n; i++) /* the same, else it would need a restart */
        delivery_program(s->view.sinks[i], ((const struct sink_cfg *)new->sinks.v[i])->program);
    intake_publish(s->view.intake, &new->intake);
    wal_reconfigure(s->wal, &new->log, &new->dedup.index);
    s->conf = new;
    admin_configure(s->admin, &new->admin, &new->admin_door);
    s->view.listen = &new->listen;
    s->view.doors = new->intake.doors;
    if (s->view.jobs)
        jobs_plans(s->view.jobs, new->intake.plans, new->intake.n);
    s->view.keys = s->keys;
    forget_keys(old);
    s->view.config_loaded_ms = clock_wall_ms();
    s->view.config_ok = true;
    s->view.commit_timeout_ms = new->limits.commit_timeout_ms;
    log_info("configuration reloaded", KS("file", s->file), KU("sources", new->sources.n));
    if (old != s->boot)
        conf_free(old);
}

/* Valid as a whole or rejected as a whole. What the files hold is noted first: what changes while
 * they are read is seen the next time. */
static void reload(struct server *s)
{
    struct err_list errs = { NULL, 0 }, warns = { NULL, 0 };
    uint8_t before[WATCH_BYTES], after[WATCH_BYTES];
    struct conf *new;
    struct err e = ERR_INIT;
    char key[128];

    watch_look(s->conf, before);
    new = conf_load(s->file, s->dev_text, &errs, &warns);
    if (new &&cfg_needs_restart(conf_keys(), s->boot, new, key)) {
        err_list_add(&errs, "%s:0: %s can only change with a restart", s->file, key);
        conf_free(new);
        new = NULL;
    }
    if (new &&register_keys(s, new, 0, &e)) {
        err_list_add(&errs, "%s:0: %s", s->file, e.text);
        conf_free(new);
        new = NULL;
    }
    memcpy(s->seen, before, sizeof before);
    if (!new) {
        reject_reload(s, &errs);
    } else {
        watch_look(s->conf, after);
        apply(s, new);
        if (memcmp(before, after, sizeof after) == 0) /* other files may be named now */
            watch_look(s->conf, s->seen);
    }
    err_list_free(&errs);
    err_list_free(&warns);
}

static void on_delay(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
    leave(arg, EXIT_OK);
}

static void stop(struct server *s)
{
    int64_t ms = s->view.stopping || s->dev || !s->view.intake
                     ? 0
                     : s->conf->shutdown.delay_ms; /* a second signal: at once */
    struct timeval tv = { ms / 1000, ms % 1000 * 1000 };

    log_info("stopping", KI("delay_ms", ms));
    s->view.stopping = true;
    event_add(&s->delay, &tv);
}

static void on_signal(evutil_socket_t fd, short what UNUSED, void *arg)
{
    struct server *s = arg;
    struct signalfd_siginfo info;

    while (read(fd, &info, sizeof info) == sizeof info) {
        if (info.ssi_signo != SIGHUP)
            stop(s);
        else if (s->view.intake && !s->view.stopping)
            reload(s);
    }
}

/* After a failure it is tried again: a file that it wants may be one that nobody watches yet. */
static void look_at_files(struct server *s)
{
    int64_t now = clock_mono_ms();
    uint8_t found[WATCH_BYTES];

    if (s->conf->reload != RELOAD_WATCH || s->dev || s->view.stopping || !s->view.intake ||
        now < s->look_at_ms)
        return;
    s->look_at_ms = now + s->conf->reload_interval_ms;
    watch_look(s->conf, found);
    if (memcmp(found, s->seen, sizeof found) != 0 || !s->view.config_ok)
        reload(s);
}

static void check_drain(struct server *s)
{
    bool all = true;

    for (size_t i = 0; i < s->view.sinks_n; i++)
        all &= delivery_drained(s->view.sinks[i]);
    if (all)
        leave(s, EXIT_OK);
    else if (clock_mono_ms() > s->drain_by_ms)
        leave(s, EXIT_TEMPORARY);
}

static void on_tick(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
    struct server *s = arg;
    struct wal_info info;

    if (!s->view.wal)
        return;
    wal_info(s->wal, &info);
    if (info.stalled_ms > STALL_MS && !s->stall_said)
        log_error("a write or sync of the log takes very long; look at the disk",
                  KI("ms", info.stalled_ms));
    s->stall_said = info.stalled_ms > STALL_MS;
    look_at_files(s);
    if (s->drain && s->drain_by_ms)
        check_drain(s);
}

static void on_inbox(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
    struct server *s = arg;

    inbox_run(&s->inbox, s);
}

/* --- down
 * ------------------------------------------------------------------------------------------ */

static void go_down(struct server *s)
{
    int64_t by = clock_mono_ms() + s->conf->shutdown.timeout_ms;

    s->view.stopping = true;
    if (!s->recovery_joined)
        pthread_join(s->recovery, NULL); /* stopped in the middle of it: it is finished first */
    if (s->view.wal)
        admin_log_closing(s->admin);
    jobs_stop(s->view.jobs);
    intake_stop(s->view.intake, s->conf->shutdown.timeout_ms);
    s->view.intake = NULL;
    access_free(s->access);
    s->view.access = NULL;
    for (size_t i = 0; i < s->view.sinks_n; i++)
        delivery_stop(s->view.sinks[i], MAX(by - clock_mono_ms(), 0));
    otlp_stop(s->view.otlp);
    s->view.otlp = NULL;
    free(s->view.sinks);
    free(s->routes);
    s->view.sinks_n = 0;
    s->view.wal = NULL;
    wal_close(s->wal);
    jobs_free(s->view.jobs);
    admin_stop(s->admin);
    log_info("stopped", KI("exit", s->exit_code));
}

static void make_loop(struct server *s)
{
    static const struct timeval tick = { 0, 500000 };

    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&s->signals);
    sigaddset(&s->signals, SIGTERM);
    sigaddset(&s->signals, SIGINT);
    sigaddset(&s->signals, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &s->signals, NULL); /* before the first thread: all inherit it */
    s->signal_fd = signalfd(-1, &s->signals, SFD_NONBLOCK | SFD_CLOEXEC);
    s->base = event_base_new();
    if (!s->base || s->signal_fd < 0)
        die(EXIT_IO, "no event loop could be made");
    inbox_init(&s->inbox);
    event_assign(&s->inbox_ev, s->base, s->inbox.fd, EV_READ | EV_PERSIST, on_inbox, s);
    event_assign(&s->signal_ev, s->base, s->signal_fd, EV_READ | EV_PERSIST, on_signal, s);
    event_assign(&s->tick, s->base, -1, EV_PERSIST, on_tick, s);
    event_assign(&s->delay, s->base, -1, 0, on_delay, s);
    event_add(&s->inbox_ev, NULL);
    event_add(&s->signal_ev, NULL);
    event_add(&s->tick, &tick);
    s->recovered.deliver = on_recovered;
    s->failed.deliver = on_failed;
}

static int run(struct server *s)
{
    make_loop(s);
    s->access = access_new(INTAKE_THREADS_MAX, STDOUT_FILENO);
    use_logging(s, s->conf);
    watch_look(s->conf, s->seen);
    s->view = (struct admin_view){ .config_file = s->file,
                                   .config_loaded_ms = clock_wall_ms(),
                                   .config_ok = true,
                                   .recovering = true,
                                   .access = s->access,
                                   .commit_timeout_ms = s->conf->limits.commit_timeout_ms,
                                   .listen = &s->conf->listen,
                                   .doors = s->conf->intake.doors,
                                   .job_waiters = s->conf->jobs.waiters,
                                   .intake_connections = s->conf->limits.connections };
    if (admin_start(&s->admin, s->base, &s->conf->admin, &s->conf->admin_door, &s->view,
                    s->admin_bound, &s->err)) {
        log_error("hookline cannot start", KS("reason", s->err.text), KI("exit", s->err.code));
        access_free(s->access);
        return (int)s->err.code;
    }
    if (pthread_create(&s->recovery, NULL, recover, s))
        die(EXIT_IO, "the recovery thread could not be started");
    while (!s->done)
        event_base_loop(s->base, EVLOOP_ONCE);
    go_down(s);
    event_del(&s->inbox_ev);
    event_del(&s->signal_ev);
    event_del(&s->tick);
    event_del(&s->delay);
    event_base_free(s->base);
    inbox_close(&s->inbox);
    close(s->signal_fd);
    return s->exit_code;
}

/* glibc keeps what it once gave out: a large block that is freed makes it serve the next of that
 * size from its arenas, which it does not give back. With its own first value set it stays there.
 */
static void return_large_blocks(void)
{
    mallopt(M_MMAP_THRESHOLD, 128 * 1024);
}

/* Out of memory ends the process inside the libraries too. An event that could not be added would
 * never come, and a connection or a sink would stand still without a word. */
static void end_without_memory(void)
{
    crypto_end_without_memory();
    event_set_mem_functions(xmalloc, xrealloc, free);
}

int cmd_serve(int argc, char **argv)
{
    const char *file = NULL, *listen = NULL, *admin = NULL;
    struct server s = { .exit_code = EXIT_OK };
    const struct option_row rows[] = { { "--config", "-c", &file, NULL },
                                       { "--listen", NULL, &listen, NULL },
                                       { "--admin", NULL, &admin, NULL },
                                       { "--dev", NULL, NULL, &s.dev },
                                       { "--drain", NULL, NULL, &s.drain },
                                       { "--takeover", NULL, NULL, &s.takeover },
                                       { 0 } };
    int left = options_take(
            argc, argv, rows,
            "serve [-c FILE | --dev [--listen ADDR] [--admin ADDR]] [--drain] [--takeover]"),
        rc;
    struct err_list errs = { NULL, 0 }, warns = { NULL, 0 };

    if (left == -2)
        return EXIT_OK;
    if (left || (s.dev && file) || ((listen || admin) && !s.dev))
        return EXIT_BAD_USAGE;
    return_large_blocks();
    end_without_memory();
    if (s.dev && !(s.dev_text = dev_configuration(listen, admin, &s.err))) {
        fprintf(stderr, "hookline serve: %s\n", s.err.text);
        return (int)s.err.code;
    }
    s.file = s.dev ? "dev" : file ? file : "/etc/hookline/hookline.yaml";
    s.conf = s.boot = conf_load(s.file, s.dev_text, &errs, &warns);
    conf_complain(&warns, "warning: ");
    conf_complain(&errs, "");
    err_list_free(&warns);
    err_list_free(&errs);
    if (!s.conf)
        return EXIT_BAD_CONFIG;
    rc = become_user(s.conf, s.drain, &s.err) || harden(s.conf, &s.err) ? (int)s.err.code : run(&s);
    if (rc && s.err.text[0] && !s.base)
        fprintf(stderr, "hookline serve: %s\n", s.err.text);
    if (s.conf != s.boot)
        conf_free(s.conf);
    conf_free(s.boot);
    keys_free(s.keys);
    free(s.dev_text);
    return rc;
}
