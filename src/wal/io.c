/* SPDX-License-Identifier: Apache-2.0 */
#include "io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

int io_open(const char *path, int flags, mode_t mode)
{
    return open(path, flags | O_CLOEXEC, mode);
}

int io_close(int fd)
{
    return close(fd);
}

ssize_t io_pread(int fd, void *p, size_t n, uint64_t off)
{
    return pread(fd, p, n, (off_t)off);
}

ssize_t io_pwrite(int fd, const void *p, size_t n, uint64_t off)
{
    return pwrite(fd, p, n, (off_t)off);
}

/* Where the call cannot be had, or is forbidden, the fdatasync does all of it. */
int io_start_write(int fd, uint64_t off, uint64_t n)
{
    int rc = sync_file_range(fd, (off_t)off, (off_t)n, SYNC_FILE_RANGE_WRITE);

    return rc && (errno == ENOSYS || errno == EPERM || errno == EINVAL) ? 0 : rc;
}

int io_fdatasync(int fd)
{
    return fdatasync(fd);
}

int io_fsync(int fd)
{
    return fsync(fd);
}

int io_rename(const char *from, const char *to)
{
    return rename(from, to);
}

int io_unlink(const char *path)
{
    return unlink(path);
}

int io_mkdir(const char *path, mode_t mode)
{
    return mkdir(path, mode);
}

int io_lock(int fd)
{
    return flock(fd, LOCK_EX | LOCK_NB);
}

int io_size(int fd, uint64_t *size)
{
    struct stat st;

    if (fstat(fd, &st))
        return -1;
    *size = (uint64_t)st.st_size;
    return 0;
}

int io_reserve(int fd, uint64_t n)
{
    return fallocate(fd, 0, 0, (off_t)n);
}

int io_direct(int fd, bool on)
{
    int flags = fcntl(fd, F_GETFL);

    return flags < 0 ? -1 : fcntl(fd, F_SETFL, on ? flags | O_DIRECT : flags & ~O_DIRECT);
}

int io_statvfs(const char *path, struct statvfs *out)
{
    return statvfs(path, out);
}

int io_fs_type(const char *path, long *magic)
{
    struct statfs st;

    if (statfs(path, &st))
        return -1;
    *magic = (long)st.f_type;
    return 0;
}

void *io_map(int fd, size_t n)
{
    void *p = mmap(NULL, n, PROT_READ, MAP_SHARED, fd, 0);

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
    DIR *dir = opendir(path);
    struct dirent *d;

    *names = NULL;
    *n = 0;
    if (!dir)
        return -1;
    while ((d = readdir(dir))) {
        if (!strcmp(d->d_name, ".") || !strcmp(d->d_name, ".."))
            continue;
        *names = xrealloc(*names, (*n + 1) * sizeof **names);
        (*names)[(*n)++] = xstrdup(d->d_name);
    }
    closedir(dir);
    return 0;
}
