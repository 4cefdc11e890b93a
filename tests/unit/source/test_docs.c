/* SPDX-License-Identifier: Apache-2.0 */
/* docs/providers.md says of each preset what the preset says. */
#include "harness.h"

#include <stdio.h>

static struct buf page;

/* The line of a preset's table that begins with this word; empty where there is none. */
static struct span row_of(const char *preset, const char *word)
{
    struct span rest = buf_as_span(&page);
    char heading[80], start[80];
    bool here = false;

    snprintf(heading, sizeof heading, "## `%s`", preset);
    snprintf(start, sizeof start, "| %s | ", word);
    while (rest.p) {
        struct span line = span_cut(&rest, '\n');
        if (span_starts(line, S("## ")))
            here = span_eq(line, span_str(heading));
        else if (here && span_starts(line, span_str(start)))
            return line;
    }
    return SPAN_NONE;
}

static void assert_says(const char *preset, const char *word, const char *text)
{
    struct span row = row_of(preset, word);
    char quoted[128];

    snprintf(quoted, sizeof quoted, "`%s`", text);
    if (!row.n || !memmem(row.p, row.n, quoted, strlen(quoted)))
        fail_msg("the row \"%s\" of %s does not say %s", word, preset, quoted);
}

/* `id: { header: x }` is "header `x`"; nothing is "none". */
static void check_place(const char *preset, const struct cfg_node *block, const char *word)
{
    const struct cfg_node *place = cfg_find(block, word);
    char want[128];

    if (place)
        snprintf(want, sizeof want, "| %s | %s `%s`", word,
                 strcmp(place->child->key, "path") ? place->child->key : "body",
                 place->child->text);
    else
        snprintf(want, sizeof want, "| %s | none |", word);
    if (!span_starts(row_of(preset, word), span_str(want)))
        fail_msg("%s: there is no row %s", preset, want);
}

static void check_outcome(const char *preset, const struct cfg_node *block, const char *word)
{
    const struct cfg_node *globs = cfg_find(cfg_find(block, "outcome"), word);
    struct span row = row_of(preset, word);
    size_t ticks = 0, want = 0;

    for (const struct cfg_node *g = globs ? globs->child : NULL; g; g = g->next, want += 2)
        assert_says(preset, word, g->text);
    for (size_t i = 0; i < row.n; i++)
        ticks += row.p[i] == '`';
    assert_int_equal(ticks, want); /* and no others */
}

static void preset(void **state)
{
    static const char *const outcomes[] = { "succeeded", "failed", "cancelled", "waiting" };
    const char *name = *(const char *const *)*state;
    struct err_list errs = { NULL, 0 };
    struct cfg_doc *doc = cfg_parse("providers.yaml", source_preset_text(name), false, &errs);
    const struct cfg_node *block = cfg_find(cfg_root(doc), name), *retries;

    assert_non_null(block);
    check_place(name, block, "id");
    check_place(name, block, "type");
    check_place(name, block, "subject");
    for (size_t i = 0; i < ARRAY_LEN(outcomes); i++)
        check_outcome(name, block, outcomes[i]);
    if ((retries = cfg_find(block, "retries")))
        assert_says(name, "tries again", retries->text);
    cfg_doc_free(doc);
}

int main(void)
{
    const char *const *names = source_preset_names();
    FILE *f = fopen("docs/providers.md", "r");
    char piece[4096];
    size_t n = 0;
    int failed;

    if (!f)
        return 1;
    while ((n = fread(piece, 1, sizeof piece, f)))
        buf_add(&page, piece, n);
    fclose(f);
    while (names[n])
        n++;
    failed = t_table("presets", names, n, sizeof names[0], preset);
    buf_free(&page);
    return failed;
}
