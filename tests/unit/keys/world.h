/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of keys share: a real key server, a cache folder, and bounds that are short where
 * a test would have to wait for them. Waiting is for what must come, with a generous bound. */
#pragma once

#include "https.h"

#include "clock.h"
#include "keys.h"

#define PATIENCE_MS 20000
#define UNTIL(what)                                                                                \
    do {                                                                                           \
        int64_t give_up_ = clock_mono_ms() + PATIENCE_MS;                                          \
        while (!(what) && clock_mono_ms() < give_up_)                                              \
            usleep(5000);                                                                          \
        assert_true(what);                                                                         \
    } while (0)

static struct https server;
static const char *const local[] = { "localhost:*", NULL };

struct world {
    struct keys_cfg cfg;
    struct fetch_rules rules;
    struct keys *keys;
    struct keys_set *set;
    char dir[64];
};

static UNUSED void world_open(struct world *w)
{
    struct err e = ERR_INIT;

    if (keys_new(&w->keys, &w->cfg, &e))
        fail_msg("%s", e.text);
}

/* An hour passes in no test: a refresh comes from a wish or not at all. */
static UNUSED void world_init(struct world *w)
{
    *w = (struct world){
        .cfg = keys_defaults(NULL),
        .rules = { .ca_file = server.ca, .allow_private = true, .timeout_ms = 5000 },
        .dir = "/tmp/hookline-keys-XXXXXX"
    };
    assert_non_null(mkdtemp(w->dir));
    w->cfg.dir = w->dir;
    w->cfg.retry_min_ms = w->cfg.file_ms = 20;
    w->cfg.retry_max_ms = 100;
}

static UNUSED void world_close(struct world *w)
{
    keys_free(w->keys);
    sh("rm -rf $d", w->dir);
}

/* What the server answers under `name`: a set with one key of that id. */
static UNUSED void serve(const char *name, const char *head, const char *kid)
{
    char *text =
        xasprintf("200 0\n%s\n\n{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"kid\":\"%s\","
                  "\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}]}",
                  head, kid);

    https_answer(&server, name, text);
    free(text);
}

static UNUSED struct keys_set *registered(struct world *w, const char *name)
{
    struct err e = ERR_INIT;
    char *url = https_url(&server, name);
    struct keys_set *s = keys_register(
        w->keys, &(struct keys_set_cfg){ .name = name, .url = url, .rules = w->rules }, &e);

    if (!s)
        fail_msg("%s", e.text);
    free(url);
    return s;
}

/* The id of the first key in use is this one; NULL: there are no keys. */
static UNUSED bool has(struct keys_set *s, const char *kid)
{
    struct keys_doc *doc = keys_hold(s);
    bool same = doc ? kid && span_eq(crypto_keyset_kid(doc->set, 0), span_str(kid)) : !kid;

    keys_release(doc);
    return same;
}

static UNUSED bool reports(struct world *w, void (*report)(struct keys *k, struct buf *out),
                           const char *text)
{
    struct buf b = BUF_INIT;
    bool found;

    report(w->keys, &b);
    found = strstr(buf_cstr(&b), text) != NULL;
    buf_free(&b);
    return found;
}
#define SAYS(w, text) reports(w, keys_status, text)
#define COUNTS(w, text) reports(w, keys_metrics, text)
