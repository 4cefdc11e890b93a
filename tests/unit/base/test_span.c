/* SPDX-License-Identifier: Apache-2.0 */
/* Globs, numbers and pieces: the tables that routing and outcomes stand on. */
#include "table.h"

#include <string.h>

#include "span.h"

static const struct glob_row {
    const char *name, *pattern, *text;
    bool want;
} globs[] = {
    { "star takes all", "*", "video.generated", true },
    { "star takes nothing", "*", "", true },
    { "empty pattern, empty text", "", "", true },
    { "empty pattern, some text", "", "a", false },
    { "prefix", "video.*", "video.generated", true },
    { "prefix of another", "video.*", "batch.failed", false },
    { "suffix", "*.failed", "batch.failed", true },
    { "suffix in the middle only", "*.failed", "batch.failed.x", false },
    { "the last star backs up", "*.a.b", "x.a.a.b", true },
    { "two stars", "*.job.*", "fine_tuning.job.failed", true },
    { "question mark needs a byte", "a?c", "ac", false },
    { "question mark takes one", "a?c", "abc", true },
    { "brackets are not special", "[ab]", "a", false },
    { "case matters", "Video", "video", false },
    { "stars in a row", "a**b", "ab", true },
    { "star at the end of a full match", "ab*", "ab", true },
};

static void glob(void **state)
{
    const struct glob_row *r = *state;

    assert_int_equal(span_glob(span_str(r->pattern), span_str(r->text)), r->want);
}

static const struct u64_row {
    const char *name, *text;
    bool ok;
    uint64_t want;
} numbers[] = {
    { "zero", "0", true, 0 },
    { "largest", "18446744073709551615", true, UINT64_MAX },
    { "one more", "18446744073709551616", false, 0 },
    { "twenty-one digits", "100000000000000000000", false, 0 },
    { "empty", "", false, 0 },
    { "sign", "+1", false, 0 },
    { "minus", "-1", false, 0 },
    { "blank behind", "1 ", false, 0 },
    { "hexadecimal", "0x1", false, 0 },
    { "leading zeros", "007", true, 7 },
};

static void number(void **state)
{
    const struct u64_row *r = *state;
    uint64_t v = 0;

    assert_int_equal(span_u64(span_str(r->text), &v), r->ok);
    assert_true(v == r->want);
}

static const struct cut_row {
    const char *name, *text, *pieces[4];
} cuts[] = {
    { "three pieces", "a,b,c", { "a", "b", "c" } },
    { "empty pieces stay", ",b,", { "", "b", "" } },
    { "no separator", "abc", { "abc" } },
};

static void cut(void **state)
{
    const struct cut_row *r = *state;
    struct span s = span_str(r->text);

    for (size_t i = 0; r->pieces[i]; i++) {
        assert_non_null(s.p);
        assert_true(span_eq(span_cut(&s, ','), span_str(r->pieces[i])));
    }
    assert_null(s.p);
}

int main(void)
{
    return T_TABLE(globs, glob) + T_TABLE(numbers, number) + T_TABLE(cuts, cut);
}
