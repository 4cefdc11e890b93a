/* delivery - the thread of one sink: cursor, reader, in-flight window, back-off, dead letters.
 *
 * Keeps P2 and P9. The cursor passes a record only when the sink reported it done, when it does not
 * match, or when it is in the dead-letter log. */
#pragma once

#include <stdatomic.h>

#include "progress.h"
#include "sink.h"
#include "wal.h"

struct delivery;
/* Opens the cursor and starts the thread. first_sinks: the log had no sink before (decides the
 * default of `from`). */
MUST_CHECK int delivery_start(struct delivery **out, struct wal *w, const char *name,
                              const struct sink_cfg *cfg, bool first_sinks, uint64_t max_body,
                              struct err *e);
/* Waits for outstanding acknowledgements until timeout_ms, writes and syncs the cursor, joins. */
void delivery_stop(struct delivery *d, int64_t timeout_ms);
bool delivery_drained(
    const struct delivery *d); /* everything durable has been passed (serve --drain) */
bool delivery_turning(const struct delivery *d, int64_t now_mono_ms);
const atomic_bool *delivery_full(const struct delivery *d); /* its own backlog quota is reached */
/* The LSN up to which everything that matches is with the sink or in its dead letters. */
struct progress *delivery_progress(struct delivery *d);

/* A sink that left the configuration: moves its backlog to its dead-letter log and removes the
 * cursor. */
MUST_CHECK int delivery_retire(struct wal *w, const char *name, struct err *e);
/* How many records that its filter let pass the cursor of that sink has not passed (0: may go). */
MUST_CHECK int delivery_backlog(struct wal *w, const char *name, uint64_t *events, struct err *e);

void delivery_status(const struct delivery *d, struct buf *json); /* one value of "sinks" */
/* All sinks in one call: each family's head once. */
void delivery_metrics(struct delivery *const *d, size_t n, struct buf *out);
