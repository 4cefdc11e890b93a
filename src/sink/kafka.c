/* SPDX-License-Identifier: Apache-2.0 */
/* Kafka, at least once: an idempotent producer, acks=all, no message time-out, so that a report is
 * either "stored" or something that has to be acted on, and every report is acted on.
 *
 * librdkafka's events come through an eventfd onto this thread's loop. Payloads are not copied: the
 * spans stay valid until the report. One record too large fails its whole batch, innocent ones too;
 * after that the sink sends one at a time until it is past them, and what fails alone is poison. */
#include <errno.h>
#include <event2/event_struct.h>
#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"
#include "room.h"

#define TOPICS_MAX 1024
#define MISSING_MS 60000 /* an unknown topic named by content is given this long */
#define OVERHEAD 512     /* of a record beside its headers, key and body */

struct topic {
    char *name;
    rd_kafka_topic_t *handle;
    int64_t missing_ms; /* since when it is known to be missing; 0: it is not */
    uint64_t max_bytes; /* max.message.bytes; 0: not known yet */
};

struct kafka {
    struct sink sink;
    const struct sink_cfg *cfg;
    char *name;
    const char *logid;
    uint64_t max_body;
    struct event_base *base;
    struct event io, timer;
    int fd;
    rd_kafka_t *rk;
    rd_kafka_queue_t *queue;
    struct topic *topics;
    size_t topics_n, in_flight;
    uint64_t careful_until; /* LSN up to which records are sent one at a time */
    struct buf scratch, key;
    bool was_full, fatal, warned;
};

static int set(rd_kafka_conf_t *conf, const char *key, const char *value, struct err *e)
{
    char text[256];

    if (rd_kafka_conf_set(conf, key, value, text, sizeof text) == RD_KAFKA_CONF_OK)
        return 0;
    return err_set(e, EXIT_BAD_CONFIG, "kafka property %s: %s", key, text);
}

static int configure(struct kafka *k, rd_kafka_conf_t *conf, struct err *e)
{
    const struct sink_kafka_cfg *c = k->cfg->kafka;
    char bytes[24], messages[24];
    uint64_t largest = MAX(k->max_body + 65536 + OVERHEAD, (uint64_t)1000000);

    snprintf(bytes, sizeof bytes, "%llu", (unsigned long long)largest);
    snprintf(messages, sizeof messages, "%lld", (long long)k->cfg->in_flight.events + 1000);
    if (set(conf, "bootstrap.servers", c->brokers, e) ||
        set(conf, "partitioner", "murmur2_random", e) || set(conf, "client.id", "hookline", e) ||
        set(conf, "reconnect.backoff.max.ms", "2000", e) ||
        set(conf, "topic.metadata.propagation.max.ms", "5000", e) ||
        set(conf, "log.connection.close", "false", e))
        return -1;
    for (size_t i = 0; i < c->properties.n; i++)
        if (set(conf, c->properties.k[i], c->properties.v[i], e))
            return -1;
    rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR | RD_KAFKA_EVENT_LOG);
    return set(conf, "log.queue", "true", e) || set(conf, "enable.idempotence", "true", e) ||
                   set(conf, "acks", "all", e) || set(conf, "message.timeout.ms", "0", e) ||
                   set(conf, "linger.ms", "5", e) || set(conf, "batch.size", "900000", e) ||
                   set(conf, "message.max.bytes", bytes, e) ||
                   set(conf, "queue.buffering.max.messages", messages, e)
               ? -1
               : 0;
}

static int make_producer(struct kafka *k, struct err *e)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    char text[256];
    static const uint64_t one = 1;

    if (configure(k, conf, e)) {
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
    return 0;
}

static void drop_producer(struct kafka *k)
{
    for (size_t i = 0; i < k->topics_n; i++) {
        rd_kafka_topic_destroy(k->topics[i].handle);
        free(k->topics[i].name);
    }
    k->topics_n = k->in_flight = 0;
    if (!k->rk)
        return;
    rd_kafka_purge(k->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
    rd_kafka_queue_destroy(k->queue);
    rd_kafka_destroy_flags(k->rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    k->rk = NULL;
}

/* --- topics
 * ---------------------------------------------------------------------------------------- */

static void create_topic(struct kafka *k, const char *name)
{
    char text[256];
    rd_kafka_NewTopic_t *t =
        rd_kafka_NewTopic_new(name, (int)k->cfg->kafka->create->partitions,
                              (int)k->cfg->kafka->create->replication, text, sizeof text);

    if (!t)
        return;
    rd_kafka_CreateTopics(k->rk, &t, 1, NULL, k->queue); /* "exists already" is as good */
    rd_kafka_NewTopic_destroy(t);
}

static void ask_limits(struct kafka *k, const char *name)
{
    rd_kafka_ConfigResource_t *res = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, name);

    rd_kafka_DescribeConfigs(k->rk, &res, 1, NULL, k->queue);
    rd_kafka_ConfigResource_destroy(res);
}

static struct topic *find_topic(struct kafka *k, const char *name)
{
    struct topic *t;

    for (size_t i = k->topics_n; i > 0; i--)
        if (!strcmp(k->topics[i - 1].name, name))
            return &k->topics[i - 1];
    if (k->topics_n == TOPICS_MAX)
        return NULL;
    t = &k->topics[k->topics_n];
    *t = (struct topic){ .name = xstrdup(name), .handle = rd_kafka_topic_new(k->rk, name, NULL) };
    if (!t->handle) {
        free(t->name);
        return NULL;
    }
    k->topics_n++;
    if (k->cfg->kafka->create)
        create_topic(k, name);
    ask_limits(k, name);
    return t;
}

static void on_limits(struct kafka *k, rd_kafka_event_t *ev)
{
    size_t n, entries_n;
    const rd_kafka_ConfigResource_t **res =
        rd_kafka_DescribeConfigs_result_resources(rd_kafka_event_DescribeConfigs_result(ev), &n);

    for (size_t i = 0; i < n; i++) {
        const rd_kafka_ConfigEntry_t **entries =
            rd_kafka_ConfigResource_configs(res[i], &entries_n);
        struct topic *t = find_topic(k, rd_kafka_ConfigResource_name(res[i]));
        for (size_t j = 0; t && j < entries_n; j++)
            if (!strcmp(rd_kafka_ConfigEntry_name(entries[j]), "max.message.bytes"))
                t->max_bytes = strtoull(rd_kafka_ConfigEntry_value(entries[j]), NULL, 10);
        if (t && t->max_bytes && t->max_bytes < k->max_body && !k->warned) {
            k->warned = true;
            log_warn("a source may send more than the topic takes; such events become dead letters",
                     KS("sink", k->name), KS("topic", t->name),
                     KU("max_message_bytes", t->max_bytes), KU("body_bytes", k->max_body));
        }
    }
}

/* --- reports
 * ----------------------------------------------------------------------------------------- */

static void report(struct kafka *k, uint64_t lsn, enum sink_outcome outcome, const char *reason)
{
    k->sink.owner.done(k->sink.owner.arg, lsn, outcome, reason);
}

static void say(struct kafka *k, enum sink_state state, const char *reason)
{
    k->sink.owner.state(k->sink.owner.arg, state, reason);
}

static bool blocks(rd_kafka_resp_err_t err)
{
    switch (err) {
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
    case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
    case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
    case RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION:
    case RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP:
    case RD_KAFKA_RESP_ERR__AUTHENTICATION:
    case RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED:
    case RD_KAFKA_RESP_ERR__SSL:
        return true;
    default:
        return false;
    }
}

static bool is_missing(rd_kafka_resp_err_t err)
{
    return err == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART ||
           err == RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC || err == RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION ||
           err == RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION;
}

static bool may_be_innocent(rd_kafka_resp_err_t err)
{
    return err == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE || err == RD_KAFKA_RESP_ERR_INVALID_RECORD ||
           err == RD_KAFKA_RESP_ERR_INVALID_MSG || err == RD_KAFKA_RESP_ERR_INVALID_MSG_SIZE;
}

/* A topic that the event itself names must not hold up the others: fallback, else dead after a
 * minute. */
static bool give_up_topic(struct kafka *k, const char *name)
{
    struct topic *t = find_topic(k, name);

    if (!template_by_content(k->cfg->kafka->topic))
        return false;
    if (!t)
        return true;
    if (!t->missing_ms)
        t->missing_ms = clock_mono_ms();
    return !k->cfg->kafka->fallback_topic && clock_mono_ms() - t->missing_ms > MISSING_MS;
}

static void on_failed(struct kafka *k, uint64_t lsn, bool alone, rd_kafka_resp_err_t err,
                      const char *topic)
{
    char reason[256];

    snprintf(reason, sizeof reason, "topic %s: %s", topic, rd_kafka_err2str(err));
    if ((may_be_innocent(err) && alone) || (is_missing(err) && give_up_topic(k, topic))) {
        report(k, lsn, SINK_POISON, reason);
        return;
    }
    if (may_be_innocent(err))
        k->careful_until = MAX(k->careful_until, lsn);
    else if (blocks(err) && !(is_missing(err) && template_by_content(k->cfg->kafka->topic)))
        say(k, SINK_BLOCKED, reason);
    else
        say(k, SINK_RETRYING, reason);
    report(k, lsn, SINK_RETRY, rd_kafka_err2name(err));
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
                report(k, tag >> 1, SINK_DONE, NULL);
        }
}

static void on_error(struct kafka *k, rd_kafka_event_t *ev)
{
    rd_kafka_resp_err_t err = rd_kafka_event_error(ev);
    char reason[256];

    if (err == RD_KAFKA_RESP_ERR__FATAL) {
        err = rd_kafka_fatal_error(k->rk, reason, sizeof reason);
        log_error("the Kafka producer has failed; it is made again and goes on from the cursor",
                  KS("sink", k->name), KS("reason", reason));
        k->fatal = true;
        return;
    }
    snprintf(reason, sizeof reason, "%s: %s", rd_kafka_err2name(err),
             rd_kafka_event_error_string(ev));
    if (blocks(err))
        say(k, SINK_BLOCKED, reason);
    else if (err == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN || k->in_flight)
        say(k, SINK_RETRYING, reason);
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
        if (!rd_kafka_event_error(ev))
            on_limits(k, ev);
        break;
    default:
        break;
    }
}

static void rebuild(struct kafka *k)
{
    struct err e = ERR_INIT;
    struct timeval later = { 1, 0 };

    drop_producer(k);
    k->fatal = false;
    if (make_producer(k, &e)) {
        say(k, SINK_BLOCKED, e.text);
        k->fatal = true;
        event_add(&k->timer, &later);
        return;
    }
    k->sink.owner.lost(k->sink.owner.arg, "the producer was made again");
    k->sink.owner.ready(k->sink.owner.arg);
}

static void on_io(evutil_socket_t fd, short what UNUSED, void *arg)
{
    struct kafka *k = arg;
    rd_kafka_event_t *ev;
    uint64_t count;

    while (read(fd, &count, sizeof count) < 0 && errno == EINTR)
        ;
    while (k->rk && (ev = rd_kafka_queue_poll(k->queue, 0))) {
        on_event(k, ev);
        rd_kafka_event_destroy(ev);
    }
    if (k->fatal)
        rebuild(k);
    else if (k->was_full) {
        k->was_full = false;
        k->sink.owner.ready(k->sink.owner.arg);
    }
}

static void on_timer(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
    struct kafka *k = arg;

    if (k->fatal)
        rebuild(k);
}

/* --- sending
 * ----------------------------------------------------------------------------------------- */

static void add_header(rd_kafka_headers_t *h, const char *name, struct span value)
{
    rd_kafka_header_add(h, name, (ssize_t)strlen(name), value.p ? value.p : "", (ssize_t)value.n);
}

static bool is_structured(struct span content_type)
{
    return content_type.n >= 28 &&
           span_ieq(span_of(content_type.p, 28), S("application/cloudevents+json"));
}

static rd_kafka_headers_t *make_headers(struct kafka *k, const struct record *rec, struct span id)
{
    rd_kafka_headers_t *h = rd_kafka_headers_new(16);
    struct span at = rec->headers, name, value;
    char time[CLOCK_TEXT_MAX], lsn[24];

    if (k->cfg->kafka->cloudevents && !is_structured(rec->content_type)) {
        snprintf(lsn, sizeof lsn, "%llu", (unsigned long long)rec->lsn);
        add_header(h, "ce_specversion", S("1.0"));
        add_header(h, "ce_id", id);
        add_header(h, "ce_source", rec->source);
        add_header(h, "ce_type", rec->type);
        add_header(h, "ce_time", span_str(clock_text(rec->time_ms, time)));
        if (rec->subject.n)
            add_header(h, "ce_subject", rec->subject);
        add_header(h, "ce_lsn", span_str(lsn));
        add_header(h, "ce_logid", span_str(k->logid));
    }
    if (rec->content_type.n)
        add_header(h, "content-type", rec->content_type);
    while (record_next_header(&at, &name, &value))
        rd_kafka_header_add(h, name.p, (ssize_t)name.n, value.p, (ssize_t)value.n);
    return h;
}

/* The topic of a record; NULL when it can have none. */
static struct topic *topic_of(struct kafka *k, const struct record *rec, struct span id)
{
    const char *fallback = k->cfg->kafka->fallback_topic;
    struct topic *t;

    k->scratch.n = 0;
    template_write(k->cfg->kafka->topic, rec, id, true, &k->scratch);
    if (k->scratch.n > 249)
        k->scratch.n = 249; /* Kafka's limit for a name */
    t = find_topic(k, buf_cstr(&k->scratch));
    if ((!t || t->missing_ms) && fallback)
        t = find_topic(k, fallback);
    return t;
}

static int produce(struct kafka *k, const struct record *rec, struct topic *t,
                   rd_kafka_headers_t *h)
{
    bool alone = rec->lsn <= k->careful_until; /* then nothing else is in flight */
    uint64_t tag = rec->lsn << 1 | alone;
    rd_kafka_resp_err_t err;
    char reason[160];

    err = rd_kafka_producev(k->rk, RD_KAFKA_V_RKT(t->handle), RD_KAFKA_V_KEY(k->key.p, k->key.n),
                            RD_KAFKA_V_VALUE((void *)(uintptr_t)rec->body.p, rec->body.n),
                            RD_KAFKA_V_HEADERS(h), RD_KAFKA_V_TIMESTAMP(rec->time_ms),
                            RD_KAFKA_V_OPAQUE((void *)(uintptr_t)tag), RD_KAFKA_V_MSGFLAGS(0),
                            RD_KAFKA_V_END);
    if (!err) {
        k->in_flight++;
        return 0;
    }
    rd_kafka_headers_destroy(h);
    if (err == RD_KAFKA_RESP_ERR__QUEUE_FULL) {
        k->was_full = true;
        return 1;
    }
    snprintf(reason, sizeof reason, "topic %s: %s", t->name, rd_kafka_err2str(err));
    if (err == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE)
        report(k, rec->lsn, SINK_POISON, reason);
    else
        on_failed(k, rec->lsn, alone, err, t->name);
    return 0;
}

static int kafka_send(struct sink *s, const struct record *rec)
{
    struct kafka *k = container_of(s, struct kafka, sink);
    char made[RECORD_ID_MAX];
    struct span id = record_id(rec, k->logid, made);
    struct topic *t;

    if (k->fatal || (rec->lsn <= k->careful_until && k->in_flight)) {
        k->was_full = true;
        return 1;
    }
    t = topic_of(k, rec, id);
    if (!t) {
        report(k, rec->lsn, SINK_POISON, "no topic of that name can be used");
        return 0;
    }
    if (t->max_bytes && rec->body.n + rec->headers.n + OVERHEAD > t->max_bytes) {
        report(k, rec->lsn, SINK_POISON, "larger than the topic's max.message.bytes");
        return 0;
    }
    k->key.n = 0;
    template_write(k->cfg->kafka->key, rec, id, false, &k->key);
    if (!k->key.n)
        buf_span(&k->key, id);
    return produce(k, rec, t, make_headers(k, rec, id));
}

static void kafka_flush(struct sink *s UNUSED)
{
}

static void kafka_close(struct sink *s)
{
    struct kafka *k = container_of(s, struct kafka, sink);

    drop_producer(k);
    event_del(&k->io);
    event_del(&k->timer);
    close(k->fd);
    buf_free(&k->scratch);
    buf_free(&k->key);
    free(k->topics);
    free(k->name);
    free(k);
}

static struct sink *kafka_open(const char *name, const struct sink_cfg *cfg, const char *logid,
                               uint64_t max_body, struct event_base *base,
                               const struct sink_owner *owner, struct err *e)
{
    struct kafka *k = xcalloc(1, sizeof *k);

    *k = (struct kafka){ .sink = { &sink_kafka, *owner },
                         .cfg = cfg,
                         .logid = logid,
                         .max_body = max_body,
                         .base = base,
                         .name = xstrdup(name),
                         .fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC) };
    k->topics = xcalloc(TOPICS_MAX, sizeof *k->topics);
    event_assign(&k->io, base, k->fd, EV_READ | EV_PERSIST, on_io, k);
    event_assign(&k->timer, base, -1, 0, on_timer, k);
    event_add(&k->io, NULL);
    if (!make_producer(k, e))
        return &k->sink;
    kafka_close(&k->sink);
    return NULL;
}

const struct sink_type sink_kafka = {
    .name = "kafka",
    .open = kafka_open,
    .send = kafka_send,
    .flush = kafka_flush,
    .close = kafka_close,
};
