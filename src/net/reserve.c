/* SPDX-License-Identifier: Apache-2.0 */
/* TCP addresses bound ahead, by a process that is about to give up the right to bind them. Nobody
 * can connect yet: they listen once net_bind() asks for them. Main thread; empty but for the time
 * between the two. */
#include <netdb.h>
#include <string.h>
#include <unistd.h>

#include "room.h"

struct reserved {
    struct reserved *next;
    struct sockaddr_storage at;
    socklen_t n;
    int fd;
};

static struct reserved *all;

/* What the kernel chooses is free for everybody. */
static bool is_chosen(const struct sockaddr *a)
{
    return ((const struct sockaddr_in *)a)->sin_port == 0; /* where sin6_port is, too */
}

int net_reserve(const char *address, unsigned sockets, struct err *e)
{
    struct addrinfo *ai = NULL;
    int rc = 0;

    if (!strncmp(address, "unix:", 5))
        return 0;
    if (net_resolve(address, &ai, e) || !ai)
        return -1;
    for (unsigned i = 0; i < sockets && !rc && !is_chosen(ai->ai_addr); i++) {
        struct reserved *r = xcalloc(1, sizeof *r);
        *r = (struct reserved){ .next = all, .n = ai->ai_addrlen };
        memcpy(&r->at, ai->ai_addr, ai->ai_addrlen);
        r->fd = net_bind_tcp(address, ai, sockets > 1, e);
        rc = r->fd < 0 ? -1 : 0;
        all = r;
    }
    freeaddrinfo(ai);
    return rc;
}

int net_reserved(const struct addrinfo *ai)
{
    for (struct reserved **at = &all; *at; at = &(*at)->next) {
        struct reserved *r = *at;
        int fd = r->fd;
        if (r->n != ai->ai_addrlen || memcmp(&r->at, ai->ai_addr, r->n) != 0)
            continue;
        *at = r->next;
        free(r);
        return fd;
    }
    return -1;
}
