/* source - is this webhook genuine, and what is it: given headers, body, secrets and the time.
 *
 * A source's settings (a preset of providers.yaml with the user's own keys over it) are compiled
 * once into a flat, immutable plan. Verification is pure, allocates nothing on the common path and
 * fails closed (P10): whatever is missing, repeated, malformed or unknown is refused. Any thread.
 */
#pragma once

#include "cfg.h"
#include "http.h"
#include "keys.h"

/* The settings of one source: the user's keys and the preset language. Private but for what intake
 * and cli need. */
struct source_cfg;
const struct cfg_key *source_cfg_keys(void); /* of one entry of `sources` */
size_t source_cfg_size(void);

enum source_dedup { SOURCE_DEDUP_AUTO, SOURCE_DEDUP_ID, SOURCE_DEDUP_BODY, SOURCE_DEDUP_OFF };

struct source_plan;
/* cfg is one entry of `sources` as cfg_load made it and must outlive the plan, which borrows its
 * texts and secrets; `at` is its node (for FILE:LINE) and may go. Warnings (a plain secret, a dedup
 * window shorter than the provider's retries) go to warns. NULL after errors. */
struct source_plan *source_compile(const char *name, const struct source_cfg *cfg,
                                   const struct cfg_node *at, int64_t dedup_window_ms,
                                   struct err_list *errs, struct err_list *warns);
void source_plan_free(struct source_plan *p);

/* Has the plan's JWK set fetched, or its file watched; nothing to do where it has none. Until then,
 * and where they were never had, its deliveries are VERDICT_KEYS_UNAVAILABLE. The keys must outlive
 * the plan, or be forgotten first. */
MUST_CHECK int source_register_keys(struct source_plan *p, struct keys *k, struct err *e);
void source_forget_keys(struct source_plan *p);
bool source_wants_keys(const struct source_plan *p);

/* What intake needs to know of a plan. */
struct source_info {
    const char *name;
    const char *path; /* as configured; may hold {token} */
    const char *provider;
    uint64_t body_bytes;                   /* 0: the global limit */
    uint64_t sends_bytes;                  /* the largest body the provider sends; 0: not known */
    bool dedups;                           /* repeats are looked for */
    bool ack_broker;                       /* the answer waits for the sinks */
    int status;                            /* 200, 202 or 204 */
    int reject_status;                     /* of what is not genuine: 400, 401 or 403 */
    bool open;                             /* nothing is asked for: anybody may send */
    struct cfg_strs allow, client_names;   /* borrowed; who may send at all; none: everybody */
    int64_t rate, burst;                   /* of genuine deliveries; 0: no limit */
    bool handshake_get, handshake_options; /* methods beside POST that a handshake needs */
};
const struct source_info *source_info(const struct source_plan *p);

/* Matches the request's path against the plan's; {token} may stand for one non-empty piece without
 * '/'. */
bool source_match_path(const struct source_plan *p, struct span path, struct span *token);

enum verdict {
    VERDICT_OK,
    VERDICT_UNSIGNED,
    VERDICT_BAD_SIGNATURE,
    VERDICT_STALE,
    VERDICT_FUTURE,
    VERDICT_MALFORMED,
    VERDICT_UNKNOWN_KEY,
    VERDICT_EXPIRED,
    VERDICT_ADDRESS,            /* not one of `allow` */
    VERDICT_CLIENT_CERTIFICATE, /* none, or not one of `client_names` */
    VERDICT_KEYS_UNAVAILABLE,   /* nobody can tell now: 503, so that the sender tries again */
    VERDICTS
};
const char *verdict_name(enum verdict v); /* the metric label */

/* How far a verification came: for those who run us, never for the sender. */
enum source_tried {
    TRIED_NOTHING,
    TRIED_SECRETS,
    TRIED_PUBLIC_KEYS,
    TRIED_KEY_SET,
    TRIED_CERTIFICATE
};
struct source_trial {
    const char *check; /* the name of the last that was made; the plan's */
    const char *why;   /* a constant text; NULL: the verdict says it all */
    enum source_tried what;
    uint32_t which; /* bits: places in `secrets` or `public_keys` */
};

/* What a genuine webhook is. Spans point into the request, the plan or `scratch`. */
struct source_event {
    struct span id, type, subject, content_type; /* id empty where there is none */
    bool dedup;         /* the id names a delivery: repeats are duplicates */
    struct buf headers; /* kept headers in record form; reused across calls by its owner */
    struct buf scratch;
    int64_t skew_ms; /* our clock minus the verified timestamp; INT64_MIN: none */
    struct source_trial trial;
    /* A handshake: answer this and log nothing. */
    bool handshake;
    int handshake_status;
    const char *handshake_type; /* NULL: none */
    struct buf handshake_body;
    struct buf handshake_headers; /* whole lines */
};
void source_event_free(struct source_event *ev);

enum verdict source_verify(const struct source_plan *p, const struct http_request *req,
                           const char *bytes, struct span path_token, int64_t now_ms,
                           struct source_event *ev);

/* What a refused request brought and what was tried on it, as text without a NUL; its length. Of
 * signatures and secrets four characters at most, of what the sender wrote printable ones only. To
 * be called behind source_verify, with its arguments; uses ev->scratch. */
#define SOURCE_EXPLAIN_MAX 440
size_t source_explain(const struct source_plan *p, const struct http_request *req,
                      const char *bytes, struct source_event *ev, char out[SOURCE_EXPLAIN_MAX]);

enum source_outcome {
    OUTCOME_NONE,
    OUTCOME_SUCCEEDED,
    OUTCOME_FAILED,
    OUTCOME_CANCELLED,
    OUTCOME_WAITING
};
enum source_outcome source_outcome(const struct source_plan *p, struct span type);

/* --- presets ------------------------------------------------------------------------------------
 */
const char *const *source_preset_names(void);     /* NULL-ended */
struct span source_preset_text(const char *name); /* the block as YAML, SPAN_NONE when unknown */

void source_docs(struct buf *out); /* docs/providers.md, of all of them */

/* What its provider would hand out, to try a preset with. What it has none of stays empty. */
struct source_pair {
    struct buf secret;  /* for `secrets` and `hookline send --secret` */
    struct buf private; /* PEM, for `hookline send --key` */
    struct buf public;  /* for `public_keys` */
    struct buf jwks;    /* or for `jwks` */
};
MUST_CHECK int source_keygen(const char *preset, struct source_pair *out, struct err *e);
void source_pair_free(struct source_pair *p);

/* --- the other direction, for `hookline send` and the benchmarks ---------------------------------
 */
struct source_outgoing {
    struct span id, type, subject; /* in: empty ones are made up */
    struct span body;              /* in: given, or typical for the type */
    struct span key;               /* in: a private key, where the provider signs with one */
    int64_t now_ms;
    struct buf headers; /* in and out: "Name: value\r\n" lines, signature included */
    struct buf query;   /* in and out: what the URL carries behind its '?'; may be empty */
    struct buf text;    /* out: the body */
};
/* Signs as that provider would, with the first of the plan's secrets or the given key. */
MUST_CHECK int source_sign(const struct source_plan *p, struct source_outgoing *out, struct err *e);
void source_outgoing_free(struct source_outgoing *out);
