/* SPDX-License-Identifier: Apache-2.0 */
/* What every room needs to say about a record in the same words. Pure. */
#include "record.h"

#include <endian.h>
#include <stdio.h>

#include "crc32c.h"

struct span record_id(const struct record *rec, const char *logid, char *out)
{
    int n;

    if (rec->id.n)
        return rec->id;
    n = snprintf(out, RECORD_ID_MAX, "%s-%llu", logid, (unsigned long long)rec->lsn);
    return span_of(out, (size_t)n);
}

uint32_t record_crc(const struct record *rec)
{
    const struct span parts[] = { rec->source,       rec->id,      rec->type, rec->subject,
                                  rec->content_type, rec->headers, rec->body };
    const uint64_t fixed[] = { htole64(rec->lsn), htole64((uint64_t)rec->time_ms),
                               htole64((uint64_t)rec->kind) };
    uint32_t crc = crc32c(0, fixed, sizeof fixed);

    if (rec->transformed)
        return rec->log_crc;
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        uint64_t n = htole64(parts[i].n);
        crc = crc32c(crc32c(crc, &n, sizeof n), parts[i].p, parts[i].n);
    }
    return crc;
}

bool record_next_header(struct span *at, struct span *name, struct span *value)
{
    struct span line;

    if (at->n == 0)
        return false;
    line = span_cut(at, '\n');
    *name = span_cut(&line, ':');
    *value = line;
    return true;
}
