/* SPDX-License-Identifier: Apache-2.0 */
/* top_text.c: what `hookline top` shows, made of two looks at a bridge. Pure. */
#pragma once

#include "buf.h"

struct top_shot {               /* one look */
    struct buf metrics, status; /* the bodies of /metrics and /status */
    int64_t at_ms;              /* when; any clock that does not jump */
};

struct top_size {
    unsigned columns, rows;
    bool colour;
};

/* The whole screen: at most `rows` lines of at most `columns` characters, a line feed between them.
 * Rates and latencies are those between the looks; `before` is NULL at the first. Whatever comes
 * from the bridge is printable ASCII here. */
void top_screen(const struct top_shot *before, const struct top_shot *now, const char *address,
                const struct top_size *size, struct buf *out);
/* The same in one line, with a line feed; `time` stands in front. */
void top_line(const struct top_shot *before, const struct top_shot *now, const char *time,
              struct buf *out);
