/* SPDX-License-Identifier: Apache-2.0 */
/* Look-ups by path in one pass. Values that no path leads to are skipped by counting brackets; the
 * only recursion is into the objects that a path names, so its depth is that of the path. */
#include "json.h"

#include <string.h>

#define PATHS_MAX 8

struct look {
    struct span rest; /* of the path, below where we are; p == NULL: not on this branch */
    size_t slot;
};

static const char *blanks(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r'))
        p++;
    return p;
}

/* p behind the opening quote; returns the closing one, or NULL. */
static const char *string_end(const char *p, const char *end, bool *escaped)
{
    *escaped = false;
    for (; p < end; p++) {
        if (*p == '"')
            return p;
        if ((unsigned char)*p < 0x20)
            return NULL;
        if (*p == '\\') {
            *escaped = true;
            if (++p == end)
                return NULL;
        }
    }
    return NULL;
}

static const char *nested_end(const char *p, const char *end)
{
    size_t depth = 0;
    bool escaped;

    for (; p < end; p++) {
        switch (*p) {
        case '{':
        case '[':
            depth++;
            break;
        case '}':
        case ']':
            if (--depth == 0)
                return p + 1;
            break;
        case '"':
            if (!(p = string_end(p + 1, end, &escaped)))
                return NULL;
        }
    }
    return NULL;
}

static const char *word_end(const char *p, const char *end)
{
    const char *start = p;

    while (p < end && ((*p >= '0' && *p <= '9') || (*p >= 'a' && *p <= 'z') || *p == '-' ||
                       *p == '+' || *p == '.' || *p == 'E'))
        p++;
    return p == start ? NULL : p;
}

static enum json_type word_type(struct span w)
{
    if (span_eq(w, S("true")))
        return JSON_TRUE;
    if (span_eq(w, S("false")))
        return JSON_FALSE;
    if (span_eq(w, S("null")))
        return JSON_NULL;
    return w.p[0] == '-' || (w.p[0] >= '0' && w.p[0] <= '9') ? JSON_NUMBER : JSON_NONE;
}

/* Reads over one value; NULL when it is broken. */
static const char *read_value(const char *p, const char *end, struct json_value *v)
{
    const char *stop;

    *v = (struct json_value){ .type = JSON_NONE };
    if (p == end)
        return NULL;
    if (*p == '"') {
        stop = string_end(p + 1, end, &v->escaped);
        if (!stop)
            return NULL;
        v->type = JSON_STRING;
        v->raw = span_of(p + 1, (size_t)(stop - p - 1));
        return stop + 1;
    }
    stop = *p == '{' || *p == '[' ? nested_end(p, end) : word_end(p, end);
    if (!stop)
        return NULL;
    v->raw = span_of(p, (size_t)(stop - p));
    v->type = *p == '{' ? JSON_OBJECT : *p == '[' ? JSON_ARRAY : word_type(v->raw);
    return v->type == JSON_NONE ? NULL : stop;
}

static void look_into(struct span text, const struct look *looks, size_t n, struct json_value *out);

/* A member with this key (or an element with this index): who wanted it, and who wants what is in
 * it. */
static void member(struct span key, const struct json_value *v, const struct look *looks, size_t n,
                   struct json_value *out)
{
    struct look below[PATHS_MAX];
    size_t deeper = 0;

    for (size_t i = 0; i < n; i++) {
        struct span rest = looks[i].rest, first = span_cut(&rest, '.');
        if (!span_eq(first, key))
            continue;
        if (rest.p)
            below[deeper++] = (struct look){ rest, looks[i].slot };
        else if (out[looks[i].slot].type == JSON_NONE)
            out[looks[i].slot] = *v;
    }
    if (deeper && (v->type == JSON_OBJECT || v->type == JSON_ARRAY))
        look_into(v->raw, below, deeper, out);
}

static const char *object_key(const char *p, const char *end, struct json_value *key)
{
    if (p == end || *p != '"' || !(p = read_value(p, end, key)))
        return NULL;
    p = blanks(p, end);
    return p < end && *p == ':' ? blanks(p + 1, end) : NULL;
}

/* text is a whole object or array with its brackets. */
static void look_into(struct span text, const struct look *looks, size_t n, struct json_value *out)
{
    const char *end = text.p + text.n - 1, *p = blanks(text.p + 1, end);
    bool object = text.p[0] == '{';
    char index[24];
    unsigned count = 0;

    while (p < end) {
        struct json_value key = { .type = JSON_STRING }, v;
        if (object && !(p = object_key(p, end, &key)))
            return;
        if (!(p = read_value(p, end, &v)))
            return;
        if (!object) {
            struct buf b = { index, 0, sizeof index };
            buf_printf(&b, "%u", count++);
            key.raw = buf_as_span(&b);
        }
        if (!key.escaped)
            member(key.raw, &v, looks, n, out);
        p = blanks(p, end);
        if (p < end && *p++ != ',')
            return;
        p = blanks(p, end);
    }
}

void json_find_all(struct span text, const struct span *paths, size_t n, struct json_value *out)
{
    struct look looks[PATHS_MAX];
    struct json_value top;
    const char *end = text.p + text.n, *p = text.n ? blanks(text.p, end) : end;

    n = MIN(n, (size_t)PATHS_MAX);
    for (size_t i = 0; i < n; i++) {
        looks[i] = (struct look){ paths[i], i };
        out[i] = (struct json_value){ .type = JSON_NONE };
    }
    if (n && p < end && (*p == '{' || *p == '[') && read_value(p, end, &top))
        look_into(top.raw, looks, n, out);
}

struct json_value json_find(struct span text, struct span path)
{
    struct json_value v;

    json_find_all(text, &path, 1, &v);
    return v;
}
