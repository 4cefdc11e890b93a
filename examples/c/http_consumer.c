/* SPDX-License-Identifier: Apache-2.0 */
/* Consumes events from hookline itself, over HTTP; each takes effect once, whatever is killed when.
 *
 * Install: apt-get install libcurl4-openssl-dev libjansson-dev
 * Build:   make examples
 * Run:     http_consumer http://127.0.0.1:9180 FILE     (token: HOOKLINE_ADMIN_TOKEN)
 *
 * A repeat is told by the event's source and id (effects.h). The position is kept in FILE.position
 * and stored after the effects are on disk, so a crash repeats events and loses none. */
#include <curl/curl.h>
#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "effects.h"

#define PAGE 100

/* A position means something in its own log only; asked about another one, hookline answers 409. */
struct position {
    char log[64], after[24];
};

struct page {
    struct position next;
    char *body;
    size_t n;
};

static void load(const char *path, struct position *at)
{
    FILE *f = fopen(path, "r");

    *at = (struct position){ "", "" };
    if (f && fscanf(f, "%63s %23s", at->log, at->after) != 2)
        die("%s holds no position", path);
    if (f)
        fclose(f);
    else if (errno != ENOENT)
        die("%s: %s", path, strerror(errno));
}

/* Whole or not at all: written beside it, synced, renamed. */
static void store(const char *path, const struct position *at)
{
    char beside[4096];
    FILE *f;

    snprintf(beside, sizeof beside, "%s.new", path);
    f = fopen(beside, "w");
    if (!f || fprintf(f, "%s %s\n", at->log, at->after) < 0 || fflush(f) || fsync(fileno(f)) ||
        fclose(f) || rename(beside, path))
        die("%s: %s", path, strerror(errno));
}

static size_t on_body(char *p, size_t size, size_t n, void *arg)
{
    struct page *page = arg;
    char *more = realloc(page->body, page->n + size * n);

    if (!more)
        return 0;
    memcpy(more + page->n, p, size * n);
    page->body = more;
    page->n += size * n;
    return size * n;
}

static size_t on_header(char *p, size_t size, size_t n, void *arg)
{
    struct page *page = arg;
    char line[256];

    snprintf(line, sizeof line, "%.*s", (int)(size * n), p);
    if (!strncasecmp(line, "hookline-log:", 13))
        sscanf(line + 13, " %63s", page->next.log);
    else if (!strncasecmp(line, "hookline-next:", 14))
        sscanf(line + 14, " %23s", page->next.after);
    return size * n;
}

/* The events behind the position, at most `limit`; waits up to half a minute for the first. The
 * status, 0 for none. */
static long fetch(CURL *curl, const char *base, const struct position *at, int limit,
                  struct page *page)
{
    char url[1024];
    long status = 0;
    CURLcode code;
    int n;

    *page = (struct page){ .body = NULL };
    n = snprintf(url, sizeof url, "%s/v1/events?wait=30&limit=%d", base, limit);
    if (at->log[0] && n > 0 && (size_t)n < sizeof url)
        snprintf(url + n, sizeof url - (size_t)n, "&log=%s&after=%s", at->log, at->after);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, page);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, page);
    code = curl_easy_perform(curl);
    if (code) {
        fprintf(stderr, "hookline: %s\n", curl_easy_strerror(code));
        return 0;
    }
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    return status;
}

/* False: one of the events is JSON that jansson does not take (a number out of range, half
 * a surrogate pair): their senders may write any. */
static bool handle(struct effects *fx, const struct page *page)
{
    json_t *events = json_loadb(page->body, page->n, JSON_ALLOW_NUL, NULL), *event;
    size_t i;

    if (!events)
        return false;
    json_array_foreach(events, i, event)
    {
        json_t *source = json_object_get(event, "source"), *id = json_object_get(event, "id");
        json_t *type = json_object_get(event, "type");
        effects_add(fx, json_string_value(source), json_string_length(source),
                    json_string_value(id), json_string_length(id), json_string_value(type),
                    json_string_length(type));
    }
    json_decref(events);
    return true;
}

/* Handles a page and moves the position over it. What cannot be read in a page is asked for one by
 * one; what cannot be read alone is noted by its place in the log, and passed. The next limit. */
static int take(struct effects *fx, const struct page *page, int limit, struct position *at,
                const char *path)
{
    bool good = handle(fx, page);

    if (!good && limit > 1)
        return 1;
    if (!good)
        effects_add(fx, page->next.log, strlen(page->next.log), page->next.after,
                    strlen(page->next.after), "unreadable", 10);
    effects_sync(fx);
    *at = page->next;
    store(path, at);
    return PAGE;
}

static CURL *client(void)
{
    const char *token = getenv("HOOKLINE_ADMIN_TOKEN");
    struct curl_slist *headers = NULL;
    CURL *curl = curl_easy_init();
    char line[1024];

    if (!curl)
        die("curl cannot start");
    if (token) {
        snprintf(line, sizeof line, "Authorization: Bearer %s", token);
        headers = curl_slist_append(NULL, line);
        curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers); /* kept as long as the program runs */
    }
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, 60L);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
    return curl;
}

int main(int argc, char **argv)
{
    char path[4000];
    struct effects *fx;
    struct position at;
    int limit = PAGE;
    CURL *curl;

    if (argc != 3)
        die("usage: http_consumer URL FILE");
    snprintf(path, sizeof path, "%s.position", argv[2]);
    fx = effects_open(argv[2]);
    load(path, &at);
    curl = client();
    while (!stopping()) {
        struct page page;
        long status = fetch(curl, argv[1], &at, limit, &page);
        if (status == 200) {
            limit = take(fx, &page, limit, &at, path);
        } else if (status && status < 500) {
            /* 410: events behind the position are gone; 409: another log. Somebody has to decide.
             */
            die("hookline: %ld %.*s", status, (int)page.n, page.body ? page.body : "");
        } else {
            sleep(1);
        }
        free(page.body);
    }
    curl_easy_cleanup(curl);
    effects_close(fx);
    return 0;
}
