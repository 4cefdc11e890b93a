/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this room share: settings as they are written, and plans as they are run. */
#pragma once

#include "crypto.h"
#include "json.h"
#include "source.h"

struct where { /* where a value stands; at most one of them */
    char *header, *path, *constant;
};

struct source_cfg { /* NULL: not said here, the preset decides */
    char *path, *provider, *url, *header, *retries, *tolerance;
    struct cfg_secrets secrets;
    struct cfg_secret path_token;
    uint64_t body_bytes;
    struct cfg_strs keep_headers;
    int dedup;
    int64_t status;
    struct {
        char *algorithm, *message, *header, *separator, *field, *encoding;
        struct {
            char *strip, *decode;
        } secret;
        struct {
            char *header, *field, *path, *unit, *tolerance, *future;
        } timestamp;
    } signature;
    struct where id, type, subject;
    struct {
        char *path, *equals, *echo;
    } handshake;
    struct {
        struct cfg_strs succeeded, failed, cancelled, waiting;
    } outcome;
    struct {
        char *id, *type, *subject;
        struct cfg_strmap bodies;
    } sample;
};

/* The user's settings over the preset's, as borrowed pointers; same shape. */
int source_merge(const struct source_cfg *user, const struct cfg_node *at, struct source_cfg *out,
                 struct source_cfg *preset, struct err_list *errs);

enum algorithm { ALGORITHM_NONE, ALGORITHM_TOKEN, ALGORITHM_HMAC };
enum encoding { ENCODING_HEX, ENCODING_BASE64, ENCODING_BASE64URL };
enum unit { UNIT_S, UNIT_MS, UNIT_ISO8601 };

enum part_kind { PART_TEXT, PART_BODY, PART_HEADER, PART_FIELD, PART_QUERY, PART_SHA256HEX };
struct part {
    enum part_kind kind;
    struct span text; /* the text, or the name */
};
#define PARTS_MAX 16
#define SECRETS_MAX 8
#define CANDIDATES_MAX 16
#define KEPT_MAX 32
#define ATTRIBUTE_MAX 1024 /* longer ids, types and subjects are taken as absent */

struct place {
    enum { PLACE_NOWHERE, PLACE_HEADER, PLACE_PATH, PLACE_CONST } kind;
    struct span name;
    size_t slot; /* of a path: its answer in one pass over the body */
};

struct source_plan {
    struct source_info info;
    char *name, *path, *provider;
    size_t path_n, token_at; /* of the path; SIZE_MAX: it holds no {token} */
    struct source_cfg *own, *preset;

    enum algorithm algorithm;
    enum crypto_hash hash;
    enum encoding encoding;
    size_t mac_bytes;
    struct crypto_hmac *keys[SECRETS_MAX];
    struct span tokens[SECRETS_MAX];
    size_t secrets_n;
    struct span path_token;
    struct span header, field;
    char separator; /* 0: one signature */
    struct part parts[PARTS_MAX];
    size_t parts_n;

    struct place stamp;
    struct span stamp_field; /* of the signature header */
    enum unit unit;
    int64_t tolerance_ms, future_ms;

    struct place id, type, subject, shake_when, shake_echo;
    struct span shake_equals;
    struct span paths[8];
    size_t paths_n;

    enum source_dedup dedup;
    struct span kept[KEPT_MAX];
    size_t kept_n;
    const struct cfg_strs *outcomes[5];
};

/* Of "ID.TIME.BODY" the sender of a capture could move a dot: from the id "a.1" to the id "a", and
 * all behind it one piece on, under the same signature. So what stands before a literal may not
 * hold it. The time may (ISO 8601 has a dot): its own form leaves no choice. */
bool source_part_shifts(const struct source_plan *p, size_t i, struct span value);
