/* SPDX-License-Identifier: Apache-2.0 */
/* file - whole reads and writes over io.h: short calls and EINTR are invisible here, everything
 * else is an error that names file and offset. */
#pragma once

#include "err.h"
#include "io.h"

MUST_CHECK int file_write(int fd, const char *name, const void *p, size_t n, uint64_t off,
                          struct err *e);
/* Reads up to n bytes; *got is less only at the end of the file. */
MUST_CHECK int file_read(int fd, const char *name, void *p, size_t n, uint64_t off, size_t *got,
                         struct err *e);
/* The same where the rest must be saved: what cannot be read, or is not there, is zero. */
void file_read_what_goes(int fd, const char *name, void *p, size_t n, uint64_t off);
MUST_CHECK int file_sync_dir(const char *dir, struct err *e);
/* Writes a small file so that it is whole or not there: temporary name, fsync, rename, fsync of the
 * folder. */
MUST_CHECK int file_replace(const char *dir, const char *name, const void *p, size_t n,
                            struct err *e);
/* A whole small file, NUL behind it. 0 read, 1 not there, -1 error; the caller frees *p. */
MUST_CHECK int file_slurp(const char *dir, const char *name, char **p, size_t *n, struct err *e);
/* 1 it is there, 0 not, -1 nobody can say. */
MUST_CHECK int file_exists(const char *dir, const char *name, struct err *e);
/* NUMBER.wal, NUMBER.idx: a name of 16 digits and that suffix. *number may be left out (NULL). */
bool file_is_numbered(const char *name, const char *suffix, uint64_t *number);
/* All such names in the folder, rising; the caller frees the list. */
MUST_CHECK int file_list_numbered(const char *dir, const char *suffix, char ***names, size_t *n,
                                  struct err *e);
char *file_path(const char *dir, const char *name); /* the caller frees it */
void file_names_free(char **names, size_t n);
