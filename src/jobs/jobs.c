/* SPDX-License-Identifier: Apache-2.0 */
/* The reader of the jobs, and its life.
 *
 * The log is read in short passes, so that nothing else of the loop waits long for a start with
 * much of it. While somebody waits, what becomes durable is read at once; else a few times a
 * second, and before every question. A record that is damaged is named and passed over: this table
 * promises nothing that the sinks do not. */
#include <string.h>

#include "clock.h"
#include "log.h"
#include "metrics.h"
#include "room.h"

#define READS_A_PASS 512
#define READS_AT_MOST 200000 /* for one question */
#define FALLBACK_CONNECTIONS 4
#define DAMAGE_COSTS 64 /* reads: finding the way behind it takes as long */

#define B(m) (offsetof(struct jobs_cfg, fallback.m) - offsetof(struct jobs_cfg, fallback))

const struct cfg_key *jobs_cfg_keys(void)
{
    static const struct cfg_key fallback[] = {
        { "command", CFG_STRS, B(command),
          .help = "Program, with its whole path, and arguments; run without a shell once for each "
                  "job that becomes overdue, with the overdue event's body on stdin, HOOKLINE_JOB "
                  "and HOOKLINE_SOURCE in the environment." },
        { "url", CFG_STR, B(url),
          .help = "Or a URL: the overdue event is sent there once, as a sink with `http` would, "
                  "and not tried again." },
        { "secrets", CFG_SECRETS, B(secrets),
          .help = "What that request is signed with, as `sinks.NAME.http.secrets`." },
        { "ca", CFG_STR, B(ca), .flags = CFG_FILE,
          .help = "PEM file of the authorities for it; default the system's." },
        { "timeout", CFG_MSEC, B(timeout_ms), "30s", 1, 3600000,
          .help = "Then the command is killed, the request cut off." },
        { 0 }
    };
    static const struct cfg_key keys[] = {
        { "entries", CFG_INT, offsetof(struct jobs_cfg, entries), "50000", 0, 10000000,
          .help = "How many jobs are known at once, some 250 bytes each; 0: none, and "
                  "`/v1/jobs` is not there. The oldest finished ones are forgotten first, expected "
                  "ones never before their deadline." },
        { "waiters", CFG_INT, offsetof(struct jobs_cfg, waiters), "10000", 1, 1000000,
          .help = "How many requests may wait for a job at once; more are answered 503." },
        { "fallback", CFG_SECTION, offsetof(struct jobs_cfg, fallback), .sub = fallback,
          .help = "A command or a URL that can ask the provider of an overdue job." },
        { 0 }
    };

    return keys;
}

void jobs_check(const struct jobs_cfg *cfg, const struct cfg_node *at, struct err_list *errs,
                struct err_list *warns)
{
    const struct cfg_strs *command = &cfg->fallback.command;
    const char *url = cfg->fallback.url;

    if (command->n && url)
        cfg_error(errs, at, "jobs.fallback takes one of command and url");
    if (url)
        sink_http_check_target("jobs.fallback", url, cfg->fallback.ca, &cfg->fallback.secrets, at,
                               errs, warns);
    else if (cfg->fallback.ca || cfg->fallback.secrets.n)
        cfg_error(errs, at, "jobs.fallback.ca and secrets are for a url");
    if (command->n && command->v[0][0] != '/')
        cfg_error(errs, at, "jobs.fallback.command begins with the whole path of a program, not %s",
                  command->v[0]);
}

/* --- reading
 * ------------------------------------------------------------------------------------------ */

static void say_known(struct jobs *j)
{
    j->known = true;
    j->next_due_ms = 0;
    log_info("jobs are known", KU("jobs", j->n), KU("expected", j->list_n[LIST_EXPECTED]),
             KU("lsn", j->at));
}

static void pass_damage(struct jobs *j, const struct err *e)
{
    static struct log_limit limit;
    uint64_t left_out;

    if (log_limit_pass(&limit, &left_out))
        log_error("the jobs do not know a record that cannot be read", KS("reason", e->text),
                  KU("left_out", left_out));
    wal_reader_seek(j->reader, ++j->at);
}

/* False: the end of what is durable. */
static bool read_some(struct jobs *j, int most)
{
    struct err e = ERR_INIT;
    struct record rec;

    while (most-- > 0)
        switch (wal_reader_next(j->reader, &rec, NULL, &e)) {
        case WAL_READ_OK:
            j->at = rec.lsn;
            table_apply(j, &rec);
            wait_wake(j, &rec);
            break;
        case WAL_READ_GONE: /* trimmed before it was read; the position has moved */
            break;
        case WAL_READ_DAMAGED:
            pass_damage(j, &e);
            most -= DAMAGE_COSTS;
            break;
        case WAL_READ_END:
            if (!j->known)
                say_known(j);
            return false;
        }
    return true;
}

static void turn_soon(struct jobs *j)
{
    static const struct timeval now = { 0, 0 };

    event_add(&j->turn, &now);
}

static void on_turn(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
    struct jobs *j = arg;

    if (read_some(j, READS_A_PASS))
        turn_soon(j);
}

void jobs_read_on(struct jobs *j)
{
    if (!j->stopped && j->known && read_some(j, READS_AT_MOST))
        turn_soon(j);
}

void jobs_listen(struct jobs *j)
{
    wal_watch_arm(&j->watch);
    turn_soon(j); /* arm, look again, wait */
}

static void on_durable(struct wal_watch *watch UNUSED, void *self)
{
    struct jobs *j = self;

    if (j->stopped)
        return;
    if (j->waits_n)
        wal_watch_arm(&j->watch);
    on_turn(-1, 0, j);
}

static void on_inbox(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
    struct jobs *j = arg;

    inbox_run(&j->inbox, j);
}

static void on_tick(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
    struct jobs *j = arg;
    struct wal_info i;

    wal_info(j->wal, &i);
    table_forget_below(j, i.first_lsn);
    jobs_read_on(j);
    expect_tick(j);
}

/* --- life
 * --------------------------------------------------------------------------------------------- */

struct jobs *jobs_open(struct wal *w, struct event_base *base, const struct jobs_cfg *cfg)
{
    static const struct timeval tick = { 0, 250000 };
    struct jobs *j = xcalloc(1, sizeof *j);
    struct err e = ERR_INIT;
    struct wal_info i;

    *j = (struct jobs){ .wal = w, .base = base, .cfg = cfg };
    wal_info(w, &i);
    j->at = i.first_lsn - 1;
    for (int l = 0; l < LISTS; l++)
        TAILQ_INIT(&j->lists[l]);
    TAILQ_INIT(&j->waits);
    TAILQ_INIT(&j->due);
    TAILQ_INIT(&j->running);
    TAILQ_INIT(&j->queued);
    if (cfg->fallback.url) {
        j->poster = poster_new(base, FALLBACK_CONNECTIONS);
        j->signer = sink_signer_new(&cfg->fallback.secrets);
    }
    names_init(&j->names, (uint64_t)cfg->entries);
    names_init(&j->waited, (uint64_t)cfg->waiters);
    inbox_init(&j->inbox);
    event_assign(&j->inbox_ev, base, j->inbox.fd, EV_READ | EV_PERSIST, on_inbox, j);
    event_assign(&j->tick, base, -1, EV_PERSIST, on_tick, j);
    event_assign(&j->turn, base, -1, 0, on_turn, j);
    event_add(&j->inbox_ev, NULL);
    event_add(&j->tick, &tick);
    j->watch.deliver = on_durable;
    j->watch.in = &j->inbox;
    wal_watch_add(w, &j->watch);
    if (wal_reader_open(&j->reader, w, j->at, &e))
        die(EXIT_IO, "%s", e.text);
    turn_soon(j);
    return j;
}

void jobs_plans(struct jobs *j, struct source_plan *const *plans, size_t n)
{
    j->plans = plans;
    j->plans_n = n;
}

void jobs_stop(struct jobs *j)
{
    if (!j || j->stopped)
        return;
    j->stopped = true;
    wait_end_all(j);
    fallback_stop(j);
    event_del(&j->tick);
    event_del(&j->turn);
    wal_watch_remove(j->wal, &j->watch);
    wal_reader_close(j->reader);
    j->reader = NULL;
}

void jobs_free(struct jobs *j)
{
    if (!j)
        return;
    jobs_stop(j);
    inbox_run(&j->inbox, j); /* the log is closed: all its answers are here */
    event_del(&j->inbox_ev);
    inbox_close(&j->inbox);
    table_free(j);
    names_free(&j->waited);
    free(j);
}

bool jobs_ready(const struct jobs *j)
{
    return j->known;
}

/* --- shown
 * ------------------------------------------------------------------------------------------ */

void jobs_status(const struct jobs *j, struct buf *json)
{
    buf_printf(json,
               "{\"state\":\"%s\",\"lsn\":%llu,\"known\":%zu,\"expected\":%zu,\"finished\":%zu,"
               "\"waiting\":%zu,\"overdue_total\":%llu}",
               j->known ? "ok" : "reading", (unsigned long long)j->at, j->n,
               j->list_n[LIST_EXPECTED], j->list_n[LIST_FINISHED], j->waits_n,
               (unsigned long long)j->overdue_n);
}

void jobs_metrics(const struct jobs *j, struct buf *out)
{
    const struct {
        const char *name, *type, *help;
        double v;
    } rows[] = {
        { "hookline_jobs", "gauge", "Jobs that are known.", (double)j->n },
        { "hookline_jobs_expected", "gauge", "Jobs with a deadline that is running.",
          (double)j->list_n[LIST_EXPECTED] },
        { "hookline_jobs_overdue_total", "counter", "Jobs whose deadline passed, as read.",
          (double)j->overdue_n },
        { "hookline_jobs_fallback_total", "counter", "Calls of `jobs.fallback` that succeeded.",
          (double)j->fallback_n[true] },
        { "hookline_jobs_fallback_failed_total", "counter", "Calls of `jobs.fallback` that failed.",
          (double)j->fallback_n[false] },
        { "hookline_jobs_forgotten_total", "counter", "Jobs forgotten to make room.",
          (double)j->forgotten_n },
        { "hookline_job_waiters", "gauge", "Requests that wait for a job.", (double)j->waits_n },
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        metrics_head(out, rows[i].name, rows[i].type, rows[i].help);
        metrics_value(out, rows[i].name, rows[i].v, NULL);
    }
}
