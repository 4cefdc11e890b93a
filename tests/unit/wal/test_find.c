/* SPDX-License-Identifier: Apache-2.0 */
/* Finding by id and by time in a log of many segments says what reading all of it would, whatever
 * the sidecars hold; where they have the ids, hardly anything is read. */
#define segment_path path_in_box /* the log has one of its own */
#include "wal/box.h"
#undef segment_path
#include "crc32c.h"
#include "wal/room.h"

#define MOST 8192
#define RECORDS 900

/* --- the table of ids
 * ------------------------------------------------------------------------------------------ */

static const struct shape {
    const char *name;
    size_t n;
    uint32_t spread; /* how many different hashes there are; 0: any */
} shapes[] = {
    { "no id", 0, 0 },        { "one id", 1, 0 },           { "a block", 510, 0 },
    { "one more", 511, 0 },   { "many blocks", 8000, 0 },   { "all alike, one block", 300, 1 },
    { "all alike", 3000, 1 }, { "a few alike", 4000, 900 },
};

/* The first LSN behind `after` with that hash, by looking at all. */
static uint64_t model(const struct sidecar *sc, uint32_t hash, uint64_t after)
{
    for (size_t i = 0; i < sc->n; i++)
        if (sc->v[i].lsn > after && format_get32(sc->v[i].key + DEDUP_ID_AT) == hash)
            return sc->v[i].lsn;
    return 0;
}

static void ask(struct box *b, const struct segment *s, const struct sidecar *sc, uint32_t hash)
{
    const uint64_t afters[] = { 0, s->first_lsn - 1, s->first_lsn, s->first_lsn + 700 };

    for (size_t i = 0; i < ARRAY_LEN(afters); i++) {
        uint64_t want = model(sc, hash, afters[i]), lsn = 0;
        enum ids_answer got = ids_find(b->wal, s, hash, afters[i], &lsn);

        assert_int_equal(got, want ? IDS_MAYBE : IDS_NONE);
        if (want)
            assert_int_equal(lsn, want);
    }
}

/* Every hash that is there, their neighbours, the ends. */
static void the_table_finds_what_is_in_it(void **state)
{
    const struct shape *shape = *state;
    struct segment s = { .number = 77, .first_lsn = 5000, .sealed = true };
    struct sidecar sc = { .number = 77, .first_lsn = 5000, .n = shape->n, .has_ids = true };
    struct err e = ERR_INIT;
    struct box *b;

    set_up((void **)&b);
    open_log(b);
    sc.v = xcalloc(MOST, sizeof *sc.v);
    for (size_t i = 0; i < sc.n; i++) {
        uint32_t hash = (uint32_t)i * 2654435761u;
        sc.v[i].lsn = 5000 + 2 * i; /* some have none */
        if (shape->spread)
            hash = hash % shape->spread * (UINT32_MAX / shape->spread);
        format_put32(sc.v[i].key + DEDUP_ID_AT, hash);
    }
    s.last_lsn = sc.last_lsn = 5000 + 2 * sc.n;
    assert_int_equal(sidecar_write(b->wal, &sc, &e), 0);
    sidecar_known(&s, &sc);
    for (size_t i = 0; i < sc.n; i += 7) {
        uint32_t hash = format_get32(sc.v[i].key + DEDUP_ID_AT);
        ask(b, &s, &sc, hash);
        ask(b, &s, &sc, hash + 1);
        ask(b, &s, &sc, hash - 1);
    }
    ask(b, &s, &sc, 0);
    ask(b, &s, &sc, UINT32_MAX);
    sidecar_free(&sc);
    tear_down((void **)&b);
}

/* --- a log
 * ------------------------------------------------------------------------------------------ */

static void write_log(struct box *b, bool some_unclaimed)
{
    char id[32];
    struct one o;

    b->dedup.entries = 10000;
    b->cfg.retain_ms = INT64_MAX / 2; /* its records are old */
    open_log(b);
    for (unsigned i = 0; i < RECORDS; i++) {
        bool none = some_unclaimed && i % 50 == 0;
        snprintf(id, sizeof id, i % 9 == 4 && !none ? "" : "msg_%u", i / 2);
        prepare(b, &o, id, "a body that takes some room, so that there are several segments of it",
                id[0] && !none);
        o.append.rec.type = i % 2 ? S("a") : S("b");                /* so each id comes twice */
        o.append.rec.time_ms = 1700000000000 + i * 10 - i % 3 * 25; /* a little out of order */
        submit(b, &o);
        assert_int_equal(o.append.result, WAL_DURABLE);
    }
}

/* All sealed segments have their sidecars. */
static void await_sidecars(struct box *b)
{
    for (bool all = false; !all; usleep(1000)) {
        all = true;
        pthread_mutex_lock(&b->wal->lock);
        for (size_t i = 0; i < b->wal->segs_n; i++)
            all &= !b->wal->segs[i]->sealed || b->wal->segs[i]->has_sidecar;
        pthread_mutex_unlock(&b->wal->lock);
    }
    assert_true(b->wal->segs_n > 3);
}

/* How many records must be read for an id in sealed segments; each of them counts in *hits that has
 * it. */
static unsigned search(struct box *b, const char *id, unsigned *hits)
{
    struct err e = ERR_INIT;
    unsigned reads = 0;
    struct wal_reader *r;
    struct record rec;
    uint64_t at = 0;

    *hits = 0;
    assert_int_equal(wal_reader_open(&r, b->wal, 0, &e), 0);
    for (struct wal_part p = { 0, 0 }; p.to != UINT64_MAX;) {
        p = wal_find_id(b->wal, span_str(id), at);
        assert_true(p.from > at);
        wal_reader_seek(r, at = p.from - 1);
        while (at < p.to && wal_reader_next(r, &rec, NULL, &e) == WAL_READ_OK) {
            at = rec.lsn;
            reads += p.to != UINT64_MAX;
            *hits += span_eq(rec.id, span_str(id));
        }
    }
    wal_reader_close(r);
    return reads;
}

static unsigned by_reading(struct box *b, const char *id)
{
    struct err e = ERR_INIT;
    struct wal_reader *r;
    struct record rec;
    unsigned hits = 0;

    assert_int_equal(wal_reader_open(&r, b->wal, 0, &e), 0);
    while (wal_reader_next(r, &rec, NULL, &e) == WAL_READ_OK)
        hits += span_eq(rec.id, span_str(id));
    wal_reader_close(r);
    return hits;
}

static void check_ids(struct box *b, unsigned reads_most)
{
    char id[32];
    unsigned hits;

    for (unsigned i = 0; i < RECORDS / 2 + 3; i++) {
        snprintf(id, sizeof id, "msg_%u", i);
        assert_true(search(b, id, &hits) <= reads_most);
        assert_int_equal(hits, by_reading(b, id));
    }
}

static void an_id_is_found_without_reading(void **state)
{
    struct box *b = *state;

    write_log(b, false);
    await_sidecars(b);
    check_ids(b, 2);
    wal_close(b->wal);
    open_log(b);
    check_ids(b, 2);
}

/* Of a source without deduplication the index knows no ids: those segments are read. */
static void ids_that_are_not_known_are_read_for(void **state)
{
    struct box *b = *state;

    write_log(b, true);
    await_sidecars(b);
    check_ids(b, RECORDS);
}

/* What is wrong with a table is noticed; what stands in it is not believed. */
static void a_damaged_table_is_read_for(void **state)
{
    struct box *b = *state;
    char path[128];
    unsigned reads, hits;
    size_t n;
    char *bytes;

    write_log(b, false);
    await_sidecars(b);
    reads = search(b, "no such id", &hits);
    snprintf(path, sizeof path, "%s/0000000000000001.idx", b->dir);
    n = slurp(path, &bytes);
    bytes[n - IDS_BLOCK + 40] ^= 1;
    spit(path, bytes, n);
    check_ids(b, RECORDS);
    bytes[n - IDS_BLOCK + 40] ^= 1;
    /* with the right checksum: more entries than there is room for; of another segment */
    for (size_t at = 5; at <= 8; at += 3) {
        uint8_t *block = (uint8_t *)bytes + n - IDS_BLOCK;
        block[at] ^= 0x40;
        format_put32(block, crc32c(0, block + 4, IDS_BLOCK - 4));
        spit(path, bytes, n);
        check_ids(b, RECORDS);
        assert_true(search(b, "no such id", &hits) > reads);
        block[at] ^= 0x40;
    }
    assert_int_equal(unlink(path), 0);
    check_ids(b, RECORDS);
    free(bytes);
}

/* --- times
 * ------------------------------------------------------------------------------------------ */

static uint64_t first_at(struct box *b, int64_t ms)
{
    struct err e = ERR_INIT;
    struct wal_reader *r;
    struct record rec;
    uint64_t found = 0;

    assert_int_equal(wal_reader_open(&r, b->wal, 0, &e), 0);
    while (!found && wal_reader_next(r, &rec, NULL, &e) == WAL_READ_OK)
        if (rec.time_ms >= ms)
            found = rec.lsn;
    wal_reader_close(r);
    return found ? found : RECORDS + 1;
}

static void check_times(struct box *b)
{
    for (int64_t ms = 1700000000000 - 20; ms < 1700000000000 + RECORDS * 10 + 20; ms += 7)
        assert_int_equal(wal_lsn_at_time(b->wal, ms), first_at(b, ms));
    assert_int_equal(wal_lsn_at_time(b->wal, INT64_MAX), RECORDS + 1);
    assert_int_equal(wal_lsn_at_time(b->wal, 0), 1);
}

static void a_time_is_found(void **state)
{
    struct box *b = *state;

    write_log(b, false);
    await_sidecars(b);
    check_times(b);
}

/* Every record has an id: nothing but the sidecars is asked for sealed segments. */
static void a_time_is_found_in_the_sidecars(void **state)
{
    struct box *b = *state;
    char id[32];
    struct one o;

    b->dedup.entries = 10000;
    b->cfg.retain_ms = INT64_MAX / 2; /* its records are old */
    open_log(b);
    for (unsigned i = 0; i < RECORDS; i++) {
        snprintf(id, sizeof id, "msg_%u", i);
        prepare(b, &o, id, "a body that takes some room, so that there are several segments of it",
                true);
        o.append.rec.time_ms = 1700000000000 + i * 10 - i % 3 * 25;
        submit(b, &o);
    }
    await_sidecars(b);
    check_times(b);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        CASE("an id is found without reading", an_id_is_found_without_reading),
        CASE("ids that are not known are read for", ids_that_are_not_known_are_read_for),
        CASE("a damaged table is read for", a_damaged_table_is_read_for),
        CASE("a time is found", a_time_is_found),
        CASE("a time is found in the sidecars", a_time_is_found_in_the_sidecars),
    };
    int failed;

    log_init(LOG_TEXT, LOG_ERROR);
    failed = T_TABLE(shapes, the_table_finds_what_is_in_it);
    return T_RUN(tests) + failed;
}
