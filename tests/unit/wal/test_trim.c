/* SPDX-License-Identifier: Apache-2.0 */
/* Trimming and what becomes of the files: a trimmed segment is the next spare unless somebody holds
 * it, and nothing of its earlier life is ever believed. */
#include "wal/box.h"

#include <glob.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/vfs.h>

#include "wal/format.h"

#define PAGE 4096

static ino_t inode(struct box *b, unsigned number)
{
    struct stat st;

    return stat(segment_path(b, number), &st) ? 0 : st.st_ino;
}

static void append_one(struct box *b)
{
    static char body[2000];
    struct one o;

    memset(body, 'x', sizeof body - 1);
    append(b, &o, "", body, false);
    assert_int_equal(o.append.result, WAL_DURABLE);
}

/* Appends until segment `number` exists and the helper has had its turns. */
static void append_until(struct box *b, unsigned number)
{
    for (int i = 0; i < 20000 && !inode(b, number); i++)
        append_one(b);
    assert_true(inode(b, number));
}

/* From the first that is retained to the last, without a gap. */
static void check_retained(struct box *b)
{
    struct err e = ERR_INIT;
    struct wal_reader *r;
    struct record rec;
    struct wal_info i;

    wal_info(b->wal, &i);
    assert_int_equal(wal_reader_open(&r, b->wal, i.first_lsn - 1, &e), 0);
    for (uint64_t lsn = i.first_lsn; lsn <= i.durable_lsn; lsn++) {
        enum wal_read what = wal_reader_next(r, &rec, NULL, &e);
        if (what ==
            WAL_READ_GONE) { /* the helper trims meanwhile: on with the first that is left */
            wal_info(b->wal, &i);
            assert_true(i.first_lsn > lsn);
            lsn = i.first_lsn - 1;
            continue;
        }
        if (what != WAL_READ_OK)
            fail_msg("LSN %llu: %s", (unsigned long long)lsn, e.text);
        assert_int_equal(rec.lsn, lsn);
    }
    assert_int_equal(wal_reader_next(r, &rec, NULL, &e), WAL_READ_END);
    wal_reader_close(r);
}

static bool any(struct box *b, const char *pattern)
{
    char path[128];
    glob_t g;
    bool found;

    snprintf(path, sizeof path, "%s/%s", b->dir, pattern);
    found = glob(path, 0, NULL, &g) == 0;
    globfree(&g);
    return found;
}

static void a_trimmed_segment_becomes_the_next(void **state)
{
    struct box *b = *state;
    ino_t seen[200] = { 0 };
    unsigned again = 0;

    b->cfg.retain_bytes = 2 * SEGMENT;
    open_log(b);
    for (unsigned n = 1; n < ARRAY_LEN(seen) && !again; n++) {
        append_until(b, n);
        seen[n] = inode(b, n);
        for (unsigned k = 1; k < n; k++)
            again += seen[k] == seen[n] && !inode(b, k);
        usleep(20000); /* the helper writes the sidecar that trimming waits for */
    }
    assert_true(again);
    check_retained(b);
}

/* case 32: after a kill the tail of a recycled file is its earlier life: no damage, nothing torn.
 */
static void a_recycled_tail_is_not_torn(void **state)
{
    struct box *b = *state;
    char frozen[64];
    uint64_t last;

    b->cfg.retain_bytes = 2 * SEGMENT;
    open_log(b);
    for (unsigned n = 1; n < 60; n++) {
        append_until(b, n);
        usleep(10000);
    }
    last = wal_durable_lsn(b->wal);
    freeze(b, frozen);
    wal_close(b->wal);
    b->wal = NULL;
    thaw(b, frozen);
    for (int round = 0; round < 3; round++) {
        open_log(b);
        assert_int_equal(wal_durable_lsn(b->wal), last);
        check_retained(b);
        wal_close(b->wal);
        b->wal = NULL;
        assert_false(any(b, "*.torn"));
        thaw(b, frozen);
    }
    drop(frozen);
}

/* Where the batches of a segment end. */
static size_t end_of(const char *p, size_t n)
{
    const uint8_t *bytes = (const uint8_t *)p;
    struct segment_header s;
    struct batch_header h;
    size_t at = SEGMENT_HEADER;

    assert_int_equal(format_get_segment(bytes, &s), 0);
    while (at + BATCH_HEADER <= n && format_get_batch(bytes + at, &h, s.salt, at))
        at += BATCH_HEADER + h.length;
    return at;
}

static bool zeros(const char *p, size_t n)
{
    return !n || (!p[0] && !memcmp(p, p + 1, n - 1));
}

static void zeros_follow_the_last_batch_to_the_end_of_its_page(void **state)
{
    struct box *b = *state;
    unsigned above_an_earlier_life = 0;

    b->cfg.retain_bytes = 2 * SEGMENT;
    open_log(b);
    for (unsigned n = 1; n < 60; n++) {
        append_until(b, n);
        usleep(10000);
        if (!inode(b, n - 1))
            continue;
        char *p;
        size_t bytes = slurp(segment_path(b, n - 1), &p), end = end_of(p, bytes);
        size_t page = MIN(bytes, (end + PAGE - 1) / PAGE * PAGE);
        if (end > SEGMENT_HEADER)
            assert_true(zeros(p + end, page - end));
        above_an_earlier_life += end > SEGMENT_HEADER && !zeros(p + page, bytes - page);
        free(p);
    }
    assert_true(above_an_earlier_life);
}

/* Skips the test where the file system has no pages to let go. */
static unsigned resident_pages(struct box *b, unsigned number)
{
    unsigned char there[SEGMENT / PAGE];
    unsigned resident = 0;
    struct statfs fs;
    int fd = open(segment_path(b, number), O_RDONLY | O_DIRECT);
    void *p;

    assert_int_equal(statfs(b->dir, &fs), 0);
    if (fd < 0 || fs.f_type == TMPFS_MAGIC) {
        print_message("# the file system has no writes past the page cache\n");
        skip();
    }
    p = mmap(NULL, SEGMENT, PROT_READ, MAP_SHARED, fd, 0);
    assert_true(p != MAP_FAILED);
    assert_int_equal(mincore(p, SEGMENT, there), 0);
    for (size_t i = 0; i < ARRAY_LEN(there); i++)
        resident += there[i] & 1;
    munmap(p, SEGMENT);
    close(fd);
    return resident;
}

/* A spare that nobody has used yet takes no memory but for its header. */
static void the_zeros_of_a_spare_are_not_in_the_page_cache(void **state)
{
    struct box *b = *state;

    open_log(b);
    append_until(b, 2);
    assert_in_range(resident_pages(b, 2), 0, 1);
}

static void wait_until_forgotten(struct box *b, unsigned number)
{
    for (int i = 0; resident_pages(b, number); i++) {
        assert_true(i < 3000);
        usleep(10000);
    }
}

static void pass_all(struct box *b, struct wal_cursor *c)
{
    struct err e = ERR_INIT;

    assert_int_equal(wal_cursor_set(c, wal_durable_lsn(b->wal), &e), 0);
    assert_int_equal(wal_cursor_sync(c, &e), 0);
}

static bool scrub_is_through(struct box *b)
{
    struct buf json = { 0 };
    bool through;

    wal_damage_json(b->wal, &json);
    buf_addc(&json, '\0');
    through = !strstr(json.p, "\"passes\":0");
    buf_free(&json);
    return through;
}

/* What a sink still has to read stays in the page cache; what all have passed goes, also when a
 * reader or the scrub read it again. */
static void a_delivered_segment_leaves_the_page_cache(void **state)
{
    struct box *b = *state;
    struct err e = ERR_INIT;
    struct wal_cursor *ahead, *behind;
    struct wal_reader *r;
    struct record rec;
    bool changed;

    open_log(b);
    assert_int_equal(wal_cursor_open(b->wal, "a", 0, 7, 0, &ahead, &changed, &e), 0);
    assert_int_equal(wal_cursor_open(b->wal, "b", 0, 7, 0, &behind, &changed, &e), 0);
    append_until(b, 6);
    pass_all(b, ahead);
    usleep(1500000); /* the helper has taken its turn, and the scrub is not here yet */
    assert_in_range(resident_pages(b, 3), 2, SEGMENT / PAGE);
    pass_all(b, behind);
    wait_until_forgotten(b, 1);
    wait_until_forgotten(b, 3);

    assert_int_equal(wal_reader_open(&r, b->wal, 0, &e), 0);
    assert_int_equal(wal_reader_next(r, &rec, NULL, &e), WAL_READ_OK);
    assert_in_range(resident_pages(b, 1), 1, SEGMENT / PAGE);
    wal_reader_close(r);
    wait_until_forgotten(b, 1);
    for (int i = 0; !scrub_is_through(b); i++) {
        assert_true(i < 6000);
        usleep(10000);
    }
    for (unsigned n = 1; n < 5; n++)
        wait_until_forgotten(b, n);
    wal_cursor_close(ahead);
    wal_cursor_close(behind);
}

static void what_a_reader_holds_stays(void **state)
{
    struct box *b = *state;
    struct err e = ERR_INIT;
    struct wal_reader *r;
    struct record rec;
    struct wal_map *hold;
    struct one o;
    ino_t first;

    b->cfg.retain_bytes = 2 * SEGMENT;
    open_log(b);
    append(b, &o, "", "held", false);
    assert_int_equal(wal_reader_open(&r, b->wal, 0, &e), 0);
    assert_int_equal(wal_reader_next(r, &rec, &hold, &e), WAL_READ_OK);
    first = inode(b, 1);
    for (unsigned n = 2; n < 12 || inode(b, 1); n++) {
        append_until(b, n);
        assert_true(inode(b, n) != first);
        assert_true(n < 200);
        usleep(20000);
    }
    assert_true(span_eq(rec.body, S("held"))); /* in the mapping of a file that has no name now */
    assert_int_equal(wal_reader_next(r, &rec, NULL, &e), WAL_READ_GONE);
    wal_reader_close(r);
    wal_release(hold);
}

/* A crash between two renames leaves a file that is neither a segment nor a spare: it is made anew.
 */
static void a_file_set_aside_is_forgotten(void **state)
{
    struct box *b = *state;
    char path[128];

    open_log(b);
    append_one(b);
    wal_close(b->wal);
    b->wal = NULL;
    snprintf(path, sizeof path, "%s/spare.tmp", b->dir);
    spit(path, "half a header", 13);
    open_log(b);
    append_until(b, 4);
    check_retained(b);
    assert_false(any(b, "spare.tmp"));
}

/* P6: the keys of trimmed segments outlive them, over a restart too. */
static void repeats_of_trimmed_records_are_told(void **state)
{
    struct box *b = *state;
    struct wal_info i;
    struct one o;

    b->cfg.retain_bytes = 2 * SEGMENT;
    open_log(b);
    append(b, &o, "msg_1", "x", true);
    for (unsigned n = 2; n < 200; n++) {
        append_until(b, n);
        usleep(20000);
        wal_info(b->wal, &i);
        if (i.first_lsn > 1)
            break;
    }
    assert_true(i.first_lsn > 1);
    wal_close(b->wal);
    open_log(b);
    append(b, &o, "msg_1", "x", true);
    assert_int_equal(o.append.result, WAL_DUPLICATE);
    assert_int_equal(o.append.lsn, 1);
}

/* While the log is written, trimmed and recycled, `hookline log verify` sees no damage. */
static void the_tools_read_a_log_that_moves(void **state)
{
    struct box *b = *state;
    FILE *out = fopen("/dev/null", "w");
    struct err e = ERR_INIT;

    b->cfg.retain_bytes = 2 * SEGMENT;
    open_log(b);
    for (int i = 0; i < 300; i++) {
        for (int k = 0; k < 5; k++)
            append_one(b);
        if (wal_verify(b->dir, out, &e))
            fail_msg("%s", e.text);
    }
    fclose(out);
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        T(a_trimmed_segment_becomes_the_next),
        CASE("case 32: a recycled tail is not torn", a_recycled_tail_is_not_torn),
        T(zeros_follow_the_last_batch_to_the_end_of_its_page),
        T(the_zeros_of_a_spare_are_not_in_the_page_cache),
        T(a_delivered_segment_leaves_the_page_cache),
        T(what_a_reader_holds_stays),
        T(a_file_set_aside_is_forgotten),
        T(repeats_of_trimmed_records_are_told),
        T(the_tools_read_a_log_that_moves),
    };

    log_init(LOG_TEXT, LOG_ERROR);
    return T_RUN(tests);
}
