/* SPDX-License-Identifier: Apache-2.0 */
/* traceparent and tracestate. What is read is written again as what it was, but for the version and
 * unknown flags; nothing of what is passed on can end a line of the kept headers. */
#include "fuzz.h"

#include "trace.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    char *copy = fuzz_copy(data, n), text[TRACEPARENT_BYTES];
    struct span s = { copy, n };
    struct trace_context c, again;

    if (trace_parse(s, &c)) {
        must(n >= TRACEPARENT_BYTES && !memcmp(copy + 2, "-", 1));
        trace_write(&c, text);
        must(!memcmp(text + 2, copy + 2, TRACEPARENT_BYTES - 4));
        must(trace_parse(span_of(text, sizeof text), &again));
        must(!memcmp(again.trace, c.trace, sizeof c.trace) &&
             !memcmp(again.span, c.span, sizeof c.span) && again.sampled == c.sampled);
    }
    if (trace_state_good(s)) {
        must(n && n <= 512 && memchr(copy, '=', n));
        for (size_t i = 0; i < n; i++)
            must(copy[i] == '\t' || (copy[i] >= ' ' && copy[i] <= '~'));
    }
    free(copy);
    return 0;
}
