/* SPDX-License-Identifier: Apache-2.0 */
/* The queue of spans and the thread that sends them.
 *
 * There are two arrays: one that is filled under a lock held for a copy, and one that the thread
 * has on its way to the collector. A batch that was not taken is sent again after a pause that
 * doubles, a few times; what comes meanwhile fills the other array, and then is lost. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

#include "clock.h"
#include "log.h"
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
    struct fetcher *fetcher;
    atomic_bool stop;
    pthread_mutex_t lock;
    struct otlp_span *filling;
    size_t n;
    _Atomic uint64_t full;
    /* the thread's */
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

/* The operator names it: any host and http will do. */
static struct fetch_rules rules(int64_t timeout_ms)
{
    return (
        struct fetch_rules){ .allow_http = true, .allow_private = true, .timeout_ms = timeout_ms };
}

void otlp_check(const struct otlp_cfg *cfg, const struct cfg_node *at, struct err_list *errs)
{
    struct fetch_rules r = rules(TIMEOUT_MS);
    struct err e = ERR_INIT;

    if (cfg->endpoint[0] && fetch_check(cfg->endpoint, &r, &e))
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
        fetcher_wake(o->fetcher);
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

static void on_posted(void *arg, int status, struct span answer, const struct err *e)
{
    struct otlp *o = arg;
    char code[32];
    int64_t pause = PAUSE_MS;

    o->under_way = false;
    if (status >= 200 && status < 300) {
        uint64_t refused = MIN(otlp_json_rejected(answer), (uint64_t)o->sending_n);
        counter_add(&o->refused, refused);
        counter_add(&o->exported, o->sending_n - refused);
        o->sending_n = 0;
        o->failures = 0;
        o->due_ms = clock_mono_ms() + EVERY_MS;
        return;
    }
    snprintf(code, sizeof code, "answered %d", status);
    o->failures++;
    for (unsigned i = 1; i < o->failures && pause < LONGEST_PAUSE_MS; i++)
        pause *= 2;
    o->due_ms = clock_mono_ms() + MIN(pause, (int64_t)LONGEST_PAUSE_MS);
    if (!is_for_now(status) || o->failures % TRIES == 0 || atomic_load(&o->stop))
        give_up(o, status ? code : e->text);
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
    struct fetch_rules r = rules(timeout_ms);

    take(o);
    o->due_ms = clock_mono_ms() + EVERY_MS;
    if (!o->sending_n)
        return;
    o->under_way = true;
    fetch_post(o->fetcher, o->cfg.endpoint, &r, "application/json", buf_as_span(&o->body),
               on_posted, o);
}

static void pass(struct otlp *o)
{
    int64_t now = clock_mono_ms();

    if (!o->under_way && (now >= o->due_ms || (!o->failures && is_half_full(o))))
        send_some(o, TIMEOUT_MS);
    fetcher_run(o->fetcher, o->under_way ? EVERY_MS : MAX(o->due_ms - clock_mono_ms(), 0) + 1);
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
        fetcher_run(o->fetcher, MAX(by - clock_mono_ms(), 1));
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
    o->fetcher = fetcher_new();
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
    fetcher_wake(o->fetcher);
    pthread_join(o->thread, NULL);
    fetcher_free(o->fetcher);
    pthread_mutex_destroy(&o->lock);
    buf_free(&o->body);
    free(o->filling);
    free(o->sending);
    free(o->cfg.endpoint);
    free(o->cfg.service);
    free(o->log_id);
    free(o);
}
