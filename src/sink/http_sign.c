/* SPDX-License-Identifier: Apache-2.0 */
/* Who signs what is forwarded. The id of a message is the event's place in its log: the provider's
 * own is unique within a source only, and may name an object that changes, where who receives it
 * would take the second event for a repeat of the first. */
#include <stdio.h>

#include "http_sink.h"

struct sink_signer {
    const struct cfg_secrets *secrets;
    struct crypto_hmac **keys;           /* one a secret */
    const struct crypto_hmac **not_over; /* room for all */
};

struct sink_signer *sink_signer_new(const struct cfg_secrets *secrets)
{
    struct sink_signer *s = xcalloc(1, sizeof *s);

    s->secrets = secrets;
    s->keys = xcalloc(secrets->n + 1, sizeof *s->keys);
    s->not_over = xcalloc(secrets->n + 1, sizeof(struct crypto_hmac *));
    for (size_t i = 0; i < secrets->n; i++)
        s->keys[i] = webhook_key(span_of(secrets->v[i].bytes, secrets->v[i].n));
    return s;
}

void sink_signer_free(struct sink_signer *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < s->secrets->n; i++)
        crypto_hmac_free(s->keys[i]);
    free(s->keys);
    free(s->not_over);
    free(s);
}

void sink_signer_sign(struct sink_signer *s, const struct record *rec, const char *logid,
                      int64_t now_ms, struct buf *out)
{
    char id[RECORD_ID_MAX];
    size_t n = 0, len;

    for (size_t i = 0; i < s->secrets->n; i++)
        if (!s->secrets->v[i].not_after_ms || now_ms <= s->secrets->v[i].not_after_ms)
            s->not_over[n++] = s->keys[i];
    if (!n)
        return;
    len = (size_t)snprintf(id, sizeof id, "%s-%llu", logid, (unsigned long long)rec->lsn);
    webhook_sign(s->not_over, n, span_of(id, len), now_ms, rec->body, out);
}

/* --- what is said of them when the settings are read -------------------------------------------
 */

static void check_secrets(const char *what, const struct cfg_secrets *secrets,
                          const struct cfg_node *at, struct err_list *errs, struct err_list *warns)
{
    if (!secrets->n)
        cfg_error(warns, at, "%s: without secrets the target cannot tell who sends", what);
    for (size_t i = 0; i < secrets->n; i++) {
        const struct cfg_secret *s = &secrets->v[i];
        struct crypto_hmac *k = webhook_key(span_of(s->bytes, s->n));
        if (!k)
            cfg_error(errs, at, "%s: secrets[%zu] is not whsec_ and base64", what, i);
        crypto_hmac_free(k);
        if (!s->ref)
            cfg_error(warns, at,
                      "%s: a secret stands in the file; { env: NAME } or { file: PATH } keeps it "
                      "out",
                      what);
    }
}

void sink_http_check_target(const char *what, const char *url, const char *ca,
                            const struct cfg_secrets *secrets, const struct cfg_node *at,
                            struct err_list *errs, struct err_list *warns)
{
    struct err e = ERR_INIT;

    if (post_check(url, &e))
        cfg_error(errs, at, "%s: url: %s", what, e.text);
    if (ca && !span_starts(span_str(url), S("https:")))
        cfg_error(errs, at, "%s: ca is for https URLs", what);
    check_secrets(what, secrets, at, errs, warns);
}
