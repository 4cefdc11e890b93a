/* SPDX-License-Identifier: Apache-2.0 */
/* The queue of spans and the thread that sends them.
 *
 * There are two arrays: one that is filled under a lock held for a copy, and one that the thread
 * has on its way to the collector. A batch that was not taken is sent again after a pause that
 * doubles, a few times; what comes meanwhile fills the other array, and then is lost. */
#include <errno.h>
#include <event2/event_struct.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"
#include "post.h"
#include "room.h"

#define QUEUE 2048 /* spans; as many again under way */
#define HURRY 1024
#define EVERY_MS 1000
#define TIMEOUT_MS 5000
#define PAUSE_MS 1000
#define LONGEST_PAUSE_MS 30000
#define TRIES 5
#define STOP_MS 2000

struct otlp {
    struct otlp_cfg cfg;
    char *log_id;
    pthread_t thread;
    int wake; /* eventfd */
    atomic_bool stop;
    pthread_mutex_t lock;
    struct otlp_span *filling;
    size_t n;
    _Atomic uint64_t full;
    /* the thread's */
    struct event_base *base;
    struct poster *poster;
    struct post_target to;
    struct event woken, timer;
    struct otlp_span *sending;
    size_t sending_n;
    struct buf body;
    bool under_way;
    unsigned failures;
    int64_t due_ms;
    struct log_limit said;
    struct counter exported, refused, given_up;
};

const struct cfg_key *otlp_cfg_keys(void)
{
    static const struct cfg_key keys[] = {
        { "enabled", CFG_BOOL, offsetof(struct otlp_cfg, enabled), "false",
          .help = "Whether each event belongs to a trace: the `traceparent` that its request has, "
                  "or a new one, goes into the log and to the sinks." },
        { "rate", CFG_INT, offsetof(struct otlp_cfg, rate), "100", 0, 1000000,
          .help = "How many traces a second that begin here are sampled, at most. Of a trace that "
                  "comes with a request, its own flag counts." },
        { "endpoint", CFG_STR, offsetof(struct otlp_cfg, endpoint), "",
          .help = "Where spans of sampled traces go, by OTLP over HTTP as JSON, such as "
                  "`http://collector:4318/v1/traces`; none by default." },
        { "service", CFG_STR, offsetof(struct otlp_cfg, service), "hookline",
          .help = "The `service.name` of the spans." },
        { 0 }
    };

    return keys;
}

void otlp_check(const struct otlp_cfg *cfg, const struct cfg_node *at, struct err_list *errs)
{
    struct err e = ERR_INIT;

    if (cfg->endpoint[0] && post_check(cfg->endpoint, &e))
        cfg_error(errs, at, "tracing.endpoint %s: %s", cfg->endpoint, e.text);
    if (cfg->endpoint[0] && !cfg->enabled)
        cfg_error(errs, at, "tracing.endpoint needs tracing.enabled: true beside it");
}

void otlp_text(char *to, size_t size, struct span text)
{
    size_t n = MIN(text.n, size - 1);

    if (n)
        memcpy(to, text.p, n);
    to[n] = '\0';
}

static void wake(struct otlp *o)
{
    uint64_t one = 1;

    while (write(o->wake, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

void otlp_add(struct otlp *o, const struct otlp_span *s)
{
    bool hurry = false;

    if (!o)
        return;
    pthread_mutex_lock(&o->lock);
    if (o->n == QUEUE) {
        atomic_fetch_add_explicit(&o->full, 1, memory_order_relaxed);
    } else {
        o->filling[o->n++] = *s;
        hurry = o->n == HURRY;
    }
    pthread_mutex_unlock(&o->lock);
    if (hurry)
        wake(o);
}

/* --- the thread
 * ------------------------------------------------------------------------------------ */

static void give_up(struct otlp *o, const char *why)
{
    uint64_t left_out;

    counter_add(&o->given_up, o->sending_n);
    if (log_limit_pass(&o->said, &left_out))
        log_warn("spans are lost: the collector did not take them", KS("reason", why),
                 KU("spans", o->sending_n), KU("left_out", left_out));
    o->sending_n = 0;
}

/* What may go well another time. */
static bool is_for_now(int status)
{
    return status == 0 || status == 429 || status == 502 || status == 503 || status == 504;
}

static void on_answer(void *arg, const struct post_answer *a)
{
    struct otlp *o = arg;
    char code[32];
    int64_t pause = PAUSE_MS;

    o->under_way = false;
    if (a->status >= 200 && a->status < 300) {
        uint64_t refused = MIN(otlp_json_rejected(a->text), (uint64_t)o->sending_n);
        counter_add(&o->refused, refused);
        counter_add(&o->exported, o->sending_n - refused);
        o->sending_n = 0;
        o->failures = 0;
        o->due_ms = clock_mono_ms() + EVERY_MS;
        return;
    }
    snprintf(code, sizeof code, "answered %d", a->status);
    o->failures++;
    for (unsigned i = 1; i < o->failures && pause < LONGEST_PAUSE_MS; i++)
        pause *= 2;
    o->due_ms = clock_mono_ms() + MIN(pause, (int64_t)LONGEST_PAUSE_MS);
    if (!is_for_now(a->status) || o->failures % TRIES == 0 || atomic_load(&o->stop))
        give_up(o, a->status ? code : a->error);
}

/* Takes what has gathered, unless a batch is still to be sent again. */
static void take(struct otlp *o)
{
    struct otlp_span *full;

    if (o->sending_n)
        return;
    pthread_mutex_lock(&o->lock);
    full = o->filling;
    o->filling = o->sending;
    o->sending_n = o->n;
    o->n = 0;
    pthread_mutex_unlock(&o->lock);
    o->sending = full;
    o->body.n = 0;
    if (o->sending_n)
        otlp_json_write(&o->body, &o->cfg, o->log_id, o->sending, o->sending_n,
                        clock_wall_us() - clock_mono_us());
}

static bool is_half_full(struct otlp *o)
{
    bool much;

    pthread_mutex_lock(&o->lock);
    much = o->n >= HURRY;
    pthread_mutex_unlock(&o->lock);
    return much;
}

static void send_some(struct otlp *o, int64_t timeout_ms)
{
    take(o);
    o->due_ms = clock_mono_ms() + EVERY_MS;
    if (!o->sending_n)
        return;
    o->under_way = true;
    o->to = (struct post_target){ o->cfg.endpoint, NULL, timeout_ms };
    post_start(o->poster, &o->to, S("content-type:application/json\n"), buf_as_span(&o->body),
               on_answer, o);
}

static void on_woken(evutil_socket_t fd, short what UNUSED, void *arg UNUSED)
{
    uint64_t count;

    while (read(fd, &count, sizeof count) < 0 && errno == EINTR)
        ;
}

static void on_time(evutil_socket_t fd UNUSED, short what UNUSED, void *arg UNUSED)
{
}

/* Until something happens, at most so long. */
static void wait_for(struct otlp *o, int64_t ms)
{
    struct timeval tv = { ms / 1000, ms % 1000 * 1000 };

    event_add(&o->timer, &tv);
    event_base_loop(o->base, EVLOOP_ONCE);
}

static void pass(struct otlp *o)
{
    int64_t now = clock_mono_ms();

    if (!o->under_way && (now >= o->due_ms || (!o->failures && is_half_full(o))))
        send_some(o, TIMEOUT_MS);
    wait_for(o, o->under_way ? EVERY_MS : MAX(o->due_ms - clock_mono_ms(), 0) + 1);
}

/* A collector that hangs is waited for no longer than the stop may take. */
static void say_farewell(struct otlp *o)
{
    int64_t by = clock_mono_ms() + STOP_MS;

    while (clock_mono_ms() < by) {
        if (!o->under_way) {
            send_some(o, by - clock_mono_ms());
            if (!o->sending_n)
                return;
        }
        wait_for(o, MAX(by - clock_mono_ms(), 1));
    }
}

static void *run(void *arg)
{
    struct otlp *o = arg;

    prctl(PR_SET_NAME, "otlp");
    while (!atomic_load(&o->stop))
        pass(o);
    say_farewell(o);
    return NULL;
}

/* --- life
 * ------------------------------------------------------------------------------------------- */

struct otlp *otlp_start(const struct otlp_cfg *cfg, const char *log_id)
{
    struct otlp *o;

    if (!cfg->enabled || !cfg->endpoint[0])
        return NULL;
    o = xcalloc(1, sizeof *o);
    o->cfg =
        (struct otlp_cfg){ .endpoint = xstrdup(cfg->endpoint), .service = xstrdup(cfg->service) };
    o->log_id = xstrdup(log_id);
    o->wake = eventfd(0, EFD_CLOEXEC);
    o->base = event_base_new();
    if (o->wake < 0 || !o->base)
        die(EXIT_IO, "no descriptor left for the traces");
    o->poster = poster_new(o->base, 1);
    event_assign(&o->woken, o->base, o->wake, EV_READ | EV_PERSIST, on_woken, o);
    event_assign(&o->timer, o->base, -1, 0, on_time, o);
    event_add(&o->woken, NULL);
    o->filling = xcalloc(QUEUE, sizeof *o->filling);
    o->sending = xcalloc(QUEUE, sizeof *o->sending);
    pthread_mutex_init(&o->lock, NULL);
    if (pthread_create(&o->thread, NULL, run, o))
        die(EXIT_IO, "the thread of the traces could not be started");
    return o;
}

void otlp_metrics(const struct otlp *o, struct buf *out)
{
    static const char dropped[] = "hookline_spans_dropped_total";

    metrics_head(out, "hookline_spans_exported_total", "counter", "Spans that the collector took.");
    metrics_value(out, "hookline_spans_exported_total", (double)counter_get(&o->exported), NULL);
    metrics_head(out, dropped, "counter",
                 "Spans that were lost: the queue was full, the collector was away or hung, or it "
                 "refused them.");
    metrics_value(out, dropped, (double)atomic_load(&o->full), "reason", "full", NULL);
    metrics_value(out, dropped, (double)counter_get(&o->given_up), "reason", "collector", NULL);
    metrics_value(out, dropped, (double)counter_get(&o->refused), "reason", "refused", NULL);
}

void otlp_stop(struct otlp *o)
{
    if (!o)
        return;
    atomic_store(&o->stop, true);
    wake(o);
    pthread_join(o->thread, NULL);
    poster_free(o->poster);
    event_del(&o->woken);
    event_del(&o->timer);
    event_base_free(o->base);
    close(o->wake);
    pthread_mutex_destroy(&o->lock);
    buf_free(&o->body);
    free(o->filling);
    free(o->sending);
    free(o->cfg.endpoint);
    free(o->cfg.service);
    free(o->log_id);
    free(o);
}
