/* http - a strict HTTP/1.1 request parser and a reply writer. Bytes in, verdicts out: no sockets,
 * no clock, no allocation. RFC 9110, RFC 9112. Whatever is ambiguous is refused.
 *
 * The caller keeps the bytes of one request in one contiguous buffer that may move between calls,
 * so everything is kept as offsets. http_parse is called again with the same buffer, longer. A
 * chunked body is decoded in place: body bytes are contiguous at body_off in any case. Each header
 * byte is looked at once, however the bytes arrive. */
#pragma once

#include "buf.h"

/* The closed list of answers in INTERFACES: the text of a code and its status from http_error(). */
enum http_error {
    HTTP_ERR_NONE,
    HTTP_ERR_BAD_REQUEST_LINE,
    HTTP_ERR_BAD_HEADER,
    HTTP_ERR_BAD_HOST,
    HTTP_ERR_BARE_LF,
    HTTP_ERR_BAD_CONTENT_LENGTH,
    HTTP_ERR_BAD_TRANSFER_ENCODING,
    HTTP_ERR_FRAMING_CONFLICT,
    HTTP_ERR_BAD_CHUNK,
    HTTP_ERR_CHUNK_EXT_TOO_LONG,
    HTTP_ERR_BAD_SIGNATURE,
    HTTP_ERR_NOT_FOUND,
    HTTP_ERR_METHOD_NOT_ALLOWED,
    HTTP_ERR_HEADER_TIMEOUT,
    HTTP_ERR_BODY_TIMEOUT,
    HTTP_ERR_LENGTH_REQUIRED,
    HTTP_ERR_BODY_TOO_LARGE,
    HTTP_ERR_TARGET_TOO_LONG,
    HTTP_ERR_EXPECTATION_FAILED,
    HTTP_ERR_HEADERS_TOO_LARGE,
    HTTP_ERR_RATE_LIMITED,
    HTTP_ERR_TE_UNSUPPORTED,
    HTTP_ERR_METHOD_UNKNOWN,
    HTTP_ERR_BAD_VERSION,
    HTTP_ERR_STORAGE_FULL,
    HTTP_ERR_BACKLOG_FULL,
    HTTP_ERR_STORAGE_FAILED,
    HTTP_ERR_COMMIT_TIMEOUT,
    HTTP_ERR_OVERLOADED,
    HTTP_ERR_TOO_MANY_CONNECTIONS,
    HTTP_ERR_SHUTTING_DOWN,
    HTTP_ERR_KEYS_UNAVAILABLE,
    HTTP_ERR_BROKER_TIMEOUT,
    HTTP_ERR_IN_PROGRESS,
    HTTP_ERRORS
};
struct http_error_info {
    const char *code;   /* "bad_chunk" */
    int status;         /* 400 */
    int retry_after_s;  /* 0: no Retry-After */
    const char *detail; /* what to say by default */
};
const struct http_error_info *http_error(enum http_error e);

enum http_method {
    METHOD_GET,
    METHOD_HEAD,
    METHOD_POST,
    METHOD_PUT,
    METHOD_DELETE,
    METHOD_OPTIONS,
    METHOD_TRACE,
    METHOD_CONNECT,
    METHOD_PATCH,
    METHODS
};

#define HTTP_FIELDS_MAX 100
struct http_limits {
    size_t header_bytes; /* request line and headers together, 16 KiB */
    size_t target_bytes; /* 8 KiB */
    uint64_t body_bytes; /* 1 MiB, inclusive; the caller may change req->body_max after HTTP_HEAD */
};

struct http_field { /* offsets into the buffer */
    uint32_t name, value;
    uint16_t name_len;
    uint32_t value_len; /* without surrounding blanks */
};

enum http_result {
    HTTP_MORE,    /* needs more bytes */
    HTTP_HEAD,    /* the head is complete (told once): decide on route and body_max, call again */
    HTTP_DONE,    /* the whole request is there: `consumed` bytes of the buffer were its */
    HTTP_REFUSED, /* error says why; answer it and close */
};

struct http_request {
    enum http_error error;
    enum http_method method;
    bool http10;          /* else 1.1 */
    bool keep_alive;      /* what the client may expect after the answer */
    bool expect_continue; /* waits for 100 Continue before it sends its body */
    bool chunked;
    bool has_body;               /* Content-Length > 0 or chunked */
    uint32_t target, target_len; /* as sent, origin form: starts with '/', or "*" */
    uint32_t path_len;           /* target up to '?' */
    uint32_t fields_n;
    uint32_t body_off;
    uint64_t content_length; /* when not chunked */
    uint64_t body_max;       /* set from the limits; HTTP_ERR_BODY_TOO_LARGE beyond it */
    uint64_t body_len;       /* so far; whole at HTTP_DONE */
    size_t consumed;         /* at HTTP_DONE: raw bytes; what follows is the next request */
    struct {                 /* the parser's own */
        uint32_t state, seen, kind, aux;
        size_t pos, mark;
        uint64_t left;
    } in;
    struct http_field fields[HTTP_FIELDS_MAX];
};

void http_request_init(struct http_request *req, const struct http_limits *limits);
/* `bytes` is the start of the request, `n` all that has arrived. It writes to the buffer only where
 * a chunked body is moved together. Without a body HTTP_HEAD is followed by HTTP_DONE at once. */
enum http_result http_parse(struct http_request *req, char *bytes, size_t n,
                            const struct http_limits *limits);

/* Looks into a parsed head. Names in any case. The first of several; *count (may be NULL) tells how
 * many there are. SPAN_NONE (p == NULL) when absent. */
struct span http_header(const struct http_request *req, const char *bytes, struct span name,
                        unsigned *count);
struct span http_target(const struct http_request *req, const char *bytes);
struct span http_path(const struct http_request *req, const char *bytes);
struct span http_query(const struct http_request *req,
                       const char *bytes); /* behind '?', or empty */
struct span http_body(const struct http_request *req, const char *bytes);
/* Value of ?name=...&, percent-decoded into out; false when absent. */
bool http_query_get(struct span query, struct span name, struct buf *out);
/* Percent-decodes a path piece; false for a broken escape or NUL. */
bool http_unescape(struct span s, struct buf *out);
/* The same of a form's names and values (application/x-www-form-urlencoded): + is a blank. */
bool http_unescape_form(struct span s, struct buf *out);

/* Reply writer. `extra` holds whole header lines with CRLF, or is empty. Content-Length, Connection
 * where needed, and Date are written; content_type NULL with an empty body leaves it out. */
struct http_reply {
    int status;
    const char *content_type;
    struct span extra;
    struct span body;
    uint64_t id; /* Hookline-Request, by which the lines of a log find it; 0: none */
    bool head;   /* answer to HEAD: Content-Length but no body */
    bool close;
    bool http10;
    bool stream; /* no Content-Length: the connection's end ends it (close is implied) */
};
void http_write_reply(struct buf *out, const struct http_reply *r);
#define HTTP_ID_TEXT 16
void http_id_text(uint64_t id, char out[HTTP_ID_TEXT]); /* hex digits, no NUL */
/* {"error":"CODE","detail":"..."} with Retry-After and Allow where the code has them; of `how` only
 * id, head, close and http10 count. */
void http_write_error(struct buf *out, const struct http_reply *how, enum http_error e,
                      const char *detail, const char *allow);
