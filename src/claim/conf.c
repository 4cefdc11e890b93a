/* SPDX-License-Identifier: Apache-2.0 */
#include "room.h"

#define F(m) offsetof(struct claim_cfg, m)

const struct cfg_key *claim_cfg_keys(void)
{
    static const struct cfg_key keys[] = {
        { "redis", CFG_STR, F(redis), "",
          .help = "Where several replicas behind one load balancer claim ids, so that a repeat may "
                  "reach any of them: `redis://host:port/db` or `unix:/path`." },
        { "redis_user", CFG_STR, F(user), .help = "ACL user there." },
        { "redis_password", CFG_SECRET, F(password),
          .help = "Password of the user, or of the server." },
        { 0 }
    };

    return keys;
}

void claim_check(const struct claim_cfg *cfg, const struct cfg_node *at, struct err_list *errs)
{
    struct sink_endpoint to;

    if (!cfg->redis[0])
        return;
    if (!sink_endpoint(cfg->redis, &to))
        cfg_error(errs, at, "dedup.redis: \"%s\" is not redis://host:port/db or unix:/path",
                  cfg->redis);
    sink_endpoint_free(&to);
}
