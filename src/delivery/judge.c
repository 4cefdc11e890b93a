/* SPDX-License-Identifier: Apache-2.0 */
/* What the sink's program says of a record, live or sent once more. The record in the log stays
 * what it is: dead letters hold it as it came, so that a redrive goes through the program again,
 * and its checksum stays that of the log, which is what exactly-once sinks keep. Runs on the sink's
 * thread, which waits for the answer; see program.h for how long. */
#include "clock.h"
#include "log.h"
#include "room.h"

enum judged judge_record(struct delivery *d, const struct record *rec, char **made, size_t *made_n,
                         const char **reason)
{
    enum program_verdict verdict;

    *made = NULL;
    *made_n = 0;
    if (!d->program)
        return JUDGED_SEND;
    verdict = program_run(d->program, rec->body, &d->answer);
    *reason = buf_cstr(&d->answer);
    switch (verdict) {
    case PROGRAM_CHANGES:
        *made_n = d->answer.n;
        *made = buf_take(&d->answer);
        return JUDGED_SEND;
    case PROGRAM_TAKES:
        return JUDGED_SEND;
    case PROGRAM_PASSES:
        counter_add(&d->filtered, 1);
        return JUDGED_SKIP;
    case PROGRAM_FAILS:
        return JUDGED_BAD;
    case PROGRAM_ABSENT:
        break;
    }
    return JUDGED_LATER;
}

struct record judged_record(const struct record *rec, const char *made, size_t made_n)
{
    struct record out = *rec;

    if (!made)
        return out;
    out.log_crc = record_crc(rec);
    out.transformed = true;
    out.body = span_of(made, made_n);
    out.content_type = S("application/json");
    return out;
}

bool judging_long(const struct delivery *d, int64_t since_ms)
{
    return d->program && clock_mono_ms() - since_ms >= JUDGED_TURN_MS;
}

struct new_program {
    struct msg msg;
    struct program *program;
};

static void on_program(struct msg *m, void *self)
{
    struct new_program *n = container_of(m, struct new_program, msg);
    struct delivery *d = self;

    program_release(d->program);
    d->program = n->program;
    free(n);
}

void delivery_program(struct delivery *d, struct program *p)
{
    struct new_program *n = xcalloc(1, sizeof *n);

    n->msg.deliver = on_program;
    n->program = program_hold(p);
    inbox_post(&d->inbox, &n->msg);
}
