/* SPDX-License-Identifier: Apache-2.0 */
/* JSON Web Tokens. As it stands, an input is right only if it is one of the RFC's tokens. With a
 * line end in it, what stands before is a header and what follows are claims, signed by us: then it
 * is right only if a plain reading of both allows it, and the claims come back as they were. */
#include "fuzz.h"

#include <jansson.h>

#include "crypto.h"

#define NOW 1300819379 /* a second before the RFC's tokens expire */

static const char rfc_keys[] =
    "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":"
    "\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\","
    "\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\"},{\"kty\":\"RSA\",\"n\":"
    "\"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4"
    "d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5re"
    "xMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxX"
    "FvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ\",\"e\":\"AQAB\"}]}";

#define RFC_PAYLOAD                                                                                \
    ".eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnV" \
    "lfQ."
static const struct span rfc_inputs[] = { S("eyJhbGciOiJSUzI1NiJ9" RFC_PAYLOAD),
                                          S("eyJhbGciOiJFUzI1NiJ9" RFC_PAYLOAD) };

static const struct crypto_jwt_rules loose = { .schemes = 1u << CRYPTO_ED25519 |
                                                          1u << CRYPTO_ECDSA_P256 |
                                                          1u << CRYPTO_RSA_SHA256 };
static const struct crypto_claim claim = { S("c"), S("true") };
static const struct crypto_jwt_rules strict = { .schemes = 1u << CRYPTO_ED25519,
                                                .issuer = S("i"),
                                                .audience = S("a"),
                                                .claims = &claim,
                                                .n_claims = 1,
                                                .body_hash = S("h"),
                                                .leeway_ms = 1000,
                                                .max_age_ms = 5000 };

static void add_part(struct buf *out, struct span s)
{
    size_t start = out->n;

    buf_base64(out, s);
    while (out->n > start && out->p[out->n - 1] == '=')
        out->n--;
    for (size_t i = start; i < out->n; i++)
        out->p[i] = out->p[i] == '+' ? '-' : out->p[i] == '/' ? '_' : out->p[i];
}

static void check_as_it_stands(struct span token)
{
    static struct crypto_keyset *set;
    struct err e = ERR_INIT;
    struct buf payload = BUF_INIT;
    enum crypto_jwt got;

    if (!set)
        set = crypto_keyset_new(span_str(rfc_keys), &e);
    must(set);
    got = crypto_jwt_verify(token, set, &loose, SPAN_NONE, (int64_t)NOW * 1000, &payload);
    must(got != CRYPTO_JWT_OK || span_starts(token, rfc_inputs[0]) ||
         span_starts(token, rfc_inputs[1]));
    must((got == CRYPTO_JWT_OK) == (payload.n > 0));
    must(strcmp(crypto_jwt_text(got), "?") != 0);
    buf_free(&payload);
}

/* What every rightly signed token must say, read plainly. */
static void check_reading(struct span header, struct span claims, bool is_strict)
{
    json_t *h = json_loadb(header.p, header.n, 0, NULL),
           *c = json_loadb(claims.p, claims.n, 0, NULL);
    const char *alg = json_string_value(json_object_get(h, "alg"));
    const char *iss = json_string_value(json_object_get(c, "iss"));

    must(alg && (strcmp(alg, "EdDSA") == 0 || strcmp(alg, "Ed25519") == 0));
    must(!json_object_get(h, "crit"));
    must(json_number_value(json_object_get(c, "exp")) > NOW - is_strict);
    must(json_number_value(json_object_get(c, "nbf")) <= NOW + is_strict);
    if (is_strict) {
        must(iss && strcmp(iss, "i") == 0);
        must(json_object_get(c, "aud") && json_object_get(c, "h"));
        must(json_number_value(json_object_get(c, "iat")) >= NOW - 6);
    }
    json_decref(h);
    json_decref(c);
}

static void check_signed(struct span header, struct span claims)
{
    static struct crypto_private *pair;
    static struct crypto_keyset *set;
    const struct crypto_public *key;
    const struct span kid = S("k");
    struct buf token = BUF_INIT, signature = BUF_INIT, payload = BUF_INIT;
    struct span message;

    if (!pair) {
        pair = crypto_private_generate(CRYPTO_ED25519);
        key = crypto_private_public(pair);
        set = crypto_keyset_of(&key, &kid, 1);
    }
    add_part(&token, header);
    buf_addc(&token, '.');
    add_part(&token, claims);
    message = buf_as_span(&token);
    crypto_sign(pair, &message, 1, &signature);
    buf_addc(&token, '.');
    add_part(&token, buf_as_span(&signature));
    for (int is_strict = 0; is_strict < 2; is_strict++) {
        enum crypto_jwt got =
            crypto_jwt_verify(buf_as_span(&token), set, is_strict ? &strict : &loose, S("body"),
                              (int64_t)NOW * 1000, &payload);
        must(got != CRYPTO_JWT_BAD_SIGNATURE);
        must((got == CRYPTO_JWT_OK) == (payload.n > 0));
        if (got == CRYPTO_JWT_OK) {
            must(span_eq(buf_as_span(&payload), claims));
            check_reading(header, claims, is_strict);
        }
        payload.n = 0;
    }
    buf_free(&token);
    buf_free(&signature);
    buf_free(&payload);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    char *copy = fuzz_copy(data, n);
    struct span rest = { copy, n }, header = span_cut(&rest, '\n');

    if (rest.p)
        check_signed(header, rest);
    else
        check_as_it_stands(span_of(copy, n));
    free(copy);
    return 0;
}
