/* SPDX-License-Identifier: Apache-2.0 */
/* Repeats: on several threads of one process, and on two replicas that share a real redis-server.
 */
#include "world.h"

#include "sink/harness.h"

static struct redis_server server;
static char url[128];
static struct claim_cfg claim_cfg = { .redis = url };
static struct progress passed;
static struct intake_sink sinks[] = { { "*", "*", &passed } };

struct pair {
    struct world *a, *b;
};

static struct world *new_world(void)
{
    void *w;

    set_up(&w);
    return w;
}

static void configure(struct world *w, const char *source, const char *ack, int64_t commit_ms)
{
    char text[160];

    cfg_load(intake_limits_keys(), NULL, &w->first.conf.limits, &(struct err_list){ 0 });
    w->first.conf.limits.commit_timeout_ms = commit_ms;
    snprintf(text, sizeof text, "provider: none\nid: { header: x-id }\ndedup: id\nack: %s", ack);
    add_source(&w->first, source, text);
    w->first.conf.claim = &claim_cfg;
    w->first.conf.dedup_window_ms = 3600000;
    w->first.conf.sinks = sinks;
    w->first.conf.sinks_n = 1;
}

static int pair_up(void **state)
{
    struct pair *p = calloc(1, sizeof *p);

    redis_server_start(&server);
    snprintf(url, sizeof url, "unix:%s", server.socket);
    progress_init(&passed, 0);
    p->a = new_world();
    p->b = new_world();
    *state = p;
    return 0;
}

static int pair_down(void **state)
{
    struct pair *p = *state;
    void *w;

    tear_down((w = p->a, &w));
    tear_down((w = p->b, &w));
    redis_server_stop(&server);
    free(p);
    return 0;
}

static void begin(struct pair *p, const char *source, const char *ack, int64_t commit_ms)
{
    configure(p->a, source, ack, commit_ms);
    configure(p->b, source, ack, commit_ms);
    start(p->a, 2);
    start(p->b, 2);
}

static bool silent(int fd, int ms)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };

    return poll(&p, 1, ms) == 0;
}

static void run(const char *command)
{
    redisReply *reply = redisCommand(server.c, command);

    assert_non_null(reply);
    assert_int_not_equal(reply->type, REDIS_REPLY_ERROR);
    freeReplyObject(reply);
}

/* The first character of the value of the only key. */
static char only_value(void)
{
    redisReply *keys = redisCommand(server.c, "KEYS *"), *value;
    char c = '-';

    if (keys->elements == 1) {
        value = redisCommand(server.c, "GET %s", keys->element[0]->str);
        c = value->str ? value->str[0] : '-';
        freeReplyObject(value);
    }
    freeReplyObject(keys);
    return c;
}

static void until_value(char c)
{
    for (int64_t end = clock_mono_ms() + PATIENCE_MS; only_value() != c; usleep(1000))
        if (clock_mono_ms() > end)
            fail_msg("the key never held %c, but %c", c, only_value());
}

static void a_repeat_may_reach_another_replica(void **state)
{
    struct pair *p = *state;
    int a, b;

    begin(p, "pair", "log", PATIENCE_MS);
    a = client(p->a);
    b = client(p->b);
    post(b, "pair", "0", "{}");
    expect(b, 200, "\"lsn\":1}");
    post(b, "pair", "1", "{}");
    expect(b, 200, "{\"status\":\"accepted\",\"id\":\"1\",\"lsn\":2}");
    post(a, "pair", "1", "{}");
    for (;;) { /* the mark goes out with the answer, not before it */
        char *got = hears(a, 1);
        bool soon = strstr(got, "in_progress") != NULL;
        if (!soon)
            assert_non_null(strstr(got, "{\"status\":\"duplicate\",\"id\":\"1\",\"lsn\":2}"));
        free(got);
        if (!soon)
            break;
        post(a, "pair", "1", "{}");
    }
    post(a, "pair", "1", "[]");
    expect(a, 200, "duplicate");
    assert_int_equal(wal_durable_lsn(p->a->wal), 0);
    assert_true(of_intake(p->a, "duplicates_total{source=\"pair\"} ") == 2);
    assert_true(of_intake(p->a, "duplicates_other_body_total{source=\"pair\"} ") == 1);
    assert_true(of_intake(p->a, "\nhookline_dedup_redis_up ") == 1);
    assert_true(of_intake(p->a, "hookline_dedup_redis_missed_total{step=\"claim\"} ") == 0);
    close(a);
    close(b);
}

/* 503 commit_timeout, then the repeat: there once, and said so, wherever it goes. */
static void a_slow_commit_and_then_the_other_replica(void **state)
{
    struct pair *p = *state;
    int a, b;

    begin(p, "pair-slow", "log", 3000);
    a = client(p->a);
    b = client(p->b);
    stall();
    post(a, "pair-slow", "1", "{}");
    expect(a, 503, "commit_timeout");
    post(b, "pair-slow", "1", "{}");
    expect(b, 503, "in_progress");
    atomic_store(&stalled, false);
    until_value('d');
    post(b, "pair-slow", "1", "{}");
    expect(b, 200, "{\"status\":\"duplicate\",\"id\":\"1\",\"lsn\":1}");
    post(a, "pair-slow", "1", "{}");
    expect(a, 200, "duplicate");
    assert_int_equal(wal_durable_lsn(p->b->wal), 0);
    close(a);
    close(b);
}

/* Stored is not delivered: only the replica that has it may say that all is well. */
static void stored_is_not_delivered(void **state)
{
    struct pair *p = *state;
    int a, b;

    begin(p, "pair-broker", "broker", PATIENCE_MS);
    a = client(p->a);
    b = client(p->b);
    post(a, "pair-broker", "1", "{}");
    until_value('s');
    post(b, "pair-broker", "1", "{}");
    expect(b, 503, "Retry-After: 2\r\n");
    assert_true(silent(a, 50));
    progress_move(&passed, 1);
    expect(a, 200, "accepted");
    until_value('d');
    post(b, "pair-broker", "1", "{}");
    expect(b, 200, "{\"status\":\"duplicate\",\"id\":\"1\",\"lsn\":1}");
    assert_int_equal(wal_durable_lsn(p->b->wal), 0);
    close(a);
    close(b);
}

/* What a crash between the sync and the mark leaves behind. */
static void a_start_marks_the_tail(void **state)
{
    struct pair *p = *state;
    int a, b;

    begin(p, "pair-tail", "log", PATIENCE_MS);
    add_source(&p->a->first, "pair-undeduped", "provider: none");
    a = client(p->a);
    b = client(p->b);
    post(a, "pair-tail", "1", "{}");
    expect(a, 200, "accepted");
    until_value('d');
    run("FLUSHALL");
    intake_mark_tail(p->a->wal, &p->a->first.conf, PATIENCE_MS);
    assert_int_equal(only_value(), 'd');
    post(b, "pair-tail", "1", "{}");
    expect(b, 200, "{\"status\":\"duplicate\",\"id\":\"1\",\"lsn\":1}");
    run("FLUSHALL");
    post(a, "pair-tail", "1", "{}"); /* and what Redis forgot the log still knows, and says */
    expect(a, 200, "{\"status\":\"duplicate\",\"id\":\"1\",\"lsn\":1}");
    until_value('d');
    close(a);
    close(b);
}

/* Nothing is refused and nothing lost; that it may be there twice is shown. */
static void without_redis_both_take_it(void **state)
{
    struct pair *p = *state;
    struct buf json = BUF_INIT;
    int a, b;

    begin(p, "pair-alone", "log", PATIENCE_MS);
    kill(server.pid, SIGKILL);
    waitpid(server.pid, NULL, 0);
    a = client(p->a);
    b = client(p->b);
    post(a, "pair-alone", "1", "{}");
    expect(a, 200, "accepted");
    post(b, "pair-alone", "1", "{}");
    expect(b, 200, "accepted");
    post(a, "pair-alone", "1", "{}");
    expect(a, 200, "duplicate"); /* its own index knows it */
    assert_true(of_intake(p->a, "\nhookline_dedup_redis_up ") == 0);
    assert_true(of_intake(p->a, "hookline_dedup_redis_missed_total{step=\"claim\"} ") >= 1);
    assert_true(intake_dedup_status(p->a->in, &json));
    assert_non_null(strstr(buf_cstr(&json), "{\"redis\":\"away\",\"reason\":\""));
    buf_free(&json);
    close(a);
    close(b);
}

/* A hung server costs a sender half its patience, once. */
static void a_frozen_redis_is_not_waited_for_long(void **state)
{
    struct pair *p = *state;
    int a, b;

    begin(p, "pair-frozen", "log", 2000);
    a = client(p->a);
    b = client(p->a);
    post(a, "pair-frozen", "0", "{}");
    expect(a, 200, "accepted");
    kill(server.pid, SIGSTOP);
    post(a, "pair-frozen", "1", "{}");
    post(b, "pair-frozen", "1", "{}");
    expect(a, 200, "\"id\":\"1\",\"lsn\":2}");
    expect(b, 200, "\"id\":\"1\",\"lsn\":2}");
    kill(server.pid, SIGCONT);
    close(a);
    close(b);
}

static void a_stop_while_redis_is_asked(void **state)
{
    struct pair *p = *state;
    int a;

    begin(p, "pair-stop", "log", 2 * PATIENCE_MS);
    a = client(p->a);
    post(a, "pair-stop", "0", "{}");
    expect(a, 200, "accepted");
    kill(server.pid, SIGSTOP);
    post(a, "pair-stop", "1", "{}");
    assert_true(silent(a, 50));
    intake_stop(p->a->in, 200);
    p->a->in = NULL;
    expect(a, 503, "shutting_down");
    assert_int_equal(wal_durable_lsn(p->a->wal), 1);
    kill(server.pid, SIGCONT);
    close(a);
}

/* --- many at a time
 * ------------------------------------------------------------------------------ */

#define SENDERS 8
#define IDS 120

struct sender {
    pthread_t thread;
    const struct world *to[2];
    const char *source;
    unsigned first, seed, accepted, duplicates;
};

/* Sends every id, in an order of its own, until it is told that all is well. */
static void *send_all(void *arg)
{
    struct sender *s = arg;
    int fd[2] = { client(s->to[0]), client(s->to[1]) };

    for (unsigned i = 0; i < IDS; i++) {
        unsigned id = (i * 7 + s->first) % IDS;
        char text[16], *got;
        bool refused;
        snprintf(text, sizeof text, "%u", id);
        do {
            int to = fd[rand_r(&s->seed) % 2];
            post(to, s->source, text, "{}");
            got = hears(to, 1);
            refused = strstr(got, "in_progress") != NULL;
            s->accepted += strstr(got, "accepted") != NULL;
            s->duplicates += strstr(got, "duplicate") != NULL;
            free(got);
        } while (refused);
    }
    close(fd[0]);
    close(fd[1]);
    return NULL;
}

static void all_send_the_same(struct world *a, struct world *b, const char *source)
{
    struct sender s[SENDERS];
    unsigned accepted = 0, duplicates = 0;

    for (unsigned i = 0; i < SENDERS; i++) {
        s[i] = (struct sender){ .to = { a, b }, .source = source, .first = i, .seed = i };
        pthread_create(&s[i].thread, NULL, send_all, &s[i]);
    }
    for (unsigned i = 0; i < SENDERS; i++) {
        pthread_join(s[i].thread, NULL);
        accepted += s[i].accepted;
        duplicates += s[i].duplicates;
    }
    assert_int_equal(accepted, IDS);
    assert_int_equal(duplicates, IDS * (SENDERS - 1));
}

static void the_same_ids_on_two_threads(void **state)
{
    struct pair *p = *state;

    configure(p->a, "threads", "log", PATIENCE_MS);
    p->a->first.conf.claim = NULL;
    start(p->a, 2);
    all_send_the_same(p->a, p->a, "threads");
    assert_int_equal(wal_durable_lsn(p->a->wal), IDS);
}

static void the_same_ids_on_two_replicas(void **state)
{
    struct pair *p = *state;

    begin(p, "replicas", "log", 2 * PATIENCE_MS);
    all_send_the_same(p->a, p->b, "replicas");
    assert_int_equal(wal_durable_lsn(p->a->wal) + wal_durable_lsn(p->b->wal), IDS);
}

#define WITH_PAIR(test) cmocka_unit_test_setup_teardown(test, pair_up, pair_down)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        WITH_PAIR(a_repeat_may_reach_another_replica),
        WITH_PAIR(a_slow_commit_and_then_the_other_replica),
        WITH_PAIR(stored_is_not_delivered),
        WITH_PAIR(a_start_marks_the_tail),
        WITH_PAIR(without_redis_both_take_it),
        WITH_PAIR(a_frozen_redis_is_not_waited_for_long),
        WITH_PAIR(a_stop_while_redis_is_asked),
        WITH_PAIR(the_same_ids_on_two_threads),
        WITH_PAIR(the_same_ids_on_two_replicas),
    };

    signal(SIGPIPE, SIG_IGN); /* as `serve` does */
    return T_RUN(tests);
}
