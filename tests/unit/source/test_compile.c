/* SPDX-License-Identifier: Apache-2.0 */
/* Settings that are refused, each with the line of the key that is wrong; and how a user's keys lie
 * over a preset's. */
#include "harness.h"

#define HMAC "signature: { algorithm: hmac-sha256, header: x, "

static const struct bad_row {
    const char *name, *config, *says;
} bad[] = {
    { "no secrets", "provider: gemini\n", "t.yaml:1: secrets is missing" },
    { "empty secret", "provider: gemini\nsecrets: ['']\n", "t.yaml:2: secrets is empty" },
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
        struct buf config = BUF_INIT;
        struct made m;

        span_cut(&text, '\n'); /* its name */
        while (text.n) {
            struct span line = span_cut(&text, '\n');
            buf_span(&config, line.n > 2 ? span_of(line.p + 2, line.n - 2) : SPAN_NONE);
            buf_addc(&config, '\n');
        }
        if (strcmp(*name, "none"))
            buf_adds(&config, KEY);
        make_good(&m, buf_cstr(&config));
        assert_string_equal(source_info(m.plan)->provider, "own");
        unmake(&m);
        buf_free(&config);
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
