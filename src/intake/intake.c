/* SPDX-License-Identifier: Apache-2.0 */
/* The threads: starting, publishing a configuration, stopping. What is ready is taken in before it
 * goes to the log, in one hand-over, so that it shares one sync. */
#include "intake.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"
#include "room.h"

#define F(m) offsetof(struct intake_limits_cfg, m)
#define RESERVED_FDS 128 /* for the log, the sinks and the admin listener */
#define ENOUGH 16 /* requests that are handed to the log before all that is ready is taken in */
#define HOLD_US 1000
#define SILENT_MS 60000
#define NETWORKS 65536 /* whose rate is known at a time; 1 MiB, touched when it is used */
#define N(m) (offsetof(struct intake_network_cfg, m))

const struct cfg_key *intake_limits_keys(void)
{
    static const struct cfg_key network[] = {
        { "rate", CFG_INT, N(rate), "0", 0, 1000000, .flags = CFG_RELOAD,
          .help = "Requests a second, genuine or not; more get 429. 0: no limit." },
        { "burst", CFG_INT, N(burst), "0", 0, 10000000, .flags = CFG_RELOAD,
          .help = "How many may come at once after a pause; 0: ten seconds' worth." },
        { "connections", CFG_INT, N(connections), "0", 0, 1000000, .flags = CFG_RELOAD,
          .help =
              "Connections at a time; more get 503. 0: half of all, but for this machine itself. "
              "Trusted proxies are not counted." },
        { "ipv4_prefix", CFG_INT, N(ipv4_prefix), "32", 8, 32, .flags = CFG_RELOAD,
          .help = "How many bits of an IPv4 address make a network." },
        { "ipv6_prefix", CFG_INT, N(ipv6_prefix), "64", 16, 128, .flags = CFG_RELOAD,
          .help = "How many bits of an IPv6 address make a network." },
        { 0 }
    };
    static const struct cfg_key keys[] = {
        { "buffer_bytes", CFG_BYTES, F(buffer_bytes), "256MiB", (int64_t)MIB(1), (int64_t)GIB(64),
          .flags = CFG_RELOAD,
          .help = "Bytes of requests held in memory by all connections together." },
        { "body_bytes", CFG_BYTES, F(body_bytes), "1MiB", 1, (int64_t)MIB(512), .flags = CFG_RELOAD,
          .help = "Largest body, inclusive; a source can set its own." },
        { "header_bytes", CFG_BYTES, F(header_bytes), "16KiB", 1024, 65536, .flags = CFG_RELOAD,
          .help = "Request line and headers together." },
        { "connections", CFG_INT, F(connections), "10000", 1, 1000000, .flags = CFG_RELOAD,
          .help = "Connections at a time; the descriptor limit may lower it." },
        { "handshake_timeout", CFG_MSEC, F(handshake_timeout_ms), "5s", 1, 3600000,
          .flags = CFG_RELOAD, .help = "From the connection to the end of the TLS handshake." },
        { "header_timeout", CFG_MSEC, F(header_timeout_ms), "10s", 1, 3600000, .flags = CFG_RELOAD,
          .help = "From the first byte to the end of the headers." },
        { "body_timeout", CFG_MSEC, F(body_timeout_ms), "30s", 1, 3600000, .flags = CFG_RELOAD,
          .help = "For the whole body, which must also come at 1 KiB/s." },
        { "idle_timeout", CFG_MSEC, F(idle_timeout_ms), "60s", 1, 3600000, .flags = CFG_RELOAD,
          .help = "A kept connection without a request." },
        { "commit_timeout", CFG_MSEC, F(commit_timeout_ms), "5s", 1, 3600000, .flags = CFG_RELOAD,
          .help = "A sender that waited this long for the disk gets 503 commit_timeout, for the "
                  "sinks (`ack: broker`) 503 broker_timeout." },
        { "per_network", CFG_SECTION, F(per_network), .sub = network,
          .help = "What one network of senders may use." },
        { 0 }
    };

    return keys;
}

static void make_limits(const struct intake *in, const struct intake_conf *conf,
                        struct net_limits *out)
{
    const struct intake_limits_cfg *cfg = &conf->limits;
    uint32_t all =
        net_connection_limit((uint32_t)cfg->connections, RESERVED_FDS + conf->sink_files);

    *out = (struct net_limits){
        .http = { .header_bytes = (size_t)cfg->header_bytes,
                  .target_bytes = 8192,
                  .body_bytes = cfg->body_bytes },
        .buffer_bytes = cfg->buffer_bytes,
        .connections = MAX(all / in->n, 1u),
        .handshake_timeout_ms = cfg->handshake_timeout_ms,
        .header_timeout_ms = cfg->header_timeout_ms,
        .body_timeout_ms = cfg->body_timeout_ms,
        .idle_timeout_ms = cfg->idle_timeout_ms,
        .reply_timeout_ms = 10000,
        .pipeline = 32,
        .network_connections = cfg->per_network.connections ? (uint32_t)cfg->per_network.connections
                                                            : MAX(all / 2, 1u),
        .local_uncounted = !cfg->per_network.connections,
        .prefixes = { (uint8_t)cfg->per_network.ipv4_prefix,
                      (uint8_t)cfg->per_network.ipv6_prefix },
        .places = in->places,
        .uncounted = &conf->proxies.trusted,
    };
}

static void on_inbox(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
    struct intake_thread *t = arg;

    inbox_run(&t->inbox, t);
}

static void on_tick(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
    struct intake_thread *t = arg;
    int64_t now = clock_mono_ms();

    atomic_store_explicit(&t->turned_ms, now, memory_order_relaxed);
    atomic_store_explicit(&t->connections, net_connections(t->server), memory_order_relaxed);
    intake_expire(t, now, false);
}

static bool finished(const struct intake_thread *t)
{
    return t->stop_by_ms &&
           ((!t->waiting_n && !net_unanswered(t->server)) || clock_mono_ms() >= t->stop_by_ms);
}

static void hand_over(struct intake_thread *t)
{
    wal_submit(t->in->wal, &t->gathered);
    t->gathered_n = 0;
}

/* One pass over what is ready. What it gathered is handed over once a pass finds nothing more for
 * the log, when it is enough for the log to begin (the rest comes while that is synced), or when it
 * has waited long enough for passes that others made long. */
static void pass(struct intake_thread *t)
{
    size_t before = t->gathered_n;

    event_base_loop(t->base, EVLOOP_ONCE | (before ? EVLOOP_NONBLOCK : 0));
    if (!before)
        t->gathered_us = clock_mono_us();
    if (t->gathered_n == before || t->gathered_n >= ENOUGH ||
        clock_mono_us() - t->gathered_us >= HOLD_US)
        hand_over(t);
}

static void *run(void *arg)
{
    struct intake_thread *t = arg;
    char name[16];

    snprintf(name, sizeof name, "intake-%u", t->number);
    prctl(PR_SET_NAME, name);
    while (!finished(t))
        pass(t);
    hand_over(t);
    intake_expire(t, INT64_MAX, true);
    return NULL;
}

static void thread_init(struct intake *in, unsigned number, const struct intake_conf *conf)
{
    static const struct timeval tick = { 0, 250000 };
    struct intake_thread *t = &in->threads[number];
    struct event_config *ec = event_config_new();
    struct net_limits limits;

    event_config_set_flag(ec, EVENT_BASE_FLAG_NOLOCK);
    *t = (struct intake_thread){
        .in = in, .number = number, .conf = conf, .base = event_base_new_with_config(ec)
    };
    event_config_free(ec);
    if (!t->base)
        die(EXIT_IO, "no event loop could be made");
    TAILQ_INIT(&t->waiting);
    inbox_init(&t->inbox);
    histogram_init_seconds(&t->ack_seconds);
    t->unmatched = source_stats_get("-");
    t->turned_ms = clock_mono_ms();
    make_limits(in, conf, &limits);
    t->server =
        net_server_new(t->base, &limits, &in->held, &intake_handler, t, sizeof(struct pending));
    event_assign(&t->inbox_ev, t->base, t->inbox.fd, EV_READ | EV_PERSIST, on_inbox, t);
    event_add(&t->inbox_ev, NULL);
    event_assign(&t->tick, t->base, -1, EV_PERSIST, on_tick, t);
    event_add(&t->tick, &tick);
    traced_start(t);
    share_start(t);
    share_configure(t, limits.connections);
    broker_start(t);
    replicas_start(t);
}

/* Unix sockets are bound once and accepted from by all threads; TCP ports are shared by the kernel.
 */
static int listen_shared(struct intake *in, const char *address, char *text, struct err *e)
{
    int fd = net_bind(address, false, text, e);

    if (fd < 0)
        return -1;
    in->shared_fds = xrealloc(in->shared_fds, (in->shared_n + 1) * sizeof *in->shared_fds);
    in->shared_paths = xrealloc(in->shared_paths, (in->shared_n + 1) * sizeof *in->shared_paths);
    in->shared_fds[in->shared_n] = fd;
    in->shared_paths[in->shared_n++] = xstrdup(address + 5);
    for (unsigned i = 0; i < in->n; i++)
        net_listen_fd(in->threads[i].server, fd);
    return 0;
}

static int listen_on(struct intake *in, const char *address, char *text, struct err *e)
{
    char first[128];

    if (!strncmp(address, "unix:", 5))
        return listen_shared(in, address, text, e);
    if (net_listen(in->threads[0].server, address, in->n > 1, first, e))
        return -1;
    for (unsigned i = 1; i < in->n; i++) /* port 0 was decided by the first */
        if (net_listen(in->threads[i].server, first, true, NULL, e))
            return -1;
    snprintf(text, 128, "%s", first);
    return 0;
}

/* Threads whose requests the log still has: it will give them back to nobody, but it must find the
 * memory. The process is about to end. */
static struct intake *left_behind;

static void close_all(struct intake *in)
{
    for (unsigned i = 0; i < in->n; i++) {
        struct intake_thread *t = &in->threads[i];
        broker_stop(t);
        if (t->waiting_n) {
            net_stop_listening(t->server);
            left_behind = in;
            continue;
        }
        net_server_free(t->server);
        share_stop(t);
        claims_free(t->claims);
        event_del(&t->inbox_ev);
        event_del(&t->tick);
        event_base_free(t->base);
        inbox_close(&t->inbox);
        source_event_free(&t->ev);
        buf_free(&t->trace_lines);
    }
    for (size_t i = 0; i < in->shared_n; i++) {
        close(in->shared_fds[i]);
        unlink(in->shared_paths[i]);
        free(in->shared_paths[i]);
    }
    free(in->shared_fds);
    free(in->shared_paths);
    if (left_behind == in)
        return;
    rate_table_free(in->networks);
    rate_places_free(in->places);
    free(in->threads);
    free(in->controls);
    free(in);
}

static void set_doors(struct intake_thread *t)
{
    for (size_t i = 0; i < t->conf->doors_n; i++)
        net_set_door(t->server, i, &t->conf->doors[i]);
}

static const char *scheme(const struct intake_conf *conf, const char *address)
{
    if (!strncmp(address, "unix:", 5))
        return "";
    return conf->doors_n && conf->doors[0].tls ? "https://" : "http://";
}

int intake_start(struct intake **out, struct wal *w, const struct intake_conf *conf,
                 char *const *listen, size_t listen_n, unsigned threads, char *bound, struct err *e)
{
    struct intake *in = xcalloc(1, sizeof *in);
    char text[128];

    in->wal = w;
    in->networks = rate_table_new(NETWORKS);
    in->places = rate_places_new(NETWORKS);
    in->sinks = conf->sinks;
    in->sinks_n = conf->sinks_n;
    in->n = MIN(threads ? threads : 1, (unsigned)THREADS_MAX);
    in->threads = xcalloc(in->n, sizeof *in->threads);
    in->controls = xcalloc(in->n, sizeof *in->controls);
    pthread_mutex_init(&in->lock, NULL);
    pthread_cond_init(&in->done, NULL);
    for (unsigned i = 0; i < in->n; i++)
        thread_init(in, i, conf);
    for (size_t i = 0; i < listen_n; i++) {
        if (listen_on(in, listen[i], text, e)) {
            close_all(in);
            return -1;
        }
        log_info("listening", KS("address", text));
        if (bound && i == 0)
            snprintf(bound, 160, "%s%s", scheme(conf, text), text);
    }
    for (unsigned i = 0; i < in->n; i++)
        set_doors(&in->threads[i]);
    for (unsigned i = 0; i < in->n; i++)
        if (pthread_create(&in->threads[i].thread, NULL, run, &in->threads[i]))
            die(EXIT_IO, "an intake thread could not be started");
    *out = in;
    return 0;
}

static void acknowledge(struct intake *in)
{
    pthread_mutex_lock(&in->lock);
    in->acks++;
    pthread_cond_signal(&in->done);
    pthread_mutex_unlock(&in->lock);
}

/* Requests whose head was routed by the old configuration are finished by no plan any more. */
static void on_publish(struct msg *m, void *self)
{
    struct control *c = container_of(m, struct control, msg);
    struct intake_thread *t = self;
    struct net_limits limits;

    t->conf = c->conf;
    replicas_configure(t);
    make_limits(t->in, c->conf, &limits);
    net_set_limits(t->server, &limits);
    share_configure(t, limits.connections);
    set_doors(t);
    acknowledge(t->in);
}

void intake_publish(struct intake *in, const struct intake_conf *conf)
{
    in->acks = 0;
    for (unsigned i = 0; i < in->n; i++) {
        in->controls[i] = (struct control){ .msg.deliver = on_publish, .conf = conf, .in = in };
        inbox_post(&in->threads[i].inbox, &in->controls[i].msg);
    }
    pthread_mutex_lock(&in->lock);
    while (in->acks < in->n)
        pthread_cond_wait(&in->done, &in->lock);
    pthread_mutex_unlock(&in->lock);
}

static void on_stop(struct msg *m, void *self)
{
    struct control *c = container_of(m, struct control, msg);
    struct intake_thread *t = self;

    net_stop_listening(t->server);
    net_drain(t->server);
    t->stop_by_ms = clock_mono_ms() + c->timeout_ms;
}

void intake_stop(struct intake *in, int64_t timeout_ms)
{
    if (!in)
        return;
    for (unsigned i = 0; i < in->n; i++) {
        in->controls[i] =
            (struct control){ .msg.deliver = on_stop, .timeout_ms = timeout_ms, .in = in };
        inbox_post(&in->threads[i].inbox, &in->controls[i].msg);
    }
    for (unsigned i = 0; i < in->n; i++)
        pthread_join(in->threads[i].thread, NULL);
    close_all(in);
}

bool intake_turning(const struct intake *in, int64_t now_mono_ms)
{
    for (unsigned i = 0; i < in->n; i++)
        if (now_mono_ms - atomic_load(&in->threads[i].turned_ms) > SILENT_MS)
            return false;
    return true;
}

/* cgroup v2 "max 100000" or "150000 100000"; 0: no limit there. */
static unsigned quota_cores(void)
{
    FILE *f = fopen("/sys/fs/cgroup/cpu.max", "re");
    long long quota = 0, period = 0;

    if (f && fscanf(f, "%lld %lld", &quota, &period) != 2)
        quota = 0;
    if (f)
        fclose(f);
    return quota > 0 && period > 0 ? (unsigned)MAX((quota + period - 1) / period, 1) : 0;
}

unsigned intake_default_threads(void)
{
    unsigned cores = 1, quota = quota_cores();
    cpu_set_t set;

    if (!sched_getaffinity(0, sizeof set, &set))
        cores = (unsigned)CPU_COUNT(&set);
    cores = quota && quota < cores ? quota : cores;
    return MIN(cores, (unsigned)THREADS_MAX);
}

/* --- what is counted
 * ----------------------------------------------------------------------------------- */

static struct source_stats *all_stats;
static const int codes[CODES] = { 200, 202, 204, 400, 401, 403, 404, 405, 408,
                                  411, 413, 414, 417, 429, 431, 501, 503, 505 };

int code_index(int status)
{
    for (int i = 0; i < CODES; i++)
        if (codes[i] == status)
            return i;
    return 0;
}

struct source_stats *source_stats_get(const char *source)
{
    struct source_stats *s;

    for (s = all_stats; s; s = s->next)
        if (!strcmp(s->name, source))
            return s;
    s = xcalloc(1, sizeof *s + 64);
    s = (struct source_stats *)(void *)(((uintptr_t)s + 63) &
                                        ~(uintptr_t)63); /* lives as long as the process */
    s->name = xstrdup(source);
    pthread_mutex_init(&s->rejected.lock, NULL);
    for (unsigned i = 0; i < THREADS_MAX; i++)
        s->part[i].skew_ms = INT64_MIN;
    s->next = all_stats;
    all_stats = s;
    return s;
}

struct source_stats *source_stats_first(void)
{
    return all_stats;
}

#define SUM(in, s, member)                                                                         \
    ({                                                                                             \
        uint64_t sum_ = 0;                                                                         \
        for (unsigned i_ = 0; i_ < (in)->n; i_++)                                                  \
            sum_ += counter_get(&(s)->part[i_].member);                                            \
        sum_;                                                                                      \
    })

static void status_of(const struct intake *in, const struct source_stats *s, struct buf *json)
{
    int64_t last = 0;
    char text[CLOCK_TEXT_MAX];
    const char *sep = "";

    buf_json_string(json, span_str(s->name));
    buf_printf(json, ":{\"accepted\":%llu,\"duplicate\":%llu,\"rejected\":{",
               (unsigned long long)SUM(in, s, accepted),
               (unsigned long long)SUM(in, s, duplicates));
    for (int v = VERDICT_OK + 1; v < VERDICTS; v++) {
        uint64_t n = SUM(in, s, rejected[v]);
        if (!n)
            continue;
        buf_printf(json, "%s\"%s\":%llu", sep, verdict_name((enum verdict)v),
                   (unsigned long long)n);
        sep = ",";
    }
    for (unsigned i = 0; i < in->n; i++)
        last = MAX(last, atomic_load(&s->part[i].last_ms));
    buf_printf(json, "},\"last_at\":%s%s%s}", last ? "\"" : "",
               last ? clock_text(last, text) : "null", last ? "\"" : "");
}

void intake_status(const struct intake *in, struct buf *json)
{
    const char *sep = "";

    buf_addc(json, '{');
    for (const struct source_stats *s = all_stats; s; s = s->next) {
        if (!strcmp(s->name, "-"))
            continue;
        buf_adds(json, sep);
        status_of(in, s, json);
        sep = ",";
    }
    buf_addc(json, '}');
}

static void print_codes(const struct intake *in, struct buf *out)
{
    char code[16];

    metrics_head(out, "hookline_requests_total", "counter",
                 "Requests answered, by source and status.");
    for (const struct source_stats *s = all_stats; s; s = s->next)
        for (int i = 0; i < CODES; i++) {
            uint64_t n = SUM(in, s, codes[i]);
            snprintf(code, sizeof code, "%d", codes[i]);
            if (n)
                metrics_value(out, "hookline_requests_total", (double)n, "source", s->name, "code",
                              code, NULL);
        }
}

static void print_rejected(const struct intake *in, struct buf *out)
{
    metrics_head(out, "hookline_rejected_total", "counter",
                 "Deliveries refused, by their true reason.");
    for (const struct source_stats *s = all_stats; s; s = s->next)
        for (int v = VERDICT_OK + 1; v < VERDICTS; v++) {
            uint64_t n = SUM(in, s, rejected[v]);
            if (n)
                metrics_value(out, "hookline_rejected_total", (double)n, "source", s->name,
                              "reason", verdict_name((enum verdict)v), NULL);
        }
}

static void print_skew(const struct intake *in, struct buf *out)
{
    metrics_head(out, "hookline_clock_skew_seconds", "gauge",
                 "Our clock minus the verified timestamp of the last delivery.");
    for (const struct source_stats *s = all_stats; s; s = s->next) {
        int64_t skew = INT64_MIN;
        for (unsigned i = 0; i < in->n; i++)
            skew = MAX(skew, atomic_load(&s->part[i].skew_ms));
        if (skew != INT64_MIN)
            metrics_value(out, "hookline_clock_skew_seconds", (double)skew / 1e3, "source", s->name,
                          NULL);
    }
}

#define PRINT_SUM(family, help, member)                                                            \
    do {                                                                                           \
        metrics_head(out, family, "counter", help);                                                \
        for (const struct source_stats *s = all_stats; s; s = s->next)                             \
            if (strcmp(s->name, "-"))                                                              \
                metrics_value(out, family, (double)SUM(in, s, member), "source", s->name, NULL);   \
    } while (0)

static void print_handshakes(const struct intake *in, struct buf *out)
{
    metrics_head(out, "hookline_handshakes_total", "counter",
                 "Connections by how TLS and the PROXY header before it went.");
    for (int h = 0; h < HANDSHAKES; h++) {
        uint64_t n = 0;
        for (unsigned i = 0; i < in->n; i++)
            n += net_handshakes(in->threads[i].server, (enum net_handshake)h);
        metrics_value(out, "hookline_handshakes_total", (double)n, "result",
                      net_handshake_name((enum net_handshake)h), NULL);
    }
}

void intake_metrics(const struct intake *in, struct buf *out)
{
    struct histogram ack;
    uint64_t connections = 0;

    print_codes(in, out);
    PRINT_SUM("hookline_accepted_total", "Deliveries that became durable.", accepted);
    PRINT_SUM("hookline_duplicates_total", "Repeats that were recognised.", duplicates);
    PRINT_SUM("hookline_duplicates_other_body_total", "Repeats whose body differed from the first.",
              other_body);
    print_rejected(in, out);
    print_skew(in, out);
    histogram_init_seconds(&ack);
    for (unsigned i = 0; i < in->n; i++) {
        histogram_merge(&ack, &in->threads[i].ack_seconds);
        connections += atomic_load(&in->threads[i].connections);
    }
    metrics_head(out, "hookline_ack_duration_seconds", "histogram",
                 "First byte of a request to its 2xx.");
    metrics_histogram(out, "hookline_ack_duration_seconds", &ack, NULL);
    print_handshakes(in, out);
    metrics_head(out, "hookline_connections", "gauge", "Open connections of senders.");
    metrics_value(out, "hookline_connections", (double)connections, NULL);
    replicas_metrics(in, out);
}
