/* json - look-ups in JSON text by path, without a tree: one pass, no recursion, no allocation.
 *
 * Paths are "type", "data.id", "items.0.id"; keys hold no dots. What the scanner passes on its way
 * must be RFC 8259 (but for UTF-8, which only json_valid checks); it stops when every path has its
 * answer, so what is broken behind that is not seen. RFC 8259 leaves repeated names open; here the
 * first member of that name counts, on every step: where the first "data" has no "id", there is no
 * "data.id", whatever a second "data" holds. Nesting deeper than 131,072 is called broken. Pure. */
#pragma once

#include "buf.h"

enum json_type {
    JSON_NONE,
    JSON_STRING,
    JSON_NUMBER,
    JSON_TRUE,
    JSON_FALSE,
    JSON_NULL,
    JSON_OBJECT,
    JSON_ARRAY
};

struct json_value {
    enum json_type type;
    struct span raw; /* the value's own bytes; a string without its quotes */
    bool escaped;    /* a string with backslashes: json_unescape it before use */
};

/* JSON_NONE when the path is not there or the text is broken before or in it. */
struct json_value json_find(struct span text, struct span path);
/* Several paths in one pass: out[i] answers paths[i]. At most 16. */
void json_find_all(struct span text, const struct span *paths, size_t n, struct json_value *out);

/* The elements of an array one after another: *rest is the array's raw text at first, which
 * json_find has seen to the end. False behind the last one. */
bool json_next(struct span *rest, struct json_value *element);

/* The string's meaning appended to out; false for a broken escape or a lone surrogate. */
bool json_unescape(struct span raw, struct buf *out);

/* Whether the text is one valid JSON text (RFC 8259, UTF-8) with nothing behind it. Iterative;
 * nesting deeper than 512 is called invalid. */
bool json_valid(struct span text);
