/* SPDX-License-Identifier: Apache-2.0 */
/* The helper thread: starts what is due, takes what came, and says when it is due again. It is the
 * only one that fetches, writes the cache and frees; nothing waits for it but keys_warm.
 *
 * A refresh comes ahead of expiry, so that a server that is down for a while is noticed by nobody.
 * A failure keeps what was there and is tried again after a pause that doubles; a wish of a reader
 * shortens the pause, at most once in cfg.wanted_ms. */
#include "room.h"

#include <sys/prctl.h>

#include "clock.h"

#define BURST 10
#define LONGEST_MS 60000 /* of a wait, when nothing is due */

static int64_t chance(int64_t below)
{
    uint32_t r;

    crypto_random(&r, sizeof r);
    return below > 0 ? (int64_t)(r % (uint64_t)below) : 0;
}

/* Up to a quarter ahead of expiry, but never more often than the lower bound says. */
static int64_t refresh_after(const struct keys_cfg *c, int64_t max_age_ms)
{
    int64_t ttl = max_age_ms < 0 ? c->normal_ms : max_age_ms;

    ttl = MIN(MAX(ttl, c->min_ms), c->max_ms);
    return MAX(ttl - ttl / 8 - chance(ttl / 8), c->min_ms);
}

static int64_t retry_after(const struct keys_cfg *c, unsigned failures)
{
    int64_t wait = c->retry_min_ms;

    for (unsigned i = 1; i < failures && wait < c->retry_max_ms; i++)
        wait *= 2;
    wait = MIN(wait, c->retry_max_ms);
    return wait - wait / 4 + chance(wait / 2);
}

/* Of failures in a row the first, second, fourth, eighth... are told: a file that stays broken is
 * looked at every few seconds. */
static void tell_failure(const struct keys_set *s, const struct err *e)
{
    static struct log_limit limit;
    uint64_t left_out;

    if (s->kind == KIND_SET && (s->failures & (s->failures - 1)))
        return;
    if (s->kind == KIND_SET)
        log_warn(s->doc ? "keys could not be refreshed; the last good ones stay in use"
                        : "keys could not be fetched; their sources answer 503",
                 KS("set", s->name), KS("reason", e->text), KU("failures", s->failures));
    else if (log_limit_pass(&limit, &left_out)) /* strangers can cause these */
        log_warn(s->kind == KIND_CERT ? "a certificate could not be fetched"
                                      : "a confirmation could not be fetched",
                 KS("reason", e->text), KU("failures", s->failures), KU("left_out", left_out));
}

static void settle(struct keys_set *s)
{
    s->settled = true;
    pthread_cond_broadcast(&s->keys->settled);
    if (s->for_wish)
        atomic_store(&s->wished, false);
    s->for_wish = false;
}

static void failed(struct keys_set *s, const struct err *e)
{
    struct keys *k = s->keys;
    int64_t now = clock_boot_ms();

    counter_add(s->kind == KIND_SET ? &s->failed : &k->cert_failed, 1);
    pthread_mutex_lock(&k->lock);
    s->failures++;
    s->why = *e;
    s->due_ms = now + retry_after(&k->cfg, s->failures);
    if (s->file)
        s->due_ms = now + k->cfg.file_ms;
    if (s->kind != KIND_SET && !s->doc && s->failures >= TRIES)
        s->uses = 0;
    settle(s);
    pthread_mutex_unlock(&k->lock);
    tell_failure(s, e);
}

/* The least used certificates make room. Under lock. */
static void make_room(struct keys *k)
{
    struct keys_set *s, *oldest = NULL;
    size_t n = 0;

    for (s = TAILQ_FIRST(&k->all); s; s = TAILQ_NEXT(s, all)) {
        if (s->kind != KIND_CERT || !s->uses || !s->doc)
            continue;
        n++;
        if (!oldest || s->used_ms < oldest->used_ms)
            oldest = s;
    }
    if (n > k->cfg.certs)
        oldest->uses = 0;
}

/* Takes doc; NULL: what is there is still good. Together with its age, so that nobody sees a new
 * document that looks old. */
static void succeeded(struct keys_set *s, struct keys_doc *doc, int64_t got_ms, int64_t after_ms)
{
    struct keys *k = s->keys;
    unsigned failures;

    pthread_mutex_lock(&k->lock);
    failures = s->failures;
    s->failures = 0;
    s->why = (struct err)ERR_INIT;
    if (doc)
        doc_publish(s, doc);
    s->got_ms = got_ms;
    s->due_ms = clock_boot_ms() + after_ms;
    if (s->kind == KIND_CERT)
        make_room(k);
    if (s->kind == KIND_ONCE)
        s->uses = 0;
    settle(s);
    pthread_mutex_unlock(&k->lock);
    if (failures && s->kind == KIND_SET)
        log_info("keys are fetched again", KS("set", s->name));
}

static void on_fetched(void *arg, struct fetch_reply *reply, const struct err *why)
{
    struct keys_set *s = arg;
    struct keys_doc *doc = NULL;
    struct err e = ERR_INIT;
    struct span body = reply ? buf_as_span(&reply->body) : SPAN_NONE;

    s->fetch = NULL;
    counter_add(&s->fetches, 1);
    if (!reply) {
        failed(s, why);
    } else if (s->kind == KIND_ONCE) {
        succeeded(s, NULL, clock_boot_ms(), 0);
    } else if (set_parse(s, body, &doc, &e)) {
        err_wrap(&e, "%s", s->shown);
        failed(s, &e);
    } else {
        succeeded(s, doc, clock_boot_ms(), refresh_after(&s->keys->cfg, reply->max_age_ms));
        cache_store(s->keys, s->url, body);
    }
}

static void look_at_file(struct keys_set *s)
{
    struct keys_doc *doc = NULL;
    struct err e = ERR_INIT;

    if (set_from_file(s, &doc, &e))
        failed(s, &e);
    else
        succeeded(s, doc, clock_boot_ms(), s->keys->cfg.file_ms);
}

static void begin(struct keys_set *s)
{
    struct keys_doc *doc = NULL;
    int64_t got_ms;

    if (s->file) {
        look_at_file(s);
        return;
    }
    if (s->kind == KIND_CERT && !s->doc &&
        !s->failures) /* asked for the first time since the start */
        doc = set_from_cache(s, &got_ms);
    if (doc)
        succeeded(s, doc, got_ms, 0);
    else
        s->fetch = fetch_start(s->keys->fetcher, s->url, &s->rules, on_fetched, s);
}

/* Strangers can name certificates: a burst passes, then one at a time. */
static bool paced(struct keys *k, const struct keys_set *s, int64_t now)
{
    if (s->kind == KIND_SET)
        return true;
    k->pace_ms = MAX(k->pace_ms, now - BURST * k->cfg.pace_ms);
    if (k->pace_ms + k->cfg.pace_ms > now)
        return false;
    k->pace_ms += k->cfg.pace_ms;
    return true;
}

/* A certificate that is there is refreshed when it is asked for, not by itself. */
static int64_t due_of(const struct keys_set *s, int64_t now)
{
    if (s->fetch)
        return INT64_MAX;
    if (atomic_load(&s->wished))
        return now;
    return s->kind == KIND_CERT && s->doc ? INT64_MAX : s->due_ms;
}

/* Sorts out what is dead and what is due. Returns how long nothing else will be. Under lock. */
static int64_t look(struct keys *k, struct set_list *dead, struct set_list *todo)
{
    int64_t now = clock_boot_ms(), wait = LONGEST_MS;
    struct keys_set *s, *next;

    for (s = TAILQ_FIRST(&k->all); s; s = next) {
        int64_t due = due_of(s, now);
        next = TAILQ_NEXT(s, all);
        if (!s->uses) {
            TAILQ_REMOVE(&k->all, s, all);
            TAILQ_INSERT_TAIL(dead, s, todo);
        } else if (due <= now && paced(k, s, now)) {
            s->for_wish = atomic_load(&s->wished);
            TAILQ_INSERT_TAIL(todo, s, todo);
        } else if (due < INT64_MAX) {
            wait = MIN(wait, MAX(due, due <= now ? k->pace_ms + k->cfg.pace_ms : 0) - now);
        }
    }
    return MAX(wait, 1);
}

static void pass(struct keys *k)
{
    struct set_list dead = TAILQ_HEAD_INITIALIZER(dead), todo = TAILQ_HEAD_INITIALIZER(todo);
    struct keys_set *s, *next;
    int64_t wait;

    pthread_mutex_lock(&k->lock);
    wait = look(k, &dead, &todo);
    pthread_mutex_unlock(&k->lock);
    for (s = TAILQ_FIRST(&dead); s; s = next) {
        next = TAILQ_NEXT(s, todo);
        if (s->kind == KIND_CERT)
            cache_drop(k, s->url);
        set_free(s);
    }
    for (s = TAILQ_FIRST(&todo); s; s = TAILQ_NEXT(s, todo))
        begin(s);
    fetcher_run(k->fetcher, TAILQ_EMPTY(&todo) ? wait : 0);
}

void *thread_run(void *arg)
{
    struct keys *k = arg;

    prctl(PR_SET_NAME, "keys");
    while (!atomic_load(&k->stop))
        pass(k);
    return NULL;
}
