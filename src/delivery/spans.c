/* SPDX-License-Identifier: Apache-2.0 */
/* The span of a delivery: from the first time that a record is handed to its sink until it is
 * confirmed there, or in the dead letters. Runs on the sink's thread. */
#include <string.h>

#include "clock.h"
#include "room.h"

void spans_begin(struct entry *en)
{
    struct trace_context c;

    if (!trace_of(&en->rec, &c).n || !c.sampled)
        return;
    en->spans = true;
    en->first_us = clock_mono_us();
}

void spans_end(struct delivery *d, const struct entry *en, const char *failed)
{
    char made[RECORD_ID_MAX];
    struct otlp_span s = { .name = "deliver",
                           .kind = OTLP_PRODUCER,
                           .system = d->sink->type->name,
                           .result = failed ? "dead" : "delivered",
                           .failed = failed,
                           .start_us = en->first_us,
                           .tries = en->tries,
                           .lsn = en->rec.lsn,
                           .bytes = en->rec.body.n };

    if (!en->spans || !trace_of(&en->rec, &s.context).n)
        return;
    memcpy(s.parent, s.context.span, sizeof s.parent);
    memset(s.context.span, 0, sizeof s.context.span); /* one of its own */
    s.duration_us = clock_mono_us() - en->first_us;
    otlp_text(s.source, sizeof s.source, en->rec.source);
    otlp_text(s.sink, sizeof s.sink, span_str(d->name));
    otlp_text(s.id, sizeof s.id, record_id(&en->rec, wal_log_id(d->wal), made));
    otlp_add(d->otlp, &s);
}
