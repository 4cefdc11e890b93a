/* SPDX-License-Identifier: Apache-2.0 */
/* /v1/dead/SINK: pages of letters, one letter with its event, redrive and drop. What a request
 * means is said in full or not at all: a misspelt list of LSNs must not become "all of them". */
#include <string.h>

#include "clock.h"
#include "json.h"
#include "room.h"

#define LETTERS_MAX 1000
#define LSNS_MAX 10000

/* --- what is shown
 * --------------------------------------------------------------------------------------- */

static void text(struct buf *b, const char *name, struct span value)
{
    buf_printf(b, ",\"%s\":", name);
    buf_json_string(b, value);
}

static void when(struct buf *b, const char *name, int64_t ms)
{
    char t[CLOCK_TEXT_MAX];

    if (ms)
        text(b, name, span_str(clock_text(ms, t)));
}

static void letter_json(struct buf *b, const struct wal_letter *l, const char *log_id)
{
    char made[RECORD_ID_MAX];

    buf_printf(b, "{\"lsn\":%llu", (unsigned long long)l->rec.lsn);
    text(b, "id", record_id(&l->rec, log_id, made));
    text(b, "source", l->rec.source);
    text(b, "type", l->rec.type);
    if (l->rec.subject.n)
        text(b, "subject", l->rec.subject);
    when(b, "time", l->rec.time_ms);
    buf_printf(b, ",\"bytes\":%zu", l->rec.body.n);
    text(b, "reason", l->reason);
    buf_printf(b, ",\"attempts\":%llu", (unsigned long long)l->attempts);
    when(b, "first_at", l->first_ms);
    when(b, "last_at", l->last_ms);
}

static void answer_page(struct admin_ask *k)
{
    const struct delivery_ask *ask = &k->ask;
    struct buf b = BUF_INIT;

    buf_printf(&b, "{\"sink\":\"%s\",\"count\":%llu,\"bytes\":%llu,\"letters\":[", k->name,
               (unsigned long long)ask->count, (unsigned long long)ask->bytes);
    for (size_t i = 0; i < ask->letters_n; i++) {
        buf_adds(&b, i ? ",\n" : "\n");
        letter_json(&b, &ask->letters[i], k->log_id);
        buf_addc(&b, '}');
    }
    buf_addc(&b, ']');
    if (ask->more)
        buf_printf(&b, ",\"next\":%llu",
                   (unsigned long long)ask->letters[ask->letters_n - 1].rec.lsn);
    buf_adds(&b, "}\n");
    admin_reply(k->req, 200, "application/json", &b);
    buf_free(&b);
}

static void answer_letter(struct admin_ask *k)
{
    const struct wal_letter *l = k->ask.letters;
    struct buf b = BUF_INIT;

    if (!k->ask.letters_n || l->rec.lsn != k->ask.after + 1) {
        admin_reply_error(k->req, 404, "not_found", k->none);
        return;
    }
    letter_json(&b, l, k->log_id);
    buf_adds(&b, ",\"event\":");
    admin_event_json(&b, &l->rec, k->log_id);
    buf_adds(&b, "}\n");
    admin_reply(k->req, 200, "application/json", &b);
    buf_free(&b);
}

static void answer_drop(struct admin_ask *k)
{
    struct buf b = BUF_INIT;

    if (k->one && !k->ask.count) {
        admin_reply_error(k->req, 404, "not_found", k->none);
        return;
    }
    buf_printf(&b, "{\"dropped\":%llu}\n", (unsigned long long)k->ask.count);
    admin_reply(k->req, 200, "application/json", &b);
    buf_free(&b);
}

/* --- what is asked
 * ---------------------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;

    return *x < *y ? -1 : *x > *y;
}

/* Rising, each once, as the sink wants them. */
static void sort(struct delivery_ask *ask)
{
    size_t kept = 0;

    qsort(ask->lsns, ask->lsns_n, sizeof *ask->lsns, by_value);
    for (size_t i = 0; i < ask->lsns_n; i++)
        if (!kept || ask->lsns[kept - 1] != ask->lsns[i])
            ask->lsns[kept++] = ask->lsns[i];
    ask->lsns_n = kept;
}

static bool take_lsns(struct delivery_ask *ask, struct span list)
{
    struct json_value v;
    uint64_t lsn;

    ask->lsns = xcalloc(LSNS_MAX, sizeof *ask->lsns);
    while (json_next(&list, &v)) {
        if (v.type != JSON_NUMBER || !span_u64(v.raw, &lsn) || !lsn || ask->lsns_n == LSNS_MAX)
            return false;
        ask->lsns[ask->lsns_n++] = lsn;
    }
    sort(ask);
    return ask->lsns_n > 0;
}

/* {"lsns":[1,2]} or {"all":true} */
static bool take_which(struct admin_ask *k, struct span body)
{
    static const struct span names[] = { { "lsns", 4 }, { "all", 3 } };
    struct json_value v[2];

    if (!json_valid(body))
        return false;
    json_find_all(body, names, 2, v);
    if (v[0].type == JSON_ARRAY && v[1].type == JSON_NONE)
        return take_lsns(&k->ask, v[0].raw);
    return v[0].type == JSON_NONE && v[1].type == JSON_TRUE;
}

static void of_some(struct admin_ask *k, bool empty_is_all)
{
    struct span body = http_body(&k->req->http, k->req->bytes);

    if ((empty_is_all && !body.n) || take_which(k, body)) {
        admin_ask_send(k);
        return;
    }
    admin_reply_error(k->req, 400, "bad_parameter",
                      "the body is {\"lsns\":[LSN,...]}, of at most 10000, or {\"all\":true}");
    admin_ask_free(k);
}

static void page(struct admin_ask *k)
{
    struct admin_params p;
    const char *bad = NULL;

    if (admin_params(k->req, &p, &bad)) {
        k->ask.what = ASK_LETTERS;
        k->ask.after = p.after;
        k->ask.limit = MIN(p.limit, (uint64_t)LETTERS_MAX);
        k->answer = answer_page;
        admin_ask_send(k);
    } else {
        admin_reply_error(k->req, 400, "bad_parameter", bad);
        admin_ask_free(k);
    }
    admin_params_free(&p);
}

static void drop(struct admin_ask *k, uint64_t one)
{
    k->ask.what = ASK_DROP;
    k->answer = answer_drop;
    k->one = one;
    if (!one) {
        of_some(k, false);
        return;
    }
    k->ask.lsns = xcalloc(1, sizeof one);
    k->ask.lsns[k->ask.lsns_n++] = one;
    admin_ask_send(k);
}

static void show(struct admin_ask *k, uint64_t lsn)
{
    k->ask.what = ASK_LETTERS;
    k->ask.after = lsn - 1;
    k->ask.limit = 1;
    k->answer = answer_letter;
    admin_ask_send(k);
}

void admin_dead(struct admin *a, struct net_request *req, struct span rest)
{
    struct span name = span_cut(&rest, '/');
    bool redrive = span_eq(rest, S("redrive"));
    struct delivery *sink = admin_sink(a, name);
    struct admin_ask *k;
    uint64_t lsn = 0;

    if (!sink) {
        admin_reply_error(req, 404, "not_found", "no sink has that name");
        return;
    }
    if (rest.p && !redrive && (!span_u64(rest, &lsn) || !lsn)) {
        net_answer_error(req, HTTP_ERR_NOT_FOUND, "no such path", NULL);
        return;
    }
    if (!(redrive ? admin_method(req, METHODS_POST, "POST")
                  : admin_method(req, METHODS_GET | METHODS_DELETE, "GET, HEAD, DELETE")))
        return;
    k = admin_ask_new(a, req, sink, name);
    k->none = redrive ? "no such dead letter is there" : "no dead letter has that LSN";
    if (redrive) {
        k->ask.what = ASK_REDRIVE;
        k->answer = admin_answer_run;
        of_some(k, true);
    } else if (req->http.method == METHOD_DELETE) {
        drop(k, lsn);
    } else if (lsn) {
        show(k, lsn);
    } else {
        page(k);
    }
}
