/* SPDX-License-Identifier: Apache-2.0 */
/* Segments: making them, finding them, mapping them.
 *
 * A segment is filled with zeros before it is used: overwriting written blocks changes no metadata,
 * so that a commit's fdatasync needs no journal commit of the file system. The zeros go past the
 * page cache where the file system lets them, which costs less and leaves the memory to others:
 * append.c writes whole pages, so that none of them is ever read. A file that
 * was a segment once needs no zeros: its blocks are written, and the fresh salt in its new header
 * makes every checksum of its earlier life wrong. Whatever step of either a crash interrupts, the
 * folder holds the old segment, the whole new one, or a spare.tmp that nobody reads. */
#include "room.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "crypto.h"
#include "log.h"

#define ZEROS (1024 * 1024)
#define DIRECT_ALIGNMENT 4096 /* no file system asks for more */
#define SPARE_NAME "spare.tmp"

void segment_name(uint64_t number, char out[32])
{
    snprintf(out, 32, "%016llu.wal", (unsigned long long)number);
}

char *segment_path(const struct wal *w, uint64_t number)
{
    char name[32];

    segment_name(number, name);
    return file_path(w->dir, name);
}

static int write_head(const struct wal *w, const char *path, const struct segment *s, struct err *e)
{
    struct segment_header h = { .format = FORMAT_VERSION,
                                .min_reader = 1,
                                .number = s->number,
                                .salt = s->salt,
                                .bytes = s->bytes,
                                .flags = s->recycled ? SEGMENT_RECYCLED : 0 };
    uint8_t head[SEGMENT_HEADER];

    memcpy(h.log_id, w->log_id, sizeof h.log_id);
    snprintf(h.writer, sizeof h.writer, "hookline %s", HOOKLINE_VERSION);
    format_put_segment(head, &h);
    return file_write(s->fd, path, head, sizeof head, 0, e);
}

static int write_zeros(const char *path, const struct segment *s, struct err *e)
{
    static _Alignas(DIRECT_ALIGNMENT) uint8_t zeros[ZEROS]; /* never written: takes no memory */
    bool direct = !io_direct(s->fd, true);
    int rc = 0;

    for (uint64_t at = SEGMENT_HEADER; !rc && at < s->bytes; at += ZEROS) {
        size_t n = (size_t)MIN((uint64_t)ZEROS, s->bytes - at);
        rc = file_write(s->fd, path, zeros, n, at, e);
        if (rc && direct && errno == EINVAL) { /* it wants another alignment */
            direct = io_direct(s->fd, false) != 0;
            rc = file_write(s->fd, path, zeros, n, at, e);
        }
    }
    return !rc && direct && io_direct(s->fd, false) ? err_errno(e, EXIT_IO, "wal: %s", path) : rc;
}

int segment_set_aside(struct wal *w, const struct segment *s, struct err *e)
{
    char *tmp = file_path(w->dir, SPARE_NAME), *path = segment_path(w, s->number);
    int rc = io_rename(path, tmp) ? err_errno(e, EXIT_IO, "wal: rename %s", path)
                                  : file_sync_dir(w->dir, e);

    free(tmp);
    free(path);
    return rc;
}

void segment_discard_aside(struct wal *w)
{
    char *tmp = file_path(w->dir, SPARE_NAME);

    if (io_unlink(tmp) && errno != ENOENT)
        log_warn("a file could not be removed", KS("path", tmp), KERRNO());
    free(tmp);
}

int segment_create(struct wal *w, const struct segment_plan *plan, struct segment **out,
                   struct err *e)
{
    char *tmp = file_path(w->dir, SPARE_NAME), *path = segment_path(w, plan->number);
    struct segment *s = xcalloc(1, sizeof *s);
    int rc = -1, error;

    *s = (struct segment){ .number = plan->number,
                           .bytes = plan->bytes,
                           .recycled = plan->recycle,
                           .end = SEGMENT_HEADER,
                           .fd = io_open(tmp, O_RDWR | (plan->recycle ? 0 : O_CREAT | O_TRUNC),
                                         0600) };
    crypto_random(&s->salt, sizeof s->salt);
    if (s->fd < 0) {
        err_errno(e, EXIT_IO, "wal: create %s", tmp);
        goto out;
    }
    if (write_head(w, tmp, s, e) || (!plan->recycle && write_zeros(tmp, s, e)))
        goto out;
    if (io_fsync(s->fd)) {
        err_errno(e, EXIT_IO, "wal: fsync %s", tmp);
        goto out;
    }
    if (io_rename(tmp, path)) {
        err_errno(e, EXIT_IO, "wal: rename %s", tmp);
        goto out;
    }
    rc = file_sync_dir(w->dir, e);
out:
    error = errno;
    if (rc) {
        io_unlink(tmp);
        segment_free(s);
        s = NULL;
    }
    *out = s;
    free(tmp);
    free(path);
    errno = error;
    return rc;
}

int segment_open_fd(const struct wal *w, struct segment *s, struct err *e)
{
    char *path = segment_path(w, s->number);

    s->fd = io_open(path, O_RDWR, 0);
    if (s->fd < 0)
        err_errno(e, EXIT_IO, "wal: open %s", path);
    free(path);
    return s->fd < 0 ? -1 : 0;
}

void segment_free(struct segment *s)
{
    if (!s)
        return;
    if (s->fd >= 0)
        io_close(s->fd);
    if (s->map)
        wal_release(s->map);
    if (s->sidecar)
        sidecar_free(s->sidecar);
    free(s->sidecar);
    free(s);
}

void segment_publish(struct wal *w, struct segment *s)
{
    pthread_mutex_lock(&w->lock);
    w->segs = xrealloc(w->segs, (w->segs_n + 1) * sizeof *w->segs);
    w->segs[w->segs_n++] = s;
    pthread_mutex_unlock(&w->lock);
}

/* --- mappings -----------------------------------------------------------------------------------
 * A disk error under a mapping arrives as SIGBUS. The handler puts a page of zeros there, so that
 * the reader goes on, finds the checksum wrong and names the damage like any other. Only addresses
 * inside the log's mappings are handled; anything else is the default death. */

#define MAPS_MAX 4096
static struct {
    _Atomic uintptr_t p;
    _Atomic size_t n;
} maps[MAPS_MAX];

static void on_sigbus(int sig, siginfo_t *info, void *context UNUSED)
{
    uintptr_t at = (uintptr_t)info->si_addr;

    for (size_t i = 0; i < MAPS_MAX; i++) {
        uintptr_t p = atomic_load(&maps[i].p);
        if (p && at >= p && at < p + atomic_load(&maps[i].n) &&
            mmap((void *)(at & ~(uintptr_t)4095), 4096, PROT_READ,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED)
            return;
    }
    signal(sig, SIG_DFL);
    raise(sig);
}

void segment_install_signals(void)
{
    struct sigaction sa = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO };

    sigaction(SIGBUS, &sa, NULL);
    signal(SIGXFSZ, SIG_IGN); /* a limit on file sizes is an error of the call like any other */
}

static void map_register(const struct wal_map *m)
{
    for (size_t i = 0; i < MAPS_MAX; i++) {
        uintptr_t none = 0;
        if (atomic_compare_exchange_strong(&maps[i].p, &none, (uintptr_t)m->p)) {
            atomic_store(&maps[i].n, m->n);
            return;
        }
    }
}

static void map_unregister(const struct wal_map *m)
{
    for (size_t i = 0; i < MAPS_MAX; i++)
        if (atomic_load(&maps[i].p) == (uintptr_t)m->p) {
            atomic_store(&maps[i].n, 0);
            atomic_store(&maps[i].p, 0);
            return;
        }
}

struct wal_map *map_new(int fd, size_t n)
{
    struct wal_map *m;
    void *p = io_map(fd, n);

    if (!p)
        return NULL;
    m = xcalloc(1, sizeof *m);
    *m = (struct wal_map){ .refs = 1, .p = p, .n = n };
    map_register(m);
    return m;
}

void wal_release(struct wal_map *m)
{
    if (atomic_fetch_sub(&m->refs, 1) != 1)
        return;
    map_unregister(m);
    io_unmap(m->p, m->n);
    free(m);
}

/* Under lock. */
static struct wal_map *map_of(struct wal *w, struct segment *s, struct err *e)
{
    char *path;
    int fd;

    if (!s->map) {
        path = segment_path(w, s->number);
        fd = io_open(path, O_RDONLY, 0);
        s->map = fd < 0 ? NULL : map_new(fd, (size_t)s->bytes);
        if (!s->map)
            err_errno(e, EXIT_IO, "wal: map %s", path);
        if (fd >= 0)
            io_close(fd);
        free(path);
    }
    if (s->map)
        atomic_fetch_add(&s->map->refs, 1);
    return s->map;
}

struct wal_map *segment_hold(struct wal *w, uint64_t after, struct segment *copy, struct err *e)
{
    struct wal_map *m = NULL;

    pthread_mutex_lock(&w->lock);
    for (size_t i = 0; i < w->segs_n; i++) {
        struct segment *s = w->segs[i];
        if (s->sealed && s->last_lsn <= after)
            continue;
        m = map_of(w, s, e);
        /* the rest is the log thread's own as long as it is not sealed */
        *copy = (struct segment){ .number = s->number, .salt = s->salt, .sealed = s->sealed };
        copy->last_lsn = s->sealed ? s->last_lsn : 0;
        break;
    }
    pthread_mutex_unlock(&w->lock);
    return m;
}
