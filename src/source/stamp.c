/* SPDX-License-Identifier: Apache-2.0 */
/* The time of a delivery, against old captures. */
#include <string.h>

#include "clock.h"
#include "room.h"

static bool signs(const struct check *c)
{
    for (size_t i = 0; i < c->parts_n; i++) {
        const struct part *part = &c->parts[i];
        if (c->stamp.field.n
                ? part->kind && !source_part_is_header(part) && span_eq(part->text, c->stamp.field)
                : source_part_is_header(part) && span_ieq(part->text, c->stamp.at.name))
            return true;
    }
    return false;
}

void source_compile_stamp(struct compile *cc, struct check *c)
{
    static const char *const units[] = { "s", "ms", "iso8601", NULL };
    static const char *const missing[] = { "refuse", "accept", NULL };
    const struct signature_cfg *cfg = c->cfg;
    const char *unit = cfg->timestamp.unit ? cfg->timestamp.unit : "s";
    const char *absent = cfg->timestamp.missing ? cfg->timestamp.missing : "refuse";
    const struct cfg_node *at = source_check_node(cc, "timestamp");
    int u = source_word(unit, units), m = source_word(absent, missing);

    c->stamp.field = span_str(cfg->timestamp.field);
    if (!!cfg->timestamp.header + !!cfg->timestamp.field + !!cfg->timestamp.path > 1)
        cfg_error(cc->errs, at, "signature.timestamp stands in one place: header, field or path");
    if (cfg->timestamp.header) {
        c->stamp.at = source_header_place(cc, at, cfg->timestamp.header);
        source_keep(cc, at, c->stamp.at.name);
    } else if (cfg->timestamp.path) {
        c->stamp.at = source_path_place(cc, at, cfg->timestamp.path);
    }
    if (u < 0)
        bad_check(cc, "timestamp.unit", "signature.timestamp.unit \"%s\" is none of s, ms, iso8601",
                  unit);
    if (m < 0)
        bad_check(cc, "timestamp.missing",
                  "signature.timestamp.missing \"%s\" is none of refuse, accept", absent);
    c->stamp.unit = (enum unit)MAX(u, 0);
    c->stamp.optional = m == 1;
    c->stamp.tolerance_ms =
        source_duration(cc,
                        cc->c.tolerance ? source_node(cc, "tolerance")
                                        : source_check_node(cc, "timestamp.tolerance"),
                        cc->c.tolerance ? "tolerance" : "signature.timestamp.tolerance",
                        cfg->timestamp.tolerance, 300000);
    c->stamp.future_ms =
        source_duration(cc, source_check_node(cc, "timestamp.future"), "signature.timestamp.future",
                        cfg->timestamp.future, 300000);
    /* A time that is not signed says nothing: who sends an old capture again writes a new one. */
    if ((c->stamp.at.kind == PLACE_HEADER || c->stamp.field.n) && !signs(c))
        cfg_error(cc->errs, at,
                  "signature.timestamp is not part of signature.message: anybody could renew it");
}

static bool parse(const struct check *c, struct span text, int64_t *ms)
{
    uint64_t number;

    if (c->stamp.unit == UNIT_ISO8601)
        return clock_parse(text, ms);
    if (text.n > 19 || !span_u64(text, &number) || number > INT64_MAX / 1000)
        return false;
    *ms = (int64_t)number * (c->stamp.unit == UNIT_S ? 1000 : 1);
    return true;
}

enum verdict source_check_stamp(struct verify *v, const struct check *c)
{
    struct span text;
    int64_t ms;

    if (c->stamp.at.kind == PLACE_NOWHERE && !c->stamp.field.n)
        return VERDICT_OK;
    if (c->stamp.field.n)
        text = source_field(v, c, c->stamp.field);
    else if (source_at(v, &c->stamp.at, false, &text) != VERDICT_OK)
        return VERDICT_MALFORMED;
    if (!text.p && c->stamp.optional)
        return VERDICT_OK;
    if (!text.p || !parse(c, text, &ms))
        return source_because(v, VERDICT_MALFORMED, "the time is missing or cannot be read");
    /* A time in whole seconds is compared with our seconds: five minutes to the second still pass.
     */
    v->ev->skew_ms = (c->stamp.unit == UNIT_S ? v->now_ms / 1000 * 1000 : v->now_ms) - ms;
    if (v->ev->skew_ms > c->stamp.tolerance_ms)
        return VERDICT_STALE;
    return -v->ev->skew_ms > c->stamp.future_ms ? VERDICT_FUTURE : VERDICT_OK;
}
