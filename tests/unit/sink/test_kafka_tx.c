/* SPDX-License-Identifier: Apache-2.0 */
/* Kafka, exactly once, against librdkafka's mock cluster, which gives errors on demand: whatever
 * fails, the producer is made again, the state read back and judged, and all is sent again. What
 * the mock cannot do, it keeps no offsets, is in tests/e2e/test_exactly_once_kafka.py. */
#include "harness.h"
#include "../../../src/sink/kafka_tx.h"

#include <librdkafka/rdkafka_mock.h>

/* One cluster for each test, which outlives the producers. */
static struct {
    rd_kafka_t *rk;
    rd_kafka_mock_cluster_t *mock;
} brokers;

/* API keys */
#define PRODUCE 0
#define INIT_PRODUCER_ID 22
#define ADD_PARTITIONS 24
#define ADD_OFFSETS 25
#define END_TXN 26
#define TXN_OFFSET_COMMIT 28

/* An owner that judges as the test says, and notes what it is asked. */
static struct {
    enum sink_verdict verdict;
    int judged, resumed, running;
    uint64_t cursor, from;
    struct sink_mark found;
    bool none;
} owner;

static enum sink_verdict judge(void *arg UNUSED, const struct sink_mark *found, bool running,
                               struct buf *reason)
{
    owner.judged++;
    owner.running += running;
    owner.none = !found;
    if (found)
        owner.found = *found;
    buf_adds(reason, "as told");
    return owner.verdict;
}

static void resume(void *arg UNUSED, uint64_t lsn)
{
    owner.resumed++;
    owner.from = lsn;
}

static uint64_t cursor(void *arg UNUSED)
{
    return owner.cursor;
}

static void mark(void *arg UNUSED, uint64_t lsn, struct sink_mark *out)
{
    *out = (struct sink_mark){ .logid = LOGID, .epoch = 7, .lsn = lsn, .crc = 9 };
}

static struct kafka *kafka_of(struct harness *h)
{
    return container_of(h->sink, struct kafka, sink);
}

static struct kafka_tx *tx_of(struct harness *h)
{
    return kafka_of(h)->tx;
}

static void brokers_start(void)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();

    rd_kafka_conf_set(conf, "log_level", "3", NULL, 0);
    brokers.rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, NULL, 0);
    brokers.mock = rd_kafka_mock_cluster_new(brokers.rk, 1);
    rd_kafka_mock_topic_create(brokers.mock, "t", 1, 1);
    rd_kafka_mock_topic_create(brokers.mock, TX_CURSOR_TOPIC, 1, 1);
}

static void brokers_stop(void)
{
    rd_kafka_mock_cluster_destroy(brokers.mock);
    rd_kafka_destroy(brokers.rk);
}

static void open_sink(struct harness *h, enum sink_verdict verdict)
{
    char yaml[200];

    memset(&owner, 0, sizeof owner);
    owner.verdict = verdict;
    owner.cursor = 3;
    harness_epoch = 7;
    harness_owner =
        (struct sink_owner){ .judge = judge, .resume = resume, .cursor = cursor, .mark = mark };
    brokers_start();
    snprintf(yaml, sizeof yaml, "kafka: { topic: t, brokers: '%s' }\ndelivery: exactly-once",
             rd_kafka_mock_cluster_bootstraps(brokers.mock));
    harness_open(h, yaml);
    kafka_of(h)->ask_ms = 200;
}

static void open_running(struct harness *h)
{
    open_sink(h, SINK_GO_ON);
    UNTIL(h, owner.resumed == 1 && h->state == SINK_RUNNING);
}

static void close_sink(struct harness *h)
{
    harness_close(h);
    brokers_stop();
}

/* As the owner does: again everything behind what is done. */
static void send_all(struct harness *h, struct record *rec, uint64_t n)
{
    int seen = owner.resumed;
    uint64_t next = 1;
    int64_t until = clock_mono_ms() + 20000;

    while ((uint64_t)(h->done + h->poison) < n) {
        struct timeval tv = { 0, 5000 };
        if (seen != owner.resumed) {
            seen = owner.resumed;
            next = 1;
        }
        while (next <= n && (h->reports[next] || !h->sink->type->send(h->sink, &rec[next])))
            next++;
        h->sink->type->flush(h->sink);
        event_base_loopexit(h->base, &tv);
        event_base_dispatch(h->base);
        if (clock_mono_ms() > until)
            fail_msg("never: %d done, %d poison, %s", h->done, h->poison, h->reason);
    }
}

static void records(struct record *rec, uint64_t n)
{
    for (uint64_t i = 1; i <= n; i++)
        rec[i] = harness_record(i);
}

static void records_are_done_with_their_transaction(void **state UNUSED)
{
    struct harness h;
    struct record rec[21];

    records(rec, 20);
    open_running(&h);
    assert_true(owner.none);
    assert_int_equal(owner.from, 3); /* the local cursor, where nothing is kept */
    send_all(&h, rec, 20);
    assert_int_equal(h.done, 20);
    assert_int_equal(h.lost + h.retry + h.poison, 0);
    assert_int_equal(tx_of(&h)->kept.lsn, 20);
    assert_int_equal(tx_of(&h)->kept.epoch, 7);
    assert_int_equal(tx_of(&h)->kept.crc, record_crc(&rec[20]));
    close_sink(&h);
}

static void nothing_is_sent_before_the_verdict(void **state UNUSED)
{
    struct harness h;
    struct record rec = harness_record(1);

    open_sink(&h, SINK_DIVERGED);
    assert_int_equal(h.sink->type->send(h.sink, &rec), 1);
    UNTIL(&h, h.state == SINK_BLOCKED);
    assert_string_equal(h.reason, "as told");
    assert_int_equal(h.sink->type->send(h.sink, &rec), 1);
    h.sink->type->flush(h.sink);
    assert_int_equal(owner.resumed, 0);
    assert_null(kafka_of(&h)->rk); /* it does not disturb whoever is right */
    close_sink(&h);
}

/* Each step of a transaction that can fail; the records are there in the end, each reported once.
 */
static const struct failure_row {
    const char *name;
    int16_t api;
    rd_kafka_resp_err_t error;
    int times;
    bool again; /* the producer has to be made again */
} failures[] = {
    { "case37 not the leader", PRODUCE, RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION, 2, false },
    { "case39 fenced when producing", PRODUCE, RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH, 1, true },
    { "case38 no right to the topic", PRODUCE, RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, 1,
      true },
    { "case38 no right to the topic, told early", ADD_PARTITIONS,
      RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, 1, true },
    { "case37 another transaction is being ended", ADD_PARTITIONS,
      RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS, 3, false },
    { "case37 the coordinator moves", ADD_PARTITIONS, RD_KAFKA_RESP_ERR_NOT_COORDINATOR, 1, false },
    { "case38 no right to the group", ADD_OFFSETS, RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED, 1,
      true },
    { "case37 the coordinator loads", ADD_OFFSETS, RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS,
      2, false },
    { "case37 the group's coordinator moves", TXN_OFFSET_COMMIT, RD_KAFKA_RESP_ERR_NOT_COORDINATOR,
      1, false },
    { "case39 fenced when keeping the state", TXN_OFFSET_COMMIT,
      RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH, 1, true },
    { "case37 the coordinator moves at the commit", END_TXN, RD_KAFKA_RESP_ERR_NOT_COORDINATOR, 1,
      false },
    { "case39 fenced at the commit", END_TXN, RD_KAFKA_RESP_ERR_PRODUCER_FENCED, 1, true },
    { "case39 unknown producer at the commit", END_TXN, RD_KAFKA_RESP_ERR_INVALID_TXN_STATE, 1,
      true },
    { "case38 no right to the id at the commit", END_TXN,
      RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED, 1, true },
};

static void any_failure(void **state)
{
    const struct failure_row *r = *state;
    struct harness h;
    struct record rec[7];

    records(rec, 6);
    open_running(&h);
    send_all(&h, rec, 3);
    for (int i = 0; i < r->times; i++)
        rd_kafka_mock_push_request_errors(brokers.mock, r->api, 1, r->error);
    send_all(&h, rec, 6);
    assert_int_equal(h.done, 6);
    assert_int_equal(h.poison + h.retry, 0);
    for (int i = 1; i <= 6; i++)
        assert_int_equal(h.reports[i], 1);
    if (r->again) {
        assert_true(h.lost >= 1);
        assert_int_equal(owner.judged, 1 + h.lost);
        assert_int_equal(owner.running, h.lost); /* it had claimed before */
    } else {
        assert_int_equal(h.lost, 0);
    }
    close_sink(&h);
}

/* What says that a transaction can only be waited for: the words name who has to do what. */
static void a_fatal_error_while_idle_is_mended(void **state UNUSED)
{
    struct harness h;
    struct record rec[3];

    records(rec, 2);
    open_running(&h);
    send_all(&h, rec, 1);
    rd_kafka_test_fatal_error(kafka_of(&h)->rk, RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER,
                              "test");
    UNTIL(&h, owner.resumed == 2 && h.state == SINK_RUNNING);
    send_all(&h, rec, 2);
    close_sink(&h);
}

static void a_rival_is_left_to_the_owner(void **state UNUSED)
{
    struct harness h;
    struct record rec[3];

    records(rec, 2);
    open_running(&h);
    send_all(&h, rec, 1);
    owner.verdict = SINK_FENCED;
    rd_kafka_test_fatal_error(kafka_of(&h)->rk, RD_KAFKA_RESP_ERR__FENCED, "test");
    UNTIL(&h, owner.judged == 2);
    assert_int_equal(owner.running, 1);
    assert_int_equal(h.sink->type->send(h.sink, &rec[2]), 1);
    close_sink(&h);
}

/* Whichever of them is refused whenever it is in a transaction: found, and the only one. */
static void case38_poison_is_found(void **state UNUSED)
{
    struct harness h;
    struct record rec[13];

    records(rec, 12);
    open_running(&h);
    send_all(&h, rec, 2);
    /* the mock refuses a request, whoever is in it: all of a batch, then the first half, then one
     */
    rd_kafka_mock_push_request_errors(brokers.mock, PRODUCE, 1,
                                      RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE);
    for (uint64_t i = 3; i <= 12; i++)
        assert_int_equal(h.sink->type->send(h.sink, &rec[i]), 0);
    h.sink->type->flush(h.sink);
    UNTIL(&h, owner.resumed == 2);
    assert_true(tx_of(&h)->search.first >= 3 && tx_of(&h)->search.last <= 12);
    assert_true(tx_of(&h)->search.limit <= 5);
    tx_of(&h)->search = (struct tx_search){ 7, 7, 1 };
    for (uint64_t i = 3; i <= 6; i++)
        UNTIL(&h, h.sink->type->send(h.sink, &rec[i]) == 0);
    assert_int_equal(h.sink->type->send(h.sink, &rec[7]), 1); /* those before it first */
    UNTIL(&h, h.done == 6);
    rd_kafka_mock_push_request_errors(brokers.mock, PRODUCE, 1,
                                      RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE);
    UNTIL(&h, h.sink->type->send(h.sink, &rec[7]) == 0);
    h.sink->type->flush(h.sink);
    UNTIL(&h, h.poison == 1);
    assert_int_equal(h.outcome[7], SINK_POISON);
    assert_non_null(strstr(h.reason, "topic t: Broker: Message size too large"));
    send_all(&h, rec, 12);
    assert_int_equal(h.done, 11);
    assert_int_equal(h.poison, 1);
    close_sink(&h);
}

static void the_state_is_renewed(void **state UNUSED)
{
    struct harness h;
    struct record rec[3];

    records(rec, 2);
    open_running(&h);
    tx_of(&h)->renew_ms = 20;
    send_all(&h, rec, 1);
    owner.cursor = 50; /* records that were not for this sink */
    UNTIL(&h, tx_of(&h)->kept.lsn == 50);
    assert_int_equal(tx_of(&h)->kept.crc, 9);
    send_all(&h, rec, 2);
    close_sink(&h);
}

/* A dead letter behind what is kept would be tried again at each start. */
static void what_is_kept_passes_the_dead(void **state UNUSED)
{
    struct harness h;
    struct record rec[3];

    records(rec, 2);
    open_running(&h);
    send_all(&h, rec, 1);
    kafka_report(kafka_of(&h), 2, SINK_POISON, "too large");
    owner.cursor = 2;
    UNTIL(&h, tx_of(&h)->kept.lsn == 2);
    assert_int_equal(h.lost, 0);
    close_sink(&h);
}

/* A full table of topics, or smaller batches: what was gathered is stored first, or a window of
 * more topics than the table holds would begin anew for ever. */
static void what_was_gathered_goes_before_a_new_producer(void **state UNUSED)
{
    struct harness h;
    struct record rec[5];

    records(rec, 4);
    open_running(&h);
    for (uint64_t i = 1; i <= 3; i++)
        UNTIL(&h, h.sink->type->send(h.sink, &rec[i]) == 0);
    kafka_of(&h)->renew = true;
    h.sink->type->flush(h.sink);
    UNTIL(&h, h.done == 3);
    h.sink->type->flush(h.sink);
    UNTIL(&h, owner.resumed == 2);
    assert_int_equal(h.lost, 1);
    assert_false(kafka_of(&h)->renew);
    send_all(&h, rec, 4);
    close_sink(&h);
}

/* --- pure
 * -------------------------------------------------------------------------------------------- */

static const struct mark_row {
    const char *name, *text;
    int64_t offset;
    bool good;
} marks[] = {
    { "as written", "1 " LOGID " 00000000000000a7 42 0000beef", 42, true },
    { "nothing sent", "1 " LOGID " 00000000000000a7 0 00000000", 0, true },
    { "the offset says otherwise", "1 " LOGID " 00000000000000a7 42 0000beef", 41, false },
    { "another version", "2 " LOGID " 00000000000000a7 42 0000beef", 42, false },
    { "more behind it", "1 " LOGID " 00000000000000a7 42 0000beef x", 42, false },
    { "a part is missing", "1 " LOGID " 00000000000000a7 42", 42, false },
    { "another form of a number", "1 " LOGID " a7 42 beef", 42, false },
    { "a sign", "1 " LOGID " 00000000000000a7 +42 0000beef", 42, false },
    { "empty", "", 0, false },
    { "somebody's", "committed by hand", 42, false },
    { "no offset", "1 " LOGID " 00000000000000a7 42 0000beef", -1001, false },
    { "too long",
      "1 "
      "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
      "00000000000000000000000000000000000000000000000000000000000000000000000000000 0 0 0",
      0, false },
};

static void a_mark_is_read(void **state)
{
    const struct mark_row *r = *state;
    struct sink_mark m;
    char again[TX_MARK_MAX];

    assert_int_equal(tx_mark_read(r->text, strlen(r->text), r->offset, &m), r->good);
    if (!r->good)
        return;
    assert_string_equal(m.logid, LOGID);
    assert_int_equal(m.epoch, 0xa7);
    tx_mark_write(&m, again);
    assert_string_equal(again, r->text);
}

/* Some of n records are bad, and a transaction with one of them fails: in each batch all that are
 * not in an earlier one are refused together. Returns how many transactions it took. */
static unsigned search(uint64_t n, size_t batch, const bool *bad, bool *dead, uint64_t *order)
{
    struct tx_search s = { 0 };
    uint64_t at = 1;
    unsigned rounds = 0;
    size_t passed = 0;

    while (at <= n) {
        uint64_t begun = at, first = 0, last = 0, lsn = at;
        size_t in = 0, refused = 0;
        assert_true(++rounds < 4 * n + 100);
        while (lsn <= n && tx_search_room(&s, begun, in, lsn) == TX_ROOM) {
            lsn++;
            in++;
        }
        for (uint64_t b = begun; b < lsn; b += batch) {
            bool spoilt = false;
            for (uint64_t i = b; i < lsn && i < b + batch; i++)
                spoilt |= bad[i];
            for (uint64_t i = b; spoilt && i < lsn && i < b + batch; i++) {
                first = first ? first : i;
                last = i;
                refused++;
            }
        }
        if (!refused) {
            for (uint64_t i = begun; i < lsn; i++)
                order[passed++] = i;
            tx_search_passed(&s, lsn - 1);
            at = lsn;
        } else if (tx_search_failed(&s, in, first, last, refused)) {
            dead[begun] = true;
            at = begun + 1;
        }
    }
    return rounds;
}

static const struct search_row {
    const char *name;
    uint64_t n;
    size_t batch;
    uint64_t bad[6];
} searches[] = {
    { "none", 100, 10, { 0 } },
    { "the first", 100, 10, { 1 } },
    { "the last", 100, 10, { 100 } },
    { "in the middle", 100, 10, { 57 } },
    { "the only one", 1, 10, { 1 } },
    { "all in one batch", 1000, 1000, { 300 } },
    { "alone in its batch", 1000, 1, { 300 } },
    { "two in one batch", 100, 10, { 51, 58 } },
    { "in several batches", 100, 10, { 5, 6, 30, 77, 100 } },
    { "side by side", 64, 64, { 31, 32, 33 } },
    { "many", 10000, 700, { 1, 699, 700, 701, 5000, 9999 } },
};

static void poison_is_searched(void **state)
{
    const struct search_row *r = *state;
    bool *bad = xcalloc(r->n + 1, 1), *dead = xcalloc(r->n + 1, 1);
    uint64_t *order = xcalloc(r->n + 1, sizeof *order), want = 0;
    size_t found = 0, marked = 0;
    unsigned rounds;

    for (size_t i = 0; i < ARRAY_LEN(r->bad) && r->bad[i]; i++) {
        bad[r->bad[i]] = true;
        marked++;
    }
    rounds = search(r->n, r->batch, bad, dead, order);
    for (uint64_t i = 1; i <= r->n; i++) {
        assert_int_equal(dead[i], bad[i]); /* those and no other */
        found += dead[i];
        if (!dead[i])
            assert_int_equal(order[want++], i);
    }
    assert_int_equal(found, marked);
    assert_true(rounds <= 1 + 32 * marked);
    free(bad);
    free(dead);
    free(order);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_are_done_with_their_transaction),
        cmocka_unit_test(nothing_is_sent_before_the_verdict),
        cmocka_unit_test(a_fatal_error_while_idle_is_mended),
        cmocka_unit_test(a_rival_is_left_to_the_owner),
        cmocka_unit_test(case38_poison_is_found),
        cmocka_unit_test(the_state_is_renewed),
        cmocka_unit_test(what_is_kept_passes_the_dead),
        cmocka_unit_test(what_was_gathered_goes_before_a_new_producer),
    };

    return T_TABLE(marks, a_mark_is_read) + T_TABLE(searches, poison_is_searched) +
           T_TABLE(failures, any_failure) + T_RUN(tests);
}
