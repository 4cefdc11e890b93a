/* SPDX-License-Identifier: Apache-2.0 */
/* Sizes and durations as text. Pure. */
#include "room.h"

struct unit {
    const char *name;
    uint64_t is;
};

static const struct unit bytes_units[] = {
    { "GiB", 1u << 30 }, { "MiB", 1u << 20 }, { "KiB", 1u << 10 }, { "TiB", UINT64_C(1) << 40 }
};
static const struct unit msec_units[] = {
    { "d", 86400000 }, { "h", 3600000 }, { "m", 60000 }, { "s", 1000 }, { "ms", 1 }
};

static bool parse(struct span text, const struct unit *units, size_t n, bool bare, uint64_t *out)
{
    size_t digits = 0;
    uint64_t v;

    while (digits < text.n && text.p[digits] >= '0' && text.p[digits] <= '9')
        digits++;
    if (!span_u64(span_of(text.p, digits), &v))
        return false;
    text = span_of(text.p + digits, text.n - digits);
    if (text.n == 0 && (bare || v == 0)) {
        *out = v;
        return true;
    }
    for (size_t i = 0; i < n; i++)
        if (span_eq(text, span_str(units[i].name)))
            return !__builtin_mul_overflow(v, units[i].is, out) && *out <= INT64_MAX;
    return false;
}

bool cfg_bytes(struct span text, uint64_t *bytes)
{
    return parse(text, bytes_units, ARRAY_LEN(bytes_units), true, bytes);
}

bool cfg_msec(struct span text, int64_t *ms)
{
    uint64_t v;

    if (!parse(text, msec_units, ARRAY_LEN(msec_units), false, &v))
        return false;
    *ms = (int64_t)v;
    return true;
}

static void print(uint64_t v, const struct unit *units, size_t n, const char *bare, struct buf *out)
{
    for (size_t i = 0; i < n; i++)
        if (v && v % units[i].is == 0) {
            buf_printf(out, "%llu%s", (unsigned long long)(v / units[i].is), units[i].name);
            return;
        }
    buf_printf(out, "%llu%s", (unsigned long long)v, bare);
}

void cfg_bytes_text(uint64_t bytes, struct buf *out)
{
    print(bytes, bytes_units, 3, "", out);
}

void cfg_msec_text(int64_t ms, struct buf *out)
{
    print((uint64_t)ms, msec_units, ARRAY_LEN(msec_units), "s", out);
}
