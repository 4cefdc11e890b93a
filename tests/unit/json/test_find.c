/* SPDX-License-Identifier: Apache-2.0 */
/* Look-ups without a tree: what is found, and that nothing is found in what is broken. */
#include "table.h"

#include <stdio.h>
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
    { "a key with a dot is no path", "{\"a.b\":1,\"a\":{\"b\":2}}", "a.b", JSON_NUMBER, "2" },
    { "a key that begins as the path does", "{\"ab\":1,\"a\":2}", "a", JSON_NUMBER, "2" },
    { "a key that begins as the path's piece does", "{\"da\":1,\"data\":{\"x\":3}}", "data.x",
      JSON_NUMBER, "3" },
    { "path through a string", "{\"a\":\"x\"}", "a.b", JSON_NONE, "" },
    { "broken before it", "{\"a\":tru,\"b\":1}", "b", JSON_NONE, "" },
    { "not JSON", "hello", "a", JSON_NONE, "" },
    { "empty", "", "a", JSON_NONE, "" },
    { "raw control byte in a string", "{\"a\":\"x\ny\"}", "a", JSON_NONE, "" },
    { "unfinished", "{\"a\":\"b", "a", JSON_NONE, "" },
    { "unfinished object as the answer", "{\"a\":{\"b\":1}", "a", JSON_OBJECT, "{\"b\":1}" },
    { "object without its end as the answer", "{\"a\":{\"b\":1", "a", JSON_NONE, "" },
    { "number of signs", "{\"a\":1x-+e}", "a", JSON_NONE, "" },
    { "number of signs before it", "{\"x\":1-+e,\"a\":1}", "a", JSON_NONE, "" },
    { "leading zero", "{\"a\":01}", "a", JSON_NONE, "" },
    { "fraction without digits", "{\"a\":1.}", "a", JSON_NONE, "" },
    { "exponent without digits", "{\"a\":1e+}", "a", JSON_NONE, "" },
    { "plus", "{\"a\":+1}", "a", JSON_NONE, "" },
    { "minus alone", "{\"a\":-}", "a", JSON_NONE, "" },
    { "number with all of it", "{\"a\":-0.50E-07}", "a", JSON_NUMBER, "-0.50E-07" },
    { "a longer word", "{\"a\":truest}", "a", JSON_NONE, "" },
    { "mismatched brackets before it", "{\"x\":[},\"a\":1}", "a", JSON_NONE, "" },
    { "mismatched brackets as the answer", "{\"a\":[{]}]}", "a", JSON_NONE, "" },
    { "no comma in what is passed", "{\"x\":[1 2],\"a\":1}", "a", JSON_NONE, "" },
    { "no colon in what is passed", "{\"x\":{\"y\" 1},\"a\":1}", "a", JSON_NONE, "" },
    { "trailing comma in what is passed", "{\"x\":[1,],\"a\":1}", "a", JSON_NONE, "" },
    { "broken escape in what is passed", "{\"x\":\"\\q\",\"a\":1}", "a", JSON_NONE, "" },
    { "broken behind it is not seen", "{\"a\":1,]", "a", JSON_NUMBER, "1" },
    { "the first of a name lacks the key", "{\"d\":{\"x\":1},\"d\":{\"id\":2}}", "d.id", JSON_NONE,
      "" },
    { "the first of a name is no object", "{\"d\":7,\"d\":{\"id\":2}}", "d.id", JSON_NONE, "" },
    { "empty object, then the answer", "{\"x\":{},\"y\":[],\"a\":1}", "a", JSON_NUMBER, "1" },
    { "a name spelled with escapes", "{\"t\\u0079pe\":\"a\"}", "type", JSON_STRING, "a" },
    { "element beyond the end", "{\"v\":[1,2]}", "v.2", JSON_NONE, "" },
    { "element behind lists", "{\"v\":[[[0]],[[1]],[[2,3]]]}", "v.2.0.1", JSON_NUMBER, "3" },
    { "element 01 is none", "{\"v\":[1,2]}", "v.01", JSON_NONE, "" },
    { "a number names a member, too", "{\"0\":1}", "0", JSON_NUMBER, "1" },
    { "quote in the eighth byte", "{\"a\":\"1234567\",\"b\":1}", "a", JSON_STRING, "1234567" },
    { "control byte behind eight", "{\"a\":\"123456789\x01\"}", "a", JSON_NONE, "" },
    { "bytes above 127 are text", "{\"a\":\"\xa2\xdc\x9f\x80\xff\xe3\xa0\xa2\"}", "a", JSON_STRING,
      "\xa2\xdc\x9f\x80\xff\xe3\xa0\xa2" },
};

static void find(void **state)
{
    const struct find_row *r = *state;
    struct json_value v = json_find(span_str(r->text), span_str(r->path));

    assert_int_equal(v.type, r->type);
    assert_true(span_eq(v.raw, span_str(r->raw)));
}

/* One pass answers them all, also where one answer holds another. */
static void several_paths(void **state UNUSED)
{
    const struct span paths[] = { S("d.id"), S("d"), S("d.v.1"), S("none"), S("type"), S("d.v.1") };
    struct json_value out[ARRAY_LEN(paths)];
    struct span text = S("{\"d\":{\"v\":[1,[2]],\"id\":\"x\"},\"type\":\"t\"}");

    json_find_all(text, paths, ARRAY_LEN(paths), out);
    assert_true(span_eq(out[0].raw, S("x")));
    assert_true(span_eq(out[1].raw, S("{\"v\":[1,[2]],\"id\":\"x\"}")));
    assert_true(span_eq(out[2].raw, S("[2]")));
    assert_int_equal(out[3].type, JSON_NONE);
    assert_true(span_eq(out[4].raw, S("t")));
    assert_true(span_eq(out[5].raw, S("[2]")));
}

/* A path that has its answer looks no further, though others do. */
static void answered_is_answered(void **state UNUSED)
{
    const struct span paths[] = { S("a"), S("b") };
    struct json_value out[ARRAY_LEN(paths)];

    json_find_all(S("{\"a\":1,\"\":2,\"a\":3,\"b\":4}"), paths, ARRAY_LEN(paths), out);
    assert_true(span_eq(out[0].raw, S("1")));
    assert_true(span_eq(out[1].raw, S("4")));
}

/* A special byte at every place of a string of every length: what eight bytes at a time could miss.
 */
static void strings_of_every_length(void **state UNUSED)
{
    static const char specials[] = { '"', '\\', '\n', '\x1f', '\x00' };
    char text[64];

    for (size_t n = 1; n < 30; n++)
        for (size_t at = 0; at < n; at++)
            for (size_t s = 0; s < sizeof specials; s++) {
                size_t len =
                    (size_t)sprintf(text, "[\"%.*s\"]", (int)n,
                                    "!#()~\x7f\x80\xff!#()~\x7f\x80\xff!#()~\x7f\x80\xff!#()~");
                struct json_value whole = json_find(span_of(text, len), S("0"));
                assert_int_equal(whole.raw.n, n);
                text[2 + at] = specials[s];
                assert_int_equal(json_find(span_of(text, len), S("0")).type, JSON_NONE);
            }
}

static void every_cut(void **state UNUSED)
{
    struct span text = S("{\"x\":[{\"y\":\"\\u00e9\"},-1.5e3,null],\"a\":{\"b\":true}}");

    for (size_t n = 0; n + 1 < text.n; n++) {
        char *copy = span_dup(span_of(text.p, n)); /* so that a sanitizer sees the end */
        struct json_value v = json_find(span_of(copy, n), S("a"));
        assert_int_equal(v.type, JSON_NONE);
        assert_int_equal(v.raw.n, 0);
        free(copy);
    }
}

/* case 25: nesting that would break a recursive reader, and a megabyte of escapes */
static void hostile_texts(void **state UNUSED)
{
    size_t n = 1 << 20;
    char *text = malloc(n + 16);

    memset(text, '[', n);
    assert_int_equal(json_find(span_of(text, n), S("a")).type, JSON_NONE);
    memcpy(text, "[\"x\",", 5);
    memset(text + 5, '[', 100000);
    memset(text + 5 + 100000, ']', 100001);
    assert_int_equal(json_find(span_of(text, 200006), S("1")).raw.n, 200000);
    text[5 + 100000 + 50000] = '}';
    assert_int_equal(json_find(span_of(text, 200006), S("1")).type, JSON_NONE);
    memcpy(text, "{\"a\":\"", 6);
    for (size_t i = 6; i + 6 <= n; i += 6)
        memcpy(text + i, "\\u0000", 6);
    assert_int_equal(json_find(span_of(text, n), S("b")).type, JSON_NONE);
    free(text);
}

static void elements(void **state UNUSED)
{
    static const char *const want[] = { "1", "a]\\\"", "[2,[3]]", "{\"b\":[4]}", "null" };
    struct json_value list =
        json_find(S("{\"x\" : [ 1 ,\"a]\\\"\", [2,[3]],{\"b\":[4]} , null ] }"), S("x"));
    struct span rest = list.raw;
    struct json_value v;
    size_t n = 0;

    for (; json_next(&rest, &v); n++)
        assert_true(n < 5 && span_eq(v.raw, span_str(want[n])));
    assert_int_equal(n, 5);
    rest = S("[]");
    assert_false(json_next(&rest, &v));
    rest = S(" [ ] ");
    assert_false(json_next(&rest, &v));
    rest = S("{\"a\":1}");
    assert_false(json_next(&rest, &v));
    rest = SPAN_NONE;
    assert_false(json_next(&rest, &v));
}

static void sixteen_paths(void **state UNUSED)
{
    struct span paths[16];
    struct json_value out[16];
    char names[16][4];
    struct buf text = BUF_INIT;

    for (int i = 0; i < 16; i++) {
        snprintf(names[i], sizeof names[i], "k%d", i);
        paths[i] = span_str(names[i]);
        buf_printf(&text, "%s\"k%d\":%d", i ? "," : "{", 15 - i, i);
    }
    buf_addc(&text, '}');
    json_find_all(buf_as_span(&text), paths, 16, out);
    for (int i = 0; i < 16; i++)
        assert_int_equal(atoi(out[i].raw.p), 15 - i);
    buf_free(&text);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(elements),
        cmocka_unit_test(sixteen_paths),
        cmocka_unit_test(several_paths),
        cmocka_unit_test(answered_is_answered),
        cmocka_unit_test(strings_of_every_length),
        cmocka_unit_test(every_cut),
        cmocka_unit_test(hostile_texts),
    };

    return T_TABLE(finds, find) + T_RUN(tests);
}
