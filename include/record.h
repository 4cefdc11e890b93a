/* record - one event as every room sees it: what the log holds and what the sinks publish.
 *
 * All spans are borrowed: from the request while it comes in, from the mapped segment on its way
 * out. `headers` is one line a kept header, "name:value\n", names in lower case (a header's value
 * cannot hold a line feed). The body is what came in, byte for byte. */
#pragma once

#include "span.h"

enum record_kind {
    RECORD_WEBHOOK = 1,
    RECORD_INTERNAL = 2, /* ours: not delivered by default routing */
    RECORD_MARKER = 3,   /* opening and closing records of segments; never leaves the log */
    RECORD_LOST = 4,     /* stands where a damaged record was set aside: an LSN, nothing else */
};

struct record {
    uint64_t lsn;
    enum record_kind kind;
    int64_t time_ms;     /* received, wall clock */
    struct span source;  /* name in the configuration */
    struct span id;      /* the provider's delivery id; empty: record_id() makes "<logid>-<lsn>" */
    struct span type;    /* "webhook" where none was found */
    struct span subject; /* may be empty */
    struct span content_type; /* may be empty */
    struct span headers;
    struct span body;
    struct span replay; /* id of the run that sends it again; never in the log */
    bool transformed;   /* body and content type were made for a sink; never in the log */
    uint32_t log_crc;   /* transformed: record_crc() of what the log holds */
};

#define LOG_ID_TEXT_MAX 37 /* a UUID as text and its NUL */
#define RECORD_ID_MAX 64   /* room for a made id */

/* The id that everybody shows: rec->id, or "<logid>-<lsn>" written into out[RECORD_ID_MAX]. */
struct span record_id(const struct record *rec, const char *logid, char *out);

/* CRC-32C over all that a record says, wherever it stands: a log that is copied, mended or
 * recovered gives a record another place and so another checksum on disk, but the same one here; so
 * does one that was transformed. */
uint32_t record_crc(const struct record *rec);

/* Walks the kept headers: false when there are no more. *at starts as rec->headers. */
bool record_next_header(struct span *at, struct span *name, struct span *value);
