/* SPDX-License-Identifier: Apache-2.0 */
/* What is asked for: the table of the primitives, and what they have in common - where a signature
 * stands, how it is written, which secrets are for it. */
#include <stdio.h>
#include <string.h>

#include "room.h"

static const struct primitive primitives[] = {
    { "none", 0, 0, &source_none },
    { "token", 0, 0, &source_token },
    { "hmac-sha1", CRYPTO_SHA1, 20, &source_hmac },
    { "hmac-sha256", CRYPTO_SHA256, 32, &source_hmac },
    { "hmac-sha512", CRYPTO_SHA512, 64, &source_hmac },
    { "ed25519", CRYPTO_ED25519, 64, &source_public },
    { "ecdsa-p256", CRYPTO_ECDSA_P256, 0, &source_public },
    { "rsa-sha256", CRYPTO_RSA_SHA256, 0, &source_public },
    { "rsa-sha1", CRYPTO_RSA_SHA1, 0, &source_public },
    { "jwt", 0, 0, &source_jwt },
    { "jwt-hs256", CRYPTO_SHA256, 32, &source_jwt_hmac },
};

const struct primitive *source_find_primitive(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(primitives); i++)
        if (name && !strcmp(name, primitives[i].name))
            return &primitives[i];
    return NULL;
}

static void unknown_primitive(struct compile *cc, const char *name)
{
    struct buf names = BUF_INIT;

    for (size_t i = 0; i < ARRAY_LEN(primitives); i++)
        buf_printf(&names, "%s%s", i ? ", " : "", primitives[i].name);
    bad_check(cc, "algorithm", "signature.algorithm \"%s\" is none of %s", name ? name : "",
              buf_cstr(&names));
    buf_free(&names);
}

/* --- secrets -------------------------------------------------------------------------------------
 */

/* A secret's bytes as the key: prefix off, decoded. */
static ssize_t key_bytes(struct compile *cc, const struct check *c, struct span secret,
                         uint8_t *out, size_t cap)
{
    struct span strip = span_str(c->cfg->secret.strip);
    const char *decode = c->cfg->secret.decode ? c->cfg->secret.decode : "none";

    if (strip.n && span_starts(secret, strip))
        secret = span_of(secret.p + strip.n, secret.n - strip.n);
    if (!strcmp(decode, "base64"))
        return crypto_from_base64(secret, false, true, out, cap);
    if (!strcmp(decode, "hex"))
        return crypto_from_hex(secret, out, cap);
    if (strcmp(decode, "none")) {
        bad_check(cc, "secret.decode",
                  "signature.secret.decode \"%s\" is none of none, base64, hex", decode);
        return -1;
    }
    if (secret.n > cap)
        return -1;
    if (!span_trim(secret).n) /* blanks alone are guessed at once */
        return 0;
    memcpy(out, secret.p, secret.n);
    return (ssize_t)secret.n;
}

static void add_key(struct compile *cc, struct check *c, size_t i, struct span text)
{
    uint8_t key[4096];
    ssize_t n = key_bytes(cc, c, text, key, sizeof key);

    if (n <= 0)
        cfg_error(cc->errs, source_item(cc, "secrets", i),
                  n ? "secret %zu cannot be decoded as the provider's secrets are"
                    : "secret %zu is empty",
                  i + 1);
    else
        c->keys[c->secrets_n++] =
            crypto_hmac_new((enum crypto_hash)c->kind->arg, span_of(key, (size_t)n));
    crypto_wipe(key, sizeof key);
}

/* A secret with the prefix of `secret.starts` is for the checks that say so, any other for the
 * rest: so one list holds GitLab's signing tokens and its plain ones. */
static bool is_for(const struct source_plan *p, const struct check *c, struct span secret)
{
    struct span own = span_str(c->cfg->secret.starts);

    if (own.n)
        return span_starts(secret, own);
    for (size_t i = 0; i < p->checks_n; i++) {
        struct span other = span_str(p->checks[i].cfg->secret.starts);
        if (other.n && span_starts(secret, other))
            return false;
    }
    return true;
}

static void compile_secrets(struct compile *cc, struct check *c)
{
    for (size_t i = 0; i < MIN(cc->c.secrets.n, (size_t)SECRETS_MAX); i++) {
        const struct cfg_secret *s = &cc->c.secrets.v[i];
        struct span text = span_of(s->bytes, s->n);
        size_t at = c->secrets_n;
        if (!s->bytes || !is_for(cc->p, c, text)) /* what cannot be read was said already */
            continue;
        if (c->kind->ops->takes_tokens)
            c->tokens[c->secrets_n++] = text;
        else if (c->kind->ops->takes_secrets)
            add_key(cc, c, i, text);
        if (c->secrets_n == at)
            continue;
        c->secret_bits |= 1u << i;
        c->not_after_ms[at] = s->not_after_ms ? s->not_after_ms : INT64_MAX;
    }
}

/* --- where and how -------------------------------------------------------------------------------
 */

static void compile_where(struct compile *cc, struct check *c)
{
    const struct signature_cfg *cfg = c->cfg;

    if (!!cfg->header + !!cfg->path + !!cfg->query > 1)
        bad_check(cc, "header", "signature stands in one place: header, path or query");
    if (cfg->header)
        c->at = source_header_place(cc, source_check_node(cc, "header"), cfg->header);
    else if (cfg->path)
        c->at = source_path_place(cc, source_check_node(cc, "path"), cfg->path);
    else if (cfg->query)
        c->at = (struct place){ PLACE_QUERY, span_str(cfg->query), 0 };
}

/* Which of several kinds a delivery is can stand in its body, and says which signature to expect.
 */
static void compile_when(struct compile *cc, struct check *c)
{
    if (!c->cfg->when.path != !c->cfg->when.equals)
        bad_check(cc, "when", "when needs path and equals");
    else if (c->cfg->when.path)
        c->when = source_path_place(cc, source_check_node(cc, "when"), c->cfg->when.path);
    c->when_equals = span_str(c->cfg->when.equals);
}

static void compile_words(struct compile *cc, struct check *c)
{
    static const char *const encodings[] = { "hex", "base64", "base64url", NULL };
    static const char *const schemes[] = { "none", "bearer", "basic", NULL };
    const char *encoding = c->cfg->encoding ? c->cfg->encoding : "hex";
    const char *scheme = c->cfg->scheme ? c->cfg->scheme : "none";
    int e = source_word(encoding, encodings), s = source_word(scheme, schemes);
    struct span sep = span_str(c->cfg->separator);

    if (e < 0)
        bad_check(cc, "encoding", "signature.encoding \"%s\" is none of hex, base64, base64url",
                  encoding);
    if (s < 0)
        bad_check(cc, "scheme", "signature.scheme \"%s\" is none of none, bearer, basic", scheme);
    if (sep.n > 1)
        bad_check(cc, "separator", "signature.separator is one byte");
    c->encoding = (enum encoding)MAX(e, 0);
    c->scheme = (enum token_scheme)MAX(s, 0);
    c->separator = sep.n ? sep.p[0] : '\0';
    c->field = span_str(c->cfg->field);
    c->body_hash = span_str(c->cfg->body_hash);
}

static void compile_check(struct compile *cc, struct check *c)
{
    char prefix[80];
    bool named = strcmp(c->name, "signature") != 0;

    snprintf(prefix, sizeof prefix, "%s%s", named ? cc->p->all ? "all_of." : "any_of." : "",
             c->name);
    cc->prefix = prefix;
    c->kind = source_find_primitive(c->cfg->algorithm);
    if (c->kind) {
        compile_where(cc, c);
        compile_words(cc, c);
        compile_when(cc, c);
        compile_secrets(cc, c);
        if (c->kind->ops->compile)
            c->kind->ops->compile(cc, c);
    } else {
        unknown_primitive(cc, c->cfg->algorithm);
    }
    cc->prefix = NULL;
}

/* --- all of them ---------------------------------------------------------------------------------
 */

static void add_check(struct compile *cc, const char *name, const struct signature_cfg *cfg)
{
    struct source_plan *p = cc->p;

    if (p->checks_n == CHECKS_MAX) {
        bad(cc, p->all ? "all_of" : "any_of", "more than %d checks", CHECKS_MAX);
        return;
    }
    p->merged[p->checks_n] = *cfg;
    if (cfg != &cc->c.signature)
        source_fall_back(source_signature_keys(), &p->merged[p->checks_n], &cc->c.signature);
    p->checks[p->checks_n] = (struct check){ .name = name, .cfg = &p->merged[p->checks_n] };
    p->checks_n++;
}

static void list_checks(struct compile *cc)
{
    const struct cfg_named *named = cc->c.all_of.n ? &cc->c.all_of : &cc->c.any_of;

    if (cc->c.all_of.n && cc->c.any_of.n)
        bad(cc, "all_of", "any_of or all_of, not both");
    cc->p->all = cc->c.all_of.n > 0;
    cc->p->merged = xcalloc(CHECKS_MAX, sizeof *cc->p->merged);
    for (size_t i = 0; i < named->n; i++)
        add_check(cc, named->name[i], named->v[i]);
    if (!named->n)
        add_check(cc, "signature", &cc->c.signature);
}

static bool can_be_made(const struct source_cfg *cfg, const struct check *c)
{
    if (!c->kind)
        return false;
    if (c->kind->ops->takes_publics)
        return !c->idle && (c->certificate.roots || c->set || cfg->jwks.url || cfg->jwks.file);
    return c->secrets_n || c->kind->ops == &source_none;
}

/* Of any_of those without a key are left out; what remains must be able to say yes, and no. */
static void settle(struct compile *cc)
{
    struct source_plan *p = cc->p;
    bool token = p->checks[0].kind && p->checks[0].kind->ops->takes_tokens;
    bool publics = p->checks[0].kind && p->checks[0].kind->ops->takes_publics;
    size_t kept = 0, before = p->checks_n;

    if (cc->errs->n > cc->errs_before)
        return;
    for (size_t i = 0; i < before; i++) {
        if (can_be_made(&cc->c, &p->checks[i])) {
            p->checks[kept++] = p->checks[i];
            continue;
        }
        if (p->all)
            bad(cc, "secrets", "%s has no secret or key", p->checks[i].name);
        source_check_release(&p->checks[i]);
    }
    p->checks_n = kept;
    if (kept || p->all)
        return;
    if (publics)
        bad(cc, "public_keys", "public_keys or jwks is missing: nothing could be verified");
    else if (!token)
        bad(cc, "secrets", "secrets is missing: nothing could be verified");
    else if (!cc->c.path_token.bytes)
        bad(cc, "secrets", "a token source needs secrets, or a path with {token} and path_token");
    else /* the token of the path is all there is, and is asked for in any case */
        p->checks[p->checks_n++] = (struct check){ .kind = source_find_primitive("none"),
                                                   .name = "path_token",
                                                   .cfg = &p->merged[0] };
}

static void check_secrets(struct compile *cc)
{
    if (cc->c.secrets.n > SECRETS_MAX)
        bad(cc, "secrets", "more than %d secrets", SECRETS_MAX);
    for (size_t i = 0; i < cc->c.secrets.n; i++)
        if (cc->c.secrets.v[i].bytes && !cc->c.secrets.v[i].ref)
            cfg_error(cc->warns, source_item(cc, "secrets", i),
                      "a secret stands in the file; { env: NAME } or { file: PATH } keeps it out");
}

/* A `none` among several would make the others a decoration. */
static void check_none(struct compile *cc)
{
    const struct source_plan *p = cc->p;

    for (size_t i = 0; i < p->checks_n; i++) {
        if (!p->checks[i].kind || p->checks[i].kind->ops != &source_none)
            continue;
        if (p->checks_n > 1)
            bad(cc, "any_of", "none among other checks lets everything in");
        else if (cc->c.secrets.n)
            bad(cc, "secrets", "signature.algorithm is none: no secret would ever be asked for");
    }
}

void source_compile_checks(struct compile *cc)
{
    struct source_plan *p = cc->p;
    bool timed = false;

    check_secrets(cc);
    list_checks(cc);
    for (size_t i = 0; i < p->checks_n; i++)
        compile_check(cc, &p->checks[i]);
    check_none(cc);
    source_check_publics(cc);
    for (size_t i = 0; i < p->checks_n; i++)
        timed |= p->checks[i].stamp.at.kind != PLACE_NOWHERE || p->checks[i].stamp.field.n;
    if (cc->c.tolerance && !timed)
        bad(cc, "tolerance", "tolerance is set, but %s signs no time", p->provider);
    p->timed = timed;
    settle(cc);
}

void source_check_release(struct check *c)
{
    for (size_t i = 0; i < c->secrets_n; i++)
        crypto_hmac_free(c->keys[i]);
    for (size_t i = 0; i < c->publics_n; i++)
        crypto_public_free(c->publics[i]);
    crypto_keyset_free(c->set);
    source_certificate_release(c);
}

/* --- while it runs -------------------------------------------------------------------------------
 */

static struct span cut_item(const struct check *c, struct span *rest)
{
    struct span item = *rest;

    if (c->separator)
        item = span_cut(rest, c->separator);
    else
        *rest = SPAN_NONE;
    return span_trim(item);
}

struct span source_field(const struct verify *v, const struct check *c, struct span name)
{
    struct span rest = v->signature;

    while (rest.p) {
        struct span item = cut_item(c, &rest);
        if (item.n > name.n && span_starts(item, name) && item.p[name.n] == '=')
            return span_of(item.p + name.n + 1, item.n - name.n - 1);
    }
    return SPAN_NONE;
}

bool source_candidate(const struct check *c, struct span *rest, struct span *text)
{
    while (rest->p) {
        struct span item = cut_item(c, rest);
        if (!span_starts(item, c->field))
            continue;
        *text = span_of(item.p + c->field.n, item.n - c->field.n);
        return true;
    }
    return false;
}

ssize_t source_decode(const struct check *c, struct span text, uint8_t *out, size_t cap)
{
    if (c->encoding == ENCODING_HEX)
        return crypto_from_hex(text, out, cap);
    return crypto_from_base64(text, c->encoding == ENCODING_BASE64URL,
                              c->encoding == ENCODING_BASE64URL, out, cap);
}
