/* SPDX-License-Identifier: Apache-2.0 */
/* `hookline log repair`, and the start under `log.on_damage: quarantine`: from a folder that is
 * damaged to one that starts, with everything in it that can be read, and with every LSN accounted
 * for that cannot. Offline, under the folder's lock.
 *
 * Segments are mended from the oldest to the youngest, so that each can say what the next one's
 * opening record must be. Every step leaves a folder that the next run goes on from: what was done
 * is not done again, and what was not is found again. */
#include "repair.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "crypto.h"
#include "log.h"

#define LEAST_RECORD 56 /* a header and a name of one letter */

void repair_say(struct repair *rp, const char *what, const char *name, const char *kept)
{
    if (!rp->out)
        log_warn(what, KS("file", name), KS("kept", kept));
    else if (*kept)
        fprintf(rp->out, "%s: %s; kept as %s\n", name, what, kept);
    else
        fprintf(rp->out, "%s: %s\n", name, what);
}

static void print_lsns(FILE *out, const struct loss *l)
{
    if (!l->first_lsn)
        fprintf(out, "no event lost");
    else if (l->first_lsn == l->last_lsn)
        fprintf(out, "LSN %" PRIu64 " lost", l->first_lsn);
    else
        fprintf(out, "LSN %" PRIu64 "..%" PRIu64 " lost", l->first_lsn, l->last_lsn);
}

/* Says what was set aside, and keeps count. */
static void tell(void *arg, const struct loss *l, const char *kept)
{
    struct repair *rp = arg;
    char name[32];

    segment_name(l->segment, name);
    rp->did = true;
    rp->lost += l->first_lsn ? l->last_lsn - l->first_lsn + 1 : 0;
    if (!rp->out) {
        quarantine_log(l, kept, rp->delivered_lsn);
        return;
    }
    fprintf(rp->out, "seg %s off %" PRIu64 ": ", name, l->offset);
    print_lsns(rp->out, l);
    fprintf(rp->out, "; %" PRIu64 " bytes kept in %s\n", l->bytes, kept);
}

static int mend(struct repair *rp, struct mend *m, struct place *p, struct err *e)
{
    int rc;

    m->dir = rp->w->dir;
    m->tell = tell;
    m->arg = rp;
    m->head = p->head;
    m->head_bad = p->head_bad;
    rc = mend_look(m, p->fd, e);
    if (!rc && m->n) {
        rp->did = true;
        rc = mend_write(m, p->fd, e);
        if (!rc)
            rc = quarantine_forget(rp->w, m, rp->delivered_lsn, e);
    }
    rp->at = (struct marker){ MARKER_OPENING, p->number, m->next_lsn - 1, m->end ? m->end : m->pos,
                              m->chain };
    mend_free(m);
    return rc;
}

/* With which LSN the oldest segment begins. */
static uint64_t first_of_all(struct repair *rp, struct marker *before)
{
    const struct place *p = &rp->v[0];
    struct sidecar sc;
    uint64_t first = p->first_lsn;

    *before = (struct marker){ MARKER_OPENING, p->number - 1, 0, SEGMENT_HEADER, 0 };
    if (p->number == 1)
        return 1;
    if (p->opened)
        first = p->opening.last_lsn + 1;
    else if (!sidecar_read(rp->w, p->number - 1, &sc)) {
        *before = (struct marker){ MARKER_OPENING, sc.number, sc.last_lsn, sc.end, sc.chain };
        first = sc.last_lsn + 1;
        sidecar_free(&sc);
    } else if (!first && !sidecar_read(rp->w, p->number, &sc)) {
        first = sc.first_lsn;
        sidecar_free(&sc);
    }
    first = first ? first : MAX(p->lowest_lsn, UINT64_C(1));
    before->last_lsn = first - 1;
    return first;
}

/* Where a segment ends, from the best witness: its successor, its sidecar, its own closing record.
 * False: only the LSN in front of its successor's first one is known, if that. */
static bool end_of(struct repair *rp, const struct place *p, const struct place *next,
                   struct marker *m)
{
    struct sidecar sc;

    if (next->opened) {
        *m = next->opening;
        return true;
    }
    if (!sidecar_read(rp->w, p->number, &sc)) {
        *m = (struct marker){ MARKER_OPENING, p->number, sc.last_lsn, sc.end, sc.chain };
        sidecar_free(&sc);
        return true;
    }
    *m = p->closing;
    return p->closed;
}

static int mend_sealed(struct repair *rp, size_t i, uint64_t first, const struct marker *opening,
                       struct err *e)
{
    struct place *p = &rp->v[i], *next = p + 1;
    struct mend m = { .first_lsn = first, .opening = opening };
    struct marker end, closing;
    int rc;

    if (end_of(rp, p, next, &end)) {
        if (end.number != p->number)
            return err_set(e, EXIT_DAMAGED,
                           "wal: segment %016" PRIu64 ".wal does not follow %016" PRIu64 ".wal",
                           next->number, p->number);
        closing = end;
        closing.kind = MARKER_CLOSING;
        m.end = end.end;
        m.last_lsn = end.last_lsn;
        m.closing = end.kind == MARKER_COPY ? NULL : &closing;
    } else {
        m.stop_lsn = next->first_lsn;
        m.last_lsn = next->first_lsn ? next->first_lsn - 1 : 0;
    }
    rc = mend(rp, &m, p, e);
    if (m.end)
        rp->at.chain = end.chain;
    return rc;
}

/* Makes the place of a segment that is gone: nothing but what says which LSNs are lost. The ones
 * that are known to have been in the missing segments up to the next one that is there all go into
 * the first of them. */
static int fill_missing(struct repair *rp, size_t i, uint64_t last, const struct marker *opening,
                        struct err *e)
{
    struct place *p = &rp->v[i];
    const struct place *next = i < rp->last ? p + 1 : NULL;
    struct marker closing = { MARKER_CLOSING, p->number, last, 0, 0 };
    struct mend m = { .first_lsn = opening->last_lsn + 1, .last_lsn = last };

    m.opening = p->number == 1 ? NULL : opening;
    m.end = SEGMENT_HEADER + BATCH_HEADER + MARKER_BYTES +
            (last > opening->last_lsn ? RECORD_HEADER + 8 : 0);
    if (next && next->opened) {
        m.end = next->opening.end;
        closing.chain = next->opening.chain;
    }
    closing.end = m.end;
    if (next)
        m.closing = &closing;
    else /* the last one stays open */
        m.end = 0;
    p->head = (struct segment_header){ .format = FORMAT_VERSION,
                                       .min_reader = 1,
                                       .number = p->number,
                                       .bytes = MAX(rp->w->cfg.segment_bytes,
                                                    (m.end + CLOSING_BYTES + 7) & ~UINT64_C(7)) };
    memcpy(p->head.log_id, rp->w->log_id, sizeof p->head.log_id);
    snprintf(p->head.writer, sizeof p->head.writer, "hookline %s", HOOKLINE_VERSION);
    crypto_random(&p->head.salt, sizeof p->head.salt);
    return mend(rp, &m, p, e);
}

/* The highest LSN that can have stood in the missing segments from i on. */
static uint64_t last_missing(struct repair *rp, size_t i, uint64_t watermark)
{
    while (i <= rp->last && rp->v[i].fd < 0)
        i++;
    if (i > rp->last) /* how many there were is not known: none of them is given again */
        return MAX(watermark, rp->at.last_lsn + rp->w->cfg.segment_bytes / LEAST_RECORD);
    if (rp->v[i].opened)
        return MAX(rp->at.last_lsn, rp->v[i].opening.last_lsn);
    return MAX(rp->at.last_lsn, rp->v[i].first_lsn ? rp->v[i].first_lsn - 1 : 0);
}

static int mend_last(struct repair *rp, uint64_t first, const struct marker *opening,
                     uint64_t watermark, struct err *e)
{
    struct place *p = &rp->v[rp->last];
    struct mend m = { .first_lsn = first,
                      .last_lsn = MAX(watermark, p->durable_lsn),
                      .opening = opening };

    return mend(rp, &m, p, e);
}

static int set_aside(struct repair *rp, uint64_t number, const char *why, struct err *e)
{
    char name[32], kept[64];

    segment_name(number, name);
    rp->did = true;
    if (quarantine_move(rp->w->dir, name, name, kept, e))
        return -1;
    repair_say(rp, why, name, kept);
    return 0;
}

/* It begins in the middle of what the one before it holds. */
static bool repeats(const struct place *p, const struct place *before)
{
    return p->first_lsn && before->fd >= 0 && p->first_lsn <= before->highest_lsn;
}

/* The spare, and what was about to follow, were never begun; a copy that an earlier recovery did
 * not finish is its source's. A last segment that was closed has lost its successor. */
static int find_last(struct repair *rp, struct err *e)
{
    struct place *p;

    for (rp->last = rp->n - 1; rp->last && !rp->v[rp->last].begun; rp->last--)
        if (rp->v[rp->last].fd < 0 && rp->v[rp->last - 1].closed)
            return 0;
    p = &rp->v[rp->last];
    if (rp->last && !p->copy_done &&
        (p->opened ? p->opening.kind == MARKER_COPY : repeats(p, p - 1))) {
        place_close(p);
        if (set_aside(rp, p->number, "a copy that a recovery did not finish", e))
            return -1;
        rp->last--;
    }
    for (size_t i = rp->last + 2; i < rp->n; i++) /* recovery makes them anew */
        if (rp->v[i].fd >= 0 && set_aside(rp, rp->v[i].number, "it holds nothing", e))
            return -1;
    if (rp->v[rp->last].closed && rp->last + 1 == rp->n) {
        rp->v = xrealloc(rp->v, (rp->n + 1) * sizeof *rp->v);
        rp->v[rp->n++] = (struct place){ .number = rp->v[rp->last].number + 1, .fd = -1 };
        rp->last++;
    }
    return 0;
}

static int mend_all(struct repair *rp, struct err *e)
{
    char name[80];
    uint64_t watermark = cursor_highest_on_disk(rp->w, name), first;
    struct marker opening;

    if (find_last(rp, e))
        return -1;
    for (size_t i = 0; i < rp->n; i++)
        rp->w->cfg.segment_bytes = MAX(rp->w->cfg.segment_bytes, rp->v[i].head.bytes);
    first = first_of_all(rp, &opening);
    rp->at.last_lsn = first - 1;
    for (size_t i = 0; i <= rp->last; i++) {
        struct place *p = &rp->v[i];
        bool copied = p->copy_done && i && !rp->v[i - 1].closed;
        int rc;
        if (i) {
            opening = rp->at;
            opening.kind = copied ? MARKER_COPY : MARKER_OPENING;
            first = opening.last_lsn + 1;
        }
        if (p->fd < 0)
            rc = fill_missing(rp, i, last_missing(rp, i, watermark), &opening, e);
        else if (i == rp->last)
            rc = mend_last(rp, first, p->number == 1 ? NULL : &opening, watermark, e);
        else
            rc = mend_sealed(rp, i, first, p->number == 1 ? NULL : &opening, e);
        if (rc)
            return -1;
    }
    return 0;
}

static int no_log(struct repair *rp, struct err *e)
{
    char **names;
    size_t cursors = wal_cursor_names(rp->w, &names);

    file_names_free(names, cursors);
    return err_set(e, cursors ? EXIT_DAMAGED : EXIT_IO,
                   cursors ? "no segment is left in %s, but cursors are: restore a backup"
                           : "no log in %s",
                   rp->w->dir);
}

/* What was set aside now and earlier, from the files that keep it. */
static void sum_up(struct repair *rp)
{
    uint64_t lost = 0;
    char **names;
    size_t n;

    if (!rp->out || io_list(rp->w->dir, &names, &n))
        return;
    for (size_t i = 0; i < n; i++) {
        struct loss l;
        if (!quarantine_read(rp->w->dir, names[i], &l) || !l.first_lsn)
            continue;
        lost += l.last_lsn - l.first_lsn + 1;
        print_lsns(rp->out, &l);
        fprintf(rp->out, ": %s\n", names[i]);
    }
    file_names_free(names, n);
    fprintf(rp->out, "%s: %s; %" PRIu64 " LSNs lost in all\n", rp->w->dir,
            rp->did ? "repaired" : "nothing to repair", lost);
}

static int repair_folder(struct repair *rp, struct err *e)
{
    int rc;

    if (identity_repair(rp, e) || places_settle(rp, e) || places_list(rp, e))
        return -1;
    if (!rp->n)
        return no_log(rp, e);
    rp->delivered_lsn = cursor_lowest_on_disk(rp->w);
    if (rp->delivered_lsn == UINT64_MAX)
        rp->delivered_lsn = 0;
    rc = mend_all(rp, e);
    if (!rc)
        sum_up(rp);
    return rc;
}

int wal_repair(const char *dir, FILE *out, struct err *e)
{
    struct wal w = { .dir = xstrdup(dir), .lock_fd = -1 };
    struct repair rp = { .w = &w, .out = out };
    int rc = -1;

    if (access(dir, F_OK))
        err_errno(e, EXIT_IO, "wal: folder %s", dir);
    else if (!wal_lock(&w, e))
        rc = repair_folder(&rp, e);
    for (size_t i = 0; i < rp.n; i++)
        place_close(&rp.v[i]);
    free(rp.v);
    if (w.lock_fd >= 0)
        io_close(w.lock_fd);
    free(w.dir);
    return rc;
}
