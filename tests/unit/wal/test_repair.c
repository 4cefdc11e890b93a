/* SPDX-License-Identifier: Apache-2.0 */
/* `hookline log repair` (P4, cases 32 to 35): whatever is wrong, exactly the records that were hit
 * are lost, they are named, their LSNs are never given again, and everything else is there byte for
 * byte. Run twice it does nothing more; killed anywhere it is finished by the next run. */
#include "wal/box.h"
#include "wal/disk.h"
#include "wal/format.h"

#define SMALL 8192 /* a segment: a header and about twenty records */
#define MOST 64

#define broken(...) (printf("# " __VA_ARGS__), printf("\n"), fail())

struct file {
    char name[64];
    char *bytes;
    size_t n;
};

/* A log that was killed: three segments and the spare, kept in memory. */
struct world {
    struct box b;
    struct file v[16];
    size_t n;
    uint64_t last; /* LSN */
    char *out;     /* what the repair said */
    size_t out_n;
};

static void clear(struct world *wd)
{
    DIR *d = opendir(wd->b.dir);
    struct dirent *f;

    while ((f = readdir(d)))
        unlinkat(dirfd(d), f->d_name, 0);
    closedir(d);
}

static char *path_of(struct world *wd, const char *name)
{
    static char path[160];

    snprintf(path, sizeof path, "%s/%s", wd->b.dir, name);
    return path;
}

static void restore(struct world *wd)
{
    clear(wd);
    for (size_t i = 0; i < wd->n; i++)
        spit(path_of(wd, wd->v[i].name), wd->v[i].bytes, wd->v[i].n);
}

static void take_in(struct world *wd, const char *dir)
{
    DIR *d = opendir(dir);
    struct dirent *f;
    char path[320];

    while ((f = readdir(d)))
        if (f->d_type == DT_REG && strcmp(f->d_name, "dedup")) {
            struct file *to = &wd->v[wd->n++];
            snprintf(to->name, sizeof to->name, "%.63s", f->d_name);
            snprintf(path, sizeof path, "%s/%s", dir, f->d_name);
            to->n = slurp(path, &to->bytes);
        }
    closedir(d);
}

static struct file *file_of(struct world *wd, const char *name)
{
    for (size_t i = 0; i < wd->n; i++)
        if (!strcmp(wd->v[i].name, name))
            return &wd->v[i];
    broken("no file %s", name);
    return NULL;
}

static void body_of(uint64_t lsn, char body[160])
{
    memset(body, 'a' + (int)(lsn % 26), 100);
    snprintf(body, 20, "body-%05llu", (unsigned long long)lsn);
    body[10] = '.';
    body[40 + lsn % 60] = '\0';
}

/* Three records that share a batch. */
static void append_three(struct world *wd)
{
    struct one v[3];
    char body[3][160], id[3][32];
    struct msg_list l = { NULL, NULL };

    for (unsigned i = 0; i < 3; i++) {
        body_of(++wd->last, body[i]);
        snprintf(id[i], sizeof id[i], "id-%llu", (unsigned long long)wd->last);
        v[i] = (struct one){ .append = { .reply = &wd->b.in,
                                         .done = on_done,
                                         .dedup = true,
                                         .rec = { .kind = RECORD_WEBHOOK,
                                                  .time_ms = clock_wall_ms(),
                                                  .source = S("demo"),
                                                  .id = span_str(id[i]),
                                                  .type = S("video.generated"),
                                                  .body = span_str(body[i]) } } };
        msg_list_add(&l, &v[i].append.msg);
    }
    wal_submit(wd->b.wal, &l);
    wait_back(&wd->b, v, 3);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(v[i].append.result, WAL_DURABLE);
}

static struct world *make_world(unsigned records)
{
    struct world *wd = calloc(1, sizeof *wd);
    char shm[] = "/dev/shm/repair-XXXXXX", build[] = "build/repair-XXXXXX", frozen[64];
    char *dir = mkdtemp(shm); /* thousands of rounds; nothing is synced anyway */

    disk_reset(DISK_GOOD, 0);
    init_box(&wd->b, dir ? dir : mkdtemp(build));
    wd->b.cfg.segment_bytes = SMALL;
    open_log(&wd->b);
    while (wd->last < records)
        append_three(wd);
    usleep(
        200000); /* the mark that says that the last one is durable; without it nothing is lost */
    for (int i = 0; i < 3000 && access(segment_path(&wd->b, 4), F_OK); i++)
        usleep(10000);
    freeze(&wd->b, frozen);
    wal_close(wd->b.wal);
    wd->b.wal = NULL;
    take_in(wd, frozen);
    drop(frozen);
    return wd;
}

static void free_world(struct world *wd)
{
    clear(wd);
    rmdir(wd->b.dir);
    for (size_t i = 0; i < wd->n; i++)
        free(wd->v[i].bytes);
    free(wd->out);
    inbox_close(&wd->b.in);
    free(wd);
}

static int repair(struct world *wd, struct err *e)
{
    FILE *out;
    int rc;

    free(wd->out);
    wd->out = NULL;
    out = open_memstream(&wd->out, &wd->out_n);
    *e = (struct err)ERR_INIT;
    rc = wal_repair(wd->b.dir, out, e);
    fclose(out);
    return rc;
}

static bool said(struct world *wd, const char *text)
{
    return strstr(wd->out, text) != NULL;
}

/* Opens the log and reads it from the first record: the LSNs in `lost` (0-terminated) are lost, the
 * others as they were. */
static void check_after(struct world *wd, const char *what, const uint64_t *lost)
{
    struct err e = ERR_INIT;
    struct wal_reader *r;
    struct record rec;
    char body[160];

    if (wal_open(&wd->b.wal, &wd->b.cfg, &wd->b.dedup, &e))
        broken("%s: cannot be opened: %s\n# %s", what, e.text, wd->out);
    if (wal_durable_lsn(wd->b.wal) < wd->last)
        broken("%s: ends at LSN %llu", what, (unsigned long long)wal_durable_lsn(wd->b.wal));
    assert_int_equal(wal_reader_open(&r, wd->b.wal, 0, &e), 0);
    for (uint64_t lsn = 1; lsn <= wd->last; lsn++) {
        bool gone = *lost == lsn;
        lost += gone;
        if (wal_reader_next(r, &rec, NULL, &e) != WAL_READ_OK || rec.lsn != lsn)
            broken("%s: LSN %llu: %s", what, (unsigned long long)lsn, e.text);
        if ((rec.kind == RECORD_LOST) != gone)
            broken("%s: LSN %llu is %s\n# %s", what, (unsigned long long)lsn,
                   gone ? "not lost" : "lost", wd->out);
        body_of(lsn, body);
        if (!gone && !span_eq(rec.body, span_str(body)))
            broken("%s: LSN %llu has another body", what, (unsigned long long)lsn);
    }
    assert_int_equal(*lost, 0);
    wal_reader_close(r);
    wal_close(wd->b.wal);
    wd->b.wal = NULL;
}

/* Which record a byte of a segment belongs to: its LSN, or 0; also of
 * the zeros behind it, which nobody reads. */
static void map_lsns(const struct file *f, uint64_t *of)
{
    const uint8_t *b = (const uint8_t *)f->bytes;
    struct segment_header h;
    struct batch_header bh;
    struct record rec;
    size_t pos = SEGMENT_HEADER, n;

    assert_int_equal(format_get_segment(b, &h), 0);
    memset(of, 0, f->n * sizeof *of);
    while (pos + BATCH_HEADER <= f->n && format_get_batch(b + pos, &bh, h.salt, pos)) {
        size_t end = pos + BATCH_HEADER + bh.length;
        for (pos += BATCH_HEADER; pos < end; pos += n) {
            n = format_get_record(b + pos, end - pos, &rec, h.salt, pos);
            for (size_t i = 0; i < format_get32(b + pos) && rec.kind != RECORD_MARKER; i++)
                of[pos + i] = rec.lsn;
        }
    }
}

/* Every byte of one segment, one after the other. */
static const struct flip_row {
    const char *name, *file;
    unsigned char mask;
} flip_rows[] = {
    { "case 33: a bit flipped at every byte of the oldest segment", "0000000000000001.wal", 0x10 },
    { "case 33: a bit flipped at every byte of a middle segment", "0000000000000002.wal", 0x01 },
    { "case 33: a bit flipped at every byte of the active segment", "0000000000000003.wal", 0x80 },
    { "case 33: every byte of a middle segment inverted", "0000000000000002.wal", 0xff },
};

static void flip_one(struct world *wd, const struct flip_row *row, size_t at, uint64_t lsn)
{
    struct file *f = file_of(wd, row->file);
    uint64_t lost[2] = { lsn, 0 };
    char what[96], want[64];
    struct err e;

    snprintf(what, sizeof what, "%s off %zu", row->file, at);
    restore(wd);
    f->bytes[at] = (char)(f->bytes[at] ^ row->mask);
    spit(path_of(wd, f->name), f->bytes, f->n);
    f->bytes[at] = (char)(f->bytes[at] ^ row->mask);
    if (repair(wd, &e))
        broken("%s: %s\n# %s", what, e.text, wd->out);
    snprintf(want, sizeof want, "LSN %llu lost", (unsigned long long)lsn);
    if (lsn ? !said(wd, want) : said(wd, "\nLSN "))
        broken("%s: expected %llu\n# %s", what, (unsigned long long)lsn, wd->out);
    if (repair(wd, &e) || !said(wd, "nothing to repair"))
        broken("%s: the second time: %s\n# %s", what, e.text, wd->out);
    check_after(wd, what, lost);
}

static void flip(void **state)
{
    const struct flip_row *row = *state;
    struct world *wd = make_world(60);
    struct file *f = file_of(wd, row->file);
    uint64_t *of = calloc(f->n, sizeof *of);
    size_t end = used(f->bytes, f->n), hit = 0;

    map_lsns(f, of);
    for (size_t at = 0; at < end; at++) {
        if (at == 96)
            at = SEGMENT_HEADER;
        flip_one(wd, row, at, of[at]);
        hit += of[at] > 0;
    }
    assert_true(hit > 1000);
    free(of);
    free_world(wd);
}

int main(void)
{
    log_init(LOG_TEXT, LOG_ERROR);
    if (!freopen("/dev/null", "w", stderr))
        return 1;
    return T_TABLE(flip_rows, flip);
}
