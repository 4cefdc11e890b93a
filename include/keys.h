/* keys - key material that lies on somebody else's server: JWK sets and certificates.
 *
 * One helper thread fetches, ahead of expiry as Cache-Control says; the threads that verify only
 * ever look at what is there. What was good once stays in use until something good replaces it: a
 * server that is down, a garbage document, a restart (the cache on disk) change nothing but
 * /status and the metrics. Without any keys the answer is "not now", never "not genuine", so that
 * the sender tries again. Unknown keys can be asked for by strangers, so asking is rate limited.
 *
 * Whoever can write to the cache folder or to a key file decides what is genuine: both are as
 * private as the log. All functions are for any thread; only keys_register, keys_warm and
 * keys_free may wait for the disk or longer.
 *
 *     cfg = keys_defaults("/var/lib/hookline/keys");
 *     keys_new(&k, &cfg, &e);
 *     set = keys_register(k, &(struct keys_set_cfg){ .name = "gemini", .url = url }, &e);
 *     keys_warm(k, 5000);                  // then the listeners open
 *
 *     struct keys_doc *doc = keys_hold(set);             // for each webhook
 *     if (!doc)
 *         return 503 keys_unavailable;
 *     outcome = crypto_jwt_verify(token, doc->set, &rules, body, now_ms, &payload);
 *     keys_release(doc);
 *     if (outcome == CRYPTO_JWT_UNKNOWN_KID && keys_wanted(set))
 *         return 503 keys_unavailable;                   // newer keys are on their way
 *
 *     keys_unregister(set);    // on reload: after the new configuration has registered its own
 */
#pragma once

#include "crypto.h"
#include "fetch.h"

struct keys;
struct keys_set;

struct keys_cfg {
    const char *dir;                    /* of the cache; made when missing; NULL: no cache */
    int64_t min_ms, max_ms, normal_ms;  /* bounds of max-age; what holds when nothing is said */
    int64_t wanted_ms;                  /* between two refreshes that were asked for */
    int64_t retry_min_ms, retry_max_ms; /* after failures: doubled each time, with jitter */
    int64_t file_ms;                    /* between two looks at a file */
    int64_t pace_ms; /* between two certificates on average; ten may come at once */
    size_t certs;    /* certificates kept */
};
struct keys_cfg keys_defaults(const char *dir);

MUST_CHECK int keys_new(struct keys **out, const struct keys_cfg *cfg, struct err *e);
void keys_free(struct keys *k); /* the sets too; what is held stays valid */

/* What is held: immutable and counted. */
struct keys_doc {
    struct crypto_keyset *set; /* of a JWK set */
    struct buf pem;        /* of a certificate: the bytes that came, nothing checked but a BEGIN */
    _Atomic uint32_t refs; /* private */
};
void keys_release(struct keys_doc *doc); /* NULL is fine */

/* --- JWK sets -----------------------------------------------------------------------------------
 */
struct keys_set_cfg {
    const char *name;         /* from the configuration: the label in metrics and /status */
    const char *url, *file;   /* one of both */
    struct fetch_rules rules; /* of the URL; zeros: https, public addresses, any host */
};
/* Borrowed for the call. NULL when the URL is against the rules or the file cannot be read now; a
 * server that does not answer is no error. Equal sets are one, counted, so that a reload keeps what
 * was fetched; another URL begins with what the cache has. */
struct keys_set *keys_register(struct keys *k, const struct keys_set_cfg *cfg, struct err *e);
void keys_unregister(struct keys_set *s); /* no hold or wish on it from now on */

/* Waits until each set has keys that are not older than the bounds allow, or failed once. False
 * when the time was up first. */
bool keys_warm(struct keys *k, int64_t timeout_ms);

struct keys_doc *keys_hold(struct keys_set *s); /* NULL: none so far */
/* The right key was not there: asks for a refresh, at most one in cfg.wanted_ms. True while one
 * that was asked for is under way, so that it is worth it for the sender to try again. */
bool keys_wanted(struct keys_set *s);

/* --- by URLs that webhooks name -----------------------------------------------------------------
 */
enum keys_answer {
    KEYS_HELD,
    KEYS_LATER,  /* being fetched, failing, or too many at once: 503 */
    KEYS_REFUSED /* not a URL that the rules let through, or rules without hosts: not genuine */
};
/* A table of cfg.certs certificates, the least used goes first; new ones never push out a good one
 * before they are fetched. */
enum keys_answer keys_cert_hold(struct keys *k, struct span url, const struct fetch_rules *r,
                                struct keys_doc **out);
/* Fetches once and forgets the answer, five times at most when it fails: the confirmation of an SNS
 * subscription. Only after its webhook was found genuine. KEYS_HELD: it is on its way. */
enum keys_answer keys_get_once(struct keys *k, struct span url, const struct fetch_rules *r);

/* --- reports ------------------------------------------------------------------------------------
 */
void keys_status(struct keys *k, struct buf *out);  /* a JSON object */
void keys_metrics(struct keys *k, struct buf *out); /* Prometheus text */
