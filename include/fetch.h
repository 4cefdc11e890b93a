/* fetch - outgoing HTTPS GETs under rules, several at a time, on one thread that may wait.
 *
 * A URL can come from a stranger (the certificate that a webhook names), so that a fetch must not
 * become a way into the network that hookline stands in: https only, hosts by pattern before
 * anything is looked up, and the address that is really connected to must be a public one, so that
 * no name can point inside. Redirects are not followed, no proxy of the environment is used (it
 * would connect where we cannot look), no connection is used twice. TLS 1.2 or newer with the
 * certificate checked; the body, the head and the whole time are limited.
 *
 * A fetcher belongs to one thread; only fetcher_wake is for any. `done` runs in fetcher_run. */
#pragma once

#include "buf.h"
#include "err.h"

struct fetch_rules {
    /* NULL-ended; NULL: any host and port. Patterns of a host, or host:port where the port is not
     * the scheme's own; * and ? stay within one label: "sns.???*.amazonaws.com". A pattern that
     * crossed dots would let in "sns.any.s3.amazonaws.com", which anybody can own. */
    const char *const *hosts;
    const char *path;    /* pattern of the path; NULL: any. A query is refused where there is one */
    const char *ca_file; /* PEM; NULL: the system's */
    bool allow_http;     /* for tests, and where the operator names the URL */
    bool allow_private;  /* also loopback, private, link-local and metadata addresses */
    uint64_t body_bytes; /* 0: 256 KiB */
    int64_t timeout_ms;  /* from the look-up of the name to the last byte; 0: 10 s */
};
/* Deep copies; _free leaves it empty. Equal: the same in every rule. */
void fetch_rules_copy(struct fetch_rules *to, const struct fetch_rules *from);
void fetch_rules_free(struct fetch_rules *r);
bool fetch_rules_equal(const struct fetch_rules *a, const struct fetch_rules *b);

/* What can be said without the network: is this a URL that the rules let through? Pure, any thread.
 */
MUST_CHECK int fetch_check(const char *url, const struct fetch_rules *r, struct err *e);

/* Status 200, and what may be kept of it. */
struct fetch_reply {
    struct buf body;
    int64_t max_age_ms; /* by Cache-Control and Age; 0: not to be stored; -1: nothing is said */
};
/* reply is NULL when the fetch failed: then e says why. Both are borrowed; the callback may move
 * the body out of the reply. It may start other fetches. */
typedef void fetch_done(void *arg, struct fetch_reply *reply, const struct err *e);

struct fetcher;
struct fetch;
struct fetcher *fetcher_new(void);
void fetcher_free(struct fetcher *f); /* drops what is under way, as fetch_cancel does */
/* Never fails at once: what cannot even start is told by `done` as well. url and r are borrowed for
 * the call (the files that r names are read later). */
struct fetch *fetch_start(struct fetcher *f, const char *url, const struct fetch_rules *r,
                          fetch_done *done, void *arg);
void fetch_cancel(struct fetch *x); /* before `done` only, which is then not called */
/* Works for at most wait_ms, less when something ended or fetcher_wake was called. */
void fetcher_run(struct fetcher *f, int64_t wait_ms);
void fetcher_wake(struct fetcher *f); /* any thread */
