/* SPDX-License-Identifier: Apache-2.0 */
/* A mutex, a list and an eventfd. The wake-up is written only when the list was empty: whoever made
 * it non-empty has woken the receiver, who takes all of it. The eventfd is read before the list is
 * taken, so that a message posted in between leaves it readable. */
#include "inbox.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "log.h"

void msg_list_add(struct msg_list *l, struct msg *m)
{
    m->next = NULL;
    if (!l->head)
        l->tail = &l->head;
    *l->tail = m;
    l->tail = &m->next;
}

void inbox_init(struct inbox *in)
{
    *in = (struct inbox){ .fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC) };
    if (in->fd < 0)
        die(EXIT_IO, "eventfd: no descriptor left for an inbox");
    pthread_mutex_init(&in->lock, NULL);
}

void inbox_close(struct inbox *in)
{
    close(in->fd);
    in->fd = -1;
    pthread_mutex_destroy(&in->lock);
}

static void wake(struct inbox *in)
{
    uint64_t one = 1;

    while (write(in->fd, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

void inbox_post_list(struct inbox *in, struct msg_list *l)
{
    bool was_empty;

    if (!l->head)
        return;
    pthread_mutex_lock(&in->lock);
    was_empty = !in->list.head;
    if (was_empty)
        in->list.head = l->head;
    else
        *in->list.tail = l->head;
    in->list.tail = l->tail;
    pthread_mutex_unlock(&in->lock);
    *l = (struct msg_list){ NULL, NULL };
    if (was_empty)
        wake(in);
}

void inbox_post(struct inbox *in, struct msg *m)
{
    struct msg_list l = { NULL, NULL };

    msg_list_add(&l, m);
    inbox_post_list(in, &l);
}

size_t inbox_run(struct inbox *in, void *self)
{
    struct msg *m, *next;
    uint64_t count;
    size_t n = 0;

    while (read(in->fd, &count, sizeof count) < 0 && errno == EINTR)
        ;
    pthread_mutex_lock(&in->lock);
    m = in->list.head;
    in->list = (struct msg_list){ NULL, NULL };
    pthread_mutex_unlock(&in->lock);
    for (; m; m = next, n++) {
        next = m->next; /* deliver may free m */
        m->deliver(m, self);
    }
    return n;
}
