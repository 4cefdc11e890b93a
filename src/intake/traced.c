/* SPDX-License-Identifier: Apache-2.0 */
/* `tracing`: which trace a genuine delivery belongs to, and what is said of it there.
 *
 * A traceparent that is right by the letter is kept, with its tracestate; else one is made. Both
 * stand among the kept headers of the record, in front, so that they reach every sink and every
 * reader of the log. Where spans are sent, the one in the record names the span of the receipt, as
 * what consumers go on from; where none are, hookline is no part of the trace, and the parent that
 * came stays. */
#include <string.h>

#include "clock.h"
#include "crypto.h"
#include "room.h"

/* Ids are not zero. */
static uint64_t next_random(uint64_t *state)
{
    return next_number(state) | 1;
}

static void make_span(struct intake_thread *t, uint8_t out[8])
{
    uint64_t r = next_random(&t->random[0]);

    memcpy(out, &r, sizeof r);
}

static void make_trace(struct intake_thread *t, struct trace_context *c)
{
    uint64_t r[] = { next_random(&t->random[0]), next_random(&t->random[1]) };
    uint64_t rate = (uint64_t)t->conf->tracing->rate;

    memcpy(c->trace, r, sizeof c->trace);
    c->sampled = rate && rate_take(&t->in->traces, rate, rate, clock_mono_us());
    make_span(t, c->span);
}

/* What a sender wants kept under these names gives way to what is right. */
static void take_out(struct buf *headers)
{
    struct span at = buf_as_span(headers), name, value;
    size_t n = 0;

    while (record_next_header(&at, &name, &value)) {
        size_t line = name.n + value.n + 2;
        if (span_eq(name, S("traceparent")) || span_eq(name, S("tracestate")))
            continue;
        if (headers->p + n != name.p)
            memmove(headers->p + n, name.p, line);
        n += line;
    }
    headers->n = n;
}

static void write_lines(struct intake_thread *t, const struct trace_context *c, struct span state)
{
    struct buf *b = &t->trace_lines;
    char text[TRACEPARENT_BYTES];

    b->n = 0;
    trace_write(c, text);
    buf_span(b, S("traceparent:"));
    buf_add(b, text, sizeof text);
    buf_addc(b, '\n');
    if (!state.n)
        return;
    buf_span(b, S("tracestate:"));
    buf_span(b, state);
    buf_addc(b, '\n');
}

void traced_start(struct intake_thread *t)
{
    crypto_random(t->random, sizeof t->random);
}

void traced_begin(struct intake_thread *t, struct net_request *req)
{
    struct pending *p = pending_of(req);
    struct trace_context *c = &p->trace;
    unsigned parents, states = 0;
    struct span text = http_header(&req->http, req->bytes, S("traceparent"), &parents), state;
    bool kept = parents == 1 && trace_parse(text, c);

    state = kept ? http_header(&req->http, req->bytes, S("tracestate"), &states) : SPAN_NONE;
    if (states != 1 || !trace_state_good(state))
        state = SPAN_NONE;
    if (!kept)
        make_trace(t, c);
    p->traced = true;
    p->spans = c->sampled && t->conf->otlp;
    if (kept && p->spans) {
        memcpy(p->parent, c->span, sizeof p->parent);
        make_span(t, c->span);
    }
    take_out(&t->ev.headers);
    write_lines(t, c, state);
}

static struct otlp_span about(const struct pending *p, const char *name, enum otlp_kind kind)
{
    struct otlp_span s = { .context = p->trace, .name = name, .kind = kind, .request = p->req->id };

    otlp_text(s.source, sizeof s.source, span_str(p->stats->name));
    otlp_text(s.id, sizeof s.id, p->append.rec.id);
    return s;
}

void traced_commit(struct intake_thread *t, const struct pending *p, enum http_error e)
{
    struct otlp_span s = about(p, "commit", OTLP_INTERNAL);

    memcpy(s.parent, p->trace.span, sizeof s.parent);
    memset(s.context.span, 0, sizeof s.context.span); /* one of its own */
    s.start_us = p->submitted_us;
    s.duration_us = clock_mono_us() - p->submitted_us;
    s.lsn = e ? 0 : p->append.lsn;
    s.failed = e ? http_error(e)->code : NULL;
    otlp_add(t->conf->otlp, &s);
}

void traced_answer(struct intake_thread *t, const struct pending *p, int status, const char *result)
{
    struct otlp_span s = about(p, "receive", OTLP_SERVER);

    memcpy(s.parent, p->parent, sizeof s.parent);
    s.start_us = p->req->started_us;
    s.duration_us = clock_mono_us() - s.start_us;
    s.status = status;
    s.result = result;
    s.bytes = p->append.rec.body.n;
    s.lsn = status < 300 ? p->append.lsn : 0;
    s.failed = status >= 500 ? result : NULL;
    otlp_add(t->conf->otlp, &s);
}
