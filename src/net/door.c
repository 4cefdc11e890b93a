/* SPDX-License-Identifier: Apache-2.0 */
/* The settings of a listener, and what they become. Main thread. */
#include <string.h>

#include "room.h"

#define T(m) offsetof(struct net_tls_cfg, m)
#define L(m) offsetof(struct net_listen_cfg, m)

const struct cfg_key *net_tls_keys(void)
{
    static const char *const words[] = { "required", "optional", NULL };
    static const struct cfg_key keys[] = {
        { "cert", CFG_STRS, T(cert), .flags = CFG_RELOAD | CFG_REQUIRED | CFG_FILE,
          .help =
              "Certificate with its chain, in PEM; a list where there are several: a client gets "
              "the first that is good for the name it asks for, else the first." },
        { "key", CFG_STRS, T(key), .flags = CFG_RELOAD | CFG_REQUIRED | CFG_FILE,
          .help = "Its private key, in PEM without a password; a list in the order of `cert`." },
        { "client_ca", CFG_STR, T(client_ca), .flags = CFG_RELOAD | CFG_FILE,
          .help = "Who vouches for clients, in PEM; without it they are not asked for a "
                  "certificate." },
        { "client", CFG_ENUM, T(client), "required", .words = words, .flags = CFG_RELOAD,
          .help = "Whether a client must show a certificate of `client_ca`." },
        { 0 }
    };

    return keys;
}

const struct cfg_key *net_listen_keys(void)
{
    static struct cfg_key keys[] = {
        { "address", CFG_STR, L(address), .flags = CFG_REQUIRED,
          .help = "`host:port`, `[v6]:port` or `unix:/path`." },
        { "tls", CFG_OPTION, L(tls), .sub_size = sizeof(struct net_tls_cfg),
          .help = "HTTPS, TLS 1.2 and 1.3." },
        { "proxy_protocol", CFG_BOOL, L(proxy_protocol), "false", .flags = CFG_RELOAD,
          .help = "Every connection begins with a PROXY header, version 1 or 2; one without is "
                  "closed." },
        { 0 }
    };

    keys[1].sub = net_tls_keys();
    return keys;
}

int net_door_open(struct net_door *d, const struct net_tls_cfg *tls, bool proxy, struct err *e)
{
    struct tls_pair *pairs;

    *d = (struct net_door){ .proxy = proxy };
    if (!tls)
        return 0;
    if (tls->cert.n != tls->key.n)
        return err_set(e, EXIT_BAD_CONFIG, "tls: as many keys as certificates are expected");
    pairs = xcalloc(tls->cert.n + 1, sizeof *pairs);
    for (size_t i = 0; i < tls->cert.n; i++)
        pairs[i] = (struct tls_pair){ tls->cert.v[i], tls->key.v[i] };
    d->tls = tls_server_new(pairs, tls->cert.n, tls->client_ca, (enum tls_client)tls->client, e);
    free(pairs);
    return d->tls ? 0 : err_wrap(e, "tls");
}

void net_door_close(struct net_door *d)
{
    tls_server_free(d->tls);
    *d = (struct net_door){ .tls = NULL };
}

void net_door_metrics(const struct net_door *d, const struct net_tls_cfg *tls, const char *address,
                      struct buf *out)
{
    for (size_t i = 0; d->tls && i < tls->cert.n; i++)
        metrics_value(out, "hookline_tls_certificate_expiry_timestamp_seconds",
                      (double)tls_server_expiry(d->tls, i), "listen", address, "file",
                      tls->cert.v[i], NULL);
}

const char *net_handshake_name(enum net_handshake h)
{
    static const char *const names[] = { [HANDSHAKE_DONE] = "done",
                                         [HANDSHAKE_RESUMED] = "resumed",
                                         [HANDSHAKE_FAILED] = "failed",
                                         [HANDSHAKE_TIMEOUT] = "timeout",
                                         [HANDSHAKE_PROXY] = "proxy" };

    return names[h];
}

uint64_t net_handshakes(const struct net_server *s, enum net_handshake which)
{
    return counter_get(&s->handshakes[which]);
}
