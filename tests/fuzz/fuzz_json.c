/* SPDX-License-Identifier: Apache-2.0 */
/* The JSON look-up against the whole-text check: whatever it finds lies in the text and is itself
 * valid, in a valid text every path has the same answer alone and in company, and what a string
 * means survives being written again. */
#include "fuzz.h"

#include "json.h"

static const struct span paths[] = { S("type"),  S("data.id"), S("data"),  S("0"),
                                     S("a.1.b"), S("a"),       S("0.0.0"), S("none") };

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
    char *copy = fuzz_copy(data, n);
    struct span text = { copy, n };

    json_find_all(text, paths, ARRAY_LEN(paths), out);
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        check_found(text, &out[i]);
        alone = json_find(text, paths[i]);
        must(alone.type == out[i].type && span_eq(alone.raw, out[i].raw));
    }
    free(copy);
    return 0;
}
