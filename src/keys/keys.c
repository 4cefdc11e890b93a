/* SPDX-License-Identifier: Apache-2.0 */
/* The table of sets, and what the other threads call. */
#include "room.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "clock.h"

struct keys_cfg keys_defaults(const char *dir)
{
    return (struct keys_cfg){ .dir = dir,
                              .min_ms = 60 * 1000,
                              .max_ms = 24 * 3600 * 1000,
                              .normal_ms = 3600 * 1000,
                              .wanted_ms = 60 * 1000,
                              .retry_min_ms = 1000,
                              .retry_max_ms = 300 * 1000,
                              .file_ms = 10 * 1000,
                              .pace_ms = 1000,
                              .certs = 64 };
}

int keys_new(struct keys **out, const struct keys_cfg *cfg, struct err *e)
{
    struct keys *k = xcalloc(1, sizeof *k);
    pthread_condattr_t attr;
    sigset_t all, before;

    if (cfg->dir && mkdir(cfg->dir, 0700) && errno != EEXIST) {
        free(k);
        return err_errno(e, EXIT_IO, "keys: make folder %s", cfg->dir);
    }
    k->cfg = *cfg;
    k->dir = cfg->dir ? xstrdup(cfg->dir) : NULL;
    k->cfg.dir = k->dir;
    TAILQ_INIT(&k->all);
    pthread_mutex_init(&k->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&k->settled, &attr);
    pthread_condattr_destroy(&attr);
    k->fetcher = fetcher_new();
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* SIGPIPE too: TLS writes to dead sockets */
    if (pthread_create(&k->thread, NULL, thread_run, k))
        die(EXIT_TEMPORARY, "the thread of the keys could not be started");
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    *out = k;
    return 0;
}

void keys_free(struct keys *k)
{
    struct keys_set *s;

    if (!k)
        return;
    atomic_store(&k->stop, true);
    fetcher_wake(k->fetcher);
    pthread_join(k->thread, NULL);
    while ((s = TAILQ_FIRST(&k->all))) {
        TAILQ_REMOVE(&k->all, s, all);
        set_free(s);
    }
    fetcher_free(k->fetcher);
    pthread_cond_destroy(&k->settled);
    pthread_mutex_destroy(&k->lock);
    free(k->dir);
    free(k);
}

/* --- sets --------------------------------------------------------------------------------------
 */

static bool same(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

/* Under lock. Also one that nobody uses any more and the helper has not freed yet. */
static struct keys_set *find(struct keys *k, const struct keys_set_cfg *cfg)
{
    struct keys_set *s;

    for (s = TAILQ_FIRST(&k->all); s; s = TAILQ_NEXT(s, all))
        if (s->kind == KIND_SET && same(s->name, cfg->name) && same(s->url, cfg->url) &&
            same(s->file, cfg->file) && fetch_rules_equal(&s->rules, &cfg->rules))
            return s;
    return NULL;
}

static struct keys_set *find_and_use(struct keys *k, const struct keys_set_cfg *cfg)
{
    struct keys_set *s;

    pthread_mutex_lock(&k->lock);
    s = find(k, cfg);
    if (s) {
        s->uses++;
        if (s->file)
            s->due_ms = clock_boot_ms(); /* a reload reads files again */
    }
    pthread_mutex_unlock(&k->lock);
    return s;
}

/* Before anybody else knows of the set. */
static int first_document(struct keys_set *s, struct err *e)
{
    const struct keys_cfg *c = &s->keys->cfg;

    if (!s->file) {
        s->doc = set_from_cache(s, &s->got_ms);
        s->settled = s->doc && clock_boot_ms() - s->got_ms <= c->max_ms;
        return 0;
    }
    if (set_from_file(s, &s->doc, e))
        return -1;
    s->settled = true;
    s->got_ms = clock_boot_ms();
    s->due_ms = s->got_ms + c->file_ms;
    return 0;
}

struct keys_set *keys_register(struct keys *k, const struct keys_set_cfg *cfg, struct err *e)
{
    struct keys_set *s;

    assert(!cfg->url != !cfg->file);
    if (cfg->url && fetch_check(cfg->url, &cfg->rules, e)) {
        err_wrap(e, "keys of %s: %s", cfg->name, cfg->url);
        return NULL;
    }
    s = find_and_use(k, cfg);
    if (!s) {
        s = set_new(k, KIND_SET, cfg->url, cfg->file, &cfg->rules);
        s->name = xstrdup(cfg->name);
        if (first_document(s, e)) {
            err_wrap(e, "keys of %s", cfg->name);
            set_free(s);
            return NULL;
        }
        pthread_mutex_lock(&k->lock);
        TAILQ_INSERT_TAIL(&k->all, s, all);
        pthread_mutex_unlock(&k->lock);
    }
    fetcher_wake(k->fetcher);
    return s;
}

void keys_unregister(struct keys_set *s)
{
    struct keys *k = s->keys;

    pthread_mutex_lock(&k->lock);
    s->uses--; /* at 0 it is the helper's to free, at once */
    pthread_mutex_unlock(&k->lock);
    fetcher_wake(k->fetcher);
}

static bool all_settled(const struct keys *k)
{
    const struct keys_set *s;

    for (s = TAILQ_FIRST(&k->all); s; s = TAILQ_NEXT(s, all))
        if (s->kind == KIND_SET && s->uses && !s->settled)
            return false;
    return true;
}

bool keys_warm(struct keys *k, int64_t timeout_ms)
{
    int64_t until_ms = clock_mono_ms() + timeout_ms;
    struct timespec until = { until_ms / 1000, until_ms % 1000 * 1000000 };
    bool settled;
    int rc = 0;

    pthread_mutex_lock(&k->lock);
    while (!(settled = all_settled(k)) && rc == 0)
        rc = pthread_cond_timedwait(&k->settled, &k->lock, &until);
    pthread_mutex_unlock(&k->lock);
    return settled;
}

struct keys_doc *keys_hold(struct keys_set *s)
{
    struct keys_doc *doc = doc_hold(s);

    if (!doc)
        keys_wanted(s); /* somebody waits: the pause after a failure may be long */
    return doc;
}

bool keys_wanted(struct keys_set *s)
{
    int64_t now = clock_boot_ms(), last = atomic_load(&s->wish_ms);

    if (now - last >= s->keys->cfg.wanted_ms &&
        atomic_compare_exchange_strong(&s->wish_ms, &last, now)) {
        atomic_store(&s->wished, true);
        fetcher_wake(s->keys->fetcher);
    }
    return atomic_load(&s->wished);
}
