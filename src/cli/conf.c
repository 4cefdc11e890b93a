/* SPDX-License-Identifier: Apache-2.0 */
#include "conf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define F(m) offsetof(struct conf, m)

const struct cfg_key *conf_keys(void)
{
    static const struct cfg_key shutdown[] = {
        { "delay", CFG_MSEC, 0, "5s", .flags = CFG_RELOAD,
          .help = "After SIGTERM requests are still taken this long, while /readyz says 503." },
        { "timeout", CFG_MSEC, sizeof(int64_t), "25s", .flags = CFG_RELOAD,
          .help = "Then waiting requests and sinks' acknowledgements get this long." },
        { 0 }
    };
    static struct cfg_key keys[] = {
        { "listen", CFG_STRS, F(listen), "0.0.0.0:8080",
          .help = "Addresses for senders: `host:port`, `[v6]:port`, `unix:/path`; one or a list." },
        { "admin", CFG_SECTION, F(admin), .help = "Health, metrics, status, events." },
        { "log", CFG_SECTION, F(log), .help = "The write-ahead log." },
        { "threads", CFG_INT, F(threads), "0", 0, 64,
          .help = "Intake threads; 0: as many cores as affinity and quota give." },
        { "limits", CFG_SECTION, F(limits), .help = "What one sender, and all together, may use." },
        { "shutdown", CFG_SECTION, F(shutdown), .sub = shutdown, .help = "The way down." },
        { "dedup", CFG_SECTION, F(dedup), .help = "Recognising repeats." },
        { "sources", CFG_NAMED, F(sources), .flags = CFG_RELOAD, .help = "Who sends." },
        { "sinks", CFG_NAMED, F(sinks), .sub_size = sizeof(struct sink_cfg),
          .help = "Where events go; without one the log is the queue." },
        { "jobs", CFG_SECTION, F(jobs), .help = "What is known of jobs, and who waits for them." },
        { "retired_sinks", CFG_STRS, F(retired_sinks),
          .help = "Sinks that were taken out; their backlog goes to their dead letters." },
        { 0 }
    };

    keys[1].sub = admin_cfg_keys();
    keys[2].sub = wal_cfg_keys();
    keys[4].sub = intake_limits_keys();
    keys[6].sub = wal_dedup_keys();
    keys[7].sub = source_cfg_keys();
    keys[7].sub_size = source_cfg_size();
    keys[8].sub = sink_cfg_keys();
    keys[9].sub = jobs_cfg_keys();
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
static bool is_public(const struct cfg_strs *listen)
{
    static const char *const own[] = { "unix:", "127.", "[::1]:", "localhost:" };

    for (size_t i = 0; i < listen->n; i++) {
        bool local = false;
        for (size_t k = 0; k < ARRAY_LEN(own); k++)
            local |= !strncmp(listen->v[i], own[k], strlen(own[k]));
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

    in->limits = c->limits;
    in->plans = xcalloc(c->sources.n + 1, sizeof(struct source_plan *));
    in->stats = xcalloc(c->sources.n + 1, sizeof(struct source_stats *));
    c->max_body = c->limits.body_bytes;
    for (size_t i = 0; i < c->sources.n; i++) {
        const struct cfg_node *at = entry(root, "sources", c->sources.name[i]);
        struct source_plan *p = source_compile(c->sources.name[i], c->sources.v[i], at,
                                               c->dedup.window_ms, errs, warns);
        if (!p)
            continue;
        for (size_t k = 0; k < in->n; k++)
            if (source_match_path(in->plans[k], span_str(source_info(p)->path), &token))
                cfg_error(errs, at, "path %s belongs to source %s already", source_info(p)->path,
                          source_info(in->plans[k])->name);
        warn_of_source(c, source_info(p), at, warns);
        c->max_body = MAX(c->max_body, source_info(p)->body_bytes);
        in->plans[in->n] = p;
        in->stats[in->n++] = source_stats_get(c->sources.name[i]);
    }
    if (!c->sources.n)
        cfg_error(errs, root, "sources is missing: nobody could send anything");
}

static void check_all(struct conf *c, const struct cfg_node *root, struct err_list *errs,
                      struct err_list *warns)
{
    const struct cfg_node *log = cfg_find(root, "log");

    compile_sources(c, root, errs, warns);
    jobs_check(&c->jobs, cfg_find(root, "jobs") ? cfg_find(root, "jobs") : root, errs);
    admin_check(&c->admin, cfg_find(root, "admin") ? cfg_find(root, "admin") : root, errs);
    for (size_t i = 0; i < c->sinks.n; i++)
        sink_check(c->sinks.name[i], c->sinks.v[i], entry(root, "sinks", c->sinks.name[i]),
                   c->max_body, errs, warns);
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
    for (size_t i = 0; i < c->intake.n; i++)
        source_plan_free(c->intake.plans[i]);
    free(c->intake.plans);
    free(c->intake.stats);
    free(c->intake.gates);
    cfg_release(conf_keys(), c);
    free(c->file);
    free(c);
}

void conf_complain(const struct err_list *errs, const char *prefix)
{
    for (size_t i = 0; i < errs->n; i++)
        fprintf(stderr, "%s%s\n", prefix, errs->line[i]);
}
