/* SPDX-License-Identifier: Apache-2.0 */
/* redis://[user[:password]@]host[:port][/db], [v6] in brackets, or unix:/path. */
#include <string.h>

#include "room.h"

void redis_url_free(struct redis_url *u)
{
    free(u->host);
    free(u->path);
    free(u->user);
    free(u->password);
    *u = (struct redis_url){ .port = 0 };
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

static bool take_host(struct redis_url *out, struct span s)
{
    const char *close = s.n && s.p[0] == '[' ? memchr(s.p, ']', s.n) : NULL;
    struct span host, port;

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
    out->host = span_dup(host);
    return host.n && (!port.p || take_number(port, 65535, &out->port));
}

bool redis_url_parse(const char *text, struct redis_url *out)
{
    struct span rest = span_str(text), where;

    *out = (struct redis_url){ .port = 6379 };
    if (span_starts(rest, S("unix:/"))) {
        out->path = xstrdup(text + 5);
        return true;
    }
    if (!span_starts(rest, S("redis://")))
        return false;
    rest = span_of(rest.p + 8, rest.n - 8);
    take_login(out, &rest);
    where = span_cut(&rest, '/');
    if (rest.n && !take_number(rest, 1u << 20, &out->db))
        return false;
    return take_host(out, where);
}
