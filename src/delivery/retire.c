/* SPDX-License-Identifier: Apache-2.0 */
/* Sinks that left the configuration. Their backlog is theirs: it goes to their dead-letter log, and
 * only then does the cursor go. Main thread, before the sinks start. */
#include "room.h"

int delivery_backlog(struct wal *w, const char *name, uint64_t *events, struct err *e)
{
    struct wal_cursor *c;
    bool changed;

    if (wal_cursor_open(w, name, 0, 0, 0, &c, &changed, e))
        return -1;
    *events = wal_durable_lsn(w) - wal_cursor_lsn(c);
    wal_cursor_close(c);
    return 0;
}

int delivery_retire(struct wal *w, const char *name, struct err *e)
{
    struct wal_reader *r = NULL;
    struct wal_cursor *c = NULL;
    struct wal_dead *dead = NULL;
    struct record rec;
    enum wal_read got = WAL_READ_END;
    bool changed;
    int rc = -1;

    if (wal_cursor_open(w, name, 0, 0, 0, &c, &changed, e) ||
        wal_dead_open(w, name, UINT64_MAX, &dead, e) ||
        wal_reader_open(&r, w, wal_cursor_lsn(c), e))
        goto out;
    while ((got = wal_reader_next(r, &rec, NULL, e)) == WAL_READ_OK || got == WAL_READ_GONE)
        if (got == WAL_READ_OK && rec.kind == RECORD_WEBHOOK &&
            wal_dead_add(dead, &rec, "the sink was retired", e))
            goto out;
    if (got == WAL_READ_END)
        rc = 0;
out:
    wal_reader_close(r);
    wal_dead_close(dead);
    wal_cursor_close(c);
    return rc ? rc : wal_cursor_remove(w, name, e);
}
