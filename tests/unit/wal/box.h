/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of the log share: a log with small segments in a folder of its own, and a thread
 * that waits for its answers. */
#pragma once

#include "table.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"
#include "wal.h"

#define SEGMENT 65536

struct box { /* a log and a thread that waits for its answers */
    char dir[64];
    struct wal_cfg cfg;
    struct wal_dedup_cfg dedup;
    struct wal *wal;
    struct inbox in;
    struct msg failed;
    bool has_failed;
};

struct one {
    struct wal_append append;
    bool back;
};

static UNUSED void on_done(struct msg *m, void *self UNUSED)
{
    container_of(container_of(m, struct wal_append, msg), struct one, append)->back = true;
}

static UNUSED void on_failed(struct msg *m, void *self UNUSED)
{
    container_of(m, struct box, failed)->has_failed = true;
}

static UNUSED int try_open(struct box *b, struct err *e)
{
    int rc = wal_open(&b->wal, &b->cfg, &b->dedup, e);

    if (!rc)
        wal_start(b->wal, &b->in, &b->failed);
    return rc;
}

static UNUSED void open_log(struct box *b)
{
    struct err e = ERR_INIT;

    if (try_open(b, &e))
        fail_msg("%s", e.text);
}

static UNUSED void init_box(struct box *b, const char *dir)
{
    snprintf(b->dir, sizeof b->dir, "%s", dir);
    b->cfg = (struct wal_cfg){ .dir = b->dir,
                               .segment_bytes = SEGMENT,
                               .retain_ms = 3600000,
                               .retain_bytes = GIB(1),
                               .backlog_bytes = GIB(1),
                               .allow_volatile = true };
    b->dedup = (struct wal_dedup_cfg){ .window_ms = 3600000, .entries = 1000 };
    inbox_init(&b->in);
    b->failed.deliver = on_failed;
}

static UNUSED int set_up(void **state)
{
    struct box *b = calloc(1, sizeof *b);
    char dir[] = "build/wal-XXXXXX";

    assert_non_null(mkdtemp(dir));
    init_box(b, dir);
    *state = b;
    return 0;
}

static UNUSED int tear_down(void **state)
{
    struct box *b = *state;
    char command[128];

    wal_close(b->wal);
    inbox_close(&b->in);
    snprintf(command, sizeof command, "rm -rf %s", b->dir);
    assert_int_equal(system(command), 0);
    free(b);
    return 0;
}

static UNUSED void wait_back(struct box *b, struct one *v, size_t n)
{
    for (size_t i = 0; i < n;) {
        struct pollfd p = { .fd = b->in.fd, .events = POLLIN };
        if (v[i].back) {
            i++;
            continue;
        }
        assert_int_equal(poll(&p, 1, 20000), 1);
        inbox_run(&b->in, b);
    }
}

/* A group of its own. */
static UNUSED void hand_over(struct box *b, struct one *o)
{
    struct msg_list l = { NULL, NULL };

    msg_list_add(&l, &o->append.msg);
    wal_submit(b->wal, &l);
}

static UNUSED void submit(struct box *b, struct one *o)
{
    hand_over(b, o);
    wait_back(b, o, 1);
}

static UNUSED void prepare(struct box *b, struct one *o, const char *id, const char *body,
                           bool dedup)
{
    *o = (struct one){ .append = { .reply = &b->in,
                                   .done = on_done,
                                   .dedup = dedup,
                                   .rec = { .kind = RECORD_WEBHOOK,
                                            .time_ms = clock_wall_ms(),
                                            .source = S("demo"),
                                            .id = span_str(id),
                                            .type = S("video.generated"),
                                            .subject = S("job"),
                                            .content_type = S("application/json"),
                                            .headers = S("webhook-id:1\n"),
                                            .body = span_str(body) } } };
}

static UNUSED void append(struct box *b, struct one *o, const char *id, const char *body,
                          bool dedup)
{
    prepare(b, o, id, body, dedup);
    submit(b, o);
}

/* Appends n records "body-1".. one at a time; returns the last LSN. */
static UNUSED uint64_t append_many(struct box *b, unsigned n)
{
    struct one o;
    char body[32];

    for (unsigned i = 1; i <= n; i++) {
        snprintf(body, sizeof body, "body-%u", i);
        append(b, &o, "", body, false);
        assert_int_equal(o.append.result, WAL_DURABLE);
    }
    return o.append.lsn;
}

/* Reads LSNs 1..n and checks that each body is the one that was written. */
static UNUSED void check_all_there(struct box *b, uint64_t n)
{
    struct err e = ERR_INIT;
    struct wal_reader *r;
    struct record rec;
    char body[32];

    assert_int_equal(wal_reader_open(&r, b->wal, 0, &e), 0);
    for (uint64_t i = 1; i <= n; i++) {
        if (wal_reader_next(r, &rec, NULL, &e) != WAL_READ_OK)
            fail_msg("LSN %llu: %s", (unsigned long long)i, e.text);
        assert_int_equal(rec.lsn, i);
        snprintf(body, sizeof body, "body-%llu", (unsigned long long)i);
        assert_true(span_eq(rec.body, span_str(body)));
        assert_true(span_eq(rec.headers, S("webhook-id:1\n")));
    }
    assert_int_equal(wal_reader_next(r, &rec, NULL, &e), WAL_READ_END);
    wal_reader_close(r);
}

static UNUSED char *segment_path(struct box *b, unsigned number)
{
    static char path[128];

    snprintf(path, sizeof path, "%s/%016u.wal", b->dir, number);
    return path;
}

static UNUSED size_t slurp(const char *path, char **out)
{
    int fd = open(path, O_RDONLY);
    struct stat st;
    ssize_t n;

    assert_true(fd >= 0);
    fstat(fd, &st);
    *out = malloc((size_t)st.st_size);
    n = read(fd, *out, (size_t)st.st_size);
    assert_int_equal(n, st.st_size);
    close(fd);
    return (size_t)n;
}

static UNUSED void spit(const char *path, const char *bytes, size_t n)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    assert_int_equal(write(fd, bytes, n), (ssize_t)n);
    close(fd);
}

/* A folder as kill -9 leaves it: copied while the log is open, without its closing state, and
 * without what the helper is just making, which is renamed while it is copied. */
static UNUSED void freeze(struct box *b, char *to)
{
    char command[256];

    strcpy(to, "build/wal-XXXXXX");
    assert_non_null(mkdtemp(to));
    snprintf(command, sizeof command, "find %s -type f ! -name '*.tmp' -exec cp -t %s {} +", b->dir,
             to);
    assert_int_equal(system(command), 0);
}

static UNUSED void thaw(struct box *b, const char *from)
{
    char command[256];

    snprintf(command, sizeof command, "rm -rf %s/* && cp %s/* %s/", b->dir, from, b->dir);
    assert_int_equal(system(command), 0);
}

static UNUSED void drop(const char *dir)
{
    char command[128];

    snprintf(command, sizeof command, "rm -rf %s", dir);
    assert_int_equal(system(command), 0);
}

/* How far the batches of a frozen first segment go: everything behind it is zero. */
static UNUSED size_t used(const char *bytes, size_t n)
{
    while (n && !bytes[n - 1])
        n--;
    return (n + 7) & ~(size_t)7;
}

/* A test in a box of its own, with a name that says which case of the faults it is. */
#define CASE(text, f)                                                                              \
    {                                                                                              \
        .name = (text), .test_func = (f), .setup_func = set_up, .teardown_func = tear_down         \
    }
