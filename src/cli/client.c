/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP client of send, top, tail, await, health, dead and replay, over libcurl. */
#include <curl/curl.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "cli.h"

static size_t on_body(char *p, size_t size, size_t n, void *arg)
{
    buf_add(arg, p, size * n);
    return size * n;
}

static size_t on_header(char *p, size_t size, size_t n, void *arg)
{
    struct http_call *c = arg;
    struct span value = span_of(p, size * n), name = span_cut(&value, ':');

    while (value.n && (value.p[value.n - 1] == '\r' || value.p[value.n - 1] == '\n'))
        value.n--;
    value = span_trim(value);
    if (span_ieq(name, S("hookline-log")))
        snprintf(c->log_id, sizeof c->log_id, "%.*s", SPAN_FMT(value));
    else if (span_ieq(name, S("hookline-outcome")))
        snprintf(c->outcome, sizeof c->outcome, "%.*s", SPAN_FMT(value));
    else if (span_ieq(name, S("hookline-next")))
        span_u64(value, &c->next);
    return size * n;
}

static struct curl_slist *header_list(const struct http_call *c)
{
    struct curl_slist *list = curl_slist_append(NULL, "Expect:");
    struct span rest = c->headers;

    while (rest.n) {
        struct span line = span_cut(&rest, '\n');
        char *text;
        if (line.n && line.p[line.n - 1] == '\r')
            line.n--;
        if (!line.n)
            continue;
        text = span_dup(line);
        list = curl_slist_append(list, text);
        free(text);
    }
    if (c->token) {
        char *text = xasprintf("Authorization: Bearer %s", c->token);
        list = curl_slist_append(list, text);
        free(text);
    }
    return list;
}

int client_call(struct http_call *c, struct err *e)
{
    CURL *h = curl_easy_init();
    struct curl_slist *headers;
    CURLcode rc;

    if (!h)
        return err_set(e, EXIT_NO_SERVICE, "libcurl could not be started");
    headers = header_list(c);
    c->text.n = 0;
    c->log_id[0] = c->outcome[0] = '\0';
    curl_easy_setopt(h, CURLOPT_URL, c->url);
    curl_easy_setopt(h, CURLOPT_CUSTOMREQUEST, c->method);
    curl_easy_setopt(h, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(h, CURLOPT_TIMEOUT, c->timeout_s);
    curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(h, CURLOPT_PROTOCOLS_STR, "http,https");
    if (getenv("HOOKLINE_CA"))
        curl_easy_setopt(h, CURLOPT_CAINFO, getenv("HOOKLINE_CA"));
    curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(h, CURLOPT_WRITEDATA, &c->text);
    curl_easy_setopt(h, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(h, CURLOPT_HEADERDATA, c);
    if (!strcmp(c->method, "POST") || c->body.n) {
        curl_easy_setopt(h, CURLOPT_POSTFIELDS, c->body.p ? c->body.p : "");
        curl_easy_setopt(h, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)c->body.n);
    }
    rc = curl_easy_perform(h);
    curl_easy_getinfo(h, CURLINFO_RESPONSE_CODE, &c->status);
    curl_slist_free_all(headers);
    curl_easy_cleanup(h);
    return rc == CURLE_OK ? 0
                          : err_set(e, EXIT_NO_SERVICE, "%s: %s", c->url, curl_easy_strerror(rc));
}

void client_escape(struct buf *out, const char *s)
{
    for (; *s; s++)
        if (strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~", *s))
            buf_addc(out, *s);
        else
            buf_printf(out, "%%%02X", (unsigned char)*s);
}

const char *client_admin(const char *option)
{
    const char *env = getenv("HOOKLINE_ADMIN");

    return option ? option : env ? env : "http://127.0.0.1:9180";
}

char *client_token(const char *file, struct err *e)
{
    const char *env = getenv("HOOKLINE_ADMIN_TOKEN");
    char text[4096];
    ssize_t n;
    int fd;

    if (!file)
        return env ? xstrdup(env) : NULL;
    fd = open(file, O_RDONLY | O_CLOEXEC);
    n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    if (n < 0) {
        err_errno(e, EXIT_BAD_USAGE, "token file %s", file);
        return NULL;
    }
    while (n && (text[n - 1] == '\n' || text[n - 1] == '\r'))
        n--;
    return span_dup(span_of(text, (size_t)n));
}
