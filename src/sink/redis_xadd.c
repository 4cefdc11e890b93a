/* SPDX-License-Identifier: Apache-2.0 */
/* XADD as bytes, straight into the output buffer: hiredis' formatter would allocate and copy each
 * command twice, which at hundreds of thousands a second is most of the work. Pure. */
#include <stdio.h>

#include "clock.h"
#include "room.h"

static void bulk(struct buf *b, struct span s)
{
    char head[32];
    size_t at = sizeof head, n = s.n;

    head[--at] = '\n';
    head[--at] = '\r';
    do
        head[--at] = (char)('0' + n % 10);
    while (n /= 10);
    head[--at] = '$';
    buf_reserve(b, sizeof head + s.n + 2);
    buf_add(b, head + at, sizeof head - at);
    buf_add(b, s.p, s.n);
    buf_add(b, "\r\n", 2);
}

static void pair(struct buf *b, struct span name, struct span value)
{
    bulk(b, name);
    bulk(b, value);
}

/* Another header of that name stands before this one. */
static bool seen_before(struct span headers, const char *until, struct span wanted)
{
    struct span name, value;

    while (record_next_header(&headers, &name, &value) && name.p < until)
        if (span_eq(name, wanted))
            return true;
    return false;
}

/* One member a name: repeated headers are joined by commas, as RFC 9110 lets anybody do. */
static void headers_json(struct redis_xadd *x, const struct record *rec)
{
    struct span at = rec->headers, rest, name, value, other, more;
    const char *sep = "";

    x->json.n = 0;
    buf_addc(&x->json, '{');
    while (record_next_header(&at, &name, &value)) {
        if (seen_before(rec->headers, name.p, name))
            continue;
        x->value.n = 0;
        buf_span(&x->value, value);
        for (rest = at; record_next_header(&rest, &other, &more);)
            if (span_eq(other, name)) {
                buf_adds(&x->value, ", ");
                buf_span(&x->value, more);
            }
        buf_adds(&x->json, sep);
        buf_json_string(&x->json, name);
        buf_addc(&x->json, ':');
        buf_json_string(&x->json, buf_as_span(&x->value));
        sep = ",";
    }
    buf_addc(&x->json, '}');
}

static void put_trim(const struct sink_trim *trim, struct buf *out)
{
    char n[24];

    if (trim->maxlen) {
        snprintf(n, sizeof n, "%lld", (long long)trim->maxlen);
        bulk(out, S("MAXLEN"));
    } else if (trim->maxage_ms) {
        snprintf(n, sizeof n, "%lld", (long long)(clock_wall_ms() - trim->maxage_ms));
        bulk(out, S("MINID"));
    } else {
        return;
    }
    bulk(out, S("~"));
    bulk(out, span_str(n));
}

void redis_xadd(struct redis_xadd *x, const struct record *rec, struct buf *out)
{
    bool trim = x->cfg->trim.maxlen || x->cfg->trim.maxage_ms;
    char made[RECORD_ID_MAX], time[CLOCK_TEXT_MAX], lsn[24];
    struct span id = record_id(rec, x->logid, made);

    x->stream.n = 0;
    template_write(x->cfg->stream, rec, id, false, &x->stream);
    headers_json(x, rec);
    snprintf(lsn, sizeof lsn, "%llu", (unsigned long long)rec->lsn);
    buf_adds(out, trim ? "*26\r\n" : "*23\r\n");
    bulk(out, S("XADD"));
    bulk(out, buf_as_span(&x->stream));
    put_trim(&x->cfg->trim, out);
    bulk(out, S("*"));
    pair(out, S("id"), id);
    pair(out, S("source"), rec->source);
    pair(out, S("type"), rec->type);
    pair(out, S("subject"), rec->subject);
    pair(out, S("time"), span_str(clock_text(rec->time_ms, time)));
    pair(out, S("content_type"), rec->content_type);
    pair(out, S("lsn"), span_str(lsn));
    pair(out, S("logid"), span_str(x->logid));
    pair(out, S("headers"), buf_as_span(&x->json));
    pair(out, S("body"), rec->body);
}

void redis_xadd_free(struct redis_xadd *x)
{
    buf_free(&x->stream);
    buf_free(&x->json);
    buf_free(&x->value);
}
