/* SPDX-License-Identifier: Apache-2.0 */
/* Settings that are refused, each with the line of the key that is wrong; and how a user's keys lie
 * over a preset's. */
#include "presets.h"

#define HMAC "signature: { algorithm: hmac-sha256, header: x, "

static const struct bad_row {
    const char *name, *config, *says;
} bad[] = {
    { "no secrets", "provider: gemini\n", "t.yaml:1: secrets is missing" },
    { "empty secret", "provider: gemini\nsecrets: ['']\n", "t.yaml:2: secrets is empty" },
    { "secret of blanks", "provider: stripe\nsecrets: [\" \\t \"]\n",
      "t.yaml:2: secret 1 is empty" },
    { "bare whsec_", "provider: gemini\nsecrets: [whsec_]\n", "t.yaml:2: secret 1 is empty" },
    { "secret that is no base64", "provider: gemini\nsecrets:\n  - whsec_a2V5\n  - whsec_!!!!\n",
      "t.yaml:4: secret 2 cannot be decoded" },
    { "nine secrets", "provider: github\nsecrets: [a, b, c, d, e, f, g, h, i]\n",
      "t.yaml:2: more than 8 secrets" },
    { "unknown provider", "path: /x\nprovider: gemmini\n", "t.yaml:2: unknown provider gemmini" },
    { "no provider", "path: /x\n", "no provider" },
    { "unknown algorithm", "secrets: [x]\nsignature:\n  algorithm: md5\n",
      "t.yaml:3: signature.algorithm \"md5\" is none of" },
    { "unknown encoding", "secrets: [x]\n" HMAC "\n encoding: base32 }\n",
      "t.yaml:3: signature.encoding \"base32\" is none of" },
    { "unknown unit", "provider: stripe\nsecrets: [x]\nsignature:\n  timestamp:\n    unit: m\n",
      "t.yaml:5: signature.timestamp.unit \"m\" is none of" },
    { "unknown decoding",
      "provider: stripe\nsecrets: [x]\nsignature:\n  secret: { decode: rot13 }\n",
      "t.yaml:4: signature.secret.decode \"rot13\" is none of" },
    { "separator of two bytes", "provider: stripe\nsecrets: [x]\nsignature: { separator: ', ' }\n",
      "t.yaml:3: signature.separator is one byte" },
    { "signature without its header", "secrets: [x]\nsignature: { algorithm: hmac-sha256 }\n",
      "t.yaml:2: signature.header is missing" },
    { "message without the body", "secrets: [x]\n" HMAC "message: '{header:y}' }\n",
      "t.yaml:2: signature.message leaves the body out" },
    { "url that is not said", "secrets: [x]\n" HMAC "message: '{url}{body}' }\n",
      "t.yaml:2: this provider signs our URL: url is missing" },
    { "unknown piece", "secrets: [x]\n" HMAC "message: '{bodi}{body}' }\n",
      "t.yaml:2: signature.message: {bodi} is not known" },
    { "piece without a name", "secrets: [x]\n" HMAC "message: '{header:}{body}' }\n",
      "{header:} is not known" },
    { "brace without its end", "secrets: [x]\n" HMAC "message: '{body' }\n", "{ without }" },
    { "seventeen pieces",
      "secrets: [x]\n" HMAC
      "message: '{body}{body}{body}{body}{body}{body}{body}{body}{body}{body}{body}{body}{body}"
      "{body}{body}{body}{body}' }\n",
      "more than 16 parts" },
    { "timestamp in a header that is not signed",
      "secrets: [x]\n" HMAC "message: '{body}',\n  timestamp: { header: x-time } }\n",
      "t.yaml:3: signature.timestamp is not part of signature.message" },
    { "timestamp in a field that is not signed",
      "secrets: [x]\n" HMAC "separator: ',',\n  timestamp: { field: t } }\n",
      "t.yaml:3: signature.timestamp is not part of signature.message" },
    { "a preset's message replaced by one without its time",
      "provider: stripe\nsecrets: [x]\nsignature: { message: '{body}' }\n",
      "signature.timestamp is not part of signature.message" },
    { "timestamp in a field of another case",
      "secrets: [x]\n" HMAC
      "separator: ',', message: '{field:T}{body}', timestamp: { field: t } }\n",
      "t.yaml:2: signature.timestamp is not part of signature.message" },
    { "field of a header that holds one signature",
      "secrets: [x]\n" HMAC "\n  message: '{field:t}{body}', timestamp: { field: t } }\n",
      "t.yaml:3: signature.message: {field:t} needs signature.separator" },
    { "tolerance where no time is signed", "provider: github\nsecrets: [x]\ntolerance: 5m\n",
      "t.yaml:3: tolerance is set, but github signs no time" },
    { "secrets where nothing is checked", "provider: none\nsecrets: [x]\n",
      "t.yaml:2: signature.algorithm is none" },
    { "timestamp in two places",
      "secrets: [x]\n" HMAC "message: '{header:y}{body}', timestamp: { header: y, path: z } }\n",
      "stands in one place" },
    { "tolerance that is no duration", "provider: stripe\nsecrets: [x]\ntolerance: 5\n",
      "t.yaml:3: tolerance \"5\" is not a duration" },
    { "{token} without path_token", "provider: none\npath: /h/{token}\n",
      "t.yaml:2: path has {token}, but path_token is missing" },
    { "path_token without {token}", "provider: none\npath_token: x\n",
      "t.yaml:2: path_token is set, but path has no {token}" },
    { "{token} twice", "provider: none\npath: /{token}/{token}\npath_token: x\n",
      "t.yaml:2: path has {token} twice" },
    { "path with a query", "provider: none\npath: /a?b\n",
      "t.yaml:2: path /a?b must start with /" },
    { "two places", "provider: none\nid: { header: a, path: b }\n",
      "t.yaml:2: id stands in one place" },
    { "id in the token's header",
      "provider: token\nheader: X-Auth\nsecrets: [x]\nid: { header: x-auth }\n",
      "t.yaml:4: id: x-auth holds a secret" },
    { "type in a cookie", "provider: none\ntype: { header: Cookie }\n",
      "t.yaml:2: type: Cookie holds a secret" },
    { "token without anything", "provider: token\n", "t.yaml:1: a token source needs secrets" },
    { "unknown key names the nearest", "provider: none\nsecrts: [x]\n", "did you mean secrets" },
    { "status 500", "provider: none\nstatus: 500\n", "t.yaml:2: status is 200, 202 or 204" },
    { "status 201", "provider: none\nstatus: 201\n", "t.yaml:2: status is 200, 202 or 204" },
    { "dedup by an id that is not sent", "provider: none\ndedup: id\n",
      "t.yaml:2: dedup: id, but" },
    { "dedup by an id that is always the same", "provider: none\ndedup: id\nid: { const: x }\n",
      "t.yaml:2: dedup: id, but id is always the same" },
    { "half a handshake", "provider: none\nhandshake: { path: a }\n",
      "t.yaml:2: handshake needs path, equals and echo" },
    { "dynamic gemini without a token in its path", "provider: gemini-dynamic\naudience: a\n",
      "t.yaml:1: path_token is missing; gemini-dynamic is not safe without" },
    { "a wish that is not known", "provider: none\nrequire: [luck]\n",
      "t.yaml:2: require: luck is not known" },
    { "a shared header that is not said", "provider: assemblyai\nsecrets: [x]\n",
      "header is missing; assemblyai is not safe without" },
    { "pubsub without an audience", "provider: google-pubsub\nemail: a@b\n",
      "audience is missing: a token for anybody else would do" },
    { "pubsub without a sender", "provider: google-pubsub\naudience: a\n", "email is missing" },
    { "meta without its verify token", "provider: meta\nsecrets: [x]\n",
      "verify_token is missing" },
    { "public key of another kind", "provider: discord\npublic_keys:\n  - AAAA\n",
      "t.yaml:3: public key 1: " },
    { "public key where none is used", "provider: github\nsecrets: [x]\npublic_keys: [AAAA]\n",
      "t.yaml:3: github verifies with no public key" },
    { "no public key", "provider: discord\n", "public_keys or jwks is missing" },
    { "key set file that is not there", "provider: plaid\njwks: { file: /nonexistent }\n",
      "t.yaml:2: jwks.file /nonexistent cannot be read" },
    { "key set file without a key", "provider: plaid\njwks: { file: /dev/null }\n",
      "t.yaml:2: jwks.file /dev/null: " },
    { "any and all",
      "secrets: [x]\nany_of: { a: { algorithm: token } }\nall_of:\n  b: { "
      "algorithm: token }\n",
      "t.yaml:3: any_of or all_of, not both" },
    { "one of several is not known",
      "secrets: [x]\nany_of:\n  a: { algorithm: token }\n  b:\n    algorithm: tokn\n",
      "t.yaml:5: signature.algorithm \"tokn\" is none of" },
    { "none among others",
      "secrets: [x]\nany_of: { a: { algorithm: token }, b: { algorithm: none } }\n",
      "t.yaml:2: none among other checks lets everything in" },
    { "one of all without a secret",
      "secrets: [x]\nall_of:\n  a: { algorithm: token }\n  b: { algorithm: ed25519, header: x }\n",
      "b has no secret or key" },
    { "five checks",
      "secrets: [x]\nany_of: { a: { algorithm: token }, b: { algorithm: token }, c: { algorithm: "
      "token }, d: { algorithm: token }, e: { algorithm: token } }\n",
      "t.yaml:2: more than 4 checks" },
    { "signature in two places",
      "secrets: [x]\nsignature: { algorithm: token, header: a, query: b }\n",
      "signature stands in one place: header, path or query" },
    { "a scheme without a header",
      "secrets: [x]\nsignature: { algorithm: token, query: b, scheme: basic }\n",
      "signature.scheme belongs to a header" },
    { "unknown scheme", "secrets: [x]\nsignature: { algorithm: token, scheme: digest }\n",
      "signature.scheme \"digest\" is none of" },
    { "a text that is not said",
      "secrets: [x]\n" HMAC "message: '{config:id}{body}' }\nconfig: { di: x }\n",
      "t.yaml:3: config.id is missing" },
    { "a hash of the body in a URL that is not signed",
      "secrets: [x]\n" HMAC "message: 'a', body_hash: h }\n", "leaves the body out" },
    { "missing: maybe",
      "provider: linear\nsecrets: [x]\nsignature: { timestamp: { missing: maybe } }\n",
      "t.yaml:3: signature.timestamp.missing \"maybe\" is none of" },
    { "id that names nothing known", "provider: none\nid: { header: x, names: dog }\n",
      "t.yaml:2: id.names \"dog\" is none of" },
    { "refusals with 404", "provider: none\nreject_status: 404\n",
      "t.yaml:2: reject_status is 400, 401 or 403" },
    { "a jwt with a shared secret",
      "public_keys: [x]\nsignature: { algorithm: jwt, header: x, jwt: { algorithms: [HS256] } }\n",
      "t.yaml:2: signature.jwt.algorithms \"HS256\" is none of" },
    { "a jwt of no algorithm", "public_keys: [x]\nsignature: { algorithm: jwt, header: x }\n",
      "signature.jwt.algorithms is missing" },
    { "a handshake of another method", "provider: none\nhandshake: { method: PUT }\n",
      "t.yaml:2: handshake.method \"PUT\" is none of" },
    { "a handshake's MAC without a secret",
      "provider: none\nhandshake: { method: GET, query: a, answer: '{hmac:hex}' }\n",
      "t.yaml:2: handshake.answer: {hmac} needs the secret of an HMAC" },
    { "a secret that ends at no time",
      "provider: token\nsecrets: [{ env: PATH, not_after: soon }]\n",
      "t.yaml:2: not_after is a time like" },
    { "an end where there is one secret",
      "provider: none\npath: /{token}\npath_token: { env: PATH, not_after: 2026-01-01T00:00:00Z "
      "}\n",
      "t.yaml:3: path_token is { env: NAME }" },
    { "a shared token without the body's hash",
      "secrets: [x]\nsignature: { algorithm: jwt-hs256, header: x }\n",
      "t.yaml:2: signature.jwt.body_hash is missing" },
    { "sns without its topic", "provider: aws-sns\n", "equals is missing; aws-sns is not safe" },
    { "paypal without its webhook", "provider: paypal\n", "config.webhook_id is missing" },
    { "certificates from anywhere",
      "signature:\n  algorithm: rsa-sha256\n  header: x\n  certificate: { header: y }\n",
      "t.yaml:4: certificate.hosts is missing" },
    { "subscriptions where there are none", "provider: none\nconfirm_subscriptions: true\n",
      "t.yaml:2: confirm_subscriptions: none has no subscription" },
    { "half a when", "provider: token\nsecrets: [x]\nsignature: { when: { path: a } }\n",
      "t.yaml:3: when needs path and equals" },
    { "retries that are no duration", "provider: none\nretries: often\n",
      "t.yaml:2: retries \"often\" is not a duration" },
};

static void refused(void **state)
{
    const struct bad_row *r = *state;
    struct made m;

    make(&m, r->config);
    assert_null(m.plan);
    assert_true(m.errs.n > 0);
    if (!strstr(m.errs.line[0], r->says))
        fail_msg("\"%s\" does not say \"%s\"", m.errs.line[0], r->says);
    unmake(&m);
}

static const struct warn_row {
    const char *name, *config, *says; /* NULL: nothing */
} warns[] = {
    { "a plain secret", "provider: github\nsecrets:\n  - { env: PATH }\n  - plain\n",
      "t.yaml:4: a secret stands in the file" },
    { "a secret from the environment", "provider: github\nsecrets: { env: PATH }\n", NULL },
    { "a token to keep", "provider: none\nkeep_headers:\n  - x-a\n  - Authorization\n",
      "t.yaml:4: keep_headers: Authorization holds a secret and is never stored" },
    { "a window shorter than the retries", "provider: none\nid: { header: x }\nretries: 1h\n",
      "t.yaml:3: none tries again for 1h; dedup.window is shorter" },
    { "nothing to deduplicate", "provider: none\nretries: 1h\n", NULL },
    { "no time and nothing that tells a repeat", "provider: huggingface\nsecrets: { env: PATH }\n",
      "t.yaml:1: huggingface signs no time and nothing tells a repeat" },
    { "which dedup: body mends", "provider: huggingface\nsecrets: { env: PATH }\ndedup: body\n",
      NULL },
    { "or is accepted", "provider: huggingface\nsecrets: { env: PATH }\ndedup: off\n", NULL },
    { "dynamic gemini without an audience",
      "provider: gemini-dynamic\npath: /g/{token}\npath_token: { env: PATH }\nid: { const: x }\n",
      "audience is missing: deliveries signed by a JWT are refused" },
};

static void warned(void **state)
{
    const struct warn_row *r = *state;
    struct made m;

    make_good(&m, r->config);
    assert_int_equal(m.warns.n, r->says ? 1 : 0);
    if (r->says && !strstr(m.warns.line[0], r->says))
        fail_msg("\"%s\" does not say \"%s\"", m.warns.line[0], r->says);
    unmake(&m);
}

/* Webhook of a preset with the user's keys over it. */
#define KEY "secrets: [whsec_a2V5]\n"
static const struct merge_row {
    const char *name, *config;
    int64_t late_ms; /* after it was signed */
    enum verdict want;
    const char *id, *type, *subject;
} merges[] = {
    { "the preset alone", "provider: gemini\n" KEY, 0, VERDICT_OK, "given", "a.done", "s-1" },
    { "the preset's tolerance", "provider: gemini\n" KEY, 301000, VERDICT_STALE, 0, 0, 0 },
    { "a longer tolerance", "provider: gemini\ntolerance: 10m\n" KEY, 600000, VERDICT_OK, "given",
      "a.done", "s-1" },
    { "a shorter tolerance within the block",
      "provider: gemini\nsignature: { timestamp: { tolerance: 1s } }\n" KEY, 2000, VERDICT_STALE, 0,
      0, 0 },
    { "the short key is the stronger",
      "provider: gemini\ntolerance: 10m\nsignature: { timestamp: { tolerance: 1s } }\n" KEY, 2000,
      VERDICT_OK, "given", "a.done", "s-1" },
    { "the id from the body", "provider: gemini\nid: { path: data.id }\n" KEY, 0, VERDICT_OK, "s-1",
      "a.done", "s-1" },
    { "a constant type", "provider: gemini\ntype: { const: job }\n" KEY, 0, VERDICT_OK, "given",
      "job", "s-1" },
    { "another header", "provider: stripe\nheader: X-Sig\n" KEY, 0, VERDICT_OK, "given", "a.done",
      "" },
    { "another digest", "provider: github\nsignature: { algorithm: hmac-sha512 }\n" KEY, 0,
      VERDICT_OK, "given", "a.done", "" },
};

/* What is signed by the merged plan is what it verifies, and both come from the same keys. */
static void merged(void **state)
{
    const struct merge_row *r = *state;
    struct source_outgoing o = {
        .id = S("given"),
        .type = S("a.done"),
        .now_ms = 1700000000000,
        .body = S("{\"id\":\"given\",\"type\":\"a.done\",\"data\":{\"id\":\"s-1\"}}")
    };
    struct source_event ev = { 0 };
    struct http_request req;
    struct err e = ERR_INIT;
    struct made m;
    char *bytes;

    make_good(&m, r->config);
    assert_int_equal(source_sign(m.plan, &o, &e), 0);
    bytes = request(&req, buf_as_span(&o.headers), buf_as_span(&o.text));
    assert_int_equal(source_verify(m.plan, &req, bytes, SPAN_NONE, o.now_ms + r->late_ms, &ev),
                     r->want);
    assert_true(span_eq(ev.id, span_str(r->id)));
    assert_true(span_eq(ev.type, span_str(r->type)));
    assert_true(span_eq(ev.subject, span_str(r->subject)));
    free(bytes);
    source_event_free(&ev);
    source_outgoing_free(&o);
    unmake(&m);
}

/* A user's list of outcomes replaces the preset's list of the same name, and no other. */
static void outcomes(void **state UNUSED)
{
    struct made m;

    make_good(&m, "provider: gemini\n" KEY "outcome: { failed: ['job.bad'] }\n");
    assert_int_equal(source_outcome(m.plan, S("job.bad")), OUTCOME_FAILED);
    assert_int_equal(source_outcome(m.plan, S("batch.failed")), OUTCOME_NONE);
    assert_int_equal(source_outcome(m.plan, S("batch.succeeded")), OUTCOME_SUCCEEDED);
    assert_int_equal(source_outcome(m.plan, S("video.generated")), OUTCOME_SUCCEEDED);
    assert_int_equal(source_outcome(m.plan, S("interaction.requires_action")), OUTCOME_WAITING);
    assert_int_equal(source_outcome(m.plan, S("batch.cancelled")), OUTCOME_CANCELLED);
    assert_int_equal(source_outcome(m.plan, S("batch.progress")), OUTCOME_NONE);
    unmake(&m);
    make_good(&m, "provider: gemini\n" KEY
                  "outcome: { succeeded: [a], cancelled: [b], waiting: [c] }\n");
    assert_int_equal(source_outcome(m.plan, S("batch.failed")), OUTCOME_FAILED);
    assert_int_equal(source_outcome(m.plan, S("batch.succeeded")), OUTCOME_NONE);
    assert_int_equal(source_outcome(m.plan, S("batch.cancelled")), OUTCOME_NONE);
    assert_int_equal(source_outcome(m.plan, S("interaction.requires_action")), OUTCOME_NONE);
    unmake(&m);
}

/* A preset that is printed and pasted is a source of its own, and the same one. */
static void presets_are_blocks(void **state UNUSED)
{
    for (const char *const *name = source_preset_names(); *name; name++) {
        struct span text = source_preset_text(*name);
        struct buf config = BUF_INIT, key = BUF_INIT;
        struct made m;

        span_cut(&text, '\n'); /* its name */
        while (text.n) {
            struct span line = span_cut(&text, '\n');
            if (span_starts(line, S("  require: [path_token]"))) /* which has its own test */
                continue;
            buf_span(&config, line.n > 2 ? span_of(line.p + 2, line.n - 2) : SPAN_NONE);
            buf_addc(&config, '\n');
        }
        add_needs(*name, &config, &key);
        make_good(&m, buf_cstr(&config));
        assert_string_equal(source_info(m.plan)->provider, "own");
        unmake(&m);
        buf_free(&config);
        buf_free(&key);
    }
    assert_null(source_preset_text("gem").p);
    assert_null(source_preset_text("signature").p);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(outcomes),
        cmocka_unit_test(presets_are_blocks),
    };

    return T_TABLE(bad, refused) + T_TABLE(warns, warned) + T_TABLE(merges, merged) + T_RUN(tests);
}
