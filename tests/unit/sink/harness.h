/* SPDX-License-Identifier: Apache-2.0 */
/* A sink under test: its settings from YAML, an owner that notes what it is told, a loop that turns
 * until something is true. A real redis-server on a Unix socket is started and killed by its pid.
 */
#pragma once

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <hiredis/hiredis.h>

#include "clock.h"
#include "sink.h"
#include "table.h"

#define LOGID "0b7e0000-0000-4000-8000-000000000001"

struct harness {
    struct event_base *base;
    struct sink_cfg cfg;
    struct sink *sink;
    enum sink_outcome outcome[64];
    int reports[64], done, retry, poison, retried, lost, ready;
    enum sink_state state;
    char reason[512];
    void (*on_ready)(struct harness *h); /* what an owner does at once, or NULL */
};

static inline void note_done(void *arg, uint64_t lsn, enum sink_outcome outcome, const char *reason)
{
    struct harness *h = arg;

    h->outcome[lsn] = outcome;
    h->reports[lsn]++;
    h->done += outcome == SINK_DONE;
    h->retry += outcome == SINK_RETRY;
    h->poison += outcome == SINK_POISON;
    if (outcome == SINK_POISON)
        snprintf(h->reason, sizeof h->reason, "%s", reason);
}

static inline void note_retried(void *arg, uint64_t lsn UNUSED, const char *reason UNUSED)
{
    ((struct harness *)arg)->retried++;
}

static inline void note_lost(void *arg, const char *reason UNUSED)
{
    ((struct harness *)arg)->lost++;
}

static inline void note_state(void *arg, enum sink_state state, const char *reason)
{
    struct harness *h = arg;

    h->state = state;
    snprintf(h->reason, sizeof h->reason, "%s", reason);
}

static inline void note_ready(void *arg)
{
    struct harness *h = arg;

    h->ready++;
    if (h->on_ready)
        h->on_ready(h);
}

/* yaml is one entry of `sinks`. */
static inline void harness_cfg(struct sink_cfg *cfg, const char *yaml, struct err_list *errs)
{
    struct cfg_doc *doc = cfg_parse("test", span_str(yaml), false, errs);

    assert_non_null(doc);
    cfg_load(sink_cfg_keys(), cfg_root(doc), cfg, errs);
    sink_check("t", cfg, cfg_root(doc), 1 << 20, errs, errs);
    cfg_doc_free(doc);
}

/* A row of settings, and what is said of them. */
struct conf_row {
    const char *name, *yaml, *error; /* NULL: good */
};

static UNUSED void conf(void **state)
{
    const struct conf_row *r = *state;
    struct sink_cfg cfg = { 0 };
    struct err_list errs = { 0 };

    harness_cfg(&cfg, r->yaml, &errs);
    if (!r->error)
        assert_int_equal(errs.n, 0);
    else if (!errs.n || !strstr(errs.line[0], r->error))
        fail_msg("wanted \"%s\", got %s", r->error, errs.n ? errs.line[0] : "nothing");
    err_list_free(&errs);
    cfg_release(sink_cfg_keys(), &cfg);
}

/* Of an exactly-once sink: its epoch, and what a test answers for the log. */
static UNUSED uint64_t harness_epoch;
static UNUSED struct sink_owner harness_owner;

static inline void harness_open(struct harness *h, const char *yaml)
{
    struct sink_owner owner = harness_owner;
    struct err_list errs = { 0 };
    struct err e = ERR_INIT;

    owner.arg = h;
    owner.done = note_done;
    owner.retried = note_retried;
    owner.lost = note_lost;
    owner.state = note_state;
    owner.ready = note_ready;
    *h = (struct harness){ .base = event_base_new() };
    harness_cfg(&h->cfg, yaml, &errs);
    if (errs.n)
        fail_msg("%s", errs.line[0]);
    h->sink = sink_type_of(&h->cfg)->open("t", &h->cfg, LOGID, harness_epoch, 1 << 20, h->base,
                                          &owner, &e);
    if (!h->sink)
        fail_msg("%s", e.text);
}

static inline void harness_close(struct harness *h)
{
    h->sink->type->close(h->sink);
    cfg_release(sink_cfg_keys(), &h->cfg);
    event_base_free(h->base);
}

/* Turns the loop until `what` holds; a test that waits for ever has failed. */
#define UNTIL(h, what)                                                                             \
    do {                                                                                           \
        int64_t until_ = clock_mono_ms() + 20000;                                                  \
        while (!(what)) {                                                                          \
            struct timeval tv_ = { 0, 20000 };                                                     \
            event_base_loopexit((h)->base, &tv_);                                                  \
            event_base_dispatch((h)->base);                                                        \
            if (clock_mono_ms() > until_)                                                          \
                fail_msg("never: %s (state %d, %s)", #what, (int)(h)->state, (h)->reason);         \
        }                                                                                          \
    } while (0)

static inline struct record harness_record(uint64_t lsn)
{
    return (struct record){ .lsn = lsn,
                            .kind = RECORD_WEBHOOK,
                            .time_ms = clock_wall_ms(),
                            .source = S("demo"),
                            .type = S("video.generated"),
                            .subject = S("job-7"),
                            .content_type = S("application/json"),
                            .headers = S("x-a:1\nx-b:\"q\"\nx-a:2\n"),
                            .body = S("{\"a\":\"\\u0000\"}\r\n") };
}

static inline void harness_send(struct harness *h, const struct record *rec)
{
    UNTIL(h, h->sink->type->send(h->sink, rec) == 0);
    h->sink->type->flush(h->sink);
}

struct redis_server {
    char dir[64], socket[80];
    pid_t pid;
    redisContext *c;
};

static inline void redis_server_start(struct redis_server *s)
{
    int64_t until = clock_mono_ms() + 10000;

    snprintf(s->dir, sizeof s->dir, "/tmp/hookline-test-XXXXXX");
    assert_non_null(mkdtemp(s->dir));
    snprintf(s->socket, sizeof s->socket, "%s/s", s->dir);
    s->pid = fork();
    if (s->pid == 0) {
        execlp("redis-server", "redis-server", "--dir", s->dir, "--port", "0", "--unixsocket",
               s->socket, "--save", "", "--logfile", "log", (char *)NULL);
        fprintf(stderr, "# redis-server is missing: these tests cannot run\n");
        _exit(127);
    }
    for (;;) {
        s->c = redisConnectUnix(s->socket);
        if (s->c && !s->c->err)
            return;
        redisFree(s->c);
        if (waitpid(s->pid, NULL, WNOHANG) == s->pid || clock_mono_ms() > until)
            fail_msg("redis-server did not start");
        usleep(10000);
    }
}

static inline void redis_server_stop(struct redis_server *s)
{
    char path[96];

    redisFree(s->c);
    kill(s->pid, SIGKILL);
    waitpid(s->pid, NULL, 0);
    unlink(s->socket);
    snprintf(path, sizeof path, "%s/log", s->dir);
    unlink(path);
    rmdir(s->dir);
}
