/* SPDX-License-Identifier: Apache-2.0 */
/* What all sinks share: settings, filters, templates, back-off. */
#include <stdlib.h>
#include <string.h>

#include "crc32c.h"
#include "crypto.h"
#include "room.h"

static const char *const delivery_words[] = { "at-least-once", "exactly-once", NULL };

#define LETTER_BYTES KIB(64) /* of a dead letter beside its body, at most about */
#define F(m) offsetof(struct sink_cfg, m)

static const struct cfg_key transaction_keys[] = {
    { "interval", CFG_MSEC, 0, "50ms", 1, 5000,
      .help = "Under load one is committed so long after its first event; after a pause at once." },
    { "events", CFG_INT, sizeof(int64_t), "10000", 1, 1000000, .help = "Events in one, at most." },
    { "bytes", CFG_BYTES, 2 * sizeof(int64_t), "16MiB", (int64_t)KIB(64), (int64_t)GIB(1),
      .help = "The same in bytes." },
    { 0 }
};

static const struct cfg_key match_keys[] = {
    { "source", CFG_STR, 0, "*", .help = "Glob over the source's name." },
    { "type", CFG_STR, sizeof(char *), "*", .help = "Glob over the event's type." },
    { "jq", CFG_STR, 2 * sizeof(char *), "", .flags = CFG_RELOAD,
      .help = "A jq program over the body: where its first result is false or null, or it has "
              "none, the event is not for this sink. An error, also of a body that is not "
              "JSON, makes a dead letter." },
    { 0 }
};

static const struct cfg_key transform_keys[] = {
    { "jq", CFG_STR, 0, "", .flags = CFG_RELOAD,
      .help = "A jq program over the body: its first result, as compact JSON, is what this "
              "sink gets instead, marked as `ce_transformed`. No result, or an error, makes a "
              "dead letter." },
    { 0 }
};

static const struct cfg_key jq_keys[] = {
    { "timeout", CFG_MSEC, 0, "1s", 1, 5000, .flags = CFG_RELOAD,
      .help = "Processor time for one event; more makes a dead letter." },
    { "memory", CFG_BYTES, sizeof(int64_t), "256MiB", (int64_t)MIB(16), (int64_t)GIB(64),
      .flags = CFG_RELOAD,
      .help = "Memory for one event; more makes a dead letter. The parsed body counts, "
              "and takes many times its bytes." },
    { 0 }
};

const struct cfg_key *sink_cfg_keys(void)
{
    static const struct cfg_key in_flight[] = { { "events", CFG_INT, 0, "10000", 1, 1000000,
                                                  .help = "Sent and not yet confirmed, at most." },
                                                { "bytes", CFG_BYTES, sizeof(int64_t), "64MiB",
                                                  (int64_t)KIB(64), (int64_t)GIB(1),
                                                  .help = "The same in bytes." },
                                                { 0 } };
    static const struct cfg_key wait[] = {
        { "replicas", CFG_INT, offsetof(struct sink_wait, replicas), "0", 0, 100,
          .help = "So many have to confirm, by WAITAOF where the server has it and keeps an "
                  "append-only file, else by WAIT; 0: none." },
        { "timeout", CFG_MSEC, offsetof(struct sink_wait, timeout_ms), "1s", 1, 10000,
          .help = "How long one WAIT takes at most; it is asked again until they have." },
        { 0 }
    };
    static struct cfg_key keys[] = {
        { "kafka", CFG_OPTION, F(kafka), .sub_size = sizeof(struct sink_kafka_cfg),
          .help = "Publish to Apache Kafka." },
        { "redis", CFG_OPTION, F(redis), .sub_size = sizeof(struct sink_redis_cfg),
          .help = "Publish to Redis Streams." },
        { "http", CFG_OPTION, F(http), .sub_size = sizeof(struct sink_http_cfg),
          .help = "Forward to a URL: a POST with CloudEvents headers, signed." },
        { "delivery", CFG_ENUM, F(delivery), "at-least-once", .words = delivery_words,
          .help =
              "`at-least-once`, or `exactly-once`: no duplicate for a `read_committed` consumer "
              "or in a stream, whatever crashes." },
        { "match", CFG_SECTION, F(match), .sub = match_keys, .help = "Which events go here." },
        { "transform", CFG_SECTION, F(transform), .sub = transform_keys,
          .help = "What becomes of them; without it the body goes as it came." },
        { "jq", CFG_SECTION, F(jq), .sub = jq_keys, .help = "Bounds of both programs." },
        { "from", CFG_STR, F(from), "",
          .help = "Where a new sink starts: now, oldest, an LSN or a time; oldest for the first "
                  "sinks of a log, now for one added later." },
        { "in_flight", CFG_SECTION, F(in_flight), .sub = in_flight,
          .help = "Bounds of the window." },
        { "transaction", CFG_SECTION, F(transaction), .sub = transaction_keys,
          .help = "Kafka, exactly once: how much goes into one transaction." },
        { "backlog_bytes", CFG_BYTES, F(backlog_bytes), "0",
          .help = "This sink's own backlog quota; 0: only `log.backlog_bytes`." },
        { "wait", CFG_SECTION, F(wait), .sub = wait,
          .help = "Redis: the cursor passes only what replicas confirmed." },
        { "dead_bytes", CFG_BYTES, F(dead_bytes), "256MiB", 0, (int64_t)TIB(1),
          .help = "Dead letters that are kept, at most; when they are full the sink is blocked." },
        { 0 }
    };

    keys[0].sub = sink_kafka_keys();
    keys[1].sub = sink_redis_keys();
    keys[2].sub = sink_http_keys();
    return keys;
}

/* The line of the program that it says is wrong, or of the sink. */
static const struct cfg_node *program_at(const struct cfg_node *at, const char *why)
{
    const char *section = span_starts(span_str(why), S("transform.jq")) ? "transform" : "match";
    const struct cfg_node *n = cfg_find(cfg_find(at, section), "jq");

    return n ? n : at;
}

static void compile(const char *name, struct sink_cfg *cfg, const struct cfg_node *at,
                    uint64_t max_body, struct err_list *errs)
{
    const struct program_cfg program = { .match = cfg->match.jq,
                                         .transform = cfg->transform.jq,
                                         .timeout_ms = cfg->jq.timeout_ms,
                                         .memory_bytes = cfg->jq.memory_bytes };
    struct err e = ERR_INIT;

    if (!cfg->match.jq[0] && !cfg->transform.jq[0])
        return;
    if (program_new(&cfg->program, &program, (size_t)max_body, &e))
        cfg_error(errs, program_at(at, e.text), "sink %s: %s", name, e.text);
}

void sink_release(struct sink_cfg *cfg)
{
    program_release(cfg->program);
    cfg->program = NULL;
}

void sink_check(const char *name, struct sink_cfg *cfg, const struct cfg_node *at,
                uint64_t max_body, struct err_list *errs, struct err_list *warns)
{
    if (!!cfg->kafka + !!cfg->redis + !!cfg->http != 1)
        cfg_error(errs, at, "sink %s needs exactly one of kafka, redis and http", name);
    else if (cfg->delivery == SINK_EXACTLY_ONCE && !sink_type_of(cfg)->exactly_once)
        cfg_error(errs, at, "sink %s: %s sinks know at-least-once only", name,
                  sink_type_of(cfg)->name);
    if (cfg->kafka)
        sink_kafka_check(name, cfg->kafka, at, errs);
    if (cfg->redis)
        sink_redis_check(name, cfg->redis, at, errs);
    if (cfg->http)
        sink_http_check(name, cfg->http, at, errs, warns);
    if (!cfg->redis && cfg->wait.replicas)
        cfg_error(errs, at, "sink %s: wait is for redis%s", name,
                  cfg->kafka ? "; kafka has acks=all" : "");
    if (cfg->in_flight.bytes < max_body)
        cfg_error(errs, at, "sink %s: in_flight.bytes is smaller than the largest body (%llu)",
                  name, (unsigned long long)max_body);
    if (cfg->dead_bytes < max_body + LETTER_BYTES)
        cfg_error(errs, at, "sink %s: dead_bytes has no room for one body (%llu) and its headers",
                  name, (unsigned long long)max_body);
    compile(name, cfg, at, max_body, errs);
}

uint64_t sink_destination_hash(const struct sink_cfg *cfg)
{
    const char *parts[] = { cfg->kafka   ? cfg->kafka->brokers
                            : cfg->redis ? cfg->redis->url
                                         : cfg->http->url,
                            cfg->kafka   ? cfg->kafka->topic
                            : cfg->redis ? cfg->redis->stream
                                         : "" };
    uint8_t digest[CRYPTO_HASH_MAX];
    struct buf b = BUF_INIT;
    uint64_t v;

    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        buf_add(&b, parts[i], strlen(parts[i]) + 1);
    crypto_hash(CRYPTO_SHA256, buf_as_span(&b), digest);
    buf_free(&b);
    memcpy(&v, digest, sizeof v);
    return v;
}

/* A replay has as many of its own. */
uint32_t sink_files(const struct sink_cfg *cfg)
{
    return cfg->http ? 2 * (uint32_t)cfg->http->concurrency : 0;
}

bool sink_matches(const struct sink_cfg *cfg, struct span source, struct span type)
{
    return span_glob(span_str(cfg->match.source), source) &&
           span_glob(span_str(cfg->match.type), type);
}

const char *sink_state_name(enum sink_state s)
{
    static const char *const names[] = {
        [SINK_RUNNING] = "running", [SINK_RETRYING] = "retrying", [SINK_BLOCKED] = "blocked"
    };

    return names[s];
}

bool sink_is_structured(struct span content_type)
{
    return span_ieq(span_trim(span_cut(&content_type, ';')), S("application/cloudevents+json"));
}

int64_t backoff_ms(unsigned attempt)
{
    return backoff_within(attempt, 5000);
}

int64_t backoff_within(unsigned attempt, int64_t most_ms)
{
    int64_t most = MIN((int64_t)100 << MIN(attempt, 16u), most_ms);
    uint32_t r;

    crypto_random(&r, sizeof r);
    return most / 2 + (int64_t)(r % (uint64_t)(most / 2 + 1));
}

struct span sink_time_text(struct sink_time *t, int64_t ms)
{
    unsigned rest = (unsigned)(ms % 1000);

    if (ms < 1000 || ms / 1000 != t->second) {
        t->second = ms / 1000;
        return span_str(clock_text(ms, t->text));
    }
    t->text[20] = (char)('0' + rest / 100); /* 2026-11-24T12:00:00.000Z */
    t->text[21] = (char)('0' + rest / 10 % 10);
    t->text[22] = (char)('0' + rest % 10);
    return span_str(t->text);
}

struct span sink_number_text(uint64_t v, char out[NUMBER_MAX])
{
    size_t at = NUMBER_MAX;

    do
        out[--at] = (char)('0' + v % 10);
    while (v /= 10);
    return span_of(out + at, NUMBER_MAX - at);
}

/* --- templates
 * ------------------------------------------------------------------------------------- */

static const char *const names[] = { "{source}", "{type}", "{subject}", "{id}" };

static int name_at(const char *p)
{
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (!strncmp(p, names[i], strlen(names[i])))
            return (int)i;
    return -1;
}

bool template_good(const char *t, const char **why)
{
    for (const char *p = t; *p; p++) {
        if (p[0] == '{' && p[1] == '{') {
            const char *end = strstr(p, "}}");
            *why = "{{ without }}";
            if (!end)
                return false;
            p = end + 1;
        } else if (*p == '{') {
            int n = name_at(p);
            *why = "only {source}, {type}, {subject} and {id} are known";
            if (n < 0)
                return false;
            p += strlen(names[n]) - 1;
        }
    }
    *why = "it is empty";
    return t[0] != '\0';
}

bool template_by_content(const char *t)
{
    return strstr(t, "{type}") || strstr(t, "{subject}") || strstr(t, "{id}");
}

static void add_safe(struct buf *out, struct span s, bool safe)
{
    if (!safe) {
        buf_span(out, s);
        return;
    }
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        bool good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                    c == '.' || c == '_' || c == '-';
        buf_addc(out, good ? c : '_');
    }
}

void template_write(const char *t, const struct record *rec, struct span id, bool safe,
                    struct buf *out)
{
    const struct span values[] = { rec->source, rec->type, rec->subject, id };

    for (const char *p = t; *p; p++) {
        int n;
        if (p[0] == '{' && p[1] == '{') {
            const char *end = strstr(p, "}}");
            buf_add(out, p + 1, (size_t)(end - p));
            p = end + 1;
        } else if (*p == '{' && (n = name_at(p)) >= 0) {
            add_safe(out, values[n], safe);
            p += strlen(names[n]) - 1;
        } else {
            buf_addc(out, *p);
        }
    }
}
