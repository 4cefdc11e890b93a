/* SPDX-License-Identifier: Apache-2.0 */
/* The two sides of a program: program.c here, process.c there.
 *
 *   hookline ── births ──> nursery ──fork──> keeper, one a program ──fork──> worker
 *      └──────────────── one socket and one piece of memory a program ─────────┘
 *
 * The nursery is this program, executed again before the sandbox closes, with an empty environment
 * and without a thread; it can give birth whenever a program is changed or its keeper was killed.
 * A keeper compiles and then has one worker at a time; when that ends it says how and forks the
 * next, which needs no compiling. A worker that is over its processor time is ended by the
 * kernel, over its memory it ends itself; nobody has to find that out.
 *
 * Bodies go through the shared memory, and one packet says that they are there. A request has a
 * number, so that the answer to one that was given up is not taken for the next. What is read of an
 * answer is bounded here, whatever it says. */
#pragma once

#include "program.h"

#define PROGRAM_WORD "--programs"
#define PROGRAM_FD 3 /* of the nursery, to us */

/* With the two descriptors, the socket and the memory. Its first bytes are both texts. */
struct birth {
    int64_t timeout_ms;
    uint64_t memory_bytes, body_max; /* the memory: one body in, then one out */
    uint64_t match_n, transform_n;
};

struct request {
    uint64_t number, n;
};

enum answer_kind {
    ANSWER_COMPILED,
    ANSWER_BROKEN,  /* n bytes of text: which and why */
    ANSWER_WORKER,  /* detail: its pid */
    ANSWER_ENDED,   /* detail: the worker's wait status */
    ANSWER_NO_FORK, /* detail: errno; it is tried again */
    ANSWER_TAKES,   /* from here on of a worker, to the request of that number */
    ANSWER_CHANGES, /* n bytes */
    ANSWER_PASSES,
    ANSWER_FAILS, /* n bytes of text */
};
struct answer {
    uint64_t number, n;
    int kind, detail;
};

/* How a worker ends where memory has run out; over its time it is ended by SIGPROF. */
enum { ENDED_MEMORY = 70 };

#define REASON_MAX 400
