/* address - lists of networks, and who really sent a request that came through proxies. Pure. */
#pragma once

#include "cfg.h"
#include "net.h"

struct address_net {
    struct net_peer at; /* the bits behind `bits` are 0 */
    unsigned bits;
};
struct address_nets {
    struct address_net *v;
    size_t n;
};

/* "192.0.2.0/24", "2001:db8::/32", an address alone, or "unix" (whoever comes over a Unix socket).
 * IPv4 inside IPv6 is IPv4. Bits set behind the prefix are an error. */
MUST_CHECK int address_net_parse(struct span text, struct address_net *out, struct err *e);
MUST_CHECK int address_nets_init(struct address_nets *out, const struct cfg_strs *texts,
                                 struct err *e);
void address_nets_close(struct address_nets *nets);
bool address_is_local(const struct net_peer *p); /* this machine: loopback, a Unix socket */
bool address_in(const struct address_nets *nets, const struct net_peer *p);
/* An address without port; IPv4 inside IPv6 becomes IPv4. */
bool address_parse(struct span text, struct net_peer *out);

enum address_header { ADDRESS_X_FORWARDED_FOR, ADDRESS_FORWARDED, ADDRESS_NO_HEADER };
/* The last one in the header whom no trusted proxy is known to be, read from the right, since what
 * stands to the left of him he may have written himself. `p` is who connected; it stays where he is
 * no trusted proxy, and becomes the last good address where the header ends or is not understood.
 */
void address_behind_proxies(const struct http_request *req, const char *bytes,
                            const struct address_nets *trusted, enum address_header header,
                            struct net_peer *p);
