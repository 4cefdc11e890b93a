/* SPDX-License-Identifier: Apache-2.0 */
/* A JSON Web Token that is signed with a secret we share (HS256 and nothing else, whatever the
 * token says of itself): what it proves of the body is the claim with its hash. */
#include <string.h>

#include "room.h"

#define TOKEN_MAX 16384

static void compile(struct compile *cc, struct check *c)
{
    if (c->at.kind == PLACE_NOWHERE)
        bad_check(cc, "", "signature.header is missing");
    if (!c->cfg->jwt.body_hash)
        bad_check(cc, "jwt", "signature.jwt.body_hash is missing: anybody could change the body");
    source_jwt_rules(cc, c);
}

/* "HEADER.CLAIMS.MAC"; `message` is what is signed. */
static bool split(struct span token, struct span *header, struct span *claims, struct span *message,
                  struct span *mac)
{
    *mac = token;
    *header = span_cut(mac, '.');
    if (!mac->p)
        return false;
    *claims = span_cut(mac, '.');
    if (!mac->p || memchr(mac->p, '.', mac->n))
        return false;
    *message = span_of(token.p, header->n + 1 + claims->n);
    return true;
}

static enum verdict check_mac(struct verify *v, const struct check *c, struct span message,
                              struct span text)
{
    uint8_t given[CRYPTO_HASH_MAX], mac[CRYPTO_HASH_MAX];
    ssize_t given_n = crypto_from_base64(text, true, true, given, sizeof given);
    bool match = false, late = false;

    if (given_n != (ssize_t)c->kind->bytes)
        return VERDICT_MALFORMED;
    source_tries(v, c);
    for (size_t k = 0; k < c->secrets_n; k++) {
        size_t n = crypto_hmac(c->keys[k], &message, 1, mac);
        bool holds = v->now_ms <= c->not_after_ms[k];
        bool same = crypto_equal(mac, n, given, (size_t)given_n);
        match |= same & holds;
        late |= same & !holds;
    }
    return source_matched(v, match, late);
}

/* A part as JSON text in scratch; empty where it is none. */
static struct span decode(struct verify *v, struct span text)
{
    struct buf *scratch = &v->ev->scratch;
    uint8_t *at = (uint8_t *)scratch->p + scratch->n;
    ssize_t n = crypto_from_base64(text, true, true, at, scratch->cap - scratch->n);

    if (n <= 0 || !json_valid(span_of(at, (size_t)n)))
        return SPAN_NONE;
    scratch->n += (size_t)n;
    return span_of(at, (size_t)n);
}

static bool is_text(struct span json, const char *name, struct span want)
{
    struct json_value j = json_find(json, span_str(name));

    return j.type == JSON_STRING && !j.escaped && span_eq(j.raw, want);
}

/* Seconds; -1: it is not there, -2: it is no whole number. */
static int64_t seconds(struct span claims, struct span name)
{
    struct json_value j = json_find(claims, name);
    uint64_t n;

    if (j.type == JSON_NONE)
        return -1;
    return j.type == JSON_NUMBER && span_u64(j.raw, &n) && n < INT64_MAX / 2000 ? (int64_t)n : -2;
}

static enum verdict check_times(const struct verify *v, const struct check *c, struct span claims)
{
    int64_t exp = seconds(claims, S("exp")), nbf = seconds(claims, S("nbf")),
            iat = seconds(claims, S("iat"));
    const struct crypto_jwt_rules *r = &c->rules;

    if (exp == -2 || nbf == -2 || iat == -2 || (exp < 0 && !r->exp_optional) ||
        (iat < 0 && r->max_age_ms))
        return VERDICT_MALFORMED;
    if (exp >= 0 && v->now_ms > exp * 1000 + r->leeway_ms)
        return VERDICT_EXPIRED;
    if (r->max_age_ms && v->now_ms > iat * 1000 + r->max_age_ms + r->leeway_ms)
        return VERDICT_EXPIRED;
    return MAX(nbf, iat) * 1000 > v->now_ms + r->leeway_ms ? VERDICT_FUTURE : VERDICT_OK;
}

/* The hash stands in hexadecimal or in base64 of either alphabet. */
static bool fits_body(const struct verify *v, const struct check *c, struct span claims)
{
    struct json_value j = json_find(claims, c->rules.body_hash);
    uint8_t want[CRYPTO_HASH_MAX], is[CRYPTO_HASH_MAX];
    size_t n = crypto_hash(CRYPTO_SHA256, http_body(v->req, v->bytes), is);

    if (j.type != JSON_STRING || j.escaped)
        return false;
    return (crypto_from_hex(j.raw, want, sizeof want) == (ssize_t)n ||
            crypto_from_base64(j.raw, false, true, want, sizeof want) == (ssize_t)n ||
            crypto_from_base64(j.raw, true, true, want, sizeof want) == (ssize_t)n) &&
           crypto_equal(want, n, is, n);
}

static enum verdict check_claims(const struct verify *v, const struct check *c, struct span claims)
{
    if (c->rules.issuer.n && !is_text(claims, "iss", c->rules.issuer))
        return VERDICT_BAD_SIGNATURE;
    if (c->rules.audience.n && !is_text(claims, "aud", c->rules.audience))
        return VERDICT_BAD_SIGNATURE;
    return fits_body(v, c, claims) ? check_times(v, c, claims) : VERDICT_BAD_SIGNATURE;
}

static enum verdict verify(struct verify *v, const struct check *c)
{
    struct span token, header, claims, message, mac;
    enum verdict verdict = source_at(v, &c->at, true, &token);

    if (verdict != VERDICT_OK || !token.p)
        return verdict != VERDICT_OK ? verdict : VERDICT_UNSIGNED;
    if (c->scheme == SCHEME_BEARER && !source_is_scheme(&token, S("bearer ")))
        return VERDICT_MALFORMED;
    if (!span_starts(token, S("eyJ")))
        return VERDICT_UNSIGNED;
    if (token.n > TOKEN_MAX || !split(token, &header, &claims, &message, &mac))
        return VERDICT_MALFORMED;
    verdict = check_mac(v, c, message, mac);
    if (verdict != VERDICT_OK)
        return verdict;
    buf_reserve(&v->ev->scratch, TOKEN_MAX);
    header = decode(v, header);
    claims = decode(v, claims);
    if (!header.n || !claims.n || json_find(header, S("crit")).type != JSON_NONE)
        return VERDICT_MALFORMED;
    return is_text(header, "alg", S("HS256")) ? check_claims(v, c, claims) : VERDICT_BAD_SIGNATURE;
}

static int sign(struct sign *s, const struct check *c, struct err *e UNUSED)
{
    struct buf claims = BUF_INIT, token = BUF_INIT;
    uint8_t mac[CRYPTO_HASH_MAX];
    struct span message;

    source_jwt_claims(s, c, &claims);
    source_add_base64url(&token, S("{\"alg\":\"HS256\",\"typ\":\"JWT\"}"));
    buf_addc(&token, '.');
    source_add_base64url(&token, buf_as_span(&claims));
    message = buf_as_span(&token);
    buf_printf(&s->o->headers, "%.*s: %s%.*s.", SPAN_FMT(c->at.name),
               c->scheme == SCHEME_BEARER ? "Bearer " : "", SPAN_FMT(message));
    source_add_base64url(&s->o->headers, span_of(mac, crypto_hmac(c->keys[0], &message, 1, mac)));
    buf_adds(&s->o->headers, "\r\n");
    buf_free(&claims);
    buf_free(&token);
    return 0;
}

const struct primitive_ops source_jwt_hmac = {
    .compile = compile, .verify = verify, .sign = sign, .takes_secrets = true
};
