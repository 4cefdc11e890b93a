/* trace - the W3C Trace Context: which trace a delivery belongs to. Pure; any thread. */
#pragma once

#include "record.h"

struct trace_context {
    uint8_t trace[16], span[8]; /* neither is all zeros */
    bool sampled;
};

#define TRACEPARENT_BYTES 55
/* A `traceparent` by the letter of the recommendation; of a version that is not known the parts
 * that are. False: there is none, and nothing of it may be used. */
bool trace_parse(struct span text, struct trace_context *out);
/* Version 00, without a NUL. */
void trace_write(const struct trace_context *c, char out[TRACEPARENT_BYTES]);
/* Whether a `tracestate` may be passed on: at most 512 bytes, each member in its form. */
bool trace_state_good(struct span text);

/* The `traceparent` that stands among the kept headers of a record; empty where there is none, or
 * one that is not right. out may be NULL. */
struct span trace_of(const struct record *rec, struct trace_context *out);
