/* inbox - the only way one thread hands something to another.
 *
 * A message is embedded in the object it is about, so handing over cannot fail. It belongs to the
 * sender until inbox_post() and to the receiver after it; the sender must not look at it again.
 * Messages of one sender arrive in order. One wake-up covers everything posted since the receiver
 * last looked, so a busy receiver costs its senders no system calls. */
#pragma once

#include <pthread.h>

#include "base.h"

struct msg {
    struct msg *next;
    void (*deliver)(struct msg *m, void *self); /* runs on the receiver; may free m */
};

/* Messages gathered by one thread, to be handed over at once. Zero-initialised is empty. */
struct msg_list {
    struct msg *head;
    struct msg **tail; /* NULL when empty */
};

struct inbox {
    pthread_mutex_t lock;
    struct msg_list list;
    int fd; /* eventfd: readable when something waits; for the receiver's loop or poll(2) */
};

void inbox_init(struct inbox *in);
void inbox_close(struct inbox *in);
void inbox_post(struct inbox *in, struct msg *m);
void inbox_post_list(struct inbox *in, struct msg_list *l); /* takes all; l is empty afterwards */
/* Takes everything that waits and delivers it in order, outside the lock. Returns how many. */
size_t inbox_run(struct inbox *in, void *self);

void msg_list_add(struct msg_list *l, struct msg *m);
