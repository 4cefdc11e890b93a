/* SPDX-License-Identifier: Apache-2.0 */
/* JSON Web Tokens: the RFCs' own, every claim on both sides of its limit, and what forgers send. */
#include "keys.h"

#include <stdio.h>

#define RS (1u << CRYPTO_RSA_SHA256)
#define ES (1u << CRYPTO_ECDSA_P256)
#define ED (1u << CRYPTO_ED25519)
#define ALL (RS | ES | ED)

#define RFC_PAYLOAD                                                                                \
    ".eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnV" \
    "lfQ."
#define RFC_RS256                                                                                  \
    "eyJhbGciOiJSUzI1NiJ9" RFC_PAYLOAD                                                             \
    "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5" \
    "jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb" \
    "1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QO" \
    "YEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"
#define RFC_ES256                                                                                  \
    "eyJhbGciOiJFUzI1NiJ9" RFC_PAYLOAD                                                             \
    "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
#define RFC_EDDSA                                                                                  \
    "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc."                                    \
    "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
#define RFC_EXP 1300819380

static const struct vector {
    const char *name, *token;
    unsigned schemes;
    int64_t now_s;
    enum crypto_jwt want;
} vectors[] = {
    { "RFC 7515 A.2, RS256", RFC_RS256, ALL, RFC_EXP - 1, CRYPTO_JWT_OK },
    { "RFC 7515 A.3, ES256", RFC_ES256, ALL, RFC_EXP - 1, CRYPTO_JWT_OK },
    { "RS256 alone allowed", RFC_RS256, RS, RFC_EXP - 1, CRYPTO_JWT_OK },
    { "RS256 not allowed", RFC_RS256, ES | ED, RFC_EXP - 1, CRYPTO_JWT_ALGORITHM },
    { "ES256 not allowed", RFC_ES256, RS | ED, RFC_EXP - 1, CRYPTO_JWT_ALGORITHM },
    { "nothing allowed", RFC_ES256, 0, RFC_EXP - 1, CRYPTO_JWT_ALGORITHM },
    { "expired on the second", RFC_RS256, ALL, RFC_EXP, CRYPTO_JWT_EXPIRED },
    /* Its payload is no JSON, which is looked at only once the signature is right. */
    { "RFC 8037 A.4, EdDSA", RFC_EDDSA, ALL, 0, CRYPTO_JWT_MALFORMED },
    { "RFC 8037 A.4, another payload",
      "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmd."
      "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
      ALL, 0, CRYPTO_JWT_MALFORMED },
    { "RFC 8037 A.4, signature off",
      "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc."
      "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAQ",
      ALL, 0, CRYPTO_JWT_BAD_SIGNATURE },
};

static void assert_outcome(enum crypto_jwt got, enum crypto_jwt want)
{
    assert_string_equal(crypto_jwt_text(got), crypto_jwt_text(want));
}

static void vector(void **state)
{
    const struct vector *r = *state;
    const struct crypto_claim claim = { S("http://example.com/is_root"), S("true") };
    struct crypto_jwt_rules rules = { .schemes = r->schemes, .issuer = S("joe") };
    struct err e = ERR_INIT;
    struct crypto_keyset *set = crypto_keyset_new(
        S("{\"keys\":[" JWK_ED25519("") "," JWK_P256("") "," JWK_RSA("") "]}"), &e);

    rules.claims = &claim;
    rules.n_claims = 1;
    assert_non_null(set);
    assert_outcome(
        crypto_jwt_verify(span_str(r->token), set, &rules, SPAN_NONE, r->now_s * 1000, NULL),
        r->want);
    crypto_keyset_free(set);
}

/* The set of all other tests: kid "ed", "es", "rs"; "two" is a second key of Ed25519. */
static struct crypto_keyset *set;
static struct crypto_private *second;

static void make_set(void)
{
    static const struct span kids[] = { S("ed"), S("es"), S("rs"), S("two") };
    const struct crypto_public *keys[4];

    second = crypto_private_generate(CRYPTO_ED25519);
    for (size_t i = 0; i < 3; i++)
        keys[i] = crypto_private_public(pair_of((enum crypto_scheme)i));
    keys[3] = crypto_private_public(second);
    set = crypto_keyset_of(keys, kids, 4);
}

#define NOW 1700000000
#define EXP "\"exp\":1700000060"
#define BODY "{\"a\":1}"
#define BODY_HEX "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862"
#define BODY_B64 "AVq9f1zFei3ZS3WQ8ErYCEJzkF7jPsXOvq5iJ2qX+GI="
#define BODY_URL "AVq9f1zFei3ZS3WQ8ErYCEJzkF7jPsXOvq5iJ2qX-GI"

static const struct crypto_claim email[] = { { S("email"), S("push@example.com") },
                                             { S("email_verified"), S("true") } };
static const struct crypto_claim number[] = { { S("n"), S("42") } };

#define RULES(...)                                                                                 \
    {                                                                                              \
        .schemes = ALL, ##__VA_ARGS__                                                              \
    }

/* Rightly signed; the claims decide. */
static const struct claim_row {
    const char *name, *claims;
    struct crypto_jwt_rules rules;
    enum crypto_jwt want;
} claims[] = {
    { "exp ahead", "{" EXP "}", RULES(), CRYPTO_JWT_OK },
    { "exp is now", "{\"exp\":1700000000}", RULES(), CRYPTO_JWT_EXPIRED },
    { "exp a second ahead", "{\"exp\":1700000001}", RULES(), CRYPTO_JWT_OK },
    { "exp with a fraction", "{\"exp\":1700000000.5}", RULES(), CRYPTO_JWT_OK },
    { "exp with an exponent", "{\"exp\":1.7e9}", RULES(), CRYPTO_JWT_EXPIRED },
    { "expired within the leeway", "{\"exp\":1699999941}", RULES(.leeway_ms = 60000),
      CRYPTO_JWT_OK },
    { "expired at the leeway's end", "{\"exp\":1699999940}", RULES(.leeway_ms = 60000),
      CRYPTO_JWT_EXPIRED },
    { "no exp", "{}", RULES(), CRYPTO_JWT_WRONG_CLAIM },
    { "no exp, and none wanted", "{}", RULES(.exp_optional = true), CRYPTO_JWT_OK },
    { "expired where none is wanted", "{\"exp\":1}", RULES(.exp_optional = true),
      CRYPTO_JWT_EXPIRED },
    { "exp a string", "{\"exp\":\"1700000060\"}", RULES(), CRYPTO_JWT_WRONG_CLAIM },
    { "exp a string, none wanted", "{\"exp\":\"1700000060\"}", RULES(.exp_optional = true),
      CRYPTO_JWT_WRONG_CLAIM },
    { "exp null", "{\"exp\":null}", RULES(.exp_optional = true), CRYPTO_JWT_WRONG_CLAIM },
    { "exp true", "{\"exp\":true}", RULES(), CRYPTO_JWT_WRONG_CLAIM },
    { "exp beyond all dates", "{\"exp\":9223372036854775807}", RULES(), CRYPTO_JWT_WRONG_CLAIM },
    { "exp 1e300", "{\"exp\":1e300}", RULES(), CRYPTO_JWT_WRONG_CLAIM },
    { "exp no 64-bit number", "{\"exp\":92233720368547758070}", RULES(), CRYPTO_JWT_MALFORMED },
    { "nbf now", "{" EXP ",\"nbf\":1700000000}", RULES(), CRYPTO_JWT_OK },
    { "nbf ahead", "{" EXP ",\"nbf\":1700000001}", RULES(), CRYPTO_JWT_NOT_YET },
    { "nbf within the leeway", "{" EXP ",\"nbf\":1700000005}", RULES(.leeway_ms = 5000),
      CRYPTO_JWT_OK },
    { "nbf behind the leeway", "{" EXP ",\"nbf\":1700000006}", RULES(.leeway_ms = 5000),
      CRYPTO_JWT_NOT_YET },
    { "nbf a string", "{" EXP ",\"nbf\":\"1\"}", RULES(), CRYPTO_JWT_WRONG_CLAIM },
    { "iat now", "{" EXP ",\"iat\":1700000000}", RULES(), CRYPTO_JWT_OK },
    { "iat ahead", "{" EXP ",\"iat\":1700000001}", RULES(), CRYPTO_JWT_NOT_YET },
    { "iat within the leeway", "{" EXP ",\"iat\":1700000001}", RULES(.leeway_ms = 1000),
      CRYPTO_JWT_OK },
    { "iat a string", "{" EXP ",\"iat\":\"1\"}", RULES(), CRYPTO_JWT_WRONG_CLAIM },
    { "old, nobody asks", "{" EXP ",\"iat\":1}", RULES(), CRYPTO_JWT_OK },
    { "iat five minutes old", "{\"iat\":1699999700}",
      RULES(.exp_optional = true, .max_age_ms = 300000), CRYPTO_JWT_OK },
    { "iat older", "{\"iat\":1699999699}", RULES(.exp_optional = true, .max_age_ms = 300000),
      CRYPTO_JWT_EXPIRED },
    { "iat missing where its age counts", "{" EXP "}", RULES(.max_age_ms = 300000),
      CRYPTO_JWT_WRONG_CLAIM },
    { "iss right", "{" EXP ",\"iss\":\"https://a\"}", RULES(.issuer = S("https://a")),
      CRYPTO_JWT_OK },
    { "iss wrong", "{" EXP ",\"iss\":\"https://ab\"}", RULES(.issuer = S("https://a")),
      CRYPTO_JWT_WRONG_CLAIM },
    { "iss missing", "{" EXP "}", RULES(.issuer = S("https://a")), CRYPTO_JWT_WRONG_CLAIM },
    { "iss a list", "{" EXP ",\"iss\":[\"https://a\"]}", RULES(.issuer = S("https://a")),
      CRYPTO_JWT_WRONG_CLAIM },
    { "aud right", "{" EXP ",\"aud\":\"me\"}", RULES(.audience = S("me")), CRYPTO_JWT_OK },
    { "aud in a list", "{" EXP ",\"aud\":[\"you\",\"me\"]}", RULES(.audience = S("me")),
      CRYPTO_JWT_OK },
    { "aud not in the list", "{" EXP ",\"aud\":[\"you\",\"mel\",1,[\"me\"]]}",
      RULES(.audience = S("me")), CRYPTO_JWT_WRONG_CLAIM },
    { "aud an empty list", "{" EXP ",\"aud\":[]}", RULES(.audience = S("me")),
      CRYPTO_JWT_WRONG_CLAIM },
    { "aud wrong", "{" EXP ",\"aud\":\"Me\"}", RULES(.audience = S("me")), CRYPTO_JWT_WRONG_CLAIM },
    { "aud a prefix", "{" EXP ",\"aud\":\"m\"}", RULES(.audience = S("me")),
      CRYPTO_JWT_WRONG_CLAIM },
    { "aud an object", "{" EXP ",\"aud\":{\"me\":\"me\"}}", RULES(.audience = S("me")),
      CRYPTO_JWT_WRONG_CLAIM },
    { "aud missing", "{" EXP "}", RULES(.audience = S("me")), CRYPTO_JWT_WRONG_CLAIM },
    { "aud there, nobody asks", "{" EXP ",\"aud\":\"you\"}", RULES(), CRYPTO_JWT_OK },
    { "the sender's address", "{" EXP ",\"email\":\"push@example.com\",\"email_verified\":true}",
      RULES(.claims = email, .n_claims = 2), CRYPTO_JWT_OK },
    { "the sender's address, true a string",
      "{" EXP ",\"email\":\"push@example.com\",\"email_verified\":\"true\"}",
      RULES(.claims = email, .n_claims = 2), CRYPTO_JWT_OK },
    { "not verified", "{" EXP ",\"email\":\"push@example.com\",\"email_verified\":false}",
      RULES(.claims = email, .n_claims = 2), CRYPTO_JWT_WRONG_CLAIM },
    { "not said to be verified", "{" EXP ",\"email\":\"push@example.com\"}",
      RULES(.claims = email, .n_claims = 2), CRYPTO_JWT_WRONG_CLAIM },
    { "verified 1", "{" EXP ",\"email\":\"push@example.com\",\"email_verified\":1}",
      RULES(.claims = email, .n_claims = 2), CRYPTO_JWT_WRONG_CLAIM },
    { "another address", "{" EXP ",\"email\":\"push@example.co\",\"email_verified\":true}",
      RULES(.claims = email, .n_claims = 2), CRYPTO_JWT_WRONG_CLAIM },
    { "a claim inside another",
      "{" EXP ",\"x\":{\"email\":\"push@example.com\"},\"email_verified\":true}",
      RULES(.claims = email, .n_claims = 2), CRYPTO_JWT_WRONG_CLAIM },
    { "a number", "{" EXP ",\"n\":42}", RULES(.claims = number, .n_claims = 1), CRYPTO_JWT_OK },
    { "another number", "{" EXP ",\"n\":421}", RULES(.claims = number, .n_claims = 1),
      CRYPTO_JWT_WRONG_CLAIM },
    { "a fraction", "{" EXP ",\"n\":42.0}", RULES(.claims = number, .n_claims = 1),
      CRYPTO_JWT_WRONG_CLAIM },
    { "null", "{" EXP ",\"n\":null}", RULES(.claims = number, .n_claims = 1),
      CRYPTO_JWT_WRONG_CLAIM },
    { "the body's hash in hex", "{" EXP ",\"h\":\"" BODY_HEX "\"}", RULES(.body_hash = S("h")),
      CRYPTO_JWT_OK },
    { "the body's hash in base64", "{" EXP ",\"h\":\"" BODY_B64 "\"}", RULES(.body_hash = S("h")),
      CRYPTO_JWT_OK },
    { "the body's hash in base64url", "{" EXP ",\"h\":\"" BODY_URL "\"}",
      RULES(.body_hash = S("h")), CRYPTO_JWT_OK },
    { "the hash of another body",
      "{" EXP ",\"h\":\"115abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862\"}",
      RULES(.body_hash = S("h")), CRYPTO_JWT_WRONG_BODY },
    { "the body's hash cut", "{" EXP ",\"h\":\"015abd7f5cc57a2d\"}", RULES(.body_hash = S("h")),
      CRYPTO_JWT_WRONG_BODY },
    { "the body's hash and more", "{" EXP ",\"h\":\"" BODY_HEX "00\"}", RULES(.body_hash = S("h")),
      CRYPTO_JWT_WRONG_BODY },
    { "the body's hash empty", "{" EXP ",\"h\":\"\"}", RULES(.body_hash = S("h")),
      CRYPTO_JWT_WRONG_BODY },
    { "the body's hash no string", "{" EXP ",\"h\":1}", RULES(.body_hash = S("h")),
      CRYPTO_JWT_WRONG_BODY },
    { "the body's hash missing", "{" EXP "}", RULES(.body_hash = S("h")), CRYPTO_JWT_WRONG_BODY },
    { "a claim twice", "{" EXP "," EXP "}", RULES(), CRYPTO_JWT_MALFORMED },
    { "a claim twice, deep", "{" EXP ",\"x\":[{\"a\":1,\"a\":2}]}", RULES(), CRYPTO_JWT_MALFORMED },
    { "no object", "[1]", RULES(), CRYPTO_JWT_MALFORMED },
    { "no JSON", "exp", RULES(), CRYPTO_JWT_MALFORMED },
    { "nothing", "", RULES(), CRYPTO_JWT_MALFORMED },
    { "text behind", "{" EXP "}x", RULES(), CRYPTO_JWT_MALFORMED },
    { "no UTF-8", "{" EXP ",\"x\":\"\xff\"}", RULES(), CRYPTO_JWT_MALFORMED },
};

static const char *const kid_of[] = { "ed", "es", "rs" };

static enum crypto_jwt verify(struct span token, const struct crypto_jwt_rules *rules,
                              struct buf *payload)
{
    return crypto_jwt_verify(token, set, rules, S(BODY), (int64_t)NOW * 1000, payload);
}

static void claim(void **state)
{
    const struct claim_row *r = *state;

    for (int scheme = CRYPTO_ED25519; scheme <= CRYPTO_RSA_SHA256; scheme++) {
        struct buf token = BUF_INIT, payload = BUF_INIT;
        crypto_jwt_make(pair_of((enum crypto_scheme)scheme), span_str(kid_of[scheme]),
                        span_str(r->claims), &token);
        assert_outcome(verify(buf_as_span(&token), &r->rules, &payload), r->want);
        assert_true(
            span_eq(buf_as_span(&payload), r->want == CRYPTO_JWT_OK ? span_str(r->claims) : S("")));
        buf_free(&token);
        buf_free(&payload);
    }
}

/* base64url of the header and of the claims; the signature of `with` over them when there is one */
static void forge(struct span header, struct span payload, const struct crypto_private *with,
                  struct buf *token)
{
    struct buf s = BUF_INIT;
    struct span parts[] = { header, payload }, message;

    for (size_t i = 0; i < 3; i++) {
        size_t start = token->n;
        if (i == 2) {
            message = span_of(token->p, token->n - 1);
            if (!with)
                break;
            crypto_sign(with, &message, 1, &s);
            buf_base64(token, buf_as_span(&s));
        } else {
            buf_base64(token, parts[i]);
        }
        for (size_t c = start; c < token->n; c++)
            token->p[c] = token->p[c] == '+' ? '-' : token->p[c] == '/' ? '_' : token->p[c];
        while (token->n > start && token->p[token->n - 1] == '=')
            token->n--;
        if (i < 2)
            buf_addc(token, '.');
    }
    buf_free(&s);
}

/* The claims are right; the header decides. Signed by the key of Ed25519 with kid "ed", or not. */
static const struct header_row {
    const char *name, *header;
    bool sign;
    enum crypto_jwt want;
} headers[] = {
    { "kid", "{\"alg\":\"EdDSA\",\"kid\":\"ed\"}", true, CRYPTO_JWT_OK },
    { "alg Ed25519", "{\"alg\":\"Ed25519\",\"kid\":\"ed\"}", true, CRYPTO_JWT_OK },
    { "no kid: each key is tried", "{\"alg\":\"EdDSA\"}", true, CRYPTO_JWT_OK },
    { "jwk, jku, x5u and x5c are ignored",
      "{\"alg\":\"EdDSA\",\"jwk\":" JWK_ED25519(
          "") ",\"jku\":\"https://e\",\"x5u\":\"x\",\"x5c\":[]}",
      true, CRYPTO_JWT_OK },
    { "an embedded key does not count", "{\"alg\":\"EdDSA\",\"jwk\":" JWK_ED25519("") "}", false,
      CRYPTO_JWT_BAD_SIGNATURE },
    { "signed, the kid of another key", "{\"alg\":\"EdDSA\",\"kid\":\"two\"}", true,
      CRYPTO_JWT_BAD_SIGNATURE },
    { "unknown kid", "{\"alg\":\"EdDSA\",\"kid\":\"new\"}", true, CRYPTO_JWT_UNKNOWN_KID },
    { "empty kid", "{\"alg\":\"EdDSA\",\"kid\":\"\"}", true, CRYPTO_JWT_UNKNOWN_KID },
    { "kid of a key of another kind", "{\"alg\":\"EdDSA\",\"kid\":\"rs\"}", true,
      CRYPTO_JWT_ALGORITHM },
    { "kid no string", "{\"alg\":\"EdDSA\",\"kid\":1}", true, CRYPTO_JWT_MALFORMED },
    { "kid null", "{\"alg\":\"EdDSA\",\"kid\":null}", true, CRYPTO_JWT_MALFORMED },
    { "no signature", "{\"alg\":\"EdDSA\",\"kid\":\"ed\"}", false, CRYPTO_JWT_BAD_SIGNATURE },
    { "alg of another key", "{\"alg\":\"RS256\",\"kid\":\"ed\"}", true, CRYPTO_JWT_ALGORITHM },
    { "alg of another kind, no kid", "{\"alg\":\"ES256\"}", true, CRYPTO_JWT_BAD_SIGNATURE },
    { "alg none", "{\"alg\":\"none\"}", false, CRYPTO_JWT_ALGORITHM },
    { "alg none, signed", "{\"alg\":\"none\",\"kid\":\"ed\"}", true, CRYPTO_JWT_ALGORITHM },
    { "alg nOnE", "{\"alg\":\"nOnE\"}", false, CRYPTO_JWT_ALGORITHM },
    { "alg empty", "{\"alg\":\"\"}", true, CRYPTO_JWT_ALGORITHM },
    { "alg eddsa", "{\"alg\":\"eddsa\"}", true, CRYPTO_JWT_ALGORITHM },
    { "alg PS256", "{\"alg\":\"PS256\",\"kid\":\"rs\"}", true, CRYPTO_JWT_ALGORITHM },
    { "alg RS1", "{\"alg\":\"RS1\",\"kid\":\"rs\"}", true, CRYPTO_JWT_ALGORITHM },
    { "alg missing", "{\"kid\":\"ed\"}", true, CRYPTO_JWT_MALFORMED },
    { "alg no string", "{\"alg\":[\"EdDSA\"]}", true, CRYPTO_JWT_MALFORMED },
    { "alg twice", "{\"alg\":\"none\",\"alg\":\"EdDSA\"}", true, CRYPTO_JWT_MALFORMED },
    { "alg twice, once escaped", "{\"alg\":\"EdDSA\",\"\\u0061lg\":\"none\"}", true,
      CRYPTO_JWT_MALFORMED },
    { "crit", "{\"alg\":\"EdDSA\",\"crit\":[\"exp\"],\"exp\":1}", true, CRYPTO_JWT_MALFORMED },
    { "crit with b64", "{\"alg\":\"EdDSA\",\"b64\":false,\"crit\":[\"b64\"]}", true,
      CRYPTO_JWT_MALFORMED },
    { "crit empty", "{\"alg\":\"EdDSA\",\"crit\":[]}", true, CRYPTO_JWT_MALFORMED },
    { "a list", "[\"EdDSA\"]", true, CRYPTO_JWT_MALFORMED },
    { "no JSON", "EdDSA", true, CRYPTO_JWT_MALFORMED },
    { "an empty header", "", true, CRYPTO_JWT_MALFORMED },
    { "text behind", "{\"alg\":\"EdDSA\"}{}", true, CRYPTO_JWT_MALFORMED },
};

static void header(void **state)
{
    const struct header_row *r = *state;
    const struct crypto_jwt_rules rules = RULES();
    struct buf token = BUF_INIT;

    forge(span_str(r->header), S("{" EXP "}"), r->sign ? pair_of(CRYPTO_ED25519) : NULL, &token);
    assert_outcome(verify(buf_as_span(&token), &rules, NULL), r->want);
    buf_free(&token);
}

/* The classic: HS256 with the text of the public key as the secret. */
static void a_public_key_is_no_secret(void **state UNUSED)
{
    const struct crypto_jwt_rules rules = RULES(), every = { .schemes = ~0u };
    static const struct span header = S("{\"alg\":\"HS256\",\"kid\":\"rs\"}");
    struct buf token = BUF_INIT, pem = BUF_INIT, s = BUF_INIT;
    uint8_t mac[CRYPTO_HASH_MAX];
    struct crypto_hmac *hmac;
    struct span input;
    size_t n;

    forge(header, S("{" EXP "}"), NULL, &token);
    crypto_public_print(crypto_private_public(pair_of(CRYPTO_RSA_SHA256)), CRYPTO_PEM, &pem);
    hmac = crypto_hmac_new(CRYPTO_SHA256, buf_as_span(&pem));
    input = span_of(token.p, token.n - 1);
    n = crypto_hmac(hmac, &input, 1, mac);
    buf_hex(&s, span_of(mac, n)); /* 64 digits are base64url, too */
    buf_span(&token, buf_as_span(&s));
    assert_outcome(verify(buf_as_span(&token), &rules, NULL), CRYPTO_JWT_ALGORITHM);
    assert_outcome(verify(buf_as_span(&token), &every, NULL), CRYPTO_JWT_ALGORITHM);
    crypto_hmac_free(hmac);
    buf_free(&token);
    buf_free(&pem);
    buf_free(&s);
}

/* A DER signature where ES256 wants r and s; zeros; r and s with a byte behind them. */
static void es256_wants_r_and_s(void **state UNUSED)
{
    const struct crypto_jwt_rules rules = RULES();
    struct buf token = BUF_INIT;

    forge(S("{\"alg\":\"ES256\",\"kid\":\"es\"}"), S("{" EXP "}"), pair_of(CRYPTO_ECDSA_P256),
          &token);
    assert_outcome(verify(buf_as_span(&token), &rules, NULL), CRYPTO_JWT_BAD_SIGNATURE);
    token.n = 0;
    forge(S("{\"alg\":\"ES256\",\"kid\":\"es\"}"), S("{" EXP "}"), NULL, &token);
    for (int i = 0; i < 86; i++) /* r = s = 0 */
        buf_addc(&token, 'A');
    assert_outcome(verify(buf_as_span(&token), &rules, NULL), CRYPTO_JWT_BAD_SIGNATURE);
    token.n = 0;
    crypto_jwt_make(pair_of(CRYPTO_ECDSA_P256), S("es"), S("{" EXP "}"), &token);
    assert_outcome(verify(buf_as_span(&token), &rules, NULL), CRYPTO_JWT_OK);
    buf_addc(&token, 'A');
    assert_outcome(verify(buf_as_span(&token), &rules, NULL), CRYPTO_JWT_BAD_SIGNATURE);
    buf_free(&token);
}

/* Each character of a token counts: no other one in its place passes, nor does the token cut. */
static void every_character_counts(void **state UNUSED)
{
    const struct crypto_jwt_rules rules = RULES();

    for (int scheme = CRYPTO_ED25519; scheme <= CRYPTO_RSA_SHA256; scheme++) {
        struct buf token = BUF_INIT;
        crypto_jwt_make(pair_of((enum crypto_scheme)scheme), span_str(kid_of[scheme]),
                        S("{" EXP "}"), &token);
        assert_outcome(verify(buf_as_span(&token), &rules, NULL), CRYPTO_JWT_OK);
        for (size_t i = 0; i < token.n; i++) {
            char was = token.p[i];
            token.p[i] = was == 'A' ? 'B' : 'A';
            assert_int_not_equal(verify(buf_as_span(&token), &rules, NULL), CRYPTO_JWT_OK);
            token.p[i] = (char)(was ^ 1);
            assert_int_not_equal(verify(buf_as_span(&token), &rules, NULL), CRYPTO_JWT_OK);
            token.p[i] = was;
            assert_int_not_equal(verify(span_of(token.p, i), &rules, NULL), CRYPTO_JWT_OK);
        }
        buf_free(&token);
    }
}

/* What stands around or inside a right token makes it no token. */
static void form(void **state UNUSED)
{
    static const char *const formats[] = { "%s ", " %s",     "%s=",       "%s\n",   "%s.",
                                           ".%s", "%s.AAAA", "Bearer %s", "\"%s\"", "%s,%s" };
    const struct crypto_jwt_rules rules = RULES();
    struct buf token = BUF_INIT, odd = BUF_INIT;

    crypto_jwt_make(pair_of(CRYPTO_ED25519), S("ed"), S("{" EXP "}"), &token);
    for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
        for (const char *p = formats[i]; *p; p++) {
            if (p[0] == '%')
                buf_span(&odd, buf_as_span(&token));
            else if (p == formats[i] || p[-1] != '%')
                buf_addc(&odd, *p);
        }
        assert_outcome(verify(buf_as_span(&odd), &rules, NULL), CRYPTO_JWT_MALFORMED);
        odd.n = 0;
    }
    buf_addc(&token, 'A');
    assert_outcome(verify(buf_as_span(&token), &rules, NULL), CRYPTO_JWT_BAD_SIGNATURE);
    assert_outcome(verify(SPAN_NONE, &rules, NULL), CRYPTO_JWT_MALFORMED);
    assert_outcome(verify(S("."), &rules, NULL), CRYPTO_JWT_MALFORMED);
    assert_outcome(verify(S(".."), &rules, NULL), CRYPTO_JWT_MALFORMED);
    assert_outcome(verify(S("..."), &rules, NULL), CRYPTO_JWT_MALFORMED);
    buf_free(&token);
    buf_free(&odd);
}

/* A token whose header or payload is filled up with n blanks. */
static enum crypto_jwt padded(size_t in_header, size_t in_payload)
{
    const struct crypto_jwt_rules rules = RULES();
    struct buf h = BUF_INIT, p = BUF_INIT, token = BUF_INIT;
    enum crypto_jwt got;

    buf_adds(&h, "{\"alg\":\"EdDSA\"}");
    buf_adds(&p, "{" EXP "}");
    while (in_header--)
        buf_addc(&h, ' ');
    while (in_payload--)
        buf_addc(&p, ' ');
    forge(buf_as_span(&h), buf_as_span(&p), pair_of(CRYPTO_ED25519), &token);
    got = verify(buf_as_span(&token), &rules, NULL);
    buf_free(&h);
    buf_free(&p);
    buf_free(&token);
    return got;
}

static void lengths_are_bounded(void **state UNUSED)
{
    assert_outcome(padded(0, 0), CRYPTO_JWT_OK);
    assert_outcome(padded(4000, 0), CRYPTO_JWT_OK);
    assert_outcome(padded(4 << 10, 0), CRYPTO_JWT_MALFORMED);
    assert_outcome(padded(10 << 10, 0), CRYPTO_JWT_MALFORMED);
    assert_outcome(padded(0, 12000), CRYPTO_JWT_OK);
    assert_outcome(padded(0, 13000), CRYPTO_JWT_MALFORMED);
}

/* No key of that kind is like an unknown kid: newer keys may help. */
static void a_set_without_that_kind(void **state UNUSED)
{
    const struct crypto_jwt_rules rules = RULES();
    const struct crypto_public *key = crypto_private_public(pair_of(CRYPTO_RSA_SHA256));
    struct crypto_keyset *only = crypto_keyset_of(&key, NULL, 1);
    struct buf token = BUF_INIT;

    crypto_jwt_make(pair_of(CRYPTO_ED25519), SPAN_NONE, S("{" EXP "}"), &token);
    assert_outcome(crypto_jwt_verify(buf_as_span(&token), only, &rules, SPAN_NONE, 0, NULL),
                   CRYPTO_JWT_UNKNOWN_KID);
    buf_free(&token);
    crypto_keyset_free(only);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_public_key_is_no_secret), cmocka_unit_test(es256_wants_r_and_s),
        cmocka_unit_test(every_character_counts),    cmocka_unit_test(form),
        cmocka_unit_test(lengths_are_bounded),       cmocka_unit_test(a_set_without_that_kind),
    };
    int failed;

    make_set();
    failed =
        T_TABLE(vectors, vector) + T_TABLE(claims, claim) + T_TABLE(headers, header) + T_RUN(tests);
    crypto_keyset_free(set);
    crypto_private_free(second);
    return failed;
}
