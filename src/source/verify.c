/* SPDX-License-Identifier: Apache-2.0 */
/* Genuine or not (P10), and what it is. Any thread; no allocation but in the caller's buffers,
 * which are reused. Everything that is not proven is refused. The true reason stays inside: the
 * sender only learns that the signature was not accepted. */
#include <limits.h>
#include <string.h>

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
    [VERDICT_ADDRESS] = "address",
    [VERDICT_CLIENT_CERTIFICATE] = "client_certificate",
    [VERDICT_KEYS_UNAVAILABLE] = "keys_unavailable",
};

const char *verdict_name(enum verdict v)
{
    return names[v];
}

/* --- where things stand --------------------------------------------------------------------------
 */

/* One pass over the request for all names of the plan. */
static void look_at_headers(struct verify *v)
{
    const struct source_plan *p = v->p;

    v->looked = true;
    for (size_t k = 0; k < p->names_n; k++) {
        v->heads[k].value = SPAN_NONE;
        v->heads[k].count = 0;
        v->heads[k].differ = false;
    }
    for (uint32_t i = 0; i < v->req->fields_n; i++) {
        const struct http_field *f = &v->req->fields[i];
        struct span name = { v->bytes + f->name, f->name_len },
                    value = { v->bytes + f->value, f->value_len };
        if (!(p->name_lengths >> name.n % 64 & 1)) /* most are none of them */
            continue;
        for (size_t k = 0; k < p->names_n; k++) {
            if (name.n != p->names[k].n || !span_ieq(name, p->names[k]))
                continue;
            if (v->heads[k].count++ == 0)
                v->heads[k].value = value;
            else
                v->heads[k].differ |= !span_eq(v->heads[k].value, value);
            break;
        }
    }
}

bool source_one_header(struct verify *v, struct span name, bool same_text, struct span *value)
{
    size_t k = 0;

    if (!v->looked)
        look_at_headers(v);
    while (v->p->names[k].p != name.p) /* interned when the plan was made */
        k++;
    *value = v->heads[k].value;
    return v->heads[k].count <= 1 || (same_text && !v->heads[k].differ);
}

const struct json_value *source_json(struct verify *v, size_t slot)
{
    if (!v->scanned) {
        json_find_all(http_body(v->req, v->bytes), v->p->paths, v->p->paths_n, v->json);
        v->scanned = true;
    }
    return &v->json[slot];
}

struct span source_json_text(struct verify *v, const struct json_value *j)
{
    size_t at = v->ev->scratch.n;

    if (j->type != JSON_STRING && j->type != JSON_NUMBER)
        return SPAN_NONE;
    if (!j->escaped)
        return j->raw;
    if (j->raw.n > 6 * ATTRIBUTE_MAX || !json_unescape(j->raw, &v->ev->scratch)) {
        v->ev->scratch.n = at;
        return SPAN_NONE;
    }
    return span_of(v->ev->scratch.p + at, v->ev->scratch.n - at);
}

enum verdict source_at(struct verify *v, const struct place *place, bool same_text,
                       struct span *out)
{
    size_t at = v->ev->scratch.n;

    *out = SPAN_NONE;
    switch (place->kind) {
    case PLACE_NOWHERE:
        break;
    case PLACE_CONST:
        *out = place->name;
        break;
    case PLACE_HEADER:
        return source_one_header(v, place->name, same_text, out) ? VERDICT_OK : VERDICT_MALFORMED;
    case PLACE_PATH:
        *out = source_json_text(v, source_json(v, place->slot));
        break;
    case PLACE_QUERY:
        if (http_query_get(http_query(v->req, v->bytes), place->name, &v->ev->scratch) &&
            v->ev->scratch.n > at)
            *out = span_of(v->ev->scratch.p + at, v->ev->scratch.n - at);
        break;
    }
    return VERDICT_OK;
}

const struct crypto_keyset *source_keyset(struct verify *v, const struct check *c)
{
    if (c->set || !v->p->jwks)
        return c->set ? c->set : v->p->file_set;
    if (!v->doc)
        v->doc = keys_hold(v->p->jwks);
    return v->doc ? v->doc->set : NULL;
}

enum verdict source_newer_keys(struct verify *v, const struct check *c, enum verdict verdict)
{
    return !c->set && v->p->jwks && keys_wanted(v->p->jwks) ? VERDICT_KEYS_UNAVAILABLE : verdict;
}

/* --- genuine or not ------------------------------------------------------------------------------
 */

bool source_is_of_kind(struct verify *v, const struct check *c)
{
    return c->when.kind == PLACE_NOWHERE ||
           span_eq(source_json_text(v, source_json(v, c->when.slot)), c->when_equals);
}

enum verdict source_because(struct verify *v, enum verdict verdict, const char *why)
{
    v->ev->trial.why = why;
    return verdict;
}

void source_tries(struct verify *v, const struct check *c)
{
    struct source_trial *t = &v->ev->trial;

    t->which = c->kind->ops->takes_publics ? c->public_bits : c->secret_bits;
    if (!c->kind->ops->takes_publics)
        t->what = TRIED_SECRETS;
    else if (c->certificate.at.kind != PLACE_NOWHERE)
        t->what = TRIED_CERTIFICATE;
    else
        t->what = c->set ? TRIED_PUBLIC_KEYS : TRIED_KEY_SET;
}

enum verdict source_matched(struct verify *v, bool match, bool late)
{
    if (match)
        return VERDICT_OK;
    return late ? source_because(v, VERDICT_EXPIRED, "made with a secret whose not_after is over")
                : VERDICT_BAD_SIGNATURE;
}

static enum verdict make(struct verify *v, const struct check *c)
{
    v->ev->trial = (struct source_trial){ .check = c->name };
    return source_is_of_kind(v, c) ? c->kind->ops->verify(v, c) : VERDICT_UNSIGNED;
}

/* What holds nothing of one kind is looked at as the next; the first that is there decides, so that
 * a wrong signature is not made good by something weaker beside it. */
static enum verdict check_any(struct verify *v)
{
    enum verdict verdict = VERDICT_UNSIGNED;

    for (size_t i = 0; i < v->p->checks_n && verdict == VERDICT_UNSIGNED; i++)
        verdict = make(v, &v->p->checks[i]);
    return verdict;
}

static enum verdict check_all(struct verify *v)
{
    enum verdict verdict = VERDICT_OK;

    for (size_t i = 0; i < v->p->checks_n && verdict == VERDICT_OK; i++)
        verdict = make(v, &v->p->checks[i]);
    return v->p->checks_n ? verdict : VERDICT_UNSIGNED;
}

static bool path_token_fits(const struct source_plan *p, struct span token)
{
    return !p->path_token.n || crypto_equal(token.p, token.n, p->path_token.p, p->path_token.n);
}

/* --- what it is ----------------------------------------------------------------------------------
 */

static enum verdict attribute(struct verify *v, const struct place *place, struct span *out)
{
    enum verdict verdict = source_at(v, place, false, out);

    if (out->n > ATTRIBUTE_MAX)
        *out = SPAN_NONE;
    return verdict;
}

static void keep_headers(struct verify *v)
{
    struct buf *out = &v->ev->headers;

    for (uint32_t i = 0; i < v->req->fields_n; i++) {
        const struct http_field *f = &v->req->fields[i];
        struct span name = { v->bytes + f->name, f->name_len };
        if (!(v->p->kept_lengths >> name.n % 64 & 1)) /* most are none of them */
            continue;
        for (size_t k = 0; k < v->p->kept_n; k++) {
            if (name.n != v->p->kept[k].n || !span_ieq(name, v->p->kept[k]))
                continue;
            buf_reserve(out, name.n + f->value_len + 2);
            buf_span(out, v->p->kept[k]);
            out->p[out->n++] = ':';
            buf_add(out, v->bytes + f->value, f->value_len);
            out->p[out->n++] = '\n';
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

/* Genuine, but for somebody else: of a provider whose keys sign for all its customers. */
static bool is_for_us(struct verify *v)
{
    size_t at = v->ev->scratch.n;
    bool ours = true;

    for (size_t i = 0; i < v->p->equals_n; i++) {
        ours &=
            span_eq(source_json_text(v, source_json(v, v->p->equal_at[i].slot)), v->p->equals[i]);
        v->ev->scratch.n = at;
    }
    return ours;
}

/* Opens the URL of a subscription that we were told to confirm; not now means that the provider is
 * to ask again. */
static enum verdict confirm(struct verify *v)
{
    const struct source_plan *p = v->p;
    struct span url;

    if (p->confirm.when.kind == PLACE_NOWHERE ||
        !span_eq(source_json_text(v, source_json(v, p->confirm.when.slot)), p->confirm.equals))
        return VERDICT_OK;
    url = source_json_text(v, source_json(v, p->confirm.url.slot));
    if (!url.n)
        return VERDICT_MALFORMED;
    switch (keys_get_once(p->keys, url, &p->confirm.rules)) {
    case KEYS_HELD:
        break;
    case KEYS_LATER:
        return VERDICT_KEYS_UNAVAILABLE;
    case KEYS_REFUSED:
        return VERDICT_MALFORMED;
    }
    return VERDICT_OK;
}

static enum verdict describe(struct verify *v)
{
    struct source_event *ev = v->ev;

    buf_reserve(&ev->scratch, 6 * 7 * ATTRIBUTE_MAX + 2 * CRYPTO_HASH_MAX); /* spans into it stay */
    if (!is_for_us(v))
        return source_because(v, VERDICT_BAD_SIGNATURE,
                              "genuine, but `equals` says that it is for somebody else");
    if (source_shake_forged(v) || attribute(v, &v->p->id, &ev->id) ||
        attribute(v, &v->p->type, &ev->type) || attribute(v, &v->p->subject, &ev->subject))
        return VERDICT_MALFORMED;
    if (!ev->type.n)
        ev->type = S("webhook");
    source_one_header(v, v->p->content_type, false, &ev->content_type);
    if (ev->content_type.n > ATTRIBUTE_MAX)
        ev->content_type = SPAN_NONE;
    if (v->p->dedup == SOURCE_DEDUP_BODY)
        body_id(v);
    ev->dedup = v->p->dedup != SOURCE_DEDUP_OFF && ev->id.n;
    keep_headers(v);
    source_shake_signed(v);
    return confirm(v);
}

/* What is refused leaves nothing behind, nor does the request before this one; but for the skew,
 * which tells of a wrong clock just when everything is stale. */
static void forget(struct source_event *ev)
{
    ev->id = ev->type = ev->subject = ev->content_type = SPAN_NONE;
    ev->headers.n = ev->scratch.n = ev->handshake_headers.n = 0;
    ev->dedup = ev->handshake = false;
}

enum verdict source_verify(const struct source_plan *p, const struct http_request *req,
                           const char *bytes, struct span path_token, int64_t now_ms,
                           struct source_event *ev)
{
    struct verify v; /* not zeroed as a whole: json is filled before it is looked at */
    enum verdict verdict;

    v.p = p;
    v.req = req;
    v.bytes = bytes;
    v.now_ms = now_ms;
    v.ev = ev;
    v.signature = SPAN_NONE;
    v.scanned = v.looked = false;
    v.doc = NULL;
    forget(ev);
    ev->skew_ms = INT64_MIN;
    ev->trial = (struct source_trial){ 0 };
    if (!path_token_fits(p, path_token))
        return source_because(&v, VERDICT_BAD_SIGNATURE, "the token in the path is another one");
    if (!source_shake_open(&v, &verdict)) {
        verdict = p->all ? check_all(&v) : check_any(&v);
        if (verdict == VERDICT_OK)
            verdict = describe(&v);
    }
    if (verdict != VERDICT_OK)
        forget(ev);
    if (v.doc)
        keys_release(v.doc);
    return verdict;
}

void source_event_free(struct source_event *ev)
{
    buf_free(&ev->headers);
    buf_free(&ev->scratch);
    buf_free(&ev->handshake_body);
    buf_free(&ev->handshake_headers);
}
