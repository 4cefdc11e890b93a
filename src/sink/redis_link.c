/* SPDX-License-Identifier: Apache-2.0 */
/* One connection to Redis: bytes out, replies in, and a ring that says whose they are.
 *
 * hiredis parses the replies. A connection that is lost makes
 * everything in flight void. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "redis.h"

/* hiredis has this list of leaves made instead of a tree: it is used again for the next reply. */
static struct redis_item *leaf(const redisReadTask *task)
{
    struct redis_reply *reply = task->privdata;
    struct redis_item *item;

    if (reply->n == reply->cap) {
        reply->cap = reply->cap ? 2 * reply->cap : 16;
        reply->items = xrealloc(reply->items, reply->cap * sizeof *reply->items);
    }
    item = &reply->items[reply->n++];
    *item = (struct redis_item){ .type = task->type, .at = reply->text.n };
    for (const redisReadTask *t = task; t->parent; t = t->parent) {
        item->depth++;
        memmove(item->path + 1, item->path, sizeof item->path - sizeof *item->path);
        item->path[0] = t->idx;
    }
    return item;
}

static void *keep_text(const redisReadTask *task, char *p, size_t n)
{
    struct redis_reply *reply = task->privdata;
    struct redis_item *item = leaf(task);

    item->n = n;
    buf_add(&reply->text, p, n);
    buf_addc(&reply->text, '\0');
    return reply;
}

static void *keep_number(const redisReadTask *task, long long number)
{
    leaf(task)->number = number;
    return task->privdata;
}

static void *keep_nil(const redisReadTask *task)
{
    leaf(task);
    return task->privdata;
}

static void keep_nothing(void *reply UNUSED)
{
}

static redisReplyObjectFunctions reply_functions = { .createString = keep_text,
                                                     .createInteger = keep_number,
                                                     .createNil = keep_nil,
                                                     .freeObject = keep_nothing };

bool redis_reply_is_error(const struct redis_reply *reply)
{
    return reply->n && reply->items[0].type == REDIS_REPLY_ERROR && !reply->items[0].depth;
}

struct span redis_reply_text(const struct redis_reply *reply, size_t i)
{
    if (i >= reply->n || !reply->items[i].n)
        return S("");
    return span_of(reply->text.p + reply->items[i].at, reply->items[i].n);
}

redisReader *redis_link_reader(struct redis_link *l)
{
    redisReader *reader = redisReaderCreateWithFunctions(&reply_functions);

    if (!reader)
        die(EXIT_IO, "out of memory");
    reader->privdata = &l->reply;
    return reader;
}

/* --- the ring
 * ----------------------------------------------------------------------------------------- */

void redis_link_push(struct redis_link *l, struct redis_asked asked)
{
    if (l->ring_n == l->ring_cap) {
        size_t cap = l->ring_cap ? 2 * l->ring_cap : 256;
        struct redis_asked *ring = xcalloc(cap, sizeof *ring);
        for (size_t i = 0; i < l->ring_n; i++)
            ring[i] = *redis_link_oldest(l, i);
        free(l->ring);
        l->ring = ring;
        l->ring_cap = cap;
        l->ring_first = 0;
    }
    if (!l->ring_n)
        l->since_ms = clock_mono_ms();
    l->ring[(l->ring_first + l->ring_n++) % l->ring_cap] = asked;
}

const struct redis_asked *redis_link_oldest(const struct redis_link *l, size_t i)
{
    return &l->ring[(l->ring_first + i) % l->ring_cap];
}

struct redis_asked redis_link_pop(struct redis_link *l)
{
    struct redis_asked asked = l->ring[l->ring_first];

    l->ring_first = (l->ring_first + 1) % l->ring_cap;
    l->ring_n--;
    return asked;
}

/* --- bytes
 * -------------------------------------------------------------------------------------------- */

static void on_io(evutil_socket_t fd, short what, void *arg);

void redis_link_timer(struct redis_link *l, int64_t ms)
{
    struct timeval tv = { ms / 1000, ms % 1000 * 1000 };

    event_add(&l->timer, &tv);
}

void redis_link_wait(struct redis_link *l, short what)
{
    event_del(&l->io);
    event_assign(&l->io, l->base, l->fd, (short)(what | EV_PERSIST), on_io, l);
    event_add(&l->io, NULL);
    l->writing = (what & EV_WRITE) != 0;
}

void redis_link_down(struct redis_link *l, enum sink_state state, const char *reason)
{
    char text[400];

    snprintf(text, sizeof text, "%s", reason); /* it may live in the reader or the reply */
    redis_tls_end(l);
    if (l->fd >= 0) {
        event_del(&l->io);
        close(l->fd);
    }
    l->fd = -1;
    if (l->reader)
        redisReaderFree(l->reader);
    l->reader = NULL;
    l->phase = REDIS_DOWN;
    if (l->wanted)
        redis_link_timer(l, backoff_ms(l->attempt++));
    redis_on_down(l, state, text);
    l->out.n = l->sending.n = l->sent = 0;
    l->ring_n = l->held.n = 0;
    l->writes = l->waited = l->confirmed = 0;
    l->reply.n = l->reply.text.n = 0;
    l->loading = false;
}

size_t redis_link_waiting(const struct redis_link *l)
{
    return l->out.n + l->sending.n - l->sent;
}

/* False: the connection went down. What the server said before it hung up is read first. */
static bool write_out(struct redis_link *l)
{
    bool more;

    while (redis_link_waiting(l)) {
        ssize_t n;
        if (l->sent == l->sending.n) {
            struct buf empty = l->sending;
            l->sending = l->out;
            l->out = empty;
            l->out.n = l->sent = 0;
        }
        n = redis_link_write(l, l->sending.p + l->sent, l->sending.n - l->sent);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN)
            return false;
        if (n < 0)
            break;
        l->sent += (size_t)n;
    }
    more = redis_link_waiting(l) > 0;
    if (more != l->writing)
        redis_link_wait(l, more ? EV_READ | EV_WRITE : EV_READ);
    return true;
}

void redis_link_ask(struct redis_link *l, struct redis_asked asked, const struct span *argv,
                    size_t argc)
{
    size_t before = l->out.n;

    buf_printf(&l->out, "*%zu\r\n", argc);
    for (size_t i = 0; i < argc; i++)
        redis_bulk(&l->out, argv[i]);
    asked.bytes = l->out.n - before;
    redis_link_push(l, asked);
}

/* Delivers whole replies until the reader wants more; false when the connection went down
 * meanwhile. */
static bool take_replies(struct redis_link *l)
{
    void *reply;

    while (l->reader) {
        if (redisReaderGetReply(l->reader, &reply) != REDIS_OK) {
            redis_link_down(l, SINK_RETRYING, l->reader->errstr);
            return false;
        }
        if (!reply)
            return true;
        redis_on_reply(l);
        l->reply.n = l->reply.text.n = 0;
    }
    return false;
}

static void read_in(struct redis_link *l)
{
    char piece[65536];
    ssize_t n;

    while ((n = redis_link_read(l, piece, sizeof piece)) > 0) {
        l->since_ms = clock_mono_ms();
        redisReaderFeed(l->reader, piece, (size_t)n);
        if (!take_replies(l) || ((size_t)n < sizeof piece && !l->ssl))
            goto out;
    }
    if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        redis_on_cut(l);
        redis_link_down(l, SINK_RETRYING,
                        n ? strerrordesc_np(errno) : "the server closed the connection");
        return;
    }
out:
    redis_offer_room(l);
}

static void on_io(evutil_socket_t fd UNUSED, short what, void *arg)
{
    struct redis_link *l = arg;
    bool good = true;

    if (l->phase == REDIS_CONNECTING) {
        redis_connected(l);
        return;
    }
    if (l->phase == REDIS_SHAKING_HANDS) {
        redis_tls_go_on(l);
        return;
    }
    if (what & EV_WRITE)
        good = write_out(l); /* first: the server has something to do while we go on */
    if (what & EV_READ || !good)
        read_in(l);
    else
        redis_offer_room(l);
}

/* It may be called for the sake of a reply that is still being looked at, so nothing is read here:
 * a second reply would be taken for that one. */
void redis_link_flush(struct redis_link *l)
{
    if (l->phase >= REDIS_HELLO && !l->writing && !write_out(l))
        event_active(&l->io, EV_READ, 0);
}

static void on_timer(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
    redis_on_timer(arg);
}

struct redis_link *redis_link_new(struct redis *r)
{
    struct redis_link *l = xcalloc(1, sizeof *l);

    l->r = r;
    l->base = r->base;
    l->fd = -1;
    event_assign(&l->io, l->base, -1, 0, on_io, l);
    event_assign(&l->timer, l->base, -1, 0, on_timer, l);
    return l;
}

void redis_link_want(struct redis_link *l)
{
    if (!l->wanted && l->phase == REDIS_DOWN && !event_pending(&l->timer, EV_TIMEOUT, NULL))
        redis_link_timer(l, 0);
    l->wanted = true;
}

void redis_link_free(struct redis_link *l)
{
    event_del(&l->timer);
    redis_tls_end(l);
    if (l->fd >= 0) {
        event_del(&l->io);
        close(l->fd);
    }
    redis_connect_cancel(l);
    if (l->reader)
        redisReaderFree(l->reader);
    redis_host_free(&l->host);
    buf_free(&l->out);
    buf_free(&l->sending);
    buf_free(&l->held);
    buf_free(&l->reply.text);
    free(l->reply.items);
    free(l->ring);
    free(l);
}
