/* SPDX-License-Identifier: Apache-2.0 */
/* The JSON look-up. In a valid text it finds what a simple recursive reader finds; in any text what
 * it finds lies in the text, and every path has the same answer alone and in company. What a string
 * means survives being written again. */
#include "fuzz.h"

#include <stdio.h>

#include "json.h"

static const struct span paths[] = { S("type"),  S("data.id"), S("data"),  S("0"),
                                     S("a.1.b"), S("a"),       S("0.0.0"), S("none") };

/* The reference: it trusts a valid text, which ends every token for it. */
static const char *blanks(const char *p)
{
    return p + strspn(p, " \t\r\n");
}

static const char *value_end(const char *p)
{
    char close = *p == '{' ? '}' : ']';

    if (*p == '"') {
        for (p++; *p != '"'; p++)
            p += *p == '\\';
        return p + 1;
    }
    if (*p != '{' && *p != '[')
        return p + strcspn(p, " \t\r\n,]}");
    for (p = blanks(p + 1); *p != close; p = *p == ',' ? blanks(p + 1) : p) {
        if (close == '}')
            p = blanks(blanks(value_end(p)) + 1);
        p = blanks(value_end(p));
    }
    return p + 1;
}

static bool is_named(const char *key, struct span name)
{
    struct buf b = BUF_INIT;
    bool same = json_unescape(span_of(key + 1, (size_t)(value_end(key) - key) - 2), &b) &&
                span_eq(buf_as_span(&b), name);

    buf_free(&b);
    return same;
}

static const char *below(const char *p, struct span name)
{
    bool object = *p == '{';
    unsigned n = 0;
    char index[16];

    if (*p != '{' && *p != '[')
        return NULL;
    for (p = blanks(p + 1); *p != (object ? '}' : ']'); p = *p == ',' ? blanks(p + 1) : p) {
        const char *key = p;
        snprintf(index, sizeof index, "%u", n++);
        if (object)
            p = blanks(blanks(value_end(p)) + 1);
        if (object ? is_named(key, name) : span_eq(span_str(index), name))
            return p;
        p = blanks(value_end(p));
    }
    return NULL;
}

static void compare(const char *text, struct span path, const struct json_value *v)
{
    const char *p = blanks(text);
    size_t quote;

    while (p && path.p) {
        struct span name = span_cut(&path, '.');
        p = below(p, name);
    }
    must((v->type != JSON_NONE) == (p != NULL));
    if (!p)
        return;
    quote = v->type == JSON_STRING;
    must(v->raw.p == p + quote && v->raw.p + v->raw.n + quote == value_end(p));
    must(v->type == JSON_OBJECT || v->type == JSON_ARRAY || strchr("\"-0123456789tfn", *p));
}

static bool is_utf8(struct span raw)
{
    struct buf b = BUF_INIT;
    bool ok;

    buf_addc(&b, '"');
    buf_span(&b, raw);
    buf_addc(&b, '"');
    ok = json_valid(buf_as_span(&b));
    buf_free(&b);
    return ok;
}

static void check_string(struct span raw)
{
    struct buf meaning = BUF_INIT, again = BUF_INIT, back = BUF_INIT;

    if (json_unescape(raw, &meaning) && is_utf8(raw)) {
        buf_json_string(&again, buf_as_span(&meaning));
        must(json_valid(buf_as_span(&again)));
        must(json_unescape(span_of(again.p + 1, again.n - 2), &back));
        must(span_eq(buf_as_span(&back), buf_as_span(&meaning)));
    }
    buf_free(&meaning);
    buf_free(&again);
    buf_free(&back);
}

static void check_found(struct span text, const struct json_value *v)
{
    if (v->type == JSON_NONE) {
        must(!v->raw.p && !v->raw.n);
        return;
    }
    must(v->raw.p >= text.p && v->raw.p + v->raw.n <= text.p + text.n);
    if (v->type == JSON_STRING)
        check_string(v->raw);
    else if (json_valid(text))
        must(json_valid(v->raw));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct json_value out[ARRAY_LEN(paths)], alone;
    char *copy = fuzz_copy(data, n), *ended = span_dup(span_of(data, n));
    struct span text = { copy, n };
    bool valid = json_valid(text) && strlen(ended) == n;

    json_find_all(text, paths, ARRAY_LEN(paths), out);
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        check_found(text, &out[i]);
        alone = json_find(text, paths[i]);
        must(alone.type == out[i].type && span_eq(alone.raw, out[i].raw));
        if (valid) {
            alone = json_find(span_of(ended, n), paths[i]);
            compare(ended, paths[i], &alone);
        }
    }
    free(ended);
    free(copy);
    return 0;
}
