/* SPDX-License-Identifier: Apache-2.0 */
/* TLS 1.2 or newer to Redis, over OpenSSL on the same non-blocking socket: hiredis 0.14 has none.
 * The certificate must lead to an authority and be for the name, or the address, that is connected.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "redis.h"

static const char *why(void)
{
    const char *text = ERR_reason_error_string(ERR_peek_last_error());

    return text ? text : "the server closed the connection";
}

int redis_tls_open(struct redis *r, struct err *e)
{
    const struct sink_redis_tls *tls = &r->cfg->tls;

    if (!r->url.tls)
        return 0;
    ERR_clear_error();
    r->tls = SSL_CTX_new(TLS_client_method());
    if (!r->tls)
        return err_set(e, EXIT_BAD_CONFIG, "tls: %s", why());
    SSL_CTX_set_min_proto_version(r->tls, TLS1_2_VERSION);
    SSL_CTX_set_verify(r->tls, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_mode(r->tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    if (tls->ca ? SSL_CTX_load_verify_file(r->tls, tls->ca) != 1
                : SSL_CTX_set_default_verify_paths(r->tls) != 1)
        return err_set(e, EXIT_BAD_CONFIG, "tls.ca %s: %s", tls->ca ? tls->ca : "", why());
    if (tls->cert && (SSL_CTX_use_certificate_chain_file(r->tls, tls->cert) != 1 ||
                      SSL_CTX_use_PrivateKey_file(r->tls, tls->key, SSL_FILETYPE_PEM) != 1))
        return err_set(e, EXIT_BAD_CONFIG, "tls.cert %s, tls.key %s: %s", tls->cert, tls->key,
                       why());
    return 0;
}

void redis_tls_close(struct redis *r)
{
    SSL_CTX_free(r->tls);
}

static void expect(SSL *ssl, const char *host)
{
    struct in6_addr any;

    if (inet_pton(AF_INET, host, &any) == 1 || inet_pton(AF_INET6, host, &any) == 1) {
        X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host);
    } else {
        SSL_set1_host(ssl, host);
        SSL_set_tlsext_host_name(ssl, host);
    }
}

void redis_tls_start(struct redis_link *l)
{
    l->ssl = SSL_new(l->r->tls);
    if (!l->ssl || SSL_set_fd(l->ssl, l->fd) != 1)
        die(EXIT_IO, "out of memory");
    expect(l->ssl, l->host.host);
    l->phase = REDIS_SHAKING_HANDS;
    redis_tls_go_on(l);
}

void redis_tls_go_on(struct redis_link *l)
{
    char reason[300];
    long verified;
    int rc;

    ERR_clear_error();
    rc = SSL_connect(l->ssl);
    if (rc == 1) {
        redis_link_wait(l, EV_READ);
        redis_hello(l);
        return;
    }
    switch (SSL_get_error(l->ssl, rc)) {
    case SSL_ERROR_WANT_READ:
        redis_link_wait(l, EV_READ);
        break;
    case SSL_ERROR_WANT_WRITE:
        redis_link_wait(l, EV_WRITE);
        break;
    default:
        verified = SSL_get_verify_result(l->ssl);
        snprintf(reason, sizeof reason, "TLS with %s: %s", l->host.host,
                 verified == X509_V_OK ? why() : X509_verify_cert_error_string(verified));
        redis_link_down(l, verified == X509_V_OK ? SINK_RETRYING : SINK_BLOCKED, reason);
    }
}

void redis_tls_end(struct redis_link *l)
{
    SSL_free(l->ssl);
    l->ssl = NULL;
}

/* As read(2) and write(2) would say it. */
static ssize_t outcome(struct redis_link *l, int rc)
{
    if (rc > 0)
        return rc;
    switch (SSL_get_error(l->ssl, rc)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        errno = EAGAIN;
        return -1;
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    default:
        errno = errno && errno != EAGAIN ? errno : ECONNRESET;
        return -1;
    }
}

ssize_t redis_link_read(struct redis_link *l, void *p, size_t n)
{
    if (!l->ssl)
        return read(l->fd, p, n);
    ERR_clear_error();
    errno = 0;
    return outcome(l, SSL_read(l->ssl, p, (int)n));
}

ssize_t redis_link_write(struct redis_link *l, const void *p, size_t n)
{
    ssize_t rc;

    if (!l->ssl)
        return send(l->fd, p, n, MSG_NOSIGNAL);
    ERR_clear_error();
    errno = 0;
    rc = outcome(l, SSL_write(l->ssl, p, (int)MIN(n, (size_t)REDIS_OUT_MAX)));
    if (rc == 0) {
        errno = EPIPE;
        return -1;
    }
    return rc;
}
