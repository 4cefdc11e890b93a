/* SPDX-License-Identifier: Apache-2.0 */
/* The table of a source's settings, presets from the embedded file, and the user's keys over them.
 */
#include <string.h>

#include "room.h"

extern const unsigned char providers_yaml[];
extern const size_t providers_yaml_len;

/* Where one thing stands is one key of several names: who says one of them says all. */
#define PLACE_KEY 256
#define WITH_PLACE 512 /* says something of the place, so that it goes with it */

#define F(m) offsetof(struct source_cfg, m)

static const char *const dedup_words[] = { "auto", "id", "body", "off", NULL };
static const char *const ack_words[] = { "log", "broker", NULL };

#define G(m) offsetof(struct signature_cfg, m)
#define P(m) (G(secret.m) - G(secret))
static const struct cfg_key secret_keys[] = {
    { "starts", CFG_STR, P(starts),
      .help = "Secrets that begin so are for this check and no other; the others are not." },
    { "strip", CFG_STR, P(strip),
      .help = "Prefix that is taken off the secret where it is there." },
    { "decode", CFG_STR, P(decode), .help = "What the rest is: `none`, `base64` or `hex`." },
    { 0 }
};

#define T(m) (G(timestamp.m) - G(timestamp))
static const struct cfg_key timestamp_keys[] = {
    { "header", CFG_STR, T(header), .flags = PLACE_KEY,
      .help = "Header that holds the time of the delivery." },
    { "field", CFG_STR, T(field), .flags = PLACE_KEY,
      .help = "Or a field of the signature header, as `t` in `t=...`." },
    { "path", CFG_STR, T(path), .flags = PLACE_KEY, .help = "Or a path into the JSON body." },
    { "unit", CFG_STR, T(unit), .help = "`s`, `ms` or `iso8601`." },
    { "tolerance", CFG_STR, T(tolerance), .help = "How old a delivery may be." },
    { "future", CFG_STR, T(future), .help = "How far ahead of our clock it may be." },
    { "missing", CFG_STR, T(missing),
      .help = "`refuse` or `accept` a delivery without the time; refused when left out." },
    { 0 }
};

#define J(m) (G(jwt.m) - G(jwt))
static const struct cfg_key jwt_keys[] = {
    { "algorithms", CFG_STRS, J(algorithms), .help = "`RS256`, `ES256`, `EdDSA`." },
    { "issuer", CFG_STR, J(issuer), .help = "What `iss` must be; `issuer` is the stronger." },
    { "claims", CFG_STRMAP, J(claims), .help = "Other claims and their values." },
    { "body_hash", CFG_STR, J(body_hash), .help = "Claim that holds the SHA-256 of the body." },
    { "expiry", CFG_STR, J(expiry),
      .help = "Whether a token must say when it ends: `required` or `optional`." },
    { "max_age", CFG_STR, J(max_age), .help = "How old a token may be by its `iat`." },
    { 0 }
};

#define C(m) (G(certificate.m) - G(certificate))
static const struct cfg_key certificate_keys[] = {
    { "header", CFG_STR, C(header), .flags = PLACE_KEY, .help = "Header that names its URL." },
    { "path", CFG_STR, C(path), .flags = PLACE_KEY, .help = "Or a path into the JSON body." },
    { "hosts", CFG_STRS, C(hosts),
      .help = "Whose URLs are fetched; `*` and `?` stay within one label." },
    { "url_path", CFG_STR, C(url_path), .help = "And which paths there." },
    { "names", CFG_STRS, C(names),
      .help = "Names that the certificate may be for, beside the host of its URL." },
    { "ca_file", CFG_STR, C(ca_file), .help = "Certificates (PEM) to trust, not the system's." },
    { "allow_private", CFG_BOOL, C(allow_private), "false",
      .help = "Whether the host may have an address of a private network." },
    { 0 }
};

static const struct cfg_key when_keys[] = {
    { "path", CFG_STR, G(when.path) - G(when), .help = "A path into the JSON body." },
    { "equals", CFG_STR, G(when.equals) - G(when), .help = "What stands there then." },
    { 0 }
};

static const struct cfg_key signature_keys[] = {
    { "algorithm", CFG_STR, G(algorithm),
      .help = "`hmac-sha256`, `hmac-sha1`, `hmac-sha512`, `ed25519`, `ecdsa-p256`, `rsa-sha256`, "
              "`rsa-sha1`, "
              "`jwt`, `jwt-hs256`, `token` or `none`." },
    { "message", CFG_STR, G(message),
      .help = "What is signed: text with `{body}`, `{header:NAME}`, `{field:NAME}`, `{url}`, "
              "`{url+query}`, `{query:NAME}`, `{config:NAME}`, `{sha256hex:body}`, `{crc32:body}`, "
              "`{form:sorted}`, `{lines:A,B}` (each member of the body that is there, its name and "
              "its text on lines of their own)." },
    { "header", CFG_STR, G(header), .flags = PLACE_KEY,
      .help = "Header that holds the signatures, or the token." },
    { "path", CFG_STR, G(path), .flags = PLACE_KEY,
      .help =
          "Or a path into the JSON body; of a token `list.*.name` is every element of a list." },
    { "query", CFG_STR, G(query), .flags = PLACE_KEY, .help = "Or a parameter of the query." },
    { "scheme", CFG_STR, G(scheme),
      .help = "How a token stands in its header: `bearer`, `basic` (the secret is `user:password`) "
              "or `none`; in `authorization` bearer when left out." },
    { "separator", CFG_STR, G(separator), .help = "One byte between several signatures." },
    { "field", CFG_STR, G(field),
      .help = "What introduces a signature of ours; others are skipped." },
    { "encoding", CFG_STR, G(encoding), .help = "`hex`, `base64` or `base64url`." },
    { "body_hash", CFG_STR, G(body_hash),
      .help = "Parameter of the signed URL that holds the SHA-256 of the body in hex." },
    { "secret", CFG_SECTION, G(secret), .sub = secret_keys, .help = "How a secret becomes a key." },
    { "timestamp", CFG_SECTION, G(timestamp), .sub = timestamp_keys,
      .help = "Against old captures." },
    { "certificate", CFG_SECTION, G(certificate), .sub = certificate_keys,
      .help = "Where the delivery names the certificate of its key." },
    { "when", CFG_SECTION, G(when), .sub = when_keys,
      .help = "What tells a delivery of this kind among several." },
    { "jwt", CFG_SECTION, G(jwt), .sub = jwt_keys, .help = "What a JSON Web Token must say." },
    { 0 }
};

#define W(m) offsetof(struct where, m)
static const struct cfg_key where_keys[] = {
    { "header", CFG_STR, W(header), .flags = PLACE_KEY, .help = "A header." },
    { "path", CFG_STR, W(path), .flags = PLACE_KEY, .help = "A path into the JSON body." },
    { "const", CFG_STR, W(constant), .flags = PLACE_KEY, .help = "Always this text." },
    { 0 }
};
static const struct cfg_key id_keys[] = {
    { "header", CFG_STR, W(header), .flags = PLACE_KEY, .help = "A header." },
    { "path", CFG_STR, W(path), .flags = PLACE_KEY, .help = "A path into the JSON body." },
    { "const", CFG_STR, W(constant), .flags = PLACE_KEY, .help = "Always this text." },
    { "names", CFG_STR, W(names), .flags = WITH_PLACE,
      .help = "What it tells apart: a `delivery`, an `event`, or an `object` that can have several "
              "events; the last is not deduplicated unless `dedup: id` says so." },
    { 0 }
};

#define H(m) (F(handshake.m) - F(handshake))
static const struct cfg_key handshake_keys[] = {
    { "method", CFG_STR, H(method),
      .help = "`POST`, `GET`, or `OPTIONS` for CloudEvents' consent." },
    { "query", CFG_STR, H(query),
      .help = "Parameter of the query that tells a handshake and is its token; not signed." },
    { "verify", CFG_STR, H(verify), .help = "Parameter that must equal `verify_token`." },
    { "path", CFG_STR, H(path),
      .help = "Or a path into the JSON body that tells one, in a delivery that is verified." },
    { "equals", CFG_STR, H(equals), .help = "What stands there then." },
    { "echo", CFG_STR, H(echo), .help = "Path of the token." },
    { "answer", CFG_STR, H(answer),
      .help =
          "The answer: text with `{token}`, `{token:json}`, and the token's HMAC with the first "
          "secret as `{hmac:hex}` or `{hmac:base64}`; `{token}` when left out." },
    { "type", CFG_STR, H(type), .help = "Its content type; text/plain when left out." },
    { "status", CFG_STR, H(status), .help = "Its status: 200 or 204." },
    { "origins", CFG_STRS, H(origins),
      .help = "Who gets CloudEvents' consent; everybody when left out." },
    { 0 }
};

#define Y(m) (F(confirm.m) - F(confirm))
static const struct cfg_key confirm_keys[] = {
    { "path", CFG_STR, Y(path), .help = "Path into the JSON body that tells a confirmation." },
    { "equals", CFG_STR, Y(equals), .help = "What stands there then." },
    { "url", CFG_STR, Y(url),
      .help = "Path of the URL to open; its host must be one of `signature.certificate.hosts`." },
    { 0 }
};

#define O(m) (F(outcome.m) - F(outcome))
static const struct cfg_key outcome_keys[] = {
    { "succeeded", CFG_STRS, O(succeeded), .help = "Types (globs) that say the job succeeded." },
    { "failed", CFG_STRS, O(failed), .help = "Types that say it failed." },
    { "cancelled", CFG_STRS, O(cancelled), .help = "Types that say it was cancelled." },
    { "waiting", CFG_STRS, O(waiting), .help = "Types that say it waits for somebody." },
    { 0 }
};

#define E(m) (F(sample.m) - F(sample))
static const struct cfg_key sample_keys[] = {
    { "id", CFG_STR, E(id), .help = "Form of the delivery's id; each `?` is a random digit." },
    { "type", CFG_STR, E(type), .help = "Type when none is asked for." },
    { "subject", CFG_STR, E(subject), .help = "Subject when none is asked for." },
    { "certificate", CFG_STR, E(certificate), .help = "URL of the certificate." },
    { "content_type", CFG_STR, E(content_type), .help = "application/json when left out." },
    { "bodies", CFG_STRMAP, E(bodies),
      .help = "Glob of a type to its body; the first that matches. `{id}`, `{type}`, `{subject}`, "
              "`{time}`, `{secret}` become JSON strings, `{unix}` and `{unix_ms}` numbers." },
    { 0 }
};

#define A(m) (F(about.m) - F(about))
static const struct cfg_key about_keys[] = {
    { "title", CFG_STR, A(title), .help = "The provider's name." },
    { "copy", CFG_STR, A(copy), .help = "What to copy from where." },
    { "answers", CFG_STR, A(answers), .help = "What the provider does on our answers." },
    { "note", CFG_STR, A(note), .help = "What else to know." },
    { 0 }
};

static const struct cfg_key jwks_keys[] = {
    { "url", CFG_STR, F(jwks.url) - F(jwks), .flags = PLACE_KEY,
      .help = "Where it is fetched, over HTTPS." },
    { "file", CFG_STR, F(jwks.file) - F(jwks), .flags = PLACE_KEY,
      .help = "Or a file that holds it." },
    { "ca_file", CFG_STR, F(jwks.ca_file) - F(jwks),
      .help = "Certificates (PEM) that the server's must lead to; the system's when left out." },
    { "allow_private", CFG_BOOL, F(jwks.allow_private) - F(jwks), "false",
      .help = "Whether the server may have an address of a private network." },
    { 0 }
};

static const struct cfg_key keys[] = {
    { "path", CFG_STR, F(path),
      .help = "Path of the endpoint; `/hooks/NAME` when left out. May hold `{token}`." },
    { "provider", CFG_STR, F(provider),
      .help = "Preset that this source starts from (`hookline providers`)." },
    { "secrets", CFG_SECRETS, F(secrets),
      .help = "Signing secrets; several while rotating, any may match. `{ env: NAME, not_after: "
              "TIME }` or `{ file: PATH, not_after: TIME }` ends one." },
    { "public_keys", CFG_STRS, F(public_keys),
      .help = "The provider's public keys as it prints them: `whpk_...`, hex, base64, PEM; several "
              "while rotating." },
    { "jwks", CFG_SECTION, F(jwks), .sub = jwks_keys,
      .help = "Or its JWK set, where `public_keys` is left out." },
    { "audience", CFG_STR, F(audience), .help = "What `aud` of a JWT must hold." },
    { "issuer", CFG_STR, F(issuer), .help = "What `iss` of a JWT must be; over the preset's." },
    { "email", CFG_STR, F(email), .help = "What `email` of a JWT must be." },
    { "url", CFG_STR, F(url), .help = "Our public URL, where a provider signs it." },
    { "header", CFG_STR, F(header), .help = "Header in which a shared token stands." },
    { "path_token", CFG_SECRET, F(path_token),
      .help = "What must stand for `{token}` in the path." },
    { "verify_token", CFG_SECRET, F(verify_token),
      .help = "What a handshake must carry (`handshake.verify`)." },
    { "config", CFG_STRMAP, F(config),
      .help = "What `{config:NAME}` of the signed message stands for." },
    { "equals", CFG_STRMAP, F(equals),
      .help = "Paths into the JSON body of a genuine delivery, and what must stand there." },
    { "require", CFG_STRS, F(require),
      .help = "Keys without which the provider is not safe: `header`, `email`, `equals`, "
              "`path_token`, `verify_token`; `none` leaves a preset's list out." },
    { "tolerance", CFG_STR, F(tolerance),
      .help = "How old a signed timestamp may be; over the preset's." },
    { "body_bytes", CFG_BYTES, F(body_bytes),
      .help = "Largest body of this source, inclusive; 0: `limits.body_bytes`." },
    { "allow", CFG_STRS, F(allow),
      .help = "Addresses and networks that may send; others get 401. Everybody when left out." },
    { "client_names", CFG_STRS, F(client_names),
      .help = "Names of client certificates that may send, over a listener with `client_ca`: "
              "`dns:NAME`, `uri:URI`, `email:ADDRESS` or `cn:NAME`, with `*` and `?`; others get "
              "401." },
    { "rate", CFG_INT, F(rate), "0", 0, 1000000,
      .help = "Genuine deliveries a second; more get 429. 0: no limit." },
    { "burst", CFG_INT, F(burst), "0", 0, 10000000,
      .help = "How many may come at once after a pause; 0: ten seconds' worth." },
    { "keep_headers", CFG_STRS, F(keep_headers),
      .help = "Headers stored with the event beside the verified ones; never authorization or "
              "cookie." },
    { "dedup", CFG_ENUM, F(dedup), "auto", .words = dedup_words,
      .help = "What tells a repeat: the provider's id, the body, or nothing; `auto` is the id "
              "where there is one that names a delivery or an event." },
    { "ack", CFG_ENUM, F(ack), "log", .words = ack_words,
      .help =
          "When the sender gets its answer: once the event is in the log on disk, or once every "
          "sink that takes it has it too; 503 broker_timeout after `limits.commit_timeout`." },
    { "status", CFG_STR, F(status),
      .help = "Status of an accepted delivery: 200, 202 or 204; 200 when left out." },
    { "reject_status", CFG_STR, F(reject_status),
      .help = "Status of one that is not genuine: 400, 401 or 403; 401 when left out." },
    { "signature", CFG_SECTION, F(signature), .sub = signature_keys,
      .help = "How a delivery is verified." },
    { "any_of", CFG_NAMED, F(any_of), .sub = signature_keys,
      .sub_size = sizeof(struct signature_cfg),
      .help = "Several ways by name, each a `signature` over that of the source; the first of "
              "which a delivery holds anything decides." },
    { "all_of", CFG_NAMED, F(all_of), .sub = signature_keys,
      .sub_size = sizeof(struct signature_cfg), .help = "The same; a delivery needs all of them." },
    { "id", CFG_SECTION, F(id), .sub = id_keys, .help = "Where the delivery's id stands." },
    { "type", CFG_SECTION, F(type), .sub = where_keys, .help = "Where the event's type stands." },
    { "subject", CFG_SECTION, F(subject), .sub = where_keys,
      .help = "Where the job's or object's id stands." },
    { "handshake", CFG_SECTION, F(handshake), .sub = handshake_keys,
      .help = "A request that is answered, not logged." },
    { "confirm", CFG_SECTION, F(confirm), .sub = confirm_keys,
      .help = "How a subscription is confirmed." },
    { "confirm_subscriptions", CFG_BOOL, F(confirm_subscriptions), "false",
      .help = "Whether it is: hookline then opens a URL that a genuine delivery names." },
    { "outcome", CFG_SECTION, F(outcome), .sub = outcome_keys,
      .help = "What the types say about the job." },
    { "retries", CFG_STR, F(retries), .help = "How long the provider tries again." },
    { "sends_bytes", CFG_STR, F(sends_bytes), .help = "The largest body the provider sends." },
    { "sample", CFG_SECTION, F(sample), .sub = sample_keys,
      .help = "What `hookline send` sends when no body is given." },
    { "about", CFG_SECTION, F(about), .sub = about_keys, .help = "For docs/providers.md." },
    { 0 }
};

const struct cfg_key *source_signature_keys(void)
{
    return signature_keys;
}

const struct cfg_key *source_cfg_keys(void)
{
    return keys;
}

size_t source_cfg_size(void)
{
    return sizeof(struct source_cfg);
}

static struct cfg_doc *presets(void)
{
    struct err_list errs = { NULL, 0 };
    struct cfg_doc *doc =
        cfg_parse("providers.yaml", span_of(providers_yaml, providers_yaml_len), false, &errs);

    if (!doc)
        die(EXIT_BAD_CONFIG, "the embedded presets are broken: %s", errs.n ? errs.line[0] : "?");
    return doc;
}

const char *const *source_preset_names(void)
{
    static const char *names[64];
    struct cfg_doc *doc;
    size_t n = 0;

    if (names[0])
        return names;
    doc = presets();
    for (const struct cfg_node *c = cfg_root(doc)->child; c && n + 1 < ARRAY_LEN(names);
         c = c->next)
        names[n++] = xstrdup(c->key);
    cfg_doc_free(doc);
    return names;
}

/* The block as it stands in the file: from its name to the next line that is not indented. */
struct span source_preset_text(const char *name)
{
    struct span rest = span_of(providers_yaml, providers_yaml_len), block = SPAN_NONE;
    size_t n = strlen(name);

    while (rest.p) {
        struct span line = span_cut(&rest, '\n');
        bool top = line.n && line.p[0] != ' ' && line.p[0] != '#';
        if (top && block.p)
            break;
        if (top && line.n == n + 1 && line.p[n] == ':' && !memcmp(line.p, name, n))
            block.p = line.p;
        if (block.p && line.n)
            block.n = (size_t)(line.p + line.n - block.p) + 1;
    }
    return block;
}

/* Lists, maps and named settings all count their elements in their last member but for secrets. */
static bool is_said(const struct cfg_key *k, const void *field)
{
    switch (k->type) {
    case CFG_STR:
        return *(char *const *)field != NULL;
    case CFG_SECRET:
        return ((const struct cfg_secret *)field)->bytes != NULL;
    case CFG_SECRETS:
        return ((const struct cfg_secrets *)field)->n > 0;
    case CFG_STRS:
        return ((const struct cfg_strs *)field)->n > 0;
    case CFG_STRMAP:
        return ((const struct cfg_strmap *)field)->n > 0;
    case CFG_NAMED:
        return ((const struct cfg_named *)field)->n > 0;
    case CFG_BYTES:
        return *(const uint64_t *)field != 0;
    case CFG_ENUM:
        return *(const int *)field != 0;
    case CFG_BOOL:
        return *(const bool *)field;
    default:
        return true;
    }
}

static size_t size_of(enum cfg_type type)
{
    static const size_t sizes[] = {
        [CFG_STR] = sizeof(char *),
        [CFG_SECRET] = sizeof(struct cfg_secret),
        [CFG_SECRETS] = sizeof(struct cfg_secrets),
        [CFG_STRS] = sizeof(struct cfg_strs),
        [CFG_STRMAP] = sizeof(struct cfg_strmap),
        [CFG_NAMED] = sizeof(struct cfg_named),
        [CFG_BYTES] = sizeof(uint64_t),
        [CFG_ENUM] = sizeof(int),
        [CFG_BOOL] = sizeof(bool),
    };

    return sizes[type];
}

void source_fall_back(const struct cfg_key *table, void *to, const void *from)
{
    bool placed = false;

    for (const struct cfg_key *k = table; k->name; k++)
        placed |= k->flags & PLACE_KEY && is_said(k, (char *)to + k->offset);
    for (const struct cfg_key *k = table; k->name; k++) {
        void *field = (char *)to + k->offset;
        const void *other = (const char *)from + k->offset;
        if (k->type == CFG_SECTION)
            source_fall_back(k->sub, field, other);
        else if (!is_said(k, field) && !(placed && k->flags & (PLACE_KEY | WITH_PLACE)))
            memcpy(field, other, size_of(k->type));
    }
}

/* A source that says how it is verified does not also take a preset's several ways. */
static void overlay(struct source_cfg *m, const struct source_cfg *preset)
{
    struct source_cfg p = *preset;

    if (m->signature.algorithm || m->any_of.n || m->all_of.n)
        p.any_of = p.all_of = (struct cfg_named){ .n = 0 };
    source_fall_back(keys, m, &p);
}

int source_merge(const struct source_cfg *user, const struct cfg_node *at, struct source_cfg *out,
                 struct source_cfg *preset, struct err_list *errs)
{
    const char *name = user->provider;
    const struct cfg_node *node, *where = cfg_find(at, "provider");
    struct cfg_doc *doc;

    *out = *user;
    memset(preset, 0, sizeof *preset);
    if (!name && !user->signature.algorithm && !user->any_of.n && !user->all_of.n) {
        cfg_error(errs, at, "%s has no provider; `hookline providers` lists them",
                  at ? at->key : "source");
        return -1;
    }
    if (!name)
        return 0;
    doc = presets();
    node = cfg_find(cfg_root(doc), name);
    if (node) {
        cfg_load(keys, node, preset, errs);
        overlay(out, preset);
    } else {
        cfg_error(errs, where ? where : at, "unknown provider %s; `hookline providers` lists them",
                  name);
    }
    cfg_doc_free(doc);
    if (out->tolerance)
        out->signature.timestamp.tolerance = out->tolerance;
    if (out->header)
        out->signature.header = out->header;
    return node ? 0 : -1;
}
