/* SPDX-License-Identifier: Apache-2.0 */
/* docs/providers.md is what `make docs` makes of the presets. */
#include "harness.h"

#include <stdio.h>

static void the_page_is_not_stale(void **state UNUSED)
{
    FILE *f = fopen("docs/providers.md", "r");
    struct buf page = BUF_INIT, made = BUF_INIT;
    char piece[4096];
    size_t n;

    assert_non_null(f);
    while ((n = fread(piece, 1, sizeof piece, f)))
        buf_add(&page, piece, n);
    fclose(f);
    source_docs(&made);
    if (!span_eq(buf_as_span(&page), buf_as_span(&made)))
        fail_msg("docs/providers.md is stale: make docs");
    buf_free(&page);
    buf_free(&made);
}

static void every_preset_is_on_it(void **state UNUSED)
{
    struct buf made = BUF_INIT;
    char heading[80];

    source_docs(&made);
    for (const char *const *name = source_preset_names(); *name; name++) {
        snprintf(heading, sizeof heading, "\n## `%s`\n", *name);
        assert_non_null(strstr(buf_cstr(&made), heading));
    }
    buf_free(&made);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_page_is_not_stale),
        cmocka_unit_test(every_preset_is_on_it),
    };

    return T_RUN(tests);
}
