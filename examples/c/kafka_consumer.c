/* SPDX-License-Identifier: Apache-2.0 */
/* Consumes hookline's events from Kafka; each takes effect once, whatever is killed when.
 *
 * Install: apt-get install librdkafka-dev
 * Build:   make examples
 * Run:     kafka_consumer 127.0.0.1:9092 hooks.gemini GROUP FILE [INSTANCE]
 *
 * INSTANCE is the same after a restart, and unlike that of every other member: with it a consumer
 * that was killed gets its partitions back at once, else after session.timeout.ms.
 *
 * A repeat is told by the event's source and id (effects.h). The offset of a message is stored for
 * the library's background commit only after the effect is on disk, so a crash repeats messages
 * and loses none. */
#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <string.h>

#include "effects.h"

static rd_kafka_t *join(const char *brokers, const char *topic, const char *group,
                        const char *instance)
{
    const char *const settings[][2] = {
        { "bootstrap.servers", brokers },        { "group.id", group },
        { "isolation.level", "read_committed" }, /* nothing of an aborted transaction */
        { "auto.offset.reset", "earliest" },     /* a new group starts with what is there */
        { "enable.auto.offset.store", "false" }, /* that is ours to say, see above */
        { "group.instance.id", instance },
    };
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_topic_partition_list_t *topics = rd_kafka_topic_partition_list_new(1);
    rd_kafka_t *rk;
    char text[256];

    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
        if (settings[i][1] &&
            rd_kafka_conf_set(conf, settings[i][0], settings[i][1], text, sizeof text))
            die("%s", text);
    if (!(rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, text, sizeof text)))
        die("%s", text);
    rd_kafka_poll_set_consumer(rk);
    rd_kafka_topic_partition_list_add(topics, topic, RD_KAFKA_PARTITION_UA);
    if (rd_kafka_subscribe(rk, topics))
        die("subscribing to %s failed", topic);
    rd_kafka_topic_partition_list_destroy(topics);
    return rk;
}

struct text {
    const void *p;
    size_t n;
};

static struct text header(const rd_kafka_message_t *msg, const char *name)
{
    rd_kafka_headers_t *headers;
    struct text t = { "", 0 };

    if (!rd_kafka_message_headers(msg, &headers))
        rd_kafka_header_get_last(headers, name, &t.p, &t.n);
    return t;
}

static void handle(struct effects *fx, const rd_kafka_message_t *msg)
{
    const char *topic = rd_kafka_topic_name(msg->rkt);
    struct text source = header(msg, "ce_source"), id = header(msg, "ce_id");
    struct text type = header(msg, "ce_type");
    char place[48];

    if (!id.n) { /* not from hookline: the place in the topic names it */
        snprintf(place, sizeof place, "%d/%lld", msg->partition, (long long)msg->offset);
        source = (struct text){ topic, strlen(topic) };
        id = (struct text){ place, strlen(place) };
    }
    effects_add(fx, source.p, source.n, id.p, id.n, type.p, type.n);
    effects_sync(fx);
    rd_kafka_offset_store(msg->rkt, msg->partition, msg->offset);
}

int main(int argc, char **argv)
{
    struct effects *fx;
    rd_kafka_t *rk;
    char text[256];

    if (argc < 5)
        die("usage: kafka_consumer BROKERS TOPIC GROUP FILE [INSTANCE]");
    fx = effects_open(argv[4]);
    rk = join(argv[1], argv[2], argv[3], argv[5]); /* the last may be NULL */
    while (!stopping()) {
        rd_kafka_message_t *msg = rd_kafka_consumer_poll(rk, 500);
        if (rd_kafka_fatal_error(rk, text, sizeof text))
            die("kafka: %s", text);
        if (!msg)
            continue;
        if (msg->err) /* the library tries again by itself */
            fprintf(stderr, "kafka: %s\n", rd_kafka_message_errstr(msg));
        else
            handle(fx, msg);
        rd_kafka_message_destroy(msg);
    }
    rd_kafka_consumer_close(rk); /* commits what was stored */
    rd_kafka_destroy(rk);
    effects_close(fx);
    return 0;
}
