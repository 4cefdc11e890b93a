/* SPDX-License-Identifier: Apache-2.0 */
#include "conf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "log.h"

#define F(m) offsetof(struct conf, m)

static struct cfg_key *join(struct cfg_key *keys, const char *name, const struct cfg_key *sub)
{
    while (strcmp(keys->name, name) != 0)
        keys++;
    keys->sub = sub;
    return keys;
}

/* The section belongs to two rooms. */
static const struct cfg_key *dedup_keys(void)
{
    static struct cfg_key keys[8];
    size_t n = 0;

    for (const struct cfg_key *k = wal_dedup_keys(); k->name; k++)
        keys[n++] = *k;
    for (const struct cfg_key *k = claim_cfg_keys(); k->name; k++, n++) {
        keys[n] = *k;
        keys[n].offset += offsetof(struct conf, dedup.claim) - offsetof(struct conf, dedup);
    }
    return keys;
}

#define L(m) (F(logging.m) - F(logging))

/* Of base and of the access log; base knows no tables. */
static const struct cfg_key *logging_keys(void)
{
    static struct cfg_key keys[8] = {
        { "level", CFG_ENUM, L(level), "info", .flags = CFG_RELOAD,
          .help = "The least that is written to stderr; `PUT /v1/log-level` changes it until the "
                  "next reload." },
        { "format", CFG_ENUM, L(format), "text", .flags = CFG_RELOAD,
          .help = "How lines on stderr look." },
    };
    size_t n = 2;

    keys[0].words = log_level_words();
    keys[1].words = log_format_words();
    for (const struct cfg_key *k = access_cfg_keys(); k->name; k++, n++) {
        keys[n] = *k;
        keys[n].offset += L(access);
    }
    return keys;
}

static const struct cfg_key *shutdown_keys(void)
{
    static const struct cfg_key keys[] = {
        { "delay", CFG_MSEC, 0, "5s", .flags = CFG_RELOAD,
          .help = "After SIGTERM requests are still taken this long, while /readyz says 503." },
        { "timeout", CFG_MSEC, sizeof(int64_t), "25s", .flags = CFG_RELOAD,
          .help = "Then waiting requests and sinks' acknowledgements get this long." },
        { 0 }
    };

    return keys;
}

static const struct cfg_key *process_keys(void)
{
    static const char *const sandbox_words[] = { "auto", "strict", "off", NULL };
    static const struct cfg_key keys[] = {
        { "sandbox", CFG_ENUM, F(process.sandbox) - F(process), "auto", .words = sandbox_words,
          .help =
              "Landlock. `auto`: where the kernel has it, nothing is written but in the folders "
              "of the log and of our Unix sockets, and no program is run. `strict`: also nothing "
              "is read but in the system's folders and those of the files that this "
              "configuration names, and without Landlock it does not start." },
        { "core_dumps", CFG_BOOL, F(process.core_dumps) - F(process), "false",
          .help = "Whether a crash may leave a core file, with all secrets in it." },
        { "user", CFG_STR, F(process.user) - F(process),
          .help = "Started as root, it becomes this user for good, once this file, secrets and "
                  "private keys are read and all addresses bound." },
        { 0 }
    };

    return keys;
}

const struct cfg_key *conf_keys(void)
{
    static const char *const reload_words[] = { "watch", "signal", NULL };
    static struct cfg_key keys[] = {
        { "listen", CFG_LIST, F(listen), "0.0.0.0:8080", .sub_size = sizeof(struct net_listen_cfg),
          .help = "Where senders connect; one or a list. An address alone is enough." },
        { "admin", CFG_SECTION, F(admin), .help = "Health, metrics, status, events." },
        { "log", CFG_SECTION, F(log), .help = "The write-ahead log." },
        { "threads", CFG_INT, F(threads), "0", 0, 64,
          .help = "Intake threads; 0: as many cores as affinity and quota give." },
        { "limits", CFG_SECTION, F(limits), .help = "What one sender, and all together, may use." },
        { "proxies", CFG_SECTION, F(proxies), .help = "Our own, before us." },
        { "shutdown", CFG_SECTION, F(shutdown), .help = "The way down." },
        { "dedup", CFG_SECTION, F(dedup), .help = "Recognising repeats." },
        { "sources", CFG_NAMED, F(sources), .flags = CFG_RELOAD, .help = "Who sends." },
        { "sinks", CFG_NAMED, F(sinks), .sub_size = sizeof(struct sink_cfg),
          .help = "Where events go; without one the log is the queue." },
        { "reload", CFG_ENUM, F(reload), "watch", .words = reload_words, .flags = CFG_RELOAD,
          .help =
              "`watch`: this file, and the files of secrets and certificates that it names, are "
              "looked at now and then, and applied when what they hold has changed; `signal`: "
              "only on SIGHUP." },
        { "reload_interval", CFG_MSEC, F(reload_interval_ms), "10s", 100, 3600000,
          .flags = CFG_RELOAD, .help = "How often they are looked at." },
        { "process", CFG_SECTION, F(process), .help = "What the process gives up." },
        { "jobs", CFG_SECTION, F(jobs), .help = "What is known of jobs, and who waits for them." },
        { "logging", CFG_SECTION, F(logging), .help = "Lines on stderr, and the access log." },
        { "tracing", CFG_SECTION, F(tracing), .help = "W3C Trace Context, and OpenTelemetry." },
        { "retired_sinks", CFG_STRS, F(retired_sinks),
          .help = "Sinks that were taken out; their backlog goes to their dead letters." },
        { 0 }
    };

    join(keys, "listen", net_listen_keys());
    join(keys, "admin", admin_cfg_keys());
    join(keys, "log", wal_cfg_keys());
    join(keys, "limits", intake_limits_keys());
    join(keys, "proxies", intake_proxies_keys());
    join(keys, "shutdown", shutdown_keys());
    join(keys, "dedup", dedup_keys());
    join(keys, "sources", source_cfg_keys())->sub_size = source_cfg_size();
    join(keys, "sinks", sink_cfg_keys());
    join(keys, "process", process_keys());
    join(keys, "jobs", jobs_cfg_keys());
    join(keys, "logging", logging_keys());
    join(keys, "tracing", otlp_cfg_keys());
    return keys;
}

static bool read_file(const char *file, struct buf *out, struct err_list *errs)
{
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    char piece[65536];
    ssize_t n = -1;

    while (fd >= 0 && out->n < (4u << 20) && (n = read(fd, piece, sizeof piece)) > 0)
        buf_add(out, piece, (size_t)n);
    if (fd < 0 || n < 0)
        err_list_add(errs, "%s:0: cannot be read: %s", file, strerrordesc_np(errno));
    if (fd >= 0)
        close(fd);
    return fd >= 0 && n >= 0;
}

static const struct cfg_node *entry(const struct cfg_node *root, const char *section,
                                    const char *name)
{
    const struct cfg_node *s = cfg_find(root, section), *n = cfg_find(s, name);

    return n ? n : s;
}

/* Reachable by others than this machine. */
static bool is_public(const struct cfg_list *listen)
{
    static const char *const own[] = { "unix:", "127.", "[::1]:", "localhost:" };

    for (size_t i = 0; i < listen->n; i++) {
        const struct net_listen_cfg *l = listen->v[i];
        bool local = false;
        for (size_t k = 0; k < ARRAY_LEN(own); k++)
            local |= !strncmp(l->address, own[k], strlen(own[k]));
        if (!local)
            return true;
    }
    return false;
}

/* What will hurt, though each key by itself is good. */
static void warn_of_source(const struct conf *c, const struct source_info *info,
                           const struct cfg_node *at, struct err_list *warns)
{
    uint64_t most = info->body_bytes ? info->body_bytes : c->limits.body_bytes;

    if (info->open && is_public(&c->listen))
        cfg_error(warns, at, "source %s takes whatever anybody sends, and listen is not local",
                  info->name);
    if (info->sends_bytes > most)
        cfg_error(
            warns, at,
            "source %s takes bodies up to %llu bytes, but %s sends up to %llu: those get 413; "
            "body_bytes raises it",
            info->name, (unsigned long long)most, info->provider,
            (unsigned long long)info->sends_bytes);
}

static void compile_sources(struct conf *c, const struct cfg_node *root, struct err_list *errs,
                            struct err_list *warns)
{
    struct intake_conf *in = &c->intake;
    struct span token;
    struct err e;

    in->limits = c->limits;
    in->claim = &c->dedup.claim;
    in->tracing = c->tracing.enabled ? &c->tracing : NULL;
    in->dedup_window_ms = c->dedup.index.window_ms;
    in->plans = xcalloc(c->sources.n + 1, sizeof(struct source_plan *));
    in->stats = xcalloc(c->sources.n + 1, sizeof(struct source_stats *));
    in->guards = xcalloc(c->sources.n + 1, sizeof *in->guards);
    c->max_body = c->limits.body_bytes;
    for (size_t i = 0; i < c->sources.n; i++) {
        const struct cfg_node *at = entry(root, "sources", c->sources.name[i]);
        struct source_plan *p = source_compile(c->sources.name[i], c->sources.v[i], at,
                                               c->dedup.index.window_ms, errs, warns);
        if (!p)
            continue;
        for (size_t k = 0; k < in->n; k++)
            if (source_match_path(in->plans[k], span_str(source_info(p)->path), &token))
                cfg_error(errs, at, "path %s belongs to source %s already", source_info(p)->path,
                          source_info(in->plans[k])->name);
        warn_of_source(c, source_info(p), at, warns);
        c->max_body = MAX(c->max_body, source_info(p)->body_bytes);
        e = (struct err)ERR_INIT;
        if (intake_guard_init(&in->guards[in->n], source_info(p), &e))
            cfg_error(errs, at, "%s", e.text);
        in->plans[in->n] = p;
        in->stats[in->n++] = source_stats_get(c->sources.name[i]);
    }
    if (!c->sources.n)
        cfg_error(errs, root, "sources is missing: nobody could send anything");
}

/* The certificates are read here, so that what is wrong with them rejects the whole. */
static void open_doors(struct conf *c, const struct cfg_node *root, struct err_list *errs)
{
    struct intake_conf *in = &c->intake;
    const struct cfg_node *at = cfg_find(root, "listen");
    struct err e;

    in->doors = xcalloc(c->listen.n + 1, sizeof *in->doors);
    for (size_t i = 0; i < c->listen.n; i++) {
        const struct net_listen_cfg *l = c->listen.v[i];
        e = (struct err)ERR_INIT;
        if (net_door_open(&in->doors[in->doors_n++], l->tls, l->proxy_protocol, &e))
            cfg_error(errs, at ? at : root, "listen %s: %s", l->address, e.text);
        in->doors[i].from = &in->proxies.trusted;
    }
    e = (struct err)ERR_INIT;
    if (net_door_open(&c->admin_door, c->admin.tls, false, &e))
        cfg_error(errs, cfg_find(root, "admin"), "admin: %s", e.text);
}

static void find_proxies(struct conf *c, const struct cfg_node *root, struct err_list *errs)
{
    struct err e = ERR_INIT;

    c->intake.proxies.header = (enum address_header)c->proxies.header;
    if (address_nets_init(&c->intake.proxies.trusted, &c->proxies.trusted, &e))
        cfg_error(errs, cfg_find(root, "proxies"), "proxies.trusted: %s", e.text);
}

static bool has_sink(const struct conf *c, const char *source)
{
    for (size_t i = 0; i < c->sinks.n; i++) {
        const struct sink_cfg *k = c->sinks.v[i];
        if (span_glob(span_str(k->match.source), span_str(source)))
            return true;
    }
    return false;
}

/* An answer that waits for sinks needs one to wait for, and a repeat that finds its first. */
static void check_acks(const struct conf *c, const struct cfg_node *root, struct err_list *errs,
                       struct err_list *warns)
{
    for (size_t i = 0; i < c->intake.n; i++) {
        const struct source_info *info = source_info(c->intake.plans[i]);
        const struct cfg_node *source = entry(root, "sources", info->name);
        const struct cfg_node *at = cfg_find(source, "ack") ? cfg_find(source, "ack") : source;
        if (!info->ack_broker)
            continue;
        if (!has_sink(c, info->name))
            cfg_error(errs, at, "source %s: ack: broker, but no sink takes its events", info->name);
        if (!info->dedups)
            cfg_error(warns, at,
                      "source %s: ack: broker without deduplication: what is sent again after a "
                      "broker_timeout is published again",
                      info->name);
    }
}

static void check_all(struct conf *c, const struct cfg_node *root, struct err_list *errs,
                      struct err_list *warns)
{
    const struct cfg_node *log = cfg_find(root, "log");
    struct err e = ERR_INIT;

    if (check_user(c->process.user, &e))
        cfg_error(errs, entry(root, "process", "user"), "%s", e.text);
    find_proxies(c, root, errs);
    open_doors(c, root, errs);
    compile_sources(c, root, errs, warns);
    otlp_check(&c->tracing, cfg_find(root, "tracing") ? cfg_find(root, "tracing") : root, errs);
    jobs_check(&c->jobs, cfg_find(root, "jobs") ? cfg_find(root, "jobs") : root, errs, warns);
    admin_check(&c->admin, cfg_find(root, "admin") ? cfg_find(root, "admin") : root, errs);
    for (size_t i = 0; i < c->sinks.n; i++) {
        sink_check(c->sinks.name[i], c->sinks.v[i], entry(root, "sinks", c->sinks.name[i]),
                   c->max_body, errs, warns);
        c->intake.sink_files += sink_files(c->sinks.v[i]);
    }
    check_acks(c, root, errs, warns);
    claim_check(&c->dedup.claim, entry(root, "dedup", "redis"), errs);
    if (c->max_body + c->limits.header_bytes + 65536 > c->log.segment_bytes)
        cfg_error(errs, log ? log : root,
                  "log.segment_bytes must be larger than the largest body (%llu bytes)",
                  (unsigned long long)c->max_body);
}

struct conf *conf_load(const char *file, const char *text, struct err_list *errs,
                       struct err_list *warns)
{
    struct conf *c = xcalloc(1, sizeof *c);
    struct cfg_doc *doc = NULL;
    struct buf b = BUF_INIT;
    size_t before = errs->n;

    c->file = xstrdup(file);
    if (text)
        buf_adds(&b, text);
    if (text || read_file(file, &b, errs))
        doc = cfg_parse(file, buf_as_span(&b), !text, errs);
    if (doc) {
        cfg_load(conf_keys(), cfg_root(doc), c, errs);
        if (errs->n == before)
            check_all(c, cfg_root(doc), errs, warns);
    }
    cfg_doc_free(doc);
    buf_free(&b);
    if (errs->n == before)
        return c;
    conf_free(c);
    return NULL;
}

void conf_free(struct conf *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < c->intake.n; i++) {
        intake_guard_close(&c->intake.guards[i]);
        source_plan_free(c->intake.plans[i]);
    }
    free(c->intake.guards);
    address_nets_close(&c->intake.proxies.trusted);
    free(c->intake.plans);
    free(c->intake.stats);
    free(c->intake.gates);
    for (size_t i = 0; i < c->intake.doors_n; i++)
        net_door_close(&c->intake.doors[i]);
    free(c->intake.doors);
    net_door_close(&c->admin_door);
    for (size_t i = 0; i < c->sinks.n; i++)
        sink_release(c->sinks.v[i]);
    cfg_release(conf_keys(), c);
    free(c->file);
    free(c);
}

void conf_complain(const struct err_list *errs, const char *prefix)
{
    for (size_t i = 0; i < errs->n; i++)
        log_plain(prefix, errs->line[i]);
}
