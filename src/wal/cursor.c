/* SPDX-License-Identifier: Apache-2.0 */
/* How far a sink has come: a file of its own with two slots, written in turn, so that a torn write
 * leaves the other one. The slot changes only after a sync; until then the same one is written
 * again, so that one good synced slot always exists. The cursor may lag, never lead. */
#include "room.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "crc32c.h"
#include "log.h"

#define SLOT_STEP 4096
#define SLOT_BYTES 48
#define FILE_BYTES (SLOT_STEP + SLOT_BYTES)
static const char magic[8] = "HOOKCUR1";

struct slot {
    uint64_t sequence, lsn, dest;
    uint32_t mode;
};

/* 0 magic, 8 sequence, 16 LSN, 24 destination, 32 mode, 44 CRC */
static void put_slot(uint8_t out[SLOT_BYTES], const struct slot *s)
{
    memset(out, 0, SLOT_BYTES);
    memcpy(out, magic, 8);
    format_put64(out + 8, s->sequence);
    format_put64(out + 16, s->lsn);
    format_put64(out + 24, s->dest);
    format_put32(out + 32, s->mode);
    format_put32(out + 44, crc32c(0, out, 44));
}

static bool get_slot(const uint8_t *in, struct slot *s)
{
    if (memcmp(in, magic, 8) || format_get32(in + 44) != crc32c(0, in, 44))
        return false;
    *s = (struct slot){ format_get64(in + 8), format_get64(in + 16), format_get64(in + 24),
                        format_get32(in + 32) };
    return true;
}

static char *file_name(const char *sink)
{
    return xasprintf("sink-%s.cursor", sink);
}

/* The newest good slot: its index, -1 when both are bad, -2 when there is no file. */
static int best_slot(const char *dir, const char *sink, struct slot *best)
{
    struct err ignored = ERR_INIT;
    char *name = file_name(sink), *b;
    struct slot s;
    int found = -1, rc;
    size_t n;

    rc = file_slurp(dir, name, &b, &n, &ignored);
    free(name);
    if (rc)
        return rc == 1 ? -2 : -1;
    for (int i = 0; i < 2; i++)
        if (n >= (size_t)i * SLOT_STEP + SLOT_BYTES && get_slot((uint8_t *)b + i * SLOT_STEP, &s) &&
            (found < 0 || s.sequence > best->sequence)) {
            *best = s;
            found = i;
        }
    free(b);
    return found;
}

size_t wal_cursor_names(const struct wal *w, char ***out)
{
    char **names;
    size_t n, kept = 0;

    *out = NULL;
    if (io_list(w->dir, &names, &n))
        return 0;
    for (size_t i = 0; i < n; i++) {
        struct span s = span_str(names[i]);
        bool ours =
            span_starts(s, S("sink-")) && s.n > 12 && !strcmp(names[i] + s.n - 7, ".cursor");
        if (ours) {
            *out = xrealloc(*out, (kept + 1) * sizeof **out);
            (*out)[kept++] = span_dup(span_of(s.p + 5, s.n - 12));
        }
        free(names[i]);
    }
    free(names);
    return kept;
}

uint64_t cursor_highest_on_disk(const struct wal *w, char *name)
{
    struct slot s;
    char **names;
    size_t n = wal_cursor_names(w, &names);
    uint64_t highest = 0;

    for (size_t i = 0; i < n; i++)
        if (best_slot(w->dir, names[i], &s) >= 0 && s.lsn > highest) {
            highest = s.lsn;
            snprintf(name, 80, "%s", names[i]);
        }
    file_names_free(names, n);
    return highest;
}

uint64_t cursor_lowest_on_disk(const struct wal *w)
{
    struct slot s;
    char **names;
    size_t n = wal_cursor_names(w, &names);
    uint64_t lowest = UINT64_MAX;

    for (size_t i = 0; i < n; i++)
        lowest = MIN(lowest, best_slot(w->dir, names[i], &s) >= 0 ? s.lsn : 0);
    file_names_free(names, n);
    return lowest;
}

bool cursor_lowest(const struct wal *w, uint64_t *lsn)
{
    *lsn = UINT64_MAX;
    for (struct wal_cursor *c = w->cursors; c; c = c->next)
        *lsn = MIN(*lsn, atomic_load(&c->synced_lsn));
    return w->cursors;
}

bool wal_cursor_exists(const struct wal *w, const char *sink)
{
    struct slot s;

    return best_slot(w->dir, sink, &s) != -2;
}

static void cursor_free(struct wal_cursor *c)
{
    free(c->name);
    free(c);
}

/* What was closed under that name. */
static void forget(struct wal *w, const char *sink)
{
    struct wal_cursor **at, *c;

    pthread_mutex_lock(&w->lock);
    for (at = &w->cursors; (c = *at) && strcmp(c->name, sink); at = &c->next)
        ;
    if (c)
        *at = c->next;
    pthread_mutex_unlock(&w->lock);
    if (c)
        cursor_free(c);
}

void cursor_forget_all(struct wal *w)
{
    while (w->cursors)
        forget(w, w->cursors->name);
}

int wal_cursor_mode(const struct wal *w, const char *sink)
{
    struct slot s = { .mode = 0 };

    return best_slot(w->dir, sink, &s) == -2 ? -1 : (int)s.mode;
}

static int create(struct wal *w, const char *sink, const struct slot *s, struct err *e)
{
    uint8_t *b = xcalloc(1, FILE_BYTES);
    char *name = file_name(sink);
    int rc;

    put_slot(b, s);
    rc = file_replace(w->dir, name, b, FILE_BYTES, e);
    free(name);
    free(b);
    return rc;
}

/* What a process wrote and did not sync before it was killed is read like what is on the disk, and
 * a sync of it may have failed. The slot is written again, so that it is known to be there before
 * anything is trimmed by it and before the other slot, the last one that was synced, is written. */
static int persist(int fd, const char *sink, int at, const struct slot *s, struct err *e)
{
    uint8_t b[SLOT_BYTES];

    put_slot(b, s);
    if (file_write(fd, sink, b, sizeof b, (uint64_t)at * SLOT_STEP, e))
        return err_wrap(e, "cursor of sink %s", sink);
    return io_fdatasync(fd) ? err_errno(e, EXIT_IO, "wal: fdatasync cursor of sink %s", sink) : 0;
}

int wal_cursor_open(struct wal *w, const char *sink, uint32_t mode, uint64_t dest, uint64_t from,
                    struct wal_cursor **out, bool *changed, struct err *e)
{
    struct slot s = { .sequence = 1, .lsn = from, .dest = dest, .mode = mode };
    int at = best_slot(w->dir, sink, &s);
    struct wal_cursor *c;
    char *name, *path;

    *out = NULL;
    if (at == -1) {
        s.lsn = atomic_load(&w->first_lsn) - 1;
        log_warn("both slots of a cursor are bad; the sink starts at the oldest retained record",
                 KS("sink", sink), KU("lsn", s.lsn));
    }
    if (at < 0 && create(w, sink, &s, e))
        return -1;
    if (s.lsn > atomic_load(&w->durable_lsn))
        return err_set(
            e, EXIT_DAMAGED,
            "wal: the cursor of sink %s stands at LSN %llu, ahead of the log (%llu); run "
            "'hookline log repair'",
            sink, (unsigned long long)s.lsn, (unsigned long long)w->durable_lsn);
    c = xcalloc(1, sizeof *c);
    *changed = s.mode != mode || s.dest != dest;
    *c = (struct wal_cursor){ .wal = w,
                              .name = xstrdup(sink),
                              .mode = mode,
                              .dest = dest,
                              .sequence = s.sequence,
                              .slot = at == 0 || at < 0,
                              .lsn = s.lsn,
                              .synced_lsn = s.lsn };
    name = file_name(sink);
    path = file_path(w->dir, name);
    c->fd = io_open(path, O_RDWR, 0);
    if (c->fd < 0)
        err_errno(e, EXIT_IO, "wal: open %s", path);
    free(path);
    free(name);
    if (c->fd < 0 || (at >= 0 && persist(c->fd, sink, at, &s, e))) {
        if (c->fd >= 0)
            io_close(c->fd);
        cursor_free(c);
        return -1;
    }
    forget(w, sink);
    pthread_mutex_lock(&w->lock);
    c->next = w->cursors;
    w->cursors = c;
    pthread_mutex_unlock(&w->lock);
    *out = c;
    return 0;
}

uint64_t wal_cursor_lsn(const struct wal_cursor *c)
{
    return atomic_load(&c->lsn);
}

int wal_cursor_set(struct wal_cursor *c, uint64_t lsn, struct err *e)
{
    uint8_t b[SLOT_BYTES];

    if (lsn == atomic_load(&c->lsn))
        return 0;
    put_slot(b, &(struct slot){ ++c->sequence, lsn, c->dest, c->mode });
    if (file_write(c->fd, c->name, b, sizeof b, (uint64_t)c->slot * SLOT_STEP, e))
        return err_wrap(e, "cursor of sink %s", c->name);
    atomic_store(&c->lsn, lsn);
    c->dirty = true;
    return 0;
}

int wal_cursor_sync(struct wal_cursor *c, struct err *e)
{
    if (!c->dirty)
        return 0;
    if (io_fdatasync(c->fd))
        return err_errno(e, EXIT_IO, "wal: fdatasync cursor of sink %s", c->name);
    c->dirty = false;
    c->slot ^= 1;
    atomic_store(&c->synced_lsn, atomic_load(&c->lsn));
    return 0;
}

/* It stays in the list: what it has not passed may not be trimmed while the process ends. */
void wal_cursor_close(struct wal_cursor *c)
{
    if (c)
        io_close(c->fd);
}

int wal_cursor_note(struct wal *w, const char *sink, struct span note, struct err *e)
{
    char *name = xasprintf("sink-%s.note", sink);
    int rc = file_replace(w->dir, name, note.p, note.n, e);

    free(name);
    return rc;
}

int wal_cursor_noted(const struct wal *w, const char *sink, char **note, struct err *e)
{
    char *name = xasprintf("sink-%s.note", sink);
    size_t n;
    int rc;

    *note = NULL;
    rc = file_slurp(w->dir, name, note, &n, e);
    free(name);
    return rc < 0 ? -1 : 0;
}

static int remove_file(struct wal *w, const char *sink, const char *suffix, struct err *e)
{
    char *name = xasprintf("sink-%s.%s", sink, suffix), *path = file_path(w->dir, name);
    int rc = io_unlink(path) && errno != ENOENT ? err_errno(e, EXIT_IO, "wal: unlink %s", path) : 0;

    free(path);
    free(name);
    return rc;
}

int wal_cursor_pause(struct wal *w, const char *sink, int64_t since_ms, struct err *e)
{
    char *name, text[24];
    int n, rc;

    if (!since_ms)
        return remove_file(w, sink, "paused", e) ? -1 : file_sync_dir(w->dir, e);
    n = snprintf(text, sizeof text, "%lld\n", (long long)since_ms);
    name = xasprintf("sink-%s.paused", sink);
    rc = file_replace(w->dir, name, text, (size_t)n, e);
    free(name);
    return rc;
}

int wal_cursor_paused(const struct wal *w, const char *sink, int64_t *since_ms, struct err *e)
{
    char *name = xasprintf("sink-%s.paused", sink), *text;
    uint64_t ms;
    size_t n;
    int rc = file_slurp(w->dir, name, &text, &n, e);

    free(name);
    *since_ms = 0;
    if (rc)
        return rc < 0 ? -1 : 0;
    if (!span_u64(span_trim(span_of(text, n)), &ms) || !ms || ms > INT64_MAX)
        ms = (uint64_t)clock_wall_ms();
    *since_ms = (int64_t)ms;
    free(text);
    return 0;
}

int wal_cursor_remove(struct wal *w, const char *sink, struct err *e)
{
    if (remove_file(w, sink, "note", e) || remove_file(w, sink, "run", e) ||
        remove_file(w, sink, "paused", e) || remove_file(w, sink, "cursor", e))
        return -1;
    forget(w, sink);
    return file_sync_dir(w->dir, e);
}
