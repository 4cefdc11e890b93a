/* SPDX-License-Identifier: Apache-2.0 */
/* Settings of the Kafka sink. librdkafka's properties pass through but for those that carry a
 * promise. */
#include <stdio.h>
#include <string.h>

#include "kafka_tx.h"

#define TX_TIMEOUT_MS "30000" /* how long what a killed process left open holds consumers back */
#define ENVELOPE (128u << 10) /* headers, key and attributes of a record beside its body */

#define F(m) offsetof(struct sink_kafka_cfg, m)

const struct cfg_key *sink_kafka_keys(void)
{
    static const struct cfg_key create[] = {
        { "partitions", CFG_INT, 0, "1", 1, 100000, .help = "Partitions of a topic that is made." },
        { "replication", CFG_INT, sizeof(int64_t), "1", 1, 100, .help = "Its replication factor." },
        { 0 }
    };
    static const struct cfg_key keys[] = {
        { "brokers", CFG_STR, F(brokers), "127.0.0.1:9092",
          .help = "Brokers to start from, `host:port,host:port`." },
        { "topic", CFG_STR, F(topic), "hooks.{source}",
          .help = "Topic; `{source}`, `{type}`, `{subject}`, `{id}`; other characters than "
                  "letters, digits, `.`, `_`, `-` become `_`." },
        { "key", CFG_STR, F(key), "{subject}",
          .help = "Key of the message; where it comes out empty, the event's id." },
        { "cloudevents", CFG_BOOL, F(cloudevents), "true",
          .help = "Add the CloudEvents headers (`ce_id` and so on)." },
        { "create", CFG_OPTION, F(create), .sub = create, .sub_size = sizeof(struct sink_create),
          .help = "Make missing topics." },
        { "fallback_topic", CFG_STR, F(fallback_topic),
          .help = "Where an event goes whose topic is named by its content and does not exist." },
        { "properties", CFG_STRMAP, F(properties),
          .help = "librdkafka's own properties, but for those that carry a promise." },
        { 0 }
    };

    return keys;
}

/* What hookline itself sets, and what would be lost if somebody else did. */
static const struct {
    const char *property, *why;
} refused[] = {
    { "acks", "an acknowledged event must be on all in-sync replicas" },
    { "request.required.acks", "an acknowledged event must be on all in-sync replicas" },
    { "enable.idempotence", "without it a retry can store an event twice or out of order" },
    { "max.in.flight*", "the idempotent producer keeps order only within its own limit" },
    { "retries", "an event is retried until the broker has it" },
    { "message.send.max.retries", "an event is retried until the broker has it" },
    { "message.timeout.ms", "an event is never given up because of its age" },
    { "delivery.timeout.ms", "an event is never given up because of its age" },
    { "transactional.id", "it belongs to exactly-once delivery" },
    { "transaction.timeout.ms", "it belongs to exactly-once delivery" },
    { "isolation.level", "it belongs to exactly-once delivery" },
    { "delivery.report.only.error", "the cursor moves by the reports of success" },
    { "queue.buffering.*", "the window is bounded by in_flight" },
    { "linger.ms", "the window is bounded by in_flight" },
    { "message.max.bytes", "it follows from the body limits" },
    { "batch.size", "it is kept below the topic's max.message.bytes" },
    { "enable.gapless.guarantee", "one poison event would stop the sink for ever" },
    { "bootstrap.servers", "brokers says it" },
    { "metadata.broker.list", "brokers says it" },
};

static int set(rd_kafka_conf_t *conf, const char *key, const char *value, struct err *e)
{
    char text[256];

    if (rd_kafka_conf_set(conf, key, value, text, sizeof text) == RD_KAFKA_CONF_OK)
        return 0;
    return err_set(e, EXIT_BAD_CONFIG, "kafka property %s: %s", key, text);
}

static int set_u64(rd_kafka_conf_t *conf, const char *key, uint64_t value, struct err *e)
{
    char text[24];

    snprintf(text, sizeof text, "%llu", (unsigned long long)value);
    return set(conf, key, text, e);
}

static int set_all(rd_kafka_conf_t *conf, const char *const (*pairs)[2], size_t n, struct err *e)
{
    for (size_t i = 0; i < n; i++)
        if (set(conf, pairs[i][0], pairs[i][1], e))
            return -1;
    return 0;
}

/* With the default back-off a transaction takes 110 ms instead of 30: the broker answers
 * CONCURRENT_TRANSACTIONS to the next one, and librdkafka sleeps for so long. */
static int set_transactions(const struct kafka *k, rd_kafka_conf_t *conf, struct err *e)
{
    return set(conf, "transactional.id", k->tx->id, e) ||
                   set(conf, "transaction.timeout.ms", TX_TIMEOUT_MS, e)
               ? -1
               : 0;
}

static int set_properties(const struct kafka *k, rd_kafka_conf_t *conf, struct err *e)
{
    const struct cfg_strmap *p = &k->cfg->kafka->properties;

    for (size_t i = 0; i < p->n; i++)
        if (set(conf, p->k[i], p->v[i], e))
            return -1;
    return 0;
}

int kafka_configure_reader(const struct kafka *k, const char *group, rd_kafka_conf_t *conf,
                           struct err *e)
{
    static const char *const ours[][2] = { { "client.id", "hookline" },
                                           { "enable.auto.commit", "false" },
                                           { "isolation.level", "read_committed" } };

    if (set(conf, "bootstrap.servers", k->cfg->kafka->brokers, e) || set_properties(k, conf, e) ||
        set_all(conf, ours, ARRAY_LEN(ours), e))
        return -1;
    return set(conf, "group.id", group, e);
}

int kafka_configure(const struct kafka *k, rd_kafka_conf_t *conf, struct err *e)
{
    static const char *const defaults[][2] = {
        { "partitioner", "murmur2_random" }, /* the same partition as Java clients */
        { "client.id", "hookline" },         { "reconnect.backoff.max.ms", "2000" },
        { "log.connection.close", "false" }, { "socket.keepalive.enable", "true" },
    };
    static const char *const ours[][2] = {
        { "enable.idempotence", "true" }, { "acks", "all" },    { "message.timeout.ms", "0" },
        { "log.queue", "true" },          { "linger.ms", "5" },
    };
    const struct sink_kafka_cfg *c = k->cfg->kafka;
    if (set(conf, "bootstrap.servers", c->brokers, e) ||
        set(conf, "topic.metadata.propagation.max.ms", "5000",
            e) || /* missing ones are asked for */
        set_all(conf, defaults, ARRAY_LEN(defaults), e) ||
        (k->tx && set(conf, "retry.backoff.ms", "10", e)) || set_properties(k, conf, e) ||
        (k->tx && set_transactions(k, conf, e)))
        return -1;
    rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR | RD_KAFKA_EVENT_LOG);
    if (set_all(conf, ours, ARRAY_LEN(ours), e) || set_u64(conf, "batch.size", k->batch_bytes, e) ||
        set_u64(conf, "message.max.bytes", MAX(k->max_body + ENVELOPE, 1000000u), e))
        return -1;
    return set_u64(conf, "queue.buffering.max.messages", (uint64_t)k->cfg->in_flight.events + 1000,
                   e);
}

static void check_properties(const char *name, const struct cfg_strmap *properties,
                             const struct cfg_node *at, struct err_list *errs)
{
    rd_kafka_conf_t *scratch = rd_kafka_conf_new();
    struct err e = ERR_INIT;

    for (size_t i = 0; i < properties->n; i++) {
        size_t r = 0;
        while (r < ARRAY_LEN(refused) &&
               !span_glob(span_str(refused[r].property), span_str(properties->k[i])))
            r++;
        if (r < ARRAY_LEN(refused))
            cfg_error(errs, at, "sink %s: property %s cannot be set: %s", name, properties->k[i],
                      refused[r].why);
        else if (set(scratch, properties->k[i], properties->v[i], &e))
            cfg_error(errs, at, "sink %s: %s", name, e.text);
    }
    rd_kafka_conf_destroy(scratch);
}

void sink_kafka_check(const char *name, const struct sink_kafka_cfg *cfg, const struct cfg_node *at,
                      struct err_list *errs)
{
    const char *why;

    if (!template_good(cfg->topic, &why))
        cfg_error(errs, at, "sink %s: topic \"%s\": %s", name, cfg->topic, why);
    if (cfg->key[0] && !template_good(cfg->key, &why))
        cfg_error(errs, at, "sink %s: key \"%s\": %s", name, cfg->key, why);
    check_properties(name, &cfg->properties, at, errs);
}
