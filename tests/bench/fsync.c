/* SPDX-License-Identifier: Apache-2.0 */
/* fsync FILE BYTES SECONDS: prints the median time in microseconds of one pwrite of BYTES and one
 * fdatasync, one record behind the other in a file of zeros: what the disk alone asks for. */
#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base.h"
#include "clock.h"

#define FILE_BYTES ((off_t)16 << 20)
#define SAMPLES_MAX 1000000

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return x < y ? -1 : x > y;
}

static int zero_filled(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    char *zeros = xcalloc(1, (size_t)FILE_BYTES);

    if (fd < 0 || pwrite(fd, zeros, (size_t)FILE_BYTES, 0) != FILE_BYTES || fsync(fd))
        err(1, "fsync: %s", path);
    free(zeros);
    return fd;
}

int main(int argc, char **argv)
{
    uint32_t *samples = xcalloc(SAMPLES_MAX, sizeof *samples);
    size_t bytes = argc == 4 ? strtoul(argv[2], NULL, 10) : 0, n = 0;
    int64_t end, before, after;
    char *record;
    off_t at = 0;
    int fd;

    if (!bytes || bytes > (size_t)FILE_BYTES)
        errx(64, "fsync FILE BYTES SECONDS");
    record = xmalloc(bytes);
    memset(record, 'x', bytes);
    fd = zero_filled(argv[1]);
    end = clock_mono_us() + (int64_t)(atof(argv[3]) * 1e6);
    do {
        if (at + (off_t)bytes > FILE_BYTES)
            at = 0;
        before = clock_mono_us();
        if (pwrite(fd, record, bytes, at) != (ssize_t)bytes || fdatasync(fd))
            err(1, "fsync: %s", argv[1]);
        after = clock_mono_us();
        samples[n++] = (uint32_t)(after - before);
        at += (off_t)bytes;
    } while (after < end && n < SAMPLES_MAX);
    qsort(samples, n, sizeof *samples, by_value);
    printf("%u\n", samples[n / 2]);
    return 0;
}
