/* SPDX-License-Identifier: Apache-2.0 */
/* Settings of the Kafka sink. librdkafka's properties pass through but for those that carry a
 * promise. */
#include <string.h>

#include "room.h"

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

/* What hookline itself sets, because a promise depends on it. */
static const char *const refused[] = {
    "acks",
    "request.required.acks",
    "enable.idempotence",
    "max.in.flight*",
    "retries",
    "message.send.max.retries",
    "message.timeout.ms",
    "delivery.timeout.ms",
    "transactional.id",
    "transaction.timeout.ms",
    "isolation.level",
    "delivery.report.only.error",
    "queue.buffering.*",
    "linger.ms",
    "message.max.bytes",
    "batch.size",
    "enable.gapless.guarantee",
    "bootstrap.servers",
    "metadata.broker.list",
};

void sink_kafka_check(const char *name, const struct sink_kafka_cfg *cfg, const struct cfg_node *at,
                      struct err_list *errs)
{
    const char *why;

    if (!template_good(cfg->topic, &why))
        cfg_error(errs, at, "sink %s: topic \"%s\": %s", name, cfg->topic, why);
    if (cfg->key[0] && !template_good(cfg->key, &why))
        cfg_error(errs, at, "sink %s: key \"%s\": %s", name, cfg->key, why);
    for (size_t i = 0; i < cfg->properties.n; i++)
        for (size_t k = 0; k < ARRAY_LEN(refused); k++)
            if (span_glob(span_str(refused[k]), span_str(cfg->properties.k[i])))
                cfg_error(errs, at, "sink %s: property %s carries a promise and is set by hookline",
                          name, cfg->properties.k[i]);
}
