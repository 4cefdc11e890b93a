/* SPDX-License-Identifier: Apache-2.0 */
/* Published vectors for digests and HMAC; decoders that take one text for one value and no other.
 */
#include "table.h"

#include <string.h>

#include "buf.h"
#include "crypto.h"

static const struct hash_row {
    const char *name;
    enum crypto_hash hash;
    const char *text, *want;
} hashes[] = {
    /* FIPS 180-4 */
    { "SHA-1, empty", CRYPTO_SHA1, "", "da39a3ee5e6b4b0d3255bfef95601890afd80709" },
    { "SHA-1, abc", CRYPTO_SHA1, "abc", "a9993e364706816aba3e25717850c26c9cd0d89d" },
    { "SHA-256, empty", CRYPTO_SHA256, "",
      "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
    { "SHA-256, abc", CRYPTO_SHA256, "abc",
      "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
    { "SHA-256, two blocks", CRYPTO_SHA256,
      "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
      "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1" },
    { "SHA-512, abc", CRYPTO_SHA512, "abc",
      "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3fe"
      "ebbd454d4423643ce80e2a9ac94fa54ca49f" },
};

static void assert_hex(const uint8_t *raw, size_t n, const char *want)
{
    struct buf b = BUF_INIT;

    buf_hex(&b, span_of(raw, n));
    assert_string_equal(buf_cstr(&b), want);
    buf_free(&b);
}

static void hash(void **state)
{
    const struct hash_row *r = *state;
    uint8_t out[CRYPTO_HASH_MAX];
    size_t n = crypto_hash(r->hash, span_str(r->text), out);

    assert_hex(out, n, r->want);
}

/* A text, or one byte n times. */
struct bytes {
    const char *text;
    int byte;
    size_t n;
};
#define TEXT(s)                                                                                    \
    {                                                                                              \
        s, 0, sizeof(s) - 1                                                                        \
    }
#define TIMES(b, n)                                                                                \
    {                                                                                              \
        NULL, b, n                                                                                 \
    }
#define TO_25                                                                                      \
    TEXT(                                                                                          \
        "\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14\x15\x16" \
        "\x17\x18\x19")

static const struct hmac_row {
    const char *name;
    enum crypto_hash hash;
    struct bytes key, data;
    const char *want; /* its beginning, where the vector is cut */
} hmacs[] = {
    { "RFC 2202, 1", CRYPTO_SHA1, TIMES(0x0b, 20), TEXT("Hi There"),
      "b617318655057264e28bc0b6fb378c8ef146be00" },
    { "RFC 2202, 2", CRYPTO_SHA1, TEXT("Jefe"), TEXT("what do ya want for nothing?"),
      "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79" },
    { "RFC 2202, 3", CRYPTO_SHA1, TIMES(0xaa, 20), TIMES(0xdd, 50),
      "125d7342b9ac11cd91a39af48aa17b4f63f175d3" },
    { "RFC 2202, 4", CRYPTO_SHA1, TO_25, TIMES(0xcd, 50),
      "4c9007f4026250c6bc8414f9bf50c86c2d7235da" },
    { "RFC 2202, 5", CRYPTO_SHA1, TIMES(0x0c, 20), TEXT("Test With Truncation"),
      "4c1a03424b55e07fe7f27be1d58bb9324a9a5a04" },
    { "RFC 2202, 6", CRYPTO_SHA1, TIMES(0xaa, 80),
      TEXT("Test Using Larger Than Block-Size Key - Hash Key First"),
      "aa4ae5e15272d00e95705637ce8a3b55ed402112" },
    { "RFC 2202, 7", CRYPTO_SHA1, TIMES(0xaa, 80),
      TEXT("Test Using Larger Than Block-Size Key and Larger Than One Block-Size Data"),
      "e8e99d0f45237d786d6bbaa7965c7808bbff1a91" },
    { "RFC 4231, 1, SHA-256", CRYPTO_SHA256, TIMES(0x0b, 20), TEXT("Hi There"),
      "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7" },
    { "RFC 4231, 2, SHA-256", CRYPTO_SHA256, TEXT("Jefe"), TEXT("what do ya want for nothing?"),
      "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843" },
    { "RFC 4231, 3, SHA-256", CRYPTO_SHA256, TIMES(0xaa, 20), TIMES(0xdd, 50),
      "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe" },
    { "RFC 4231, 4, SHA-256", CRYPTO_SHA256, TO_25, TIMES(0xcd, 50),
      "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b" },
    { "RFC 4231, 5, SHA-256", CRYPTO_SHA256, TIMES(0x0c, 20), TEXT("Test With Truncation"),
      "a3b6167473100ee06e0c796c2955552b" },
    { "RFC 4231, 6, SHA-256", CRYPTO_SHA256, TIMES(0xaa, 131),
      TEXT("Test Using Larger Than Block-Size Key - Hash Key First"),
      "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54" },
    { "RFC 4231, 7, SHA-256", CRYPTO_SHA256, TIMES(0xaa, 131),
      TEXT("This is a test using a larger than block-size key and a larger than block-size data. "
           "The key needs to be hashed before being used by the HMAC algorithm."),
      "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2" },
    { "RFC 4231, 1, SHA-512", CRYPTO_SHA512, TIMES(0x0b, 20), TEXT("Hi There"),
      "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cdedaa833b7d6b8a702038b274eaea3"
      "f4e4be9d914eeb61f1702e696c203a126854" },
    { "RFC 4231, 2, SHA-512", CRYPTO_SHA512, TEXT("Jefe"), TEXT("what do ya want for nothing?"),
      "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0"
      "e6fdcaeab1a34d4a6b4b636e070a38bce737" },
    { "RFC 4231, 3, SHA-512", CRYPTO_SHA512, TIMES(0xaa, 20), TIMES(0xdd, 50),
      "fa73b0089d56a284efb0f0756c890be9b1b5dbdd8ee81a3655f83e33b2279d39bf3e848279a722c806b485a47e67"
      "c807b946a337bee8942674278859e13292fb" },
    { "RFC 4231, 4, SHA-512", CRYPTO_SHA512, TO_25, TIMES(0xcd, 50),
      "b0ba465637458c6990e5a8c5f61d4af7e576d97ff94b872de76f8050361ee3dba91ca5c11aa25eb4d679275cc578"
      "8063a5f19741120c4f2de2adebeb10a298dd" },
    { "RFC 4231, 5, SHA-512", CRYPTO_SHA512, TIMES(0x0c, 20), TEXT("Test With Truncation"),
      "415fad6271580a531d4179bc891d87a6" },
    { "RFC 4231, 6, SHA-512", CRYPTO_SHA512, TIMES(0xaa, 131),
      TEXT("Test Using Larger Than Block-Size Key - Hash Key First"),
      "80b24263c7c1a3ebb71493c1dd7be8b49b46d1f41b4aeec1121b013783f8f3526b56d037e05f2598bd0fd2215d6a"
      "1e5295e64f73f63f0aec8b915a985d786598" },
    { "RFC 4231, 7, SHA-512", CRYPTO_SHA512, TIMES(0xaa, 131),
      TEXT("This is a test using a larger than block-size key and a larger than block-size data. "
           "The key needs to be hashed before being used by the HMAC algorithm."),
      "e37b6a775dc87dbaa4dfa9f96e5e3ffddebd71f8867289865df5a32d20cdc944b6022cac3c4982b10d5eeb55c3e4"
      "de15134676fb6de0446065c97440fa8c6a58" },
};

static struct span spell(const struct bytes *b, char *out)
{
    if (b->text)
        memcpy(out, b->text, b->n);
    else
        memset(out, b->byte, b->n);
    return span_of(out, b->n);
}

/* The message in one part, and in three of every length: a key is not used up. */
static void hmac(void **state)
{
    const struct hmac_row *r = *state;
    char key_bytes[256], data_bytes[256];
    struct span key = spell(&r->key, key_bytes), data = spell(&r->data, data_bytes);
    struct crypto_hmac *k = crypto_hmac_new(r->hash, key);
    uint8_t whole[CRYPTO_HASH_MAX], parts[CRYPTO_HASH_MAX];
    size_t n = crypto_hmac(k, &data, 1, whole);

    assert_hex(whole, MIN(n, strlen(r->want) / 2), r->want);
    for (size_t i = 0; i <= data.n; i++) {
        struct span p[] = { { data.p, i / 2 },
                            { data.p + i / 2, i - i / 2 },
                            { data.p + i, data.n - i } };
        assert_int_equal(crypto_hmac(k, p, 3, parts), n);
        assert_memory_equal(parts, whole, n);
    }
    crypto_hmac_free(k);
}

static void hmac_of_nothing(void **state UNUSED)
{
    struct crypto_hmac *k = crypto_hmac_new(CRYPTO_SHA256, SPAN_NONE);
    uint8_t out[CRYPTO_HASH_MAX];

    assert_hex(out, crypto_hmac(k, NULL, 0, out),
               "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
    crypto_hmac_free(k);
    crypto_hmac_free(NULL);
}

static const struct base64_row {
    const char *name, *text;
    bool url, optional;
    const char *want; /* NULL: refused */
} base64s[] = {
    { "RFC 4648: empty", "", false, false, "" },
    { "RFC 4648: f", "Zg==", false, false, "f" },
    { "RFC 4648: fo", "Zm8=", false, false, "fo" },
    { "RFC 4648: foo", "Zm9v", false, false, "foo" },
    { "RFC 4648: foob", "Zm9vYg==", false, false, "foob" },
    { "RFC 4648: fooba", "Zm9vYmE=", false, false, "fooba" },
    { "RFC 4648: foobar", "Zm9vYmFy", false, false, "foobar" },
    { "both other digits", "++//", false, false, "\xfb\xef\xff" },
    { "both other digits, url", "--__", true, false, "\xfb\xef\xff" },
    { "digits of the other alphabet", "--__", false, false, NULL },
    { "digits of the other alphabet, url", "++//", true, false, NULL },
    { "padding left out", "Zg", false, false, NULL },
    { "padding left out where it may be", "Zg", false, true, "f" },
    { "padding that may be left out", "Zm8=", false, true, "fo" },
    { "half a padding", "Zg=", false, false, NULL },
    { "half a padding where it may be left out", "Zg=", false, true, NULL },
    { "padding too long", "Zm8==", false, true, NULL },
    { "padding of a whole group", "Zm9v====", false, true, NULL },
    { "padding behind a whole group", "Zm9v=", false, true, NULL },
    { "nothing but padding", "====", false, true, NULL },
    { "nothing but half a padding", "==", false, true, NULL },
    { "padding inside", "Zg==Zg==", false, true, NULL },
    { "padding in front", "=Zg=", false, true, NULL },
    { "one digit", "Z", false, true, NULL },
    { "five digits", "Zm9vY", false, true, NULL },
    { "loose bits behind one byte", "Zh==", false, false, NULL },
    { "loose bits behind two bytes", "Zm9=", false, false, NULL },
    { "loose bits without padding", "Zh", false, true, NULL },
    { "blank", "Zm 9v", false, true, NULL },
    { "line end", "Zm9v\n", false, true, NULL },
    { "line end in a group", "Zm9\n", false, true, NULL },
};

static void base64(void **state)
{
    const struct base64_row *r = *state;
    uint8_t out[64];
    ssize_t n = crypto_from_base64(span_str(r->text), r->url, r->optional, out, sizeof out);

    assert_int_equal(n, r->want ? (ssize_t)strlen(r->want) : -1);
    if (r->want)
        assert_memory_equal(out, r->want, (size_t)n);
}

/* What is encoded is decoded, at every length, and never into less room than it needs. */
static void base64_of_every_length(void **state UNUSED)
{
    uint8_t raw[200], back[200];

    for (size_t n = 0; n <= sizeof raw; n++) {
        struct buf text = BUF_INIT;
        uint8_t *room = malloc(n ? n : 1); /* so that a sanitizer sees its end */
        crypto_random(raw, n);
        buf_base64(&text, span_of(raw, n));
        assert_int_equal(crypto_from_base64(buf_as_span(&text), false, false, back, sizeof back),
                         n);
        assert_memory_equal(back, raw, n);
        assert_int_equal(crypto_from_base64(buf_as_span(&text), false, false, room, n), n);
        assert_memory_equal(room, raw, n);
        if (n)
            assert_int_equal(crypto_from_base64(buf_as_span(&text), false, false, room, n - 1), -1);
        free(room);
        buf_free(&text);
    }
}

/* Every byte at every place of one group and of a long text: a digit or refused. */
static void base64_of_every_byte(void **state UNUSED)
{
    static const char standard[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    static const char url[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    uint8_t out[64];
    char text[64];

    for (size_t at = 0; at < sizeof text; at++)
        for (int c = 0; c < 256; c++) {
            bool pad = c == '=' && at == sizeof text - 1; /* "AAA=" is two bytes */
            memset(text, 'A', sizeof text);
            text[at] = (char)c;
            assert_int_equal(
                crypto_from_base64(span_of(text, sizeof text), false, false, out, sizeof out),
                pad                        ? 47
                : c && strchr(standard, c) ? 48
                                           : -1);
            assert_int_equal(
                crypto_from_base64(span_of(text, sizeof text), true, false, out, sizeof out),
                pad                   ? 47
                : c && strchr(url, c) ? 48
                                      : -1);
        }
}

static void hex_of_every_byte(void **state UNUSED)
{
    uint8_t out[2];
    char text[4];

    for (size_t at = 0; at < sizeof text; at++)
        for (int c = 0; c < 256; c++) {
            memset(text, '0', sizeof text);
            text[at] = (char)c;
            assert_int_equal(crypto_from_hex(span_of(text, sizeof text), out, sizeof out),
                             c && strchr("0123456789abcdefABCDEF", c) ? 2 : -1);
        }
    assert_int_equal(crypto_from_hex(S("00fFA9"), out, 2), -1); /* no room */
    assert_int_equal(crypto_from_hex(S("fFA9"), out, 2), 2);
    assert_int_equal(out[0], 0xff);
    assert_int_equal(out[1], 0xa9);
    assert_int_equal(crypto_from_hex(S("abc"), out, 2), -1);
    assert_int_equal(crypto_from_hex(S(""), out, 2), 0);
}

static void equal_means_every_bit(void **state UNUSED)
{
    uint8_t a[64] = { 0 }, b[64] = { 0 };

    for (size_t n = 0; n <= sizeof a; n++)
        assert_true(crypto_equal(a, n, b, n));
    for (size_t bit = 0; bit < 8 * sizeof a; bit++) {
        b[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_false(crypto_equal(a, sizeof a, b, sizeof b));
        b[bit / 8] = 0;
    }
    assert_false(crypto_equal(a, 63, b, 64));
    assert_false(crypto_equal(a, 0, b, 1));
    assert_true(crypto_equal(NULL, 0, NULL, 0));
}

/* Sixty-four draws: no byte stands still, no two draws are the same. */
static void random_varies(void **state UNUSED)
{
    uint8_t draw[64][32];
    bool varies[32] = { false };

    for (size_t i = 0; i < 64; i++) {
        crypto_random(draw[i], sizeof draw[i]);
        for (size_t k = 0; k < i; k++)
            assert_memory_not_equal(draw[i], draw[k], sizeof draw[i]);
        for (size_t c = 0; c < 32; c++)
            varies[c] |= draw[i][c] != draw[0][c];
    }
    for (size_t c = 0; c < 32; c++)
        assert_true(varies[c]);
    crypto_random(draw[0], 0);
}

static void wiped_is_zero(void **state UNUSED)
{
    static const uint8_t zeros[16];
    uint8_t secret[16] = "secret";

    crypto_wipe(secret, sizeof secret);
    assert_memory_equal(secret, zeros, sizeof zeros);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(hmac_of_nothing),       cmocka_unit_test(base64_of_every_length),
        cmocka_unit_test(base64_of_every_byte),  cmocka_unit_test(hex_of_every_byte),
        cmocka_unit_test(equal_means_every_bit), cmocka_unit_test(random_varies),
        cmocka_unit_test(wiped_is_zero),
    };

    return T_TABLE(hashes, hash) + T_TABLE(hmacs, hmac) + T_TABLE(base64s, base64) + T_RUN(tests);
}
