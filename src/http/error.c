/* SPDX-License-Identifier: Apache-2.0 */
/* The closed list of error answers. Senders stop for good on some statuses, so a fault of ours is
 * always a 503 with Retry-After, never a 4xx. */
#include "http.h"

#include <assert.h>

static const struct http_error_info table[HTTP_ERRORS] = {
    [HTTP_ERR_NONE] = { "ok", 200, 0, "" },
    [HTTP_ERR_BAD_REQUEST_LINE] = { "bad_request_line", 400, 0, "the request line is malformed" },
    [HTTP_ERR_BAD_HEADER] = { "bad_header", 400, 0, "a header line is malformed" },
    [HTTP_ERR_BAD_HOST] = { "bad_host", 400, 0, "exactly one Host header with a host is needed" },
    [HTTP_ERR_BARE_LF] = { "bare_lf", 400, 0, "lines end in CR LF" },
    [HTTP_ERR_BAD_CONTENT_LENGTH] = { "bad_content_length", 400, 0,
                                      "Content-Length is one decimal number" },
    [HTTP_ERR_BAD_TRANSFER_ENCODING] = { "bad_transfer_encoding", 400, 0,
                                         "Transfer-Encoding can only be chunked" },
    [HTTP_ERR_FRAMING_CONFLICT] = { "framing_conflict", 400, 0,
                                    "Content-Length and Transfer-Encoding exclude each other" },
    [HTTP_ERR_BAD_CHUNK] = { "bad_chunk", 400, 0, "the chunked body is malformed" },
    [HTTP_ERR_CHUNK_EXT_TOO_LONG] = { "chunk_ext_too_long", 400, 0, "too many chunk extensions" },
    [HTTP_ERR_BAD_SIGNATURE] = { "bad_signature", 401, 0, "the signature was not accepted" },
    [HTTP_ERR_NOT_FOUND] = { "not_found", 404, 0, "nothing is configured at this path" },
    [HTTP_ERR_METHOD_NOT_ALLOWED] = { "method_not_allowed", 405, 0,
                                      "this path does not take the method" },
    [HTTP_ERR_HEADER_TIMEOUT] = { "header_timeout", 408, 0, "the headers did not arrive in time" },
    [HTTP_ERR_BODY_TIMEOUT] = { "body_timeout", 408, 0, "the body did not arrive in time" },
    [HTTP_ERR_LENGTH_REQUIRED] = { "length_required", 411, 0, "Content-Length is missing" },
    [HTTP_ERR_BODY_TOO_LARGE] = { "body_too_large", 413, 0,
                                  "the body is larger than this path takes" },
    [HTTP_ERR_TARGET_TOO_LONG] = { "target_too_long", 414, 0, "the request target is too long" },
    [HTTP_ERR_EXPECTATION_FAILED] = { "expectation_failed", 417, 0,
                                      "only 100-continue can be expected" },
    [HTTP_ERR_HEADERS_TOO_LARGE] = { "headers_too_large", 431, 0,
                                     "the headers are too large or too many" },
    [HTTP_ERR_RATE_LIMITED] = { "rate_limited", 429, 1, "too many requests in too short a time" },
    [HTTP_ERR_TE_UNSUPPORTED] = { "te_unsupported", 501, 0,
                                  "this transfer coding is not supported" },
    [HTTP_ERR_METHOD_UNKNOWN] = { "method_unknown", 501, 0, "the method is not known" },
    [HTTP_ERR_BAD_VERSION] = { "bad_version", 505, 0, "only HTTP/1.0 and HTTP/1.1 are spoken" },
    [HTTP_ERR_STORAGE_FULL] = { "storage_full", 503, 30, "the disk is full" },
    [HTTP_ERR_BACKLOG_FULL] = { "backlog_full", 503, 30, "too much is waiting for a consumer" },
    [HTTP_ERR_STORAGE_FAILED] = { "storage_failed", 503, 30, "the log cannot be written" },
    [HTTP_ERR_COMMIT_TIMEOUT] = { "commit_timeout", 503, 1,
                                  "the disk is slow; the event may be delivered all the same" },
    [HTTP_ERR_OVERLOADED] = { "overloaded", 503, 1, "too many requests are waiting" },
    [HTTP_ERR_TOO_MANY_CONNECTIONS] = { "too_many_connections", 503, 1,
                                        "the connection limit is reached" },
    [HTTP_ERR_SHUTTING_DOWN] = { "shutting_down", 503, 1, "the process is stopping" },
    [HTTP_ERR_KEYS_UNAVAILABLE] = { "keys_unavailable", 503, 5,
                                    "the provider's public keys cannot be had now" },
    [HTTP_ERR_BROKER_TIMEOUT] = { "broker_timeout", 503, 5,
                                  "the event is stored and will be delivered; not every sink has "
                                  "it yet" },
    [HTTP_ERR_IN_PROGRESS] = { "in_progress", 503, 2, "another replica is taking this delivery" },
};

const struct http_error_info *http_error(enum http_error e)
{
    assert(e < HTTP_ERRORS);
    return &table[e];
}
