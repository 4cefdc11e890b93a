/* SPDX-License-Identifier: Apache-2.0 */
/* A table for each primitive, with what must be refused: tokens in every place, public keys, JSON
 * Web Tokens, and the parts of a message that no preset's vector has. */
#include "presets.h"

#include <stdio.h>

#define NOW_S 1700000000
#define K64 "0000000000000000000000000000000000000000000000000000000000000000"

/* --- tokens --------------------------------------------------------------------------------------
 */
#define GRAPH "provider: microsoft-graph\nsecrets: [s3cret, old]\n"
#define BASIC "signature: { algorithm: token, scheme: basic, header: authorization }\n"
#define HF "provider: huggingface\nsecrets: [s3cret]\n"
#define LUMA "provider: luma\nsecrets: ['s3+cret']\n"
#define PATH "signature: { algorithm: token, path: auth.key }\nsecrets: [s3cret]\n"
#define LATE "provider: token\nsecrets: [{ env: HOOKLINE_TEST_TOKEN, not_after: "
static const struct token_row {
    const char *name, *config, *query, *headers, *body;
    enum verdict want;
} tokens[] = {
    { "basic", BASIC "secrets: ['user:pass']\n", "", "Authorization: Basic dXNlcjpwYXNz\r\n", "{}",
      VERDICT_OK },
    { "basic, the scheme in capitals", BASIC "secrets: ['user:pass']\n", "",
      "Authorization: BASIC dXNlcjpwYXNz\r\n", "{}", VERDICT_OK },
    { "basic, another password", BASIC "secrets: ['user:pass']\n", "",
      "Authorization: Basic dXNlcjpwYXNy\r\n", "{}", VERDICT_BAD_SIGNATURE },
    { "basic, cut short", BASIC "secrets: ['user:pass']\n", "",
      "Authorization: Basic dXNlcjpwYXM=\r\n", "{}", VERDICT_BAD_SIGNATURE },
    { "basic that is no base64", BASIC "secrets: ['user:pass']\n", "",
      "Authorization: Basic user:pass\r\n", "{}", VERDICT_MALFORMED },
    { "basic where bearer stands", BASIC "secrets: ['user:pass']\n", "",
      "Authorization: Bearer dXNlcjpwYXNz\r\n", "{}", VERDICT_MALFORMED },
    { "basic, empty", BASIC "secrets: ['user:pass']\n", "", "Authorization: Basic \r\n", "{}",
      VERDICT_MALFORMED },
    { "basic, missing", BASIC "secrets: ['user:pass']\n", "", "", "{}", VERDICT_UNSIGNED },
    { "query", LUMA, "token=s3%2Bcret", "", "{}", VERDICT_OK },
    { "query, the plus not escaped", LUMA, "token=s3+cret", "", "{}", VERDICT_BAD_SIGNATURE },
    { "query, another parameter", LUMA, "tokens=s3%2Bcret", "", "{}", VERDICT_UNSIGNED },
    { "query, the first one counts", LUMA, "token=x&token=s3%2Bcret", "", "{}",
      VERDICT_BAD_SIGNATURE },
    { "query, empty", LUMA, "token=", "", "{}", VERDICT_UNSIGNED },
    { "query, a broken escape", LUMA, "token=s3%2", "", "{}", VERDICT_UNSIGNED },
    { "query missing", LUMA, "", "", "{}", VERDICT_UNSIGNED },
    { "any of: the header", HF, "", "x-webhook-secret: s3cret\r\n", "{}", VERDICT_OK },
    { "any of: the query", HF, "secret=s3cret", "", "{}", VERDICT_OK },
    { "any of: the header is wrong", HF, "secret=s3cret", "x-webhook-secret: x\r\n", "{}",
      VERDICT_BAD_SIGNATURE },
    { "any of: none", HF, "", "", "{}", VERDICT_UNSIGNED },
    { "body", PATH, "", "", "{\"auth\":{\"key\":\"s3cret\"}}", VERDICT_OK },
    { "body, escaped", PATH, "", "", "{\"auth\":{\"key\":\"s3cre\\u0074\"}}", VERDICT_OK },
    { "body, another", PATH, "", "", "{\"auth\":{\"key\":\"s3cre\"}}", VERDICT_BAD_SIGNATURE },
    { "body, the first of two", PATH, "", "", "{\"auth\":{\"key\":\"x\",\"key\":\"s3cret\"}}",
      VERDICT_BAD_SIGNATURE },
    { "body, no string", PATH, "", "", "{\"auth\":{\"key\":[\"s3cret\"]}}", VERDICT_UNSIGNED },
    { "body that is no JSON", PATH, "", "", "auth.key=s3cret", VERDICT_UNSIGNED },
    { "every element", GRAPH, "", "",
      "{\"value\":[{\"clientState\":\"s3cret\"},{\"clientState\":\"old\"}]}", VERDICT_OK },
    { "every element, one escaped", GRAPH, "", "",
      "{\"value\":[{\"clientState\":\"s3cre\\u0074\"} , {\"clientState\":\"s3cret\"}]}",
      VERDICT_OK },
    { "the last element is wrong", GRAPH, "", "",
      "{\"value\":[{\"clientState\":\"s3cret\"},{\"clientState\":\"x\"}]}", VERDICT_BAD_SIGNATURE },
    { "the first element is wrong", GRAPH, "", "",
      "{\"value\":[{\"clientState\":\"x\"},{\"clientState\":\"s3cret\"}]}", VERDICT_BAD_SIGNATURE },
    { "an element without", GRAPH, "", "", "{\"value\":[{\"clientState\":\"s3cret\"},{}]}",
      VERDICT_BAD_SIGNATURE },
    { "an element that is a string", GRAPH, "", "",
      "{\"value\":[{\"clientState\":\"s3cret\"},\"s3cret\"]}", VERDICT_BAD_SIGNATURE },
    { "no element", GRAPH, "", "", "{\"value\":[]}", VERDICT_UNSIGNED },
    { "no list", GRAPH, "", "", "{\"value\":{\"clientState\":\"s3cret\"}}", VERDICT_UNSIGNED },
    { "a list that breaks off", GRAPH, "", "", "{\"value\":[{\"clientState\":\"s3cret\"}",
      VERDICT_UNSIGNED },
    { "a list that is broken", GRAPH, "", "", "{\"value\":[{\"clientState\":\"s3cret\"}}",
      VERDICT_UNSIGNED },
    { "the second list does not count", GRAPH, "", "",
      "{\"value\":[{\"clientState\":\"x\"}],\"value\":[{\"clientState\":\"s3cret\"}]}",
      VERDICT_BAD_SIGNATURE },
    { "a secret that still holds", LATE "2023-11-14T22:13:21Z }]\n", "",
      "Authorization: Bearer t0ken\r\n", "{}", VERDICT_OK },
    { "a secret that held until now", LATE "2023-11-14T22:13:20Z }]\n", "",
      "Authorization: Bearer t0ken\r\n", "{}", VERDICT_OK },
    { "a secret that is over", LATE "2023-11-14T22:13:19Z }]\n", "",
      "Authorization: Bearer t0ken\r\n", "{}", VERDICT_EXPIRED },
    { "a wrong secret that is over", LATE "2023-11-14T22:13:19Z }]\n", "",
      "Authorization: Bearer t0kem\r\n", "{}", VERDICT_BAD_SIGNATURE },
};

static enum verdict judge(const char *config, struct span query, struct span headers,
                          struct span body, int64_t now_ms)
{
    struct source_event ev = { 0 };
    struct http_request req;
    struct made m;
    enum verdict v;
    char *bytes;

    make_good(&m, config);
    bytes = delivery(&req, "POST", query, headers, body);
    v = source_verify(m.plan, &req, bytes, SPAN_NONE, now_ms, &ev);
    free(bytes);
    source_event_free(&ev);
    unmake(&m);
    return v;
}

static void token(void **state)
{
    const struct token_row *r = *state;

    assert_string_equal(verdict_name(judge(r->config, span_str(r->query), span_str(r->headers),
                                           span_str(r->body), INT64_C(1000) * NOW_S)),
                        verdict_name(r->want));
}

/* --- HMAC: what no vector has --------------------------------------------------------------------
 */
/* Signatures made elsewhere (Python's hmac) with the key `key`. */
#define H(rest) "signature: { algorithm: hmac-sha256, header: x-sig" rest " }\nsecrets: [key]\n"
#define LK "provider: livekit\nissuer: k\nsecrets: [key]\n"
#define FORM "Content-Type: application/x-www-form-urlencoded\r\n"
#define TW "provider: twilio\nurl: https://a.example/t\nsecrets: [key]\n"
static const struct token_row macs[] = {
    { "the CRC of the body and a text of ours",
      H(", message: '{config:id}|{crc32:body}'") "config: { id: WH123 }\n", "",
      "x-sig: 07eee9a3f7516e1b90abbe072f7e02faa21f7161c5aa72512e517861ed5356ea\r\n", "{\"id\":1}",
      VERDICT_OK },
    { "the CRC of another body",
      H(", message: '{config:id}|{crc32:body}'") "config: { id: WH123 }\n", "",
      "x-sig: 07eee9a3f7516e1b90abbe072f7e02faa21f7161c5aa72512e517861ed5356ea\r\n", "{\"id\":2}",
      VERDICT_BAD_SIGNATURE },
    { "another text of ours", H(", message: '{config:id}|{crc32:body}'") "config: { id: WH12 }\n",
      "", "x-sig: 07eee9a3f7516e1b90abbe072f7e02faa21f7161c5aa72512e517861ed5356ea\r\n",
      "{\"id\":1}", VERDICT_BAD_SIGNATURE },
    { "a form, its names sorted", TW, "",
      FORM "x-twilio-signature: 9ZlYHvsZ0pK9GoKLBHntjGiAOMs=\r\n", "c=3&a=1&b=2", VERDICT_OK },
    { "a form, another value", TW, "", FORM "x-twilio-signature: 9ZlYHvsZ0pK9GoKLBHntjGiAOMs=\r\n",
      "c=3&a=1&b=3", VERDICT_BAD_SIGNATURE },
    { "a form, one name more", TW, "", FORM "x-twilio-signature: 9ZlYHvsZ0pK9GoKLBHntjGiAOMs=\r\n",
      "c=3&a=1&b=2&d=", VERDICT_BAD_SIGNATURE },
    { "a form, a name twice, escapes, a plus", TW, "",
      FORM "x-twilio-signature: jGI9k7Q4dswvzXvbao0MWLUfXgA=\r\n", "b=+%78&a=2&a=1", VERDICT_OK },
    { "a form, the same twice is once", TW, "",
      FORM "x-twilio-signature: jGI9k7Q4dswvzXvbao0MWLUfXgA=\r\n", "b=+%78&a=2&a=1&a=2",
      VERDICT_OK },
    { "a form with a broken escape", TW, "",
      FORM "x-twilio-signature: jGI9k7Q4dswvzXvbao0MWLUfXgA=\r\n", "b=%7", VERDICT_MALFORMED },
    { "a form, with the query as it came", TW, "x=1&y",
      FORM "x-twilio-signature: YjZRbJhHuJj/B2UFNFD5N+w8rNY=\r\n", "a=1", VERDICT_OK },
    { "a form, the query in another order", TW, "y&x=1",
      FORM "x-twilio-signature: YjZRbJhHuJj/B2UFNFD5N+w8rNY=\r\n", "a=1", VERDICT_BAD_SIGNATURE },
    { "an empty form", TW, "", FORM "x-twilio-signature: aB8KbUAlDB9eHRUfo6ihBCzUIE8=\r\n", "",
      VERDICT_OK },
    { "a form signed as if it were nothing", TW, "",
      FORM "x-twilio-signature: aB8KbUAlDB9eHRUfo6ihBCzUIE8=\r\n", "a=1", VERDICT_BAD_SIGNATURE },
    { "JSON, its hash in the URL", TW,
      "bodySHA256=015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862",
      "Content-Type: application/json\r\nx-twilio-signature: X/MvWEkNyW9CyIAU1J9qVanAKh0=\r\n",
      "{\"a\":1}", VERDICT_OK },
    { "JSON, another body", TW,
      "bodySHA256=015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862",
      "Content-Type: application/json\r\nx-twilio-signature: X/MvWEkNyW9CyIAU1J9qVanAKh0=\r\n",
      "{\"a\":2}", VERDICT_BAD_SIGNATURE },
    { "JSON, another hash", TW,
      "bodySHA256=0000000000000000000000000000000000000000000000000000000000000000",
      "Content-Type: application/json\r\nx-twilio-signature: X/MvWEkNyW9CyIAU1J9qVanAKh0=\r\n",
      "{\"a\":1}", VERDICT_BAD_SIGNATURE },
    { "JSON, no hash", TW, "",
      "Content-Type: application/json\r\nx-twilio-signature: aB8KbUAlDB9eHRUfo6ihBCzUIE8=\r\n",
      "{\"a\":1}", VERDICT_UNSIGNED },
    { "JSON, a hash cut short", TW,
      "bodySHA256=015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f8",
      "Content-Type: application/json\r\nx-twilio-signature: 9ahGuv5lNFX6pMbFHnpRZ4jFp8M=\r\n",
      "{\"a\":1}", VERDICT_BAD_SIGNATURE },
    { "JSON, sent again as an empty form", TW,
      "bodySHA256=015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862",
      FORM "x-twilio-signature: X/MvWEkNyW9CyIAU1J9qVanAKh0=\r\n", "", VERDICT_BAD_SIGNATURE },
    { "JSON, sent again as a form of separators", TW,
      "bodySHA256=015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862",
      FORM "x-twilio-signature: X/MvWEkNyW9CyIAU1J9qVanAKh0=\r\n", "&&", VERDICT_BAD_SIGNATURE },
    { "JSON, sent again as a form", TW,
      "bodySHA256=015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862",
      FORM "x-twilio-signature: X/MvWEkNyW9CyIAU1J9qVanAKh0=\r\n", "a=1", VERDICT_BAD_SIGNATURE },
    { "a form, several types", TW, "",
      FORM FORM "x-twilio-signature: 9ZlYHvsZ0pK9GoKLBHntjGiAOMs=\r\n", "c=3&a=1&b=2", VERDICT_OK },
    { "gitlab: signed", "provider: gitlab\nsecrets: [whsec_a2V5, plain]\n", "",
      "webhook-id: m\r\nwebhook-timestamp: 1700000000\r\nwebhook-signature: "
      "v1,RRH5S1kAuGP4Jla7ryw7/jXd+x0kWOYBUMhQcONMAyo=\r\n",
      "{}", VERDICT_OK },
    { "gitlab: a token", "provider: gitlab\nsecrets: [whsec_a2V5, plain]\n", "",
      "x-gitlab-token: plain\r\n", "{}", VERDICT_OK },
    { "gitlab: the signing token as the token", "provider: gitlab\nsecrets: [whsec_a2V5, plain]\n",
      "", "x-gitlab-token: whsec_a2V5\r\n", "{}", VERDICT_BAD_SIGNATURE },
    { "gitlab: the right token does not mend a wrong signature",
      "provider: gitlab\nsecrets: [whsec_a2V5, plain]\n", "",
      "webhook-id: m\r\nwebhook-timestamp: 1700000000\r\nwebhook-signature: "
      "v1,RRH5S1kAuGP4Jla7ryw7/jXd+x0kWOYBUMhQcONMAyo=\r\nx-gitlab-token: plain\r\n",
      "[]", VERDICT_BAD_SIGNATURE },
    { "gitlab: nothing", "provider: gitlab\nsecrets: [whsec_a2V5, plain]\n", "", "", "{}",
      VERDICT_UNSIGNED },
    { "gitlab: a plain token alone", "provider: gitlab\nsecrets: [plain]\n", "",
      "webhook-id: m\r\nwebhook-timestamp: 1700000000\r\nwebhook-signature: "
      "v1,RRH5S1kAuGP4Jla7ryw7/jXd+x0kWOYBUMhQcONMAyo=\r\nx-gitlab-token: plain\r\n",
      "[]", VERDICT_OK },
    { "wavespeed: the prefix off, the rest as it stands",
      "provider: wavespeed\nsecrets: [whsec_a2V5]\n", "",
      "webhook-id: m\r\nwebhook-timestamp: 1700000000\r\nwebhook-signature: "
      "v3,e13bc2edfca80be0219085619ef91e467d7f18d60dad53ef5133aabccf2c2d99\r\n",
      "{}", VERDICT_OK },
    { "wavespeed: not decoded", "provider: wavespeed\nsecrets: [whsec_a2V5]\n", "",
      "webhook-id: m\r\nwebhook-timestamp: 1700000000\r\nwebhook-signature: "
      "v3,4511f94b5900b863f82656bbaf2c3bfe35ddfb1d2458e60150c85070e34c032a\r\n",
      "{}", VERDICT_BAD_SIGNATURE },
    { "stripe: the whole secret", "provider: stripe\nsecrets: [whsec_a2V5]\n", "",
      "stripe-signature: "
      "t=1700000000,v1=add2098fc67c31ee7582ec5124137424fcab7572bd421a435d6b9722c25c7b22\r\n",
      "{}", VERDICT_OK },
    { "an optional time that is missing", H(", timestamp: { path: at, missing: accept }"), "",
      "x-sig: a777724d943eb48dc69bca8a4a6d57a04db3f9ec7e1de4e581e860265bdf3032\r\n", "{}",
      VERDICT_OK },
    { "an optional time that is there, and old", H(", timestamp: { path: at, missing: accept }"),
      "", "x-sig: d67a1a96e57785a5621f0ac73c63c8dfcbacc09b40a5cc5e14022c863456a69f\r\n",
      "{\"at\":1}", VERDICT_STALE },
    { "an optional time that is no time", H(", timestamp: { path: at, missing: accept }"), "",
      "x-sig: 10e351e70bcfae5c9a3144a4d9df96ddb0c907dd13ac79bedf3295ef22964df1\r\n",
      "{\"at\":\"x\"}", VERDICT_MALFORMED },
    { "a secret that is over",
      "signature: { algorithm: hmac-sha256, header: x-sig }\nsecrets: [{ env: HOOKLINE_TEST_KEY, "
      "not_after: 2020-01-01T00:00:00Z }]\n",
      "", "x-sig: a777724d943eb48dc69bca8a4a6d57a04db3f9ec7e1de4e581e860265bdf3032\r\n", "{}",
      VERDICT_EXPIRED },
    { "one that is over beside one that holds",
      "signature: { algorithm: hmac-sha256, header: x-sig }\nsecrets: [{ env: HOOKLINE_TEST_KEY, "
      "not_after: 2020-01-01T00:00:00Z }, key]\n",
      "", "x-sig: a777724d943eb48dc69bca8a4a6d57a04db3f9ec7e1de4e581e860265bdf3032\r\n", "{}",
      VERDICT_OK },
    { "hs256", LK, "",
      "Authorization: "
      "eyJhbGciOiJIUzI1NiJ9."
      "eyJpc3MiOiJrIiwiZXhwIjoxNzAwMDAzNjAwLCJzaGEyNTYiOiJSQk52bzFXelo0b1JScTBXOStoa25wVDdUOElmNTM2"
      "REVNQmc5aHlxLzRvPSJ9.uyMtOpZ6HDEtWHS2xpRpu6oFlpL7G5ELeIFFbmBZG2E\r\n",
      "{}", VERDICT_OK },
    { "hs256, the hash in hex", LK, "",
      "Authorization: "
      "eyJhbGciOiJIUzI1NiJ9."
      "eyJpc3MiOiJrIiwiZXhwIjoxNzAwMDAzNjAwLCJzaGEyNTYiOiI0NDEzNmZhMzU1YjM2NzhhMTE0NmFkMTZmN2U4NjQ5"
      "ZTk0ZmI0ZmMyMWZlNzdlODMxMGMwNjBmNjFjYWFmZjhhIn0.O-LIHDhxmOZVyww24ZepcmIogZf23EoxA07t-"
      "8bK5LU\r\n",
      "{}", VERDICT_OK },
    { "hs256, another body", LK, "",
      "Authorization: "
      "eyJhbGciOiJIUzI1NiJ9."
      "eyJpc3MiOiJrIiwiZXhwIjoxNzAwMDAzNjAwLCJzaGEyNTYiOiJSQk52bzFXelo0b1JScTBXOStoa25wVDdUOElmNTM2"
      "REVNQmc5aHlxLzRvPSJ9.uyMtOpZ6HDEtWHS2xpRpu6oFlpL7G5ELeIFFbmBZG2E\r\n",
      "[]", VERDICT_BAD_SIGNATURE },
    { "hs256, no hash", LK, "",
      "Authorization: "
      "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJrIiwiZXhwIjoxNzAwMDAzNjAwfQ."
      "1apph594oz3LxNW6Gbexk2rEACmxI7eQnpV6AxmEJCg\r\n",
      "{}", VERDICT_BAD_SIGNATURE },
    { "hs256, another secret", LK, "",
      "Authorization: "
      "eyJhbGciOiJIUzI1NiJ9."
      "eyJpc3MiOiJrIiwiZXhwIjoxNzAwMDAzNjAwLCJzaGEyNTYiOiJSQk52bzFXelo0b1JScTBXOStoa25wVDdUOElmNTM2"
      "REVNQmc5aHlxLzRvPSJ9.gCCOlNO-t7hQiq4uvxjFSiM5w0wnFkWu89qjKtj0obE\r\n",
      "{}", VERDICT_BAD_SIGNATURE },
    { "hs256, alg none", LK, "",
      "Authorization: "
      "eyJhbGciOiJub25lIn0."
      "eyJpc3MiOiJrIiwiZXhwIjoxNzAwMDAzNjAwLCJzaGEyNTYiOiJSQk52bzFXelo0b1JScTBXOStoa25wVDdUOElmNTM2"
      "REVNQmc5aHlxLzRvPSJ9.7dI0Tpdv7rYMvotlCWy9vU5VEBfXd4FtaeSAA_Ujy8g\r\n",
      "{}", VERDICT_BAD_SIGNATURE },
    { "hs256, no MAC", LK, "",
      "Authorization: "
      "eyJhbGciOiJIUzI1NiJ9."
      "eyJpc3MiOiJrIiwiZXhwIjoxNzAwMDAzNjAwLCJzaGEyNTYiOiJSQk52bzFXelo0b1JScTBXOStoa25wVDdUOElmNTM2"
      "REVNQmc5aHlxLzRvPSJ9.\r\n",
      "{}", VERDICT_MALFORMED },
    { "hs256 that says RS256", LK, "",
      "Authorization: "
      "eyJhbGciOiJSUzI1NiJ9."
      "eyJpc3MiOiJrIiwiZXhwIjoxNzAwMDAzNjAwLCJzaGEyNTYiOiJSQk52bzFXelo0b1JScTBXOStoa25wVDdUOElmNTM2"
      "REVNQmc5aHlxLzRvPSJ9.3sqsia3XojzWe42V6PklzR577ORrM2_4WJobSFuWyoQ\r\n",
      "{}", VERDICT_BAD_SIGNATURE },
    { "hs512", LK, "",
      "Authorization: "
      "eyJhbGciOiJIUzUxMiJ9."
      "eyJpc3MiOiJrIiwiZXhwIjoxNzAwMDAzNjAwLCJzaGEyNTYiOiJSQk52bzFXelo0b1JScTBXOStoa25wVDdUOElmNTM2"
      "REVNQmc5aHlxLzRvPSJ9.Uy-ai508H5uz9YjFS6U3tQzEmExsDi--2NcX_GQXfJHO9ZerpG_8rkhteJ_"
      "SjMB8qZGi0T9b447FJTpiP1Cu1A\r\n",
      "{}", VERDICT_MALFORMED },
    { "hs256, crit", LK, "",
      "Authorization: "
      "eyJhbGciOiJIUzI1NiIsImNyaXQiOlsiYjY0Il19."
      "eyJpc3MiOiJrIiwiZXhwIjoxNzAwMDAzNjAwLCJzaGEyNTYiOiJSQk52bzFXelo0b1JScTBXOStoa25wVDdUOElmNTM2"
      "REVNQmc5aHlxLzRvPSJ9.gW8ja3FJNOPlq79BRwvQ0dbvkFcmcRXAB2jnGSpAijY\r\n",
      "{}", VERDICT_MALFORMED },
    { "hs256, another issuer", LK, "",
      "Authorization: "
      "eyJhbGciOiJIUzI1NiJ9."
      "eyJpc3MiOiJsIiwiZXhwIjoxNzAwMDAzNjAwLCJzaGEyNTYiOiJSQk52bzFXelo0b1JScTBXOStoa25wVDdUOElmNTM2"
      "REVNQmc5aHlxLzRvPSJ9.fJ3j2UfUq0Aq4nHd86xJVz-PRgJ1BtiRRIjpry2D_bY\r\n",
      "{}", VERDICT_BAD_SIGNATURE },
    { "hs256, no issuer", LK, "",
      "Authorization: "
      "eyJhbGciOiJIUzI1NiJ9."
      "eyJleHAiOjE3MDAwMDM2MDAsInNoYTI1NiI6IlJCTnZvMVd6WjRvUlJxMFc5K2hrbnBUN1Q4SWY1MzZERU1CZzloeXEv"
      "NG89In0.4yM6Nd_dx0XlY030quQgMc4WBhN-eNDmSZ6Ev6kkfqc\r\n",
      "{}", VERDICT_BAD_SIGNATURE },
    { "hs256, over", LK, "",
      "Authorization: "
      "eyJhbGciOiJIUzI1NiJ9."
      "eyJpc3MiOiJrIiwiZXhwIjoxNjk5OTk5OTM5LCJzaGEyNTYiOiJSQk52bzFXelo0b1JScTBXOStoa25wVDdUOElmNTM2"
      "REVNQmc5aHlxLzRvPSJ9.c3cKNhcKA1E2UIRLKSdTlhOhP4KzVKCawioqBO0a2ks\r\n",
      "{}", VERDICT_EXPIRED },
    { "hs256, within the leeway", LK, "",
      "Authorization: "
      "eyJhbGciOiJIUzI1NiJ9."
      "eyJpc3MiOiJrIiwiZXhwIjoxNjk5OTk5OTQwLCJzaGEyNTYiOiJSQk52bzFXelo0b1JScTBXOStoa25wVDdUOElmNTM2"
      "REVNQmc5aHlxLzRvPSJ9.EMiM0ljqu3sb_r5rMkUfGnjuNCYcGW_uQjjv9LKVAs0\r\n",
      "{}", VERDICT_OK },
    { "hs256, without an end", LK, "",
      "Authorization: "
      "eyJhbGciOiJIUzI1NiJ9."
      "eyJpc3MiOiJrIiwic2hhMjU2IjoiUkJOdm8xV3paNG9SUnEwVzkraGtucFQ3VDhJZjUzNkRFTUJnOWh5cS80bz0ifQ."
      "YCiJqRj6hjycdgtC0dzpdcpAw_rv5NhMCmfhaEfzXik\r\n",
      "{}", VERDICT_MALFORMED },
    { "hs256, an end that is text", LK, "",
      "Authorization: "
      "eyJhbGciOiJIUzI1NiJ9."
      "eyJpc3MiOiJrIiwiZXhwIjoiMTcwMDAwMzYwMCIsInNoYTI1NiI6IlJCTnZvMVd6WjRvUlJxMFc5K2hrbnBUN1Q4SWY1"
      "MzZERU1CZzloeXEvNG89In0.CZbc80AcF1CseQ5HfzbMeDjOe9P6pr6NQkw_tqLmcNw\r\n",
      "{}", VERDICT_MALFORMED },
    { "hs256, not yet", LK, "",
      "Authorization: "
      "eyJhbGciOiJIUzI1NiJ9."
      "eyJpc3MiOiJrIiwiZXhwIjoxNzAwMDAzNjAwLCJzaGEyNTYiOiJSQk52bzFXelo0b1JScTBXOStoa25wVDdUOElmNTM2"
      "REVNQmc5aHlxLzRvPSIsIm5iZiI6MTcwMDAwMDA2MX0.YRew6HYr4YAT7XMmKPj0eQUMKmYdNTV3Ec192LH8Lao\r\n",
      "{}", VERDICT_FUTURE },
    { "hs256, claims that are no JSON", LK, "",
      "Authorization: "
      "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJrIg.F1u6C2N1E0WA_A_otNVVwv4xZiAeu_ym1q5DOg603vQ\r\n",
      "{}", VERDICT_MALFORMED },
    { "hs256, two parts", LK, "",
      "Authorization: "
      "eyJhbGciOiJIUzI1NiJ9."
      "eyJpc3MiOiJrIiwiZXhwIjoxNzAwMDAzNjAwLCJzaGEyNTYiOiJSQk52bzFXelo0b1JScTBXOStoa25wVDdUOElmNTM2"
      "REVNQmc5aHlxLzRvPSJ9\r\n",
      "{}", VERDICT_MALFORMED },
    { "hs256, four parts", LK, "",
      "Authorization: "
      "eyJhbGciOiJIUzI1NiJ9."
      "eyJpc3MiOiJrIiwiZXhwIjoxNzAwMDAzNjAwLCJzaGEyNTYiOiJSQk52bzFXelo0b1JScTBXOStoa25wVDdUOElmNTM2"
      "REVNQmc5aHlxLzRvPSJ9.uyMtOpZ6HDEtWHS2xpRpu6oFlpL7G5ELeIFFbmBZG2E.e30\r\n",
      "{}", VERDICT_MALFORMED },
    { "hs256, no token", LK, "", "Authorization: x\r\n", "{}", VERDICT_UNSIGNED },
    { "hs256, a scheme that livekit does not write", LK, "",
      "Authorization: Bearer "
      "eyJhbGciOiJIUzI1NiJ9."
      "eyJpc3MiOiJrIiwiZXhwIjoxNzAwMDAzNjAwLCJzaGEyNTYiOiJSQk52bzFXelo0b1JScTBXOStoa25wVDdUOElmNTM2"
      "REVNQmc5aHlxLzRvPSJ9.uyMtOpZ6HDEtWHS2xpRpu6oFlpL7G5ELeIFFbmBZG2E\r\n",
      "{}", VERDICT_UNSIGNED },
    { "the message that paypal signs",
      H(", message: '{header:id}|{header:time}|{config:id}|{crc32:body}'") "config: { id: WH123 "
                                                                           "}\n",
      "",
      "id: 69cd13f0-d67a-11e5-baa3-778b53f4ae55\r\ntime: 2016-02-18T20:01:35Z\r\nx-sig: "
      "7889031d80be30efcca773377035c58ab54d225488ffbd0c99fe564d50444d9e\r\n",
      "{\"id\":\"evt_1\",\"type\":\"x\"}", VERDICT_OK },
};

/* --- public keys ---------------------------------------------------------------------------------
 */
static const struct key_row {
    const char *name, *provider;
    int scheme;
    const char *header, *message; /* of the signature; # is the body */
    const char *lines;            /* @: the signature */
    const char *body;             /* that is sent; `{}` is what was signed */
    enum verdict want;
} keys[] = {
#define DISCORD "discord", CRYPTO_ED25519, "", "1700000000{}"
#define D_TS "x-signature-timestamp: 1700000000\r\n"
    { "ed25519", DISCORD, D_TS "x-signature-ed25519: @\r\n", "{}", VERDICT_OK },
    { "ed25519, another body", DISCORD, D_TS "x-signature-ed25519: @\r\n", "[]",
      VERDICT_BAD_SIGNATURE },
    { "ed25519, another time", DISCORD,
      "x-signature-timestamp: 1700000001\r\nx-signature-ed25519: @\r\n", "{}",
      VERDICT_BAD_SIGNATURE },
    { "ed25519, cut short", DISCORD, D_TS "x-signature-ed25519: " K64 "\r\n", "{}",
      VERDICT_MALFORMED },
    { "ed25519, all zeros", DISCORD, D_TS "x-signature-ed25519: " K64 K64 "\r\n", "{}",
      VERDICT_BAD_SIGNATURE },
    { "ed25519, no hexadecimal", DISCORD, D_TS "x-signature-ed25519: x@\r\n", "{}",
      VERDICT_MALFORMED },
    { "ed25519, empty", DISCORD, D_TS "x-signature-ed25519: \r\n", "{}", VERDICT_MALFORMED },
    { "ed25519, missing", DISCORD, D_TS, "{}", VERDICT_UNSIGNED },
    { "ed25519, twice the same", DISCORD,
      D_TS "x-signature-ed25519: @\r\nx-signature-ed25519: @\r\n", "{}", VERDICT_OK },
    { "ed25519, twice", DISCORD, D_TS "x-signature-ed25519: @\r\nx-signature-ed25519: x\r\n", "{}",
      VERDICT_MALFORMED },
    { "ed25519, the time twice", DISCORD, D_TS D_TS "x-signature-ed25519: @\r\n", "{}",
      VERDICT_MALFORMED },
#define SVIX "svix", CRYPTO_ED25519, "", "m.1700000000.{}"
#define S_ID "svix-id: m\r\nsvix-timestamp: 1700000000\r\nsvix-signature: "
    { "v1a", SVIX, S_ID "v1a,$\r\n", "{}", VERDICT_OK },
    { "v1a, the second in the list", SVIX, S_ID "v1a," K64 K64 " v1a,$\r\n", "{}", VERDICT_OK },
    { "v1a, the fifth in the list", SVIX, S_ID "v1a,x v1a,x v1a,x v1a,x v1a,$\r\n", "{}",
      VERDICT_MALFORMED },
    { "v1a as v1", SVIX, S_ID "v1,$\r\n", "{}", VERDICT_UNSIGNED },
    { "v1a in hex", SVIX, S_ID "v1a,@\r\n", "{}", VERDICT_MALFORMED },
#define SENDGRID "sendgrid", CRYPTO_ECDSA_P256, "", "1700000000{}"
#define G_TS "x-twilio-email-event-webhook-timestamp: 1700000000\r\n"
    { "ecdsa", SENDGRID, G_TS "x-twilio-email-event-webhook-signature: $\r\n", "{}", VERDICT_OK },
    { "ecdsa, another body", SENDGRID, G_TS "x-twilio-email-event-webhook-signature: $\r\n", "[]",
      VERDICT_BAD_SIGNATURE },
    { "ecdsa, no DER", SENDGRID, G_TS "x-twilio-email-event-webhook-signature: AAAA\r\n", "{}",
      VERDICT_BAD_SIGNATURE },
#define KICK "kick", CRYPTO_RSA_SHA256, "", "m.2023-11-14T22:13:20.5Z.{}"
#define KICK_TS                                                                                    \
    "kick-event-message-id: m\r\nkick-event-message-timestamp: 2023-11-14T22:13:20.5Z\r\n"
    { "rsa", KICK, KICK_TS "kick-event-signature: $\r\n", "{}", VERDICT_OK },
    { "rsa, another body", KICK, KICK_TS "kick-event-signature: $\r\n", "[]",
      VERDICT_BAD_SIGNATURE },
    { "rsa, another id", KICK,
      "kick-event-message-id: n\r\nkick-event-message-timestamp: 2023-11-14T22:13:20.5Z\r\n"
      "kick-event-signature: $\r\n",
      "{}", VERDICT_BAD_SIGNATURE },
};

static void fill(const char *lines, struct span raw, struct buf *out)
{
    for (; *lines; lines++)
        if (*lines == '@')
            buf_hex(out, raw);
        else if (*lines == '$')
            buf_base64(out, raw);
        else
            buf_addc(out, *lines);
}

static void key(void **state)
{
    const struct key_row *r = *state;
    struct crypto_private *k = crypto_private_generate((enum crypto_scheme)r->scheme);
    struct buf config = BUF_INIT, raw = BUF_INIT, lines = BUF_INIT;
    struct span message = span_str(r->message);

    buf_printf(&config, "provider: %s\npublic_keys: ['", r->provider);
    crypto_public_print(crypto_private_public(k), CRYPTO_SPKI, &config);
    buf_adds(&config, "']\n");
    crypto_sign(k, &message, 1, &raw);
    fill(r->lines, buf_as_span(&raw), &lines);
    assert_string_equal(verdict_name(judge(buf_cstr(&config), SPAN_NONE, buf_as_span(&lines),
                                           span_str(r->body), INT64_C(1000) * NOW_S)),
                        verdict_name(r->want));
    buf_free(&config);
    buf_free(&raw);
    buf_free(&lines);
    crypto_private_free(k);
}

/* --- JSON Web Tokens -----------------------------------------------------------------------------
 */
#define PUBSUB "provider: google-pubsub\naudience: me\nemail: a@b\n"
#define CLAIMS(more)                                                                               \
    "{\"iss\":\"https://accounts.google.com\",\"aud\":\"me\",\"email\":\"a@b\","                   \
    "\"email_verified\":true" more "}"
#define GOOD CLAIMS(",\"exp\":1700003600")
#define PLAID "provider: plaid\n"
#define EMPTY_HASH "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
static const struct jwt_row {
    const char *name, *config;
    int scheme;
    const char *claims, *lines; /* @: the token */
    enum verdict want;
} jwts[] = {
    { "as it should be", PUBSUB, CRYPTO_RSA_SHA256, GOOD, "Authorization: Bearer @\r\n",
      VERDICT_OK },
    { "another audience", PUBSUB, CRYPTO_RSA_SHA256,
      "{\"iss\":\"https://accounts.google.com\",\"aud\":\"you\",\"email\":\"a@b\","
      "\"email_verified\":true,\"exp\":1700003600}",
      "Authorization: Bearer @\r\n", VERDICT_BAD_SIGNATURE },
    { "another sender", PUBSUB, CRYPTO_RSA_SHA256,
      "{\"iss\":\"https://accounts.google.com\",\"aud\":\"me\",\"email\":\"c@b\","
      "\"email_verified\":true,\"exp\":1700003600}",
      "Authorization: Bearer @\r\n", VERDICT_BAD_SIGNATURE },
    { "another issuer", PUBSUB, CRYPTO_RSA_SHA256,
      "{\"iss\":\"https://accounts.example.com\",\"aud\":\"me\",\"email\":\"a@b\","
      "\"email_verified\":true,\"exp\":1700003600}",
      "Authorization: Bearer @\r\n", VERDICT_BAD_SIGNATURE },
    { "verified, but as text", PUBSUB, CRYPTO_RSA_SHA256,
      "{\"iss\":\"https://accounts.google.com\",\"aud\":\"me\",\"email\":\"a@b\","
      "\"email_verified\":false,\"exp\":1700003600}",
      "Authorization: Bearer @\r\n", VERDICT_BAD_SIGNATURE },
    { "over", PUBSUB, CRYPTO_RSA_SHA256, CLAIMS(",\"exp\":1699999939"),
      "Authorization: Bearer @\r\n", VERDICT_EXPIRED },
    { "over, but within the leeway", PUBSUB, CRYPTO_RSA_SHA256, CLAIMS(",\"exp\":1699999941"),
      "Authorization: Bearer @\r\n", VERDICT_OK },
    { "without an end", PUBSUB, CRYPTO_RSA_SHA256, CLAIMS(""), "Authorization: Bearer @\r\n",
      VERDICT_BAD_SIGNATURE },
    { "not yet", PUBSUB, CRYPTO_RSA_SHA256, CLAIMS(",\"exp\":1700003600,\"nbf\":1700000100"),
      "Authorization: Bearer @\r\n", VERDICT_FUTURE },
    { "no token", PUBSUB, CRYPTO_RSA_SHA256, GOOD, "", VERDICT_UNSIGNED },
    { "another scheme", PUBSUB, CRYPTO_RSA_SHA256, GOOD, "Authorization: Basic @\r\n",
      VERDICT_MALFORMED },
    { "no JWT", PUBSUB, CRYPTO_RSA_SHA256, GOOD, "Authorization: Bearer x\r\n", VERDICT_UNSIGNED },
    { "cut short", PUBSUB, CRYPTO_RSA_SHA256, GOOD, "Authorization: Bearer eyJhbGci\r\n",
      VERDICT_MALFORMED },
    { "alg none", PUBSUB, CRYPTO_RSA_SHA256, GOOD,
      "Authorization: Bearer eyJhbGciOiJub25lIn0.e30.\r\n", VERDICT_BAD_SIGNATURE },
    { "one byte more", PUBSUB, CRYPTO_RSA_SHA256, GOOD, "Authorization: Bearer @A\r\n",
      VERDICT_BAD_SIGNATURE },
    { "the body's hash", PLAID, CRYPTO_ECDSA_P256,
      "{\"iat\":1699999900,\"request_body_sha256\":\"" EMPTY_HASH "\"}",
      "plaid-verification: @\r\n", VERDICT_OK },
    { "the hash of another body", PLAID, CRYPTO_ECDSA_P256,
      "{\"iat\":1699999900,\"request_body_sha256\":\"" K64 "\"}", "plaid-verification: @\r\n",
      VERDICT_BAD_SIGNATURE },
    { "no hash", PLAID, CRYPTO_ECDSA_P256, "{\"iat\":1699999900}", "plaid-verification: @\r\n",
      VERDICT_BAD_SIGNATURE },
    { "issued long ago", PLAID, CRYPTO_ECDSA_P256,
      "{\"iat\":1699999600,\"request_body_sha256\":\"" EMPTY_HASH "\"}",
      "plaid-verification: @\r\n", VERDICT_EXPIRED },
};

static void jwt(void **state)
{
    const struct jwt_row *r = *state;
    struct crypto_private *k = crypto_private_generate((enum crypto_scheme)r->scheme);
    struct buf config = BUF_INIT, token_text = BUF_INIT, lines = BUF_INIT;

    buf_printf(&config, "%spublic_keys: ['", r->config);
    crypto_public_print(crypto_private_public(k), CRYPTO_SPKI, &config);
    buf_adds(&config, "']\n");
    crypto_jwt_make(k, SPAN_NONE, span_str(r->claims), &token_text);
    for (const char *c = r->lines; *c; c++)
        if (*c == '@')
            buf_span(&lines, buf_as_span(&token_text));
        else
            buf_addc(&lines, *c);
    assert_string_equal(verdict_name(judge(buf_cstr(&config), SPAN_NONE, buf_as_span(&lines),
                                           S("{}"), INT64_C(1000) * NOW_S)),
                        verdict_name(r->want));
    buf_free(&config);
    buf_free(&token_text);
    buf_free(&lines);
    crypto_private_free(k);
}

/* A token of another kind of key than is allowed, made with a key that is in the set. */
static void a_jwt_of_another_algorithm(void **state UNUSED)
{
    struct crypto_private *k = crypto_private_generate(CRYPTO_RSA_SHA256);
    struct buf config = BUF_INIT, headers = BUF_INIT;

    buf_adds(&config, "audience: a\nsignature: { algorithm: jwt, header: x, jwt: { algorithms: "
                      "[ES256, EdDSA, RS256] } }\npublic_keys: ['");
    crypto_public_print(crypto_private_public(k), CRYPTO_SPKI, &config);
    buf_adds(&config, "']\n");
    buf_adds(&headers, "x: ");
    crypto_jwt_make(k, SPAN_NONE, S("{\"aud\":\"a\",\"exp\":1700003600}"), &headers);
    buf_adds(&headers, "\r\n");
    assert_int_equal(
        judge(buf_cstr(&config), SPAN_NONE, buf_as_span(&headers), S("{}"), INT64_C(1000) * NOW_S),
        VERDICT_OK);
    memcpy(strstr(buf_cstr(&config), "RS256"), "ES256", 5);
    /* now the key fits no algorithm, and the configuration says so */
    {
        struct made m;
        make(&m, buf_cstr(&config));
        assert_null(m.plan);
        assert_non_null(strstr(m.errs.line[0], "public key 1: "));
        unmake(&m);
    }
    buf_free(&config);
    buf_free(&headers);
    crypto_private_free(k);
}

/* Both forms of a dynamic Gemini webhook on one path, told apart by the header. */
static void gemini_dynamic(void **state UNUSED)
{
    struct crypto_private *ed = crypto_private_generate(CRYPTO_ED25519);
    struct crypto_private *rsa = crypto_private_generate(CRYPTO_RSA_SHA256);
    struct buf config = BUF_INIT, key_text = BUF_INIT;
    struct source_event ev = { 0 };
    struct made m;

    buf_adds(&config, "provider: gemini-dynamic\nrequire: none\naudience: me\npublic_keys: ['");
    crypto_public_print(crypto_private_public(ed), CRYPTO_WHPK, &config);
    buf_adds(&config, "', '");
    crypto_public_print(crypto_private_public(rsa), CRYPTO_SPKI, &config);
    buf_adds(&config, "']\n");
    make_good(&m, buf_cstr(&config));
    for (int i = 0; i < 2; i++) {
        struct source_outgoing o = { .now_ms = INT64_C(1000) * NOW_S, .id = S("msg_1") };
        struct http_request req;
        struct err e = ERR_INIT;
        char *bytes;
        key_text.n = 0;
        crypto_private_print(i ? rsa : ed, &key_text);
        o.key = buf_as_span(&key_text);
        assert_int_equal(source_sign(m.plan, &o, &e), 0);
        assert_true((strstr(buf_cstr(&o.headers), ": eyJ") != NULL) == (i == 1));
        bytes = delivery(&req, "POST", SPAN_NONE, buf_as_span(&o.headers), buf_as_span(&o.text));
        assert_int_equal(source_verify(m.plan, &req, bytes, SPAN_NONE, o.now_ms, &ev), VERDICT_OK);
        assert_true(span_eq(ev.id, S("msg_1")) && ev.dedup);
        assert_true(span_eq(ev.type, S("batch.succeeded")));
        free(bytes);
        source_outgoing_free(&o);
    }
    source_event_free(&ev);
    unmake(&m);
    buf_free(&config);
    buf_free(&key_text);
    crypto_private_free(ed);
    crypto_private_free(rsa);
}

/* Two ways that must both hold. */
static void all_of(void **state UNUSED)
{
    static const char config[] = "all_of:\n  mac: { algorithm: hmac-sha256, header: x-sig }\n"
                                 "  token: { algorithm: token, header: x-auth }\nsecrets: [key]\n";
#define MAC "x-sig: a777724d943eb48dc69bca8a4a6d57a04db3f9ec7e1de4e581e860265bdf3032\r\n"
    const int64_t now = INT64_C(1000) * NOW_S;

    assert_int_equal(judge(config, SPAN_NONE, S(MAC "x-auth: key\r\n"), S("{}"), now), VERDICT_OK);
    assert_int_equal(judge(config, SPAN_NONE, S(MAC), S("{}"), now), VERDICT_UNSIGNED);
    assert_int_equal(judge(config, SPAN_NONE, S("x-auth: key\r\n"), S("{}"), now),
                     VERDICT_UNSIGNED);
    assert_int_equal(judge(config, SPAN_NONE, S(MAC "x-auth: x\r\n"), S("{}"), now),
                     VERDICT_BAD_SIGNATURE);
    assert_int_equal(judge(config, SPAN_NONE, S(MAC "x-auth: key\r\n"), S("[]"), now),
                     VERDICT_BAD_SIGNATURE);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_jwt_of_another_algorithm),
        cmocka_unit_test(gemini_dynamic),
        cmocka_unit_test(all_of),
    };

    setenv("HOOKLINE_TEST_TOKEN", "t0ken", 1);
    setenv("HOOKLINE_TEST_KEY", "key", 1);
    return T_TABLE(tokens, token) + T_TABLE(macs, token) + T_TABLE(keys, key) + T_TABLE(jwts, jwt) +
           T_RUN(tests);
}
