/* post - outgoing POSTs on a libevent loop, many at a time, over HTTP or HTTPS.
 *
 * For URLs that whoever runs us has configured, never for one that came from outside (fetch.h has
 * the rules for those). Connections are kept for the next request. No redirect is followed, no
 * proxy of the environment used; TLS 1.2 or newer with the certificate checked. A request has one
 * limit of time from the look-up of the name to the last byte of the answer, of which only the
 * beginning is kept.
 *
 * A poster belongs to one thread and its loop; `done` runs there, never within post_start. */
#pragma once

#include <event2/event.h>

#include "buf.h"
#include "err.h"

struct post_target {
    const char *url;     /* http or https, without a login in it */
    const char *ca_file; /* PEM; NULL: the system's */
    int64_t timeout_ms;
};
/* What can be said of a URL without the network. Pure, any thread. */
MUST_CHECK int post_check(const char *url, struct err *e);

#define POST_TEXT_MAX 512
struct post_answer {
    int status;             /* 0: there was none, `error` says why */
    int64_t retry_after_ms; /* Retry-After, in seconds or as a date; 0: nothing is said */
    struct span text;       /* how the answer begins: POST_TEXT_MAX bytes of printable ASCII */
    const char *error;
    bool timed_out, untrusted; /* of errors: no answer in time; a certificate that does not do */
};
/* The answer is borrowed. It may start and cancel others. */
typedef void post_done(void *arg, const struct post_answer *a);

struct poster;
struct post;
/* connections: how many are kept open at most. */
struct poster *poster_new(struct event_base *base, size_t connections);
void poster_free(struct poster *p); /* drops what is under way, as post_cancel does */
/* headers: lines "name:value\n", copied; those that frame a message are ours. `to` and the body are
 * borrowed until `done`. */
struct post *post_start(struct poster *p, const struct post_target *to, struct span headers,
                        struct span body, post_done *done, void *arg);
void post_cancel(struct post *x); /* before `done` only, which is then not called */
