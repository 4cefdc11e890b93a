/* SPDX-License-Identifier: Apache-2.0 */
/* A small real log, and a sink that does what the test says: it holds what it is sent, or answers
 * at once, later, or with a verdict of its own for an LSN. What happens on the sink's thread is
 * noted under a lock; what the test wants done there goes through an inbox and is waited for. */
#pragma once

#include <event2/event_struct.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "delivery.h"
#include "delivery/room.h"
#include "table.h"

#define LSNS 20000
#define FAKES 2

struct fake {
    struct sink sink;
    const char *name;
    struct inbox in;
    struct event io;
    pthread_mutex_t lock;
    enum { FAKE_AT_ONCE, FAKE_LATER, FAKE_HOLD } mode;
    enum sink_outcome verdict[LSNS]; /* SINK_DONE unless the test says otherwise */
    unsigned refusals[LSNS];         /* how often the verdict is given before it is SINK_DONE */
    uint64_t order[LSNS];            /* LSNs as they were sent */
    size_t sent, held_n, most_held;
    size_t room; /* 0: never full */
    uint64_t held[LSNS];
    uint64_t last_done;
    size_t done;
    bool open;
    int delivery;    /* as it was opened */
    char replay[24]; /* of the last record */
};

/* Behind those of the sinks stand those that a run opens for itself. */
static struct fake fakes[2 * FAKES];

static inline void fake_answer(struct fake *f, uint64_t lsn)
{
    enum sink_outcome outcome = f->refusals[lsn] ? f->verdict[lsn] : SINK_DONE;

    pthread_mutex_lock(&f->lock);
    if (f->refusals[lsn])
        f->refusals[lsn]--;
    f->done += outcome == SINK_DONE;
    f->last_done = outcome == SINK_DONE ? lsn : f->last_done;
    pthread_mutex_unlock(&f->lock);
    f->sink.owner.done(f->sink.owner.arg, lsn, outcome, outcome == SINK_DONE ? NULL : "as told");
}

static inline int fake_send(struct sink *s, const struct record *rec)
{
    struct fake *f = container_of(s, struct fake, sink);
    bool at_once;

    pthread_mutex_lock(&f->lock);
    if (f->room && f->sent == f->room) {
        pthread_mutex_unlock(&f->lock);
        return 1;
    }
    f->order[f->sent++] = rec->lsn;
    snprintf(f->replay, sizeof f->replay, "%.*s", SPAN_FMT(rec->replay));
    at_once = f->mode == FAKE_AT_ONCE;
    if (!at_once)
        f->held[f->held_n++] = rec->lsn;
    f->most_held = MAX(f->most_held, f->held_n);
    pthread_mutex_unlock(&f->lock);
    if (at_once)
        fake_answer(f, rec->lsn);
    return 0;
}

/* Answers everything that is held, in order. */
static inline void fake_let_go(void *arg)
{
    struct fake *f = arg;

    for (size_t i = 0; i < f->held_n; i++)
        fake_answer(f, f->held[i]);
    pthread_mutex_lock(&f->lock);
    f->held_n = 0;
    pthread_mutex_unlock(&f->lock);
}

static inline void fake_later(struct msg *m, void *self)
{
    free(m);
    fake_let_go(self);
}

static inline void fake_flush(struct sink *s)
{
    struct fake *f = container_of(s, struct fake, sink);
    struct msg *m;
    bool later;

    pthread_mutex_lock(&f->lock);
    later = f->mode == FAKE_LATER && f->held_n;
    pthread_mutex_unlock(&f->lock);
    if (!later)
        return;
    m = xcalloc(1, sizeof *m);
    m->deliver = fake_later;
    inbox_post(&f->in, m);
}

static inline void fake_io(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
    inbox_run(&((struct fake *)arg)->in, arg);
}

static const struct sink_type fake_type;

static inline struct sink *fake_open(const char *name, const struct sink_cfg *cfg,
                                     const char *logid UNUSED, uint64_t epoch UNUSED,
                                     uint64_t max_body UNUSED, struct event_base *base,
                                     const struct sink_owner *owner, struct err *e UNUSED)
{
    struct fake *f = &fakes[name[0] - 'a'];

    if (f->open)
        f += FAKES;
    f->open = true;
    f->delivery = cfg->delivery;
    f->sink = (struct sink){ &fake_type, *owner };
    event_assign(&f->io, base, f->in.fd, EV_READ | EV_PERSIST, fake_io, f);
    event_add(&f->io, NULL);
    owner->state(owner->arg, SINK_RUNNING, "");
    return &f->sink;
}

static inline void fake_close(struct sink *s)
{
    struct fake *f = container_of(s, struct fake, sink);

    event_del(&f->io);
    pthread_mutex_lock(&f->lock);
    f->open = false;
    pthread_mutex_unlock(&f->lock);
}

static const struct sink_type fake_type = {
    .name = "fake", .open = fake_open, .send = fake_send, .flush = fake_flush, .close = fake_close
};

/* Taken instead of the library's (src/sink/type.c). */
const struct sink_type *sink_type_of(const struct sink_cfg *cfg UNUSED)
{
    return &fake_type;
}

/* --- on the sink's thread
 * ------------------------------------------------------------------------------------------- */

struct call {
    struct msg msg;
    void (*what)(void *arg);
    void *arg;
    sem_t done;
};

static inline void on_call(struct msg *m, void *self UNUSED)
{
    struct call *c = container_of(m, struct call, msg);

    c->what(c->arg);
    sem_post(&c->done);
}

static inline void on_its_thread(struct fake *f, void (*what)(void *arg), void *arg)
{
    struct call c = { .msg.deliver = on_call, .what = what, .arg = arg };

    sem_init(&c.done, 0, 0);
    inbox_post(&f->in, &c.msg);
    sem_wait(&c.done);
    sem_destroy(&c.done);
}

static inline size_t fake_count(struct fake *f, const size_t *what)
{
    size_t n;

    pthread_mutex_lock(&f->lock);
    n = *what;
    pthread_mutex_unlock(&f->lock);
    return n;
}

static inline bool fake_is_open(struct fake *f)
{
    bool is;

    pthread_mutex_lock(&f->lock);
    is = f->open;
    pthread_mutex_unlock(&f->lock);
    return is;
}

/* Polls; a generous deadline against waiting for ever. */
#define EVENTUALLY(what)                                                                           \
    do {                                                                                           \
        int64_t until_ = clock_mono_ms() + 30000;                                                  \
        while (!(what)) {                                                                          \
            usleep(200);                                                                           \
            if (clock_mono_ms() > until_)                                                          \
                fail_msg("never: %s", #what);                                                      \
        }                                                                                          \
    } while (0)

/* --- the log
 * ------------------------------------------------------------------------------------------- */

struct box {
    char dir[64];
    struct wal_cfg cfg;
    struct wal_dedup_cfg dedup;
    struct wal *wal;
    struct inbox in;
    struct msg failed;
    struct sink_cfg sink[FAKES];
    struct delivery *d[FAKES];
};

struct one {
    struct wal_append append;
    bool back;
};

static inline void on_back(struct msg *m, void *self UNUSED)
{
    container_of(container_of(m, struct wal_append, msg), struct one, append)->back = true;
}

static inline uint64_t append(struct box *b, const char *type, struct span body)
{
    struct msg_list l = { NULL, NULL };
    struct one o = { .append = { .reply = &b->in,
                                 .done = on_back,
                                 .rec = { .kind = RECORD_WEBHOOK,
                                          .time_ms = clock_wall_ms(),
                                          .source = S("demo"),
                                          .type = span_str(type),
                                          .subject = S("job"),
                                          .content_type = S("application/json"),
                                          .body = body } } };

    msg_list_add(&l, &o.append.msg);
    wal_submit(b->wal, &l);
    EVENTUALLY((inbox_run(&b->in, b), o.back));
    assert_int_equal(o.append.result, WAL_DURABLE);
    return o.append.lsn;
}

static inline uint64_t append_many(struct box *b, unsigned n)
{
    uint64_t lsn = 0;

    while (n--)
        lsn = append(b, "video.generated", S("{}"));
    return lsn;
}

static inline void on_failed(struct msg *m UNUSED, void *self UNUSED)
{
    abort();
}

static inline void open_log(struct box *b)
{
    struct err e = ERR_INIT;

    if (wal_open(&b->wal, &b->cfg, &b->dedup, &e))
        fail_msg("%s", e.text);
    wal_start(b->wal, &b->in, &b->failed);
}

static inline void release_cfg(struct sink_cfg *cfg)
{
    cfg_release(sink_cfg_keys(), cfg);
}

/* Sink 0 is called a, 1 is b. yaml: more keys of its entry. */
static inline void start(struct box *b, int n, const char *yaml)
{
    struct err_list errs = { 0 };
    struct err e = ERR_INIT;
    char text[256], name[2] = { (char)('a' + n), 0 };
    struct cfg_doc *doc;

    snprintf(text, sizeof text, "redis: { url: 'unix:/none' }\n%s", yaml);
    doc = cfg_parse("test", span_str(text), false, &errs);
    assert_non_null(doc);
    release_cfg(&b->sink[n]);
    cfg_load(sink_cfg_keys(), cfg_root(doc), &b->sink[n], &errs);
    cfg_doc_free(doc);
    if (errs.n)
        fail_msg("%s", errs.line[0]);
    if (delivery_start(&b->d[n], b->wal, name, &b->sink[n], true, 1 << 20, NULL, &e))
        fail_msg("%s", e.text);
}

static inline void stop(struct box *b, int n)
{
    delivery_stop(b->d[n], 0);
    b->d[n] = NULL;
}

static inline int set_up(void **state)
{
    struct box *b = xcalloc(1, sizeof *b);

    strcpy(b->dir, "build/delivery-XXXXXX");
    assert_non_null(mkdtemp(b->dir));
    b->cfg = (struct wal_cfg){ .dir = b->dir,
                               .segment_bytes = KIB(64),
                               .retain_ms = 3600000,
                               .retain_bytes = GIB(1),
                               .backlog_bytes = GIB(1),
                               .allow_volatile = true };
    b->dedup = (struct wal_dedup_cfg){ .window_ms = 3600000, .entries = 1000 };
    b->failed.deliver = on_failed;
    inbox_init(&b->in);
    open_log(b);
    for (int i = 0; i < 2 * FAKES; i++) {
        memset(&fakes[i], 0, sizeof fakes[i]);
        pthread_mutex_init(&fakes[i].lock, NULL);
        inbox_init(&fakes[i].in);
    }
    *state = b;
    return 0;
}

static inline int tear_down(void **state)
{
    struct box *b = *state;
    char command[128];

    for (int i = 0; i < FAKES; i++) {
        stop(b, i);
        release_cfg(&b->sink[i]);
    }
    for (int i = 0; i < 2 * FAKES; i++) {
        inbox_close(&fakes[i].in);
        pthread_mutex_destroy(&fakes[i].lock);
    }
    wal_close(b->wal);
    inbox_close(&b->in);
    snprintf(command, sizeof command, "rm -rf %s", b->dir);
    assert_int_equal(system(command), 0);
    free(b);
    return 0;
}

/* One number of the sink's /status. */
static inline uint64_t status(struct box *b, int n, const char *what)
{
    struct buf json = BUF_INIT;
    char key[40];
    const char *at;
    uint64_t v;

    delivery_status(b->d[n], &json);
    snprintf(key, sizeof key, "\"%s\":", what);
    at = strstr(buf_cstr(&json), key);
    assert_non_null(at);
    v = strtoull(at + strlen(key), NULL, 10);
    buf_free(&json);
    return v;
}

static inline bool status_says(struct box *b, int n, const char *what)
{
    struct buf json = BUF_INIT;
    bool says;

    delivery_status(b->d[n], &json);
    says = strstr(buf_cstr(&json), what);
    buf_free(&json);
    return says;
}
