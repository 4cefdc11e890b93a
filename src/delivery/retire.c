/* SPDX-License-Identifier: Apache-2.0 */
/* Sinks that left the configuration. Their backlog is theirs: it goes to their dead-letter log, and
 * only then does the cursor go. What their filter let pass is kept as a note beside the cursor,
 * since nobody else remembers it. Main thread, before the sinks start. */
#include <stdio.h>
#include <string.h>

#include "room.h"

static char *note_of(const struct sink_cfg *cfg)
{
    return xasprintf("%s\n%s\n", cfg->match.source, cfg->match.type);
}

int filter_remember(struct wal *w, const char *name, const struct sink_cfg *cfg, struct err *e)
{
    char *wanted = note_of(cfg), *found;
    int rc = wal_cursor_noted(w, name, &found, e);

    if (!rc && (!found || strcmp(found, wanted)))
        rc = wal_cursor_note(w, name, span_str(wanted), e);
    free(found);
    free(wanted);
    return rc;
}

/* Whose records are these, and how far has it come. */
struct leaver {
    struct wal_cursor *cursor;
    struct wal_reader *reader;
    struct sink_cfg filter; /* match only; its texts are in `note` */
    char *note;
};

static void leaver_close(struct leaver *l)
{
    wal_reader_close(l->reader);
    wal_cursor_close(l->cursor);
    free(l->note);
}

static int leaver_open(struct leaver *l, struct wal *w, const char *name, struct err *e)
{
    char *type;
    bool changed;

    *l = (struct leaver){ .filter.match = { "*", "*" } };
    if (wal_cursor_noted(w, name, &l->note, e) ||
        wal_cursor_open(w, name, 0, 0, 0, &l->cursor, &changed, e) ||
        wal_reader_open(&l->reader, w, wal_cursor_lsn(l->cursor), e))
        return -1;
    if (!l->note || !(type = strchr(l->note, '\n')))
        return 0;
    *type++ = '\0';
    type[strcspn(type, "\n")] = '\0';
    l->filter.match.source = l->note;
    l->filter.match.type = type;
    return 0;
}

/* The next record that was meant for it. */
static enum wal_read leaver_next(struct leaver *l, struct record *rec, struct err *e)
{
    enum wal_read got;

    do
        got = wal_reader_next(l->reader, rec, NULL, e);
    while (got == WAL_READ_GONE ||
           (got == WAL_READ_OK &&
            (rec->kind != RECORD_WEBHOOK || !sink_matches(&l->filter, rec->source, rec->type))));
    return got;
}

int delivery_backlog(struct wal *w, const char *name, uint64_t *events, struct err *e)
{
    enum wal_read got = WAL_READ_DAMAGED;
    struct leaver l;
    struct record rec;

    *events = 0;
    if (!leaver_open(&l, w, name, e))
        while ((got = leaver_next(&l, &rec, e)) == WAL_READ_OK)
            ++*events;
    leaver_close(&l);
    return got == WAL_READ_END ? 0 : -1;
}

int delivery_retire(struct wal *w, const char *name, struct err *e)
{
    enum wal_read got = WAL_READ_DAMAGED;
    struct wal_dead *dead = NULL;
    struct leaver l;
    struct record rec;

    if (!leaver_open(&l, w, name, e) && !wal_dead_open(w, name, UINT64_MAX, &dead, e))
        while ((got = leaver_next(&l, &rec, e)) == WAL_READ_OK)
            if (wal_dead_put(dead, &rec, "the sink was retired", e))
                break;
    if (got == WAL_READ_END && wal_dead_sync(dead, e)) /* the cursor stays until all are durable */
        got = WAL_READ_DAMAGED;
    wal_dead_close(dead);
    leaver_close(&l);
    return got == WAL_READ_END ? wal_cursor_remove(w, name, e) : -1;
}
