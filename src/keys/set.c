/* SPDX-License-Identifier: Apache-2.0 */
/* One thing to fetch, and the ways to its document that need no network: the cache and files. */
#include "room.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "clock.h"

#define FILE_BYTES KIB(256)

static char *copy(const char *s)
{
    return s ? xstrdup(s) : NULL;
}

struct keys_set *set_new(struct keys *k, enum kind kind, const char *url, const char *file,
                         const struct fetch_rules *r)
{
    struct keys_set *s = xcalloc(1, sizeof *s);
    int64_t now = clock_boot_ms();

    s->keys = k;
    s->kind = kind;
    s->url = copy(url);
    s->file = copy(file);
    s->shown = file ? xstrdup(file) : span_dup(span_of(url, strcspn(url, "?")));
    s->uses = 1;
    s->due_ms = s->used_ms = now;
    s->wish_ms = now - k->cfg.wanted_ms;
    fetch_rules_copy(&s->rules, r);
    pthread_mutex_init(&s->doc_lock, NULL);
    return s;
}

void set_free(struct keys_set *s)
{
    if (s->fetch)
        fetch_cancel(s->fetch);
    keys_release(s->doc);
    pthread_mutex_destroy(&s->doc_lock);
    fetch_rules_free(&s->rules);
    free(s->name);
    free(s->url);
    free(s->file);
    free(s->shown);
    free(s);
}

int set_parse(const struct keys_set *s, struct span text, struct keys_doc **out, struct err *e)
{
    return s->kind == KIND_CERT ? doc_of_pem(text, out, e) : doc_of_jwks(text, out, e);
}

struct keys_doc *set_from_cache(const struct keys_set *s, int64_t *got_ms)
{
    struct keys_doc *doc = NULL;
    struct err e = ERR_INIT;
    struct buf body = BUF_INIT;
    int64_t age_ms = 0;

    if (cache_load(s->keys, s->url, &body, &age_ms) && set_parse(s, buf_as_span(&body), &doc, &e))
        log_warn("cached keys are of no use; the file is ignored", KS("url", s->shown),
                 KS("reason", e.text));
    buf_free(&body);
    *got_ms = clock_boot_ms() - age_ms;
    return doc;
}

int set_from_file(struct keys_set *s, struct keys_doc **out, struct err *e)
{
    struct buf text = BUF_INIT;
    struct stat st;
    int64_t mtime_ns;
    int rc;

    if (stat(s->file, &st))
        return err_errno(e, EXIT_BAD_CONFIG, "%s", s->file);
    mtime_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
    if (s->doc && !s->failures && s->seen.mtime_ns == mtime_ns && s->seen.inode == st.st_ino &&
        s->seen.size == (uint64_t)st.st_size)
        return 0;
    rc = doc_slurp(s->file, s->rules.body_bytes ? s->rules.body_bytes : FILE_BYTES, &text, e);
    if (!rc && set_parse(s, buf_as_span(&text), out, e))
        rc = err_wrap(e, "%s", s->file);
    buf_free(&text);
    if (!rc) {
        s->seen.mtime_ns = mtime_ns;
        s->seen.inode = st.st_ino;
        s->seen.size = (uint64_t)st.st_size;
    }
    return rc;
}
