/* SPDX-License-Identifier: Apache-2.0 */
/* The other side: nursery, keeper, worker; see room.h. Each is a process with one thread.
 *
 * What a program may not have is not there: the environment is empty, no descriptor can be opened
 * (so import, include and what reads a file find none), and no input or message callback is set.
 * The bound on memory is one of the address space, that on time one of the processor's: a worker
 * that others keep from running is not blamed for it. */
#include <errno.h>
#include <fcntl.h>
#include <jq.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "room.h"

#define COMPILE_CPU_MS 10000
#define FORK_AGAIN_S 1
#define TOO_LARGE "the result is larger than limits.body_bytes"

struct keeper {
    struct birth birth;
    int sock;
    char *in, *out; /* the memory: what comes, what goes */
    jq_state *match, *transform;
};

static void on_no_memory(void *arg UNUSED)
{
    _exit(ENDED_MEMORY);
}

/* SIGPROF ends the process, without a handler. 0: no bound. */
static void bound_time(int64_t ms)
{
    struct itimerval t = { .it_value = { ms / 1000, ms % 1000 * 1000 } };

    setitimer(ITIMER_PROF, &t, NULL);
}

static int tell(const struct keeper *k, struct answer a)
{
    return send(k->sock, &a, sizeof a, MSG_NOSIGNAL) == (ssize_t)sizeof a ? 0 : -1;
}

/* --- texts
 * -----------------------------------------------------------------------------------------------
 */

static uint64_t put(struct keeper *k, struct span s)
{
    uint64_t n = MIN(s.n, k->birth.body_max);

    memcpy(k->out, s.p, n);
    return n;
}

/* Our words and jq's, cut where a character begins. The message is freed. */
static uint64_t put_reason(struct keeper *k, const char *ours, jv message)
{
    char text[REASON_MAX] = "";
    size_t n = 0;
    jv m = jv_get_kind(message) == JV_KIND_STRING ? message : jv_dump_string(message, 0);
    const char *parts[] = { ours, jv_string_value(m) };

    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        for (const char *p = parts[i]; *p && n < sizeof text - 1; p++)
            text[n++] = *p == '\n' ? ' ' : *p;
    while (n && n == sizeof text - 1 && ((unsigned char)text[n - 1] & 0xC0) == 0x80)
        n--;
    while (n && (text[n - 1] == ' ' || (unsigned char)text[n - 1] >= 0xC0))
        n--;
    jv_free(m);
    return put(k, span_of(text, n));
}

/* --- worker
 * ---------------------------------------------------------------------------------------------- */

/* The first result; invalid with a message: it failed, without one: there is none. */
static jv first_result(jq_state *program, jv input)
{
    jv result;

    jq_start(program, input, 0);
    result = jq_next(program);
    if (jv_is_valid(result) || !jq_halted(program))
        return result;
    jv_free(result);
    return jv_invalid_with_msg(jv_string("it halted"));
}

static struct answer failed(struct keeper *k, const char *which, jv invalid)
{
    return (struct answer){ .kind = ANSWER_FAILS,
                            .n = put_reason(k, which, jv_invalid_get_msg(invalid)) };
}

static bool says_yes(struct keeper *k, jv input, struct answer *a)
{
    jv result = first_result(k->match, input);
    jv_kind kind = jv_get_kind(result);

    if (kind == JV_KIND_INVALID && jv_invalid_has_msg(jv_copy(result))) {
        *a = failed(k, "match.jq: ", result);
        return false;
    }
    jv_free(result);
    a->kind = ANSWER_PASSES;
    return kind != JV_KIND_INVALID && kind != JV_KIND_FALSE && kind != JV_KIND_NULL;
}

static struct answer changed(struct keeper *k, jv result)
{
    jv text = jv_dump_string(result, 0);
    struct span s = span_of(jv_string_value(text), (size_t)jv_string_length_bytes(jv_copy(text)));
    struct answer a = { .kind = ANSWER_CHANGES, .n = s.n };

    if (s.n <= k->birth.body_max)
        put(k, s);
    else
        a = failed(k, "transform.jq: ", jv_invalid_with_msg(jv_string(TOO_LARGE)));
    jv_free(text);
    return a;
}

static struct answer transformed(struct keeper *k, jv input)
{
    jv result;

    result = first_result(k->transform, input);
    if (jv_is_valid(result))
        return changed(k, result);
    if (jv_invalid_has_msg(jv_copy(result)))
        return failed(k, "transform.jq: ", result);
    jv_free(result);
    return failed(k, "transform.jq: ", jv_invalid_with_msg(jv_string("it gave no result")));
}

static struct answer answer_to(struct keeper *k, uint64_t n)
{
    struct answer a = { .kind = ANSWER_TAKES };
    jv input;

    input = jv_parse_sized(k->in, (int)n);
    if (!jv_is_valid(input))
        return failed(k, "jq: ", input);
    if (k->match && !says_yes(k, jv_copy(input), &a)) {
        jv_free(input);
        return a;
    }
    if (k->transform)
        return transformed(k, input);
    jv_free(input);
    return (struct answer){ .kind = ANSWER_TAKES };
}

static NORETURN void work(struct keeper *k)
{
    struct request r;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (tell(k, (struct answer){ .kind = ANSWER_WORKER, .detail = (int)getpid() }))
        _exit(0);
    while (recv(k->sock, &r, sizeof r, 0) == (ssize_t)sizeof r && r.n <= k->birth.body_max) {
        struct answer a;
        bound_time(k->birth.timeout_ms);
        a = answer_to(k, r.n);
        bound_time(0);
        a.number = r.number;
        if (tell(k, a))
            break;
    }
    _exit(0);
}

/* --- keeper
 * -------------------------------------------------------------------------------------------- */

/* Beyond what is mapped now. */
static int bound_memory(uint64_t bytes)
{
    char text[64] = "";
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    struct rlimit limit;

    if (fd >= 0)
        close(fd);
    if (n <= 0)
        return -1;
    limit.rlim_cur = strtoull(text, NULL, 10) * (rlim_t)sysconf(_SC_PAGESIZE) + bytes;
    limit.rlim_max = limit.rlim_cur;
    return setrlimit(RLIMIT_AS, &limit);
}

/* Where memory is short for all, we are the one to go. */
static void be_expendable(void)
{
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

    if (fd < 0)
        return;
    if (write(fd, "1000", 4) != 4)
        errno = 0; /* it is only a wish */
    close(fd);
}

static int give_up(uint64_t memory)
{
    const struct rlimit none = { 0, 0 };

    be_expendable();
    if (bound_memory(memory) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
        prctl(PR_SET_DUMPABLE, 0) || setrlimit(RLIMIT_CORE, &none) ||
        setrlimit(RLIMIT_FSIZE, &none))
        return -1;
    return setrlimit(RLIMIT_NOFILE, &none); /* from here on nothing can be opened */
}

/* The first of jq's messages says what is wrong. */
static void on_message(void *arg, jv message)
{
    jv *first = arg, text = jq_format_error(message);

    if (jv_is_valid(*first))
        jv_free(text);
    else
        *first = text;
}

/* jq puts its own name before what it says. */
static jv without_name(jv message)
{
    static const char name[] = "jq: error: ";
    const char *text = jv_string_value(message);
    jv rest;

    if (strncmp(text, name, sizeof name - 1) != 0)
        return message;
    rest = jv_string(text + sizeof name - 1);
    jv_free(message);
    return rest;
}

static jq_state *compile(struct keeper *k, const char *which, char *text)
{
    jq_state *jq = jq_init();
    jv message = jv_invalid();
    int good;

    if (!jq)
        on_no_memory(NULL);
    jq_set_nomem_handler(jq, on_no_memory, NULL);
    jq_set_error_cb(jq, on_message, &message);
    jq_set_input_cb(jq, NULL, NULL); /* jq 1.6 leaves these two as it finds them */
    jq_set_debug_cb(jq, NULL, NULL);
    jq_set_attr(jq, jv_string("JQ_LIBRARY_PATH"), jv_array());
    good = jq_compile(jq, text);
    free(text);
    jq_set_error_cb(jq, NULL, NULL);
    if (good) {
        jv_free(message);
        return jq;
    }
    message = jv_is_valid(message) ? without_name(message) : jv_string("it is no program");
    tell(k, (struct answer){ .kind = ANSWER_BROKEN, .n = put_reason(k, which, message) });
    _exit(0);
}

static void compile_both(struct keeper *k)
{
    const struct birth *b = &k->birth;
    char *match = span_dup(span_of(k->in, b->match_n));
    char *transform = span_dup(span_of(k->in + b->match_n, b->transform_n));

    bound_time(COMPILE_CPU_MS);
    if (b->match_n)
        k->match = compile(k, "match.jq: ", match);
    if (b->transform_n)
        k->transform = compile(k, "transform.jq: ", transform);
    bound_time(0);
}

static NORETURN void keep(struct keeper *k)
{
    int status = 0;
    pid_t pid;

    signal(SIGCHLD, SIG_DFL); /* the nursery does not wait for its own; we do */
    if (give_up(k->birth.memory_bytes)) {
        uint64_t n = put(k, S("jq: its bounds could not be set here (setrlimit)"));
        tell(k, (struct answer){ .kind = ANSWER_BROKEN, .n = n });
        _exit(0);
    }
    compile_both(k);
    if (tell(k, (struct answer){ .kind = ANSWER_COMPILED }))
        _exit(0);
    for (;;) {
        struct answer a = { .kind = ANSWER_ENDED };
        pid = fork();
        if (!pid)
            work(k);
        if (pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && !WEXITSTATUS(status))
            _exit(0); /* nobody asks any more */
        if (pid < 0)
            a.kind = ANSWER_NO_FORK;
        a.detail = pid < 0 ? errno : status;
        if (tell(k, a))
            _exit(0);
        if (pid < 0)
            sleep(FORK_AGAIN_S);
    }
}

/* --- nursery
 * ------------------------------------------------------------------------------------------- */

/* 0: two descriptors came; 1: nothing that is asked for; -1: hookline has ended. */
static int next_birth(struct birth *b, int fds[2])
{
    struct iovec iov = { b, sizeof *b };
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(2 * sizeof(int))];
    } control;
    struct msghdr msg = { .msg_iov = &iov,
                          .msg_iovlen = 1,
                          .msg_control = control.room,
                          .msg_controllen = sizeof control.room };
    ssize_t n = recvmsg(PROGRAM_FD, &msg, MSG_CMSG_CLOEXEC);
    const struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&msg) : NULL;

    if (n <= 0)
        return n < 0 && errno == EINTR ? 1 : -1;
    if (n != (ssize_t)sizeof *b || !c || c->cmsg_len != CMSG_LEN(2 * sizeof(int)))
        return 1;
    memcpy(fds, CMSG_DATA(c), 2 * sizeof(int));
    return 0;
}

static NORETURN void be_born(const struct birth *b, const int fds[2])
{
    struct keeper k = { .birth = *b, .sock = fds[0] };

    close(PROGRAM_FD);
    k.in = mmap(NULL, 2 * b->body_max, PROT_READ | PROT_WRITE, MAP_SHARED, fds[1], 0);
    if (k.in == MAP_FAILED)
        _exit(0);
    close(fds[1]);
    k.out = k.in + b->body_max;
    keep(&k);
}

int program_process(int argc, char **argv)
{
    struct birth b = { 0 };
    int fds[2], rc;

    if (argc != 2 || strcmp(argv[1], PROGRAM_WORD) != 0 || fcntl(PROGRAM_FD, F_GETFD) < 0)
        return -1;
    prctl(PR_SET_NAME, "hookline-jq");
    prctl(PR_SET_CHILD_SUBREAPER, 1); /* of a worker whose keeper was killed */
    signal(SIGCHLD, SIG_IGN);         /* keepers are nobody's to wait for */
    while ((rc = next_birth(&b, fds)) >= 0) {
        if (rc)
            continue;
        if (!fork())
            be_born(&b, fds);
        close(fds[0]);
        close(fds[1]);
    }
    wait(NULL); /* until the last of them has ended */
    return 0;
}
