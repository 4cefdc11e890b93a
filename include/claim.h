/* claim - which replica takes a delivery, where several share a Redis (`dedup.redis`).
 *
 * A delivery is claimed before it is appended (`pending`, with a short life) and marked as done
 * once it is durable (for dedup.window). A Redis that cannot be asked in time is done without:
 * nothing is refused and nothing lost by it, but a repeat that reaches another replica is taken for
 * new, which is counted, logged and shown.
 *
 * One `struct claims` a thread, on its loop, with a connection of its own; nothing here waits. */
#pragma once

#include <event2/event.h>

#include "cfg.h"
#include "metrics.h"
#include "record.h"

struct claim_cfg { /* of section `dedup` */
    char *redis, *user;
    struct cfg_secret password;
};
const struct cfg_key *claim_cfg_keys(void);
void claim_check(const struct claim_cfg *cfg, const struct cfg_node *at, struct err_list *errs);

enum claim_answer {
    CLAIM_OURS,      /* go on; also where Redis could not be asked */
    CLAIM_ELSEWHERE, /* another replica is at it: the sender has to ask again */
    CLAIM_DONE,      /* some replica has it, as `lsn` */
};

struct claim { /* embedded; zeroed before it is asked for */
    void (*answered)(struct claim *c, void *arg);
    /* out */
    enum claim_answer answer;
    uint64_t lsn;
    bool other_body; /* CLAIM_DONE: the first had another body */
    /* private */
    uint8_t key[16];
    uint64_t number, seq;
    uint32_t body_crc;
    bool held;
};

struct claim_times {
    int64_t window_ms;  /* how long a delivery is remembered */
    int64_t pending_ms; /* how long a claim lives whose owner is not heard of */
    int64_t answer_ms;  /* how long an answer is waited for */
};
struct claims;
/* cfg must outlive it; arg is for `answered`. */
struct claims *claims_new(struct event_base *base, const struct claim_cfg *cfg, const char *logid,
                          const struct claim_times *times, void *arg);
void claims_free(struct claims *cs); /* no claim is asked for any more */
void claims_configure(struct claims *cs, const struct claim_times *times);

/* By source, id and type. True: `answered` will be called, unless it is cancelled. False: it cannot
 * be asked for now, go on. */
MUST_CHECK bool claims_ask(struct claims *cs, struct claim *c, const struct record *rec);
void claims_cancel(struct claims *cs, struct claim *c); /* asked for and not answered */
/* What was claimed was not logged: the next replica may have it. */
void claims_drop(struct claims *cs, const struct claim *c);

enum claim_state {
    CLAIM_IS_STORED, /* durable, but not with the sinks, which its sender waits for */
    CLAIM_IS_DONE,
};
void claims_mark(struct claims *cs, const struct record *rec, uint64_t lsn, enum claim_state state);
size_t claims_in_flight(const struct claims *cs); /* commands without a reply */

struct claims_report { /* any thread */
    bool up;
    char reason[256];
    uint64_t missed_claims, missed_marks;
};
void claims_report(const struct claims *cs, struct claims_report *out);
