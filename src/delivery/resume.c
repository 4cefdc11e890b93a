/* SPDX-License-Identifier: Apache-2.0 */
/* Exactly once: what a sink keeps on the other side, judged against this log, and where to go on.
 *
 * P7 rests on resume_judge(): a mark counts only where this folder wrote it (log id, an epoch of
 * ours) and where this log still says the same (an LSN that we have, the same CRC there). Anything
 * else was written by a copy of this folder, its original, or what ran after a backup: then nothing
 * is sent and nothing is skipped. Met while running, it ends the process: two of us are at work.
 * Runs on the sink's thread. */
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "log.h"
#include "room.h"

static enum sink_verdict diverged(struct delivery *d, struct buf *reason, const char *what)
{
    struct wal_info info;

    wal_info(d->wal, &info);
    reason->n = 0;
    buf_printf(reason,
               "diverged: %s; this folder is a copy, was restored, or has a rival: nothing is sent "
               "from it until `hookline log fork %s` gives it an id of its own",
               what, info.dir);
    return SINK_DIVERGED;
}

static NORETURN void fenced(struct delivery *d, const struct sink_mark *found)
{
    char when[CLOCK_TEXT_MAX], *text;
    struct err e = ERR_INIT;

    text = xasprintf("sink %s was taken over by another process at LSN %llu (epoch %016llx), "
                     "noticed %s\n",
                     d->name, (unsigned long long)found->lsn, (unsigned long long)found->epoch,
                     clock_text(clock_wall_ms(), when));
    if (wal_fence(d->wal, text, &e))
        log_error("FENCED could not be written", KS("reason", e.text));
    window_advance(d); /* a fork would begin with what was confirmed */
    if (wal_cursor_sync(d->cursor, &e))
        log_error("the cursor could not be synced", KS("sink", d->name), KS("reason", e.text));
    text[strlen(text) - 1] = '\0';
    die(EXIT_TEMPORARY, "%s", text);
}

static void none_there(struct delivery *d, bool running)
{
    if (!running && !d->wrote_before)
        return;
    log_error("state_lost: the state that was kept in the sink is gone; it goes on from the local "
              "cursor, what was confirmed since is sent again",
              KS("sink", d->name), KU("lsn", wal_cursor_lsn(d->cursor)));
    d->state_lost = true;
    counter_add(&d->states_lost, 1);
}

enum sink_verdict resume_judge(void *arg, const struct sink_mark *found, bool running,
                               struct buf *reason)
{
    struct delivery *d = arg;
    struct err e = ERR_INIT;
    uint32_t crc;

    if (!found) {
        none_there(d, running);
        return SINK_GO_ON;
    }
    if (strcmp(found->logid, wal_log_id(d->wal)))
        return diverged(d, reason, "the state in the sink belongs to another log");
    if (found->epoch != d->epoch && !wal_epoch_known(d->wal, d->name, found->epoch)) {
        if (running)
            fenced(d, found);
        if (!wal_taken_over(d->wal))
            return diverged(d, reason, "another process has written to the sink since");
    }
    if (found->lsn > wal_durable_lsn(d->wal))
        return diverged(d, reason, "the sink is ahead of this log");
    switch (wal_record_crc(d->wal, found->lsn, &crc, &e)) {
    case 0:
        return crc == found->crc ? SINK_GO_ON
                                 : diverged(d, reason, "the sink has another event at that LSN");
    case 1:
        return SINK_GO_ON; /* trimmed: every sink had passed it */
    default:
        reason->n = 0;
        buf_adds(reason, e.text);
        return SINK_DIVERGED;
    }
}

/* --- going on
 * ------------------------------------------------------------------------------------------ */

static struct entry *at(struct delivery *d, size_t i)
{
    return &d->ring[(d->first + i) % d->cap];
}

/* The window holds what is to be sent again. */
static void keep_window(struct delivery *d, uint64_t lsn)
{
    d->again = 0;
    for (size_t i = 0; i < d->n; i++) {
        struct entry *en = at(d, i);
        en->done = !en->matches || en->skipped || en->dead || en->rec.lsn <= lsn;
        en->sent = false;
        en->again = !en->done;
        d->again += en->again;
    }
}

static void read_again(struct delivery *d, uint64_t lsn)
{
    for (size_t i = 0; i < d->n; i++)
        entry_drop(at(d, i));
    d->n = d->first = d->bytes = d->again = 0;
    d->passed = d->counted = lsn;
    d->matched_ahead = d->matched_passed;
    wal_reader_seek(d->reader, lsn);
    wal_reader_seek(d->counting, lsn);
}

static uint64_t clamp(struct delivery *d, uint64_t lsn)
{
    struct wal_info info;

    wal_info(d->wal, &info);
    if (lsn + 1 < info.first_lsn)
        log_warn("the state in the sink is older than what is retained; it goes on with the oldest",
                 KS("sink", d->name), KU("lsn", lsn), KU("first_lsn", info.first_lsn));
    return MAX(MAX(lsn, d->floor), info.first_lsn - 1);
}

void resume_from(void *arg, uint64_t lsn)
{
    struct delivery *d = arg;
    struct err e = ERR_INIT;
    uint64_t stored = lsn = clamp(d, lsn);

    if (d->settled && lsn >= d->confirmed) /* only the dead and the strangers lie between */
        lsn = MAX(lsn, d->passed);
    d->confirmed = stored;
    log_info("the sink goes on", KS("sink", d->name), KU("lsn", lsn), KU("passed", d->passed));
    if (lsn >= d->passed && lsn <= d->passed + d->n)
        keep_window(d, lsn);
    else
        read_again(d, lsn);
    d->outstanding = 0;
    d->unsent = false;
    d->sink_full = true; /* until it says that it is ready */
    d->settled = true;
    window_advance(d);
    if (wal_cursor_sync(d->cursor, &e)) /* what it rewinds to must not be trimmed */
        die(EXIT_IO, "sink %s: %s", d->name, e.text);
}

uint64_t resume_cursor(void *arg)
{
    struct delivery *d = arg;
    struct err e = ERR_INIT;

    if (d->settled && wal_cursor_sync(d->cursor, &e))
        die(EXIT_IO, "sink %s: %s", d->name, e.text);
    return MAX(wal_cursor_lsn(d->cursor), d->floor);
}

void resume_mark(void *arg, uint64_t lsn, struct sink_mark *out)
{
    struct delivery *d = arg;
    struct err e = ERR_INIT;

    *out = (struct sink_mark){ .epoch = d->epoch, .lsn = MAX(lsn, d->floor) };
    snprintf(out->logid, sizeof out->logid, "%s", wal_log_id(d->wal));
    if (wal_record_crc(d->wal, out->lsn, &out->crc, &e))
        out->crc = 0; /* nobody can compare it either */
}

/* --- at a start
 * ------------------------------------------------------------------------------------------ */

/* A mark of an earlier time, when the sink was already exactly once, says nothing of what was sent
 * since in another mode, or by nobody while the sink was gone: there the cursor counts. */
int resume_open(struct delivery *d, int mode_before, bool new_destination, struct err *e)
{
    d->settled = !d->cfg->delivery;
    if (d->settled)
        return 0;
    if (mode_before != d->cfg->delivery)
        d->floor = wal_cursor_lsn(d->cursor);
    d->wrote_before = !new_destination && mode_before == d->cfg->delivery &&
                      wal_epoch_has_written(d->wal, d->name);
    return wal_epoch_make(d->wal, d->name, &d->epoch, e);
}

void resume_wrote(struct delivery *d)
{
    struct err e = ERR_INIT;

    d->wrote = true;
    if (wal_epoch_wrote(d->wal, d->name, d->epoch, &e))
        die(EXIT_IO, "sink %s: %s", d->name, e.text);
}
