/* SPDX-License-Identifier: Apache-2.0 */
/* One call for an overdue job: fallback.c the queue of them, fallback_run.c a command,
 * fallback_post.c a URL. */
#pragma once

#include <sys/types.h>

#include "room.h"

#define OUTPUT_MOST 2048

struct call {
    TAILQ_ENTRY(call) link;
    struct jobs *jobs;
    char *job, *source;
    uint64_t lsn; /* of the overdue event */
    struct buf body, headers;
    struct post *post; /* a URL */
    struct post_target to;
    pid_t pid; /* a command */
    int pidfd, out;
    struct event exit_ev, out_ev, time_ev;
    char output[OUTPUT_MOST];
    size_t output_n;
    bool timed_out;
};

/* Each calls fallback_ended once, sooner or later; _end: now. */
void fallback_run(struct call *c);
void fallback_run_end(struct call *c);
void fallback_post(struct call *c);
void fallback_post_end(struct call *c);
void fallback_ended(struct call *c, bool good); /* c is gone */
