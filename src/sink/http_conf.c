/* SPDX-License-Identifier: Apache-2.0 */
/* Settings of the HTTP sink, and what an answer says of the event that it answers. */
#include <stdio.h>
#include <string.h>

#include "http_sink.h"

#define F(m) offsetof(struct sink_http_cfg, m)

const struct cfg_key *sink_http_keys(void)
{
    static const struct cfg_key keys[] = {
        { "url", CFG_STR, F(url), .flags = CFG_REQUIRED,
          .help = "Where events are sent, `https://host/path` or `http://`. Redirects are not "
                  "followed." },
        { "key", CFG_STR, F(key), "{subject}",
          .help = "Events with the same one are sent one after another, in order; `{source}`, "
                  "`{type}`, `{subject}`, `{id}`. Where it is empty, the event id." },
        { "secrets", CFG_SECRETS, F(secrets),
          .help = "What requests are signed with, as Standard Webhooks says: `whsec_` and base64. "
                  "Of several each gives a signature, so that the target can change to the new "
                  "one." },
        { "concurrency", CFG_INT, F(concurrency), "16", 1, 256,
          .help = "Requests under way at once, at most; of one key always one." },
        { "timeout", CFG_MSEC, F(timeout_ms), "30s", 1, 600000,
          .help = "For one request, from the look-up of the name to the end of the answer." },
        { "give_up", CFG_MSEC, F(give_up_ms), "1h",
          .help = "An event that fails for so long while the target takes others goes to the dead "
                  "letters; 0: never. While it takes nothing at all, none does." },
        { "ca", CFG_STR, F(ca), .flags = CFG_FILE,
          .help = "PEM file of the authorities; default the system's." },
        { 0 }
    };

    return keys;
}

void sink_http_check(const char *name, const struct sink_http_cfg *cfg, const struct cfg_node *at,
                     struct err_list *errs, struct err_list *warns)
{
    char *what = xasprintf("sink %s", name);
    const char *why;

    sink_http_check_target(what, cfg->url, cfg->ca, &cfg->secrets, at, errs, warns);
    if (cfg->key[0] && !template_good(cfg->key, &why))
        cfg_error(errs, at, "%s: key \"%s\": %s", what, cfg->key, why);
    free(what);
}

/* --- answers -----------------------------------------------------------------------------------
 */

/* What is not here: 2xx takes, 3xx blocks, 4xx refuses this event, 5xx fails. */
static const struct status {
    int status;
    enum http_word word;
    const char *mend; /* of what blocks */
} statuses[] = {
    { 401, HTTP_BLOCKED, "check secrets, here and there" },
    { 403, HTTP_BLOCKED, "let us in there" },
    { 404, HTTP_BLOCKED, "check the path of the url" },
    { 405, HTTP_BLOCKED, "the url takes no POST" },
    { 407, HTTP_BLOCKED, "a proxy stands before it" },
    { 408, HTTP_FAILED, NULL },
    { 410, HTTP_BLOCKED, "it is gone for good: change the url, or take the sink out" },
    { 421, HTTP_BLOCKED, "the server is not for this host" },
    { 425, HTTP_FAILED, NULL },
    { 429, HTTP_BUSY, NULL },
    { 502, HTTP_BUSY, NULL },
    { 503, HTTP_BUSY, NULL },
    { 504, HTTP_BUSY, NULL },
};

static struct status meaning(int status)
{
    for (size_t i = 0; i < ARRAY_LEN(statuses); i++)
        if (statuses[i].status == status)
            return statuses[i];
    switch (status / 100) {
    case 2:
        return (struct status){ status, HTTP_TAKEN, NULL };
    case 3:
        return (struct status){ status, HTTP_BLOCKED,
                                "redirects are not followed: put where it leads into url" };
    case 4:
        return (struct status){ status, HTTP_REFUSED, NULL };
    default:
        return (struct status){ status, HTTP_FAILED, NULL };
    }
}

enum http_word http_word_of(const struct post_answer *a)
{
    if (a->status)
        return meaning(a->status).word;
    return a->untrusted ? HTTP_BLOCKED : a->timed_out ? HTTP_FAILED : HTTP_BUSY;
}

/* The query of a URL may hold a token. */
void http_explain(const struct sink_http_cfg *cfg, const struct post_answer *a, char *out, size_t n)
{
    int url = (int)strcspn(cfg->url, "?");
    const char *mend = a->status ? meaning(a->status).mend : NULL;

    if (!a->status)
        snprintf(out, n, "%.*s: %s", url, cfg->url,
                 a->timed_out ? "no full answer in time" : a->error);
    else
        snprintf(out, n, "%.*s answered %d%s%.*s%s%s", url, cfg->url, a->status,
                 a->text.n ? ": " : "", SPAN_FMT(a->text), mend ? "; " : "", mend ? mend : "");
}
