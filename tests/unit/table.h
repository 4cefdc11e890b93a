/* T_TABLE runs one function over the rows of a table, each row as a test with the row's name. The
 * first member of a row is `const char *name`. Prints TAP, so that tests/run can add it up. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

static inline int t_table(const char *group, const void *rows, size_t n, size_t size,
                          void (*test)(void **state))
{
    struct CMUnitTest *tests = calloc(n, sizeof *tests);
    int failed;

    for (size_t i = 0; i < n; i++) {
        const char *row = (const char *)rows + i * size;
        tests[i].name = *(const char *const *)(const void *)row;
        tests[i].test_func = test;
        tests[i].initial_state = (void *)(uintptr_t)row;
    }
    cmocka_set_message_output(CM_OUTPUT_TAP);
    failed = _cmocka_run_group_tests(group, tests, n, NULL, NULL);
    free(tests);
    return failed;
}

#define T_TABLE(rows, test)                                                                        \
    t_table(#rows, rows, sizeof(rows) / sizeof(rows)[0], sizeof(rows)[0], test)
/* A group of plain tests: static const struct CMUnitTest tests[] = { cmocka_unit_test(f), ... }; */
#define T_RUN(tests)                                                                               \
    (cmocka_set_message_output(CM_OUTPUT_TAP), cmocka_run_group_tests(tests, NULL, NULL))
