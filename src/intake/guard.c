/* SPDX-License-Identifier: Apache-2.0 */
/* Who may send at all, and how much. Addresses, client certificates and the rate of a network are
 * looked at when the head is there, before a byte of the body is read; the rate of a source counts
 * only what is genuine, so that a stranger cannot use it up. */
#include <netinet/in.h>
#include <string.h>

#include "clock.h"
#include "room.h"

#define P(m) offsetof(struct intake_proxies_cfg, m)

const struct cfg_key *intake_proxies_keys(void)
{
    static const char *const words[] = { "x-forwarded-for", "forwarded", "none", NULL };
    static const struct cfg_key keys[] = {
        { "trusted", CFG_STRS, P(trusted), .flags = CFG_RELOAD,
          .help = "Addresses and networks of our own proxies; `unix`: whoever comes over a Unix "
                  "socket. What they say of the sender's address counts, and with "
                  "`proxy_protocol` nobody else may connect." },
        { "header", CFG_ENUM, P(header), "x-forwarded-for", .words = words, .flags = CFG_RELOAD,
          .help = "Where they say it. It must be the header that they set: the other is passed on "
                  "as the sender wrote it." },
        { 0 }
    };

    return keys;
}

static bool is_kind(struct span name)
{
    static const char *const kinds[] = { "dns:", "uri:", "email:", "cn:" };

    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (span_starts(name, span_str(kinds[i])) && name.n > strlen(kinds[i]))
            return true;
    return false;
}

int intake_guard_init(struct intake_guard *g, const struct source_info *info, struct err *e)
{
    *g = (struct intake_guard){ .names = info->client_names,
                                .rate = (uint64_t)info->rate,
                                .burst = (uint64_t)info->burst };
    for (size_t i = 0; i < g->names.n; i++)
        if (!is_kind(span_str(g->names.v[i])))
            return err_set(
                e, EXIT_BAD_CONFIG,
                "client_names: \"%s\" begins with none of dns:, uri:, email:, cn:", g->names.v[i]);
    if (address_nets_init(&g->allow, &info->allow, e))
        return err_wrap(e, "allow");
    return 0;
}

void intake_guard_close(struct intake_guard *g)
{
    address_nets_close(&g->allow);
}

void guard_peer(const struct intake_thread *t, const struct net_request *req, struct net_peer *out)
{
    const struct intake_proxies *p = &t->conf->proxies;

    net_peer(req, out);
    if (p->trusted.n)
        address_behind_proxies(&req->http, req->bytes, &p->trusted, p->header, out);
}

static bool has_name(const struct cfg_strs *patterns, struct span names)
{
    while (names.n) {
        struct span name = span_cut(&names, 0);
        for (size_t i = 0; name.n && i < patterns->n; i++)
            if (span_glob(span_str(patterns->v[i]), name))
                return true;
    }
    return false;
}

/* VERDICT_OK when this peer may send to this source. */
static enum verdict may_send(const struct intake_guard *g, const struct net_request *req,
                             const struct net_peer *p)
{
    if (g->allow.n && !address_in(&g->allow, p))
        return VERDICT_ADDRESS;
    if (g->names.n && !has_name(&g->names, net_client_names(req)))
        return VERDICT_CLIENT_CERTIFICATE;
    return VERDICT_OK;
}

static bool network_is_full(struct intake_thread *t, const struct net_peer *p)
{
    const struct intake_network_cfg *n = &t->conf->limits.per_network;
    struct net_prefixes prefixes = { (uint8_t)n->ipv4_prefix, (uint8_t)n->ipv6_prefix };

    return !rate_take(rate_table_find(t->in->networks, p, &prefixes), (uint64_t)n->rate,
                      (uint64_t)(n->burst ? n->burst : n->rate * 10), clock_mono_us());
}

enum http_error guard_head(struct intake_thread *t, struct net_request *req,
                           const struct intake_guard *g, enum verdict *why)
{
    struct net_peer p;

    *why = VERDICT_OK;
    if (!t->conf->limits.per_network.rate && !g->allow.n && !g->names.n)
        return HTTP_ERR_NONE;
    guard_peer(t, req, &p);
    if (t->conf->limits.per_network.rate && network_is_full(t, &p))
        return HTTP_ERR_RATE_LIMITED;
    *why = may_send(g, req, &p);
    return *why == VERDICT_OK ? HTTP_ERR_NONE : HTTP_ERR_BAD_SIGNATURE;
}

bool guard_rate(const struct intake_guard *g, struct rate_bucket *bucket)
{
    return !g->rate || rate_take(bucket, g->rate, g->burst, clock_mono_us());
}
