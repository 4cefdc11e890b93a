/* SPDX-License-Identifier: Apache-2.0 */
/* Epochs: what this folder made is known, in whatever state the file is; nothing else is. And the
 * fence, which keeps a folder closed until somebody decides. */
#include "wal/box.h"

static void tail_of(struct box *b, off_t size, const char *more)
{
    char path[128];
    int fd;

    snprintf(path, sizeof path, "%s/sink-k.epochs", b->dir);
    fd = open(path, O_WRONLY | O_APPEND);
    assert_int_equal(ftruncate(fd, size), 0);
    assert_int_equal(write(fd, more, strlen(more)), strlen(more));
    close(fd);
}

static void reopen(struct box *b)
{
    wal_close(b->wal);
    b->wal = NULL;
    open_log(b);
}

static void what_was_made_is_known(void **state)
{
    struct box *b = *state;
    struct err e = ERR_INIT;
    uint64_t one, two;

    open_log(b);
    assert_false(wal_epoch_known(b->wal, "k", 7));
    assert_int_equal(wal_epoch_make(b->wal, "k", &one, &e), 0);
    assert_int_equal(wal_epoch_make(b->wal, "k", &two, &e), 0);
    assert_int_not_equal(one, two);
    assert_int_not_equal(one, 0);
    reopen(b);
    assert_true(wal_epoch_known(b->wal, "k", one));
    assert_true(wal_epoch_known(b->wal, "k", two));
    assert_false(wal_epoch_known(b->wal, "k", one + 1));
    assert_false(wal_epoch_known(b->wal, "k", 0));
    assert_false(wal_epoch_known(b->wal, "other", one));
}

static void having_written_is_remembered(void **state)
{
    struct box *b = *state;
    struct err e = ERR_INIT;
    uint64_t epoch;

    open_log(b);
    assert_int_equal(wal_epoch_make(b->wal, "k", &epoch, &e), 0);
    assert_false(wal_epoch_has_written(b->wal, "k"));
    assert_int_equal(wal_epoch_wrote(b->wal, "k", epoch, &e), 0);
    reopen(b);
    assert_true(wal_epoch_has_written(b->wal, "k"));
    assert_false(wal_epoch_has_written(b->wal, "other"));
    assert_true(wal_epoch_known(b->wal, "k", epoch));
}

static const struct torn_row {
    const char *name;
    off_t size; /* what the file, with two entries, is cut to */
    const char *more;
    bool second; /* is still known */
} torn_rows[] = {
    { "whole", 4096, "", true },
    { "no room, and torn at the end", 64, "half an entry", true },
    { "torn in its last entry", 63, "", false },
    { "an entry of rubbish", 64, "................................", true },
    { "rubbish and a torn one", 64, "................................x", true },
};

static void a_torn_file(void **state)
{
    const struct torn_row *r = *state;
    struct err e = ERR_INIT;
    uint64_t v[3];
    void *box;
    struct box *b;

    set_up(&box);
    b = box;
    open_log(b);
    assert_int_equal(wal_epoch_make(b->wal, "k", &v[0], &e), 0);
    assert_int_equal(wal_epoch_make(b->wal, "k", &v[1], &e), 0);
    tail_of(b, r->size, r->more);
    assert_int_equal(wal_epoch_make(b->wal, "k", &v[2], &e), 0);
    assert_true(wal_epoch_known(b->wal, "k", v[0]));
    assert_int_equal(wal_epoch_known(b->wal, "k", v[1]), r->second);
    assert_true(wal_epoch_known(b->wal, "k", v[2]));
    tear_down(&box);
}

static void a_crash_loop_does_not_fill_the_disk(void **state)
{
    struct box *b = *state;
    struct err e = ERR_INIT;
    uint64_t first, last;
    struct stat st;
    char path[128], *bytes, *many;

    open_log(b);
    assert_int_equal(wal_epoch_make(b->wal, "k", &first, &e), 0);
    snprintf(path, sizeof path, "%s/sink-k.epochs", b->dir);
    assert_int_equal(slurp(path, &bytes), 4096);
    many = malloc(32 * 65535);
    for (int i = 0; i < 65535; i++)
        memcpy(many + 32 * i, bytes, 32);
    spit(path, many, 32 * 65535);
    free(bytes);
    free(many);
    assert_int_equal(wal_epoch_make(b->wal, "k", &last, &e), 0);
    assert_true(wal_epoch_known(b->wal, "k", first));
    assert_int_equal(wal_epoch_make(b->wal, "k", &first, &e), 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, 32 * 65536 / 2 + 4096);
    assert_true(wal_epoch_known(b->wal, "k", last));
    assert_true(wal_epoch_known(b->wal, "k", first));
}

/* A start on a full disk: what is written lies within the file. */
static void the_file_grows_by_blocks(void **state)
{
    struct box *b = *state;
    struct err e = ERR_INIT;
    uint64_t epochs[200];
    struct stat st;
    char path[128];

    open_log(b);
    snprintf(path, sizeof path, "%s/sink-k.epochs", b->dir);
    for (unsigned i = 0; i < 200; i++) {
        assert_int_equal(wal_epoch_make(b->wal, "k", &epochs[i], &e), 0);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_size, i < 128 ? 4096 : 8192);
    }
    for (unsigned i = 0; i < 200; i++)
        assert_true(wal_epoch_known(b->wal, "k", epochs[i]));
}

static void the_crc_of_a_record(void **state)
{
    struct box *b = *state;
    struct err e = ERR_INIT;
    uint32_t one, two, again;
    struct one o;

    open_log(b);
    append(b, &o, "a", "body", false);
    append(b, &o, "b", "body", false);
    assert_int_equal(wal_record_crc(b->wal, 1, &one, &e), 0);
    assert_int_equal(wal_record_crc(b->wal, 2, &two, &e), 0);
    assert_int_not_equal(one, two);
    assert_int_equal(wal_record_crc(b->wal, 0, &two, &e), 1);
    assert_int_equal(wal_record_crc(b->wal, 3, &two, &e), 1);
    reopen(b);
    assert_int_equal(wal_record_crc(b->wal, 1, &again, &e), 0);
    assert_int_equal(one, again);
}

/* Each part counts, and where one ends and the next begins. */
static const struct part_row {
    const char *name;
    struct record rec;
} part_rows[] = {
    { "lsn", { .lsn = 2, .kind = RECORD_WEBHOOK, .id = { "ab", 2 } } },
    { "kind", { .lsn = 1, .kind = RECORD_INTERNAL, .id = { "ab", 2 } } },
    { "time", { .lsn = 1, .kind = RECORD_WEBHOOK, .time_ms = 1, .id = { "ab", 2 } } },
    { "id", { .lsn = 1, .kind = RECORD_WEBHOOK, .id = { "ac", 2 } } },
    { "a border", { .lsn = 1, .kind = RECORD_WEBHOOK, .id = { "a", 1 }, .type = { "b", 1 } } },
    { "body", { .lsn = 1, .kind = RECORD_WEBHOOK, .id = { "ab", 2 }, .body = { "x", 1 } } },
};

static void every_part_counts(void **state)
{
    const struct part_row *r = *state;
    const struct record rec = { .lsn = 1, .kind = RECORD_WEBHOOK, .id = { "ab", 2 } };

    assert_int_not_equal(record_crc(&r->rec), record_crc(&rec));
}

static void a_fence_keeps_the_folder_closed(void **state)
{
    struct box *b = *state;
    struct err e = ERR_INIT;

    open_log(b);
    assert_false(wal_taken_over(b->wal));
    assert_int_equal(wal_fence(b->wal, "met a rival\n", &e), 0);
    wal_close(b->wal);
    b->wal = NULL;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(try_open(b, &e), -1);
        assert_int_equal(e.code, EXIT_TEMPORARY);
        assert_non_null(strstr(e.text, "met a rival;"));
        assert_non_null(strstr(e.text, "hookline serve --takeover"));
        assert_non_null(strstr(e.text, "hookline log fork build/wal-"));
    }
    b->cfg.takeover = true;
    open_log(b);
    assert_true(wal_taken_over(b->wal));
    b->cfg.takeover = false;
    reopen(b); /* it was lifted for good */
    assert_false(wal_taken_over(b->wal));
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        T(what_was_made_is_known),
        T(having_written_is_remembered),
        T(a_crash_loop_does_not_fill_the_disk),
        T(the_file_grows_by_blocks),
        T(the_crc_of_a_record),
        T(a_fence_keeps_the_folder_closed),
    };

    return T_TABLE(torn_rows, a_torn_file) + T_TABLE(part_rows, every_part_counts) + T_RUN(tests);
}
