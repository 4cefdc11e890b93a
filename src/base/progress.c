/* SPDX-License-Identifier: Apache-2.0 */
/* A wake-up cannot be lost: the mover stores the position and then looks for armed watches, who
 * waits arms and then looks at the position, and both are sequentially consistent. A watch whose
 * message is still on its way is not posted again; it looks when the message arrives, which counts
 * as arrived before it looks. */
#include "progress.h"

void progress_init(struct progress *p, uint64_t at)
{
    *p = (struct progress){ .at = at };
    pthread_mutex_init(&p->lock, NULL);
}

void progress_close(struct progress *p)
{
    pthread_mutex_destroy(&p->lock);
}

static void disarm(struct progress *p, struct progress_watch *watch)
{
    if (atomic_exchange(&watch->armed, false))
        atomic_fetch_sub(&p->armed, 1);
}

void progress_move(struct progress *p, uint64_t to)
{
    if (atomic_load_explicit(&p->at, memory_order_relaxed) == to)
        return;
    atomic_store(&p->at, to);
    if (!atomic_load(&p->armed))
        return;
    pthread_mutex_lock(&p->lock);
    for (struct progress_watch *w = p->watches; w; w = w->next) {
        if (!atomic_load(&w->armed))
            continue;
        disarm(p, w);
        if (!atomic_exchange(&w->posted, true))
            inbox_post(w->in, &w->msg);
    }
    pthread_mutex_unlock(&p->lock);
}

static void deliver(struct msg *m, void *self)
{
    struct progress_watch *w = container_of(m, struct progress_watch, msg);

    atomic_store(&w->posted, false);
    w->moved(w, self);
}

void progress_watch_add(struct progress *p, struct progress_watch *watch)
{
    watch->msg.deliver = deliver;
    pthread_mutex_lock(&p->lock);
    watch->next = p->watches;
    p->watches = watch;
    pthread_mutex_unlock(&p->lock);
}

void progress_watch_remove(struct progress *p, struct progress_watch *watch)
{
    pthread_mutex_lock(&p->lock);
    disarm(p, watch);
    for (struct progress_watch **at = &p->watches; *at; at = &(*at)->next)
        if (*at == watch) {
            *at = watch->next;
            break;
        }
    pthread_mutex_unlock(&p->lock);
}

void progress_watch_arm(struct progress *p, struct progress_watch *watch)
{
    if (!atomic_exchange(&watch->armed, true))
        atomic_fetch_add(&p->armed, 1);
}
