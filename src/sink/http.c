/* SPDX-License-Identifier: Apache-2.0 */
/* Forwarding to HTTP: each event is one signed POST, many at a time, of one key one after another.
 *
 * Unlike a broker, a target may fail for one event and take the next, so what failed is tried again
 * here, in its lane, and holds up only its own key. What is said of the target as a whole (busy,
 * not there, no right to it) stops all lanes: then one request at a time probes it until one is
 * taken. An event that fails for long while others are taken is the event's fault and becomes a
 * dead letter. A request that was cut off may have had its effect and is sent again: at least once,
 * with the same webhook-id. */
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "http_sink.h"

#define TURN_MS 20
#define OWN_WAIT_MS 60000         /* of an event that fails by itself */
#define RETRY_AFTER_MAX_MS 600000 /* a target that asks for more is asked sooner */
#define REASON_MAX 32

static void turn_in(struct sink_http *h, int64_t ms)
{
    struct timeval tv = { ms / 1000, ms % 1000 * 1000 };

    event_add(&h->turn, &tv);
}

static void say(struct sink_http *h, enum sink_state state, const char *reason)
{
    h->said_running = state == SINK_RUNNING;
    h->sink.owner.state(h->sink.owner.arg, state, reason);
}

/* The first of the lane is with the target, or with the dead letters. */
static void over(struct sink_http *h, struct http_lane *lane, enum sink_outcome outcome,
                 const char *reason)
{
    uint64_t lsn = STAILQ_FIRST(&lane->items)->rec.lsn;

    http_lane_next(h, lane);
    h->sink.owner.done(h->sink.owner.arg, lsn, outcome, reason);
}

/* --- answers -----------------------------------------------------------------------------------
 */

static void alive(struct sink_http *h)
{
    h->failures = 0;
    h->limit = (size_t)h->cfg->concurrency;
    if (!h->said_running)
        say(h, SINK_RUNNING, "");
}

/* Since the time before: so it is not the target as a whole. */
static bool others_are_taken(const struct sink_http *h, const struct http_lane *lane)
{
    return h->taken_ms > lane->before_ms;
}

static void slow_down(struct sink_http *h, int64_t until_ms)
{
    h->limit = 1;
    h->pause_ms = MAX(h->pause_ms, until_ms);
}

static void try_again(struct sink_http *h, struct http_lane *lane, enum http_word word,
                      const struct post_answer *a)
{
    int64_t now = clock_mono_ms(), asked = MIN(a->retry_after_ms, RETRY_AFTER_MAX_MS), wait;
    bool own = others_are_taken(h, lane);
    char reason[REASON_MAX] = "connection";

    if (a->status)
        snprintf(reason, sizeof reason, "status %d", a->status);
    else if (a->timed_out)
        snprintf(reason, sizeof reason, "timeout");
    h->sink.owner.retried(h->sink.owner.arg, STAILQ_FIRST(&lane->items)->rec.lsn, reason);
    if (asked || (!own && (word != HTTP_FAILED || h->failures > (unsigned)h->cfg->concurrency)))
        slow_down(h, now + MAX(backoff_ms(h->failures - 1), asked));
    if (word == HTTP_BLOCKED && !own)
        say(h, SINK_BLOCKED, h->trouble);
    else if (h->failures > 1 && !own)
        say(h, SINK_RETRYING, h->trouble);
    wait = own && word != HTTP_BUSY ? backoff_within(lane->tries - 1, OWN_WAIT_MS)
                                    : backoff_ms(lane->tries - 1);
    http_lane_wait(h, lane, now + wait);
}

static void failed(struct sink_http *h, struct http_lane *lane, enum http_word word,
                   const struct post_answer *a)
{
    int64_t spent = clock_mono_ms() - lane->since_ms;
    char text[sizeof h->trouble + 64];

    lane->tries++;
    h->failures++;
    http_explain(h->cfg, a, h->trouble, sizeof h->trouble);
    if (h->stopping) {
        over(h, lane, SINK_RETRY, "stopping");
    } else if (word != HTTP_BUSY && h->cfg->give_up_ms && spent >= h->cfg->give_up_ms &&
               others_are_taken(h, lane)) {
        snprintf(text, sizeof text, "given up while others were taken: %s", h->trouble);
        over(h, lane, SINK_POISON, text);
    } else {
        try_again(h, lane, word, a);
    }
}

static void pump(struct sink_http *h);

static void on_answer(void *arg, const struct post_answer *a)
{
    struct http_lane *lane = arg;
    struct sink_http *h = lane->sink;
    enum http_word word = http_word_of(a);
    char text[sizeof h->trouble];

    lane->post = NULL;
    h->flying--;
    switch (word) {
    case HTTP_TAKEN:
        h->taken_ms = clock_mono_ms();
        alive(h);
        over(h, lane, SINK_DONE, NULL);
        break;
    case HTTP_REFUSED:
        alive(h);
        http_explain(h->cfg, a, text, sizeof text);
        over(h, lane, SINK_POISON, text);
        break;
    case HTTP_FAILED:
    case HTTP_BUSY:
    case HTTP_BLOCKED:
        failed(h, lane, word, a);
    }
    pump(h);
}

/* --- sending -----------------------------------------------------------------------------------
 */

static void start(struct sink_http *h, struct http_lane *lane)
{
    const struct record *rec = &STAILQ_FIRST(&lane->items)->rec;
    int64_t now = clock_mono_ms();

    TAILQ_REMOVE(&h->lanes.ready, lane, link);
    lane->before_ms = lane->since_ms ? lane->tried_ms : now;
    lane->tried_ms = now;
    if (!lane->since_ms)
        lane->since_ms = now;
    h->headers.n = 0;
    sink_http_headers(rec, h->logid, h->cfg->secrets.n > 0, &h->headers);
    sink_signer_sign(h->signer, rec, h->logid, clock_wall_ms(), &h->headers);
    h->flying++;
    lane->post =
        post_start(h->poster, &h->target, buf_as_span(&h->headers), rec->body, on_answer, lane);
}

static void pump(struct sink_http *h)
{
    int64_t now = clock_mono_ms(), next = http_lanes_wake(&h->lanes, now);
    struct http_lane *lane;

    while (!h->stopping && now >= h->pause_ms && h->flying < h->limit &&
           (lane = TAILQ_FIRST(&h->lanes.ready)))
        start(h, lane);
    if (now < h->pause_ms)
        next = h->pause_ms;
    if (next != INT64_MAX)
        turn_in(h, MAX(next - now, TURN_MS));
}

static void on_turn(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
    struct sink_http *h = arg;

    if (!h->failures && !h->said_running)
        say(h, SINK_RUNNING, ""); /* there is no connection to wait for */
    pump(h);
}

/* --- the sink ----------------------------------------------------------------------------------
 */

static int http_send(struct sink *s, const struct record *rec)
{
    http_lane_add(container_of(s, struct sink_http, sink), rec);
    return 0;
}

static void http_flush(struct sink *s)
{
    pump(container_of(s, struct sink_http, sink));
}

static void http_stop(struct sink *s)
{
    struct sink_http *h = container_of(s, struct sink_http, sink);

    h->stopping = true;
    http_lanes_drop(h);
}

static void http_warnings(struct sink *s, struct buf *out)
{
    struct sink_http *h = container_of(s, struct sink_http, sink);

    if (!h->lanes.waiting_n)
        return;
    h->text.n = 0;
    buf_printf(&h->text, "%zu keys wait for another try; the last failure: %s", h->lanes.waiting_n,
               h->trouble);
    buf_json_string(out, buf_as_span(&h->text));
}

static void http_close(struct sink *s)
{
    struct sink_http *h = container_of(s, struct sink_http, sink);

    event_del(&h->turn);
    http_lanes_free(&h->lanes);
    poster_free(h->poster);
    sink_signer_free(h->signer);
    buf_free(&h->headers);
    buf_free(&h->text);
    free(h);
}

static struct sink *http_open(const char *name UNUSED, const struct sink_cfg *cfg,
                              const char *logid, uint64_t epoch UNUSED, uint64_t max_body UNUSED,
                              struct event_base *base, const struct sink_owner *owner,
                              struct err *e UNUSED)
{
    struct sink_http *h = xcalloc(1, sizeof *h);

    h->sink = (struct sink){ &sink_http, *owner };
    h->cfg = cfg->http;
    h->logid = logid;
    h->limit = (size_t)h->cfg->concurrency;
    h->target = (struct post_target){ h->cfg->url, h->cfg->ca, h->cfg->timeout_ms };
    h->poster = poster_new(base, h->limit);
    h->signer = sink_signer_new(&h->cfg->secrets);
    http_lanes_init(&h->lanes);
    event_assign(&h->turn, base, -1, 0, on_turn, h);
    turn_in(h, 0);
    return &h->sink;
}

const struct sink_type sink_http = {
    .name = "http",
    .exactly_once = false,
    .open = http_open,
    .send = http_send,
    .flush = http_flush,
    .stop = http_stop,
    .warnings = http_warnings,
    .close = http_close,
};
