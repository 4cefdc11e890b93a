/* SPDX-License-Identifier: Apache-2.0 */
/* What strangers write into a fetch: a URL under the rules of SNS certificates, and the headers of
 * a server. Whatever URL passes has its host where anybody would look for it, in the right domain.
 */
#include "fuzz.h"

#include <strings.h>

#include "net/fetching.h"

static const char *const hosts[] = { "sns.???*.amazonaws.com", NULL };

static void url(const char *text)
{
    struct fetch_rules r = { .hosts = hosts, .path = "/*.pem" };
    struct err e = ERR_INIT;
    const char *host = text + strlen("https://"), domain[] = ".amazonaws.com";
    const char *port;
    size_t n;

    if (fetch_check(text, &r, &e)) {
        must(e.text[0]);
        return;
    }
    must(strncasecmp(text, "https://", strlen("https://")) == 0);
    n = strcspn(host, "/:?#@\\");
    port = host + n + (host[n] == ':');
    must(port[strspn(port, "0123456789")] == '/');
    must(*port == '/' || strtoul(port, NULL, 10) == 443); /* ":/" is no port (RFC 3986) */
    must(n > sizeof domain && strncasecmp(host, "sns.", 4) == 0);
    must(strncasecmp(host + n - (sizeof domain - 1), domain, sizeof domain - 1) == 0);
    must(!memchr(host + 4, '.', n - 4 - (sizeof domain - 1)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    char *copy = fuzz_copy(data, n), *text = span_dup(span_of(copy, n));
    struct span cache_control, age = span_of(copy, n);
    int64_t ms;

    url(text);
    cache_control = span_cut(&age, '\n');
    ms = fetch_max_age(cache_control, age);
    must(ms >= -1 && ms <= INT64_C(31536000000));
    free(text);
    free(copy);
    return 0;
}
