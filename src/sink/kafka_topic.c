/* SPDX-License-Identifier: Apache-2.0 */
/* The topics that a sink writes to: a bounded table, and what the brokers say about each.
 *
 * One oversized record fails its whole batch, so max.message.bytes is read before the first record
 * goes out and batch.size is kept below it (a smaller limit makes the producer again, once nothing
 * is in flight). A missing topic is asked for a few times, since making it takes a moment. When the
 * table is full the producer is made again with an empty one: librdkafka forgets a topic only with
 * its handle. Asked again, a missing topic is found when it has been made. */
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "kafka.h"
#include "log.h"

#define TOPICS_MAX 1024
#define TRIES 4 /* answers "no such topic" before it is believed */
#define ASK_AGAIN_MS 300
#define RECHECK_MS 2000 /* a missing topic, while others flow */
#define LOOK_MS 1000    /* whether somebody has waited for it long enough */
#define WARNINGS_MAX 16
#define FRAMING 512 /* of a batch, left free below the topic's limit */

static void create(struct kafka *k, struct topic *made)
{
    const struct sink_create *c = k->cfg->kafka->create;
    rd_kafka_AdminOptions_t *o;
    char text[256];
    rd_kafka_NewTopic_t *t = rd_kafka_NewTopic_new(made->name, (int)c->partitions,
                                                   (int)c->replication, text, sizeof text);

    made->make_ms = clock_mono_ms();
    if (!t) {
        log_warn("a topic cannot be made", KS("topic", made->name), KS("reason", text));
        return;
    }
    made->making = true;
    o = rd_kafka_AdminOptions_new(k->rk, RD_KAFKA_ADMIN_OP_CREATETOPICS);
    rd_kafka_AdminOptions_set_opaque(o, made);
    rd_kafka_CreateTopics(k->rk, &t, 1, o, k->queue);
    rd_kafka_AdminOptions_destroy(o);
    rd_kafka_NewTopic_destroy(t);
}

static void describe(struct kafka *k, const char *name, void *opaque)
{
    rd_kafka_ConfigResource_t *res = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, name);
    rd_kafka_AdminOptions_t *o =
        rd_kafka_AdminOptions_new(k->rk, RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS);
    char text[128];

    rd_kafka_AdminOptions_set_request_timeout(o, k->ask_ms, text, sizeof text);
    rd_kafka_AdminOptions_set_opaque(o, opaque);
    rd_kafka_DescribeConfigs(k->rk, &res, 1, o, k->queue);
    rd_kafka_AdminOptions_destroy(o);
    rd_kafka_ConfigResource_destroy(res);
}

void kafka_topic_ask(struct kafka *k, struct topic *t)
{
    t->asking = true;
    t->asked_ms = clock_mono_ms();
    describe(k, t->name, t);
    kafka_wake(k, k->ask_ms + ASK_AGAIN_MS);
}

void kafka_probe(struct kafka *k)
{
    describe(k, k->topics_n ? k->topics[0].name : "hookline", NULL);
}

struct topic *kafka_topic(struct kafka *k, const char *name)
{
    struct topic *t;

    if (!k->topics)
        k->topics = xcalloc(TOPICS_MAX, sizeof *k->topics);
    if (k->last_topic < k->topics_n && !strcmp(k->topics[k->last_topic].name, name))
        return &k->topics[k->last_topic];
    for (size_t i = 0; i < k->topics_n; i++)
        if (!strcmp(k->topics[i].name, name)) {
            k->last_topic = i;
            return &k->topics[i];
        }
    if (k->topics_n == TOPICS_MAX)
        return NULL;
    t = &k->topics[k->topics_n++];
    *t = (struct topic){ .name = xstrdup(name),
                         .handle = rd_kafka_topic_new(k->rk, name, NULL),
                         .cold = k->tx,
                         .fixed = !k->by_content || kafka_is_fallback(k, name) };
    if (k->cfg->kafka->create)
        create(k, t);
    kafka_topic_ask(k, t);
    return t;
}

void kafka_topics_drop(struct kafka *k)
{
    for (size_t i = 0; i < k->topics_n; i++) {
        if (k->topics[i].handle)
            rd_kafka_topic_destroy(k->topics[i].handle);
        free(k->topics[i].name);
    }
    k->topics_n = 0;
}

void kafka_topic_missing(struct topic *t)
{
    if (!t->missing_ms)
        t->missing_ms = clock_mono_ms();
    if (!t->trouble_ms)
        t->trouble_ms = t->missing_ms;
}

/* No answer, as when the broker that was asked died, is no refusal: it is asked for again. */
void kafka_on_created(struct kafka *k, rd_kafka_event_t *ev)
{
    struct topic *t = rd_kafka_event_opaque(ev);
    size_t n = 0;
    const rd_kafka_topic_result_t **made =
        rd_kafka_event_error(ev)
            ? NULL
            : rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(ev), &n);
    rd_kafka_resp_err_t why = n ? rd_kafka_topic_result_error(made[0]) : RD_KAFKA_RESP_ERR_NO_ERROR;

    t->making = false;
    if (!why || why == RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS || why == t->refused)
        return;
    t->refused = why;
    log_warn("a topic could not be made", KS("sink", k->name), KS("topic", t->name),
             KS("reason", rd_kafka_err2str(why)));
}

/* Brokers that were there but do not say the limits must not hold up what they would take. */
static void no_answer(struct kafka *k, struct topic *t, const char *why)
{
    char *cluster = rd_kafka_clusterid(k->rk, 0);

    if (t && cluster) {
        t->asking = false;
        t->missing_ms = 0; /* the next report will tell */
    } else if (t) {
        kafka_topic_ask(k, t);
    } else if (k->trouble) {
        kafka_probe(k);
    }
    if (k->trouble)
        kafka_say(k, SINK_RETRYING, why);
    if (cluster)
        rd_kafka_mem_free(k->rk, cluster);
}

void kafka_topics_recheck(struct kafka *k)
{
    int64_t now = clock_mono_ms();

    for (size_t i = 0; i < k->topics_n; i++) {
        struct topic *t = &k->topics[i];
        bool due;
        if (t->asking && now - t->asked_ms >= k->ask_ms + ASK_AGAIN_MS && !t->tries)
            no_answer(k, t, "no answer about the topic's limits");
        due = t->asking
                  ? t->tries && now - t->asked_ms >= ASK_AGAIN_MS
                  : t->missing_ms && now - t->asked_ms >= (t->fixed ? ASK_AGAIN_MS : RECHECK_MS);
        if (due)
            kafka_topic_ask(k, t);
        if (t->asking || t->missing_ms)
            kafka_wake(k, t->asking || t->fixed ? ASK_AGAIN_MS : LOOK_MS);
    }
}

bool kafka_topic_given_up(const struct kafka *k, const struct topic *t)
{
    return t->missing_ms && !t->fixed && !k->cfg->kafka->fallback_topic &&
           clock_mono_ms() - t->trouble_ms >= k->missing_ms;
}

/* Still asking after the first answers: the topic may be in the making. */
static void not_there(struct kafka *k, struct topic *t)
{
    char reason[400];

    t->tries++;
    kafka_wake(k, ASK_AGAIN_MS);
    if (k->cfg->kafka->create && !t->making && clock_mono_ms() - t->make_ms >= RECHECK_MS)
        create(k, t);
    if (t->tries < TRIES)
        return;
    t->asking = false;
    kafka_topic_missing(t);
    if (!t->fixed)
        return;
    if (t->refused)
        snprintf(reason, sizeof reason, "topic %s does not exist and could not be made: %s",
                 t->name, rd_kafka_err2str(t->refused));
    else
        snprintf(reason, sizeof reason, "topic %s does not exist; create it%s", t->name,
                 k->cfg->kafka->create ? "" : ", or set create");
    kafka_say(k, SINK_BLOCKED, reason);
}

static void there(struct kafka *k, struct topic *t, const rd_kafka_ConfigResource_t *res)
{
    size_t n;
    const rd_kafka_ConfigEntry_t **entries = rd_kafka_ConfigResource_configs(res, &n);

    if (t->missing_ms && t->fixed)
        kafka_say(k, SINK_RETRYING, "the topic is there again");
    t->asking = false;
    t->tries = 0;
    t->missing_ms = 0;
    for (size_t i = 0; i < n; i++)
        if (!strcmp(rd_kafka_ConfigEntry_name(entries[i]), "max.message.bytes") &&
            rd_kafka_ConfigEntry_value(entries[i]))
            t->max_bytes = strtoull(rd_kafka_ConfigEntry_value(entries[i]), NULL, 10);
    if (!t->max_bytes)
        return;
    if (t->max_bytes < k->max_body)
        log_warn("a source may send more than the topic takes; such events become dead letters",
                 KS("sink", k->name), KS("topic", t->name), KU("max_message_bytes", t->max_bytes),
                 KU("body_bytes", k->max_body));
    if (t->max_bytes > 2 * FRAMING && t->max_bytes - FRAMING < k->batch_bytes) {
        k->batch_bytes = t->max_bytes - FRAMING;
        k->renew = true;
    }
}

void kafka_on_limits(struct kafka *k, rd_kafka_event_t *ev)
{
    struct topic *t = rd_kafka_event_opaque(ev);
    rd_kafka_resp_err_t err = rd_kafka_event_error(ev);
    const rd_kafka_ConfigResource_t **res;
    size_t n = 0;

    if (err == RD_KAFKA_RESP_ERR__TIMED_OUT || err == RD_KAFKA_RESP_ERR__TRANSPORT) {
        no_answer(k, t, rd_kafka_event_error_string(ev));
        return;
    }
    if (k->trouble)
        kafka_say(k, SINK_RUNNING, "");
    k->trouble = false;
    if (!t)
        return;
    res = err ? NULL
              : rd_kafka_DescribeConfigs_result_resources(rd_kafka_event_DescribeConfigs_result(ev),
                                                          &n);
    if (!n) { /* a broker that cannot say: the reports will */
        t->asking = false;
        return;
    }
    err = rd_kafka_ConfigResource_error(res[0]);
    if (err == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)
        not_there(k, t);
    else
        there(k, t, res[0]); /* without the right to ask: no entries, the limit stays unknown */
}

static void warn(struct buf *out, const char *sep, struct buf *text)
{
    buf_adds(out, sep);
    buf_json_string(out, buf_as_span(text));
    text->n = 0;
}

void kafka_topic_warnings(const struct kafka *k, struct buf *out)
{
    struct buf text = BUF_INIT;
    size_t n = 0;

    for (size_t i = 0; i < k->topics_n && n < WARNINGS_MAX; i++) {
        const struct topic *t = &k->topics[i];
        if (t->missing_ms && !t->fixed) {
            buf_printf(&text, "topic %s, which events name, cannot be used; they go to %s", t->name,
                       k->cfg->kafka->fallback_topic ? k->cfg->kafka->fallback_topic
                       : k->tx                       ? "the dead letters"
                                                     : "the dead letters after a minute");
            warn(out, n++ ? "," : "", &text);
        }
        if (t->max_bytes && t->max_bytes < k->max_body) {
            buf_printf(&text,
                       "a source may send %llu bytes, topic %s takes %llu; larger events become "
                       "dead letters",
                       (unsigned long long)k->max_body, t->name, (unsigned long long)t->max_bytes);
            warn(out, n++ ? "," : "", &text);
        }
    }
    buf_free(&text);
}
