/* SPDX-License-Identifier: Apache-2.0 */
/* The signing half of Standard Webhooks. Verifying is the business of sources. */
#include "webhook.h"

#define KEY_MAX 512

struct crypto_hmac *webhook_key(struct span secret)
{
    struct span prefix = S("whsec_");
    struct crypto_hmac *k;
    uint8_t key[KEY_MAX];
    ssize_t n;

    if (span_starts(secret, prefix))
        secret = span_of(secret.p + prefix.n, secret.n - prefix.n);
    n = crypto_from_base64(secret, false, true, key, sizeof key);
    k = n > 0 ? crypto_hmac_new(CRYPTO_SHA256, span_of(key, (size_t)n)) : NULL;
    crypto_wipe(key, sizeof key);
    return k;
}

void webhook_sign(const struct crypto_hmac *const *keys, size_t n, struct span id, int64_t now_ms,
                  struct span body, struct buf *headers)
{
    struct buf stamp = BUF_INIT;
    uint8_t mac[CRYPTO_HASH_MAX];
    struct span parts[5];

    buf_u64(&stamp, (uint64_t)(now_ms / 1000));
    parts[0] = id;
    parts[1] = parts[3] = S(".");
    parts[2] = buf_as_span(&stamp);
    parts[4] = body;
    buf_adds(headers, "webhook-id:");
    buf_span(headers, id);
    buf_adds(headers, "\nwebhook-timestamp:");
    buf_span(headers, parts[2]);
    buf_adds(headers, "\nwebhook-signature:");
    for (size_t i = 0; i < n; i++) {
        buf_adds(headers, i ? " v1," : "v1,");
        buf_base64(headers, span_of(mac, crypto_hmac(keys[i], parts, ARRAY_LEN(parts), mac)));
    }
    buf_addc(headers, '\n');
    buf_free(&stamp);
}
