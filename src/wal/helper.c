/* SPDX-License-Identifier: Apache-2.0 */
/* The helper thread: everything about files that no sender should wait for. It makes the spare
 * segment, writes sidecars of sealed segments, trims, and watches the free space.
 *
 * A segment goes when every sink's synced cursor is past it and retention or space asks for it;
 * ages count in CLOCK_BOOTTIME, so a clock jump trims nothing early. A mapping that a reader holds
 * stays valid after the unlink. */
#include "room.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#include "clock.h"
#include "log.h"

bool helper_is_space_error(int error)
{
    return error == ENOSPC || error == EDQUOT || error == EFBIG;
}

/* May the oldest sealed segment go at all? Under lock. */
static bool passed_by_all(const struct wal *w, const struct segment *s)
{
    uint64_t lowest;

    return !cursor_lowest(w, &lowest) || s->last_lsn <= lowest;
}

/* Takes the oldest segment out of the table, or NULL. Under lock. */
static struct segment *take_trimmable(struct wal *w, bool need_space)
{
    struct segment *s = w->segs_n > 1 ? w->segs[0] : NULL;
    uint64_t bytes = 0;

    for (size_t i = 0; i < w->segs_n; i++)
        bytes += w->segs[i]->bytes;
    if (!s || !s->sealed || !s->has_sidecar || !passed_by_all(w, s) ||
        !(need_space || bytes > w->cfg.retain_bytes ||
          clock_boot_ms() - s->sealed_boot_ms > w->cfg.retain_ms))
        return NULL;
    memmove(w->segs, w->segs + 1, --w->segs_n * sizeof *w->segs);
    atomic_store(&w->first_lsn, s->last_lsn + 1);
    return s;
}

static bool trim_one(struct wal *w, bool need_space)
{
    struct sidecar sc;
    struct segment *s;
    char *path;

    pthread_mutex_lock(&w->lock);
    s = take_trimmable(w, need_space);
    pthread_mutex_unlock(&w->lock);
    if (!s)
        return false;
    path = segment_path(w, s->number);
    if (io_unlink(path))
        log_warn("a segment could not be removed", KS("path", path), KERRNO());
    else
        log_info("segment trimmed", KS("path", path), KU("last_lsn", s->last_lsn));
    free(path);
    segment_free(s);
    pthread_mutex_lock(&w->lock);
    s = w->segs[0];
    if (s->sealed && !sidecar_read(w, s->number, &sc)) {
        atomic_store(&w->oldest_ms, sc.first_ms);
        sidecar_free(&sc);
    }
    pthread_mutex_unlock(&w->lock);
    return true;
}

static uint64_t free_bytes(struct wal *w)
{
    struct statvfs st;

    if (io_statvfs(w->dir, &st))
        return UINT64_MAX; /* the next write will tell */
    return (uint64_t)st.f_bavail * st.f_frsize;
}

static void set_full(struct wal *w, bool full)
{
    if (atomic_exchange(&w->full, full) == full)
        return;
    if (full)
        log_error("the disk is full; senders get 503 storage_full until there is room",
                  KS("dir", w->dir), KU("free_bytes", w->free_bytes));
    else
        log_info("there is room again; senders are served", KU("free_bytes", w->free_bytes));
    pthread_mutex_lock(&w->lock);
    pthread_cond_broadcast(&w->spare_ready);
    pthread_mutex_unlock(&w->lock);
}

static uint64_t needed_bytes(struct wal *w)
{
    uint64_t need;

    pthread_mutex_lock(&w->lock);
    need = w->cfg.reserve_bytes + (w->spare ? 0 : w->cfg.segment_bytes);
    pthread_mutex_unlock(&w->lock);
    return need;
}

/* Says whether there is room; trims nothing, so that it can run before the sinks' cursors are open.
 */
void helper_check_space(struct wal *w)
{
    atomic_store(&w->free_bytes, free_bytes(w));
    set_full(w, w->free_bytes < needed_bytes(w));
}

/* What retention asks for goes, then what the reserve asks for. */
static void trim(struct wal *w)
{
    while (trim_one(w, false))
        ;
    while (free_bytes(w) < needed_bytes(w) && trim_one(w, true))
        ;
}

static void update_backlog(struct wal *w)
{
    uint64_t lowest, bytes = 0, limit;
    bool any;

    pthread_mutex_lock(&w->lock);
    any = cursor_lowest(w, &lowest);
    limit = w->cfg.backlog_bytes;
    pthread_mutex_unlock(&w->lock);
    if (any)
        bytes = wal_backlog_bytes(w, lowest);
    atomic_store(&w->backlog_bytes, bytes);
    if (atomic_exchange(&w->backlog_full, bytes > limit) != (bytes > limit))
        log_warn(bytes > limit ? "the backlog is at its quota; senders get 503 backlog_full"
                               : "the backlog is below its quota again",
                 KU("bytes", bytes), KU("limit", limit));
}

static void make_spare(struct wal *w)
{
    struct err e = ERR_INIT;
    struct segment *s;
    uint64_t number;

    pthread_mutex_lock(&w->lock);
    number = w->segs[w->segs_n - 1]->number + 1;
    pthread_mutex_unlock(&w->lock);
    if (segment_create(w, number, &s, &e)) {
        if (helper_is_space_error(errno)) {
            set_full(w, true);
            return;
        }
        log_error("the next segment could not be made", KS("reason", e.text));
        atomic_store(&w->helper_failed, true);
    }
    pthread_mutex_lock(&w->lock);
    w->spare = s;
    pthread_cond_broadcast(&w->spare_ready);
    pthread_mutex_unlock(&w->lock);
}

/* A sealed segment without a sidecar, as a copy; false when there is none. */
static bool lacks_sidecar(struct wal *w, struct segment *copy)
{
    bool found = false;

    pthread_mutex_lock(&w->lock);
    for (size_t i = 0; i < w->segs_n && !found; i++)
        if (w->segs[i]->sealed && !w->segs[i]->has_sidecar) {
            *copy = *w->segs[i];
            found = true;
        }
    pthread_mutex_unlock(&w->lock);
    return found;
}

static void write_sidecar(struct wal *w, const struct segment *s)
{
    struct err e = ERR_INIT;
    struct sidecar sc;
    bool good = !sidecar_build(w, s, &sc, &e) && !sidecar_write(w, &sc, &e);

    sidecar_free(&sc);
    if (!good && !helper_is_space_error(errno)) {
        log_error("a sidecar could not be written", KS("reason", e.text));
        atomic_store(&w->helper_failed, true);
        return;
    }
    pthread_mutex_lock(&w->lock);
    for (size_t i = 0; good && i < w->segs_n; i++)
        if (w->segs[i]->number == s->number)
            w->segs[i]->has_sidecar = true;
    pthread_mutex_unlock(&w->lock);
}

/* Sidecars of trimmed segments go when the deduplication window has passed them. */
static void drop_old_sidecars(struct wal *w)
{
    char **names;
    size_t n;

    if (io_list(w->dir, &names, &n))
        return;
    for (size_t i = 0; i < n; i++) {
        struct span s = span_str(names[i]);
        struct sidecar sc;
        uint64_t number;
        bool gone;

        if (s.n != 20 || strcmp(names[i] + 16, ".idx") || !span_u64(span_of(s.p, 16), &number))
            continue;
        pthread_mutex_lock(&w->lock);
        gone = number < w->segs[0]->number;
        pthread_mutex_unlock(&w->lock);
        if (gone && !sidecar_read(w, number, &sc)) {
            char *path = file_path(w->dir, names[i]);
            if (clock_wall_ms() - sc.last_ms > w->dedup_cfg.window_ms)
                io_unlink(path);
            free(path);
            sidecar_free(&sc);
        }
    }
    file_names_free(names, n);
}

static bool wants_spare(struct wal *w)
{
    bool wanted;

    pthread_mutex_lock(&w->lock);
    wanted = !w->spare && !w->helper_failed;
    pthread_mutex_unlock(&w->lock);
    return wanted;
}

static void nap(struct wal *w)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec++;
    pthread_mutex_lock(&w->lock);
    if (!w->stopping && (w->spare || w->full || w->helper_failed))
        pthread_cond_timedwait(&w->helper_wake, &w->lock, &until);
    pthread_mutex_unlock(&w->lock);
}

void *helper_thread(void *arg)
{
    struct wal *w = arg;
    struct segment s;

    prctl(PR_SET_NAME, "log-helper");
    for (unsigned turn = 0; !w->stopping; turn++) {
        trim(w);
        helper_check_space(w);
        if (wants_spare(w) && !w->full)
            make_spare(w);
        if (lacks_sidecar(w, &s))
            write_sidecar(w, &s);
        update_backlog(w);
        if (turn % 600 == 0)
            drop_old_sidecars(w);
        nap(w);
    }
    return NULL;
}
