/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this room share. */
#pragma once

#include <pthread.h>
#include <sys/queue.h>

#include "keys.h"
#include "log.h"
#include "metrics.h"

#define TRYING_MAX 16 /* certificates, and single fetches, that wait for their first answer */
#define TRIES 5       /* of those */

enum kind { KIND_SET, KIND_CERT, KIND_ONCE };

/* One thing to fetch. Made by any thread, freed by the helper alone, after `uses` fell to 0. */
struct keys_set {
    TAILQ_ENTRY(keys_set) all;  /* under keys.lock */
    TAILQ_ENTRY(keys_set) todo; /* the helper's, for one pass */
    struct keys *keys;
    enum kind kind;
    char *name, *url, *file; /* name: of a set; url or file */
    char *shown;             /* in logs and reports: the file, or the URL without its query */
    struct fetch_rules rules;

    pthread_mutex_t doc_lock; /* held for a few instructions; may be taken under keys.lock */
    struct keys_doc *doc;

    _Atomic int64_t wish_ms; /* when a refresh was last granted */
    _Atomic bool wished;     /* until a fetch that began after the wish has ended */

    /* under keys.lock; times are of clock_boot_ms */
    unsigned uses;
    bool settled; /* nobody needs to wait for it */
    int64_t due_ms, got_ms, used_ms;
    unsigned failures; /* in a row */
    struct err why;    /* of the last failure; empty after a success */

    /* the helper's */
    struct fetch *fetch;
    bool for_wish; /* the fetch under way began after the wish */
    struct {
        int64_t mtime_ns;
        uint64_t inode, size;
    } seen; /* of the file */
    struct counter fetches, failed;
};
TAILQ_HEAD(set_list, keys_set);

struct keys {
    struct keys_cfg cfg;
    char *dir;
    pthread_mutex_t lock;
    pthread_cond_t settled;
    struct set_list all;
    pthread_t thread;
    struct fetcher *fetcher;
    _Atomic bool stop;
    int64_t pace_ms; /* the helper's: when the next certificate may be fetched */
    struct counter cert_failed;
};

/* doc.c: all but doc_of_* are for any thread */
MUST_CHECK int doc_of_jwks(struct span text, struct keys_doc **out, struct err *e);
MUST_CHECK int doc_of_pem(struct span text, struct keys_doc **out, struct err *e);
struct keys_doc *doc_hold(struct keys_set *s);
void doc_publish(struct keys_set *s, struct keys_doc *doc); /* takes doc */
/* At most `max` bytes of a regular file, or an error. */
MUST_CHECK int doc_slurp(const char *path, uint64_t max, struct buf *out, struct err *e);

/* cache.c: one file a URL; nothing here fails loudly, a cache is a convenience */
void cache_store(struct keys *k, const char *url, struct span body);
bool cache_load(struct keys *k, const char *url, struct buf *body, int64_t *age_ms);
void cache_drop(struct keys *k, const char *url);

/* set.c */
struct keys_set *set_new(struct keys *k, enum kind kind, const char *url, const char *file,
                         const struct fetch_rules *r);
void set_free(struct keys_set *s);
MUST_CHECK int set_parse(const struct keys_set *s, struct span text, struct keys_doc **out,
                         struct err *e);
/* What the cache has, and since when we have it; NULL: nothing. */
struct keys_doc *set_from_cache(const struct keys_set *s, int64_t *got_ms);
/* *out stays NULL when it is the same file as last time. */
MUST_CHECK int set_from_file(struct keys_set *s, struct keys_doc **out, struct err *e);

/* thread.c */
void *thread_run(void *arg);
