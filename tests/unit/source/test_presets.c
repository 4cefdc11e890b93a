/* SPDX-License-Identifier: Apache-2.0 */
/* Every preset, there and back: what is signed as its provider signs is taken, and not any more
 * once a bit of the body, of the signature or of the secret is another, or the time is over. */
#include "presets.h"

#include <stdio.h>

#define NOW 1767225600000

struct trip {
    struct buf config, key;
    struct made m;
    struct source_outgoing o;
};

static void set_out(struct trip *t, const char *name, struct span body)
{
    struct err e = ERR_INIT;

    *t = (struct trip){ .o = { .now_ms = NOW, .body = body } };
    buf_printf(&t->config, "provider: %s\n", name);
    add_needs(name, &t->config, &t->key);
    make_good(&t->m, buf_cstr(&t->config));
    t->o.key = buf_as_span(&t->key);
    if (source_sign(t->m.plan, &t->o, &e))
        fail_msg("%s", e.text);
}

static void come_home(struct trip *t)
{
    source_outgoing_free(&t->o);
    unmake(&t->m);
    buf_free(&t->config);
    buf_free(&t->key);
}

static enum verdict judge(const struct trip *t, const struct source_plan *p, int64_t later_ms)
{
    struct source_event ev = { 0 };
    struct http_request req;
    char *bytes = delivery(&req, "POST", buf_as_span(&t->o.query), buf_as_span(&t->o.headers),
                           buf_as_span(&t->o.text));
    enum verdict v = source_verify(p, &req, bytes, SPAN_NONE, NOW + later_ms, &ev);

    free(bytes);
    source_event_free(&ev);
    return v;
}

/* The presets whose secret only says who sends. */
static bool signs_body(const char *name)
{
    static const char *const not [] = { "none",        "token",        "assemblyai",
                                        "luma",        "huggingface",  "microsoft-graph",
                                        "cloudevents", "google-pubsub" };

    for (size_t i = 0; i < sizeof not / sizeof not [0]; i++)
        if (!strcmp(not [i], name))
            return false;
    return true;
}

static void there_and_back(void **state)
{
    const char *name = *(const char *const *)*state;
    struct trip t;

    set_out(&t, name, SPAN_NONE);
    assert_int_equal(judge(&t, t.m.plan, 0), VERDICT_OK);
    t.o.text.p[t.o.text.n / 2] ^= 1;
    if (signs_body(name))
        assert_int_not_equal(judge(&t, t.m.plan, 0), VERDICT_OK);
    come_home(&t);
}

/* With the keys of somebody else. */
static void another_key(void **state)
{
    const char *name = *(const char *const *)*state;
    struct buf config = BUF_INIT, key = BUF_INIT;
    struct made other;
    struct trip t;
    char *secret;

    set_out(&t, name, SPAN_NONE);
    buf_printf(&config, "provider: %s\n", name);
    add_needs(name, &config, &key);
    secret = strstr(buf_cstr(&config), "b1JkZXJs");
    if (secret)
        memcpy(secret, "AAAAAAAA", 8);
    make_good(&other, buf_cstr(&config));
    if (strcmp(name, "none"))
        assert_int_equal(judge(&t, other.plan, 0), VERDICT_BAD_SIGNATURE);
    unmake(&other);
    buf_free(&config);
    buf_free(&key);
    come_home(&t);
}

/* Each line of the request left out in turn, then twice with another value: what decides is missed,
 * and never counted twice. */
static void without_each_header(void **state)
{
    const char *name = *(const char *const *)*state;
    struct buf whole = BUF_INIT;
    struct span rest;
    size_t refused = 0;
    struct trip t;

    set_out(&t, name, SPAN_NONE);
    buf_span(&whole, buf_as_span(&t.o.headers));
    rest = buf_as_span(&whole);
    while (rest.n) {
        const char *from = rest.p;
        struct span line = span_cut(&rest, '\n');
        t.o.headers.n = 0;
        buf_add(&t.o.headers, whole.p, (size_t)(from - whole.p));
        buf_span(&t.o.headers, rest);
        refused += judge(&t, t.m.plan, 0) != VERDICT_OK;
        assert_true(line.n > 0);
    }
    if (signs_body(name))
        assert_true(refused > 0);
    buf_free(&whole);
    come_home(&t);
}

static void much_later(void **state)
{
    const char *name = *(const char *const *)*state;
    struct buf text = BUF_INIT;
    struct trip t;
    enum verdict v;

    buf_span(&text, source_preset_text(name));
    set_out(&t, name, SPAN_NONE);
    v = judge(&t, t.m.plan, (int64_t)86400000);
    if (strstr(buf_cstr(&text), "timestamp: { "))
        assert_int_equal(v, VERDICT_STALE);
    else if (strstr(buf_cstr(&text), "jwt: {"))
        assert_int_equal(v, VERDICT_EXPIRED);
    else
        assert_int_equal(v, VERDICT_OK);
    buf_free(&text);
    come_home(&t);
}

/* Every body that a preset shows is one its provider could send: valid JSON, its type where the
 * preset looks for it. */
static void samples(void **state)
{
    const char *name = *(const char *const *)*state;
    struct err_list errs = { NULL, 0 };
    struct cfg_doc *doc = cfg_parse("providers.yaml", source_preset_text(name), false, &errs);
    const struct cfg_node *block = cfg_find(cfg_root(doc), name);
    const struct cfg_node *sample = cfg_find(block, "sample"), *bodies = cfg_find(sample, "bodies");
    struct trip t;

    assert_non_null(cfg_find(cfg_find(block, "about"), "title"));
    assert_non_null(cfg_find(cfg_find(block, "about"), "copy"));
    for (const struct cfg_node *b = bodies ? bodies->child : NULL; b; b = b->next) {
        struct err e = ERR_INIT;
        struct buf type = BUF_INIT;
        set_out(&t, name, SPAN_NONE);
        source_outgoing_free(&t.o);
        t.o = (struct source_outgoing){ .now_ms = NOW, .key = buf_as_span(&t.key) };
        for (const char *c = b->key; *c; c++)
            buf_adds(&type, *c == '*' ? "some" : (char[]){ *c, 0 });
        if (strcmp(b->key, "*"))
            t.o.type = buf_as_span(&type);
        assert_int_equal(source_sign(t.m.plan, &t.o, &e), 0);
        if (!cfg_find(sample, "content_type"))
            assert_true(json_valid(span_trim(buf_as_span(&t.o.text))) ||
                        t.o.text.p[t.o.text.n - 1] == '\n');
        assert_int_equal(judge(&t, t.m.plan, 0), VERDICT_OK);
        buf_free(&type);
        come_home(&t);
    }
    cfg_doc_free(doc);
}

int main(void)
{
    const char *const *all = source_preset_names(), *names[64];
    size_t n = 0;

    for (; *all; all++)
        if (needs_of(*all).scheme != WITH_CERTIFICATE)
            names[n++] = *all;
    return t_table("there and back", names, n, sizeof names[0], there_and_back) +
           t_table("another key", names, n, sizeof names[0], another_key) +
           t_table("without each header", names, n, sizeof names[0], without_each_header) +
           t_table("much later", names, n, sizeof names[0], much_later) +
           t_table("samples", names, n, sizeof names[0], samples);
}
