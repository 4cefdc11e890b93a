/* SPDX-License-Identifier: Apache-2.0 */
/* Main thread. A file that cannot be read counts by its error, so that it is noticed when it comes
 * back. What is no regular file (a pipe, say) can be read only once and never changes. */
#include "watch.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crypto.h"

#define MOST MIB(16)

static ssize_t read_all(int fd, struct buf *content)
{
    ssize_t n = -1;

    buf_reserve(content, 65536);
    while (content->n < MOST &&
           (n = read(fd, content->p + content->n, content->cap - content->n)) > 0) {
        content->n += (size_t)n;
        buf_reserve(content, 65536);
    }
    return n;
}

static void add_file(const char *path, void *arg)
{
    struct buf *all = arg, content = BUF_INIT;
    uint8_t hash[CRYPTO_HASH_MAX] = { 0 };
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) || (S_ISREG(st.st_mode) && read_all(fd, &content) < 0))
        hash[0] = (uint8_t)errno;
    else
        crypto_hash(CRYPTO_SHA256, buf_as_span(&content), hash);
    if (fd >= 0)
        close(fd);
    if (content.p)
        crypto_wipe(content.p, content.cap); /* it may be a secret */
    buf_free(&content);
    buf_adds(all, path);
    buf_add(all, hash, sizeof hash);
}

void watch_look(const struct conf *c, uint8_t out[WATCH_BYTES])
{
    struct buf all = BUF_INIT;

    add_file(c->file, &all);
    cfg_files(conf_keys(), c, add_file, &all);
    crypto_hash(CRYPTO_SHA256, buf_as_span(&all), out);
    buf_free(&all);
}
