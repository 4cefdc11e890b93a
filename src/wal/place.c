/* SPDX-License-Identifier: Apache-2.0 */
/* What is left of each segment of a folder, before anything is mended: under which number it
 * belongs, and what in it is right. Files are renamed here, never deleted. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "repair.h"

#define GAP_MOST 100000 /* missing segments in a row that are believed */

void place_close(struct place *p)
{
    if (p->fd >= 0)
        io_close(p->fd);
    p->fd = -1;
}

static void note_batch(struct place *p, struct scan *sc)
{
    struct record rec;
    struct scan at;
    struct marker m;
    struct err ignored = ERR_INIT;

    p->durable_lsn = MAX(p->durable_lsn, sc->batch.durable_lsn);
    p->lowest_lsn = MIN(p->lowest_lsn, sc->batch.first_lsn);
    p->highest_lsn = MAX(p->highest_lsn, sc->batch.first_lsn + sc->batch.count - 1);
    p->begun = true;
    p->copy_done |= (sc->batch.flags & BATCH_COPY_DONE) != 0;
    if (sc->batch.length != MARKER_BYTES)
        return;
    scan_init(
        &at, sc->fd,
        &(struct segment){ .number = p->number, .salt = p->head.salt, .bytes = p->head.bytes },
        sc->pos);
    if (scan_batch(&at, &ignored) == SCAN_BATCH && scan_record(&at, &rec) &&
        rec.kind == RECORD_MARKER && format_get_marker(rec.body, &m) && m.kind == MARKER_CLOSING) {
        p->closed = true;
        p->closing = m;
    }
    scan_free(&at);
}

/* The first batch: the LSN with which the segment begins, and what it says of its predecessor. */
static void look_at_head(struct place *p, struct scan *sc)
{
    struct err ignored = ERR_INIT;
    struct record rec;
    uint8_t raw[BATCH_HEADER];
    struct batch_header h;
    enum scan_result r = scan_batch(sc, &ignored);

    if (r == SCAN_BATCH && scan_record(sc, &rec))
        p->opened = rec.kind == RECORD_MARKER && format_get_marker(rec.body, &p->opening) &&
                    p->opening.kind != MARKER_CLOSING;
    if (r == SCAN_BATCH || r == SCAN_BAD)
        p->first_lsn = sc->batch.first_lsn;
    file_read_what_goes(p->fd, sc->name, raw, sizeof raw, SEGMENT_HEADER);
    if (!p->first_lsn && guess_batch(raw, &h, p->head.salt, SEGMENT_HEADER))
        p->first_lsn = h.first_lsn;
}

static void survey(struct place *p)
{
    struct segment s = { .number = p->number, .salt = p->head.salt, .bytes = p->head.bytes };
    struct err ignored = ERR_INIT;
    struct scan sc;

    scan_init(&sc, p->fd, &s, SEGMENT_HEADER);
    sc.lenient = true;
    look_at_head(p, &sc);
    p->lowest_lsn = p->first_lsn ? p->first_lsn : UINT64_MAX;
    for (sc.pos = SEGMENT_HEADER; scan_resync(&sc, &ignored) == SCAN_BATCH; sc.pos += 8)
        note_batch(p, &sc);
    p->lowest_lsn = p->lowest_lsn == UINT64_MAX ? 0 : p->lowest_lsn;
    scan_free(&sc);
}

static bool is_ours(const struct repair *rp, const struct segment_header *h, uint64_t number)
{
    return h->number == number && identity_is_ours(rp->w, h->log_id);
}

/* A header of which nothing is left but what the batches tell. */
static int make_head(struct repair *rp, struct place *p, uint64_t lowest, struct err *e)
{
    struct segment s = { .number = p->number };
    int rc;

    p->head = (struct segment_header){
        .format = FORMAT_VERSION, .min_reader = 1, .number = p->number, .flags = SEGMENT_RECYCLED
    };
    snprintf(p->head.writer, sizeof p->head.writer, "hookline %s", HOOKLINE_VERSION);
    memcpy(p->head.log_id, rp->w->log_id, sizeof p->head.log_id);
    if (io_size(p->fd, &s.bytes))
        return err_errno(e, EXIT_IO, "wal: stat seg %016llu.wal", (unsigned long long)p->number);
    p->head.bytes = s.bytes = MAX(s.bytes & ~UINT64_C(7), (uint64_t)SEGMENT_HEADER);
    rc = guess_salt(p->fd, &s, lowest, &p->head.salt, e);
    return rc;
}

int place_read(struct repair *rp, struct place *p, uint64_t lowest, struct err *e)
{
    struct segment s = { .number = p->number };
    uint8_t raw[SEGMENT_HEADER];
    char name[32], kept[64];
    int rc;

    if (segment_open_fd(rp->w, &s, e))
        return -1;
    p->fd = s.fd;
    segment_name(p->number, name);
    file_read_what_goes(p->fd, name, raw, sizeof raw, 0);
    rc = format_get_segment(raw, &p->head);
    if (rc == 2)
        return err_set(e, EXIT_BAD_CONFIG, "wal: seg %s has format %u, written by %s", name,
                       p->head.format, p->head.writer);
    p->head_bad = rc != 0;
    if (p->head_bad && !(guess_segment(raw, &p->head) && is_ours(rp, &p->head, p->number))) {
        rc = make_head(rp, p, lowest, e);
        if (rc < 0)
            return -1;
        if (rc > 0) {
            place_close(p);
            rp->did = true;
            if (quarantine_move(rp->w->dir, name, name, kept, e))
                return -1;
            repair_say(rp, "nothing in it can be read", name, kept);
            return 0;
        }
    }
    survey(p);
    return 0;
}

/* --- which file belongs where --------------------------------------------------------------------
 */

static bool number_of(const char *name, const char *suffix, uint64_t *number)
{
    return strlen(name) == 16 + strlen(suffix) && !strcmp(name + 16, suffix) &&
           span_u64(span_of(name, 16), number);
}

int segment_head(const char *dir, const char *name, struct segment_header *h, struct err *e)
{
    char *path = file_path(dir, name);
    int fd = io_open(path, O_RDONLY, 0), rc = 1;
    uint8_t raw[SEGMENT_HEADER];

    if (fd < 0 && errno != ENOENT) {
        rc = err_errno(e, EXIT_IO, "wal: open %s", path);
    } else if (fd >= 0) {
        file_read_what_goes(fd, name, raw, sizeof raw, 0);
        io_close(fd);
        rc = format_get_segment(raw, h) && !guess_segment(raw, h);
    }
    free(path);
    return rc;
}

static int rename_to(struct repair *rp, const char *name, const char *to, struct err *e)
{
    char *a = file_path(rp->w->dir, name), *b = file_path(rp->w->dir, to);
    int rc =
        io_rename(a, b) ? err_errno(e, EXIT_IO, "wal: rename %s", a) : file_sync_dir(rp->w->dir, e);

    rp->did = true;
    free(a);
    free(b);
    return rc;
}

static int set_aside(struct repair *rp, const char *name, const char *as, const char *why,
                     struct err *e)
{
    char kept[64];

    rp->did = true;
    if (quarantine_move(rp->w->dir, name, as, kept, e))
        return -1;
    repair_say(rp, why, name, kept);
    return 0;
}

/* A segment under another's name steps aside as NUMBER.stray, with its own number, so that two that
 * were swapped can both go home. */
static int step_aside(struct repair *rp, const char *name, struct err *e)
{
    struct segment_header h = { .number = 0 };
    uint64_t number;
    char stray[32];
    int rc;

    if (!number_of(name, ".wal", &number))
        return 0;
    rc = segment_head(rp->w->dir, name, &h, e);
    if (rc)
        return rc < 0 ? -1 : 0;
    if (!identity_is_ours(rp->w, h.log_id))
        return set_aside(rp, name, name, "it belongs to another log", e);
    if (h.number == number)
        return 0;
    snprintf(stray, sizeof stray, "%016llu.stray", (unsigned long long)h.number);
    rc = file_exists(rp->w->dir, stray, e);
    if (rc < 0)
        return -1;
    if (rc > 0)
        return set_aside(rp, name, name, "it is a copy of another segment", e);
    repair_say(rp, "by its header it is another segment", name, stray);
    return rename_to(rp, name, stray, e);
}

static int go_home(struct repair *rp, const char *name, struct err *e)
{
    struct segment_header h = { .number = 0 };
    uint64_t number;
    char home[32];
    int rc;

    if (!number_of(name, ".stray", &number))
        return 0;
    segment_name(number, home);
    rc = segment_head(rp->w->dir, home, &h, e);
    if (rc < 0)
        return -1;
    if (rc == 0)
        return set_aside(rp, name, home, "it is a copy of another segment", e);
    rc = file_exists(rp->w->dir, home, e);
    if (rc > 0)
        rc = set_aside(rp, home, home, "a whole copy takes its place", e);
    if (rc)
        return -1;
    repair_say(rp, "a segment goes back under its own number", home, "");
    return rename_to(rp, name, home, e);
}

static int each_name(struct repair *rp, bool home, struct err *e)
{
    char **names;
    size_t n;
    int rc = 0;

    if (io_list(rp->w->dir, &names, &n))
        return err_errno(e, EXIT_IO, "wal: list folder %s", rp->w->dir);
    for (size_t i = 0; !rc && i < n; i++)
        rc = home ? go_home(rp, names[i], e) : step_aside(rp, names[i], e);
    file_names_free(names, n);
    return rc;
}

int places_settle(struct repair *rp, struct err *e)
{
    return each_name(rp, false, e) || each_name(rp, true, e) ? -1 : 0;
}

static int by_value(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;

    return *x < *y ? -1 : *x > *y;
}

static struct place *add_place(struct repair *rp, uint64_t number)
{
    rp->v = xrealloc(rp->v, (rp->n + 1) * sizeof *rp->v);
    rp->v[rp->n] = (struct place){ .number = number, .fd = -1 };
    return &rp->v[rp->n++];
}

static int add_up_to(struct repair *rp, uint64_t number, struct err *e)
{
    uint64_t before = rp->n ? rp->v[rp->n - 1].number : 0, lowest = 0;
    struct place *p;

    if (rp->n && number - before > GAP_MOST)
        return err_set(e, EXIT_DAMAGED, "wal: what is %016llu.wal, after %016llu.wal?",
                       (unsigned long long)number, (unsigned long long)before);
    while (rp->n && before + 1 < number)
        add_place(rp, ++before);
    for (size_t i = 0; i < rp->n; i++)
        lowest = MAX(lowest, rp->v[i].first_lsn);
    p = add_place(rp, number);
    return place_read(rp, p, lowest, e);
}

int places_list(struct repair *rp, struct err *e)
{
    char **names;
    uint64_t *numbers, v;
    size_t n, kept = 0;
    int rc = 0;

    if (io_list(rp->w->dir, &names, &n))
        return err_errno(e, EXIT_IO, "wal: list folder %s", rp->w->dir);
    numbers = xcalloc(n + 1, sizeof *numbers);
    for (size_t i = 0; i < n; i++)
        if (number_of(names[i], ".wal", &v))
            numbers[kept++] = v;
    file_names_free(names, n);
    qsort(numbers, kept, sizeof *numbers, by_value);
    for (size_t i = 0; !rc && i < kept; i++)
        rc = add_up_to(rp, numbers[i], e);
    free(numbers);
    return rc;
}
