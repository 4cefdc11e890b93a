/* SPDX-License-Identifier: Apache-2.0 */
/* Look-ups without a tree, and what is valid JSON (RFC 8259). */
#include "table.h"

#include <string.h>

#include "json.h"

static const struct find_row {
    const char *name, *text, *path;
    enum json_type type;
    const char *raw;
} finds[] = {
    { "top level", "{\"type\":\"a\"}", "type", JSON_STRING, "a" },
    { "nested", "{\"x\":{\"type\":\"no\"},\"data\":{\"id\":\"b\"}}", "data.id", JSON_STRING, "b" },
    { "the same key below is another", "{\"x\":{\"type\":\"no\"},\"type\":\"yes\"}", "type",
      JSON_STRING, "yes" },
    { "of repeated keys the first", "{\"a\":1,\"a\":2}", "a", JSON_NUMBER, "1" },
    { "in a list", "{\"v\":[10,[1],{\"k\":true}]}", "v.2.k", JSON_TRUE, "true" },
    { "list at the top", "[{\"a\":null}]", "0.a", JSON_NULL, "null" },
    { "brackets in strings", "{\"x\":\"}]\\\"{\",\"a\":\"b\"}", "a", JSON_STRING, "b" },
    { "an object as the answer", "{\"a\":{\"b\":[1,2]}}", "a", JSON_OBJECT, "{\"b\":[1,2]}" },
    { "blanks everywhere", " { \"a\" : { \"b\" : -1.5e3 } } ", "a.b", JSON_NUMBER, "-1.5e3" },
    { "absent", "{\"a\":1}", "b", JSON_NONE, "" },
    { "path through a string", "{\"a\":\"x\"}", "a.b", JSON_NONE, "" },
    { "broken before it", "{\"a\":tru,\"b\":1}", "b", JSON_NONE, "" },
    { "not JSON", "hello", "a", JSON_NONE, "" },
    { "empty", "", "a", JSON_NONE, "" },
    { "raw control byte in a string", "{\"a\":\"x\ny\"}", "a", JSON_NONE, "" },
    { "unfinished", "{\"a\":\"b", "a", JSON_NONE, "" },
};

static void find(void **state)
{
    const struct find_row *r = *state;
    struct json_value v = json_find(span_str(r->text), span_str(r->path));

    assert_int_equal(v.type, r->type);
    assert_true(span_eq(v.raw, span_str(r->raw)));
}

static const struct valid_row {
    const char *name, *text;
    bool want;
} valids[] = {
    { "object", "{\"a\":[1,2,{}],\"b\":\"\\u00e9\\n\"}", true },
    { "scalar", " true ", true },
    { "number", "-0.5E+10", true },
    { "UTF-8", "\"\xc3\xa9\"", true },
    { "trailing comma", "[1,]", false },
    { "comma first", "[,1]", false },
    { "two values", "1 2", false },
    { "mismatched", "[1}", false },
    { "leading zero", "01", false },
    { "plus", "+1", false },
    { "not UTF-8", "\"\xff\"", false },
    { "bad escape", "\"\\x\"", false },
    { "control byte", "\"\t\"", false },
    { "key without value", "{\"a\"}", false },
    { "key that is no string", "{1:2}", false },
    { "empty", "", false },
    { "NaN", "NaN", false },
    { "unfinished", "[[", false },
};

static void valid(void **state)
{
    const struct valid_row *r = *state;

    assert_int_equal(json_valid(span_str(r->text)), r->want);
}

static const struct text_row {
    const char *name, *raw, *want;
} texts[] = {
    { "plain", "abc", "abc" },
    { "escapes", "a\\\"\\\\\\/\\n", "a\"\\/\n" },
    { "two bytes", "\\u00e9", "\xc3\xa9" },
    { "surrogate pair", "\\ud83d\\ude00", "\xf0\x9f\x98\x80" },
    { "lone high surrogate", "\\ud83d", NULL },
    { "lone low surrogate", "\\ude00", NULL },
    { "cut escape", "\\u12", NULL },
    { "unknown escape", "\\q", NULL },
};

static void unescape(void **state)
{
    const struct text_row *r = *state;
    struct buf b = BUF_INIT;

    assert_int_equal(json_unescape(span_str(r->raw), &b), r->want != NULL);
    if (r->want)
        assert_string_equal(buf_cstr(&b), r->want);
    buf_free(&b);
}

/* case 25: nesting that would break a recursive reader, and a megabyte of escapes */
static void hostile_texts(void **state UNUSED)
{
    size_t n = 1 << 20;
    char *text = malloc(n + 16);

    memset(text, '[', n);
    assert_int_equal(json_find(span_of(text, n), S("a")).type, JSON_NONE);
    assert_false(json_valid(span_of(text, n)));
    memcpy(text, "{\"a\":\"", 6);
    for (size_t i = 6; i + 6 <= n; i += 6)
        memcpy(text + i, "\\u0000", 6);
    assert_int_equal(json_find(span_of(text, n), S("b")).type, JSON_NONE);
    free(text);
}

int main(void)
{
    static const struct CMUnitTest tests[] = { cmocka_unit_test(hostile_texts) };

    return T_TABLE(finds, find) + T_TABLE(valids, valid) + T_TABLE(texts, unescape) + T_RUN(tests);
}
