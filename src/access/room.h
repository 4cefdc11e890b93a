/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this room share: access.c the buffers and the thread, line.c one line. */
#pragma once

#include "access.h"
#include "clock.h"

#define TEXT_MAX 127
#define LINE_MAX_BYTES 4096 /* what a pipe that can be written to takes at once */

/* What was printed last and is likely to come again. */
struct line_memory {
    int64_t second;
    char time[CLOCK_TEXT_MAX];
    struct net_peer peer;
    char peer_text[NET_PEER_TEXT_MAX];
};
/* Appends one line; at most LINE_MAX_BYTES. */
void line_write(struct buf *out, enum access_format format, const struct access_entry *e,
                struct line_memory *m);
