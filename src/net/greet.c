/* SPDX-License-Identifier: Apache-2.0 */
/* What comes before HTTP: the PROXY header, the TLS handshake. Both together have one total
 * deadline. Whoever does not keep to it is closed without a word: nothing of ours speaks HTTP yet.
 */
#include <errno.h>
#include <sys/socket.h>

#include "log.h"
#include "room.h"

void greet_fail(struct net_conn *c, enum net_handshake how, const char *why)
{
    static struct log_limit limit;
    uint64_t left_out;

    counter_add(&c->server->handshakes[how], 1);
    if (log_limit_pass(&limit, &left_out))
        log_info("a connection was not let in", KS("what", net_handshake_name(how)),
                 KS("reason", why), KU("left_out", left_out));
    conn_close(c);
}

/* Only bytes of the header are taken from the socket: what follows may be TLS. */
static bool take_header(struct net_conn *c)
{
    struct net_request *req = c->reading ? c->reading : (c->reading = request_take(c));
    struct net_peer peer = { .family = 0 };
    ssize_t n = recv(c->fd, req->bytes + req->have, PROXY_MAX - req->have, MSG_PEEK);
    size_t whole;
    int len;

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (n <= 0) {
        conn_close(c);
        return false;
    }
    whole = req->have + (size_t)n;
    len = proxy_parse(req->bytes, whole, &peer);
    if (len < 0 || (len == 0 && whole == PROXY_MAX)) {
        greet_fail(c, HANDSHAKE_PROXY, "no PROXY header");
        return false;
    }
    whole = len ? (size_t)len : whole;
    if (recv(c->fd, req->bytes + req->have, whole - req->have, 0) != (ssize_t)(whole - req->have)) {
        conn_close(c);
        return false;
    }
    req->have = whole;
    if (!len)
        return false;
    req->have = 0;
    request_recycle(req);
    c->reading = NULL;
    c->peer = peer;
    if (peer.family == AF_UNSPEC)
        net_peer_of(c->fd, &peer);
    if (conn_takes_place(c, &peer))
        return true;
    greet_fail(c, HANDSHAKE_PROXY, "its network has as many connections as it may");
    return false;
}

static bool shake_hands(struct net_conn *c)
{
    int rc = tls_handshake(c->tls, &c->tls_blocked);

    if (rc < 0)
        greet_fail(c, HANDSHAKE_FAILED, tls_why());
    if (rc <= 0)
        return false;
    counter_add(&c->server->handshakes[tls_resumed(c->tls) ? HANDSHAKE_RESUMED : HANDSHAKE_DONE],
                1);
    tls_client_names(c->tls, &c->names);
    c->more = true; /* the request may have come along with the last of the handshake */
    return true;
}

bool greet(struct net_conn *c)
{
    if (c->stage == STAGE_PROXY) {
        if (!take_header(c))
            return false;
        c->stage = c->tls ? STAGE_HANDSHAKE : STAGE_HTTP;
    }
    if (c->stage == STAGE_HANDSHAKE && !shake_hands(c))
        return false;
    c->stage = STAGE_HTTP;
    conn_set_wait(c, WAIT_FIRST);
    return true;
}
