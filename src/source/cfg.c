/* SPDX-License-Identifier: Apache-2.0 */
/* The table of a source's settings, presets from the embedded file, and the user's keys over them.
 */
#include <string.h>

#include "room.h"

extern const unsigned char providers_yaml[];
extern const size_t providers_yaml_len;

#define F(m) offsetof(struct source_cfg, m)

static const char *const dedup_words[] = { "auto", "id", "body", "off", NULL };

static const struct cfg_key secret_keys[] = {
    { "strip", CFG_STR, 0, .help = "Prefix that is taken off the secret where it is there." },
    { "decode", CFG_STR, sizeof(char *), .help = "What the rest is: `none`, `base64` or `hex`." },
    { 0 }
};

#define T(m)                                                                                       \
    (offsetof(struct source_cfg, signature.timestamp.m) -                                          \
     offsetof(struct source_cfg, signature.timestamp))
static const struct cfg_key timestamp_keys[] = {
    { "header", CFG_STR, T(header), .help = "Header that holds the time of the delivery." },
    { "field", CFG_STR, T(field),
      .help = "Or a field of the signature header, as `t` in `t=...`." },
    { "path", CFG_STR, T(path), .help = "Or a path into the JSON body." },
    { "unit", CFG_STR, T(unit), .help = "`s`, `ms` or `iso8601`." },
    { "tolerance", CFG_STR, T(tolerance), .help = "How old a delivery may be." },
    { "future", CFG_STR, T(future), .help = "How far ahead of our clock it may be." },
    { 0 }
};

#define G(m) (offsetof(struct source_cfg, signature.m) - offsetof(struct source_cfg, signature))
static const struct cfg_key signature_keys[] = {
    { "algorithm", CFG_STR, G(algorithm),
      .help = "`hmac-sha256`, `hmac-sha1`, `hmac-sha512`, `token` or `none`." },
    { "message", CFG_STR, G(message),
      .help = "What is signed: text with `{body}`, `{header:NAME}`, `{field:NAME}`, `{url}`, "
              "`{query:NAME}`, `{sha256hex:body}`." },
    { "header", CFG_STR, G(header), .help = "Header that holds the signatures, or the token." },
    { "separator", CFG_STR, G(separator), .help = "One byte between several signatures." },
    { "field", CFG_STR, G(field),
      .help = "What introduces a signature of ours; others are skipped." },
    { "encoding", CFG_STR, G(encoding), .help = "`hex`, `base64` or `base64url`." },
    { "secret", CFG_SECTION, G(secret), .sub = secret_keys, .help = "How a secret becomes a key." },
    { "timestamp", CFG_SECTION, G(timestamp), .sub = timestamp_keys,
      .help = "Against old captures." },
    { 0 }
};

static const struct cfg_key where_keys[] = {
    { "header", CFG_STR, offsetof(struct where, header), .help = "A header." },
    { "path", CFG_STR, offsetof(struct where, path), .help = "A path into the JSON body." },
    { "const", CFG_STR, offsetof(struct where, constant), .help = "Always this text." },
    { 0 }
};

#define H(m) (offsetof(struct source_cfg, handshake.m) - offsetof(struct source_cfg, handshake))
static const struct cfg_key handshake_keys[] = {
    { "path", CFG_STR, H(path), .help = "Path into the JSON body that tells a handshake." },
    { "equals", CFG_STR, H(equals), .help = "What stands there then." },
    { "echo", CFG_STR, H(echo), .help = "Path of the text that is answered as text/plain." },
    { 0 }
};

#define O(m) (offsetof(struct source_cfg, outcome.m) - offsetof(struct source_cfg, outcome))
static const struct cfg_key outcome_keys[] = {
    { "succeeded", CFG_STRS, O(succeeded), .help = "Types (globs) that say the job succeeded." },
    { "failed", CFG_STRS, O(failed), .help = "Types that say it failed." },
    { "cancelled", CFG_STRS, O(cancelled), .help = "Types that say it was cancelled." },
    { "waiting", CFG_STRS, O(waiting), .help = "Types that say it waits for somebody." },
    { 0 }
};

#define E(m) (offsetof(struct source_cfg, sample.m) - offsetof(struct source_cfg, sample))
static const struct cfg_key sample_keys[] = {
    { "id", CFG_STR, E(id), .help = "Form of the delivery's id; each `?` is a random digit." },
    { "type", CFG_STR, E(type), .help = "Type when none is asked for." },
    { "subject", CFG_STR, E(subject), .help = "Subject when none is asked for." },
    { "bodies", CFG_STRMAP, E(bodies),
      .help = "Glob of a type to its body; the first that matches. `{id}`, `{type}`, `{subject}`, "
              "`{time}` become JSON strings, `{unix}` a number." },
    { 0 }
};

static const struct cfg_key keys[] = {
    { "path", CFG_STR, F(path),
      .help = "Path of the endpoint; `/hooks/NAME` when left out. May hold `{token}`." },
    { "provider", CFG_STR, F(provider),
      .help = "Preset that this source starts from (`hookline providers`)." },
    { "secrets", CFG_SECRETS, F(secrets),
      .help = "Signing secrets; several while rotating, any may match." },
    { "url", CFG_STR, F(url), .help = "Our public URL, where a provider signs it." },
    { "header", CFG_STR, F(header), .help = "Header in which a shared token stands." },
    { "path_token", CFG_SECRET, F(path_token),
      .help = "What must stand for `{token}` in the path." },
    { "tolerance", CFG_STR, F(tolerance),
      .help = "How old a signed timestamp may be; over the preset's." },
    { "body_bytes", CFG_BYTES, F(body_bytes),
      .help = "Largest body of this source, inclusive; 0: `limits.body_bytes`." },
    { "keep_headers", CFG_STRS, F(keep_headers),
      .help = "Headers stored with the event beside the verified ones; never authorization or "
              "cookie." },
    { "dedup", CFG_ENUM, F(dedup), "auto", .words = dedup_words,
      .help = "What tells a repeat: the provider's id, the body, or nothing; `auto` is the id "
              "where there is one." },
    { "status", CFG_INT, F(status), "200", 200, 204,
      .help = "Status of an accepted delivery: 200, 202 or 204." },
    { "signature", CFG_SECTION, F(signature), .sub = signature_keys,
      .help = "How a delivery is verified." },
    { "id", CFG_SECTION, F(id), .sub = where_keys, .help = "Where the delivery's id stands." },
    { "type", CFG_SECTION, F(type), .sub = where_keys, .help = "Where the event's type stands." },
    { "subject", CFG_SECTION, F(subject), .sub = where_keys,
      .help = "Where the job's or object's id stands." },
    { "handshake", CFG_SECTION, F(handshake), .sub = handshake_keys,
      .help = "A signed request that is answered, not logged." },
    { "outcome", CFG_SECTION, F(outcome), .sub = outcome_keys,
      .help = "What the types say about the job." },
    { "retries", CFG_STR, F(retries), .help = "How long the provider tries again." },
    { "sample", CFG_SECTION, F(sample), .sub = sample_keys,
      .help = "What `hookline send` sends when no body is given." },
    { 0 }
};

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

/* Takes over what the user left out. Every member of the preset language is a string or a list. */
static void fall_back(char **to, char *from)
{
    if (!*to)
        *to = from;
}

static void fall_back_where(struct where *to, const struct where *from)
{
    if (!to->header && !to->path && !to->constant)
        *to = *from;
}

static void fall_back_list(struct cfg_strs *to, const struct cfg_strs *from)
{
    if (!to->n)
        *to = *from;
}

static void overlay(struct source_cfg *m, const struct source_cfg *p)
{
    char **to = &m->signature.algorithm, *const *from = &p->signature.algorithm;
    char *header = m->signature.timestamp.header, *field = m->signature.timestamp.field,
         *path = m->signature.timestamp.path;

    /* signature, its secret and its timestamp are fourteen strings in a row */
    _Static_assert(sizeof m->signature == 14 * sizeof(char *), "signature holds strings only");
    for (size_t i = 0; i < sizeof m->signature / sizeof *to; i++)
        fall_back(to + i, from[i]);
    if (header || field || path) { /* a timestamp stands in one place: where the user says */
        m->signature.timestamp.header = header;
        m->signature.timestamp.field = field;
        m->signature.timestamp.path = path;
    }
    fall_back_where(&m->id, &p->id);
    fall_back_where(&m->type, &p->type);
    fall_back_where(&m->subject, &p->subject);
    fall_back(&m->handshake.path, p->handshake.path);
    fall_back(&m->handshake.equals, p->handshake.equals);
    fall_back(&m->handshake.echo, p->handshake.echo);
    fall_back_list(&m->outcome.succeeded, &p->outcome.succeeded);
    fall_back_list(&m->outcome.failed, &p->outcome.failed);
    fall_back_list(&m->outcome.cancelled, &p->outcome.cancelled);
    fall_back_list(&m->outcome.waiting, &p->outcome.waiting);
    fall_back(&m->retries, p->retries);
    fall_back(&m->sample.id, p->sample.id);
    fall_back(&m->sample.type, p->sample.type);
    fall_back(&m->sample.subject, p->sample.subject);
    if (!m->sample.bodies.n)
        m->sample.bodies = p->sample.bodies;
}

int source_merge(const struct source_cfg *user, const struct cfg_node *at, struct source_cfg *out,
                 struct source_cfg *preset, struct err_list *errs)
{
    const char *name = user->provider;
    const struct cfg_node *node, *where = cfg_find(at, "provider");
    struct cfg_doc *doc;

    *out = *user;
    memset(preset, 0, sizeof *preset);
    if (!name && !user->signature.algorithm) {
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
