/* SPDX-License-Identifier: Apache-2.0 */
/* The rules of a fetch: which URLs pass, and which addresses. Pure.
 *
 * The URL is taken apart by libcurl's own parser, which is also the one that fetches: two parsers
 * that disagree about where a host ends are how an allow-list is walked around. */
#include <arpa/inet.h>
#include <curl/curl.h>
#include <stdio.h>
#include <string.h>

#include "fetch.h"
#include "fetching.h"

#define URL_MAX 2048

/* --- addresses ---------------------------------------------------------------------------------
 */

struct prefix {
    uint8_t bytes[16];
    unsigned bits;
};

/* The registries of special addresses (IANA), and what clouds answer secrets on: 169.254.169.254
 * and 100.100.100.200 lie within these, 168.63.129.16 does not. */
static const struct prefix private4[] = {
    { { 0 }, 8 },        /* this network; Linux connects 0.0.0.0 to itself */
    { { 10 }, 8 },       /* private */
    { { 100, 64 }, 10 }, /* carriers, and clusters */
    { { 127 }, 8 },      /* loopback */
    { { 168, 63, 129, 16 }, 32 },
    { { 169, 254 }, 16 },     /* link-local */
    { { 172, 16 }, 12 },      /* private */
    { { 192, 0, 0 }, 24 },    /* protocol assignments */
    { { 192, 0, 2 }, 24 },    /* documentation */
    { { 192, 168 }, 16 },     /* private */
    { { 198, 18 }, 15 },      /* benchmarks */
    { { 198, 51, 100 }, 24 }, /* documentation */
    { { 203, 0, 113 }, 24 },  /* documentation */
    { { 224 }, 3 },           /* multicast, reserved, broadcast */
};
/* Within 2000::/3, outside of which nothing is public. */
static const struct prefix private6[] = {
    { { 0x20, 0x01, 0x00 }, 23 },       /* protocol assignments, Teredo */
    { { 0x20, 0x01, 0x0d, 0xb8 }, 32 }, /* documentation */
    { { 0x3f, 0xff }, 20 },             /* documentation */
};
static const struct prefix global6 = { { 0x20 }, 3 };
/* What carries an IPv4 address: mapped and NAT64 in the last four bytes, 6to4 behind its prefix. */
static const struct prefix mapped = { { [10] = 0xff, [11] = 0xff }, 96 };
static const struct prefix nat64 = { { 0x00, 0x64, 0xff, 0x9b }, 96 };
static const struct prefix six_to_four = { { 0x20, 0x02 }, 16 };

static bool within(const uint8_t *a, const struct prefix *p)
{
    unsigned whole = p->bits / 8, rest = p->bits % 8;
    unsigned mask = 0xff00u >> rest;

    return memcmp(a, p->bytes, whole) == 0 &&
           (rest == 0 || ((a[whole] ^ p->bytes[whole]) & mask & 0xff) == 0);
}

static bool within_any(const uint8_t *a, const struct prefix *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (within(a, &p[i]))
            return true;
    return false;
}

static bool public4(const uint8_t *a)
{
    return !within_any(a, private4, ARRAY_LEN(private4));
}

static bool public6(const uint8_t *a)
{
    if (within(a, &mapped) || within(a, &nat64))
        return public4(a + 12);
    if (within(a, &six_to_four))
        return public4(a + 2);
    return within(a, &global6) && !within_any(a, private6, ARRAY_LEN(private6));
}

bool fetch_address_public(const struct sockaddr *sa)
{
    const struct sockaddr_in *v4 = (const void *)sa;
    const struct sockaddr_in6 *v6 = (const void *)sa;

    if (sa->sa_family == AF_INET)
        return public4((const uint8_t *)&v4->sin_addr);
    return sa->sa_family == AF_INET6 && public6(v6->sin6_addr.s6_addr);
}

void fetch_address_text(const struct sockaddr *sa, char *out)
{
    const struct sockaddr_in *v4 = (const void *)sa;
    const struct sockaddr_in6 *v6 = (const void *)sa;
    const void *a =
        sa->sa_family == AF_INET ? (const void *)&v4->sin_addr : (const void *)&v6->sin6_addr;

    if (!inet_ntop(sa->sa_family, a, out, INET6_ADDRSTRLEN))
        snprintf(out, INET6_ADDRSTRLEN, "family %d", sa->sa_family);
}

/* --- URLs --------------------------------------------------------------------------------------
 */

/* As many labels on both sides, each by its own pattern. */
static bool host_matches(struct span pattern, struct span host)
{
    while (pattern.p && host.p)
        if (!span_glob(span_cut(&pattern, '.'), span_cut(&host, '.')))
            return false;
    return !pattern.p && !host.p;
}

/* pattern: "host" or "host:port"; a colon within [] is the address's. */
static bool allowed(const char *pattern, struct span host, const char *port, bool own_port)
{
    const char *colon = strrchr(pattern, ':'), *bracket = strrchr(pattern, ']');

    if (colon && bracket && colon < bracket)
        colon = NULL;
    if (!colon)
        return own_port && host_matches(span_str(pattern), host);
    return host_matches(span_of(pattern, (size_t)(colon - pattern)), host) &&
           span_glob(span_str(colon + 1), span_str(port));
}

struct parts {
    char *scheme, *host, *port, *path, *query;
};

static void parts_free(struct parts *p)
{
    curl_free(p->scheme);
    curl_free(p->host);
    curl_free(p->port);
    curl_free(p->path);
    curl_free(p->query);
}

static bool part(CURLU *u, CURLUPart what, unsigned flags, char **out)
{
    return curl_url_get(u, what, out, flags) == CURLUE_OK;
}

/* Letters, digits, hyphens and dots, or an address in brackets: what every resolver and every log
 * reads alike. Made lower case. */
static bool plain_host(char *host)
{
    const char *more = host[0] == '[' ? "[]:" : "_";

    for (char *c = host; *c; c++) {
        if (*c >= 'A' && *c <= 'Z')
            *c = (char)(*c + ('a' - 'A'));
        else if (!(*c >= 'a' && *c <= 'z') && !(*c >= '0' && *c <= '9') && *c != '-' && *c != '.' &&
                 !strchr(more, *c))
            return false;
    }
    return host[0] && host[0] != '.';
}

static int check_parts(CURLU *u, const struct parts *p, const struct fetch_rules *r, struct err *e)
{
    bool http = strcmp(p->scheme, "http") == 0;
    bool own_port = strcmp(p->port, http ? "80" : "443") == 0;
    char *fragment = NULL;

    if (strcmp(p->scheme, "https") != 0 && !(http && r->allow_http))
        return err_set(e, EXIT_BAD_CONFIG, "only https is allowed");
    if (!plain_host(p->host))
        return err_set(e, EXIT_BAD_CONFIG, "its host is not a plain name");
    if (part(u, CURLUPART_FRAGMENT, 0, &fragment)) {
        curl_free(fragment);
        return err_set(e, EXIT_BAD_CONFIG, "a fragment does not belong here");
    }
    if (r->path && (p->query || !span_glob(span_str(r->path), span_str(p->path))))
        return err_set(e, EXIT_BAD_CONFIG, "its path is not the allowed one");
    for (size_t i = 0; r->hosts && r->hosts[i]; i++)
        if (allowed(r->hosts[i], span_str(p->host), p->port, own_port))
            return 0;
    return r->hosts ? err_set(e, EXIT_BAD_CONFIG, "its host is not one of the allowed ones") : 0;
}

/* Printable ASCII and short: it stands in logs and in answers. Two slashes in front of the host:
 * libcurl takes one or three as well, others do not. */
static bool plain_url(const char *url)
{
    size_t n = strnlen(url, URL_MAX + 1);
    const char *scheme_end = strchr(url, ':');

    for (size_t i = 0; i < n; i++)
        if (url[i] <= ' ' || url[i] > '~' || url[i] == '\\')
            return false;
    return n <= URL_MAX && scheme_end && strncmp(scheme_end, "://", 3) == 0 && scheme_end[3] != '/';
}

int fetch_parse(const char *url, const struct fetch_rules *r, CURLU **out, struct err *e)
{
    struct parts p = { NULL, NULL, NULL, NULL, NULL };
    CURLU *u = curl_url();
    int rc;

    if (!u)
        die(EXIT_TEMPORARY, "out of memory: a URL");
    if (!plain_url(url) || curl_url_set(u, CURLUPART_URL, url, CURLU_DISALLOW_USER) != CURLUE_OK ||
        !part(u, CURLUPART_SCHEME, 0, &p.scheme) || !part(u, CURLUPART_HOST, 0, &p.host) ||
        !part(u, CURLUPART_PORT, CURLU_DEFAULT_PORT, &p.port) ||
        !part(u, CURLUPART_PATH, 0, &p.path)) {
        rc = err_set(e, EXIT_BAD_CONFIG, "not a URL of the form https://host/path");
    } else {
        (void)part(u, CURLUPART_QUERY, 0, &p.query);
        rc = check_parts(u, &p, r, e);
    }
    parts_free(&p);
    if (!rc && out)
        *out = u;
    else
        curl_url_cleanup(u);
    return rc;
}

int fetch_check(const char *url, const struct fetch_rules *r, struct err *e)
{
    return fetch_parse(url, r, NULL, e);
}

/* --- copies ------------------------------------------------------------------------------------
 */

static char *copy(const char *s)
{
    return s ? xstrdup(s) : NULL;
}

void fetch_rules_copy(struct fetch_rules *to, const struct fetch_rules *from)
{
    size_t n = 0;
    char **hosts = NULL;

    *to = *from;
    if (from->hosts) {
        while (from->hosts[n])
            n++;
        hosts = xcalloc(n + 1, sizeof *hosts);
        for (size_t i = 0; i < n; i++)
            hosts[i] = xstrdup(from->hosts[i]);
    }
    to->hosts = (const char *const *)hosts;
    to->path = copy(from->path);
    to->ca_file = copy(from->ca_file);
}

void fetch_rules_free(struct fetch_rules *r)
{
    for (size_t i = 0; r->hosts && r->hosts[i]; i++)
        free((void *)(uintptr_t)r->hosts[i]);
    free((void *)(uintptr_t)r->hosts);
    free((void *)(uintptr_t)r->path);
    free((void *)(uintptr_t)r->ca_file);
    *r = (struct fetch_rules){ .hosts = NULL };
}

static bool same(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

bool fetch_rules_equal(const struct fetch_rules *a, const struct fetch_rules *b)
{
    size_t i = 0;

    if (!a->hosts != !b->hosts)
        return false;
    for (; a->hosts && a->hosts[i] && b->hosts[i]; i++)
        if (strcmp(a->hosts[i], b->hosts[i]) != 0)
            return false;
    return (!a->hosts || a->hosts[i] == b->hosts[i]) && same(a->path, b->path) &&
           same(a->ca_file, b->ca_file) && a->allow_http == b->allow_http &&
           a->allow_private == b->allow_private && a->body_bytes == b->body_bytes &&
           a->timeout_ms == b->timeout_ms;
}
