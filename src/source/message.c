/* SPDX-License-Identifier: Apache-2.0 */
/* The signed message: text with pieces between braces, each a row of the table below. The same code
 * builds it for what comes in and for what `hookline send` signs. */
#include <stdio.h>
#include <string.h>

#include "room.h"

#define FORM_MAX 512 /* parameters; a form with more is refused */

struct part_kind {
    const char *name;
    bool named, signs_body, senders; /* {name:NAME}; the value is the sender's */
    void (*compile)(struct compile *cc, struct check *c, struct part *part);
    enum verdict (*text)(struct verify *v, const struct check *c, const struct part *part,
                         struct span *out);
};

static struct span since(const struct verify *v, size_t at)
{
    return span_of(v->ev->scratch.p + at, v->ev->scratch.n - at);
}

static enum verdict text_body(struct verify *v, const struct check *c UNUSED,
                              const struct part *part UNUSED, struct span *out)
{
    *out = http_body(v->req, v->bytes);
    return VERDICT_OK;
}

static void compile_header(struct compile *cc, struct check *c UNUSED, struct part *part)
{
    part->text = source_intern(cc, source_check_node(cc, "message"), part->text);
    source_keep(cc, source_check_node(cc, "message"), part->text);
}

static enum verdict text_header(struct verify *v, const struct check *c UNUSED,
                                const struct part *part, struct span *out)
{
    if (!source_one_header(v, part->text, false, out))
        return VERDICT_MALFORMED;
    return out->p ? VERDICT_OK : VERDICT_UNSIGNED;
}

static void compile_field(struct compile *cc, struct check *c, struct part *part)
{
    if (!c->separator)
        bad_check(cc, "message",
                  "signature.message: {field:%.*s} needs signature.separator, else the header is "
                  "one signature",
                  SPAN_FMT(part->text));
}

static enum verdict text_field(struct verify *v, const struct check *c, const struct part *part,
                               struct span *out)
{
    *out = source_field(v, c, part->text);
    return out->p ? VERDICT_OK : VERDICT_MALFORMED;
}

static enum verdict text_query(struct verify *v, const struct check *c UNUSED,
                               const struct part *part, struct span *out)
{
    size_t at = v->ev->scratch.n;

    if (!http_query_get(http_query(v->req, v->bytes), part->text, &v->ev->scratch))
        return VERDICT_MALFORMED;
    *out = since(v, at);
    return VERDICT_OK;
}

static enum verdict text_sha256(struct verify *v, const struct check *c UNUSED,
                                const struct part *part UNUSED, struct span *out)
{
    uint8_t digest[CRYPTO_HASH_MAX];
    size_t at = v->ev->scratch.n;

    buf_hex(&v->ev->scratch,
            span_of(digest, crypto_hash(CRYPTO_SHA256, http_body(v->req, v->bytes), digest)));
    *out = since(v, at);
    return VERDICT_OK;
}

/* CRC-32 of ISO 3309, as in zip files; four bits at a time, since only one provider asks for it. */
static uint32_t crc32_of(struct span s)
{
    static const uint32_t table[16] = { 0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac,
                                        0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
                                        0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c,
                                        0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c };
    uint32_t crc = ~0u;

    for (size_t i = 0; i < s.n; i++) {
        crc ^= (uint8_t)s.p[i];
        crc = crc >> 4 ^ table[crc & 15];
        crc = crc >> 4 ^ table[crc & 15];
    }
    return ~crc;
}

static enum verdict text_crc32(struct verify *v, const struct check *c UNUSED,
                               const struct part *part UNUSED, struct span *out)
{
    size_t at = v->ev->scratch.n;

    buf_printf(&v->ev->scratch, "%u", crc32_of(http_body(v->req, v->bytes)));
    *out = since(v, at);
    return VERDICT_OK;
}

static void compile_url(struct compile *cc, struct check *c, struct part *part)
{
    if (!cc->c.url)
        bad_check(cc, "message", "this provider signs our URL: url is missing");
    part->text = span_str(cc->c.url);
    c->extra += part->text.n;
}

static enum verdict text_own(struct verify *v UNUSED, const struct check *c UNUSED,
                             const struct part *part, struct span *out)
{
    *out = part->text;
    return VERDICT_OK;
}

/* Our public URL, behind it the query as it came: what stands before the path is not told to us. */
static enum verdict text_url_query(struct verify *v, const struct check *c UNUSED,
                                   const struct part *part, struct span *out)
{
    struct span query = http_query(v->req, v->bytes);
    size_t at = v->ev->scratch.n;

    buf_span(&v->ev->scratch, part->text);
    if (query.p) {
        buf_addc(&v->ev->scratch, '?');
        buf_span(&v->ev->scratch, query);
    }
    *out = since(v, at);
    return VERDICT_OK;
}

static void compile_config(struct compile *cc, struct check *c UNUSED, struct part *part)
{
    struct span name = part->text;

    part->text = SPAN_NONE;
    for (size_t i = 0; i < cc->c.config.n; i++)
        if (span_eq(span_str(cc->c.config.k[i]), name))
            part->text = span_str(cc->c.config.v[i]);
    if (!part->text.n)
        bad(cc, "config", "config.%.*s is missing: the provider signs it", SPAN_FMT(name));
}

struct parameter {
    struct span name, value;
};

static int compare_spans(struct span a, struct span b)
{
    int d = memcmp(a.n ? a.p : "", b.n ? b.p : "", MIN(a.n, b.n));

    return d ? d : (a.n > b.n) - (a.n < b.n);
}

static int compare_parameters(const void *a, const void *b)
{
    const struct parameter *x = a, *y = b;
    int d = compare_spans(x->name, y->name);

    return d ? d : compare_spans(x->value, y->value);
}

static bool form_parameters(struct verify *v, struct parameter *out, size_t *n)
{
    struct span rest = http_body(v->req, v->bytes);
    struct buf *scratch = &v->ev->scratch;
    size_t at;

    for (*n = 0; rest.p && rest.n; ++*n) {
        struct span value = span_cut(&rest, '&'), name = span_cut(&value, '=');
        if (*n == FORM_MAX)
            return false;
        at = scratch->n;
        if (!http_unescape_form(name, scratch))
            return false;
        out[*n].name = since(v, at);
        at = scratch->n;
        if (!http_unescape_form(value, scratch))
            return false;
        out[*n].value = since(v, at);
    }
    return true;
}

/* Names and values by name; a name that comes again adds its other values in order. */
static enum verdict text_form(struct verify *v, const struct check *c UNUSED,
                              const struct part *part UNUSED, struct span *out)
{
    struct span type = http_header(v->req, v->bytes, S("content-type"), NULL);
    struct parameter parameters[FORM_MAX];
    size_t n, at;

    if (!span_ieq(span_trim(span_cut(&type, ';')), S("application/x-www-form-urlencoded")))
        return VERDICT_UNSIGNED;
    if (!form_parameters(v, parameters, &n))
        return VERDICT_MALFORMED;
    qsort(parameters, n, sizeof parameters[0], compare_parameters);
    at = v->ev->scratch.n;
    for (size_t i = 0; i < n; i++) {
        if (i && !compare_parameters(&parameters[i], &parameters[i - 1]))
            continue;
        buf_span(&v->ev->scratch, parameters[i].name);
        buf_span(&v->ev->scratch, parameters[i].value);
    }
    *out = since(v, at);
    return VERDICT_OK;
}

#define LINES_MAX 8

static enum verdict text_lines(struct verify *v, const struct check *c UNUSED,
                               const struct part *part, struct span *out)
{
    struct span paths[LINES_MAX], rest = part->text;
    struct buf *scratch = &v->ev->scratch;
    struct json_value found[LINES_MAX];
    size_t n = 0, at = scratch->n;

    while (rest.p && n < LINES_MAX)
        paths[n++] = span_cut(&rest, ',');
    json_find_all(http_body(v->req, v->bytes), paths, n, found);
    for (size_t i = 0; i < n; i++) {
        if (found[i].type == JSON_NONE || found[i].type == JSON_NULL)
            continue;
        if (found[i].type != JSON_STRING)
            return VERDICT_MALFORMED;
        buf_span(scratch, paths[i]);
        buf_addc(scratch, '\n');
        if (!json_unescape(found[i].raw, scratch))
            return VERDICT_MALFORMED;
        buf_addc(scratch, '\n');
    }
    *out = since(v, at);
    return VERDICT_OK;
}

static void compile_lines(struct compile *cc, struct check *c, struct part *part)
{
    size_t commas = 0;

    for (size_t i = 0; i < part->text.n; i++)
        commas += part->text.p[i] == ',';
    if (commas >= LINES_MAX)
        bad_check(cc, "message", "signature.message: {lines} has more than %d names", LINES_MAX);
    c->form = true;
    c->extra += part->text.n + 2 * LINES_MAX;
}

static void compile_form(struct compile *cc UNUSED, struct check *c, struct part *part UNUSED)
{
    c->form = true;
}

static const struct part_kind kinds[] = {
    { "body", false, true, false, NULL, text_body },
    { "header", true, false, true, compile_header, text_header },
    { "field", true, false, true, compile_field, text_field },
    { "query", true, false, true, NULL, text_query },
    { "sha256hex:body", false, true, false, NULL, text_sha256 },
    { "crc32:body", false, true, false, NULL, text_crc32 },
    { "url", false, false, false, compile_url, text_own },
    { "url+query", false, false, false, compile_url, text_url_query },
    { "config", true, false, false, compile_config, text_own },
    { "form:sorted", false, true, false, compile_form, text_form },
    { "lines", true, true, false, compile_lines, text_lines },
};
#define HEADER_KIND (&kinds[1])
#define FIELD_KIND (&kinds[2])

bool source_part_is_header(const struct part *part)
{
    return part->kind == HEADER_KIND;
}

static bool is_stamp(const struct check *c, const struct part *part)
{
    return (part->kind == HEADER_KIND && c->stamp.at.kind == PLACE_HEADER &&
            span_ieq(part->text, c->stamp.at.name)) ||
           (part->kind == FIELD_KIND && span_eq(part->text, c->stamp.field));
}

bool source_part_shifts(const struct check *c, size_t i, struct span value)
{
    const struct part *part = &c->parts[i], *next = part + 1;

    if (i + 1 == c->parts_n || next->kind || !part->kind || !part->kind->senders ||
        is_stamp(c, part))
        return false;
    return value.n && memmem(value.p, value.n, next->text.p, next->text.n);
}

void source_message_room(struct verify *v, const struct check *c)
{
    size_t form = c->form ? (size_t)v->req->body_len * 2 : 0;
    size_t unescaped = 2 * 6 * ATTRIBUTE_MAX; /* a signature and a time from the body */

    /* every part may add this much; spans into it stay */
    buf_reserve(&v->ev->scratch, (c->parts_n + 1) * (v->req->target_len + 2 * CRYPTO_HASH_MAX) +
                                     c->extra + form + unescaped);
}

enum verdict source_part(struct verify *v, const struct check *c, size_t i, struct span *out)
{
    const struct part *part = &c->parts[i];
    enum verdict verdict;

    if (!part->kind) {
        *out = part->text;
        return VERDICT_OK;
    }
    verdict = part->kind->text(v, c, part, out);
    if (verdict == VERDICT_OK && source_part_shifts(c, i, *out))
        return source_because(v, VERDICT_MALFORMED,
                              "a value in the message holds the text that ends it");
    return verdict;
}

enum verdict source_message(struct verify *v, const struct check *c, struct span *parts)
{
    enum verdict verdict = VERDICT_OK;

    for (size_t i = 0; i < c->parts_n && verdict == VERDICT_OK; i++)
        verdict = source_part(v, c, i, &parts[i]);
    return verdict;
}

/* --- from the template ---------------------------------------------------------------------------
 */

static void add_part(struct compile *cc, struct check *c, const struct part_kind *kind,
                     struct span text)
{
    if (c->parts_n == PARTS_MAX) {
        bad_check(cc, "message", "signature.message has more than %d parts", PARTS_MAX);
        return;
    }
    c->parts[c->parts_n] = (struct part){ kind, text };
    if (kind && kind->compile)
        kind->compile(cc, c, &c->parts[c->parts_n]);
    c->parts_n++;
}

/* What stands between braces. */
static void compile_piece(struct compile *cc, struct check *c, struct span piece)
{
    struct span name = piece, kind = span_cut(&name, ':');

    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (kinds[i].named ? name.n && span_eq(kind, span_str(kinds[i].name))
                           : span_eq(piece, span_str(kinds[i].name))) {
            add_part(cc, c, &kinds[i], kinds[i].named ? name : SPAN_NONE);
            return;
        }
    bad_check(cc, "message", "signature.message: {%.*s} is not known", SPAN_FMT(piece));
}

static bool signs_body(const struct check *c)
{
    for (size_t i = 0; i < c->parts_n; i++) {
        const struct part_kind *kind = c->parts[i].kind;
        if (kind && (kind->signs_body || (c->body_hash.n && kind->text == text_url_query)))
            return true;
    }
    return false;
}

void source_compile_message(struct compile *cc, struct check *c)
{
    struct span rest = span_str(c->cfg->message ? c->cfg->message : "{body}");

    while (rest.n) {
        struct span text = span_cut(&rest, '{'), piece;
        if (text.n)
            add_part(cc, c, NULL, text);
        if (!rest.p)
            break;
        if (!memchr(rest.p, '}', rest.n)) {
            bad_check(cc, "message", "signature.message: { without }");
            return;
        }
        piece = span_cut(&rest, '}');
        compile_piece(cc, c, piece);
    }
    if (!signs_body(c))
        bad_check(cc, "message", "signature.message leaves the body out: anybody could change it");
}

/* Such a delivery is signed by its URL alone. So is a form without fields: taken for one, its body
 * could be replaced by that. */
bool source_hash_in_url(struct verify *v)
{
    size_t at = v->ev->scratch.n;
    bool is = false;

    for (size_t i = 0; i < v->p->checks_n && !is; i++)
        is = v->p->checks[i].body_hash.n &&
             http_query_get(http_query(v->req, v->bytes), v->p->checks[i].body_hash,
                            &v->ev->scratch);
    v->ev->scratch.n = at;
    return is;
}

enum verdict source_check_body_hash(struct verify *v, const struct check *c)
{
    uint8_t want[CRYPTO_HASH_MAX], is[CRYPTO_HASH_MAX];
    struct buf *scratch = &v->ev->scratch;
    size_t at = scratch->n, n;

    if (!http_query_get(http_query(v->req, v->bytes), c->body_hash, scratch))
        return VERDICT_UNSIGNED;
    n = crypto_hash(CRYPTO_SHA256, http_body(v->req, v->bytes), is);
    if (crypto_from_hex(since(v, at), want, sizeof want) == (ssize_t)n &&
        crypto_equal(is, n, want, n))
        return VERDICT_OK;
    return source_because(v, VERDICT_BAD_SIGNATURE, "the body is not the one that was signed");
}
