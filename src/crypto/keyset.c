/* SPDX-License-Identifier: Apache-2.0 */
/* Key sets: an immutable row of keys, each with the kid it was published under. A provider may add
 * kinds of keys at any time, so what is not understood is skipped (RFC 7517 5); a set from which
 * nothing is left is an error, since it would refuse everything. */
#include "room.h"

#include <jansson.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/param_build.h>
#include <string.h>

#define KEYS_MAX 64
#define KID_MAX 256
#define COORDINATE 32    /* of P-256; RFC 7518 6.2.1.2 wants the leading zeros too */
#define MODULUS_MAX 1024 /* bytes of 8192 bits; a leading zero would be one more */
#define EXPONENT_MAX 8

struct entry {
    struct crypto_public key;
    char *kid; /* NULL: none */
    size_t kid_n;
};

struct crypto_keyset {
    size_t n;
    struct entry entries[];
};

ssize_t from_base64url(struct span text, void *out, size_t cap)
{
    if (text.n && text.p[text.n - 1] == '=')
        return -1;
    return crypto_from_base64(text, true, true, out, cap);
}

void add_base64url(struct buf *out, struct span s)
{
    size_t start = out->n;

    buf_base64(out, s);
    while (out->n > start && out->p[out->n - 1] == '=')
        out->n--;
    for (size_t i = start; i < out->n; i++) {
        if (out->p[i] == '+')
            out->p[i] = '-';
        else if (out->p[i] == '/')
            out->p[i] = '_';
    }
}

static struct span member(const json_t *object, const char *name)
{
    const json_t *v = json_object_get(object, name);

    return json_is_string(v) ? span_of(json_string_value(v), json_string_length(v)) : SPAN_NONE;
}

static ssize_t member_bytes(const json_t *jwk, const char *name, uint8_t *out, size_t cap)
{
    struct span text = member(jwk, name);

    return text.n ? from_base64url(text, out, cap) : -1;
}

static EVP_PKEY *from_data(const char *type, OSSL_PARAM *params)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
    EVP_PKEY *pkey = NULL;

    if (!params || !ctx || EVP_PKEY_fromdata_init(ctx) != 1 ||
        EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_PUBLIC_KEY, params) != 1) {
        EVP_PKEY_free(pkey);
        pkey = NULL;
    }
    EVP_PKEY_CTX_free(ctx);
    return pkey;
}

/* RFC 8037 2 */
static EVP_PKEY *from_okp(const json_t *jwk)
{
    uint8_t x[COORDINATE];

    if (member_bytes(jwk, "x", x, sizeof x) != sizeof x)
        return NULL;
    return public_ed25519(x);
}

/* RFC 7518 6.2; OpenSSL refuses a point that is not on the curve. */
static EVP_PKEY *from_ec(const json_t *jwk)
{
    uint8_t point[1 + 2 * COORDINATE] = { POINT_CONVERSION_UNCOMPRESSED };
    char group[] = "prime256v1";
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, group, 0),
        OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, point, sizeof point),
        OSSL_PARAM_construct_end(),
    };

    if (member_bytes(jwk, "x", point + 1, COORDINATE) != COORDINATE ||
        member_bytes(jwk, "y", point + 1 + COORDINATE, COORDINATE) != COORDINATE)
        return NULL;
    return from_data("EC", params);
}

/* RFC 7518 6.3 */
static EVP_PKEY *from_rsa(const json_t *jwk)
{
    uint8_t n[MODULUS_MAX + 1], e[EXPONENT_MAX];
    ssize_t n_n = member_bytes(jwk, "n", n, sizeof n), e_n = member_bytes(jwk, "e", e, sizeof e);
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    BIGNUM *modulus = NULL, *exponent = NULL;
    OSSL_PARAM *params = NULL;
    EVP_PKEY *pkey = NULL;

    if (build && n_n > 0 && e_n > 0) {
        modulus = BN_bin2bn(n, (int)n_n, NULL);
        exponent = BN_bin2bn(e, (int)e_n, NULL);
    }
    if (modulus && exponent && OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_N, modulus) == 1 &&
        OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_E, exponent) == 1)
        params = OSSL_PARAM_BLD_to_param(build);
    if (params)
        pkey = from_data("RSA", params);
    OSSL_PARAM_free(params);
    OSSL_PARAM_BLD_free(build);
    BN_free(modulus);
    BN_free(exponent);
    return pkey;
}

static const struct kind {
    const char *kty, *crv;
    enum crypto_scheme scheme;
    EVP_PKEY *(*key)(const json_t *jwk);
} kinds[] = {
    { "OKP", "Ed25519", CRYPTO_ED25519, from_okp },
    { "EC", "P-256", CRYPTO_ECDSA_P256, from_ec },
    { "RSA", NULL, CRYPTO_RSA_SHA256, from_rsa },
};

static const struct kind *kind_of(const json_t *jwk)
{
    struct span kty = member(jwk, "kty"), crv = member(jwk, "crv");

    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if (span_eq(kty, span_str(kinds[i].kty)) &&
            (!kinds[i].crv || span_eq(crv, span_str(kinds[i].crv))))
            return &kinds[i];
    }
    return NULL;
}

/* use, key_ops and alg may be missing; what is there must allow checking signatures of the scheme
 * (RFC 7517 4.2 to 4.4). */
static bool may_verify(const json_t *jwk, enum crypto_scheme scheme)
{
    const json_t *use = json_object_get(jwk, "use"), *ops = json_object_get(jwk, "key_ops"),
                 *alg = json_object_get(jwk, "alg");
    enum crypto_scheme named;
    bool verify = !ops;

    if (use && !span_eq(member(jwk, "use"), S("sig")))
        return false;
    for (size_t i = 0; i < json_array_size(ops); i++) {
        const char *op = json_string_value(json_array_get(ops, i));
        verify = verify || (op && strcmp(op, "verify") == 0);
    }
    if (!verify)
        return false;
    return !alg ||
           (json_is_string(alg) && jwt_scheme(json_string_value(alg), &named) && named == scheme);
}

static bool read_entry(const json_t *jwk, struct entry *out)
{
    const struct kind *kind = json_is_object(jwk) ? kind_of(jwk) : NULL;
    const json_t *kid = json_object_get(jwk, "kid");
    struct err ignored = ERR_INIT;
    EVP_PKEY *pkey;

    if (!kind || !may_verify(jwk, kind->scheme) ||
        (kid && (!json_is_string(kid) || json_string_length(kid) > KID_MAX)))
        return false;
    pkey = kind->key(jwk);
    if (!pkey || public_check(pkey, kind->scheme, &ignored)) {
        ERR_clear_error();
        EVP_PKEY_free(pkey);
        return false;
    }
    out->key = (struct crypto_public){ kind->scheme, pkey };
    if (kid) {
        out->kid_n = json_string_length(kid);
        out->kid = span_dup(member(jwk, "kid"));
    }
    return true;
}

static struct crypto_keyset *allocate(size_t n)
{
    return xcalloc(1, sizeof(struct crypto_keyset) + n * sizeof(struct entry));
}

static struct crypto_keyset *read_keys(const json_t *keys, struct err *e)
{
    struct crypto_keyset *set = allocate(KEYS_MAX);
    struct entry entry = { 0 };

    for (size_t i = 0; i < json_array_size(keys); i++) {
        if (!read_entry(json_array_get(keys, i), &entry))
            continue;
        if (set->n == KEYS_MAX) {
            err_set(e, EXIT_BAD_CONFIG, "a JWK set with more than %d keys", KEYS_MAX);
            EVP_PKEY_free(entry.key.pkey);
            free(entry.kid);
            crypto_keyset_free(set);
            return NULL;
        }
        set->entries[set->n++] = entry;
        entry = (struct entry){ 0 };
    }
    if (set->n)
        return set;
    err_set(e, EXIT_BAD_CONFIG, "no usable key in the JWK set");
    crypto_keyset_free(set);
    return NULL;
}

struct crypto_keyset *crypto_keyset_new(struct span document, struct err *e)
{
    struct crypto_keyset *set = NULL;
    json_error_t why;
    json_t *root, *keys;

    if (!document.n || document.n > CRYPTO_JWKS_MAX) {
        err_set(e, EXIT_BAD_CONFIG, "a JWK set of %zu bytes; from 1 to %d are accepted", document.n,
                CRYPTO_JWKS_MAX);
        return NULL;
    }
    root = json_loadb(document.p, document.n, JSON_REJECT_DUPLICATES, &why);
    keys = json_object_get(root, "keys");
    if (!root)
        err_set(e, EXIT_BAD_CONFIG, "JWK set: line %d: %s", why.line, why.text);
    else if (!json_is_array(keys))
        err_set(e, EXIT_BAD_CONFIG, "not a JWK set: no list `keys`");
    else
        set = read_keys(keys, e);
    json_decref(root);
    return set;
}

struct crypto_keyset *crypto_keyset_of(const struct crypto_public *const *keys,
                                       const struct span *kids, size_t n)
{
    struct crypto_keyset *set = allocate(n);

    for (; set->n < n; set->n++) {
        struct entry *to = &set->entries[set->n];
        to->key = *keys[set->n];
        EVP_PKEY_up_ref(to->key.pkey);
        if (kids && kids[set->n].p) {
            to->kid_n = kids[set->n].n;
            to->kid = span_dup(kids[set->n]);
        }
    }
    return set;
}

void crypto_keyset_free(struct crypto_keyset *set)
{
    if (!set)
        return;
    for (size_t i = 0; i < set->n; i++) {
        EVP_PKEY_free(set->entries[i].key.pkey);
        free(set->entries[i].kid);
    }
    free(set);
}

static bool is_meant(const struct entry *entry, enum crypto_scheme scheme, struct span kid)
{
    if (entry->key.scheme != scheme)
        return false;
    return !kid.p || (entry->kid && span_eq(kid, span_of(entry->kid, entry->kid_n)));
}

size_t crypto_keyset_count(const struct crypto_keyset *set, enum crypto_scheme scheme,
                           struct span kid)
{
    size_t count = 0;

    for (size_t i = 0; i < set->n; i++)
        count += is_meant(&set->entries[i], scheme, kid);
    return count;
}

int crypto_keyset_verify(const struct crypto_keyset *set, enum crypto_scheme scheme,
                         struct span kid, const struct span *parts, size_t n, struct span signature)
{
    struct message m;
    int found = -1;

    message_init(&m, scheme, parts, n);
    for (size_t i = 0; i < set->n && found < 0; i++) {
        if (is_meant(&set->entries[i], scheme, kid) &&
            message_verify(&m, &set->entries[i].key, signature))
            found = (int)i;
    }
    message_close(&m);
    return found;
}

struct span crypto_keyset_kid(const struct crypto_keyset *set, size_t index)
{
    const struct entry *entry = &set->entries[index];

    return entry->kid ? span_of(entry->kid, entry->kid_n) : SPAN_NONE;
}

static void print_member(struct buf *out, const char *name, struct span bytes)
{
    buf_printf(out, ",\"%s\":\"", name);
    add_base64url(out, bytes);
    buf_addc(out, '"');
}

static void print_number(struct buf *out, const char *name, const EVP_PKEY *pkey,
                         const char *parameter)
{
    uint8_t bytes[MODULUS_MAX];
    BIGNUM *v = NULL;

    if (EVP_PKEY_get_bn_param(pkey, parameter, &v) != 1 || BN_num_bytes(v) > MODULUS_MAX)
        die(EXIT_IO, "OpenSSL gives no numbers of an RSA key");
    print_member(out, name, span_of(bytes, (size_t)BN_bn2bin(v, bytes)));
    BN_free(v);
}

static void print_entry(const struct entry *entry, struct buf *out)
{
    uint8_t point[2 * COORDINATE];

    switch (entry->key.scheme) {
    case CRYPTO_ED25519:
        public_point(&entry->key, point, COORDINATE);
        buf_adds(out, "{\"kty\":\"OKP\",\"crv\":\"Ed25519\"");
        print_member(out, "x", span_of(point, COORDINATE));
        break;
    case CRYPTO_ECDSA_P256:
        public_point(&entry->key, point, sizeof point);
        buf_adds(out, "{\"kty\":\"EC\",\"crv\":\"P-256\"");
        print_member(out, "x", span_of(point, COORDINATE));
        print_member(out, "y", span_of(point + COORDINATE, COORDINATE));
        break;
    case CRYPTO_RSA_SHA256:
    case CRYPTO_RSA_SHA1:
        buf_adds(out, "{\"kty\":\"RSA\"");
        print_number(out, "n", entry->key.pkey, OSSL_PKEY_PARAM_RSA_N);
        print_number(out, "e", entry->key.pkey, OSSL_PKEY_PARAM_RSA_E);
        break;
    }
    if (jwt_algorithm(entry->key.scheme))
        buf_printf(out, ",\"alg\":\"%s\"", jwt_algorithm(entry->key.scheme));
    buf_adds(out, ",\"use\":\"sig\"");
    if (entry->kid) {
        buf_adds(out, ",\"kid\":");
        buf_json_string(out, span_of(entry->kid, entry->kid_n));
    }
    buf_addc(out, '}');
}

void crypto_keyset_print(const struct crypto_keyset *set, struct buf *out)
{
    buf_adds(out, "{\"keys\":[");
    for (size_t i = 0; i < set->n; i++) {
        if (i)
            buf_addc(out, ',');
        print_entry(&set->entries[i], out);
    }
    buf_adds(out, "]}");
}
