/* SPDX-License-Identifier: Apache-2.0 */
/* Where a run reads: the log, for a retained range, or the dead letters. */
#include "replay.h"

enum got replay_next_record(struct replay *r, struct err *e)
{
    struct wal_map *hold;
    struct record rec;
    struct wal_info info;

    switch (wal_reader_next(r->reader, &rec, &hold, e)) {
    case WAL_READ_OK:
        break;
    case WAL_READ_END:
        r->ended = true;
        return GOT_NONE;
    case WAL_READ_GONE:
        wal_info(r->d->wal, &info);
        err_set(e, EXIT_IO, "the events from LSN %llu on are no longer retained; the first is %llu",
                (unsigned long long)r->read + 1, (unsigned long long)info.first_lsn);
        return GOT_FAILED;
    case WAL_READ_DAMAGED:
        r->damaged = true; /* looked at again with each tick */
        replay_say(r, SINK_BLOCKED, e->text);
        return GOT_NONE;
    }
    if (r->damaged)
        replay_say(r, SINK_RUNNING, "");
    r->damaged = false;
    r->ended = rec.lsn >= r->d->run.to;
    r->read = MIN(rec.lsn, r->d->run.to);
    if (rec.lsn <= r->d->run.to && rec.kind == RECORD_WEBHOOK &&
        sink_matches(&r->cfg, rec.source, rec.type))
        replay_push(r, &rec, hold, NULL);
    else
        wal_release(hold);
    return GOT;
}

enum got replay_next_letter(struct replay *r, struct err *e)
{
    const struct wal_run *run = &r->d->run;
    struct wal_letter l;
    int rc;

    while (r->next_lsn < run->lsns_n &&
           (run->lsns[r->next_lsn] <= r->read || !wal_dead_has(r->d->dead, run->lsns[r->next_lsn])))
        r->next_lsn++;
    if (run->lsns && r->next_lsn == run->lsns_n)
        rc = 1;
    else
        rc = wal_dead_read(r->d->dead, run->lsns ? run->lsns[r->next_lsn] - 1 : r->read, &l, e);
    if (rc < 0)
        return GOT_FAILED;
    if (rc || l.rec.lsn > run->to) {
        if (!rc)
            wal_letter_free(&l);
        r->ended = true;
        return GOT_NONE;
    }
    r->read = l.rec.lsn;
    replay_push(r, &l.rec, NULL, l.bytes);
    return GOT;
}
