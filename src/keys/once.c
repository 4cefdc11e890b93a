/* SPDX-License-Identifier: Apache-2.0 */
/* What a webhook names by URL: certificates, and single fetches. Strangers choose these URLs within
 * the rules, so that both the table of what is tried and the pace of trying are bounded, and
 * nothing that was never fetched pushes out what was. */
#include "room.h"

#include <string.h>

#include "clock.h"

#define URL_MAX 2048

/* NUL-ended in text[URL_MAX + 1]. Without hosts every stranger's server would be good enough. */
static bool allowed(struct span url, const struct fetch_rules *r, char *text)
{
    struct err e = ERR_INIT;

    if (!r->hosts || url.n == 0 || url.n > URL_MAX || memchr(url.p, '\0', url.n))
        return false;
    memcpy(text, url.p, url.n);
    text[url.n] = '\0';
    return fetch_check(text, r, &e) == 0;
}

/* Under lock; counts on the way what is still tried. */
static struct keys_set *find(struct keys *k, enum kind kind, const char *url,
                             const struct fetch_rules *r, size_t *trying)
{
    struct keys_set *s, *found = NULL;

    for (s = TAILQ_FIRST(&k->all); s; s = TAILQ_NEXT(s, all)) {
        if (s->kind != kind || !s->uses)
            continue;
        *trying += !s->settled || s->failures;
        if (!found && strcmp(s->url, url) == 0 && fetch_rules_equal(&s->rules, r))
            found = s;
    }
    return found;
}

static struct keys_set *find_or_add(struct keys *k, enum kind kind, const char *url,
                                    const struct fetch_rules *r)
{
    size_t trying = 0;
    struct keys_set *s = find(k, kind, url, r, &trying);

    if (!s && trying < TRYING_MAX) {
        s = set_new(k, kind, url, NULL, r);
        TAILQ_INSERT_TAIL(&k->all, s, all);
        fetcher_wake(k->fetcher);
    }
    return s;
}

enum keys_answer keys_cert_hold(struct keys *k, struct span url, const struct fetch_rules *r,
                                struct keys_doc **out)
{
    char text[URL_MAX + 1];
    struct keys_set *s;

    *out = NULL;
    if (!allowed(url, r, text))
        return KEYS_REFUSED;
    pthread_mutex_lock(&k->lock);
    s = find_or_add(k, KIND_CERT, text, r);
    if (s) {
        *out = doc_hold(s);
        s->used_ms = clock_boot_ms();
        if (*out && s->used_ms - s->got_ms > k->cfg.max_ms)
            keys_wanted(s);
    }
    pthread_mutex_unlock(&k->lock);
    return *out ? KEYS_HELD : KEYS_LATER;
}

enum keys_answer keys_get_once(struct keys *k, struct span url, const struct fetch_rules *r)
{
    char text[URL_MAX + 1];
    struct keys_set *s;

    if (!allowed(url, r, text))
        return KEYS_REFUSED;
    pthread_mutex_lock(&k->lock);
    s = find_or_add(k, KIND_ONCE, text, r);
    pthread_mutex_unlock(&k->lock);
    return s ? KEYS_HELD : KEYS_LATER;
}
