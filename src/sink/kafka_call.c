/* SPDX-License-Identifier: Apache-2.0 */
/* The calls of a transaction that block: each sink has one thread that makes them, one at a time.
 *
 * librdkafka offers no other way. init_transactions, send_offsets_to_transaction and commit wait
 * for brokers, for as long as a broker is away; commit flushes first, and that waits for us to take
 * the delivery reports, so the sink's own thread must be turning meanwhile. Messages go both ways
 * through inboxes. A call is made in short slices (what timed out may be called again), so that a
 * stop is not held up.
 *
 * An answer says what happened and what would mend it; what follows from it is kafka_tx.c's. */
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

#include "clock.h"
#include "kafka_tx.h"
#include "log.h"

#define SLICE_MS 1000
#define ASK_MS 3000
#define TOPIC_TRIES 20 /* a topic that was just made has no leader at once */

/* --- what is kept
 * ------------------------------------------------------------------------------------ */

void tx_mark_write(const struct sink_mark *m, char out[TX_MARK_MAX])
{
    snprintf(out, TX_MARK_MAX, "1 %s %016" PRIx64 " %" PRIu64 " %08" PRIx32, m->logid, m->epoch,
             m->lsn, m->crc);
}

bool tx_mark_read(const char *text, size_t n, int64_t offset, struct sink_mark *m)
{
    char copy[TX_MARK_MAX], again[TX_MARK_MAX];

    *m = (struct sink_mark){ .lsn = 0 };
    if (!text || n >= sizeof copy || offset < 0)
        return false;
    memcpy(copy, text, n);
    copy[n] = '\0';
    if (sscanf(copy, "1 %36s %" SCNx64 " %" SCNu64 " %" SCNx32, m->logid, &m->epoch, &m->lsn,
               &m->crc) != 4)
        return false;
    tx_mark_write(m, again); /* as we write it, or it is not ours */
    return !strcmp(copy, again) && m->lsn == (uint64_t)offset;
}

/* --- answers
 * ----------------------------------------------------------------------------------------- */

static bool needs_somebody(rd_kafka_resp_err_t err)
{
    switch (err) {
    case RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_INVALID_TRANSACTION_TIMEOUT:
    case RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE:
        return true;
    default:
        return false;
    }
}

static const char *advice(rd_kafka_resp_err_t err)
{
    switch (err) {
    case RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED:
        return "; grant WRITE and DESCRIBE on the transactional id of this name";
    case RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED:
        return "; grant READ on the group of this name";
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
        return "; grant WRITE on the topics, READ and DESCRIBE on " TX_CURSOR_TOPIC;
    case RD_KAFKA_RESP_ERR_INVALID_TRANSACTION_TIMEOUT:
        return "; raise the brokers' transaction.max.timeout.ms to 30000 or more";
    default:
        return "";
    }
}

bool tx_explain(const char *id, rd_kafka_resp_err_t err, const char *text, char why[TX_WHY_MAX])
{
    snprintf(why, TX_WHY_MAX, "%s (%s, %s)%s", text, rd_kafka_err2name(err), id, advice(err));
    return needs_somebody(err);
}

static void failed(struct tx_call *call, rd_kafka_resp_err_t err, const char *text)
{
    call->err = err;
    call->blocked = tx_explain(call->calls->id, err, text, call->why);
}

/* Takes the error. True: the same call again. */
static bool once_more(struct tx_call *call, rd_kafka_error_t *error, int64_t by_ms)
{
    bool again;

    call->err = RD_KAFKA_RESP_ERR_NO_ERROR;
    if (!error)
        return false;
    again = rd_kafka_error_is_retriable(error) && !rd_kafka_error_txn_requires_abort(error) &&
            clock_mono_ms() < by_ms && !atomic_load(&call->calls->stop);
    failed(call, rd_kafka_error_code(error), rd_kafka_error_string(error));
    rd_kafka_error_destroy(error);
    return again;
}

/* --- the cursor's topic
 * ----------------------------------------------------------------------------------- */

static rd_kafka_resp_err_t look_for_topic(rd_kafka_t *rk, rd_kafka_topic_t *topic)
{
    const struct rd_kafka_metadata *md;
    rd_kafka_resp_err_t err = rd_kafka_metadata(rk, 0, topic, &md, ASK_MS);

    if (err)
        return err;
    err = md->topic_cnt ? md->topics[0].err : RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    if (!err && (!md->topics[0].partition_cnt || md->topics[0].partitions[0].leader < 0))
        err = RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE;
    rd_kafka_metadata_destroy(md);
    return err;
}

static rd_kafka_resp_err_t make_topic(rd_kafka_t *rk)
{
    rd_kafka_NewTopic_t *t = rd_kafka_NewTopic_new(TX_CURSOR_TOPIC, 1, -1, NULL, 0);
    rd_kafka_queue_t *q = rd_kafka_queue_new(rk);
    rd_kafka_resp_err_t err;
    rd_kafka_event_t *ev;

    rd_kafka_CreateTopics(rk, &t, 1, NULL, q);
    ev = rd_kafka_queue_poll(q, ASK_MS);
    err = ev ? rd_kafka_event_error(ev) : RD_KAFKA_RESP_ERR__TIMED_OUT;
    if (ev && !err) {
        size_t n;
        const rd_kafka_topic_result_t **made =
            rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(ev), &n);
        err = n ? rd_kafka_topic_result_error(made[0]) : RD_KAFKA_RESP_ERR_UNKNOWN;
    }
    if (ev)
        rd_kafka_event_destroy(ev);
    rd_kafka_queue_destroy(q);
    rd_kafka_NewTopic_destroy(t);
    return err == RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS ? RD_KAFKA_RESP_ERR_NO_ERROR : err;
}

static bool is_missing(rd_kafka_resp_err_t err)
{
    return err == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART ||
           err == RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC || err == RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE;
}

static int find_topic(struct tx_call *call)
{
    rd_kafka_topic_t *topic = rd_kafka_topic_new(call->rk, TX_CURSOR_TOPIC, NULL);
    rd_kafka_resp_err_t err = look_for_topic(call->rk, topic), made = RD_KAFKA_RESP_ERR_NO_ERROR;

    if (is_missing(err))
        made = make_topic(call->rk);
    for (int i = 0; i < TOPIC_TRIES && is_missing(err) && !made && !call->calls->stop; i++) {
        poll(NULL, 0, 100);
        err = look_for_topic(call->rk, topic);
    }
    rd_kafka_topic_destroy(topic);
    call->err = err;
    if (!err)
        return 0;
    failed(call, err, rd_kafka_err2str(err));
    if (made) {
        call->blocked = true;
        snprintf(call->why, sizeof call->why,
                 "topic " TX_CURSOR_TOPIC " does not exist and could not be made (%s); create it, "
                 "with one partition",
                 rd_kafka_err2str(made));
    }
    return -1;
}

/* --- reading back
 * ------------------------------------------------------------------------------------ */

static void say_nothing(const rd_kafka_t *rk UNUSED, int level UNUSED, const char *fac UNUSED,
                        const char *text UNUSED)
{
}

/* Joins no group. read_committed: waits for a transaction that is being ended. */
static rd_kafka_t *make_reader(struct tx_call *call)
{
    const struct kafka *k = call->calls->k;
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    struct err e = ERR_INIT;
    char text[256];
    rd_kafka_t *rk;

    rd_kafka_conf_set_log_cb(conf, say_nothing);
    if (kafka_configure_reader(k, call->calls->id, conf, &e)) {
        rd_kafka_conf_destroy(conf);
        snprintf(text, sizeof text, "%s", e.text);
        rk = NULL;
    } else if (!(rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, text, sizeof text))) {
        rd_kafka_conf_destroy(conf);
    }
    if (!rk)
        failed(call, RD_KAFKA_RESP_ERR__INVALID_ARG, text);
    return rk;
}

static rd_kafka_topic_partition_list_t *cursor_partition(void)
{
    rd_kafka_topic_partition_list_t *l = rd_kafka_topic_partition_list_new(1);

    rd_kafka_topic_partition_list_add(l, TX_CURSOR_TOPIC, 0);
    return l;
}

/* What cannot be read as ours is somebody else's; the owner judges it. */
static void take_found(struct tx_call *call, const rd_kafka_topic_partition_t *at)
{
    call->found = at->offset >= 0;
    if (call->found && !tx_mark_read(at->metadata, at->metadata_size, at->offset, &call->mark))
        call->mark = (struct sink_mark){ .logid = "?" };
}

static void read_back(struct tx_call *call, int64_t by_ms)
{
    rd_kafka_t *reader = make_reader(call);
    rd_kafka_topic_partition_list_t *l;
    rd_kafka_resp_err_t err;

    if (!reader)
        return;
    l = cursor_partition();
    do
        err = rd_kafka_committed(reader, l, ASK_MS);
    while (err == RD_KAFKA_RESP_ERR__TIMED_OUT && clock_mono_ms() < by_ms &&
           !atomic_load(&call->calls->stop));
    if (!err)
        err = l->elems[0].err;
    if (err == RD_KAFKA_RESP_ERR__TIMED_OUT) /* also the answer where the group may not be read */
        failed(call, err,
               "no answer about the state; the coordinator is away, or READ on the group of this "
               "name is missing");
    else if (err)
        failed(call, err, rd_kafka_err2str(err));
    else
        take_found(call, &l->elems[0]);
    rd_kafka_topic_partition_list_destroy(l);
    rd_kafka_destroy(reader);
}

/* --- the steps
 * --------------------------------------------------------------------------------------- */

static void open_step(struct tx_call *call)
{
    int64_t by_ms = clock_mono_ms() + call->calls->wait_ms;
    rd_kafka_error_t *error;

    do
        error = rd_kafka_init_transactions(call->rk, SLICE_MS);
    while (once_more(call, error, by_ms));
    if (!call->err && !find_topic(call))
        read_back(call, by_ms);
}

static void commit_step(struct tx_call *call)
{
    rd_kafka_consumer_group_metadata_t *group =
        rd_kafka_consumer_group_metadata_new(call->calls->id);
    rd_kafka_topic_partition_list_t *l = cursor_partition();
    int64_t by_ms = clock_mono_ms() + call->calls->wait_ms;
    char text[TX_MARK_MAX];

    tx_mark_write(&call->mark, text);
    l->elems[0].offset = (int64_t)call->mark.lsn;
    l->elems[0].metadata = xstrdup(text);
    l->elems[0].metadata_size = strlen(text);
    if (call->begin)
        once_more(call, rd_kafka_begin_transaction(call->rk), 0);
    if (!call->err)
        while (once_more(call, rd_kafka_send_offsets_to_transaction(call->rk, l, group, SLICE_MS),
                         by_ms))
            ;
    if (!call->err)
        while (once_more(call, rd_kafka_commit_transaction(call->rk, SLICE_MS), by_ms))
            ;
    rd_kafka_topic_partition_list_destroy(l);
    rd_kafka_consumer_group_metadata_destroy(group);
}

/* Whatever it says: the first record of the topic will find out. */
static void warm_step(struct tx_call *call)
{
    look_for_topic(call->rk, call->topic);
}

static void on_call(struct msg *m, void *self)
{
    struct tx_call *call = container_of(m, struct tx_call, msg);
    struct tx_calls *c = self;

    call->calls = c;
    call->err = RD_KAFKA_RESP_ERR_NO_ERROR;
    call->blocked = call->found = false;
    switch (call->step) {
    case TX_OPEN_STEP:
        open_step(call);
        break;
    case TX_COMMIT_STEP:
        commit_step(call);
        break;
    case TX_WARM_STEP:
        warm_step(call);
    }
    call->msg.deliver = c->done;
    inbox_post(c->reply, &call->msg);
}

static void *run(void *arg)
{
    struct tx_calls *c = arg;
    struct pollfd p = { .fd = c->in.fd, .events = POLLIN };

    prctl(PR_SET_NAME, "kafka-calls");
    while (!atomic_load(&c->stop)) {
        poll(&p, 1, -1);
        inbox_run(&c->in, c);
    }
    return NULL;
}

void tx_calls_start(struct tx_calls *c)
{
    inbox_init(&c->in);
    if (pthread_create(&c->thread, NULL, run, c))
        die(EXIT_IO, "the thread for the calls of sink %s could not be started", c->k->name);
}

static void nothing(struct msg *m UNUSED, void *self UNUSED)
{
}

void tx_calls_stop(struct tx_calls *c)
{
    struct msg wake = { .deliver = nothing };

    atomic_store(&c->stop, true);
    inbox_post(&c->in, &wake);
    pthread_join(c->thread, NULL);
    inbox_close(&c->in);
}

void tx_calls_post(struct tx_calls *c, struct tx_call *call)
{
    call->msg.deliver = on_call;
    inbox_post(&c->in, &call->msg);
}
