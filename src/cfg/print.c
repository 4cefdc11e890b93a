/* SPDX-License-Identifier: Apache-2.0 */
/* Tables and structs back into text: the effective configuration, the example, the reference page.
 */
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "room.h"

static void indent(struct buf *out, int level)
{
    buf_printf(out, "%*s", level * 2, "");
}

/* Always quoted as JSON, which YAML reads; a dollar is doubled, since values are expanded when
 * read. */
static void print_string(struct buf *out, struct span s)
{
    struct buf doubled = BUF_INIT;

    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '$')
            buf_addc(&doubled, '$');
        buf_addc(&doubled, s.p[i]);
    }
    buf_json_string(out, buf_as_span(&doubled));
    buf_free(&doubled);
}

static void print_secret(struct buf *out, const struct cfg_secret *s)
{
    struct span ref = span_str(s->ref), kind;
    char until[CLOCK_TEXT_MAX];

    if (!s->ref) {
        buf_adds(out, s->bytes ? "\"********\"" : "null");
        return;
    }
    kind = span_cut(&ref, ':');
    buf_printf(out, "{ %.*s: ", SPAN_FMT(kind));
    print_string(out, ref);
    if (s->not_after_ms)
        buf_printf(out, ", not_after: \"%s\"", clock_text(s->not_after_ms, until));
    buf_adds(out, " }");
}

static void print_lists(const struct cfg_key *k, const void *field, struct buf *out)
{
    const struct cfg_secrets *secrets = field;
    const struct cfg_strs *strs = field;

    buf_addc(out, '[');
    for (size_t i = 0; i < (k->type == CFG_SECRETS ? secrets->n : strs->n); i++) {
        buf_adds(out, i ? ", " : "");
        if (k->type == CFG_SECRETS)
            print_secret(out, &secrets->v[i]);
        else
            print_string(out, span_str(strs->v[i]));
    }
    buf_addc(out, ']');
}

static void print_strmap(const struct cfg_strmap *map, struct buf *out)
{
    buf_addc(out, '{');
    for (size_t i = 0; i < map->n; i++) {
        buf_adds(out, i ? ", " : " ");
        buf_json_string(out, span_str(map->k[i]));
        buf_adds(out, ": ");
        print_string(out, span_str(map->v[i]));
    }
    buf_adds(out, map->n ? " }" : "}");
}

static void print_value(const struct cfg_key *k, const void *field, struct buf *out)
{
    switch (k->type) {
    case CFG_STR:
        print_string(out, span_str(*(char *const *)field));
        break;
    case CFG_BOOL:
        buf_adds(out, *(const bool *)field ? "true" : "false");
        break;
    case CFG_INT:
        buf_printf(out, "%lld", (long long)*(const int64_t *)field);
        break;
    case CFG_BYTES:
        cfg_bytes_text(*(const uint64_t *)field, out);
        break;
    case CFG_MSEC:
        cfg_msec_text(*(const int64_t *)field, out);
        break;
    case CFG_ENUM:
        buf_adds(out, k->words[*(const int *)field]);
        break;
    case CFG_SECRET:
        print_secret(out, field);
        break;
    case CFG_STRMAP:
        print_strmap(field, out);
        break;
    default:
        print_lists(k, field, out);
    }
}

static bool is_absent(const struct cfg_key *k, const void *field)
{
    const struct cfg_strs *list = field;

    if (k->type == CFG_STR || k->type == CFG_OPTION)
        return !*(void *const *)field;
    if (k->type == CFG_SECRET)
        return !((const struct cfg_secret *)field)->bytes;
    if (k->type == CFG_NAMED)
        return !list->n;
    if (k->type == CFG_STRS || k->type == CFG_SECRETS || k->type == CFG_LIST)
        return !list->n && !k->def; /* an empty list is not the default one */
    return k->type == CFG_STRMAP && !((const struct cfg_strmap *)field)->n;
}

static void print_table(const struct cfg_key *table, const void *of, struct buf *out, int level);

static void print_named(const struct cfg_key *k, const struct cfg_named *named, struct buf *out,
                        int level)
{
    for (size_t i = 0; i < named->n; i++) {
        indent(out, level);
        buf_printf(out, "%s:\n", named->name[i]);
        print_table(k->sub, named->v[i], out, level + 1);
    }
}

/* The dash of an item takes the place of the blanks before its first key. */
static void print_items(const struct cfg_key *k, const struct cfg_list *list, struct buf *out,
                        int level)
{
    for (size_t i = 0; i < list->n; i++) {
        size_t at = out->n + (size_t)level * 2;
        print_table(k->sub, list->v[i], out, level + 1);
        out->p[at] = '-';
    }
}

/* Whether a table would print anything: a section without a line is left out. */
static bool prints_nothing(const struct cfg_key *table, const void *of)
{
    for (const struct cfg_key *k = table; k->name; k++) {
        const void *field = cfg_field(of, k);
        if (k->type == CFG_SECTION ? !prints_nothing(k->sub, field) : !is_absent(k, field))
            return false;
    }
    return true;
}

static void print_table(const struct cfg_key *table, const void *of, struct buf *out, int level)
{
    for (const struct cfg_key *k = table; k->name; k++) {
        const void *field = cfg_field(of, k);
        if (k->type == CFG_SECTION ? prints_nothing(k->sub, field) : is_absent(k, field))
            continue;
        indent(out, level);
        buf_printf(out, "%s:", k->name);
        if (k->type == CFG_SECTION || k->type == CFG_OPTION) {
            buf_addc(out, '\n');
            print_table(k->sub, k->type == CFG_OPTION ? *(void *const *)field : field, out,
                        level + 1);
        } else if (k->type == CFG_NAMED) {
            buf_addc(out, '\n');
            print_named(k, field, out, level + 1);
        } else if (k->type == CFG_LIST) {
            buf_adds(out, ((const struct cfg_list *)field)->n ? "\n" : " []\n");
            print_items(k, field, out, level + 1);
        } else {
            buf_addc(out, ' ');
            print_value(k, field, out);
            buf_addc(out, '\n');
        }
    }
}

void cfg_print(const struct cfg_key *table, const void *of, struct buf *out)
{
    print_table(table, of, out, 0);
}

static bool has_table(const struct cfg_key *k)
{
    return k->type == CFG_SECTION || k->type == CFG_OPTION || k->type == CFG_NAMED ||
           k->type == CFG_LIST;
}

static void example(const struct cfg_key *table, struct buf *out, int level)
{
    for (const struct cfg_key *k = table; k->name; k++) {
        size_t at;
        buf_adds(out, "# ");
        indent(out, level);
        if (!has_table(k)) {
            buf_printf(out, "%s: %-*s  # %s\n", k->name,
                       (int)MAX(1, 36 - (int)strlen(k->name) - level * 2), k->def ? k->def : "",
                       k->help);
            continue;
        }
        buf_printf(out, "%s:  # %s\n", k->name, k->help);
        if (k->type == CFG_NAMED) {
            buf_adds(out, "# ");
            indent(out, level + 1);
            buf_adds(out, "NAME:\n");
        }
        at = out->n + 2 + (size_t)(level + 1) * 2;
        example(k->sub, out, level + (k->type == CFG_NAMED || k->type == CFG_LIST ? 2 : 1));
        if (k->type == CFG_LIST)
            out->p[at] = '-';
    }
}

void cfg_example(const struct cfg_key *table, struct buf *out)
{
    example(table, out, 0);
}

static const char *type_name(const struct cfg_key *k)
{
    static const char *const names[] = {
        [CFG_STR] = "string",    [CFG_BOOL] = "boolean",  [CFG_INT] = "number",
        [CFG_BYTES] = "size",    [CFG_MSEC] = "duration", [CFG_ENUM] = "word",
        [CFG_SECRET] = "secret", [CFG_STRS] = "strings",  [CFG_SECRETS] = "secrets",
        [CFG_STRMAP] = "map",    [CFG_SECTION] = "",      [CFG_OPTION] = "",
        [CFG_NAMED] = "",        [CFG_LIST] = "list",
    };

    return names[k->type];
}

static void reference_row(const struct cfg_key *k, const char *prefix, struct buf *out)
{
    buf_printf(out, "| `%s%s` | %s | ", prefix, k->name, type_name(k));
    if (k->def && k->def[0])
        buf_printf(out, "`%s`", k->def);
    buf_printf(out, " | %s | %s", k->flags & CFG_RELOAD ? "reload" : "restart", k->help);
    for (size_t i = 0; k->type == CFG_ENUM && k->words[i]; i++)
        buf_printf(out, "%s`%s`", i ? ", " : " One of ", k->words[i]);
    buf_adds(out, " |\n");
}

static void reference(const struct cfg_key *table, const char *prefix, struct buf *out)
{
    for (const struct cfg_key *k = table; k->name; k++) {
        char *below;
        if (!has_table(k) || k->type == CFG_LIST)
            reference_row(k, prefix, out);
        if (!has_table(k))
            continue;
        below = xasprintf("%s%s.%s", prefix, k->name, k->type == CFG_NAMED ? "NAME." : "");
        reference(k->sub, below, out);
        free(below);
    }
}

void cfg_reference(const struct cfg_key *table, struct buf *out)
{
    buf_adds(out, "| key | type | default | applied on | meaning |\n|---|---|---|---|---|\n");
    reference(table, "", out);
}

static bool same_value(const struct cfg_key *k, const void *a, const void *b)
{
    struct buf x = BUF_INIT, y = BUF_INIT;
    bool same;

    if (is_absent(k, a) || is_absent(k, b))
        return is_absent(k, a) == is_absent(k, b);
    if (k->type == CFG_SECRET) {
        const struct cfg_secret *s = a, *t = b;
        return span_eq(span_of(s->bytes, s->n), span_of(t->bytes, t->n));
    }
    print_value(k, a, &x);
    print_value(k, b, &y);
    same = span_eq(buf_as_span(&x), buf_as_span(&y));
    buf_free(&x);
    buf_free(&y);
    return same;
}

static bool same_named(const struct cfg_key *k, const struct cfg_named *a,
                       const struct cfg_named *b);
static bool same_table(const struct cfg_key *table, const void *a, const void *b);

static bool same_items(const struct cfg_key *k, const struct cfg_list *a, const struct cfg_list *b)
{
    bool same = a->n == b->n;

    for (size_t i = 0; i < a->n && same; i++)
        same = same_table(k->sub, a->v[i], b->v[i]);
    return same;
}

/* By value, not as printed: printed secrets are masked. What a reload can apply counts as the same.
 */
static bool same_table(const struct cfg_key *table, const void *a, const void *b)
{
    for (const struct cfg_key *k = table; k->name; k++) {
        const void *x = cfg_field(a, k), *y = cfg_field(b, k);
        const void *p = *(void *const *)x, *q = *(void *const *)y;
        bool same;

        if (k->flags & CFG_RELOAD)
            continue;
        if (k->type == CFG_SECTION)
            same = same_table(k->sub, x, y);
        else if (k->type == CFG_OPTION)
            same = p && q ? same_table(k->sub, p, q) : p == q;
        else if (k->type == CFG_NAMED)
            same = same_named(k, x, y);
        else if (k->type == CFG_LIST)
            same = same_items(k, x, y);
        else
            same = same_value(k, x, y);
        if (!same)
            return false;
    }
    return true;
}

static bool same_named(const struct cfg_key *k, const struct cfg_named *a,
                       const struct cfg_named *b)
{
    if (a->n != b->n)
        return false;
    for (size_t i = 0; i < a->n; i++)
        if (strcmp(a->name[i], b->name[i]) || !same_table(k->sub, a->v[i], b->v[i]))
            return false;
    return true;
}

/* Of lists of the same length each item is asked for itself. */
static const char *items_need_restart(const struct cfg_key *k, const struct cfg_list *a,
                                      const struct cfg_list *b, char *out)
{
    char below[128];

    if (a->n != b->n) {
        snprintf(out, 128, "%s", k->name);
        return out;
    }
    for (size_t i = 0; i < a->n; i++)
        if (cfg_needs_restart(k->sub, a->v[i], b->v[i], below)) {
            snprintf(out, 128, "%.40s.%.80s", k->name, below);
            return out;
        }
    return NULL;
}

const char *cfg_needs_restart(const struct cfg_key *table, const void *a, const void *b, char *out)
{
    for (const struct cfg_key *k = table; k->name; k++) {
        const void *x = cfg_field(a, k), *y = cfg_field(b, k);
        char below[100];
        bool same;

        if (k->flags & CFG_RELOAD)
            continue;
        if (k->type == CFG_SECTION) {
            if (cfg_needs_restart(k->sub, x, y, below)) {
                snprintf(out, 128, "%s.%s", k->name, below);
                return out;
            }
            continue;
        }
        if (k->type == CFG_LIST) {
            if (items_need_restart(k, x, y, out))
                return out;
            continue;
        }
        same = k->type == CFG_NAMED ? same_named(k, x, y)
                                    : k->type == CFG_OPTION || same_value(k, x, y);
        if (!same) {
            snprintf(out, 100, "%s", k->name);
            return out;
        }
    }
    return NULL;
}
