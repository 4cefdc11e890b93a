/* SPDX-License-Identifier: Apache-2.0 */
/* Ids, and what they are compared with: themselves, and with and without a leading "collection/".
 *
 * Two tables with chains: by the whole id, and by what follows its collection. Ids come from
 * outside, so the place is a polynomial of the bytes at a random point modulo 2^61-1: nobody who
 * does not know the point can make one chain long. */
#include "crypto.h"
#include "room.h"

#define PRIME ((1ull << 61) - 1)

static uint64_t times(uint64_t a, uint64_t b)
{
    unsigned __int128 p = (unsigned __int128)a * b;
    uint64_t r = (uint64_t)(p & PRIME) + (uint64_t)(p >> 61);

    return r >= PRIME ? r - PRIME : r;
}

static struct name **place(const struct names *n, unsigned by, struct span id)
{
    uint64_t h = id.n + 1;

    for (size_t i = 0; i < id.n; i += 7) {
        uint64_t piece = 0;
        memcpy(&piece, id.p + i, MIN(id.n - i, (size_t)7));
        h = times(h + piece, n->key);
    }
    return &n->slot[by][times(h, n->key) & n->mask];
}

/* What follows the collection; the id itself where it has none. */
static struct span bare(struct span id)
{
    const char *slash = id.n ? memchr(id.p, '/', id.n) : NULL;
    size_t n = slash ? (size_t)(slash - id.p) + 1 : 0;

    return n > 1 && n < id.n ? span_of(id.p + n, id.n - n) : id;
}

void names_init(struct names *n, uint64_t entries)
{
    uint64_t slots = 64;

    while (slots < entries)
        slots *= 2;
    crypto_random(&n->key, sizeof n->key);
    n->key = n->key % (PRIME - 2) + 2;
    n->mask = slots - 1;
    for (int by = 0; by < 2; by++)
        n->slot[by] = xcalloc(slots, sizeof *n->slot[by]);
}

void names_free(struct names *n)
{
    free(n->slot[0]);
    free(n->slot[1]);
}

static void chain(struct name *name, unsigned by, struct name **at)
{
    name->next[by] = *at;
    if (*at)
        (*at)->at[by] = &name->next[by];
    name->at[by] = at;
    *at = name;
}

void names_add(struct names *n, struct name *name)
{
    struct span rest = bare(name->id);

    chain(name, 0, place(n, 0, name->id));
    name->at[1] = NULL;
    if (rest.n < name->id.n)
        chain(name, 1, place(n, 1, rest));
}

void names_remove(struct name *name)
{
    for (int by = 0; by < 2; by++) {
        if (!name->at[by])
            continue;
        *name->at[by] = name->next[by];
        if (name->next[by])
            name->next[by]->at[by] = name->at[by];
        name->at[by] = NULL;
    }
}

void names_find(const struct names *n, struct span id, struct names_walk *walk)
{
    *walk = (struct names_walk){ .names = n, .id = id, .bare = bare(id) };
    walk->at = *place(n, 0, id);
}

/* The three ways to be meant: the same; named without the collection that was asked with; the other
 * way round. */
struct name *names_next(struct names_walk *w)
{
    for (;;) {
        while (w->at) {
            struct name *name = w->at;
            w->at = name->next[w->phase == 2];
            if (span_eq(w->phase == 2 ? bare(name->id) : name->id, w->phase == 1 ? w->bare : w->id))
                return name;
        }
        if (w->phase == 2)
            return NULL;
        w->phase += w->phase == 0 && w->bare.n == w->id.n ? 2 : 1;
        w->at = *place(w->names, w->phase == 2, w->phase == 1 ? w->bare : w->id);
    }
}
