/* SPDX-License-Identifier: Apache-2.0 */
/* One thread at a time. The log's own threads run as they are; the linker puts the functions here
 * in place of those of libpthread, poll(2) and the clock. Whoever would wait gives the turn away,
 * and the seed picks who is next among those that can go on. When nobody can, the clock moves to
 * the first deadline. So a run depends on its seed alone, whatever the machine does meanwhile. */
#include "sim.h"

#include <errno.h>
#include <poll.h>
#include <semaphore.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define THREADS 16
#define NEVER INT64_MAX

int __real_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *arg);
int __real_pthread_join(pthread_t t, void **out);
int __real_pthread_mutex_lock(pthread_mutex_t *m);
int __real_pthread_cond_wait(pthread_cond_t *c, pthread_mutex_t *m);
int __real_pthread_cond_timedwait(pthread_cond_t *c, pthread_mutex_t *m, const struct timespec *ts);
int __real_pthread_cond_signal(pthread_cond_t *c);
int __real_pthread_cond_broadcast(pthread_cond_t *c);
int __real_poll(struct pollfd *p, nfds_t n, int timeout);
int __real_clock_gettime(clockid_t id, struct timespec *ts);
int __wrap_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *arg);
int __wrap_pthread_join(pthread_t t, void **out);
int __wrap_pthread_mutex_lock(pthread_mutex_t *m);
int __wrap_pthread_cond_wait(pthread_cond_t *c, pthread_mutex_t *m);
int __wrap_pthread_cond_timedwait(pthread_cond_t *c, pthread_mutex_t *m, const struct timespec *ts);
int __wrap_pthread_cond_signal(pthread_cond_t *c);
int __wrap_pthread_cond_broadcast(pthread_cond_t *c);
int __wrap_poll(struct pollfd *p, nfds_t n, int timeout);
int __wrap_clock_gettime(clockid_t id, struct timespec *ts);

enum state { READY, ON_MUTEX, ON_COND, ON_POLL, ON_JOIN, ASLEEP, ENDED };

struct thread {
    pthread_t id;
    sem_t turn;
    void *(*f)(void *);
    void *arg;
    enum state state;
    pthread_mutex_t *mutex;
    pthread_cond_t *cond;
    struct pollfd *poll;
    nfds_t poll_n;
    struct thread *joins;
    bool woken;
    int64_t until_us;
};

static struct {
    bool on;
    struct thread v[THREADS];
    size_t n;
    struct thread *now;
    struct rng rng;
    int64_t us; /* never goes back, from life to life */
} sched = { .us = INT64_C(1000000000) };

uint64_t rng_next(struct rng *r)
{
    return next_number(&r->s);
}

unsigned rng_below(struct rng *r, unsigned n)
{
    return (unsigned)((rng_next(r) >> 32) * n >> 32);
}

double cpu_seconds(void)
{
    struct timespec ts;

    __real_clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static bool can_go_on(struct thread *t)
{
    if (t->until_us <= sched.us)
        return t->state != ENDED;
    switch (t->state) {
    case READY:
        return true;
    case ON_MUTEX:
        if (pthread_mutex_trylock(t->mutex))
            return false;
        pthread_mutex_unlock(t->mutex);
        return true;
    case ON_COND:
        return t->woken;
    case ON_POLL:
        return __real_poll(t->poll, t->poll_n, 0) > 0;
    case ON_JOIN:
        return t->joins->state == ENDED;
    case ASLEEP:
    case ENDED:
        return false;
    }
    abort();
}

static struct thread *pick(void)
{
    struct thread *v[THREADS];

    for (;;) {
        int64_t first = NEVER;
        size_t n = 0;
        for (size_t i = 0; i < sched.n; i++) {
            struct thread *t = &sched.v[i];
            if (can_go_on(t))
                v[n++] = t;
            else if (t->state != ENDED)
                first = MIN(first, t->until_us);
        }
        if (n)
            return v[rng_below(&sched.rng, (unsigned)n)];
        if (first == NEVER) {
            fprintf(stderr, "sim: all threads wait for ever\n");
            abort();
        }
        sched.us = first;
    }
}

static void hand_over(struct thread *self)
{
    struct thread *next = pick();

    if (next == self)
        return;
    sched.now = next;
    sem_post(&next->turn);
    if (self->state == ENDED)
        return;
    while (sem_wait(&self->turn))
        ;
}

/* Gives the turn away until what `state` waits for has come. */
static void wait_as(enum state state, int64_t until_us)
{
    struct thread *self = sched.now;

    self->state = state;
    self->until_us = until_us;
    hand_over(self);
    self->state = READY;
    self->until_us = NEVER;
}

static struct thread *add_thread(void)
{
    struct thread *t = &sched.v[sched.n++];

    if (sched.n > THREADS)
        abort();
    *t = (struct thread){ .state = READY, .until_us = NEVER };
    sem_init(&t->turn, 0, 0);
    return t;
}

void sched_begin(uint64_t seed)
{
    sched.n = 0;
    sched.rng.s = seed;
    sched.now = add_thread();
    sched.on = true;
}

void sched_end(void)
{
    for (size_t i = 1; i < sched.n; i++)
        if (sched.v[i].state != ENDED)
            abort();
    for (size_t i = 0; i < sched.n; i++)
        sem_destroy(&sched.v[i].turn);
    sched.on = false;
}

void sched_yield_here(void)
{
    if (sched.on)
        wait_as(READY, NEVER);
}

void sched_sleep_us(int64_t us)
{
    if (sched.on)
        wait_as(ASLEEP, sched.us + us);
}

static void *run(void *arg)
{
    struct thread *self = arg;

    while (sem_wait(&self->turn))
        ;
    self->f(self->arg);
    self->state = ENDED;
    self->until_us = NEVER;
    hand_over(self);
    return NULL;
}

int __wrap_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *arg)
{
    struct thread *new;
    int rc;

    if (!sched.on)
        return __real_pthread_create(t, a, f, arg);
    new = add_thread();
    new->f = f;
    new->arg = arg;
    rc = __real_pthread_create(&new->id, a, run, new);
    *t = new->id;
    return rc;
}

int __wrap_pthread_join(pthread_t t, void **out)
{
    for (size_t i = 1; sched.on && i < sched.n; i++)
        if (pthread_equal(sched.v[i].id, t)) {
            sched.now->joins = &sched.v[i];
            wait_as(ON_JOIN, NEVER);
        }
    return __real_pthread_join(t, out);
}

int __wrap_pthread_mutex_lock(pthread_mutex_t *m)
{
    if (!sched.on)
        return __real_pthread_mutex_lock(m);
    while (pthread_mutex_trylock(m)) {
        sched.now->mutex = m;
        wait_as(ON_MUTEX, NEVER);
    }
    return 0;
}

static int cond_wait(pthread_cond_t *c, pthread_mutex_t *m, int64_t until_us)
{
    struct thread *self = sched.now;

    self->cond = c;
    self->woken = false;
    pthread_mutex_unlock(m);
    wait_as(ON_COND, until_us);
    self->cond = NULL;
    __wrap_pthread_mutex_lock(m);
    return self->woken ? 0 : ETIMEDOUT;
}

int __wrap_pthread_cond_wait(pthread_cond_t *c, pthread_mutex_t *m)
{
    return sched.on ? cond_wait(c, m, NEVER) : __real_pthread_cond_wait(c, m);
}

int __wrap_pthread_cond_timedwait(pthread_cond_t *c, pthread_mutex_t *m, const struct timespec *ts)
{
    if (!sched.on)
        return __real_pthread_cond_timedwait(c, m, ts);
    return cond_wait(c, m, (int64_t)ts->tv_sec * 1000000 + ts->tv_nsec / 1000);
}

static int wake(pthread_cond_t *c, bool all)
{
    for (size_t i = 0; i < sched.n; i++)
        if (sched.v[i].cond == c && !sched.v[i].woken) {
            sched.v[i].woken = true;
            if (!all)
                break;
        }
    return 0;
}

int __wrap_pthread_cond_signal(pthread_cond_t *c)
{
    return sched.on ? wake(c, false) : __real_pthread_cond_signal(c);
}

int __wrap_pthread_cond_broadcast(pthread_cond_t *c)
{
    return sched.on ? wake(c, true) : __real_pthread_cond_broadcast(c);
}

int __wrap_poll(struct pollfd *p, nfds_t n, int timeout)
{
    if (!sched.on)
        return __real_poll(p, n, timeout);
    sched.now->poll = p;
    sched.now->poll_n = n;
    wait_as(ON_POLL, timeout < 0 ? NEVER : sched.us + (int64_t)timeout * 1000);
    return __real_poll(p, n, 0);
}

int __wrap_clock_gettime(clockid_t id, struct timespec *ts)
{
    int64_t us = sched.us + (id == CLOCK_REALTIME ? INT64_C(1790000000000000) : 0);

    *ts = (struct timespec){ .tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000 };
    return 0;
}
