/* SPDX-License-Identifier: Apache-2.0 */
/* Public keys and what they verify. A key is judged once, when it is made; after that an EVP_PKEY
 * is only read, which OpenSSL allows from any number of threads. What a failed call leaves in
 * OpenSSL's error queue is cleared, so that no later TLS call on the thread takes it for its own.
 */
#include "room.h"

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/objects.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <string.h>

#define RAW 32       /* an Ed25519 key */
#define DER_MAX 2048 /* RSA 8192 bits takes 1062 */
#define TEXT_MAX 4096
#define RSA_BITS_MIN 2048
#define RSA_BITS_MAX 8192 /* the cost of one check grows with the square */

static const struct {
    const char *name;
    int type;
} kinds[] = {
    [CRYPTO_ED25519] = { "Ed25519", EVP_PKEY_ED25519 },
    [CRYPTO_ECDSA_P256] = { "ECDSA P-256", EVP_PKEY_EC },
    [CRYPTO_RSA_SHA256] = { "RSA", EVP_PKEY_RSA },
    [CRYPTO_RSA_SHA1] = { "RSA", EVP_PKEY_RSA },
};

/* The points whose order divides 8 (RFC 7748 7), y first, the sign bit masked: 0, 1, p - 1, p, p +
 * 1 and the two of order 8. OpenSSL takes them; under the neutral point R = [S]B verifies anything.
 */
static const char small_order[][2 * RAW + 1] = {
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
};

static int check_ed25519(const EVP_PKEY *pkey, struct err *e)
{
    uint8_t raw[RAW], small[RAW];
    size_t n = sizeof raw;

    if (EVP_PKEY_get_raw_public_key(pkey, raw, &n) != 1 || n != RAW)
        return err_set(e, EXIT_BAD_CONFIG, "an Ed25519 key of another size");
    raw[RAW - 1] &= 0x7f;
    for (size_t i = 0; i < ARRAY_LEN(small_order); i++) {
        if (crypto_from_hex(span_str(small_order[i]), small, RAW) == RAW &&
            memcmp(raw, small, RAW) == 0)
            return err_set(e, EXIT_BAD_CONFIG, "an Ed25519 point of small order is no key");
    }
    return 0;
}

static int check_p256(const EVP_PKEY *pkey, struct err *e)
{
    char group[64] = "";
    int given = 1;

    if (EVP_PKEY_get_group_name(pkey, group, sizeof group, NULL) != 1 ||
        OBJ_sn2nid(group) != NID_X9_62_prime256v1)
        return err_set(e, EXIT_BAD_CONFIG, "an EC key of another curve than P-256");
    if (EVP_PKEY_get_int_param(pkey, OSSL_PKEY_PARAM_EC_DECODED_FROM_EXPLICIT_PARAMS, &given) !=
            1 ||
        given)
        return err_set(e, EXIT_BAD_CONFIG, "an EC key that brings its own curve parameters");
    return 0;
}

static int check_rsa(const EVP_PKEY *pkey, struct err *e)
{
    int bits = EVP_PKEY_get_bits(pkey);
    BIGNUM *exponent = NULL;
    bool odd;

    if (bits < RSA_BITS_MIN || bits > RSA_BITS_MAX)
        return err_set(e, EXIT_BAD_CONFIG, "an RSA key of %d bits; from %d to %d are accepted",
                       bits, RSA_BITS_MIN, RSA_BITS_MAX);
    /* Under an exponent of 1 every message is its own signature. */
    odd = EVP_PKEY_get_bn_param(pkey, OSSL_PKEY_PARAM_RSA_E, &exponent) == 1 &&
          BN_is_odd(exponent) && !BN_is_one(exponent) && BN_num_bits(exponent) <= 64;
    BN_free(exponent);
    return odd ? 0 : err_set(e, EXIT_BAD_CONFIG, "an RSA key with an unusable exponent");
}

int public_check(const EVP_PKEY *pkey, enum crypto_scheme scheme, struct err *e)
{
    int rc = -1;

    if (EVP_PKEY_get_id(pkey) != kinds[scheme].type)
        return err_set(e, EXIT_BAD_CONFIG, "not an %s key", kinds[scheme].name);
    switch (scheme) {
    case CRYPTO_ED25519:
        rc = check_ed25519(pkey, e);
        break;
    case CRYPTO_ECDSA_P256:
        rc = check_p256(pkey, e);
        break;
    case CRYPTO_RSA_SHA256:
    case CRYPTO_RSA_SHA1:
        rc = check_rsa(pkey, e);
        break;
    }
    ERR_clear_error();
    return rc;
}

struct crypto_public *public_take(EVP_PKEY *pkey, enum crypto_scheme scheme)
{
    struct crypto_public *k = xcalloc(1, sizeof *k);

    k->scheme = scheme;
    k->pkey = pkey;
    return k;
}

EVP_PKEY *public_ed25519(const uint8_t *raw)
{
    return EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, raw, RAW);
}

/* What stands between the lines of PEM (RFC 7468 3), without line ends; the text itself when it has
 * no such lines. -1 for PEM that is something else. */
static int armour_off(struct span text, struct buf *out)
{
    const struct span begin = S("-----BEGIN PUBLIC KEY-----"), end = S("-----END PUBLIC KEY-----");

    if (span_starts(text, begin)) {
        if (text.n < begin.n + end.n || !span_eq(span_of(text.p + text.n - end.n, end.n), end))
            return -1;
        text = span_of(text.p + begin.n, text.n - begin.n - end.n);
        for (size_t i = 0; i < text.n; i++) {
            if (!strchr("\r\n \t", text.p[i]) || !text.p[i])
                buf_addc(out, text.p[i]);
        }
        return 0;
    }
    buf_span(out, text);
    return 0;
}

static EVP_PKEY *from_raw_text(struct span text)
{
    const struct span prefix = S("whpk_");
    uint8_t raw[RAW];

    if (text.n == (size_t)2 * RAW && crypto_from_hex(text, raw, sizeof raw) == RAW)
        return public_ed25519(raw);
    if (span_starts(text, prefix))
        text = span_of(text.p + prefix.n, text.n - prefix.n);
    if (crypto_from_base64(text, false, true, raw, sizeof raw) == RAW ||
        crypto_from_base64(text, true, true, raw, sizeof raw) == RAW)
        return public_ed25519(raw);
    return NULL;
}

static EVP_PKEY *from_text(enum crypto_scheme scheme, struct span text)
{
    struct buf bare = BUF_INIT;
    uint8_t der[DER_MAX];
    const uint8_t *p = der;
    EVP_PKEY *pkey = NULL;
    ssize_t n = -1;

    if (scheme == CRYPTO_ED25519)
        pkey = from_raw_text(text);
    if (!pkey && !armour_off(text, &bare))
        n = crypto_from_base64(buf_as_span(&bare), false, true, der, sizeof der);
    if (n > 0) {
        pkey = d2i_PUBKEY(NULL, &p, (long)n);
        if (pkey && p != der + n) {
            EVP_PKEY_free(pkey);
            pkey = NULL;
        }
    }
    buf_free(&bare);
    return pkey;
}

static struct span without_blanks(struct span s)
{
    while (s.n && strchr(" \t\r\n", s.p[0]) && s.p[0])
        s = span_of(s.p + 1, s.n - 1);
    while (s.n && strchr(" \t\r\n", s.p[s.n - 1]) && s.p[s.n - 1])
        s.n--;
    return s;
}

struct crypto_public *crypto_public_new(enum crypto_scheme scheme, struct span text, struct err *e)
{
    EVP_PKEY *pkey = NULL;

    text = without_blanks(text);
    if (text.n && text.n <= TEXT_MAX)
        pkey = from_text(scheme, text);
    if (!pkey)
        err_set(e, EXIT_BAD_CONFIG, "not a public key for %s", kinds[scheme].name);
    else if (!public_check(pkey, scheme, e))
        return public_take(pkey, scheme);
    ERR_clear_error();
    EVP_PKEY_free(pkey);
    return NULL;
}

void crypto_public_free(struct crypto_public *k)
{
    if (!k)
        return;
    EVP_PKEY_free(k->pkey);
    free(k);
}

void public_point(const struct crypto_public *k, uint8_t *out, size_t n)
{
    uint8_t point[65];
    size_t got = n;

    if (k->scheme == CRYPTO_ED25519) {
        if (EVP_PKEY_get_raw_public_key(k->pkey, out, &got) != 1)
            die(EXIT_IO, "OpenSSL gives no bytes of an Ed25519 key");
        return;
    }
    if (EVP_PKEY_get_octet_string_param(k->pkey, OSSL_PKEY_PARAM_PUB_KEY, point, sizeof point,
                                        &got) != 1 ||
        got != n + 1 || point[0] != POINT_CONVERSION_UNCOMPRESSED)
        die(EXIT_IO, "OpenSSL gives no point of an EC key");
    memcpy(out, point + 1, n);
}

static void print_spki(const struct crypto_public *k, bool pem, struct buf *out)
{
    struct buf text = BUF_INIT;
    uint8_t *der = NULL;
    int n = i2d_PUBKEY(k->pkey, &der);

    if (n <= 0)
        die(EXIT_IO, "OpenSSL cannot write a public key");
    buf_base64(&text, span_of(der, (size_t)n));
    OPENSSL_free(der);
    if (!pem) {
        buf_span(out, buf_as_span(&text));
    } else {
        buf_adds(out, "-----BEGIN PUBLIC KEY-----\n");
        for (size_t i = 0; i < text.n; i += 64) {
            buf_add(out, text.p + i, MIN((size_t)64, text.n - i));
            buf_addc(out, '\n');
        }
        buf_adds(out, "-----END PUBLIC KEY-----\n");
    }
    buf_free(&text);
}

void crypto_public_print(const struct crypto_public *k, enum crypto_form form, struct buf *out)
{
    uint8_t raw[RAW];

    if (form == CRYPTO_PEM || form == CRYPTO_SPKI) {
        print_spki(k, form == CRYPTO_PEM, out);
        return;
    }
    public_point(k, raw, sizeof raw);
    if (form == CRYPTO_HEX) {
        buf_hex(out, span_of(raw, sizeof raw));
    } else {
        buf_adds(out, "whpk_");
        buf_base64(out, span_of(raw, sizeof raw));
    }
}

bool crypto_verify(const struct crypto_public *k, const struct span *parts, size_t n,
                   struct span signature)
{
    struct message m;
    bool ok;

    message_init(&m, k->scheme, parts, n);
    ok = message_verify(&m, k, signature);
    message_close(&m);
    return ok;
}
