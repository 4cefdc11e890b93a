/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this room share: settings as they are written, and plans as they are run.
 *
 * One file a primitive (hmac.c, token.c, ...): how its settings become a check, how the check is
 * made, how it is signed for. check.c has the table of them; verify.c and sign.c know none by name.
 */
#pragma once

#include "crypto.h"
#include "json.h"
#include "source.h"

struct where { /* where a value stands; at most one of them */
    char *header, *path, *constant;
    char *names; /* of an id: what it tells apart */
};

struct signature_cfg {
    char *algorithm, *message, *header, *path, *query, *scheme, *separator, *field, *encoding;
    char *body_hash;
    struct {
        char *starts, *strip, *decode;
    } secret;
    struct {
        char *header, *field, *path, *unit, *tolerance, *future, *missing;
    } timestamp;
    struct {
        struct cfg_strs algorithms;
        struct cfg_strmap claims;
        char *issuer, *body_hash, *expiry, *max_age;
    } jwt;
    struct certificate_cfg {
        char *header, *path, *url_path, *ca_file;
        struct cfg_strs hosts, names;
        bool allow_private;
    } certificate;
    struct {
        char *path, *equals;
    } when;
};

struct source_cfg { /* NULL: not said here, the preset decides */
    char *path, *provider, *url, *header, *retries, *tolerance, *status, *reject_status;
    struct cfg_secrets secrets;
    struct cfg_secret path_token, verify_token;
    uint64_t body_bytes;
    struct cfg_strs allow, client_names;
    int64_t rate, burst;
    struct cfg_strs keep_headers, require, public_keys;
    struct jwks_cfg {
        char *url, *file, *ca_file;
        bool allow_private;
    } jwks;
    char *audience, *issuer, *email;
    struct cfg_strmap config, equals;
    int dedup, ack;
    struct signature_cfg signature;
    struct cfg_named any_of, all_of; /* of signature_cfg */
    struct where id, type, subject;
    struct {
        char *method, *query, *verify, *path, *equals, *echo, *answer, *type, *status;
        struct cfg_strs origins;
    } handshake;
    struct {
        struct cfg_strs succeeded, failed, cancelled, waiting;
    } outcome;
    struct {
        char *path, *equals, *url;
    } confirm;
    bool confirm_subscriptions;
    char *sends_bytes;
    struct {
        char *id, *type, *subject, *content_type, *certificate;
        struct cfg_strmap bodies;
    } sample;
    struct {
        char *title, *copy, *answers, *note;
    } about;
};

/* The user's settings over the preset's, as borrowed pointers; same shape. */
int source_merge(const struct source_cfg *user, const struct cfg_node *at, struct source_cfg *out,
                 struct source_cfg *preset, struct err_list *errs);
/* What `to` leaves out it gets from `from`, key by key; where a value stands is one key. */
void source_fall_back(const struct cfg_key *table, void *to, const void *from);
const struct cfg_key *source_signature_keys(void);

enum encoding { ENCODING_HEX, ENCODING_BASE64, ENCODING_BASE64URL };
enum unit { UNIT_S, UNIT_MS, UNIT_ISO8601 };

#define PARTS_MAX 16
#define SECRETS_MAX 8
#define CHECKS_MAX 4
#define CANDIDATES_MAX 16
#define CLAIMS_MAX 8
#define EQUALS_MAX 4
#define PATHS_MAX 16
#define KEPT_MAX 32
#define NAMES_MAX 16
#define SHAKE_PARTS_MAX 8
#define ATTRIBUTE_MAX 1024 /* longer ids, types and subjects are taken as absent */

struct place {
    enum { PLACE_NOWHERE, PLACE_HEADER, PLACE_PATH, PLACE_QUERY, PLACE_CONST } kind;
    struct span name;
    size_t slot; /* of a path: its answer in one pass over the body */
};

struct verify;
struct part {
    const struct part_kind *kind; /* NULL: text */
    struct span text;             /* the text, or the name */
};

struct primitive {
    const char *name;
    int arg;      /* which hash, which scheme */
    size_t bytes; /* of a signature; 0: they differ */
    const struct primitive_ops *ops;
};

/* One signature or token that is asked for. */
struct check {
    const struct primitive *kind;
    const struct signature_cfg *cfg;
    const char *name; /* "signature", or that in any_of, all_of */
    struct place at;  /* where the signature or the token stands */
    struct span field, body_hash;
    enum token_scheme { SCHEME_NONE, SCHEME_BEARER, SCHEME_BASIC } scheme;
    char separator; /* 0: one signature */
    enum encoding encoding;
    struct part parts[PARTS_MAX];
    size_t parts_n;
    bool form;    /* a part needs room for the whole body */
    size_t extra; /* and for this text of our own */
    struct {
        struct place at;
        struct span field; /* of the signature's header */
        enum unit unit;
        bool optional;
        int64_t tolerance_ms, future_ms;
    } stamp;
    struct crypto_hmac *keys[SECRETS_MAX];
    struct span tokens[SECRETS_MAX];
    int64_t not_after_ms[SECRETS_MAX]; /* INT64_MAX: for ever */
    size_t secrets_n;
    uint32_t secret_bits, public_bits; /* which of the source's are for this check */
    struct crypto_public *publics[SECRETS_MAX];
    size_t publics_n;
    struct crypto_keyset *set; /* of them; NULL: the source's JWK set */
    struct {
        struct place at; /* of its URL */
        struct fetch_rules rules;
        const char **hosts;
        struct crypto_roots *roots;
    } certificate;
    struct place when; /* a delivery where this does not stand is of another kind */
    struct span when_equals;
    struct crypto_jwt_rules rules; /* but for its claims */
    struct crypto_claim claims[CLAIMS_MAX];
    size_t claims_n;
    bool idle;        /* could not be made by these settings, which is no error beside others */
    struct span each; /* of a token in the elements of an array: the path within one */
};

struct shake { /* a request that is answered, not logged */
    bool on;
    enum http_method method;
    struct place when, echo;
    struct span equals, query, verify;
    struct span answer[SHAKE_PARTS_MAX]; /* text and pieces in turn; text first */
    size_t answer_n;
    const struct crypto_hmac *key;
    bool oracle; /* it answers strangers with a MAC of their text */
    const char *type;
    int status;
    const struct cfg_strs *origins;
};

struct source_plan {
    struct source_info info;
    char *name, *path, *provider;
    size_t path_n, token_at; /* of the path; SIZE_MAX: it holds no {token} */
    struct source_cfg *own, *preset;
    struct signature_cfg *merged; /* what the checks' cfg point to; its texts are own's */

    struct check checks[CHECKS_MAX];
    size_t checks_n;
    struct crypto_keyset *file_set; /* of jwks.file, until it is watched */
    struct keys *keys;              /* for certificates; NULL: not registered */
    struct keys_set *jwks;          /* NULL: none, or not registered */
    bool all;                       /* all of them, else any */
    bool timed;                     /* a time is signed */
    struct span path_token, verify_token;

    struct place id, type, subject;
    struct place equal_at[EQUALS_MAX]; /* what must stand where in a delivery for us */
    struct span equals[EQUALS_MAX];
    size_t equals_n;
    struct { /* a subscription that is confirmed by opening a URL; NOWHERE: it is not */
        struct place when, url;
        struct span equals;
        struct fetch_rules rules;
    } confirm;
    struct shake shake;
    struct span paths[PATHS_MAX];
    size_t paths_n;

    struct span names[NAMES_MAX]; /* of the headers that are looked at, each once */
    size_t names_n;
    struct span content_type; /* one of them */
    uint64_t name_lengths;    /* a bit for the length of each, modulo 64 */

    enum source_dedup dedup;
    struct span kept[KEPT_MAX];
    size_t kept_n;
    uint64_t kept_lengths; /* a bit for the length of each, modulo 64 */
    const struct cfg_strs *outcomes[5];
};

/* --- making a plan -------------------------------------------------------------------------------
 */
struct compile {
    struct source_plan *p;
    struct source_cfg c; /* merged; borrowed from own and preset */
    const struct cfg_node *at;
    const char *prefix; /* of the check that is being made: "signature", "any_of.NAME" */
    struct err_list *errs, *warns;
    size_t errs_before;
    bool key_taken[SECRETS_MAX]; /* of public_keys: some check can use it */
    struct err key_err;          /* why the last one could not */
};
/* Where a dotted key stands in the user's block; what is not there (it comes from the preset, or is
 * missing) is said of the line above it. */
const struct cfg_node *source_node(const struct compile *cc, const char *key);
/* The node of the i-th item of a list, or of the one value that stands for a list. */
const struct cfg_node *source_item(const struct compile *cc, const char *key, size_t i);
/* The same below the check that is being made. */
const struct cfg_node *source_check_node(const struct compile *cc, const char *key);
#define bad(cc, key, ...) cfg_error((cc)->errs, source_node(cc, key), __VA_ARGS__)
#define bad_check(cc, key, ...) cfg_error((cc)->errs, source_check_node(cc, key), __VA_ARGS__)

int source_word(const char *s, const char *const *words); /* -1: none of them */
int64_t source_duration(struct compile *cc, const struct cfg_node *at, const char *key,
                        const char *text, int64_t fallback);
/* The header is stored with the event, unless it proves who is calling. */
void source_keep(struct compile *cc, const struct cfg_node *at, struct span name);
bool source_is_secret(const struct source_plan *p, struct span name);
/* The header's name as it stands in the plan: all of them are found in one pass over a request. */
struct span source_intern(struct compile *cc, const struct cfg_node *at, struct span name);
struct place source_header_place(struct compile *cc, const struct cfg_node *at, const char *name);
struct place source_path_place(struct compile *cc, const struct cfg_node *at, const char *path);

const struct primitive *source_find_primitive(const char *name); /* NULL: none of that name */
void source_compile_checks(struct compile *cc);
void source_compile_message(struct compile *cc, struct check *c);
void source_compile_stamp(struct compile *cc, struct check *c);
void source_compile_shake(struct compile *cc);
void source_check_release(struct check *c);
void source_check_publics(struct compile *cc);
/* What a JWT must say, of either kind. */
void source_jwt_rules(struct compile *cc, struct check *c);
void source_compile_certificate(struct compile *cc, struct check *c);
void source_certificate_release(struct check *c);
MUST_CHECK int source_read_file(const char *path, struct buf *out);
/* The public keys of these schemes (bits 1u << scheme) for this check. */
void source_compile_publics(struct compile *cc, struct check *c, unsigned schemes);

/* --- running it ----------------------------------------------------------------------------------
 */
struct verify {
    const struct source_plan *p;
    const struct http_request *req;
    const char *bytes;
    int64_t now_ms;
    struct source_event *ev;
    struct span signature; /* of the check that is being made */
    struct keys_doc *doc;  /* held while the request is judged */
    struct json_value json[PATHS_MAX];
    struct {
        struct span value; /* of the first */
        unsigned count;
        bool differ; /* the others have another text */
    } heads[NAMES_MAX];
    bool scanned, looked;
};

struct sign;
struct primitive_ops {
    void (*compile)(struct compile *cc, struct check *c);
    /* VERDICT_UNSIGNED: the request holds nothing of this kind. */
    enum verdict (*verify)(struct verify *v, const struct check *c);
    int (*sign)(struct sign *s, const struct check *c, struct err *e);
    bool takes_tokens;  /* secrets as they stand */
    bool takes_secrets; /* secrets as keys of an HMAC */
    bool takes_publics; /* public keys or a JWK set */
};
extern const struct primitive_ops source_none, source_token, source_hmac, source_public, source_jwt,
    source_jwt_hmac;

/* A header that decides about the delivery may come once; the same text again is tolerated only for
 * signatures, where a proxy may have doubled the line. */
bool source_one_header(struct verify *v, struct span name, bool same_text, struct span *value);
const struct json_value *source_json(struct verify *v, size_t slot);
/* A JSON string or number as text; unescaped into scratch where it needs it. */
struct span source_json_text(struct verify *v, const struct json_value *j);
/* What stands there, as text; p == NULL: nothing. Queries are decoded into scratch. */
enum verdict source_at(struct verify *v, const struct place *at, bool same_text, struct span *out);

/* Why, where the verdict alone does not say it. */
enum verdict source_because(struct verify *v, enum verdict verdict, const char *why);
/* The check's secrets, or keys, are tried, all of them. */
void source_tries(struct verify *v, const struct check *c);
/* Of all secrets: one that holds matched, or one whose end has come. */
enum verdict source_matched(struct verify *v, bool match, bool late);

/* Whether a delivery is one that this check is for. */
bool source_is_of_kind(struct verify *v, const struct check *c);

/* The signed message in parts, ready for a MAC; spans into scratch, where source_message_room,
 * called before anything is read, makes room for all that one check reads: so they stay where they
 * are. */
void source_message_room(struct verify *v, const struct check *c);
enum verdict source_message(struct verify *v, const struct check *c, struct span *parts);
enum verdict source_part(struct verify *v, const struct check *c, size_t i, struct span *out);
/* Of "ID.TIME.BODY" the sender of a capture could move a dot: from the id "a.1" to the id "a", and
 * all behind it one piece on, under the same signature. So what stands before a literal may not
 * hold it. The time may (ISO 8601 has a dot): its own form leaves no choice. */
bool source_part_shifts(const struct check *c, size_t i, struct span value);
bool source_part_is_header(const struct part *part);
/* NAME=value among the items of the signature header. */
struct span source_field(const struct verify *v, const struct check *c, struct span name);
/* The next signature of our kind in *rest (the header's value at first); false at its end. */
bool source_candidate(const struct check *c, struct span *rest, struct span *text);
ssize_t source_decode(const struct check *c, struct span text, uint8_t *out, size_t cap);
/* After the signature: the skew that is reported comes from the provider's clock. */
enum verdict source_check_stamp(struct verify *v, const struct check *c);
/* Whether the body's hash stands where the message, which holds only that, takes it from. */
enum verdict source_check_body_hash(struct verify *v, const struct check *c);
bool source_hash_in_url(struct verify *v);

/* "Bearer TOKEN": takes the scheme with its blank off the value. */
bool source_is_scheme(struct span *value, struct span scheme);
/* The keys of a check; NULL: they cannot be had now. Held until the request is judged. */
const struct crypto_keyset *source_keyset(struct verify *v, const struct check *c);
/* The key of the certificate that the delivery names; the caller frees it. */
enum verdict source_certificate_key(struct verify *v, const struct check *c,
                                    struct crypto_public **key);
/* The right key was not there: asks for newer ones. `verdict` unless they are on their way. */
enum verdict source_newer_keys(struct verify *v, const struct check *c, enum verdict verdict);

/* A handshake that no signature comes with: whether this is one, and then the verdict. */
bool source_shake_open(struct verify *v, enum verdict *verdict);
/* The other handshakes, of a request that was verified. */
void source_shake_signed(struct verify *v);
/* Whether a stranger could have had this body signed by our own answers. */
bool source_shake_forged(const struct verify *v);

/* --- signing -------------------------------------------------------------------------------------
 */
struct sign {
    const struct source_plan *p;
    struct source_outgoing *o;
    struct verify v; /* over the request as far as it is made */
    char field[64];  /* "t=1700000000," before the signature */
};
/* "NAME: field value" as the check finds it. */
void source_sign_put(struct sign *s, const struct check *c, struct span raw);
MUST_CHECK int source_sign_message(struct sign *s, const struct check *c, struct span *parts,
                                   struct err *e);
/* The private key that was given, for that scheme; NULL and e. */
struct crypto_private *source_private(const struct sign *s, enum crypto_scheme scheme,
                                      struct err *e);
/* The claims that a check asks for, as the provider would make them. */
void source_jwt_claims(const struct sign *s, const struct check *c, struct buf *out);
void source_add_base64url(struct buf *out, struct span raw); /* without padding */
