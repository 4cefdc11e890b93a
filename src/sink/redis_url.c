/* SPDX-License-Identifier: Apache-2.0 */
/* unix:/path, redis://[user[:password]@]host[:port][/db], rediss:// with TLS,
 * redis+sentinel://[login@]host[:port],host/name[/db], redis+cluster://[login@]host[:port],host;
 * the latter two with rediss+ as well. IPv6 addresses in brackets. */
#include <string.h>

#include "room.h"

static const struct scheme {
    const char *text;
    enum redis_kind kind;
    int port;
    bool tls;
} schemes[] = {
    { "redis://", REDIS_ONE, 6379, false },
    { "rediss://", REDIS_ONE, 6379, true },
    { "redis+sentinel://", REDIS_SENTINEL, 26379, false },
    { "rediss+sentinel://", REDIS_SENTINEL, 26379, true },
    { "redis+cluster://", REDIS_CLUSTER, 6379, false },
    { "rediss+cluster://", REDIS_CLUSTER, 6379, true },
};

void redis_host_free(struct redis_host *h)
{
    free(h->host);
    free(h->path);
    *h = (struct redis_host){ .port = 0 };
}

void redis_url_free(struct redis_url *u)
{
    for (size_t i = 0; i < u->n; i++)
        redis_host_free(&u->hosts[i]);
    free(u->hosts);
    free(u->user);
    free(u->password);
    free(u->name);
    *u = (struct redis_url){ .db = 0 };
}

static void take_login(struct redis_url *out, struct span *rest)
{
    const char *at = rest->n ? memrchr(rest->p, '@', rest->n) : NULL;
    struct span login, user;

    if (!at)
        return;
    login = span_of(rest->p, (size_t)(at - rest->p));
    *rest = span_of(at + 1, rest->n - login.n - 1);
    user = span_cut(&login, ':');
    out->user = user.n ? span_dup(user) : NULL;
    out->password = login.p ? span_dup(login) : NULL;
}

static bool take_number(struct span s, uint64_t most, int *out)
{
    uint64_t v;

    if (!span_u64(s, &v) || v > most)
        return false;
    *out = (int)v;
    return true;
}

bool redis_host_parse(struct span s, int default_port, struct redis_host *out)
{
    const char *close = s.n && s.p[0] == '[' ? memchr(s.p, ']', s.n) : NULL;
    struct span host, port;

    *out = (struct redis_host){ .port = default_port };
    if (close) {
        host = span_of(s.p + 1, (size_t)(close - s.p) - 1);
        port = span_of(close + 1, s.n - host.n - 2);
        if (port.n && port.p[0] != ':')
            return false;
        port = port.n ? span_of(port.p + 1, port.n - 1) : SPAN_NONE;
    } else {
        host = span_cut(&s, ':');
        port = s;
    }
    if (!host.n || (port.p && !take_number(port, 65535, &out->port)))
        return false;
    out->host = span_dup(host);
    return true;
}

static bool take_hosts(struct redis_url *out, struct span list, int port)
{
    do {
        struct redis_host host;
        if (!redis_host_parse(span_cut(&list, ','), port, &host))
            return false;
        out->hosts = xrealloc(out->hosts, (out->n + 1) * sizeof *out->hosts);
        out->hosts[out->n++] = host;
    } while (list.p);
    return out->n == 1 || out->kind != REDIS_ONE;
}

static bool parse(const struct scheme *scheme, struct span rest, struct redis_url *out)
{
    struct span hosts, name;

    out->kind = scheme->kind;
    out->tls = scheme->tls;
    take_login(out, &rest);
    hosts = span_cut(&rest, '/');
    if (out->kind == REDIS_SENTINEL) {
        name = span_cut(&rest, '/');
        if (!name.n)
            return false;
        out->name = span_dup(name);
    }
    if (rest.n && (out->kind == REDIS_CLUSTER || !take_number(rest, 1u << 20, &out->db)))
        return false;
    return take_hosts(out, hosts, scheme->port);
}

bool redis_url_parse(const char *text, struct redis_url *out)
{
    struct span url = span_str(text);

    *out = (struct redis_url){ .db = 0 };
    if (span_starts(url, S("unix:/"))) {
        out->hosts = xcalloc(1, sizeof *out->hosts);
        out->hosts[out->n++].path = xstrdup(text + 5);
        return true;
    }
    for (size_t i = 0; i < ARRAY_LEN(schemes); i++) {
        struct span scheme = span_str(schemes[i].text);
        if (span_starts(url, scheme))
            return parse(&schemes[i], span_of(url.p + scheme.n, url.n - scheme.n), out);
    }
    return false;
}
