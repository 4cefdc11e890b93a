/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates for tests, made when they are needed, and a client that speaks TLS over a socket. */
#pragma once

#include "table.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base.h"

struct authority {
    X509 *cert;
    EVP_PKEY *key;
};

static inline void add_extension(X509 *cert, int nid, const char *value)
{
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, NULL, nid, value);

    assert_non_null(ext);
    X509_add_ext(cert, ext, -1);
    X509_EXTENSION_free(ext);
}

/* by NULL: it vouches for itself. alternatives as "DNS:a,URI:b", or NULL. */
static inline struct authority certify(const char *cn, const char *alternatives, bool rsa,
                                       const struct authority *by)
{
    static long serial = 1;
    struct authority a = { X509_new(), rsa ? EVP_RSA_gen(2048) : EVP_EC_gen("P-256") };

    X509_set_version(a.cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(a.cert), serial++);
    X509_gmtime_adj(X509_getm_notBefore(a.cert), -3600);
    X509_gmtime_adj(X509_getm_notAfter(a.cert), 86400);
    X509_set_pubkey(a.cert, a.key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(a.cert), "CN", MBSTRING_UTF8,
                               (const unsigned char *)cn, -1, -1, 0);
    X509_set_issuer_name(a.cert, X509_get_subject_name(by ? by->cert : a.cert));
    if (!by)
        add_extension(a.cert, NID_basic_constraints, "critical,CA:TRUE");
    if (alternatives)
        add_extension(a.cert, NID_subject_alt_name, alternatives);
    assert_true(X509_sign(a.cert, by ? by->key : a.key, EVP_sha256()) > 0);
    return a;
}

static inline void authority_free(struct authority *a)
{
    X509_free(a->cert);
    EVP_PKEY_free(a->key);
    *a = (struct authority){ NULL, NULL };
}

static inline void write_pem(const char *path, const struct authority *a, bool key)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    if (key)
        PEM_write_PrivateKey(f, a->key, NULL, NULL, 0, NULL, NULL);
    else
        PEM_write_X509(f, a->cert);
    fclose(f);
}

static inline SSL_CTX *client_context(const struct authority *trusted, const struct authority *own)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());

    SSL_CTX_set_options(ctx, SSL_OP_IGNORE_UNEXPECTED_EOF);
    if (trusted) {
        X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), trusted->cert);
        SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    }
    if (own)
        assert_int_equal(SSL_CTX_use_cert_and_key(ctx, own->cert, own->key, NULL, 1), 1);
    return ctx;
}

static inline SSL *client_new(SSL_CTX *ctx, int fd)
{
    SSL *ssl = SSL_new(ctx);

    SSL_set_fd(ssl, fd);
    SSL_set_connect_state(ssl);
    return ssl;
}
