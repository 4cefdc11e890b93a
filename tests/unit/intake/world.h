/* SPDX-License-Identifier: Apache-2.0 */
/* The threads that take requests, over a real log whose sync the test can stop, and clients. */
#pragma once

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "clock.h"
#include "intake/room.h"
#include "table.h"

#define PATIENCE_MS 20000

/* In place of libc's: the disk hangs while the test wants it to. */
static atomic_bool stalled, waiting_in_sync;

int fdatasync(int fd)
{
    while (atomic_load(&stalled)) {
        atomic_store(&waiting_in_sync, true);
        usleep(500);
    }
    return (int)syscall(SYS_fdatasync, fd);
}

/* --- a log, sources, threads
 * ------------------------------------------------------------------------- */

struct sources { /* what one configuration is made of */
    struct source_cfg *cfg[4];
    struct intake_conf conf;
};

struct world {
    char dir[64], bound[160], unix_path[96];
    struct wal *wal;
    struct inbox inbox;
    struct msg failed;
    struct sources first;
    struct intake *in;
};

static inline void add_source(struct sources *s, const char *name, const char *text)
{
    struct err_list errs = { 0 }, warns = { 0 };
    struct cfg_doc *doc = cfg_parse("t.yaml", span_str(text), false, &errs);
    struct intake_conf *c = &s->conf;

    s->cfg[c->n] = calloc(1, source_cfg_size());
    cfg_load(source_cfg_keys(), cfg_root(doc), s->cfg[c->n], &errs);
    c->plans = realloc(c->plans, (c->n + 1) * sizeof *c->plans);
    c->stats = realloc(c->stats, (c->n + 1) * sizeof *c->stats);
    c->plans[c->n] = source_compile(name, s->cfg[c->n], cfg_root(doc), 0, &errs, &warns);
    if (!c->plans[c->n])
        fail_msg("%s", errs.line[0]);
    c->stats[c->n++] = source_stats_get(name);
    cfg_doc_free(doc);
    err_list_free(&errs);
    err_list_free(&warns);
}

static inline void sources_free(struct sources *s)
{
    for (size_t i = 0; i < s->conf.n; i++) {
        source_plan_free(s->conf.plans[i]);
        cfg_release(source_cfg_keys(), s->cfg[i]);
        free(s->cfg[i]);
    }
    free(s->conf.plans);
    free(s->conf.stats);
    *s = (struct sources){ 0 };
}

/* Names are the tests' own, since what is counted lives as long as the process. */
static inline void make_sources(struct sources *s, const char *name)
{
    *s = (struct sources){ 0 };
    cfg_load(intake_limits_keys(), NULL, &s->conf.limits, &(struct err_list){ 0 });
    add_source(s, name,
               "provider: none\nid: { header: x-id }\ntype: { path: type }\ndedup: id\n"
               "body_bytes: 1000\n");
}

static inline void ignore(struct msg *m UNUSED, void *self UNUSED)
{
}

static inline void open_log(struct world *w)
{
    struct err e = ERR_INIT;
    struct wal_cfg cfg = { .dir = w->dir,
                           .segment_bytes = MIB(4),
                           .retain_ms = 3600000,
                           .retain_bytes = GIB(1),
                           .backlog_bytes = GIB(1),
                           .allow_volatile = true };
    struct wal_dedup_cfg dedup = { .window_ms = 3600000, .entries = 1000 };

    if (wal_open(&w->wal, &cfg, &dedup, &e))
        fail_msg("%s", e.text);
    inbox_init(&w->inbox);
    w->failed.deliver = ignore;
    wal_start(w->wal, &w->inbox, &w->failed);
}

static inline int set_up(void **state)
{
    struct world *w = calloc(1, sizeof *w);

    strcpy(w->dir, "build/intake-XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    snprintf(w->unix_path, sizeof w->unix_path, "%s/s", w->dir);
    open_log(w);
    *state = w;
    return 0;
}

static inline void start(struct world *w, unsigned threads)
{
    char unix_address[128];
    char *addresses[] = { (char *)(uintptr_t) "127.0.0.1:0", unix_address };
    struct err e = ERR_INIT;

    snprintf(unix_address, sizeof unix_address, "unix:%s", w->unix_path);
    if (intake_start(&w->in, w->wal, &w->first.conf, addresses, 2, threads, w->bound, &e))
        fail_msg("%s", e.text);
}

static inline int tear_down(void **state)
{
    struct world *w = *state;
    char command[128];

    atomic_store(&stalled, false);
    intake_stop(w->in, PATIENCE_MS);
    wal_close(w->wal);
    inbox_close(&w->inbox);
    sources_free(&w->first);
    snprintf(command, sizeof command, "rm -rf %s", w->dir);
    assert_int_equal(system(command), 0);
    free(w);
    return 0;
}

static inline void stall(void)
{
    atomic_store(&waiting_in_sync, false);
    atomic_store(&stalled, true);
}

static inline void until_the_log_waits(void)
{
    for (int64_t end = clock_mono_ms() + PATIENCE_MS; !atomic_load(&waiting_in_sync); usleep(1000))
        assert_true(clock_mono_ms() < end);
}

/* --- clients
 * ----------------------------------------------------------------------------------------- */

static inline int client(const struct world *w)
{
    struct sockaddr_in a = { .sin_family = AF_INET,
                             .sin_port = htons((uint16_t)atoi(strrchr(w->bound, ':') + 1)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    struct timeval patience = { PATIENCE_MS / 1000, 0 };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    return fd;
}

static inline void says(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static inline void post(int fd, const char *source, const char *id, const char *body)
{
    char text[2048];

    snprintf(text, sizeof text,
             "POST /hooks/%s HTTP/1.1\r\nHost: a\r\nx-id: %s\r\nContent-Length: %zu\r\n\r\n%s",
             source, id, strlen(body), body);
    says(fd, text);
}

/* Reads n answers; the text of all of them is the caller's. */
static inline char *hears(int fd, size_t n)
{
    struct buf b = BUF_INIT;

    for (;;) { /* bodies are JSON objects without others in them */
        size_t whole = 0;
        char piece[4096];
        ssize_t got;
        for (char *at = buf_cstr(&b); (at = strstr(at, "\r\n\r\n")); at += 4)
            whole += strchr(at, '}') != NULL;
        if (whole >= n)
            return buf_take(&b);
        got = recv(fd, piece, sizeof piece, 0);
        if (got <= 0)
            fail_msg("%zu of %zu answers: %s", whole, n, buf_cstr(&b));
        buf_add(&b, piece, (size_t)got);
    }
}

static inline void expect(int fd, int status, const char *text)
{
    char line[32], *got = hears(fd, 1);

    snprintf(line, sizeof line, "HTTP/1.1 %d ", status);
    if (strncmp(got, line, strlen(line)) || !strstr(got, text))
        fail_msg("not %d %s: %s", status, text, got);
    free(got);
}

static inline bool ended(int fd)
{
    char c;

    return recv(fd, &c, 1, 0) == 0;
}

/* The value of one series as its text says, -1 when it is not there. */
static inline double series(const struct buf *metrics, const char *name)
{
    const char *at = strstr(metrics->p, name);

    return at ? atof(at + strlen(name)) : -1;
}

static inline double of_intake(const struct world *w, const char *name)
{
    struct buf b = BUF_INIT;
    double v;

    intake_metrics(w->in, &b);
    buf_cstr(&b);
    v = series(&b, name);
    buf_free(&b);
    return v;
}

static inline double of_log(const struct world *w, const char *name)
{
    struct buf b = BUF_INIT;
    double v;

    wal_metrics(w->wal, &b);
    buf_cstr(&b);
    v = series(&b, name);
    buf_free(&b);
    return v;
}
