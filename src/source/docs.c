/* SPDX-License-Identifier: Apache-2.0 */
/* docs/providers.md, from the presets themselves. */
#include <string.h>

#include "room.h"

static const char intro[] =
    "# Providers\n"
    "\n"
    "Made from the presets by `make docs`; `hookline providers NAME` prints one. A source starts\n"
    "from a preset and may override any key.\n"
    "\n"
    "What a sender is told is the same for all: `200` once the event is durable (`status:` makes "
    "it\n"
    "202 or 204), `200` with `\"status\":\"duplicate\"` for a repeat, `401` for whatever could not "
    "be\n"
    "verified (`reject_status:` makes it 400 or 403), `413` over the body's limit, `503` with\n"
    "`Retry-After` for every trouble of our own. Never a 3xx, never 410: some providers disable "
    "an\n"
    "endpoint on those.\n"
    "\n"
    "The *id* tells repeats where it names a delivery or an event; where it names an object, "
    "which\n"
    "can have several events, `dedup: id` must say so. The *subject* is the job or object, and "
    "the\n"
    "*outcome* what the type says of it; types that no pattern matches say nothing.\n"
    "\n"
    "Several `secrets` or `public_keys` may stand while rotating; any of them may match, and any "
    "of\n"
    "several signatures in one delivery. `{ env: NAME, not_after: TIME }` ends a secret.\n"
    "\n"
    "A time outside the tolerance is refused even where the provider does not ask for that check;\n"
    "`tolerance` widens it. `hookline providers keygen NAME DIR` makes keys to try a preset with, "
    "and\n"
    "`hookline send --provider NAME` sends what the provider would.\n";

static const char outro[] =
    "\n"
    "## A provider of your own\n"
    "\n"
    "One that signs `TIMESTAMP.BODY` in hex:\n"
    "\n"
    "```yaml\n"
    "sources:\n"
    "  mine:\n"
    "    secrets: [{ file: /run/secrets/mine }]\n"
    "    signature:\n"
    "      algorithm: hmac-sha256\n"
    "      message: \"{header:x-time}.{body}\"\n"
    "      header: x-signature\n"
    "      encoding: hex\n"
    "      timestamp: { header: x-time, unit: s, tolerance: 5m }\n"
    "    id: { header: x-delivery, names: delivery }\n"
    "    type: { path: event }\n"
    "```\n"
    "\n"
    "One that sends a token, or signs with Ed25519 where the user has switched that on; and asks "
    "first whether we are there:\n"
    "\n"
    "```yaml\n"
    "sources:\n"
    "  mine:\n"
    "    secrets: [{ env: MINE_TOKEN, not_after: 2027-01-31T00:00:00Z }, { env: MINE_TOKEN_NEXT "
    "}]\n"
    "    public_keys: [\"whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=\"]\n"
    "    any_of:\n"
    "      signed: { algorithm: ed25519, header: x-signature, message: \"{header:x-time}{body}\", "
    "encoding: base64 }\n"
    "      token: { algorithm: token, header: x-token }\n"
    "    handshake: { path: type, equals: hello, echo: challenge, answer: "
    "'{\"challenge\":{token:json}}', type: application/json }\n"
    "```\n"
    "\n"
    "Of `any_of` the first of which a delivery holds anything decides, so that a wrong signature "
    "is not made good by a token beside it; `all_of`\n"
    "wants each. Every key is in [configuration.md](configuration.md).\n"
    "\n"
    "What would only look safe is refused when the configuration is loaded: a message without the "
    "body, a timestamp that is not part of the\n"
    "message, a certificate from any host. What stands before a literal of the message may not "
    "hold it: an id with a dot is refused where\n"
    "`ID.TIME.BODY` is signed, as the Standard Webhooks specification wants. A header that holds a "
    "token (`authorization`,\n"
    "`proxy-authorization`, `cookie`, the token's own) is never stored.\n"
    "\n"
    "To make it a preset: the block into `src/source/providers.yaml` under its name, with `sample` "
    "and `about`; a delivery that the provider\n"
    "published into `tests/data/vectors`; `make docs`; `make unit`, which sends it there and "
    "back.\n"
    "\n"
    "Sources of the facts: ai.google.dev/gemini-api/docs/webhooks, standardwebhooks.com, "
    "developers.openai.com (webhooks guide),\n"
    "docs.github.com (validating webhook deliveries), docs.stripe.com/webhooks, api.slack.com "
    "(verifying requests), the providers' own pages on\n"
    "webhooks and their libraries on GitHub for the others, docs.affirm.com, wavespeed.ai/docs, "
    "developer.zendesk.com (verifying webhooks).\n";

static void row(struct buf *out, const char *name, const char *text)
{
    if (text)
        buf_printf(out, "| %s | %s |\n", name, text);
}

static void print_place(struct buf *out, const char *name, const struct where *w)
{
    const char *kind = w->header ? "header" : w->path ? "body" : "always";
    const char *what = w->header ? w->header : w->path ? w->path : w->constant;

    if (!what) {
        row(out, name, "none");
        return;
    }
    buf_printf(out, "| %s | %s `%s`%s%s |\n", name, kind, what, w->names ? ": names the " : "",
               w->names ? w->names : "");
}

static void print_list(struct buf *out, const char *name, const struct cfg_strs *list)
{
    if (!list->n)
        return;
    buf_printf(out, "| %s | ", name);
    for (size_t i = 0; i < list->n; i++)
        buf_printf(out, "%s`%s`", i ? ", " : "", list->v[i]);
    buf_adds(out, " |\n");
}

/* A line feed as it stands in the preset; a bar would end the table's cell. */
static void print_message(struct buf *out, const char *message)
{
    buf_adds(out, " over `");
    for (; *message; message++)
        if (*message == '\n')
            buf_adds(out, "\\n");
        else if (*message == '|')
            buf_adds(out, "\\|");
        else
            buf_addc(out, *message);
    buf_addc(out, '`');
}

static bool is_any(const char *word, const char *a, const char *b)
{
    return !strcmp(word, a) || !strcmp(word, b);
}

static void print_check(struct buf *out, const struct signature_cfg *c)
{
    const char *in = c->header ? "header" : c->path ? "body" : "query";
    const char *where = c->header ? c->header : c->path ? c->path : c->query;

    buf_adds(out, c->algorithm);
    if (strncmp(c->algorithm, "jwt", 3) && !is_any(c->algorithm, "token", "none"))
        print_message(out, c->message ? c->message : "{body}");
    if (where)
        buf_printf(out, " in %s `%s`", in, where);
    if (c->scheme)
        buf_printf(out, " (%s)", c->scheme);
    if (c->field)
        buf_printf(out, " behind `%s`", c->field);
    if (c->encoding)
        buf_printf(out, ", %s", c->encoding);
    if (c->body_hash)
        buf_printf(out, ", and the body's SHA-256 in `?%s=`", c->body_hash);
    if (c->secret.decode)
        buf_printf(out, "; the secret is %s", c->secret.decode);
    if (c->timestamp.tolerance)
        buf_printf(out, "; at most %s old", c->timestamp.tolerance);
    if (c->jwt.body_hash)
        buf_printf(out, "; `%s` is the body's hash", c->jwt.body_hash);
    if (c->jwt.issuer)
        buf_printf(out, "; `iss` is %s", c->jwt.issuer);
}

static void print_checks(struct buf *out, const struct source_cfg *c)
{
    buf_adds(out, "| verified | ");
    if (!c->any_of.n)
        print_check(out, &c->signature);
    for (size_t i = 0; i < c->any_of.n; i++) {
        struct signature_cfg one = *(const struct signature_cfg *)c->any_of.v[i];
        source_fall_back(source_signature_keys(), &one, &c->signature);
        buf_printf(out, "%s*%s*: ", i ? "; or " : "", c->any_of.name[i]);
        print_check(out, &one);
    }
    buf_adds(out, " |\n");
}

static void print_handshake(struct buf *out, const struct source_cfg *c)
{
    if (c->handshake.query)
        buf_printf(out, "| handshake | %s with `?%s=` is answered, not logged |\n",
                   c->handshake.method ? c->handshake.method : "POST", c->handshake.query);
    else if (c->handshake.path)
        buf_printf(out, "| handshake | a delivery whose `%s` is `%s` is answered, not logged |\n",
                   c->handshake.path, c->handshake.equals);
    else if (c->handshake.method)
        buf_printf(out, "| handshake | %s is answered with consent |\n", c->handshake.method);
}

static void print_preset(struct buf *out, const char *name, const struct source_cfg *c)
{
    buf_printf(out, "\n## `%s`\n\n%c%s.\n\n| | |\n|---|---|\n", name,
               c->about.title[0] >= 'a' && c->about.title[0] <= 'z' ? c->about.title[0] - 32
                                                                    : c->about.title[0],
               c->about.title + 1);
    row(out, "copy", c->about.copy);
    print_list(out, "needed", &c->require);
    print_checks(out, c);
    row(out, "keys", c->jwks.url);
    print_handshake(out, c);
    print_place(out, "id", &c->id);
    print_place(out, "type", &c->type);
    print_place(out, "subject", &c->subject);
    print_list(out, "succeeded", &c->outcome.succeeded);
    print_list(out, "failed", &c->outcome.failed);
    print_list(out, "cancelled", &c->outcome.cancelled);
    print_list(out, "waiting", &c->outcome.waiting);
    row(out, "answered", c->status);
    if (c->retries)
        buf_printf(out, "| tries again | for `%s` |\n", c->retries);
    row(out, "on our answers", c->about.answers);
    row(out, "largest body", c->sends_bytes);
    if (c->about.note)
        buf_printf(out, "\n%s\n", c->about.note);
}

void source_docs(struct buf *out)
{
    buf_adds(out, intro);
    for (const char *const *name = source_preset_names(); *name; name++) {
        struct err_list errs = { NULL, 0 };
        struct cfg_doc *doc = cfg_parse("providers.yaml", source_preset_text(*name), false, &errs);
        struct source_cfg *c = xcalloc(1, sizeof *c);
        cfg_load(source_cfg_keys(), cfg_find(cfg_root(doc), *name), c, &errs);
        print_preset(out, *name, c);
        cfg_release(source_cfg_keys(), c);
        cfg_doc_free(doc);
        free(c);
    }
    buf_adds(out, outro);
}
