/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "table.h"
#include "webhook.h"

/* The test vector of the standard-webhooks libraries. */
#define SECRET "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
#define OTHER "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
#define ID "msg_p5jXN8AQM9LWM0D4loKWxJek"
#define BODY "{\"test\": 2432232314}"
#define LINES "webhook-id:" ID "\nwebhook-timestamp:1614265330\nwebhook-signature:"
#define MAC "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

static void vector(void **state UNUSED)
{
    struct crypto_hmac *k = webhook_key(S(SECRET));
    struct buf b = BUF_INIT;

    webhook_sign((const struct crypto_hmac *const *)&k, 1, S(ID), 1614265330999, S(BODY), &b);
    assert_string_equal(buf_cstr(&b), LINES MAC "\n");
    crypto_hmac_free(k);
    buf_free(&b);
}

static void one_signature_a_key(void **state UNUSED)
{
    struct crypto_hmac *k[] = { webhook_key(S(OTHER)), webhook_key(S(SECRET)) };
    struct buf b = BUF_INIT;

    webhook_sign((const struct crypto_hmac *const *)k, 2, S(ID), 1614265330000, S(BODY), &b);
    assert_int_equal(strncmp(buf_cstr(&b), LINES "v1,", strlen(LINES "v1,")), 0);
    assert_non_null(strstr(buf_cstr(&b), "= " MAC "\n"));
    crypto_hmac_free(k[0]);
    crypto_hmac_free(k[1]);
    buf_free(&b);
}

static const struct key_row {
    const char *name, *secret;
    bool good;
} keys[] = {
    { "with its prefix", SECRET, true },
    { "without", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", true },
    { "empty", "", false },
    { "the prefix alone", "whsec_", false },
    { "no base64", "whsec_not!", false },
    { "a private key", "whsk_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", false },
};

static void key(void **state)
{
    const struct key_row *r = *state;
    struct crypto_hmac *k = webhook_key(span_str(r->secret));

    assert_int_equal(k != NULL, r->good);
    crypto_hmac_free(k);
}

int main(void)
{
    static const struct CMUnitTest tests[] = { cmocka_unit_test(vector),
                                               cmocka_unit_test(one_signature_a_key) };

    return T_TABLE(keys, key) + T_RUN(tests);
}
