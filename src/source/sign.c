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

static void make_id(struct sign *s)
{
    uint8_t raw[12];
    struct buf hex = BUF_INIT;

    if (!s->o->id.n) {
        crypto_random(raw, sizeof raw);
        buf_hex(&hex, span_of(raw, sizeof raw));
        snprintf(s->id, sizeof s->id, "msg_%s", buf_cstr(&hex));
        s->o->id = span_str(s->id);
        buf_free(&hex);
    }
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

/* A body typical for the type: the provider's envelope, as thin as they are. */
static void make_body(struct sign *s)
{
    char when[CLOCK_TEXT_MAX];
    struct buf *b = &s->o->text;

    if (s->o->body.p) {
        buf_span(b, s->o->body);
        return;
    }
    buf_adds(b, "{\"type\":");
    buf_json_string(b, s->o->type);
    buf_printf(b,
               ",\"version\":\"v1\",\"timestamp\":\"%s\",\"id\":", clock_text(s->o->now_ms, when));
    buf_json_string(b, s->o->id);
    buf_adds(b, ",\"data\":{\"id\":");
    buf_json_string(b, s->o->subject);
    buf_adds(b, span_eq(s->o->type, S("video.generated")) ? ",\"file_name\":\"files/video-1\"}}"
                : span_glob(S("*.failed"), s->o->type)
                    ? ",\"error_code\":\"internal\",\"error_message\":\"the job failed\"}}"
                    : "}}");
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
    for (size_t i = 0; i < s->p->parts_n && !rc; i++)
        rc = part_of(s, &s->p->parts[i], &parts[i], &keep, e);
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
        o->type = S("batch.succeeded");
    if (!o->subject.n)
        o->subject = S("batch_123456");
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
