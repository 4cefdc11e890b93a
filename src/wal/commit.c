/* SPDX-License-Identifier: Apache-2.0 */
/* Committing: the sync thread, and the answers.
 *
 * The log thread writes a group and hands it over; the sync thread syncs the file, publishes how
 * far the log is durable, and answers. So the next group is encoded and written while this one's
 * fdatasync waits for the disk. No more than one group is written ahead of the sync that runs: what
 * comes meanwhile gathers in the log thread's inbox and shares the sync after that. A sync begins
 * after the write of every group that it answers (P1), and groups are answered in order.
 *
 * P3: a write or sync that failed is never tried again and never believed: from then on nothing is
 * published, everybody who waits is answered WAL_FAILED, and then the owner is told. */
#include <sys/prctl.h>

#include "clock.h"
#include "log.h"
#include "room.h"

#define REPLIES 256 /* intake threads */

static void tell_watches(struct wal *w)
{
    pthread_mutex_lock(&w->lock);
    for (struct wal_watch *watch = w->watches; watch; watch = watch->next)
        if (atomic_load(&watch->armed) && !atomic_exchange(&watch->posted, true)) {
            atomic_store(&watch->armed, false);
            inbox_post(watch->in, &watch->msg);
        }
    pthread_mutex_unlock(&w->lock);
}

void commit_publish(struct wal *w, uint64_t lsn)
{
    atomic_store(&w->durable_lsn, lsn);
    tell_watches(w);
}

/* One list an inbox. */
void commit_answer(struct msg_list *group, bool failed)
{
    struct {
        struct inbox *to;
        struct msg_list l;
    } out[REPLIES];
    size_t n = 0, i;
    struct msg *m, *next;

    for (m = group->head; m; m = next) {
        struct wal_append *a = container_of(m, struct wal_append, msg);
        next = m->next;
        if (failed)
            a->result = WAL_FAILED;
        m->deliver = a->done;
        for (i = 0; i < n && out[i].to != a->reply; i++)
            ;
        if (i == REPLIES) {
            inbox_post(a->reply, m);
            continue;
        }
        if (i == n) {
            out[n].to = a->reply;
            out[n++].l = (struct msg_list){ NULL, NULL };
        }
        msg_list_add(&out[i].l, m);
    }
    for (i = 0; i < n; i++)
        inbox_post_list(out[i].to, &out[i].l);
    *group = (struct msg_list){ NULL, NULL };
}

/* To the log thread, which tells the owner once everybody has been answered. */
static void on_stopped(struct msg *m UNUSED, void *self)
{
    struct wal *w = self;

    w->tell_owner = true;
}

void commit_fail(struct wal *w, const struct err *e)
{
    if (atomic_exchange(&w->failed, true))
        return;
    log_error("the log has stopped", KS("reason", e->text),
              KS("state", "stopping, durability unknown"), KU("since_lsn", w->durable_lsn + 1));
    w->stopped.deliver = on_stopped;
    inbox_post(&w->in, &w->stopped);
}

static void sync_one(struct wal *w, struct commit *c)
{
    struct err e = ERR_INIT;
    bool bad;

    atomic_store(&w->syncing_since_ms, clock_mono_ms());
    if (c->written && !w->failed && io_fdatasync(c->fd)) {
        err_errno(&e, EXIT_IO, "wal: fdatasync seg %s", c->name);
        commit_fail(w, &e);
    }
    atomic_store(&w->syncing_since_ms, 0);
    bad = w->failed;
    if (c->written && !bad)
        atomic_store(&w->durable_lsn, c->last_lsn);
    if (c->records && !bad) {
        histogram_add(&w->commit_seconds, (uint64_t)(clock_mono_us() - c->started_us));
        histogram_add(&w->commit_records, c->records);
    }
    commit_answer(&c->group, bad);
    if (c->written && !bad)
        tell_watches(w);
}

void *commit_thread(void *arg)
{
    struct wal *w = arg;
    struct syncer *s = &w->sync;
    struct commit c;

    prctl(PR_SET_NAME, "log-sync");
    pthread_mutex_lock(&s->lock);
    for (;;) {
        while (!s->waiting && !s->stop)
            pthread_cond_wait(&s->wake, &s->lock);
        if (!s->waiting)
            break;
        c = s->next;
        s->waiting = false;
        s->busy = true;
        pthread_cond_signal(&s->moved);
        pthread_mutex_unlock(&s->lock);
        sync_one(w, &c);
        pthread_mutex_lock(&s->lock);
        s->busy = false;
        pthread_cond_signal(&s->moved);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

void commit_wait_room(struct wal *w)
{
    struct syncer *s = &w->sync;

    pthread_mutex_lock(&s->lock);
    while (s->waiting)
        pthread_cond_wait(&s->moved, &s->lock);
    pthread_mutex_unlock(&s->lock);
}

void commit_hand_over(struct wal *w, const struct commit *c)
{
    struct syncer *s = &w->sync;

    pthread_mutex_lock(&s->lock);
    s->next = *c;
    s->waiting = true;
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->lock);
}

bool commit_idle(struct wal *w)
{
    struct syncer *s = &w->sync;
    bool idle;

    pthread_mutex_lock(&s->lock);
    idle = !s->waiting && !s->busy;
    pthread_mutex_unlock(&s->lock);
    return idle;
}

void commit_drain(struct wal *w)
{
    struct syncer *s = &w->sync;

    pthread_mutex_lock(&s->lock);
    while (s->waiting || s->busy)
        pthread_cond_wait(&s->moved, &s->lock);
    pthread_mutex_unlock(&s->lock);
}

void commit_stop(struct wal *w)
{
    struct syncer *s = &w->sync;

    pthread_mutex_lock(&s->lock);
    s->stop = true;
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->thread, NULL);
}
