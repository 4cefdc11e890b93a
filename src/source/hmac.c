/* SPDX-License-Identifier: Apache-2.0 */
/* HMAC over the message, with one of several secrets. */
#include <string.h>

#include "room.h"

static void compile(struct compile *cc, struct check *c)
{
    if (c->at.kind == PLACE_NOWHERE)
        bad_check(cc, "", "signature.header is missing");
    if (c->at.kind == PLACE_HEADER)
        source_keep(cc, source_check_node(cc, "header"), c->at.name);
    source_compile_message(cc, c);
    source_compile_stamp(cc, c);
}

/* The signatures of our kind in the header, decoded. */
static enum verdict candidates(struct verify *v, const struct check *c,
                               uint8_t out[][CRYPTO_HASH_MAX], size_t *n)
{
    struct span rest = v->signature, text;
    bool ours = false;

    for (*n = 0; source_candidate(c, &rest, &text); ours = true) {
        if (*n == CANDIDATES_MAX)
            return VERDICT_MALFORMED;
        if (source_decode(c, text, out[*n], CRYPTO_HASH_MAX) == (ssize_t)c->kind->bytes)
            (*n)++;
    }
    if (*n)
        return VERDICT_OK;
    return ours ? source_because(v, VERDICT_MALFORMED, "no signature has its length and encoding")
                : source_because(v, VERDICT_UNSIGNED, "no signature of this kind is in the header");
}

/* Every key against every candidate, always all of them: time tells nothing. */
static enum verdict compare(struct verify *v, const struct check *c, const struct span *parts)
{
    uint8_t given[CANDIDATES_MAX][CRYPTO_HASH_MAX], mac[CRYPTO_HASH_MAX];
    bool match = false, late = false;
    enum verdict verdict;
    size_t n;

    verdict = candidates(v, c, given, &n);
    if (verdict != VERDICT_OK)
        return verdict;
    source_tries(v, c);
    for (size_t k = 0; k < c->secrets_n; k++) {
        size_t len = crypto_hmac(c->keys[k], parts, c->parts_n, mac);
        bool holds = v->now_ms <= c->not_after_ms[k], same = false;
        for (size_t i = 0; i < n; i++)
            same |= crypto_equal(mac, len, given[i], c->kind->bytes);
        match |= same & holds;
        late |= same & !holds;
    }
    return source_matched(v, match, late);
}

static enum verdict verify(struct verify *v, const struct check *c)
{
    struct span parts[PARTS_MAX];
    enum verdict verdict;

    if (c->form && source_hash_in_url(v))
        return VERDICT_UNSIGNED;
    source_message_room(v, c);
    verdict = source_at(v, &c->at, true, &v->signature);
    if (verdict == VERDICT_OK && !v->signature.p)
        verdict = VERDICT_UNSIGNED;
    if (verdict == VERDICT_OK)
        verdict = source_message(v, c, parts);
    if (verdict == VERDICT_OK)
        verdict = compare(v, c, parts);
    if (verdict == VERDICT_OK && c->body_hash.n)
        verdict = source_check_body_hash(v, c);
    return verdict == VERDICT_OK ? source_check_stamp(v, c) : verdict;
}

static int sign(struct sign *s, const struct check *c, struct err *e)
{
    struct span parts[PARTS_MAX];
    uint8_t mac[CRYPTO_HASH_MAX];

    if (source_sign_message(s, c, parts, e))
        return -1;
    source_sign_put(s, c, span_of(mac, crypto_hmac(c->keys[0], parts, c->parts_n, mac)));
    return 0;
}

const struct primitive_ops source_hmac = {
    .compile = compile, .verify = verify, .sign = sign, .takes_secrets = true
};
