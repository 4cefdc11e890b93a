/* SPDX-License-Identifier: Apache-2.0 */
/* A JSON Web Token in a header. Which algorithms may sign it says the configuration, never the
 * token. */
#include <string.h>

#include "clock.h"
#include "room.h"

#define LEEWAY_MS 60000

static const struct {
    const char *name;
    enum crypto_scheme scheme;
} algorithms[] = {
    { "RS256", CRYPTO_RSA_SHA256 },
    { "ES256", CRYPTO_ECDSA_P256 },
    { "EdDSA", CRYPTO_ED25519 },
};

static unsigned schemes_of(struct compile *cc, const struct check *c)
{
    const struct cfg_strs *list = &c->cfg->jwt.algorithms;
    unsigned schemes = 0;

    for (size_t i = 0; i < list->n; i++) {
        size_t a = 0;
        while (a < ARRAY_LEN(algorithms) && strcmp(list->v[i], algorithms[a].name))
            a++;
        if (a == ARRAY_LEN(algorithms))
            bad_check(cc, "jwt.algorithms",
                      "signature.jwt.algorithms \"%s\" is none of RS256, ES256, EdDSA", list->v[i]);
        else
            schemes |= 1u << algorithms[a].scheme;
    }
    if (!list->n)
        bad_check(cc, "jwt.algorithms", "signature.jwt.algorithms is missing: nothing would do");
    return schemes;
}

static void add_claim(struct compile *cc, struct check *c, struct span name, struct span value)
{
    if (c->claims_n == CLAIMS_MAX)
        bad_check(cc, "jwt.claims", "more than %d claims", CLAIMS_MAX);
    else
        c->claims[c->claims_n++] = (struct crypto_claim){ name, value };
}

void source_jwt_rules(struct compile *cc, struct check *c)
{
    static const char *const words[] = { "required", "optional", NULL };
    const char *exp = c->cfg->jwt.expiry ? c->cfg->jwt.expiry : "required";
    const char *issuer = cc->c.issuer ? cc->c.issuer : c->cfg->jwt.issuer;
    int w = source_word(exp, words);

    if (w < 0)
        bad_check(cc, "jwt.expiry", "signature.jwt.expiry \"%s\" is none of required, optional",
                  exp);
    for (size_t i = 0; i < c->cfg->jwt.claims.n; i++)
        add_claim(cc, c, span_str(c->cfg->jwt.claims.k[i]), span_str(c->cfg->jwt.claims.v[i]));
    if (cc->c.email)
        add_claim(cc, c, S("email"), span_str(cc->c.email));
    c->rules = (struct crypto_jwt_rules){
        .issuer = span_str(issuer),
        .audience = span_str(cc->c.audience),
        .n_claims = c->claims_n,
        .body_hash = span_str(c->cfg->jwt.body_hash),
        .exp_optional = w == 1,
        .leeway_ms = LEEWAY_MS,
        .max_age_ms = source_duration(cc, source_check_node(cc, "jwt.max_age"),
                                      "signature.jwt.max_age", c->cfg->jwt.max_age, 0),
    };
}

/* Beside other ways in, one that cannot be taken is left out; alone, it is an error. */
static void check_audience(struct compile *cc, struct check *c)
{
    if (c->rules.audience.n || c->rules.body_hash.n)
        return;
    c->idle = !cc->p->all && cc->p->checks_n > 1;
    if (c->idle)
        cfg_error(cc->warns, cc->at, "audience is missing: deliveries signed by a JWT are refused");
    else
        bad(cc, "audience", "audience is missing: a token for anybody else would do");
}

static void compile(struct compile *cc, struct check *c)
{
    if (c->at.kind == PLACE_NOWHERE)
        bad_check(cc, "", "signature.header is missing");
    if (c->at.kind == PLACE_HEADER && !c->cfg->scheme && span_ieq(c->at.name, S("authorization")))
        c->scheme = SCHEME_BEARER;
    source_jwt_rules(cc, c);
    c->rules.schemes = schemes_of(cc, c);
    check_audience(cc, c);
    source_compile_publics(cc, c, c->rules.schemes);
}

static enum verdict verdict_of(struct verify *v, const struct check *c, enum crypto_jwt outcome)
{
    switch (outcome) {
    case CRYPTO_JWT_OK:
        return VERDICT_OK;
    case CRYPTO_JWT_MALFORMED:
        return VERDICT_MALFORMED;
    case CRYPTO_JWT_UNKNOWN_KID:
        return source_newer_keys(v, c, VERDICT_UNKNOWN_KEY);
    case CRYPTO_JWT_EXPIRED:
        return VERDICT_EXPIRED;
    case CRYPTO_JWT_NOT_YET:
        return VERDICT_FUTURE;
    case CRYPTO_JWT_ALGORITHM:
        return source_because(v, VERDICT_BAD_SIGNATURE,
                              "the token is signed by another algorithm than is allowed");
    case CRYPTO_JWT_WRONG_CLAIM:
        return source_because(v, VERDICT_BAD_SIGNATURE,
                              "issuer, audience or another claim is not what is asked for");
    case CRYPTO_JWT_WRONG_BODY:
        return source_because(v, VERDICT_BAD_SIGNATURE,
                              "the body is not the one that the token was made for");
    case CRYPTO_JWT_BAD_SIGNATURE:
        break;
    }
    return VERDICT_BAD_SIGNATURE;
}

static enum verdict verify(struct verify *v, const struct check *c)
{
    struct crypto_jwt_rules rules = c->rules;
    const struct crypto_keyset *set;
    enum verdict verdict;
    struct span token;

    verdict = source_at(v, &c->at, true, &token);
    if (verdict != VERDICT_OK || !token.p)
        return verdict != VERDICT_OK ? verdict : VERDICT_UNSIGNED;
    if (c->scheme == SCHEME_BEARER && !source_is_scheme(&token, S("bearer ")))
        return VERDICT_MALFORMED;
    if (!span_starts(token, S("eyJ"))) /* {" in base64url: another kind of signature */
        return VERDICT_UNSIGNED;
    set = source_keyset(v, c);
    if (!set)
        return VERDICT_KEYS_UNAVAILABLE;
    rules.claims = c->claims;
    source_tries(v, c);
    return verdict_of(
        v, c, crypto_jwt_verify(token, set, &rules, http_body(v->req, v->bytes), v->now_ms, NULL));
}

/* --- signing -------------------------------------------------------------------------------------
 */

static void add_member(struct buf *out, struct span name, struct span text)
{
    buf_addc(out, out->n > 1 ? ',' : ' ');
    buf_json_string(out, name);
    buf_addc(out, ':');
    buf_json_string(out, text);
}

static bool is_word(struct span s)
{
    uint64_t n;

    return span_eq(s, S("true")) || span_eq(s, S("false")) || span_u64(s, &n);
}

void source_jwt_claims(const struct sign *s, const struct check *c, struct buf *out)
{
    long long now = (long long)(s->o->now_ms / 1000);
    uint8_t digest[CRYPTO_HASH_MAX];
    struct buf hex = BUF_INIT;

    buf_printf(out, "{\"iat\":%lld,\"exp\":%lld", now, now + 3600);
    if (c->rules.issuer.n)
        add_member(out, S("iss"), c->rules.issuer);
    if (c->rules.audience.n)
        add_member(out, S("aud"), c->rules.audience);
    for (size_t i = 0; i < c->claims_n; i++) {
        const struct crypto_claim *claim = &c->claims[i];
        if (is_word(claim->value))
            buf_printf(out, ",\"%.*s\":%.*s", SPAN_FMT(claim->name), SPAN_FMT(claim->value));
        else
            add_member(out, claim->name, claim->value);
    }
    if (c->rules.body_hash.n) {
        buf_hex(&hex,
                span_of(digest, crypto_hash(CRYPTO_SHA256, buf_as_span(&s->o->text), digest)));
        add_member(out, c->rules.body_hash, buf_as_span(&hex));
    }
    buf_addc(out, '}');
    buf_free(&hex);
}

static int sign(struct sign *s, const struct check *c, struct err *e)
{
    struct buf claims = BUF_INIT, token = BUF_INIT;
    struct crypto_private *key = NULL;

    for (size_t i = 0; i < ARRAY_LEN(algorithms) && !key; i++)
        if (c->rules.schemes & 1u << algorithms[i].scheme)
            key = source_private(s, algorithms[i].scheme, e);
    if (!key)
        return -1;
    source_jwt_claims(s, c, &claims);
    crypto_jwt_make(key, SPAN_NONE, buf_as_span(&claims), &token);
    buf_printf(&s->o->headers, "%.*s: %s%.*s\r\n", SPAN_FMT(c->at.name),
               c->scheme == SCHEME_BEARER ? "Bearer " : "", SPAN_FMT(buf_as_span(&token)));
    buf_free(&claims);
    buf_free(&token);
    crypto_private_free(key);
    return 0;
}

const struct primitive_ops source_jwt = {
    .compile = compile, .verify = verify, .sign = sign, .takes_publics = true
};
