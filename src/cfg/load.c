/* SPDX-License-Identifier: Apache-2.0 */
/* Nodes into structs by their tables. The table decides the type: `country: NO` stays a string. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "room.h"

static bool is_null(const struct cfg_node *n)
{
    return n->kind == CFG_NODE_SCALAR && n->plain &&
           (!n->text[0] || !strcmp(n->text, "null") || !strcmp(n->text, "~"));
}

static bool scalar_of(const struct cfg_key *k, const struct cfg_node *n, struct err_list *errs)
{
    if (n->kind == CFG_NODE_SCALAR)
        return true;
    cfg_error(errs, n, "%s takes one value", k->name);
    return false;
}

static void load_bool(const struct cfg_key *k, const struct cfg_node *n, bool *out,
                      struct err_list *errs)
{
    if (!strcmp(n->text, "true") || !strcmp(n->text, "false"))
        *out = n->text[0] == 't';
    else
        cfg_error(errs, n, "%s is true or false, not \"%s\"", k->name, n->text);
}

static bool in_range(const struct cfg_key *k, int64_t v)
{
    return (!k->min && !k->max) ? v >= 0 : v >= k->min && (!k->max || v <= k->max);
}

static void load_int(const struct cfg_key *k, const struct cfg_node *n, int64_t *out,
                     struct err_list *errs)
{
    uint64_t v;

    if (!span_u64(span_str(n->text), &v) || v > INT64_MAX)
        cfg_error(errs, n, "%s is a whole number, not \"%s\"", k->name, n->text);
    else if (!in_range(k, (int64_t)v))
        cfg_error(errs, n, "%s is between %lld and %lld", k->name, (long long)k->min,
                  (long long)k->max);
    else
        *out = (int64_t)v;
}

static void load_bytes(const struct cfg_key *k, const struct cfg_node *n, uint64_t *out,
                       struct err_list *errs)
{
    struct buf low = BUF_INIT, high = BUF_INIT;
    uint64_t v;

    if (!cfg_bytes(span_str(n->text), &v)) {
        cfg_error(errs, n, "%s is a size like 64KiB, 1MiB or a number of bytes, not \"%s\"",
                  k->name, n->text);
    } else if (!in_range(k, (int64_t)v)) {
        cfg_bytes_text((uint64_t)k->min, &low);
        cfg_bytes_text((uint64_t)k->max, &high);
        cfg_error(errs, n, "%s is between %s and %s", k->name, buf_cstr(&low), buf_cstr(&high));
    } else {
        *out = v;
    }
    buf_free(&low);
    buf_free(&high);
}

static void load_msec(const struct cfg_key *k, const struct cfg_node *n, int64_t *out,
                      struct err_list *errs)
{
    int64_t v;

    if (!cfg_msec(span_str(n->text), &v))
        cfg_error(errs, n, "%s is a duration like 500ms, 10s, 5m, 72h or 7d, not \"%s\"", k->name,
                  n->text);
    else if (!in_range(k, v))
        cfg_error(errs, n, "%s is out of range", k->name);
    else
        *out = v;
}

static void load_enum(const struct cfg_key *k, const struct cfg_node *n, int *out,
                      struct err_list *errs)
{
    struct buf words = BUF_INIT;

    for (int i = 0; k->words[i]; i++) {
        if (!strcmp(n->text, k->words[i])) {
            *out = i;
            goto out;
        }
        buf_printf(&words, "%s%s", i ? ", " : "", k->words[i]);
    }
    cfg_error(errs, n, "%s is one of %s, not \"%s\"", k->name, buf_cstr(&words), n->text);
out:
    buf_free(&words);
}

static void free_secret(struct cfg_secret *s)
{
    if (s->bytes)
        explicit_bzero(s->bytes, s->n);
    free(s->bytes);
    free(s->ref);
    *s = (struct cfg_secret){ .n = 0 };
}

static void read_secret_file(const struct cfg_node *n, struct cfg_secret *s, struct err_list *errs)
{
    char piece[4096];
    struct buf b = BUF_INIT;
    int fd = open(n->text, O_RDONLY | O_CLOEXEC);
    ssize_t got = -1;

    while (fd >= 0 && (got = read(fd, piece, sizeof piece)) > 0 && b.n < 65536)
        buf_add(&b, piece, (size_t)got);
    if (got < 0)
        cfg_error(errs, n, "the secret's file %s cannot be read: %s", n->text,
                  strerrordesc_np(errno));
    if (fd >= 0)
        close(fd);
    if (got < 0) {
        buf_free(&b);
        return;
    }
    while (b.n && (b.p[b.n - 1] == '\n' || b.p[b.n - 1] == '\r'))
        b.n--;
    s->n = b.n;
    s->bytes = buf_take(&b);
    s->ref = xasprintf("file:%s", n->text);
}

static void read_secret_env(const struct cfg_node *n, struct cfg_secret *s, struct err_list *errs)
{
    const char *value = getenv(n->text);

    if (!value) {
        cfg_error(errs, n, "the environment has no %s", n->text);
        return;
    }
    s->bytes = xstrdup(value);
    s->n = strlen(value);
    s->ref = xasprintf("env:%s", n->text);
}

static bool only_these(const struct cfg_node *n, bool dated)
{
    size_t sources = 0;

    if (n->kind != CFG_NODE_MAP)
        return false;
    for (const struct cfg_node *c = n->child; c; c = c->next) {
        if (c->kind != CFG_NODE_SCALAR || (strcmp(c->key, "env") && strcmp(c->key, "file") &&
                                           (!dated || strcmp(c->key, "not_after"))))
            return false;
        sources += strcmp(c->key, "not_after") != 0;
    }
    return sources == 1;
}

/* { env: NAME }, { file: PATH } or plain text; in a list also with not_after. An empty secret is an
 * error: it protects nothing. */
static void load_secret(const struct cfg_key *k, const struct cfg_node *n, struct cfg_secret *s,
                        struct err_list *errs)
{
    bool dated = k->type == CFG_SECRETS;
    const struct cfg_node *until = cfg_find(n, "not_after");

    free_secret(s);
    if (n->kind == CFG_NODE_SCALAR) {
        s->bytes = xstrdup(n->text);
        s->n = strlen(n->text);
    } else if (!only_these(n, dated)) {
        cfg_error(errs, n, "%s is { env: NAME }, { file: PATH } or a string", k->name);
        return;
    } else if (cfg_find(n, "env")) {
        read_secret_env(cfg_find(n, "env"), s, errs);
    } else {
        read_secret_file(cfg_find(n, "file"), s, errs);
    }
    if (n->kind == CFG_NODE_MAP && until &&
        (!clock_parse(span_str(until->text), &s->not_after_ms) || s->not_after_ms <= 0))
        cfg_error(errs, until, "not_after is a time like 2026-12-31T00:00:00Z, not \"%s\"",
                  until->text);
    if (s->bytes && !s->n)
        cfg_error(errs, n, "%s is empty", k->name);
}

static void load_secrets(const struct cfg_key *k, const struct cfg_node *n, struct cfg_secrets *out,
                         struct err_list *errs)
{
    const struct cfg_node *item = n->kind == CFG_NODE_LIST ? n->child : n;

    for (; item; item = n->kind == CFG_NODE_LIST ? item->next : NULL) {
        out->v = xrealloc(out->v, (out->n + 1) * sizeof *out->v);
        out->v[out->n] = (struct cfg_secret){ .n = 0 };
        load_secret(k, item, &out->v[out->n++], errs);
    }
}

static void load_strs(const struct cfg_key *k, const struct cfg_node *n, struct cfg_strs *out,
                      struct err_list *errs)
{
    const struct cfg_node *item = n->kind == CFG_NODE_LIST ? n->child : n;

    for (; item; item = n->kind == CFG_NODE_LIST ? item->next : NULL) {
        if (!scalar_of(k, item, errs))
            continue;
        out->v = xrealloc(out->v, (out->n + 1) * sizeof *out->v);
        out->v[out->n++] = xstrdup(item->text);
    }
}

static void load_strmap(const struct cfg_key *k, const struct cfg_node *n, struct cfg_strmap *out,
                        struct err_list *errs)
{
    if (n->kind != CFG_NODE_MAP) {
        cfg_error(errs, n, "%s takes keys and values", k->name);
        return;
    }
    for (const struct cfg_node *item = n->child; item; item = item->next) {
        if (!scalar_of(k, item, errs))
            continue;
        out->k = xrealloc(out->k, (out->n + 1) * sizeof *out->k);
        out->v = xrealloc(out->v, (out->n + 1) * sizeof *out->v);
        out->k[out->n] = xstrdup(item->key);
        out->v[out->n++] = xstrdup(item->text);
    }
}

static bool name_is_good(const char *s)
{
    size_t n = strlen(s);

    if (n == 0 || n > 63 || s[0] == '-')
        return false;
    return strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == n;
}

static void load_named(const struct cfg_key *k, const struct cfg_node *n, struct cfg_named *out,
                       struct err_list *errs)
{
    if (n->kind != CFG_NODE_MAP) {
        cfg_error(errs, n, "%s takes names and their settings", k->name);
        return;
    }
    for (const struct cfg_node *item = n->child; item; item = item->next) {
        if (!name_is_good(item->key) || !strcmp(item->key, "hookline"))
            cfg_error(
                errs, item,
                "\"%s\" is not a name: small letters, digits and -, at most 63, not \"hookline\"",
                item->key);
        out->name = xrealloc(out->name, (out->n + 1) * sizeof *out->name);
        out->v = xrealloc(out->v, (out->n + 1) * sizeof *out->v);
        out->line = xrealloc(out->line, (out->n + 1) * sizeof *out->line);
        out->name[out->n] = xstrdup(item->key);
        out->line[out->n] = item->line;
        out->v[out->n] = xcalloc(1, k->sub_size);
        cfg_load(k->sub, item, out->v[out->n++], errs);
    }
}

static void load_option(const struct cfg_key *k, const struct cfg_node *n, void **out,
                        struct err_list *errs)
{
    *out = xcalloc(1, k->sub_size);
    cfg_load(k->sub, n, *out, errs);
}

/* Each item is a map, or the value of the first key alone. */
static void load_list(const struct cfg_key *k, const struct cfg_node *n, struct cfg_list *out,
                      struct err_list *errs)
{
    const struct cfg_node *item = n->kind == CFG_NODE_LIST ? n->child : n;

    for (; item; item = n->kind == CFG_NODE_LIST ? item->next : NULL) {
        struct cfg_node value = *item, map = *item;
        if (item->kind == CFG_NODE_SCALAR) {
            value.key = k->sub[0].name;
            value.next = NULL;
            map =
                (struct cfg_node){ .kind = CFG_NODE_MAP, item->file, item->line, .child = &value };
        }
        out->v = xrealloc(out->v, (out->n + 1) * sizeof *out->v);
        out->v[out->n] = xcalloc(1, k->sub_size);
        cfg_load(k->sub, &map, out->v[out->n++], errs);
    }
}

static void load_scalar(const struct cfg_key *k, const struct cfg_node *n, void *field,
                        struct err_list *errs)
{
    char **str = field;

    if (!scalar_of(k, n, errs))
        return;
    switch (k->type) {
    case CFG_STR:
        free(*str);
        *str = xstrdup(n->text);
        break;
    case CFG_BOOL:
        load_bool(k, n, field, errs);
        break;
    case CFG_INT:
        load_int(k, n, field, errs);
        break;
    case CFG_BYTES:
        load_bytes(k, n, field, errs);
        break;
    case CFG_MSEC:
        load_msec(k, n, field, errs);
        break;
    default:
        load_enum(k, n, field, errs);
    }
}

/* `trim: none`, and `trim: consumed` for a switch of the section, are written where a table says
 * that a section may be a word. */
static void load_section(const struct cfg_key *k, const struct cfg_node *n, void *field,
                         struct err_list *errs)
{
    bool word = k->flags & CFG_MAY_BE_NONE && n->kind == CFG_NODE_SCALAR;
    const struct cfg_key *on = k->sub;

    while (on->name && (!word || on->type != CFG_BOOL || strcmp(on->name, n->text) != 0))
        on++;
    cfg_load(k->sub, word && (on->name || !strcmp(n->text, "none")) ? NULL : n, field, errs);
    if (on->name)
        *(bool *)(void *)((char *)field + on->offset) = true;
}

static void load_one(const struct cfg_key *k, const struct cfg_node *n, void *field,
                     struct err_list *errs)
{
    switch (k->type) {
    case CFG_SECRET:
        load_secret(k, n, field, errs);
        break;
    case CFG_SECRETS:
        load_secrets(k, n, field, errs);
        break;
    case CFG_STRS:
        load_strs(k, n, field, errs);
        break;
    case CFG_STRMAP:
        load_strmap(k, n, field, errs);
        break;
    case CFG_SECTION:
        load_section(k, n, field, errs);
        break;
    case CFG_OPTION:
        load_option(k, n, field, errs);
        break;
    case CFG_NAMED:
        load_named(k, n, field, errs);
        break;
    case CFG_LIST:
        load_list(k, n, field, errs);
        break;
    default:
        load_scalar(k, n, field, errs);
    }
}

static void load_default(const struct cfg_key *k, void *field, struct err_list *errs)
{
    struct cfg_node n = { .kind = CFG_NODE_SCALAR, .file = "default", .text = k->def };

    if (k->type == CFG_SECTION)
        cfg_load(k->sub, NULL, field, errs);
    else if (k->def)
        load_one(k, &n, field, errs);
}

/* How many letters have to change: small enough to be a slip. */
static size_t distance(const char *a, const char *b)
{
    size_t n = strlen(b), row[64];

    if (n >= ARRAY_LEN(row))
        return n;
    for (size_t j = 0; j <= n; j++)
        row[j] = j;
    for (size_t i = 1; *a; a++, i++) {
        size_t corner = row[0];
        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            size_t swap = corner + (*a != b[j - 1]), least = MIN(row[j], row[j - 1]) + 1;
            corner = row[j];
            row[j] = MIN(swap, least);
        }
    }
    return row[n];
}

static void unknown_key(const struct cfg_key *table, const struct cfg_node *n,
                        struct err_list *errs)
{
    const char *nearest = NULL;
    size_t best = 4, d;

    for (const struct cfg_key *k = table; k->name; k++)
        if ((d = distance(n->key, k->name)) < best) {
            best = d;
            nearest = k->name;
        }
    if (nearest)
        cfg_error(errs, n, "unknown key %s; did you mean %s?", n->key, nearest);
    else
        cfg_error(errs, n, "unknown key %s", n->key);
}

static const struct cfg_key *find_key(const struct cfg_key *table, const char *name)
{
    for (const struct cfg_key *k = table; k->name; k++)
        if (!strcmp(k->name, name))
            return k;
    return NULL;
}

void cfg_load(const struct cfg_key *table, const struct cfg_node *node, void *into,
              struct err_list *errs)
{
    for (const struct cfg_key *k = table; k->name; k++) {
        const struct cfg_node *n = cfg_find(node, k->name);
        if (!n || is_null(n))
            load_default(k, cfg_field(into, k), errs);
        else
            load_one(k, n, cfg_field(into, k), errs);
        if (k->flags & CFG_REQUIRED && (!n || is_null(n)))
            cfg_error(errs, node, "%s is missing", k->name);
    }
    if (!node || is_null(node))
        return;
    if (node->kind != CFG_NODE_MAP) {
        cfg_error(errs, node, "%s takes keys and values", node->key ? node->key : "this");
        return;
    }
    for (const struct cfg_node *n = node->child; n; n = n->next)
        if (!find_key(table, n->key))
            unknown_key(table, n, errs);
}

static void release_lists(const struct cfg_key *k, void *field)
{
    struct cfg_secrets *secrets = field;
    struct cfg_strs *strs = field;
    struct cfg_strmap *map = field;

    if (k->type == CFG_SECRETS) {
        for (size_t i = 0; i < secrets->n; i++)
            free_secret(&secrets->v[i]);
        free(secrets->v);
    } else if (k->type == CFG_STRS) {
        for (size_t i = 0; i < strs->n; i++)
            free(strs->v[i]);
        free(strs->v);
    } else {
        for (size_t i = 0; i < map->n; i++) {
            free(map->k[i]);
            free(map->v[i]);
        }
        free(map->k);
        free(map->v);
    }
}

static void release_named(const struct cfg_key *k, struct cfg_named *named)
{
    for (size_t i = 0; i < named->n; i++) {
        cfg_release(k->sub, named->v[i]);
        free(named->v[i]);
        free(named->name[i]);
    }
    free(named->name);
    free(named->v);
    free(named->line);
}

static void release_items(const struct cfg_key *k, struct cfg_list *list)
{
    for (size_t i = 0; i < list->n; i++) {
        cfg_release(k->sub, list->v[i]);
        free(list->v[i]);
    }
    free(list->v);
}

void cfg_release(const struct cfg_key *table, void *of)
{
    for (const struct cfg_key *k = table; k->name; k++) {
        void *field = cfg_field(of, k);
        void **option = field;
        switch (k->type) {
        case CFG_STR:
            free(*option);
            *option = NULL;
            break;
        case CFG_SECRET:
            free_secret(field);
            break;
        case CFG_SECRETS:
        case CFG_STRS:
        case CFG_STRMAP:
            release_lists(k, field);
            break;
        case CFG_SECTION:
            cfg_release(k->sub, field);
            break;
        case CFG_OPTION:
            if (*option)
                cfg_release(k->sub, *option);
            free(*option);
            *option = NULL;
            break;
        case CFG_NAMED:
            release_named(k, field);
            break;
        case CFG_LIST:
            release_items(k, field);
            break;
        default:
            break;
        }
    }
}
