/* SPDX-License-Identifier: Apache-2.0 */
/* Preloaded into hookline by the tests. FAILPOINT=CALL:PATTERN:N:ACTION makes the N-th CALL on a
 * file whose path holds PATTERN go wrong: kill-before and kill-after end the process there as kill -9
 * does, eio and eagain fail the call, short does a part of it, eintr is an interruption, sleep-MS is
 * a slow disk. N 0 means every one. CALL is pwrite, pread, fdatasync, fsync, rename, unlink or send
 * (an answer of status 200). Files of the log alone: the path of a descriptor is what /proc says. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static char call_name[16], pattern[64], action[32];
static int nth = -1;
static atomic_int seen;

__attribute__((constructor)) static void read_it(void)
{
    const char *s = getenv("FAILPOINT");

    if (!s || sscanf(s, "%15[^:]:%63[^:]:%d:%31s", call_name, pattern, &nth, action) != 4)
        nth = -1;
}

static int is_now(const char *call, const char *path)
{
    if (nth < 0 || strcmp(call, call_name) || !strstr(path, pattern))
        return 0;
    return nth == 0 || atomic_fetch_add(&seen, 1) + 1 == nth;
}

static int is_now_fd(const char *call, int fd)
{
    char link[40], path[300] = "";

    if (nth < 0 || strcmp(call, call_name))
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if (readlink(link, path, sizeof path - 1) < 0)
        return 0;
    return is_now(call, path);
}

static int is(const char *what)
{
    return !strcmp(action, what);
}

static void die_now(void)
{
    kill(getpid(), SIGKILL);
    pause();
}

/* Before the call; -1: it fails with errno. */
static int before(int now)
{
    if (!now)
        return 0;
    if (is("kill-before"))
        die_now();
    if (!strncmp(action, "sleep-", 6))
        usleep((useconds_t)atoi(action + 6) * 1000);
    errno = is("eio") ? EIO : is("eagain") ? EAGAIN : is("eintr") ? EINTR : 0;
    return errno ? -1 : 0;
}

static void after(int now)
{
    int error = errno;

    if (now && is("kill-after"))
        die_now();
    errno = error;
}

#define REAL(type, name) ((type)dlsym(RTLD_NEXT, name))

ssize_t pwrite64(int fd, const void *p, size_t n, off64_t off)
{
    int now = is_now_fd("pwrite", fd);
    ssize_t rc = before(now) ? -1
                             : REAL(ssize_t(*)(int, const void *, size_t, off64_t), "pwrite64")(
                                   fd, p, now && is("short") && n > 1 ? n / 2 : n, off);

    after(now);
    return rc;
}

ssize_t pread64(int fd, void *p, size_t n, off64_t off)
{
    int now = is_now_fd("pread", fd);
    ssize_t rc = before(now) ? -1
                             : REAL(ssize_t(*)(int, void *, size_t, off64_t), "pread64")(
                                   fd, p, now && is("short") && n > 1 ? n / 2 : n, off);

    after(now);
    return rc;
}

static int synced(const char *name, int fd)
{
    int now = is_now_fd(name, fd), rc = before(now) ? -1 : REAL(int (*)(int), name)(fd);

    after(now);
    return rc;
}

int fdatasync(int fd)
{
    return synced("fdatasync", fd);
}

int fsync(int fd)
{
    return synced("fsync", fd);
}

int rename(const char *from, const char *to)
{
    int now = is_now("rename", to);
    int rc = before(now) ? -1 : REAL(int (*)(const char *, const char *), "rename")(from, to);

    after(now);
    return rc;
}

int unlink(const char *path)
{
    int now = is_now("unlink", path);
    int rc = before(now) ? -1 : REAL(int (*)(const char *), "unlink")(path);

    after(now);
    return rc;
}

ssize_t send(int fd, const void *p, size_t n, int flags)
{
    int now = n > 12 && !memcmp(p, "HTTP/1.1 200", 12) && memmem(p, n, "\"accepted\"", 10) &&
              is_now("send", pattern);
    ssize_t rc = before(now) ? -1
                             : REAL(ssize_t(*)(int, const void *, size_t, int), "send")(fd, p, n, flags);

    after(now);
    return rc;
}
