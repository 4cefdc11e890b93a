/* SPDX-License-Identifier: Apache-2.0 */
/* Outgoing fetches: which URLs and addresses pass, what a server says about keeping, and every way
 * in which a real HTTPS server can be refused. */
#include "https.h"

#include <arpa/inet.h>

#include "clock.h"
#include "net/fetching.h"

#define PATIENCE_MS 20000

/* --- URLs --------------------------------------------------------------------------------------
 */

static const char *const any_host[] = { "*", NULL }; /* of one label */
static const char *const sns[] = { "sns.???*.amazonaws.com", "sns.???*.amazonaws.com.cn", NULL };
static const char *const paypal[] = { "api.paypal.com", "api.sandbox.paypal.com", NULL };
static const char *const ports[] = { "localhost:8*", "[::1]:443", "[::1]", NULL };

static const struct url_row {
    const char *name, *url;
    const char *const *hosts;
    const char *path;
    bool http, pass;
} url_rows[] = {
    { "https", "https://example.com/jwks.json", NULL, NULL, false, true },
    { "another port, any host", "https://example.com:8443/jwks", NULL, NULL, false, true },
    { "a query", "https://example.com/jwks?v=3", NULL, NULL, false, true },
    { "http", "http://example.com/jwks.json", NULL, NULL, false, false },
    { "http where it is allowed", "http://example.com/jwks.json", NULL, NULL, true, true },
    { "file", "file:///etc/passwd", NULL, NULL, true, false },
    { "ftp", "ftp://example.com/x", NULL, NULL, true, false },
    { "gopher", "gopher://example.com/x", NULL, NULL, true, false },
    { "no scheme", "example.com/x", NULL, NULL, true, false },
    { "empty", "", NULL, NULL, true, false },
    { "three slashes", "https:///x", NULL, NULL, true, false },
    { "one slash", "https:/example.com/x", NULL, NULL, true, false },
    { "one slash, two further on", "https:/example.com/x://y", NULL, NULL, true, false },
    { "no host", "https://?x", NULL, NULL, true, false },
    { "a user", "https://sns.us-east-1.amazonaws.com@evil.example/x", NULL, NULL, false, false },
    { "a blank", "https://example.com/a b", NULL, NULL, false, false },
    { "a line feed", "https://example.com/a\nb", NULL, NULL, false, false },
    { "a backslash", "https://example.com\\@evil.example/", NULL, NULL, false, false },
    { "a byte of UTF-8", "https://ex\xc3\xa4mple.com/", NULL, NULL, false, false },
    { "an escape in the host", "https://ex%61mple%2fcom/", NULL, NULL, false, false },
    { "a fragment", "https://example.com/a#b", NULL, NULL, false, false },
    { "SNS", "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-0.pem", sns, "/*.pem",
      false, true },
    { "SNS in capitals", "HTTPS://SNS.US-EAST-1.AMAZONAWS.COM/x.pem", sns, "/*.pem", false, true },
    { "SNS in China", "https://sns.cn-north-1.amazonaws.com.cn/x.pem", sns, "/*.pem", false, true },
    { "SNS with its port", "https://sns.us-east-1.amazonaws.com:443/x.pem", sns, "/*.pem", false,
      true },
    { "SNS on another port", "https://sns.us-east-1.amazonaws.com:8443/x.pem", sns, "/*.pem", false,
      false },
    { "SNS over http", "http://sns.us-east-1.amazonaws.com/x.pem", sns, "/*.pem", false, false },
    { "SNS, another path", "https://sns.us-east-1.amazonaws.com/x.txt", sns, "/*.pem", false,
      false },
    { "SNS, a query where a path is asked for", "https://sns.us-east-1.amazonaws.com/x?y.pem", sns,
      "/*.pem", false, false },
    { "a query behind the right path", "https://sns.us-east-1.amazonaws.com/x.pem?a=b", sns,
      "/*.pem", false, false },
    { "somebody's bucket", "https://sns.s3.amazonaws.com/x.pem", sns, "/*.pem", false, false },
    { "somebody's bucket with a dot", "https://sns.evil.s3.amazonaws.com/x.pem", sns, "/*.pem",
      false, false },
    { "the name in front", "https://sns.us-east-1.amazonaws.com.evil.example/x.pem", sns, "/*.pem",
      false, false },
    { "the name glued", "https://evilsns.us-east-1.amazonaws.com/x.pem", sns, "/*.pem", false,
      false },
    { "the name in the path", "https://evil.example/sns.us-east-1.amazonaws.com/x.pem", sns,
      "/*.pem", false, false },
    { "a dot at the end", "https://sns.us-east-1.amazonaws.com./x.pem", sns, "/*.pem", false,
      false },
    { "PayPal", "https://api.paypal.com/v1/notifications/certs/CERT-1", paypal, NULL, false, true },
    { "not PayPal", "https://apixpaypal.com/v1/notifications/certs/CERT-1", paypal, NULL, false,
      false },
    { "one label", "https://a.b/x", any_host, NULL, false, false },
    { "a port by pattern", "https://localhost:8123/x", ports, NULL, false, true },
    { "a port that does not match", "https://localhost:9123/x", ports, NULL, false, false },
    { "an address in brackets", "https://[::1]/x", ports, NULL, false, true },
    { "an address in brackets, another port", "https://[::1]:444/x", ports, NULL, false, false },
};

static void url(void **state)
{
    const struct url_row *row = *state;
    struct fetch_rules r = { .hosts = row->hosts, .path = row->path, .allow_http = row->http };
    struct err e = ERR_INIT;

    assert_int_equal(fetch_check(row->url, &r, &e), row->pass ? 0 : -1);
    assert_int_equal(e.text[0] == '\0', row->pass);
}

/* --- addresses ---------------------------------------------------------------------------------
 */

static const struct address_row {
    const char *name;
    bool public;
} address_rows[] = {
    { "8.8.8.8", true },
    { "9.255.255.255", true },
    { "11.0.0.0", true },
    { "100.63.255.255", true },
    { "100.128.0.0", true },
    { "172.15.255.255", true },
    { "172.32.0.0", true },
    { "192.167.255.255", true },
    { "223.255.255.255", true },
    { "0.0.0.0", false },
    { "10.0.0.1", false },
    { "10.255.255.255", false },
    { "100.64.0.1", false },
    { "100.100.100.200", false },
    { "127.0.0.1", false },
    { "127.255.255.255", false },
    { "168.63.129.16", false },
    { "168.63.129.17", true },
    { "169.254.169.254", false },
    { "172.16.0.1", false },
    { "172.31.255.255", false },
    { "192.0.0.192", false },
    { "192.168.1.1", false },
    { "198.19.0.1", false },
    { "224.0.0.1", false },
    { "255.255.255.255", false },
    { "2606:4700:4700::1111", true },
    { "2a00:1450:4001:80b::200a", true },
    { "::", false },
    { "::1", false },
    { "::ffff:127.0.0.1", false },
    { "::ffff:169.254.169.254", false },
    { "::ffff:8.8.8.8", true },
    { "::127.0.0.1", false },
    { "64:ff9b::10.0.0.1", false },
    { "64:ff9b::8.8.8.8", true },
    { "64:ff9b:1::1", false },
    { "2002:7f00:1::", false },
    { "2002:a00:1::", false },
    { "2001::1", false },
    { "2001:db8::1", false },
    { "fc00::1", false },
    { "fd00::1", false },
    { "fd00:ec2::254", false },
    { "fe80::1", false },
    { "fec0::1", false },
    { "ff02::1", false },
};

static void address(void **state)
{
    const struct address_row *row = *state;
    struct sockaddr_in v4 = { .sin_family = AF_INET };
    struct sockaddr_in6 v6 = { .sin6_family = AF_INET6 };
    const struct sockaddr *sa = strchr(row->name, ':') ? (const void *)&v6 : (const void *)&v4;

    if (sa->sa_family == AF_INET)
        assert_int_equal(inet_pton(AF_INET, row->name, &v4.sin_addr), 1);
    else
        assert_int_equal(inet_pton(AF_INET6, row->name, &v6.sin6_addr), 1);
    assert_int_equal(fetch_address_public(sa), row->public);
}

/* --- Cache-Control -----------------------------------------------------------------------------
 */

static const struct age_row {
    const char *name, *cache_control, *age;
    int64_t want_ms;
} age_rows[] = {
    { "nothing", "", "", -1 },
    { "max-age", "max-age=300", "", 300000 },
    { "as Google says it", "public, max-age=21233, must-revalidate, no-transform", "33", 21200000 },
    { "in capitals and quotes", "Public,MAX-AGE=\"60\"", "", 60000 },
    { "the first counts", "max-age=60, max-age=3600", "", 60000 },
    { "older than it may be", "max-age=60", "61", 0 },
    { "a negative age", "max-age=60", "-5", 60000 },
    { "no-store", "max-age=300, no-store", "", 0 },
    { "no-cache", "no-cache", "", 0 },
    { "no number", "max-age=soon", "", -1 },
    { "negative", "max-age=-1", "", -1 },
    { "part of another name", "s-maxage=5, x-max-age=6", "", -1 },
    { "too large for 64 bits", "max-age=99999999999999999999", "", -1 },
    { "a hundred years", "max-age=3153600000", "", 31536000000 },
};

static void age(void **state)
{
    const struct age_row *row = *state;

    assert_int_equal(fetch_max_age(span_str(row->cache_control), span_str(row->age)), row->want_ms);
}

/* --- a real server -----------------------------------------------------------------------------
 */

static struct https server, plain;

struct outcome {
    bool told, good;
    char text[768];
    struct buf body;
    int64_t max_age_ms;
};

static void on_done(void *arg, struct fetch_reply *reply, const struct err *e)
{
    struct outcome *o = arg;

    assert_false(o->told);
    o->told = true;
    o->good = reply != NULL;
    if (reply) {
        o->body = reply->body;
        reply->body = (struct buf)BUF_INIT;
        o->max_age_ms = reply->max_age_ms;
    } else {
        snprintf(o->text, sizeof o->text, "%s", e->text);
    }
}

static void wait_for(struct fetcher *f, struct outcome *o)
{
    int64_t give_up = clock_mono_ms() + PATIENCE_MS;

    while (!o->told && clock_mono_ms() < give_up)
        fetcher_run(f, 1000);
    assert_true(o->told);
}

static void get(const char *address_of_it, const struct fetch_rules *r, struct outcome *o)
{
    struct fetcher *f = fetcher_new();

    *o = (struct outcome){ .told = false };
    fetch_start(f, address_of_it, r, on_done, o);
    wait_for(f, o);
    fetcher_free(f);
}

#define BIG 5000
enum { OPEN = 0, CLOSED = 1, NO_CA = 2, OTHER_CA = 4, HTTP = 8, PLAIN = 16 };

static const struct live_row {
    const char *name, *answer;
    const char *host; /* NULL: localhost */
    unsigned how;
    int padding;     /* bytes added to the body */
    const char *why; /* part of the error; NULL: it succeeds */
    int64_t max_age_ms;
} live_rows[] = {
    { "good", "200 0\nCache-Control: max-age=120\n\nbody", NULL, OPEN, 0, NULL, 120000 },
    { "good, nothing said", "200 0\n\nbody", NULL, OPEN, 0, NULL, -1 },
    { "two fields", "200 0\nCache-Control: public\nCache-Control: no-store\n\nbody", NULL, OPEN, 0,
      NULL, 0 },
    { "chunked", "200 0\nX-Chunked: 1\n\nbody", NULL, OPEN, 0, NULL, -1 },
    { "not found", "404 0\n\nbody", NULL, OPEN, 0, "answered 404", 0 },
    { "server error", "500 0\n\nbody", NULL, OPEN, 0, "answered 500", 0 },
    { "no content", "204 0\n\n", NULL, OPEN, 0, "answered 204", 0 },
    { "redirect to another host", "302 0\nLocation: https://example.com/jwks\n\n", NULL, OPEN, 0,
      "redirects are not followed", 0 },
    { "redirect on the same host", "301 0\nLocation: /other\n\n", NULL, OPEN, 0,
      "redirects are not followed", 0 },
    { "as large as allowed", "200 0\n\nbody", NULL, OPEN, BIG - 4, NULL, -1 },
    { "one byte too large", "200 0\n\nbody", NULL, OPEN, BIG - 3, "larger than allowed", 0 },
    { "too large, chunked", "200 0\nX-Chunked: 1\n\nbody", NULL, OPEN, 10 * BIG,
      "larger than allowed", 0 },
    { "slow to begin", "200 3000\n\nbody", NULL, OPEN, 0, "within 500 ms", 0 },
    { "slow to end", "200 0\nX-Drip: 100\n\nbody", NULL, OPEN, 40, "within 500 ms", 0 },
    { "loopback by name", "200 0\n\nbody", NULL, CLOSED, 0, "is private", 0 },
    { "loopback", "200 0\n\nbody", "127.0.0.1", CLOSED, 0, "127.0.0.1 is private", 0 },
    { "loopback as a number", "200 0\n\nbody", "2130706433", CLOSED, 0, "is private", 0 },
    { "loopback, IPv6", "200 0\n\nbody", "[::1]", CLOSED, 0, "::1 is private", 0 },
    { "loopback, mapped", "200 0\n\nbody", "[::ffff:127.0.0.1]", CLOSED, 0, "is private", 0 },
    { "private", "200 0\n\nbody", "10.1.2.3", CLOSED, 0, "10.1.2.3 is private", 0 },
    { "metadata", "200 0\n\nbody", "169.254.169.254", CLOSED, 0, "169.254.169.254 is private", 0 },
    { "unique local", "200 0\n\nbody", "[fd00::1]", CLOSED, 0, "fd00::1 is private", 0 },
    { "an authority that is not trusted", "200 0\n\nbody", NULL, NO_CA, 0, "certificate", 0 },
    { "another authority", "200 0\n\nbody", NULL, OTHER_CA, 0, "certificate", 0 },
    { "the certificate of another name", "200 0\n\nbody", "127.0.0.1", OPEN, 0, "subject", 0 },
    { "http", "200 0\n\nbody", NULL, PLAIN, 0, "only https", 0 },
    { "http where it is allowed", "200 0\n\nbody", NULL, PLAIN | HTTP, 0, NULL, -1 },
    { "no TLS", "200 0\n\nbody", NULL, PLAIN | HTTP | CLOSED, 0, "is private", 0 },
};

static void live(void **state)
{
    const struct live_row *row = *state;
    struct https *s = row->how & PLAIN ? &plain : &server;
    struct fetch_rules r = { .ca_file = row->how & NO_CA      ? NULL
                                        : row->how & OTHER_CA ? s->other_ca
                                                              : server.ca,
                             .allow_http = row->how & HTTP,
                             .allow_private = !(row->how & CLOSED),
                             .body_bytes = BIG,
                             .timeout_ms = 500 };
    char *text = xasprintf("%s%0*d", row->answer, row->padding, 0);
    char *link = xasprintf("%s://%s:%d/live", row->how & PLAIN ? "http" : "https",
                           row->host ? row->host : "localhost", s->port);
    int64_t began = clock_mono_ms();
    struct outcome o;

    if (!row->padding)
        text[strlen(row->answer)] = '\0';
    https_answer(s, "live", text);
    get(link, &r, &o);
    assert_true(clock_mono_ms() - began < 2500);
    if (row->why) {
        assert_false(o.good);
        if (!strstr(o.text, row->why))
            fail_msg("%s", o.text);
    } else {
        assert_string_equal(o.text, "");
        assert_int_equal(o.body.n, 4 + row->padding);
        assert_memory_equal(o.body.p, "body", 4);
        assert_int_equal(o.max_age_ms, row->max_age_ms);
    }
    buf_free(&o.body);
    free(text);
    free(link);
}

/* A proxy of the environment would connect where the rules cannot look. */
static void no_proxy_is_used(void **state UNUSED)
{
    struct fetch_rules r = { .ca_file = server.ca, .allow_private = true, .timeout_ms = 5000 };
    char *link = https_url(&server, "proxy");
    struct outcome o;

    https_answer(&server, "proxy", "200 0\n\nbody");
    setenv("https_proxy", "http://127.0.0.1:1", 1);
    setenv("ALL_PROXY", "http://127.0.0.1:1", 1);
    get(link, &r, &o);
    unsetenv("https_proxy");
    unsetenv("ALL_PROXY");
    assert_true(o.good);
    buf_free(&o.body);
    free(link);
}

static void a_slow_one_holds_up_no_other(void **state UNUSED)
{
    struct fetch_rules r = { .ca_file = server.ca, .allow_private = true, .timeout_ms = 10000 };
    char *slow = https_url(&server, "slow"), *quick = https_url(&server, "quick");
    struct outcome late = { .told = false }, o = { .told = false };
    struct fetcher *f = fetcher_new();
    struct fetch *x;

    https_answer(&server, "slow", "200 8000\n\nbody");
    https_answer(&server, "quick", "200 0\n\nbody");
    x = fetch_start(f, slow, &r, on_done, &late);
    fetch_start(f, quick, &r, on_done, &o);
    wait_for(f, &o);
    assert_true(o.good);
    assert_false(late.told);
    fetch_cancel(x);
    fetcher_run(f, 0);
    assert_false(late.told);
    fetch_start(f, slow, &r, on_done, &late);
    fetcher_free(f); /* with one under way */
    assert_false(late.told);
    buf_free(&o.body);
    free(slow);
    free(quick);
}

static void copies_are_equal(void **state UNUSED)
{
    struct fetch_rules a = { .hosts = sns, .path = "/*.pem", .timeout_ms = 5 }, b, c, none;

    fetch_rules_copy(&b, &a);
    fetch_rules_copy(&c, &b);
    assert_true(fetch_rules_equal(&a, &c));
    c.allow_private = true;
    assert_false(fetch_rules_equal(&a, &c));
    none = b;
    none.hosts = NULL;
    assert_false(fetch_rules_equal(&none, &b));
    none.hosts = sns + 1;
    assert_false(fetch_rules_equal(&none, &b));
    assert_false(fetch_rules_equal(&b, &none));
    fetch_rules_free(&b);
    fetch_rules_free(&c);
    assert_null(c.hosts);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(no_proxy_is_used),
    cmocka_unit_test(a_slow_one_holds_up_no_other),
    cmocka_unit_test(copies_are_equal),
};

int main(void)
{
    int failed;

    https_init(&server);
    https_init(&plain);
    https_start(&server, false);
    https_start(&plain, true);
    failed = T_TABLE(url_rows, url) + T_TABLE(address_rows, address) + T_TABLE(age_rows, age) +
             T_TABLE(live_rows, live) + T_RUN(tests);
    https_stop(&server);
    https_stop(&plain);
    https_close(&server);
    https_close(&plain);
    return failed;
}
