/* SPDX-License-Identifier: Apache-2.0 */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "log.h"

#define PAGE 4096
#define NUMBER_DIGITS 16

int file_write(int fd, const char *name, const void *p, size_t n, uint64_t off, struct err *e)
{
    const char *at = p;

    while (n) {
        ssize_t w = io_pwrite(fd, at, n, off);
        if (w < 0 && errno == EINTR)
            continue;
        if (w <= 0) {
            if (w == 0)
                errno = ENOSPC;
            return err_errno(e, EXIT_IO, "wal: write %s off %llu", name, (unsigned long long)off);
        }
        at += w;
        off += (uint64_t)w;
        n -= (size_t)w;
    }
    return 0;
}

int file_read(int fd, const char *name, void *p, size_t n, uint64_t off, size_t *got, struct err *e)
{
    char *at = p;

    *got = 0;
    while (*got < n) {
        ssize_t r = io_pread(fd, at + *got, n - *got, off + *got);
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return err_errno(e, EXIT_IO, "wal: read %s off %llu", name,
                             (unsigned long long)(off + *got));
        if (r == 0)
            break;
        *got += (size_t)r;
    }
    return 0;
}

void file_read_what_goes(int fd, const char *name, void *p, size_t n, uint64_t off)
{
    struct err e = ERR_INIT;
    char *b = p;
    size_t got;

    memset(b, 0, n);
    if (fd < 0 || !file_read(fd, name, b, n, off, &got, &e))
        return;
    for (size_t at = 0; at < n; at += PAGE)
        if (file_read(fd, name, b + at, MIN((size_t)PAGE, n - at), off + at, &got, &e)) {
            log_error("a page of the log cannot be read", KS("reason", e.text));
            memset(b + at, 0, MIN((size_t)PAGE, n - at));
        }
}

int file_sync_dir(const char *dir, struct err *e)
{
    int fd = io_open(dir, O_RDONLY | O_DIRECTORY, 0), rc;

    if (fd < 0)
        return err_errno(e, EXIT_IO, "wal: open folder %s", dir);
    rc = io_fsync(fd) ? err_errno(e, EXIT_IO, "wal: fsync folder %s", dir) : 0;
    io_close(fd);
    return rc;
}

char *file_path(const char *dir, const char *name)
{
    return xasprintf("%s/%s", dir, name);
}

int file_replace(const char *dir, const char *name, const void *p, size_t n, struct err *e)
{
    char *path = file_path(dir, name), *tmp = xasprintf("%s/%s.tmp", dir, name);
    int fd = io_open(tmp, O_WRONLY | O_CREAT | O_TRUNC, 0600), rc = -1;

    if (fd < 0) {
        err_errno(e, EXIT_IO, "wal: create %s", tmp);
        goto out;
    }
    if (file_write(fd, tmp, p, n, 0, e))
        goto out;
    if (io_fsync(fd)) {
        err_errno(e, EXIT_IO, "wal: fsync %s", tmp);
        goto out;
    }
    if (io_rename(tmp, path)) {
        err_errno(e, EXIT_IO, "wal: rename %s", tmp);
        goto out;
    }
    rc = file_sync_dir(dir, e);
out:
    if (fd >= 0)
        io_close(fd);
    free(path);
    free(tmp);
    return rc;
}

int file_slurp(const char *dir, const char *name, char **p, size_t *n, struct err *e)
{
    char *path = file_path(dir, name);
    int fd = io_open(path, O_RDONLY, 0), rc = -1;
    uint64_t size;

    *p = NULL;
    *n = 0;
    if (fd < 0) {
        rc = errno == ENOENT ? 1 : err_errno(e, EXIT_IO, "wal: open %s", path);
        goto out;
    }
    if (io_size(fd, &size)) {
        err_errno(e, EXIT_IO, "wal: stat %s", path);
        goto out;
    }
    *p = xmalloc((size_t)size + 1);
    rc = file_read(fd, path, *p, (size_t)size, 0, n, e);
    (*p)[*n] = '\0';
out:
    if (fd >= 0)
        io_close(fd);
    if (rc) {
        free(*p);
        *p = NULL;
    }
    free(path);
    return rc;
}

int file_exists(const char *dir, const char *name, struct err *e)
{
    char *path = file_path(dir, name);
    int fd = io_open(path, O_RDONLY, 0), rc = fd >= 0;

    if (fd >= 0)
        io_close(fd);
    else if (errno != ENOENT)
        rc = err_errno(e, EXIT_IO, "wal: open %s", path);
    free(path);
    return rc;
}

bool file_is_numbered(const char *name, const char *suffix, uint64_t *number)
{
    uint64_t v;

    return strlen(name) == NUMBER_DIGITS + strlen(suffix) &&
           !strcmp(name + NUMBER_DIGITS, suffix) &&
           span_u64(span_of(name, NUMBER_DIGITS), number ? number : &v);
}

/* Names of one length sort as their numbers do. */
static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

int file_list_numbered(const char *dir, const char *suffix, char ***names, size_t *n, struct err *e)
{
    size_t all, kept = 0;
    char **v;

    if (io_list(dir, names, &all))
        return err_errno(e, EXIT_IO, "wal: list folder %s", dir);
    v = *names;
    for (size_t i = 0; i < all; i++)
        if (file_is_numbered(v[i], suffix, NULL))
            v[kept++] = v[i];
        else
            free(v[i]);
    if (kept)
        qsort(v, kept, sizeof *v, by_name);
    *n = kept;
    return 0;
}

void file_names_free(char **names, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(names[i]);
    free(names);
}
