/* SPDX-License-Identifier: Apache-2.0 */
/* Everything that must be refused, preset by preset (P10), and what must be taken all the same. The
 * official vectors have a test of their own. */
#include "harness.h"

#include <stdio.h>

#include "crypto.h"

#define SW "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
#define SW_ID "webhook-id: msg_p5jXN8AQM9LWM0D4loKWxJek\r\n"
#define SW_TS "webhook-timestamp: 1614265330\r\n"
#define SW_BODY "{\"test\": 2432232314}"
#define SW_SIG "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
#define SW_BAD "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OA="
#define SW_OTHER "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc="
#define SIG(s) "webhook-signature: " s "\r\n"
#define SW_NOW 1614265330
#define STD "provider: standard-webhooks\nsecrets: ['" SW "']\n"

#define OWN(algorithm, rest) "signature: { algorithm: " algorithm ", header: x-sig, " rest " }\n"
#define URL "url: https://a.example/h\n"
#define SHA512_URL                                                                                 \
    "gtXlrX_T5OEkWbVcsS9UwvI_2txQzwLp3K-ETNlDMxlDlOd3k9UR0ez3d5_X1HslvJLL1_FDYH7l6sGq_Dcw7g"

static const struct row {
    const char *name, *config, *headers, *body;
    int64_t now_s;
    enum verdict want;
} rows[] = {
    { "standard webhooks vector", STD, SW_ID SW_TS SIG(SW_SIG), SW_BODY, SW_NOW, VERDICT_OK },
    { "one bit off", STD, SW_ID SW_TS SIG(SW_BAD), SW_BODY, SW_NOW, VERDICT_BAD_SIGNATURE },
    { "another body", STD, SW_ID SW_TS SIG(SW_SIG), "{\"test\":2432232314}", SW_NOW,
      VERDICT_BAD_SIGNATURE },
    { "several, one of them ours", STD, SW_ID SW_TS SIG(SW_OTHER " v2,xyz " SW_SIG " " SW_OTHER),
      SW_BODY, SW_NOW, VERDICT_OK },
    { "a version we do not know alone", STD,
      SW_ID SW_TS SIG("v2,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="), SW_BODY, SW_NOW,
      VERDICT_UNSIGNED },
    { "five minutes old to the second", STD, SW_ID SW_TS SIG(SW_SIG), SW_BODY, SW_NOW + 300,
      VERDICT_OK },
    { "a second more", STD, SW_ID SW_TS SIG(SW_SIG), SW_BODY, SW_NOW + 301, VERDICT_STALE },
    { "five minutes ahead", STD, SW_ID SW_TS SIG(SW_SIG), SW_BODY, SW_NOW - 300, VERDICT_OK },
    { "further ahead", STD, SW_ID SW_TS SIG(SW_SIG), SW_BODY, SW_NOW - 301, VERDICT_FUTURE },
    { "no signature", STD, SW_ID SW_TS, SW_BODY, SW_NOW, VERDICT_UNSIGNED },
    { "no timestamp", STD, SW_ID SIG(SW_SIG), SW_BODY, SW_NOW, VERDICT_UNSIGNED },
    { "no id", STD, SW_TS SIG(SW_SIG), SW_BODY, SW_NOW, VERDICT_UNSIGNED },
    { "id twice", STD, SW_ID SW_ID SW_TS SIG(SW_SIG), SW_BODY, SW_NOW, VERDICT_MALFORMED },
    { "timestamp twice", STD, SW_ID SW_TS SW_TS SIG(SW_SIG), SW_BODY, SW_NOW, VERDICT_MALFORMED },
    { "signature twice, the same text", STD, SW_ID SW_TS SIG(SW_SIG) SIG(SW_SIG), SW_BODY, SW_NOW,
      VERDICT_OK },
    { "signature twice, different", STD, SW_ID SW_TS SIG(SW_SIG) SIG(SW_OTHER), SW_BODY, SW_NOW,
      VERDICT_MALFORMED },
    { "base64 without padding", STD,
      SW_ID SW_TS SIG("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE"), SW_BODY, SW_NOW,
      VERDICT_MALFORMED },
    { "base64 with a loose tail", STD,
      SW_ID SW_TS SIG("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OF="), SW_BODY, SW_NOW,
      VERDICT_MALFORMED },
    { "signature cut short", STD, SW_ID SW_TS SIG("v1,g0hM9SsE"), SW_BODY, SW_NOW,
      VERDICT_MALFORMED },
    { "seventeen signatures", STD,
      SW_ID SW_TS SIG(SW_OTHER " " SW_OTHER " " SW_OTHER " " SW_OTHER " " SW_OTHER " " SW_OTHER
                               " " SW_OTHER " " SW_OTHER " " SW_OTHER " " SW_OTHER " " SW_OTHER
                               " " SW_OTHER " " SW_OTHER " " SW_OTHER " " SW_OTHER " " SW_OTHER
                               " " SW_SIG),
      SW_BODY, SW_NOW, VERDICT_MALFORMED },
    { "rotated: the old secret still holds",
      "provider: standard-webhooks\nsecrets: ['whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA', '" SW
      "']\n",
      SW_ID SW_TS SIG(SW_SIG), SW_BODY, SW_NOW, VERDICT_OK },
    { "secret without its prefix",
      "provider: gemini\nsecrets: ['MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw']\n", SW_ID SW_TS SIG(SW_SIG),
      SW_BODY, SW_NOW, VERDICT_OK },
    { "github with sha1 only", "provider: github\nsecrets: [\"It's a Secret to Everybody\"]\n",
      "X-Hub-Signature: sha1=01dc10d0c83e72ed246219cdd91669667fe2ca59\r\n", "Hello, World!", 0,
      VERDICT_UNSIGNED },
    { "bearer token", "provider: token\nsecrets: [s3cret]\n", "Authorization: Bearer s3cret\r\n",
      "{}", 0, VERDICT_OK },
    { "bearer token, wrong", "provider: token\nsecrets: [s3cret]\n",
      "Authorization: Bearer s3cres\r\n", "{}", 0, VERDICT_BAD_SIGNATURE },
    { "bearer token, a prefix of it", "provider: token\nsecrets: [s3cret]\n",
      "Authorization: Bearer s3cre\r\n", "{}", 0, VERDICT_BAD_SIGNATURE },
    { "token in a header of its own", "provider: token\nheader: X-Auth\nsecrets: [a, s3cret]\n",
      "x-auth: s3cret\r\n", "{}", 0, VERDICT_OK },
    { "token missing", "provider: token\nheader: X-Auth\nsecrets: [s3cret]\n", "", "{}", 0,
      VERDICT_UNSIGNED },
    { "nothing is checked", "provider: none\n", "", "x", 0, VERDICT_OK },
    { "a timestamp moved to another place",
      "provider: gemini\nsecrets: ['" SW "']\nsignature: { timestamp: { path: at, unit: s } }\n",
      SW_ID SW_TS SIG(SW_SIG), SW_BODY, SW_NOW, VERDICT_MALFORMED },
    { "sha1, base64", OWN("hmac-sha1", "encoding: base64") "secrets: [k]\n",
      "x-sig: ywATH87GAqj8hEE6KnAVTYwGoNI=\r\n", "x", 0, VERDICT_OK },
    { "sha1, one bit off", OWN("hmac-sha1", "encoding: base64") "secrets: [k]\n",
      "x-sig: ywATH87GAqj8hEE6KnAVTYwGoNA=\r\n", "x", 0, VERDICT_BAD_SIGNATURE },
    { "sha512, base64url, url",
      OWN("hmac-sha512", "encoding: base64url, message: '{url}|{body}'") URL "secrets: [k]\n",
      "x-sig: " SHA512_URL "==\r\n", "x", 0, VERDICT_OK },
    { "base64url may leave its padding out",
      OWN("hmac-sha512", "encoding: base64url, message: '{url}|{body}'") URL "secrets: [k]\n",
      "x-sig: " SHA512_URL "\r\n", "x", 0, VERDICT_OK },
    { "base64url is not base64",
      OWN("hmac-sha512", "encoding: base64, message: '{url}|{body}'") URL "secrets: [k]\n",
      "x-sig: " SHA512_URL "==\r\n", "x", 0, VERDICT_MALFORMED },
    { "the digest of the body, twice",
      OWN("hmac-sha256", "message: '{sha256hex:body}{sha256hex:body}'") "secrets: [k]\n",
      "x-sig: a7b26a13d2e1e9d8f4c70ac68989295387d2189a9699807c197e190ddcf8f86a\r\n", "x", 0,
      VERDICT_OK },
    { "part of the query, decoded",
      OWN("hmac-sha256", "message: '{query:b}:{body}'") "secrets: [k]\n",
      "x-sig: 9759f15b8d270030129f887e4e64ddf189ae372e5d87dae074be90641ec91899\r\n", "x", 0,
      VERDICT_OK },
    { "part of a query that is not there",
      OWN("hmac-sha256", "message: '{query:c}:{body}'") "secrets: [k]\n", "x-sig: 00\r\n", "x", 0,
      VERDICT_MALFORMED },
    { "several query parts keep their places",
      OWN("hmac-sha256", "message: '{query:a}{query:a}{query:a}{query:a}{body}'") "secrets: [k]\n",
      "x-sig: 0000000000000000000000000000000000000000000000000000000000000000\r\n", "x", 0,
      VERDICT_BAD_SIGNATURE },
    { "a secret in hex", OWN("hmac-sha256", "secret: { decode: hex }") "secrets: ['00ff']\n",
      "x-sig: ec08c38a1921799b7ab398838b5733373501bd34336bd9252cdc77b273a0b52d\r\n", "x", 0,
      VERDICT_OK },
    { "a digest of another length", OWN("hmac-sha512", "encoding: base64") "secrets: [k]\n",
      "x-sig: ywATH87GAqj8hEE6KnAVTYwGoNI=\r\n", "x", 0, VERDICT_MALFORMED },
    { "an empty signature", OWN("hmac-sha256", "encoding: hex") "secrets: [k]\n", "x-sig: \r\n",
      "x", 0, VERDICT_MALFORMED },
    { "a token twice", "provider: token\nheader: X-Auth\nsecrets: [s3cret]\n",
      "x-auth: s3cret\r\nx-auth: s3cret\r\n", "{}", 0, VERDICT_MALFORMED },
    { "another scheme than bearer", "provider: token\nsecrets: [s3cret]\n",
      "Authorization: Basic s3cret\r\n", "{}", 0, VERDICT_MALFORMED },
    { "bearer in small letters", "provider: token\nsecrets: [s3cret]\n",
      "authorization: bearer s3cret\r\n", "{}", 0, VERDICT_OK },
    { "an empty bearer token", "provider: token\nsecrets: [s3cret]\n", "Authorization: Bearer \r\n",
      "{}", 0, VERDICT_MALFORMED },
};

static void verdict(void **state)
{
    const struct row *r = *state;
    struct made m;

    make_good(&m, r->config);
    assert_string_equal(
        verdict_name(verdict_of(m.plan, span_str(r->headers), span_str(r->body), r->now_s * 1000)),
        verdict_name(r->want));
    unmake(&m);
}

#define T0 "1700000000"

/* Requests that are signed here, over the very text of the time: @ stands for the signature, # for
 * the time. So a row can sign what no honest sender would. */
enum signer { STANDARD, DOTTED, STRIPE, SLACK, GITHUB, MS, ISO, DOT_TIME, PATH };
static const struct {
    const char *config, *message; /* @ is the body here, # the time */
    bool base64;
} signers[] = {
    [STANDARD] = { "provider: gemini\nsecrets: [whsec_a2V5]\n", "msg_1.#.@", true },
    [DOTTED] = { "provider: gemini\nsecrets: [whsec_a2V5]\n", "msg." T0 ".#.@", true },
    [STRIPE] = { "provider: stripe\nsecrets: [key]\n", "#.@", false },
    [SLACK] = { "provider: slack\nsecrets: [key]\n", "v0:#:@", false },
    [GITHUB] = { "provider: github\nsecrets: [key]\n", "@", false },
    [MS] = { OWN("hmac-sha256",
                 "message: '{header:x-at}{body}', "
                 "timestamp: { header: x-at, unit: ms, tolerance: 1m, future: 1s }") "secrets: "
                                                                                     "[key]\n",
             "#@", false },
    [ISO] = { OWN("hmac-sha256", "message: '{header:x-at}{body}', "
                                 "timestamp: { header: x-at, unit: iso8601 }") "secrets: [key]\n",
              "#@", false },
    [DOT_TIME] = { OWN("hmac-sha256",
                       "message: '{header:x-at}.{body}', "
                       "timestamp: { header: x-at, unit: iso8601 }") "secrets: [key]\n",
                   "#.@", false },
    [PATH] = { OWN("hmac-sha256", "timestamp: { path: meta.at, unit: ms }") "secrets: [key]\n", "@",
               false },
};

static void fill(const char *template, struct span at, struct span hash, struct buf *out)
{
    for (; *template; template ++)
        if (*template == '@')
            buf_span(out, at);
        else if (*template == '#')
            buf_span(out, hash);
        else
            buf_addc(out, *template);
}

static void sign(enum signer who, struct span body, struct span stamp, struct buf *out)
{
    struct crypto_hmac *key = crypto_hmac_new(CRYPTO_SHA256, S("key"));
    struct buf message = BUF_INIT;
    struct span text, mac;
    uint8_t raw[CRYPTO_HASH_MAX];

    fill(signers[who].message, body, stamp, &message);
    text = buf_as_span(&message);
    mac = span_of(raw, crypto_hmac(key, &text, 1, raw));
    if (signers[who].base64)
        buf_base64(out, mac);
    else
        buf_hex(out, mac);
    buf_free(&message);
    crypto_hmac_free(key);
}

#define ID "webhook-id: msg_1\r\n"
#define TS "webhook-timestamp: #\r\n"
#define ZEROS "0000000000000000000000000000000000000000000000000000000000000000"
#define SLACK_TS "x-slack-request-timestamp: #\r\n"
#define AT "x-at: #\r\nx-sig: @\r\n"
static const struct signed_row {
    const char *name;
    enum signer who;
    const char *headers, *stamp;
    int64_t now_ms; /* after T0 */
    enum verdict want;
} signed_rows[] = {
    { "standard: as it should be", STANDARD, ID TS SIG("v1,@"), T0, 0, VERDICT_OK },
    { "standard: names in another case", STANDARD,
      "WEBHOOK-ID: msg_1\r\nWebhook-Timestamp: #\r\nwebHook-Signature: v1,@\r\n", T0, 0,
      VERDICT_OK },
    { "standard: five minutes old", STANDARD, ID TS SIG("v1,@"), T0, 300999, VERDICT_OK },
    { "standard: stale", STANDARD, ID TS SIG("v1,@"), T0, 301000, VERDICT_STALE },
    { "standard: future", STANDARD, ID TS SIG("v1,@"), T0, -301000, VERDICT_FUTURE },
    { "standard: a time in milliseconds", STANDARD, ID TS SIG("v1,@"), T0 "000", 0,
      VERDICT_FUTURE },
    { "standard: a time with a sign", STANDARD, ID TS SIG("v1,@"), "+" T0, 0, VERDICT_MALFORMED },
    { "standard: a time before 1970", STANDARD, ID TS SIG("v1,@"), "-1", 0, VERDICT_MALFORMED },
    { "standard: a time with a fraction", STANDARD, ID TS SIG("v1,@"), T0 ".5", 0,
      VERDICT_MALFORMED },
    { "standard: a time that is a word", STANDARD, ID TS SIG("v1,@"), "now", 0, VERDICT_MALFORMED },
    { "standard: an empty time", STANDARD, ID TS SIG("v1,@"), "", 0, VERDICT_MALFORMED },
    { "standard: a time that overflows", STANDARD, ID TS SIG("v1,@"), "9223372036854775807", 0,
      VERDICT_MALFORMED },
    { "standard: a time of twenty digits", STANDARD, ID TS SIG("v1,@"), "00000000001700000000", 0,
      VERDICT_MALFORMED },
    { "standard: version in capitals", STANDARD, ID TS SIG("V1,@"), T0, 0, VERDICT_UNSIGNED },
    { "standard: bare signature", STANDARD, ID TS SIG("@"), T0, 0, VERDICT_UNSIGNED },
    { "standard: asymmetric alone", STANDARD, ID TS SIG("v1a,@"), T0, 0, VERDICT_UNSIGNED },
    { "standard: asymmetric beside ours", STANDARD, ID TS SIG("v1a,AAAA v1,@"), T0, 0, VERDICT_OK },
    { "standard: empty header", STANDARD, ID TS SIG(""), T0, 0, VERDICT_UNSIGNED },
    { "standard: empty signature", STANDARD, ID TS SIG("v1,"), T0, 0, VERDICT_MALFORMED },
    { "standard: commas between signatures", STANDARD, ID TS SIG("v1,@,v1,@"), T0, 0,
      VERDICT_MALFORMED },
    { "standard: another id than was signed", STANDARD, "webhook-id: msg_2\r\n" TS SIG("v1,@"), T0,
      0, VERDICT_BAD_SIGNATURE },
    { "standard: another time than was signed", STANDARD,
      ID "webhook-timestamp: 1700000001\r\n" SIG("v1,@"), T0, 0, VERDICT_BAD_SIGNATURE },
    { "standard: an id with a dot", DOTTED, "webhook-id: msg." T0 "\r\n" TS SIG("v1,@"), T0, 0,
      VERDICT_MALFORMED },
    { "iso8601: a dot before a dot", DOT_TIME, AT, "2023-11-14T22:13:20.5Z", 0, VERDICT_OK },
    { "stripe: as it should be", STRIPE, "stripe-signature: t=#,v1=@\r\n", T0, 0, VERDICT_OK },
    { "stripe: the time behind", STRIPE, "stripe-signature: v1=@,t=#\r\n", T0, 0, VERDICT_OK },
    { "stripe: blanks behind commas", STRIPE, "stripe-signature: t=#, v1=@\r\n", T0, 0,
      VERDICT_OK },
    { "stripe: two, the second ours", STRIPE, "stripe-signature: t=#,v1=" ZEROS ",v1=@\r\n", T0, 0,
      VERDICT_OK },
    { "stripe: two, none ours", STRIPE, "stripe-signature: t=#,v1=" ZEROS ",v1=" ZEROS "\r\n", T0,
      0, VERDICT_BAD_SIGNATURE },
    { "stripe: the older scheme alone", STRIPE, "stripe-signature: t=#,v0=@\r\n", T0, 0,
      VERDICT_UNSIGNED },
    { "stripe: the older scheme beside ours", STRIPE, "stripe-signature: t=#,v0=" ZEROS ",v1=@\r\n",
      T0, 0, VERDICT_OK },
    { "stripe: scheme in capitals", STRIPE, "stripe-signature: t=#,V1=@\r\n", T0, 0,
      VERDICT_UNSIGNED },
    { "stripe: no time", STRIPE, "stripe-signature: v1=@\r\n", T0, 0, VERDICT_MALFORMED },
    { "stripe: another time than was signed", STRIPE, "stripe-signature: t=1700000001,v1=@\r\n", T0,
      0, VERDICT_BAD_SIGNATURE },
    { "stripe: stale", STRIPE, "stripe-signature: t=#,v1=@\r\n", T0, 301000, VERDICT_STALE },
    { "stripe: future", STRIPE, "stripe-signature: t=#,v1=@\r\n", T0, -301000, VERDICT_FUTURE },
    { "stripe: a time that is a word", STRIPE, "stripe-signature: t=#,v1=@\r\n", "x", 0,
      VERDICT_MALFORMED },
    { "stripe: no header", STRIPE, "", T0, 0, VERDICT_UNSIGNED },
    { "stripe: not hexadecimal", STRIPE, "stripe-signature: t=#,v1=zz\r\n", T0, 0,
      VERDICT_MALFORMED },
    { "stripe: a digit too many", STRIPE, "stripe-signature: t=#,v1=@0\r\n", T0, 0,
      VERDICT_MALFORMED },
    { "slack: as it should be", SLACK, SLACK_TS "x-slack-signature: v0=@\r\n", T0, 0, VERDICT_OK },
    { "slack: stale", SLACK, SLACK_TS "x-slack-signature: v0=@\r\n", T0, 301000, VERDICT_STALE },
    { "slack: future", SLACK, SLACK_TS "x-slack-signature: v0=@\r\n", T0, -301000, VERDICT_FUTURE },
    { "slack: no time", SLACK, "x-slack-signature: v0=@\r\n", T0, 0, VERDICT_UNSIGNED },
    { "slack: no signature", SLACK, SLACK_TS, T0, 0, VERDICT_UNSIGNED },
    { "slack: version in capitals", SLACK, SLACK_TS "x-slack-signature: V0=@\r\n", T0, 0,
      VERDICT_UNSIGNED },
    { "slack: another version", SLACK, SLACK_TS "x-slack-signature: v1=@\r\n", T0, 0,
      VERDICT_UNSIGNED },
    { "slack: two signatures in one header", SLACK, SLACK_TS "x-slack-signature: v0=@,v0=@\r\n", T0,
      0, VERDICT_MALFORMED },
    { "slack: the time twice", SLACK, SLACK_TS SLACK_TS "x-slack-signature: v0=@\r\n", T0, 0,
      VERDICT_MALFORMED },
    { "slack: malformed time", SLACK, SLACK_TS "x-slack-signature: v0=@\r\n", "12x", 0,
      VERDICT_MALFORMED },
    { "github: as it should be", GITHUB, "x-hub-signature-256: sha256=@\r\n", T0, 0, VERDICT_OK },
    { "github: no signature", GITHUB, "x-github-event: push\r\n", T0, 0, VERDICT_UNSIGNED },
    { "github: the older scheme's name", GITHUB, "x-hub-signature-256: sha1=@\r\n", T0, 0,
      VERDICT_UNSIGNED },
    { "github: scheme in capitals", GITHUB, "x-hub-signature-256: SHA256=@\r\n", T0, 0,
      VERDICT_UNSIGNED },
    { "github: bare", GITHUB, "x-hub-signature-256: @\r\n", T0, 0, VERDICT_UNSIGNED },
    { "github: cut", GITHUB, "x-hub-signature-256: sha256=00\r\n", T0, 0, VERDICT_MALFORMED },
    { "github: wrong", GITHUB, "x-hub-signature-256: sha256=" ZEROS "\r\n", T0, 0,
      VERDICT_BAD_SIGNATURE },
    { "github: twice, the same", GITHUB,
      "x-hub-signature-256: sha256=@\r\nX-Hub-Signature-256: sha256=@\r\n", T0, 0, VERDICT_OK },
    { "github: twice, the second wrong", GITHUB,
      "x-hub-signature-256: sha256=@\r\nx-hub-signature-256: sha256=" ZEROS "\r\n", T0, 0,
      VERDICT_MALFORMED },
    { "github: the delivery's id twice", GITHUB,
      "x-hub-signature-256: sha256=@\r\nx-github-delivery: 1\r\nx-github-delivery: 1\r\n", T0, 0,
      VERDICT_MALFORMED },
    { "ms: just in time", MS, AT, T0 "000", 60000, VERDICT_OK },
    { "ms: a millisecond late", MS, AT, T0 "000", 60001, VERDICT_STALE },
    { "ms: a second ahead", MS, AT, T0 "000", -1000, VERDICT_OK },
    { "ms: a millisecond more", MS, AT, T0 "000", -1001, VERDICT_FUTURE },
    { "iso8601: just in time", ISO, AT, "2023-11-14T22:13:20Z", 300000, VERDICT_OK },
    { "iso8601: late", ISO, AT, "2023-11-14T22:13:20.000Z", 300001, VERDICT_STALE },
    { "iso8601: with an offset", ISO, AT, "2023-11-14T23:13:20+01:00", 0, VERDICT_OK },
    { "iso8601: seconds instead", ISO, AT, T0, 0, VERDICT_MALFORMED },
    { "path: just in time", PATH, "x-sig: @\r\n", T0 "000", 300000, VERDICT_OK },
    { "path: late", PATH, "x-sig: @\r\n", T0 "000", 300001, VERDICT_STALE },
    { "path: a text that is no number", PATH, "x-sig: @\r\n", "\"soon\"", 0, VERDICT_MALFORMED },
    { "path: a list", PATH, "x-sig: @\r\n", "[1]", 0, VERDICT_MALFORMED },
    { "path: null", PATH, "x-sig: @\r\n", "null", 0, VERDICT_MALFORMED },
    { "path: of two the first", PATH, "x-sig: @\r\n", "0},\"meta\":{\"at\":" T0 "000", 0,
      VERDICT_STALE },
};

static void signed_verdict(void **state)
{
    const struct signed_row *r = *state;
    struct buf body = BUF_INIT, mac = BUF_INIT, headers = BUF_INIT;
    struct made m;

    fill("{\"type\":\"t\",\"meta\":{\"at\":#}}", SPAN_NONE, span_str(r->stamp), &body);
    sign(r->who, buf_as_span(&body), span_str(r->stamp), &mac);
    fill(r->headers, buf_as_span(&mac), span_str(r->stamp), &headers);
    make_good(&m, signers[r->who].config);
    assert_string_equal(verdict_name(verdict_of(m.plan, buf_as_span(&headers), buf_as_span(&body),
                                                1700000000000 + r->now_ms)),
                        verdict_name(r->want));
    unmake(&m);
    buf_free(&body);
    buf_free(&mac);
    buf_free(&headers);
}

/* Up to eight secrets while rotating, each of which may match; a stranger's may not. */
static void every_secret_holds(void **state UNUSED)
{
    struct span body = S("{}");

    for (int right = 0; right <= 8; right++) {
        struct buf config = BUF_INIT, mac = BUF_INIT, headers = BUF_INIT;
        struct made m;
        buf_adds(&config, "provider: github\nsecrets: [");
        for (int i = 0; i < 8; i++)
            buf_printf(&config, "%s, ", i == right ? "key" : "other");
        buf_adds(&config, "]\n");
        make_good(&m, buf_cstr(&config));
        sign(GITHUB, body, SPAN_NONE, &mac);
        fill("x-hub-signature-256: sha256=@\r\n", buf_as_span(&mac), SPAN_NONE, &headers);
        assert_int_equal(verdict_of(m.plan, buf_as_span(&headers), body, 0),
                         right < 8 ? VERDICT_OK : VERDICT_BAD_SIGNATURE);
        unmake(&m);
        buf_free(&config);
        buf_free(&mac);
        buf_free(&headers);
    }
}

/* Slack's handshake: answered, not logged; only when it is signed and in time. */
static void handshake(void **state UNUSED)
{
    struct span body =
        S("{\"token\":\"x\",\"challenge\":\"3e\\u005ab\",\"type\":\"url_verification\"}");
    struct buf mac = BUF_INIT, headers = BUF_INIT;
    struct source_event ev = { 0 };
    struct http_request req;
    struct made m;
    char *bytes;

    make_good(&m, signers[SLACK].config);
    sign(SLACK, body, S(T0), &mac);
    fill(SLACK_TS "x-slack-signature: v0=@\r\n", buf_as_span(&mac), S(T0), &headers);
    bytes = request(&req, buf_as_span(&headers), body);
    assert_int_equal(source_verify(m.plan, &req, bytes, SPAN_NONE, 1700000000000, &ev), VERDICT_OK);
    assert_true(ev.handshake);
    assert_int_equal(ev.handshake_status, 200);
    assert_string_equal(ev.handshake_type, "text/plain; charset=utf-8");
    assert_true(span_eq(buf_as_span(&ev.handshake_body), S("3eZb")));
    assert_int_equal(source_verify(m.plan, &req, bytes, SPAN_NONE, 1700000301000, &ev),
                     VERDICT_STALE);
    assert_false(ev.handshake);
    assert_int_equal(
        verdict_of(m.plan, S("x-slack-request-timestamp: " T0 "\r\n"), body, 1700000000000),
        VERDICT_UNSIGNED); /* verdict_of sees that it is not answered */
    assert_int_equal(
        verdict_of(m.plan,
                   S("x-slack-request-timestamp: " T0 "\r\nx-slack-signature: v0=" ZEROS "\r\n"),
                   body, 1700000000000),
        VERDICT_BAD_SIGNATURE);
    free(bytes);
    buf_free(&mac);
    buf_free(&headers);
    source_event_free(&ev);
    unmake(&m);
}

/* What the clocks differ by is told for verified times only. */
static void skew(void **state UNUSED)
{
    struct source_event ev = { 0 };
    struct http_request req;
    struct made m;
    char *bytes;

    make_good(&m, STD);
    bytes = request(&req, S(SW_ID SW_TS SIG(SW_SIG)), S(SW_BODY));
    assert_int_equal(source_verify(m.plan, &req, bytes, SPAN_NONE, (SW_NOW + 7) * 1000LL, &ev),
                     VERDICT_OK);
    assert_int_equal(ev.skew_ms, 7000);
    assert_int_equal(source_verify(m.plan, &req, bytes, SPAN_NONE, (SW_NOW + 999) * 1000LL, &ev),
                     VERDICT_STALE);
    assert_int_equal(ev.skew_ms, 999000);
    free(bytes);
    bytes = request(&req, S(SW_ID SW_TS SIG(SW_BAD)), S(SW_BODY));
    source_verify(m.plan, &req, bytes, SPAN_NONE, (SW_NOW + 7) * 1000LL, &ev);
    assert_true(ev.skew_ms == INT64_MIN);
    free(bytes);
    source_event_free(&ev);
    unmake(&m);
}

static void attributes(void **state UNUSED)
{
    struct source_event ev = { 0 };
    struct http_request req;
    struct made m;
    char *bytes;

    make_good(&m, "provider: none\nid: { path: data.id }\ntype: { path: type }\nsubject: { path: "
                  "'items.1.s' }\n"
                  "keep_headers: [x-keep, authorization]\noutcome: { failed: ['*.bad'] }\n");
    bytes = request(&req, S("X-Keep: v\r\nAuthorization: secret\r\nContent-Type: a/b\r\n"),
                    S("{\"type\":\"job\\u002ebad\",\"data\":{\"id\":17},\"items\":[{\"s\":1},{"
                      "\"s\":\"two\"}]}"));
    assert_int_equal(source_verify(m.plan, &req, bytes, SPAN_NONE, 0, &ev), VERDICT_OK);
    assert_true(span_eq(ev.id, S("17")));
    assert_true(span_eq(ev.type, S("job.bad")));
    assert_true(span_eq(ev.subject, S("two")));
    assert_true(span_eq(ev.content_type, S("a/b")));
    assert_true(span_eq(buf_as_span(&ev.headers), S("x-keep:v\n"))); /* never authorization */
    assert_true(ev.dedup);
    assert_int_equal(source_outcome(m.plan, ev.type), OUTCOME_FAILED);
    assert_int_equal(source_outcome(m.plan, S("job.good")), OUTCOME_NONE);
    free(bytes);
    source_event_free(&ev);
    unmake(&m);
}

/* A token is never stored, wherever the configuration names its header. */
static void no_secret_is_kept(void **state UNUSED)
{
    struct source_event ev = { 0 };
    struct http_request req;
    struct made m;
    char *bytes;

    make_good(&m, "provider: token\nheader: X-Auth\nsecrets: [s3cret]\nkeep_headers:\n  - x-keep\n"
                  "  - x-AUTH\n  - Cookie\n  - proxy-authorization\n");
    bytes = request(
        &req, S("x-auth: s3cret\r\ncookie: c\r\nProxy-Authorization: p\r\nx-keep: v\r\n"), S("{}"));
    assert_int_equal(source_verify(m.plan, &req, bytes, SPAN_NONE, 0, &ev), VERDICT_OK);
    assert_true(span_eq(buf_as_span(&ev.headers), S("x-keep:v\n")));
    free(bytes);
    source_event_free(&ev);
    unmake(&m);
}

/* An id that is always the same tells nothing apart: it must not make events repeats. */
static void a_constant_id_is_no_repeat(void **state UNUSED)
{
    struct source_event ev = { 0 };
    struct http_request req;
    struct made m;
    char *bytes = request(&req, SPAN_NONE, S("{}"));

    make_good(&m, "provider: none\nid: { const: x }\n");
    assert_int_equal(source_verify(m.plan, &req, bytes, SPAN_NONE, 0, &ev), VERDICT_OK);
    assert_true(span_eq(ev.id, S("x")));
    assert_false(ev.dedup);
    unmake(&m);
    make_good(&m, "provider: none\ndedup: body\n");
    assert_int_equal(source_verify(m.plan, &req, bytes, SPAN_NONE, 0, &ev), VERDICT_OK);
    assert_true(
        span_eq(ev.id, S("44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a")));
    assert_true(ev.dedup);
    unmake(&m);
    free(bytes);
    source_event_free(&ev);
}

static void path_tokens(void **state UNUSED)
{
    struct source_event ev = { 0 };
    struct http_request req;
    struct span token;
    struct made m;
    char *bytes;

    make_good(&m, "provider: none\npath: /h/{token}/x\npath_token: t0ken\n");
    assert_true(source_match_path(m.plan, S("/h/t0ken/x"), &token));
    assert_true(span_eq(token, S("t0ken")));
    assert_false(source_match_path(m.plan, S("/h/a/b/x"), &token));
    assert_false(source_match_path(m.plan, S("/h//x"), &token));
    bytes = request(&req, SPAN_NONE, S("{}"));
    assert_int_equal(source_verify(m.plan, &req, bytes, S("t0ken"), 0, &ev), VERDICT_OK);
    assert_int_equal(source_verify(m.plan, &req, bytes, S("other"), 0, &ev), VERDICT_BAD_SIGNATURE);
    free(bytes);
    source_event_free(&ev);
    unmake(&m);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_secret_holds),
        cmocka_unit_test(handshake),
        cmocka_unit_test(skew),
        cmocka_unit_test(attributes),
        cmocka_unit_test(no_secret_is_kept),
        cmocka_unit_test(path_tokens),
        cmocka_unit_test(a_constant_id_is_no_repeat),
    };

    return T_TABLE(rows, verdict) + T_TABLE(signed_rows, signed_verdict) + T_RUN(tests);
}
