/* SPDX-License-Identifier: Apache-2.0 */
/* /status and /metrics. During a reload two sets can have one name for a moment; the younger one is
 * shown, since a metric must not have the same labels twice. */
#include "room.h"

#include <string.h>

#include "clock.h"

/* Valid under keys.lock only, which no reader of a set takes. */
struct view {
    const struct keys_set *set;
    bool has, failing;
    int64_t age_ms;
};

static struct view look_at(struct keys_set *s)
{
    struct keys_doc *doc = doc_hold(s);
    struct view v = { s, doc != NULL, s->failures > 0, MAX(clock_boot_ms() - s->got_ms, 0) };

    keys_release(doc);
    return v;
}

static bool shown(const struct keys_set *s)
{
    const struct keys_set *younger = s;

    if (s->kind != KIND_SET || !s->uses)
        return false;
    while ((younger = TAILQ_NEXT(younger, all)))
        if (younger->kind == KIND_SET && younger->uses && strcmp(younger->name, s->name) == 0)
            return false;
    return true;
}

static void set_json(const struct view *v, struct buf *b)
{
    const struct keys_set *s = v->set;

    buf_json_string(b, span_str(s->name));
    buf_printf(b, ":{\"state\":\"%s\",\"from\":",
               !v->has      ? "unavailable"
               : v->failing ? "stale"
                            : "ok");
    buf_json_string(b, span_str(s->shown));
    if (v->has)
        buf_printf(b, ",\"age_seconds\":%lld", (long long)v->age_ms / 1000);
    buf_printf(b, ",\"next_fetch_seconds\":%lld,\"failures\":%u",
               (long long)MAX(s->due_ms - clock_boot_ms(), 0) / 1000, s->failures);
    if (s->why.text[0]) {
        buf_adds(b, ",\"error\":");
        buf_json_string(b, span_str(s->why.text));
    }
    buf_addc(b, '}');
}

static void count_certs(const struct keys *k, size_t *held, size_t *tried)
{
    struct keys_set *s;

    *held = *tried = 0;
    for (s = TAILQ_FIRST(&k->all); s; s = TAILQ_NEXT(s, all)) {
        struct keys_doc *doc = s->kind == KIND_CERT && s->uses ? doc_hold(s) : NULL;
        *held += doc != NULL;
        *tried += s->kind == KIND_CERT && s->uses && !doc;
        keys_release(doc);
    }
}

void keys_status(struct keys *k, struct buf *out)
{
    struct keys_set *s;
    size_t held, tried;
    const char *comma = "";

    buf_adds(out, "{\"sets\":{");
    pthread_mutex_lock(&k->lock);
    for (s = TAILQ_FIRST(&k->all); s; s = TAILQ_NEXT(s, all)) {
        struct view v;
        if (!shown(s))
            continue;
        v = look_at(s);
        buf_adds(out, comma);
        set_json(&v, out);
        comma = ",";
    }
    count_certs(k, &held, &tried);
    pthread_mutex_unlock(&k->lock);
    buf_printf(out, "},\"certificates\":{\"held\":%zu,\"tried\":%zu}}", held, tried);
}

static double age_seconds(const struct view *v)
{
    return v->has ? (double)v->age_ms / 1e3 : -1;
}

static double up(const struct view *v)
{
    return v->has && !v->failing;
}

static double fetches(const struct view *v)
{
    return (double)counter_get(&v->set->fetches);
}

static double failures(const struct view *v)
{
    return (double)counter_get(&v->set->failed);
}

static const struct {
    const char *name, *type, *help;
    double (*value)(const struct view *v);
} families[] = {
    { "hookline_keys_age_seconds", "gauge",
      "How long ago the keys in use were fetched; -1: there are none.", age_seconds },
    { "hookline_keys_up", "gauge", "1 when there are keys and the last fetch was good.", up },
    { "hookline_keys_fetches_total", "counter", "Fetches that ended.", fetches },
    { "hookline_keys_fetch_failures_total", "counter",
      "Fetches, and looks at a file, that gave no usable keys.", failures },
};

void keys_metrics(struct keys *k, struct buf *out)
{
    struct keys_set *s;
    size_t held, tried;

    pthread_mutex_lock(&k->lock);
    for (size_t i = 0; i < ARRAY_LEN(families); i++) {
        metrics_head(out, families[i].name, families[i].type, families[i].help);
        for (s = TAILQ_FIRST(&k->all); s; s = TAILQ_NEXT(s, all)) {
            struct view v;
            if (!shown(s))
                continue;
            v = look_at(s);
            metrics_value(out, families[i].name, families[i].value(&v), "set", s->name, NULL);
        }
    }
    count_certs(k, &held, &tried);
    pthread_mutex_unlock(&k->lock);
    metrics_head(out, "hookline_keys_certificates", "gauge", "Certificates at hand.");
    metrics_value(out, "hookline_keys_certificates", (double)held, NULL);
    metrics_head(out, "hookline_keys_certificate_failures_total", "counter",
                 "Fetches of certificates and confirmations that failed.");
    metrics_value(out, "hookline_keys_certificate_failures_total",
                  (double)counter_get(&k->cert_failed), NULL);
}
