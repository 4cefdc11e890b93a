/* SPDX-License-Identifier: Apache-2.0 */
/* The small files beside the segments, of any content: a cursor and a sidecar. What is read from
 * one is what it says; a file that is not whole is not taken for one.
 *
 * The first byte says which file it is, and whether its checksums are made right first. */
#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "crc32c.h"
#include "fuzz.h"
#include "wal/room.h"

#define SLOT_STEP 4096
#define SLOT_SUM 44 /* the checksum of a slot, and how much it is over */
enum { CURSOR, SIDECAR };
static const char *const names[] = { "sink-x.cursor", "0000000000000001.idx" };

static char folder[] = "/tmp/hookline-fuzz-XXXXXX";

static void remove_folder(void)
{
    char path[100];

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
    rmdir(folder);
}

static void make_folder(void)
{
    static bool made;

    if (made)
        return;
    if (!mkdtemp(folder) || atexit(remove_folder))
        err(1, "%s", folder);
    made = true;
}

static void put_file(int which, const uint8_t *p, size_t n)
{
    char path[100];
    int fd;

    snprintf(path, sizeof path, "%s/%s", folder, names[which]);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || write(fd, p, n) != (ssize_t)n)
        err(1, "%s", path);
    close(fd);
}

static void cursor(struct wal *w, uint8_t *p, size_t n, bool right)
{
    char name[80] = "";
    uint64_t highest;

    for (size_t at = 0; right && at + SLOT_SUM + 4 <= n; at += SLOT_STEP)
        format_put32(p + at + SLOT_SUM, crc32c(0, p + at, SLOT_SUM));
    put_file(CURSOR, p, n);
    highest = cursor_highest_on_disk(w, name);
    must(!highest || !strcmp(name, "x"));
    must(cursor_lowest_on_disk(w) == highest);
    must(!highest || n >= SLOT_SUM + 4);
}

static void sidecar(struct wal *w, uint8_t *p, size_t n, bool right)
{
    struct err e = ERR_INIT;
    struct sidecar read, again;
    char *text;
    size_t len;

    if (right && n >= 4)
        format_put32(p + n - 4, crc32c(0, p, n - 4));
    put_file(SIDECAR, p, n);
    if (sidecar_read(w, 1, &read))
        return;
    must(!sidecar_write(w, &read, &e) && !file_slurp(w->dir, names[SIDECAR], &text, &len, &e));
    must(len == n);
    must(!sidecar_read(w, 1, &again));
    must(again.n == read.n && again.end == read.end && again.last_lsn == read.last_lsn);
    free(text);
    sidecar_free(&read);
    sidecar_free(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct wal w = { .dir = folder };
    uint8_t *copy;

    if (!n)
        return 0;
    make_folder();
    copy = (uint8_t *)fuzz_copy(data + 1, n - 1);
    (*data & 1 ? cursor : sidecar)(&w, copy, n - 1, *data & 2);
    free(copy);
    return 0;
}
