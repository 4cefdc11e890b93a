/* SPDX-License-Identifier: Apache-2.0 */
/* RFC 3339 both ways. */
#include "table.h"

#include "clock.h"

static const struct row {
    const char *name, *text;
    bool ok;
    int64_t ms;
    const char *back; /* as clock_text writes it; NULL: as it came in */
} rows[] = {
    { "the epoch", "1970-01-01T00:00:00.000Z", true, 0, NULL },
    { "milliseconds", "2026-11-23T12:00:00.123Z", true, 1795435200123, NULL },
    { "no fraction", "2026-11-23T12:00:00Z", true, 1795435200000, "2026-11-23T12:00:00.000Z" },
    { "microseconds are cut", "2026-11-23T12:00:00.123987Z", true, 1795435200123,
      "2026-11-23T12:00:00.123Z" },
    { "offset", "2026-11-23T13:30:00+01:30", true, 1795435200000, "2026-11-23T12:00:00.000Z" },
    { "offset to the west", "2026-11-23T04:00:00-08:00", true, 1795435200000,
      "2026-11-23T12:00:00.000Z" },
    { "29 February", "2028-02-29T00:00:00.000Z", true, 1835395200000, NULL },
    { "before the epoch", "1969-12-31T23:59:59.999Z", true, -1, NULL },
    { "29 February of no leap year", "2026-02-29T00:00:00Z", false, 0, NULL },
    { "month 13", "2026-13-01T00:00:00Z", false, 0, NULL },
    { "hour 24", "2026-01-01T24:00:00Z", false, 0, NULL },
    { "no zone", "2026-01-01T00:00:00", false, 0, NULL },
    { "text behind", "2026-01-01T00:00:00Zx", false, 0, NULL },
    { "a dot and nothing", "2026-01-01T00:00:00.Z", false, 0, NULL },
    { "date alone", "2026-01-01", false, 0, NULL },
    { "empty", "", false, 0, NULL },
};

static void both_ways(void **state)
{
    const struct row *r = *state;
    char text[CLOCK_TEXT_MAX];
    int64_t ms = 0;

    assert_int_equal(clock_parse(span_str(r->text), &ms), r->ok);
    if (!r->ok)
        return;
    assert_int_equal(ms, r->ms);
    assert_string_equal(clock_text(ms, text), r->back ? r->back : r->text);
}

int main(void)
{
    return T_TABLE(rows, both_ways);
}
