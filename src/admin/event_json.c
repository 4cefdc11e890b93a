/* SPDX-License-Identifier: Apache-2.0 */
/* An event in the CloudEvents 1.0 JSON format. The body goes in as it is when it is one valid JSON
 * text and says so, else as base64: it is never parsed into a tree and written again (P5). */
#include "admin.h"
#include "clock.h"
#include "json.h"
#include "room.h"
#include "trace.h"

static void attribute(struct buf *out, const char *name, struct span value)
{
    buf_printf(out, ",\"%s\":", name);
    buf_json_string(out, value);
}

/* application/json, anything/...+json, with or without parameters. */
static bool says_json(struct span type)
{
    struct span rest = type, media = span_trim(span_cut(&rest, ';'));

    return span_ieq(media, S("application/json")) || span_ieq(media, S("text/json")) ||
           (media.n > 5 && span_ieq(span_of(media.p + media.n - 5, 5), S("+json")));
}

/* Without the brace at the end. */
static void attributes(struct buf *out, const struct record *rec, const char *logid)
{
    char made[RECORD_ID_MAX], time[CLOCK_TEXT_MAX], lsn[24];
    struct span trace = trace_of(rec, NULL);
    struct buf number = { lsn, 0, sizeof lsn };

    buf_printf(&number, "%llu", (unsigned long long)rec->lsn);
    buf_adds(out, "{\"specversion\":\"1.0\"");
    attribute(out, "id", record_id(rec, logid, made));
    attribute(out, "source", rec->source);
    attribute(out, "type", rec->type);
    if (rec->subject.n)
        attribute(out, "subject", rec->subject);
    attribute(out, "time", span_str(clock_text(rec->time_ms, time)));
    if (rec->content_type.n)
        attribute(out, "datacontenttype", rec->content_type);
    attribute(out, "lsn", buf_as_span(&number));
    attribute(out, "logid", span_str(logid));
    if (trace.n)
        attribute(out, "traceparent", trace);
}

void admin_event_json(struct buf *out, const struct record *rec, const char *logid)
{
    attributes(out, rec, logid);
    if (says_json(rec->content_type) && json_valid(rec->body)) {
        buf_adds(out, ",\"data\":");
        buf_span(out, rec->body);
    } else {
        buf_adds(out, ",\"data_base64\":\"");
        buf_base64(out, rec->body);
        buf_addc(out, '"');
    }
    buf_addc(out, '}');
}

void admin_event_brief(struct buf *out, const struct record *rec, const char *logid)
{
    attributes(out, rec, logid);
    buf_printf(out, ",\"bytes\":%zu}", rec->body.n);
}

void admin_event_view(struct buf *out, const struct record *rec, const char *logid, bool bodies)
{
    struct span at = rec->headers, name, value;
    bool first = true;

    buf_adds(out, "{\"event\":");
    admin_event_brief(out, rec, logid);
    if (!bodies) {
        buf_adds(out, ",\"hidden\":true}\n");
        return;
    }
    buf_adds(out, ",\"headers\":[");
    while (record_next_header(&at, &name, &value)) {
        buf_adds(out, first ? "[" : ",[");
        buf_json_string(out, name);
        buf_addc(out, ',');
        buf_json_string(out, value);
        buf_addc(out, ']');
        first = false;
    }
    buf_adds(out, "],\"body_base64\":\"");
    buf_base64(out, rec->body);
    buf_adds(out, "\"}\n");
}
