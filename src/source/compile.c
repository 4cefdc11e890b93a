/* SPDX-License-Identifier: Apache-2.0 */
/* From settings to a plan: names become enums, templates become parts, secrets become keys. What
 * could only fail open at run time is an error here. Main thread. */
#include <stdio.h>
#include <string.h>

#include "json.h"
#include "room.h"

struct compile {
    struct source_plan *p;
    struct source_cfg c; /* merged; borrowed from own and preset */
    const struct cfg_node *at;
    struct err_list *errs, *warns;
};

/* Where a dotted key stands in the user's block; what is not there (it comes from the preset, or is
 * missing) is said of the line above it. */
static const struct cfg_node *key_node(const struct compile *cc, const char *key)
{
    const struct cfg_node *at = cc->at, *below;
    struct span rest = span_str(key);
    char name[64];

    while (rest.p) {
        struct span piece = span_cut(&rest, '.');
        snprintf(name, sizeof name, "%.*s", SPAN_FMT(piece));
        below = cfg_find(at, name);
        if (!below)
            break;
        at = below;
    }
    return at;
}

/* The node of the i-th item of a list, or of the one value that stands for a list. */
static const struct cfg_node *item_node(const struct compile *cc, const char *key, size_t i)
{
    const struct cfg_node *at = key_node(cc, key), *item = at;

    if (at && at->kind == CFG_NODE_LIST)
        for (item = at->child; item && i; i--)
            item = item->next;
    return item ? item : at;
}

#define bad(cc, key, ...) cfg_error((cc)->errs, key_node(cc, key), __VA_ARGS__)

static int word(const char *s, const char *const *words)
{
    for (int i = 0; words[i]; i++)
        if (s && !strcmp(s, words[i]))
            return i;
    return -1;
}

static void compile_algorithm(struct compile *cc)
{
    static const char *const names[] = { "none",        "token",       "hmac-sha1",
                                         "hmac-sha256", "hmac-sha512", NULL };
    static const char *const encodings[] = { "hex", "base64", "base64url", NULL };
    const char *encoding = cc->c.signature.encoding ? cc->c.signature.encoding : "hex";
    int a = word(cc->c.signature.algorithm, names), e = word(encoding, encodings);

    if (a < 0)
        bad(cc, "signature.algorithm",
            "signature.algorithm \"%s\" is none of none, token, hmac-sha1, hmac-sha256, "
            "hmac-sha512",
            cc->c.signature.algorithm ? cc->c.signature.algorithm : "");
    if (e < 0)
        bad(cc, "signature.encoding", "signature.encoding \"%s\" is none of hex, base64, base64url",
            encoding);
    cc->p->algorithm = a < 2 ? (enum algorithm)MAX(a, 0) : ALGORITHM_HMAC;
    cc->p->hash = a == 2 ? CRYPTO_SHA1 : a == 4 ? CRYPTO_SHA512 : CRYPTO_SHA256;
    cc->p->mac_bytes = a == 2 ? 20 : a == 4 ? 64 : 32;
    cc->p->encoding = (enum encoding)MAX(e, 0);
}

/* What proves who is calling must not be stored, nor passed on to sinks. */
static bool is_secret(const struct source_plan *p, struct span name)
{
    return span_ieq(name, S("authorization")) || span_ieq(name, S("proxy-authorization")) ||
           span_ieq(name, S("cookie")) ||
           (p->algorithm == ALGORITHM_TOKEN && span_ieq(name, p->header));
}

static void keep(struct compile *cc, const char *key, struct span name)
{
    struct source_plan *p = cc->p;

    if (!name.n || is_secret(p, name))
        return;
    for (size_t i = 0; i < p->kept_n; i++)
        if (span_ieq(p->kept[i], name))
            return;
    if (p->kept_n == KEPT_MAX)
        bad(cc, key, "more than %d headers to keep", KEPT_MAX);
    else
        p->kept[p->kept_n++] = name;
}

static void add_part(struct compile *cc, enum part_kind kind, struct span text)
{
    if (cc->p->parts_n == PARTS_MAX)
        bad(cc, "signature.message", "signature.message has more than %d parts", PARTS_MAX);
    else
        cc->p->parts[cc->p->parts_n++] = (struct part){ kind, text };
}

/* What stands between braces. */
static void compile_piece(struct compile *cc, struct span piece)
{
    struct span name = piece, kind = span_cut(&name, ':');

    if (span_eq(piece, S("body"))) {
        add_part(cc, PART_BODY, SPAN_NONE);
    } else if (span_eq(piece, S("sha256hex:body"))) {
        add_part(cc, PART_SHA256HEX, SPAN_NONE);
    } else if (span_eq(piece, S("url"))) {
        if (!cc->c.url)
            bad(cc, "signature.message", "this provider signs our URL: url is missing");
        add_part(cc, PART_TEXT, span_str(cc->c.url));
    } else if (name.n && span_eq(kind, S("header"))) {
        add_part(cc, PART_HEADER, name);
        keep(cc, "signature.message", name);
    } else if (name.n && span_eq(kind, S("field"))) {
        if (!cc->p->separator)
            bad(cc, "signature.message",
                "signature.message: {%.*s} needs signature.separator, else the header is one "
                "signature",
                SPAN_FMT(piece));
        add_part(cc, PART_FIELD, name);
    } else if (name.n && span_eq(kind, S("query"))) {
        add_part(cc, PART_QUERY, name);
    } else {
        bad(cc, "signature.message", "signature.message: {%.*s} is not known", SPAN_FMT(piece));
    }
}

static bool signs_body(const struct source_plan *p)
{
    for (size_t i = 0; i < p->parts_n; i++)
        if (p->parts[i].kind == PART_BODY || p->parts[i].kind == PART_SHA256HEX)
            return true;
    return false;
}

static void compile_message(struct compile *cc)
{
    struct span rest = span_str(cc->c.signature.message ? cc->c.signature.message : "{body}");

    while (rest.n) {
        struct span text = span_cut(&rest, '{'), piece;
        if (text.n)
            add_part(cc, PART_TEXT, text);
        if (!rest.p)
            break;
        if (!memchr(rest.p, '}', rest.n)) {
            bad(cc, "signature.message", "signature.message: { without }");
            return;
        }
        piece = span_cut(&rest, '}');
        compile_piece(cc, piece);
    }
    if (!signs_body(cc->p))
        bad(cc, "signature.message",
            "signature.message leaves the body out: anybody could change it");
}

/* A secret's bytes as the key: prefix off, decoded. */
static ssize_t key_bytes(struct compile *cc, struct span secret, uint8_t *out, size_t cap)
{
    struct span strip = span_str(cc->c.signature.secret.strip);
    const char *decode = cc->c.signature.secret.decode ? cc->c.signature.secret.decode : "none";

    if (strip.n && span_starts(secret, strip))
        secret = span_of(secret.p + strip.n, secret.n - strip.n);
    if (!strcmp(decode, "base64"))
        return crypto_from_base64(secret, false, true, out, cap);
    if (!strcmp(decode, "hex"))
        return crypto_from_hex(secret, out, cap);
    if (strcmp(decode, "none")) {
        bad(cc, "signature.secret.decode",
            "signature.secret.decode \"%s\" is none of none, base64, hex", decode);
        return -1;
    }
    if (secret.n > cap)
        return -1;
    memcpy(out, secret.p, secret.n);
    return (ssize_t)secret.n;
}

static void compile_secrets(struct compile *cc)
{
    struct source_plan *p = cc->p;
    uint8_t key[4096];

    if (cc->c.secrets.n > SECRETS_MAX)
        bad(cc, "secrets", "more than %d secrets", SECRETS_MAX);
    for (size_t i = 0; i < MIN(cc->c.secrets.n, (size_t)SECRETS_MAX); i++) {
        const struct cfg_secret *s = &cc->c.secrets.v[i];
        struct span text = span_of(s->bytes, s->n);
        ssize_t n;
        if (!s->bytes)
            continue; /* said already where it was read */
        if (!s->ref)
            cfg_error(cc->warns, item_node(cc, "secrets", i),
                      "a secret stands in the file; { env: NAME } or { file: PATH } keeps it out");
        if (p->algorithm == ALGORITHM_TOKEN) {
            p->tokens[p->secrets_n++] = text;
            continue;
        }
        n = key_bytes(cc, text, key, sizeof key);
        if (n <= 0) {
            cfg_error(cc->errs, item_node(cc, "secrets", i),
                      n ? "secret %zu cannot be decoded as the provider's secrets are"
                        : "secret %zu is empty",
                      i + 1);
            continue;
        }
        p->keys[p->secrets_n++] = crypto_hmac_new(p->hash, span_of(key, (size_t)n));
        crypto_wipe(key, sizeof key);
    }
}

static void compile_place(struct compile *cc, const char *what, const struct where *w,
                          struct place *out)
{
    int n = !!w->header + !!w->path + !!w->constant;

    *out = (struct place){ .kind = PLACE_NOWHERE };
    if (n > 1)
        bad(cc, what, "%s stands in one place: header, path or const", what);
    if (w->header) {
        *out = (struct place){ PLACE_HEADER, span_str(w->header), 0 };
        if (is_secret(cc->p, out->name))
            bad(cc, what, "%s: %s holds a secret, which would be stored", what, w->header);
        keep(cc, what, out->name);
    } else if (w->path) {
        *out = (struct place){ PLACE_PATH, span_str(w->path), cc->p->paths_n };
        cc->p->paths[cc->p->paths_n++] = out->name;
    } else if (w->constant) {
        *out = (struct place){ PLACE_CONST, span_str(w->constant), 0 };
    }
}

static int64_t duration(struct compile *cc, const char *key, const char *text, int64_t fallback)
{
    int64_t ms = fallback;

    if (text && !cfg_msec(span_str(text), &ms))
        bad(cc, key, "%s \"%s\" is not a duration like 5m", key, text);
    return ms;
}

static bool signs_header(const struct source_plan *p, struct span name)
{
    for (size_t i = 0; i < p->parts_n; i++)
        if (p->parts[i].kind == PART_HEADER && span_ieq(p->parts[i].text, name))
            return true;
    return false;
}

static bool signs_field(const struct source_plan *p, struct span name)
{
    for (size_t i = 0; i < p->parts_n; i++)
        if (p->parts[i].kind == PART_FIELD && span_eq(p->parts[i].text, name))
            return true;
    return false;
}

/* A time that is not signed says nothing: who sends an old capture again writes a new one. */
static void check_stamp_is_signed(struct compile *cc)
{
    const struct source_plan *p = cc->p;

    if ((p->stamp.kind == PLACE_HEADER && !signs_header(p, p->stamp.name)) ||
        (p->stamp_field.n && !signs_field(p, p->stamp_field)))
        bad(cc, "signature.timestamp",
            "signature.timestamp is not part of signature.message: anybody could renew it");
}

static void compile_timestamp(struct compile *cc)
{
    static const char *const units[] = { "s", "ms", "iso8601", NULL };
    struct source_plan *p = cc->p;
    struct where w = { cc->c.signature.timestamp.header, cc->c.signature.timestamp.path, NULL };
    const char *unit = cc->c.signature.timestamp.unit ? cc->c.signature.timestamp.unit : "s";
    int u = word(unit, units);

    compile_place(cc, "signature.timestamp", &w, &p->stamp);
    p->stamp_field = span_str(cc->c.signature.timestamp.field);
    if (p->stamp_field.n && p->stamp.kind != PLACE_NOWHERE)
        bad(cc, "signature.timestamp",
            "signature.timestamp stands in one place: header, field or path");
    if (u < 0)
        bad(cc, "signature.timestamp.unit",
            "signature.timestamp.unit \"%s\" is none of s, ms, iso8601", unit);
    p->unit = (enum unit)MAX(u, 0);
    p->tolerance_ms = duration(cc, cc->c.tolerance ? "tolerance" : "signature.timestamp.tolerance",
                               cc->c.signature.timestamp.tolerance, 300000);
    p->future_ms =
        duration(cc, "signature.timestamp.future", cc->c.signature.timestamp.future, 300000);
    check_stamp_is_signed(cc);
}

static void compile_hmac(struct compile *cc)
{
    struct source_plan *p = cc->p;

    if (!p->header.n)
        bad(cc, "signature", "signature.header is missing");
    keep(cc, "signature.header", p->header);
    compile_message(cc);
    compile_timestamp(cc);
    if (!cc->c.secrets.n)
        bad(cc, "secrets", "secrets is missing: nothing could be verified");
}

static void compile_signature(struct compile *cc)
{
    struct source_plan *p = cc->p;
    struct span sep = span_str(cc->c.signature.separator);

    compile_algorithm(cc);
    p->header = span_str(cc->c.signature.header);
    p->field = span_str(cc->c.signature.field);
    if (sep.n > 1)
        bad(cc, "signature.separator", "signature.separator is one byte");
    p->separator = sep.n ? sep.p[0] : '\0';
    compile_secrets(cc);
    if (p->algorithm == ALGORITHM_HMAC)
        compile_hmac(cc);
    if (p->algorithm == ALGORITHM_NONE && cc->c.secrets.n)
        bad(cc, "secrets", "signature.algorithm is none: no secret would ever be asked for");
    if (cc->c.tolerance && p->stamp.kind == PLACE_NOWHERE && !p->stamp_field.n)
        bad(cc, "tolerance", "tolerance is set, but %s signs no time", p->provider);
    if (p->algorithm == ALGORITHM_TOKEN && !cc->c.secrets.n && !cc->c.path_token.bytes)
        bad(cc, "secrets", "a token source needs secrets, or a path with {token} and path_token");
}

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
}

static void compile_dedup(struct compile *cc, int64_t window_ms)
{
    struct source_plan *p = cc->p;
    int64_t retries = duration(cc, "retries", cc->c.retries, 0);
    bool told_apart = p->id.kind == PLACE_HEADER || p->id.kind == PLACE_PATH;

    p->dedup = (enum source_dedup)cc->c.dedup;
    if (p->dedup == SOURCE_DEDUP_ID && !told_apart)
        bad(cc, "dedup",
            p->id.kind == PLACE_CONST
                ? "dedup: id, but id is always the same: all but the first would be dropped"
                : "dedup: id, but the provider sends none");
    if (p->dedup == SOURCE_DEDUP_AUTO)
        p->dedup = told_apart ? SOURCE_DEDUP_ID : SOURCE_DEDUP_OFF;
    if (p->dedup != SOURCE_DEDUP_OFF && window_ms < retries)
        cfg_error(
            cc->warns, key_node(cc, "retries"),
            "%s tries again for %s; dedup.window is shorter, late repeats are published again",
            p->provider, cc->c.retries);
}

static void compile_handshake(struct compile *cc)
{
    struct source_plan *p = cc->p;
    struct where when = { NULL, cc->c.handshake.path, NULL },
                 echo = { NULL, cc->c.handshake.echo, NULL };

    compile_place(cc, "handshake.path", &when, &p->shake_when);
    compile_place(cc, "handshake.echo", &echo, &p->shake_echo);
    p->shake_equals = span_str(cc->c.handshake.equals);
    if (!!cc->c.handshake.path != !!cc->c.handshake.echo ||
        !!cc->c.handshake.path != !!cc->c.handshake.equals)
        bad(cc, "handshake", "handshake needs path, equals and echo");
}

static void compile_kept(struct compile *cc)
{
    for (size_t i = 0; i < cc->c.keep_headers.n; i++) {
        struct span name = span_str(cc->c.keep_headers.v[i]);
        if (is_secret(cc->p, name))
            cfg_error(cc->warns, item_node(cc, "keep_headers", i),
                      "keep_headers: %.*s holds a secret and is never stored", SPAN_FMT(name));
        keep(cc, "keep_headers", name);
    }
}

static void compile_rest(struct compile *cc)
{
    struct source_plan *p = cc->p;

    compile_place(cc, "id", &cc->c.id, &p->id);
    compile_place(cc, "type", &cc->c.type, &p->type);
    compile_place(cc, "subject", &cc->c.subject, &p->subject);
    compile_handshake(cc);
    compile_kept(cc);
    if (cc->c.status != 200 && cc->c.status != 202 && cc->c.status != 204)
        bad(cc, "status", "status is 200, 202 or 204");
}

/* The plan's own copies of what the merge borrowed. */
static void adopt(struct source_plan *p, const struct source_cfg *merged, struct source_cfg *preset)
{
    p->own = xcalloc(1, sizeof *p->own);
    *p->own = *merged;
    p->preset = preset;
    p->outcomes[OUTCOME_SUCCEEDED] = &p->own->outcome.succeeded;
    p->outcomes[OUTCOME_FAILED] = &p->own->outcome.failed;
    p->outcomes[OUTCOME_CANCELLED] = &p->own->outcome.cancelled;
    p->outcomes[OUTCOME_WAITING] = &p->own->outcome.waiting;
    p->info = (struct source_info){ .name = p->name,
                                    .path = p->path,
                                    .provider = p->provider,
                                    .body_bytes = merged->body_bytes,
                                    .status = (int)merged->status };
}

struct source_plan *source_compile(const char *name, const struct source_cfg *cfg,
                                   const struct cfg_node *at, int64_t dedup_window_ms,
                                   struct err_list *errs, struct err_list *warns)
{
    struct source_cfg *preset = xcalloc(1, sizeof *preset);
    struct source_plan *p = xcalloc(1, sizeof *p);
    struct compile cc = { .p = p, .at = at, .errs = errs, .warns = warns };
    size_t before = errs->n;

    p->name = xstrdup(name);
    p->provider = xstrdup(cfg->provider ? cfg->provider : "own");
    if (!source_merge(cfg, at, &cc.c, preset, errs)) {
        compile_path(&cc);
        compile_signature(&cc);
        compile_rest(&cc);
        compile_dedup(&cc, dedup_window_ms);
    }
    adopt(p, &cc.c, preset);
    if (errs->n == before)
        return p;
    source_plan_free(p);
    return NULL;
}

/* The user's settings stay the caller's and must outlive the plan; the preset's are ours. */
void source_plan_free(struct source_plan *p)
{
    if (!p)
        return;
    for (size_t i = 0; i < SECRETS_MAX; i++)
        crypto_hmac_free(p->keys[i]);
    cfg_release(source_cfg_keys(), p->preset);
    free(p->preset);
    free(p->own);
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
