/* SPDX-License-Identifier: Apache-2.0 */
/* The key of a signature that names its certificate by a URL: only from hosts that the settings
 * name, with a chain to a root that we trust, for a name that they allow. */
#include <string.h>

#include "room.h"

#define NAMES_OF_CERTIFICATE 8

static struct span pem_of(struct compile *cc, const char *file, struct buf *text)
{
    if (file && source_read_file(file, text))
        bad_check(cc, "certificate.ca_file", "certificate.ca_file %s cannot be read", file);
    return buf_as_span(text);
}

void source_compile_certificate(struct compile *cc, struct check *c)
{
    const struct certificate_cfg *cfg = &c->cfg->certificate;
    struct buf pem = BUF_INIT;
    struct err e = ERR_INIT;

    if (!cfg->header && !cfg->path)
        return;
    c->certificate.at =
        cfg->header ? source_header_place(cc, source_check_node(cc, "certificate"), cfg->header)
                    : source_path_place(cc, source_check_node(cc, "certificate"), cfg->path);
    if (cfg->header)
        source_keep(cc, source_check_node(cc, "certificate"), c->certificate.at.name);
    if (!cfg->hosts.n)
        bad_check(cc, "certificate", "certificate.hosts is missing: anybody could name their own");
    c->certificate.hosts = xcalloc(cfg->hosts.n + 1, sizeof(char *));
    for (size_t i = 0; i < cfg->hosts.n; i++)
        c->certificate.hosts[i] = cfg->hosts.v[i];
    c->certificate.rules = (struct fetch_rules){ .hosts = c->certificate.hosts,
                                                 .path = cfg->url_path,
                                                 .ca_file = cfg->ca_file,
                                                 .allow_private = cfg->allow_private };
    c->certificate.roots = crypto_roots_new(pem_of(cc, cfg->ca_file, &pem), &e);
    if (!c->certificate.roots)
        bad_check(cc, "certificate", "the certificates to trust: %s", e.text);
    buf_free(&pem);
}

void source_certificate_release(struct check *c)
{
    crypto_roots_free(c->certificate.roots);
    free(c->certificate.hosts);
}

/* "https://HOST[:PORT]/..." */
static struct span host_of(struct span url)
{
    for (int i = 0; i < 2; i++)
        span_cut(&url, '/');
    url = span_cut(&url, '/');
    return span_cut(&url, ':');
}

static struct crypto_public *key_of(const struct verify *v, const struct check *c, struct span url,
                                    struct span pem)
{
    const struct cfg_strs *names = &c->cfg->certificate.names;
    struct span hosts[NAMES_OF_CERTIFICATE + 1];
    struct err e = ERR_INIT;
    size_t n = 0;

    hosts[n++] = host_of(url);
    for (size_t i = 0; i < names->n && n < ARRAY_LEN(hosts); i++)
        hosts[n++] = span_str(names->v[i]);
    return crypto_certificate_key((enum crypto_scheme)c->kind->arg, pem, c->certificate.roots,
                                  hosts, n, v->now_ms, NULL, &e);
}

enum verdict source_certificate_key(struct verify *v, const struct check *c,
                                    struct crypto_public **key)
{
    struct keys_doc *doc = NULL;
    enum verdict verdict;
    struct span url;

    *key = NULL;
    verdict = source_at(v, &c->certificate.at, false, &url);
    if (verdict != VERDICT_OK || !url.n)
        return verdict != VERDICT_OK ? verdict : VERDICT_UNSIGNED;
    if (!v->p->keys)
        return VERDICT_KEYS_UNAVAILABLE;
    switch (keys_cert_hold(v->p->keys, url, &c->certificate.rules, &doc)) {
    case KEYS_LATER:
        return VERDICT_KEYS_UNAVAILABLE;
    case KEYS_REFUSED:
        return VERDICT_UNKNOWN_KEY;
    case KEYS_HELD:
        break;
    }
    *key = key_of(v, c, url, buf_as_span(&doc->pem));
    keys_release(doc);
    return *key ? VERDICT_OK : VERDICT_UNKNOWN_KEY;
}
