/* SPDX-License-Identifier: Apache-2.0 */
/* Sidecars are made from the deduplication index where it holds all of a segment; whoever reads one
 * must not see a difference. */
#define segment_path path_in_box /* the log has one of its own */
#include "wal/box.h"
#undef segment_path
#include "wal/room.h"

/* The sidecar of a segment that is sealed while running says what reading the segment would. */
static void sidecars_are_what_the_segments_hold(void **state)
{
    struct box *b = *state;
    struct err e = ERR_INIT;
    unsigned checked = 0;
    char id[32];
    struct one o;

    b->cfg.retain_bytes = GIB(1);
    open_log(b);
    for (unsigned i = 0; i < 2000; i++) {
        snprintf(id, sizeof id, i % 3 ? "msg_%u" : "", i);
        append(b, &o, id, "some body", i % 3 != 0);
        assert_int_equal(o.append.result, WAL_DURABLE);
    }
    usleep(100000);
    for (size_t i = 0; i < b->wal->segs_n; i++) {
        struct segment *s = b->wal->segs[i];
        struct sidecar written, read;
        if (!s->sealed || sidecar_read(b->wal, s->number, &written))
            continue;
        assert_int_equal(sidecar_build(b->wal, s, &read, &e), 0);
        assert_int_equal(written.first_lsn, read.first_lsn);
        assert_int_equal(written.last_lsn, read.last_lsn);
        assert_int_equal(written.end, read.end);
        assert_int_equal(written.chain, read.chain);
        assert_int_equal(written.first_ms, read.first_ms);
        assert_int_equal(written.last_ms, read.last_ms);
        assert_int_equal(written.n, read.n);
        for (size_t k = 0; k < read.n; k++) {
            assert_memory_equal(written.v[k].key, read.v[k].key, 16);
            assert_int_equal(written.v[k].lsn, read.v[k].lsn);
            assert_int_equal(written.v[k].time_ms, read.v[k].time_ms);
            assert_int_equal(written.v[k].body_crc, read.v[k].body_crc);
        }
        sidecar_free(&written);
        sidecar_free(&read);
        checked++;
    }
    assert_true(checked > 1);
}

int main(void)
{
    static const struct CMUnitTest tests[] = { cmocka_unit_test_setup_teardown(
        sidecars_are_what_the_segments_hold, set_up, tear_down) };

    log_init(LOG_TEXT, LOG_ERROR);
    return T_RUN(tests);
}
