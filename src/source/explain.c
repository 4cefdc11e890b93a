/* SPDX-License-Identifier: Apache-2.0 */
/* What a refused request brought, for the operator who asks why. Any thread; runs only behind a
 * refusal, so that what is accepted pays nothing for it, and allocates nothing but in ev->scratch.
 *
 * Everything here was written by a stranger, who may hold a secret of ours: an old one, or the
 * right one in the wrong place. So a value is shown only where a check reads it and it proves
 * nothing by itself; of what proves something, four characters and the length. What is in the text
 * cannot end the quotes around it. */
#include <string.h>

#include "room.h"

#define SHOWN_MAX 48 /* characters of one value */
#define ITEMS_MAX 6  /* signatures of one header */

struct out {
    char *p;
    size_t n;
};

static void put(struct out *o, struct span s)
{
    size_t n = MIN(s.n, SOURCE_EXPLAIN_MAX - o->n);

    if (n)
        memcpy(o->p + o->n, s.p, n);
    o->n += n;
}

static void put_number(struct out *o, size_t v)
{
    char digits[20];
    size_t at = sizeof digits;

    do
        digits[--at] = (char)('0' + v % 10);
    while (v /= 10);
    put(o, span_of(digits + at, sizeof digits - at));
}

/* Printable ASCII of what the sender wrote. */
static void put_text(struct out *o, struct span s)
{
    for (size_t i = 0; i < s.n && o->n < SOURCE_EXPLAIN_MAX; i++)
        o->p[o->n++] = s.p[i] >= ' ' && s.p[i] <= '~' && s.p[i] != '\'' ? s.p[i] : '?';
}

static void put_shown(struct out *o, struct span s)
{
    put_text(o, span_of(s.p, MIN(s.n, (size_t)SHOWN_MAX)));
    if (s.n > SHOWN_MAX)
        put(o, S("..."));
}

/* Four characters, and of short ones no more than a quarter. */
static void put_cut(struct out *o, struct span s)
{
    put_text(o, span_of(s.p, MIN(s.n / 4, (size_t)4)));
    put(o, S("...("));
    put_number(o, s.n);
    put(o, S(")"));
}

/* --- what proves something -----------------------------------------------------------------------
 */

/* What stands before the secret part of an item is ours or the scheme's, and no secret. */
static size_t prefix_of(const struct check *c, struct span item)
{
    static const char *const schemes[] = { "Bearer ", "Basic ", "Token " };

    if (c->field.n && span_starts(item, c->field))
        return c->field.n;
    for (size_t i = 0; i < ARRAY_LEN(schemes); i++) {
        struct span scheme = span_str(schemes[i]);
        if (item.n > scheme.n && span_ieq(span_of(item.p, scheme.n), scheme))
            return scheme.n;
    }
    return 0;
}

static bool is_stamp(const struct check *c, struct span item)
{
    return c->stamp.field.n && item.n > c->stamp.field.n && span_starts(item, c->stamp.field) &&
           item.p[c->stamp.field.n] == '=';
}

static void put_item(struct out *o, const struct check *c, struct span item)
{
    size_t n = prefix_of(c, item);
    uint64_t number;

    if (is_stamp(c, item) &&
        span_u64(span_of(item.p + c->stamp.field.n + 1, item.n - c->stamp.field.n - 1), &number)) {
        put(o, item);
        return;
    }
    put(o, span_of(item.p, n));
    put_cut(o, span_of(item.p + n, item.n - n));
}

static void put_proof(struct out *o, const struct check *c, struct span value)
{
    struct span rest = value;

    if (!c->separator) {
        put_item(o, c, value);
        return;
    }
    for (size_t i = 0; rest.p; i++) {
        struct span item = span_trim(span_cut(&rest, c->separator));
        if (i == ITEMS_MAX) {
            put(o, S(" ..."));
            return;
        }
        if (i)
            put(o, span_of(&c->separator, 1));
        put_item(o, c, item);
    }
}

/* --- what was looked at --------------------------------------------------------------------------
 */

/* Of the checks, the one whose signature or token stands in that header. Names are interned. */
static const struct check *check_at(const struct source_plan *p, struct span name)
{
    for (size_t i = 0; i < p->checks_n; i++)
        if (p->checks[i].at.kind == PLACE_HEADER && p->checks[i].at.name.p == name.p)
            return &p->checks[i];
    return NULL;
}

static bool is_read_by(const struct check *c, struct span name)
{
    if (c->stamp.at.kind == PLACE_HEADER && c->stamp.at.name.p == name.p)
        return true;
    for (size_t i = 0; i < c->parts_n; i++)
        if (source_part_is_header(&c->parts[i]) && c->parts[i].text.p == name.p)
            return true;
    return false;
}

static bool is_shown(const struct source_plan *p, struct span name)
{
    const struct place *places[] = { &p->id, &p->type, &p->subject };

    if (source_is_secret(p, name))
        return false;
    for (size_t i = 0; i < ARRAY_LEN(places); i++)
        if (places[i]->kind == PLACE_HEADER && places[i]->name.p == name.p)
            return true;
    for (size_t i = 0; i < p->checks_n; i++)
        if (is_read_by(&p->checks[i], name))
            return true;
    return name.p == p->content_type.p;
}

static void put_value(struct out *o, const struct check *proof, struct span value)
{
    put(o, S("'"));
    if (proof)
        put_proof(o, proof, value);
    else
        put_shown(o, value);
    put(o, S("'"));
}

static void put_header(struct out *o, struct verify *v, struct span name)
{
    const struct check *proof = check_at(v->p, name);
    struct span value;
    bool once;

    if (!proof && !is_shown(v->p, name))
        return;
    once = source_one_header(v, name, proof != NULL, &value);
    put(o, o->n ? S("; ") : S(""));
    put(o, name);
    if (!value.p) {
        put(o, S(" missing"));
        return;
    }
    put(o, once ? S(" ") : S(" more than once, first "));
    put_value(o, proof, value);
}

/* A body is not looked through again: who refuses must not cost more than who accepts. */
static void put_place(struct out *o, struct verify *v, const struct check *c)
{
    struct span value;

    if (c->at.kind != PLACE_QUERY && c->at.kind != PLACE_PATH)
        return;
    put(o, o->n ? S("; ") : S(""));
    put(o, c->at.kind == PLACE_QUERY ? S("query ") : S("body "));
    put(o, c->at.name);
    if (c->at.kind == PLACE_PATH)
        return;
    source_at(v, &c->at, false, &value);
    put(o, value.p ? S(" ") : S(" missing"));
    if (value.p)
        put_value(o, c, value);
}

static void put_places(struct out *o, const struct source_trial *t, size_t all)
{
    const char *sep = " ";

    for (size_t i = 0; i < all; i++) {
        if (!(t->which >> i & 1))
            continue;
        put(o, span_str(sep));
        put_number(o, i + 1);
        sep = ", ";
    }
}

static void put_trial(struct out *o, const struct source_plan *p, const struct source_trial *t)
{
    put(o, o->n ? S("; ") : S(""));
    if (t->check && p->checks_n > 1) {
        put(o, span_str(t->check));
        put(o, S(": "));
    }
    switch (t->what) {
    case TRIED_NOTHING:
        put(o, S("no secret or key was tried"));
        break;
    case TRIED_SECRETS:
        put(o, S("secrets tried:"));
        put_places(o, t, SECRETS_MAX);
        break;
    case TRIED_PUBLIC_KEYS:
        put(o, S("public keys tried:"));
        put_places(o, t, SECRETS_MAX);
        break;
    case TRIED_KEY_SET:
        put(o, S("the key set was tried"));
        break;
    case TRIED_CERTIFICATE:
        put(o, S("the certificate was tried"));
        break;
    }
}

size_t source_explain(const struct source_plan *p, const struct http_request *req,
                      const char *bytes, struct source_event *ev, char out[SOURCE_EXPLAIN_MAX])
{
    struct verify v; /* not zeroed as a whole: no body is looked at here */
    struct out o = { out, 0 };

    v.p = p;
    v.req = req;
    v.bytes = bytes;
    v.ev = ev;
    v.scanned = v.looked = false;
    put_trial(&o, p, &ev->trial); /* first: a stranger's headers cannot crowd it out */
    for (size_t k = 0; k < p->names_n; k++)
        put_header(&o, &v, p->names[k]);
    for (size_t i = 0; i < p->checks_n; i++)
        put_place(&o, &v, &p->checks[i]);
    ev->scratch.n = 0;
    return o.n;
}
