/* SPDX-License-Identifier: Apache-2.0 */
/* Who may ask what of the admin listener: by token, by client certificate, or, where neither is
 * configured, whoever is on this machine. Tokens are compared in constant time, both in any case.
 */
#include <netinet/in.h>
#include <string.h>

#include "address.h"
#include "crypto.h"
#include "room.h"

enum role { ROLE_NONE, ROLE_READ, ROLE_ALL };

static bool is_token(struct span given, const struct cfg_secret *token)
{
    return token->bytes && crypto_equal(given.p, given.n, token->bytes, token->n);
}

static enum role by_token(const struct admin_cfg *cfg, struct net_request *req)
{
    unsigned n;
    struct span value = http_header(&req->http, req->bytes, S("authorization"), &n);
    bool all, some;

    if (n != 1 || value.n < 7 || !span_ieq(span_of(value.p, 7), S("bearer ")))
        return ROLE_NONE;
    value = span_trim(span_of(value.p + 7, value.n - 7));
    all = is_token(value, &cfg->token);
    some = is_token(value, &cfg->read_token);
    return all ? ROLE_ALL : some ? ROLE_READ : ROLE_NONE;
}

/* "host", "host:80", "[v6]:80" without the port and the brackets. */
static struct span host_name(struct span host)
{
    const char *end;

    if (host.n && host.p[0] == '[') {
        end = memchr(host.p, ']', host.n);
        return end ? span_of(host.p + 1, (size_t)(end - host.p) - 1) : SPAN_NONE;
    }
    return span_cut(&host, ':');
}

/* A page of a stranger can make a browser on this machine ask us, once its own name leads here
 * (DNS rebinding); but then the request carries that name, which has a dot: names without one are
 * nobody's in the public DNS. */
static bool host_is_ours(const struct admin_cfg *cfg, struct net_request *req)
{
    struct span host = host_name(http_header(&req->http, req->bytes, S("host"), NULL));
    struct net_peer address;

    if (!host.n || !memchr(host.p, '.', host.n) || address_parse(host, &address))
        return true;
    for (size_t i = 0; i < cfg->hosts.n; i++)
        if (span_ieq(host, span_str(cfg->hosts.v[i])))
            return true;
    return false;
}

static bool is_open(const struct admin_cfg *cfg)
{
    return !cfg->token.bytes && !(cfg->tls && cfg->tls->client_ca);
}

static enum role role_of(const struct admin_cfg *cfg, struct net_request *req)
{
    return is_open(cfg) || net_client_names(req).n ? ROLE_ALL : by_token(cfg, req);
}

bool admin_knows(struct admin *a, struct net_request *req)
{
    return role_of(a->cfg, req) != ROLE_NONE;
}

bool admin_allowed(struct admin *a, struct net_request *req)
{
    enum role role = role_of(a->cfg, req);
    enum http_method m = req->http.method;

    if (is_open(a->cfg) && !host_is_ours(a->cfg, req))
        admin_reply_error(req, 403, "bad_host", "admin.hosts does not name this Host");
    else if (role == ROLE_NONE)
        admin_reply_error(req, 401, "unauthorized", "this listener needs Authorization: Bearer");
    else if (role == ROLE_READ && m != METHOD_GET && m != METHOD_HEAD)
        admin_reply_error(req, 403, "read_only", "this token may only read");
    else
        return true;
    return false;
}
