/* SPDX-License-Identifier: Apache-2.0 */
/* The PROXY protocol, versions 1 and 2: who connected to the proxy before us. Strict: what is odd
 * is no header, and without a header nothing is known of such a connection, so it ends. */
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "address.h"
#include "room.h"

#define LINE_MAX 107 /* of version 1, CRLF included */

static bool port(struct span s)
{
    uint64_t v;

    return s.n && s.n <= 5 && (s.n == 1 || s.p[0] != '0') && span_u64(s, &v) && v <= 65535;
}

/* The line without its CRLF. */
static bool parse_line(struct span line, struct net_peer *peer)
{
    struct span proto, source, destination;
    struct net_peer from, to;
    int family;

    span_cut(&line, ' '); /* PROXY */
    proto = span_cut(&line, ' ');
    if (span_eq(proto, S("UNKNOWN")))
        return true;
    family = span_eq(proto, S("TCP4")) ? AF_INET : span_eq(proto, S("TCP6")) ? AF_INET6 : 0;
    source = span_cut(&line, ' ');
    destination = span_cut(&line, ' ');
    if (!family || !source.n || !destination.n ||
        (memchr(source.p, ':', source.n) != NULL) != (family == AF_INET6) ||
        !address_parse(source, &from) || !address_parse(destination, &to) ||
        !port(span_cut(&line, ' ')) || !port(line))
        return false;
    *peer = from;
    return true;
}

static int version1(const char *p, size_t n, struct net_peer *peer)
{
    const char *end = memchr(p, '\n', MIN(n, (size_t)LINE_MAX));
    size_t len;

    if (!end)
        return n >= LINE_MAX ? -1 : 0;
    len = (size_t)(end - p) + 1;
    if (len < 8 || p[len - 2] != '\r' || !parse_line(span_of(p, len - 2), peer))
        return -1;
    return (int)len;
}

static int version2(const uint8_t *p, size_t n, struct net_peer *peer)
{
    static const size_t addresses[] = { 0, 12, 36, 216 };
    size_t len;
    unsigned family;

    if (n < 16)
        return n > 12 && p[12] >> 4 != 2 ? -1 : 0;
    len = (size_t)p[14] << 8 | p[15];
    family = p[13] >> 4;
    if (p[12] >> 4 != 2 || (p[12] & 15) > 1 || len + 16 > PROXY_MAX)
        return -1;
    if ((p[12] & 15) == 1 && (family > 3 || (p[13] & 15) > 1 || len < addresses[family]))
        return -1;
    if (n < 16 + len)
        return 0;
    if ((p[12] & 15) == 0 || (family != 1 && family != 2)) /* its own, or nobody that has a name */
        return (int)(16 + len);
    *peer = (struct net_peer){ .family = family == 1 ? AF_INET : AF_INET6 };
    memcpy(peer->address, p + 16, family == 1 ? 4 : 16);
    return (int)(16 + len);
}

int proxy_parse(const char *p, size_t n, struct net_peer *peer)
{
    static const char one[] = "PROXY ", two[] = "\r\n\r\n\0\r\nQUIT\n";

    if (!memcmp(p, one, MIN(n, sizeof one - 1)))
        return n < sizeof one ? 0 : version1(p, n, peer);
    if (!memcmp(p, two, MIN(n, sizeof two - 1)))
        return n < sizeof two - 1 ? 0 : version2((const uint8_t *)p, n, peer);
    return -1;
}
