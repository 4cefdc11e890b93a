/* SPDX-License-Identifier: Apache-2.0 */
/* power_disk BYTES CUT IMAGE SEED MOUNTPOINT: a FUSE file system with one file, `disk`, for a loop
 * device. A flush makes what was written stable; at the first flush after the file CUT appears the
 * power is gone: nothing is taken any more, and IMAGE is written: what is stable, and of the rest some
 * sectors of 512 bytes, chosen by the seed. Single-threaded, so a flush covers all writes that were
 * answered before it. */
#define FUSE_USE_VERSION 31
#include <errno.h>
#include <fcntl.h>
#include <fuse3/fuse.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SECTOR 512
static size_t size;
static uint8_t *cache, *stable, *dirty; /* dirty: a byte a sector */
static const char *cut, *image;
static unsigned seed;
static int is_cut;
static unsigned long flushes, lost;

static void write_image(void)
{
    int fd = open(image, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    unsigned how = (unsigned)rand_r(&seed) % 4; /* none, all, or half of what is not stable */

    for (size_t i = 0; i < size / SECTOR; i++)
        if (dirty[i] && (how == 1 || (how > 1 && rand_r(&seed) % 2)))
            memcpy(stable + i * SECTOR, cache + i * SECTOR, SECTOR);
        else
            lost += dirty[i];
    if (fd < 0 || pwrite(fd, stable, size, 0) != (ssize_t)size || close(fd))
        abort();
    fprintf(stderr, "power cut after %lu flushes; %lu sectors lost\n", flushes, lost);
    lost = 0;
}

/* At a flush, when there is most to lose. */
static int gone_at_flush(void)
{
    if (!is_cut && !access(cut, F_OK)) {
        is_cut = 1;
        write_image();
    }
    return is_cut;
}

static int get_attr(const char *path, struct stat *st, struct fuse_file_info *fi)
{
    (void)fi;
    memset(st, 0, sizeof *st);
    if (!strcmp(path, "/")) {
        st->st_mode = S_IFDIR | 0700;
        st->st_nlink = 2;
        return 0;
    }
    if (strcmp(path, "/disk"))
        return -ENOENT;
    st->st_mode = S_IFREG | 0600;
    st->st_nlink = 1;
    st->st_size = (off_t)size;
    return 0;
}

static int do_read(const char *path, char *b, size_t n, off_t off, struct fuse_file_info *fi)
{
    (void)path, (void)fi;
    if ((size_t)off >= size)
        return 0;
    n = n < size - (size_t)off ? n : size - (size_t)off;
    memcpy(b, cache + off, n);
    return (int)n;
}

static int do_write(const char *path, const char *b, size_t n, off_t off, struct fuse_file_info *fi)
{
    (void)path, (void)fi;
    if (is_cut)
        return -EIO;
    if ((size_t)off + n > size)
        return -ENOSPC;
    memcpy(cache + off, b, n);
    for (size_t i = (size_t)off / SECTOR; i <= ((size_t)off + n - 1) / SECTOR; i++)
        dirty[i] = 1;
    return (int)n;
}

static int do_fsync(const char *path, int data_only, struct fuse_file_info *fi)
{
    (void)path, (void)data_only, (void)fi;
    if (gone_at_flush())
        return -EIO;
    flushes++;
    for (size_t i = 0; i < size / SECTOR; i++)
        if (dirty[i]) {
            memcpy(stable + i * SECTOR, cache + i * SECTOR, SECTOR);
            dirty[i] = 0;
        }
    return 0;
}

static int do_open(const char *path, struct fuse_file_info *fi)
{
    fi->direct_io = 1;
    return strcmp(path, "/disk") ? -ENOENT : 0;
}

static void *on_init(struct fuse_conn_info *conn, struct fuse_config *config)
{
    (void)conn;
    config->attr_timeout = 0;
    return NULL;
}

int main(int argc, char **argv)
{
    static const struct fuse_operations ops = { .getattr = get_attr,
                                                .open = do_open,
                                                .read = do_read,
                                                .write = do_write,
                                                .fsync = do_fsync,
                                                .init = on_init };
    char *args[] = { argv[0], "-f", "-s", argc == 6 ? argv[5] : "", NULL };

    if (argc != 6)
        return 64;
    size = strtoull(argv[1], NULL, 10);
    cut = argv[2];
    image = argv[3];
    seed = (unsigned)atoi(argv[4]);
    cache = calloc(1, size);
    stable = calloc(1, size);
    dirty = calloc(1, size / SECTOR);
    return fuse_main(4, args, &ops, NULL);
}
