/* SPDX-License-Identifier: Apache-2.0 */
/* The buffers of the access log and the thread that empties them.
 *
 * Each writer has two: one that it fills under a lock held for a copy, and one that the thread
 * takes away full and gives back empty under the same lock. The thread is woken when the first
 * entry comes and gathers for a moment, or until a buffer is half full, so that a busy writer makes
 * two system calls for thousands of lines. A reader of stdout that does not read fills the pipe,
 * then the buffers; what comes then is lost and counted, and nobody waits. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "room.h"

#define BUFFER_BYTES MIB(1)
#define GATHER_MS 50
#define STOP_MS 1000
#define CHUNK_BYTES KIB(64)

/* In the buffer: this, and behind it the texts, to a multiple of 8. */
struct packed {
    struct access_entry e; /* the texts' pointers mean nothing, nor does that of the trace */
    struct trace_context trace;
    uint32_t bytes; /* of all */
};

struct part {
    _Alignas(64) pthread_mutex_t lock;
    char *filling; /* NULL: nothing came yet since the other was taken away */
    size_t n;
    char *spare; /* the thread's; NULL: not made yet */
    struct counter full;
};

struct access {
    struct part *parts;
    unsigned n;
    int fd, wake;
    bool started, is_file;
    _Atomic int format;
    atomic_bool awake, stopping;
    int64_t stop_by_ms; /* set before `stopping` */
    pthread_t thread;
    struct buf out;
    struct line_memory memory;
    struct counter written, unwritten;
};

const struct cfg_key *access_cfg_keys(void)
{
    static const char *const words[] = { "off", "text", "json", NULL };
    static const struct cfg_key keys[] = {
        { "access", CFG_ENUM, offsetof(struct access_cfg, format), "off", .words = words,
          .flags = CFG_RELOAD,
          .help = "The access log: a line on stdout for each answer to a sender." },
        { "access_sample", CFG_INT, offsetof(struct access_cfg, sample), "1", 1, 1000000,
          .flags = CFG_RELOAD, .help = "Of so many answers one gets a line." },
        { 0 }
    };

    return keys;
}

/* --- the writers' side
 * --------------------------------------------------------------------------- */

static void wake(struct access *a)
{
    uint64_t one = 1;

    while (write(a->wake, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

static char *add_text(char *to, struct span *s)
{
    bool cut = s->n > TEXT_MAX;

    s->n = MIN(s->n, (size_t)TEXT_MAX);
    if (s->n)
        memcpy(to, s->p, s->n);
    if (cut)
        memcpy(to + TEXT_MAX - 3, "...", 3);
    return to + s->n;
}

static size_t pack(char *to, const struct access_entry *e)
{
    struct packed p = { .e = *e };
    char *at = to + sizeof p;

    if (e->trace)
        p.trace = *e->trace;
    at = add_text(at, &p.e.id);
    at = add_text(at, &p.e.type);
    at = add_text(at, &p.e.path);
    p.bytes = (uint32_t)((size_t)(at - to) + 7) & ~7u;
    memcpy(to, &p, sizeof p);
    return p.bytes;
}

void access_note(struct access *a, unsigned writer, const struct access_entry *e)
{
    struct part *p = &a->parts[writer];
    size_t most = sizeof(struct packed) + 3 * TEXT_MAX + 7, before = 0, after = 0;
    size_t limit = e->status < 400 ? BUFFER_BYTES : BUFFER_BYTES / 2;

    pthread_mutex_lock(&p->lock);
    if (!p->filling)
        p->filling = xmalloc(BUFFER_BYTES);
    if (p->n + most > limit) {
        counter_add(&p->full, 1);
    } else {
        before = p->n;
        p->n += pack(p->filling + p->n, e);
        after = p->n;
    }
    pthread_mutex_unlock(&p->lock);
    if (!after)
        return;
    if ((!before && !atomic_exchange(&a->awake, true)) ||
        (before < BUFFER_BYTES / 4 && after >= BUFFER_BYTES / 4))
        wake(a);
}

/* --- the thread's side
 * --------------------------------------------------------------------------- */

/* A regular file takes what it is given; of what others read from it is asked whether there is room
 * first, so that a reader that stands still holds up neither a stop nor more than this thread. */
static bool has_room(struct access *a)
{
    struct pollfd p = { .fd = a->fd, .events = POLLOUT };

    while (!a->is_file && poll(&p, 1, GATHER_MS) <= 0)
        if (atomic_load(&a->stopping) && clock_mono_ms() >= a->stop_by_ms)
            return false;
    return true;
}

/* Whole lines, as many as surely fit. */
static size_t next_piece(const struct access *a, const char *p, size_t left)
{
    const char *end;

    if (a->is_file || left <= LINE_MAX_BYTES)
        return left;
    end = memrchr(p, '\n', LINE_MAX_BYTES);
    return (size_t)(end - p) + 1;
}

static uint64_t count_lines(const char *p, const char *end)
{
    uint64_t n = 0;

    for (; p < end && (p = memchr(p, '\n', (size_t)(end - p))); p++)
        n++;
    return n;
}

/* What could not be written is gone. */
static void put_out(struct access *a)
{
    size_t done = 0;

    while (done < a->out.n && has_room(a)) {
        ssize_t n = write(a->fd, a->out.p + done, next_piece(a, a->out.p + done, a->out.n - done));
        if (n < 0 && errno != EINTR && errno != EAGAIN)
            break;
        done += (size_t)MAX(n, 0);
    }
    counter_add(&a->written, count_lines(a->out.p, a->out.p + done));
    counter_add(&a->unwritten, count_lines(a->out.p + done, a->out.p + a->out.n));
    a->out.n = 0;
}

static void print_all(struct access *a, const char *at, const char *end)
{
    enum access_format format = (enum access_format)atomic_load(&a->format);
    struct packed p;

    for (; at < end; at += p.bytes) {
        memcpy(&p, at, sizeof p);
        p.e.trace = p.e.trace ? &p.trace : NULL;
        p.e.id.p = at + sizeof p;
        p.e.type.p = p.e.id.p + p.e.id.n;
        p.e.path.p = p.e.type.p + p.e.type.n;
        line_write(&a->out, format, &p.e, &a->memory);
        if (a->out.n > CHUNK_BYTES)
            put_out(a);
    }
    put_out(a);
}

static void empty(struct access *a, struct part *p)
{
    char *full;
    size_t n;

    pthread_mutex_lock(&p->lock);
    full = p->filling;
    n = p->n;
    if (n) {
        p->filling = p->spare;
        p->spare = full;
        p->n = 0;
    }
    pthread_mutex_unlock(&p->lock);
    if (n)
        print_all(a, full, full + n);
}

static void wait_for_some(struct access *a)
{
    struct pollfd p = { .fd = a->wake, .events = POLLIN };
    uint64_t count;

    for (int i = 0; i < 2 && !atomic_load(&a->stopping); i++)
        if (poll(&p, 1, i ? GATHER_MS : -1) > 0 && read(a->wake, &count, sizeof count) < 0)
            return;
}

static void *run(void *arg)
{
    struct access *a = arg;
    bool last;

    prctl(PR_SET_NAME, "access");
    do {
        wait_for_some(a);
        last = atomic_load(&a->stopping);
        atomic_store(&a->awake, false); /* who comes from now on wakes it again */
        for (unsigned i = 0; i < a->n; i++)
            empty(a, &a->parts[i]);
    } while (!last);
    return NULL;
}

/* --- life
 * ---------------------------------------------------------------------------------------- */

struct access *access_new(unsigned writers, int fd)
{
    struct access *a = xcalloc(1, sizeof *a);
    struct stat st;

    *a = (struct access){ .n = writers, .fd = fd, .wake = eventfd(0, EFD_CLOEXEC) };
    if (a->wake < 0)
        die(EXIT_IO, "eventfd: no descriptor left for the access log");
    a->is_file = !fstat(fd, &st) && S_ISREG(st.st_mode);
    a->parts = aligned_alloc(_Alignof(struct part), writers * sizeof *a->parts);
    if (!a->parts)
        die(EXIT_TEMPORARY, "out of memory for the access log");
    memset(a->parts, 0, writers * sizeof *a->parts);
    for (unsigned i = 0; i < writers; i++)
        pthread_mutex_init(&a->parts[i].lock, NULL);
    return a;
}

void access_use(struct access *a, enum access_format format)
{
    if (format == ACCESS_OFF)
        return;
    atomic_store(&a->format, (int)format);
    if (a->started)
        return;
    if (pthread_create(&a->thread, NULL, run, a))
        die(EXIT_IO, "the thread of the access log could not be started");
    a->started = true;
}

void access_metrics(const struct access *a, struct buf *out)
{
    static const char dropped[] = "hookline_access_log_dropped_total";
    uint64_t full = 0;

    for (unsigned i = 0; i < a->n; i++)
        full += counter_get(&a->parts[i].full);
    metrics_head(out, "hookline_access_log_lines_total", "counter",
                 "Lines of the access log that were written.");
    metrics_value(out, "hookline_access_log_lines_total", (double)counter_get(&a->written), NULL);
    metrics_head(out, dropped, "counter",
                 "Lines of the access log that were lost: its buffer was full, or stdout took no "
                 "more.");
    metrics_value(out, dropped, (double)full, "reason", "full", NULL);
    metrics_value(out, dropped, (double)counter_get(&a->unwritten), "reason", "output", NULL);
}

void access_free(struct access *a)
{
    struct timespec by;

    if (!a)
        return;
    a->stop_by_ms = clock_mono_ms() + STOP_MS;
    atomic_store(&a->stopping, true);
    wake(a);
    clock_gettime(CLOCK_REALTIME, &by);
    by.tv_sec += 2 * STOP_MS / 1000;
    if (a->started && pthread_timedjoin_np(a->thread, NULL, &by))
        return; /* stdout took a write and does not end it: the process is about to end */
    for (unsigned i = 0; i < a->n; i++) {
        free(a->parts[i].filling);
        free(a->parts[i].spare);
        pthread_mutex_destroy(&a->parts[i].lock);
    }
    close(a->wake);
    buf_free(&a->out);
    free(a->parts);
    free(a);
}
