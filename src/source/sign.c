/* SPDX-License-Identifier: Apache-2.0 */
/* The other direction: a delivery as the provider would send it, for `hookline send`, the tests and
 * the benchmarks. It fills the headers that the plan's own places name, so a preset that can be
 * verified can be sent. */
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "room.h"

struct made {
    struct span name, value;
};

struct sign {
    const struct source_plan *p;
    struct source_outgoing *o;
    struct made headers[PARTS_MAX + 4];
    size_t n;
    char stamp[CLOCK_TEXT_MAX], id[64];
};

static void set(struct sign *s, struct span name, struct span value)
{
    for (size_t i = 0; i < s->n; i++)
        if (span_ieq(s->headers[i].name, name))
            return;
    s->headers[s->n++] = (struct made){ name, value };
}

static struct span get(const struct sign *s, struct span name)
{
    for (size_t i = 0; i < s->n; i++)
        if (span_ieq(s->headers[i].name, name))
            return s->headers[i].value;
    return SPAN_NONE;
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

static void make_id(struct sign *s)
{
    const char *form = s->p->own->sample.id ? s->p->own->sample.id : "msg_????????????????????????";

    if (!s->o->id.n)
        s->o->id = random_id(form, s->id, sizeof s->id);
    if (s->p->id.kind == PLACE_HEADER)
        set(s, s->p->id.name, s->o->id);
    if (s->p->type.kind == PLACE_HEADER)
        set(s, s->p->type.name, s->o->type);
}

static void make_stamp(struct sign *s)
{
    if (s->p->unit == UNIT_ISO8601)
        clock_text(s->o->now_ms, s->stamp);
    else
        snprintf(s->stamp, sizeof s->stamp, "%lld",
                 (long long)s->o->now_ms / (s->p->unit == UNIT_S ? 1000 : 1));
    if (s->p->stamp.kind == PLACE_HEADER)
        set(s, s->p->stamp.name, span_str(s->stamp));
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

/* A body typical for the type, as the provider would send it. */
static void make_body(struct sign *s)
{
    const struct cfg_strmap *bodies = &s->p->own->sample.bodies;
    struct span body = S("{\"type\":{type},\"id\":{id},\"timestamp\":{time},\"data\":{\"id\":"
                         "{subject}}}");

    if (s->o->body.p) {
        buf_span(&s->o->text, s->o->body);
        return;
    }
    for (size_t i = bodies->n; i--;)
        if (span_glob(span_str(bodies->k[i]), s->o->type))
            body = span_str(bodies->v[i]);
    fill_in(s, body, &s->o->text);
}

/* A piece of the signed message. `keep` has room for all of them: spans into it stay. */
static int part_of(struct sign *s, const struct part *part, struct span *out, struct buf *keep,
                   struct err *e)
{
    struct span body = buf_as_span(&s->o->text);
    uint8_t digest[CRYPTO_HASH_MAX];
    size_t at = keep->n;

    *out = SPAN_NONE;
    switch (part->kind) {
    case PART_TEXT:
        *out = part->text;
        break;
    case PART_BODY:
        *out = body.p ? body : S("");
        break;
    case PART_HEADER:
        set(s, part->text, s->o->id); /* of a header that is only signed, any text will do */
        *out = get(s, part->text);
        break;
    case PART_FIELD:
        if (span_eq(part->text, s->p->stamp_field))
            *out = span_str(s->stamp);
        break;
    case PART_QUERY:
        break;
    case PART_SHA256HEX:
        buf_hex(keep, span_of(digest, crypto_hash(CRYPTO_SHA256, body, digest)));
        *out = span_of(keep->p + at, keep->n - at);
    }
    if (!out->p)
        return err_set(e, EXIT_BAD_USAGE, "provider %s signs %.*s, which send cannot make up",
                       s->p->provider, SPAN_FMT(part->text));
    return 0;
}

/* RFC 4648 section 5, without padding, as most write it. */
static void add_base64url(struct buf *out, struct span raw)
{
    size_t at = out->n;

    buf_base64(out, raw);
    for (size_t i = at; i < out->n; i++)
        out->p[i] = out->p[i] == '+' ? '-' : out->p[i] == '/' ? '_' : out->p[i];
    while (out->n > at && out->p[out->n - 1] == '=')
        out->n--;
}

static void add_signature(const struct sign *s, struct span mac)
{
    struct buf *out = &s->o->headers;

    buf_printf(out, "%.*s: ", SPAN_FMT(s->p->header));
    if (s->p->stamp_field.n)
        buf_printf(out, "%.*s=%s%c", SPAN_FMT(s->p->stamp_field), s->stamp, s->p->separator);
    buf_span(out, s->p->field);
    switch (s->p->encoding) {
    case ENCODING_HEX:
        buf_hex(out, mac);
        break;
    case ENCODING_BASE64:
        buf_base64(out, mac);
        break;
    case ENCODING_BASE64URL:
        add_base64url(out, mac);
    }
    buf_adds(out, "\r\n");
}

static int make_signature(struct sign *s, struct err *e)
{
    struct span parts[PARTS_MAX];
    struct buf keep = BUF_INIT;
    uint8_t mac[CRYPTO_HASH_MAX];
    int rc = 0;

    if (!s->p->secrets_n)
        return err_set(e, EXIT_BAD_USAGE, "a secret is needed to sign");
    buf_reserve(&keep, s->p->parts_n * 2 * CRYPTO_HASH_MAX);
    for (size_t i = 0; i < s->p->parts_n && !rc; i++) {
        rc = part_of(s, &s->p->parts[i], &parts[i], &keep, e);
        if (!rc && source_part_shifts(s->p, i, parts[i]))
            rc = err_set(e, EXIT_BAD_USAGE, "%.*s may not hold \"%.*s\", which stands behind it",
                         SPAN_FMT(parts[i]), SPAN_FMT(s->p->parts[i + 1].text));
    }
    if (!rc)
        add_signature(s, span_of(mac, crypto_hmac(s->p->keys[0], parts, s->p->parts_n, mac)));
    buf_free(&keep);
    return rc;
}

int source_sign(const struct source_plan *p, struct source_outgoing *o, struct err *e)
{
    struct sign s = { .p = p, .o = o };
    bool bearer = !p->header.n || span_ieq(p->header, S("authorization"));

    if (!o->type.n)
        o->type = p->own->sample.type ? span_str(p->own->sample.type) : S("job.succeeded");
    if (!o->subject.n)
        o->subject = p->own->sample.subject ? span_str(p->own->sample.subject) : S("job-1");
    make_id(&s);
    make_stamp(&s);
    make_body(&s);
    if (p->algorithm == ALGORITHM_HMAC && make_signature(&s, e))
        return -1;
    if (p->algorithm == ALGORITHM_TOKEN && p->secrets_n)
        buf_printf(&o->headers, "%.*s: %s%.*s\r\n",
                   SPAN_FMT(bearer ? S("Authorization") : p->header), bearer ? "Bearer " : "",
                   SPAN_FMT(p->tokens[0]));
    for (size_t i = 0; i < s.n; i++)
        buf_printf(&o->headers, "%.*s: %.*s\r\n", SPAN_FMT(s.headers[i].name),
                   SPAN_FMT(s.headers[i].value));
    return 0;
}

void source_outgoing_free(struct source_outgoing *o)
{
    buf_free(&o->headers);
    buf_free(&o->text);
}
