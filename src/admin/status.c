/* SPDX-License-Identifier: Apache-2.0 */
/* /status and /metrics: what the rooms know, put together. */
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "clock.h"
#include "room.h"

static void log_json(const struct admin_view *v, struct buf *b)
{
    struct wal_info i;

    if (!v->wal) {
        buf_adds(b, "{\"state\":\"recovering\"}");
        return;
    }
    wal_info(v->wal, &i);
    buf_printf(b, "{\"id\":\"%s\",\"dir\":", i.id);
    buf_json_string(b, span_str(i.dir));
    buf_printf(b,
               ",\"state\":\"%s\",\"first_lsn\":%llu,\"last_lsn\":%llu,\"durable_lsn\":%llu,"
               "\"bytes\":%llu,"
               "\"segments\":%llu,\"free_bytes\":%llu,\"damage\":",
               i.state, (unsigned long long)i.first_lsn, (unsigned long long)i.last_lsn,
               (unsigned long long)i.durable_lsn, (unsigned long long)i.bytes,
               (unsigned long long)i.segments, (unsigned long long)i.free_bytes);
    wal_damage_json(v->wal, b);
    buf_addc(b, '}');
}

void admin_status(struct admin *a, struct net_request *req)
{
    const struct admin_view *v = a->view;
    char loaded[CLOCK_TEXT_MAX];
    struct buf b = BUF_INIT;

    buf_printf(&b, "{\"version\":\"%s\",\"uptime_seconds\":%lld,\"config\":{\"file\":",
               HOOKLINE_VERSION, (long long)(clock_mono_ms() - a->started_ms) / 1000);
    buf_json_string(&b, span_str(v->config_file));
    buf_printf(&b, ",\"loaded_at\":\"%s\",\"reload_ok\":%s",
               clock_text(v->config_loaded_ms, loaded), v->config_ok ? "true" : "false");
    if (!v->config_ok) {
        buf_printf(&b, ",\"failed_at\":\"%s\",\"error\":", clock_text(v->config_failed_ms, loaded));
        buf_json_string(&b, span_str(v->config_error));
    }
    buf_adds(&b, "},\"log\":");
    log_json(v, &b);
    buf_adds(&b, ",\"sources\":");
    if (v->intake)
        intake_status(v->intake, &b);
    else
        buf_adds(&b, "{}");
    buf_adds(&b, ",\"sinks\":{");
    for (size_t i = 0; i < v->sinks_n; i++) {
        buf_adds(&b, i ? "," : "");
        buf_json_string(&b, span_str(v->sink_names[i]));
        buf_addc(&b, ':');
        delivery_status(v->sinks[i], &b);
    }
    buf_addc(&b, '}');
    if (v->intake) {
        size_t before = b.n;
        buf_adds(&b, ",\"dedup\":");
        if (!intake_dedup_status(v->intake, &b))
            b.n = before;
    }
    if (v->jobs) {
        buf_adds(&b, ",\"jobs\":");
        jobs_status(v->jobs, &b);
    }
    if (v->keys) {
        buf_adds(&b, ",\"keys\":");
        keys_status(v->keys, &b);
    }
    buf_adds(&b, "}\n");
    admin_reply(req, 200, "application/json", &b);
    buf_free(&b);
}

static void one(struct buf *b, const char *name, const char *type, const char *help, double v)
{
    metrics_head(b, name, type, help);
    metrics_value(b, name, v, NULL);
}

static double resident_bytes(void)
{
    FILE *f = fopen("/proc/self/statm", "re");
    unsigned long long all, resident = 0;

    if (f && fscanf(f, "%llu %llu", &all, &resident) != 2)
        resident = 0;
    if (f)
        fclose(f);
    return (double)resident * (double)sysconf(_SC_PAGESIZE);
}

static double open_fds(void)
{
    DIR *d = opendir("/proc/self/fd");
    double n = -3; /* . and .. and the folder itself */

    if (!d)
        return 0;
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

static void process(struct admin *a, struct buf *b)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    one(b, "process_start_time_seconds", "gauge", "When the process started, since the epoch.",
        (double)(clock_wall_ms() - (clock_mono_ms() - a->started_ms)) / 1e3);
    one(b, "process_cpu_seconds_total", "counter", "User and system time spent.",
        (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
            (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6);
    one(b, "process_resident_memory_bytes", "gauge", "Resident memory.", resident_bytes());
    one(b, "process_open_fds", "gauge", "Open descriptors.", open_fds());
}

static void certificates(struct admin *a, struct buf *b)
{
    const struct admin_view *v = a->view;

    metrics_head(b, "hookline_tls_certificate_expiry_timestamp_seconds", "gauge",
                 "When the certificate of a listener ends, since the epoch.");
    for (size_t i = 0; v->listen && i < v->listen->n; i++) {
        const struct net_listen_cfg *l = v->listen->v[i];
        net_door_metrics(&v->doors[i], l->tls, l->address, b);
    }
    net_door_metrics(a->door, a->cfg->tls, a->cfg->listen, b);
}

void admin_metrics(struct admin *a, struct net_request *req)
{
    const struct admin_view *v = a->view;
    struct buf b = BUF_INIT;

    metrics_head(&b, "hookline_build_info", "gauge", "The running version.");
    metrics_value(&b, "hookline_build_info", 1, "version", HOOKLINE_VERSION, NULL);
    process(a, &b);
    one(&b, "hookline_config_reload_success", "gauge",
        "1 when the last load of the configuration was good.", v->config_ok);
    one(&b, "hookline_config_reload_timestamp_seconds", "gauge",
        "When the configuration was last loaded.", (double)v->config_loaded_ms / 1e3);
    certificates(a, &b);
    if (v->wal)
        wal_metrics(v->wal, &b);
    if (v->intake)
        intake_metrics(v->intake, &b);
    if (v->access)
        access_metrics(v->access, &b);
    if (v->otlp)
        otlp_metrics(v->otlp, &b);
    if (v->keys)
        keys_metrics(v->keys, &b);
    if (v->jobs)
        jobs_metrics(v->jobs, &b);
    delivery_metrics(v->sinks, v->sinks_n, &b);
    admin_reply(req, 200, "text/plain; version=0.0.4; charset=utf-8", &b);
    buf_free(&b);
}
