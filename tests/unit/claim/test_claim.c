/* SPDX-License-Identifier: Apache-2.0 */
/* Claims in a real redis-server: what each value means, lives, order, and a server that is away,
 * frozen, or refuses. */
#include "sink/harness.h"

#include "claim/room.h"
#include "crc32c.h"

#define OTHER "9a000000-0000-4000-8000-000000000009"
#define WINDOW 7200000
#define PENDING 30000

/* Patience, so that a busy machine is not taken for a server that is away. */
static const struct claim_times times = { WINDOW, PENDING, 15000 };

static struct redis_server server;

struct world {
    struct event_base *base;
    struct claims *cs;
    struct claim_cfg cfg;
    char url[128], reason[256];
    int state; /* answers so far */
};

struct one {
    struct claim claim;
    struct world *w;
    int answers;
};

static int up(void **state UNUSED)
{
    redis_server_start(&server);
    return 0;
}

static int down(void **state UNUSED)
{
    redis_server_stop(&server);
    return 0;
}

static void on_answered(struct claim *c, void *arg)
{
    struct one *o = container_of(c, struct one, claim);

    assert_ptr_equal(arg, o->w);
    o->answers++;
    o->w->state++;
}

static bool is_up(const struct world *w)
{
    struct claims_report r;

    claims_report(w->cs, &r);
    return r.up;
}

static uint64_t missed(const struct world *w)
{
    struct claims_report r;

    claims_report(w->cs, &r);
    return r.missed_claims;
}

static bool reason_has(const struct world *w, const char *text)
{
    struct claims_report r;

    claims_report(w->cs, &r);
    return strstr(r.reason, text) != NULL;
}

static void begin(struct world *w, const char *url)
{
    *w = (struct world){ .base = event_base_new() };
    snprintf(w->url, sizeof w->url, "%s", url);
    w->cfg.redis = w->url;
    w->cs = claims_new(w->base, &w->cfg, LOGID, &times, w);
}

static void begin_here(struct world *w)
{
    char url[128];

    snprintf(url, sizeof url, "unix:%s", server.socket);
    begin(w, url);
    UNTIL(w, is_up(w));
}

static void end(struct world *w)
{
    claims_free(w->cs);
    event_base_free(w->base);
}

static redisReply *redis(const char *format, ...)
{
    va_list ap;
    redisReply *reply;

    va_start(ap, format);
    reply = redisvCommand(server.c, format, ap);
    va_end(ap);
    assert_non_null(reply);
    if (reply->type == REDIS_REPLY_ERROR)
        fail_msg("%s: %s", format, reply->str);
    return reply;
}

static void run(const char *command)
{
    freeReplyObject(redis(command));
}

static long long number(const char *command)
{
    redisReply *reply = redis(command);
    long long n = reply->integer;

    freeReplyObject(reply);
    return n;
}

static struct record record_of(const char *source, const char *id, const char *type)
{
    return (struct record){ .kind = RECORD_WEBHOOK,
                            .source = span_str(source),
                            .id = span_str(id),
                            .type = span_str(type),
                            .body = S("{}") };
}

static enum claim_answer ask(struct world *w, struct one *o, const struct record *rec)
{
    *o = (struct one){ .claim.answered = on_answered, .w = w };
    assert_true(claims_ask(w->cs, &o->claim, rec));
    UNTIL(w, o->answers);
    assert_int_equal(o->answers, 1);
    return o->claim.answer;
}

/* The name and the value of the one key there is; the caller frees them. */
static char *only_key(void)
{
    redisReply *keys = redis("KEYS *");
    char *key;

    assert_int_equal(keys->elements, 1);
    key = xstrdup(keys->element[0]->str);
    freeReplyObject(keys);
    return key;
}

static char *only_value(void)
{
    char *key = only_key(), *value;
    redisReply *reply = redis("GET %s", key);

    value = xstrdup(reply->str);
    freeReplyObject(reply);
    free(key);
    return value;
}

static long long only_life(void)
{
    char *key = only_key();
    redisReply *reply = redis("PTTL %s", key);
    long long ms = reply->integer;

    freeReplyObject(reply);
    free(key);
    return ms;
}

/* --- what a key can hold
 * ------------------------------------------------------------------------- */

static const struct row {
    const char *name, *value; /* NULL: no such key */
    enum claim_answer answer;
    bool held, counted; /* as taken without a claim */
    uint64_t lsn;
    bool other_body;
} rows[] = {
    { "nobody has it", NULL, CLAIM_OURS, true, false, 0, false },
    { "another replica is at it", "p:" OTHER ":0011223344556677-1", CLAIM_ELSEWHERE },
    { "we are, or were before a restart", "p:" LOGID ":0011223344556677-1", CLAIM_OURS },
    { "stored elsewhere", "s:" OTHER ":17:00000000", CLAIM_ELSEWHERE },
    { "stored here", "s:" LOGID ":17:00000000", CLAIM_OURS },
    { "done elsewhere", "d:" OTHER ":17:BODY", CLAIM_DONE, false, false, 17, false },
    { "done here", "d:" LOGID ":18446744073709551615:BODY", CLAIM_DONE, false, false, UINT64_MAX,
      false },
    { "done with another body", "d:" OTHER ":3:00000000", CLAIM_DONE, false, false, 3, true },
    { "done, but where?", "d:17:00000000", CLAIM_OURS, false, true },
    { "done, without a number", "d:" OTHER "::00000000", CLAIM_OURS, false, true },
    { "done, with a number too large", "d:" OTHER ":18446744073709551616:00000000", CLAIM_OURS,
      false, true },
    { "done, with half a checksum", "d:" OTHER ":3:0000", CLAIM_OURS, false, true },
    { "a later release's", "x:" OTHER ":3:00000000", CLAIM_OURS, false, true },
    { "nothing", "", CLAIM_OURS, false, true },
    { "somebody else's text", "hello", CLAIM_OURS, false, true },
    { "a colon", ":", CLAIM_OURS, false, true },
};

static void set_value(const char *key, const char *value)
{
    const char *body = strstr(value, "BODY");

    if (body)
        freeReplyObject(
            redis("SET %s %b%08x", key, value, (size_t)(body - value), crc32c(0, "{}", 2)));
    else
        freeReplyObject(redis("SET %s %s", key, value));
}

static void a_value_means(void **state)
{
    const struct row *r = *state;
    struct record rec = record_of("demo", "msg_1", "a.b");
    struct world w;
    struct one o;
    uint64_t before;
    char *key;

    up(NULL);
    begin_here(&w);
    ask(&w, &o, &rec);
    key = only_key();
    run("FLUSHALL");
    if (r->value)
        set_value(key, r->value);
    before = missed(&w);
    assert_int_equal(ask(&w, &o, &rec), r->answer);
    assert_int_equal(o.claim.held, r->held);
    assert_int_equal(missed(&w) - before, r->counted);
    if (r->answer == CLAIM_DONE) {
        assert_int_equal(o.claim.lsn, r->lsn);
        assert_int_equal(o.claim.other_body, r->other_body);
    }
    assert_true(is_up(&w));
    free(key);
    end(&w);
    down(NULL);
}

/* --- the steps
 * ----------------------------------------------------------------------------------- */

static void claimed_stored_done(void **state UNUSED)
{
    struct record rec = record_of("demo", "msg_1", "a.b");
    struct world w;
    struct one o;
    char *value, crc[16];

    begin_here(&w);
    assert_int_equal(ask(&w, &o, &rec), CLAIM_OURS);
    assert_true(o.claim.held);
    value = only_value();
    assert_int_equal(strncmp(value, "p:" LOGID ":", 39), 0);
    free(value);
    assert_in_range(only_life(), 1, PENDING);
    claims_mark(w.cs, &rec, 42, CLAIM_IS_STORED);
    UNTIL(&w, !claims_in_flight(w.cs));
    value = only_value();
    assert_int_equal(strncmp(value, "s:" LOGID ":42:", 42), 0);
    free(value);
    assert_in_range(only_life(), PENDING + 1, 3600000);
    claims_mark(w.cs, &rec, 42, CLAIM_IS_DONE);
    UNTIL(&w, !claims_in_flight(w.cs));
    value = only_value();
    snprintf(crc, sizeof crc, ":%08x", crc32c(0, "{}", 2));
    assert_int_equal(strncmp(value, "d:" LOGID ":42:", 42), 0);
    assert_string_equal(value + 41, crc);
    free(value);
    assert_in_range(only_life(), 3600001, WINDOW);
    claims_drop(w.cs, &o.claim); /* too late: it is not what was claimed any more */
    UNTIL(&w, !claims_in_flight(w.cs));
    assert_int_equal(ask(&w, &o, &rec), CLAIM_DONE);
    end(&w);
}

static void what_was_not_logged_is_given_back(void **state UNUSED)
{
    struct record rec = record_of("demo", "msg_1", "a.b");
    struct world w, other;
    struct one o, p;

    begin_here(&w);
    begin_here(&other);
    snprintf(other.cs->logid, sizeof other.cs->logid, "%s", OTHER);
    assert_int_equal(ask(&w, &o, &rec), CLAIM_OURS);
    assert_int_equal(ask(&other, &p, &rec), CLAIM_ELSEWHERE);
    claims_drop(other.cs, &p.claim); /* not its own */
    UNTIL(&other, !claims_in_flight(other.cs));
    assert_int_equal(number("DBSIZE"), 1);
    claims_drop(w.cs, &o.claim);
    UNTIL(&w, !claims_in_flight(w.cs));
    assert_int_equal(number("DBSIZE"), 0);
    assert_int_equal(ask(&other, &p, &rec), CLAIM_OURS);
    assert_true(p.claim.held);
    end(&w);
    end(&other);
}

static void a_cancelled_claim_is_not_answered(void **state UNUSED)
{
    struct record rec = record_of("demo", "msg_1", "a.b");
    struct one o;
    struct world w;

    begin_here(&w);
    o = (struct one){ .claim.answered = on_answered, .w = &w };
    assert_true(claims_ask(w.cs, &o.claim, &rec));
    claims_cancel(w.cs, &o.claim);
    claims_drop(w.cs, &o.claim);
    UNTIL(&w, !claims_in_flight(w.cs));
    assert_int_equal(o.answers, 0);
    assert_int_equal(number("DBSIZE"), 0);
    end(&w);
}

static void deliveries_are_told_apart(void **state UNUSED)
{
    static const char *const three[][3] = {
        { "demo", "msg", "a" },         { "dem", "omsg", "a" },       { "demo", "msga", "" },
        { "demo", "", "msga" },         { "demo", "msg:a", "" },      { "demo", "msg", ":a" },
        { "demo", "m\r\n*1\r\n", "a" }, { "demo", "4:demo3:m", "a" }, { "Demo", "msg", "a" },
    };
    struct world w;
    struct one o;

    begin_here(&w);
    for (size_t i = 0; i < ARRAY_LEN(three); i++) {
        struct record rec = record_of(three[i][0], three[i][1], three[i][2]);
        assert_int_equal(ask(&w, &o, &rec), CLAIM_OURS);
        assert_true(o.claim.held);
    }
    assert_int_equal(number("DBSIZE"), ARRAY_LEN(three));
    end(&w);
}

#define MANY 3000

/* Answers come in the order of the questions, and each to its own. */
static void many_are_under_way(void **state UNUSED)
{
    struct one *o = xcalloc(MANY, sizeof *o);
    struct world w;
    char id[16];

    begin_here(&w);
    for (unsigned i = 0; i < MANY; i += 2) {
        struct record rec = record_of("demo", (snprintf(id, sizeof id, "%u", i), id), "a");
        claims_mark(w.cs, &rec, i, CLAIM_IS_DONE);
    }
    for (unsigned i = 0; i < MANY; i++) {
        struct record rec = record_of("demo", (snprintf(id, sizeof id, "%u", i), id), "a");
        o[i] = (struct one){ .claim.answered = on_answered, .w = &w };
        assert_true(claims_ask(w.cs, &o[i].claim, &rec));
        if (i % 5 == 0) {
            claims_cancel(w.cs, &o[i].claim);
            w.state++;
        }
    }
    UNTIL(&w, w.state == MANY);
    for (unsigned i = 0; i < MANY; i++) {
        assert_int_equal(o[i].answers, i % 5 != 0);
        if (!o[i].answers)
            continue;
        assert_int_equal(o[i].claim.answer, i % 2 ? CLAIM_OURS : CLAIM_DONE);
        assert_int_equal(o[i].claim.lsn, i % 2 ? 0 : i);
    }
    free(o);
    end(&w);
}

/* --- a server that does not answer
 * --------------------------------------------------------------- */

static void a_frozen_server_holds_nobody_up_for_long(void **state UNUSED)
{
    struct record rec = record_of("demo", "msg_1", "a.b");
    struct one o[10];
    struct world w;
    int64_t since;

    begin_here(&w);
    claims_configure(w.cs, &(struct claim_times){ WINDOW, PENDING, 500 });
    kill(server.pid, SIGSTOP);
    since = clock_mono_ms();
    for (size_t i = 0; i < ARRAY_LEN(o); i++) {
        o[i] = (struct one){ .claim.answered = on_answered, .w = &w };
        assert_true(claims_ask(w.cs, &o[i].claim, &rec));
    }
    UNTIL(&w, w.state == (int)ARRAY_LEN(o));
    assert_true(clock_mono_ms() - since >= 500);
    for (size_t i = 0; i < ARRAY_LEN(o); i++) {
        assert_int_equal(o[i].claim.answer, CLAIM_OURS);
        assert_false(o[i].claim.held);
    }
    assert_int_equal(missed(&w), ARRAY_LEN(o));
    assert_false(is_up(&w));
    o[0] = (struct one){ .claim.answered = on_answered, .w = &w };
    assert_false(claims_ask(w.cs, &o[0].claim, &rec)); /* those behind them are told at once */
    claims_mark(w.cs, &rec, 1, CLAIM_IS_DONE);
    UNTIL(&w, reason_has(&w, "no connection in time")); /* it takes connections, and is silent */
    claims_configure(w.cs, &times);
    kill(server.pid, SIGCONT);
    UNTIL(&w, is_up(&w));
    ask(&w, &o[0], &rec);
    end(&w);
}

static void a_server_that_is_not_there(void **state UNUSED)
{
    static const char *const urls[] = { "unix:/none/such", "redis://127.0.0.1:1" };
    struct record rec = record_of("demo", "msg_1", "a.b");

    for (size_t i = 0; i < ARRAY_LEN(urls); i++) {
        struct one o = { .claim.answered = on_answered };
        struct world w;
        begin(&w, urls[i]);
        o.w = &w;
        if (claims_ask(w.cs, &o.claim, &rec)) /* it was not yet known */
            UNTIL(&w, o.answers);
        assert_int_equal(o.claim.answer, CLAIM_OURS);
        UNTIL(&w, !reason_has(&w, "connecting"));
        assert_false(claims_ask(w.cs, &o.claim, &rec));
        assert_int_equal(missed(&w), 2);
        end(&w);
    }
}

/* It is started while they try. */
static void claims_before_the_first_connection_are_kept(void **state UNUSED)
{
    struct record rec = record_of("demo", "msg_1", "a.b");
    struct one o = { .claim.answered = on_answered };
    struct world w;
    char url[128];

    snprintf(url, sizeof url, "unix:%s", server.socket);
    begin(&w, url); /* the loop has not turned: not even connected */
    o.w = &w;
    assert_true(claims_ask(w.cs, &o.claim, &rec));
    UNTIL(&w, o.answers);
    assert_true(o.claim.held);
    assert_int_equal(missed(&w), 0);
    end(&w);
}

static void a_server_that_was_killed(void **state UNUSED)
{
    struct record rec = record_of("demo", "msg_1", "a.b");
    struct one o;
    struct world w;

    begin_here(&w);
    kill(server.pid, SIGKILL);
    o = (struct one){ .claim.answered = on_answered, .w = &w };
    if (claims_ask(w.cs, &o.claim, &rec))
        UNTIL(&w, o.answers);
    assert_int_equal(o.claim.answer, CLAIM_OURS);
    UNTIL(&w, !is_up(&w));
    end(&w);
}

static const struct refusal {
    const char *name, *breaks, *mends, *says;
} refusals[] = {
    { "a replica", "REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE", "READONLY" },
    { "no memory", "CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0", "OOM" },
    { "too few replicas", "CONFIG SET min-replicas-to-write 1",
      "CONFIG SET min-replicas-to-write 0", "NOREPLICAS" },
    { "no right to SET", "ACL SETUSER default -set", "ACL SETUSER default +set", "NOPERM" },
    { "no right to GET", "ACL SETUSER default -get", "ACL SETUSER default +get", "NOPERM" },
};

/* It is as good as one that is not there, says why, and is found again. */
static void a_server_that_refuses(void **state)
{
    const struct refusal *r = *state;
    struct record rec = record_of("demo", "msg_1", "a.b");
    struct world w;
    struct one o;

    up(NULL);
    begin_here(&w);
    run(r->breaks);
    assert_int_equal(ask(&w, &o, &rec), CLAIM_OURS);
    assert_false(o.claim.held);
    assert_true(missed(&w) >= 1);
    assert_true(reason_has(&w, r->says));
    run(r->mends);
    o = (struct one){ .claim.answered = on_answered, .w = &w };
    UNTIL(&w, claims_ask(w.cs, &o.claim, &rec));
    UNTIL(&w, o.answers);
    assert_true(is_up(&w));
    end(&w);
    down(NULL);
}

static void a_user_a_password_and_a_database(void **state UNUSED)
{
    struct record rec = record_of("demo", "msg_1", "a.b");
    struct world w;
    struct one o;

    run("ACL SETUSER replica on >pw ~hookline:dedup:* +set +get +select");
    w = (struct world){ .base = event_base_new() };
    snprintf(w.url, sizeof w.url, "unix:%s", server.socket);
    w.cfg = (struct claim_cfg){ .redis = w.url,
                                .user = (char *)(uintptr_t) "replica",
                                .password = { .bytes = (char *)(uintptr_t) "wrong", .n = 5 } };
    w.cs = claims_new(w.base, &w.cfg, LOGID, &times, &w);
    UNTIL(&w, reason_has(&w, "WRONGPASS"));
    w.cfg.password = (struct cfg_secret){ .bytes = (char *)(uintptr_t) "pw", .n = 2 };
    UNTIL(&w, is_up(&w)); /* without the right to PING */
    assert_int_equal(ask(&w, &o, &rec), CLAIM_OURS);
    assert_true(o.claim.held);
    claims_drop(w.cs, &o.claim); /* without the right to EVAL: it stays for its life */
    UNTIL(&w, !claims_in_flight(w.cs));
    assert_true(is_up(&w));
    assert_int_equal(number("DBSIZE"), 1);
    end(&w);
}

#define WITH_SERVER(test) cmocka_unit_test_setup_teardown(test, up, down)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        WITH_SERVER(claimed_stored_done),
        WITH_SERVER(what_was_not_logged_is_given_back),
        WITH_SERVER(a_cancelled_claim_is_not_answered),
        WITH_SERVER(deliveries_are_told_apart),
        WITH_SERVER(many_are_under_way),
        WITH_SERVER(a_frozen_server_holds_nobody_up_for_long),
        WITH_SERVER(claims_before_the_first_connection_are_kept),
        WITH_SERVER(a_server_that_was_killed),
        WITH_SERVER(a_user_a_password_and_a_database),
        cmocka_unit_test(a_server_that_is_not_there),
    };
    int failed;

    signal(SIGPIPE, SIG_IGN); /* as `serve` does */
    failed = T_TABLE(rows, a_value_means) + T_TABLE(refusals, a_server_that_refuses);
    return failed + T_RUN(tests);
}
