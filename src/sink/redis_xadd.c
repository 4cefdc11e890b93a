/* SPDX-License-Identifier: Apache-2.0 */
/* XADD as bytes, straight into the output buffer: hiredis' formatter would allocate and copy each
 * command twice, which at hundreds of thousands a second is most of the work. Pure. */
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "room.h"
#include "trace.h"

void redis_bulk(struct buf *b, struct span s)
{
    char digits[NUMBER_MAX], *p;
    struct span n = sink_number_text(s.n, digits);

    buf_reserve(b, 1 + n.n + 2 + s.n + 2);
    p = b->p + b->n;
    *p++ = '$';
    p = mempcpy(p, n.p, n.n);
    p = mempcpy(p, "\r\n", 2);
    p = s.n ? mempcpy(p, s.p, s.n) : p;
    p = mempcpy(p, "\r\n", 2);
    b->n = (size_t)(p - b->p);
}

/* name: as it stands on the wire */
static void pair(struct buf *b, struct span name, struct span value)
{
    buf_span(b, name);
    redis_bulk(b, value);
}

static size_t list_headers(struct redis_xadd *x, struct span at)
{
    struct span name, value;
    size_t n = 0;

    while (record_next_header(&at, &name, &value)) {
        if (n == x->headers_cap) {
            x->headers_cap = x->headers_cap ? 2 * x->headers_cap : 16;
            x->headers = xrealloc(x->headers, x->headers_cap * sizeof *x->headers);
        }
        x->headers[n++] = (struct redis_header){ name, value };
    }
    return n;
}

/* All values of the header at i; of each name the first is asked for. */
static struct span joined(struct redis_xadd *x, size_t i, size_t n)
{
    struct redis_header *h = x->headers;
    bool again = false;

    for (size_t j = i + 1; j < n; j++) {
        if (!span_eq(h[j].name, h[i].name))
            continue;
        if (!again) {
            x->value.n = 0;
            buf_span(&x->value, h[i].value);
        }
        again = true;
        buf_adds(&x->value, ", ");
        buf_span(&x->value, h[j].value);
    }
    return again ? buf_as_span(&x->value) : h[i].value;
}

static bool seen_before(const struct redis_header *h, size_t i)
{
    for (size_t j = 0; j < i; j++)
        if (span_eq(h[j].name, h[i].name))
            return true;
    return false;
}

/* One member a name: repeated headers are joined by commas, as RFC 9110 lets anybody do. */
static void headers_json(struct redis_xadd *x, const struct record *rec)
{
    size_t n = list_headers(x, rec->headers);

    x->json.n = 0;
    buf_addc(&x->json, '{');
    for (size_t i = 0; i < n; i++) {
        if (seen_before(x->headers, i))
            continue;
        if (i)
            buf_addc(&x->json, ',');
        buf_json_string(&x->json, x->headers[i].name);
        buf_addc(&x->json, ':');
        buf_json_string(&x->json, joined(x, i, n));
    }
    buf_addc(&x->json, '}');
}

void redis_trim_value(const struct sink_trim *trim, char *out, size_t n)
{
    out[0] = '\0';
    if (trim->maxlen)
        snprintf(out, n, "%lld", (long long)trim->maxlen);
    else if (trim->maxage_ms)
        snprintf(out, n, "%lld", (long long)(clock_wall_ms() - trim->maxage_ms));
}

static void put_trim(const struct sink_trim *trim, struct buf *out)
{
    char n[24];

    redis_trim_value(trim, n, sizeof n);
    if (!n[0])
        return;
    redis_bulk(out, trim->maxlen ? S("MAXLEN") : S("MINID"));
    redis_bulk(out, S("~"));
    redis_bulk(out, span_str(n));
}

struct span redis_xadd_stream(struct redis_xadd *x, const struct record *rec)
{
    char made[RECORD_ID_MAX];

    x->stream.n = 0;
    template_write(x->cfg->stream, rec, record_id(rec, x->logid, made), false, &x->stream);
    return buf_as_span(&x->stream);
}

void redis_xadd(struct redis_xadd *x, struct span stream, const struct record *rec, struct buf *out)
{
    bool trim = x->cfg->trim.maxlen || x->cfg->trim.maxage_ms;
    struct span trace = trace_of(rec, NULL);
    int words = 23 + 3 * trim + 2 * (rec->replay.n > 0) + 2 * (trace.n > 0) + 2 * rec->transformed;
    char made[RECORD_ID_MAX], lsn[NUMBER_MAX];

    headers_json(x, rec);
    buf_addc(out, '*');
    buf_u64(out, (uint64_t)words);
    buf_adds(out, "\r\n$4\r\nXADD\r\n");
    redis_bulk(out, stream);
    put_trim(&x->cfg->trim, out);
    redis_bulk(out, S("*"));
    pair(out, S("$2\r\nid\r\n"), record_id(rec, x->logid, made));
    pair(out, S("$6\r\nsource\r\n"), rec->source);
    pair(out, S("$4\r\ntype\r\n"), rec->type);
    pair(out, S("$7\r\nsubject\r\n"), rec->subject);
    pair(out, S("$4\r\ntime\r\n"), sink_time_text(&x->time, rec->time_ms));
    pair(out, S("$12\r\ncontent_type\r\n"), rec->content_type);
    pair(out, S("$3\r\nlsn\r\n"), sink_number_text(rec->lsn, lsn));
    pair(out, S("$5\r\nlogid\r\n"), span_str(x->logid));
    pair(out, S("$7\r\nheaders\r\n"), buf_as_span(&x->json));
    if (trace.n)
        pair(out, S("$11\r\ntraceparent\r\n"), trace);
    if (rec->replay.n)
        pair(out, S("$6\r\nreplay\r\n"), rec->replay);
    if (rec->transformed)
        pair(out, S("$11\r\ntransformed\r\n"), S("true"));
    pair(out, S("$4\r\nbody\r\n"), rec->body);
}

/* In the order in which the script takes them. */
void redis_xadd_values(struct redis_xadd *x, const struct record *rec, struct buf *out)
{
    char made[RECORD_ID_MAX], number[NUMBER_MAX], crc[10];

    headers_json(x, rec);
    snprintf(crc, sizeof crc, "%08x%s", record_crc(rec), rec->transformed ? "t" : "");
    redis_bulk(out, sink_number_text(rec->lsn, number));
    redis_bulk(out, span_str(crc));
    redis_bulk(out, record_id(rec, x->logid, made));
    redis_bulk(out, rec->source);
    redis_bulk(out, rec->type);
    redis_bulk(out, rec->subject);
    redis_bulk(out, sink_time_text(&x->time, rec->time_ms));
    redis_bulk(out, rec->content_type);
    redis_bulk(out, buf_as_span(&x->json));
    redis_bulk(out, rec->body);
    redis_bulk(out, trace_of(rec, NULL));
}

void redis_xadd_free(struct redis_xadd *x)
{
    buf_free(&x->stream);
    buf_free(&x->json);
    buf_free(&x->value);
    free(x->headers);
}
