/* Keys of kinds that the room itself does not make, and what the tests do with every scheme. */
#pragma once

#include "table.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <string.h>

#include "crypto.h"

/* The key of RFC 8032 7.1 test 1, RFC 8037 A.2. */
#define RFC_ED25519_HEX "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
#define RFC_ED25519_X "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
/* RFC 7515 A.3.1 and A.2.1 */
#define RFC_P256_X "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"
#define RFC_P256_Y "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"
#define RFC_RSA_N                                                                                  \
    "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4" \
    "d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5re" \
    "xMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxX" \
    "FvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"
#define JWK_ED25519(more)                                                                          \
    "{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"" RFC_ED25519_X "\"" more "}"
#define JWK_P256(more)                                                                             \
    "{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"" RFC_P256_X "\",\"y\":\"" RFC_P256_Y "\"" more "}"
#define JWK_RSA(more) "{\"kty\":\"RSA\",\"n\":\"" RFC_RSA_N "\",\"e\":\"AQAB\"" more "}"

/* One pair of each scheme a program: making an RSA key takes long. Not to be freed. */
static inline const struct crypto_private *pair_of(enum crypto_scheme scheme)
{
    static struct crypto_private *pairs[CRYPTO_RSA_SHA1 + 1];

    if (!pairs[scheme])
        pairs[scheme] = crypto_private_generate(scheme);
    return pairs[scheme];
}

/* base64 of SubjectPublicKeyInfo with `more` zero bytes behind it; the key is used up */
static inline char *spki_of(EVP_PKEY *pkey, size_t more)
{
    struct buf text = BUF_INIT, der = BUF_INIT;
    unsigned char *p = NULL;
    int n;

    assert_non_null(pkey);
    n = i2d_PUBKEY(pkey, &p);
    assert_true(n > 0);
    buf_add(&der, p, (size_t)n);
    while (more--)
        buf_addc(&der, 0);
    buf_base64(&text, buf_as_span(&der));
    OPENSSL_free(p);
    buf_free(&der);
    EVP_PKEY_free(pkey);
    return buf_take(&text);
}
