/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates: a small authority of our own, and everything that may be wrong with a chain. */
#include "keys.h"

#include <openssl/pem.h>
#include <openssl/x509v3.h>

#define NOW_S 1700000000
#define DAY 86400
#define HOST "sns.example.com"

/* What a certificate says; a zero takes the usual. */
struct subject {
    const char *cn, *san, *usage;
    int from, to; /* days around NOW_S */
    bool authority, sha1;
};

struct issued {
    X509 *cert;
    EVP_PKEY *key;
};

static void extend(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509_EXTENSION *x;

    X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
    x = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    assert_non_null(x);
    assert_int_equal(X509_add_ext(cert, x, -1), 1);
    X509_EXTENSION_free(x);
}

static struct issued issue(struct subject s, EVP_PKEY *key, const struct issued *by)
{
    struct issued out = { X509_new(), key };
    X509 *issuer = by ? by->cert : out.cert;
    X509_NAME *name = X509_get_subject_name(out.cert);
    static long serial = 1;

    assert_non_null(key);
    X509_set_version(out.cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(out.cert), serial++);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)s.cn, -1, -1, 0);
    X509_set_issuer_name(out.cert, X509_get_subject_name(issuer));
    ASN1_TIME_set(X509_getm_notBefore(out.cert), NOW_S + (s.from ? s.from : -10) * DAY);
    ASN1_TIME_set(X509_getm_notAfter(out.cert), NOW_S + (s.to ? s.to : 10) * DAY);
    X509_set_pubkey(out.cert, key);
    extend(out.cert, issuer, NID_basic_constraints,
           s.authority ? "critical,CA:TRUE" : "critical,CA:FALSE");
    if (s.san)
        extend(out.cert, issuer, NID_subject_alt_name, s.san);
    if (s.usage)
        extend(out.cert, issuer, NID_ext_key_usage, s.usage);
    assert_true(X509_sign(out.cert, by ? by->key : key, s.sha1 ? EVP_sha1() : EVP_sha256()) > 0);
    return out;
}

static void add_pem(struct buf *out, const struct issued *c)
{
    BIO *to = BIO_new(BIO_s_mem());
    char *p = NULL;
    long n;

    assert_int_equal(PEM_write_bio_X509(to, c->cert), 1);
    n = BIO_get_mem_data(to, &p);
    buf_add(out, p, (size_t)n);
    BIO_free(to);
}

static void drop(struct issued *c)
{
    X509_free(c->cert);
    EVP_PKEY_free(c->key);
}

static EVP_PKEY *p256(void)
{
    return EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
}

/* root, an authority between, and another root that signed nothing here */
static struct issued root, between, stranger;
static struct crypto_roots *roots;

static void make_authority(void)
{
    struct buf pem = BUF_INIT;
    struct err e = ERR_INIT;

    root = issue((struct subject){ .cn = "root", .authority = true }, p256(), NULL);
    between = issue((struct subject){ .cn = "between", .authority = true }, p256(), &root);
    stranger = issue((struct subject){ .cn = "root", .authority = true }, p256(), NULL);
    add_pem(&pem, &root);
    roots = crypto_roots_new(buf_as_span(&pem), &e);
    assert_non_null(roots);
    buf_free(&pem);
}

enum signer { BY_BETWEEN, BY_ROOT, BY_ITSELF, BY_STRANGER };
#define DNS "DNS:" HOST

static const struct row {
    const char *name;
    struct subject leaf;
    enum signer by;
    bool no_chain; /* the issuer is not in the text */
    const char *host;
    const char *error; /* a part of it; NULL: accepted */
} rows[] = {
    { "through an authority", { "x", DNS }, BY_BETWEEN, false, HOST, NULL },
    { "from the root", { "x", DNS }, BY_ROOT, true, HOST, NULL },
    { "for servers", { "x", DNS, "serverAuth" }, BY_BETWEEN, false, HOST, NULL },
    { "for servers and clients",
      { "x", DNS, "serverAuth,clientAuth" },
      BY_BETWEEN,
      false,
      HOST,
      NULL },
    { "one of several names",
      { "x", "DNS:a.example.com,DNS:" HOST },
      BY_BETWEEN,
      false,
      HOST,
      NULL },
    { "a wildcard", { "x", "DNS:*.example.com" }, BY_BETWEEN, false, HOST, NULL },
    { "the common name where there is no other", { HOST }, BY_BETWEEN, false, HOST, NULL },
    { "in another case", { "x", "DNS:SNS.Example.COM" }, BY_BETWEEN, false, HOST, NULL },
    { "for mail", { "x", DNS, "emailProtection" }, BY_BETWEEN, false, HOST, "purpose" },
    { "the common name where there are others",
      { HOST, "DNS:a.example.com" },
      BY_BETWEEN,
      false,
      HOST,
      "ostname mismatch" },
    { "another host", { "x", "DNS:sns.example.org" }, BY_BETWEEN, false, HOST, "ostname mismatch" },
    { "a host in front",
      { "x", "DNS:" HOST ".evil.org" },
      BY_BETWEEN,
      false,
      HOST,
      "ostname mismatch" },
    { "the domain above", { "x", "DNS:example.com" }, BY_BETWEEN, false, HOST, "ostname mismatch" },
    { "a part with a star",
      { "x", "DNS:s*.example.com" },
      BY_BETWEEN,
      false,
      HOST,
      "ostname mismatch" },
    { "a star for two",
      { "x", "DNS:*.example.com" },
      BY_BETWEEN,
      false,
      "a.sns.example.com",
      "ostname mismatch" },
    { "no host asked for", { "x", DNS }, BY_BETWEEN, false, "", "no host" },
    { "any host below", { "x", DNS }, BY_BETWEEN, false, ".example.com", "no host" },
    { "expired", { "x", DNS, .from = -5, .to = -1 }, BY_BETWEEN, false, HOST, "expired" },
    { "not valid yet", { "x", DNS, .from = 1 }, BY_BETWEEN, false, HOST, "not yet valid" },
    { "signed by itself", { "x", DNS }, BY_ITSELF, false, HOST, "self-signed" },
    { "signed by a root of the same name", { "x", DNS }, BY_STRANGER, false, HOST, "" },
    { "the issuer missing", { "x", DNS }, BY_BETWEEN, true, HOST, "issuer" },
    { "signed with SHA-1", { "x", DNS, .sha1 = true }, BY_BETWEEN, false, HOST, "too weak" },
};

static struct crypto_public *key_of(const struct buf *pem, const char *host, int64_t *until,
                                    struct err *e)
{
    struct span hosts[] = { S("other.example.net"), span_str(host) };

    return crypto_certificate_key(CRYPTO_ECDSA_P256, buf_as_span(pem), roots, hosts, 2,
                                  (int64_t)NOW_S * 1000, until, e);
}

static void certificate(void **state)
{
    const struct row *r = *state;
    const struct issued *signers[] = { &between, &root, NULL, &stranger };
    struct issued leaf = issue(r->leaf, p256(), signers[r->by]);
    struct buf pem = BUF_INIT;
    struct err e = ERR_INIT;
    struct crypto_public *k;
    int64_t until = 0;

    add_pem(&pem, &leaf);
    if (signers[r->by] && !r->no_chain)
        add_pem(&pem, signers[r->by]);
    k = key_of(&pem, r->host, &until, &e);
    if (!k != !!r->error || (r->error && !strstr(e.text, r->error)))
        fail_msg("%s", k ? "accepted" : e.text);
    assert_int_equal(until, k ? (NOW_S + 10 * (int64_t)DAY) * 1000 : 0);
    crypto_public_free(k);
    buf_free(&pem);
    drop(&leaf);
}

/* An ordinary certificate cannot issue another. */
static void a_leaf_is_no_authority(void **state UNUSED)
{
    struct issued leaf = issue((struct subject){ "x", DNS }, p256(), &between),
                  below = issue((struct subject){ "y", DNS }, p256(), &leaf);
    struct buf pem = BUF_INIT;
    struct err e = ERR_INIT;

    add_pem(&pem, &below);
    add_pem(&pem, &leaf);
    add_pem(&pem, &between);
    assert_null(key_of(&pem, HOST, NULL, &e));
    buf_free(&pem);
    drop(&below);
    drop(&leaf);
}

/* An authority that has expired makes what it issued void. */
static void an_expired_authority(void **state UNUSED)
{
    struct issued old = issue((struct subject){ .cn = "old", .to = -1, .authority = true }, p256(),
                              &root),
                  leaf = issue((struct subject){ "x", DNS }, p256(), &old);
    struct buf pem = BUF_INIT;
    struct err e = ERR_INIT;

    add_pem(&pem, &leaf);
    add_pem(&pem, &old);
    assert_null(key_of(&pem, HOST, NULL, &e));
    assert_non_null(strstr(e.text, "expired"));
    buf_free(&pem);
    drop(&leaf);
    drop(&old);
}

static void a_key_of_another_kind(void **state UNUSED)
{
    static const size_t bits[] = { 2048, 1024 };
    const struct span host = S(HOST);

    for (size_t i = 0; i < ARRAY_LEN(bits); i++) {
        struct issued leaf = issue((struct subject){ "x", DNS },
                                   EVP_PKEY_Q_keygen(NULL, NULL, "RSA", bits[i]), &root);
        struct buf pem = BUF_INIT;
        struct err e = ERR_INIT;
        struct crypto_public *k;

        add_pem(&pem, &leaf);
        assert_null(key_of(&pem, HOST, NULL, &e));
        k = crypto_certificate_key(CRYPTO_RSA_SHA256, buf_as_span(&pem), roots, &host, 1,
                                   (int64_t)NOW_S * 1000, NULL, &e);
        assert_int_equal(!!k, bits[i] == 2048);
        assert_null(crypto_certificate_key(CRYPTO_RSA_SHA256, buf_as_span(&pem), roots, NULL, 0,
                                           (int64_t)NOW_S * 1000, NULL, &e));
        crypto_public_free(k);
        buf_free(&pem);
        drop(&leaf);
    }
}

/* The key of a certificate checks what its private half signed. */
static void a_signature_under_a_certificate(void **state UNUSED)
{
    struct issued leaf = issue((struct subject){ "x", DNS }, p256(), &root);
    const struct span message = S("message");
    struct buf pem = BUF_INIT, s = BUF_INIT;
    BIO *to = BIO_new(BIO_s_mem());
    struct err e = ERR_INIT;
    struct crypto_private *pair;
    struct crypto_public *k;
    char *p = NULL;
    long n;

    assert_int_equal(PEM_write_bio_PrivateKey(to, leaf.key, NULL, NULL, 0, NULL, NULL), 1);
    n = BIO_get_mem_data(to, &p);
    pair = crypto_private_new(CRYPTO_ECDSA_P256, span_of(p, (size_t)n), &e);
    assert_non_null(pair);
    crypto_sign(pair, &message, 1, &s);
    add_pem(&pem, &leaf);
    k = key_of(&pem, HOST, NULL, &e);
    assert_non_null(k);
    assert_true(crypto_verify(k, &message, 1, buf_as_span(&s)));
    BIO_free(to);
    buf_free(&pem);
    buf_free(&s);
    crypto_public_free(k);
    crypto_private_free(pair);
    drop(&leaf);
}

static void refused(struct span pem)
{
    struct err e = ERR_INIT;
    const struct span host = S(HOST);

    assert_null(crypto_certificate_key(CRYPTO_ECDSA_P256, pem, roots, &host, 1,
                                       (int64_t)NOW_S * 1000, NULL, &e));
    assert_non_null(strstr(e.text, "not certificates"));
}

static void texts_that_are_none(void **state UNUSED)
{
    struct issued leaf = issue((struct subject){ "x", DNS }, p256(), &root);
    struct buf pem = BUF_INIT, all = BUF_INIT;
    struct err e = ERR_INIT;

    refused(SPAN_NONE);
    refused(S("x"));
    refused(S("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"));
    assert_null(crypto_roots_new(S("x"), &e));
    assert_null(
        crypto_roots_new(S("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), &e));
    add_pem(&pem, &leaf);
    refused(span_of(pem.p, pem.n / 2));
    buf_span(&all, buf_as_span(&pem));
    buf_adds(&all, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    refused(buf_as_span(&all));
    all.n = 0;
    for (int i = 0; i < 9; i++)
        buf_span(&all, buf_as_span(&pem));
    refused(buf_as_span(&all));
    refused(span_of(all.p, all.n - pem.n / 2));
    all.n = 0;
    buf_span(&all, buf_as_span(&pem));
    while (all.n <= 64 << 10)
        buf_addc(&all, '\n');
    refused(buf_as_span(&all));
    buf_free(&pem);
    buf_free(&all);
    drop(&leaf);
}

/* A given authority needs no root above it; it vouches for what it issued, in its time, alone. */
static void an_authority_as_a_root(void **state UNUSED)
{
    struct issued leaf = issue((struct subject){ "x", DNS }, p256(), &between),
                  other = issue((struct subject){ "x", DNS }, p256(), &root);
    const struct span host = S(HOST);
    struct buf trusted = BUF_INIT, pem = BUF_INIT;
    struct err e = ERR_INIT;
    struct crypto_public *k;
    struct crypto_roots *only;

    add_pem(&trusted, &between);
    only = crypto_roots_new(buf_as_span(&trusted), &e);
    assert_non_null(only);
    add_pem(&pem, &leaf);
    k = crypto_certificate_key(CRYPTO_ECDSA_P256, buf_as_span(&pem), only, &host, 1,
                               (int64_t)NOW_S * 1000, NULL, &e);
    assert_non_null(k);
    crypto_public_free(k);
    assert_null(crypto_certificate_key(CRYPTO_ECDSA_P256, buf_as_span(&pem), only, &host, 1,
                                       ((int64_t)NOW_S + 11 * DAY) * 1000, NULL, &e));
    pem.n = 0;
    add_pem(&pem, &other);
    add_pem(&pem, &root);
    assert_null(crypto_certificate_key(CRYPTO_ECDSA_P256, buf_as_span(&pem), only, &host, 1,
                                       (int64_t)NOW_S * 1000, NULL, &e));
    crypto_roots_free(only);
    buf_free(&trusted);
    buf_free(&pem);
    drop(&leaf);
    drop(&other);
}

/* The system's roots did not sign our authority. */
static void the_systems_roots(void **state UNUSED)
{
    struct issued leaf = issue((struct subject){ "x", DNS }, p256(), &root);
    const struct span host = S(HOST);
    struct buf pem = BUF_INIT;
    struct err e = ERR_INIT;
    struct crypto_roots *system = crypto_roots_new(SPAN_NONE, &e);

    assert_non_null(system);
    add_pem(&pem, &leaf);
    add_pem(&pem, &root);
    assert_null(crypto_certificate_key(CRYPTO_ECDSA_P256, buf_as_span(&pem), system, &host, 1,
                                       (int64_t)NOW_S * 1000, NULL, &e));
    crypto_roots_free(system);
    buf_free(&pem);
    drop(&leaf);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_leaf_is_no_authority), cmocka_unit_test(an_expired_authority),
        cmocka_unit_test(a_key_of_another_kind),  cmocka_unit_test(a_signature_under_a_certificate),
        cmocka_unit_test(texts_that_are_none),    cmocka_unit_test(the_systems_roots),
        cmocka_unit_test(an_authority_as_a_root),
    };
    int failed;

    make_authority();
    failed = T_TABLE(rows, certificate) + T_RUN(tests);
    crypto_roots_free(roots);
    drop(&root);
    drop(&between);
    drop(&stranger);
    return failed;
}
