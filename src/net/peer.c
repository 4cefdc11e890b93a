/* SPDX-License-Identifier: Apache-2.0 */
/* Who is at the other end: by the socket, or by the PROXY header that came first. */
#include <stdio.h>
#include <string.h>

#include "room.h"

void net_peer_at(const struct net_address *at, struct net_peer *out)
{
    *out = (struct net_peer){ .family = at->a.any.sa_family };
    if (out->family == AF_INET)
        memcpy(out->address, &at->a.v4.sin_addr, sizeof at->a.v4.sin_addr);
    else if (out->family == AF_INET6)
        memcpy(out->address, &at->a.v6.sin6_addr, sizeof at->a.v6.sin6_addr);
}

void net_peer_of(int fd, struct net_peer *out)
{
    struct net_address at = { .n = sizeof at.a };

    if (getpeername(fd, &at.a.any, &at.n))
        *out = (struct net_peer){ .family = AF_UNSPEC };
    else
        net_peer_at(&at, out);
}

void net_peer(const struct net_request *req, struct net_peer *out)
{
    struct net_conn *c = req->conn;

    if (!c) {
        *out = (struct net_peer){ .family = AF_UNSPEC };
        return;
    }
    if (c->peer.family == AF_UNSPEC)
        net_peer_of(c->fd, &c->peer);
    *out = c->peer;
}

const char *net_peer_text(const struct net_peer *p, char out[NET_PEER_TEXT_MAX])
{
    if (p->family == AF_INET || p->family == AF_INET6)
        return evutil_inet_ntop(p->family, p->address, out, NET_PEER_TEXT_MAX);
    snprintf(out, NET_PEER_TEXT_MAX, "%s", p->family == AF_UNIX ? "unix" : "gone");
    return out;
}

struct span net_client_names(const struct net_request *req)
{
    return req->conn ? buf_as_span(&req->conn->names) : SPAN_NONE;
}
