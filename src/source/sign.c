/* SPDX-License-Identifier: Apache-2.0 */
/* The other direction: a delivery as the provider would send it, for `hookline send`, the tests and
 * the benchmarks. It fills the headers that the plan's own places name, and then reads the request
 * back as if it came in: so a preset that can be verified can be sent. */
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "room.h"

struct made {
    struct span name, value;
};

struct draft {
    struct sign s;
    struct made headers[CHECKS_MAX * (PARTS_MAX + 1) + 4];
    size_t n;
    char stamp[CHECKS_MAX][CLOCK_TEXT_MAX], id[64], body_hash[2 * CRYPTO_HASH_MAX + 1];
    struct buf bytes; /* the request as far as it is made */
    struct http_request req;
};

static void set(struct draft *d, struct span name, struct span value)
{
    for (size_t i = 0; i < d->n; i++)
        if (span_ieq(d->headers[i].name, name))
            return;
    d->headers[d->n++] = (struct made){ name, value };
}

/* The preset's form of an id, each '?' a random hexadecimal digit. */
static struct span random_id(const char *form, char *out, size_t cap)
{
    uint8_t digit;
    size_t n = 0;

    for (; n < cap && form[n]; n++) {
        crypto_random(&digit, 1);
        out[n] = form[n] == '?' ? "0123456789abcdef"[digit & 15] : form[n];
    }
    return span_of(out, n);
}

static void make_id(struct draft *d)
{
    const struct source_plan *p = d->s.p;
    const char *form = p->own->sample.id ? p->own->sample.id : "msg_????????????????????????";
    struct source_outgoing *o = d->s.o;

    if (!o->id.n)
        o->id = random_id(form, d->id, sizeof d->id);
    if (p->id.kind == PLACE_HEADER)
        set(d, p->id.name, o->id);
    if (p->type.kind == PLACE_HEADER)
        set(d, p->type.name, o->type);
    if (p->subject.kind == PLACE_HEADER)
        set(d, p->subject.name, o->subject);
}

/* --- the body ------------------------------------------------------------------------------------
 */

static struct span first_token(const struct source_plan *p)
{
    for (size_t i = 0; i < p->checks_n; i++)
        if (p->checks[i].tokens[0].n)
            return p->checks[i].tokens[0];
    return SPAN_NONE;
}

static bool fill(const struct sign *s, struct span name, struct buf *b)
{
    char when[CLOCK_TEXT_MAX];

    if (span_eq(name, S("id")))
        buf_json_string(b, s->o->id);
    else if (span_eq(name, S("type")))
        buf_json_string(b, s->o->type);
    else if (span_eq(name, S("subject")))
        buf_json_string(b, s->o->subject);
    else if (span_eq(name, S("time")))
        buf_json_string(b, span_str(clock_text(s->o->now_ms, when)));
    else if (span_eq(name, S("unix")))
        buf_printf(b, "%lld", (long long)s->o->now_ms / 1000);
    else if (span_eq(name, S("unix_ms")))
        buf_printf(b, "%lld", (long long)s->o->now_ms);
    else if (span_eq(name, S("secret")))
        buf_json_string(b, first_token(s->p));
    else
        return false;
    return true;
}

/* The braces of JSON itself never hold a bare name, so they stay as they are. */
static void fill_in(const struct sign *s, struct span text, struct buf *b)
{
    while (text.p) {
        struct span plain = span_cut(&text, '{'), rest = text, name = span_cut(&rest, '}');
        buf_span(b, plain);
        if (!text.p)
            return;
        if (rest.p && fill(s, name, b))
            text = rest;
        else
            buf_addc(b, '{');
    }
}

static bool has_content_type(struct span lines)
{
    while (lines.n) {
        struct span line = span_cut(&lines, '\n');
        if (span_ieq(span_cut(&line, ':'), S("content-type")))
            return true;
    }
    return false;
}

/* A body typical for the type, as the provider would send it. */
static void make_body(struct sign *s)
{
    const struct source_cfg *own = s->p->own;
    const struct cfg_strmap *bodies = &own->sample.bodies;
    struct span body = S("{\"type\":{type},\"id\":{id},\"timestamp\":{time},\"data\":{\"id\":"
                         "{subject}}}");

    if (!has_content_type(buf_as_span(&s->o->headers)))
        buf_printf(&s->o->headers, "Content-Type: %s\r\n",
                   own->sample.content_type ? own->sample.content_type : "application/json");
    if (s->o->body.p) {
        buf_span(&s->o->text, s->o->body);
        return;
    }
    for (size_t i = bodies->n; i--;)
        if (span_glob(span_str(bodies->k[i]), s->o->type))
            body = span_str(bodies->v[i]);
    fill_in(s, body, &s->o->text);
}

/* --- what one check needs ------------------------------------------------------------------------
 */

static void make_stamp(struct draft *d, const struct check *c, char *stamp)
{
    int64_t now_ms = d->s.o->now_ms;

    if (c->stamp.unit == UNIT_ISO8601)
        clock_text(now_ms, stamp);
    else
        snprintf(stamp, CLOCK_TEXT_MAX, "%lld",
                 (long long)now_ms / (c->stamp.unit == UNIT_S ? 1000 : 1));
    if (c->stamp.at.kind == PLACE_HEADER)
        set(d, c->stamp.at.name, span_str(stamp));
    if (c->stamp.field.n)
        snprintf(d->s.field, sizeof d->s.field, "%.*s=%s%c", SPAN_FMT(c->stamp.field), stamp,
                 c->separator);
}

static void make_body_hash(struct draft *d, const struct check *c)
{
    struct source_outgoing *o = d->s.o;
    uint8_t digest[CRYPTO_HASH_MAX];

    buf_printf(&o->query, "%s%.*s=", o->query.n ? "&" : "", SPAN_FMT(c->body_hash));
    buf_hex(&o->query, span_of(digest, crypto_hash(CRYPTO_SHA256, buf_as_span(&o->text), digest)));
}

/* Headers that are signed hold something: of a header that is only signed, any text will do. */
static void prepare(struct draft *d, const struct check *c, char *stamp)
{
    make_stamp(d, c, stamp);
    for (size_t i = 0; i < c->parts_n; i++)
        if (source_part_is_header(&c->parts[i]))
            set(d, c->parts[i].text, d->s.o->id);
    if (c->body_hash.n)
        make_body_hash(d, c);
    if (c->certificate.at.kind == PLACE_HEADER)
        set(d, c->certificate.at.name, span_str(d->s.p->own->sample.certificate));
}

static int read_back(struct draft *d, struct source_event *ev, struct err *e)
{
    static const struct http_limits limits = { 1 << 20, 1 << 16, UINT64_MAX / 2 };
    struct source_outgoing *o = d->s.o;
    enum http_result r = HTTP_HEAD;

    d->bytes.n = 0;
    buf_printf(&d->bytes, "POST /%s", o->query.n ? "?" : "");
    buf_span(&d->bytes, buf_as_span(&o->query));
    buf_printf(&d->bytes, " HTTP/1.1\r\nHost: a\r\nContent-Length: %zu\r\n", o->text.n);
    buf_span(&d->bytes, buf_as_span(&o->headers));
    for (size_t i = 0; i < d->n; i++)
        buf_printf(&d->bytes, "%.*s: %.*s\r\n", SPAN_FMT(d->headers[i].name),
                   SPAN_FMT(d->headers[i].value));
    buf_adds(&d->bytes, "\r\n");
    buf_span(&d->bytes, buf_as_span(&o->text));
    http_request_init(&d->req, &limits);
    while (r == HTTP_HEAD)
        r = http_parse(&d->req, d->bytes.p, d->bytes.n, &limits);
    if (r != HTTP_DONE)
        return err_set(e, EXIT_BAD_USAGE, "what is asked for makes no HTTP request: %s",
                       http_error(d->req.error)->detail);
    d->s.v = (struct verify){ .p = d->s.p,
                              .req = &d->req,
                              .bytes = d->bytes.p,
                              .now_ms = o->now_ms,
                              .ev = ev,
                              .signature = span_str(d->s.field) };
    return 0;
}

int source_sign_message(struct sign *s, const struct check *c, struct span *parts, struct err *e)
{
    source_message_room(&s->v, c);
    for (size_t i = 0; i < c->parts_n; i++) {
        if (source_part(&s->v, c, i, &parts[i]) == VERDICT_OK)
            continue;
        if (parts[i].p && source_part_shifts(c, i, parts[i]))
            return err_set(e, EXIT_BAD_USAGE, "%.*s may not hold \"%.*s\", which stands behind it",
                           SPAN_FMT(parts[i]), SPAN_FMT(c->parts[i + 1].text));
        return err_set(e, EXIT_BAD_USAGE, "provider %s signs %.*s, which send cannot make up",
                       s->p->provider, SPAN_FMT(c->parts[i].text));
    }
    return 0;
}

struct crypto_private *source_private(const struct sign *s, enum crypto_scheme scheme,
                                      struct err *e)
{
    if (!s->o->key.n) {
        err_set(e, EXIT_BAD_USAGE, "provider %s signs with a private key, which is not given",
                s->p->provider);
        return NULL;
    }
    return crypto_private_new(scheme, s->o->key, e);
}

/* RFC 4648 section 5, without padding, as most write it. */
void source_add_base64url(struct buf *out, struct span raw)
{
    size_t at = out->n;

    buf_base64(out, raw);
    for (size_t i = at; i < out->n; i++)
        out->p[i] = out->p[i] == '+' ? '-' : out->p[i] == '/' ? '_' : out->p[i];
    while (out->n > at && out->p[out->n - 1] == '=')
        out->n--;
}

/* Where the body has an empty text for it. */
static void put_in_body(struct sign *s, struct span path, struct span raw)
{
    struct json_value v = json_find(buf_as_span(&s->o->text), path);
    struct buf whole = BUF_INIT;
    size_t at;

    if (v.type != JSON_STRING)
        return;
    at = (size_t)(v.raw.p - s->o->text.p);
    buf_add(&whole, s->o->text.p, at);
    buf_base64(&whole, raw);
    buf_add(&whole, s->o->text.p + at + v.raw.n, s->o->text.n - at - v.raw.n);
    buf_free(&s->o->text);
    s->o->text = whole;
}

void source_sign_put(struct sign *s, const struct check *c, struct span raw)
{
    struct buf *out = &s->o->headers;

    if (c->at.kind == PLACE_PATH) {
        put_in_body(s, c->at.name, raw);
        return;
    }

    buf_printf(out, "%.*s: %s", SPAN_FMT(c->at.name), s->field);
    buf_span(out, c->field);
    switch (c->encoding) {
    case ENCODING_HEX:
        buf_hex(out, raw);
        break;
    case ENCODING_BASE64:
        buf_base64(out, raw);
        break;
    case ENCODING_BASE64URL:
        source_add_base64url(out, raw);
    }
    buf_adds(out, "\r\n");
}

static int sign_with(struct draft *d, size_t i, struct err *e)
{
    const struct check *c = &d->s.p->checks[i];
    struct source_event ev = { 0 };
    int rc;

    d->s.field[0] = '\0';
    prepare(d, c, d->stamp[i]);
    rc = read_back(d, &ev, e);
    if (!rc && !source_is_of_kind(&d->s.v, c))
        rc = err_set(e, EXIT_BAD_USAGE, "the body is of no kind that %s signs", d->s.p->provider);
    if (!rc)
        rc = c->kind->ops->sign(&d->s, c, e);
    source_event_free(&ev);
    return rc;
}

/* With the first check of any_of that can be signed, or with all of all_of. */
static int sign_checks(struct draft *d, struct err *e)
{
    const struct source_plan *p = d->s.p;
    size_t headers = d->s.o->headers.n, query = d->s.o->query.n, made = d->n;
    int rc = -1;

    for (size_t i = 0; i < p->checks_n && (p->all ? rc == 0 || i == 0 : rc != 0); i++) {
        if (rc) {
            d->s.o->headers.n = headers;
            d->s.o->query.n = query;
            d->n = made;
        }
        rc = sign_with(d, i, e);
    }
    return rc;
}

int source_sign(const struct source_plan *p, struct source_outgoing *o, struct err *e)
{
    struct draft *d = xcalloc(1, sizeof *d);
    int rc;

    d->s.p = p;
    d->s.o = o;
    if (!o->type.n)
        o->type = p->own->sample.type ? span_str(p->own->sample.type) : S("job.succeeded");
    if (!o->subject.n)
        o->subject = p->own->sample.subject ? span_str(p->own->sample.subject) : S("job-1");
    make_id(d);
    make_body(&d->s);
    rc = sign_checks(d, e);
    for (size_t i = 0; i < d->n && !rc; i++)
        buf_printf(&o->headers, "%.*s: %.*s\r\n", SPAN_FMT(d->headers[i].name),
                   SPAN_FMT(d->headers[i].value));
    buf_free(&d->bytes);
    free(d);
    return rc;
}

void source_outgoing_free(struct source_outgoing *o)
{
    buf_free(&o->headers);
    buf_free(&o->query);
    buf_free(&o->text);
}
