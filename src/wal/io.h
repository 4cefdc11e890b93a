/* SPDX-License-Identifier: Apache-2.0 */
/* io - every call that the log makes to the file system, and nothing else. Tests link another io.c
 * that fails, delays or records calls. All follow the system call: -1 and errno. */
#pragma once

#include <sys/statvfs.h>
#include <sys/types.h>

#include "base.h"

int io_open(const char *path, int flags, mode_t mode);
int io_close(int fd);
ssize_t io_pread(int fd, void *p, size_t n, uint64_t off);
ssize_t io_pwrite(int fd, const void *p, size_t n, uint64_t off);
int io_start_write(int fd, uint64_t off, uint64_t n); /* begins, does not wait, syncs nothing */
int io_fdatasync(int fd);
int io_fsync(int fd);
int io_rename(const char *from, const char *to);
int io_unlink(const char *path);
int io_mkdir(const char *path, mode_t mode);
int io_lock(int fd); /* exclusive, not waiting */
int io_size(int fd, uint64_t *size);
int io_reserve(int fd, uint64_t n); /* room on the disk for the first n bytes */
int io_direct(int fd, bool on);     /* writes go past the page cache, where that can be had */
int io_statvfs(const char *path, struct statvfs *out);
int io_fs_type(const char *path, long *magic);
void *io_map(int fd, size_t n); /* read only, shared; NULL on failure */
int io_unmap(void *p, size_t n);
int io_drop_pages(void *p, size_t n);
void io_forget(int fd, uint64_t off, uint64_t n); /* lets the page cache go; a hint */
/* Names in the folder but . and ..; the caller frees each and the list. */
int io_list(const char *path, char ***names, size_t *n);
