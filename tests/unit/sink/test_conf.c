/* SPDX-License-Identifier: Apache-2.0 */
#include "harness.h"
#include "../../../src/sink/room.h"

static const struct conf_row confs[] = {
    { "kafka", "kafka: { brokers: 'k:9092', topic: 'h.{source}' }", NULL },
    { "redis without trim", "redis: { url: 'redis://h:1/2', trim: none }", NULL },
    { "redis with maxlen", "redis: { url: 'unix:/s', trim: { maxlen: 5 } }", NULL },
    { "redis with trim: consumed", "redis: { url: 'unix:/s', trim: consumed }", NULL },
    { "redis with another word", "redis: { url: 'unix:/s', trim: maxlen }", "trim" },
    { "both", "{ kafka: { brokers: k }, redis: { url: 'unix:/s' } }", "exactly one" },
    { "neither", "from: now", "exactly one" },
    { "http beside", "{ kafka: { brokers: k }, http: { url: 'http://h' } }", "exactly one" },
    { "two trims", "redis: { trim: { maxlen: 5, maxage: 1h } }", "one of maxlen" },
    { "two trims, one a switch", "redis: { trim: { maxlen: 5, consumed: true } }",
      "one of maxlen" },
    { "wait", "{ redis: { url: 'unix:/s' }, wait: { replicas: 1, timeout: 500ms } }", NULL },
    { "wait, kafka", "{ kafka: { brokers: k }, wait: { replicas: 1 } }", "acks" },
    { "exactly once", "{ redis: { url: 'unix:/s' }, delivery: exactly-once }", NULL },
    { "tls", "redis: { url: 'rediss://h', tls: { ca: /ca, cert: /c, key: /k } }", NULL },
    { "tls without a key", "redis: { url: 'rediss://h', tls: { cert: /c } }", "belong together" },
    { "tls settings without tls", "redis: { url: 'redis://h', tls: { ca: /ca } }", "rediss" },
    { "sentinels", "redis: { url: 'redis+sentinel://u:p@a,b:1,[::1]:2/main/3' }", NULL },
    { "sentinels without a name", "redis: { url: 'redis+sentinel://a,b' }", "url" },
    { "cluster", "redis: { url: 'rediss+cluster://a,b:1' }", NULL },
    { "cluster with a database", "redis: { url: 'redis+cluster://a/1' }", "url" },
    { "two servers", "redis: { url: 'redis://a,b' }", "url" },
    { "no such scheme", "redis: { url: 'http://h' }", "url" },
    { "unknown name in a topic", "kafka: { topic: 'a{body}' }", "topic" },
    { "compression", "kafka: { properties: { compression.type: lz4 } }", NULL },
    { "acks", "kafka: { properties: { acks: '1' } }", "in-sync" },
    { "idempotence", "kafka: { properties: { enable.idempotence: 'false' } }", "twice" },
    { "in flight", "kafka: { properties: { max.in.flight: '9' } }", "order" },
    { "in flight, long", "kafka: { properties: { max.in.flight.requests.per.connection: '9' } }",
      "order" },
    { "retries", "kafka: { properties: { retries: '0' } }", "retried" },
    { "message timeout", "kafka: { properties: { message.timeout.ms: '5' } }", "given up" },
    { "transactional id", "kafka: { properties: { transactional.id: x } }", "exactly-once" },
    { "transaction timeout", "kafka: { properties: { transaction.timeout.ms: '5' } }",
      "exactly-once" },
    { "isolation", "kafka: { properties: { isolation.level: read_committed } }", "exactly-once" },
    { "reports", "kafka: { properties: { delivery.report.only.error: 'true' } }", "cursor" },
    { "queue", "kafka: { properties: { queue.buffering.max.ms: '5' } }", "in_flight" },
    { "message size", "kafka: { properties: { message.max.bytes: '5000' } }", "body limits" },
    { "batch size", "kafka: { properties: { batch.size: '5' } }", "max.message.bytes" },
    { "gapless", "kafka: { properties: { enable.gapless.guarantee: 'true' } }", "poison" },
    { "no room for a dead letter", "kafka: { brokers: b }\ndead_bytes: 64KiB", "dead_bytes" },
    { "no such property", "kafka: { properties: { no.such: '5' } }", "no.such" },
};

static const struct template_row {
    const char *name, *text, *raw, *safe;
} templates[] = {
    { "plain", "a.b", "a.b", "a.b" },
    { "all", "{source}/{type}/{subject}/{id}", "s/t:x/sub ject/i", "s/t_x/sub_ject/i" },
    { "literal braces", "x:{{tag}}:{source}", "x:{tag}:s", "x:{tag}:s" },
    { "twice", "{source}{source}", "ss", "ss" },
};

static void template(void **state)
{
    const struct template_row *r = *state;
    const struct record rec = { .source = S("s"), .type = S("t:x"), .subject = S("sub ject") };
    struct buf b = BUF_INIT;
    const char *why;

    assert_true(template_good(r->text, &why));
    template_write(r->text, &rec, S("i"), false, &b);
    assert_string_equal(buf_cstr(&b), r->raw);
    b.n = 0;
    template_write(r->text, &rec, S("i"), true, &b);
    assert_string_equal(buf_cstr(&b), r->safe);
    buf_free(&b);
}

static const struct error_row {
    const char *name, *text;
    int kind;
} errors[] = {
    { "loading", "LOADING Redis is loading the dataset in memory", REDIS_PASSES },
    { "busy", "BUSY Redis is busy running a script.", REDIS_PASSES },
    { "another word that starts so", "BUSYGROUP Consumer Group name already exists", REDIS_BLOCKS },
    { "masterdown", "MASTERDOWN Link with MASTER is down", REDIS_PASSES },
    { "clients", "ERR max number of clients reached", REDIS_PASSES },
    { "oom", "OOM command not allowed when used memory > 'maxmemory'.", REDIS_BLOCKS },
    { "readonly", "READONLY You can't write against a read only replica.", REDIS_BLOCKS },
    { "misconf", "MISCONF Errors writing to the AOF file: No space left", REDIS_BLOCKS },
    { "noreplicas", "NOREPLICAS Not enough good replicas to write.", REDIS_BLOCKS },
    { "noperm, command", "NOPERM this user has no permissions to run the 'xadd' command",
      REDIS_BLOCKS },
    { "noperm, key",
      "NOPERM this user has no permissions to access one of the keys used as arguments",
      REDIS_KEY },
    { "noperm, key, Redis 8", "NOPERM No permissions to access a key", REDIS_KEY },
    { "wrongtype", "WRONGTYPE Operation against a key", REDIS_KEY },
    { "too long", "ERR Protocol error: invalid bulk length", REDIS_POISONS },
    { "unknown", "WHATEVER it is", REDIS_BLOCKS },
    { "empty", "", REDIS_BLOCKS },
};

static void error(void **state)
{
    const struct error_row *r = *state;

    assert_int_equal(redis_error_of(r->text)->kind, r->kind);
}

/* The same texts as printf and clock_text make, also where the second is remembered. */
static void texts(void **state UNUSED)
{
    static const int64_t times[] = { 0,
                                     7,
                                     999,
                                     1000,
                                     1999,
                                     1700000000000,
                                     1700000000007,
                                     1700000000999,
                                     1700000001000,
                                     1700000000042 };
    static const uint64_t numbers[] = { 0, 9, 10, 1234567890, UINT64_MAX };
    char want[CLOCK_TEXT_MAX], number[NUMBER_MAX];
    struct sink_time time = { 0 };

    for (size_t i = 0; i < ARRAY_LEN(times); i++)
        assert_true(span_eq(sink_time_text(&time, times[i]), span_str(clock_text(times[i], want))));
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        char printed[24];
        snprintf(printed, sizeof printed, "%llu", (unsigned long long)numbers[i]);
        assert_true(span_eq(sink_number_text(numbers[i], number), span_str(printed)));
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = { cmocka_unit_test(texts) };

    return T_TABLE(confs, conf) + T_TABLE(templates, template) + T_TABLE(errors, error) +
           T_RUN(tests);
}
