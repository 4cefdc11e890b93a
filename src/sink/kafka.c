/* SPDX-License-Identifier: Apache-2.0 */
/* Kafka: an idempotent producer, acks=all, no message time-out, so that a report is either "stored"
 * or something that has to be acted on, and every report is acted on. For exactly once kafka_tx.c
 * puts transactions around it: there a record is done when its transaction is, and one that is
 * refused breaks it.
 *
 * librdkafka's events come through an eventfd onto this thread's loop. Payloads are not copied: the
 * spans stay valid until the report. One record too large fails its whole batch, innocent ones too;
 * after that the sink sends one at a time until it is past them, and what fails alone is poison. */
#include <errno.h>
#include <event2/util.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "clock.h"
#include "kafka_tx.h"
#include "log.h"

#define MISSING_MS 60000   /* an unusable topic named by content is given this long */
#define NAME_MAX_BYTES 249 /* of a topic, as Kafka has it */
#define RECHECK_MS 1000
#define ASK_MS 3000
#define BATCH_BYTES 900000 /* below the brokers' default of max.message.bytes */

void kafka_say(struct kafka *k, enum sink_state state, const char *reason)
{
    if (k->tx && (kafka_tx_silent(k->tx) || (state == SINK_RUNNING && !kafka_tx_running(k->tx))))
        return;
    k->sink.owner.state(k->sink.owner.arg, state, reason);
}

void kafka_wake(struct kafka *k, int64_t after_ms)
{
    struct timeval tv = { after_ms / 1000, after_ms % 1000 * 1000 }, due, now;

    event_base_gettimeofday_cached(k->base, &now);
    evutil_timeradd(&now, &tv, &now);
    if (!event_pending(&k->timer, EV_TIMEOUT, &due) || evutil_timercmp(&now, &due, <))
        event_add(&k->timer, &tv);
}

static int make_producer(struct kafka *k, struct err *e)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    char text[256];
    static const uint64_t one = 1;

    if (kafka_configure(k, conf, e)) {
        rd_kafka_conf_destroy(conf);
        return -1;
    }
    k->rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, text, sizeof text);
    if (!k->rk) {
        rd_kafka_conf_destroy(conf);
        return err_set(e, EXIT_BAD_CONFIG, "kafka: %s", text);
    }
    rd_kafka_set_log_queue(k->rk, NULL);
    k->queue = rd_kafka_queue_get_main(k->rk);
    rd_kafka_queue_io_event_enable(k->queue, k->fd, &one, sizeof one);
    /* It tells only of an empty queue that fills: what came before, be it one line of log, would
     * keep it silent for ever. So look once in any case. */
    eventfd_write(k->fd, 1);
    k->trouble = true; /* until a broker has answered */
    kafka_probe(k);
    return 0;
}

/* Waits for librdkafka's threads, which let go at once after the purge: until they have, the
 * payloads in flight may be read, so this cannot be left to somebody else. It holds up this sink
 * only. */
void kafka_drop(struct kafka *k)
{
    kafka_park_drop(k);
    kafka_topics_drop(k);
    k->in_flight = 0;
    if (!k->rk)
        return;
    rd_kafka_purge(k->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
    rd_kafka_queue_destroy(k->queue);
    rd_kafka_destroy_flags(k->rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    k->rk = NULL;
}

/* --- reports
 * ----------------------------------------------------------------------------------------- */

void kafka_report(struct kafka *k, uint64_t lsn, enum sink_outcome outcome, const char *reason)
{
    k->sink.owner.done(k->sink.owner.arg, lsn, outcome, reason);
    if (k->tx && outcome == SINK_POISON)
        kafka_tx_poisoned(k->tx, lsn);
}

static bool blocks(rd_kafka_resp_err_t err)
{
    switch (err) {
    case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP:
    case RD_KAFKA_RESP_ERR__AUTHENTICATION:
    case RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED:
    case RD_KAFKA_RESP_ERR__SSL:
        return true;
    default:
        return false;
    }
}

/* About the destination, not about the record. */
static bool is_destination(rd_kafka_resp_err_t err)
{
    return err == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART ||
           err == RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC || err == RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION ||
           err == RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION ||
           err == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
}

static bool may_be_innocent(rd_kafka_resp_err_t err)
{
    return err == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE || err == RD_KAFKA_RESP_ERR_INVALID_RECORD ||
           err == RD_KAFKA_RESP_ERR_INVALID_MSG || err == RD_KAFKA_RESP_ERR_INVALID_MSG_SIZE;
}

bool kafka_is_fallback(const struct kafka *k, const char *topic)
{
    const char *fallback = k->cfg->kafka->fallback_topic;

    return fallback && !strcmp(fallback, topic);
}

/* Sent again, a record whose topic comes from its content is parked, or goes to the fallback, until
 * the topic has refused for so long that it is dead; any other topic blocks the sink. */
static void on_refused_topic(struct kafka *k, uint64_t lsn, rd_kafka_resp_err_t err,
                             const char *name, const char *reason)
{
    struct topic *t = kafka_topic(k, name);

    if (t)
        kafka_topic_missing(t);
    kafka_wake(k, RECHECK_MS);
    if (t && kafka_topic_given_up(k, t)) {
        kafka_report(k, lsn, SINK_POISON, reason);
        return;
    }
    kafka_say(k, t && !t->fixed ? SINK_RETRYING : SINK_BLOCKED, reason);
    kafka_report(k, lsn, SINK_RETRY, rd_kafka_err2name(err));
}

/* In a transaction. A topic that the record itself names must not hold up the others: the record is
 * looked for like one that is too large. */
static void on_refused_in_tx(struct kafka *k, uint64_t lsn, rd_kafka_resp_err_t err,
                             const char *topic, const char *reason)
{
    bool fixed = !k->by_content || kafka_is_fallback(k, topic);

    if (err == RD_KAFKA_RESP_ERR__PURGE_QUEUE || err == RD_KAFKA_RESP_ERR__PURGE_INFLIGHT)
        return; /* follows from a failure that is known */
    kafka_tx_refused(k->tx, lsn, may_be_innocent(err) || (is_destination(err) && !fixed), reason,
                     blocks(err) || (is_destination(err) && fixed));
}

static void on_failed(struct kafka *k, uint64_t lsn, bool alone, rd_kafka_resp_err_t err,
                      const char *topic)
{
    char reason[400];

    if (err == RD_KAFKA_RESP_ERR__FATAL) { /* whether or not an event says so */
        k->fatal = true;
        kafka_wake(k, 0);
    }
    snprintf(reason, sizeof reason, "topic %s: %s", topic, rd_kafka_err2str(err));
    if (k->tx) {
        on_refused_in_tx(k, lsn, err, topic, reason);
        return;
    }
    if (is_destination(err)) {
        on_refused_topic(k, lsn, err, topic, reason);
        return;
    }
    if (may_be_innocent(err) && alone) {
        kafka_report(k, lsn, SINK_POISON, reason);
        return;
    }
    if (may_be_innocent(err))
        k->careful_until = MAX(k->careful_until, lsn);
    else
        kafka_say(k, blocks(err) ? SINK_BLOCKED : SINK_RETRYING, reason);
    kafka_report(k, lsn, SINK_RETRY, rd_kafka_err2name(err));
}

static void on_stored(struct kafka *k, uint64_t lsn, const rd_kafka_message_t *msg)
{
    struct topic *t = k->by_content ? kafka_topic(k, rd_kafka_topic_name(msg->rkt)) : NULL;

    if (t)
        t->trouble_ms = 0;
    k->trouble = false;
    if (!k->tx)
        kafka_report(k, lsn, SINK_DONE, NULL);
}

static void on_reports(struct kafka *k, rd_kafka_event_t *ev)
{
    const rd_kafka_message_t *msgs[256];
    size_t n;

    while ((n = rd_kafka_event_message_array(ev, msgs, ARRAY_LEN(msgs))))
        for (size_t i = 0; i < n; i++) {
            uint64_t tag = (uint64_t)(uintptr_t)msgs[i]->_private;
            k->in_flight--;
            if (msgs[i]->err)
                on_failed(k, tag >> 1, tag & 1, msgs[i]->err, rd_kafka_topic_name(msgs[i]->rkt));
            else
                on_stored(k, tag >> 1, msgs[i]);
        }
}

static void on_error(struct kafka *k, rd_kafka_event_t *ev)
{
    rd_kafka_resp_err_t err = rd_kafka_event_error(ev);
    char reason[256];

    if (err == RD_KAFKA_RESP_ERR__FATAL && k->tx) {
        k->fatal = true; /* and what it is, after_events asks */
        return;
    }
    if (k->tx && kafka_tx_error(k->tx, err, rd_kafka_event_error_string(ev)))
        return;
    if (err == RD_KAFKA_RESP_ERR__FATAL) {
        rd_kafka_fatal_error(k->rk, reason, sizeof reason);
        log_error("the Kafka producer has failed; it is made again and goes on from the cursor",
                  KS("sink", k->name), KS("reason", reason));
        k->fatal = true;
        return;
    }
    snprintf(reason, sizeof reason, "%s: %s", rd_kafka_err2name(err),
             rd_kafka_event_error_string(ev));
    if (blocks(err))
        kafka_say(k, SINK_BLOCKED, reason);
    else if (err == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN || k->in_flight || k->trouble)
        kafka_say(k, SINK_RETRYING, reason);
    else
        return; /* one of several brokers, and nothing waits for it */
    if (!k->trouble)
        kafka_probe(k);
    k->trouble = true;
}

static void on_log(struct kafka *k, rd_kafka_event_t *ev)
{
    static struct log_limit limit;
    const char *fac, *text;
    uint64_t left_out;
    int level;

    if (!rd_kafka_event_log(ev, &fac, &text, &level) && level <= 4 &&
        log_limit_pass(&limit, &left_out))
        log_warn("librdkafka", KS("sink", k->name), KS("facility", fac), KS("text", text),
                 KU("left_out", left_out));
}

static void on_event(struct kafka *k, rd_kafka_event_t *ev)
{
    switch (rd_kafka_event_type(ev)) {
    case RD_KAFKA_EVENT_DR:
        on_reports(k, ev);
        break;
    case RD_KAFKA_EVENT_ERROR:
        on_error(k, ev);
        break;
    case RD_KAFKA_EVENT_LOG:
        on_log(k, ev);
        break;
    case RD_KAFKA_EVENT_DESCRIBECONFIGS_RESULT:
        kafka_on_limits(k, ev);
        break;
    case RD_KAFKA_EVENT_CREATETOPICS_RESULT:
        kafka_on_created(k, ev);
        break;
    default:
        break;
    }
}

int kafka_rebuild(struct kafka *k)
{
    struct err e = ERR_INIT;

    kafka_drop(k);
    k->renew = false;
    k->fatal = make_producer(k, &e) != 0;
    if (k->fatal) {
        kafka_say(k, SINK_BLOCKED, e.text);
        kafka_wake(k, RECHECK_MS);
        return -1;
    }
    k->sink.owner.lost(k->sink.owner.arg, "the producer was made again");
    if (k->tx)
        kafka_tx_open(k->tx);
    else
        k->sink.owner.ready(k->sink.owner.arg);
    return 0;
}

static void after_events(struct kafka *k)
{
    rd_kafka_resp_err_t fatal = RD_KAFKA_RESP_ERR_NO_ERROR;
    char reason[256];

    if (k->rk && (fatal = rd_kafka_fatal_error(k->rk, reason, sizeof reason)))
        k->fatal = true; /* whether or not an event said so */
    if (k->tx) {
        kafka_tx_after(k->tx, fatal, reason);
        return;
    }
    if (k->fatal || (k->renew && !k->in_flight)) {
        kafka_rebuild(k);
        return;
    }
    if (k->parked && !k->renew)
        kafka_unpark(k);
    if (k->was_full) {
        k->was_full = false;
        k->sink.owner.ready(k->sink.owner.arg);
    }
}

/* Until there is none: librdkafka writes to the descriptor when its queue was empty and fills, so a
 * wake-up could be lost only where something is left in it. The descriptor is read before, so what
 * fills the queue after the last look makes it readable again. */
static void take_events(struct kafka *k)
{
    rd_kafka_event_t *ev;

    while (k->rk && (ev = rd_kafka_queue_poll(k->queue, 0))) {
        on_event(k, ev);
        rd_kafka_event_destroy(ev);
    }
}

static void on_io(evutil_socket_t fd, short what UNUSED, void *arg)
{
    struct kafka *k = arg;
    uint64_t count;

    while (read(fd, &count, sizeof count) < 0 && errno == EINTR)
        ;
    take_events(k);
    after_events(k);
}

static void on_timer(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
    struct kafka *k = arg;

    if (!k->fatal)
        kafka_topics_recheck(k);
    after_events(k);
}

/* --- sending
 * ----------------------------------------------------------------------------------------- */

/* The topic of a record; NULL when the table is full. */
static struct topic *topic_of(struct kafka *k, const struct record *rec, struct span id)
{
    const char *fallback = k->cfg->kafka->fallback_topic;
    struct topic *t;

    k->scratch.n = 0;
    template_write(k->cfg->kafka->topic, rec, id, true, &k->scratch);
    if (k->scratch.n > NAME_MAX_BYTES)
        k->scratch.n = NAME_MAX_BYTES;
    t = kafka_topic(k, buf_cstr(&k->scratch));
    if (t && !t->asking && t->missing_ms && !t->fixed && fallback)
        t = kafka_topic(k, fallback);
    if (!t) {
        k->renew = true;
        kafka_wake(k, 0);
    }
    return t;
}

static rd_kafka_resp_err_t produce(struct kafka *k, const struct record *rec, struct topic *t,
                                   struct span id, bool alone)
{
    uint64_t tag = rec->lsn << 1 | alone;
    rd_kafka_headers_t *h = kafka_headers(k, rec, id);
    rd_kafka_resp_err_t err;

    k->key.n = 0;
    template_write(k->cfg->kafka->key, rec, id, false, &k->key);
    if (!k->key.n)
        buf_span(&k->key, id);
    err = rd_kafka_producev(k->rk, RD_KAFKA_V_RKT(t->handle), RD_KAFKA_V_KEY(k->key.p, k->key.n),
                            RD_KAFKA_V_VALUE((void *)(uintptr_t)rec->body.p, rec->body.n),
                            RD_KAFKA_V_HEADERS(h), RD_KAFKA_V_TIMESTAMP(rec->time_ms),
                            RD_KAFKA_V_OPAQUE((void *)(uintptr_t)tag), RD_KAFKA_V_MSGFLAGS(0),
                            RD_KAFKA_V_END);
    if (err)
        rd_kafka_headers_destroy(h);
    return err;
}

int kafka_produce(struct kafka *k, const struct record *rec, struct topic *t)
{
    bool alone = rec->lsn <= k->careful_until; /* then nothing else is in flight */
    char made[RECORD_ID_MAX], reason[400];
    rd_kafka_resp_err_t err;

    if (t->max_bytes && !k->compressed && rec->body.n + rec->headers.n > t->max_bytes) {
        kafka_report(k, rec->lsn, SINK_POISON, "larger than the topic's max.message.bytes");
        return 0;
    }
    if (k->tx && !kafka_tx_begin(k->tx))
        return 0; /* it is sent again with all the others */
    err = produce(k, rec, t, record_id(rec, k->logid, made), alone);
    if (!err) {
        k->in_flight++;
        if (k->tx)
            kafka_tx_added(k->tx, rec);
    } else if (err == RD_KAFKA_RESP_ERR__QUEUE_FULL) {
        k->was_full = true;
        return 1;
    } else if (err == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE) {
        snprintf(reason, sizeof reason, "topic %s: %s", t->name, rd_kafka_err2str(err));
        kafka_report(k, rec->lsn, SINK_POISON, reason);
    } else {
        on_failed(k, rec->lsn, alone, err, t->name);
    }
    return 0;
}

static int kafka_send(struct sink *s, const struct record *rec)
{
    struct kafka *k = container_of(s, struct kafka, sink);
    char made[RECORD_ID_MAX];
    struct topic *t;

    if (k->fatal || k->renew || (rec->lsn <= k->careful_until && k->in_flight) ||
        (k->tx && !kafka_tx_takes(k->tx, rec)) ||
        !(t = topic_of(k, rec, record_id(rec, k->logid, made))) ||
        (t->fixed && (t->asking || t->missing_ms)) || (k->tx && (t->asking || t->cold))) {
        k->was_full = true;
        return 1;
    }
    if (!t->asking && !t->missing_ms)
        return kafka_produce(k, rec, t);
    if (k->tx) /* what stands behind it must not overtake it */
        kafka_report(k, rec->lsn, SINK_POISON, "the topic that the event names does not exist");
    else
        kafka_park(k, t, rec);
    return 0;
}

static void kafka_flush(struct sink *s)
{
    struct kafka *k = container_of(s, struct kafka, sink);

    if (k->tx)
        kafka_tx_flush(k->tx);
}

static void kafka_close(struct sink *s)
{
    struct kafka *k = container_of(s, struct kafka, sink);

    kafka_tx_stop(k->tx);
    kafka_drop(k);
    kafka_tx_free(k->tx);
    event_del(&k->io);
    event_del(&k->timer);
    close(k->fd);
    buf_free(&k->scratch);
    buf_free(&k->key);
    free(k->topics);
    free(k->name);
    free(k);
}

static void kafka_warnings(struct sink *s, struct buf *out)
{
    kafka_topic_warnings(container_of(s, struct kafka, sink), out);
}

static bool is_compressed(const struct cfg_strmap *properties)
{
    for (size_t i = 0; i < properties->n; i++)
        if (!strncmp(properties->k[i], "compression.", 12) && strcmp(properties->v[i], "none"))
            return true;
    return false;
}

static struct sink *kafka_open(const char *name, const struct sink_cfg *cfg, const char *logid,
                               uint64_t epoch, uint64_t max_body, struct event_base *base,
                               const struct sink_owner *owner, struct err *e)
{
    struct kafka *k = xcalloc(1, sizeof *k);

    *k = (struct kafka){ .sink = { &sink_kafka, *owner },
                         .cfg = cfg,
                         .logid = logid,
                         .max_body = max_body,
                         .base = base,
                         .name = xstrdup(name),
                         .batch_bytes = BATCH_BYTES,
                         .ask_ms = ASK_MS,
                         .missing_ms = MISSING_MS,
                         .by_content = template_by_content(cfg->kafka->topic),
                         .compressed = is_compressed(&cfg->kafka->properties),
                         .fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC) };
    event_assign(&k->io, base, k->fd, EV_READ | EV_PERSIST, on_io, k);
    event_assign(&k->timer, base, -1, 0, on_timer, k);
    event_add(&k->io, NULL);
    if (epoch)
        k->tx = kafka_tx_new(k, epoch);
    if (!make_producer(k, e)) {
        if (k->tx)
            kafka_tx_open(k->tx);
        return &k->sink;
    }
    kafka_close(&k->sink);
    return NULL;
}

const struct sink_type sink_kafka = {
    .name = "kafka",
    .exactly_once = true,
    .open = kafka_open,
    .send = kafka_send,
    .flush = kafka_flush,
    .warnings = kafka_warnings,
    .close = kafka_close,
};
