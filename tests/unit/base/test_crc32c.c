/* SPDX-License-Identifier: Apache-2.0 */
/* Both ways of computing CRC-32C against the vectors of RFC 3720 appendix B.4, and each other. */
#include "table.h"

#include <string.h>

#include "crc32c.h"

static void vectors(void **state UNUSED)
{
    unsigned char b[32];

    assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
    assert_int_equal(crc32c_portable(0, "123456789", 9), 0xe3069283);
    memset(b, 0, sizeof b);
    assert_int_equal(crc32c(0, b, sizeof b), 0x8a9136aa);
    memset(b, 0xff, sizeof b);
    assert_int_equal(crc32c(0, b, sizeof b), 0x62a8ab43);
    for (size_t i = 0; i < sizeof b; i++)
        b[i] = (unsigned char)i;
    assert_int_equal(crc32c(0, b, sizeof b), 0x46dd794e);
}

/* Lengths around every boundary of the fast paths, at every alignment. */
static void same_both_ways(void **state UNUSED)
{
    static unsigned char data[10000];
    static const size_t around[] = { 0, 8, 64, 1024, 3072, 4096, 6144, 9216 };
    uint32_t x = 1;

    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (unsigned char)((x = x * 1664525 + 1013904223) >> 24);
    for (size_t a = 0; a < ARRAY_LEN(around); a++)
        for (size_t n = around[a]; n < around[a] + 9; n++)
            for (size_t at = 0; at < 8; at++)
                assert_int_equal(crc32c(7, data + at, n), crc32c_portable(7, data + at, n));
}

static void chains(void **state UNUSED)
{
    static const char text[] = "the bytes that were verified are the bytes in the log";

    for (size_t cut = 0; cut < sizeof text; cut++)
        assert_int_equal(crc32c(crc32c(0, text, cut), text + cut, sizeof text - cut),
                         crc32c(0, text, sizeof text));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors),
        cmocka_unit_test(same_both_ways),
        cmocka_unit_test(chains),
    };

    return T_RUN(tests);
}
