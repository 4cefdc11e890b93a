/* SPDX-License-Identifier: Apache-2.0 */
/* Exactly once: what is claimed on the server, and where the owner goes on.
 *
 * P7, the Redis part. Before anything goes to a stream, its mark is read back and judged by the
 * owner, who knows the log; then it is claimed with the epoch of this start, by compare and set, so
 * of two that judge at the same time one finds the other. A mark below what the server had
 * confirmed to us (a replica was promoted without the tail, a server lost its last second) rewinds:
 * the owner sends again from there, and what other streams have already is skipped, here or by the
 * script. So that a mark says little less than the cursor after a restart, that of a stream without
 * traffic follows it from time to time.
 *
 * Nothing is handed over while a claim is under way, and the owner is told where to go on only once
 * no call is without an answer: an answer then always belongs to what is under way. */
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "redis.h"

#define REACH_MS 10000

/* Where its connection is down it is read once that is up. */
static void read_mark(struct redis *r, struct redis_stream *s)
{
    struct redis_link *l = redis_link_of(r, s);
    const struct span argv[] = { S("HGET"), buf_as_span(&s->key), buf_as_span(&s->field) };

    if (!l)
        return;
    s->claim = REDIS_READING;
    s->in_flight++;
    r->claims++;
    redis_asking(l, s);
    redis_link_ask(l, (struct redis_asked){ .what = REDIS_ASKED_MARK, .stream = s }, argv,
                   ARRAY_LEN(argv));
}

static void read_unread(struct redis *r, struct redis_stream *s)
{
    redis_link_of(r, s); /* it may have changed */
    if (s->claim == REDIS_UNREAD)
        read_mark(r, s);
}

/* First which streams there are, then the marks of all. */
static void read_all(struct redis *r)
{
    if (r->known_read)
        redis_streams_each(r, read_unread);
    else
        redis_known_read(r);
}

static void rewind_to(struct redis *r, uint64_t lsn)
{
    r->rewind = r->unsettled ? MIN(r->rewind, lsn) : lsn;
    r->unsettled = true;
}

static void try_later(struct redis *r)
{
    if (!r->stalled)
        redis_tick_in(r, backoff_ms(r->stalls++));
    r->stalled = true;
}

/* The claim failed, or may not be made: nothing is sent until it succeeds. */
static void stall(struct redis *r, struct redis_stream *s, enum sink_state state,
                  const char *reason)
{
    s->claim = REDIS_UNREAD;
    try_later(r);
    r->sink.owner.state(r->sink.owner.arg, state, reason);
}

static bool all_confirmed(const struct redis *r)
{
    for (size_t i = 0; i < r->n_links; i++)
        if (!redis_wait_over(r->links[i]))
            return false;
    return true;
}

void redis_once_settle(struct redis *r)
{
    const struct sink_owner *owner = &r->sink.owner;

    if (!r->epoch || !r->known_read || r->claims || r->stalled || !all_confirmed(r))
        return;
    if (r->unsettled) {
        if (r->in_flight)
            return;
        owner->resume(owner->arg, MIN(r->rewind, owner->cursor(owner->arg)));
        r->unsettled = false;
    }
    r->stalls = 0;
    redis_running(r);
}

static void stop_claim(struct redis *r, struct redis_stream *s)
{
    s->in_flight--;
    r->claims--;
}

static void judge(struct redis *r, struct redis_stream *s, struct span text)
{
    const struct sink_owner *owner = &r->sink.owner;
    enum sink_verdict verdict = SINK_GO_ON;
    struct buf reason = BUF_INIT;
    struct sink_mark mark;

    s->found = text.n != 0;
    if (s->found && !redis_mark_parse(text.p, &mark)) {
        stall(r, s, SINK_BLOCKED, "diverged: what is kept beside the stream was not written by us");
        return;
    }
    if (s->found || s->ours || s->before) /* others are new */
        verdict = owner->judge(owner->arg, s->found ? &mark : NULL, s->ours, &reason);
    if (verdict != SINK_GO_ON) {
        stall(r, s, SINK_BLOCKED, reason.n ? buf_cstr(&reason) : "another process writes here");
        buf_free(&reason);
        return;
    }
    buf_free(&reason);
    if (!s->found) {
        owner->mark(owner->arg, owner->cursor(owner->arg), &mark);
        s->known = false; /* what lost the mark may have lost that too */
    }
    free(s->expected);
    free(s->wanted);
    s->expected = span_dup(text);
    s->wanted = redis_mark_text(&mark, r->epoch);
    s->claimed = mark.lsn;
    s->claim = REDIS_CLAIMING;
    s->in_flight++;
    r->claims++;
    redis_known_add(r, s);
    redis_call_claim(s->link, s);
    s->link->writes++;
}

static void claimed(struct redis *r, struct redis_stream *s)
{
    uint64_t lsn = s->claimed, cursor = r->sink.owner.cursor(r->sink.owner.arg);

    if (s->ours ? lsn < s->stored || !s->found : s->found && s->before && lsn < cursor)
        rewind_to(r, lsn);
    s->claim = REDIS_CLAIMED;
    s->ours = true;
    s->stored = s->sent = lsn;
    s->reached_ms = clock_mono_ms();
}

static void on_claim(struct redis_link *l, struct redis_asked asked)
{
    struct redis *r = l->r;
    struct redis_stream *s = asked.stream;
    struct span text = redis_reply_text(&l->reply, 0);

    stop_claim(r, s);
    if (redis_reply_is_error(&l->reply)) {
        if (!redis_where_moved(l, s, text.p))
            redis_refused(l, text.p);
        s->claim = REDIS_UNREAD;
        try_later(r);
    } else if (asked.what == REDIS_ASKED_CLAIM && span_eq(text, span_str(s->wanted))) {
        claimed(r, s);
    } else {
        judge(r, s, text);
    }
    redis_wait_ask(l);
    redis_once_settle(r);
    redis_link_flush(l);
}

static void on_known(struct redis_link *l, struct redis_asked asked)
{
    struct redis *r = l->r;

    if (redis_known_replied(l, asked)) {
        if (asked.what == REDIS_ASKED_KNOWN)
            read_all(r);
    } else if (!r->known_read) {
        try_later(r);
    }
    redis_once_settle(r);
    redis_link_flush(l);
}

/* --- answers of the script
 * -------------------------------------------------------------------------------- */

/* What became of the records of a call whose mark is at `stored` now; NULL: all are there. */
static void report(struct redis_link *l, struct redis_asked first, uint64_t stored, uint64_t failed,
                   const char *error)
{
    struct redis *r = l->r;
    struct redis_asked one = first;

    for (uint32_t i = 0; i < first.n; i++) {
        if (i)
            one = redis_link_pop(l);
        r->in_flight--;
        if (!error || one.lsn <= stored)
            redis_stored(l, one.lsn);
        else
            redis_refuse(r, one.lsn, error, failed ? one.lsn == failed : first.n == 1);
    }
}

/* The mark is not where we left it: read back what is there, and let the owner judge. */
static void lost_mark(struct redis *r, struct redis_stream *s)
{
    if (s->claim != REDIS_CLAIMED)
        return; /* it is being read */
    s->claim = REDIS_UNREAD;
    read_mark(r, s);
}

/* Refused as a whole. */
static void on_error(struct redis_link *l, struct redis_asked asked, const char *error)
{
    struct redis_stream *s = asked.stream;

    s->sent = s->stored;
    if (!redis_where_moved(l, s, error)) {
        if (asked.n)
            redis_refused(l, error);
        else
            redis_scripts_again(l, error);
    }
    report(l, asked, 0, 0, error);
}

static void on_verdict(struct redis_link *l, struct redis_asked asked)
{
    struct redis *r = l->r;
    struct redis_stream *s = asked.stream;
    struct span word = redis_reply_text(&l->reply, 0);
    uint64_t lsn = 0, failed = 0;

    span_u64(redis_reply_text(&l->reply, 1), &lsn);
    if (span_eq(word, S("GAP"))) {
        if (lsn < s->stored)
            rewind_to(r, lsn);
        s->stored = s->sent = lsn;
        report(l, asked, 0, 0, "GAP");
    } else if (span_eq(word, S("ERROR"))) {
        const char *error = redis_error_core(redis_reply_text(&l->reply, 3).p);
        span_u64(redis_reply_text(&l->reply, 2), &failed);
        s->stored = s->sent = lsn;
        if (!redis_is_poison(r, error))
            redis_refused(l, error);
        report(l, asked, lsn, failed, error);
    } else {
        report(l, asked, 0, 0, "MARK");
        lost_mark(r, s);
    }
}

static void on_batch(struct redis_link *l, struct redis_asked asked)
{
    struct redis_stream *s = asked.stream;
    struct span text = redis_reply_text(&l->reply, 0);
    uint64_t lsn;

    s->in_flight--;
    if (redis_reply_is_error(&l->reply)) {
        on_error(l, asked, redis_error_core(text.p));
    } else if (l->reply.n == 1 && span_u64(text, &lsn)) {
        s->stored = MAX(s->stored, lsn);
        s->reached_ms = clock_mono_ms();
        report(l, asked, lsn, 0, NULL);
    } else {
        on_verdict(l, asked);
    }
    if (l->r->unsettled)
        redis_once_settle(l->r);
}

void redis_once_replied(struct redis_link *l)
{
    struct redis_asked asked = redis_link_pop(l);

    switch (asked.what) {
    case REDIS_ASKED_BATCH:
        on_batch(l, asked);
        break;
    case REDIS_ASKED_KNOWN:
    case REDIS_ASKED_ADDED:
        on_known(l, asked);
        break;
    default:
        on_claim(l, asked);
    }
}

/* --- sending, and the connection
 * -------------------------------------------------------------------------- */

static bool full(struct redis *r)
{
    r->was_full = true;
    return true;
}

/* 1: wait. A stream that is new to us is claimed first. */
int redis_once_send(struct redis *r, const struct record *rec)
{
    struct redis_stream *s;
    struct redis_link *l;

    if (!r->known_read || r->claims || r->stalled || r->unsettled)
        return full(r);
    s = redis_stream_of(r, redis_xadd_stream(&r->xadd, rec));
    l = s ? redis_link_of(r, s) : NULL;
    if (s && !l)
        redis_where_missing(r, s);
    if (!l || !redis_has_room(l, rec->lsn))
        return full(r);
    if (s->claim != REDIS_CLAIMED) {
        read_unread(r, s);
        redis_link_flush(l);
        return full(r);
    }
    if (rec->lsn <= s->stored) { /* after a rewind for another stream */
        r->sink.owner.done(r->sink.owner.arg, rec->lsn, SINK_DONE, NULL);
        return 0;
    }
    redis_batch_add(r, s, rec);
    if (rec->lsn <= r->careful_until)
        redis_batches_send(r);
    return 0;
}

void redis_once_up(struct redis *r)
{
    r->stalled = false;
    rewind_to(r, r->sink.owner.cursor(r->sink.owner.arg));
    read_all(r);
    redis_flush_all(r);
    redis_once_settle(r);
}

static void follow(struct redis *r, struct redis_stream *s)
{
    const struct sink_owner *owner = &r->sink.owner;
    int64_t now = clock_mono_ms();
    struct sink_mark mark;

    if (!redis_link_of(r, s) || s->claim != REDIS_CLAIMED || s->in_flight || s->batch ||
        now - s->reached_ms < REACH_MS || r->reach <= s->stored)
        return;
    owner->mark(owner->arg, r->reach, &mark);
    s->reached_ms = now;
    redis_call_append(s->link, s, &mark, SPAN_NONE, 0);
    redis_link_push(
        s->link, (struct redis_asked){ .what = REDIS_ASKED_BATCH, .lsn = mark.lsn, .stream = s });
    s->sent = mark.lsn;
    s->in_flight++;
    s->link->writes++;
}

void redis_once_tick(struct redis *r)
{
    if (!r->epoch)
        return;
    if (r->stalled && !r->claims) {
        r->stalled = false;
        read_all(r);
        redis_once_settle(r);
    } else if (!r->claims && !r->unsettled) {
        r->reach = r->sink.owner.cursor(r->sink.owner.arg);
        redis_streams_each(r, follow);
    }
}
