/* SPDX-License-Identifier: Apache-2.0 */
/* The public keys of a source: written in its settings, in a file, or on the provider's server. */
#include <stdio.h>
#include <string.h>

#include "room.h"

static struct fetch_rules rules_of(const struct jwks_cfg *c)
{
    return (struct fetch_rules){ .ca_file = c->ca_file, .allow_private = c->allow_private };
}

static void add_public(struct compile *cc, struct check *c, unsigned schemes, size_t i)
{
    struct span text = span_str(cc->c.public_keys.v[i]);

    for (int s = 0; schemes >> s; s++) {
        struct crypto_public *k =
            schemes & 1u << s ? crypto_public_new((enum crypto_scheme)s, text, &cc->key_err) : NULL;
        if (!k)
            continue;
        c->publics[c->publics_n++] = k;
        c->public_bits |= 1u << i;
        cc->key_taken[i] = true;
        return;
    }
}

void source_compile_publics(struct compile *cc, struct check *c, unsigned schemes)
{
    for (size_t i = 0; i < MIN(cc->c.public_keys.n, (size_t)SECRETS_MAX); i++)
        add_public(cc, c, schemes, i);
    if (c->publics_n)
        c->set =
            crypto_keyset_of((const struct crypto_public *const *)c->publics, NULL, c->publics_n);
}

int source_read_file(const char *path, struct buf *out)
{
    FILE *f = fopen(path, "re");
    char piece[4096];
    size_t n;

    if (!f)
        return -1;
    while (out->n <= CRYPTO_JWKS_MAX && (n = fread(piece, 1, sizeof piece, f)))
        buf_add(out, piece, n);
    fclose(f);
    return 0;
}

/* Read here, so that a file that is of no use is an error of the configuration. */
static void read_jwks(struct compile *cc)
{
    struct buf text = BUF_INIT;
    struct err e = ERR_INIT;

    if (source_read_file(cc->c.jwks.file, &text))
        bad(cc, "jwks.file", "jwks.file %s cannot be read", cc->c.jwks.file);
    else if (!(cc->p->file_set = crypto_keyset_new(buf_as_span(&text), &e)))
        bad(cc, "jwks.file", "jwks.file %s: %s", cc->c.jwks.file, e.text);
    buf_free(&text);
}

void source_check_publics(struct compile *cc)
{
    const struct source_plan *p = cc->p;
    struct fetch_rules rules = rules_of(&cc->c.jwks);
    struct err e = ERR_INIT;
    bool asked = false;

    if (cc->c.public_keys.n > SECRETS_MAX)
        bad(cc, "public_keys", "more than %d public keys", SECRETS_MAX);
    if (cc->c.jwks.url && cc->c.jwks.file)
        bad(cc, "jwks", "jwks is one of url and file");
    else if (cc->c.jwks.file)
        read_jwks(cc);
    else if (cc->c.jwks.url && fetch_check(cc->c.jwks.url, &rules, &e))
        bad(cc, "jwks.url", "jwks.url: %s", e.text);
    for (size_t i = 0; i < p->checks_n; i++)
        asked |= p->checks[i].kind && p->checks[i].kind->ops->takes_publics;
    for (size_t i = 0; i < MIN(cc->c.public_keys.n, (size_t)SECRETS_MAX); i++)
        if (!asked)
            cfg_error(cc->errs, source_item(cc, "public_keys", i), "%s verifies with no public key",
                      p->provider);
        else if (!cc->key_taken[i])
            cfg_error(cc->errs, source_item(cc, "public_keys", i), "public key %zu: %s", i + 1,
                      cc->key_err.text);
}

static bool wants_set(const struct source_plan *p)
{
    for (size_t i = 0; i < p->checks_n; i++)
        if (p->checks[i].kind->ops->takes_publics && !p->checks[i].set &&
            p->checks[i].certificate.at.kind == PLACE_NOWHERE)
            return true;
    return false;
}

bool source_wants_keys(const struct source_plan *p)
{
    for (size_t i = 0; i < p->checks_n; i++)
        if (p->checks[i].certificate.at.kind != PLACE_NOWHERE)
            return true;
    return wants_set(p);
}

int source_register_keys(struct source_plan *p, struct keys *k, struct err *e)
{
    const struct jwks_cfg *c = &p->own->jwks;
    struct keys_set_cfg cfg = {
        .name = p->name, .url = c->url, .file = c->file, .rules = rules_of(c)
    };

    p->keys = k;
    if (!wants_set(p))
        return 0;
    p->jwks = keys_register(k, &cfg, e);
    return p->jwks ? 0 : err_wrap(e, "the keys of source %s", p->name);
}

void source_forget_keys(struct source_plan *p)
{
    if (p->jwks)
        keys_unregister(p->jwks);
    p->jwks = NULL;
    p->keys = NULL;
}
