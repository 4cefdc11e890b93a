/* SPDX-License-Identifier: Apache-2.0 */
/* The URL of a Redis for others than the sink. */
#include "room.h"

bool sink_endpoint(const char *url, struct sink_endpoint *out)
{
    struct redis_url u;
    bool good = redis_url_parse(url, &u);

    *out = (struct sink_endpoint){ u.host, u.path, u.user, u.password, u.port, u.db };
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
