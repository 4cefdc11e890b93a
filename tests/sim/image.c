/* SPDX-License-Identifier: Apache-2.0 */
/* What may lie on the disk after a crash. A write is sure once a sync of its file that began after
 * it has returned; a change of a name once such a sync of the folder has. Of everything else any
 * part may be there, in any combination: that is what reordering comes down to. */
#include "sim.h"

#include <string.h>

void walk_end(struct walk *w)
{
    image_free(&w->stable);
    free(w->pending);
}

static void note_event(struct facts *f, const struct op *o)
{
    switch (o->event) {
    case EVENT_PROMISED:
        f->promised = MAX(f->promised, o->lsn);
        break;
    case EVENT_OPENED:
        f->opened = true;
        f->promised = MAX(f->promised, o->lsn);
        break;
    case EVENT_CURSOR_MADE:
        f->sinks[o->sink].made = true;
        break;
    case EVENT_CURSOR_SET:
        f->sinks[o->sink].set = MAX(f->sinks[o->sink].set, o->lsn);
        break;
    case EVENT_CURSOR_SYNCED:
        f->sinks[o->sink].synced = MAX(f->sinks[o->sink].synced, o->lsn);
        break;
    case EVENT_DEAD:
        f->sinks[o->sink].dead = MAX(f->sinks[o->sink].dead, o->lsn);
        break;
    }
}

static bool is_of(const struct op *o, int file)
{
    bool name = o->kind == OP_CREATE || o->kind == OP_RENAME || o->kind == OP_UNLINK;

    return file == FOLDER ? name : !name && o->file == file;
}

/* An earlier write to the same place, which this sync does not cover: its own sync has failed. */
static bool lies_over_lost(const struct walk *w, size_t n, const struct op *o)
{
    for (size_t i = 0; i < n; i++) {
        const struct op *old = &w->ops->v[w->pending[i].op];
        if (old->kind == OP_WRITE && o->kind == OP_WRITE && old->file == o->file &&
            old->off < o->off + o->n && o->off < old->off + old->n)
            return true;
    }
    return false;
}

static void settle(struct walk *w, const struct op *sync, size_t at)
{
    size_t kept = 0;

    for (size_t i = 0; i < w->pending_n; i++) {
        struct pending p = w->pending[i];
        const struct op *o = &w->ops->v[p.op];
        bool covered = p.op < sync->began && is_of(o, sync->file) && at < o->lost_at;
        if (covered)
            image_apply(&w->stable, o);
        if (!covered || lies_over_lost(w, kept, o))
            w->pending[kept++] = (struct pending){ p.op, p.sure || covered };
    }
    w->pending_n = kept;
}

bool walk_step(struct walk *w)
{
    const struct op *o;

    if (w->at == w->ops->n)
        return false;
    o = &w->ops->v[w->at];
    if (o->kind == OP_SYNC) {
        settle(w, o, w->at);
    } else if (o->kind == OP_EVENT) {
        note_event(&w->facts, o);
    } else {
        if (w->pending_n == w->pending_cap) {
            w->pending_cap = w->pending_cap ? 2 * w->pending_cap : 64;
            w->pending = xrealloc(w->pending, w->pending_cap * sizeof *w->pending);
        }
        w->pending[w->pending_n++] = (struct pending){ w->at, o->sure };
    }
    w->at++;
    return true;
}

void walk_begin(struct walk *w, const struct image *base, const struct record_of_ops *ops,
                const struct facts *facts)
{
    *w = (struct walk){ .ops = ops, .facts = *facts };
    image_copy(&w->stable, base);
    while (w->at < ops->carried && walk_step(w))
        ;
}

/* Pieces of so many bytes, at multiples of it: a first part, a last part, or any. */
static void tear(struct image *im, const struct op *o, size_t piece, struct rng *rng)
{
    uint64_t first = o->off / piece, last = (o->off + o->n - 1) / piece;
    unsigned n = (unsigned)(last - first + 1), cut = rng_below(rng, n + 1), how = rng_below(rng, 3);

    for (uint64_t i = first; i <= last; i++) {
        uint64_t from = MAX(i * piece, o->off), to = MIN((i + 1) * piece, o->off + o->n);
        bool keep = how == 0 ? i - first < cut : how == 1 ? i - first >= cut : rng_one_in(rng, 2);
        if (keep)
            image_write(im, o->file, from, o->data + (from - o->off), (size_t)(to - from));
    }
}

static void apply_some(struct image *im, const struct op *o, struct rng *rng)
{
    switch (o->kind == OP_WRITE && o->n ? rng_below(rng, 5) : rng_below(rng, 2)) {
    case 0:
        break;
    case 1:
        image_apply(im, o);
        break;
    case 2: /* the length came, the bytes did not */
        if (o->off + o->n > im->files[o->file].n && o->n)
            image_write(im, o->file, o->off + o->n - 1, (const uint8_t *)"", 1);
        break;
    case 3:
        tear(im, o, SECTOR, rng);
        break;
    case 4:
        tear(im, o, 4096, rng);
        break;
    }
}

void walk_image(const struct walk *w, unsigned variant, struct rng *rng, struct image *out)
{
    size_t n = w->pending_n, odd = n ? rng_below(rng, (unsigned)n) : 0;

    image_borrow(out, &w->stable);
    for (size_t i = 0; i < n; i++)
        image_fit(out, w->ops->v[w->pending[i].op].file);
    for (size_t i = 0; i < n; i++) {
        const struct op *o = &w->ops->v[w->pending[i].op];
        if (w->pending[i].sure || variant == 1 || (variant == 2 && i != odd) ||
            (variant == 3 && i == odd))
            image_apply(out, o);
        else if (variant > 3)
            apply_some(out, o, rng);
    }
}

void walk_kill(const struct walk *w, struct image *base, struct record_of_ops *pending)
{
    image_copy(base, &w->stable);
    *pending = (struct record_of_ops){ .n = 0 };
    for (size_t i = 0; i < w->pending_n; i++) {
        struct op o = w->ops->v[w->pending[i].op];
        uint8_t *data = o.data ? xmalloc(o.n) : NULL;
        if (data)
            memcpy(data, o.data, o.n);
        o.data = data;
        o.lost_at = o.lost_at < w->at ? 0 : SIZE_MAX;
        o.sure = w->pending[i].sure;
        ops_add(pending, &o);
    }
}
