/* SPDX-License-Identifier: Apache-2.0 */
/* mend - from a segment with damage to one without: what is right stays where it is, byte for byte;
 * what is not is kept in a file beside it, and a record that says which LSNs are lost stands in its
 * place. The work is done on a copy that takes the segment's name once it is whole and synced: a
 * crash leaves the old segment or the new one, and a reader that holds the old file is not
 * disturbed. */
#pragma once

#include "room.h"

/* log.on_damage */
enum on_damage { DAMAGE_REFUSE, DAMAGE_QUARANTINE };

#define MARKER_BYTES (RECORD_HEADER + MARKER_BODY)

struct loss {
    uint64_t segment, offset, bytes; /* what was set aside */
    uint64_t first_lsn, last_lsn;    /* first_lsn 0: nothing was lost with it */
};

enum patch_kind { PATCH_HEADER, PATCH_BATCH, PATCH_MARKER, PATCH_LOST, PATCH_FILLER, PATCH_ZEROS };

struct patch {
    enum patch_kind kind;
    uint64_t off, bytes;
    struct batch_header batch;
    struct marker marker;
    uint64_t first_lsn, last_lsn;
};

struct mend {
    /* what is known before a byte is read */
    const char *dir;
    struct segment_header head; /* as it must be */
    bool head_bad;
    uint64_t first_lsn; /* 0: not known */
    uint64_t end;       /* of its batches; 0: not known */
    uint64_t last_lsn;  /* in it; while `end` is not known: it had this one at least */
    uint64_t stop_lsn;  /* its batches end in front of this LSN; 0: not known */
    const struct marker *opening, *closing; /* what must stand there; NULL: not known, or none */
    void (*tell)(void *arg, const struct loss *l, const char *kept);
    void *arg;

    /* what was found */
    struct patch *v;
    size_t n, cap;
    uint64_t pos, next_lsn; /* behind the batches */
    uint32_t chain;
    int64_t time_ms;
    bool misfit; /* LSNs are missing and there is no place where they stood */
};

/* Reads the segment (fd -1: nothing is left of it) and lists what has to be patched. */
MUST_CHECK int mend_look(struct mend *m, int fd, struct err *e);
/* Writes the mended segment and the files that keep what was damaged. */
MUST_CHECK int mend_write(struct mend *m, int fd, struct err *e);
void mend_free(struct mend *m);

/* guess.c: headers that are damaged, from what is left of them. Each may be told right only when
 * its checksum is. */
bool guess_segment(const uint8_t raw[SEGMENT_HEADER], struct segment_header *h);
bool guess_batch(const uint8_t raw[BATCH_HEADER], struct batch_header *h, uint64_t salt,
                 uint64_t position);
/* A salt under which the batches are right, the first with an LSN of at least `lowest`. 0 found, 1
 * not. */
MUST_CHECK int guess_salt(int fd, const struct segment *s, uint64_t lowest, uint64_t *salt,
                          struct err *e);

/* quarantine.c: NUMBER-OFFSET.bad */
MUST_CHECK int quarantine_keep(const char *dir, const struct loss *l, const uint8_t *bytes,
                               char name[64], struct err *e);
/* In the log: an error where somebody waits for what was lost, a warning where all have it. */
void quarantine_log(const struct loss *l, const char *kept, uint64_t delivered_lsn);
/* The deduplication keys of what was lost before it was delivered, so that it can be sent again. */
MUST_CHECK int quarantine_forget(struct wal *w, const struct mend *m, uint64_t delivered_lsn,
                                 struct err *e);
bool quarantine_read(const char *dir, const char *name, struct loss *l);
/* Gives a file another name that ends in .bad, and says which. */
MUST_CHECK int quarantine_move(const char *dir, const char *name, const char *as, char to[64],
                               struct err *e);
