/* SPDX-License-Identifier: Apache-2.0 */
/* Fairness among those who wait for the log, the sinks or other replicas. One thread has as many
 * seats as connections, so that who is refused is told so and does not hold a connection. Nobody
 * may have more seats than are left: one source, or one network, that takes all it can get has half
 * of them, two have a third each, and there is always room for another. */
#include <netinet/in.h>

#include "room.h"

#define SEATS_MAX 20000
#define SEATS_MIN 256 /* a few connections that send 32 requests ahead have room */
#define NETWORKS 16384

void share_start(struct intake_thread *t)
{
    t->networks_waiting = rate_places_new(NETWORKS);
}

void share_stop(struct intake_thread *t)
{
    rate_places_free(t->networks_waiting);
}

void share_configure(struct intake_thread *t, uint32_t connections)
{
    t->seats = MIN(MAX(connections, SEATS_MIN), SEATS_MAX);
}

/* A proxy of ours, or this machine, is not one sender. */
static bool is_one_sender(const struct intake_thread *t, const struct net_peer *p)
{
    return p->family != AF_UNSPEC && !address_is_local(p) &&
           !address_in(&t->conf->proxies.trusted, p);
}

bool share_take(struct intake_thread *t, const struct net_request *req, struct pending *p)
{
    const struct intake_network_cfg *n = &t->conf->limits.per_network;
    struct net_prefixes prefixes = { (uint8_t)n->ipv4_prefix, (uint8_t)n->ipv6_prefix };
    size_t taken = t->waiting_n + t->parked_n, left = t->seats - MIN(taken, t->seats);
    _Atomic uint32_t *of_source = &p->stats->part[t->number].waiting;
    struct net_peer peer;

    p->seat = -1;
    if (!left || (t->conf->n > 1 && atomic_load(of_source) >= left))
        return false;
    if (taken >= t->seats / 4) { /* before that nobody needs to be asked who he is */
        guard_peer(t, req, &peer);
        if (is_one_sender(t, &peer) &&
            (p->seat = rate_places_take(t->networks_waiting, &peer, &prefixes, (uint32_t)left)) < 0)
            return false;
    }
    atomic_fetch_add(of_source, 1);
    return true;
}

void share_give(struct intake_thread *t, struct pending *p)
{
    atomic_fetch_sub(&p->stats->part[t->number].waiting, 1);
    if (p->seat >= 0)
        rate_places_give(t->networks_waiting, p->seat);
}
