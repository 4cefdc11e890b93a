/* SPDX-License-Identifier: Apache-2.0 */
/* A disk that fails: every io_*() call of the log, with the n-th one going wrong. In place of
 * src/wal/io.c in the test that includes it.
 *
 * Nothing is really synced. Instead what is not synced is remembered with what was there before, so
 * that a power cut can take it back: name changes are taken back from the newest to some point, as
 * a journal does; writes one by one, whole or from a sector on. */
#pragma once

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "wal/io.h"

enum disk_mode {
    DISK_GOOD,
    DISK_EIO,   /* the n-th call fails, the next would succeed */
    DISK_FULL,  /* from the n-th call on there is no room for more; what is there can be overwritten
                 */
    DISK_SHORT, /* half of it, where it is a read or a write */
    DISK_EINTR,
    DISK_DEAD,  /* nothing reaches the disk from the n-th call on: the process was killed */
    DISK_POWER, /* the same, and what was not synced is lost, all of it or some */
};

struct change {
    enum { CHANGE_WRITE, CHANGE_CREATE, CHANGE_RENAME, CHANGE_UNLINK } kind;
    int fd; /* CHANGE_WRITE: our own */
    ino_t inode;
    uint64_t off;
    size_t n;
    char *old;
    char from[160], to[160], kept[160]; /* kept: a second name of what would be gone */
};

static struct {
    pthread_mutex_t lock;
    enum disk_mode mode;
    unsigned calls, fail_at, seed, kept;
    bool hit, sync_failed;
    struct change v[4096];
    size_t n;
} disk = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* What goes to segments, and a gate that holds their data syncs before they begin. */
static struct {
    atomic_uint writes, syncs; /* begun since it was shut, or ever */
    atomic_int free;           /* how many more may pass; -1: all */
    atomic_bool fail;          /* those that pass fail */
    unsigned linger_us;        /* before each, so that more is written ahead of it */
} disk_gate = { .free = -1 };

static UNUSED void disk_shut(void)
{
    disk_gate.writes = disk_gate.syncs = 0;
    disk_gate.free = 0;
}

static UNUSED void disk_let(int n)
{
    disk_gate.free += n;
}

static UNUSED void disk_open(void)
{
    disk_gate.free = -1;
}

static bool is_segment(int fd)
{
    char link[32], path[160] = "";

    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    return readlink(link, path, sizeof path - 1) > 0 && strstr(path, ".wal");
}

static void pass_gate(void)
{
    int n;

    disk_gate.syncs++;
    if (disk_gate.linger_us)
        usleep(disk_gate.linger_us);
    while (!(n = disk_gate.free))
        usleep(100);
    if (n > 0)
        disk_gate.free--;
}

static void change_free(struct change *c)
{
    if (c->kind == CHANGE_WRITE)
        close(c->fd);
    if (c->kept[0])
        unlink(c->kept);
    free(c->old);
}

/* Keeps the changes for which `keep` says so. */
static void disk_forget(bool (*gone)(const struct change *c, ino_t inode), ino_t inode)
{
    size_t kept = 0;

    for (size_t i = 0; i < disk.n; i++)
        if (gone(&disk.v[i], inode))
            change_free(&disk.v[i]);
        else
            disk.v[kept++] = disk.v[i];
    disk.n = kept;
}

static bool is_write_to(const struct change *c, ino_t inode)
{
    return c->kind == CHANGE_WRITE && c->inode == inode;
}

static bool is_name(const struct change *c, ino_t inode UNUSED)
{
    return c->kind != CHANGE_WRITE;
}

static bool is_any(const struct change *c UNUSED, ino_t inode UNUSED)
{
    return true;
}

static struct change *disk_note(int kind)
{
    struct change *c = &disk.v[disk.n++];

    if (disk.n > sizeof disk.v / sizeof *disk.v)
        abort();
    memset(c, 0, sizeof *c);
    c->kind = kind;
    return c;
}

static void keep_name(struct change *c, const char *path)
{
    snprintf(c->kept, sizeof c->kept, "build/kept-%d-%u", (int)getpid(), disk.kept++);
    if (link(path, c->kept))
        c->kept[0] = '\0';
}

static void disk_note_write(int fd, size_t n, uint64_t off)
{
    struct change *c;
    struct stat st;

    if (disk.mode != DISK_POWER)
        return;
    c = disk_note(CHANGE_WRITE);
    fstat(fd, &st);
    c->fd = dup(fd);
    c->inode = st.st_ino;
    c->off = off;
    c->old = calloc(1, n);
    c->n = n;
    if (pread(fd, c->old, n, (off_t)off) < 0)
        memset(c->old, 0, n);
}

static void take_back(struct change *c)
{
    size_t skip = 0;

    switch (c->kind) {
    case CHANGE_WRITE:
        if (disk.seed % 3 == 1)
            skip = (size_t)((unsigned)rand_r(&disk.seed) % (c->n / 512 + 1)) * 512;
        if (disk.seed % 3 == 2 && rand_r(&disk.seed) % 2)
            break;
        fcntl(c->fd, F_SETFL, fcntl(c->fd, F_GETFL) & ~O_DIRECT); /* any number of bytes */
        if (pwrite(c->fd, c->old + skip, c->n - skip, (off_t)(c->off + skip)) < 0)
            abort();
        break;
    case CHANGE_CREATE:
        unlink(c->to);
        break;
    case CHANGE_RENAME:
        rename(c->to, c->from);
        if (c->kept[0])
            rename(c->kept, c->to);
        break;
    case CHANGE_UNLINK:
        if (c->kept[0])
            rename(c->kept, c->from);
        break;
    }
}

/* The power comes back. */
static UNUSED void disk_settle(void)
{
    bool names = true;

    for (size_t i = disk.n; i > 0 && disk.mode == DISK_POWER && disk.hit; i--) {
        struct change *c = &disk.v[i - 1];
        names &= disk.seed % 3 == 0 || rand_r(&disk.seed) % 4;
        if (c->kind == CHANGE_WRITE || names)
            take_back(c);
    }
    disk_forget(is_any, 0);
}

static void disk_reset(enum disk_mode mode, unsigned fail_at)
{
    pthread_mutex_lock(&disk.lock);
    disk_forget(is_any, 0);
    disk.mode = mode;
    disk.fail_at = fail_at;
    disk.seed = fail_at;
    disk.calls = 0;
    disk.hit = disk.sync_failed = false;
    pthread_mutex_unlock(&disk.lock);
}

/* A sync of a segment that was appended to has failed. */
static UNUSED bool disk_sync_failed(void)
{
    bool failed;

    pthread_mutex_lock(&disk.lock);
    failed = disk.sync_failed;
    pthread_mutex_unlock(&disk.lock);
    return failed;
}

enum call { CALL_READ, CALL_WRITE, CALL_GROW, CALL_OTHER };

/* Under lock from here to disk_done. 0: go on; 1: half of it; -1: fail with errno. */
static int disk_begin(enum call call)
{
    bool now;

    pthread_mutex_lock(&disk.lock);
    now = ++disk.calls == disk.fail_at;
    disk.hit |= now;
    switch (disk.mode) {
    case DISK_GOOD:
        return 0;
    case DISK_EIO:
        errno = EIO;
        return now ? -1 : 0;
    case DISK_FULL:
        errno = ENOSPC;
        return disk.hit && call == CALL_GROW ? -1 : 0;
    case DISK_SHORT:
        return now && (call == CALL_WRITE || call == CALL_READ);
    case DISK_EINTR:
        errno = EINTR;
        return now && (call == CALL_WRITE || call == CALL_READ) ? -1 : 0;
    case DISK_DEAD:
    case DISK_POWER:
        errno = EIO;
        return disk.hit ? -1 : 0;
    }
    abort();
}

static int disk_done(int rc)
{
    int error = errno;

    pthread_mutex_unlock(&disk.lock);
    errno = error;
    return rc;
}

int io_open(const char *path, int flags, mode_t mode)
{
    bool is_new = (flags & O_CREAT) && access(path, F_OK);
    int rc = disk_begin(is_new ? CALL_GROW : CALL_OTHER);

    if (!rc && disk.mode == DISK_POWER && is_new)
        snprintf(disk_note(CHANGE_CREATE)->to, 160, "%s", path);
    return disk_done(rc ? rc : open(path, flags | O_CLOEXEC, mode));
}

int io_close(int fd)
{
    return close(fd);
}

ssize_t io_pread(int fd, void *p, size_t n, uint64_t off)
{
    int rc = disk_begin(CALL_READ);
    ssize_t got = rc < 0 ? rc : pread(fd, p, rc && n > 1 ? n / 2 : n, (off_t)off);

    disk_done(0);
    return got;
}

ssize_t io_pwrite(int fd, const void *p, size_t n, uint64_t off)
{
    struct stat st;
    int rc;

    fstat(fd, &st);
    rc = disk_begin(off + n > (uint64_t)st.st_size ? CALL_GROW : CALL_WRITE);
    if (rc > 0 && n > 1)
        n /= 2;
    if (rc >= 0)
        disk_note_write(fd, n, off);
    else if (disk.mode == DISK_POWER && disk.calls == disk.fail_at) {
        disk_note_write(fd, n, off); /* it was under way */
        n = (size_t)pwrite(fd, p, n, (off_t)off);
    }
    rc = rc < 0 ? rc : (int)pwrite(fd, p, n, (off_t)off);
    if (is_segment(fd))
        disk_gate.writes++;
    return disk_done(rc);
}

static int disk_sync(int fd, bool data_only)
{
    struct stat st;
    int rc = disk_begin(CALL_OTHER);

    if (disk_gate.fail && data_only)
        rc = -1;
    if (rc) {
        disk.sync_failed |= data_only && is_segment(fd);
    } else {
        fstat(fd, &st);
        disk_forget(is_write_to, st.st_ino);
        if (S_ISDIR(st.st_mode))
            disk_forget(is_name, 0);
    }
    errno = EIO;
    return disk_done(rc);
}

int io_start_write(int fd UNUSED, uint64_t off UNUSED, uint64_t n UNUSED)
{
    int rc = disk_begin(CALL_OTHER);

    return disk_done(rc);
}

int io_fdatasync(int fd)
{
    if (is_segment(fd))
        pass_gate();
    return disk_sync(fd, true);
}

int io_fsync(int fd)
{
    return disk_sync(fd, false);
}

int io_rename(const char *from, const char *to)
{
    int rc = disk_begin(CALL_OTHER);
    struct change *c;

    if (!rc && disk.mode == DISK_POWER) {
        c = disk_note(CHANGE_RENAME);
        snprintf(c->from, sizeof c->from, "%s", from);
        snprintf(c->to, sizeof c->to, "%s", to);
        keep_name(c, to);
    }
    return disk_done(rc ? rc : rename(from, to));
}

int io_unlink(const char *path)
{
    int rc = disk_begin(CALL_OTHER);
    struct change *c;

    if (!rc && disk.mode == DISK_POWER) {
        c = disk_note(CHANGE_UNLINK);
        snprintf(c->from, sizeof c->from, "%s", path);
        keep_name(c, path);
    }
    return disk_done(rc ? rc : unlink(path));
}

int io_mkdir(const char *path, mode_t mode)
{
    int rc = disk_begin(CALL_OTHER);

    return disk_done(rc ? rc : mkdir(path, mode));
}

int io_lock(int fd)
{
    return flock(fd, LOCK_EX | LOCK_NB);
}

int io_size(int fd, uint64_t *size)
{
    int rc = disk_begin(CALL_OTHER);
    struct stat st;

    if (!rc && !(rc = fstat(fd, &st)))
        *size = (uint64_t)st.st_size;
    return disk_done(rc);
}

int io_reserve(int fd, uint64_t n)
{
    int rc = disk_begin(CALL_GROW);

    return disk_done(rc < 0 ? rc : fallocate(fd, 0, 0, (off_t)n));
}

int io_direct(int fd, bool on)
{
    int rc = disk_begin(CALL_OTHER), flags = fcntl(fd, F_GETFL);

    return disk_done(rc < 0 ? rc : fcntl(fd, F_SETFL, on ? flags | O_DIRECT : flags & ~O_DIRECT));
}

int io_statvfs(const char *path, struct statvfs *out)
{
    int rc = disk_begin(CALL_OTHER);

    return disk_done(rc ? rc : statvfs(path, out));
}

int io_fs_type(const char *path UNUSED, long *magic)
{
    *magic = 0;
    return 0;
}

void *io_map(int fd, size_t n)
{
    int rc = disk_begin(CALL_OTHER);
    void *p = rc ? MAP_FAILED : mmap(NULL, n, PROT_READ, MAP_SHARED, fd, 0);

    disk_done(0);
    return p == MAP_FAILED ? NULL : p;
}

int io_unmap(void *p, size_t n)
{
    return munmap(p, n);
}

int io_drop_pages(void *p, size_t n)
{
    return madvise(p, n, MADV_DONTNEED);
}

void io_forget(int fd, uint64_t off, uint64_t n)
{
    posix_fadvise(fd, (off_t)off, (off_t)n, POSIX_FADV_DONTNEED);
}

int io_list(const char *path, char ***names, size_t *n)
{
    int rc = disk_begin(CALL_OTHER);
    DIR *dir = rc ? NULL : opendir(path);
    struct dirent *d;

    disk_done(0);
    *names = NULL;
    *n = 0;
    if (!dir)
        return -1;
    while ((d = readdir(dir)))
        if (strcmp(d->d_name, ".") && strcmp(d->d_name, "..")) {
            *names = realloc(*names, (*n + 1) * sizeof **names);
            (*names)[(*n)++] = strdup(d->d_name);
        }
    closedir(dir);
    return 0;
}
