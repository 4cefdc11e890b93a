/* SPDX-License-Identifier: Apache-2.0 */
/* What was fetched, kept on disk: one file a URL, named by its hash, replaced as a whole. It begins
 * with a line that holds a checksum of the rest, when it was fetched, and the URL, so that a torn,
 * renamed or foreign file is told from a good one; such a file is ignored, and replaced by the next
 * fetch. Only the helper writes. */
#include "room.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"

#define MAGIC "hookline-keys 1 "
#define HEX 64
#define FILE_MAX MIB(8)

static char *cache_path(const struct keys *k, const char *url, const char *suffix)
{
    uint8_t hash[CRYPTO_HASH_MAX];
    struct buf hex = BUF_INIT;
    char *path;

    buf_hex(&hex, span_of(hash, crypto_hash(CRYPTO_SHA256, span_str(url), hash)));
    path = xasprintf("%s/%s%s", k->dir, buf_cstr(&hex), suffix);
    buf_free(&hex);
    return path;
}

static void checksum(struct span text, struct buf *out)
{
    uint8_t hash[CRYPTO_HASH_MAX];

    buf_hex(out, span_of(hash, crypto_hash(CRYPTO_SHA256, text, hash)));
}

static int write_all(int fd, struct span s)
{
    while (s.n) {
        ssize_t n = write(fd, s.p, s.n);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        s = span_of(s.p + n, s.n - (size_t)n);
    }
    return 0;
}

/* The new file is whole on the disk before it takes the old one's name. */
static int replace(const struct keys *k, const char *tmp, const char *path, struct span text)
{
    int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), dir, rc;

    if (fd < 0)
        return -1;
    rc = write_all(fd, text) || fsync(fd) ? -1 : 0;
    rc |= close(fd);
    if (rc || rename(tmp, path))
        return -1;
    dir = open(k->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return -1;
    rc = fsync(dir);
    close(dir);
    return rc;
}

void cache_store(struct keys *k, const char *url, struct span body)
{
    struct buf rest = BUF_INIT, text = BUF_INIT;
    char *path, *tmp;

    if (!k->dir)
        return;
    buf_printf(&rest, "%lld %s\n", (long long)clock_wall_ms(), url);
    buf_span(&rest, body);
    buf_adds(&text, MAGIC);
    checksum(buf_as_span(&rest), &text);
    buf_addc(&text, ' ');
    buf_span(&text, buf_as_span(&rest));
    path = cache_path(k, url, ".keys");
    tmp = cache_path(k, url, ".tmp");
    if (replace(k, tmp, path, buf_as_span(&text)))
        log_warn("keys could not be written to the cache; a restart would have to fetch them",
                 KS("path", path), KERRNO());
    free(path);
    free(tmp);
    buf_free(&rest);
    buf_free(&text);
}

/* Leaves the body in `text`. */
static bool parse(struct span *text, const char *url, int64_t *age_ms)
{
    struct span magic = S(MAGIC), sum, line;
    struct buf want = BUF_INIT;
    uint64_t fetched_ms;
    bool same;

    if (!span_starts(*text, magic) || text->n < magic.n + HEX + 1)
        return false;
    sum = span_of(text->p + magic.n, HEX);
    *text = span_of(text->p + magic.n + HEX + 1, text->n - magic.n - HEX - 1);
    checksum(*text, &want);
    same = span_eq(sum, buf_as_span(&want));
    buf_free(&want);
    line = span_cut(text, '\n');
    if (!same || !text->p || !span_u64(span_cut(&line, ' '), &fetched_ms) ||
        !span_eq(line, span_str(url)))
        return false;
    /* from the future: the clock was set back; how old it is cannot be known */
    *age_ms = clock_wall_ms() - (int64_t)MIN(fetched_ms, (uint64_t)INT64_MAX);
    if (*age_ms < 0)
        *age_ms = INT64_MAX / 2;
    return true;
}

bool cache_load(struct keys *k, const char *url, struct buf *body, int64_t *age_ms)
{
    struct err e = ERR_INIT;
    struct buf file = BUF_INIT;
    struct span text;
    char *path;
    bool good = false;

    if (!k->dir)
        return false;
    path = cache_path(k, url, ".keys");
    if (access(path, F_OK) != 0)
        goto out;
    if (doc_slurp(path, FILE_MAX, &file, &e)) {
        log_warn("cached keys could not be read", KS("reason", e.text));
        goto out;
    }
    text = buf_as_span(&file);
    good = parse(&text, url, age_ms);
    if (good)
        buf_span(body, text);
    else
        log_warn("cached keys are damaged; the file is ignored", KS("path", path));
out:
    buf_free(&file);
    free(path);
    return good;
}

void cache_drop(struct keys *k, const char *url)
{
    char *path;

    if (!k->dir)
        return;
    path = cache_path(k, url, ".keys");
    unlink(path);
    free(path);
}
