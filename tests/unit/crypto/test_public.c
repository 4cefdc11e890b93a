/* SPDX-License-Identifier: Apache-2.0 */
/* Public keys: published vectors, every form in which a provider prints one, every key that must be
 * refused, and for each scheme every signature that must not pass. */
#include "keys.h"

#include <openssl/bn.h>
#include <openssl/pem.h>
#include <pthread.h>
#include <stdio.h>

#define STD_KEY "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="
#define STD_HEX "d52880e28f61caa4c2a48a82e55f4751a92289a78009ea9f6532270c16ce8abe"
#define STD_SECRET                                                                                 \
    "whsk_6Xb/dCcHpPea21PS1N9VY/"                                                                  \
    "NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
#define STD_SIGNATURE                                                                              \
    "8673b77fd4fc62dbbd1f0ad7b25bee9a5529aad355aa486ac3f7a71b33c25dee4176acc22275ea61717299525a03" \
    "b0197695f054b3e8de6365f0433e9bb4c102"
#define GEMINI_BODY                                                                                \
    "{\"type\":\"interaction.completed\",\"version\":\"v1\",\"timestamp\":\"2026-01-22T12:00:"     \
    "00Z\""                                                                                        \
    ",\"data\":{\"id\":\"int_1\"}}"

static const struct vector {
    const char *name, *key;
    struct span parts[4];
    const char *signature;
} vectors[] = {
    { "RFC 8032 7.1, 1, no byte",
      RFC_ED25519_HEX,
      { S("") },
      "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9"
      "b46bd25bf5f0595bbe24655141438e7a100b" },
    { "RFC 8032 7.1, 2, one byte",
      "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
      { S("\x72") },
      "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f1"
      "1d8c387b2eaeb4302aeeb00d291612bb0c00" },
    { "RFC 8032 7.1, 3, two bytes",
      "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
      { S("\xaf"), S("\x82") },
      "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984d"
      "c6594a7c15e9716ed28dc027beceea1ec40a" },
    { "Standard Webhooks v1a",
      STD_KEY,
      { S("msg_p5jXN8AQM9LWM0D4loKWxJek"), S(".1614265330."), S("{\"test\": 2432232314}") },
      STD_SIGNATURE },
    { "a dynamic webhook of Gemini",
      "1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4",
      { S("msg_00000000-0000-4000-8000-000000000001"), S(".1767225600."), S(GEMINI_BODY) },
      "4ac3c26e49407ebef7c51908d75646e9e50e0cd2ae87171925d582f3c8cbe558c8747197e8f6abb6bd4fc8b36aeb"
      "4be37f651362498c21e4cbeb834004bb510d" },
    { "fal",
      STD_KEY,
      { S("req_1\nuser_1\n1614265330\n"),
        S("5970939ce89cc634b47801412a4445a44ba1bd4d6dbf5c86f738c514d6598e3c") },
      "1e87b2c12497d277ee23a6c292df9e13c84abaee9f9448df6eda4ffd8066e24b87b80e1229c36993a7c9e69c62dc"
      "afca656b3f31c62e17b2fc3b891601a1d803" },
    { "Discord",
      STD_HEX,
      { S("1614265330"), S("{\"version\":1,\"type\":0}") },
      "396c9cc0a5bd91819b0a432ae80c13f24084f9c8af3b53faf61b28b298998d314aae80020ab1383e7e10c4b9cde1"
      "b6a28140525c3427a28f79b18ed1ba08910d" },
};

static struct crypto_public *key_of(enum crypto_scheme scheme, const char *text)
{
    struct err e = ERR_INIT;
    struct crypto_public *k = crypto_public_new(scheme, span_str(text), &e);

    if (!k)
        fail_msg("%s", e.text);
    return k;
}

static void vector(void **state)
{
    const struct vector *r = *state;
    struct crypto_public *k = key_of(CRYPTO_ED25519, r->key);
    struct span parts[4];
    uint8_t signature[64];
    struct buf whole = BUF_INIT;
    struct span joined;

    assert_int_equal(crypto_from_hex(span_str(r->signature), signature, 64), 64);
    assert_true(crypto_verify(k, r->parts, ARRAY_LEN(r->parts), span_of(signature, 64)));
    memcpy(parts, r->parts, sizeof parts);
    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        buf_span(&whole, parts[i]);
    joined = buf_as_span(&whole);
    assert_true(crypto_verify(k, &joined, 1, span_of(signature, 64)));
    parts[3] = S("x");
    assert_false(crypto_verify(k, parts, ARRAY_LEN(parts), span_of(signature, 64)));
    signature[40] ^= 1;
    assert_false(crypto_verify(k, r->parts, ARRAY_LEN(r->parts), span_of(signature, 64)));
    buf_free(&whole);
    crypto_public_free(k);
}

#define SPKI_STD "MCowBQYDK2VwAyEA1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="
#define PEM(body) "-----BEGIN PUBLIC KEY-----\n" body "\n-----END PUBLIC KEY-----"

/* All that is accepted is the key of the Standard Webhooks vector. */
static const struct text_row {
    const char *name, *text;
    bool ok;
} texts[] = {
    { "whpk_", STD_KEY, true },
    { "whpk_ without padding", "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4", true },
    { "hex", STD_HEX, true },
    { "hex, upper case", "D52880E28F61CAA4C2A48A82E55F4751A92289A78009EA9F6532270C16CE8ABE", true },
    { "base64", "1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=", true },
    { "SubjectPublicKeyInfo in base64", SPKI_STD, true },
    { "PEM", PEM(SPKI_STD), true },
    { "PEM, the line's end behind it", PEM(SPKI_STD) "\n", true },
    { "PEM, lines of Windows",
      "-----BEGIN PUBLIC KEY-----\r\n" SPKI_STD "\r\n-----END PUBLIC KEY-----\r\n", true },
    { "blanks around", " \n" STD_HEX "\t\n", true },
    { "empty", "", false },
    { "blanks alone", " \n ", false },
    { "whpk_ alone", "whpk_", false },
    { "the secret half", STD_SECRET, false },
    { "hex, one digit short", "d52880e28f61caa4c2a48a82e55f4751a92289a78009ea9f6532270c16ce8ab",
      false },
    { "hex, one byte more", STD_HEX "00", false },
    { "hex, a letter that is none",
      "g52880e28f61caa4c2a48a82e55f4751a92289a78009ea9f6532270c16ce8abe", false },
    { "base64 of 31 bytes", "1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOig==", false },
    { "base64 of 33 bytes", "1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4A", false },
    { "base64, the tail not canonical", "1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir5=", false },
    { "a blank inside", "1SiA4o9hyqTCpIqC5V9HU akiiaeACeqfZTInDBbOir4=", false },
    { "a NUL's escape", "1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=%00", false },
    { "PEM without an end", "-----BEGIN PUBLIC KEY-----\n" SPKI_STD "\n", false },
    { "PEM of nothing", PEM(""), false },
    { "PEM with an end alone", "-----END PUBLIC KEY-----", false },
    { "PEM with text behind", PEM(SPKI_STD) "\nx", false },
    { "PEM with text before", "x\n" PEM(SPKI_STD), false },
    { "PEM twice", PEM(SPKI_STD) "\n" PEM(SPKI_STD), false },
    { "PEM of another name", "-----BEGIN PRIVATE KEY-----\n" SPKI_STD "\n-----END PRIVATE KEY-----",
      false },
    { "all zeros", "0000000000000000000000000000000000000000000000000000000000000000", false },
    { "the neutral point", "0100000000000000000000000000000000000000000000000000000000000000",
      false },
    { "the neutral point, sign set",
      "0100000000000000000000000000000000000000000000000000000000000080", false },
    { "a point of order 8", "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
      false },
    { "a point of order 8, negative",
      "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85", false },
    { "the point of order 2", "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
      false },
    { "zero written as p", "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
      false },
};

static void text(void **state)
{
    const struct text_row *r = *state;
    struct err e = ERR_INIT;
    struct crypto_public *k = crypto_public_new(CRYPTO_ED25519, span_str(r->text), &e);
    struct buf hex = BUF_INIT;

    assert_int_equal(k != NULL, r->ok);
    if (k) {
        crypto_public_print(k, CRYPTO_HEX, &hex);
        assert_string_equal(buf_cstr(&hex), STD_HEX);
    } else {
        assert_true(strlen(e.text) > 0);
    }
    buf_free(&hex);
    crypto_public_free(k);
}

/* Why points of small order are refused: to OpenSSL R = neutral, S = 0 is right under the neutral
 * point whatever was signed. */
static void openssl_takes_the_neutral_point(void **state UNUSED)
{
    uint8_t neutral[32] = { 1 }, signature[64] = { 1 };
    EVP_PKEY *pkey = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, neutral, 32);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();

    assert_int_equal(EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, pkey), 1);
    assert_int_equal(EVP_DigestVerify(ctx, signature, 64, (const uint8_t *)"anything", 8), 1);
    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(pkey);
}

static EVP_PKEY *explicit_p256(void)
{
    EVP_PKEY *pkey = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");

    assert_int_equal(EVP_PKEY_set_utf8_string_param(pkey, OSSL_PKEY_PARAM_EC_ENCODING, "explicit"),
                     1);
    return pkey;
}

/* Made once, for it takes long. */
static EVP_PKEY *rsa_2048(void)
{
    static EVP_PKEY *pkey;

    if (!pkey)
        pkey = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2048);
    assert_int_equal(EVP_PKEY_up_ref(pkey), 1);
    return pkey;
}

/* An RSA key of 2048 bits whose exponent is e. */
static EVP_PKEY *rsa_exponent(uint64_t e)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
    EVP_PKEY *pkey = NULL, *other = rsa_2048();
    BIGNUM *modulus = NULL;
    uint8_t n[256];
    OSSL_PARAM params[] = { OSSL_PARAM_construct_BN(OSSL_PKEY_PARAM_RSA_N, n, sizeof n),
                            OSSL_PARAM_construct_uint64(OSSL_PKEY_PARAM_RSA_E, &e),
                            OSSL_PARAM_construct_end() };

    assert_int_equal(EVP_PKEY_get_bn_param(other, OSSL_PKEY_PARAM_RSA_N, &modulus), 1);
    assert_int_equal(BN_bn2nativepad(modulus, n, sizeof n), sizeof n);
    assert_int_equal(EVP_PKEY_fromdata_init(ctx), 1);
    assert_int_equal(EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_PUBLIC_KEY, params), 1);
    BN_free(modulus);
    EVP_PKEY_free(other);
    EVP_PKEY_CTX_free(ctx);
    return pkey;
}

static void made(enum crypto_scheme scheme, char *spki, bool want)
{
    struct err e = ERR_INIT;
    struct crypto_public *k = crypto_public_new(scheme, span_str(spki), &e);

    if (!!k != want)
        fail_msg("scheme %d: %s %s", scheme, spki, e.text);
    crypto_public_free(k);
    free(spki);
}

#define KEYGEN(...) EVP_PKEY_Q_keygen(NULL, NULL, __VA_ARGS__)

static void keys_of_each_kind(void **state UNUSED)
{
    made(CRYPTO_ED25519, spki_of(KEYGEN("ED25519"), 0), true);
    made(CRYPTO_ED25519, spki_of(KEYGEN("ED25519"), 1), false);
    made(CRYPTO_ED25519, spki_of(KEYGEN("ED448"), 0), false);
    made(CRYPTO_ED25519, spki_of(KEYGEN("X25519"), 0), false);
    made(CRYPTO_ED25519, spki_of(KEYGEN("EC", "P-256"), 0), false);
    made(CRYPTO_ECDSA_P256, spki_of(KEYGEN("EC", "P-256"), 0), true);
    made(CRYPTO_ECDSA_P256, spki_of(KEYGEN("EC", "P-256"), 1), false);
    made(CRYPTO_ECDSA_P256, spki_of(KEYGEN("EC", "P-384"), 0), false);
    made(CRYPTO_ECDSA_P256, spki_of(KEYGEN("EC", "secp256k1"), 0), false);
    made(CRYPTO_ECDSA_P256, spki_of(explicit_p256(), 0), false);
    made(CRYPTO_ECDSA_P256, spki_of(KEYGEN("ED25519"), 0), false);
    made(CRYPTO_ECDSA_P256, spki_of(rsa_2048(), 0), false);
    made(CRYPTO_ECDSA_P256, xstrdup(STD_HEX), false);
}

static void keys_of_rsa(void **state UNUSED)
{
    made(CRYPTO_RSA_SHA256, spki_of(rsa_2048(), 0), true);
    made(CRYPTO_RSA_SHA1, spki_of(rsa_2048(), 0), true);
    made(CRYPTO_RSA_SHA256, spki_of(rsa_2048(), 1), false);
    made(CRYPTO_RSA_SHA256, spki_of(KEYGEN("RSA", (size_t)1024), 0), false);
    made(CRYPTO_RSA_SHA1, spki_of(KEYGEN("RSA", (size_t)1024), 0), false);
    made(CRYPTO_RSA_SHA256, spki_of(rsa_exponent(3), 0), true);
    made(CRYPTO_RSA_SHA256, spki_of(rsa_exponent(1), 0), false);
    made(CRYPTO_RSA_SHA256, spki_of(rsa_exponent(65536), 0), false);
    made(CRYPTO_RSA_SHA256, spki_of(KEYGEN("EC", "P-256"), 0), false);
}

/* PSS is another scheme: a key that is for it alone is refused. */
static void a_key_for_pss(void **state UNUSED)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "RSA-PSS", NULL);
    EVP_PKEY *pkey = NULL;

    assert_int_equal(EVP_PKEY_keygen_init(ctx), 1);
    assert_int_equal(EVP_PKEY_generate(ctx, &pkey), 1);
    made(CRYPTO_RSA_SHA256, spki_of(pkey, 0), false);
    EVP_PKEY_CTX_free(ctx);
}

/* A point that is not on the curve: the last bit of y the other way. */
static void a_point_off_the_curve(void **state UNUSED)
{
    unsigned char *der = NULL;
    EVP_PKEY *pkey = KEYGEN("EC", "P-256");
    int n = i2d_PUBKEY(pkey, &der);
    struct buf b = BUF_INIT;

    der[n - 1] ^= 1;
    buf_base64(&b, span_of(der, (size_t)n));
    made(CRYPTO_ECDSA_P256, buf_take(&b), false);
    OPENSSL_free(der);
    EVP_PKEY_free(pkey);
}

static const struct scheme_row {
    const char *name;
    enum crypto_scheme scheme;
} schemes[] = {
    { "Ed25519", CRYPTO_ED25519 },
    { "ECDSA P-256", CRYPTO_ECDSA_P256 },
    { "RSA with SHA-256", CRYPTO_RSA_SHA256 },
    { "RSA with SHA-1", CRYPTO_RSA_SHA1 },
};

static const struct span three[] = { S("id"), S("."), S("{\"a\":1}") };

static void refuse_variants(const struct crypto_public *k, const struct buf *right)
{
    struct buf s = BUF_INIT;

    for (size_t i = 0; i < right->n * 8; i++) {
        s.n = 0;
        buf_span(&s, buf_as_span(right));
        s.p[i / 8] = (char)(s.p[i / 8] ^ 1 << i % 8);
        assert_false(crypto_verify(k, three, 3, buf_as_span(&s)));
    }
    for (size_t n = 0; n < right->n; n++) {
        assert_false(crypto_verify(k, three, 3, span_of(right->p, n)));
        assert_false(crypto_verify(k, three, 3, span_of(right->p + n + 1, right->n - n - 1)));
    }
    s.n = 0;
    buf_span(&s, buf_as_span(right));
    buf_addc(&s, 0);
    assert_false(crypto_verify(k, three, 3, buf_as_span(&s)));
    s.n = 0;
    buf_addc(&s, 0);
    buf_span(&s, buf_as_span(right));
    assert_false(crypto_verify(k, three, 3, buf_as_span(&s)));
    s.n = 0;
    for (size_t i = 0; i < 4096; i++)
        buf_addc(&s, 0);
    assert_false(crypto_verify(k, three, 3, buf_as_span(&s)));
    assert_false(crypto_verify(k, three, 3, span_of(s.p, right->n)));
    buf_free(&s);
}

static void signature(void **state)
{
    const struct scheme_row *r = *state;
    const struct crypto_private *pair = pair_of(r->scheme);
    struct crypto_private *other = crypto_private_generate(r->scheme);
    const struct crypto_public *k = crypto_private_public(pair);
    const struct span whole = S("id.{\"a\":1}"), less = S("id.{\"a\":1"), wide = S("id.{\"a\": 1}");
    struct buf right = BUF_INIT;

    crypto_sign(pair, three, 3, &right);
    assert_true(crypto_verify(k, three, 3, buf_as_span(&right)));
    assert_true(crypto_verify(k, &whole, 1, buf_as_span(&right)));
    assert_false(crypto_verify(k, &less, 1, buf_as_span(&right)));
    assert_false(crypto_verify(k, &wide, 1, buf_as_span(&right)));
    assert_false(crypto_verify(k, three, 2, buf_as_span(&right)));
    assert_false(crypto_verify(k, NULL, 0, buf_as_span(&right)));
    assert_false(crypto_verify(crypto_private_public(other), three, 3, buf_as_span(&right)));
    refuse_variants(k, &right);
    assert_true(crypto_verify(k, three, 3, buf_as_span(&right)));
    buf_free(&right);
    crypto_private_free(other);
}

/* Short messages are joined on the stack, long ones on the heap. */
static void length(void **state)
{
    const struct scheme_row *r = *state;
    static const size_t sizes[] = { 0, 1, 2047, 2048, 2049, 100000 };
    const struct crypto_private *pair = pair_of(r->scheme);
    char *body = xcalloc(1, 100000);

    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct span one = { body, sizes[i] }, parts[] = { span_of(body, sizes[i] / 3), SPAN_NONE,
                                                          span_of(body, sizes[i] - sizes[i] / 3) };
        struct buf s = BUF_INIT;
        crypto_sign(pair, &one, 1, &s);
        assert_true(crypto_verify(crypto_private_public(pair), parts, 3, buf_as_span(&s)));
        body[0] ^= 1;
        assert_int_equal(crypto_verify(crypto_private_public(pair), parts, 3, buf_as_span(&s)),
                         !sizes[i]);
        body[0] ^= 1;
        buf_free(&s);
    }
    free(body);
}

/* What is printed is read again and verifies. */
static void print(void **state)
{
    const struct scheme_row *r = *state;
    const struct crypto_private *pair = pair_of(r->scheme);
    struct crypto_private *again;
    struct buf text = BUF_INIT, s = BUF_INIT;
    struct err e = ERR_INIT;
    int forms = r->scheme == CRYPTO_ED25519 ? CRYPTO_HEX : CRYPTO_SPKI;

    crypto_private_print(pair, &text);
    again = crypto_private_new(r->scheme, buf_as_span(&text), &e);
    assert_non_null(again);
    crypto_sign(again, three, 3, &s);
    for (int form = CRYPTO_PEM; form <= forms; form++) {
        struct crypto_public *k;
        text.n = 0;
        crypto_public_print(crypto_private_public(pair), (enum crypto_form)form, &text);
        k = crypto_public_new(r->scheme, buf_as_span(&text), &e);
        assert_non_null(k);
        assert_true(crypto_verify(k, three, 3, buf_as_span(&s)));
        crypto_public_free(k);
    }
    buf_free(&text);
    buf_free(&s);
    crypto_private_free(again);
}

/* A signature with SHA-1 is none with SHA-256 and the other way round, under one key. */
static void sha1_is_not_sha256(void **state UNUSED)
{
    const struct crypto_private *pair = pair_of(CRYPTO_RSA_SHA1);
    struct crypto_private *strong;
    struct buf pem = BUF_INIT, weak_s = BUF_INIT, strong_s = BUF_INIT;
    struct err e = ERR_INIT;

    crypto_private_print(pair, &pem);
    strong = crypto_private_new(CRYPTO_RSA_SHA256, buf_as_span(&pem), &e);
    crypto_sign(pair, three, 3, &weak_s);
    crypto_sign(strong, three, 3, &strong_s);
    assert_true(crypto_verify(crypto_private_public(pair), three, 3, buf_as_span(&weak_s)));
    assert_true(crypto_verify(crypto_private_public(strong), three, 3, buf_as_span(&strong_s)));
    assert_false(crypto_verify(crypto_private_public(strong), three, 3, buf_as_span(&weak_s)));
    assert_false(crypto_verify(crypto_private_public(pair), three, 3, buf_as_span(&strong_s)));
    crypto_private_free(strong);
    buf_free(&pem);
    buf_free(&weak_s);
    buf_free(&strong_s);
}

static void a_whsk_signs_its_vector(void **state UNUSED)
{
    struct err e = ERR_INIT;
    struct crypto_private *k = crypto_private_new(CRYPTO_ED25519, S(STD_SECRET), &e);
    const struct vector *v = &vectors[3];
    struct buf s = BUF_INIT, hex = BUF_INIT;

    assert_non_null(k);
    crypto_sign(k, v->parts, ARRAY_LEN(v->parts), &s);
    buf_hex(&hex, buf_as_span(&s));
    assert_string_equal(buf_cstr(&hex), v->signature);
    buf_free(&s);
    buf_free(&hex);
    crypto_private_free(k);
}

static void bad_private(enum crypto_scheme scheme, struct span text)
{
    struct err e = ERR_INIT;

    assert_null(crypto_private_new(scheme, text, &e));
    assert_true(strlen(e.text) > 0);
}

static void private_keys_refused(void **state UNUSED)
{
    EVP_PKEY *pkey = KEYGEN("ED25519");
    BIO *to = BIO_new(BIO_s_mem());
    const struct crypto_private *pair = pair_of(CRYPTO_ECDSA_P256);
    struct buf pem = BUF_INIT;
    char *p = NULL;
    long n;

    bad_private(CRYPTO_ED25519, S(""));
    bad_private(CRYPTO_ED25519, S("whsk_"));
    bad_private(CRYPTO_ED25519, S(STD_KEY));
    bad_private(CRYPTO_ECDSA_P256, S(STD_SECRET));
    /* the last byte of the public half another */
    bad_private(
        CRYPTO_ED25519,
        S("whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lM"
          "icMFs6Kvw=="));
    bad_private(CRYPTO_RSA_SHA256,
                S("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"));
    crypto_private_print(pair, &pem);
    bad_private(CRYPTO_ED25519, buf_as_span(&pem));
    bad_private(CRYPTO_RSA_SHA256, buf_as_span(&pem));
    /* with a password: no question at the terminal */
    assert_int_equal(
        PEM_write_bio_PKCS8PrivateKey(to, pkey, EVP_aes_128_cbc(), "secret", 6, NULL, NULL), 1);
    n = BIO_get_mem_data(to, &p);
    bad_private(CRYPTO_ED25519, span_of(p, (size_t)n));
    BIO_free(to);
    EVP_PKEY_free(pkey);
    buf_free(&pem);
}

/* One key, four threads. */
struct shared {
    const struct crypto_public *k;
    struct span signature;
    bool ok;
};

static void *verify_often(void *arg)
{
    struct shared *s = arg;

    s->ok = true;
    for (int i = 0; i < 50; i++)
        s->ok = s->ok && crypto_verify(s->k, three, 3, s->signature) &&
                !crypto_verify(s->k, three, 2, s->signature);
    return NULL;
}

static void threads(void **state)
{
    const struct scheme_row *r = *state;
    const struct crypto_private *pair = pair_of(r->scheme);
    struct shared shared[4];
    pthread_t thread[4];
    struct buf s = BUF_INIT;

    crypto_sign(pair, three, 3, &s);
    for (size_t i = 0; i < 4; i++) {
        shared[i] = (struct shared){ crypto_private_public(pair), buf_as_span(&s), false };
        assert_int_equal(pthread_create(&thread[i], NULL, verify_often, &shared[i]), 0);
    }
    for (size_t i = 0; i < 4; i++) {
        pthread_join(thread[i], NULL);
        assert_true(shared[i].ok);
    }
    buf_free(&s);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(openssl_takes_the_neutral_point),
        cmocka_unit_test(keys_of_each_kind),
        cmocka_unit_test(keys_of_rsa),
        cmocka_unit_test(a_key_for_pss),
        cmocka_unit_test(a_point_off_the_curve),
        cmocka_unit_test(sha1_is_not_sha256),
        cmocka_unit_test(a_whsk_signs_its_vector),
        cmocka_unit_test(private_keys_refused),
    };

    return T_TABLE(vectors, vector) + T_TABLE(texts, text) + T_TABLE(schemes, signature) +
           T_TABLE(schemes, length) + T_TABLE(schemes, print) + T_TABLE(schemes, threads) +
           T_RUN(tests);
}
