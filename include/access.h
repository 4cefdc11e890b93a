/* access - the access log: one line an answer to a sender, on stdout, written by a thread of its
 * own.
 *
 * Whoever answers copies a few facts into a buffer and goes on: it waits for nothing but a copy of
 * the same kind, and where the buffer is full the line is lost and counted. Refusals fill half of a
 * buffer at most, so that a flood of them leaves room for what was genuine. What comes from outside
 * is escaped and cut when the line is made; secrets, signatures, queries and bodies never get here.
 */
#pragma once

#include "net.h"
#include "trace.h"

enum access_format { ACCESS_OFF, ACCESS_TEXT, ACCESS_JSON };
struct access_cfg { /* of section `logging` */
    int format;     /* enum access_format */
    int64_t sample;
};
const struct cfg_key *access_cfg_keys(void);

/* Facts of one answer. Texts are copied, and cut at 127 bytes; constants must stay. */
struct access_entry {
    uint64_t request, lsn; /* lsn 0: none */
    int64_t time_ms;       /* of the answer; wall clock */
    uint64_t bytes;        /* of the body that came */
    uint32_t duration_us;  /* from the first byte */
    int status;
    const char *source; /* constant; "-" where no path matched */
    const char *method; /* constant; NULL: none was understood */
    const char *result; /* constant: accepted, duplicate, handshake, or the error's code */
    const char *reason; /* constant: why it was refused, for us alone; NULL */
    const struct trace_context *trace; /* copied; NULL: none */
    struct net_peer peer;              /* proxies left out */
    struct span id, type, path;        /* id and type of what is genuine; path where none matched */
};

struct access;
/* Writers are numbered from 0; each number belongs to one thread. Nothing runs and no memory is
 * taken before the first access_use. fd is the caller's (stdout). */
struct access *access_new(unsigned writers, int fd);
/* Main thread, any time: how lines look from now on; the first that is not ACCESS_OFF starts the
 * thread. */
void access_use(struct access *a, enum access_format format);
/* The writer's thread, after access_use. Never waits and never fails. */
void access_note(struct access *a, unsigned writer, const struct access_entry *e);
void access_metrics(const struct access *a, struct buf *out); /* main thread */
/* No writer is left. Writes what is there as far as the reader of fd takes it within a second. */
void access_free(struct access *a);
