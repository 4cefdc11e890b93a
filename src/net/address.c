/* SPDX-License-Identifier: Apache-2.0 */
/* Networks, and the client behind trusted proxies (RFC 7239, X-Forwarded-For). */
#include "address.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

static unsigned width(int family)
{
    return family == AF_INET ? 32 : family == AF_INET6 ? 128 : 0;
}

bool address_parse(struct span text, struct net_peer *out)
{
    static const uint8_t mapped[12] = { [10] = 0xff, 0xff };
    struct net_peer p = { .family = AF_INET };
    char z[INET6_ADDRSTRLEN];

    if (text.n >= sizeof z || memchr(text.p, 0, text.n))
        return false;
    memcpy(z, text.p, text.n);
    z[text.n] = 0;
    if (inet_pton(AF_INET, z, p.address) != 1) {
        p.family = AF_INET6;
        if (inet_pton(AF_INET6, z, p.address) != 1)
            return false;
        if (!memcmp(p.address, mapped, sizeof mapped)) {
            p.family = AF_INET;
            memmove(p.address, p.address + 12, 4);
            memset(p.address + 4, 0, 12);
        }
    }
    *out = p;
    return true;
}

static bool same_prefix(const uint8_t *a, const uint8_t *b, unsigned bits)
{
    unsigned whole = bits / 8, rest = bits % 8;

    return !memcmp(a, b, whole) && (!rest || (a[whole] ^ b[whole]) >> (8 - rest) == 0);
}

int address_net_parse(struct span text, struct address_net *out, struct err *e)
{
    struct span all = text, address = span_cut(&text, '/');
    uint64_t bits;

    *out = (struct address_net){ .at.family = AF_UNIX };
    if (span_eq(all, S("unix")))
        return 0;
    if (!address.n || !address_parse(address, &out->at))
        return err_set(e, EXIT_BAD_CONFIG,
                       "\"%.*s\" is no network like 192.0.2.0/24 or 2001:db8::/32", SPAN_FMT(all));
    bits = width(out->at.family);
    if (text.p && (!span_u64(text, &bits) || bits > width(out->at.family)))
        return err_set(e, EXIT_BAD_CONFIG, "the prefix length of \"%.*s\" is none", SPAN_FMT(all));
    out->bits = (unsigned)bits;
    for (unsigned i = out->bits; i < width(out->at.family); i++)
        if (out->at.address[i / 8] >> (7 - i % 8) & 1)
            return err_set(e, EXIT_BAD_CONFIG, "\"%.*s\" has bits set behind its prefix",
                           SPAN_FMT(all));
    return 0;
}

int address_nets_init(struct address_nets *out, const struct cfg_strs *texts, struct err *e)
{
    *out = (struct address_nets){ xcalloc(texts->n + 1, sizeof *out->v), 0 };
    for (size_t i = 0; i < texts->n; i++) {
        if (address_net_parse(span_str(texts->v[i]), &out->v[i], e)) {
            address_nets_close(out);
            return -1;
        }
        out->n++;
    }
    return 0;
}

void address_nets_close(struct address_nets *nets)
{
    free(nets->v);
    *nets = (struct address_nets){ NULL, 0 };
}

bool address_is_local(const struct net_peer *p)
{
    static const uint8_t v6[16] = { [15] = 1 };

    return p->family == AF_UNIX || (p->family == AF_INET && p->address[0] == 127) ||
           (p->family == AF_INET6 && !memcmp(p->address, v6, sizeof v6));
}

bool address_in(const struct address_nets *nets, const struct net_peer *p)
{
    for (size_t i = 0; i < nets->n; i++)
        if (nets->v[i].at.family == p->family &&
            same_prefix(nets->v[i].at.address, p->address, nets->v[i].bits))
            return true;
    return false;
}

/* --- behind proxies ------------------------------------------------------------------------------
 */

/* Cuts the last element of a comma-separated list off its end. Quotes hide no comma: an address
 * holds none, and what else stands there is not understood anyway. */
static struct span cut_last(struct span *list)
{
    size_t at = list->n;
    struct span last;

    while (at && list->p[at - 1] != ',')
        at--;
    last = span_trim(span_of(list->p + at, list->n - at));
    list->n = at ? at - 1 : 0;
    return last;
}

/* "192.0.2.1", "192.0.2.1:80", "2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:80" */
static bool node(struct span s, struct net_peer *out)
{
    const char *end;

    if (s.n && s.p[0] == '[') {
        end = memchr(s.p, ']', s.n);
        return end && address_parse(span_of(s.p + 1, (size_t)(end - s.p) - 1), out);
    }
    if (address_parse(s, out))
        return true;
    end = memchr(s.p, ':', s.n);
    return end && address_parse(span_of(s.p, (size_t)(end - s.p)), out);
}

/* The `for` of one element of Forwarded, its quotes taken off; the whole of X-Forwarded-For's. */
static struct span named(struct span element, enum address_header header)
{
    struct span pair;

    if (header == ADDRESS_X_FORWARDED_FOR)
        return element;
    while (element.p) {
        pair = span_trim(span_cut(&element, ';'));
        if (pair.n < 4 || !span_ieq(span_of(pair.p, 4), S("for=")))
            continue;
        pair = span_of(pair.p + 4, pair.n - 4);
        if (pair.n > 1 && pair.p[0] == '"' && pair.p[pair.n - 1] == '"')
            pair = span_of(pair.p + 1, pair.n - 2);
        return pair;
    }
    return SPAN_NONE;
}

void address_behind_proxies(const struct http_request *req, const char *bytes,
                            const struct address_nets *trusted, enum address_header header,
                            struct net_peer *p)
{
    struct span name = header == ADDRESS_FORWARDED ? S("forwarded") : S("x-forwarded-for");

    if (header == ADDRESS_NO_HEADER)
        return;
    /* Several lines are one list (RFC 9110 5.3): the last line holds its end. */
    for (uint32_t i = req->fields_n; i-- > 0;) {
        const struct http_field *f = &req->fields[i];
        struct span list = span_of(bytes + f->value, f->value_len);
        if (!span_ieq(span_of(bytes + f->name, f->name_len), name))
            continue;
        while (list.n) {
            struct span one = named(cut_last(&list), header);
            if (!address_in(trusted, p) || !one.n || !node(one, p))
                return;
        }
    }
}
