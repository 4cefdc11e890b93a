/* SPDX-License-Identifier: Apache-2.0 */
/* A signature over the message by a private key whose public half we have. The provider names no
 * key in the request, so each is tried. */
#include <string.h>

#include "room.h"

#define SIGNATURE_MAX 1024  /* RSA of 8192 bits */
#define PUBLIC_CANDIDATES 4 /* each costs as many checks as there are keys */

static void compile(struct compile *cc, struct check *c)
{
    source_compile_certificate(cc, c);
    if (c->certificate.at.kind == PLACE_NOWHERE)
        source_compile_publics(cc, c, 1u << c->kind->arg);
    if (c->at.kind == PLACE_NOWHERE)
        bad_check(cc, "", "signature.header is missing");
    if (c->at.kind == PLACE_HEADER)
        source_keep(cc, source_check_node(cc, "header"), c->at.name);
    source_compile_message(cc, c);
    source_compile_stamp(cc, c);
}

/* With the certificate's key, or any of the set. */
static enum verdict try_one(struct verify *v, const struct check *c, const struct span *parts,
                            struct span signature)
{
    enum crypto_scheme scheme = (enum crypto_scheme)c->kind->arg;
    const struct crypto_keyset *set;
    struct crypto_public *key;
    enum verdict verdict;

    source_tries(v, c);
    if (c->certificate.at.kind != PLACE_NOWHERE) {
        verdict = source_certificate_key(v, c, &key);
        if (verdict != VERDICT_OK)
            return source_because(v, verdict,
                                  "the certificate that it names was not had or not taken");
        if (!crypto_verify(key, parts, c->parts_n, signature))
            verdict = VERDICT_BAD_SIGNATURE;
        crypto_public_free(key);
        return verdict;
    }
    set = source_keyset(v, c);
    if (!set)
        return VERDICT_KEYS_UNAVAILABLE;
    return crypto_keyset_verify(set, scheme, SPAN_NONE, parts, c->parts_n, signature) >= 0
               ? VERDICT_OK
               : VERDICT_BAD_SIGNATURE;
}

/* The first that verifies; else what became of the last that could be read. */
static enum verdict compare(struct verify *v, const struct check *c, const struct span *parts)
{
    struct span rest = v->signature, text;
    enum verdict verdict = VERDICT_UNSIGNED;
    uint8_t raw[SIGNATURE_MAX];

    for (int left = PUBLIC_CANDIDATES; source_candidate(c, &rest, &text); left--) {
        ssize_t n = left ? source_decode(c, text, raw, sizeof raw) : -1;
        if (!left)
            return VERDICT_MALFORMED;
        if (n <= 0 || (c->kind->bytes && (size_t)n != c->kind->bytes)) {
            if (verdict == VERDICT_UNSIGNED)
                verdict = VERDICT_MALFORMED;
            continue;
        }
        verdict = try_one(v, c, parts, span_of(raw, (size_t)n));
        if (verdict != VERDICT_BAD_SIGNATURE)
            return verdict;
    }
    return verdict == VERDICT_BAD_SIGNATURE ? source_newer_keys(v, c, verdict) : verdict;
}

static enum verdict verify(struct verify *v, const struct check *c)
{
    struct span parts[PARTS_MAX];
    enum verdict verdict;

    source_message_room(v, c);
    verdict = source_at(v, &c->at, true, &v->signature);
    if (verdict == VERDICT_OK && !v->signature.p)
        verdict = VERDICT_UNSIGNED;
    if (verdict == VERDICT_OK)
        verdict = source_message(v, c, parts);
    if (verdict == VERDICT_OK)
        verdict = compare(v, c, parts);
    return verdict == VERDICT_OK ? source_check_stamp(v, c) : verdict;
}

static int sign(struct sign *s, const struct check *c, struct err *e)
{
    struct crypto_private *key = source_private(s, (enum crypto_scheme)c->kind->arg, e);
    struct span parts[PARTS_MAX];
    struct buf raw = BUF_INIT;
    int rc = -1;

    if (key && !source_sign_message(s, c, parts, e)) {
        crypto_sign(key, parts, c->parts_n, &raw);
        source_sign_put(s, c, buf_as_span(&raw));
        rc = 0;
    }
    buf_free(&raw);
    crypto_private_free(key);
    return rc;
}

const struct primitive_ops source_public = {
    .compile = compile, .verify = verify, .sign = sign, .takes_publics = true
};
