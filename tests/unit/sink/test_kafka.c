/* SPDX-License-Identifier: Apache-2.0 */
/* Against librdkafka's mock cluster, which gives errors on demand (FAULTS cases 37 to 39). */
#include "harness.h"
#include "../../../src/sink/kafka.h"

#include <librdkafka/rdkafka_mock.h>

#define PRODUCE 0 /* API key */
#define CLUSTER "properties: { test.mock.num.brokers: '1' }"

static struct kafka *kafka_of(struct harness *h)
{
    return container_of(h->sink, struct kafka, sink);
}

static rd_kafka_mock_cluster_t *cluster(struct harness *h)
{
    return rd_kafka_handle_mock_cluster(kafka_of(h)->rk);
}

/* The mock cluster answers no question about limits: the shortest wait for it. */
static void open_kafka(struct harness *h, const char *yaml)
{
    harness_open(h, yaml);
    kafka_of(h)->ask_ms = 200;
}

static void warm_up(struct harness *h)
{
    static struct record rec;

    rec = harness_record(40);
    harness_send(h, &rec);
    UNTIL(h, h->reports[40] == 1);
    h->done = 0;
}

static void delivers(void **state UNUSED)
{
    struct harness h;
    struct record rec[20];

    open_kafka(&h, "kafka: { topic: 'h.{source}', " CLUSTER " }");
    for (uint64_t i = 1; i < 20; i++) {
        rec[i] = harness_record(i);
        harness_send(&h, &rec[i]);
    }
    UNTIL(&h, h.done == 19);
    assert_int_equal(h.retry + h.poison + h.lost, 0);
    harness_close(&h);
}

/* A batch that is too large fails all its records; sent alone the innocent ones pass and the one
 * that fails again is poison. */
static void case38_poison_is_found_by_sending_alone(void **state UNUSED)
{
    struct harness h;
    struct record rec[6];

    open_kafka(&h, "kafka: { topic: t, " CLUSTER " }");
    rec[5] = harness_record(5);
    harness_send(&h, &rec[5]);
    UNTIL(&h, h.done == 1);
    rd_kafka_mock_push_request_errors(cluster(&h), PRODUCE, 2, RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE,
                                      RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE);
    for (uint64_t i = 1; i < 4; i++) {
        rec[i] = harness_record(i);
        assert_int_equal(h.sink->type->send(h.sink, &rec[i]), 0);
    }
    UNTIL(&h, h.retry == 3);
    for (uint64_t i = 1; i < 4; i++) {
        harness_send(&h, &rec[i]);
        if (i < 3) /* the next one has to wait for this one's report */
            assert_int_equal(h.sink->type->send(h.sink, &rec[i + 1]), 1);
    }
    UNTIL(&h, h.done == 3 && h.poison == 1);
    assert_int_equal(h.outcome[1], SINK_POISON);
    assert_int_equal(h.outcome[2], SINK_DONE);
    harness_close(&h);
}

static const struct refusal_row {
    const char *name, *topic;
    rd_kafka_resp_err_t error;
    enum sink_state state;
} refusals[] = {
    { "case38 authorization", "t", RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, SINK_BLOCKED },
    { "case38 authorization of a topic named by content", "{type}",
      RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, SINK_RETRYING },
    { "timestamp, our clock is wrong", "t", RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP, SINK_BLOCKED },
};

static void refusal(void **state)
{
    const struct refusal_row *r = *state;
    struct harness h;
    struct record rec = harness_record(1);
    char yaml[200];

    snprintf(yaml, sizeof yaml, "kafka: { topic: '%s', " CLUSTER " }", r->topic);
    open_kafka(&h, yaml);
    warm_up(&h);
    rd_kafka_mock_push_request_errors(cluster(&h), PRODUCE, 1, r->error);
    harness_send(&h, &rec);
    UNTIL(&h, h.retry == 1);
    assert_int_equal(h.state, r->state);
    while (!h.done) { /* mended: it goes on by itself */
        int before = h.retry;
        harness_send(&h, &rec);
        UNTIL(&h, h.done || h.retry > before);
    }
    assert_int_equal(h.poison, 0);
    harness_close(&h);
}

static void case37_retriable_errors_are_not_seen(void **state UNUSED)
{
    struct harness h;
    struct record rec = harness_record(1);

    open_kafka(&h, "kafka: { topic: t, " CLUSTER " }");
    warm_up(&h);
    rd_kafka_mock_push_request_errors(
        cluster(&h), PRODUCE, 3, RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS, RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT);
    harness_send(&h, &rec);
    UNTIL(&h, h.done == 1);
    assert_int_equal(h.retry + h.poison, 0);
    harness_close(&h);
}

static void case39_fatal_error_rebuilds_the_producer(void **state UNUSED)
{
    struct harness h;
    struct record rec = harness_record(1);
    rd_kafka_t *before;

    open_kafka(&h, "kafka: { topic: t, " CLUSTER " }");
    harness_send(&h, &rec);
    UNTIL(&h, h.done == 1);
    before = kafka_of(&h)->rk;
    rd_kafka_test_fatal_error(before, RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER, "test");
    UNTIL(&h, h.lost == 1);
    harness_send(&h, &rec);
    UNTIL(&h, h.done == 2);
    harness_close(&h);
}

/* One record and silence: the descriptor alone tells of its report. */
static void no_report_is_slept_through(void **state UNUSED)
{
    struct harness h;
    struct record rec = harness_record(1);

    open_kafka(&h, "kafka: { topic: t, " CLUSTER " }");
    warm_up(&h);
    event_del(&kafka_of(&h)->timer);
    for (int i = 1; i <= 300; i++) {
        harness_send(&h, &rec);
        UNTIL(&h, h.done == i);
    }
    assert_false(event_pending(&kafka_of(&h)->timer, EV_TIMEOUT, NULL));
    harness_close(&h);
}

/* Nothing else than the refused record says so. */
static void case39_a_fatal_error_is_noticed_when_sending(void **state UNUSED)
{
    struct harness h;
    struct record rec = harness_record(1);
    rd_kafka_event_t *ev;

    open_kafka(&h, "kafka: { topic: t, " CLUSTER " }");
    warm_up(&h);
    rd_kafka_test_fatal_error(kafka_of(&h)->rk, RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER,
                              "test");
    while ((ev = rd_kafka_queue_poll(kafka_of(&h)->queue, 0)))
        rd_kafka_event_destroy(ev);
    harness_send(&h, &rec);
    UNTIL(&h, h.lost == 1);
    harness_send(&h, &rec);
    UNTIL(&h, h.done == 1);
    harness_close(&h);
}

/* A topic that takes less than our batches makes the producer again, with smaller ones. */
static void batches_stay_below_the_topics_limit(void **state UNUSED)
{
    struct harness h;
    struct record rec = harness_record(1);
    char value[24];
    size_t n = sizeof value;

    open_kafka(&h, "kafka: { topic: t, " CLUSTER " }");
    kafka_of(&h)->batch_bytes = 5000;
    kafka_of(&h)->renew = true;
    assert_int_equal(h.sink->type->send(h.sink, &rec), 1);
    kafka_wake(kafka_of(&h), 0);
    UNTIL(&h, h.lost == 1);
    rd_kafka_conf_get(rd_kafka_conf(kafka_of(&h)->rk), "batch.size", value, &n);
    assert_string_equal(value, "5000");
    harness_send(&h, &rec);
    UNTIL(&h, h.done == 1);
    harness_close(&h);
}

static void key_is_the_id_where_the_template_is_empty(void **state UNUSED)
{
    struct harness h;
    struct record rec = harness_record(1);

    rec.subject = SPAN_NONE;
    rec.id = S("msg_1");
    open_kafka(&h, "kafka: { topic: t, key: '{subject}', " CLUSTER " }");
    harness_send(&h, &rec);
    assert_true(span_eq(buf_as_span(&kafka_of(&h)->key), S("msg_1")));
    UNTIL(&h, h.done == 1);
    harness_close(&h);
}

static const struct header_row {
    const char *name, *content_type;
    bool attributes, transformed;
} header_rows[] = {
    { "plain", "application/json", true },
    { "no content type", "", true },
    { "structured event", "application/cloudevents+json", false },
    { "structured event with charset", "Application/CloudEvents+JSON; charset=utf-8", false },
    { "batch of events", "application/cloudevents-batch+json", true },
    { "transformed", "application/json", true, true },
};

static void headers(void **state)
{
    const struct header_row *r = *state;
    struct sink_kafka_cfg kafka_cfg = { .cloudevents = true };
    struct sink_cfg cfg = { .kafka = &kafka_cfg };
    struct kafka k = { .cfg = &cfg, .logid = LOGID };
    struct record rec = harness_record(7);
    rd_kafka_headers_t *h;
    const void *value;
    size_t n;

    rec.content_type = span_str(r->content_type);
    rec.transformed = r->transformed;
    h = kafka_headers(&k, &rec, S("id-1"));
    if (r->attributes) {
        assert_int_equal(rd_kafka_header_get_last(h, "ce_lsn", &value, &n), 0);
        assert_string_equal(value, "7");
        assert_int_equal(rd_kafka_header_get_last(h, "ce_id", &value, &n), 0);
        assert_string_equal(value, "id-1");
    } else {
        assert_int_not_equal(rd_kafka_header_get_last(h, "ce_id", &value, &n), 0);
    }
    assert_int_equal(rd_kafka_header_get_last(h, "ce_transformed", &value, &n) == 0,
                     r->transformed);
    assert_int_equal(rd_kafka_header_get(h, 1, "x-a", &value, &n), 0);
    assert_string_equal(value, "2");
    assert_int_equal(rd_kafka_header_get_last(h, "content-type", &value, &n) == 0,
                     r->content_type[0] != 0);
    rd_kafka_headers_destroy(h);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(delivers),
        cmocka_unit_test(case38_poison_is_found_by_sending_alone),
        cmocka_unit_test(case37_retriable_errors_are_not_seen),
        cmocka_unit_test(case39_fatal_error_rebuilds_the_producer),
        cmocka_unit_test(case39_a_fatal_error_is_noticed_when_sending),
        cmocka_unit_test(no_report_is_slept_through),
        cmocka_unit_test(batches_stay_below_the_topics_limit),
        cmocka_unit_test(key_is_the_id_where_the_template_is_empty),
    };

    return T_TABLE(header_rows, headers) + T_TABLE(refusals, refusal) + T_RUN(tests);
}
