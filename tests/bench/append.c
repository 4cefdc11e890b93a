/* SPDX-License-Identifier: Apache-2.0 */
/* append DIR (-t SECONDS | -b BYTES) [CORE]: groups of 64 records of 600 bytes into a log, through
 * wal_submit as intake threads hand them over: while one group is written and synced the next is
 * there, so that the log never waits for its callers, who run on that core. Prints one JSON object.
 * With -t the log keeps 128 MiB and is filled so far before the clock starts, as one that runs for
 * longer than it retains; with -b it keeps all. */
#include <err.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"
#include "wal.h"
#include "wal/format.h"

#define GROUP 64
#define BODY 600

#define RETAINED MIB(128)

struct group {
    size_t waiting;
    char id[GROUP][40];
    struct wal_append append[GROUP];
};

struct writer {
    struct inbox in;
    uint64_t number, group_bytes, groups;
    char body[BODY];
    struct group group[2];
};

static void on_failed(struct msg *m UNUSED, void *self UNUSED)
{
}

static void on_done(struct msg *m, void *self)
{
    struct wal_append *a = container_of(m, struct wal_append, msg);
    struct writer *wr = self;

    if (a->result != WAL_DURABLE)
        errx(1, "append: a record was not taken");
    wr->group[a >= wr->group[1].append].waiting--;
}

/* What the load's requests become: as long as theirs are, each id new. */
static void fill_group(struct writer *wr, struct group *g)
{
    static const char headers[] =
        "webhook-id:msg_0199f0c0de000_000000000\nwebhook-timestamp:1790000000\n"
        "webhook-signature:v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n";

    wr->group_bytes = BATCH_HEADER;
    for (size_t i = 0; i < GROUP; i++) {
        int n = snprintf(g->id[i], sizeof g->id[i], "msg_0199f0c0de000_%09llu",
                         (unsigned long long)wr->number++);
        g->append[i] = (struct wal_append){
            .reply = &wr->in,
            .done = on_done,
            .dedup = true,
            .rec = { .kind = RECORD_WEBHOOK,
                     .time_ms = clock_wall_ms(),
                     .source = S("demo"),
                     .id = { g->id[i], (size_t)n },
                     .type = S("batch.succeeded"),
                     .subject = S("job-000000"),
                     .content_type = S("application/json"),
                     .headers = S(headers),
                     .body = { wr->body, BODY } },
        };
        wr->group_bytes += format_record_bytes(&g->append[i].rec);
    }
}

static void await_group(struct writer *wr, const struct group *g)
{
    struct pollfd p = { .fd = wr->in.fd, .events = POLLIN };

    while (g->waiting) {
        if (poll(&p, 1, 10000) <= 0)
            errx(1, "append: no answer for ten seconds");
        inbox_run(&wr->in, wr);
    }
}

static void write_group(struct wal *w, struct writer *wr)
{
    struct group *g = &wr->group[wr->groups++ % 2];
    struct msg_list l = { NULL, NULL };

    await_group(wr, g);
    fill_group(wr, g);
    for (size_t i = 0; i < GROUP; i++)
        msg_list_add(&l, &g->append[i].msg);
    g->waiting = GROUP;
    wal_submit(w, &l);
}

static uint64_t commits(const struct wal *w)
{
    static const char name[] = "hookline_commit_records_count ";
    struct buf text = BUF_INIT;
    uint64_t n;

    wal_metrics(w, &text);
    n = strtoull(strstr(buf_cstr(&text), name) + strlen(name), NULL, 10);
    buf_free(&text);
    return n;
}

/* What was started before stays where it is. */
static void run_on(size_t core)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(core, &set);
    if (sched_setaffinity(0, sizeof set, &set))
        err(1, "append: core %zu", core);
}

int main(int argc, char **argv)
{
    bool timed = argc >= 4 && !strcmp(argv[2], "-t");
    struct wal_cfg cfg = { .dir = argc >= 4 ? argv[1] : NULL,
                           .segment_bytes = MIB(64),
                           .retain_bytes = timed ? RETAINED : GIB(100),
                           .backlog_bytes = GIB(100),
                           .reserve_bytes = MIB(256),
                           .retain_ms = INT64_C(72) * 3600 * 1000,
                           .allow_volatile = true };
    struct wal_dedup_cfg dedup = { .window_ms = cfg.retain_ms, .entries = 1000000 };
    struct writer *wr = xcalloc(1, sizeof *wr);
    struct msg failed_msg = { .deliver = on_failed };
    struct err e = ERR_INIT;
    int64_t start, now;
    uint64_t before, commits_before;
    struct wal *w;

    if (!timed && (argc < 4 || strcmp(argv[2], "-b")))
        errx(64, "append DIR (-t SECONDS | -b BYTES) [CORE]");
    log_init(LOG_TEXT, LOG_WARN);
    inbox_init(&wr->in);
    memset(wr->body, 'x', BODY);
    if (wal_open(&w, &cfg, &dedup, &e))
        errx((int)e.code, "append: %s", e.text);
    wal_start(w, &wr->in, &failed_msg);
    if (argc == 5)
        run_on(strtoul(argv[4], NULL, 10));
    while (timed && wr->groups * wr->group_bytes < 2 * RETAINED)
        write_group(w, wr);
    before = wr->groups;
    commits_before = commits(w);
    start = now = clock_mono_us();
    while (timed ? now - start < (int64_t)(atof(argv[3]) * 1e6)
                 : wr->groups * wr->group_bytes < strtoull(argv[3], NULL, 10)) {
        write_group(w, wr);
        now = clock_mono_us();
    }
    for (int i = 0; i < 2; i++)
        await_group(wr, &wr->group[i]);
    now = clock_mono_us();
    printf("{\"groups\":%llu,\"group_bytes\":%llu,\"commits\":%llu,\"seconds\":%.6f}\n",
           (unsigned long long)(wr->groups - before), (unsigned long long)wr->group_bytes,
           (unsigned long long)(commits(w) - commits_before), (double)(now - start) / 1e6);
    wal_close(w);
    return 0;
}
