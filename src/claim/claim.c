/* SPDX-License-Identifier: Apache-2.0 */
/* What the replicas say to each other through a key for each delivery:
 *
 *   p:LOGID:TOKEN    one of them is about to log it; lives pending_ms
 *   s:LOGID:LSN:CRC  it is durable there, and its sender waits for the sinks (`ack: broker`)
 *   d:LOGID:LSN:CRC  done; lives dedup.window
 *
 * SET NX and GET go out together, and what GET says decides: our token is a claim that was won.
 * What this very log has under way or stored is for its own index to judge, which knows better. Of
 * another's, only `d` is a reason to tell the sender that all is well: `p` may end in a crash, and
 * `s` in the loss of a volume before anything was published; the sender's next attempt finds out.
 *
 * The key is a hash of source, id and type with their lengths before them: nothing in a request can
 * make it another's, and its size is fixed. Every answer that a key can hold leaves the event
 * either refused with a 503 or logged by some replica; a value that nobody here wrote is no reason
 * to drop an event. */
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "crc32c.h"
#include "crypto.h"
#include "log.h"
#include "room.h"

/* After it the repeat of an event whose replica is gone is taken for new. */
#define STORED_MS 3600000
#define KEY_MAX 48
#define VALUE_MAX 96

static void make_key(struct claims *cs, const struct record *rec, uint8_t key[16])
{
    const struct span parts[] = { rec->source, rec->id, rec->type };
    uint8_t hash[CRYPTO_HASH_MAX];
    struct buf *b = &cs->text;

    b->n = 0;
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        buf_u64(b, parts[i].n);
        buf_addc(b, ':');
        buf_span(b, parts[i]);
    }
    crypto_hash(CRYPTO_SHA256, buf_as_span(b), hash);
    memcpy(key, hash, 16);
}

static struct span key_text(const uint8_t key[16], char out[KEY_MAX])
{
    struct buf b = { out, 0, KEY_MAX };

    buf_adds(&b, "hookline:dedup:");
    buf_hex(&b, span_of(key, 16));
    return buf_as_span(&b);
}

static struct span pending_text(const struct claims *cs, uint64_t number, char out[VALUE_MAX])
{
    int n = snprintf(out, VALUE_MAX, "p:%s:%s-%llu", cs->logid, cs->instance,
                     (unsigned long long)number);

    return span_of(out, (size_t)n);
}

static struct span number_text(int64_t v, char out[24])
{
    return span_of(out, (size_t)snprintf(out, 24, "%lld", (long long)v));
}

/* --- asking
 * --------------------------------------------------------------------------------------- */

bool claims_ask(struct claims *cs, struct claim *c, const struct record *rec)
{
    char key[KEY_MAX], value[VALUE_MAX], life[24];
    struct span k;

    if (!link_ready(cs)) {
        counter_add(&cs->missed_claims, 1);
        return false;
    }
    make_key(cs, rec, c->key);
    c->body_crc = crc32c(0, rec->body.p, rec->body.n);
    c->number = ++cs->number;
    k = key_text(c->key, key);
    link_send(cs, COMMAND_TRY, NULL,
              (struct span[]){ S("SET"), k, pending_text(cs, c->number, value), S("NX"), S("PX"),
                               number_text(cs->times.pending_ms, life) },
              6);
    link_send(cs, COMMAND_LOOK, c, (struct span[]){ S("GET"), k }, 2);
    return true;
}

void claims_cancel(struct claims *cs, struct claim *c)
{
    cs->ring[c->seq % cs->ring_cap].claim = NULL;
    c->held = true; /* perhaps: claims_drop compares */
}

/* Only what is still exactly ours. A user without the right to EVAL waits for the end of its life.
 */
void claims_drop(struct claims *cs, const struct claim *c)
{
    static const char script[] = "if redis.call('GET',KEYS[1])==ARGV[1] then return "
                                 "redis.call('DEL',KEYS[1]) end return 0";
    char key[KEY_MAX], value[VALUE_MAX];

    if (!c->held || !link_ready(cs))
        return;
    link_send(cs, COMMAND_DROP, NULL,
              (struct span[]){ S("EVAL"), S(script), S("1"), key_text(c->key, key),
                               pending_text(cs, c->number, value) },
              5);
}

void claims_mark(struct claims *cs, const struct record *rec, uint64_t lsn, enum claim_state state)
{
    bool done = state == CLAIM_IS_DONE;
    char text[KEY_MAX], value[VALUE_MAX], life[24];
    uint8_t key[16];
    int n;

    if (!link_ready(cs)) {
        counter_add(&cs->missed_marks, 1);
        return;
    }
    make_key(cs, rec, key);
    n = snprintf(value, sizeof value, "%c:%s:%llu:%08x", done ? 'd' : 's', cs->logid,
                 (unsigned long long)lsn, crc32c(0, rec->body.p, rec->body.n));
    link_send(cs, COMMAND_MARK, NULL,
              (struct span[]){ S("SET"), key_text(key, text), span_of(value, (size_t)n), S("PX"),
                               number_text(done ? cs->times.window_ms
                                                : MIN(cs->times.window_ms, (int64_t)STORED_MS),
                                           life) },
              5);
}

/* --- answers
 * -------------------------------------------------------------------------------------- */

static bool hex32(struct span s, uint32_t *out)
{
    uint8_t b[4];

    if (s.n != 8 || crypto_from_hex(s, b, sizeof b) != 4)
        return false;
    *out = (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
    return true;
}

/* What a value means for c; false: nobody here wrote it. */
static bool judge(const struct claims *cs, struct claim *c, struct span value)
{
    char mine[VALUE_MAX];
    struct span rest = value, kind = span_cut(&rest, ':'), log = span_cut(&rest, ':'), lsn;
    bool own = span_eq(log, span_str(cs->logid));
    uint32_t crc;

    c->answer = CLAIM_OURS;
    if (kind.n != 1 || !log.n || !rest.n)
        return false;
    switch (kind.p[0]) {
    case 'p':
        c->held = span_eq(value, pending_text(cs, c->number, mine));
        c->answer = own ? CLAIM_OURS : CLAIM_ELSEWHERE;
        return true;
    case 's':
        c->answer = own ? CLAIM_OURS : CLAIM_ELSEWHERE;
        return true;
    case 'd':
        lsn = span_cut(&rest, ':');
        if (!span_u64(lsn, &c->lsn) || !hex32(rest, &crc))
            return false;
        c->answer = CLAIM_DONE;
        c->other_body = crc != c->body_crc;
        return true;
    default:
        return false;
    }
}

static void look(struct claims *cs, struct claim *c, const redisReply *reply)
{
    static struct log_limit limit;
    uint64_t left_out;

    c->answer = CLAIM_OURS;
    if (reply->type == REDIS_REPLY_NIL) { /* another's claim ended between the two commands */
        counter_add(&cs->missed_claims, 1);
    } else if (reply->type != REDIS_REPLY_STRING ||
               !judge(cs, c, span_of(reply->str, reply->len))) {
        counter_add(&cs->missed_claims, 1);
        if (log_limit_pass(&limit, &left_out))
            log_warn("a key of dedup.redis holds something else", KU("left_out", left_out));
    }
    cs->attempt = 0;
    c->answered(c, cs->arg);
}

static void ready(struct claims *cs)
{
    cs->phase = LINK_UP;
    pthread_mutex_lock(&cs->lock);
    cs->reason[0] = '\0';
    pthread_mutex_unlock(&cs->lock);
    if (cs->attempt)
        log_info("dedup.redis can be asked again");
    atomic_store(&cs->up, true);
}

bool claims_on_reply(struct claims *cs, const struct command *cmd, const redisReply *reply)
{
    bool error = reply->type == REDIS_REPLY_ERROR;

    if (cmd->kind == COMMAND_READY && (!error || span_starts(span_str(reply->str), S("NOPERM")))) {
        ready(cs); /* who may not PING is known by now, and the server alive */
        return true;
    }
    if (error && cmd->kind == COMMAND_LOOK && span_starts(span_str(reply->str), S("WRONGTYPE")))
        error = false; /* about that key alone */
    if (error && cmd->kind != COMMAND_DROP && cmd->kind != COMMAND_PING) {
        claims_on_void(cs, cmd);
        link_down(cs, reply->str);
        return false;
    }
    if (cmd->kind == COMMAND_LOOK && cmd->claim)
        look(cs, cmd->claim, reply);
    return cs->phase != LINK_DOWN;
}

void claims_on_void(struct claims *cs, const struct command *cmd)
{
    if (cmd->kind == COMMAND_MARK)
        counter_add(&cs->missed_marks, 1);
    if (cmd->kind != COMMAND_LOOK || !cmd->claim)
        return;
    counter_add(&cs->missed_claims, 1);
    cmd->claim->answer = CLAIM_OURS;
    cmd->claim->answered(cmd->claim, cs->arg);
}

/* --- life
 * ---------------------------------------------------------------------------------------- */

struct claims *claims_new(struct event_base *base, const struct claim_cfg *cfg, const char *logid,
                          const struct claim_times *times, void *arg)
{
    struct claims *cs = xcalloc(1, sizeof *cs);
    uint8_t random[8];
    struct buf hex = { cs->instance, 0, sizeof cs->instance };

    cs->base = base;
    cs->cfg = cfg;
    cs->arg = arg;
    snprintf(cs->logid, sizeof cs->logid, "%s", logid);
    crypto_random(random, sizeof random);
    buf_hex(&hex, span_of(random, sizeof random));
    pthread_mutex_init(&cs->lock, NULL);
    claims_configure(cs, times);
    if (!sink_endpoint(cfg->redis, &cs->at))
        die(EXIT_BAD_CONFIG, "dedup.redis: %s", cfg->redis);
    link_open(cs);
    return cs;
}

void claims_free(struct claims *cs)
{
    if (!cs)
        return;
    link_close(cs);
    sink_endpoint_free(&cs->at);
    pthread_mutex_destroy(&cs->lock);
    buf_free(&cs->text);
    free(cs);
}

void claims_configure(struct claims *cs, const struct claim_times *times)
{
    cs->times = *times;
    cs->times.window_ms = MAX(times->window_ms, 1);
}

size_t claims_in_flight(const struct claims *cs)
{
    return cs->ring_n;
}

void claims_report(const struct claims *cs, struct claims_report *out)
{
    pthread_mutex_t *lock = (pthread_mutex_t *)(uintptr_t)&cs->lock;

    out->up = atomic_load(&cs->up);
    out->missed_claims = counter_get(&cs->missed_claims);
    out->missed_marks = counter_get(&cs->missed_marks);
    pthread_mutex_lock(lock);
    memcpy(out->reason, cs->reason, sizeof out->reason);
    pthread_mutex_unlock(lock);
}
