/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers come from /metrics, what is said in words (states, reasons, positions) from /status. Both
 * are read as they stand: a few kilobytes, once a second. A counter that went back belongs to a
 * bridge that was started again and counts from zero. */
#include "top.h"

#include <math.h>
#include <stdio.h>

#include "json.h"

#define BUCKETS_MAX 32
#define SINK_PATH_MAX 128

/* --- what stands in the texts
 * ------------------------------------------------------------------------------------------ */

/* One sample a call; *rest moves on. False: no more of that name. */
static bool next_sample(struct span *rest, struct span name, struct span *labels, double *value)
{
    while (rest->p) {
        struct span line = span_cut(rest, '\n');
        const char *end;
        char text[32];

        if (!span_starts(line, name) || line.n <= name.n ||
            (line.p[name.n] != '{' && line.p[name.n] != ' '))
            continue;
        end = memrchr(line.p, ' ', line.n);
        *labels = span_of(line.p + name.n, (size_t)(end - line.p) - name.n);
        snprintf(text, sizeof text, "%.*s", (int)(line.p + line.n - end - 1), end + 1);
        *value = strtod(text, NULL);
        return true;
    }
    return false;
}

/* The value of a label; empty where it is not there. */
static struct span label(struct span labels, const char *name)
{
    size_t n = strlen(name);
    const char *at = labels.p, *end = labels.p + labels.n, *quote;

    while ((at = memmem(at, (size_t)(end - at), name, n))) {
        if ((at[-1] == '{' || at[-1] == ',') && end - at > (ptrdiff_t)n + 2 && at[n] == '=') {
            at += n + 2;
            quote = memchr(at, '"', (size_t)(end - at));
            return span_of(at, quote ? (size_t)(quote - at) : 0);
        }
        at += n;
    }
    return SPAN_NONE;
}

/* The sum of a family; where `by` is given only of the samples in which that label is `of`. */
static double sum(const struct top_shot *s, struct span name, const char *by, struct span of)
{
    struct span rest = buf_as_span(&s->metrics), labels;
    double all = 0, v;

    while (next_sample(&rest, name, &labels, &v))
        if (!by || span_eq(label(labels, by), of))
            all += v;
    return all;
}

static double gauge(const struct top_shot *s, struct span name)
{
    return sum(s, name, NULL, SPAN_NONE);
}

struct looks {
    const struct top_shot *before, *now; /* before may be NULL */
};

/* What was added between the looks. */
static double added(const struct looks *l, struct span name, const char *by, struct span of)
{
    double now = sum(l->now, name, by, of), then = l->before ? sum(l->before, name, by, of) : now;

    return now < then ? now : now - then;
}

/* -1: not known yet. */
static double rate(const struct looks *l, struct span name, const char *by, struct span of)
{
    int64_t ms = l->before ? l->now->at_ms - l->before->at_ms : 0;

    return ms > 0 ? added(l, name, by, of) * 1e3 / (double)ms : -1;
}

/* As Prometheus estimates it: evenly within a bucket. -1: nothing was added. */
static double quantile(const struct looks *l, struct span buckets, double q)
{
    struct span rest = buf_as_span(&l->now->metrics), labels;
    double bound[BUCKETS_MAX], upto[BUCKETS_MAX], v, rank, low, below;
    size_t n = 0, i = 0;

    while (n < BUCKETS_MAX && next_sample(&rest, buckets, &labels, &v)) {
        struct span le = label(labels, "le");
        char text[32];
        snprintf(text, sizeof text, "%.*s", SPAN_FMT(le));
        bound[n] = strtod(text, NULL); /* also +Inf */
        upto[n++] = added(l, buckets, "le", le);
    }
    if (!n || upto[n - 1] <= 0)
        return -1;
    rank = q * upto[n - 1];
    while (i + 1 < n && upto[i] < rank)
        i++;
    low = i ? bound[i - 1] : 0;
    below = i ? upto[i - 1] : 0;
    return isinf(bound[i]) ? low : low + (bound[i] - low) * (rank - below) / (upto[i] - below);
}

static struct span word(const struct top_shot *s, const char *path)
{
    return json_find(buf_as_span(&s->status), span_str(path)).raw;
}

static struct span sink_word(const struct top_shot *s, struct span sink, const char *member)
{
    char path[SINK_PATH_MAX];

    snprintf(path, sizeof path, "sinks.%.*s.%s", SPAN_FMT(sink), member);
    return word(s, path);
}

/* --- how it is written
 * ------------------------------------------------------------------------------------------ */

static const char *per_second(double v, char out[24])
{
    if (v < 0)
        snprintf(out, 24, "-");
    else
        snprintf(out, 24, v < 99.95 && v > 0 ? "%.1f" : "%.0f", v);
    return out;
}

static const char *bytes(double v, char out[24])
{
    static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
    size_t u = 0;

    for (; v >= 1023.95 && u + 1 < ARRAY_LEN(units); u++)
        v /= 1024;
    snprintf(out, 24, u ? "%.1f %s" : "%.0f %s", v, units[u]);
    return out;
}

static const char *seconds(double v, char out[24])
{
    if (v <= 0)
        snprintf(out, 24, v < 0 ? "-" : "0 s");
    else if (v < 0.9995)
        snprintf(out, 24, "%.*f ms", v < 0.00995 ? 2 : 0, v * 1e3);
    else if (v < 120)
        snprintf(out, 24, "%.1f s", v);
    else if (v < 7200)
        snprintf(out, 24, "%.0f min", v / 60);
    else
        snprintf(out, 24, "%.1f h", v / 3600);
    return out;
}

/* Nothing that a server said reaches the terminal but printable characters. */
static void add_plain(struct buf *b, struct span s)
{
    for (size_t i = 0; i < s.n; i++)
        buf_addc(b, s.p[i] >= ' ' && s.p[i] <= '~' ? s.p[i] : '?');
}

struct screen {
    struct looks looks;
    const struct top_size *size;
    unsigned lines;
    struct buf line, *out;
};

enum look { PLAIN, HEAD, WARN, BAD };

/* Ends the line that was written, cut to the width. */
static void end_line(struct screen *s, enum look look)
{
    static const char *const start[] = {
        [PLAIN] = "", [HEAD] = "\033[1m", [WARN] = "\033[33m", [BAD] = "\033[1;31m"
    };

    if (s->lines < s->size->rows) {
        buf_adds(s->out, s->lines++ ? "\n" : "");
        buf_adds(s->out, s->size->colour ? start[look] : "");
        buf_add(s->out, s->line.p, MIN(s->line.n, (size_t)s->size->columns));
        buf_adds(s->out, s->size->colour && look != PLAIN ? "\033[0m" : "");
    }
    s->line.n = 0;
}

static void head(struct screen *s, const char *address)
{
    const struct top_shot *now = s->looks.now;
    char up[24], backlog[24], size[24], free[24];
    struct span state = word(now, "log.state");
    uint64_t uptime = 0;

    span_u64(word(now, "uptime_seconds"), &uptime);
    buf_adds(&s->line, "hookline ");
    add_plain(&s->line, word(now, "version"));
    buf_printf(&s->line, "  up %s  %s", seconds((double)uptime, up), address);
    end_line(s, HEAD);
    buf_adds(&s->line, "log   ");
    add_plain(&s->line, state);
    buf_adds(&s->line, "  durable LSN ");
    add_plain(&s->line, word(now, "log.durable_lsn"));
    buf_printf(&s->line, "  size %s  backlog %s  disk free %s",
               bytes(gauge(now, S("hookline_log_bytes")), size),
               bytes(gauge(now, S("hookline_log_backlog_bytes")), backlog),
               bytes(gauge(now, S("hookline_log_free_bytes")), free));
    end_line(s, span_eq(state, S("ok")) ? PLAIN : BAD);
}

static void times(struct screen *s)
{
    static const struct {
        const char *title;
        struct span buckets;
    } rows[] = { { "ack", { "hookline_ack_duration_seconds_bucket", 36 } },
                 { "sync", { "hookline_commit_duration_seconds_bucket", 39 } } };
    char p50[24], p99[24];

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        buf_printf(&s->line, "%-5s p50 %s  p99 %s", rows[i].title,
                   seconds(quantile(&s->looks, rows[i].buckets, 0.5), p50),
                   seconds(quantile(&s->looks, rows[i].buckets, 0.99), p99));
        if (!i)
            buf_printf(&s->line, "  connections %.0f",
                       gauge(s->looks.now, S("hookline_connections")));
        end_line(s, PLAIN);
    }
}

static void jobs(struct screen *s)
{
    static const char *const members[] = { "known", "expected", "finished", "waiting",
                                           "overdue_total" };
    static const char *const shown[] = { "known", "expected", "finished", "waiting requests",
                                         "overdue since the start" };
    char path[32];

    if (!word(s->looks.now, "jobs.known").n)
        return;
    buf_adds(&s->line, "jobs  ");
    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        snprintf(path, sizeof path, "jobs.%s", members[i]);
        buf_adds(&s->line, i ? "  " : "");
        add_plain(&s->line, word(s->looks.now, path));
        buf_printf(&s->line, " %s", shown[i]);
    }
    end_line(s, PLAIN);
}

static void sources(struct screen *s)
{
    struct span rest = buf_as_span(&s->looks.now->metrics), labels;
    double accepted;

    end_line(s, PLAIN);
    buf_printf(&s->line, "%-24s %12s %12s %12s %14s", "SOURCE", "ACCEPTED/S", "REFUSED/S",
               "DUPLICATE/S", "ACCEPTED");
    end_line(s, HEAD);
    while (next_sample(&rest, S("hookline_accepted_total"), &labels, &accepted)) {
        struct span name = label(labels, "source");
        double refused = rate(&s->looks, S("hookline_rejected_total"), "source", name);
        char a[24], r[24], d[24];

        buf_printf(&s->line, "%-24.*s %12s %12s %12s %14.0f", SPAN_FMT(name),
                   per_second(rate(&s->looks, S("hookline_accepted_total"), "source", name), a),
                   per_second(refused, r),
                   per_second(rate(&s->looks, S("hookline_duplicates_total"), "source", name), d),
                   accepted);
        end_line(s, refused > 0 ? WARN : PLAIN);
    }
}

static enum look look_of(struct span state)
{
    return span_eq(state, S("running")) ? PLAIN : span_eq(state, S("blocked")) ? BAD : WARN;
}

static void sinks(struct screen *s)
{
    struct span rest = buf_as_span(&s->looks.now->metrics), labels;
    double lsn;

    end_line(s, PLAIN);
    buf_printf(&s->line, "%-24s %-10s %12s %12s %10s %8s", "SINK", "STATE", "DELIVERED/S",
               "LAG EVENTS", "LAG", "DEAD");
    end_line(s, HEAD);
    while (next_sample(&rest, S("hookline_sink_lsn"), &labels, &lsn)) {
        struct span name = label(labels, "sink"), state = sink_word(s->looks.now, name, "state"),
                    reason = sink_word(s->looks.now, name, "reason");
        char delivered[24], lag[24];

        buf_printf(&s->line, "%-24.*s %-10.*s %12s %12.0f %10s %8.0f", SPAN_FMT(name),
                   SPAN_FMT(state),
                   per_second(rate(&s->looks, S("hookline_sink_delivered_total"), "sink", name),
                              delivered),
                   sum(s->looks.now, S("hookline_sink_lag_events"), "sink", name),
                   seconds(sum(s->looks.now, S("hookline_sink_lag_seconds"), "sink", name), lag),
                   sum(s->looks.now, S("hookline_dead_events"), "sink", name));
        end_line(s, look_of(state));
        if (!reason.n)
            continue;
        buf_adds(&s->line, "    ");
        add_plain(&s->line, reason);
        end_line(s, look_of(state));
    }
}

void top_screen(const struct top_shot *before, const struct top_shot *now, const char *address,
                const struct top_size *size, struct buf *out)
{
    struct screen s = { .looks = { before, now }, .size = size, .out = out };

    head(&s, address);
    times(&s);
    jobs(&s);
    sinks(&s);
    sources(&s);
    buf_free(&s.line);
}

void top_line(const struct top_shot *before, const struct top_shot *now, const char *time,
              struct buf *out)
{
    const struct looks l = { before, now };
    struct span rest = buf_as_span(&now->metrics), labels,
                ack = S("hookline_ack_duration_seconds_bucket");
    char a[24], r[24], d[24], p50[24], p99[24], size[24], free[24];
    double lsn;

    buf_printf(out, "%s accepted %s/s refused %s/s duplicate %s/s ack p50 %s p99 %s log ", time,
               per_second(rate(&l, S("hookline_accepted_total"), NULL, SPAN_NONE), a),
               per_second(rate(&l, S("hookline_rejected_total"), NULL, SPAN_NONE), r),
               per_second(rate(&l, S("hookline_duplicates_total"), NULL, SPAN_NONE), d),
               seconds(quantile(&l, ack, 0.5), p50), seconds(quantile(&l, ack, 0.99), p99));
    add_plain(out, word(now, "log.state"));
    buf_printf(out, " lsn %.0f size %s free %s", gauge(now, S("hookline_log_last_lsn")),
               bytes(gauge(now, S("hookline_log_bytes")), size),
               bytes(gauge(now, S("hookline_log_free_bytes")), free));
    while (next_sample(&rest, S("hookline_sink_lsn"), &labels, &lsn)) {
        struct span name = label(labels, "sink");
        buf_printf(out, " sink %.*s %.*s lag %.0f dead %.0f", SPAN_FMT(name),
                   SPAN_FMT(sink_word(now, name, "state")),
                   sum(now, S("hookline_sink_lag_events"), "sink", name),
                   sum(now, S("hookline_dead_events"), "sink", name));
    }
    buf_printf(out, " jobs %.0f expected %.0f overdue %.0f\n", gauge(now, S("hookline_jobs")),
               gauge(now, S("hookline_jobs_expected")),
               gauge(now, S("hookline_jobs_overdue_total")));
}
