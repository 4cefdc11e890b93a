/* SPDX-License-Identifier: Apache-2.0 */
/* Exactly once into a real redis-server (FAULTS cases 38 and 39, the Redis part). The owner here
 * does what delivery does: what was refused goes again once nothing is under way, what was lost at
 * once, and a rewind is obeyed. After each test every stream holds its events once, in order. */
#include "harness.h"
#include "proxy.h"

#define EPOCH UINT64_C(0x1122334455667788)
#define LAST 12 /* LSNs 1 to 12, two streams in turn */

static struct redis_server server;

enum state { TODO, SENT, DONE, DEAD };

struct owner {
    struct event_base *base;
    struct sink_cfg cfg;
    struct sink *sink;
    enum state at[LAST + 1];
    uint64_t last, cursor, resumed; /* resumed: lowest LSN of a rewind */
    int outstanding, retries, lost, judged, resumes;
    bool full, wait;
    const char *stream;
    enum sink_verdict verdict;
    struct sink_mark found;
    bool found_one, running;
    enum sink_state state;
    char reason[512];
};

static void note_outcome(void *arg, uint64_t lsn, enum sink_outcome outcome, const char *reason)
{
    struct owner *o = arg;

    if (o->at[lsn] != SENT)
        return;
    o->outstanding--;
    o->at[lsn] = outcome == SINK_DONE ? DONE : outcome == SINK_POISON ? DEAD : TODO;
    if (outcome == SINK_POISON)
        snprintf(o->reason, sizeof o->reason, "%s", reason);
    if (outcome == SINK_RETRY) {
        o->retries++;
        o->wait = true;
    }
    while (o->cursor < LAST && o->at[o->cursor + 1] >= DONE)
        o->cursor++;
}

static void note_gone(void *arg, const char *reason UNUSED)
{
    struct owner *o = arg;

    for (int i = 1; i <= LAST; i++)
        o->at[i] = o->at[i] == SENT ? TODO : o->at[i];
    o->outstanding = 0;
    o->full = true;
    o->lost++;
}

static void note_phase(void *arg, enum sink_state state, const char *reason)
{
    struct owner *o = arg;

    o->state = state;
    if (state != SINK_RUNNING)
        snprintf(o->reason, sizeof o->reason, "%s", reason);
}

static void note_room(void *arg)
{
    ((struct owner *)arg)->full = false;
}

static enum sink_verdict judge(void *arg, const struct sink_mark *found, bool running,
                               struct buf *reason)
{
    struct owner *o = arg;

    o->judged++;
    o->running = running;
    o->found_one = found != NULL;
    if (found)
        o->found = *found;
    if (found && strcmp(found->logid, LOGID) != 0)
        return SINK_DIVERGED;
    if (o->verdict != SINK_GO_ON)
        buf_adds(reason, "diverged: the test says so");
    return o->verdict;
}

static void resume(void *arg, uint64_t lsn)
{
    struct owner *o = arg;

    for (int i = 1; i <= LAST; i++)
        if (o->at[i] != DEAD)
            o->at[i] = (uint64_t)i <= lsn ? DONE : TODO;
    o->outstanding = 0;
    o->cursor = MIN(o->cursor, lsn);
    o->resumed = MIN(o->resumed, lsn);
    o->resumes++;
    o->full = true;
}

static uint64_t cursor(void *arg)
{
    return ((struct owner *)arg)->cursor;
}

static struct record record_of(const struct owner *o, uint64_t lsn)
{
    struct record rec = harness_record(lsn);

    rec.time_ms = (int64_t)lsn * 1000; /* the same each time it is sent */
    if (o->stream[0] && lsn % 2)
        rec.source = S("odd");
    return rec;
}

static void mark(void *arg, uint64_t lsn, struct sink_mark *out)
{
    struct record rec = record_of(arg, lsn);

    *out = (struct sink_mark){ .epoch = EPOCH, .lsn = lsn, .crc = lsn ? record_crc(&rec) : 0 };
    snprintf(out->logid, sizeof out->logid, "%s", LOGID);
}

static void pump(struct owner *o)
{
    if (o->wait && o->outstanding)
        return;
    o->wait = false;
    for (uint64_t i = 1; i <= o->last && !o->full && !o->wait; i++) {
        struct record rec = record_of(o, i);
        if (o->at[i] != TODO)
            continue;
        o->at[i] = SENT;
        o->outstanding++;
        if (o->sink->type->send(o->sink, &rec)) {
            o->at[i] = TODO;
            o->outstanding--;
            o->full = true;
        } else if (i % 3 == 0) {
            o->sink->type->flush(o->sink); /* so that there are several calls */
        }
    }
    o->sink->type->flush(o->sink);
}

static bool over(const struct owner *o)
{
    return o->cursor >= o->last;
}

/* Until the owner's work is done, or (what) holds. */
#define TURN(o, what)                                                                              \
    do {                                                                                           \
        int64_t until_ = clock_mono_ms() + 30000;                                                  \
        while (!(what)) {                                                                          \
            struct timeval tv_ = { 0, 5000 };                                                      \
            pump(o);                                                                               \
            event_base_loopexit((o)->base, &tv_);                                                  \
            event_base_dispatch((o)->base);                                                        \
            if (clock_mono_ms() > until_)                                                          \
                fail_msg("never: %s (state %d, %s)", #what, (int)(o)->state, (o)->reason);         \
        }                                                                                          \
    } while (0)

/* stream: a suffix of the stream's name, with {source}: two streams. */
static void owner_open(struct owner *o, struct event_base *base, const char *socket,
                       const char *stream, const char *more)
{
    const struct sink_owner owner = { .arg = o,
                                      .done = note_outcome,
                                      .lost = note_gone,
                                      .state = note_phase,
                                      .ready = note_room,
                                      .judge = judge,
                                      .resume = resume,
                                      .cursor = cursor,
                                      .mark = mark };
    struct err_list errs = { 0 };
    struct err e = ERR_INIT;
    char yaml[400];

    snprintf(yaml, sizeof yaml,
             "{ redis: { url: 'unix:%s', stream: '%s' }, delivery: exactly-once%s }", socket,
             stream, more);
    *o = (struct owner){ .base = base, .last = LAST, .full = true, .resumed = UINT64_MAX };
    o->stream = strstr(stream, "{source}") ? "two" : "";
    harness_cfg(&o->cfg, yaml, &errs);
    if (errs.n)
        fail_msg("%s", errs.line[0]);
    o->sink = sink_type_of(&o->cfg)->open("t", &o->cfg, LOGID, EPOCH, 1 << 20, base, &owner, &e);
    assert_non_null(o->sink);
}

static void owner_close(struct owner *o)
{
    o->sink->type->close(o->sink);
    cfg_release(sink_cfg_keys(), &o->cfg);
}

static void run(const char *format, ...)
{
    va_list ap;
    redisReply *reply;

    va_start(ap, format);
    reply = redisvCommand(server.c, format, ap);
    va_end(ap);
    assert_non_null(reply);
    if (reply->type == REDIS_REPLY_ERROR)
        fail_msg("%s: %s", format, reply->str);
    freeReplyObject(reply);
}

/* The stream holds the LSNs from, from + step, ... to: each once, in order; 0 or one is missing. */
static void holds_but(const char *stream, int from, int step, int to, int but)
{
    redisReply *reply = redisCommand(server.c, "XRANGE %s - +", stream);
    size_t n = 0;

    assert_int_equal(reply->type, REDIS_REPLY_ARRAY);
    for (int lsn = from; lsn <= to; lsn += step) {
        if (lsn == but)
            continue;
        if (n >= reply->elements)
            fail_msg("%s: LSN %d is missing", stream, lsn);
        if (atoi(reply->element[n]->element[1]->element[13]->str) != lsn)
            fail_msg("%s: entry %zu has LSN %s, not %d", stream, n,
                     reply->element[n]->element[1]->element[13]->str, lsn);
        n++;
    }
    assert_int_equal(reply->elements, n);
    freeReplyObject(reply);
}

static void holds(const char *stream, int from, int step, int to)
{
    holds_but(stream, from, step, to, 0);
}

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

static int fresh(void **state UNUSED)
{
    run("FLUSHALL");
    return 0;
}

/* --- one sink
 * ----------------------------------------------------------------------------------------- */

static void each_event_is_there_once_with_its_bytes(void **state UNUSED)
{
    static const char *const want[] = { "id",           LOGID "-1",
                                        "source",       "demo",
                                        "type",         "video.generated",
                                        "subject",      "job-7",
                                        "time",         "1970-01-01T00:00:01.000Z",
                                        "content_type", "application/json",
                                        "lsn",          "1",
                                        "logid",        LOGID,
                                        "headers",      "{\"x-a\":\"1, 2\",\"x-b\":\"\\\"q\\\"\"}",
                                        "body",         "{\"a\":\"\\u0000\"}\r\n" };
    struct event_base *base = event_base_new();
    struct owner o;
    redisReply *reply, *fields;

    owner_open(&o, base, server.socket, "one", "");
    TURN(&o, over(&o));
    holds("one", 1, 1, LAST);
    reply = redisCommand(server.c, "XRANGE one - + COUNT 1");
    fields = reply->element[0]->element[1];
    assert_int_equal(fields->elements, ARRAY_LEN(want));
    for (size_t i = 0; i < ARRAY_LEN(want); i++)
        assert_string_equal(fields->element[i]->str, want[i]);
    freeReplyObject(reply);
    assert_int_equal(o.state, SINK_RUNNING);
    owner_close(&o);
    event_base_free(base);
}

static void the_mark_says_where_to_go_on(void **state UNUSED)
{
    struct event_base *base = event_base_new();
    struct record last;
    redisReply *reply;
    struct owner o;

    owner_open(&o, base, server.socket, "{{t}}:x", "");
    TURN(&o, over(&o));
    last = record_of(&o, LAST);
    owner_close(&o);
    reply = redisCommand(server.c, "HGET hookline:{t}:" LOGID " t/{t}:x");
    assert_int_equal(reply->type, REDIS_REPLY_STRING);
    owner_open(&o, base, server.socket, "{{t}}:x", ""); /* with no cursor of its own */
    TURN(&o, over(&o));
    assert_true(o.found_one && !o.running);
    assert_string_equal(o.found.logid, LOGID);
    assert_int_equal(o.found.lsn, LAST);
    assert_int_equal(o.found.crc, record_crc(&last));
    assert_int_equal(o.found.epoch, EPOCH);
    owner_close(&o);
    holds("{t}:x", 1, 1, LAST);
    freeReplyObject(reply);
    event_base_free(base);
}

static void diverged_sends_nothing_until_it_is_mended(void **state UNUSED)
{
    struct event_base *base = event_base_new();
    struct owner o;

    run("HSET hookline:{one}:" LOGID " t/one garbage");
    owner_open(&o, base, server.socket, "one", "");
    TURN(&o, o.state == SINK_BLOCKED);
    assert_non_null(strstr(o.reason, "not written by us"));
    o.verdict = SINK_DIVERGED;
    run("HSET hookline:{one}:" LOGID " t/one %s", LOGID " 00000000000000aa 3 00000000");
    TURN(&o, o.judged > 0 && o.state == SINK_BLOCKED && strstr(o.reason, "the test says so"));
    assert_int_equal(o.found.epoch, 0xaa);
    assert_int_equal(o.cursor, 0);
    o.verdict = SINK_GO_ON; /* and the LSN of the mark counts: 1 to 3 are not sent */
    TURN(&o, over(&o));
    holds("one", 4, 1, LAST);
    owner_close(&o);
    event_base_free(base);
}

static void a_rival_is_met_at_the_next_call(void **state UNUSED)
{
    struct event_base *base = event_base_new();
    struct owner o;

    owner_open(&o, base, server.socket, "one", "");
    o.last = 6;
    TURN(&o, over(&o));
    run("HSET hookline:{one}:" LOGID " t/one %s", LOGID " 00000000000000bb 6 00000000");
    o.verdict = SINK_FENCED;
    o.last = LAST;
    TURN(&o, o.running);
    assert_int_equal(o.found.epoch, 0xbb);
    holds("one", 1, 1, 6);
    owner_close(&o);
    event_base_free(base);
}

static void a_lost_tail_is_sent_again(void **state UNUSED)
{
    struct event_base *base = event_base_new();
    struct owner o;
    redisReply *reply;

    owner_open(&o, base, server.socket, "two:{source}", "");
    o.last = 4;
    TURN(&o, over(&o));
    reply = redisCommand(server.c, "HGET hookline:{two:odd}:" LOGID " t/two:odd");
    o.last = 10;
    TURN(&o, over(&o));
    o.resumed = UINT64_MAX;
    /* what a replica has that was promoted without the tail of one stream */
    run("HSET hookline:{two:odd}:" LOGID " t/two:odd %s", reply->str);
    run("EVAL %s 1 two:odd", "local e = redis.call('XRANGE', KEYS[1], '-', '+') for i = 3, #e do "
                             "redis.call('XDEL', KEYS[1], e[i][1]) end");
    o.last = LAST;
    TURN(&o, over(&o));
    holds("two:odd", 1, 2, LAST - 1); /* seen by prev */
    holds("two:demo", 2, 2, LAST);
    assert_int_equal(o.resumed, 3);
    run("HSET hookline:{two:odd}:" LOGID " t/two:odd %s", reply->str);
    run("EVAL %s 1 two:odd", "local e = redis.call('XRANGE', KEYS[1], '-', '+') for i = 3, #e do "
                             "redis.call('XDEL', KEYS[1], e[i][1]) end");
    run("CLIENT KILL TYPE normal SKIPME yes");
    TURN(&o, o.lost > 0 && o.resumes > 2 && over(&o));
    holds("two:odd", 1, 2, LAST - 1); /* seen by reading back, without a new event */
    holds("two:demo", 2, 2, LAST);
    freeReplyObject(reply);
    owner_close(&o);
    event_base_free(base);
}

/* A restart and a lost tail at once: the cursor is past what the server has, and no new event
 * comes.
 */
static void a_tail_lost_before_a_start_is_sent_again(void **state UNUSED)
{
    struct event_base *base = event_base_new();
    struct owner o;
    redisReply *reply;

    owner_open(&o, base, server.socket, "two:{source}", "");
    o.last = 4;
    TURN(&o, over(&o));
    reply = redisCommand(server.c, "HGET hookline:{two:odd}:" LOGID " t/two:odd");
    o.last = LAST;
    TURN(&o, over(&o));
    owner_close(&o);
    run("HSET hookline:{two:odd}:" LOGID " t/two:odd %s", reply->str);
    run("EVAL %s 1 two:odd", "local e = redis.call('XRANGE', KEYS[1], '-', '+') for i = 3, #e do "
                             "redis.call('XDEL', KEYS[1], e[i][1]) end");
    owner_open(&o, base, server.socket, "two:{source}", "");
    for (int i = 1; i <= LAST; i++)
        o.at[i] = DONE;
    o.cursor = LAST;
    TURN(&o, o.resumes > 0 && over(&o));
    assert_int_equal(o.resumed, 3);
    holds("two:odd", 1, 2, LAST - 1);
    holds("two:demo", 2, 2, LAST);
    freeReplyObject(reply);
    owner_close(&o);
    event_base_free(base);
}

static void state_lost_goes_on_from_the_cursor(void **state UNUSED)
{
    struct event_base *base = event_base_new();
    struct owner o;
    redisReply *reply;

    owner_open(&o, base, server.socket, "one", "");
    o.last = 5;
    TURN(&o, over(&o));
    run("DEL hookline:{one}:" LOGID " hookline:{t}:" LOGID ":streams");
    o.last = LAST;
    TURN(&o, over(&o));
    assert_true(o.running && !o.found_one); /* the owner reports it */
    holds("one", 1, 1, LAST);
    reply = redisCommand(server.c, "HEXISTS hookline:{t}:" LOGID ":streams one");
    assert_int_equal(reply->integer, 1); /* the next start looks after it */
    freeReplyObject(reply);
    owner_close(&o);
    event_base_free(base);
}

/* A stream that has one id left takes one record of a call and refuses the next. */
static void an_error_in_the_middle_keeps_what_was_reached(void **state UNUSED)
{
    struct event_base *base = event_base_new();
    struct owner o;
    redisReply *reply;

    run("XADD mid 18446744073709551615-18446744073709551614 a b");
    owner_open(&o, base, server.socket, "mid", "");
    TURN(&o, o.state == SINK_BLOCKED && o.retries > 2);
    assert_non_null(strstr(o.reason, "exhausted"));
    assert_int_equal(o.cursor, 1);
    assert_int_equal(o.at[1], DONE);
    reply = redisCommand(server.c, "HGET hookline:{mid}:" LOGID " t/mid");
    assert_non_null(strstr(reply->str, " 1 "));
    freeReplyObject(reply);
    run("RENAME mid old");
    TURN(&o, over(&o));
    holds("mid", 2, 1, LAST);
    owner_close(&o);
    event_base_free(base);
}

static void scripts_are_loaded_again(void **state UNUSED)
{
    struct event_base *base = event_base_new();
    struct owner o;

    owner_open(&o, base, server.socket, "one", "");
    o.last = 5;
    TURN(&o, over(&o));
    run("SCRIPT FLUSH");
    o.last = LAST;
    TURN(&o, over(&o));
    holds("one", 1, 1, LAST);
    assert_int_equal(o.lost, 0);
    owner_close(&o);
    event_base_free(base);
}

static void refused_where_keys_may_be_evicted(void **state UNUSED)
{
    struct event_base *base = event_base_new();
    struct owner o;

    run("CONFIG SET maxmemory-policy allkeys-lru");
    owner_open(&o, base, server.socket, "one", "");
    TURN(&o, o.state == SINK_BLOCKED);
    assert_non_null(strstr(o.reason, "allkeys"));
    assert_int_equal(o.judged, 0);
    run("CONFIG SET maxmemory-policy volatile-lru");
    TURN(&o, over(&o));
    holds("one", 1, 1, LAST);
    run("CONFIG SET maxmemory-policy noeviction");
    owner_close(&o);
    event_base_free(base);
}

/* --- faults in the middle
 * ----------------------------------------------------------------------------------- */

static void proxy_here(struct proxy *p, struct event_base *base, char here[96], int n)
{
    snprintf(here, 96, "%s/p%d", server.dir, n);
    proxy_start(p, base, here, server.socket);
}

#define AT_A_TIME 128

struct cut {
    char here[96], odd[32], demo[32], stream[32];
    struct owner o;
    struct proxy p;
};

static void cut_at(struct event_base *base, struct cut *c, int n, long at, bool out)
{
    proxy_here(&c->p, base, c->here, n);
    *(out ? &c->p.cut_out : &c->p.cut_in) = at;
    snprintf(c->stream, sizeof c->stream, "%d:{source}", n);
    snprintf(c->odd, sizeof c->odd, "%d:odd", n);
    snprintf(c->demo, sizeof c->demo, "%d:demo", n);
    owner_open(&c->o, base, c->here, c->stream, "");
}

static bool all_over(struct cut *cuts, int n)
{
    bool done = true;

    for (int i = 0; i < n; i++) {
        pump(&cuts[i].o);
        done &= over(&cuts[i].o);
    }
    return done;
}

static void all_there(struct cut *c)
{
    holds(c->odd, 1, 2, LAST - 1);
    holds(c->demo, 2, 2, LAST);
    owner_close(&c->o);
    proxy_stop(&c->p);
}

/* Redis 7.2 and later, and Valkey, which no test here can start: their answer is the proxy's. */
static void waitaof_has_to_confirm_both(void **state UNUSED)
{
    struct event_base *base = event_base_new();
    char here[96];
    struct owner o;
    struct proxy p;

    proxy_here(&p, base, here, 0);
    p.needle = "WAITAOF";
    p.answer = "*2\r\n:1\r\n:0\r\n";
    owner_open(&o, base, here, "aof", ", wait: { replicas: 1, timeout: 5ms }");
    TURN(&o, o.state == SINK_RETRYING && strstr(o.reason, "0 of 1 replicas"));
    p.answer = "*2\r\n:0\r\n:1\r\n"; /* not on this server's own disk */
    TURN(&o, strstr(o.reason, "1 of 1 replicas"));
    assert_int_equal(o.cursor, 0);
    p.answer = "*2\r\n:1\r\n:1\r\n";
    TURN(&o, over(&o));
    holds("aof", 1, 1, LAST);
    assert_true(p.count > 2);
    owner_close(&o);
    proxy_stop(&p);
    event_base_free(base);
}

/* Every call in turn, refused in its place, then taken: nothing lost, nothing twice. */
static const struct refusal_row {
    const char *name, *error;
} refusals[] = {
    { "LOADING", "LOADING Redis is loading the dataset in memory" },
    { "BUSY", "BUSY Redis is busy running a script. You can only call SCRIPT KILL." },
    { "MASTERDOWN", "MASTERDOWN Link with MASTER is down" },
    { "TRYAGAIN", "TRYAGAIN Multiple keys request during rehashing of slot" },
    { "CLUSTERDOWN", "CLUSTERDOWN The cluster is down" },
    { "NOSCRIPT", "NOSCRIPT No matching script. Please use EVAL." },
    { "OOM", "OOM command not allowed when used memory > 'maxmemory'." },
    { "OOM of Redis 6",
      "ERR Error running script (call to f_1): @user_script:8: @user_script: 8: -OOM command" },
    { "READONLY", "READONLY You can't write against a read only replica." },
    { "MISCONF", "MISCONF Errors writing to the AOF file: No space left on device" },
    { "NOREPLICAS", "NOREPLICAS Not enough good replicas to write." },
    { "NOAUTH", "NOAUTH Authentication required." },
    { "NOPERM", "NOPERM this user has no permissions to run the 'evalsha' command" },
    { "NOPERM, key",
      "NOPERM this user has no permissions to access one of the keys used as arguments" },
    { "WRONGTYPE", "WRONGTYPE Operation against a key holding the wrong kind of value" },
    { "of the future", "WHATEVER nobody has heard of" },
};

#define CALLS 9 /* two claims, and at least seven calls with records */

static void refused(void **state)
{
    const struct refusal_row *row = *state;
    struct event_base *base = event_base_new();
    struct cut *cuts = xcalloc(CALLS, sizeof *cuts);

    for (int i = 0; i < CALLS; i++) {
        cut_at(base, &cuts[i], i, -1, false);
        cuts[i].p.needle = "EVALSHA";
        cuts[i].p.error = row->error;
        cuts[i].p.refuse = i + 1;
    }
    TURN(&cuts[0].o, all_over(cuts, CALLS));
    for (int i = 0; i < CALLS; i++) {
        assert_int_equal(cuts[i].p.refused, 1);
        all_there(&cuts[i]);
    }
    run("FLUSHALL");
    free(cuts);
    event_base_free(base);
}

static const struct refusal_row poisons[] = {
    { "too large for a string", "ERR string exceeds maximum allowed size (512MB)" },
    { "protocol", "ERR Protocol error: invalid bulk length" },
};

/* A call of several records is not poison as a whole: it is the one that is refused alone. */
static void poison(void **state)
{
    const struct refusal_row *row = *state;
    struct event_base *base = event_base_new();
    char here[96];
    struct owner o;
    struct proxy p;

    run("FLUSHALL");
    proxy_here(&p, base, here, 0);
    p.needle = "nothing that a command holds";
    owner_open(&o, base, here, "poison", "");
    o.last = 4;
    TURN(&o, over(&o));
    o.last = 5; /* alone in its call */
    p.needle = "EVALSHA";
    p.refuse = p.count + 1;
    p.error = row->error;
    TURN(&o, over(&o));
    assert_int_equal(o.at[5], DEAD);
    assert_non_null(strstr(o.reason, row->error));
    o.last = LAST;
    TURN(&o, over(&o));
    holds_but("poison", 1, 1, LAST, 5);
    owner_close(&o);
    proxy_stop(&p);
    event_base_free(base);
}

/* How many bytes an exchange has that nothing happens to. */
static void measure(struct event_base *base, long *in, long *out)
{
    char here[96];
    struct owner o;
    struct proxy p;

    proxy_here(&p, base, here, 0);
    owner_open(&o, base, here, "0:{source}", "");
    TURN(&o, over(&o));
    *in = p.in;
    *out = p.out;
    owner_close(&o);
    proxy_stop(&p);
}

static void cut_every_byte(struct event_base *base, long bytes, long step, bool out)
{
    struct cut *cuts = xcalloc(AT_A_TIME, sizeof *cuts);

    for (long at = 0; at < bytes;) {
        int n = 0;
        for (; n < AT_A_TIME && at < bytes; n++, at += step)
            cut_at(base, &cuts[n], n, at, out);
        TURN(&cuts[0].o, all_over(cuts, n));
        for (int i = 0; i < n; i++) {
            if (!cuts[i].o.lost)
                fail_msg("%s: was not cut", cuts[i].stream);
            all_there(&cuts[i]);
        }
        run("FLUSHALL");
    }
    free(cuts);
}

/* case 39: of the bytes out every 7th in the quick run, of those in all. */
static void case39_cut_after_every_byte(void **state UNUSED)
{
    struct event_base *base = event_base_new();
    const char *every = getenv("EVERY_BYTE");
    long in, out;

    measure(base, &in, &out);
    cut_every_byte(base, out, 1, true);
    cut_every_byte(base, in, every ? 1 : 7, false);
    event_base_free(base);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(each_event_is_there_once_with_its_bytes, fresh),
        cmocka_unit_test_setup(the_mark_says_where_to_go_on, fresh),
        cmocka_unit_test_setup(diverged_sends_nothing_until_it_is_mended, fresh),
        cmocka_unit_test_setup(a_rival_is_met_at_the_next_call, fresh),
        cmocka_unit_test_setup(a_lost_tail_is_sent_again, fresh),
        cmocka_unit_test_setup(a_tail_lost_before_a_start_is_sent_again, fresh),
        cmocka_unit_test_setup(state_lost_goes_on_from_the_cursor, fresh),
        cmocka_unit_test_setup(an_error_in_the_middle_keeps_what_was_reached, fresh),
        cmocka_unit_test_setup(scripts_are_loaded_again, fresh),
        cmocka_unit_test_setup(refused_where_keys_may_be_evicted, fresh),
        cmocka_unit_test_setup(waitaof_has_to_confirm_both, fresh),
        cmocka_unit_test_setup(case39_cut_after_every_byte, fresh),
    };
    int failed;

    cmocka_set_message_output(CM_OUTPUT_TAP);
    if (up(NULL))
        return 1;
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    failed += T_TABLE(refusals, refused);
    failed += T_TABLE(poisons, poison);
    down(NULL);
    return failed;
}
