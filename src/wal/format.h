/* SPDX-License-Identifier: Apache-2.0 */
/* format - the bytes of the log, version 1; docs/log-format.md is the same in prose. Little-endian.
 *
 *   segment  = header (4096 bytes), batch, batch, ... , unused
 *   batch    = header (48), record, record, ...      all at multiples of 8
 *   record   = header (48), source, id, type, subject, content type, headers, body, zeros to 8
 *
 * Every checksum is CRC-32C seeded with the segment's salt and the position, so that bytes which
 * are right somewhere else, or were right before the file was used again, are wrong here. */
#pragma once

#include <endian.h>
#include <string.h>

#include "record.h"

#define FORMAT_VERSION 1
#define SEGMENT_HEADER 4096
#define BATCH_HEADER 48
#define RECORD_HEADER 48
#define MARKER_BODY 40
#define CLOSING_BYTES                                                                              \
    (BATCH_HEADER + RECORD_HEADER + MARKER_BODY) /* kept free in every segment                     \
                                                  */

struct segment_header {
    uint32_t format, min_reader;
    uint8_t log_id[16];
    uint64_t number, salt, bytes;
    char writer[32];
    uint32_t flags; /* SEGMENT_... */
};
/* Behind the batches lie those of the file's earlier life, not zeros. */
#define SEGMENT_RECYCLED 1u
/* Damage was set aside: a batch header may be another than the one that was written first, so the
 * checksum over all of them is no longer that which the next segment says. */
#define SEGMENT_MENDED 2u

struct batch_header {
    uint64_t first_lsn; /* of the first record that has one; the next one's in an empty batch */
    uint32_t count;     /* records with an LSN */
    uint32_t length;    /* bytes of records behind the header */
    uint64_t durable_lsn;
    uint64_t position;
    uint64_t flags; /* BATCH_... */
};
#define BATCH_CLEAN_STOP 1u /* the last batch of a clean stop: the segment goes on behind it */
#define BATCH_COPY_DONE 2u  /* what recovery copied into this segment is complete */

enum marker_kind {
    MARKER_CLOSING,
    MARKER_OPENING,
    MARKER_COPY, /* opens a segment that recovery made; counts once BATCH_COPY_DONE follows */
};

/* Opening and closing records say the same of the segment that ends there. */
struct marker {
    enum marker_kind kind;
    uint64_t number;   /* of the segment that ends */
    uint64_t last_lsn; /* in it; the next segment starts with the one after */
    uint64_t end;      /* where its batches end */
    uint32_t chain;    /* checksum over its batch headers */
};

static inline size_t format_align(size_t n)
{
    return (n + 7) & ~(size_t)7;
}

void format_put_segment(uint8_t out[SEGMENT_HEADER], const struct segment_header *h);
/* 0 good; 1 not a header (magic or checksum); 2 a newer format (h is filled). */
int format_get_segment(const uint8_t in[SEGMENT_HEADER], struct segment_header *h);

void format_put_batch(uint8_t out[BATCH_HEADER], const struct batch_header *h, uint64_t salt);
bool format_get_batch(const uint8_t in[BATCH_HEADER], struct batch_header *h, uint64_t salt,
                      uint64_t position);
uint32_t format_chain(uint32_t chain, const uint8_t batch[BATCH_HEADER]);

size_t format_record_bytes(const struct record *rec); /* aligned */
void format_put_record(uint8_t *out, const struct record *rec, uint64_t salt, uint64_t position);
/* Bytes of the record at `in` (aligned), 0 when it is not whole and right. Spans point into `in`.
 */
size_t format_get_record(const uint8_t *in, size_t n, struct record *rec, uint64_t salt,
                         uint64_t position);

/* A RECORD_LOST stands for the LSNs from its own to the one that its body says; any other record
 * for its own. */
uint64_t format_last_lsn(const struct record *rec);
/* How many LSNs it stands for; a marker for none. */
uint64_t format_lsns(const struct record *rec);

void format_put_marker(uint8_t body[MARKER_BODY], const struct marker *m);
bool format_get_marker(struct span body, struct marker *m);

static inline void format_put32(uint8_t *p, uint32_t v)
{
    v = htole32(v);
    memcpy(p, &v, sizeof v);
}
static inline void format_put64(uint8_t *p, uint64_t v)
{
    v = htole64(v);
    memcpy(p, &v, sizeof v);
}
static inline uint32_t format_get32(const uint8_t *p)
{
    uint32_t v;

    memcpy(&v, p, sizeof v);
    return le32toh(v);
}
static inline uint64_t format_get64(const uint8_t *p)
{
    uint64_t v;

    memcpy(&v, p, sizeof v);
    return le64toh(v);
}
