/* SPDX-License-Identifier: Apache-2.0 */
/* CloudEvents in binary mode for HTTP: attributes as ce- headers, the body as it came.
 *
 * Ids, types and subjects come from outside and may hold any byte; a header may not. What is not
 * printable ASCII, and the quote, the blank and the percent sign, is percent-encoded, as the HTTP
 * binding of CloudEvents says. */
#include "http_sink.h"

static void add(struct buf *out, struct span name, struct span value)
{
    static const char digits[] = "0123456789ABCDEF";

    buf_span(out, name);
    buf_addc(out, ':');
    for (size_t i = 0; i < value.n; i++) {
        unsigned char c = (unsigned char)value.p[i];
        if (c > ' ' && c <= '~' && c != '"' && c != '%') {
            buf_addc(out, (char)c);
            continue;
        }
        buf_addc(out, '%');
        buf_addc(out, digits[c >> 4]);
        buf_addc(out, digits[c & 15]);
    }
    buf_addc(out, '\n');
}

static void add_attributes(const struct record *rec, const char *logid, struct buf *out)
{
    char made[RECORD_ID_MAX], lsn[NUMBER_MAX], time[CLOCK_TEXT_MAX];

    add(out, S("ce-specversion"), S("1.0"));
    add(out, S("ce-id"), record_id(rec, logid, made));
    add(out, S("ce-source"), rec->source);
    add(out, S("ce-type"), rec->type);
    add(out, S("ce-time"), span_str(clock_text(rec->time_ms, time)));
    if (rec->subject.n)
        add(out, S("ce-subject"), rec->subject);
    add(out, S("ce-lsn"), sink_number_text(rec->lsn, lsn));
    add(out, S("ce-logid"), span_str(logid));
}

void sink_http_headers(const struct record *rec, const char *logid, bool is_signed, struct buf *out)
{
    struct span at = rec->headers, name, value;

    if (!sink_is_structured(rec->content_type))
        add_attributes(rec, logid, out);
    if (rec->replay.n)
        add(out, S("ce-replay"), rec->replay);
    if (rec->transformed)
        add(out, S("ce-transformed"), S("true"));
    if (rec->content_type.n) {
        buf_adds(out, "content-type:");
        buf_span(out, rec->content_type);
        buf_addc(out, '\n');
    }
    while (record_next_header(&at, &name, &value)) {
        /* ours say it, and nobody else may */
        if (span_ieq(name, S("content-type")) || span_starts(name, S("ce-")) ||
            (is_signed && span_starts(name, S("webhook-"))))
            continue;
        buf_span(out, name);
        buf_addc(out, ':');
        buf_span(out, value);
        buf_addc(out, '\n');
    }
}
