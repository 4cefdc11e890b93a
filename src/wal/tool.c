/* SPDX-License-Identifier: Apache-2.0 */
/* `hookline log ls|verify|dump`: reads a folder without locking or changing it, also while a
 * process appends to it. Each segment is walked to its first byte that is no batch; what a
 * successor says of its predecessor's end tells damage from the end of the log. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

#include "clock.h"
#include "room.h"

struct walk {
    const char *dir;
    FILE *out;
    bool verify;
    void (*show)(const struct record *rec, const char *logid, void *arg);
    void *arg;
    char logid[LOG_ID_TEXT_MAX];
    uint64_t records, lost, damaged, last_lsn;
};

struct summary {
    uint64_t first_lsn, last_lsn, records, end;
    int64_t first_ms, last_ms;
    enum scan_result stop;
    uint64_t bad_offset;
};

static int open_segment(struct walk *wk, const char *name, struct segment *s, struct err *e)
{
    char *path = file_path(wk->dir, name);
    uint8_t head[SEGMENT_HEADER];
    struct segment_header h;
    size_t got;
    int rc = -1;

    *s = (struct segment){ .fd = io_open(path, O_RDONLY, 0) };
    if (s->fd < 0) {
        err_errno(e, EXIT_IO, "open %s", path);
        goto out;
    }
    if (file_read(s->fd, name, head, sizeof head, 0, &got, e))
        goto out;
    switch (got == sizeof head ? format_get_segment(head, &h) : 1) {
    case 0:
        rc = 0;
        break;
    case 2:
        err_set(e, EXIT_BAD_CONFIG, "%s was written by %s in a newer format (%u)", name, h.writer,
                h.format);
        goto out;
    default:
        err_set(e, EXIT_DAMAGED, "%s: corrupt header off 0", name);
        goto out;
    }
    s->number = h.number;
    s->salt = h.salt;
    s->bytes = h.bytes;
    if (!wk->logid[0]) /* no file says what the log is called now */
        identity_text(h.log_id, wk->logid);
out:
    free(path);
    return rc;
}

static void take(struct walk *wk, struct summary *sum, const struct record *rec)
{
    if (rec->kind == RECORD_MARKER || format_last_lsn(rec) <= wk->last_lsn)
        return;
    if (rec->kind == RECORD_LOST) {
        sum->last_lsn = format_last_lsn(rec);
        wk->lost += format_lsns(rec);
        return;
    }
    if (!sum->records++) {
        sum->first_lsn = rec->lsn;
        sum->first_ms = rec->time_ms;
    }
    sum->last_lsn = rec->lsn;
    sum->last_ms = rec->time_ms;
    if (wk->show)
        wk->show(rec, wk->logid, wk->arg);
}

/* Walks up to `end` (UINT64_MAX: as far as it goes). */
static int walk_segment(struct walk *wk, struct segment *s, uint64_t end, struct summary *sum,
                        struct err *e)
{
    struct record rec;
    struct scan sc;

    *sum = (struct summary){ .stop = SCAN_END };
    scan_init(&sc, s->fd, s, SEGMENT_HEADER);
    while (sc.pos < end && (sum->stop = scan_batch(&sc, e)) == SCAN_BATCH)
        while (scan_record(&sc, &rec))
            take(wk, sum, &rec);
    sum->end = sc.pos;
    sum->bad_offset = sum->stop == SCAN_BAD ? sc.bad_offset : sc.pos;
    scan_free(&sc);
    return sum->stop == SCAN_ERROR ? -1 : 0;
}

static void report(struct walk *wk, const char *name, const struct summary *sum)
{
    char from[CLOCK_TEXT_MAX], to[CLOCK_TEXT_MAX];

    if (!wk->out || wk->verify)
        return;
    if (sum->records)
        fprintf(wk->out,
                "%s  lsn %" PRIu64 "..%" PRIu64 "  records %" PRIu64 "  bytes %" PRIu64
                "  %s .. %s\n",
                name, sum->first_lsn, sum->last_lsn, sum->records, sum->end,
                clock_text(sum->first_ms, from), clock_text(sum->last_ms, to));
    else
        fprintf(wk->out, "%s  empty\n", name);
}

/* What the segment after this one says about where this one ends; false when there is none. */
static bool end_of(struct walk *wk, const char *next, uint64_t number, struct marker *m)
{
    struct err ignored = ERR_INIT;
    struct segment s;
    struct record rec;
    struct scan sc;
    bool found = false;

    if (open_segment(wk, next, &s, &ignored) == 0) {
        scan_init(&sc, s.fd, &s, SEGMENT_HEADER);
        found = scan_batch(&sc, &ignored) == SCAN_BATCH && scan_record(&sc, &rec) &&
                rec.kind == RECORD_MARKER && format_get_marker(rec.body, m) && m->number == number;
        scan_free(&sc);
    }
    if (s.fd >= 0)
        io_close(s.fd);
    return found;
}

/* Trimmed, or already somebody else's file, since it was opened: then nothing that was read of it
 * counts. */
static bool is_gone(struct walk *wk, const char *name, uint64_t salt)
{
    struct err ignored = ERR_INIT;
    char *path = file_path(wk->dir, name);
    int fd = io_open(path, O_RDONLY, 0);
    bool gone = fd < 0 && errno == ENOENT;
    uint8_t head[SEGMENT_HEADER];
    struct segment_header h;
    size_t got;

    if (fd >= 0 && !file_read(fd, path, head, sizeof head, 0, &got, &ignored))
        gone = got == sizeof head && !format_get_segment(head, &h) && h.salt != salt;
    if (fd >= 0)
        io_close(fd);
    free(path);
    return gone;
}

/* The last segment, to which somebody may be appending: what is right behind a bad place may have
 * been written since we were there, so it is looked at until it stands still. */
static int judge_active(struct segment *s, struct summary *sum, bool *damaged, struct err *e)
{
    struct tail t = { .end = 0 };
    uint64_t end;

    do {
        end = t.end;
        if (tail_read(s, &t, e))
            return -1;
        *damaged = t.next_lsn <= t.watermark;
    } while (*damaged && t.end != end);
    if (*damaged) {
        sum->bad_offset = t.bad_offset;
        sum->last_lsn = t.bad_lsn - 1;
    }
    return 0;
}

static int one(struct walk *wk, const char *name, const char *next, struct err *e)
{
    struct summary sum;
    struct segment s;
    struct marker m;
    bool sealed, damaged;
    int rc;

    if (open_segment(wk, name, &s, e)) {
        if (s.fd >= 0)
            io_close(s.fd);
        return is_gone(wk, name, 0) ? 0 : -1;
    }
    sealed = next && end_of(wk, next, s.number, &m);
    rc = walk_segment(wk, &s, sealed ? m.end : UINT64_MAX, &sum, e);
    damaged = sealed && sum.end != m.end;
    if (!rc && !sealed)
        rc = judge_active(&s, &sum, &damaged, e);
    io_close(s.fd);
    if (rc)
        return rc;
    report(wk, name, &sum);
    wk->records += sum.records;
    if (damaged && !is_gone(wk, name, s.salt)) {
        wk->damaged++;
        fprintf(wk->out ? wk->out : stderr, "damaged seg %s off %" PRIu64 " LSN %" PRIu64 "\n",
                name, sum.bad_offset, sum.last_lsn + 1);
    }
    wk->last_lsn = MAX(sealed ? m.last_lsn : sum.last_lsn, wk->last_lsn);
    return 0;
}

static int walk(struct walk *wk, struct err *e)
{
    char **names;
    size_t n;
    int rc = 0;

    if (file_list_numbered(wk->dir, ".wal", &names, &n, e))
        return -1;
    if (!identity_peek(wk->dir, wk->logid))
        wk->logid[0] = '\0';
    if (!n)
        rc = err_set(e, EXIT_IO, "no log in %s", wk->dir);
    for (size_t i = 0; i < n && !rc; i++)
        rc = one(wk, names[i], i + 1 < n ? names[i + 1] : NULL, e);
    file_names_free(names, n);
    if (!rc && wk->damaged)
        rc = err_set(e, EXIT_DAMAGED, "%" PRIu64 " damaged segments in %s", wk->damaged, wk->dir);
    return rc;
}

int wal_ls(const char *dir, FILE *out, struct err *e)
{
    struct walk wk = { .dir = dir, .out = out };
    int rc = walk(&wk, e);

    if (wk.records || !rc)
        fprintf(out, "log %s  records %" PRIu64 "  lost %" PRIu64 "\n", wk.logid, wk.records,
                wk.lost);
    return rc;
}

int wal_verify(const char *dir, FILE *out, struct err *e)
{
    struct walk wk = { .dir = dir, .out = out, .verify = true };
    int rc = walk(&wk, e);

    fprintf(out, "%s: %" PRIu64 " records, %" PRIu64 " damaged segments\n", dir, wk.records,
            wk.damaged);
    return rc;
}

int wal_dump(const char *dir, void (*show)(const struct record *rec, const char *logid, void *arg),
             void *arg, struct err *e)
{
    struct walk wk = { .dir = dir, .show = show, .arg = arg };

    return walk(&wk, e);
}
