/* webhook - signing as Standard Webhooks 1.0 says, for what we send ourselves: HMAC-SHA256 over
 * "id.timestamp.body", one signature a key, so that the other side can take a new key in.
 *
 * Any thread; a key is read only. */
#pragma once

#include "crypto.h"

/* From "whsec_" + base64, or the base64 alone. NULL when it is neither. */
struct crypto_hmac *webhook_key(struct span secret);
/* id: without a dot, which would end it in the signed message. Appends the lines "webhook-id:...",
 * "webhook-timestamp:..." and "webhook-signature:...", each with its LF. */
void webhook_sign(const struct crypto_hmac *const *keys, size_t n, struct span id, int64_t now_ms,
                  struct span body, struct buf *headers);
