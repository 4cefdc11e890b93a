/* SPDX-License-Identifier: Apache-2.0 */
/* POSTs over libcurl's multi interface, whose sockets and timer are events of the caller's loop.
 *
 * libcurl says which sockets it waits for and when it wants to be called again; what has ended is
 * told after each of its turns, outside of its callbacks, so that `done` may start the next one. */
#include "post.h"

#include <curl/curl.h>
#include <event2/event_struct.h>
#include <stdio.h>
#include <string.h>
#include <sys/queue.h>

#include "fetch.h"

#define CONNECT_MS 10000
#define ANSWER_BYTES KIB(64) /* more of an answer is not waited for */

struct post {
    TAILQ_ENTRY(post) link;
    struct poster *poster;
    CURL *easy;
    struct curl_slist *headers;
    post_done *done;
    void *arg;
    size_t bytes, text_n;
    bool cut; /* the answer was long enough */
    char text[POST_TEXT_MAX];
    char detail[CURL_ERROR_SIZE];
};

TAILQ_HEAD(post_list, post);

struct poster {
    struct event_base *base;
    CURLM *multi;
    struct event timer;
    struct post_list all;
};

int post_check(const char *url, struct err *e)
{
    const struct fetch_rules any = { .allow_http = true, .allow_private = true };

    return fetch_check(url, &any, e);
}

/* --- what has ended ----------------------------------------------------------------------------
 */

static void post_free(struct post *x)
{
    TAILQ_REMOVE(&x->poster->all, x, link);
    curl_multi_remove_handle(x->poster->multi, x->easy);
    curl_easy_cleanup(x->easy);
    curl_slist_free_all(x->headers);
    free(x);
}

static void finish(struct post *x, CURLcode rc)
{
    struct post_answer a = { .text = span_of(x->text, x->text_n) };
    curl_off_t wait_s = 0;
    long status = 0;

    curl_easy_getinfo(x->easy, CURLINFO_RESPONSE_CODE, &status);
    if (rc == CURLE_OK || x->cut) {
        a.status = (int)status;
        curl_easy_getinfo(x->easy, CURLINFO_RETRY_AFTER, &wait_s);
        a.retry_after_ms = wait_s > 0 && wait_s < INT32_MAX ? (int64_t)wait_s * 1000 : 0;
    } else {
        a.error = x->detail[0] ? x->detail : curl_easy_strerror(rc);
        a.timed_out = rc == CURLE_OPERATION_TIMEDOUT;
        a.untrusted = rc == CURLE_PEER_FAILED_VERIFICATION || rc == CURLE_SSL_CACERT_BADFILE;
    }
    x->done(x->arg, &a);
    post_free(x);
}

static void tell_ended(struct poster *p)
{
    CURLMsg *m;
    struct post *x;
    int left;

    while ((m = curl_multi_info_read(p->multi, &left))) {
        if (m->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&x);
        finish(x, m->data.result);
    }
}

/* --- the loop ----------------------------------------------------------------------------------
 */

static void on_io(evutil_socket_t fd, short what, void *arg)
{
    struct poster *p = arg;
    int flags = (what & EV_READ ? CURL_CSELECT_IN : 0) | (what & EV_WRITE ? CURL_CSELECT_OUT : 0);
    int running;

    curl_multi_socket_action(p->multi, fd, flags, &running);
    tell_ended(p);
}

static void on_timer(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
    struct poster *p = arg;
    int running;

    curl_multi_socket_action(p->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    tell_ended(p);
}

static int want_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket)
{
    struct poster *p = arg;
    struct event *ev = socket;
    int events =
        EV_PERSIST | (what & CURL_POLL_IN ? EV_READ : 0) | (what & CURL_POLL_OUT ? EV_WRITE : 0);

    (void)easy;
    if (ev)
        event_del(ev);
    if (what == CURL_POLL_REMOVE) {
        free(ev);
        return 0;
    }
    if (!ev) {
        ev = xcalloc(1, sizeof *ev);
        curl_multi_assign(p->multi, fd, ev);
    }
    event_assign(ev, p->base, fd, (short)events, on_io, p);
    event_add(ev, NULL);
    return 0;
}

static int want_timer(CURLM *multi, long ms, void *arg)
{
    struct poster *p = arg;
    struct timeval tv = { ms / 1000, ms % 1000 * 1000 };

    (void)multi;
    if (ms < 0)
        event_del(&p->timer);
    else
        event_add(&p->timer, &tv);
    return 0;
}

/* --- one request -------------------------------------------------------------------------------
 */

static size_t on_body(char *p, size_t size, size_t n, void *arg)
{
    struct post *x = arg;

    n *= size;
    for (size_t i = 0; i < n && x->text_n < sizeof x->text; i++)
        x->text[x->text_n++] = p[i] >= ' ' && p[i] <= '~' ? p[i] : ' ';
    x->bytes += n;
    x->cut = x->bytes > ANSWER_BYTES;
    return x->cut ? 0 : n;
}

/* libcurl would frame the message by these, or has a word of its own for them. */
static bool is_ours(struct span name)
{
    static const char *const ours[] = {
        "host", "connection", "content-length", "transfer-encoding", "expect",
        "te",   "trailer",    "upgrade",        "keep-alive",        "proxy-connection",
    };

    for (size_t i = 0; i < ARRAY_LEN(ours); i++)
        if (span_ieq(name, span_str(ours[i])))
            return true;
    return false;
}

static void add_header(struct post *x, const char *line)
{
    struct curl_slist *l = curl_slist_append(x->headers, line);

    if (!l)
        die(EXIT_TEMPORARY, "out of memory: a header");
    x->headers = l;
}

/* To libcurl "name:" takes a header out, "name;" sends an empty one. */
static void add_headers(struct post *x, struct span lines)
{
    struct buf b = BUF_INIT;
    bool typed = false;

    add_header(x, "Expect:");
    while (lines.n) {
        struct span value = span_cut(&lines, '\n'), name = span_cut(&value, ':');
        if (!name.n || is_ours(name))
            continue;
        typed |= span_ieq(name, S("content-type"));
        b.n = 0;
        buf_span(&b, name);
        buf_adds(&b, value.n ? ": " : ";");
        buf_span(&b, value);
        add_header(x, buf_cstr(&b));
    }
    if (!typed)
        add_header(x, "Content-Type:");
    buf_free(&b);
}

static void set_options(struct post *x, const struct post_target *to, struct span body)
{
    CURL *h = x->easy;

    curl_easy_setopt(h, CURLOPT_URL, to->url);
    curl_easy_setopt(h, CURLOPT_PRIVATE, x);
    curl_easy_setopt(h, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(h, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(h, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(h, CURLOPT_PROXY, "");
    curl_easy_setopt(h, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    if (to->ca_file)
        curl_easy_setopt(h, CURLOPT_CAINFO, to->ca_file);
    curl_easy_setopt(h, CURLOPT_TIMEOUT_MS, (long)to->timeout_ms);
    curl_easy_setopt(h, CURLOPT_CONNECTTIMEOUT_MS, (long)MIN(to->timeout_ms, CONNECT_MS));
    curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(h, CURLOPT_QUICK_EXIT, 1L); /* a resolver that hangs holds up no shutdown */
    curl_easy_setopt(h, CURLOPT_USERAGENT, "hookline/" HOOKLINE_VERSION);
    curl_easy_setopt(h, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body.n);
    curl_easy_setopt(h, CURLOPT_POSTFIELDS, body.n ? body.p : "");
    curl_easy_setopt(h, CURLOPT_HTTPHEADER, x->headers);
    curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(h, CURLOPT_WRITEDATA, x);
    curl_easy_setopt(h, CURLOPT_ERRORBUFFER, x->detail);
}

struct post *post_start(struct poster *p, const struct post_target *to, struct span headers,
                        struct span body, post_done *done, void *arg)
{
    struct post *x = xcalloc(1, sizeof *x);

    x->poster = p;
    x->done = done;
    x->arg = arg;
    x->easy = curl_easy_init();
    if (!x->easy)
        die(EXIT_TEMPORARY, "libcurl could not be started");
    add_headers(x, headers);
    set_options(x, to, body);
    TAILQ_INSERT_TAIL(&p->all, x, link);
    curl_multi_add_handle(p->multi, x->easy); /* it begins with the timer */
    return x;
}

void post_cancel(struct post *x)
{
    post_free(x);
}

/* --- the poster --------------------------------------------------------------------------------
 */

struct poster *poster_new(struct event_base *base, size_t connections)
{
    struct poster *p = xcalloc(1, sizeof *p);

    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        die(EXIT_TEMPORARY, "libcurl could not be started");
    p->base = base;
    TAILQ_INIT(&p->all);
    event_assign(&p->timer, base, -1, 0, on_timer, p);
    p->multi = curl_multi_init();
    if (!p->multi)
        die(EXIT_TEMPORARY, "libcurl could not be started");
    curl_multi_setopt(p->multi, CURLMOPT_SOCKETFUNCTION, want_socket);
    curl_multi_setopt(p->multi, CURLMOPT_SOCKETDATA, p);
    curl_multi_setopt(p->multi, CURLMOPT_TIMERFUNCTION, want_timer);
    curl_multi_setopt(p->multi, CURLMOPT_TIMERDATA, p);
    curl_multi_setopt(p->multi, CURLMOPT_MAXCONNECTS, (long)connections);
    return p;
}

void poster_free(struct poster *p)
{
    struct post *x, *next;

    if (!p)
        return;
    for (x = TAILQ_FIRST(&p->all); x; x = next) {
        next = TAILQ_NEXT(x, link);
        post_free(x);
    }
    curl_multi_cleanup(p->multi);
    event_del(&p->timer);
    free(p);
}
