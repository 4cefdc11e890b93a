/* SPDX-License-Identifier: Apache-2.0 */
/* The JSON form of OTLP 1: ids as lower-case hexadecimal, 64-bit numbers as strings, enums as
 * numbers. https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding */
#include <string.h>

#include "crypto.h"
#include "http.h"
#include "json.h"
#include "room.h"

/* Attributes follow each other behind a '['. */
static void key(struct buf *b, const char *name, const char *kind)
{
    buf_adds(b, b->p[b->n - 1] == '[' ? "{\"key\":\"" : ",{\"key\":\"");
    buf_adds(b, name);
    buf_adds(b, "\",\"value\":{\"");
    buf_adds(b, kind);
    buf_adds(b, "\":");
}

static void text(struct buf *b, const char *name, const char *value)
{
    if (!value || !value[0])
        return;
    key(b, name, "stringValue");
    buf_json_string(b, span_str(value));
    buf_adds(b, "}}");
}

static void number(struct buf *b, const char *name, uint64_t value)
{
    if (!value)
        return;
    key(b, name, "intValue");
    buf_addc(b, '"');
    buf_u64(b, value);
    buf_adds(b, "\"}}");
}

static void hex(struct buf *b, const char *name, const uint8_t *p, size_t n)
{
    buf_adds(b, name);
    buf_hex(b, span_of(p, n));
    buf_addc(b, '"');
}

static void nanoseconds(struct buf *b, const char *name, int64_t us)
{
    buf_adds(b, name);
    buf_u64(b, (uint64_t)us);
    buf_adds(b, "000\"");
}

static void attributes(struct buf *b, const struct otlp_span *s)
{
    char request[HTTP_ID_TEXT + 1] = "";

    if (s->request)
        http_id_text(s->request, request);
    text(b, "hookline.source", s->source);
    text(b, "hookline.request", request);
    text(b, "hookline.sink", s->sink);
    text(b, "messaging.system", s->system);
    text(b, "hookline.result", s->result);
    text(b, "cloudevents.event_id", s->id);
    number(b, "hookline.lsn", s->lsn);
    number(b, "hookline.tries", s->tries);
    number(b, "http.response.status_code", (uint64_t)s->status);
    number(b, "http.request.body.size", s->bytes);
}

static void one(struct buf *b, const struct otlp_span *s, int64_t zero_us)
{
    static const uint8_t none[8];
    struct trace_context c = s->context;

    if (!memcmp(c.span, none, sizeof none))
        crypto_random(c.span, sizeof c.span);
    hex(b, "{\"traceId\":\"", c.trace, sizeof c.trace);
    hex(b, ",\"spanId\":\"", c.span, sizeof c.span);
    if (memcmp(s->parent, none, sizeof none) != 0)
        hex(b, ",\"parentSpanId\":\"", s->parent, sizeof s->parent);
    buf_printf(b, ",\"flags\":%d,\"name\":\"%s\",\"kind\":%d", c.sampled, s->name, (int)s->kind);
    nanoseconds(b, ",\"startTimeUnixNano\":\"", zero_us + s->start_us);
    nanoseconds(b, ",\"endTimeUnixNano\":\"", zero_us + s->start_us + s->duration_us);
    buf_adds(b, ",\"attributes\":[");
    attributes(b, s);
    buf_adds(b, "],\"status\":{");
    if (s->failed) {
        buf_adds(b, "\"code\":2,\"message\":");
        buf_json_string(b, span_str(s->failed));
    }
    buf_adds(b, "}}");
}

void otlp_json_write(struct buf *out, const struct otlp_cfg *cfg, const char *log_id,
                     const struct otlp_span *v, size_t n, int64_t zero_us)
{
    buf_adds(out, "{\"resourceSpans\":[{\"resource\":{\"attributes\":[");
    text(out, "service.name", cfg->service);
    text(out, "service.version", HOOKLINE_VERSION);
    text(out, "service.instance.id", log_id);
    buf_adds(out,
             "]},\"scopeSpans\":[{\"scope\":{\"name\":\"hookline\",\"version\":\"" HOOKLINE_VERSION
             "\"},\"spans\":[");
    for (size_t i = 0; i < n; i++) {
        buf_adds(out, i ? "," : "");
        one(out, &v[i], zero_us);
    }
    buf_adds(out, "]}]}]}");
}

/* Without a word about it all were taken. */
uint64_t otlp_json_rejected(struct span answer)
{
    struct json_value v = json_find(answer, S("partialSuccess.rejectedSpans"));
    uint64_t n;

    return (v.type == JSON_STRING || v.type == JSON_NUMBER) && span_u64(v.raw, &n) ? n : 0;
}
