/* SPDX-License-Identifier: Apache-2.0 */
/* `ack: broker`: who is answered when, over sinks whose progress is the test's. */
#include "world.h"

#define SINKS 3

static struct progress passed[SINKS];
static struct intake_sink sinks[SINKS] = {
    { "*", "*", &passed[0] },
    { "bro*", "video.*", &passed[1] },
    { "other", "*", &passed[2] },
};

static void begin(struct world *w, const char *name, unsigned threads, int64_t timeout_ms)
{
    for (size_t i = 0; i < SINKS; i++)
        progress_init(&passed[i], 0);
    cfg_load(intake_limits_keys(), NULL, &w->first.conf.limits, &(struct err_list){ 0 });
    add_source(&w->first, name,
               "provider: none\nid: { header: x-id }\ntype: { path: type }\ndedup: id\n"
               "ack: broker");
    add_source(&w->first, "logged", "provider: none\nid: { header: x-id }\ndedup: id");
    w->first.conf.limits.commit_timeout_ms = timeout_ms;
    w->first.conf.sinks = sinks;
    w->first.conf.sinks_n = SINKS;
    start(w, threads);
}

static void until_durable(const struct world *w, uint64_t lsn)
{
    for (int64_t end = clock_mono_ms() + PATIENCE_MS; wal_durable_lsn(w->wal) < lsn; usleep(1000))
        assert_true(clock_mono_ms() < end);
}

static bool silent(int fd, int ms)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };

    return poll(&p, 1, ms) == 0;
}

/* On a busy machine the disk may be the one that is too slow. */
static void until_told(int fd, const char *source, const char *code)
{
    char *got = NULL;

    do {
        free(got);
        post(fd, source, "1", "{\"type\":\"batch.succeeded\"}");
        got = hears(fd, 1);
    } while (strstr(got, "commit_timeout") && strcmp(code, "commit_timeout"));
    if (!strstr(got, "HTTP/1.1 503 ") || !strstr(got, code) || !strstr(got, "Retry-After: "))
        fail_msg("not %s: %s", code, got);
    free(got);
}

#define VIDEO "{\"type\":\"video.generated\"}"
#define BATCH "{\"type\":\"batch.succeeded\"}"

static void every_sink_that_takes_it_is_waited_for(void **state)
{
    struct world *w = *state;
    int fd, other;

    begin(w, "broker", 1, PATIENCE_MS);
    fd = client(w);
    other = client(w);
    post(fd, "broker", "1", VIDEO);
    until_durable(w, 1);
    progress_move(&passed[0], 1);
    assert_true(silent(fd, 100)); /* the second has not come so far */
    progress_move(&passed[1], 1);
    expect(fd, 200, "{\"status\":\"accepted\",\"id\":\"1\",\"lsn\":1}");
    post(fd, "broker", "2", BATCH); /* not for the second, never for the third */
    until_durable(w, 2);
    post(other, "logged", "3", "{}"); /* waits for nobody */
    expect(other, 200, "\"lsn\":3}");
    assert_true(silent(fd, 50));
    progress_move(&passed[0], 2);
    expect(fd, 200, "\"lsn\":2}");
    close(fd);
    close(other);
}

static void what_has_passed_is_answered_at_once(void **state)
{
    struct world *w = *state;
    int fd;

    begin(w, "broker-quick", 1, PATIENCE_MS);
    progress_move(&passed[0], 100);
    progress_move(&passed[1], 100);
    fd = client(w);
    post(fd, "broker-quick", "1", VIDEO);
    expect(fd, 200, "accepted");
    post(fd, "broker-quick", "1", VIDEO);
    expect(fd, 200, "duplicate");
    close(fd);
}

/* The record stays, is delivered, and its repeat waits for that too. */
static void a_slow_sink_is_told_and_the_repeat_waits(void **state)
{
    struct world *w = *state;
    int fd, late;

    begin(w, "broker-slow", 2, 300);
    fd = client(w);
    until_told(fd, "broker-slow", "broker_timeout");
    until_told(fd, "broker-slow", "broker_timeout");
    late = client(w);
    w->first.conf.limits.commit_timeout_ms = PATIENCE_MS;
    intake_publish(w->in, &w->first.conf);
    post(late, "broker-slow", "1", BATCH);
    assert_true(silent(late, 100));
    progress_move(&passed[0], 1);
    expect(late, 200, "{\"status\":\"duplicate\",\"id\":\"1\",\"lsn\":1}");
    post(fd, "broker-slow", "1", BATCH);
    expect(fd, 200, "duplicate");
    assert_int_equal(wal_durable_lsn(w->wal), 1);
    assert_true(of_intake(w, "accepted_total{source=\"broker-slow\"} ") == 1);
    assert_true(of_intake(w, "duplicates_total{source=\"broker-slow\"} ") >= 3);
    assert_true(of_intake(w, "requests_total{source=\"broker-slow\",code=\"503\"} ") >= 2);
    close(fd);
    close(late);
}

/* The disk is slow and then the sink: each has its own word, and nothing is answered twice. */
static void a_slow_commit_before_a_slow_sink(void **state)
{
    struct world *w = *state;
    int fd;

    begin(w, "broker-disk", 1, 300);
    fd = client(w);
    stall();
    post(fd, "broker-disk", "1", BATCH);
    expect(fd, 503, "commit_timeout");
    atomic_store(&stalled, false);
    until_durable(w, 1);
    until_told(fd, "broker-disk", "broker_timeout");
    progress_move(&passed[0], 1);
    post(fd, "broker-disk", "1", BATCH);
    expect(fd, 200, "duplicate");
    close(fd);
}

#define MANY 200

/* In any order of repeats and firsts, and out of the middle when they time out. */
static void many_wait_and_all_are_answered(void **state)
{
    struct world *w = *state;
    int fds[MANY];
    char id[16];

    begin(w, "broker-many", 2, PATIENCE_MS);
    for (int i = 0; i < MANY; i++) {
        snprintf(id, sizeof id, "%d", i % 2 ? (i * 37) % MANY / 2 : i); /* every other a repeat */
        fds[i] = client(w);
        post(fds[i], "broker-many", id, BATCH);
    }
    for (int i = 0; i < MANY; i += 7) { /* some do not wait for it */
        close(fds[i]);
        fds[i] = -1;
    }
    for (uint64_t lsn = 1; lsn <= MANY; lsn += 3) {
        progress_move(&passed[0], lsn);
        usleep(300);
    }
    progress_move(&passed[0], MANY);
    for (int i = 0; i < MANY; i++) {
        if (fds[i] < 0)
            continue;
        expect(fds[i], 200, "\"status\":");
        close(fds[i]);
    }
}

static void some_time_out_while_others_are_confirmed(void **state)
{
    struct world *w = *state;
    int fds[60], confirmed = 0, told = 0;
    char id[16];

    begin(w, "broker-mixed", 1, 400);
    for (int i = 0; i < 60; i++) {
        snprintf(id, sizeof id, "%d", i);
        fds[i] = client(w);
        post(fds[i], "broker-mixed", id, BATCH);
        if (i % 10 == 9)
            progress_move(&passed[0], wal_durable_lsn(w->wal));
    }
    for (int i = 0; i < 60; i++) {
        char *got = hears(fds[i], 1);
        confirmed += strstr(got, "accepted") != NULL;
        told += strstr(got, "HTTP/1.1 503 ") != NULL;
        free(got);
        close(fds[i]);
    }
    assert_int_equal(confirmed + told, 60);
    until_durable(w, 60);
}

static void a_stop_answers_those_who_wait_for_a_sink(void **state)
{
    struct world *w = *state;
    int fd;

    begin(w, "broker-stop", 1, PATIENCE_MS);
    fd = client(w);
    post(fd, "broker-stop", "1", BATCH);
    until_durable(w, 1);
    intake_stop(w->in, 200);
    w->in = NULL;
    expect(fd, 503, "shutting_down");
    close(fd);
}

/* It is not told before the disk has it, however far the sinks are. */
static void the_disk_comes_first(void **state)
{
    struct world *w = *state;
    int fd;

    begin(w, "broker-first", 1, PATIENCE_MS);
    progress_move(&passed[0], 1000);
    fd = client(w);
    stall();
    post(fd, "broker-first", "1", BATCH);
    until_the_log_waits();
    assert_true(silent(fd, 100));
    atomic_store(&stalled, false);
    expect(fd, 200, "accepted");
    close(fd);
}

/* The type of its event is a text of the configuration that goes. */
static void a_new_configuration_while_it_waits(void **state)
{
    struct world *w = *state;
    struct sources second = { 0 };
    int fd;

    begin(w, "broker-reload", 1, PATIENCE_MS);
    add_source(&w->first, "broker-const",
               "provider: none\ntype: { const: video.made.up }\nid: { header: x-id }\n"
               "dedup: id\nack: broker");
    intake_publish(w->in, &w->first.conf);
    fd = client(w);
    post(fd, "broker-const", "1", "{}");
    until_durable(w, 1);
    make_sources(&second, "broker-next");
    intake_publish(w->in, &second.conf);
    sources_free(&w->first);
    w->first = second;
    progress_move(&passed[0], 1);
    assert_true(silent(fd, 50));
    progress_move(&passed[1], 1);
    expect(fd, 200, "accepted");
    close(fd);
}

#define WITH_WORLD(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        WITH_WORLD(every_sink_that_takes_it_is_waited_for),
        WITH_WORLD(what_has_passed_is_answered_at_once),
        WITH_WORLD(a_slow_sink_is_told_and_the_repeat_waits),
        WITH_WORLD(a_slow_commit_before_a_slow_sink),
        WITH_WORLD(many_wait_and_all_are_answered),
        WITH_WORLD(some_time_out_while_others_are_confirmed),
        WITH_WORLD(a_stop_answers_those_who_wait_for_a_sink),
        WITH_WORLD(the_disk_comes_first),
        WITH_WORLD(a_new_configuration_while_it_waits),
    };

    return T_RUN(tests);
}
