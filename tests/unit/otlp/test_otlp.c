/* SPDX-License-Identifier: Apache-2.0 */
/* What is sent of a span, which answers say that some were refused, and which settings are none.
 * The thread and its collectors are in tests/e2e/test_tracing.py. */
#include "table.h"

#include <string.h>

#include "json.h"
#include "otlp/room.h"

static const struct otlp_cfg cfg = { .enabled = true, .endpoint = "", .service = "a \"b\"" };

static struct otlp_span made(void)
{
    struct otlp_span s = { .context = { .sampled = true },
                           .name = "receive",
                           .kind = OTLP_SERVER,
                           .start_us = 5,
                           .duration_us = 7,
                           .status = 200,
                           .request = 0x2a,
                           .lsn = UINT64_MAX };

    memset(s.context.trace, 0xab, sizeof s.context.trace);
    memset(s.context.span, 0x0c, sizeof s.context.span);
    otlp_text(s.source, sizeof s.source, S("demo"));
    otlp_text(s.id, sizeof s.id, S("\x01\"\\\xff"));
    return s;
}

static char *written(const struct otlp_span *v, size_t n)
{
    struct buf b = BUF_INIT;

    otlp_json_write(&b, &cfg, "the log", v, n, 1700000000000000);
    assert_true(json_valid(buf_as_span(&b)));
    return buf_take(&b);
}

static void one_in_full(void **state UNUSED)
{
    struct otlp_span s = made();
    char *text = written(&s, 1);

    assert_string_equal(
        strstr(text, "\"spans\":["),
        "\"spans\":[{\"traceId\":\"abababababababababababababababab\","
        "\"spanId\":\"0c0c0c0c0c0c0c0c\",\"flags\":1,\"name\":\"receive\",\"kind\":2,"
        "\"startTimeUnixNano\":\"1700000000000005000\",\"endTimeUnixNano\":"
        "\"1700000000000012000\",\"attributes\":["
        "{\"key\":\"hookline.source\",\"value\":{\"stringValue\":\"demo\"}},"
        "{\"key\":\"hookline.request\",\"value\":{\"stringValue\":\"000000000000002a\"}},"
        "{\"key\":\"cloudevents.event_id\",\"value\":{\"stringValue\":\"\\u0001\\\"\\\\\xef\xbf"
        "\xbd\"}},"
        "{\"key\":\"hookline.lsn\",\"value\":{\"intValue\":\"18446744073709551615\"}},"
        "{\"key\":\"http.response.status_code\",\"value\":{\"intValue\":\"200\"}}],"
        "\"status\":{}}]}]}]}");
    assert_non_null(strstr(text, "{\"key\":\"service.name\",\"value\":{\"stringValue\":\"a "
                                 "\\\"b\\\"\"}}"));
    free(text);
}

static void failed_with_a_parent_and_an_id_that_is_made(void **state UNUSED)
{
    struct otlp_span s[2] = { made(), made() };
    char *text, *first, *second;

    for (size_t i = 0; i < 2; i++) {
        memset(s[i].parent, 0x11, sizeof s[i].parent);
        memset(s[i].context.span, 0, sizeof s[i].context.span);
        s[i].failed = "dead letter";
    }
    text = written(s, 2);
    first = strstr(text, "\"spanId\":\"");
    second = strstr(first + 1, "\"spanId\":\"");
    assert_non_null(second);
    assert_memory_not_equal(first, second, strlen("\"spanId\":\"") + 16);
    assert_non_null(strstr(text, "\"parentSpanId\":\"1111111111111111\""));
    assert_non_null(strstr(text, "\"status\":{\"code\":2,\"message\":\"dead letter\"}"));
    free(text);
}

static void texts_are_cut(void **state UNUSED)
{
    char to[4];

    otlp_text(to, sizeof to, S("abcdef"));
    assert_string_equal(to, "abc");
    otlp_text(to, sizeof to, SPAN_NONE);
    assert_string_equal(to, "");
}

static const struct answer_row {
    const char *name, *text;
    uint64_t want;
} answers[] = {
    { "all taken", "{}", 0 },
    { "all taken, in words", "{\"partialSuccess\":{}}", 0 },
    { "some refused", "{\"partialSuccess\":{\"rejectedSpans\":\"3\",\"errorMessage\":\"x\"}}", 3 },
    { "a number", "{\"partialSuccess\":{\"rejectedSpans\":3}}", 3 },
    { "a number that is none", "{\"partialSuccess\":{\"rejectedSpans\":\"-1\"}}", 0 },
    { "no JSON", "<html>", 0 },
    { "nothing", "", 0 },
};

static void answer(void **state)
{
    const struct answer_row *r = *state;

    assert_int_equal(otlp_json_rejected(span_str(r->text)), r->want);
}

static const struct cfg_row {
    const char *name;
    struct otlp_cfg cfg;
    size_t errors;
} cfgs[] = {
    { "no spans", { .enabled = true, .endpoint = "" }, 0 },
    { "off", { .endpoint = "" }, 0 },
    { "http inside", { .enabled = true, .endpoint = "http://127.0.0.1:4318/v1/traces" }, 0 },
    { "https", { .enabled = true, .endpoint = "https://otlp.example.com/v1/traces?x=y" }, 0 },
    { "no URL", { .enabled = true, .endpoint = "collector:4318" }, 1 },
    { "gRPC", { .enabled = true, .endpoint = "grpc://collector:4317" }, 1 },
    { "a user", { .enabled = true, .endpoint = "http://u:p@collector/v1/traces" }, 1 },
    { "spans without traces", { .endpoint = "http://collector/v1/traces" }, 1 },
};

static void settings(void **state)
{
    const struct cfg_row *r = *state;
    struct cfg_node at = { .file = "t.yaml", .line = 1 };
    struct err_list errs = { NULL, 0 };

    otlp_check(&r->cfg, &at, &errs);
    assert_int_equal(errs.n, r->errors);
    err_list_free(&errs);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_in_full),
        cmocka_unit_test(failed_with_a_parent_and_an_id_that_is_made),
        cmocka_unit_test(texts_are_cut),
    };

    return T_RUN(tests) + T_TABLE(answers, answer) + T_TABLE(cfgs, settings);
}
