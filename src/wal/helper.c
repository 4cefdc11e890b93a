/* SPDX-License-Identifier: Apache-2.0 */
/* The helper thread: everything about files that no sender should wait for. It makes the spare
 * segment, writes sidecars of sealed segments, trims, and watches the free space.
 *
 * A segment goes when every sink's synced cursor is past it and retention or space asks for it;
 * ages count in CLOCK_BOOTTIME, so a clock jump trims nothing early. One that nobody holds is set
 * aside and becomes the next spare without being filled again; otherwise it is unlinked, and a
 * mapping that a reader holds stays valid.
 *
 * No space for the spare is a state, not a failure: the log is full until there is room. Any other
 * error ends the log at the next roll-over (P3: nothing is written where a segment should be). */
#include "room.h"

#include <errno.h>
#include <fcntl.h>
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

/* The log thread may be waiting for a spare that will not come. */
static void fail(struct wal *w, const char *what, const struct err *e)
{
    log_error(what, KS("reason", e->text));
    pthread_mutex_lock(&w->lock);
    atomic_store(&w->helper_failed, true);
    pthread_cond_broadcast(&w->spare_ready);
    pthread_mutex_unlock(&w->lock);
}

/* May the oldest segment go at all? Its successor must be known to be on the disk: its opening
 * record is what tells a restart which LSN comes next. Under lock. */
static bool may_go(const struct wal *w, const struct segment *s)
{
    uint64_t lowest;

    return s->sealed && s->has_sidecar && atomic_load(&w->durable_lsn) > s->last_lsn &&
           (!cursor_lowest(w, &lowest) || s->last_lsn <= lowest);
}

/* Takes the oldest segment out of the table, or NULL. Under lock. */
static struct segment *take_trimmable(struct wal *w, bool need_space)
{
    struct segment *s = w->segs_n > 1 ? w->segs[0] : NULL;
    uint64_t bytes = 0;

    for (size_t i = 0; i < w->segs_n; i++)
        bytes += w->segs[i]->bytes;
    if (!s || !may_go(w, s) ||
        !(need_space || bytes > w->cfg.retain_bytes ||
          clock_boot_ms() - s->sealed_boot_ms > w->cfg.retain_ms))
        return NULL;
    memmove(w->segs, w->segs + 1, --w->segs_n * sizeof *w->segs);
    atomic_store(&w->first_lsn, s->last_lsn + 1);
    return s;
}

/* A segment whose bytes were damaged lies on blocks that are not to be trusted again. No reader can
 * begin to hold what is no longer in the table. */
static bool can_recycle(const struct wal *w, const struct segment *s)
{
    return !w->aside && !s->damaged && s->bytes == w->cfg.segment_bytes &&
           (!s->map || atomic_load(&s->map->refs) == 1);
}

/* Unlinks it, or sets it aside. The folder is synced each time, so that no crash brings an older
 * segment back while a younger one is gone. */
static int remove_file(struct wal *w, const struct segment *s, bool recycle, struct err *e)
{
    char *path = segment_path(w, s->number);
    int rc;

    if (recycle && !segment_set_aside(w, s, e)) {
        w->aside = true;
        rc = 0;
    } else if (io_unlink(path)) {
        rc = err_errno(e, EXIT_IO, "wal: unlink %s", path);
    } else {
        rc = file_sync_dir(w->dir, e);
    }
    free(path);
    return rc;
}

static bool trim_one(struct wal *w, bool need_space)
{
    struct err e = ERR_INIT;
    struct segment *s;
    int64_t oldest_ms = 0;
    bool recycle;

    pthread_mutex_lock(&w->lock);
    s = take_trimmable(w, need_space);
    recycle = s && can_recycle(w, s) && !(need_space && w->spare);
    if (s)
        oldest_ms = w->segs[0]->first_ms;
    pthread_mutex_unlock(&w->lock);
    if (!s)
        return false;
    if (oldest_ms)
        atomic_store(&w->oldest_ms, oldest_ms);
    if (remove_file(w, s, recycle, &e))
        fail(w, "a segment could not be removed", &e);
    else
        log_info("segment trimmed", KU("number", s->number), KU("last_lsn", s->last_lsn));
    segment_free(s);
    return !w->helper_failed;
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

/* Is there enough for the reserve, and for the spare where one is to be made? */
static bool has_space(struct wal *w)
{
    uint64_t need;

    atomic_store(&w->free_bytes, free_bytes(w));
    pthread_mutex_lock(&w->lock);
    need = w->cfg.reserve_bytes + (w->spare || w->aside ? 0 : w->cfg.segment_bytes);
    pthread_mutex_unlock(&w->lock);
    return w->free_bytes >= need;
}

/* Says whether there is room; trims nothing, so that it can run before the sinks' cursors are open.
 */
void helper_check_space(struct wal *w)
{
    set_full(w, !has_space(w) || w->spare_denied);
}

static bool drop_aside(struct wal *w)
{
    bool dropped = w->aside && w->spare;

    if (dropped)
        segment_discard_aside(w);
    w->aside &= !dropped;
    return dropped;
}

/* What retention asks for goes, then what the reserve or the missing spare asks for. */
static void trim(struct wal *w)
{
    while (trim_one(w, false))
        ;
    while ((!has_space(w) || (w->spare_denied && !w->aside)) &&
           (drop_aside(w) || trim_one(w, true)))
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

static bool wants_spare(struct wal *w)
{
    bool wanted;

    pthread_mutex_lock(&w->lock);
    wanted = !w->spare && !w->helper_failed;
    pthread_mutex_unlock(&w->lock);
    return wanted;
}

static void make_spare(struct wal *w)
{
    struct segment_plan plan = { .bytes = w->cfg.segment_bytes };
    struct err e = ERR_INIT;
    struct segment *s;
    int rc;

    pthread_mutex_lock(&w->lock);
    plan.number = w->segs[w->segs_n - 1]->number + 1;
    if (w->waiting) /* its tail must fit */
        plan.bytes = MAX(plan.bytes, w->waiting->bytes);
    pthread_mutex_unlock(&w->lock);
    plan.recycle = w->aside && plan.bytes == w->cfg.segment_bytes;
    rc = segment_create(w, &plan, &s, &e);
    w->aside = false;
    w->spare_denied = rc && helper_is_space_error(errno);
    if (rc && !w->spare_denied)
        fail(w, "the next segment could not be made", &e);
    pthread_mutex_lock(&w->lock);
    w->spare = s;
    pthread_cond_broadcast(&w->spare_ready);
    pthread_mutex_unlock(&w->lock);
}

/* Where there is no room for a spare a delivered segment becomes one, before any sender is refused.
 */
static void provide_spare(struct wal *w)
{
    if (!wants_spare(w) || !has_space(w))
        return;
    make_spare(w);
    if (w->spare_denied && !w->helper_failed) {
        trim(w);
        if (w->aside)
            make_spare(w);
    }
    helper_check_space(w);
}

/* A mapping that only the table holds is given back, so that a long backlog read once does not stay
 * mapped. What it brought into the page cache may go again. */
static void drop_idle_maps(struct wal *w)
{
    pthread_mutex_lock(&w->lock);
    for (size_t i = 0; i < w->segs_n; i++) {
        struct segment *s = w->segs[i];
        if (s->map && atomic_load(&s->map->refs) == 1) {
            wal_release(s->map);
            s->map = NULL;
            s->cached = true;
        }
    }
    pthread_mutex_unlock(&w->lock);
}

/* A sealed segment that every sink has passed and nobody reads, or NULL. Under lock. */
static struct segment *to_forget(const struct wal *w)
{
    uint64_t lowest = UINT64_MAX;

    cursor_lowest(w, &lowest);
    for (size_t i = 0; i < w->segs_n; i++) {
        struct segment *s = w->segs[i];
        if (s->sealed && s->has_sidecar && s->cached && !s->map && s->last_lsn <= lowest)
            return s;
    }
    return NULL;
}

/* What was delivered is seldom read again, and would fill the page cache: it makes room for others,
 * and for the log itself, which is quicker on memory that was in use than on memory that never was.
 */
static void forget_delivered(struct wal *w)
{
    for (;;) {
        struct segment *s;
        char *path;
        int fd;

        pthread_mutex_lock(&w->lock);
        if ((s = to_forget(w)))
            s->cached = false;
        pthread_mutex_unlock(&w->lock);
        if (!s)
            return;
        path = segment_path(w, s->number);
        fd = io_open(path, O_RDONLY, 0);
        if (fd >= 0) {
            io_forget(fd, 0, s->bytes);
            io_close(fd);
        }
        free(path);
    }
}

/* A sealed segment without a sidecar, as a copy; false when there is none. What was made of it when
 * it was sealed goes with the copy. */
static bool lacks_sidecar(struct wal *w, struct segment *copy)
{
    bool found = false;

    pthread_mutex_lock(&w->lock);
    for (size_t i = 0; i < w->segs_n && !found; i++)
        if (w->segs[i]->sealed && !w->segs[i]->has_sidecar) {
            *copy = *w->segs[i];
            w->segs[i]->sidecar = NULL;
            found = true;
        }
    pthread_mutex_unlock(&w->lock);
    return found;
}

static bool write_sidecar(struct wal *w, const struct segment *s)
{
    struct err e = ERR_INIT;
    struct sidecar sc = s->sidecar ? *s->sidecar : (struct sidecar){ .n = 0 };
    bool good;

    good = (s->sidecar || !sidecar_build(w, s, &sc, &e)) && !sidecar_write(w, &sc, &e);
    if (!good && !helper_is_space_error(errno))
        fail(w, "a sidecar could not be written", &e);
    pthread_mutex_lock(&w->lock);
    for (size_t i = 0; good && i < w->segs_n; i++)
        if (w->segs[i]->number == s->number)
            sidecar_known(w->segs[i], &sc);
    pthread_mutex_unlock(&w->lock);
    sidecar_free(&sc);
    free(s->sidecar);
    return good;
}

/* Sidecars of trimmed segments go when the deduplication window has passed them. */
static void drop_old_sidecars(struct wal *w)
{
    struct err ignored = ERR_INIT;
    char **names;
    size_t n;

    if (file_list_numbered(w->dir, ".idx", &names, &n, &ignored))
        return;
    for (size_t i = 0; i < n; i++) {
        struct sidecar sc;
        uint64_t number;
        bool gone;

        file_is_numbered(names[i], ".idx", &number);
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

static void nap(struct wal *w)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec++;
    pthread_mutex_lock(&w->lock);
    if (!w->helper_stop && (w->spare || w->full || w->helper_failed))
        pthread_cond_timedwait(&w->helper_wake, &w->lock, &until);
    pthread_mutex_unlock(&w->lock);
}

void *helper_thread(void *arg)
{
    struct wal *w = arg;
    struct scrub scrub;
    struct segment s;

    prctl(PR_SET_NAME, "log-helper");
    segment_discard_aside(w);
    scrub_init(&scrub);
    for (unsigned turn = 0; !w->helper_stop; turn++) {
        if (!w->helper_failed)
            trim(w);
        helper_check_space(w);
        provide_spare(w);
        while (lacks_sidecar(w, &s) && write_sidecar(w, &s))
            ;
        update_backlog(w);
        drop_idle_maps(w);
        forget_delivered(w);
        scrub_some(w, &scrub);
        heal_some(w);
        if (turn % 600 == 0)
            drop_old_sidecars(w);
        nap(w);
    }
    scrub_close(&scrub);
    return NULL;
}
