/* SPDX-License-Identifier: Apache-2.0 */
/* What is known of a dead letter stands in front of its kept headers, in lines of its own:
 * "hookline-dead:ATTEMPTS FIRST LAST" and "hookline-reason:TEXT". The first releases wrote the
 * reason only. Headers of senders cannot be taken for them, since they stand behind. Pure. */
#include "dead_room.h"

static const struct span dead_line = { "hookline-dead:", 14 },
                         reason_line = { "hookline-reason:", 16 };

void dead_letter_encode(const struct wal_letter *l, struct buf *headers)
{
    buf_span(headers, dead_line);
    buf_printf(headers, "%llu %lld %lld\n", (unsigned long long)l->attempts, (long long)l->first_ms,
               (long long)l->last_ms);
    buf_span(headers, reason_line);
    for (size_t i = 0; i < l->reason.n; i++)
        buf_addc(headers, l->reason.p[i] == '\n' ? ' ' : l->reason.p[i]);
    buf_addc(headers, '\n');
    buf_span(headers, l->rec.headers);
}

static uint64_t number(struct span *line)
{
    uint64_t v = 0;

    return span_u64(span_cut(line, ' '), &v) ? v : 0;
}

void dead_letter_decode(struct wal_letter *l)
{
    struct span rest = l->rec.headers, line;

    l->attempts = 1;
    if (span_starts(rest, dead_line)) {
        line = span_cut(&rest, '\n');
        line = span_of(line.p + dead_line.n, line.n - dead_line.n);
        l->attempts = number(&line);
        l->first_ms = (int64_t)number(&line);
        l->last_ms = (int64_t)number(&line);
    }
    if (span_starts(rest, reason_line)) {
        line = span_cut(&rest, '\n');
        l->reason = span_of(line.p + reason_line.n, line.n - reason_line.n);
    }
    l->rec.headers = rest.p ? rest : SPAN_NONE;
}

void wal_letter_free(struct wal_letter *l)
{
    free(l->bytes);
    *l = (struct wal_letter){ .bytes = NULL };
}
