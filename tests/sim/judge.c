/* SPDX-License-Identifier: Apache-2.0 */
/* What must be true after a crash: P1, P3, P4 and P6 in their plainest words. */
#include "sim.h"

#include <stdarg.h>
#include <string.h>

#include "wal/io.h"

char violation_text[512];

bool violated(const char *fmt, ...)
{
    va_list ap;

    if (violation_text[0])
        return false;
    va_start(ap, fmt);
    vsnprintf(violation_text, sizeof violation_text, fmt, ap);
    va_end(ap);
    return false;
}

static bool same(const struct record *rec, const struct item *it)
{
    struct record want;

    if (!it)
        return false;
    item_record(it, &want);
    return rec->kind == want.kind && rec->time_ms == want.time_ms &&
           span_eq(rec->source, want.source) && span_eq(rec->id, want.id) &&
           span_eq(rec->type, want.type) && span_eq(rec->subject, want.subject) &&
           span_eq(rec->content_type, want.content_type) && span_eq(rec->headers, want.headers) &&
           span_eq(rec->body, want.body);
}

/* All that is retained, in order; *first is the first of it. `damage`: the reader may stop, if it
 * says so. */
static bool judge_records(struct wal *w, const struct facts *f, struct item **by_lsn, bool damage,
                          uint64_t *first)
{
    struct err e = ERR_INIT;
    struct wal_reader *r;
    struct record rec;
    uint64_t lsn = 0;
    enum wal_read got;
    bool good = true;

    *first = atomic_load(&w->first_lsn);
    if (wal_reader_open(&r, w, *first - 1, &e))
        return violated("no reader: %s", e.text);
    lsn = *first - 1;
    while (good && (got = wal_reader_next(r, &rec, NULL, &e)) == WAL_READ_OK) {
        lsn++;
        if (rec.lsn != lsn)
            good = violated("LSN %llu follows %llu", (unsigned long long)rec.lsn,
                            (unsigned long long)lsn - 1);
        else if (lsn >= LSNS || !same(&rec, by_lsn[lsn]))
            good = violated("P1: LSN %llu is not what was logged", (unsigned long long)lsn);
    }
    wal_reader_close(r);
    if (!good || (got == WAL_READ_DAMAGED && damage))
        return good;
    if (got != WAL_READ_END)
        return violated("reading LSN %llu: %d %s", (unsigned long long)lsn + 1, (int)got, e.text);
    return lsn >= f->promised ? true
                              : violated("P1: LSN %llu was acknowledged, the log ends at %llu",
                                         (unsigned long long)f->promised, (unsigned long long)lsn);
}

static bool judge_keys(struct wal *w, const struct facts *f, struct truth *t, struct item **by_lsn)
{
    for (uint64_t lsn = 1; lsn <= f->promised; lsn++) {
        struct sidecar_entry found;
        struct item *it = by_lsn[lsn];
        struct record rec;
        static const uint8_t none[16];
        if (!it)
            return violated("LSN %llu was promised and never given", (unsigned long long)lsn);
        if (!memcmp(it->key, none, sizeof none)) {
            item_record(it, &rec);
            dedup_key(w->dedup_key, &rec, it->key);
            t->has_keys = true;
        }
        if (!dedup_find(w->dedup, it->key, it->time_ms, &found) || found.lsn != lsn)
            return violated("P6: the delivery of LSN %llu is not known any more",
                            (unsigned long long)lsn);
    }
    return true;
}

bool judge_log(struct wal *w, const struct facts *f, struct truth *t, struct item **by_lsn)
{
    uint64_t first;

    return judge_records(w, f, by_lsn, false, &first) && judge_keys(w, f, t, by_lsn);
}

static bool judge_dead(struct wal *w, unsigned k, uint64_t up_to, struct item **by_lsn)
{
    static bool found[LSNS];
    struct err e = ERR_INIT;
    char *text, name[64];
    size_t n, at = 0, step;
    struct record rec;

    memset(found, 0, (size_t)up_to + 1);
    snprintf(name, sizeof name, "sink-%s.dead", sim_sinks[k]);
    if (file_slurp(w->dir, name, &text, &n, &e))
        n = 0;
    for (; at < n; at += step ? step : 8) {
        step = format_get_record((uint8_t *)text + at, n - at, &rec, 0, at);
        if (step && rec.lsn <= up_to)
            found[rec.lsn] = true;
    }
    free(text);
    for (uint64_t lsn = 1; lsn <= up_to; lsn++)
        if (by_lsn[lsn] && by_lsn[lsn]->poison && !found[lsn])
            return violated("P2: sink %s passed LSN %llu, its dead letter is gone", sim_sinks[k],
                            (unsigned long long)lsn);
    return true;
}

static bool judge_sink(struct wal *w, const struct facts *f, unsigned k, struct item **by_lsn)
{
    struct err e = ERR_INIT;
    struct wal_cursor *c;
    struct wal_dead *d;
    uint64_t lsn;
    bool changed;

    if (f->sinks[k].made && !wal_cursor_exists(w, sim_sinks[k]))
        return violated("the cursor of sink %s is gone", sim_sinks[k]);
    if (wal_cursor_open(w, sim_sinks[k], 0, 7, 0, &c, &changed, &e))
        return violated("cursor: %s", e.text);
    lsn = wal_cursor_lsn(c);
    wal_cursor_close(c);
    if (lsn < f->sinks[k].synced)
        return violated("the cursor of sink %s was synced at LSN %llu and stands at %llu",
                        sim_sinks[k], (unsigned long long)f->sinks[k].synced,
                        (unsigned long long)lsn);
    if (lsn > f->sinks[k].set)
        return violated("the cursor of sink %s leads: LSN %llu, it came to %llu", sim_sinks[k],
                        (unsigned long long)lsn, (unsigned long long)f->sinks[k].set);
    if (f->sinks[k].made && lsn + 1 < atomic_load(&w->first_lsn))
        return violated("sink %s needs LSN %llu, the log starts at %llu", sim_sinks[k],
                        (unsigned long long)lsn + 1, (unsigned long long)w->first_lsn);
    if (wal_dead_open(w, sim_sinks[k], MIB(1), &d, &e))
        return violated("dead letters: %s", e.text);
    wal_dead_close(d);
    return judge_dead(w, k, MAX(lsn, f->sinks[k].dead), by_lsn);
}

static int open_here(struct wal **w, struct err *e)
{
    struct wal_cfg cfg = sim_cfg();
    struct wal_dedup_cfg dedup = sim_dedup_cfg();
    int rc;

    disk_recovering = true;
    rc = wal_open(w, &cfg, &dedup, e);
    disk_recovering = false;
    return rc;
}

bool judge_start(const struct facts *f, struct truth *t)
{
    struct item **by_lsn = f->opened ? t->after : t->before;
    struct err e = ERR_INIT;
    struct wal *w;
    bool good;

    if (open_here(&w, &e))
        return violated("P4: the start was refused, %d: %s", e.code, e.text);
    disk_event(EVENT_PROMISED, 0, wal_durable_lsn(w)); /* sinks may have it from now on */
    good = judge_log(w, f, t, by_lsn);
    for (unsigned k = 0; k < SINKS && good; k++)
        good = judge_sink(w, f, k, by_lsn);
    wal_close(w);
    return good;
}

bool judge_verify(void)
{
    struct err e = ERR_INIT;
    char *said = NULL;
    size_t n;
    FILE *out = open_memstream(&said, &n);
    int rc = wal_verify(sim_cfg().dir, out, &e);

    fclose(out);
    rc = rc && e.code == EXIT_DAMAGED; /* a folder without a segment is no log yet */
    if (rc)
        violated("`log verify` says of a log that is right: %d %s: %.200s", e.code, e.text, said);
    free(said);
    return !rc;
}

/* --- damage
 * ------------------------------------------------------------------------------------ */

struct batch_at {
    int file;
    uint64_t pos, last, bytes, durable;
    bool has;
};

static bool is_copy(const uint8_t *p, size_t n, uint64_t salt, uint64_t pos, struct marker *m)
{
    struct record rec;

    return format_get_record(p, n, &rec, salt, pos) && rec.kind == RECORD_MARKER &&
           format_get_marker(rec.body, m) && m->kind == MARKER_COPY;
}

/* Those of one segment. A copy that is not complete is no proof but for where it begins: it says
 * that what it copied before is durable now, in itself. */
static size_t list_segment(const struct image *im, int number, struct batch_at *v, size_t most)
{
    const struct file *file = &im->files[number];
    struct segment_header s;
    struct batch_header h;
    struct marker m = { .kind = MARKER_CLOSING };
    uint64_t pos = SEGMENT_HEADER;
    size_t n = 0;
    bool copy = false;

    if (file->n < SEGMENT_HEADER || format_get_segment(file->p, &s))
        return 0;
    while (n < most && pos + BATCH_HEADER <= file->n &&
           format_get_batch(file->p + pos, &h, s.salt, pos) &&
           pos + BATCH_HEADER + h.length <= file->n) {
        if (!n)
            copy = is_copy(file->p + pos + BATCH_HEADER, h.length, s.salt, pos + BATCH_HEADER, &m);
        v[n++] = (struct batch_at){ number,   pos,           h.first_lsn + h.count - 1,
                                    h.length, h.durable_lsn, h.count > 0 };
        copy &= !(h.flags & BATCH_COPY_DONE);
        pos += BATCH_HEADER + h.length;
    }
    for (size_t i = 0; copy && i < n; i++) {
        v[i].has = false;
        v[i].durable = MIN(v[i].durable, m.last_lsn);
    }
    return n;
}

static size_t list_batches(const struct image *im, struct batch_at *v, size_t most)
{
    size_t n = 0;

    for (size_t i = 0; i < im->names_n; i++)
        if (strlen(im->names[i].s) == 20 && !strcmp(im->names[i].s + 16, ".wal"))
            n += list_segment(im, im->names[i].file, v + n, most - n);
    return n;
}

bool judge_damage(struct image *im, const struct facts *f, struct truth *t, struct rng *rng,
                  bool *done)
{
    struct batch_at v[2048], *b;
    size_t n = list_batches(im, v, ARRAY_LEN(v));
    struct item **by_lsn = f->opened ? t->after : t->before;
    struct err e = ERR_INIT;
    uint64_t sure = 0, first, at;
    struct wal *w;
    uint8_t byte;
    bool good;

    *done = false;
    if (!n)
        return true;
    b = &v[rng_below(rng, (unsigned)n)];
    for (size_t i = 0; i < n; i++)
        if (&v[i] != b)
            sure = MAX(sure, v[i].durable);
    for (unsigned k = 0; k < SINKS; k++)
        sure = MAX(sure, f->sinks[k].synced);
    if (!b->has || b->last > sure || b->last > f->promised)
        return true;
    *done = true;
    at = b->pos + rng_below(rng, (unsigned)(BATCH_HEADER + b->bytes));
    byte = im->files[b->file].p[at] ^ (uint8_t)(1u << rng_below(rng, 8));
    image_write(im, b->file, at, &byte, 1);
    disk_load(im, NULL);
    if (open_here(&w, &e))
        return e.code == EXIT_DAMAGED && e.text[0]
                   ? true
                   : violated("P4: damage was told as %d %s", e.code, e.text);
    good = judge_records(w, f, by_lsn, true, &first);
    wal_close(w);
    return good;
}

/* --- going on
 * ---------------------------------------------------------------------------------- */

static void nothing(struct msg *m UNUSED, void *self UNUSED)
{
}

/* The new records are none of the truth's: the second start must have them all the same. */
bool judge_going_on(uint64_t seed)
{
    struct wal_append more[8];
    struct msg_list l = { NULL, NULL };
    struct msg failed = { .deliver = nothing };
    struct err e = ERR_INIT;
    struct inbox in;
    struct wal *w;
    uint64_t last;
    bool good = true;

    inbox_init(&in);
    sched_begin(seed);
    if (open_here(&w, &e))
        good = violated("P4: the start was refused, %d: %s", e.code, e.text);
    if (good) {
        last = wal_durable_lsn(w);
        wal_start(w, &in, &failed);
        for (size_t i = 0; i < ARRAY_LEN(more); i++) {
            more[i] = (struct wal_append){ .reply = &in,
                                           .done = nothing,
                                           .rec = { .kind = RECORD_INTERNAL, .body = S("more") } };
            msg_list_add(&l, &more[i].msg);
        }
        wal_submit(w, &l);
        wal_close(w);
        inbox_run(&in, NULL);
        for (size_t i = 0; i < ARRAY_LEN(more) && good; i++)
            if (more[i].result != WAL_DURABLE || more[i].lsn != last + 1 + i)
                good = violated("the log does not go on behind LSN %llu", (unsigned long long)last);
    }
    sched_end();
    inbox_close(&in);
    if (!good || open_here(&w, &e))
        return violated("the start after going on was refused, %d: %s", e.code, e.text);
    if (wal_durable_lsn(w) != last + ARRAY_LEN(more))
        good = violated("the log goes to LSN %llu, it ended at %llu",
                        (unsigned long long)wal_durable_lsn(w),
                        (unsigned long long)last + ARRAY_LEN(more));
    wal_close(w);
    return good;
}
