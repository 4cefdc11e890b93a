/* SPDX-License-Identifier: Apache-2.0 */
/* Requests that ask whether we are who the user says, and are answered, not logged.
 *
 * Those without a signature (GET, OPTIONS, and a POST told by its query) are answered to anybody;
 * what is answered to them is their own text as plain text, or a MAC of it. Such a MAC must never
 * be one that a forged delivery could carry: see source_shake_forged. */
#include <string.h>

#include "room.h"

/* What a stranger sends comes back as text: no browser is to take it for a page. */
#define NOSNIFF "X-Content-Type-Options: nosniff\r\n"

static const char *const methods[] = { "POST", "GET", "OPTIONS", NULL };
static const enum http_method method_of[] = { METHOD_POST, METHOD_GET, METHOD_OPTIONS };
static const struct span pieces[] = {
    { "{token}", 7 }, { "{token:json}", 12 }, { "{hmac:hex}", 10 }, { "{hmac:base64}", 13 }
};

static const struct span *piece_at(struct span text)
{
    for (size_t i = 0; i < ARRAY_LEN(pieces); i++)
        if (span_starts(text, pieces[i]))
            return &pieces[i];
    return NULL;
}

/* Text and pieces in turn; the braces of JSON itself are none. */
static void compile_answer(struct compile *cc, struct span text)
{
    struct shake *k = &cc->p->shake;
    size_t from = 0;

    for (size_t i = 0; i <= text.n; i++) {
        const struct span *piece = i < text.n ? piece_at(span_of(text.p + i, text.n - i)) : NULL;
        if (!piece && i < text.n)
            continue;
        if (k->answer_n + 2 > SHAKE_PARTS_MAX) {
            bad(cc, "handshake.answer", "handshake.answer has more than %d pieces",
                SHAKE_PARTS_MAX / 2);
            return;
        }
        k->answer[k->answer_n++] = span_of(text.p + from, i - from);
        if (!piece)
            return;
        k->answer[k->answer_n++] = *piece;
        from = i + piece->n;
        i = from - 1;
    }
}

static bool answers_with(const struct shake *k, char first)
{
    for (size_t i = 1; i < k->answer_n; i += 2)
        if (k->answer[i].p[1] == first)
            return true;
    return false;
}

/* Of several secrets the one that ends last, so that a rotation does not break the answers. */
static void find_key(struct compile *cc)
{
    const struct source_plan *p = cc->p;
    int64_t until = 0;

    for (size_t i = 0; i < p->checks_n; i++)
        for (size_t k = 0; k < p->checks[i].secrets_n; k++)
            if (p->checks[i].keys[k] && p->checks[i].not_after_ms[k] > until) {
                cc->p->shake.key = p->checks[i].keys[k];
                until = p->checks[i].not_after_ms[k];
            }
    if (!p->shake.key && cc->errs->n == cc->errs_before)
        bad(cc, "handshake.answer", "handshake.answer: {hmac} needs the secret of an HMAC");
}

static void compile_body_shake(struct compile *cc, bool wants_token)
{
    struct shake *k = &cc->p->shake;
    const char *path = cc->c.handshake.path, *echo = cc->c.handshake.echo;

    if (!path || !cc->c.handshake.equals || (wants_token && !echo)) {
        bad(cc, "handshake", "handshake needs path, equals and echo");
        return;
    }
    k->when = source_path_place(cc, source_node(cc, "handshake.path"), path);
    k->equals = span_str(cc->c.handshake.equals);
    if (echo)
        k->echo = source_path_place(cc, source_node(cc, "handshake.echo"), echo);
}

void source_compile_shake(struct compile *cc)
{
    struct shake *k = &cc->p->shake;
    const char *answer = cc->c.handshake.answer ? cc->c.handshake.answer : "{token}";
    const char *method = cc->c.handshake.method ? cc->c.handshake.method : "POST";
    const char *status = cc->c.handshake.status;
    int m = source_word(method, methods);

    k->on = cc->c.handshake.method || cc->c.handshake.query || cc->c.handshake.path ||
            cc->c.handshake.echo || cc->c.handshake.equals;
    if (!k->on)
        return;
    if (m < 0)
        bad(cc, "handshake.method", "handshake.method \"%s\" is none of POST, GET, OPTIONS",
            method);
    if (status && strcmp(status, "200") && strcmp(status, "204"))
        bad(cc, "handshake.status", "handshake.status is 200 or 204");
    k->method = method_of[MAX(m, 0)];
    k->type = cc->c.handshake.type ? cc->c.handshake.type : "text/plain; charset=utf-8";
    k->status = status && !strcmp(status, "204") ? 204 : 200;
    k->query = span_str(cc->c.handshake.query);
    k->verify = span_str(cc->c.handshake.verify);
    if (k->method == METHOD_OPTIONS)
        return;
    compile_answer(cc, span_str(answer));
    if (k->verify.n && !cc->p->verify_token.n)
        bad(cc, "verify_token", "verify_token is missing: the handshake is checked with it");
    if (answers_with(k, 'h'))
        find_key(cc);
    k->oracle = k->query.n && answers_with(k, 'h');
    if (!k->query.n)
        compile_body_shake(cc, answers_with(k, 't') || answers_with(k, 'h'));
}

/* --- while it runs -------------------------------------------------------------------------------
 */

static bool is_token_char(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
           (c && strchr("-_.~+/=", c));
}

/* A stranger gets the MAC of any text that a token can be: so no token is the body of a delivery,
 * and no delivery begins as a token does. */
bool source_shake_forged(const struct verify *v)
{
    struct span body = http_body(v->req, v->bytes);

    return v->p->shake.oracle && (!body.n || is_token_char(body.p[0]));
}

static void write_answer(struct verify *v, struct span token)
{
    const struct shake *k = &v->p->shake;
    struct buf *out = &v->ev->handshake_body;
    uint8_t mac[CRYPTO_HASH_MAX];
    struct span sum = SPAN_NONE;

    if (k->key)
        sum = span_of(mac, crypto_hmac(k->key, &token, 1, mac));
    v->ev->handshake = true;
    v->ev->handshake_status = k->status;
    v->ev->handshake_type = k->type;
    out->n = v->ev->handshake_headers.n = 0;
    buf_adds(&v->ev->handshake_headers, NOSNIFF);
    for (size_t i = 0; i < k->answer_n; i++) {
        if (i % 2 == 0)
            buf_span(out, k->answer[i]);
        else if (span_eq(k->answer[i], pieces[0]))
            buf_span(out, token);
        else if (span_eq(k->answer[i], pieces[1]))
            buf_json_string(out, token);
        else if (span_eq(k->answer[i], pieces[2]))
            buf_hex(out, sum);
        else
            buf_base64(out, sum);
    }
}

/* Consent to be sent to, as CloudEvents asks for it: to anybody, or to the origins that are named.
 */
static enum verdict consent(struct verify *v)
{
    const struct cfg_strs *origins = v->p->shake.origins;
    unsigned count;
    struct span origin = http_header(v->req, v->bytes, S("webhook-request-origin"), &count);
    bool known = !origins->n;

    if (count > 1)
        return VERDICT_MALFORMED;
    if (!origin.n)
        return VERDICT_UNSIGNED;
    for (size_t i = 0; i < origins->n; i++)
        known |= span_ieq(span_str(origins->v[i]), origin);
    if (!known)
        return VERDICT_BAD_SIGNATURE;
    v->ev->handshake = true;
    v->ev->handshake_status = 200;
    v->ev->handshake_type = NULL;
    v->ev->handshake_body.n = v->ev->handshake_headers.n = 0;
    buf_printf(&v->ev->handshake_headers,
               "Allow: POST\r\nWebHook-Allowed-Origin: %.*s\r\nWebHook-Allowed-Rate: *\r\n",
               SPAN_FMT(origin));
    return VERDICT_OK;
}

static bool verify_token_fits(struct verify *v)
{
    const struct source_plan *p = v->p;
    size_t at = v->ev->scratch.n;

    return !p->shake.verify.n ||
           (http_query_get(http_query(v->req, v->bytes), p->shake.verify, &v->ev->scratch) &&
            crypto_equal(v->ev->scratch.p + at, v->ev->scratch.n - at, p->verify_token.p,
                         p->verify_token.n));
}

static enum verdict echo_query(struct verify *v, struct span token)
{
    if (!verify_token_fits(v))
        return VERDICT_BAD_SIGNATURE;
    for (size_t i = 0; i < token.n && v->p->shake.oracle; i++)
        if (!is_token_char(token.p[i]))
            return VERDICT_MALFORMED;
    write_answer(v, token);
    return VERDICT_OK;
}

bool source_shake_open(struct verify *v, enum verdict *verdict)
{
    const struct shake *k = &v->p->shake;
    struct buf *scratch = &v->ev->scratch;
    bool there;

    if (!k->on || v->req->method != k->method || (k->method == METHOD_POST && !k->query.n))
        return false;
    if (k->method == METHOD_OPTIONS) {
        *verdict = consent(v);
        return true;
    }
    buf_reserve(scratch, 2 * v->req->target_len + 1); /* the token stays where it is */
    there = http_query_get(http_query(v->req, v->bytes), k->query, scratch) && scratch->n;
    if (!there && k->method == METHOD_POST) {
        scratch->n = 0;
        return false;
    }
    *verdict = there ? echo_query(v, buf_as_span(scratch)) : VERDICT_UNSIGNED;
    return true;
}

void source_shake_signed(struct verify *v)
{
    const struct shake *k = &v->p->shake;

    if (k->when.kind == PLACE_NOWHERE || v->req->method != METHOD_POST ||
        !span_eq(source_json_text(v, source_json(v, k->when.slot)), k->equals))
        return;
    write_answer(v, k->echo.kind == PLACE_PATH ? source_json_text(v, source_json(v, k->echo.slot))
                                               : SPAN_NONE);
}
