/* SPDX-License-Identifier: Apache-2.0 */
/* TLS contexts and connections, against a client of OpenSSL's over a pair of sockets. */
#include "certs.h"

#include <signal.h>
#include <sys/socket.h>

#include "crypto/tls_room.h"

static char dir[] = "/tmp/hookline-tls-XXXXXX";
static struct authority ca, other_ca, plain, rsa, wild, client_good, client_stranger;

static const char *in_dir(const char *name)
{
    static char paths[8][128];
    static unsigned at;
    char *path = paths[at++ % 8];

    snprintf(path, 128, "%s/%s", dir, name);
    return path;
}

static void store(const char *name, const struct authority *a)
{
    char file[64];

    snprintf(file, sizeof file, "%s.crt", name);
    write_pem(in_dir(file), a, false);
    snprintf(file, sizeof file, "%s.key", name);
    write_pem(in_dir(file), a, true);
}

static int make_files(void **state UNUSED)
{
    signal(SIGPIPE, SIG_IGN);
    assert_non_null(mkdtemp(dir));
    ca = certify("The authority", NULL, false, NULL);
    other_ca = certify("Another", NULL, false, NULL);
    plain = certify("a.example", "DNS:a.example", false, &ca);
    rsa = certify("a.example", "DNS:a.example", true, &ca);
    wild = certify("b.example", "DNS:*.b.example,DNS:b.example", false, &ca);
    client_good =
        certify("sender", "DNS:sender.example,URI:spiffe://x/y,email:a@b.example", false, &ca);
    client_stranger = certify("sender", "DNS:sender.example", false, &other_ca);
    store("ca", &ca);
    store("other", &other_ca);
    store("plain", &plain);
    store("rsa", &rsa);
    store("wild", &wild);
    return 0;
}

static int remove_files(void **state UNUSED)
{
    char command[128];

    snprintf(command, sizeof command, "rm -rf %s", dir);
    assert_int_equal(system(command), 0);
    authority_free(&ca);
    authority_free(&other_ca);
    authority_free(&plain);
    authority_free(&rsa);
    authority_free(&wild);
    authority_free(&client_good);
    authority_free(&client_stranger);
    return 0;
}

static struct tls_server *server(const char *client_ca, enum tls_client client)
{
    struct tls_pair pairs[] = { { in_dir("plain.crt"), in_dir("plain.key") },
                                { in_dir("wild.crt"), in_dir("wild.key") },
                                { in_dir("rsa.crt"), in_dir("rsa.key") } };
    struct err e = ERR_INIT;
    struct tls_server *s = tls_server_new(pairs, 3, client_ca, client, &e);

    if (!s)
        fail_msg("%s", e.text);
    return s;
}

struct link {
    int fd[2];
    struct ssl_st *server;
    SSL *client;
    int server_rc, client_rc;
};

static void link_open(struct link *l, struct tls_server *s, SSL_CTX *ctx)
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, l->fd), 0);
    l->server = tls_accept(s, l->fd[0]);
    l->client = client_new(ctx, l->fd[1]);
    l->server_rc = l->client_rc = 0;
}

/* In turns, until both are through or one has given up. */
static void shake(struct link *l)
{
    bool write;

    for (int i = 0; i < 50 && l->server_rc >= 0; i++) {
        if (l->client_rc != 1)
            l->client_rc = SSL_do_handshake(l->client);
        if (l->server_rc != 1)
            l->server_rc = tls_handshake(l->server, &write);
    }
}

static void link_close(struct link *l)
{
    tls_goodbye(l->server);
    tls_free(l->server);
    SSL_shutdown(l->client); /* else its ticket would count as bad */
    SSL_free(l->client);
    close(l->fd[0]);
    close(l->fd[1]);
}

/* What the server sends comes out; TLS 1.3 brings its ticket along. */
static void talk(struct link *l)
{
    char got[64];
    bool more, write;

    assert_int_equal(SSL_write(l->client, "ask", 3), 3);
    assert_int_equal(tls_recv(l->server, got, sizeof got, &more, &write), 3);
    assert_memory_equal(got, "ask", 3);
    assert_int_equal(tls_recv(l->server, got, sizeof got, &more, &write), -1);
    assert_int_equal(errno, EAGAIN);
    assert_false(more);
    assert_int_equal(tls_send(l->server, "answer", 6), 6);
    assert_int_equal(SSL_read(l->client, got, sizeof got), 6);
    assert_memory_equal(got, "answer", 6);
}

/* --- who gets in ---------------------------------------------------------------------------------
 */

#define V12 TLS1_2_VERSION
#define V13 TLS1_3_VERSION
static const struct row {
    const char *name;
    int least, most;       /* versions of the client; 0: its own */
    const char *ciphers;   /* of TLS 1.2 */
    const char *alpn;      /* as on the wire */
    const char *sni, *cn;  /* what is asked for, what is shown */
    int kind;              /* EVP_PKEY_* of what is shown; 0: either */
    bool asks, optional;   /* of the server */
    struct authority *own; /* of the client */
    bool in;
    int version;
    const char *names;
} rows[] = {
    { "the newest", .in = true, .version = V13 },
    { "TLS 1.2", .most = V12, .in = true, .version = V12 },
    { "TLS 1.1", .least = TLS1_1_VERSION, .most = TLS1_1_VERSION },
    { "TLS 1.0", .least = TLS1_VERSION, .most = TLS1_VERSION },
    { "CBC only", .most = V12, .ciphers = "ECDHE-ECDSA-AES128-SHA256:ECDHE-RSA-AES128-SHA" },
    { "no forward secrecy", .most = V12, .ciphers = "AES128-GCM-SHA256" },
    { "no authentication", .most = V12, .ciphers = "ADH-AES128-GCM-SHA256:@SECLEVEL=0" },
    { "ChaCha20", .most = V12, .ciphers = "ECDHE-ECDSA-CHACHA20-POLY1305", .in = true,
      .version = V12 },
    { "RSA only", .most = V12, .ciphers = "ECDHE-RSA-AES128-GCM-SHA256", .sni = "a.example",
      .cn = "a.example", .kind = EVP_PKEY_RSA, .in = true, .version = V12 },
    { "ECDSA first", .sni = "a.example", .cn = "a.example", .kind = EVP_PKEY_EC, .in = true,
      .version = V13 },
    { "http/1.1 among others", .alpn = "\2h2\x08http/1.1", .in = true, .version = V13 },
    { "h2 alone", .alpn = "\2h2" },
    { "a protocol that is none", .alpn = "\3foo" },
    { "by a name", .sni = "b.example", .cn = "b.example", .in = true, .version = V13 },
    { "by a wildcard", .sni = "x.b.example", .cn = "b.example", .in = true, .version = V13 },
    { "a wildcard is one label", .sni = "x.y.b.example", .cn = "a.example", .in = true,
      .version = V13 },
    { "in other letters", .sni = "B.Example", .cn = "b.example", .in = true, .version = V13 },
    { "an unknown name", .sni = "c.example", .cn = "a.example", .in = true, .version = V13 },
    { "no name", .cn = "a.example", .in = true, .version = V13 },
    { "no certificate where one is required", .asks = true },
    { "no certificate where one is required, 1.2", .most = V12, .asks = true },
    { "a certificate", .asks = true, .own = &client_good, .in = true, .version = V13,
      .names = "dns:sender.example|uri:spiffe://x/y|email:a@b.example|cn:sender|" },
    { "a certificate, 1.2, another site", .most = V12, .sni = "b.example", .cn = "b.example",
      .asks = true, .own = &client_good, .in = true, .version = V12,
      .names = "dns:sender.example|uri:spiffe://x/y|email:a@b.example|cn:sender|" },
    { "a stranger's certificate", .asks = true, .own = &client_stranger },
    { "a stranger's certificate, optional", .asks = true, .optional = true,
      .own = &client_stranger },
    { "none, optional", .asks = true, .optional = true, .in = true, .version = V13, .names = "" },
    { "a certificate, optional", .asks = true, .optional = true, .own = &client_good, .in = true,
      .version = V13, .names = "dns:sender.example|uri:spiffe://x/y|email:a@b.example|cn:sender|" },
    { "nobody asked for the certificate", .own = &client_good, .in = true, .version = V13,
      .names = "" },
};

static SSL_CTX *context_of(const struct row *r)
{
    SSL_CTX *ctx = client_context(&ca, r->own);

    SSL_CTX_set_security_level(ctx, 0); /* old clients do not mind */
    SSL_CTX_set_min_proto_version(ctx, r->least);
    SSL_CTX_set_max_proto_version(ctx, r->most);
    if (r->ciphers)
        assert_int_equal(SSL_CTX_set_cipher_list(ctx, r->ciphers), 1);
    if (r->alpn)
        SSL_CTX_set_alpn_protos(ctx, (const unsigned char *)r->alpn, (unsigned)strlen(r->alpn));
    return ctx;
}

static void shown(const struct row *r, SSL *client)
{
    X509 *cert = SSL_get0_peer_certificate(client);
    char cn[64];

    X509_NAME_get_text_by_NID(X509_get_subject_name(cert), NID_commonName, cn, sizeof cn);
    if (r->cn)
        assert_string_equal(cn, r->cn);
    if (r->kind)
        assert_int_equal(EVP_PKEY_get_base_id(X509_get0_pubkey(cert)), r->kind);
}

static void got_in(const struct row *r, struct link *l)
{
    const unsigned char *alpn;
    unsigned alpn_n;
    struct buf names = BUF_INIT;

    assert_int_equal(l->client_rc, 1);
    assert_int_equal(SSL_version(l->client), r->version);
    SSL_get0_alpn_selected(l->client, &alpn, &alpn_n);
    assert_int_equal(alpn_n, r->alpn ? 8 : 0);
    shown(r, l->client);
    tls_client_names(l->server, &names);
    for (size_t i = 0; i < names.n; i++)
        if (!names.p[i])
            names.p[i] = '|';
    assert_string_equal(buf_cstr(&names), r->names ? r->names : "");
    buf_free(&names);
    talk(l);
}

static void who_gets_in(void **state)
{
    const struct row *r = *state;
    struct tls_server *s = server(r->asks ? in_dir("ca.crt") : NULL,
                                  r->optional ? TLS_CLIENT_OPTIONAL : TLS_CLIENT_REQUIRED);
    SSL_CTX *ctx = context_of(r);
    struct link l;

    link_open(&l, s, ctx);
    if (r->sni)
        SSL_set_tlsext_host_name(l.client, r->sni);
    shake(&l);
    assert_int_equal(l.server_rc, r->in ? 1 : -1);
    if (r->in)
        got_in(r, &l);
    else
        assert_true(strlen(tls_why()) > 0);
    link_close(&l);
    SSL_CTX_free(ctx);
    tls_server_free(s);
}

/* --- tickets -------------------------------------------------------------------------------------
 */

static SSL_SESSION *ticket;

static bool comes_again(struct tls_server *s, SSL_CTX *ctx, const char *sni)
{
    struct link l;
    bool resumed;

    link_open(&l, s, ctx);
    if (sni)
        SSL_set_tlsext_host_name(l.client, sni);
    if (ticket)
        SSL_set_session(l.client, ticket);
    shake(&l);
    assert_int_equal(l.server_rc, 1);
    talk(&l);
    SSL_SESSION_free(ticket);
    ticket = SSL_get1_session(l.client);
    resumed = tls_resumed(l.server);
    link_close(&l);
    return resumed;
}

static SSL_CTX *keeping(int version, const struct authority *own)
{
    SSL_CTX *ctx = client_context(&ca, own);

    SSL_CTX_set_max_proto_version(ctx, version);
    return ctx;
}

static void forget_ticket(SSL_CTX *ctx)
{
    SSL_SESSION_free(ticket);
    ticket = NULL;
    SSL_CTX_free(ctx);
}

static void tickets_outlive_contexts_and_end(void **state)
{
    int version = (int)(uintptr_t)*state;
    struct tls_server *first = server(NULL, TLS_CLIENT_REQUIRED), *second;
    SSL_CTX *ctx = keeping(version, NULL);
    SSL_SESSION *old;

    assert_false(comes_again(first, ctx, NULL));
    assert_non_null(ticket);
    tls_server_free(first);
    second = server(NULL, TLS_CLIENT_REQUIRED); /* a reload */
    assert_true(comes_again(second, ctx, NULL));
    SSL_SESSION_up_ref(old = ticket);
    tls_tickets_turn();
    assert_true(comes_again(second, ctx, NULL)); /* by an older key; a newer ticket comes back */
    tls_tickets_turn();
    tls_tickets_turn();
    assert_true(comes_again(second, ctx, NULL)); /* the newer one is good */
    SSL_SESSION_free(ticket);
    ticket = old;
    assert_false(comes_again(second, ctx, NULL)); /* its key is gone */
    forget_ticket(ctx);
    tls_server_free(second);
}

/* Who gave a certificate once is not let in by a ticket where another authority counts now. */
static void a_ticket_is_of_its_authority(void **state UNUSED)
{
    struct tls_server *mine = server(in_dir("ca.crt"), TLS_CLIENT_REQUIRED);
    struct tls_server *others = server(in_dir("other.crt"), TLS_CLIENT_OPTIONAL);
    SSL_CTX *ctx = keeping(V13, &client_good);
    struct link l;

    assert_false(comes_again(mine, ctx, NULL));
    assert_true(comes_again(mine, ctx, NULL));
    link_open(&l, others, ctx);
    SSL_set_session(l.client, ticket);
    shake(&l);
    assert_int_equal(l.server_rc, -1); /* the certificate is looked at, and found wanting */
    link_close(&l);
    forget_ticket(ctx);
    tls_server_free(mine);
    tls_server_free(others);
}

static void names_come_back_with_a_ticket(void **state UNUSED)
{
    struct tls_server *s = server(in_dir("ca.crt"), TLS_CLIENT_REQUIRED);
    SSL_CTX *ctx = keeping(V13, &client_good);
    struct buf names = BUF_INIT;
    struct link l;

    assert_false(comes_again(s, ctx, NULL));
    link_open(&l, s, ctx);
    SSL_set_session(l.client, ticket);
    shake(&l);
    assert_true(tls_resumed(l.server));
    tls_client_names(l.server, &names);
    assert_string_equal(buf_cstr(&names), "dns:sender.example");
    buf_free(&names);
    link_close(&l);
    forget_ticket(ctx);
    tls_server_free(s);
}

/* --- a connection --------------------------------------------------------------------------------
 */

static void no_renegotiation(void **state UNUSED)
{
    struct tls_server *s = server(NULL, TLS_CLIENT_REQUIRED);
    SSL_CTX *ctx = client_context(&ca, NULL);
    struct link l;
    char got[16];
    bool more, write;

    SSL_CTX_set_max_proto_version(ctx, V12);
    link_open(&l, s, ctx);
    shake(&l);
    SSL_renegotiate(l.client);
    assert_int_equal(SSL_do_handshake(l.client), -1);
    assert_int_equal(tls_recv(l.server, got, sizeof got, &more, &write), -1);
    assert_int_equal(SSL_do_handshake(l.client), -1); /* it was told no */
    assert_int_equal(SSL_get_error(l.client, -1), SSL_ERROR_SSL);
    link_close(&l);
    SSL_CTX_free(ctx);
    tls_server_free(s);
}

/* A context may go while one is being greeted: it is asked for a site all the same. */
static void a_connection_keeps_its_context(void **state UNUSED)
{
    struct tls_server *s = server(NULL, TLS_CLIENT_REQUIRED);
    SSL_CTX *ctx = client_context(&ca, NULL);
    struct link l;

    link_open(&l, s, ctx);
    SSL_set_tlsext_host_name(l.client, "b.example");
    tls_server_free(s);
    shake(&l);
    assert_int_equal(l.server_rc, 1);
    shown(&(struct row){ .cn = "b.example" }, l.client);
    talk(&l);
    link_close(&l);
    SSL_CTX_free(ctx);
}

static void what_is_left_is_told(void **state UNUSED)
{
    struct tls_server *s = server(NULL, TLS_CLIENT_REQUIRED);
    SSL_CTX *ctx = client_context(&ca, NULL);
    struct link l;
    char got[4];
    bool more, write;

    link_open(&l, s, ctx);
    shake(&l);
    SSL_write(l.client, "123456", 6);
    SSL_write(l.client, "7", 1);
    assert_int_equal(tls_recv(l.server, got, sizeof got, &more, &write), 4);
    assert_true(more);
    assert_int_equal(tls_recv(l.server, got, sizeof got, &more, &write), 2);
    assert_true(more);
    assert_int_equal(tls_recv(l.server, got, sizeof got, &more, &write), 1);
    assert_false(more);
    SSL_shutdown(l.client);
    assert_int_equal(tls_recv(l.server, got, sizeof got, &more, &write), 0);
    link_close(&l);
    SSL_CTX_free(ctx);
    tls_server_free(s);
}

/* More than a socket takes: what is sent again later comes out once, in order. */
static void what_does_not_fit_is_sent_again(void **state UNUSED)
{
    enum { ALL = 4 << 20 };
    struct tls_server *s = server(NULL, TLS_CLIENT_REQUIRED);
    SSL_CTX *ctx = client_context(&ca, NULL);
    char *out = malloc(ALL), *in = malloc(ALL);
    size_t sent = 0, got = 0;
    struct link l;

    for (size_t i = 0; i < ALL; i++)
        out[i] = (char)(i * 7 + i / 256);
    link_open(&l, s, ctx);
    shake(&l);
    while (got < ALL) {
        ssize_t n = sent < ALL ? tls_send(l.server, out + sent, ALL - sent) : 0;
        int m;
        sent += n > 0 ? (size_t)n : 0;
        while ((m = SSL_read(l.client, in + got, (int)(ALL - got))) > 0)
            got += (size_t)m;
    }
    assert_memory_equal(in, out, ALL);
    free(in);
    free(out);
    link_close(&l);
    SSL_CTX_free(ctx);
    tls_server_free(s);
}

/* --- files ---------------------------------------------------------------------------------------
 */

static const struct bad {
    const char *name, *cert, *key, *client_ca, *says;
} bad[] = {
    { "no certificate file", "none", "plain.key", NULL, "none cannot be read: No such file" },
    { "no key file", "plain.crt", "none", NULL, "none cannot be read: No such file" },
    { "a key for a certificate", "plain.key", "plain.key", NULL, "holds no certificate" },
    { "a certificate for a key", "plain.crt", "plain.crt", NULL, "holds no private key" },
    { "of two pairs", "plain.crt", "wild.key", NULL, "key mismatch" },
    { "of two kinds", "plain.crt", "rsa.key", NULL, "mismatch" },
    { "no client_ca", "plain.crt", "plain.key", "none", "none cannot be read" },
    { "a client_ca without certificates", "plain.crt", "plain.key", "plain.key", "client_ca" },
    { "a folder", ".", "plain.key", NULL, "holds no certificate" },
};

static void refused_files(void **state)
{
    const struct bad *r = *state;
    struct tls_pair pair = { in_dir(r->cert), in_dir(r->key) };
    struct err e = ERR_INIT;

    assert_null(tls_server_new(&pair, 1, r->client_ca ? in_dir(r->client_ca) : NULL,
                               TLS_CLIENT_REQUIRED, &e));
    assert_int_equal(e.code, EXIT_BAD_CONFIG);
    if (!strstr(e.text, r->says))
        fail_msg("\"%s\" does not say \"%s\"", e.text, r->says);
}

static void the_end_is_known(void **state UNUSED)
{
    struct tls_server *s = server(NULL, TLS_CLIENT_REQUIRED);

    for (size_t i = 0; i < 3; i++)
        assert_in_range(tls_server_expiry(s, i), time(NULL) + 80000, time(NULL) + 86400);
    tls_server_free(s);
}

int main(void)
{
    const struct CMUnitTest more[] = {
        { "tickets of 1.2 outlive contexts, and end", tickets_outlive_contexts_and_end, NULL, NULL,
          (void *)(uintptr_t)V12 },
        { "tickets of 1.3 outlive contexts, and end", tickets_outlive_contexts_and_end, NULL, NULL,
          (void *)(uintptr_t)V13 },
        cmocka_unit_test(a_ticket_is_of_its_authority),
        cmocka_unit_test(names_come_back_with_a_ticket),
        cmocka_unit_test(no_renegotiation),
        cmocka_unit_test(a_connection_keeps_its_context),
        cmocka_unit_test(what_is_left_is_told),
        cmocka_unit_test(what_does_not_fit_is_sent_again),
        cmocka_unit_test(the_end_is_known),
    };
    int failed;

    make_files(NULL);
    failed = T_TABLE(rows, who_gets_in) + T_TABLE(bad, refused_files) + T_RUN(more);
    remove_files(NULL);
    return failed;
}
