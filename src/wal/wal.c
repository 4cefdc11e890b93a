/* SPDX-License-Identifier: Apache-2.0 */
/* Opening and closing the log, its settings, and what is known of it. */
#include "wal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"
#include "mend.h"

static const char *const damage_words[] = { "refuse", "quarantine", NULL };

const struct cfg_key *wal_cfg_keys(void)
{
    static const struct cfg_key keys[] = {
        { "dir", CFG_STR, offsetof(struct wal_cfg, dir), "/var/lib/hookline",
          .help = "Folder of the log, on a disk of its own kind: nothing else may write here." },
        { "segment_bytes", CFG_BYTES, offsetof(struct wal_cfg, segment_bytes), "64MiB",
          (int64_t)KIB(64), (int64_t)GIB(1), .help = "Size of one file of the log." },
        { "retain", CFG_MSEC, offsetof(struct wal_cfg, retain_ms), "72h", .flags = CFG_RELOAD,
          .help = "How long delivered events are kept." },
        { "retain_bytes", CFG_BYTES, offsetof(struct wal_cfg, retain_bytes), "10GiB",
          .flags = CFG_RELOAD, .help = "No more than this is kept of what was delivered." },
        { "backlog_bytes", CFG_BYTES, offsetof(struct wal_cfg, backlog_bytes), "100GiB",
          .flags = CFG_RELOAD,
          .help = "More than this undelivered: senders get 503 backlog_full." },
        { "reserve_bytes", CFG_BYTES, offsetof(struct wal_cfg, reserve_bytes), "256MiB",
          .flags = CFG_RELOAD,
          .help = "Less than this free with nothing left to trim: senders get 503 storage_full." },
        { "on_damage", CFG_ENUM, offsetof(struct wal_cfg, on_damage), "refuse",
          .words = damage_words,
          .help =
              "What is done with damaged acknowledged data: a start refuses and a sink that meets "
              "it stops, or it is set aside and named, and the rest goes on." },
        { "allow_volatile", CFG_BOOL, offsetof(struct wal_cfg, allow_volatile), "false",
          .help =
              "Accept a folder on tmpfs, ramfs or a container's overlay, which do not survive." },
        { 0 }
    };

    return keys;
}

const struct cfg_key *wal_dedup_keys(void)
{
    static const struct cfg_key keys[] = {
        { "window", CFG_MSEC, offsetof(struct wal_dedup_cfg, window_ms), "72h", .flags = CFG_RELOAD,
          .help = "How long a delivery's id is remembered; longer than the provider tries again." },
        { "entries", CFG_INT, offsetof(struct wal_dedup_cfg, entries), "1000000", 0, 100000000,
          .help = "How many ids are remembered; 32 bytes of disk and 6 of memory each." },
        { 0 }
    };

    return keys;
}

/* Magic numbers of statfs(2). */
static bool is_volatile(long type)
{
    return type == 0x01021994 || type == (long)0x858458f6 || type == 0x794c7630;
}

static int check_folder(struct wal *w, struct err *e)
{
    long type;

    if (io_mkdir(w->dir, 0750) && errno != EEXIST)
        return err_errno(e, EXIT_IO, "wal: create folder %s (as root: install -d -o %u -m 0750 %s)",
                         w->dir, (unsigned)geteuid(), w->dir);
    if (io_fs_type(w->dir, &type))
        return err_errno(e, EXIT_IO, "wal: folder %s", w->dir);
    if (is_volatile(type) && !w->cfg.allow_volatile)
        return err_set(
            e, EXIT_BAD_CONFIG,
            "wal: folder %s is on a file system that does not survive (tmpfs, ramfs, overlay); "
            "mount a volume there, or set log.allow_volatile: true",
            w->dir);
    return 0;
}

/* The number in the file is for the one who finds it locked, no more: on a full disk it may be the
 * one of the process before. It has one width, so that a file that is there never grows. */
int wal_lock(struct wal *w, struct err *e)
{
    char *path = file_path(w->dir, "lock"), pid[16];
    size_t got = 0;
    int rc = 0;

    w->lock_fd = io_open(path, O_RDWR | O_CREAT, 0600);
    if (w->lock_fd < 0) {
        rc = err_errno(e, EXIT_IO, "wal: open %s (as root: chown -R %u %s)", path,
                       (unsigned)geteuid(), w->dir);
    } else if (io_lock(w->lock_fd)) {
        if (file_read(w->lock_fd, path, pid, sizeof pid - 1, 0, &got, e))
            got = 0;
        pid[got] = '\0';
        rc = err_set(e, EXIT_TEMPORARY, "wal: directory locked by pid %ld", strtol(pid, NULL, 10));
    } else {
        snprintf(pid, sizeof pid, "%-15d", (int)getpid());
        rc = file_write(w->lock_fd, path, pid, sizeof pid - 1, 0, e);
        if (rc && helper_is_space_error(errno))
            rc = 0;
    }
    free(path);
    return rc;
}

/* Recovery and the next segment come first where room is short. */
static void open_index(struct wal *w)
{
    w->dedup = dedup_new(w->dir, &w->dedup_cfg, w->cfg.reserve_bytes + 2 * w->cfg.segment_bytes);
}

static void init_sync(struct wal *w)
{
    pthread_condattr_t attr;

    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&w->helper_wake, &attr);
    pthread_cond_init(&w->spare_ready, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&w->lock, NULL);
    pthread_mutex_init(&w->sync.lock, NULL);
    pthread_cond_init(&w->sync.wake, NULL);
    pthread_cond_init(&w->sync.moved, NULL);
    inbox_init(&w->in);
    histogram_init_seconds(&w->commit_seconds);
    histogram_init_counts(&w->commit_records);
}

static void destroy(struct wal *w)
{
    for (size_t i = 0; i < w->segs_n; i++)
        segment_free(w->segs[i]);
    segment_free(w->spare);
    cursor_forget_all(w);
    free(w->segs);
    free(w->kept);
    free(w->batch);
    dedup_free(w->dedup);
    free(w->old_ids);
    if (w->lock_fd >= 0)
        io_close(w->lock_fd);
    inbox_close(&w->in);
    pthread_mutex_destroy(&w->lock);
    pthread_cond_destroy(&w->helper_wake);
    pthread_cond_destroy(&w->spare_ready);
    pthread_mutex_destroy(&w->sync.lock);
    pthread_cond_destroy(&w->sync.wake);
    pthread_cond_destroy(&w->sync.moved);
    free(w->cfg.dir);
    free(w);
}

static int open_once(struct wal **out, const struct wal_cfg *cfg, const struct wal_dedup_cfg *dedup,
                     struct err *e)
{
    struct wal *w = xcalloc(1, sizeof *w);
    bool ready;

    *out = NULL;
    init_sync(w);
    w->cfg = *cfg;
    w->cfg.dir = w->dir = xstrdup(cfg->dir);
    w->dedup_cfg = *dedup;
    w->lock_fd = -1;
    w->turned_ms = clock_mono_ms();
    segment_install_signals();
    ready = !check_folder(w, e) && !wal_lock(w, e) && !fence_check(w, e) && !identity_load(w, e);
    if (ready)
        open_index(w);
    if (!ready || recover(w, e) || heal_load(w, e)) {
        destroy(w);
        return -1;
    }
    atomic_store(&w->first_lsn, w->segs[0]->first_lsn);
    if (w->segs[0]->first_ms)
        atomic_store(&w->oldest_ms, w->segs[0]->first_ms);
    helper_check_space(w);
    log_info("log open", KS("dir", w->dir), KS("id", w->id), KU("first_lsn", w->first_lsn),
             KU("last_lsn", w->durable_lsn), KU("segments", w->segs_n));
    *out = w;
    return 0;
}

/* A start that meets damage repairs the folder first, where the configuration says so. */
int wal_open(struct wal **out, const struct wal_cfg *cfg, const struct wal_dedup_cfg *dedup,
             struct err *e)
{
    int rc = open_once(out, cfg, dedup, e);

    if (!rc || e->code != EXIT_DAMAGED || cfg->on_damage != DAMAGE_QUARANTINE)
        return rc;
    log_error("the log is damaged; what is damaged is set aside", KS("reason", e->text));
    *e = (struct err)ERR_INIT;
    return wal_repair(cfg->dir, NULL, e) ? -1 : open_once(out, cfg, dedup, e);
}

void wal_start(struct wal *w, struct inbox *failed, struct msg *failed_msg)
{
    w->failed_to = failed;
    w->failed_msg = failed_msg;
    w->started = true;
    if (pthread_create(&w->helper, NULL, helper_thread, w) ||
        pthread_create(&w->sync.thread, NULL, commit_thread, w) ||
        pthread_create(&w->thread, NULL, append_thread, w))
        die(EXIT_IO, "the threads of the log could not be started");
}

static void nothing(struct msg *m UNUSED, void *self UNUSED)
{
}

void wal_close(struct wal *w)
{
    struct msg wake = { .deliver = nothing };

    if (!w)
        return;
    if (w->started) {
        atomic_store(&w->stopping, true);
        inbox_post(&w->in, &wake);
        pthread_join(w->thread, NULL);
        commit_stop(w);
        atomic_store(&w->helper_stop, true);
        pthread_mutex_lock(&w->lock);
        pthread_cond_broadcast(&w->helper_wake);
        pthread_mutex_unlock(&w->lock);
        pthread_join(w->helper, NULL);
    }
    destroy(w);
}

void wal_reconfigure(struct wal *w, const struct wal_cfg *cfg, const struct wal_dedup_cfg *dedup)
{
    pthread_mutex_lock(&w->lock);
    w->cfg.retain_ms = cfg->retain_ms;
    w->cfg.retain_bytes = cfg->retain_bytes;
    w->cfg.backlog_bytes = cfg->backlog_bytes;
    w->cfg.reserve_bytes = cfg->reserve_bytes;
    w->dedup_cfg.window_ms = dedup->window_ms;
    dedup_configure(w->dedup, dedup);
    pthread_cond_signal(&w->helper_wake);
    pthread_mutex_unlock(&w->lock);
}

const char *wal_log_id(const struct wal *w)
{
    return w->id;
}

uint64_t wal_durable_lsn(const struct wal *w)
{
    return atomic_load(&w->durable_lsn);
}

/* Whole segments by their size, the one with the LSN by the share of its records. */
uint64_t wal_backlog_bytes(const struct wal *w, uint64_t after)
{
    pthread_mutex_t *lock = (pthread_mutex_t *)(uintptr_t)&w->lock;
    uint64_t bytes = 0, durable = atomic_load(&w->durable_lsn);

    pthread_mutex_lock(lock);
    for (size_t i = 0; i < w->segs_n; i++) {
        const struct segment *s = w->segs[i];
        uint64_t last = s->sealed ? s->last_lsn : durable, n = last + 1 - s->first_lsn;
        if (last <= after || !n)
            continue;
        bytes += after < s->first_lsn
                     ? s->bytes
                     : (uint64_t)((double)s->bytes * (double)(last - after) / (double)n);
    }
    pthread_mutex_unlock(lock);
    return bytes;
}

void wal_info(const struct wal *w, struct wal_info *out)
{
    pthread_mutex_t *lock = (pthread_mutex_t *)(uintptr_t)&w->lock;
    int64_t writing = atomic_load(&w->writing_since_ms),
            syncing = atomic_load(&w->syncing_since_ms);
    int64_t started = syncing ? syncing : writing;

    *out = (struct wal_info){ .dir = w->dir,
                              .first_lsn = w->first_lsn,
                              .last_lsn = w->durable_lsn,
                              .durable_lsn = w->durable_lsn,
                              .free_bytes = w->free_bytes,
                              .backlog_bytes = w->backlog_bytes,
                              .oldest_ms = w->oldest_ms,
                              .stalled_ms = started ? MAX(clock_mono_ms() - started, 0) : 0,
                              .turned_ms = w->turned_ms,
                              .failed = w->failed };
    memcpy(out->id, w->id, sizeof out->id);
    out->state = w->failed ? "failed" : w->full ? "full" : w->backlog_full ? "backlog_full" : "ok";
    pthread_mutex_lock(lock);
    out->segments = w->segs_n;
    out->lost = w->lost_all;
    for (size_t i = 0; i < w->segs_n; i++) {
        out->bytes += w->segs[i]->bytes;
        out->damaged += w->segs[i]->damaged;
    }
    pthread_mutex_unlock(lock);
    out->dedup_reach_ms = w->dedup_oldest_ms ? MAX(clock_wall_ms() - w->dedup_oldest_ms, 0) : 0;
}

static void gauge(struct buf *out, const char *name, const char *help, double v)
{
    metrics_head(out, name, "gauge", help);
    metrics_value(out, name, v, NULL);
}

static void kept_json(const struct kept *k, struct buf *json)
{
    buf_printf(json, "{\"segment\":%llu,\"offset\":%llu,\"bytes\":%llu,\"file\":",
               (unsigned long long)k->segment, (unsigned long long)k->offset,
               (unsigned long long)k->bytes);
    buf_json_string(json, span_str(k->name));
    if (k->first_lsn)
        buf_printf(json, ",\"lost_from\":%llu,\"lost_to\":%llu", (unsigned long long)k->first_lsn,
                   (unsigned long long)k->last_lsn);
    buf_addc(json, '}');
}

void wal_damage_json(const struct wal *w, struct buf *json)
{
    pthread_mutex_t *lock = (pthread_mutex_t *)(uintptr_t)&w->lock;
    unsigned long long damaged = 0;

    pthread_mutex_lock(lock);
    for (size_t i = 0; i < w->segs_n; i++)
        damaged += w->segs[i]->damaged;
    buf_printf(json, "{\"segments\":%llu,\"lost_events\":%llu,\"quarantined\":%llu,\"latest\":[",
               damaged, (unsigned long long)w->lost_all, (unsigned long long)w->kept_all);
    for (size_t i = 0; i < w->kept_n; i++) {
        buf_adds(json, i ? "," : "");
        kept_json(&w->kept[i], json);
    }
    pthread_mutex_unlock(lock);
    buf_printf(json, "],\"scrub\":{\"bytes\":%llu,\"passes\":%llu,\"found\":%llu}}",
               (unsigned long long)counter_get(&w->scrubbed_bytes),
               (unsigned long long)counter_get(&w->scrub_passes),
               (unsigned long long)counter_get(&w->scrub_found));
}

static void total(struct buf *out, const char *name, const char *help, const struct counter *c)
{
    metrics_head(out, name, "counter", help);
    metrics_value(out, name, (double)counter_get(c), NULL);
}

void wal_metrics(const struct wal *w, struct buf *out)
{
    struct wal_info i;

    wal_info(w, &i);
    gauge(out, "hookline_log_last_lsn", "LSN of the last durable record.", (double)i.last_lsn);
    gauge(out, "hookline_log_bytes", "Size of all segments.", (double)i.bytes);
    gauge(out, "hookline_log_backlog_bytes", "Log that some sink has not passed.",
          (double)i.backlog_bytes);
    gauge(out, "hookline_log_free_bytes", "Free space where the log lies.", (double)i.free_bytes);
    gauge(out, "hookline_log_retained_seconds", "Age of the oldest retained record.",
          i.oldest_ms ? (double)(clock_wall_ms() - i.oldest_ms) / 1e3 : 0);
    gauge(out, "hookline_log_full", "1 while senders get 503 storage_full.", w->full);
    gauge(out, "hookline_log_damaged_segments", "Segments in which a record is not right.",
          (double)i.damaged);
    gauge(out, "hookline_log_lost_events", "Events whose damaged records were set aside.",
          (double)i.lost);
    total(out, "hookline_log_scrubbed_bytes_total", "Bytes that the scrub has read.",
          &w->scrubbed_bytes);
    total(out, "hookline_log_scrub_found_total", "Segments in which the scrub found damage.",
          &w->scrub_found);
    gauge(out, "hookline_dedup_reach_seconds", "How far back repeats are recognised.",
          (double)i.dedup_reach_ms / 1e3);
    metrics_head(out, "hookline_commit_duration_seconds", "histogram",
                 "Write and sync of one group.");
    metrics_histogram(out, "hookline_commit_duration_seconds", &w->commit_seconds, NULL);
    metrics_head(out, "hookline_commit_records", "histogram", "Records of one group.");
    metrics_histogram(out, "hookline_commit_records", &w->commit_records, NULL);
    total(out, "hookline_log_discarded_bytes_total",
          "Unacknowledged bytes that recovery set aside.", &w->discarded_bytes);
}
