/* SPDX-License-Identifier: Apache-2.0 */
/* Networks, PROXY headers, and who is behind trusted proxies. */
#include "table.h"

#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "address.h"
#include "net/room.h"

static const struct net_row {
    const char *name, *net, *address;
    bool in;
} nets[] = {
    { "an address", "192.0.2.1", "192.0.2.1", true },
    { "another", "192.0.2.1", "192.0.2.2", false },
    { "first of a network", "192.0.2.0/24", "192.0.2.0", true },
    { "last of a network", "192.0.2.0/24", "192.0.2.255", true },
    { "behind it", "192.0.2.0/24", "192.0.3.0", false },
    { "before it", "192.0.2.0/24", "192.0.1.255", false },
    { "bits within a byte", "192.0.2.128/25", "192.0.2.129", true },
    { "bits within a byte, outside", "192.0.2.128/25", "192.0.2.127", false },
    { "31 bits", "192.0.2.2/31", "192.0.2.3", true },
    { "31 bits, outside", "192.0.2.2/31", "192.0.2.4", false },
    { "everything of IPv4", "0.0.0.0/0", "255.1.2.3", true },
    { "but nothing of IPv6", "0.0.0.0/0", "2001:db8::1", false },
    { "IPv6", "2001:db8::/32", "2001:db8:ffff::1", true },
    { "IPv6 outside", "2001:db8::/32", "2001:db9::", false },
    { "everything of IPv6", "::/0", "fe80::1", true },
    { "and nothing of IPv4", "::/0", "192.0.2.1", false },
    { "IPv4 inside IPv6", "192.0.2.0/24", "::ffff:192.0.2.9", true },
    { "written inside IPv6", "::ffff:192.0.2.9", "192.0.2.9", true },
    { "a Unix socket is no address", "unix", "192.0.2.1", false },
    { "127 bits", "2001:db8::2/127", "2001:db8::3", true },
    { "127 bits, outside", "2001:db8::2/127", "2001:db8::4", false },
};

static void in_a_network(void **state)
{
    const struct net_row *r = *state;
    struct address_net net;
    struct address_nets one = { &net, 1 };
    struct net_peer p;
    struct err e = ERR_INIT;

    assert_int_equal(address_net_parse(span_str(r->net), &net, &e), 0);
    assert_true(address_parse(span_str(r->address), &p));
    assert_int_equal(address_in(&one, &p), r->in);
}

static const struct bad_row {
    const char *name, *net;
} bad[] = {
    { "empty", "" },
    { "a name", "localhost" },
    { "a prefix alone", "/24" },
    { "no prefix", "192.0.2.0/" },
    { "too long a prefix", "192.0.2.0/33" },
    { "too long a prefix of IPv6", "::/129" },
    { "a sign", "192.0.2.0/+24" },
    { "bits behind the prefix", "192.0.2.1/24" },
    { "bits behind the prefix of IPv6", "2001:db8::1/64" },
    { "three bytes", "192.0.2/24" },
    { "octal", "192.0.2.010" },
    { "a port", "192.0.2.1:80" },
    { "blanks", " 192.0.2.1" },
    { "a zone", "fe80::1%eth0" },
    { "two slashes", "192.0.2.0/24/24" },
};

static void no_network(void **state)
{
    const struct bad_row *r = *state;
    struct address_net net;
    struct err e = ERR_INIT;

    assert_int_equal(address_net_parse(span_str(r->net), &net, &e), -1);
    assert_int_equal(e.code, EXIT_BAD_CONFIG);
}

/* --- PROXY headers -------------------------------------------------------------------------------
 */

#define B(text) text, sizeof(text) - 1
#define V2 "\r\n\r\n\0\r\nQUIT\n"
static const struct proxy_row {
    const char *name, *bytes;
    size_t n;
    const char *peer; /* NULL: it names nobody */
    bool bad;
    size_t behind; /* bytes that are not of the header */
} headers[] = {
    { "TCP4", B("PROXY TCP4 192.0.2.1 192.0.2.2 1 65535\r\n"), "192.0.2.1" },
    { "TCP6", B("PROXY TCP6 2001:db8::1 2001:db8::2 0 443\r\n"), "2001:db8::1" },
    { "something behind", B("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET /"), "192.0.2.1", false, 5 },
    { "unknown", B("PROXY UNKNOWN\r\n") },
    { "unknown and more", B("PROXY UNKNOWN ffff::1 ffff::1 1 2\r\n") },
    { "another protocol", B("PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n"), .bad = true },
    { "small letters", B("proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n"), .bad = true },
    { "IPv6 as TCP4", B("PROXY TCP4 ::1 ::1 1 2\r\n"), .bad = true },
    { "IPv4 as TCP6", B("PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n"), .bad = true },
    { "no ports", B("PROXY TCP4 192.0.2.1 192.0.2.2\r\n"), .bad = true },
    { "one port", B("PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n"), .bad = true },
    { "three ports", B("PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n"), .bad = true },
    { "a port that is none", B("PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n"), .bad = true },
    { "a port with a zero", B("PROXY TCP4 192.0.2.1 192.0.2.2 1 02\r\n"), .bad = true },
    { "two blanks", B("PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n"), .bad = true },
    { "bare LF", B("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n"), .bad = true },
    { "too long",
      B("PROXY UNKNOWN xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n"),
      .bad = true },
    { "HTTP", B("POST / HTTP/1.1\r\n"), .bad = true },
    { "PROXY as a method", B("PROXY / HTTP/1.1\r\n"), .bad = true },
    { "TLS", B("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), .bad = true },
    { "v2 IPv4", B(V2 "\x21\x11\0\x0c\xc0\0\2\1\xc0\0\2\2\0\1\0\2"), "192.0.2.1" },
    { "v2 IPv4 and behind", B(V2 "\x21\x11\0\x0c\xc0\0\2\1\xc0\0\2\2\0\1\0\2POST"), "192.0.2.1",
      false, 4 },
    { "v2 IPv4 with more in it", B(V2 "\x21\x11\0\x10\xc0\0\2\1\xc0\0\2\2\0\1\0\2\x20\0\1x"),
      "192.0.2.1" },
    { "v2 IPv6",
      B(V2 "\x21\x21\0\x24\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0"
           "\0\2\0\1\0\2"),
      "2001:db8::1" },
    { "v2 of the proxy itself", B(V2 "\x20\0\0\0") },
    { "v2 of the proxy itself, with addresses",
      B(V2 "\x20\x11\0\x0c\xc0\0\2\1\xc0\0\2\2\0\1\0\2") },
    { "v2 without a family", B(V2 "\x21\0\0\0") },
    { "v2 too short for its family", B(V2 "\x21\x11\0\x0b\xc0\0\2\1\xc0\0\2\2\0\1\0"),
      .bad = true },
    { "v2 datagrams", B(V2 "\x21\x12\0\x0c\xc0\0\2\1\xc0\0\2\2\0\1\0\2"), .bad = true },
    { "v2 another command", B(V2 "\x22\x11\0\x0c\xc0\0\2\1\xc0\0\2\2\0\1\0\2"), .bad = true },
    { "v2 another family", B(V2 "\x21\x41\0\x0c\xc0\0\2\1\xc0\0\2\2\0\1\0\2"), .bad = true },
    { "another version", B(V2 "\x31\x11\0\x0c\xc0\0\2\1\xc0\0\2\2\0\1\0\2"), .bad = true },
    { "v2 too long", B(V2 "\x21\x11\xff\xff\xc0\0\2\1\xc0\0\2\2\0\1\0\2"), .bad = true },
    { "v2 with another mark", B("\r\n\r\n\0\r\nQUIT\r\x21\x11\0\x0c"), .bad = true },
};

/* The same header cut at every byte is not whole, and says so only of its start. */
static void proxy_header(void **state)
{
    const struct proxy_row *r = *state;
    char text[NET_PEER_TEXT_MAX];
    size_t whole = r->n - r->behind;
    int got = 0;

    for (size_t n = 1; n <= r->n && got == 0; n++) {
        char *copy = malloc(n); /* a byte too many is seen by the sanitizer */
        struct net_peer peer = { .family = 0 };
        memcpy(copy, r->bytes, n);
        got = proxy_parse(copy, n, &peer);
        free(copy);
        if (!got) {
            assert_true(n < whole || r->bad);
            assert_int_equal(peer.family, 0);
            continue;
        }
        assert_int_equal(got, r->bad ? -1 : (int)whole);
        if (!r->bad && r->peer)
            assert_string_equal(net_peer_text(&peer, text), r->peer);
        else
            assert_int_equal(peer.family, 0);
    }
    assert_int_not_equal(got, 0);
}

/* --- behind proxies ------------------------------------------------------------------------------
 */

#define X ADDRESS_X_FORWARDED_FOR
#define FW ADDRESS_FORWARDED
static const struct behind_row {
    const char *name, *peer, *headers;
    enum address_header header;
    const char *who;
} behind[] = {
    { "nobody says anything", "10.0.0.1", "", X, "10.0.0.1" },
    { "a stranger says", "192.0.2.7", "X-Forwarded-For: 1.2.3.4\r\n", X, "192.0.2.7" },
    { "a proxy says", "10.0.0.1", "X-Forwarded-For: 192.0.2.7\r\n", X, "192.0.2.7" },
    { "the client has lied", "10.0.0.1", "X-Forwarded-For: 1.2.3.4, 192.0.2.7\r\n", X,
      "192.0.2.7" },
    { "two proxies", "10.0.0.1", "X-Forwarded-For: 1.2.3.4, 192.0.2.7, 10.0.0.2\r\n", X,
      "192.0.2.7" },
    { "two lines", "10.0.0.1",
      "X-Forwarded-For: 1.2.3.4\r\nA: b\r\nx-forwarded-for: 192.0.2.7, 10.0.0.2\r\n", X,
      "192.0.2.7" },
    { "proxies all the way", "10.0.0.1", "X-Forwarded-For: 10.0.0.3, 10.0.0.2\r\n", X, "10.0.0.3" },
    { "what is no address ends it", "10.0.0.1", "X-Forwarded-For: 1.2.3.4, unknown\r\n", X,
      "10.0.0.1" },
    { "an empty element ends it", "10.0.0.1", "X-Forwarded-For: 1.2.3.4,\r\n", X, "10.0.0.1" },
    { "with a port", "10.0.0.1", "X-Forwarded-For: 192.0.2.7:81\r\n", X, "192.0.2.7" },
    { "IPv6", "10.0.0.1", "X-Forwarded-For: 2001:db8::7\r\n", X, "2001:db8::7" },
    { "IPv6 with a port", "10.0.0.1", "X-Forwarded-For: [2001:db8::7]:81\r\n", X, "2001:db8::7" },
    { "the other header is not looked at", "10.0.0.1", "Forwarded: for=1.2.3.4\r\n", X,
      "10.0.0.1" },
    { "nor that one", "10.0.0.1", "X-Forwarded-For: 1.2.3.4\r\n", FW, "10.0.0.1" },
    { "none is", "10.0.0.1", "X-Forwarded-For: 1.2.3.4\r\n", ADDRESS_NO_HEADER, "10.0.0.1" },
    { "Forwarded", "10.0.0.1", "Forwarded: for=192.0.2.7\r\n", FW, "192.0.2.7" },
    { "Forwarded with more", "10.0.0.1",
      "Forwarded: for=1.2.3.4, proto=https; FOR=\"192.0.2.7:81\" ;by=10.0.0.1\r\n", FW,
      "192.0.2.7" },
    { "Forwarded IPv6", "10.0.0.1", "Forwarded: for=\"[2001:db8::7]:81\"\r\n", FW, "2001:db8::7" },
    { "Forwarded hides it", "10.0.0.1", "Forwarded: for=1.2.3.4, for=_hidden\r\n", FW, "10.0.0.1" },
    { "Forwarded without for", "10.0.0.1", "Forwarded: for=1.2.3.4, by=10.0.0.1\r\n", FW,
      "10.0.0.1" },
    { "an open bracket", "10.0.0.1", "X-Forwarded-For: [2001:db8::7\r\n", X, "10.0.0.1" },
    { "over a Unix socket", "unix", "X-Forwarded-For: 192.0.2.7\r\n", X, "192.0.2.7" },
};

static void who_is_behind(void **state)
{
    const struct behind_row *r = *state;
    static char *texts[] = { "10.0.0.0/8", "unix" };
    struct cfg_strs strs = { texts, 2 };
    struct address_nets trusted;
    struct http_limits limits = { 16384, 8192, 0 };
    struct http_request req;
    struct net_peer p = { .family = AF_UNIX };
    struct err e = ERR_INIT;
    char bytes[1024], text[NET_PEER_TEXT_MAX];
    int n = snprintf(bytes, sizeof bytes, "GET / HTTP/1.1\r\nHost: a\r\n%s\r\n", r->headers);

    http_request_init(&req, &limits);
    assert_int_equal(http_parse(&req, bytes, (size_t)n, &limits), HTTP_HEAD);
    assert_int_equal(address_nets_init(&trusted, &strs, &e), 0);
    if (strcmp(r->peer, "unix"))
        assert_true(address_parse(span_str(r->peer), &p));
    address_behind_proxies(&req, bytes, &trusted, r->header, &p);
    assert_string_equal(net_peer_text(&p, text), r->who);
    address_nets_close(&trusted);
}

int main(void)
{
    return T_TABLE(nets, in_a_network) + T_TABLE(bad, no_network) + T_TABLE(headers, proxy_header) +
           T_TABLE(behind, who_is_behind);
}
