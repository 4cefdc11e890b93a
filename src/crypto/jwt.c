/* SPDX-License-Identifier: Apache-2.0 */
/* JSON Web Tokens. The order is the defence: form, then what the rules allow, then the key, then
 * the signature; no claim is looked at before the signature is right. The header's alg decides
 * nothing: it must name what the rules allow and what the key is for (RFC 8725 3.1). */
#include "room.h"

#include <assert.h>
#include <jansson.h>
#include <openssl/ecdsa.h>
#include <stdio.h>
#include <string.h>

#define TOKEN_MAX (16 << 10)
#define HEADER_MAX (4 << 10)
#define KID_MAX 256
#define SIGNATURE_MAX 1024
#define DATE_MAX 9007199254740LL /* seconds; its milliseconds are exact in a double too */

struct token {
    struct span signing_input;
    char payload[TOKEN_MAX];
    size_t payload_n;
    uint8_t signature[SIGNATURE_MAX];
    size_t signature_n;
    json_t *header, *claims;
};

static const struct {
    const char *name;
    enum crypto_scheme scheme;
} algorithms[] = {
    { "RS256", CRYPTO_RSA_SHA256 },
    { "ES256", CRYPTO_ECDSA_P256 },
    { "EdDSA", CRYPTO_ED25519 },
    { "Ed25519", CRYPTO_ED25519 }, /* RFC 9864 2.2 */
};

const char *jwt_algorithm(enum crypto_scheme scheme)
{
    for (size_t i = 0; i < ARRAY_LEN(algorithms); i++) {
        if (algorithms[i].scheme == scheme)
            return algorithms[i].name;
    }
    return NULL;
}

bool jwt_scheme(const char *algorithm, enum crypto_scheme *scheme)
{
    for (size_t i = 0; i < ARRAY_LEN(algorithms); i++) {
        if (strcmp(algorithms[i].name, algorithm) == 0) {
            *scheme = algorithms[i].scheme;
            return true;
        }
    }
    return false;
}

static json_t *object_of(struct span text)
{
    json_t *v = json_loadb(text.p, text.n, JSON_REJECT_DUPLICATES, NULL);

    if (json_is_object(v))
        return v;
    json_decref(v);
    return NULL;
}

/* Three parts (RFC 7515 7.1). The signature may be empty: then it is wrong, not malformed. */
static bool split(struct span text, struct token *t)
{
    char header[HEADER_MAX];
    struct span rest = text, head, body;
    ssize_t n;

    if (text.n > TOKEN_MAX)
        return false;
    head = span_cut(&rest, '.');
    if (!rest.p)
        return false;
    body = span_cut(&rest, '.');
    if (!rest.p)
        return false;
    t->signing_input = span_of(text.p, head.n + 1 + body.n);
    n = from_base64url(rest, t->signature, sizeof t->signature);
    if (n < 0)
        return false;
    t->signature_n = (size_t)n;
    n = from_base64url(body, t->payload, sizeof t->payload);
    if (n < 0)
        return false;
    t->payload_n = (size_t)n;
    n = from_base64url(head, header, sizeof header);
    t->header = n > 0 ? object_of(span_of(header, (size_t)n)) : NULL;
    return t->header;
}

/* ES256 puts r and s side by side, 32 bytes each (RFC 7518 3.4). */
static bool to_der(struct token *t)
{
    ECDSA_SIG *sig = ECDSA_SIG_new();
    BIGNUM *r = BN_bin2bn(t->signature, 32, NULL), *s = BN_bin2bn(t->signature + 32, 32, NULL);
    uint8_t *p = t->signature;
    int n = -1;

    if (t->signature_n == 64 && sig && r && s && ECDSA_SIG_set0(sig, r, s) == 1) {
        r = s = NULL; /* the pair's now */
        n = i2d_ECDSA_SIG(sig, &p);
    }
    BN_free(r);
    BN_free(s);
    ECDSA_SIG_free(sig);
    t->signature_n = n > 0 ? (size_t)n : 0;
    return n > 0;
}

static enum crypto_jwt check_signature(struct token *t, const struct crypto_keyset *set,
                                       unsigned allowed)
{
    const json_t *alg = json_object_get(t->header, "alg"), *kid = json_object_get(t->header, "kid");
    struct span name = SPAN_NONE;
    enum crypto_scheme scheme;

    if (json_object_get(t->header, "crit") || !json_is_string(alg) ||
        (kid && (!json_is_string(kid) || json_string_length(kid) > KID_MAX)))
        return CRYPTO_JWT_MALFORMED;
    if (!jwt_scheme(json_string_value(alg), &scheme) || !(allowed & 1u << scheme))
        return CRYPTO_JWT_ALGORITHM;
    if (kid)
        name = span_of(json_string_value(kid), json_string_length(kid));
    if (!crypto_keyset_count(set, scheme, name)) {
        for (size_t i = 0; kid && i < ARRAY_LEN(algorithms); i++) {
            if (crypto_keyset_count(set, algorithms[i].scheme, name))
                return CRYPTO_JWT_ALGORITHM;
        }
        return CRYPTO_JWT_UNKNOWN_KID;
    }
    if (scheme == CRYPTO_ECDSA_P256 && !to_der(t))
        return CRYPTO_JWT_BAD_SIGNATURE;
    if (crypto_keyset_verify(set, scheme, name, &t->signing_input, 1,
                             span_of(t->signature, t->signature_n)) < 0)
        return CRYPTO_JWT_BAD_SIGNATURE;
    return CRYPTO_JWT_OK;
}

static bool is_string(const json_t *v, struct span want)
{
    return json_is_string(v) && span_eq(span_of(json_string_value(v), json_string_length(v)), want);
}

/* RFC 7519 4.1.3 */
static bool is_for(const json_t *aud, struct span audience)
{
    bool found = is_string(aud, audience);

    for (size_t i = 0; i < json_array_size(aud); i++)
        found = found || is_string(json_array_get(aud, i), audience);
    return found;
}

static bool is_value(const json_t *v, struct span want)
{
    char text[32];

    if (json_is_boolean(v))
        return span_eq(want, json_is_true(v) ? S("true") : S("false"));
    if (!json_is_integer(v))
        return is_string(v, want);
    snprintf(text, sizeof text, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
    return span_eq(want, span_str(text));
}

static bool claims_hold(const json_t *claims, const struct crypto_jwt_rules *rules)
{
    if (rules->issuer.n && !is_string(json_object_get(claims, "iss"), rules->issuer))
        return false;
    if (rules->audience.n && !is_for(json_object_get(claims, "aud"), rules->audience))
        return false;
    for (size_t i = 0; i < rules->n_claims; i++) {
        const struct crypto_claim *want = &rules->claims[i];
        if (!is_value(json_object_getn(claims, want->name.p, want->name.n), want->value))
            return false;
    }
    return true;
}

/* NumericDate (RFC 7519 2), which may have a fraction. False for what is there and is none. */
static bool date(const json_t *claims, const char *name, bool *there, int64_t *ms)
{
    const json_t *v = json_object_get(claims, name);
    double seconds = json_number_value(v);

    *there = v;
    *ms = 0;
    if (!v)
        return true;
    if (!json_is_number(v) || !(seconds >= -(double)DATE_MAX && seconds <= (double)DATE_MAX))
        return false;
    *ms = json_is_integer(v) ? json_integer_value(v) * 1000 : (int64_t)(seconds * 1000);
    return true;
}

static enum crypto_jwt check_times(const json_t *claims, const struct crypto_jwt_rules *rules,
                                   int64_t now_ms)
{
    bool has_exp, has_nbf, has_iat;
    int64_t exp, nbf, iat;

    if (!date(claims, "exp", &has_exp, &exp) || !date(claims, "nbf", &has_nbf, &nbf) ||
        !date(claims, "iat", &has_iat, &iat) || (!has_exp && !rules->exp_optional) ||
        (!has_iat && rules->max_age_ms > 0))
        return CRYPTO_JWT_WRONG_CLAIM;
    if (has_exp && now_ms - rules->leeway_ms >= exp)
        return CRYPTO_JWT_EXPIRED;
    if (rules->max_age_ms > 0 && now_ms - rules->leeway_ms > iat + rules->max_age_ms)
        return CRYPTO_JWT_EXPIRED;
    if ((has_nbf && now_ms + rules->leeway_ms < nbf) ||
        (has_iat && now_ms + rules->leeway_ms < iat))
        return CRYPTO_JWT_NOT_YET;
    return CRYPTO_JWT_OK;
}

/* No text is a hash in two of these ways: hex has 64 digits, the others 43 and their padding. */
static bool is_hash(const json_t *v, struct span body)
{
    struct span text = { json_string_value(v), json_string_length(v) };
    uint8_t want[CRYPTO_HASH_MAX], got[32];
    size_t n = crypto_hash(CRYPTO_SHA256, body, want);
    ssize_t got_n;

    if (!text.n)
        return false;
    got_n = crypto_from_hex(text, got, sizeof got);
    if (got_n < 0)
        got_n = crypto_from_base64(text, false, true, got, sizeof got);
    if (got_n < 0)
        got_n = crypto_from_base64(text, true, true, got, sizeof got);
    return got_n > 0 && crypto_equal(want, n, got, (size_t)got_n);
}

static enum crypto_jwt check_token(struct token *t, const struct crypto_keyset *set,
                                   const struct crypto_jwt_rules *rules, struct span body,
                                   int64_t now_ms)
{
    enum crypto_jwt outcome = check_signature(t, set, rules->schemes);

    if (outcome != CRYPTO_JWT_OK)
        return outcome;
    t->claims = object_of(span_of(t->payload, t->payload_n));
    if (!t->claims)
        return CRYPTO_JWT_MALFORMED;
    if (!claims_hold(t->claims, rules))
        return CRYPTO_JWT_WRONG_CLAIM;
    outcome = check_times(t->claims, rules, now_ms);
    if (outcome == CRYPTO_JWT_OK && rules->body_hash.n &&
        !is_hash(json_object_getn(t->claims, rules->body_hash.p, rules->body_hash.n), body))
        outcome = CRYPTO_JWT_WRONG_BODY;
    return outcome;
}

enum crypto_jwt crypto_jwt_verify(struct span token, const struct crypto_keyset *set,
                                  const struct crypto_jwt_rules *rules, struct span body,
                                  int64_t now_ms, struct buf *payload)
{
    struct token t = { .header = NULL };
    enum crypto_jwt outcome = CRYPTO_JWT_MALFORMED;

    if (split(token, &t))
        outcome = check_token(&t, set, rules, body, now_ms);
    if (outcome == CRYPTO_JWT_OK && payload)
        buf_add(payload, t.payload, t.payload_n);
    json_decref(t.header);
    json_decref(t.claims);
    return outcome;
}

const char *crypto_jwt_text(enum crypto_jwt outcome)
{
    switch (outcome) {
    case CRYPTO_JWT_OK:
        return "ok";
    case CRYPTO_JWT_MALFORMED:
        return "malformed";
    case CRYPTO_JWT_ALGORITHM:
        return "algorithm not allowed";
    case CRYPTO_JWT_UNKNOWN_KID:
        return "unknown key id";
    case CRYPTO_JWT_BAD_SIGNATURE:
        return "wrong signature";
    case CRYPTO_JWT_EXPIRED:
        return "expired";
    case CRYPTO_JWT_NOT_YET:
        return "not valid yet";
    case CRYPTO_JWT_WRONG_CLAIM:
        return "wrong claim";
    case CRYPTO_JWT_WRONG_BODY:
        return "hash of another body";
    }
    return "?";
}

static void add_signature(const struct crypto_private *k, struct span input, struct buf *out)
{
    struct buf signature = BUF_INIT;
    uint8_t raw[64];
    const uint8_t *p;
    ECDSA_SIG *sig;

    crypto_sign(k, &input, 1, &signature);
    if (k->key.scheme != CRYPTO_ECDSA_P256) {
        add_base64url(out, buf_as_span(&signature));
    } else {
        p = (const uint8_t *)signature.p;
        sig = d2i_ECDSA_SIG(NULL, &p, (long)signature.n);
        if (!sig || BN_bn2binpad(ECDSA_SIG_get0_r(sig), raw, 32) != 32 ||
            BN_bn2binpad(ECDSA_SIG_get0_s(sig), raw + 32, 32) != 32)
            die(EXIT_IO, "OpenSSL's signature cannot be read");
        add_base64url(out, span_of(raw, sizeof raw));
        ECDSA_SIG_free(sig);
    }
    buf_free(&signature);
}

void crypto_jwt_make(const struct crypto_private *k, struct span kid, struct span claims,
                     struct buf *out)
{
    const char *algorithm = jwt_algorithm(k->key.scheme);
    struct buf token = BUF_INIT, header = BUF_INIT;

    assert(algorithm);
    buf_printf(&header, "{\"alg\":\"%s\",\"typ\":\"JWT\"", algorithm);
    if (kid.n) {
        buf_adds(&header, ",\"kid\":");
        buf_json_string(&header, kid);
    }
    buf_addc(&header, '}');
    add_base64url(&token, buf_as_span(&header));
    buf_addc(&token, '.');
    add_base64url(&token, claims);
    buf_span(out, buf_as_span(&token));
    buf_addc(out, '.');
    add_signature(k, buf_as_span(&token), out);
    buf_free(&header);
    buf_free(&token);
}
