/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of a repair share: repair.c goes through the folder, place.c knows what is left of
 * each segment. */
#pragma once

#include "mend.h"

/* A segment's place in the row: what its file says, or that it is missing. */
struct place {
    uint64_t number;
    int fd; /* -1: missing */
    struct segment_header head;
    bool head_bad, begun;
    bool opened; /* its opening record is right */
    struct marker opening;
    uint64_t first_lsn; /* of its first batch, 0: not known */
    bool closed;        /* a closing record is right */
    struct marker closing;
    bool copy_done;
    uint64_t durable_lsn, lowest_lsn, highest_lsn; /* of all batch headers that are right */
};

struct repair {
    struct wal *w;    /* folder and identity, nothing else */
    FILE *out;        /* NULL: the log */
    struct place *v;  /* without a gap in the numbers */
    size_t n, last;   /* the last that was begun */
    struct marker at; /* the end of the segment that was mended last */
    bool did;
    uint64_t lost, delivered_lsn;
};

MUST_CHECK int place_read(struct repair *rp, struct place *p, uint64_t lowest, struct err *e);
void place_close(struct place *p);
/* What its header says. 0: it is right, or all but one bit of it; 1: it is not, or there is none.
 */
MUST_CHECK int segment_head(const char *dir, const char *name, struct segment_header *h,
                            struct err *e);
/* Every file under the number that its header says; what is not of this log, or is there twice, set
 * aside. */
MUST_CHECK int places_settle(struct repair *rp, struct err *e);
MUST_CHECK int places_list(struct repair *rp, struct err *e);
void repair_say(struct repair *rp, const char *what, const char *name, const char *kept);
/* The file `id`, from the segments where it is damaged. */
MUST_CHECK int identity_repair(struct repair *rp, struct err *e);
