/* SPDX-License-Identifier: Apache-2.0 */
/* `hookline log repair` (P4, cases 32 to 35): whatever is wrong, exactly the records that were hit
 * are lost, they are named, their LSNs are never given again, and everything else is there byte for
 * byte. Run twice it does nothing more; killed anywhere it is finished by the next run. */
#include "wal/box.h"
#include "wal/disk.h"
#include "crc32c.h"
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
    bool owned;
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

static bool on_disk;

static struct world *make_world(unsigned records)
{
    struct world *wd = calloc(1, sizeof *wd);
    char shm[] = "/dev/shm/repair-XXXXXX", build[] = "build/repair-XXXXXX", frozen[64];
    char *dir = on_disk ? NULL : mkdtemp(shm); /* thousands of rounds; nothing is synced anyway */

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

/* One for all rows: each begins with the files as they were. */
static struct world *shared_world(void)
{
    static struct world *wd;

    return wd ? wd : (wd = make_world(60));
}

static void let_go(struct world *wd)
{
    if (!wd->owned) {
        clear(wd);
        return;
    }
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
    unsigned step;
} flip_rows[] = {
    { "case 33: a bit flipped at every byte of the oldest segment", "0000000000000001.wal", 0x10,
      1 },
    { "case 33: a bit flipped at every byte of a middle segment", "0000000000000002.wal", 0x01, 1 },
    { "case 33: a bit flipped at every byte of the active segment", "0000000000000003.wal", 0x80,
      1 },
    { "case 33: a byte inverted, at every fifth of a middle segment", "0000000000000002.wal", 0xff,
      5 },
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
    struct world *wd = shared_world();
    struct file *f = file_of(wd, row->file);
    uint64_t *of = calloc(f->n, sizeof *of);
    size_t end = used(f->bytes, f->n), hit = 0;

    map_lsns(f, of);
    for (size_t at = 0; at < end; at += row->step) {
        if (at >= 96 && at < SEGMENT_HEADER)
            at = SEGMENT_HEADER;
        flip_one(wd, row, at, of[at]);
        hit += of[at] > 0;
    }
    assert_true(hit > 1000 / row->step);
    free(of);
    let_go(wd);
}

/* --- whole segments, and the files beside them -------------------------------------------------
 */

static void put(struct world *wd, const char *name, const struct file *f)
{
    spit(path_of(wd, name), f->bytes, f->n);
}

static void zap(struct world *wd, const char *name, size_t from, size_t n)
{
    struct file *f = file_of(wd, name);
    char *b = malloc(f->n);

    memcpy(b, f->bytes, f->n);
    memset(b + from, 0, MIN(n, f->n - from));
    spit(path_of(wd, name), b, f->n);
    free(b);
}

static void flip_in(struct world *wd, const char *name, size_t at)
{
    char *b;
    size_t n = slurp(path_of(wd, name), &b);

    b[at] ^= 0x20;
    spit(path_of(wd, name), b, n);
    free(b);
}

#define ONE "0000000000000001.wal"
#define TWO "0000000000000002.wal"
#define THREE "0000000000000003.wal"
#define FOUR "0000000000000004.wal"

static void middle_missing(struct world *wd)
{
    unlink(path_of(wd, TWO));
}

static void two_missing(struct world *wd)
{
    unlink(path_of(wd, TWO));
    flip_in(wd, THREE, SEGMENT_HEADER + 70); /* the witness of where the missing one ended */
}

static void swapped(struct world *wd)
{
    put(wd, ONE, file_of(wd, TWO));
    put(wd, TWO, file_of(wd, ONE));
}

static void duplicated(struct world *wd)
{
    put(wd, TWO, file_of(wd, ONE));
}

static void duplicated_behind(struct world *wd)
{
    put(wd, "0000000000000009.wal", file_of(wd, TWO));
}

/* Of another log: the same bytes with another log id and a right checksum. */
static void foreign(struct world *wd)
{
    struct file *f = file_of(wd, TWO);
    struct segment_header h;
    uint8_t *b = malloc(f->n);

    memcpy(b, f->bytes, f->n);
    assert_int_equal(format_get_segment(b, &h), 0);
    h.log_id[3] ^= 1;
    format_put_segment(b, &h);
    spit(path_of(wd, TWO), (char *)b, f->n);
    free(b);
}

static void truncated(struct world *wd)
{
    assert_int_equal(truncate(path_of(wd, TWO), 5000), 0);
}

static void truncated_to_nothing(struct world *wd)
{
    assert_int_equal(truncate(path_of(wd, TWO), 0), 0);
}

static void page_lost(struct world *wd)
{
    zap(wd, TWO, SEGMENT_HEADER, 512);
}

static void header_and_first_sector_lost(struct world *wd)
{
    zap(wd, TWO, 0, SEGMENT_HEADER + 512);
}

static void active_header_lost(struct world *wd)
{
    zap(wd, THREE, 0, 512);
}

static void header_lost(struct world *wd)
{
    zap(wd, TWO, 0, SEGMENT_HEADER);
}

static void first_all_zeros(struct world *wd)
{
    zap(wd, ONE, 0, SMALL);
}

static void first_and_second_all_zeros(struct world *wd)
{
    zap(wd, ONE, 0, SMALL);
    zap(wd, TWO, 0, 100);
}

static void spare_damaged(struct world *wd)
{
    flip_in(wd, FOUR, 20);
}

static void spare_lost(struct world *wd)
{
    zap(wd, FOUR, 0, SEGMENT_HEADER);
}

static void sidecar_damaged(struct world *wd)
{
    flip_in(wd, "0000000000000001.idx", 100);
}

static void id_flipped(struct world *wd)
{
    flip_in(wd, "id", 12);
}

static void id_lost(struct world *wd)
{
    unlink(path_of(wd, "id"));
}

static void killed_in_between(struct world *wd)
{
    flip_in(wd, TWO, SEGMENT_HEADER + 500);
    spit(path_of(wd, "repair.tmp"), "half", 4);
}

/* Both slots say that a sink has everything up to that LSN. */
static void put_cursor(struct world *wd, uint64_t lsn)
{
    uint8_t b[4096 + 48] = "HOOKCUR1";

    format_put64(b + 8, 7);
    format_put64(b + 16, lsn);
    format_put32(b + 44, crc32c(0, b, 44));
    memcpy(b + 4096, b, 48);
    spit(path_of(wd, "sink-k.cursor"), (char *)b, sizeof b);
}

static void active_cut(struct world *wd)
{
    put_cursor(wd, wd->last);
    assert_int_equal(truncate(path_of(wd, THREE), SEGMENT_HEADER + 500), 0);
}

static void active_missing(struct world *wd)
{
    unlink(path_of(wd, THREE));
    unlink(path_of(wd, FOUR));
}

static void active_missing_before_the_spare(struct world *wd)
{
    put_cursor(wd, wd->last);
    unlink(path_of(wd, THREE));
}

static void cursor_ahead(struct world *wd)
{
    put_cursor(wd, wd->last + 100000);
}

static void cursor_bad(struct world *wd)
{
    put_cursor(wd, wd->last);
    flip_in(wd, "sink-k.cursor", 20);
    flip_in(wd, "sink-k.cursor", 4096 + 20);
}

/* Everything at once. */
static void all_kinds(struct world *wd)
{
    put(wd, ONE, file_of(wd, THREE));
    put(wd, THREE, file_of(wd, ONE)); /* swapped */
    flip_in(wd, ONE, SEGMENT_HEADER + 60);
    flip_in(wd, THREE, 40);
    unlink(path_of(wd, TWO));
}

static void nothing(struct world *wd UNUSED)
{
}

/* What is lost: the records of which a byte lies in this range of the file. */
static const struct case_row {
    const char *name;
    void (*damage)(struct world *wd);
    const char *file; /* NULL: nothing is lost */
    size_t from, to;
    const char *says;
    uint64_t skipped; /* LSNs behind the last that nobody knows whether they were given */
} case_rows[] = {
    { "case 33: a log without damage is left alone", nothing, NULL, 0, 0, "nothing to repair" },
    { "case 34: a middle segment is missing", middle_missing, TWO, 0, SMALL, "LSN " },
    { "case 34: a segment is missing and its successor's opening record is damaged", two_missing,
      TWO, 0, SMALL, "LSN " },
    { "case 34: two segments are swapped", swapped, NULL, 0, 0, "under its own number" },
    { "case 34: a segment is there twice, the second time as another", duplicated, TWO, 0, SMALL,
      "a copy of another segment; kept as " ONE ".bad" },
    { "case 34: a copy stands behind the last", duplicated_behind, NULL, 0, 0,
      "a copy of another segment; kept as " TWO ".bad" },
    { "case 34: a segment of another log", foreign, TWO, 0, SMALL,
      "it belongs to another log; kept as " TWO ".bad" },
    { "case 33: a sealed segment is cut short", truncated, TWO, 5000, SMALL, "LSN " },
    { "case 33: a sealed segment is empty", truncated_to_nothing, TWO, 0, SMALL, "LSN " },
    { "case 33: a sector of a sealed segment is zeros", page_lost, TWO, SEGMENT_HEADER,
      SEGMENT_HEADER + 512, "LSN " },
    { "case 33: a segment's header is zeros", header_lost, NULL, 0, 0, "no event lost" },
    { "case 33: a segment's header and its first sector are zeros", header_and_first_sector_lost,
      TWO, 0, SEGMENT_HEADER + 512, "LSN " },
    { "case 33: the active segment's header is zeros", active_header_lost, NULL, 0, 0,
      "no event lost" },
    { "case 33: the oldest segment is zeros", first_all_zeros, ONE, 0, SMALL, "LSN " },
    { "case 33: the oldest segment is zeros, the next one's header too", first_and_second_all_zeros,
      ONE, 0, SMALL, "LSN " },
    { "case 33: the spare's header is damaged", spare_damaged, NULL, 0, 0, "" },
    { "case 33: the spare's header is zeros", spare_lost, NULL, 0, 0, "nothing in it can be read" },
    { "case 34: the active segment is cut short of a cursor", active_cut, THREE,
      SEGMENT_HEADER + 500, SMALL, "LSN " },
    { "case 34: the active segment is missing", active_missing, THREE, 0, SMALL, "LSN ",
      SMALL / 56 },
    { "case 34: the active segment is missing, the spare is not", active_missing_before_the_spare,
      THREE, 0, SMALL, "LSN ", SMALL / 56 },
    { "case 34: a cursor is ahead of the log", cursor_ahead, NULL, 0, 0, "LSN 61..100060 lost",
      100000 },
    { "case 34: both slots of a cursor are bad", cursor_bad, NULL, 0, 0, "nothing to repair" },
    { "case 33: several kinds of damage at once", all_kinds, TWO, 0, SMALL, "LSN " },
    { "case 34: a sidecar is damaged", sidecar_damaged, NULL, 0, 0, "" },
    { "case 33: the file id is damaged", id_flipped, NULL, 0, 0, "id: it was damaged" },
    { "case 34: the file id is missing", id_lost, NULL, 0, 0, "id: made anew" },
    { "case 33: a repair was killed", killed_in_between, TWO, SEGMENT_HEADER + 500,
      SEGMENT_HEADER + 501, "LSN " },
};

static void lost_of(struct world *wd, const struct case_row *row, uint64_t lost[MOST])
{
    struct file *f = row->file ? file_of(wd, row->file) : NULL;
    uint64_t *of = f ? calloc(f->n, sizeof *of) : NULL;
    size_t n = 0;

    memset(lost, 0, MOST * sizeof *lost);
    if (f)
        map_lsns(f, of);
    for (size_t at = row->from; f && at < MIN(row->to, f->n); at++)
        if (of[at] && (!n || lost[n - 1] != of[at]))
            lost[n++] = of[at];
    free(of);
}

static void one_case(void **state)
{
    const struct case_row *row = *state;
    struct world *wd = shared_world();
    uint64_t lost[MOST];
    struct one o;
    struct err e;

    lost_of(wd, row, lost);
    restore(wd);
    row->damage(wd);
    if (repair(wd, &e) || !said(wd, row->says))
        broken("%s: %s\n# %s", row->name, e.text, wd->out);
    if (repair(wd, &e) || !said(wd, "nothing to repair"))
        broken("the second time: %s\n# %s", e.text, wd->out);
    check_after(wd, row->name, lost);
    open_log(&wd->b); /* the next LSN was never given */
    append(&wd->b, &o, "", "more", false);
    assert_true(o.append.lsn > wd->last);
    assert_true(o.append.lsn <= wd->last + row->skipped + 1);
    wal_close(wd->b.wal);
    wd->b.wal = NULL;
    let_go(wd);
}

/* --- what was lost can be sent again -------------------------------------------------------------
 */

static const struct again_row {
    const char *name;
    bool delivered;
    enum wal_result want;
} again_rows[] = {
    { "an event that was lost before it was delivered can be sent again", false, WAL_DURABLE },
    { "an event that was lost after it was delivered is a repeat", true, WAL_DUPLICATE },
};

static void again(void **state)
{
    const struct again_row *row = *state;
    struct world *wd = shared_world();
    struct file *f = file_of(wd, ONE);
    char *at = memmem(f->bytes, f->n, "body-00005", 10);
    struct one o;
    struct err e;

    restore(wd);
    if (row->delivered)
        put_cursor(wd, wd->last);
    flip_in(wd, ONE, (size_t)(at - f->bytes));
    if (repair(wd, &e) || !said(wd, "LSN 5 lost"))
        broken("%s\n# %s", e.text, wd->out);
    open_log(&wd->b);
    append(&wd->b, &o, "id-5", "again", true);
    assert_int_equal(o.append.result, row->want);
    append(&wd->b, &o, "id-6", "again", true);
    assert_int_equal(o.append.result, WAL_DUPLICATE);
    assert_int_equal(o.append.lsn, 6);
    wal_close(wd->b.wal);
    wd->b.wal = NULL;
    let_go(wd);
}

/* --- what cannot be repaired is not touched ------------------------------------------------------
 */

static void empty(struct world *wd)
{
    clear(wd);
}

static void only_a_cursor(struct world *wd)
{
    clear(wd);
    put(wd, "id", file_of(wd, "id"));
    put_cursor(wd, 20);
}

static void newer_format(struct world *wd)
{
    struct file *f = file_of(wd, TWO);
    struct segment_header h;
    uint8_t head[SEGMENT_HEADER];

    assert_int_equal(format_get_segment((const uint8_t *)f->bytes, &h), 0);
    h.format = h.min_reader = FORMAT_VERSION + 1;
    format_put_segment(head, &h);
    spit(path_of(wd, TWO), (char *)head, sizeof head);
}

static void id_of_another_log(struct world *wd)
{
    struct file *f = file_of(wd, "id");
    uint8_t b[44];

    memcpy(b, f->bytes, sizeof b);
    b[9] ^= 1;
    format_put32(b + 40, crc32c(0, b, 40));
    spit(path_of(wd, "id"), (char *)b, sizeof b);
}

static const struct refuse_row {
    const char *name;
    void (*damage)(struct world *wd);
    enum exit_code code;
    const char *says;
} refuse_rows[] = {
    { "case 35: no log is there to be repaired", empty, EXIT_IO, "no log in" },
    { "case 34: cursors without a segment", only_a_cursor, EXIT_DAMAGED, "no segment is left" },
    { "case 35: a newer format is not repaired", newer_format, EXIT_BAD_CONFIG, "has format 2" },
    { "case 34: all segments are of another log", id_of_another_log, EXIT_DAMAGED, "remove id" },
};

static unsigned count_files(struct world *wd)
{
    DIR *d = opendir(wd->b.dir);
    struct dirent *f;
    unsigned n = 0;

    while ((f = readdir(d)))
        n += f->d_type == DT_REG && strcmp(f->d_name, "lock");
    closedir(d);
    return n;
}

static void refuse(void **state)
{
    const struct refuse_row *row = *state;
    struct world *wd = shared_world();
    unsigned files;
    struct err e;

    restore(wd);
    row->damage(wd);
    files = count_files(wd);
    assert_int_equal(repair(wd, &e), -1);
    assert_int_equal(e.code, row->code);
    if (!strstr(e.text, row->says))
        broken("%s", e.text);
    assert_int_equal(count_files(wd), files);
    let_go(wd);
}

/* --- anything, anywhere -------------------------------------------------------------------------
 */

/* Some pieces of some segments overwritten, whole headers among them. Marks what they hit. */
static void scribble(struct world *wd, unsigned *seed, bool *hit)
{
    static const char *const names[] = { ONE, TWO, THREE };

    for (int pieces = 1 + rand_r(seed) % 3; pieces--;) {
        struct file *f = file_of(wd, names[rand_r(seed) % 3]);
        uint64_t *of = calloc(f->n, sizeof *of);
        size_t from = (size_t)rand_r(seed) % f->n, n = 1u << rand_r(seed) % 13;
        char *b, with = (char)(rand_r(seed) % 2 ? 0 : rand_r(seed));
        size_t size = slurp(path_of(wd, f->name), &b);
        map_lsns(f, of);
        for (size_t at = from; at < MIN(from + n, size); at++) {
            if (of[at] && b[at] != with)
                hit[of[at]] = true;
            b[at] = with;
        }
        spit(path_of(wd, f->name), b, size);
        free(of);
        free(b);
    }
}

static void case33_anything_anywhere(void **state UNUSED)
{
    struct world *wd = shared_world();
    unsigned all = 0;

    for (unsigned round = 1; round <= 1000; round++) {
        bool hit[MOST] = { false };
        uint64_t lost[MOST] = { 0 };
        unsigned seed = round, n = 0;
        char what[64];
        struct err e;

        snprintf(what, sizeof what, "seed %u", round);
        restore(wd);
        put_cursor(wd, wd->last);
        scribble(wd, &seed, hit);
        for (uint64_t lsn = 1; lsn <= wd->last; lsn++)
            if (hit[lsn])
                lost[n++] = lsn;
        all += n;
        if (repair(wd, &e))
            broken("%s: %s\n# %s", what, e.text, wd->out);
        check_after(wd, what, lost);
    }
    assert_true(all > 500);
    let_go(wd);
}

/* --- the repair itself is cut off ----------------------------------------------------------------
 */

static const struct cut_row {
    const char *name;
    enum disk_mode mode;
} cut_rows[] = {
    { "case 26: a repair is killed before the n-th call", DISK_DEAD },
    { "case 27: the power fails at the n-th call of a repair", DISK_POWER },
    { "case 29: the n-th call of a repair fails", DISK_EIO },
    { "case 29: the n-th read or write of a repair is short", DISK_SHORT },
    { "case 30: the disk is full from the n-th call of a repair on", DISK_FULL },
};

static void cut(void **state)
{
    const struct cut_row *row = *state;
    struct world *wd;
    uint64_t lost[MOST];
    unsigned n = 0, finished = 0;
    struct err e;
    bool hit;

    on_disk = row->mode == DISK_POWER; /* names are taken back within one file system */
    wd = on_disk ? make_world(60) : shared_world();
    wd->owned = on_disk;
    lost_of(wd, &(struct case_row){ .file = TWO, .to = SMALL }, lost);
    do {
        char what[64];
        snprintf(what, sizeof what, "call %u", ++n);
        restore(wd);
        all_kinds(wd);
        disk_reset(row->mode, n);
        finished += repair(wd, &e) == 0;
        hit = disk.hit;
        disk_settle();
        disk_reset(DISK_GOOD, 0);
        if (repair(wd, &e))
            broken("%s: %s\n# %s", what, e.text, wd->out);
        check_after(wd, what, lost);
    } while (hit);
    assert_true(n > 100);
    assert_true(finished > 0);
    on_disk = false;
    let_go(wd);
}

int main(void)
{
    static const struct CMUnitTest tests[] = { cmocka_unit_test(case33_anything_anywhere) };
    int failed;

    log_init(LOG_TEXT, LOG_ERROR);
    if (!freopen("/dev/null", "w", stderr))
        return 1;
    failed = T_TABLE(case_rows, one_case) + T_TABLE(again_rows, again) +
             T_TABLE(refuse_rows, refuse) + T_TABLE(cut_rows, cut) + T_RUN(tests) +
             T_TABLE(flip_rows, flip);
    shared_world()->owned = true;
    let_go(shared_world());
    return failed;
}
