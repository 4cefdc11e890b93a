/* SPDX-License-Identifier: Apache-2.0 */
/* What is one valid JSON text (RFC 8259), and what strings with escapes mean. */
#include "table.h"

#include <string.h>

#include "json.h"

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
    { "unfinished string", "\"a", false },
    { "unfinished escape", "\"\\", false },
    { "unfinished unicode escape", "\"\\u12\"", false },
    { "blanks at both ends", "\t\r\n {} \t\r\n", true },
    { "another blank", "{}\v", false },
    { "byte order mark", "\xef\xbb\xbf{}", false },
    { "empty members", "{\"\":{},\"\":[]}", true },
    { "trailing comma in an object", "{\"a\":1,}", false },
    { "two commas", "[1,,2]", false },
    { "no comma", "[1 2]", false },
    { "no colon", "{\"a\" 1}", false },
    { "single quotes", "'a'", false },
    { "comment", "[1/**/]", false },
    { "number of signs", "[1x-+e]", false },
    { "fraction without digits", "1.", false },
    { "fraction without a whole", ".5", false },
    { "exponent without digits", "1e", false },
    { "minus alone", "-", false },
    { "hexadecimal", "0x1", false },
    { "word cut", "tru", false },
    { "word in capitals", "True", false },
    { "two bytes, the least", "\"\xc2\x80\"", true },
    { "two bytes, overlong", "\"\xc1\xbf\"", false },
    { "three bytes, the least", "\"\xe0\xa0\x80\"", true },
    { "three bytes, overlong", "\"\xe0\x9f\xbf\"", false },
    { "a surrogate in UTF-8", "\"\xed\xa0\x80\"", false },
    { "four bytes, the last", "\"\xf4\x8f\xbf\xbf\"", true },
    { "four bytes, behind the last", "\"\xf4\x90\x80\x80\"", false },
    { "four bytes, overlong", "\"\xf0\x8f\xbf\xbf\"", false },
    { "UTF-8 cut by the quote", "\"\xe2\x82\"", false },
    { "a continuation alone", "\"\x80\"", false },
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
    { "every short escape", "\\\"\\\\\\/\\b\\f\\n\\r\\t", "\"\\/\b\f\n\r\t" },
    { "capital digits", "\\u00E9", "\xc3\xa9" },
    { "three bytes", "\\u20ac", "\xe2\x82\xac" },
    { "high surrogate and a letter", "\\ud83dx", NULL },
    { "two high surrogates", "\\ud83d\\ud83d", NULL },
    { "a digit that is none", "\\u00g0", NULL },
    { "a backslash at the end", "a\\", NULL },
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

static void nesting_is_bounded(void **state UNUSED)
{
    char text[2 * 513];

    for (size_t depth = 511; depth <= 513; depth++) {
        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        assert_int_equal(json_valid(span_of(text, 2 * depth)), depth <= 512);
    }
    assert_false(json_valid(SPAN_NONE));
}

static void zero_byte(void **state UNUSED)
{
    struct buf b = BUF_INIT;

    assert_false(json_valid(S("\"\0\"")));
    assert_false(json_valid(S("{}\0")));
    assert_true(json_unescape(S("\\u0000"), &b));
    assert_int_equal(b.n, 1);
    assert_int_equal(b.p[0], 0);
    buf_free(&b);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(nesting_is_bounded),
        cmocka_unit_test(zero_byte),
    };

    return T_TABLE(valids, valid) + T_TABLE(texts, unescape) + T_RUN(tests);
}
