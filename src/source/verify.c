/* SPDX-License-Identifier: Apache-2.0 */
/* Genuine or not (P10), and what it is. Any thread; no allocation but in the caller's buffers,
 * which are reused. Everything that is not proven is refused. The true reason stays inside: the
 * sender only learns that the signature was not accepted. */
#include <limits.h>
#include <string.h>

#include "clock.h"
#include "room.h"

static const char *const names[VERDICTS] = {
    [VERDICT_OK] = "ok",
    [VERDICT_UNSIGNED] = "unsigned",
    [VERDICT_BAD_SIGNATURE] = "bad_signature",
    [VERDICT_STALE] = "stale",
    [VERDICT_FUTURE] = "future",
    [VERDICT_MALFORMED] = "malformed",
    [VERDICT_UNKNOWN_KEY] = "unknown_key",
    [VERDICT_EXPIRED] = "expired",
};

const char *verdict_name(enum verdict v)
{
    return names[v];
}

struct verify {
    const struct source_plan *p;
    const struct http_request *req;
    const char *bytes;
    int64_t now_ms;
    struct source_event *ev;
    struct span signature; /* the header's value */
    struct json_value json[8];
    bool scanned;
};

/* A header that decides about the delivery may come once; the same text again is tolerated only for
 * signatures, where a proxy may have doubled the line. */
static bool one_header(const struct verify *v, struct span name, bool same_text, struct span *value)
{
    unsigned count;

    *value = http_header(v->req, v->bytes, name, &count);
    if (count <= 1 || !same_text)
        return count <= 1;
    for (uint32_t i = 0; i < v->req->fields_n; i++) {
        const struct http_field *f = &v->req->fields[i];
        if (span_ieq(span_of(v->bytes + f->name, f->name_len), name) &&
            !span_eq(span_of(v->bytes + f->value, f->value_len), *value))
            return false;
    }
    return true;
}

static const struct json_value *json_at(struct verify *v, size_t slot)
{
    if (!v->scanned) {
        json_find_all(http_body(v->req, v->bytes), v->p->paths, v->p->paths_n, v->json);
        v->scanned = true;
    }
    return &v->json[slot];
}

/* NAME=value among the items of the signature header. */
static struct span field_of(const struct verify *v, struct span name)
{
    struct span rest = v->signature;

    while (rest.p) {
        struct span item = span_trim(v->p->separator ? span_cut(&rest, v->p->separator) : rest);
        if (!v->p->separator)
            rest = SPAN_NONE;
        if (item.n > name.n && span_starts(item, name) && item.p[name.n] == '=')
            return span_of(item.p + name.n + 1, item.n - name.n - 1);
    }
    return SPAN_NONE;
}

static enum verdict message_part(struct verify *v, const struct part *part, struct span *out)
{
    uint8_t digest[CRYPTO_HASH_MAX];
    size_t at;

    switch (part->kind) {
    case PART_TEXT:
        *out = part->text;
        return VERDICT_OK;
    case PART_BODY:
        *out = http_body(v->req, v->bytes);
        return VERDICT_OK;
    case PART_HEADER:
        if (!one_header(v, part->text, false, out))
            return VERDICT_MALFORMED;
        return out->p ? VERDICT_OK : VERDICT_UNSIGNED;
    case PART_FIELD:
        *out = field_of(v, part->text);
        return out->p ? VERDICT_OK : VERDICT_MALFORMED;
    case PART_QUERY:
        at = v->ev->scratch.n;
        if (!http_query_get(http_query(v->req, v->bytes), part->text, &v->ev->scratch))
            return VERDICT_MALFORMED;
        *out = span_of(v->ev->scratch.p + at, v->ev->scratch.n - at);
        return VERDICT_OK;
    case PART_SHA256HEX:
        at = v->ev->scratch.n;
        buf_hex(&v->ev->scratch,
                span_of(digest, crypto_hash(CRYPTO_SHA256, http_body(v->req, v->bytes), digest)));
        *out = span_of(v->ev->scratch.p + at, v->ev->scratch.n - at);
        return VERDICT_OK;
    }
    return VERDICT_MALFORMED;
}

bool source_part_shifts(const struct source_plan *p, size_t i, struct span value)
{
    const struct part *part = &p->parts[i], *next = part + 1;

    if (i + 1 == p->parts_n || next->kind != PART_TEXT)
        return false;
    if (part->kind != PART_HEADER && part->kind != PART_FIELD && part->kind != PART_QUERY)
        return false;
    if ((part->kind == PART_HEADER && p->stamp.kind == PLACE_HEADER &&
         span_ieq(part->text, p->stamp.name)) ||
        (part->kind == PART_FIELD && span_eq(part->text, p->stamp_field)))
        return false;
    return value.n && memmem(value.p, value.n, next->text.p, next->text.n);
}

static ssize_t decode(const struct source_plan *p, struct span text, uint8_t *out)
{
    if (p->encoding == ENCODING_HEX)
        return crypto_from_hex(text, out, CRYPTO_HASH_MAX);
    return crypto_from_base64(text, p->encoding == ENCODING_BASE64URL,
                              p->encoding == ENCODING_BASE64URL, out, CRYPTO_HASH_MAX);
}

/* The signatures of our kind in the header, decoded. */
static enum verdict candidates(const struct verify *v, uint8_t out[][CRYPTO_HASH_MAX], size_t *n)
{
    struct span rest = v->signature;
    bool ours = false;

    *n = 0;
    while (rest.p) {
        struct span item = span_trim(v->p->separator ? span_cut(&rest, v->p->separator) : rest);
        if (!v->p->separator)
            rest = SPAN_NONE;
        if (!span_starts(item, v->p->field))
            continue;
        ours = true;
        if (*n == CANDIDATES_MAX)
            return VERDICT_MALFORMED;
        item = span_of(item.p + v->p->field.n, item.n - v->p->field.n);
        if (decode(v->p, item, out[*n]) == (ssize_t)v->p->mac_bytes)
            (*n)++;
    }
    return *n ? VERDICT_OK : ours ? VERDICT_MALFORMED : VERDICT_UNSIGNED;
}

/* Every key against every candidate, always all of them: time tells nothing. */
static enum verdict compare_macs(const struct verify *v, const struct span *parts)
{
    uint8_t given[CANDIDATES_MAX][CRYPTO_HASH_MAX], mac[CRYPTO_HASH_MAX];
    enum verdict verdict;
    bool match = false;
    size_t n;

    verdict = candidates(v, given, &n);
    if (verdict != VERDICT_OK)
        return verdict;
    for (size_t k = 0; k < v->p->secrets_n; k++) {
        size_t len = crypto_hmac(v->p->keys[k], parts, v->p->parts_n, mac);
        for (size_t i = 0; i < n; i++)
            match |= crypto_equal(mac, len, given[i], v->p->mac_bytes);
    }
    return match ? VERDICT_OK : VERDICT_BAD_SIGNATURE;
}

static enum verdict stamp_text(struct verify *v, struct span *text)
{
    const struct source_plan *p = v->p;
    const struct json_value *j;

    if (p->stamp_field.n) {
        *text = field_of(v, p->stamp_field);
    } else if (p->stamp.kind == PLACE_HEADER) {
        if (!one_header(v, p->stamp.name, false, text))
            return VERDICT_MALFORMED;
    } else {
        j = json_at(v, p->stamp.slot);
        *text = j->type == JSON_STRING || j->type == JSON_NUMBER ? j->raw : SPAN_NONE;
    }
    return text->p ? VERDICT_OK : VERDICT_MALFORMED;
}

/* Only after the signature: the skew that is reported comes from the provider's clock. */
static enum verdict check_stamp(struct verify *v)
{
    const struct source_plan *p = v->p;
    struct span text;
    uint64_t number;
    int64_t ms;

    if (p->stamp.kind == PLACE_NOWHERE && !p->stamp_field.n)
        return VERDICT_OK;
    if (stamp_text(v, &text) != VERDICT_OK)
        return VERDICT_MALFORMED;
    if (p->unit == UNIT_ISO8601) {
        if (!clock_parse(text, &ms))
            return VERDICT_MALFORMED;
    } else {
        if (text.n > 19 || !span_u64(text, &number) || number > INT64_MAX / 1000)
            return VERDICT_MALFORMED;
        ms = (int64_t)number * (p->unit == UNIT_S ? 1000 : 1);
    }
    /* A time in whole seconds is compared with our seconds: five minutes to the second still pass.
     */
    v->ev->skew_ms = (p->unit == UNIT_S ? v->now_ms / 1000 * 1000 : v->now_ms) - ms;
    if (v->ev->skew_ms > p->tolerance_ms)
        return VERDICT_STALE;
    return -v->ev->skew_ms > p->future_ms ? VERDICT_FUTURE : VERDICT_OK;
}

static enum verdict check_hmac(struct verify *v)
{
    struct span parts[PARTS_MAX];
    enum verdict verdict;

    if (!one_header(v, v->p->header, true, &v->signature))
        return VERDICT_MALFORMED;
    if (!v->signature.p)
        return VERDICT_UNSIGNED;
    /* every part may add this much; spans into it stay */
    buf_reserve(&v->ev->scratch, v->p->parts_n * (v->req->target_len + 2 * CRYPTO_HASH_MAX));
    for (size_t i = 0; i < v->p->parts_n; i++) {
        verdict = message_part(v, &v->p->parts[i], &parts[i]);
        if (verdict == VERDICT_OK && source_part_shifts(v->p, i, parts[i]))
            verdict = VERDICT_MALFORMED;
        if (verdict != VERDICT_OK)
            return verdict;
    }
    verdict = compare_macs(v, parts);
    return verdict == VERDICT_OK ? check_stamp(v) : verdict;
}

/* "Authorization: Bearer TOKEN", or the bare token in a header of its own. */
static enum verdict check_token(struct verify *v)
{
    bool bearer = !v->p->header.n || span_ieq(v->p->header, S("authorization")), match = false;
    struct span value;

    if (!v->p->secrets_n)
        return v->p->path_token.n ? VERDICT_OK
                                  : VERDICT_UNSIGNED; /* the path's token was checked */
    if (!one_header(v, bearer ? S("authorization") : v->p->header, false, &value))
        return VERDICT_MALFORMED;
    if (!value.p)
        return VERDICT_UNSIGNED;
    if (bearer) {
        if (value.n < 7 || !span_ieq(span_of(value.p, 7), S("bearer ")))
            return VERDICT_MALFORMED;
        value = span_trim(span_of(value.p + 7, value.n - 7));
    }
    for (size_t i = 0; i < v->p->secrets_n; i++)
        match |= crypto_equal(value.p, value.n, v->p->tokens[i].p, v->p->tokens[i].n);
    return match ? VERDICT_OK : VERDICT_BAD_SIGNATURE;
}

static enum verdict check(struct verify *v, struct span path_token)
{
    if (v->p->path_token.n &&
        !crypto_equal(path_token.p, path_token.n, v->p->path_token.p, v->p->path_token.n))
        return VERDICT_BAD_SIGNATURE;
    switch (v->p->algorithm) {
    case ALGORITHM_NONE:
        return VERDICT_OK;
    case ALGORITHM_TOKEN:
        return check_token(v);
    case ALGORITHM_HMAC:
        return check_hmac(v);
    }
    return VERDICT_BAD_SIGNATURE;
}

/* A JSON string or number as text; unescaped into scratch where it needs it. */
static struct span json_text(struct verify *v, const struct json_value *j)
{
    size_t at = v->ev->scratch.n;

    if (j->type != JSON_STRING && j->type != JSON_NUMBER)
        return SPAN_NONE;
    if (!j->escaped)
        return j->raw;
    if (j->raw.n > 6 * ATTRIBUTE_MAX || !json_unescape(j->raw, &v->ev->scratch))
        return SPAN_NONE;
    return span_of(v->ev->scratch.p + at, v->ev->scratch.n - at);
}

static enum verdict attribute(struct verify *v, const struct place *place, struct span *out)
{
    *out = SPAN_NONE;
    switch (place->kind) {
    case PLACE_NOWHERE:
        return VERDICT_OK;
    case PLACE_CONST:
        *out = place->name;
        return VERDICT_OK;
    case PLACE_HEADER:
        if (!one_header(v, place->name, false, out))
            return VERDICT_MALFORMED;
        break;
    case PLACE_PATH:
        *out = json_text(v, json_at(v, place->slot));
        break;
    }
    if (out->n > ATTRIBUTE_MAX)
        *out = SPAN_NONE;
    return VERDICT_OK;
}

static void answer_handshake(struct verify *v)
{
    struct source_event *ev = v->ev;

    if (v->p->shake_when.kind == PLACE_NOWHERE ||
        !span_eq(json_text(v, json_at(v, v->p->shake_when.slot)), v->p->shake_equals))
        return;
    ev->handshake = true;
    ev->handshake_status = 200;
    ev->handshake_type = "text/plain; charset=utf-8";
    ev->handshake_body.n = 0;
    buf_span(&ev->handshake_body, json_text(v, json_at(v, v->p->shake_echo.slot)));
}

static void keep_headers(struct verify *v)
{
    struct buf *out = &v->ev->headers;

    for (uint32_t i = 0; i < v->req->fields_n; i++) {
        const struct http_field *f = &v->req->fields[i];
        struct span name = { v->bytes + f->name, f->name_len };
        for (size_t k = 0; k < v->p->kept_n; k++) {
            if (name.n != v->p->kept[k].n || !span_ieq(name, v->p->kept[k]))
                continue;
            buf_reserve(out, name.n + f->value_len + 2);
            for (size_t c = 0; c < name.n; c++)
                out->p[out->n++] =
                    (char)(name.p[c] >= 'A' && name.p[c] <= 'Z' ? name.p[c] + 32 : name.p[c]);
            buf_addc(out, ':');
            buf_add(out, v->bytes + f->value, f->value_len);
            buf_addc(out, '\n');
            break;
        }
    }
}

/* The SHA-256 of the body as the id, where repeats are told by it. */
static void body_id(struct verify *v)
{
    uint8_t digest[CRYPTO_HASH_MAX];
    size_t at = v->ev->scratch.n;

    buf_hex(&v->ev->scratch,
            span_of(digest, crypto_hash(CRYPTO_SHA256, http_body(v->req, v->bytes), digest)));
    v->ev->id = span_of(v->ev->scratch.p + at, v->ev->scratch.n - at);
}

static enum verdict describe(struct verify *v)
{
    struct source_event *ev = v->ev;

    buf_reserve(&ev->scratch, 6 * 4 * ATTRIBUTE_MAX + 2 * CRYPTO_HASH_MAX); /* spans into it stay */
    if (attribute(v, &v->p->id, &ev->id) || attribute(v, &v->p->type, &ev->type) ||
        attribute(v, &v->p->subject, &ev->subject))
        return VERDICT_MALFORMED;
    if (!ev->type.n)
        ev->type = S("webhook");
    ev->content_type = http_header(v->req, v->bytes, S("content-type"), NULL);
    if (ev->content_type.n > ATTRIBUTE_MAX)
        ev->content_type = SPAN_NONE;
    if (v->p->dedup == SOURCE_DEDUP_BODY)
        body_id(v);
    ev->dedup = v->p->dedup != SOURCE_DEDUP_OFF && ev->id.n;
    keep_headers(v);
    answer_handshake(v);
    return VERDICT_OK;
}

/* What is refused leaves nothing behind, nor does the request before this one; but for the skew,
 * which tells of a wrong clock just when everything is stale. */
static void forget(struct source_event *ev)
{
    ev->id = ev->type = ev->subject = ev->content_type = SPAN_NONE;
    ev->headers.n = ev->scratch.n = 0;
    ev->dedup = ev->handshake = false;
}

enum verdict source_verify(const struct source_plan *p, const struct http_request *req,
                           const char *bytes, struct span path_token, int64_t now_ms,
                           struct source_event *ev)
{
    struct verify v = { .p = p, .req = req, .bytes = bytes, .now_ms = now_ms, .ev = ev };
    enum verdict verdict;

    forget(ev);
    ev->skew_ms = INT64_MIN;
    verdict = check(&v, path_token);
    if (verdict == VERDICT_OK)
        verdict = describe(&v);
    if (verdict != VERDICT_OK)
        forget(ev);
    return verdict;
}

void source_event_free(struct source_event *ev)
{
    buf_free(&ev->headers);
    buf_free(&ev->scratch);
    buf_free(&ev->handshake_body);
}
