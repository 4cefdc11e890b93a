/* SPDX-License-Identifier: Apache-2.0 */
/* libyaml's events into a tree with line numbers. JSON is YAML enough. Aliases are refused (they
 * make documents that grow when read), repeated keys are errors. ${NAME} is replaced after parsing,
 * in values only, so what the environment holds cannot become structure. */
#include "cfg.h"

#include <stdio.h>
#include <string.h>
#include <yaml.h>

#define DEPTH_MAX 32

struct cfg_doc {
    struct cfg_node *root;
    char *file;
};

struct reader {
    yaml_parser_t yaml;
    struct cfg_doc *doc;
    struct err_list *errs;
    bool expand, broken;
};

void cfg_error(struct err_list *errs, const struct cfg_node *at, const char *fmt, ...)
{
    struct buf b = BUF_INIT;
    va_list ap;

    va_start(ap, fmt);
    buf_vprintf(&b, fmt, ap);
    va_end(ap);
    err_list_add(errs, "%s:%d: %s", at ? at->file : "?", at ? at->line : 0, buf_cstr(&b));
    buf_free(&b);
}

static void free_nodes(struct cfg_node *n)
{
    while (n) {
        struct cfg_node *next = n->next;
        free_nodes(n->child);
        free((char *)(uintptr_t)n->key);
        free((char *)(uintptr_t)n->text);
        free(n);
        n = next;
    }
}

void cfg_doc_free(struct cfg_doc *doc)
{
    if (!doc)
        return;
    free_nodes(doc->root);
    free(doc->file);
    free(doc);
}

/* One ${...}, p behind "${": appends its value and returns behind the brace, NULL after an error.
 */
static const char *variable(struct reader *r, const struct cfg_node *at, const char *p,
                            struct buf *out)
{
    const char *end = strchr(p, '}'), *value;
    struct span name, fallback;
    char *text;

    if (!end) {
        cfg_error(r->errs, at, "${ without }; a dollar is written $$");
        return NULL;
    }
    fallback = span_of(p, (size_t)(end - p));
    name = span_cut(&fallback, ':');
    text = span_dup(name);
    value = getenv(text);
    if (value) {
        buf_adds(out, value);
    } else if (fallback.p && fallback.n && fallback.p[0] == '-') {
        buf_add(out, fallback.p + 1, fallback.n - 1);
    } else {
        cfg_error(r->errs, at, "the environment has no %s, and there is no default (${%s:-...})",
                  text, text);
        end = NULL;
    }
    free(text);
    return end ? end + 1 : NULL;
}

static char *expand(struct reader *r, const struct cfg_node *at, const char *text)
{
    struct buf out = BUF_INIT;

    for (const char *p = text; *p;) {
        if (p[0] == '$' && p[1] == '$') {
            buf_addc(&out, '$');
            p += 2;
        } else if (p[0] == '$' && p[1] == '{') {
            p = variable(r, at, p + 2, &out);
            if (!p)
                break;
        } else {
            buf_addc(&out, *p++);
        }
    }
    return buf_take(&out);
}

static struct cfg_node *new_node(struct reader *r, enum cfg_node_kind kind, const yaml_event_t *ev)
{
    struct cfg_node *n = xcalloc(1, sizeof *n);

    n->kind = kind;
    n->file = r->doc->file;
    n->line = (int)ev->start_mark.line + 1;
    return n;
}

static bool next_event(struct reader *r, yaml_event_t *ev)
{
    if (!r->broken && yaml_parser_parse(&r->yaml, ev))
        return true;
    if (!r->broken)
        err_list_add(r->errs, "%s:%d: %s", r->doc->file, (int)r->yaml.problem_mark.line + 1,
                     r->yaml.problem ? r->yaml.problem : "not YAML");
    r->broken = true;
    return false;
}

static struct cfg_node *read_value(struct reader *r, yaml_event_t *ev, int depth);

static struct cfg_node *scalar(struct reader *r, const yaml_event_t *ev)
{
    struct cfg_node *n = new_node(r, CFG_NODE_SCALAR, ev);
    const char *text = (const char *)ev->data.scalar.value;

    n->plain = ev->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    n->text = r->expand ? expand(r, n, text) : xstrdup(text);
    return n;
}

static void read_list(struct reader *r, struct cfg_node *list, int depth)
{
    struct cfg_node **tail = &list->child;
    yaml_event_t ev;

    while (next_event(r, &ev)) {
        if (ev.type == YAML_SEQUENCE_END_EVENT) {
            yaml_event_delete(&ev);
            return;
        }
        if ((*tail = read_value(r, &ev, depth + 1)))
            tail = &(*tail)->next;
    }
}

static void read_map(struct reader *r, struct cfg_node *map, int depth)
{
    struct cfg_node **tail = &map->child, *value;
    const struct cfg_node *first;
    yaml_event_t ev;

    while (next_event(r, &ev)) {
        char *key;
        int line = (int)ev.start_mark.line + 1;
        if (ev.type != YAML_SCALAR_EVENT) {
            if (ev.type != YAML_MAPPING_END_EVENT) {
                err_list_add(r->errs, "%s:%d: a key must be a plain word", r->doc->file, line);
                r->broken = true;
            }
            yaml_event_delete(&ev);
            return;
        }
        key = xstrdup((const char *)ev.data.scalar.value);
        yaml_event_delete(&ev);
        value = next_event(r, &ev) ? read_value(r, &ev, depth + 1) : NULL;
        if (!value) {
            free(key);
            continue;
        }
        value->key = key;
        value->line = line;
        if ((first = cfg_find(map, key)))
            cfg_error(r->errs, value, "%s stands twice (first in line %d)", key, first->line);
        *tail = value;
        tail = &value->next;
    }
}

/* Takes the event. */
static struct cfg_node *read_value(struct reader *r, yaml_event_t *ev, int depth)
{
    struct cfg_node *n = NULL;
    int line = (int)ev->start_mark.line + 1;

    if (depth > DEPTH_MAX) {
        err_list_add(r->errs, "%s:%d: nested too deeply", r->doc->file, line);
        r->broken = true;
    } else if (ev->type == YAML_SCALAR_EVENT) {
        n = scalar(r, ev);
    } else if (ev->type == YAML_SEQUENCE_START_EVENT) {
        n = new_node(r, CFG_NODE_LIST, ev);
        read_list(r, n, depth);
    } else if (ev->type == YAML_MAPPING_START_EVENT) {
        n = new_node(r, CFG_NODE_MAP, ev);
        read_map(r, n, depth);
    } else {
        err_list_add(r->errs, "%s:%d: aliases (*name) are not supported", r->doc->file, line);
        r->broken = true;
    }
    yaml_event_delete(ev);
    return n;
}

static void read_document(struct reader *r)
{
    yaml_event_t ev;
    bool done = false;

    while (!done && next_event(r, &ev)) {
        switch (ev.type) {
        case YAML_SCALAR_EVENT:
        case YAML_SEQUENCE_START_EVENT:
        case YAML_MAPPING_START_EVENT:
        case YAML_ALIAS_EVENT:
            if (r->doc->root) {
                err_list_add(r->errs, "%s: more than one document", r->doc->file);
                r->broken = true;
                yaml_event_delete(&ev);
                break;
            }
            r->doc->root = read_value(r, &ev, 0);
            break;
        default:
            done = ev.type == YAML_STREAM_END_EVENT;
            yaml_event_delete(&ev);
        }
    }
}

struct cfg_doc *cfg_parse(const char *file, struct span text, bool expand, struct err_list *errs)
{
    struct reader r = { .doc = xcalloc(1, sizeof *r.doc), .errs = errs, .expand = expand };
    size_t before = errs->n;

    r.doc->file = xstrdup(file);
    if (!yaml_parser_initialize(&r.yaml))
        die(EXIT_IO, "out of memory");
    /* an empty file has no bytes to point at */
    yaml_parser_set_input_string(&r.yaml, (const unsigned char *)(text.n ? text.p : ""), text.n);
    read_document(&r);
    yaml_parser_delete(&r.yaml);
    if (!r.broken && r.doc->root && r.doc->root->kind == CFG_NODE_MAP)
        return r.doc;
    if (errs->n == before)
        err_list_add(errs, "%s:1: keys and values are expected", file);
    cfg_doc_free(r.doc);
    return NULL;
}

const struct cfg_node *cfg_root(const struct cfg_doc *doc)
{
    return doc->root;
}

const struct cfg_node *cfg_find(const struct cfg_node *map, const char *key)
{
    if (map && map->kind == CFG_NODE_MAP)
        for (const struct cfg_node *n = map->child; n; n = n->next)
            if (!strcmp(n->key, key))
                return n;
    return NULL;
}
