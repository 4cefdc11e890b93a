/* SPDX-License-Identifier: Apache-2.0 */
/* Ids with and without their collection: what means what, of any bytes, in either direction. */
#include "table.h"

#include <string.h>

#include "jobs/room.h"

static const struct row {
    const char *name;
    struct span a, b;
    bool same;
} rows[] = {
    { "the same", { "abc", 3 }, { "abc", 3 }, true },
    { "another", { "abc", 3 }, { "abd", 3 }, false },
    { "one longer", { "abc", 3 }, { "abcd", 4 }, false },
    { "with a collection", { "batches/abc", 11 }, { "abc", 3 }, true },
    { "two collections", { "batches/abc", 11 }, { "files/abc", 9 }, false },
    { "the same collection", { "batches/abc", 11 }, { "batches/abc", 11 }, true },
    { "only the first collection", { "a/b/c", 5 }, { "b/c", 3 }, true },
    { "not two of them", { "a/b/c", 5 }, { "c", 1 }, false },
    { "the collection alone", { "batches/", 8 }, { "batches", 7 }, false },
    { "no collection before the slash", { "/abc", 4 }, { "abc", 3 }, false },
    { "case counts", { "ABC", 3 }, { "abc", 3 }, false },
    { "zero bytes", { "a\0b", 3 }, { "a\0c", 3 }, false },
    { "zero bytes, the same", { "x/a\0b", 5 }, { "a\0b", 3 }, true },
    { "zeros at the end", { "a\0", 2 }, { "a", 1 }, false },
    { "bytes that are no text", { "c/\xff\xfe\n\"", 6 }, { "\xff\xfe\n\"", 4 }, true },
};

static unsigned found(struct span stored, struct span asked)
{
    struct name name = { .id = stored };
    struct names_walk walk;
    struct names names;
    unsigned n = 0;

    names_init(&names, 10);
    names_add(&names, &name);
    names_find(&names, asked, &walk);
    while (names_next(&walk))
        n++;
    names_remove(&name);
    names_find(&names, asked, &walk);
    assert_null(names_next(&walk));
    names_free(&names);
    return n;
}

static void means(void **state)
{
    const struct row *r = *state;

    assert_int_equal(found(r->a, r->b), r->same);
    assert_int_equal(found(r->b, r->a), r->same);
}

#define MANY 20000

/* More than there are slots: each is found, alone, until it is taken out. */
static void many(void **state UNUSED)
{
    struct name *v = calloc(MANY, sizeof *v);
    char(*text)[24] = calloc(MANY, sizeof *text);
    struct names_walk walk;
    struct names names;

    names_init(&names, 100);
    for (int i = 0; i < MANY; i++) {
        v[i].id = span_of(text[i], (size_t)sprintf(text[i], "jobs/%d", i));
        names_add(&names, &v[i]);
    }
    for (int i = 0; i < MANY; i += 2)
        names_remove(&v[i]);
    for (int i = 0; i < MANY; i += 7) {
        names_find(&names, span_str(text[i] + 5), &walk);
        assert_ptr_equal(names_next(&walk), i % 2 ? &v[i] : NULL);
        if (i % 2)
            assert_null(names_next(&walk));
    }
    names_free(&names);
    free(v);
    free(text);
}

/* Ids that nobody can make up to fall into one place: no chain is long. */
static void chains_are_short(void **state UNUSED)
{
    struct name *v = calloc(MANY, sizeof *v);
    char(*text)[40] = calloc(MANY, sizeof *text);
    struct names names;
    unsigned longest = 0;

    names_init(&names, MANY);
    for (int i = 0; i < MANY; i++) {
        v[i].id = span_of(text[i], (size_t)sprintf(text[i], "%034d", i));
        names_add(&names, &v[i]);
    }
    for (uint64_t s = 0; s <= names.mask; s++) {
        unsigned n = 0;
        for (struct name *at = names.slot[0][s]; at; at = at->next[0])
            n++;
        longest = MAX(longest, n);
    }
    assert_true(longest < 20);
    names_free(&names);
    free(v);
    free(text);
}

int main(void)
{
    static const struct CMUnitTest tests[] = { cmocka_unit_test(many),
                                               cmocka_unit_test(chains_are_short) };

    return T_TABLE(rows, means) + T_RUN(tests);
}
