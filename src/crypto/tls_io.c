/* SPDX-License-Identifier: Apache-2.0 */
/* One TLS connection: what OpenSSL says of each call in the words of recv(2) and send(2). */
#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "tls_room.h"

/* Sets errno: EAGAIN when the call is to be made again, else what ended the connection. */
static void say_errno(SSL *ssl, int rc, bool *write)
{
    switch (SSL_get_error(ssl, rc)) {
    case SSL_ERROR_WANT_WRITE:
        *write = true;
        errno = EAGAIN;
        break;
    case SSL_ERROR_WANT_READ:
        errno = EAGAIN;
        break;
    default:
        /* nothing may be said on it any more, not even goodbye */
        SSL_set_shutdown(ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
        errno = ECONNRESET;
    }
}

int tls_handshake(struct ssl_st *c, bool *write)
{
    int rc;

    ERR_clear_error();
    *write = false;
    rc = SSL_do_handshake(c);
    if (rc == 1)
        return 1;
    say_errno(c, rc, write);
    return errno == EAGAIN ? 0 : -1;
}

ssize_t tls_recv(struct ssl_st *c, void *p, size_t n, bool *more, bool *write)
{
    int rc;

    ERR_clear_error();
    *more = *write = false;
    rc = SSL_read(c, p, (int)MIN(n, (size_t)INT_MAX));
    if (rc > 0) {
        *more = SSL_has_pending(c) == 1;
        return rc;
    }
    if (SSL_get_error(c, rc) == SSL_ERROR_ZERO_RETURN)
        return 0;
    say_errno(c, rc, write);
    return -1;
}

ssize_t tls_send(struct ssl_st *c, const void *p, size_t n)
{
    bool write;
    size_t sent = 0;

    ERR_clear_error();
    while (sent < n) { /* a record at a time */
        int rc = SSL_write(c, (const char *)p + sent, (int)MIN(n - sent, (size_t)INT_MAX));
        if (rc > 0) {
            sent += (size_t)rc;
            continue;
        }
        say_errno(c, rc, &write);
        if (errno != EAGAIN)
            return -1;
        break;
    }
    return sent ? (ssize_t)sent : -1;
}

void tls_goodbye(struct ssl_st *c)
{
    if (!SSL_is_init_finished(c) || SSL_get_shutdown(c) & SSL_SENT_SHUTDOWN)
        return;
    ERR_clear_error();
    SSL_shutdown(c);
}

bool tls_resumed(struct ssl_st *c)
{
    return SSL_session_reused(c) == 1;
}

const char *tls_why(void)
{
    const char *text = ERR_reason_error_string(ERR_peek_error());

    return text ? text : "the client went away";
}

/* --- who the client is ---------------------------------------------------------------------------
 */

/* A name with a NUL inside would be one thing to us and another to who gave the certificate. */
static void add_name(struct buf *out, const char *kind, const ASN1_STRING *s)
{
    unsigned char *utf8 = NULL;
    int n = ASN1_STRING_to_UTF8(&utf8, s);

    if (n > 0 && !memchr(utf8, 0, (size_t)n)) {
        buf_adds(out, kind);
        buf_add(out, utf8, (size_t)n);
        buf_addc(out, 0);
    }
    OPENSSL_free(utf8);
}

static void add_alternatives(struct buf *out, const X509 *cert)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);

    for (int i = 0; names && i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type == GEN_DNS)
            add_name(out, "dns:", name->d.dNSName);
        else if (name->type == GEN_URI)
            add_name(out, "uri:", name->d.uniformResourceIdentifier);
        else if (name->type == GEN_EMAIL)
            add_name(out, "email:", name->d.rfc822Name);
    }
    GENERAL_NAMES_free(names);
}

void tls_client_names(struct ssl_st *c, struct buf *out)
{
    X509 *cert = SSL_get0_peer_certificate(c);
    X509_NAME *subject;
    int at = -1;

    if (!cert || SSL_get_verify_result(c) != X509_V_OK)
        return;
    add_alternatives(out, cert);
    subject = X509_get_subject_name(cert);
    while ((at = X509_NAME_get_index_by_NID(subject, NID_commonName, at)) >= 0)
        add_name(out, "cn:", X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
}
