/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates that providers sign with. They were fetched from an address that the webhook named,
 * so the chain to a root, the dates and the host are all that ties the key to the provider.
 * Signatures and keys in the chain must give 112 bits: SHA-256 and RSA 2048 at least. */
#include "room.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>
#include <time.h>

#define TEXT_MAX (64 << 10)
#define ROOTS_TEXT_MAX (4 << 20)
#define CHAIN_MAX 8
#define AUTH_LEVEL 2

struct crypto_roots {
    X509_STORE *store;
};

/* All certificates of the text, or NULL when there is none, one that is broken, or more than max.
 */
static STACK_OF(X509) * read_certificates(struct span pem, size_t text_max, int max)
{
    STACK_OF(X509) *all = sk_X509_new_null();
    BIO *in = pem.n && pem.n <= text_max ? BIO_new_mem_buf(pem.p, (int)pem.n) : NULL;
    X509 *one = NULL;
    bool ok = all && in;

    while (ok && (one = PEM_read_bio_X509(in, NULL, NULL, NULL))) {
        ok = sk_X509_num(all) < max && sk_X509_push(all, one) > 0;
        if (!ok)
            X509_free(one);
    }
    /* the end of the text is told as an error, too */
    ok = ok && sk_X509_num(all) > 0 && ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
    ERR_clear_error();
    BIO_free(in);
    if (ok)
        return all;
    sk_X509_pop_free(all, X509_free);
    return NULL;
}

static bool add_roots(X509_STORE *store, struct span pem)
{
    STACK_OF(X509) *all = read_certificates(pem, ROOTS_TEXT_MAX, INT32_MAX);
    bool ok = all;

    for (int i = 0; ok && i < sk_X509_num(all); i++)
        ok = X509_STORE_add_cert(store, sk_X509_value(all, i)) == 1;
    sk_X509_pop_free(all, X509_free);
    return ok;
}

struct crypto_roots *crypto_roots_new(struct span pem, struct err *e)
{
    struct crypto_roots *roots = xcalloc(1, sizeof *roots);
    bool ok;

    roots->store = X509_STORE_new();
    if (!roots->store)
        die(EXIT_IO, "OpenSSL cannot make a store of certificates");
    /* Providers may serve their certificate without its issuer: then the issuer can be given here.
     */
    if (pem.n)
        ok = add_roots(roots->store, pem) &&
             X509_STORE_set_flags(roots->store, X509_V_FLAG_PARTIAL_CHAIN) == 1;
    else
        ok = X509_STORE_set_default_paths(roots->store) == 1;
    ERR_clear_error();
    if (ok)
        return roots;
    err_set(e, EXIT_BAD_CONFIG,
            pem.n ? "not root certificates in PEM"
                  : "the system's root certificates are not there");
    crypto_roots_free(roots);
    return NULL;
}

void crypto_roots_free(struct crypto_roots *roots)
{
    if (!roots)
        return;
    X509_STORE_free(roots->store);
    free(roots);
}

/* An empty name would switch OpenSSL's check off, one that starts with a dot would let every
 * subdomain pass. */
static bool set_hosts(X509_VERIFY_PARAM *param, const struct span *hosts, size_t n)
{
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    for (size_t i = 0; i < n; i++) {
        if (!hosts[i].n || hosts[i].p[0] == '.' ||
            X509_VERIFY_PARAM_add1_host(param, hosts[i].p, hosts[i].n) != 1)
            return false;
    }
    return n > 0;
}

static int check_chain(STACK_OF(X509) * chain, const struct crypto_roots *roots,
                       const struct span *hosts, size_t n_hosts, int64_t now_ms, struct err *e)
{
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    X509_VERIFY_PARAM *param;
    int rc = -1;

    if (!ctx || X509_STORE_CTX_init(ctx, roots->store, sk_X509_value(chain, 0), chain) != 1)
        die(EXIT_IO, "OpenSSL cannot check certificates");
    param = X509_STORE_CTX_get0_param(ctx);
    X509_VERIFY_PARAM_set_time(param, (time_t)(now_ms / 1000));
    X509_VERIFY_PARAM_set_auth_level(param, AUTH_LEVEL);
    X509_VERIFY_PARAM_set_depth(param, CHAIN_MAX);
    if (X509_VERIFY_PARAM_set_purpose(param, X509_PURPOSE_SSL_SERVER) != 1 ||
        !set_hosts(param, hosts, n_hosts))
        err_set(e, EXIT_BAD_CONFIG, "certificate: no host to check it for");
    else if (X509_verify_cert(ctx) == 1)
        rc = 0;
    else
        err_set(e, EXIT_BAD_CONFIG, "certificate: %s",
                X509_verify_cert_error_string(X509_STORE_CTX_get_error(ctx)));
    X509_STORE_CTX_free(ctx);
    return rc;
}

static int64_t expiry_ms(const X509 *cert)
{
    struct tm tm;

    return ASN1_TIME_to_tm(X509_get0_notAfter(cert), &tm) == 1 ? (int64_t)timegm(&tm) * 1000 : 0;
}

struct crypto_public *crypto_certificate_key(enum crypto_scheme scheme, struct span pem,
                                             const struct crypto_roots *roots,
                                             const struct span *hosts, size_t n_hosts,
                                             int64_t now_ms, int64_t *not_after_ms, struct err *e)
{
    STACK_OF(X509) *chain = read_certificates(pem, TEXT_MAX, CHAIN_MAX);
    struct crypto_public *k = NULL;
    EVP_PKEY *pkey = NULL;

    if (!chain) {
        err_set(e, EXIT_BAD_CONFIG, "not certificates in PEM");
        return NULL;
    }
    if (!check_chain(chain, roots, hosts, n_hosts, now_ms, e)) {
        pkey = X509_get_pubkey(sk_X509_value(chain, 0));
        if (!pkey)
            err_set(e, EXIT_BAD_CONFIG, "certificate: a key that OpenSSL does not know");
        else if (public_check(pkey, scheme, e))
            EVP_PKEY_free(pkey);
        else
            k = public_take(pkey, scheme);
    }
    if (k && not_after_ms)
        *not_after_ms = expiry_ms(sk_X509_value(chain, 0));
    ERR_clear_error();
    sk_X509_pop_free(chain, X509_free);
    return k;
}
