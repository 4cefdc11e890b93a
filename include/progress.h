/* progress - a position that one thread moves and that others wait for.
 *
 * Who waits arms its watch, looks at the position again, and then waits: a move after the arming
 * posts one message to its inbox, however many moves follow before it looks. A move that nobody
 * waits for costs a store and a load. */
#pragma once

#include <stdatomic.h>

#include "inbox.h"

struct progress_watch {
    struct inbox *in;
    void (*moved)(struct progress_watch *watch, void *self); /* on the thread that runs `in` */
    /* private */
    struct msg msg;
    atomic_bool armed, posted;
    struct progress_watch *next;
};

struct progress {
    _Atomic uint64_t at;
    _Atomic unsigned armed; /* watches */
    pthread_mutex_t lock;
    struct progress_watch *watches;
};

void progress_init(struct progress *p, uint64_t at);
void progress_close(struct progress *p); /* no watch is left */
void progress_move(struct progress *p, uint64_t to);
static inline uint64_t progress_at(const struct progress *p) /* any thread */
{
    return atomic_load(&p->at);
}

void progress_watch_add(struct progress *p, struct progress_watch *watch);
/* After it no message comes that was not already posted. */
void progress_watch_remove(struct progress *p, struct progress_watch *watch);
void progress_watch_arm(struct progress *p, struct progress_watch *watch); /* its own thread */
