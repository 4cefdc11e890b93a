/* SPDX-License-Identifier: Apache-2.0 */
/* Fetches over libcurl's multi interface: the thread waits for all of them at once, so that one
 * server that does not answer holds up no other, and a wake-up ends the wait.
 *
 * The address is judged when the socket for it is made, which is after the look-up and for every
 * attempt: a name that changes its mind between a check and the connection gains nothing. */
#include "fetching.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>

#define BODY_BYTES KIB(256)
#define HEAD_BYTES KIB(64)
#define TIMEOUT_MS 10000
#define AGE_MAX_S 31536000 /* longer is as good as a year, and cannot overflow */

struct fetch {
    TAILQ_ENTRY(fetch) all;
    struct fetcher *fetcher;
    CURL *easy; /* NULL: refused before it began */
    CURLU *url;
    char *text, *ca_file;
    fetch_done *done;
    void *arg;
    struct fetch_reply reply;
    struct err e;
    uint64_t body_bytes, head_bytes;
    int64_t timeout_ms;
    bool allow_private;
    bool too_large;
    char refused[INET6_ADDRSTRLEN]; /* the last address that was not connected to */
    char detail[CURL_ERROR_SIZE];
};

TAILQ_HEAD(fetch_list, fetch);

struct fetcher {
    CURLM *multi;
    struct fetch_list all;
};

/* --- what a server says about keeping ----------------------------------------------------------
 */

static int64_t seconds(struct span s)
{
    uint64_t v;

    if (s.n >= 2 && s.p[0] == '"' && s.p[s.n - 1] == '"')
        s = span_of(s.p + 1, s.n - 2);
    if (!span_u64(s, &v))
        return -1;
    return (int64_t)MIN(v, (uint64_t)AGE_MAX_S);
}

int64_t fetch_max_age(struct span cache_control, struct span age)
{
    int64_t max_age = -1, spent = seconds(span_trim(age));

    while (cache_control.p) {
        struct span value = span_trim(span_cut(&cache_control, ','));
        struct span name = span_trim(span_cut(&value, '='));
        if (span_ieq(name, S("no-store")) || span_ieq(name, S("no-cache")))
            return 0;
        if (span_ieq(name, S("max-age")) && max_age < 0)
            max_age = seconds(span_trim(value));
    }
    if (max_age > 0 && spent > 0)
        max_age = MAX(max_age - spent, 0);
    return max_age < 0 ? -1 : max_age * 1000;
}

/* All fields of that name joined by commas, as HTTP defines it. */
static void header(CURL *easy, const char *name, struct buf *out)
{
    struct curl_header *h;

    for (size_t i = 0; curl_easy_header(easy, name, i, CURLH_HEADER, -1, &h) == CURLHE_OK; i++) {
        buf_adds(out, i ? "," : "");
        buf_adds(out, h->value);
    }
}

static void read_headers(struct fetch *x)
{
    struct buf cache = BUF_INIT, age = BUF_INIT;

    header(x->easy, "Cache-Control", &cache);
    header(x->easy, "Age", &age);
    x->reply.max_age_ms = fetch_max_age(buf_as_span(&cache), buf_as_span(&age));
    buf_free(&cache);
    buf_free(&age);
}

/* --- libcurl's callbacks -----------------------------------------------------------------------
 */

static size_t on_body(char *p, size_t size, size_t n, void *arg)
{
    struct fetch *x = arg;

    n *= size;
    if (n > x->body_bytes - x->reply.body.n) {
        x->too_large = true;
        return 0;
    }
    buf_add(&x->reply.body, p, n);
    return n;
}

static size_t on_head(char *p, size_t size, size_t n, void *arg)
{
    struct fetch *x = arg;

    (void)p;
    x->head_bytes += n * size;
    x->too_large |= x->head_bytes > HEAD_BYTES;
    return x->too_large ? 0 : n * size;
}

static curl_socket_t on_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *a)
{
    struct fetch *x = arg;

    if (purpose != CURLSOCKTYPE_IPCXN || (!x->allow_private && !fetch_address_public(&a->addr))) {
        fetch_address_text(&a->addr, x->refused);
        return CURL_SOCKET_BAD;
    }
    return socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
}

/* --- one fetch ---------------------------------------------------------------------------------
 */

static void set_options(struct fetch *x, bool http)
{
    CURL *h = x->easy;

    curl_easy_setopt(h, CURLOPT_CURLU, x->url);
    curl_easy_setopt(h, CURLOPT_PRIVATE, x);
    curl_easy_setopt(h, CURLOPT_PROTOCOLS_STR, http ? "http,https" : "https");
    curl_easy_setopt(h, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(h, CURLOPT_PROXY, "");
    curl_easy_setopt(h, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    if (x->ca_file)
        curl_easy_setopt(h, CURLOPT_CAINFO, x->ca_file);
    curl_easy_setopt(h, CURLOPT_FRESH_CONNECT, 1L);
    curl_easy_setopt(h, CURLOPT_FORBID_REUSE, 1L);
    curl_easy_setopt(h, CURLOPT_TIMEOUT_MS, (long)x->timeout_ms);
    curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(h, CURLOPT_QUICK_EXIT, 1L); /* a resolver that hangs holds up no shutdown */
    curl_easy_setopt(h, CURLOPT_USERAGENT, "hookline/" HOOKLINE_VERSION);
    curl_easy_setopt(h, CURLOPT_OPENSOCKETFUNCTION, on_socket);
    curl_easy_setopt(h, CURLOPT_OPENSOCKETDATA, x);
    curl_easy_setopt(h, CURLOPT_HEADERFUNCTION, on_head);
    curl_easy_setopt(h, CURLOPT_HEADERDATA, x);
    curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(h, CURLOPT_WRITEDATA, x);
    curl_easy_setopt(h, CURLOPT_ERRORBUFFER, x->detail);
}

static void fetch_free(struct fetch *x)
{
    TAILQ_REMOVE(&x->fetcher->all, x, all);
    if (x->easy) {
        curl_multi_remove_handle(x->fetcher->multi, x->easy);
        curl_easy_cleanup(x->easy);
    }
    curl_url_cleanup(x->url);
    buf_free(&x->reply.body);
    free(x->text);
    free(x->ca_file);
    free(x);
}

static void explain(struct fetch *x, CURLcode rc, long status)
{
    if (x->too_large)
        err_set(&x->e, EXIT_NO_SERVICE, "the answer is larger than allowed (%llu bytes)",
                (unsigned long long)x->body_bytes);
    else if (rc == CURLE_COULDNT_CONNECT && x->refused[0])
        err_set(&x->e, EXIT_NO_SERVICE,
                "its address %s is private or reserved, which is not allowed", x->refused);
    else if (rc == CURLE_OPERATION_TIMEDOUT)
        err_set(&x->e, EXIT_NO_SERVICE, "no full answer within %lld ms", (long long)x->timeout_ms);
    else if (rc)
        err_set(&x->e, EXIT_NO_SERVICE, "%s", x->detail[0] ? x->detail : curl_easy_strerror(rc));
    else if (status >= 300 && status < 400)
        err_set(&x->e, EXIT_NO_SERVICE, "answered %ld: redirects are not followed", status);
    else
        err_set(&x->e, EXIT_NO_SERVICE, "answered %ld", status);
    err_wrap(&x->e, "%s", x->text);
}

static void finish(struct fetch *x, CURLcode rc)
{
    long status = 0;
    bool good;

    curl_easy_getinfo(x->easy, CURLINFO_RESPONSE_CODE, &status);
    good = rc == CURLE_OK && status == 200;
    if (good)
        read_headers(x);
    else
        explain(x, rc, status);
    x->done(x->arg, good ? &x->reply : NULL, good ? NULL : &x->e);
    fetch_free(x);
}

struct fetch *fetch_start(struct fetcher *f, const char *url, const struct fetch_rules *r,
                          fetch_done *done, void *arg)
{
    struct fetch *x = xcalloc(1, sizeof *x);

    *x = (struct fetch){ .fetcher = f,
                         .text = span_dup(
                             span_of(url, strcspn(url, "?"))), /* a query may hold a token */
                         .ca_file = r->ca_file ? xstrdup(r->ca_file) : NULL,
                         .done = done,
                         .arg = arg,
                         .body_bytes = r->body_bytes ? r->body_bytes : BODY_BYTES,
                         .timeout_ms = r->timeout_ms ? r->timeout_ms : TIMEOUT_MS,
                         .allow_private = r->allow_private };
    TAILQ_INSERT_TAIL(&f->all, x, all);
    if (fetch_parse(url, r, &x->url, &x->e)) {
        err_wrap(&x->e, "%s", x->text);
        fetcher_wake(f);
        return x;
    }
    x->easy = curl_easy_init();
    if (!x->easy)
        die(EXIT_TEMPORARY, "libcurl could not be started");
    set_options(x, r->allow_http);
    curl_multi_add_handle(f->multi, x->easy);
    return x;
}

void fetch_cancel(struct fetch *x)
{
    fetch_free(x);
}

/* --- the fetcher -------------------------------------------------------------------------------
 */

struct fetcher *fetcher_new(void)
{
    struct fetcher *f = xcalloc(1, sizeof *f);

    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        die(EXIT_TEMPORARY, "libcurl could not be started");
    TAILQ_INIT(&f->all);
    f->multi = curl_multi_init();
    if (!f->multi)
        die(EXIT_TEMPORARY, "libcurl could not be started");
    return f;
}

void fetcher_free(struct fetcher *f)
{
    struct fetch *x, *next;

    if (!f)
        return;
    for (x = TAILQ_FIRST(&f->all); x; x = next) {
        next = TAILQ_NEXT(x, all);
        fetch_free(x);
    }
    curl_multi_cleanup(f->multi);
    free(f);
}

static void tell_refused(struct fetcher *f)
{
    struct fetch *x, *next;

    for (x = TAILQ_FIRST(&f->all); x; x = next) {
        next = TAILQ_NEXT(x, all);
        if (!x->easy) {
            x->done(x->arg, NULL, &x->e);
            fetch_free(x);
            next = TAILQ_FIRST(&f->all); /* `done` may have changed the list */
        }
    }
}

static bool tell_ended(struct fetcher *f)
{
    CURLMsg *m;
    struct fetch *x;
    int left;
    bool any = false;

    while ((m = curl_multi_info_read(f->multi, &left))) {
        if (m->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&x);
        finish(x, m->data.result);
        any = true;
    }
    return any;
}

void fetcher_run(struct fetcher *f, int64_t wait_ms)
{
    int running;

    tell_refused(f);
    curl_multi_perform(f->multi, &running);
    if (tell_ended(f))
        return;
    curl_multi_poll(f->multi, NULL, 0, (int)MIN(wait_ms, (int64_t)INT32_MAX), NULL);
    curl_multi_perform(f->multi, &running);
    tell_ended(f);
}

void fetcher_wake(struct fetcher *f)
{
    curl_multi_wakeup(f->multi);
}
