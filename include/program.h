/* program - what an operator wrote in jq: which events a sink takes, and what becomes of them.
 *
 * Nothing of it runs in this process. libjq cannot be interrupted, has no bound on its memory and
 * calls abort(); so a program is compiled, and runs, in a process of its own, one a sink, with an
 * empty environment, without a file, with a bound on its memory and on its processor time. A worker
 * that ends is followed by the next; the program is compiled once. Where no program is configured
 * no such process is there. How it works is told in src/program/room.h. */
#pragma once

#include "buf.h"
#include "err.h"

struct program_cfg {
    const char *match, *transform; /* "": there is none */
    int64_t timeout_ms;            /* processor time for one event */
    uint64_t memory_bytes;         /* beyond what it has when it starts */
};
struct program;

/* Compiles; main thread. The first one of a process has to come before the sandbox, since it starts
 * another process. body_max: of a body, and of a result. On failure e says which program, and why
 * in jq's words. */
MUST_CHECK int program_new(struct program **out, const struct program_cfg *cfg, size_t body_max,
                           struct err *e);
/* Counted: a new one is held once. NULL is harmless. Any thread. */
struct program *program_hold(struct program *p);
void program_release(struct program *p);

/* Ends the process that the others are born of, and waits a moment for it. Main thread, when all
 * programs were released; harmless where there was none. */
void program_end(void);

enum program_verdict {
    PROGRAM_TAKES,   /* as it came */
    PROGRAM_CHANGES, /* out is the new body */
    PROGRAM_PASSES,  /* not for this sink */
    PROGRAM_FAILS,   /* out is the reason, for the dead letter; it may quote the body */
    PROGRAM_ABSENT,  /* nothing runs it now: try again later; out is the reason */
};
/* Waits for the answer: at most some time more than the time bound. One thread at a time. out is
 * emptied first. */
enum program_verdict program_run(struct program *p, struct span body, struct buf *out);

/* The other side: for main(), before anything else. -1: it is not what this process is for. */
int program_process(int argc, char **argv);
