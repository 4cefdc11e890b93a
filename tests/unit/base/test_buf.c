/* SPDX-License-Identifier: Apache-2.0 */
/* What buf writes for others to read: JSON strings, base64, hex. */
#include "table.h"

#include <string.h>

#include "buf.h"

static void json(struct buf *b, struct span s)
{
    buf_json_string(b, s);
}

static const struct row {
    const char *name;
    void (*encode)(struct buf *b, struct span s);
    const char *in;
    size_t n;
    const char *want;
} rows[] = {
    { "json plain", json, "abc", 3, "\"abc\"" },
    { "json quote and backslash", json, "a\"\\", 3, "\"a\\\"\\\\\"" },
    { "json control bytes", json, "\n\0\x1f", 3, "\"\\u000a\\u0000\\u001f\"" },
    { "json UTF-8 passes", json, "\xc3\xa9\xf0\x9f\x98\x80", 6, "\"\xc3\xa9\xf0\x9f\x98\x80\"" },
    { "json lone continuation", json, "a\x80z", 3, "\"a\xef\xbf\xbdz\"" },
    { "json overlong slash", json, "\xc0\xaf", 2, "\"\xef\xbf\xbd\xef\xbf\xbd\"" },
    { "json surrogate", json, "\xed\xa0\x80", 3, "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"" },
    { "json cut sequence", json, "\xe2\x82", 2, "\"\xef\xbf\xbd\xef\xbf\xbd\"" },
    { "base64 of nothing", buf_base64, "", 0, "" },
    { "base64 one byte", buf_base64, "f", 1, "Zg==" },
    { "base64 two bytes", buf_base64, "fo", 2, "Zm8=" },
    { "base64 three bytes", buf_base64, "foo", 3, "Zm9v" },
    { "base64 high bytes", buf_base64, "\xff\xfe\xfd\xfc", 4, "//79/A==" },
    { "hex", buf_hex, "\x00\xaf\xff", 3, "00afff" },
};

static void encode(void **state)
{
    const struct row *r = *state;
    struct buf b = BUF_INIT;

    r->encode(&b, span_of(r->in, r->n));
    assert_string_equal(buf_cstr(&b), r->want);
    buf_free(&b);
}

static void grows_and_drops(void **state UNUSED)
{
    struct buf b = BUF_INIT;

    for (int i = 0; i < 1000; i++)
        buf_printf(&b, "%03d", i);
    assert_int_equal(b.n, 3000);
    buf_drop(&b, 3 * 500);
    assert_memory_equal(b.p, "500501", 6);
    buf_drop(&b, b.n);
    assert_int_equal(b.n, 0);
    buf_free(&b);
    buf_free(&b);
}

int main(void)
{
    static const struct CMUnitTest tests[] = { cmocka_unit_test(grows_and_drops) };

    return T_TABLE(rows, encode) + T_RUN(tests);
}
