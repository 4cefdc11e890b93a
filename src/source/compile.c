/* SPDX-License-Identifier: Apache-2.0 */
/* From settings to a plan: what of it is no check - path, attributes, deduplication. What could
 * only fail open at run time is an error here. Main thread. */
#include <stdio.h>
#include <string.h>

#include "room.h"

static const struct cfg_node *descend(const struct cfg_node *at, const char *key)
{
    const struct cfg_node *below;
    struct span rest = span_str(key);
    char name[64];

    while (rest.p && rest.n) {
        struct span piece = span_cut(&rest, '.');
        snprintf(name, sizeof name, "%.*s", SPAN_FMT(piece));
        below = cfg_find(at, name);
        if (!below)
            break;
        at = below;
    }
    return at;
}

const struct cfg_node *source_node(const struct compile *cc, const char *key)
{
    return descend(cc->at, key);
}

const struct cfg_node *source_check_node(const struct compile *cc, const char *key)
{
    const struct cfg_node *at = descend(cc->at, cc->prefix);

    return at == cc->at ? descend(descend(at, "signature"), key) : descend(at, key);
}

const struct cfg_node *source_item(const struct compile *cc, const char *key, size_t i)
{
    const struct cfg_node *at = source_node(cc, key), *item = at;

    if (at && at->kind == CFG_NODE_LIST)
        for (item = at->child; item && i; i--)
            item = item->next;
    return item ? item : at;
}

int source_word(const char *s, const char *const *words)
{
    for (int i = 0; words[i]; i++)
        if (s && !strcmp(s, words[i]))
            return i;
    return -1;
}

int64_t source_duration(struct compile *cc, const struct cfg_node *at, const char *key,
                        const char *text, int64_t fallback)
{
    int64_t ms = fallback;

    if (text && !cfg_msec(span_str(text), &ms))
        cfg_error(cc->errs, at, "%s \"%s\" is not a duration like 5m", key, text);
    return ms;
}

/* --- headers and places --------------------------------------------------------------------------
 */

/* What proves who is calling must not be stored, nor passed on to sinks. */
bool source_is_secret(const struct source_plan *p, struct span name)
{
    if (span_ieq(name, S("authorization")) || span_ieq(name, S("proxy-authorization")) ||
        span_ieq(name, S("cookie")))
        return true;
    for (size_t i = 0; i < p->checks_n; i++) {
        const struct check *c = &p->checks[i];
        if (c->kind && c->kind->ops->takes_tokens && c->at.kind == PLACE_HEADER &&
            span_ieq(name, c->at.name))
            return true;
    }
    return false;
}

/* As it is stored. */
static struct span lower_case(struct span name)
{
    char *copy = span_dup(name);

    for (size_t i = 0; i < name.n; i++)
        if (copy[i] >= 'A' && copy[i] <= 'Z')
            copy[i] = (char)(copy[i] + 32);
    return span_of(copy, name.n);
}

void source_keep(struct compile *cc, const struct cfg_node *at, struct span name)
{
    struct source_plan *p = cc->p;

    if (!name.n || source_is_secret(p, name))
        return;
    for (size_t i = 0; i < p->kept_n; i++)
        if (span_ieq(p->kept[i], name))
            return;
    if (p->kept_n == KEPT_MAX) {
        cfg_error(cc->errs, at, "more than %d headers to keep", KEPT_MAX);
        return;
    }
    p->kept[p->kept_n++] = lower_case(name);
    p->kept_lengths |= UINT64_C(1) << name.n % 64;
}

struct span source_intern(struct compile *cc, const struct cfg_node *at, struct span name)
{
    struct source_plan *p = cc->p;

    for (size_t i = 0; i < p->names_n; i++)
        if (span_ieq(p->names[i], name))
            return p->names[i];
    if (p->names_n == NAMES_MAX) {
        cfg_error(cc->errs, at, "more than %d headers to look at", NAMES_MAX);
        return name;
    }
    p->name_lengths |= UINT64_C(1) << name.n % 64;
    return p->names[p->names_n++] = name;
}

struct place source_header_place(struct compile *cc, const struct cfg_node *at, const char *name)
{
    return (struct place){ PLACE_HEADER, source_intern(cc, at, span_str(name)), 0 };
}

struct place source_path_place(struct compile *cc, const struct cfg_node *at, const char *path)
{
    struct source_plan *p = cc->p;
    size_t slot = 0;

    while (slot < p->paths_n && !span_eq(p->paths[slot], span_str(path)))
        slot++;
    if (slot == PATHS_MAX) {
        cfg_error(cc->errs, at, "more than %d paths into the body", PATHS_MAX);
        return (struct place){ .kind = PLACE_NOWHERE };
    }
    if (slot == p->paths_n)
        p->paths[p->paths_n++] = span_str(path);
    return (struct place){ PLACE_PATH, p->paths[slot], slot };
}

static void compile_place(struct compile *cc, const char *what, const struct where *w,
                          struct place *out)
{
    const struct cfg_node *at = source_node(cc, what);
    int n = !!w->header + !!w->path + !!w->constant;

    *out = (struct place){ .kind = PLACE_NOWHERE };
    if (n > 1)
        bad(cc, what, "%s stands in one place: header, path or const", what);
    if (w->header) {
        *out = source_header_place(cc, at, w->header);
        if (source_is_secret(cc->p, out->name))
            bad(cc, what, "%s: %s holds a secret, which would be stored", what, w->header);
        source_keep(cc, at, out->name);
    } else if (w->path) {
        *out = source_path_place(cc, at, w->path);
    } else if (w->constant) {
        *out = (struct place){ PLACE_CONST, span_str(w->constant), 0 };
    }
}

static void compile_kept(struct compile *cc)
{
    for (size_t i = 0; i < cc->c.keep_headers.n; i++) {
        struct span name = span_str(cc->c.keep_headers.v[i]);
        const struct cfg_node *at = source_item(cc, "keep_headers", i);
        if (source_is_secret(cc->p, name))
            cfg_error(cc->warns, at, "keep_headers: %.*s holds a secret and is never stored",
                      SPAN_FMT(name));
        source_keep(cc, at, name);
    }
}

/* --- the rest ------------------------------------------------------------------------------------
 */

static void compile_path(struct compile *cc)
{
    struct source_plan *p = cc->p;
    const char *at;

    p->path = cc->c.path ? xstrdup(cc->c.path) : xasprintf("/hooks/%s", p->name);
    p->path_n = strlen(p->path);
    at = strstr(p->path, "{token}");
    p->token_at = at ? (size_t)(at - p->path) : SIZE_MAX;
    if (p->path[0] != '/' || strpbrk(p->path, "?# "))
        bad(cc, "path", "path %s must start with / and hold no ?, # or blank", p->path);
    if (at && strstr(at + 1, "{token}"))
        bad(cc, "path", "path has {token} twice");
    if (at && !cc->c.path_token.bytes)
        bad(cc, "path", "path has {token}, but path_token is missing");
    if (!at && cc->c.path_token.bytes)
        bad(cc, "path_token", "path_token is set, but path has no {token}");
    p->path_token = span_of(cc->c.path_token.bytes, cc->c.path_token.n);
    p->verify_token = span_of(cc->c.verify_token.bytes, cc->c.verify_token.n);
}

/* What a provider cannot do without, or should not. */
static void check_required(struct compile *cc)
{
    const struct source_cfg *c = &cc->c;
    const struct {
        const char *name;
        bool there;
    } known[] = {
        { "none", true },
        { "header", c->header != NULL },
        { "email", c->email != NULL },
        { "equals", c->equals.n > 0 },
        { "path_token", c->path_token.bytes != NULL },
        { "verify_token", c->verify_token.bytes != NULL },
    };

    for (size_t i = 0; i < c->require.n; i++) {
        size_t k = 0;
        while (k < ARRAY_LEN(known) && strcmp(known[k].name, c->require.v[i]))
            k++;
        if (k == ARRAY_LEN(known))
            bad(cc, "require", "require: %s is not known", c->require.v[i]);
        else if (!known[k].there)
            bad(cc, "require",
                "%s is missing; %s is not safe without (`require: none` leaves it out)",
                known[k].name, cc->p->provider);
    }
}

static bool names_object(struct compile *cc)
{
    static const char *const words[] = { "delivery", "event", "object", NULL };
    const char *names = cc->c.id.names ? cc->c.id.names : "delivery";
    int w = source_word(names, words);

    if (w < 0)
        bad(cc, "id.names", "id.names \"%s\" is none of delivery, event, object", names);
    return w == 2;
}

static bool asks_nothing(const struct source_plan *p)
{
    return p->checks_n && p->checks[0].kind && p->checks[0].kind->ops == &source_none;
}

static void warn_of_captures(struct compile *cc)
{
    const struct source_plan *p = cc->p;

    if (p->dedup != SOURCE_DEDUP_OFF || p->timed || cc->c.dedup == SOURCE_DEDUP_OFF ||
        asks_nothing(p) || cc->errs->n > cc->errs_before)
        return;
    cfg_error(cc->warns, source_node(cc, "dedup"),
              "%s signs no time and nothing tells a repeat: a capture can be sent again for ever; "
              "`dedup: body` stops it within dedup.window, `dedup: off` accepts it",
              p->provider);
}

static void compile_dedup(struct compile *cc, int64_t window_ms)
{
    struct source_plan *p = cc->p;
    const struct cfg_node *at = source_node(cc, "retries");
    int64_t retries = source_duration(cc, at, "retries", cc->c.retries, 0);
    bool told_apart = p->id.kind == PLACE_HEADER || p->id.kind == PLACE_PATH;
    bool object = names_object(cc);

    p->dedup = (enum source_dedup)cc->c.dedup;
    if (p->dedup == SOURCE_DEDUP_ID && !told_apart)
        bad(cc, "dedup",
            p->id.kind == PLACE_CONST
                ? "dedup: id, but id is always the same: all but the first would be dropped"
                : "dedup: id, but the provider sends none");
    if (p->dedup == SOURCE_DEDUP_AUTO)
        p->dedup = told_apart && !object ? SOURCE_DEDUP_ID : SOURCE_DEDUP_OFF;
    if (p->dedup != SOURCE_DEDUP_OFF && window_ms < retries)
        cfg_error(
            cc->warns, at,
            "%s tries again for %s; dedup.window is shorter, late repeats are published again",
            p->provider, cc->c.retries);
    warn_of_captures(cc);
}

static int status_of(struct compile *cc, const char *key, const char *text, const char *allowed,
                     int fallback)
{
    uint64_t n;

    if (!text)
        return fallback;
    if (strlen(text) == 3 && strstr(allowed, text) && span_u64(span_str(text), &n))
        return (int)n;
    bad(cc, key, "%s is %s", key, allowed);
    return fallback;
}

static void compile_info(struct compile *cc)
{
    struct source_plan *p = cc->p;
    uint64_t sends = 0;

    if (cc->c.sends_bytes && !cfg_bytes(span_str(cc->c.sends_bytes), &sends))
        bad(cc, "sends_bytes", "sends_bytes \"%s\" is not a size like 1MiB", cc->c.sends_bytes);
    p->info = (struct source_info){
        .name = p->name,
        .path = p->path,
        .provider = p->provider,
        .body_bytes = cc->c.body_bytes,
        .sends_bytes = sends,
        .dedups = p->dedup != SOURCE_DEDUP_OFF,
        .ack_broker = cc->c.ack != 0,
        .status = status_of(cc, "status", cc->c.status, "200, 202 or 204", 200),
        .reject_status =
            status_of(cc, "reject_status", cc->c.reject_status, "400, 401 or 403", 401),
        .open = asks_nothing(p) && !p->path_token.n,
        .allow = cc->c.allow,
        .client_names = cc->c.client_names,
        .rate = cc->c.rate,
        .burst = cc->c.burst ? cc->c.burst : cc->c.rate * 10,
        .handshake_get = p->shake.on && p->shake.method == METHOD_GET,
        .handshake_options = p->shake.on && p->shake.method == METHOD_OPTIONS,
    };
}

static void compile_equals(struct compile *cc)
{
    struct source_plan *p = cc->p;

    if (cc->c.equals.n > EQUALS_MAX)
        bad(cc, "equals", "more than %d paths", EQUALS_MAX);
    for (size_t i = 0; i < MIN(cc->c.equals.n, (size_t)EQUALS_MAX); i++) {
        p->equal_at[i] = source_path_place(cc, source_node(cc, "equals"), cc->c.equals.k[i]);
        p->equals[p->equals_n++] = span_str(cc->c.equals.v[i]);
    }
}

static void compile_confirm(struct compile *cc)
{
    struct source_plan *p = cc->p;
    const struct check *c = &p->checks[0];

    if (!cc->c.confirm_subscriptions)
        return;
    if (!cc->c.confirm.path || !cc->c.confirm.equals || !cc->c.confirm.url)
        bad(cc, "confirm_subscriptions", "confirm_subscriptions: %s has no subscription to confirm",
            p->provider);
    else if (!p->checks_n || !c->certificate.hosts)
        bad(cc, "confirm_subscriptions",
            "confirm_subscriptions needs signature.certificate.hosts: else anything would be "
            "opened");
    if (cc->errs->n > cc->errs_before)
        return;
    p->confirm.when = source_path_place(cc, source_node(cc, "confirm.path"), cc->c.confirm.path);
    p->confirm.url = source_path_place(cc, source_node(cc, "confirm.url"), cc->c.confirm.url);
    p->confirm.equals = span_str(cc->c.confirm.equals);
    p->confirm.rules = c->certificate.rules;
    p->confirm.rules.path = NULL;
}

static void compile_rest(struct compile *cc, int64_t dedup_window_ms)
{
    struct source_plan *p = cc->p;

    p->content_type = source_intern(cc, cc->at, S("content-type"));
    compile_place(cc, "id", &cc->c.id, &p->id);
    compile_place(cc, "type", &cc->c.type, &p->type);
    compile_place(cc, "subject", &cc->c.subject, &p->subject);
    compile_equals(cc);
    compile_confirm(cc);
    source_compile_shake(cc);
    compile_kept(cc);
    check_required(cc);
    compile_dedup(cc, dedup_window_ms);
    compile_info(cc);
}

/* The plan's own copies of what the merge borrowed. */
static void adopt(struct source_plan *p, const struct source_cfg *merged, struct source_cfg *preset)
{
    p->own = xcalloc(1, sizeof *p->own);
    *p->own = *merged;
    p->preset = preset;
    p->shake.origins = &p->own->handshake.origins;
    p->outcomes[OUTCOME_SUCCEEDED] = &p->own->outcome.succeeded;
    p->outcomes[OUTCOME_FAILED] = &p->own->outcome.failed;
    p->outcomes[OUTCOME_CANCELLED] = &p->own->outcome.cancelled;
    p->outcomes[OUTCOME_WAITING] = &p->own->outcome.waiting;
}

struct source_plan *source_compile(const char *name, const struct source_cfg *cfg,
                                   const struct cfg_node *at, int64_t dedup_window_ms,
                                   struct err_list *errs, struct err_list *warns)
{
    struct source_cfg *preset = xcalloc(1, sizeof *preset);
    struct source_plan *p = xcalloc(1, sizeof *p);
    struct compile cc = { .p = p, .at = at, .errs = errs, .warns = warns, .errs_before = errs->n };

    p->name = xstrdup(name);
    p->provider = xstrdup(cfg->provider ? cfg->provider : "own");
    if (!source_merge(cfg, at, &cc.c, preset, errs)) {
        compile_path(&cc);
        source_compile_checks(&cc);
        compile_rest(&cc, dedup_window_ms);
    }
    adopt(p, &cc.c, preset);
    if (errs->n == cc.errs_before)
        return p;
    source_plan_free(p);
    return NULL;
}

/* The user's settings stay the caller's and must outlive the plan; the preset's are ours. */
void source_plan_free(struct source_plan *p)
{
    if (!p)
        return;
    for (size_t i = 0; i < p->checks_n; i++)
        source_check_release(&p->checks[i]);
    for (size_t i = 0; i < p->kept_n; i++)
        free((char *)(uintptr_t)p->kept[i].p);
    source_forget_keys(p);
    crypto_keyset_free(p->file_set);
    cfg_release(source_cfg_keys(), p->preset);
    free(p->preset);
    free(p->own);
    free(p->merged);
    free(p->name);
    free(p->path);
    free(p->provider);
    free(p);
}

const struct source_info *source_info(const struct source_plan *p)
{
    return &p->info;
}

bool source_match_path(const struct source_plan *p, struct span path, struct span *token)
{
    size_t before = p->token_at, after;

    *token = SPAN_NONE;
    if (before == SIZE_MAX)
        return span_eq(span_of(p->path, p->path_n), path);
    after = p->path_n - before - 7;
    if (path.n <= before + after || memcmp(path.p, p->path, before) ||
        memcmp(path.p + path.n - after, p->path + before + 7, after))
        return false;
    *token = span_of(path.p + before, path.n - before - after);
    return !memchr(token->p, '/', token->n);
}

enum source_outcome source_outcome(const struct source_plan *p, struct span type)
{
    for (int o = OUTCOME_SUCCEEDED; o <= OUTCOME_WAITING; o++)
        for (size_t i = 0; i < p->outcomes[o]->n; i++)
            if (span_glob(span_str(p->outcomes[o]->v[i]), type))
                return (enum source_outcome)o;
    return OUTCOME_NONE;
}
