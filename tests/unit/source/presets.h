/* SPDX-License-Identifier: Apache-2.0 */
/* What a user must add to each preset, and the key that its provider signs with. */
#pragma once

#include "harness.h"

#include "crypto.h"

#define TEST_SECRET "whsec_b1JkZXJseS1wZW5ndWlucy1uZXZlci1sZWFr"

enum { WITH_SECRET = -1, WITH_CERTIFICATE = -2 }; /* which test_keys.c has */
struct preset_needs {
    const char *name;
    const char *more; /* beside a secret */
    int scheme;       /* of its private key, or one of these */
};
static const struct preset_needs preset_needs[] = {
    { "gemini-dynamic", "require: none\n", CRYPTO_ED25519 },
    { "fal", "", CRYPTO_ED25519 },
    { "discord", "", CRYPTO_ED25519 },
    { "discord-interactions", "", CRYPTO_ED25519 },
    { "telnyx", "", CRYPTO_ED25519 },
    { "sendgrid", "", CRYPTO_ECDSA_P256 },
    { "kick", "", CRYPTO_RSA_SHA256 },
    { "plaid", "", CRYPTO_ECDSA_P256 },
    { "google-pubsub", "audience: me\nemail: push@example.iam.gserviceaccount.com\n",
      CRYPTO_RSA_SHA256 },
    { "assemblyai", "header: x-auth\n", WITH_SECRET },
    { "twilio", "url: https://hooks.example.com/twilio\n", WITH_SECRET },
    { "square", "url: https://hooks.example.com/square\n", WITH_SECRET },
    { "meta", "verify_token: shibboleth\n", WITH_SECRET },
    { "paypal", "config: { webhook_id: WH123 }\n", WITH_CERTIFICATE },
    { "aws-sns", "equals: { TopicArn: arn }\n", WITH_CERTIFICATE },
};

static inline struct preset_needs needs_of(const char *name)
{
    for (size_t i = 0; i < sizeof preset_needs / sizeof preset_needs[0]; i++)
        if (!strcmp(preset_needs[i].name, name))
            return preset_needs[i];
    return (struct preset_needs){ name, "", WITH_SECRET };
}

/* The keys for a source of that preset; *private gets what source_outgoing.key takes. */
static inline void add_needs(const char *name, struct buf *config, struct buf *private)
{
    struct preset_needs n = needs_of(name);
    struct buf public = BUF_INIT;
    struct crypto_private *key;

    buf_adds(config, n.more);
    if (!strcmp(name, "none") || n.scheme == WITH_CERTIFICATE)
        return;
    if (n.scheme == WITH_SECRET) {
        buf_adds(config, "secrets: ['" TEST_SECRET "']\n");
        return;
    }
    key = crypto_private_generate((enum crypto_scheme)n.scheme);
    crypto_private_print(key, private);
    crypto_public_print(crypto_private_public(key), CRYPTO_SPKI, &public);
    buf_printf(config, "public_keys: ['%s']\n", buf_cstr(&public));
    buf_free(&public);
    crypto_private_free(key);
}

/* The bytes of a delivery with that target and those lines; the caller frees them. */
static inline char *delivery(struct http_request *req, const char *method, struct span query,
                             struct span headers, struct span body)
{
    static const struct http_limits limits = { 65536, 8192, 1 << 20 };
    struct buf b = BUF_INIT;
    enum http_result r = HTTP_HEAD;

    buf_printf(&b, "%s /hooks/test%s", method, query.n ? "?" : "");
    buf_span(&b, query);
    buf_adds(&b, " HTTP/1.1\r\nHost: a\r\n");
    if (body.n || !strcmp(method, "POST"))
        buf_printf(&b, "Content-Length: %zu\r\n", body.n);
    buf_span(&b, headers);
    buf_adds(&b, "\r\n");
    buf_span(&b, body);
    http_request_init(req, &limits);
    while (r == HTTP_HEAD)
        r = http_parse(req, b.p, b.n, &limits);
    assert_int_equal(r, HTTP_DONE);
    return buf_take(&b);
}
