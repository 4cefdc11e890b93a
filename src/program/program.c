/* SPDX-License-Identifier: Apache-2.0 */
/* Our side: the process that others are born of, one program, one call.
 *
 * A worker that ends for a reason of its own (time, memory) has judged the event. One that ends
 * otherwise (a fault in libjq, somebody's kill) gets a second try first. Where nothing answers, or
 * nobody can be born, that is no fault of the event: the caller comes again. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "json.h"
#include "room.h"
#include "spawn.h"

#define COMPILE_MS 20000
#define ENDING_MS 2000
#define SILENT_MS 30000 /* a worker that has the processor to itself ends long before that */

struct program {
    atomic_int holders;
    struct birth birth;
    char *texts; /* both, one behind the other */
    int memory_fd;
    char *memory;
    int sock;   /* to keeper and worker; -1: there is none */
    int worker; /* pidfd, -1: unknown */
    uint64_t number;
};

/* Written once, on the main thread, before there is a program that another thread could have. */
static int nursery = -1;
static pid_t nursery_pid;

/* --- births
 * --------------------------------------------------------------------------------------------- */

static int spawn(int theirs, struct err *e)
{
    static char word[] = PROGRAM_WORD, name[] = "hookline";
    char *argv[] = { name, word, NULL }, *env[] = { NULL };
    posix_spawn_file_actions_t files;
    int rc;

    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, theirs, PROGRAM_FD);
    for (int fd = 0; fd < PROGRAM_FD; fd++)
        posix_spawn_file_actions_addopen(&files, fd, "/dev/null", O_RDWR, 0);
    rc = spawn_apart(&nursery_pid, "/proc/self/exe", &files, argv, env);
    posix_spawn_file_actions_destroy(&files);
    errno = rc;
    return rc ? err_errno(e, EXIT_BAD_CONFIG,
                          "the process that runs jq could not be started; where this configuration "
                          "is the first with jq, a restart does it")
              : 0;
}

static int open_nursery(struct err *e)
{
    int ends[2], rc;

    if (nursery >= 0)
        return 0;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends))
        return err_errno(e, EXIT_BAD_CONFIG, "no socket for the process that runs jq");
    rc = spawn(ends[1], e);
    close(ends[1]);
    if (rc)
        close(ends[0]);
    else
        nursery = ends[0];
    return rc;
}

void program_end(void)
{
    struct pollfd gone = { .events = POLLIN };

    if (nursery < 0)
        return;
    close(nursery);
    nursery = -1;
    gone.fd = pidfd_open(nursery_pid, 0);
    if (gone.fd >= 0 && poll(&gone, 1, ENDING_MS) > 0)
        waitpid(nursery_pid, NULL, 0);
    if (gone.fd >= 0)
        close(gone.fd);
}

/* One packet of a shared socket: threads need no lock for it. */
static int ask_for_birth(const struct program *p, int theirs)
{
    struct iovec iov = { (void *)(uintptr_t)&p->birth, sizeof p->birth };
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(2 * sizeof(int))];
    } control = { .room = { 0 } };
    struct msghdr msg = { .msg_iov = &iov,
                          .msg_iovlen = 1,
                          .msg_control = control.room,
                          .msg_controllen = sizeof control.room };
    const int fds[2] = { theirs, p->memory_fd };

    control.head = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof fds),
                                     .cmsg_level = SOL_SOCKET,
                                     .cmsg_type = SCM_RIGHTS };
    memcpy(CMSG_DATA(&control.head), fds, sizeof fds);
    return sendmsg(nursery, &msg, MSG_NOSIGNAL) == (ssize_t)sizeof p->birth ? 0 : -1;
}

static void leave(struct program *p)
{
    if (p->sock >= 0)
        close(p->sock);
    if (p->worker >= 0)
        close(p->worker);
    p->sock = p->worker = -1;
}

/* What comes within that time; 0, 1: silence, -1: there is nobody. */
static int hear(struct program *p, struct answer *a, int64_t ms)
{
    struct pollfd fd = { .fd = p->sock, .events = POLLIN };
    int rc;

    do
        rc = poll(&fd, 1, (int)MAX(ms, 0));
    while (rc < 0 && errno == EINTR);
    if (rc == 0)
        return 1;
    if (rc < 0 || recv(p->sock, a, sizeof *a, 0) != (ssize_t)sizeof *a)
        return -1;
    a->n = MIN(a->n, p->birth.body_max);
    if (a->kind == ANSWER_WORKER) {
        if (p->worker >= 0)
            close(p->worker);
        p->worker = pidfd_open(a->detail, 0);
    }
    return 0;
}

/* The other half of the memory. */
static struct span said(const struct program *p, const struct answer *a)
{
    return span_of(p->memory + p->birth.body_max, (size_t)a->n);
}

static int start(struct program *p, struct err *e)
{
    struct answer a = { .kind = ANSWER_ENDED };
    int ends[2], rc;

    memcpy(p->memory, p->texts, p->birth.match_n + p->birth.transform_n);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends))
        return err_errno(e, EXIT_BAD_CONFIG, "no socket for jq");
    rc = ask_for_birth(p, ends[1]);
    close(ends[1]);
    p->sock = ends[0];
    if (rc) {
        leave(p);
        return err_errno(e, EXIT_BAD_CONFIG,
                         "the process that starts jq is gone; restart hookline");
    }
    rc = hear(p, &a, COMPILE_MS);
    if (!rc && a.kind == ANSWER_COMPILED)
        return 0;
    if (!rc && a.kind == ANSWER_BROKEN)
        err_set(e, EXIT_BAD_CONFIG, "%.*s", SPAN_FMT(said(p, &a)));
    else
        err_set(e, EXIT_BAD_CONFIG, "jq: the program could not be compiled within its bounds");
    leave(p);
    return -1;
}

/* --- its life
 * ---------------------------------------------------------------------------------------------- */

int program_new(struct program **out, const struct program_cfg *cfg, size_t body_max, struct err *e)
{
    struct program *p = xcalloc(1, sizeof *p);
    size_t size;

    p->birth = (struct birth){ .timeout_ms = cfg->timeout_ms,
                               .memory_bytes = cfg->memory_bytes,
                               .match_n = strlen(cfg->match),
                               .transform_n = strlen(cfg->transform) };
    p->birth.body_max = MAX(body_max, p->birth.match_n + p->birth.transform_n + REASON_MAX);
    p->texts = xasprintf("%s%s", cfg->match, cfg->transform);
    p->holders = 1;
    p->sock = p->worker = -1;
    size = 2 * p->birth.body_max;
    p->memory_fd = memfd_create("jq", MFD_CLOEXEC);
    p->memory = MAP_FAILED;
    if (p->memory_fd >= 0 && !ftruncate(p->memory_fd, (off_t)size))
        p->memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, p->memory_fd, 0);
    if (p->memory == MAP_FAILED)
        err_errno(e, EXIT_BAD_CONFIG, "no shared memory for jq");
    else if (!open_nursery(e) && !start(p, e)) {
        *out = p;
        return 0;
    }
    program_release(p);
    return -1;
}

struct program *program_hold(struct program *p)
{
    if (p)
        atomic_fetch_add(&p->holders, 1);
    return p;
}

void program_release(struct program *p)
{
    if (!p || atomic_fetch_sub(&p->holders, 1) > 1)
        return;
    leave(p); /* keeper and worker end when they find nobody here */
    if (p->memory != MAP_FAILED)
        munmap(p->memory, 2 * p->birth.body_max);
    if (p->memory_fd >= 0)
        close(p->memory_fd);
    free(p->texts);
    free(p);
}

/* --- one event
 * ------------------------------------------------------------------------------------------- */

static enum program_verdict absent(struct program *p, struct buf *out, const char *why)
{
    leave(p);
    out->n = 0;
    buf_printf(out, "jq: %s", why);
    return PROGRAM_ABSENT;
}

static enum program_verdict fails(struct buf *out, struct span why)
{
    out->n = 0;
    buf_span(out, why);
    return PROGRAM_FAILS;
}

/* What the keeper said of earlier workers is old news. */
static bool listening(struct program *p)
{
    struct answer a;
    int rc;

    while (p->sock >= 0 && (rc = hear(p, &a, 0)) != 1)
        if (rc < 0)
            leave(p);
    return p->sock >= 0;
}

static bool over_bounds(const struct program *p, int status, struct buf *out)
{
    bool time = WIFSIGNALED(status) && WTERMSIG(status) == SIGPROF;
    bool memory = WIFEXITED(status) && WEXITSTATUS(status) == ENDED_MEMORY;

    out->n = 0;
    if (time)
        buf_printf(out, "jq: took more than %lld ms of processor time (jq.timeout)",
                   (long long)p->birth.timeout_ms);
    if (memory)
        buf_printf(out, "jq: needed more than %llu bytes of memory (jq.memory)",
                   (unsigned long long)p->birth.memory_bytes);
    return time || memory;
}

static void how_it_ended(int status, struct buf *out)
{
    out->n = 0;
    if (WIFSIGNALED(status))
        buf_printf(out, "jq: the process was ended by signal %d, twice", WTERMSIG(status));
    else
        buf_printf(out, "jq: the process ended by itself, twice");
}

/* It has neither answered nor used up its time: it is stopped, or waits for what never comes. */
static void end_worker(const struct program *p)
{
    if (p->worker >= 0)
        pidfd_send_signal(p->worker, SIGKILL, NULL, 0);
}

enum heard { HEARD_VERDICT, HEARD_END };

static enum heard wait_for_answer(struct program *p, struct buf *out, enum program_verdict *verdict,
                                  int *status)
{
    int64_t by = clock_mono_ms() + SILENT_MS;
    struct answer a;
    int rc;

    while ((rc = hear(p, &a, by - clock_mono_ms())) == 0) {
        if (a.kind == ANSWER_ENDED) {
            *status = a.detail;
            return HEARD_END;
        }
        if (a.kind == ANSWER_NO_FORK) {
            *verdict = absent(p, out, strerrordesc_np(a.detail));
            return HEARD_VERDICT;
        }
        if (a.kind < ANSWER_TAKES || a.kind > ANSWER_FAILS || a.number != p->number)
            continue;
        *verdict = (enum program_verdict)(a.kind - ANSWER_TAKES + PROGRAM_TAKES);
        out->n = 0;
        if (*verdict == PROGRAM_CHANGES || *verdict == PROGRAM_FAILS)
            buf_span(out, said(p, &a));
        return HEARD_VERDICT;
    }
    if (rc == 1)
        end_worker(p);
    *verdict = absent(p, out, rc == 1 ? "no answer; the process was ended" : "the process is gone");
    return HEARD_VERDICT;
}

enum program_verdict program_run(struct program *p, struct span body, struct buf *out)
{
    enum program_verdict verdict;
    struct err e = ERR_INIT;
    int status = 0;

    out->n = 0;
    if (body.n > p->birth.body_max)
        return fails(out, S("the body is larger than limits.body_bytes, so that jq has no room"));
    if (!json_valid(body))
        return fails(out, S("the body is not JSON, so that jq cannot read it"));
    for (int tries = 0; tries < 2; tries++) {
        struct request r = { .number = ++p->number, .n = body.n };
        if (!listening(p) && start(p, &e))
            return absent(p, out, e.text);
        memcpy(p->memory, body.p, body.n);
        if (send(p->sock, &r, sizeof r, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)sizeof r)
            return absent(p, out, "the process does not listen");
        if (wait_for_answer(p, out, &verdict, &status) == HEARD_VERDICT)
            return verdict;
        if (over_bounds(p, status, out))
            return PROGRAM_FAILS;
    }
    how_it_ended(status, out);
    return PROGRAM_FAILS;
}
