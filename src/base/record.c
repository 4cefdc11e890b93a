/* SPDX-License-Identifier: Apache-2.0 */
/* What every room needs to say about a record in the same words. Pure. */
#include "record.h"

#include <stdio.h>

struct span record_id(const struct record *rec, const char *logid, char *out)
{
    int n;

    if (rec->id.n)
        return rec->id;
    n = snprintf(out, RECORD_ID_MAX, "%s-%llu", logid, (unsigned long long)rec->lsn);
    return span_of(out, (size_t)n);
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
