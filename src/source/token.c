/* SPDX-License-Identifier: Apache-2.0 */
/* A shared text that comes along: in a header, as "Authorization: Bearer" or Basic, in the query,
 * in the body. It proves who sends, and nothing of what is sent. And `none`, which proves nothing.
 */
#include <string.h>

#include "room.h"

#define BASIC_MAX 512 /* bytes of "user:password" */

static void compile(struct compile *cc, struct check *c)
{
    struct span rest, first;
    const char *star;

    if (c->at.kind == PLACE_NOWHERE)
        c->at = source_header_place(cc, source_check_node(cc, "header"), "authorization");
    if (c->at.kind == PLACE_HEADER && !c->cfg->scheme && span_ieq(c->at.name, S("authorization")))
        c->scheme = SCHEME_BEARER;
    if (c->at.kind != PLACE_HEADER && c->scheme != SCHEME_NONE)
        bad_check(cc, "scheme", "signature.scheme belongs to a header");
    if (!c->cfg->path)
        return;
    star = strstr(c->cfg->path, ".*.");
    rest = span_str(c->cfg->path);
    if (!star)
        return;
    first = span_of(rest.p, (size_t)(star - rest.p));
    cc->p->paths[c->at.slot] = c->at.name = first;
    c->each = span_str(star + 3);
}

static enum verdict compare(struct verify *v, const struct check *c, struct span value)
{
    bool match = false, late = false;

    source_tries(v, c);
    for (size_t i = 0; i < c->secrets_n; i++) {
        bool holds = v->now_ms <= c->not_after_ms[i];
        bool same = crypto_equal(value.p, value.n, c->tokens[i].p, c->tokens[i].n);
        match |= same & holds;
        late |= same & !holds;
    }
    return source_matched(v, match, late);
}

/* All of them, and at least one: what comes in a batch is one delivery here. */
static enum verdict verify_each(struct verify *v, const struct check *c)
{
    const struct json_value *list = source_json(v, c->at.slot);
    struct span rest = list->raw, text;
    size_t at = v->ev->scratch.n, n = 0;
    struct json_value element, found;
    enum verdict worst = VERDICT_OK, one;

    if (list->type != JSON_ARRAY)
        return VERDICT_UNSIGNED;
    for (; json_next(&rest, &element); n++) {
        found = json_find(element.raw, c->each);
        text = element.type == JSON_OBJECT && found.type == JSON_STRING
                   ? source_json_text(v, &found)
                   : SPAN_NONE;
        one = compare(v, c, text);
        v->ev->scratch.n = at;
        if (one != VERDICT_OK)
            worst = one;
    }
    return n ? worst : VERDICT_UNSIGNED;
}

bool source_is_scheme(struct span *value, struct span scheme)
{
    if (value->n <= scheme.n || !span_ieq(span_of(value->p, scheme.n), scheme))
        return false;
    *value = span_trim(span_of(value->p + scheme.n, value->n - scheme.n));
    return true;
}

static enum verdict verify(struct verify *v, const struct check *c)
{
    enum verdict verdict;
    struct span value;
    uint8_t basic[BASIC_MAX];
    ssize_t n;

    if (c->each.n)
        return verify_each(v, c);
    verdict = source_at(v, &c->at, false, &value);
    if (verdict != VERDICT_OK)
        return verdict;
    if (!value.p)
        return VERDICT_UNSIGNED;
    switch (c->scheme) {
    case SCHEME_NONE:
        return compare(v, c, value);
    case SCHEME_BEARER:
        return source_is_scheme(&value, S("bearer ")) ? compare(v, c, value) : VERDICT_MALFORMED;
    case SCHEME_BASIC:
        n = source_is_scheme(&value, S("basic "))
                ? crypto_from_base64(value, false, false, basic, BASIC_MAX)
                : -1;
        return n < 0 ? VERDICT_MALFORMED : compare(v, c, span_of(basic, (size_t)n));
    }
    return VERDICT_BAD_SIGNATURE;
}

/* Every byte in its escaped form: whatever the token holds. */
static void add_escaped(struct buf *out, struct span s)
{
    for (size_t i = 0; i < s.n; i++)
        buf_printf(out, "%%%02X", (uint8_t)s.p[i]);
}

static int sign(struct sign *s, const struct check *c, struct err *e UNUSED)
{
    struct buf *out = &s->o->headers;

    if (c->at.kind == PLACE_QUERY) {
        buf_printf(&s->o->query, "%s%.*s=", s->o->query.n ? "&" : "", SPAN_FMT(c->at.name));
        add_escaped(&s->o->query, c->tokens[0]);
    }
    if (c->at.kind != PLACE_HEADER) /* in a body it stands already */
        return 0;
    buf_printf(out, "%.*s: %s", SPAN_FMT(c->at.name),
               c->scheme == SCHEME_BEARER  ? "Bearer "
               : c->scheme == SCHEME_BASIC ? "Basic "
                                           : "");
    if (c->scheme == SCHEME_BASIC)
        buf_base64(out, c->tokens[0]);
    else
        buf_span(out, c->tokens[0]);
    buf_adds(out, "\r\n");
    return 0;
}

const struct primitive_ops source_token = {
    .compile = compile, .verify = verify, .sign = sign, .takes_tokens = true
};

static enum verdict verify_none(struct verify *v UNUSED, const struct check *c UNUSED)
{
    return VERDICT_OK;
}

static int sign_none(struct sign *s UNUSED, const struct check *c UNUSED, struct err *e UNUSED)
{
    return 0;
}

const struct primitive_ops source_none = { .verify = verify_none, .sign = sign_none };
