/* SPDX-License-Identifier: Apache-2.0 */
/* Settings of the Redis sink, and what the errors of a server mean. */
#include <string.h>

#include "room.h"

#define F(m) offsetof(struct sink_redis_cfg, m)

const struct cfg_key *sink_redis_keys(void)
{
    static const struct cfg_key trim[] = {
        { "maxlen", CFG_INT, offsetof(struct sink_trim, maxlen), "0",
          .help = "Keep about this many entries." },
        { "maxage", CFG_MSEC, offsetof(struct sink_trim, maxage_ms), "0",
          .help = "Keep entries about this long." },
        { "consumed", CFG_BOOL, offsetof(struct sink_trim, consumed), "false",
          .help = "Keep what a consumer group still needs." },
        { 0 }
    };
    static const struct cfg_key tls[] = {
        { "ca", CFG_STR, offsetof(struct sink_redis_tls, ca),
          .help = "PEM file of the authorities; default the system's." },
        { "cert", CFG_STR, offsetof(struct sink_redis_tls, cert),
          .help = "PEM file of our own certificate, where the server asks for one." },
        { "key", CFG_STR, offsetof(struct sink_redis_tls, key), .help = "PEM file of its key." },
        { 0 }
    };
    static const struct cfg_key keys[] = {
        { "url", CFG_STR, F(url), "redis://127.0.0.1:6379/0",
          .help = "`redis://host:port/db`, `rediss://` with TLS, `unix:/path`, "
                  "`redis+sentinel://host:port,host:port/name/db` (a login in it is for the "
                  "sentinels), `redis+cluster://host:port,host:port`; both also with `rediss+`." },
        { "user", CFG_STR, F(user), .help = "ACL user." },
        { "password", CFG_SECRET, F(password), .help = "Password of the user, or of the server." },
        { "stream", CFG_STR, F(stream), "hooks:{source}",
          .help = "Name of the stream; `{source}`, `{type}`, `{subject}`, `{id}`; `{{tag}}` writes "
                  "a literal `{tag}`." },
        { "trim", CFG_SECTION, F(trim), .sub = trim, .flags = CFG_MAY_BE_NONE,
          .help = "`none`, `consumed`, or one of these; approximate." },
        { "tls", CFG_SECTION, F(tls), .sub = tls, .help = "For `rediss`." },
        { 0 }
    };

    return keys;
}

void sink_redis_check(const char *name, const struct sink_redis_cfg *cfg, const struct cfg_node *at,
                      struct err_list *errs)
{
    struct redis_url u;
    const char *why;

    if (!redis_url_parse(cfg->url, &u))
        cfg_error(errs, at,
                  "sink %s: url \"%s\" is none of redis://host:port/db, unix:/path, "
                  "redis+sentinel://hosts/name, redis+cluster://hosts",
                  name, cfg->url);
    else if (!u.tls && (cfg->tls.ca || cfg->tls.cert || cfg->tls.key))
        cfg_error(errs, at, "sink %s: tls is for rediss URLs", name);
    if (!cfg->tls.cert != !cfg->tls.key)
        cfg_error(errs, at, "sink %s: tls.cert and tls.key belong together", name);
    redis_url_free(&u);
    if (!template_good(cfg->stream, &why))
        cfg_error(errs, at, "sink %s: stream \"%s\": %s", name, cfg->stream, why);
    if (!!cfg->trim.maxlen + !!cfg->trim.maxage_ms + cfg->trim.consumed > 1)
        cfg_error(errs, at, "sink %s: trim takes one of maxlen, maxage and consumed", name);
}

/* Inside scripts and between versions the texts vary: what stands here is compared up to the next
 * word. The longer of two that fit stands first. */
static const struct redis_error known[] = {
    { "LOADING", REDIS_PASSES, "the server is loading its data" },
    { "BUSY", REDIS_PASSES, "a script is running on the server" },
    { "MASTERDOWN", REDIS_PASSES, "the replica has lost its master" },
    { "TRYAGAIN", REDIS_PASSES, "slots are moving" },
    { "CLUSTERDOWN", REDIS_PASSES, "the cluster is down" },
    { "NOSCRIPT", REDIS_PASSES, "the script is loaded again" },
    { "GAP", REDIS_PASSES, "a call before was refused" },
    { "MARK", REDIS_PASSES, "what was kept beside the stream has changed" },
    { "OOM", REDIS_BLOCKS, "raise maxmemory or trim the stream" },
    { "READONLY", REDIS_BLOCKS, "this is a replica; point the sink at the master" },
    { "MISCONF", REDIS_BLOCKS, "the server cannot persist; see its log" },
    { "NOREPLICAS", REDIS_BLOCKS, "too few replicas are connected" },
    { "NOAUTH", REDIS_BLOCKS, "set user and password" },
    { "WRONGPASS", REDIS_BLOCKS, "check user and password" },
    { "NOPERM this user has no permissions to access one of the keys", REDIS_KEY,
      "grant this user the stream's key" },
    { "NOPERM No permissions to access a key", REDIS_KEY, /* newer servers */
      "grant this user the stream's key" },
    { "NOPERM", REDIS_BLOCKS, "grant XADD on the stream to this user" },
    { "WRONGTYPE", REDIS_KEY, "the key exists and is no stream; rename or delete it" },
    { "MOVED", REDIS_BLOCKS, "this is a cluster; use redis+cluster://" },
    { "ASK", REDIS_PASSES, "slots are moving" },
    { "CROSSSLOT", REDIS_KEY, "use {{tag}} in the stream's name" },
    { "ERR Protocol error", REDIS_POISONS, "the server takes no value as large as this" },
    { "ERR string exceeds maximum allowed size", REDIS_POISONS, "the value is too large" },
    { "ERR max number of clients", REDIS_PASSES, "the server has no room for another client" },
};

/* What is not known blocks: nothing is lost by it, and somebody is told. */
static const struct redis_error unknown = { "", REDIS_BLOCKS, "see the server's documentation" };

/* Without what scripts of servers before Redis 7 put before it: "@user_script:12: " and a dash. */
const char *redis_error_core(const char *text)
{
    const char *script;

    while ((script = strstr(text, "@user_script:"))) {
        const char *p = script + strlen("@user_script:");
        p += strspn(p, " ");
        p += strspn(p, "0123456789");
        if (*p != ':')
            break;
        text = p + strspn(p, ": ");
        text += *text == '-';
    }
    return text;
}

const struct redis_error *redis_error_of(const char *text)
{
    text = redis_error_core(text);
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        size_t n = strlen(known[i].start);
        if (!strncmp(text, known[i].start, n) && !strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZ", text[n]))
            return &known[i];
        if (!strncmp(text, known[i].start, n) && !text[n])
            return &known[i];
    }
    return &unknown;
}
