/* SPDX-License-Identifier: Apache-2.0 */
/* The scrub: reads every sealed segment again, slowly, so that damage is known before somebody
 * needs the data. Helper thread; some MiB a second at most, one pass a day; what is sealed
 * meanwhile joins the pass. What every sink is past comes from the disk and not from the page
 * cache.
 *
 * What it finds it names and marks; whether it is set aside is decided in heal.c. Damage stops
 * neither senders nor the sinks that do not need the data. */
#include "room.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "log.h"

#define PIECE_MS 1000
#define PIECE_BYTES (4u << 20)
#define PASS_MS (24 * 3600 * 1000)

static bool begin(struct wal *w, struct scrub *sb)
{
    char *path;
    bool found = false;

    pthread_mutex_lock(&w->lock);
    for (size_t i = 0; i < w->segs_n && !found; i++) {
        const struct segment *s = w->segs[i];
        found = s->sealed && s->number > sb->seg.number;
        if (found)
            sb->seg = *s;
    }
    pthread_mutex_unlock(&w->lock);
    if (!found)
        return false;
    path = segment_path(w, sb->seg.number);
    scan_init(&sb->scan, io_open(path, O_RDONLY, 0), &sb->seg, SEGMENT_HEADER);
    sb->scan.bad_lsn = sb->next_lsn = sb->seg.first_lsn;
    sb->chain = 0;
    free(path);
    return true;
}

/* What it read is in the page cache; the helper lets it go once every sink is past it. */
static void let_go(struct wal *w, const struct scrub *sb)
{
    pthread_mutex_lock(&w->lock);
    for (size_t i = 0; i < w->segs_n; i++)
        if (w->segs[i]->number == sb->seg.number)
            w->segs[i]->cached = true;
    pthread_mutex_unlock(&w->lock);
}

static void end(struct scrub *sb)
{
    if (sb->scan.fd >= 0)
        io_close(sb->scan.fd);
    scan_free(&sb->scan);
    sb->scan.fd = -1;
}

/* Marks the segment and says what is wrong, once. */
static void report(struct wal *w, struct scrub *sb, uint64_t off, uint64_t lsn)
{
    uint64_t lowest;
    bool delivered, known = true;
    char name[32];

    pthread_mutex_lock(&w->lock);
    delivered = cursor_lowest(w, &lowest) && sb->seg.last_lsn <= lowest;
    for (size_t i = 0; i < w->segs_n; i++)
        if (w->segs[i]->number == sb->seg.number) {
            known = w->segs[i]->scrub_told;
            w->segs[i]->damaged = w->segs[i]->scrub_told = w->segs[i]->suspect = true;
        }
    pthread_mutex_unlock(&w->lock);
    if (known)
        return;
    counter_add(&w->scrub_found, 1);
    segment_name(sb->seg.number, name);
    if (delivered)
        log_warn("damage in delivered data", KS("seg", name), KU("off", off), KU("lsn", lsn));
    else
        log_error("damage in data that not every sink has", KS("seg", name), KU("off", off),
                  KU("lsn", lsn));
}

static bool header_is_right(struct scrub *sb)
{
    struct err ignored = ERR_INIT;
    uint8_t head[SEGMENT_HEADER];
    struct segment_header h;
    size_t got;

    return sb->scan.fd >= 0 &&
           !file_read(sb->scan.fd, sb->scan.name, head, sizeof head, 0, &got, &ignored) &&
           got == sizeof head && !format_get_segment(head, &h) && h.number == sb->seg.number &&
           h.salt == sb->seg.salt;
}

/* The next piece of a segment; false when it is through or not right. */
static bool piece(struct wal *w, struct scrub *sb)
{
    struct err ignored = ERR_INIT;
    struct scan *sc = &sb->scan;
    uint64_t start = sc->pos;

    if (start == SEGMENT_HEADER && !header_is_right(sb)) {
        report(w, sb, 0, sb->seg.first_lsn);
        return false;
    }
    while (sc->pos < sb->seg.end && sc->pos - start < PIECE_BYTES) {
        enum scan_result r = scan_batch(sc, &ignored);
        if (r != SCAN_BATCH) {
            report(w, sb, r == SCAN_BAD ? sc->bad_offset : sc->pos,
                   r == SCAN_BAD ? sc->bad_lsn : sb->next_lsn);
            return false;
        }
        sb->chain = format_chain(sb->chain, sc->raw);
        sb->next_lsn = sc->batch.first_lsn + sc->batch.count;
    }
    counter_add(&w->scrubbed_bytes, sc->pos - start);
    if (sc->pos < sb->seg.end)
        return true;
    if (sc->pos != sb->seg.end || (sb->chain != sb->seg.chain && !sb->seg.mended))
        report(w, sb, sc->pos, sb->next_lsn);
    return false;
}

void scrub_init(struct scrub *sb)
{
    *sb = (struct scrub){ .scan.fd = -1, .pass_ms = clock_mono_ms() };
}

void scrub_some(struct wal *w, struct scrub *sb)
{
    int64_t now = clock_mono_ms();

    if (now < sb->next_ms)
        return;
    sb->next_ms = now + PIECE_MS;
    if (now - sb->pass_ms > PASS_MS && !sb->busy) {
        sb->seg.number = 0;
        sb->pass_ms = now;
    }
    if (!sb->busy && !begin(w, sb)) {
        if (!sb->through)
            counter_add(&w->scrub_passes, 1);
        sb->through = true;
        return;
    }
    sb->through = false;
    sb->busy = piece(w, sb);
    if (!sb->busy) {
        let_go(w, sb);
        end(sb);
    }
}

void scrub_close(struct scrub *sb)
{
    end(sb);
}
