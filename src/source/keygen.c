/* SPDX-License-Identifier: Apache-2.0 */
/* Keys as a provider would hand them out, to try its preset with. */
#include <string.h>

#include "room.h"

#define SECRET_BYTES 32

static int scheme_of(const struct signature_cfg *c, const struct primitive *kind)
{
    const char *first = c->jwt.algorithms.n ? c->jwt.algorithms.v[0] : "";

    if (strcmp(kind->name, "jwt"))
        return kind->arg;
    if (!strcmp(first, "RS256"))
        return CRYPTO_RSA_SHA256;
    return strcmp(first, "ES256") ? CRYPTO_ED25519 : CRYPTO_ECDSA_P256;
}

static void make_secret(const struct signature_cfg *c, struct buf *out)
{
    uint8_t raw[SECRET_BYTES];

    crypto_random(raw, sizeof raw);
    buf_span(out, span_str(c->secret.strip));
    if (c->secret.decode && !strcmp(c->secret.decode, "base64"))
        buf_base64(out, span_of(raw, sizeof raw));
    else
        buf_hex(out, span_of(raw, sizeof raw));
    crypto_wipe(raw, sizeof raw);
}

static void make_pair(int scheme, struct source_pair *out)
{
    struct crypto_private *k = crypto_private_generate((enum crypto_scheme)scheme);
    const struct crypto_public *public = crypto_private_public(k);
    struct crypto_keyset *set = crypto_keyset_of(&public, NULL, 1);

    crypto_private_print(k, &out->private);
    crypto_public_print(public, scheme == CRYPTO_ED25519 ? CRYPTO_WHPK : CRYPTO_SPKI, &out->public);
    crypto_keyset_print(set, &out->jwks);
    crypto_keyset_free(set);
    crypto_private_free(k);
}

static void make_for(const struct signature_cfg *c, struct source_pair *out)
{
    const struct primitive *kind = source_find_primitive(c->algorithm);

    if (kind->ops->takes_publics && !out->private.n)
        make_pair(scheme_of(c, kind), out);
    else if ((kind->ops->takes_secrets || kind->ops->takes_tokens) && !out->secret.n)
        make_secret(c, &out->secret);
}

int source_keygen(const char *preset, struct source_pair *out, struct err *e)
{
    struct err_list errs = { NULL, 0 };
    struct span text = source_preset_text(preset);
    struct source_cfg *c;
    struct cfg_doc *doc;

    if (!text.p)
        return err_set(e, EXIT_BAD_USAGE, "there is no provider %s", preset);
    doc = cfg_parse("providers.yaml", text, false, &errs);
    c = xcalloc(1, sizeof *c);
    cfg_load(source_cfg_keys(), cfg_find(cfg_root(doc), preset), c, &errs);
    if (!c->any_of.n)
        make_for(&c->signature, out);
    for (size_t i = 0; i < c->any_of.n; i++) {
        struct signature_cfg one = *(const struct signature_cfg *)c->any_of.v[i];
        source_fall_back(source_signature_keys(), &one, &c->signature);
        make_for(&one, out);
    }
    cfg_release(source_cfg_keys(), c);
    cfg_doc_free(doc);
    free(c);
    return out->secret.n || out->private.n
               ? 0
               : err_set(e, EXIT_BAD_USAGE, "provider %s has no key", preset);
}

void source_pair_free(struct source_pair *p)
{
    crypto_wipe(p->secret.p, p->secret.n);
    crypto_wipe(p->private.p, p->private.n);
    buf_free(&p->secret);
    buf_free(&p->private);
    buf_free(&p->public);
    buf_free(&p->jwks);
}
