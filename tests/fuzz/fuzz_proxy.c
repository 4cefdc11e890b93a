/* SPDX-License-Identifier: Apache-2.0 */
/* PROXY headers and what proxies say of the sender: however the bytes come, a header is one header,
 * and an address is one address.
 *
 * The first byte chooses: a PROXY header, a network, or X-Forwarded-For or Forwarded of a request.
 */
#include "fuzz.h"

#include <sys/socket.h>

#include "address.h"
#include "net/room.h"

static void proxy(const uint8_t *data, size_t n)
{
    int whole = 0;

    for (size_t have = 1; have <= n; have++) {
        char *copy = fuzz_copy(data, have);
        struct net_peer p = { .family = AF_UNSPEC };
        int got = proxy_parse(copy, have, &p);
        free(copy);
        must(got >= -1 && got <= (int)MIN(have, (size_t)PROXY_MAX));
        must(got > 0 || p.family == AF_UNSPEC);
        if (whole) /* what follows it changes nothing */
            must(got == whole);
        whole = got;
        if (have > PROXY_MAX + 16)
            break;
    }
}

static void network(const uint8_t *data, size_t n)
{
    char *copy = fuzz_copy(data, n);
    struct address_net net;
    struct address_nets one = { &net, 1 };
    struct err e = ERR_INIT;

    if (!address_net_parse(span_of(copy, n), &net, &e))
        must(address_in(&one, &net.at)); /* its own first address */
    free(copy);
}

static void forwarded(const uint8_t *data, size_t n, enum address_header header)
{
    static const struct http_limits limits = { 16384, 8192, 0 };
    struct address_net all[2] = { { .at.family = AF_INET }, { .at.family = AF_UNIX } };
    struct address_nets trusted = { all, 1 }, nobody = { NULL, 0 };
    struct net_peer p = { .family = AF_INET, .address = { 10 } }, q = p;
    struct http_request req;
    struct buf b = BUF_INIT;
    char *copy, text[NET_PEER_TEXT_MAX];

    buf_adds(&b, header == ADDRESS_FORWARDED ? "GET / HTTP/1.1\r\nHost: a\r\nForwarded: "
                                             : "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: ");
    buf_add(&b, data, n);
    buf_adds(&b, "\r\n\r\n");
    copy = fuzz_copy(b.p, b.n);
    http_request_init(&req, &limits);
    if (http_parse(&req, copy, b.n, &limits) == HTTP_HEAD) {
        address_behind_proxies(&req, copy, &trusted, header, &p);
        must(p.family == AF_INET || p.family == AF_INET6);
        net_peer_text(&p, text);
        address_behind_proxies(&req, copy, &nobody, header, &q);
        must(q.family == AF_INET && q.address[0] == 10); /* a stranger's word */
    }
    free(copy);
    buf_free(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n < 2)
        return 0;
    if (data[0] % 4 == 0)
        proxy(data + 1, n - 1);
    else if (data[0] % 4 == 1)
        network(data + 1, n - 1);
    else
        forwarded(data + 1, n - 1, data[0] % 4 == 2 ? ADDRESS_X_FORWARDED_FOR : ADDRESS_FORWARDED);
    return 0;
}
