/* SPDX-License-Identifier: Apache-2.0 */
/* What runs on the server, and the calls of it.
 *
 * Beside each stream, in its slot, a hash `hookline:{<tag or stream>}:<logid>` keeps the mark of
 * each sink and stream: log id, epoch, LSN, CRC. The script appends what is newer than the mark and
 * moves it, so both are there or none. `prev` is the LSN that went to the stream before this call:
 * where the mark is below it a call before was refused, and nothing may be appended (GAP). The mark
 * is written once before the first XADD as well: what would refuse it refuses before anything was
 * appended, and an error of one record leaves the mark at the record before. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "crypto.h"
#include "redis.h"

#define APPEND_ARGS 7
#define RECORD_ARGS 11

#define FIELDS                                                                                     \
    "'*', 'id', a[i + 2], 'source', a[i + 3], 'type', a[i + 4], 'subject', a[i + 5],\n"            \
    "      'time', a[i + 6], 'content_type', a[i + 7], 'lsn', a[i], 'logid', id,\n"                \
    "      'headers', a[i + 8]"

/* Both %s: the trimming, as arguments of XADD. A CRC with a letter behind its eight digits is that
 * of a transformed record. A record that is neither transformed nor traced, as most are, costs no
 * table of its own. */
static const char append[] =
    "local mark = redis.call('HGET', KEYS[2], ARGV[1])\n"
    "if not mark then return {'NONE'} end\n"
    "local id, epoch, lsn, crc = string.match(mark, '^(%%S+) (%%S+) (%%d+) (%%S+)$')\n"
    "if id ~= ARGV[2] or epoch ~= ARGV[3] then return {'OTHER', mark} end\n"
    "local at = tonumber(lsn)\n"
    "if at < tonumber(ARGV[4]) then return {'GAP', lsn} end\n"
    "redis.call('HSET', KEYS[2], ARGV[1], mark)\n"
    "local failed, why\n"
    "local a, xadd, stream = ARGV, redis.pcall, KEYS[1]\n"
    "for i = 8, #a, 11 do\n"
    "  if tonumber(a[i]) > at then\n"
    "    local r, sum, trace = nil, a[i + 1], a[i + 10]\n"
    "    if #sum == 8 and trace == '' then\n"
    "      r = xadd('XADD', stream, %s" FIELDS ", 'body', a[i + 9])\n"
    "    else\n"
    "      local more = {}\n"
    "      if trace ~= '' then more = {'traceparent', trace} end\n"
    "      if #sum > 8 then\n"
    "        sum = string.sub(sum, 1, 8)\n"
    "        more[#more + 1], more[#more + 2] = 'transformed', 'true'\n"
    "      end\n"
    "      more[#more + 1], more[#more + 2] = 'body', a[i + 9]\n"
    "      r = xadd('XADD', stream, %s" FIELDS ", unpack(more))\n"
    "    end\n"
    "    if type(r) == 'table' and r.err then failed, why = a[i], r.err break end\n"
    "    lsn, crc = a[i], sum\n"
    "  end\n"
    "end\n"
    "if not failed and ARGV[5] ~= '' and tonumber(ARGV[5]) > tonumber(lsn) then\n"
    "  lsn, crc = ARGV[5], ARGV[6]\n"
    "end\n"
    "redis.call('HSET', KEYS[2], ARGV[1], id .. ' ' .. epoch .. ' ' .. lsn .. ' ' .. crc)\n"
    "if failed then return {'ERROR', lsn, failed, why} end\n"
    "return lsn\n";

/* Compare and set: the new mark where the expected one stands, and what stands there then. */
static const char claim[] = "local mark = redis.call('HGET', KEYS[1], ARGV[1]) or ''\n"
                            "if mark ~= ARGV[2] then return mark end\n"
                            "redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])\n"
                            "return ARGV[3]\n";

/* What every group has had and confirmed goes; without a group nothing does. */
static const char trim[] =
    "local function parts(id)\n"
    "  local ms, seq = string.match(id, '^(%d+)-(%d+)$')\n"
    "  return tonumber(ms), tonumber(seq)\n"
    "end\n"
    "if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end\n"
    "local least, ms, seq\n"
    "for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do\n"
    "  local info = {}\n"
    "  for i = 1, #group, 2 do info[group[i]] = group[i + 1] end\n"
    "  local needs = info['last-delivered-id']\n"
    "  if info['pending'] > 0 then\n"
    "    needs = redis.call('XPENDING', KEYS[1], info['name'])[2] or needs\n"
    "  end\n"
    "  local m, s = parts(needs)\n"
    "  if not least or m < ms or (m == ms and s < seq) then least, ms, seq = needs, m, s end\n"
    "end\n"
    "if not least then return 0 end\n"
    "return redis.call('XTRIM', KEYS[1], 'MINID', '~', least)\n";

static void make(struct redis_script *s, char *text)
{
    uint8_t digest[CRYPTO_HASH_MAX];
    struct buf hex = BUF_INIT;

    s->text = text;
    crypto_hash(CRYPTO_SHA1, span_str(text), digest);
    buf_hex(&hex, span_of(digest, 20));
    snprintf(s->sha, sizeof s->sha, "%s", buf_cstr(&hex));
    buf_free(&hex);
}

void redis_scripts_make(struct redis *r)
{
    const char *trimming = r->cfg->trim.maxlen      ? "'MAXLEN', '~', ARGV[7], "
                           : r->cfg->trim.maxage_ms ? "'MINID', '~', ARGV[7], "
                                                    : "";

    make(&r->scripts[REDIS_APPEND], xasprintf(append, trimming, trimming));
    make(&r->scripts[REDIS_CLAIM], xstrdup(claim));
    make(&r->scripts[REDIS_TRIM], xstrdup(trim));
}

void redis_scripts_free(struct redis *r)
{
    for (size_t i = 0; i < REDIS_SCRIPTS; i++)
        free(r->scripts[i].text);
}

/* Those that this sink will call. */
void redis_scripts_load(struct redis_link *l)
{
    const struct redis *r = l->r;

    for (size_t i = 0; i < REDIS_SCRIPTS; i++) {
        const struct span argv[] = { S("SCRIPT"), S("LOAD"), span_str(r->scripts[i].text) };
        if (i == REDIS_TRIM ? r->cfg->trim.consumed : r->epoch != 0)
            redis_link_ask(l, (struct redis_asked){ REDIS_ASKED_LOAD }, argv, ARRAY_LEN(argv));
    }
}

/* --- calls
 * -------------------------------------------------------------------------------------------- */

/* The keys and argc arguments follow. */
static void call(struct redis_link *l, int script, size_t keys, size_t argc)
{
    char digits[NUMBER_MAX];

    buf_printf(&l->out, "*%zu\r\n$7\r\nEVALSHA\r\n", 3 + keys + argc);
    redis_bulk(&l->out, span_of(l->r->scripts[script].sha, 40));
    redis_bulk(&l->out, sink_number_text(keys, digits));
}

static void put_number(struct buf *out, uint64_t v)
{
    char digits[NUMBER_MAX];

    redis_bulk(out, sink_number_text(v, digits));
}

/* Records as redis_xadd_values() writes them; reach: a mark to move to without a record, or NULL.
 */
size_t redis_call_append(struct redis_link *l, const struct redis_stream *s,
                         const struct sink_mark *reach, struct span records, size_t n)
{
    struct redis *r = l->r;
    size_t before;
    char text[32] = "";

    redis_asking(l, s);
    before = l->out.n;
    call(l, REDIS_APPEND, 2, APPEND_ARGS + n * RECORD_ARGS);
    redis_bulk(&l->out, buf_as_span(&s->name));
    redis_bulk(&l->out, buf_as_span(&s->key));
    redis_bulk(&l->out, buf_as_span(&s->field));
    redis_bulk(&l->out, span_str(r->xadd.logid));
    snprintf(text, sizeof text, "%016" PRIx64, r->epoch);
    redis_bulk(&l->out, span_str(text));
    put_number(&l->out, s->sent);
    if (reach) {
        put_number(&l->out, reach->lsn);
        snprintf(text, sizeof text, "%08" PRIx32, reach->crc);
        redis_bulk(&l->out, span_str(text));
    } else {
        buf_adds(&l->out, "$0\r\n\r\n$0\r\n\r\n");
    }
    redis_trim_value(&r->cfg->trim, text, sizeof text);
    redis_bulk(&l->out, span_str(text));
    buf_span(&l->out, records);
    return l->out.n - before;
}

void redis_call_claim(struct redis_link *l, struct redis_stream *s)
{
    redis_asking(l, s);
    call(l, REDIS_CLAIM, 1, 3);
    redis_bulk(&l->out, buf_as_span(&s->key));
    redis_bulk(&l->out, buf_as_span(&s->field));
    redis_bulk(&l->out, span_str(s->expected));
    redis_bulk(&l->out, span_str(s->wanted));
    redis_link_push(l, (struct redis_asked){ .what = REDIS_ASKED_CLAIM, .stream = s });
}

void redis_call_trim(struct redis_link *l, struct redis_stream *s)
{
    redis_asking(l, s);
    call(l, REDIS_TRIM, 1, 0);
    redis_bulk(&l->out, buf_as_span(&s->name));
    redis_link_push(l, (struct redis_asked){ .what = REDIS_ASKED_TRIM, .stream = s });
}

/* --- marks
 * -------------------------------------------------------------------------------------------- */

char *redis_mark_text(const struct sink_mark *mark, uint64_t epoch)
{
    return xasprintf("%s %016" PRIx64 " %" PRIu64 " %08" PRIx32, mark->logid, epoch, mark->lsn,
                     mark->crc);
}

bool redis_mark_parse(const char *text, struct sink_mark *out)
{
    char end;

    *out = (struct sink_mark){ .lsn = 0 };
    return sscanf(text, "%36s %16" SCNx64 " %20" SCNu64 " %8" SCNx32 "%c", out->logid, &out->epoch,
                  &out->lsn, &out->crc, &end) == 4;
}
