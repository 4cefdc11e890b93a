/* SPDX-License-Identifier: Apache-2.0 */
/* append DIR (-t SECONDS | -b BYTES): groups of 64 records of 600 bytes into a log, through
 * wal_submit as an intake thread hands them over, each group awaited before the next; prints one
 * JSON object. With -b it fills a log to that size. */
#include <err.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"
#include "wal.h"
#include "wal/format.h"

#define GROUP 64
#define BODY 600

struct writer {
    struct inbox in;
    size_t waiting;
    uint64_t number, group_bytes;
    char body[BODY], id[GROUP][40];
    struct wal_append append[GROUP];
};

static void on_failed(struct msg *m UNUSED, void *self UNUSED)
{
}

static void on_done(struct msg *m, void *self)
{
    struct writer *wr = self;

    if (container_of(m, struct wal_append, msg)->result != WAL_DURABLE)
        errx(1, "append: a record was not taken");
    wr->waiting--;
}

/* What the load's requests become: as long as theirs are, each id new. */
static void fill_group(struct writer *wr)
{
    static const char headers[] =
        "webhook-id:msg_0199f0c0de000_000000000\nwebhook-timestamp:1790000000\n"
        "webhook-signature:v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n";

    wr->group_bytes = BATCH_HEADER;
    for (size_t i = 0; i < GROUP; i++) {
        int n = snprintf(wr->id[i], sizeof wr->id[i], "msg_0199f0c0de000_%09llu",
                         (unsigned long long)wr->number++);
        wr->append[i] = (struct wal_append){
            .reply = &wr->in,
            .done = on_done,
            .dedup = true,
            .rec = { .kind = RECORD_WEBHOOK,
                     .time_ms = clock_wall_ms(),
                     .source = S("demo"),
                     .id = { wr->id[i], (size_t)n },
                     .type = S("batch.succeeded"),
                     .subject = S("job-000000"),
                     .content_type = S("application/json"),
                     .headers = S(headers),
                     .body = { wr->body, BODY } },
        };
        wr->group_bytes += format_record_bytes(&wr->append[i].rec);
    }
}

static void write_group(struct wal *w, struct writer *wr)
{
    struct pollfd p = { .fd = wr->in.fd, .events = POLLIN };
    struct msg_list l = { NULL, NULL };

    fill_group(wr);
    for (size_t i = 0; i < GROUP; i++)
        msg_list_add(&l, &wr->append[i].msg);
    wr->waiting = GROUP;
    wal_submit(w, &l);
    while (wr->waiting) {
        if (poll(&p, 1, 10000) <= 0)
            errx(1, "append: no answer for ten seconds");
        inbox_run(&wr->in, wr);
    }
}

int main(int argc, char **argv)
{
    struct wal_cfg cfg = { .dir = argc == 4 ? argv[1] : NULL,
                           .segment_bytes = MIB(64),
                           .retain_bytes = GIB(100),
                           .backlog_bytes = GIB(100),
                           .reserve_bytes = MIB(256),
                           .retain_ms = INT64_C(72) * 3600 * 1000,
                           .allow_volatile = true };
    struct wal_dedup_cfg dedup = { .window_ms = cfg.retain_ms, .entries = 1000000 };
    struct writer *wr = xcalloc(1, sizeof *wr);
    bool timed = argc == 4 && !strcmp(argv[2], "-t");
    struct msg failed_msg = { .deliver = on_failed };
    struct err e = ERR_INIT;
    uint64_t groups = 0;
    int64_t start, now;
    struct wal *w;

    if (!timed && (argc != 4 || strcmp(argv[2], "-b")))
        errx(64, "append DIR (-t SECONDS | -b BYTES)");
    log_init(LOG_TEXT, LOG_WARN);
    inbox_init(&wr->in);
    memset(wr->body, 'x', BODY);
    if (wal_open(&w, &cfg, &dedup, &e))
        errx((int)e.code, "append: %s", e.text);
    wal_start(w, &wr->in, &failed_msg);
    start = now = clock_mono_us();
    while (timed ? now - start < (int64_t)(atof(argv[3]) * 1e6)
                 : groups * wr->group_bytes < strtoull(argv[3], NULL, 10)) {
        write_group(w, wr);
        groups++;
        now = clock_mono_us();
    }
    wal_close(w);
    printf("{\"groups\":%llu,\"group_bytes\":%llu,\"seconds\":%.6f}\n", (unsigned long long)groups,
           (unsigned long long)wr->group_bytes, (double)(now - start) / 1e6);
    return 0;
}
