/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this room share: states, byte classes, and the steps of one parse. */
#pragma once

#include "http.h"

enum state {
    ST_METHOD,
    ST_TARGET,
    ST_VERSION,
    ST_LINE_LF, /* CR of the request line was read */
    ST_NAME_0,  /* first byte of a header line */
    ST_NAME,
    ST_VALUE_0, /* blanks before a value */
    ST_VALUE,
    ST_VALUE_LF, /* CR of a header line was read */
    ST_HEAD_LF,  /* CR of the empty line was read */
    ST_HEAD_END, /* HTTP_HEAD was told; the body limit is checked next */
    ST_BODY,     /* Content-Length */
    ST_SIZE_0,   /* first digit of a chunk size */
    ST_SIZE,
    ST_EXT,
    ST_QUOTED,
    ST_QUOTED_PAIR,
    ST_SIZE_LF,
    ST_DATA,
    ST_DATA_CR,
    ST_DATA_LF,
    ST_TRAILER_0,
    ST_TRAILER_NAME,
    ST_TRAILER_VALUE,
    ST_TRAILER_LF,
    ST_LAST_LF,
    ST_DONE,
    ST_REFUSED,
};

/* Headers that decide about framing and connection. */
enum field_kind {
    FIELD_OTHER,
    FIELD_HOST,
    FIELD_EXPECT,
    FIELD_CONNECTION,
    FIELD_LENGTH,
    FIELD_CODING
};

/* Which of them were seen: bits in http_request.in.seen. */
enum { SEEN_HOST = 1, SEEN_LENGTH = 2, SEEN_CODING = 4 };

enum { CLASS_TOKEN = 1, CLASS_VALUE = 2, CLASS_TARGET = 4, CLASS_HEX = 8, CLASS_HOST = 16 };
extern const unsigned char http_class[256];

static inline bool is(unsigned char c, unsigned char class)
{
    return http_class[c] & class;
}

enum http_result http_refuse(struct http_request *req, enum http_error e);

/* framing.c: what a header means. */
enum field_kind http_field_kind(struct span name);
enum http_error http_field_bad_byte(enum field_kind kind);
enum http_error http_field_take(struct http_request *req, enum field_kind kind, struct span value);
enum http_error http_head_check(struct http_request *req, const char *bytes);

/* body.c: from ST_BODY on. */
enum http_result http_parse_body(struct http_request *req, char *bytes, size_t n);
