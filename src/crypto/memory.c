/* SPDX-License-Identifier: Apache-2.0 */
/* Out of memory inside OpenSSL or jansson ends the process, as everywhere else. Handed up as an
 * error it would look like a signature that does not fit: the sender would be told 401 for a fault
 * of ours, and some never try again. */
#include <assert.h>
#include <jansson.h>
#include <openssl/crypto.h>
#include <stdlib.h>

#include "room.h"

/* OpenSSL asks for nothing at times, and gives back by asking for nothing. */
static void *take(size_t n, const char *file UNUSED, int line UNUSED)
{
    return n ? xmalloc(n) : NULL;
}

static void give(void *p, const char *file UNUSED, int line UNUSED)
{
    free(p);
}

static void *change(void *p, size_t n, const char *file, int line)
{
    if (n)
        return xrealloc(p, n);
    give(p, file, line);
    return NULL;
}

void crypto_end_without_memory(void)
{
    int set = CRYPTO_set_mem_functions(take, change, give);

    assert(set); /* before its first allocation */
    json_set_alloc_funcs(xmalloc, free);
}
