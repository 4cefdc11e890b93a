/* SPDX-License-Identifier: Apache-2.0 */
/* CloudEvents in binary mode for Kafka: attributes as ce_ headers, the body as it came, or as
 * transform.jq made it. A body that is itself a structured CloudEvent carries its attributes inside
 * and goes without them; a batch of events is opaque to us. */
#include "kafka.h"
#include "trace.h"

static void add(rd_kafka_headers_t *h, struct span name, struct span value)
{
    rd_kafka_header_add(h, name.p, (ssize_t)name.n, value.p ? value.p : "", (ssize_t)value.n);
}

static void add_attributes(rd_kafka_headers_t *h, struct kafka *k, const struct record *rec,
                           struct span id)
{
    struct span trace = trace_of(rec, NULL);
    char lsn[NUMBER_MAX];

    add(h, S("ce_specversion"), S("1.0"));
    add(h, S("ce_id"), id);
    add(h, S("ce_source"), rec->source);
    add(h, S("ce_type"), rec->type);
    add(h, S("ce_time"), sink_time_text(&k->time, rec->time_ms));
    if (rec->subject.n)
        add(h, S("ce_subject"), rec->subject);
    add(h, S("ce_lsn"), sink_number_text(rec->lsn, lsn));
    add(h, S("ce_logid"), span_str(k->logid));
    if (trace.n) /* the header of that name is among the kept ones */
        add(h, S("ce_traceparent"), trace);
}

rd_kafka_headers_t *kafka_headers(struct kafka *k, const struct record *rec, struct span id)
{
    rd_kafka_headers_t *h = rd_kafka_headers_new(16);
    struct span at = rec->headers, name, value;

    if (k->cfg->kafka->cloudevents && !sink_is_structured(rec->content_type))
        add_attributes(h, k, rec, id);
    /* Also where no other ce_ header goes: nothing else tells it from the first delivery,
     * or from what came in. */
    if (rec->replay.n)
        add(h, S("ce_replay"), rec->replay);
    if (rec->transformed)
        add(h, S("ce_transformed"), S("true"));
    if (rec->content_type.n)
        add(h, S("content-type"), rec->content_type);
    while (record_next_header(&at, &name, &value))
        add(h, name, value);
    return h;
}
