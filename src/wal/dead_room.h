/* SPDX-License-Identifier: Apache-2.0 */
/* What dead.c and dead_letter.c share. */
#pragma once

#include "dead.h"
#include "room.h"

struct place {
    uint64_t lsn, off;
    size_t bytes; /* 0: taken out */
};

struct wal_dead {
    char *name, *path, *tmp;
    const char *dir; /* the log's */
    int fd;
    uint64_t end, max_bytes;
    struct place *at; /* by LSN */
    size_t n, cap, live_n;
    uint64_t live; /* bytes of the entries that count */
};

void dead_letter_encode(const struct wal_letter *l, struct buf *headers);
/* l->rec.headers as they stand in the entry, to the reason, the numbers and the kept headers. */
void dead_letter_decode(struct wal_letter *l);
