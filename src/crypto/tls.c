/* SPDX-License-Identifier: Apache-2.0 */
/* TLS contexts: certificates, names, who may vouch for clients. Read from files once, checked as a
 * whole: a pair that does not fit together makes no context. */
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "tls_room.h"

#define PAIRS_MAX 64

struct tls_site { /* what is shown to those who ask for a name */
    SSL_CTX *ctx;
    X509 *cert; /* the first of it */
};

struct tls_server {
    struct tls_site *sites;
    size_t n, pairs;
    int64_t *expiry;
    uint8_t client_hash[32]; /* of who may vouch: a ticket of another set is worth nothing */
    atomic_uint users;       /* its owner and every connection */
};

static const char *reason(void)
{
    const char *text = ERR_reason_error_string(ERR_peek_last_error());

    return text ? text : "not understood";
}

/* A key with a password would make OpenSSL ask the terminal. */
static int no_password(char *out UNUSED, int size UNUSED, int write UNUSED, void *arg UNUSED)
{
    return -1;
}

/* --- reading -------------------------------------------------------------------------------------
 */

struct pair {
    X509 *cert;
    STACK_OF(X509) * chain;
    EVP_PKEY *key;
};

static void pair_close(struct pair *p)
{
    X509_free(p->cert);
    sk_X509_pop_free(p->chain, X509_free);
    EVP_PKEY_free(p->key);
}

static int read_certificates(const char *path, struct pair *p, struct err *e)
{
    BIO *in = BIO_new_file(path, "r");
    X509 *more;

    if (!in)
        return err_errno(e, EXIT_BAD_CONFIG, "the certificate %s cannot be read", path);
    p->cert = PEM_read_bio_X509_AUX(in, NULL, no_password, NULL);
    p->chain = sk_X509_new_null();
    while (p->cert && (more = PEM_read_bio_X509(in, NULL, no_password, NULL)))
        sk_X509_push(p->chain, more);
    BIO_free(in);
    if (!p->cert)
        return err_set(e, EXIT_BAD_CONFIG, "%s holds no certificate in PEM", path);
    return 0;
}

static int read_key(const char *path, struct pair *p, struct err *e)
{
    BIO *in = BIO_new_file(path, "r");

    if (!in)
        return err_errno(e, EXIT_BAD_CONFIG, "the key %s cannot be read", path);
    p->key = PEM_read_bio_PrivateKey(in, NULL, no_password, NULL);
    BIO_free(in);
    return p->key ? 0
                  : err_set(e, EXIT_BAD_CONFIG, "%s holds no private key in PEM without a password",
                            path);
}

static int64_t ends_at(const X509 *cert)
{
    struct tm tm;

    return ASN1_TIME_to_tm(X509_get0_notAfter(cert), &tm) == 1 ? (int64_t)timegm(&tm) : 0;
}

/* --- a context -----------------------------------------------------------------------------------
 */

/* RFC 7301: who names protocols and http/1.1 is not among them cannot be served. */
static int choose_protocol(SSL *ssl UNUSED, const unsigned char **out, unsigned char *out_n,
                           const unsigned char *in, unsigned n, void *arg UNUSED)
{
    static const unsigned char ours[] = "\x08http/1.1";

    return SSL_select_next_proto((unsigned char **)(uintptr_t)out, out_n, ours, sizeof ours - 1, in,
                                 n) == OPENSSL_NPN_NEGOTIATED
               ? SSL_TLSEXT_ERR_OK
               : SSL_TLSEXT_ERR_ALERT_FATAL;
}

static int choose_site(SSL *ssl, int *alert UNUSED, void *arg)
{
    const struct tls_server *s = arg;
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);

    for (size_t i = 0; name && i < s->n; i++)
        if (X509_check_host(s->sites[i].cert, name, strlen(name), 0, NULL) == 1) {
            if (i)
                SSL_set_SSL_CTX(ssl, s->sites[i].ctx);
            break;
        }
    return SSL_TLSEXT_ERR_OK;
}

static int set_client_ca(struct tls_server *s, SSL_CTX *ctx, const char *path,
                         enum tls_client client, struct err *e)
{
    STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(path);
    int mode = SSL_VERIFY_PEER;

    if (!names || SSL_CTX_load_verify_file(ctx, path) != 1) {
        sk_X509_NAME_pop_free(names, X509_NAME_free);
        return err_set(e, EXIT_BAD_CONFIG, "client_ca %s: %s", path, reason());
    }
    SSL_CTX_set_client_CA_list(ctx, names);
    if (client == TLS_CLIENT_REQUIRED)
        mode |= SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
    SSL_CTX_set_verify(ctx, mode, NULL);
    SSL_CTX_set_session_id_context(ctx, s->client_hash, sizeof s->client_hash);
    return 0;
}

/* The curves of Mozilla's "intermediate", and before them what no quantum computer breaks, which
 * OpenSSL knows since 3.5. */
static bool set_groups(SSL_CTX *ctx)
{
    return SSL_CTX_set1_groups_list(ctx, "X25519MLKEM768:X25519:P-256:P-384") == 1 ||
           SSL_CTX_set1_groups_list(ctx, "X25519:P-256:P-384") == 1;
}

/* TLS 1.2 with forward secrecy and AEAD only; 1.3 has nothing else. */
static SSL_CTX *context_new(void)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());

    if (!ctx || SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1 ||
        SSL_CTX_set_cipher_list(ctx, "ECDHE+AESGCM:ECDHE+CHACHA20") != 1 || !set_groups(ctx))
        die(EXIT_IO, "no TLS context could be made: %s", reason());
    ERR_clear_error(); /* of groups that it does not know */
    SSL_CTX_set_security_level(ctx, 2);
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA |
                                 /* HTTP says itself where a message ends */
                                 SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                              SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(ctx, 1);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF); /* tickets hold what is needed */
    SSL_CTX_set_num_tickets(ctx, 1);
    SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, tickets_callback);
    SSL_CTX_set_alpn_select_cb(ctx, choose_protocol, NULL);
    return ctx;
}

/* The site that a certificate belongs to by its first name, where only the kind of key differs. */
static struct tls_site *twin(struct tls_server *s, const struct pair *p)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(p->cert, NID_subject_alt_name, NULL, NULL);
    const GENERAL_NAME *first = names ? sk_GENERAL_NAME_value(names, 0) : NULL;
    struct tls_site *found = NULL;

    for (size_t i = 0; first && first->type == GEN_DNS && i < s->n && !found; i++) {
        const ASN1_STRING *name = first->d.dNSName;
        struct tls_site *site = &s->sites[i];
        if (EVP_PKEY_get_base_id(X509_get0_pubkey(site->cert)) != EVP_PKEY_get_base_id(p->key) &&
            X509_check_host(site->cert, (const char *)ASN1_STRING_get0_data(name),
                            (size_t)ASN1_STRING_length(name), 0, NULL) == 1)
            found = site;
    }
    GENERAL_NAMES_free(names);
    return found;
}

static int add_pair(struct tls_server *s, const struct tls_pair *files, const char *client_ca,
                    enum tls_client client, struct err *e)
{
    struct pair p = { NULL, NULL, NULL };
    struct tls_site *site;
    int rc = -1;

    ERR_clear_error();
    if (read_certificates(files->cert, &p, e) || read_key(files->key, &p, e))
        goto out;
    site = twin(s, &p);
    if (!site) {
        site = &s->sites[s->n];
        *site = (struct tls_site){ context_new(), p.cert };
        X509_up_ref(p.cert);
        s->n++;
        if (client_ca && set_client_ca(s, site->ctx, client_ca, client, e))
            goto out;
    }
    if (SSL_CTX_use_cert_and_key(site->ctx, p.cert, p.key, p.chain, 1) != 1) {
        err_set(e, EXIT_BAD_CONFIG, "%s and %s: %s", files->cert, files->key, reason());
        goto out;
    }
    s->expiry[s->pairs++] = ends_at(p.cert);
    rc = 0;
out:
    pair_close(&p);
    return rc;
}

static int hash_file(const char *path, enum tls_client client, uint8_t *out, struct err *e)
{
    BIO *in = BIO_new_file(path, "r");
    struct buf b = BUF_INIT;
    char piece[4096];
    int n;

    if (!in)
        return err_errno(e, EXIT_BAD_CONFIG, "client_ca %s cannot be read", path);
    buf_addc(&b, client == TLS_CLIENT_REQUIRED ? 'r' : 'o');
    while (b.n < MIB(4) && (n = BIO_read(in, piece, sizeof piece)) > 0)
        buf_add(&b, piece, (size_t)n);
    BIO_free(in);
    crypto_hash(CRYPTO_SHA256, buf_as_span(&b), out);
    buf_free(&b);
    return 0;
}

struct tls_server *tls_server_new(const struct tls_pair *pairs, size_t n, const char *client_ca,
                                  enum tls_client client, struct err *e)
{
    struct tls_server *s = xcalloc(1, sizeof *s);
    int rc = 0;

    s->users = 1;
    s->sites = xcalloc(n + 1, sizeof *s->sites);
    s->expiry = xcalloc(n + 1, sizeof *s->expiry);
    if (n < 1 || n > PAIRS_MAX)
        rc = err_set(e, EXIT_BAD_CONFIG, "1 to %d certificates are expected", PAIRS_MAX);
    if (!rc && client_ca)
        rc = hash_file(client_ca, client, s->client_hash, e);
    for (size_t i = 0; i < n && !rc; i++)
        rc = add_pair(s, &pairs[i], client_ca, client, e);
    if (rc) {
        tls_server_free(s);
        return NULL;
    }
    SSL_CTX_set_tlsext_servername_callback(s->sites[0].ctx, choose_site);
    SSL_CTX_set_tlsext_servername_arg(s->sites[0].ctx, s);
    return s;
}

void tls_server_free(struct tls_server *s)
{
    if (!s || atomic_fetch_sub(&s->users, 1) > 1)
        return;
    for (size_t i = 0; i < s->n; i++) {
        SSL_CTX_free(s->sites[i].ctx);
        X509_free(s->sites[i].cert);
    }
    free(s->sites);
    free(s->expiry);
    free(s);
}

int64_t tls_server_expiry(const struct tls_server *s, size_t i)
{
    return s->expiry[i];
}

/* A connection that is greeted while a newer context comes still asks this one for a site. */
struct ssl_st *tls_accept(struct tls_server *s, int fd)
{
    SSL *ssl = SSL_new(s->sites[0].ctx);

    if (!ssl || SSL_set_fd(ssl, fd) != 1 || SSL_set_app_data(ssl, s) != 1)
        die(EXIT_IO, "no TLS connection could be made: %s", reason());
    atomic_fetch_add(&s->users, 1);
    SSL_set_accept_state(ssl);
    return ssl;
}

void tls_free(struct ssl_st *c)
{
    struct tls_server *s = SSL_get_app_data(c);

    SSL_free(c);
    tls_server_free(s);
}
