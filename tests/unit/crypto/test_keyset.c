/* SPDX-License-Identifier: Apache-2.0 */
/* JWK sets: which entries count, which documents are refused, which keys are tried. */
#include "keys.h"

#include <stdio.h>

#define SET(keys) "{\"keys\":[" keys "]}"
#define ED JWK_ED25519("")
#define EC JWK_P256("")
#define RSA_KEY JWK_RSA("")
#define ZEROS "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
#define RSA_WITH(n, e) "{\"kty\":\"RSA\",\"n\":\"" n "\",\"e\":\"" e "\"}"

/* How many keys of each scheme are taken; none at all: the document is refused. */
static const struct row {
    const char *name, *document;
    size_t ed25519, p256, rsa;
} rows[] = {
    { "Ed25519, RFC 8037 A.2", SET(ED), 1, 0, 0 },
    { "P-256, RFC 7515 A.3", SET(EC), 0, 1, 0 },
    { "RSA, RFC 7515 A.2", SET(RSA_KEY), 0, 0, 1 },
    { "one of each", SET(ED "," EC "," RSA_KEY), 1, 1, 1 },
    { "other members of the set", "{\"x\":1,\"keys\":[" ED "]}", 1, 0, 0 },
    { "the private half is not looked at", SET(JWK_ED25519(",\"d\":\"AAAA\"")), 1, 0, 0 },
    { "use sig, alg EdDSA, key_ops verify",
      SET(JWK_ED25519(",\"use\":\"sig\",\"alg\":\"EdDSA\",\"key_ops\":[\"sign\",\"verify\"]")), 1,
      0, 0 },
    { "alg Ed25519", SET(JWK_ED25519(",\"alg\":\"Ed25519\"")), 1, 0, 0 },
    { "alg ES256", SET(JWK_P256(",\"alg\":\"ES256\"")), 0, 1, 0 },
    { "alg RS256", SET(JWK_RSA(",\"alg\":\"RS256\"")), 0, 0, 1 },
    { "an unusable one beside", SET("{\"kty\":\"oct\",\"k\":\"AAAA\"}," ED), 1, 0, 0 },
    { "no object beside", SET("1,null,[],\"x\"," ED), 1, 0, 0 },
    /* skipped */
    { "use enc", SET(JWK_ED25519(",\"use\":\"enc\"")), 0, 0, 0 },
    { "use no string", SET(JWK_ED25519(",\"use\":[\"sig\"]")), 0, 0, 0 },
    { "key_ops without verify", SET(JWK_ED25519(",\"key_ops\":[\"sign\"]")), 0, 0, 0 },
    { "key_ops empty", SET(JWK_ED25519(",\"key_ops\":[]")), 0, 0, 0 },
    { "key_ops no list", SET(JWK_ED25519(",\"key_ops\":\"verify\"")), 0, 0, 0 },
    { "alg of another kind", SET(JWK_ED25519(",\"alg\":\"RS256\"")), 0, 0, 0 },
    { "alg PS256", SET(JWK_RSA(",\"alg\":\"PS256\"")), 0, 0, 0 },
    { "alg RS512", SET(JWK_RSA(",\"alg\":\"RS512\"")), 0, 0, 0 },
    { "alg HS256", SET(JWK_RSA(",\"alg\":\"HS256\"")), 0, 0, 0 },
    { "alg none", SET(JWK_RSA(",\"alg\":\"none\"")), 0, 0, 0 },
    { "alg no string", SET(JWK_RSA(",\"alg\":1")), 0, 0, 0 },
    { "kid no string", SET(JWK_RSA(",\"kid\":1")), 0, 0, 0 },
    { "kty missing", SET("{\"crv\":\"Ed25519\",\"x\":\"" RFC_ED25519_X "\"}"), 0, 0, 0 },
    { "kty oct", SET("{\"kty\":\"oct\",\"k\":\"" RFC_ED25519_X "\"}"), 0, 0, 0 },
    { "kty in another case",
      SET("{\"kty\":\"okp\",\"crv\":\"Ed25519\",\"x\":\"" RFC_ED25519_X "\"}"), 0, 0, 0 },
    { "crv X25519", SET("{\"kty\":\"OKP\",\"crv\":\"X25519\",\"x\":\"" RFC_ED25519_X "\"}"), 0, 0,
      0 },
    { "crv Ed448", SET("{\"kty\":\"OKP\",\"crv\":\"Ed448\",\"x\":\"" RFC_ED25519_X "\"}"), 0, 0,
      0 },
    { "crv missing", SET("{\"kty\":\"OKP\",\"x\":\"" RFC_ED25519_X "\"}"), 0, 0, 0 },
    { "x missing", SET("{\"kty\":\"OKP\",\"crv\":\"Ed25519\"}"), 0, 0, 0 },
    { "x empty", SET("{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"\"}"), 0, 0, 0 },
    { "x no string", SET("{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":1}"), 0, 0, 0 },
    { "x too short", SET("{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"11qYAYKxCrfVS_7TyWQHOg\"}"),
      0, 0, 0 },
    { "x padded", SET("{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"" RFC_ED25519_X "=\"}"), 0, 0,
      0 },
    { "x in plain base64",
      SET("{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"11qYAYKxCrfVS/"
          "7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}"),
      0, 0, 0 },
    { "x all zeros", SET("{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"" ZEROS "\"}"), 0, 0, 0 },
    { "crv P-384",
      SET("{\"kty\":\"EC\",\"crv\":\"P-384\",\"x\":\"" RFC_P256_X "\",\"y\":\"" RFC_P256_Y "\"}"),
      0, 0, 0 },
    { "crv secp256k1",
      SET("{\"kty\":\"EC\",\"crv\":\"secp256k1\",\"x\":\"" RFC_P256_X "\",\"y\":\"" RFC_P256_Y
          "\"}"),
      0, 0, 0 },
    { "a point off the curve",
      SET("{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"" RFC_P256_Y "\",\"y\":\"" RFC_P256_X "\"}"),
      0, 0, 0 },
    { "the point 0, 0",
      SET("{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"" ZEROS "\",\"y\":\"" ZEROS "\"}"), 0, 0, 0 },
    { "y missing", SET("{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"" RFC_P256_X "\"}"), 0, 0, 0 },
    { "e = 1", SET(RSA_WITH(RFC_RSA_N, "AQ")), 0, 0, 0 },
    { "e = 0", SET(RSA_WITH(RFC_RSA_N, "AA")), 0, 0, 0 },
    { "e even", SET(RSA_WITH(RFC_RSA_N, "AQAA")), 0, 0, 0 },
    { "e too long", SET(RSA_WITH(RFC_RSA_N, "AQAAAAAAAAAAAQ")), 0, 0, 0 },
    { "e padded", SET(RSA_WITH(RFC_RSA_N, "AQAB====")), 0, 0, 0 },
    { "a small modulus", SET(RSA_WITH(RFC_ED25519_X, "AQAB")), 0, 0, 0 },
    /* refused as a whole */
    { "an empty set", SET(""), 0, 0, 0 },
    { "no keys", "{}", 0, 0, 0 },
    { "keys no list", "{\"keys\":" ED "}", 0, 0, 0 },
    { "a single key", ED, 0, 0, 0 },
    { "a list", "[" ED "]", 0, 0, 0 },
    { "no document", "", 0, 0, 0 },
    { "no JSON", "<html>", 0, 0, 0 },
    { "cut", "{\"keys\":[" ED "]", 0, 0, 0 },
    { "text behind", SET(ED) "x", 0, 0, 0 },
    { "keys twice", "{\"keys\":[" ED "],\"keys\":[" ED "]}", 0, 0, 0 },
    { "a member of a key twice", SET(EC "," JWK_ED25519(",\"kty\":\"OKP\"")), 0, 0, 0 },
    { "a member twice, once escaped", SET(EC "," JWK_ED25519(",\"\\u006bty\":\"OKP\"")), 0, 0, 0 },
};

static void document(void **state)
{
    const struct row *r = *state;
    struct err e = ERR_INIT;
    struct crypto_keyset *set = crypto_keyset_new(span_str(r->document), &e);

    if (!(r->ed25519 + r->p256 + r->rsa)) {
        assert_null(set);
        assert_true(strlen(e.text) > 0);
        return;
    }
    if (!set)
        fail_msg("%s", e.text);
    assert_int_equal(crypto_keyset_count(set, CRYPTO_ED25519, SPAN_NONE), r->ed25519);
    assert_int_equal(crypto_keyset_count(set, CRYPTO_ECDSA_P256, SPAN_NONE), r->p256);
    assert_int_equal(crypto_keyset_count(set, CRYPTO_RSA_SHA256, SPAN_NONE), r->rsa);
    assert_int_equal(crypto_keyset_count(set, CRYPTO_RSA_SHA1, SPAN_NONE), 0);
    crypto_keyset_free(set);
}

static struct crypto_keyset *set_of_keys(size_t n)
{
    struct buf b = BUF_INIT;
    struct err e = ERR_INIT;
    struct crypto_keyset *set;

    buf_adds(&b, "{\"keys\":[");
    for (size_t i = 0; i < n; i++)
        buf_printf(&b, "%s" JWK_ED25519(",\"kid\":\"%zu\""), i ? "," : "", i);
    buf_adds(&b, "]}");
    set = crypto_keyset_new(buf_as_span(&b), &e);
    buf_free(&b);
    return set;
}

static void at_most_64_keys(void **state UNUSED)
{
    struct crypto_keyset *set = set_of_keys(64);

    assert_non_null(set);
    assert_int_equal(crypto_keyset_count(set, CRYPTO_ED25519, SPAN_NONE), 64);
    assert_int_equal(crypto_keyset_count(set, CRYPTO_ED25519, S("63")), 1);
    crypto_keyset_free(set);
    assert_null(set_of_keys(65));
}

static void a_bounded_document(void **state UNUSED)
{
    struct err e = ERR_INIT;
    struct buf b = BUF_INIT;
    struct crypto_keyset *set;

    buf_adds(&b, SET(ED));
    while (b.n < CRYPTO_JWKS_MAX)
        buf_addc(&b, ' ');
    set = crypto_keyset_new(buf_as_span(&b), &e);
    assert_non_null(set);
    crypto_keyset_free(set);
    buf_addc(&b, ' ');
    assert_null(crypto_keyset_new(buf_as_span(&b), &e));
    b.n = 0;
    for (int i = 0; i < 100000; i++)
        buf_addc(&b, '[');
    assert_null(crypto_keyset_new(buf_as_span(&b), &e));
    buf_free(&b);
}

static void a_long_kid_is_skipped(void **state UNUSED)
{
    char text[1024];
    struct err e = ERR_INIT;
    struct crypto_keyset *set;

    snprintf(text, sizeof text, SET(JWK_ED25519(",\"kid\":\"%0256d\"")), 0);
    set = crypto_keyset_new(span_str(text), &e);
    assert_non_null(set);
    assert_int_equal(crypto_keyset_kid(set, 0).n, 256);
    crypto_keyset_free(set);
    snprintf(text, sizeof text, SET(JWK_ED25519(",\"kid\":\"%0257d\"")), 0);
    assert_null(crypto_keyset_new(span_str(text), &e));
}

#define MESSAGE S("message")

/* Three pairs of Ed25519 and one of RSA, in a set. */
struct box {
    struct crypto_private *pair[3];
    struct crypto_keyset *set;
    struct buf signature[3], rsa;
};

static void box_open(struct box *b, const struct span *kids)
{
    const struct crypto_public *keys[4];
    struct span message = MESSAGE;

    memset(b, 0, sizeof *b);
    for (size_t i = 0; i < 3; i++) {
        b->pair[i] = crypto_private_generate(CRYPTO_ED25519);
        keys[i] = crypto_private_public(b->pair[i]);
        crypto_sign(b->pair[i], &message, 1, &b->signature[i]);
    }
    keys[3] = crypto_private_public(pair_of(CRYPTO_RSA_SHA256));
    crypto_sign(pair_of(CRYPTO_RSA_SHA256), &message, 1, &b->rsa);
    b->set = crypto_keyset_of(keys, kids, 4);
}

static void box_close(struct box *b)
{
    crypto_keyset_free(b->set);
    for (size_t i = 0; i < 3; i++) {
        crypto_private_free(b->pair[i]);
        buf_free(&b->signature[i]);
    }
    buf_free(&b->rsa);
}

static int found(const struct crypto_keyset *set, enum crypto_scheme scheme, struct span kid,
                 const struct buf *signature)
{
    struct span parts[] = { S("mess"), S("age") };

    return crypto_keyset_verify(set, scheme, kid, parts, 2, buf_as_span(signature));
}

/* Two keys share a kid: both are tried, and no other. */
static const struct span shared_kids[] = { S("a"), S("b"), S("b"), S("b") };

static void check_kids(const struct box *b, const struct crypto_keyset *set)
{
    for (int i = 0; i < 3; i++) {
        assert_int_equal(found(set, CRYPTO_ED25519, SPAN_NONE, &b->signature[i]), i);
        assert_int_equal(found(set, CRYPTO_ED25519, S("a"), &b->signature[i]), i ? -1 : 0);
        assert_int_equal(found(set, CRYPTO_ED25519, S("b"), &b->signature[i]), i ? i : -1);
        assert_int_equal(found(set, CRYPTO_ED25519, S("c"), &b->signature[i]), -1);
        assert_int_equal(found(set, CRYPTO_ED25519, S(""), &b->signature[i]), -1);
        assert_int_equal(found(set, CRYPTO_RSA_SHA256, SPAN_NONE, &b->signature[i]), -1);
    }
    assert_int_equal(found(set, CRYPTO_RSA_SHA256, SPAN_NONE, &b->rsa), 3);
    assert_int_equal(found(set, CRYPTO_RSA_SHA256, S("b"), &b->rsa), 3);
    assert_int_equal(found(set, CRYPTO_RSA_SHA256, S("a"), &b->rsa), -1);
    assert_int_equal(found(set, CRYPTO_RSA_SHA1, SPAN_NONE, &b->rsa), -1);
    assert_int_equal(found(set, CRYPTO_ED25519, SPAN_NONE, &b->rsa), -1);
    assert_int_equal(found(set, CRYPTO_ECDSA_P256, SPAN_NONE, &b->rsa), -1);
    assert_int_equal(crypto_keyset_count(set, CRYPTO_ED25519, S("b")), 2);
    assert_int_equal(crypto_keyset_count(set, CRYPTO_RSA_SHA256, S("b")), 1);
    assert_int_equal(crypto_keyset_count(set, CRYPTO_ED25519, S("c")), 0);
}

/* A set that is printed and read again has the same keys in the same order. */
static void keys_by_kid(void **state UNUSED)
{
    struct box b;
    struct buf text = BUF_INIT;
    struct err e = ERR_INIT;
    struct crypto_keyset *again;

    box_open(&b, shared_kids);
    check_kids(&b, b.set);
    crypto_keyset_print(b.set, &text);
    again = crypto_keyset_new(buf_as_span(&text), &e);
    assert_non_null(again);
    check_kids(&b, again);
    crypto_keyset_free(again);
    buf_free(&text);
    box_close(&b);
}

static void keys_without_kid(void **state UNUSED)
{
    struct box b;

    box_open(&b, NULL);
    assert_int_equal(found(b.set, CRYPTO_ED25519, SPAN_NONE, &b.signature[2]), 2);
    assert_int_equal(found(b.set, CRYPTO_ED25519, S(""), &b.signature[2]), -1);
    assert_null(crypto_keyset_kid(b.set, 2).p);
    box_close(&b);
}

/* The set keeps its keys when those it was made of are gone; an empty set finds nothing. */
static void a_set_of_its_own(void **state UNUSED)
{
    struct crypto_private *pair = crypto_private_generate(CRYPTO_ED25519);
    const struct crypto_public *key = crypto_private_public(pair);
    struct crypto_keyset *set = crypto_keyset_of(&key, NULL, 1),
                         *empty = crypto_keyset_of(NULL, NULL, 0);
    struct span message = MESSAGE;
    struct buf s = BUF_INIT;

    crypto_sign(pair, &message, 1, &s);
    crypto_private_free(pair);
    assert_int_equal(found(set, CRYPTO_ED25519, SPAN_NONE, &s), 0);
    assert_int_equal(found(empty, CRYPTO_ED25519, SPAN_NONE, &s), -1);
    crypto_keyset_free(set);
    crypto_keyset_free(empty);
    buf_free(&s);
}

/* What the RFCs print is what is printed, and the kid is escaped. */
static void a_printed_set(void **state UNUSED)
{
    struct err e = ERR_INIT;
    struct crypto_keyset *set =
        crypto_keyset_new(S(SET(JWK_ED25519(",\"kid\":\"a\\\"b\"") "," EC "," RSA_KEY)), &e);
    struct buf b = BUF_INIT;

    assert_non_null(set);
    crypto_keyset_print(set, &b);
    assert_string_equal(
        buf_cstr(&b),
        SET(JWK_ED25519(",\"alg\":\"EdDSA\",\"use\":\"sig\",\"kid\":\"a\\\"b\"") "," JWK_P256(
            ",\"alg\":\"ES256\",\"use\":\"sig\"") "," JWK_RSA(",\"alg\":\"RS256\",\"use\":"
                                                              "\"sig\"")));
    assert_true(span_eq(crypto_keyset_kid(set, 0), S("a\"b")));
    assert_null(crypto_keyset_kid(set, 1).p);
    buf_free(&b);
    crypto_keyset_free(set);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(at_most_64_keys),       cmocka_unit_test(a_bounded_document),
        cmocka_unit_test(a_long_kid_is_skipped), cmocka_unit_test(keys_by_kid),
        cmocka_unit_test(keys_without_kid),      cmocka_unit_test(a_set_of_its_own),
        cmocka_unit_test(a_printed_set),
    };

    return T_TABLE(rows, document) + T_RUN(tests);
}
