/* SPDX-License-Identifier: Apache-2.0 */
/* Look-ups by path: one pass over the text, each byte looked at once, no recursion, no allocation.
 *
 * A path descends with the first member that its next key names and never comes back: when that
 * member ends without an answer, there is none. So a path is one position (what is left of it, and
 * the depth at which it looks), whatever the text does, and the pass ends with the last path. The
 * brackets that are open are a bit each. A broken text ends the pass; what was found before stays.
 */
#include <string.h>

#include "room.h"

#define PATHS_MAX 16
#define DEPTH_MAX (1 << 17) /* 16 KiB of bits */
#define KEY_MAX 512         /* longer keys with escapes match nothing */

struct want {
    struct span rest; /* of the path, behind what was matched; p == NULL: all of it was */
    size_t depth;     /* of the members it is compared with, or of the answer that is open */
    uint64_t index;   /* in an array: elements still to pass */
};

struct walk {
    const char *p, *end;
    struct json_value *out;
    struct want want[PATHS_MAX];
    size_t n;
    unsigned looking,
        open;      /* bits of want: on the way down; answered, but the end is not reached */
    unsigned here; /* those of looking that wait for a member of this object or array */
    size_t depth;
    uint64_t object[DEPTH_MAX / 64]; /* a bit a level; else it is an array */
};

#define BIT(i) (1u << (i))

static bool in_object(const struct walk *w)
{
    return w->object[(w->depth - 1) / 64] >> (w->depth - 1) % 64 & 1;
}

/* Array elements are counted down, so a path's number is read once. "01" names no element. */
static bool index_of(struct want *want)
{
    struct span rest = want->rest, first = span_cut(&rest, '.');

    return span_u64(first, &want->index) && (first.n == 1 || first.p[0] != '0');
}

/* w->p at the opening bracket; hits are the paths that this value was for. */
static bool enter(struct walk *w, unsigned hits)
{
    bool object = *w->p == '{';
    uint64_t bit = UINT64_C(1) << w->depth % 64;

    if (w->depth == DEPTH_MAX)
        return false;
    if (w->depth % 64 == 0)
        w->object[w->depth / 64] = 0;
    w->object[w->depth / 64] = (w->object[w->depth / 64] & ~bit) | (object ? bit : 0);
    w->depth++;
    for (size_t i = 0; hits >> i; i++) {
        if (!(hits & BIT(i)))
            continue;
        w->want[i].depth = w->depth;
        if (!w->want[i].rest.p) {
            w->out[i].raw.p = w->p;
            w->open |= BIT(i);
        }
        if (!w->want[i].rest.p || (!object && !index_of(&w->want[i])))
            w->looking &= ~BIT(i);
    }
    w->here = hits & w->looking;
    w->p++;
    return true;
}

/* w->p at the closing bracket. Paths that still look in here are at their end. */
static void leave(struct walk *w)
{
    w->p++;
    w->here = 0;
    for (size_t i = 0; i < w->n; i++) {
        if (w->want[i].depth == w->depth) {
            if (w->open & BIT(i)) {
                w->out[i].type = in_object(w) ? JSON_OBJECT : JSON_ARRAY;
                w->out[i].raw.n = (size_t)(w->p - w->out[i].raw.p);
            }
            w->looking &= ~BIT(i);
            w->open &= ~BIT(i);
        } else if (w->want[i].depth == w->depth - 1) {
            w->here |= w->looking & BIT(i);
        }
    }
    w->depth--;
}

static const char *scalar_end(const char *p, const char *end, struct json_value *v)
{
    switch (*p) {
    case '"':
        v->type = JSON_STRING;
        return token_string(p, end, &v->escaped);
    case 't':
        v->type = JSON_TRUE;
        return token_word(p, end, S("true"));
    case 'f':
        v->type = JSON_FALSE;
        return token_word(p, end, S("false"));
    case 'n':
        v->type = JSON_NULL;
        return token_word(p, end, S("null"));
    default:
        v->type = JSON_NUMBER;
        return token_number(p, end);
    }
}

/* "1x" is no number with something behind it. */
static bool delimited(const char *p, const char *end)
{
    return p == end || (*p && strchr(" \t\r\n,]}", *p));
}

static bool scalar(struct walk *w, unsigned hits)
{
    struct json_value v = { .type = JSON_NONE };
    const char *start = w->p, *stop = scalar_end(start, w->end, &v);

    if (!stop || !delimited(stop, w->end))
        return false;
    w->p = stop;
    v.raw = v.type == JSON_STRING ? span_of(start + 1, (size_t)(stop - start - 2))
                                  : span_of(start, (size_t)(stop - start));
    for (size_t i = 0; hits >> i; i++)
        if (hits & BIT(i) && !w->want[i].rest.p)
            w->out[i] = v;
    w->looking &= ~hits;
    return true;
}

/* Whether the first piece of a path is this key; takes it off then. A key can hold a dot, a piece
 * cannot. */
static bool take_piece(struct span *path, struct span key)
{
    if (path->n < key.n || (path->n > key.n && path->p[key.n] != '.') ||
        memcmp(path->p, key.p, key.n) != 0 || memchr(key.p, '.', key.n))
        return false;
    *path = path->n == key.n ? SPAN_NONE : span_of(path->p + key.n + 1, path->n - key.n - 1);
    return true;
}

/* Moves the paths that name this key; they look at no other member of this object. */
static unsigned match_key(struct walk *w, struct span key)
{
    unsigned hits = 0;

    for (size_t i = 0; w->here >> i; i++) {
        if (w->here & BIT(i) && take_piece(&w->want[i].rest, key))
            hits |= BIT(i);
    }
    w->here &= ~hits;
    return hits;
}

static unsigned match_index(struct walk *w)
{
    unsigned hits = 0;

    for (size_t i = 0; w->here >> i; i++) {
        if (!(w->here & BIT(i)) || w->want[i].index--)
            continue;
        span_cut(&w->want[i].rest, '.');
        hits |= BIT(i);
    }
    w->here &= ~hits;
    return hits;
}

/* The same name may be spelled with escapes. */
static unsigned match_escaped(struct walk *w, struct span raw)
{
    char text[KEY_MAX];
    struct buf key = { text, 0, sizeof text }; /* never grows: a text is as long as its escapes */

    return raw.n <= sizeof text && json_unescape(raw, &key) ? match_key(w, buf_as_span(&key)) : 0;
}

/* w->p where a member begins, which in an object is its key; leaves it at the value. */
static bool member(struct walk *w, unsigned *hits)
{
    const char *start = w->p, *stop;
    struct span raw;
    bool escaped;

    if (!in_object(w)) {
        *hits = w->here ? match_index(w) : 0;
        return true;
    }
    stop = token_string(start, w->end, &escaped);
    if (!stop)
        return false;
    raw = span_of(start + 1, (size_t)(stop - start - 2));
    *hits = !w->here ? 0 : escaped ? match_escaped(w, raw) : match_key(w, raw);
    w->p = token_blanks(stop, w->end);
    if (w->p == w->end || *w->p != ':')
        return false;
    w->p = token_blanks(w->p + 1, w->end);
    return true;
}

/* Whether the object or array that we are in ends here. */
static bool closes(const struct walk *w)
{
    return w->p < w->end && *w->p == (in_object(w) ? '}' : ']');
}

static void walk(struct walk *w)
{
    unsigned hits = w->looking;

    while (w->p < w->end) {
        if (*w->p != '{' && *w->p != '[') {
            if (!scalar(w, hits))
                return;
        } else {
            if (!enter(w, hits))
                return;
            w->p = token_blanks(w->p, w->end);
            if (!closes(w)) {
                if (!member(w, &hits))
                    return;
                continue;
            }
        }
        for (w->p = token_blanks(w->p, w->end); w->depth && closes(w);
             w->p = token_blanks(w->p, w->end))
            leave(w);
        if (!(w->looking | w->open) || w->p == w->end || *w->p != ',')
            return;
        w->p = token_blanks(w->p + 1, w->end);
        if (!member(w, &hits))
            return;
    }
}

void json_find_all(struct span text, const struct span *paths, size_t n, struct json_value *out)
{
    struct walk w; /* not zeroed: the bits of a level are set when it is entered */

    w.n = MIN(n, (size_t)PATHS_MAX);
    w.looking = BIT(w.n) - 1;
    w.open = w.here = 0;
    w.depth = 0;
    w.out = out;
    for (size_t i = 0; i < w.n; i++) {
        w.want[i] = (struct want){ .rest = paths[i] };
        out[i] = (struct json_value){ .type = JSON_NONE };
    }
    if (!w.n || !text.n)
        return;
    w.end = text.p + text.n;
    w.p = token_blanks(text.p, w.end);
    walk(&w);
    for (size_t i = 0; i < w.n; i++)
        if (out[i].type == JSON_NONE) /* an answer whose end never came */
            out[i].raw = SPAN_NONE;
}

struct json_value json_find(struct span text, struct span path)
{
    struct json_value v;

    json_find_all(text, &path, 1, &v);
    return v;
}

bool json_next(struct span *rest, struct json_value *element)
{
    const char *end = rest->p + rest->n, *p = token_blanks(rest->p, end);

    if (p == end || (*p != '[' && *p != ','))
        return false;
    p = token_blanks(p + 1, end);
    if (p == end || *p == ']')
        return false;
    *element = json_find(span_of(p, (size_t)(end - p)), SPAN_NONE); /* the value that begins here */
    if (element->type == JSON_NONE)
        return false;
    p = element->raw.p + element->raw.n + (element->type == JSON_STRING);
    *rest = span_of(p, (size_t)(end - p));
    return true;
}
