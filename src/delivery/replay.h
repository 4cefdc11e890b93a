/* SPDX-License-Identifier: Apache-2.0 */
/* What replay.c and replay_read.c share of a run. Nobody else looks inside. */
#pragma once

#include "room.h"

struct item {
    struct record rec;
    struct wal_map *hold; /* of a replay */
    char *bytes;          /* of a redrive */
    char *made;           /* of a program */
    size_t made_n;
    bool judged, skipped;
    size_t size;
    unsigned tries;
    bool sent, again, done;
    bool refused;
    bool has_it; /* the sink; the letter is still there */
};

struct replay {
    struct delivery *d;
    struct sink_cfg cfg;
    struct sink *sink;
    struct wal_reader *reader;
    struct item *ring; /* rising LSNs, with gaps */
    size_t cap, first, n, bytes, outstanding, again, next_lsn;
    uint64_t bytes_max;
    uint64_t read; /* LSN that was looked at last */
    uint64_t *out; /* letters that the sink has now; room for the whole ring */
    struct event retry, turn;
    unsigned attempt;
    bool unsent; /* the newest of the ring: the sink had no room for it */
    bool full, waiting_retry, ended, damaged, dirty;
    enum sink_state state;
    char reason[512];
};

enum got { GOT, GOT_NONE, GOT_FAILED };

/* replay_read.c: the next record of the range, or the next letter, through replay_push(). GOT_NONE:
 * none now; r->ended: none any more. */
enum got replay_next_record(struct replay *r, struct err *e);
enum got replay_next_letter(struct replay *r, struct err *e);

/* replay.c; hold or bytes, the one that is given, is the run's from now on. */
void replay_push(struct replay *r, const struct record *rec, struct wal_map *hold, char *bytes);
void replay_say(struct replay *r, enum sink_state state, const char *reason);
