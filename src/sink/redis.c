/* SPDX-License-Identifier: Apache-2.0 */
/* Redis Streams: hundreds of XADDs in flight on one non-blocking connection of our own.
 *
 * hiredis parses the replies and formats the rare commands; XADD has a formatter of its own
 * (redis_xadd.c). Replies come in the order of the commands, so a ring says whose they are. A
 * connection that is lost makes everything in flight void: the owner sends again from its cursor.
 * An idle one is asked for a sign of life. An error reply is told apart by its first word: what
 * passes by itself is retried, what somebody has to mend blocks the sink until it is mended.
 *
 * A server hangs up on a command larger than its client-query-buffer-limit, without a word. So when
 * it hangs up while a command is in flight that is larger than the least limit it can have, records
 * are sent alone until past it; hanging up twice on the same one, alone, shows that it is poison.
 */
#include <errno.h>
#include <event2/dns.h>
#include <event2/event_struct.h>
#include <event2/util.h>
#include <hiredis/hiredis.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"
#include "room.h"

#define OUT_MAX (512u << 10) /* commands that wait for the kernel */
#define SILENCE_MS 15000     /* a command without a reply */
#define CONNECT_MS 5000
#define PING_MS 5000 /* idle for so long */
#define TICK_MS 1000
#define LEAST_LIMIT (1u << 20) /* of client-query-buffer-limit */
#define PING 0                 /* in the place of an LSN */

enum phase { PHASE_DOWN, PHASE_RESOLVING, PHASE_CONNECTING, PHASE_HELLO, PHASE_UP };

/* hiredis fills this instead of an object of its own for each reply. */
struct reply {
    bool error;
    char text[256];
};

struct in_flight {
    uint64_t lsn;
    size_t bytes; /* of the command */
};

struct redis {
    struct sink sink;
    const struct sink_redis_cfg *cfg;
    struct redis_url url;
    struct event_base *base;
    struct evdns_base *dns;
    struct evdns_getaddrinfo_request *lookup; /* under way */
    struct event io, timer;
    enum phase phase;
    int fd;
    unsigned hello_left, attempt;
    int64_t since_ms; /* of the phase, or of the last reply */
    struct redis_xadd xadd;
    struct buf out,
        sending;        /* commands are made in one while the other goes out, so none is moved */
    size_t sent;        /* of `sending`, taken by the kernel */
    struct reply reply; /* the one the reader has just finished */
    redisReader *reader;
    struct in_flight *ring;
    size_t ring_cap, ring_first, ring_n;
    bool writing, was_full;
    bool reconnect; /* once nothing is in flight */
    /* LSNs: sent alone up to here; of the last one that was cut alone; that is poison. */
    uint64_t careful_until, cut, poison;
};

static void *keep_text(const redisReadTask *task, char *p, size_t n)
{
    struct reply *reply = task->privdata;

    reply->error = task->type == REDIS_REPLY_ERROR;
    if (reply->error)
        snprintf(reply->text, sizeof reply->text, "%.*s", (int)MIN(n, sizeof reply->text - 1), p);
    return reply;
}

static void keep_nothing(void *reply UNUSED)
{
}

/* Replies to XADD are short strings that nobody reads: no allocation for each. */
static redisReplyObjectFunctions reply_functions = { .createString = keep_text,
                                                     .freeObject = keep_nothing };

/* --- the connection ------------------------------------------------------------------------------
 */

static void on_io(evutil_socket_t fd, short what, void *arg);
static void start_connecting(struct redis *r);

static void wait_for(struct redis *r, bool write_too)
{
    event_del(&r->io);
    event_assign(&r->io, r->base, r->fd, (short)(EV_READ | EV_PERSIST | (write_too ? EV_WRITE : 0)),
                 on_io, r);
    event_add(&r->io, NULL);
    r->writing = write_too;
}

static void set_timer(struct redis *r, int64_t ms)
{
    struct timeval tv = { ms / 1000, ms % 1000 * 1000 };

    event_add(&r->timer, &tv);
}

/* Down, and again after a while. Everything in flight is void. */
static void go_down(struct redis *r, enum sink_state state, const char *reason)
{
    char text[256];

    snprintf(text, sizeof text, "%s", reason); /* it may live in the reader */
    if (r->fd >= 0) {
        event_del(&r->io);
        close(r->fd);
    }
    r->fd = -1;
    if (r->reader)
        redisReaderFree(r->reader);
    r->reader = NULL;
    r->out.n = r->sending.n = r->sent = 0;
    r->reconnect = false;
    r->ring_n = 0;
    r->phase = PHASE_DOWN;
    r->was_full = true;
    set_timer(r, backoff_ms(r->attempt++));
    r->sink.owner.state(r->sink.owner.arg, state, text);
    r->sink.owner.lost(r->sink.owner.arg, text);
}

static size_t waiting(const struct redis *r)
{
    return r->out.n + r->sending.n - r->sent;
}

/* False: the connection went down. What the server said before it hung up is read first. */
static bool write_out(struct redis *r)
{
    while (waiting(r)) {
        ssize_t n;
        if (r->sent == r->sending.n) {
            struct buf empty = r->sending;
            r->sending = r->out;
            r->out = empty;
            r->out.n = r->sent = 0;
        }
        n = send(r->fd, r->sending.p + r->sent, r->sending.n - r->sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN)
            return false;
        if (n < 0)
            break;
        r->sent += (size_t)n;
    }
    if ((waiting(r) > 0) != r->writing)
        wait_for(r, waiting(r) > 0);
    return true;
}

static void command(struct redis *r, int argc, const char **argv, const size_t *lens)
{
    char *text;
    long long n = redisFormatCommandArgv(&text, argc, argv, lens);

    if (n < 0)
        die(EXIT_IO, "out of memory");
    buf_add(&r->out, text, (size_t)n);
    redisFreeCommand(text);
}

static void ping(struct redis *r)
{
    command(r, 1, (const char *[]){ "PING" }, (size_t[]){ 4 });
}

/* AUTH and SELECT, or a PING so that there is an answer to wait for. */
static void say_hello(struct redis *r)
{
    const char *user = r->cfg->user ? r->cfg->user : r->url.user;
    const struct cfg_secret *secret = &r->cfg->password;
    struct span password =
        secret->bytes ? span_of(secret->bytes, secret->n) : span_str(r->url.password);
    const char *auth[3] = { "AUTH", user, password.p };
    size_t lens[3] = { 4, user ? strlen(user) : 0, password.n };
    char db[16];

    r->phase = PHASE_HELLO;
    r->since_ms = clock_mono_ms();
    r->reader = redisReaderCreateWithFunctions(&reply_functions);
    r->reader->privdata = &r->reply;
    if (password.p && !user) {
        auth[1] = auth[2];
        lens[1] = lens[2];
    }
    if (password.p)
        command(r, user ? 3 : 2, auth, lens);
    snprintf(db, sizeof db, "%d", r->url.db);
    if (r->url.db)
        command(r, 2, (const char *[]){ "SELECT", db }, (size_t[]){ 6, strlen(db) });
    ping(r);
    r->hello_left = 1u + (password.p != NULL) + (r->url.db != 0);
    write_out(r);
}

static void connected(struct redis *r)
{
    int error = 0, one = 1, much = OUT_MAX;
    socklen_t n = sizeof error;
    char reason[160];

    getsockopt(r->fd, SOL_SOCKET, SO_ERROR, &error, &n);
    if (error) {
        snprintf(reason, sizeof reason, "connect %s: %s", r->cfg->url, strerrordesc_np(error));
        go_down(r, SINK_RETRYING, reason);
        return;
    }
    setsockopt(r->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (r->url.path) /* TCP finds its own; here a full buffer is told of only when nearly empty */
        setsockopt(r->fd, SOL_SOCKET, SO_SNDBUF, &much, sizeof much);
    setsockopt(r->fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
    wait_for(r, false);
    say_hello(r);
}

static void connect_to(struct redis *r, const struct sockaddr *a, socklen_t n)
{
    char reason[160];

    r->fd = socket(a->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (r->fd >= 0 && (connect(r->fd, a, n) == 0 || errno == EINPROGRESS)) {
        r->phase = PHASE_CONNECTING;
        r->since_ms = clock_mono_ms();
        set_timer(r, TICK_MS);
        event_assign(&r->io, r->base, r->fd, EV_WRITE, on_io, r);
        event_add(&r->io, NULL);
        return;
    }
    snprintf(reason, sizeof reason, "connect %s: %s", r->cfg->url, strerrordesc_np(errno));
    event_assign(&r->io, r->base, -1, 0, on_io, r);
    go_down(r, SINK_RETRYING, reason);
}

static void on_resolved(int error, struct evutil_addrinfo *ai, void *arg)
{
    struct redis *r = arg;
    char reason[160];

    r->lookup = NULL;
    if (r->phase == PHASE_RESOLVING && !error) {
        connect_to(r, ai->ai_addr, ai->ai_addrlen);
    } else if (r->phase == PHASE_RESOLVING) {
        snprintf(reason, sizeof reason, "resolve %s: %s", r->url.host, evutil_gai_strerror(error));
        go_down(r, SINK_RETRYING, reason);
    }
    if (ai)
        evutil_freeaddrinfo(ai);
}

static void start_connecting(struct redis *r)
{
    struct evutil_addrinfo hints = { .ai_family = AF_UNSPEC,
                                     .ai_socktype = SOCK_STREAM,
                                     .ai_flags = EVUTIL_AI_NUMERICSERV };
    struct evutil_addrinfo numeric = { .ai_family = AF_UNSPEC,
                                       .ai_socktype = SOCK_STREAM,
                                       .ai_flags = EVUTIL_AI_NUMERICHOST | EVUTIL_AI_NUMERICSERV };
    struct evutil_addrinfo *ai;
    struct sockaddr_un un = { .sun_family = AF_UNIX };
    char port[16];

    if (r->url.path) {
        snprintf(un.sun_path, sizeof un.sun_path, "%s", r->url.path);
        connect_to(r, (struct sockaddr *)&un, sizeof un);
        return;
    }
    r->phase = PHASE_RESOLVING;
    r->since_ms = clock_mono_ms();
    snprintf(port, sizeof port, "%d", r->url.port);
    if (!evutil_getaddrinfo(r->url.host, port, &numeric, &ai)) {
        connect_to(r, ai->ai_addr, (socklen_t)ai->ai_addrlen);
        evutil_freeaddrinfo(ai);
        return;
    }
    if (!r->dns)
        r->dns = evdns_base_new(r->base, EVDNS_BASE_INITIALIZE_NAMESERVERS |
                                             EVDNS_BASE_DISABLE_WHEN_INACTIVE);
    if (!r->dns) {
        go_down(r, SINK_RETRYING, "no name server is known");
        return;
    }
    if (!r->lookup) /* else the last one is still under way */
        r->lookup = evdns_getaddrinfo(r->dns, r->url.host, port, &hints, on_resolved, r);
}

/* --- replies
 * ----------------------------------------------------------------------------------------- */

static void explain(char *out, size_t n, const char *error)
{
    snprintf(out, n, "%.250s; %s", error, redis_error_of(error)->mend);
}

static enum sink_state state_of(const char *error)
{
    return redis_error_of(error)->kind == REDIS_PASSES ? SINK_RETRYING : SINK_BLOCKED;
}

static void on_hello(struct redis *r)
{
    char reason[400];

    /* A user who may do nothing but XADD is known by now, and the server alive. */
    if (r->reply.error &&
        !(r->hello_left == 1 && span_starts(span_str(r->reply.text), S("NOPERM")))) {
        explain(reason, sizeof reason, r->reply.text);
        go_down(r, state_of(r->reply.text), reason);
        return;
    }
    if (--r->hello_left)
        return;
    r->phase = PHASE_UP;
    r->attempt = 0;
    r->was_full = false;
    set_timer(r, TICK_MS);
    r->sink.owner.state(r->sink.owner.arg, SINK_RUNNING, "");
    r->sink.owner.ready(r->sink.owner.arg);
}

static uint64_t pop(struct redis *r)
{
    uint64_t lsn = r->ring[r->ring_first].lsn;

    r->ring_first = (r->ring_first + 1) % r->ring_cap;
    r->ring_n--;
    return lsn;
}

/* A value that the server will never take closes the connection: it is the oldest without a reply.
 */
static void on_error(struct redis *r)
{
    const struct redis_error *known = redis_error_of(r->reply.text);
    char word[32], reason[400];
    uint64_t lsn = pop(r);

    if (known->kind == REDIS_POISONS ||
        (known->kind == REDIS_KEY && template_by_content(r->cfg->stream))) {
        r->sink.owner.done(r->sink.owner.arg, lsn, SINK_POISON, r->reply.text);
        return;
    }
    if (known->kind == REDIS_BLOCKS && !strncmp(r->reply.text, "READONLY", 8))
        r->reconnect = true; /* after a failover the name may lead to the new master */
    explain(reason, sizeof reason, r->reply.text);
    r->sink.owner.state(r->sink.owner.arg, state_of(r->reply.text), reason);
    snprintf(word, sizeof word, "%.*s", (int)strcspn(r->reply.text, " "), r->reply.text);
    r->sink.owner.done(r->sink.owner.arg, lsn, SINK_RETRY, known->start[0] ? word : "ERR");
}

static void on_reply(struct redis *r)
{
    if (r->phase == PHASE_HELLO)
        on_hello(r);
    else if (!r->ring_n) /* e.g. -ERR max number of clients reached, unasked */
        go_down(r, SINK_RETRYING, r->reply.error ? r->reply.text : "unexpected reply");
    else if (r->ring[r->ring_first].lsn == PING)
        pop(r); /* any answer is a sign of life */
    else if (r->reply.error)
        on_error(r);
    else
        r->sink.owner.done(r->sink.owner.arg, pop(r), SINK_DONE, NULL);
}

/* Delivers whole replies until the reader wants more; false when the connection went down
 * meanwhile. */
static bool take_replies(struct redis *r)
{
    void *reply;

    while (r->reader) {
        if (redisReaderGetReply(r->reader, &reply) != REDIS_OK) {
            go_down(r, SINK_RETRYING, r->reader->errstr);
            return false;
        }
        if (!reply)
            return true;
        on_reply(r);
    }
    return false;
}

/* The server hung up: perhaps on a command that is too large for it (see the top). */
static void suspect_large(struct redis *r)
{
    uint64_t large = 0;

    if (r->phase != PHASE_UP)
        return;
    for (size_t i = 0; i < r->ring_n; i++) {
        const struct in_flight *one = &r->ring[(r->ring_first + i) % r->ring_cap];
        if (one->bytes >= LEAST_LIMIT)
            large = one->lsn;
    }
    if (large && r->ring_n == 1 && large <= r->careful_until) {
        r->poison = r->cut == large ? large : r->poison;
        r->cut = large;
    }
    r->careful_until = MAX(r->careful_until, large);
}

static void offer_room(struct redis *r)
{
    if (r->phase != PHASE_UP || !r->was_full || waiting(r) >= OUT_MAX / 2)
        return;
    r->was_full = false;
    r->sink.owner.ready(r->sink.owner.arg);
}

static void read_in(struct redis *r)
{
    char piece[65536];
    ssize_t n;

    while ((n = read(r->fd, piece, sizeof piece)) > 0) {
        r->since_ms = clock_mono_ms();
        redisReaderFeed(r->reader, piece, (size_t)n);
        if (!take_replies(r) || (size_t)n < sizeof piece)
            goto out;
    }
    if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        suspect_large(r);
        go_down(r, SINK_RETRYING, n ? strerrordesc_np(errno) : "the server closed the connection");
        return;
    }
out:
    offer_room(r);
}

static void on_io(evutil_socket_t fd UNUSED, short what, void *arg)
{
    struct redis *r = arg;
    bool good = true;

    if (r->phase == PHASE_CONNECTING) {
        connected(r);
        return;
    }
    if (what & EV_WRITE)
        good = write_out(r); /* first: the server has something to do while we go on */
    if (what & EV_READ || !good)
        read_in(r);
    else
        offer_room(r);
}

static void redis_flush(struct sink *s)
{
    struct redis *r = container_of(s, struct redis, sink);

    if (r->phase == PHASE_UP && !r->writing && !write_out(r))
        read_in(r);
}

static void push(struct redis *r, uint64_t lsn, size_t bytes)
{
    if (!r->ring_n)
        r->since_ms = clock_mono_ms();
    r->ring[(r->ring_first + r->ring_n++) % r->ring_cap] = (struct in_flight){ lsn, bytes };
}

static void on_timer(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
    struct redis *r = arg;
    int64_t age = clock_mono_ms() - r->since_ms;

    if (r->phase == PHASE_DOWN) {
        start_connecting(r);
        return;
    }
    if ((r->phase < PHASE_UP && age > CONNECT_MS) || (r->ring_n && age > SILENCE_MS))
        go_down(r, SINK_RETRYING, "the server does not answer");
    else if (r->reconnect && !r->ring_n)
        go_down(r, SINK_BLOCKED, "READONLY; looking for the master under the same name");
    else
        set_timer(r, TICK_MS);
    if (r->phase == PHASE_UP && !r->ring_n && age > PING_MS) {
        push(r, PING, 0);
        ping(r);
        redis_flush(&r->sink);
    }
}

/* --- sending
 * ----------------------------------------------------------------------------------------- */

static int redis_send(struct sink *s, const struct record *rec)
{
    struct redis *r = container_of(s, struct redis, sink);
    size_t before;

    if (r->phase != PHASE_UP || waiting(r) >= OUT_MAX || r->ring_n == r->ring_cap ||
        (rec->lsn <= r->careful_until && r->ring_n)) {
        r->was_full = true;
        return 1;
    }
    if (rec->lsn == r->poison) {
        r->sink.owner.done(r->sink.owner.arg, rec->lsn, SINK_POISON,
                           "the server closed the connection on it, twice: it is larger than "
                           "client-query-buffer-limit");
        return 0;
    }
    before = r->out.n;
    redis_xadd(&r->xadd, rec, &r->out);
    push(r, rec->lsn, r->out.n - before);
    return 0;
}

static struct sink *redis_open(const char *name UNUSED, const struct sink_cfg *cfg,
                               const char *logid, uint64_t epoch UNUSED, uint64_t max_body UNUSED,
                               struct event_base *base, const struct sink_owner *owner,
                               struct err *e)
{
    struct redis *r = xcalloc(1, sizeof *r);

    *r = (struct redis){ .sink = { &sink_redis, *owner },
                         .cfg = cfg->redis,
                         .base = base,
                         .fd = -1,
                         .xadd = { .cfg = cfg->redis, .logid = logid },
                         .ring_cap = (size_t)MIN(cfg->in_flight.events, 100000) };
    if (!redis_url_parse(cfg->redis->url, &r->url)) {
        err_set(e, EXIT_BAD_CONFIG, "url %s", cfg->redis->url);
        free(r);
        return NULL;
    }
    r->ring = xcalloc(r->ring_cap, sizeof *r->ring);
    event_assign(&r->io, base, -1, 0, on_io, r);
    event_assign(&r->timer, base, -1, 0, on_timer, r);
    set_timer(r, 0);
    return &r->sink;
}

static void redis_close(struct sink *s)
{
    struct redis *r = container_of(s, struct redis, sink);

    event_del(&r->timer);
    r->phase = PHASE_DOWN;
    if (r->fd >= 0) {
        event_del(&r->io);
        close(r->fd);
    }
    /* libevent frees a lookup only where it calls back, and that only from the loop. */
    if (r->lookup)
        evdns_getaddrinfo_cancel(r->lookup);
    for (int turns = 0; r->lookup && turns < 100; turns++)
        event_base_loop(r->base, EVLOOP_NONBLOCK);
    if (r->reader)
        redisReaderFree(r->reader);
    if (r->dns)
        evdns_base_free(r->dns, 0);
    redis_url_free(&r->url);
    buf_free(&r->out);
    buf_free(&r->sending);
    redis_xadd_free(&r->xadd);
    free(r->ring);
    free(r);
}

const struct sink_type sink_redis = {
    .name = "redis",
    .open = redis_open,
    .send = redis_send,
    .flush = redis_flush,
    .close = redis_close,
};
