/* SPDX-License-Identifier: Apache-2.0 */
/* The threads that take requests: what is counted, gates, slow commits, one hand-over a pass, a new
 * configuration and a stop while requests wait. */
#include "world.h"

/* --- tests
 * --------------------------------------------------------------------------------------------- */

static void every_status_has_a_counter_of_its_own(void **state UNUSED)
{
    static const int answers[] = { 202, 204 };

    assert_int_equal(code_index(200), 0);
    for (size_t i = 0; i < ARRAY_LEN(answers); i++)
        assert_true(code_index(answers[i]) > 0);
    for (int e = HTTP_ERR_NONE + 1; e < HTTP_ERRORS; e++)
        if (!code_index(http_error((enum http_error)e)->status))
            fail_msg("%d is counted as 200", http_error((enum http_error)e)->status);
}

static void what_is_answered_is_counted(void **state)
{
    struct world *w = *state;
    static const char unmatched[] =
        "POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
    int fd;

    make_sources(&w->first, "counted");
    add_source(&w->first, "signed",
               "provider: standard-webhooks\nsecrets: [whsec_AAAAAAAAAAAAAAAA]");
    start(w, 2);
    fd = client(w);
    post(fd, "counted", "1", "{}");
    expect(fd, 200, "{\"status\":\"accepted\",\"id\":\"1\",\"lsn\":1}");
    post(fd, "counted", "1", "{}");
    expect(fd, 200, "{\"status\":\"duplicate\",\"id\":\"1\",\"lsn\":1}");
    post(fd, "counted", "1", "[]");
    expect(fd, 200, "duplicate");
    post(fd, "signed", "1", "{}");
    expect(fd, 401, "bad_signature");
    says(fd, "GET /hooks/counted HTTP/1.1\r\nHost: a\r\n\r\n");
    expect(fd, 405, "Allow: POST\r\n");
    assert_true(ended(fd));
    close(fd);
    fd = client(w);
    says(fd, unmatched);
    expect(fd, 404, "not_found");
    close(fd);
    fd = client(w);
    says(fd, "POST /hooks/counted HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n");
    expect(fd, 413, "body_too_large");
    close(fd);
    assert_true(of_intake(w, "requests_total{source=\"counted\",code=\"200\"} ") == 3);
    assert_true(of_intake(w, "requests_total{source=\"counted\",code=\"405\"} ") == 1);
    assert_true(of_intake(w, "requests_total{source=\"counted\",code=\"413\"} ") == 1);
    assert_true(of_intake(w, "requests_total{source=\"signed\",code=\"401\"} ") == 1);
    assert_true(of_intake(w, "requests_total{source=\"-\",code=\"404\"} ") == 1);
    assert_true(of_intake(w, "accepted_total{source=\"counted\"} ") == 1);
    assert_true(of_intake(w, "duplicates_total{source=\"counted\"} ") == 2);
    assert_true(of_intake(w, "duplicates_other_body_total{source=\"counted\"} ") == 1);
    assert_true(of_intake(w, "rejected_total{source=\"signed\",reason=\"unsigned\"} ") == 1);
    assert_true(of_intake(w, "hookline_ack_duration_seconds_count ") == 3);
}

static void a_full_sink_closes_its_sources_and_types_only(void **state)
{
    struct world *w = *state;
    static atomic_bool full;
    struct intake_gate gate = { "gat*", "video.*", &full };
    int fd;

    atomic_store(&full, true);
    make_sources(&w->first, "gated");
    add_source(&w->first, "free", "provider: none\ntype: { path: type }");
    w->first.conf.gates = &gate;
    w->first.conf.gates_n = 1;
    start(w, 1);
    fd = client(w);
    post(fd, "gated", "1", "{\"type\":\"video.generated\"}");
    expect(fd, 503, "backlog_full");
    post(fd, "gated", "2", "{\"type\":\"batch.succeeded\"}");
    expect(fd, 200, "accepted");
    post(fd, "free", "3", "{\"type\":\"video.generated\"}");
    expect(fd, 200, "accepted");
    atomic_store(&full, false);
    post(fd, "gated", "1", "{\"type\":\"video.generated\"}");
    expect(fd, 200, "accepted"); /* the refused one left no claim */
    close(fd);
}

static void all_of_one_pass_share_a_sync(void **state)
{
    struct world *w = *state;
    struct buf many = BUF_INIT;
    double groups, records;
    int fd;

    make_sources(&w->first, "shared");
    start(w, 1);
    fd = client(w);
    post(fd, "shared", "first", "");
    expect(fd, 200, "accepted");
    groups = of_log(w, "hookline_commit_records_count ");
    records = of_log(w, "hookline_commit_records_sum ");
    for (int i = 0; i < 20; i++)
        buf_printf(&many, "POST /hooks/shared HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n%02d",
                   i);
    says(fd, buf_cstr(&many));
    free(hears(fd, 20));
    assert_true(of_log(w, "hookline_commit_records_sum ") == records + 20);
    assert_true(of_log(w, "hookline_commit_records_count ") == groups + 1);
    buf_free(&many);
    close(fd);
}

#define FLOODERS 8

static atomic_bool flooding;

/* More requests that do not come to the log than the thread can answer. */
static void *flood(void *arg)
{
    static const char forged[] = "POST /hooks/guarded HTTP/1.1\r\nHost: a\r\n"
                                 "Content-Length: 0\r\n\r\n";
    struct buf many = BUF_INIT;
    char drop[65536];
    size_t at[FLOODERS] = { 0 };
    int fds[FLOODERS];

    for (int i = 0; i < 100; i++)
        buf_adds(&many, forged);
    for (int i = 0; i < FLOODERS; i++)
        fds[i] = client(arg);
    while (atomic_load(&flooding))
        for (int i = 0; i < FLOODERS; i++) {
            ssize_t n = send(fds[i], many.p + at[i], many.n - at[i], MSG_DONTWAIT | MSG_NOSIGNAL);

            at[i] = (at[i] + (size_t)MAX(n, 0)) % many.n;
            while (recv(fds[i], drop, sizeof drop, MSG_DONTWAIT) > 0)
                ;
        }
    for (int i = 0; i < FLOODERS; i++)
        close(fds[i]);
    buf_free(&many);
    return NULL;
}

static void others_keep_nothing_from_the_log(void **state)
{
    struct world *w = *state;
    pthread_t others;
    char id[32];
    int fd;

    make_sources(&w->first, "wanted");
    add_source(&w->first, "guarded",
               "provider: standard-webhooks\nsecrets: [whsec_AAAAAAAAAAAAAAAA]");
    start(w, 1);
    atomic_store(&flooding, true);
    assert_int_equal(pthread_create(&others, NULL, flood, w), 0);
    fd = client(w);
    for (int i = 0; i < 5; i++) {
        snprintf(id, sizeof id, "wanted-%d", i);
        post(fd, "wanted", id, "");
        expect(fd, 200, "accepted");
    }
    atomic_store(&flooding, false);
    pthread_join(others, NULL);
    close(fd);
}

static void a_slow_commit_is_told_and_its_record_stays(void **state)
{
    struct world *w = *state;
    int fd;

    make_sources(&w->first, "slow");
    w->first.conf.limits.commit_timeout_ms = 300;
    start(w, 1);
    fd = client(w);
    stall();
    post(fd, "slow", "1", "{}");
    expect(fd, 503, "commit_timeout");
    post(fd, "slow", "1", "{}"); /* the sender tries again while the first is on its way */
    expect(fd, 503, "Retry-After: 1\r\n");
    atomic_store(&stalled, false);
    for (;;) { /* what the log gave back late is nobody's answer */
        char *got;
        post(fd, "slow", "1", "{}");
        got = hears(fd, 1);
        if (strstr(got, "\"duplicate\",\"id\":\"1\",\"lsn\":1")) {
            free(got);
            break;
        }
        assert_non_null(strstr(got, "commit_timeout"));
        free(got);
    }
    assert_int_equal(wal_durable_lsn(w->wal), 1);
    close(fd);
}

static void clients_that_left_are_no_trouble(void **state)
{
    struct world *w = *state;
    struct linger now = { 1, 0 };
    int fd;

    make_sources(&w->first, "left");
    start(w, 1);
    stall();
    for (int i = 0; i < 50; i++) {
        char id[16];
        snprintf(id, sizeof id, "%d", i);
        fd = client(w);
        post(fd, "left", id, "{}");
        post(fd, "left", id, "{}");
        if (i == 0)
            until_the_log_waits();
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
        close(fd);
    }
    atomic_store(&stalled, false);
    fd = client(w);
    post(fd, "left", "last", "{}");
    expect(fd, 200, "accepted");
    close(fd);
}

static void a_new_configuration_comes_while_requests_wait(void **state)
{
    struct world *w = *state;
    struct sources second = { 0 };
    int waiting, halfway, fd;

    make_sources(&w->first, "old");
    start(w, 2);
    waiting = client(w);
    halfway = client(w);
    stall();
    post(waiting, "old", "1", "{}");
    until_the_log_waits();
    says(halfway, "POST /hooks/old HTTP/1.1\r\nHost: a\r\nx-id: 2\r\nContent-Length: 2\r\n"
                  "Expect: 100-continue\r\n\r\n");
    fd = (int)recv(halfway, (char[64]){ 0 }, 25, MSG_WAITALL); /* its head was routed */
    assert_int_equal(fd, 25);
    make_sources(&second, "new");
    intake_publish(w->in, &second.conf);
    sources_free(&w->first); /* none uses the old one any more */
    w->first = second;
    says(halfway, "{}");
    expect(halfway, 404, "not_found");
    atomic_store(&stalled, false);
    expect(waiting, 200, "\"id\":\"1\",\"lsn\":1}");
    fd = client(w);
    post(fd, "new", "3", "{}");
    expect(fd, 200, "accepted");
    post(fd, "old", "4", "{}");
    expect(fd, 404, "not_found");
    close(fd);
    close(waiting);
    close(halfway);
}

static void *stop_soon(void *arg)
{
    struct world *w = arg;

    intake_stop(w->in, PATIENCE_MS);
    w->in = NULL;
    return NULL;
}

static void a_stop_answers_what_waits(void **state)
{
    struct world *w = *state;
    pthread_t stopper;
    int idle, waiting;

    make_sources(&w->first, "stopped");
    start(w, 2);
    idle = client(w);
    waiting = client(w);
    post(idle, "stopped", "0", "{}");
    expect(idle, 200, "accepted");
    stall();
    post(waiting, "stopped", "1", "{}");
    until_the_log_waits();
    pthread_create(&stopper, NULL, stop_soon, w);
    assert_true(ended(idle));
    atomic_store(&stalled, false);
    expect(waiting, 200, "Connection: close\r\n");
    pthread_join(stopper, NULL);
    assert_true(ended(waiting));
    assert_int_equal(access(w->unix_path, F_OK), -1);
    close(idle);
    close(waiting);
}

/* The log gives the records back to threads that have ended. */
static void a_stop_does_not_wait_for_a_dead_disk(void **state)
{
    struct world *w = *state;
    int waiting;

    make_sources(&w->first, "hung");
    start(w, 1);
    waiting = client(w);
    stall();
    post(waiting, "hung", "1", "{}");
    until_the_log_waits();
    intake_stop(w->in, 300);
    w->in = NULL;
    expect(waiting, 503, "shutting_down");
    close(waiting);
}

static void a_unix_socket_is_shared_by_all_threads(void **state)
{
    struct world *w = *state;
    struct sockaddr_un a = { .sun_family = AF_UNIX };

    make_sources(&w->first, "file");
    start(w, 3);
    strcpy(a.sun_path, w->unix_path);
    for (int i = 0; i < 20; i++) {
        char id[16];
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        snprintf(id, sizeof id, "%d", i);
        assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
        post(fd, "file", id, "{}");
        expect(fd, 200, "accepted");
        close(fd);
    }
}

static void an_address_that_cannot_be_had(void **state)
{
    struct world *w = *state;
    char *bad[] = { (char *)(uintptr_t) "127.0.0.1:0", (char *)(uintptr_t) "192.0.2.1:1" };
    struct intake *in = NULL;
    struct err e = ERR_INIT;

    make_sources(&w->first, "nowhere");
    assert_int_equal(intake_start(&in, w->wal, &w->first.conf, bad, 2, 2, NULL, &e), -1);
    assert_non_null(strstr(e.text, "192.0.2.1:1"));
    assert_null(in);
}

static void a_loop_that_does_not_turn_is_noticed(void **state)
{
    struct world *w = *state;

    make_sources(&w->first, "turning");
    start(w, 2);
    assert_true(intake_turning(w->in, clock_mono_ms()));
    assert_false(intake_turning(w->in, clock_mono_ms() + 61000));
    assert_true(intake_default_threads() >= 1);
}

#define WITH_WORLD(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_status_has_a_counter_of_its_own),
        WITH_WORLD(what_is_answered_is_counted),
        WITH_WORLD(a_full_sink_closes_its_sources_and_types_only),
        WITH_WORLD(all_of_one_pass_share_a_sync),
        WITH_WORLD(others_keep_nothing_from_the_log),
        WITH_WORLD(a_slow_commit_is_told_and_its_record_stays),
        WITH_WORLD(clients_that_left_are_no_trouble),
        WITH_WORLD(a_new_configuration_comes_while_requests_wait),
        WITH_WORLD(a_stop_answers_what_waits),
        WITH_WORLD(a_stop_does_not_wait_for_a_dead_disk),
        WITH_WORLD(a_unix_socket_is_shared_by_all_threads),
        WITH_WORLD(an_address_that_cannot_be_had),
        WITH_WORLD(a_loop_that_does_not_turn_is_noticed),
    };

    return T_RUN(tests);
}
