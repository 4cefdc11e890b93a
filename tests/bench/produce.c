/* SPDX-License-Identifier: Apache-2.0 */
/* produce BROKER TOPIC COUNT: what librdkafka alone can do. Messages of 600 bytes with the headers
 * and the settings of hookline's sink (its own kafka_configure), in a bare loop: produce until the
 * queue is full, take reports, go on. Ends when every message is reported; one that failed ends the
 * program. */
#include <err.h>
#include <stdio.h>
#include <string.h>

#include "base.h"
#include "clock.h"
#include "sink/kafka.h"

#define BODY 600
#define IN_FLIGHT 10000 /* the default of in_flight.events */

static rd_kafka_t *make_producer(char *broker, rd_kafka_queue_t **queue)
{
    struct sink_kafka_cfg kafka = { .brokers = broker };
    struct sink_cfg cfg = { .kafka = &kafka, .in_flight = { .events = IN_FLIGHT } };
    struct kafka k = { .cfg = &cfg, .max_body = MIB(1), .batch_bytes = 900000 };
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    struct err e = ERR_INIT;
    char text[256];
    rd_kafka_t *rk;

    if (kafka_configure(&k, conf, &e))
        errx(1, "produce: %s", e.text);
    rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, text, sizeof text);
    if (!rk)
        errx(1, "produce: %s", text);
    rd_kafka_set_log_queue(rk, NULL);
    *queue = rd_kafka_queue_get_main(rk);
    return rk;
}

static rd_kafka_headers_t *make_headers(uint64_t number, const char *id, size_t id_n,
                                        const char *job, size_t job_n)
{
    static const char signature[] = "v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    rd_kafka_headers_t *h = rd_kafka_headers_new(16);
    char lsn[24], time[CLOCK_TEXT_MAX];
    int lsn_n = snprintf(lsn, sizeof lsn, "%llu", (unsigned long long)number);

    rd_kafka_header_add(h, "ce_specversion", 14, "1.0", 3);
    rd_kafka_header_add(h, "ce_id", 5, id, (ssize_t)id_n);
    rd_kafka_header_add(h, "ce_source", 9, "demo", 4);
    rd_kafka_header_add(h, "ce_type", 7, "batch.succeeded", 15);
    rd_kafka_header_add(h, "ce_time", 7, clock_text(clock_wall_ms(), time), -1);
    rd_kafka_header_add(h, "ce_subject", 10, job, (ssize_t)job_n);
    rd_kafka_header_add(h, "ce_lsn", 6, lsn, lsn_n);
    rd_kafka_header_add(h, "ce_logid", 8, "0b7e0000-0000-4000-8000-000000000000", 36);
    rd_kafka_header_add(h, "content-type", 12, "application/json", 16);
    rd_kafka_header_add(h, "webhook-id", 10, id, (ssize_t)id_n);
    rd_kafka_header_add(h, "webhook-timestamp", 17, "1790000000", 10);
    rd_kafka_header_add(h, "webhook-signature", 17, signature, sizeof signature - 1);
    return h;
}

/* False: the queue is full. */
static bool produce(rd_kafka_t *rk, rd_kafka_topic_t *topic, char *body, uint64_t number)
{
    char id[40], job[16];
    int id_n = snprintf(id, sizeof id, "msg_0199f0c0de000_%09llu", (unsigned long long)number);
    int job_n = snprintf(job, sizeof job, "job-%06u", (unsigned)(number % 1000));
    rd_kafka_headers_t *h = make_headers(number, id, (size_t)id_n, job, (size_t)job_n);
    rd_kafka_resp_err_t e = rd_kafka_producev(
        rk, RD_KAFKA_V_RKT(topic), RD_KAFKA_V_KEY(job, (size_t)job_n), RD_KAFKA_V_VALUE(body, BODY),
        RD_KAFKA_V_HEADERS(h), RD_KAFKA_V_TIMESTAMP(clock_wall_ms()), RD_KAFKA_V_MSGFLAGS(0),
        RD_KAFKA_V_END);

    if (!e)
        return true;
    rd_kafka_headers_destroy(h);
    if (e != RD_KAFKA_RESP_ERR__QUEUE_FULL)
        errx(1, "produce: %s", rd_kafka_err2str(e));
    return false;
}

static uint64_t take_reports(rd_kafka_queue_t *queue, int wait_ms)
{
    rd_kafka_event_t *ev = rd_kafka_queue_poll(queue, wait_ms);
    const rd_kafka_message_t *msgs[256];
    uint64_t done = 0;
    size_t n;

    if (rd_kafka_event_type(ev) == RD_KAFKA_EVENT_DR)
        while ((n = rd_kafka_event_message_array(ev, msgs, ARRAY_LEN(msgs))))
            for (size_t i = 0; i < n; i++, done++)
                if (msgs[i]->err)
                    errx(1, "produce: %s", rd_kafka_err2str(msgs[i]->err));
    rd_kafka_event_destroy(ev);
    return done;
}

int main(int argc, char **argv)
{
    uint64_t count = argc == 4 ? strtoull(argv[3], NULL, 10) : 0, sent = 0, done = 0;
    rd_kafka_queue_t *queue;
    rd_kafka_topic_t *topic;
    char body[BODY];
    rd_kafka_t *rk;

    if (!count)
        errx(64, "produce BROKER TOPIC COUNT");
    memset(body, 'x', sizeof body);
    rk = make_producer(argv[1], &queue);
    topic = rd_kafka_topic_new(rk, argv[2], NULL);
    while (done < count) {
        bool full = sent == count || !produce(rk, topic, body, sent);
        sent += !full;
        if (full)
            done += take_reports(queue, 100);
    }
    rd_kafka_topic_destroy(topic);
    rd_kafka_queue_destroy(queue);
    rd_kafka_destroy(rk);
    return 0;
}
