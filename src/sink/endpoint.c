/* SPDX-License-Identifier: Apache-2.0 */
/* The URL of a Redis for others than the sink: one server, without TLS. */
#include "room.h"

bool sink_endpoint(const char *url, struct sink_endpoint *out)
{
    struct redis_url u;
    bool good = redis_url_parse(url, &u) && u.kind == REDIS_ONE && !u.tls;

    *out = (struct sink_endpoint){ .db = u.db };
    if (good) {
        *out = (struct sink_endpoint){ u.hosts->host, u.hosts->path, u.user,
                                       u.password,    u.hosts->port, u.db };
        u.hosts->host = u.hosts->path = u.user = u.password = NULL;
    }
    redis_url_free(&u);
    return good;
}

void sink_endpoint_free(struct sink_endpoint *at)
{
    free(at->host);
    free(at->path);
    free(at->user);
    free(at->password);
    *at = (struct sink_endpoint){ .port = 0 };
}
