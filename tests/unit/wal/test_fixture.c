/* SPDX-License-Identifier: Apache-2.0 */
/* tests/data/log-v1 is a log of format 1, stopped cleanly: three segments and the spare, sidecars,
 * two cursors, a dead letter. Every later release reads it, record by record.
 *
 * `test_fixture make DIR` is how it was made; a new format gets a folder of its own that way. */
#include "wal/box.h"

#include "dead.h"

#define FIXTURE "tests/data/log-v1"
#define RECORDS 240
#define LOG_ID "88ee4b27-de88-4482-9a49-6b689f69a5e8"

struct content {
    char id[32], type[32], subject[32], body[1200];
    int64_t time_ms;
};

static void content_of(unsigned i, struct content *c)
{
    size_t n = i % 7 == 0 ? 0 : (i * 37) % 1100;

    snprintf(c->id, sizeof c->id, i % 10 ? "msg_%u" : "", i);
    snprintf(c->type, sizeof c->type, i % 3 ? "video.generated" : "batch.%u", i);
    snprintf(c->subject, sizeof c->subject, "job-%u", i / 4);
    for (size_t k = 0; k < n; k++)
        c->body[k] = (char)(i + k * 31);
    if (n)
        c->body[0] = '{';
    c->body[n] = '\0';
    for (size_t k = 0; k < n; k++)
        c->body[k] = c->body[k] ? c->body[k] : '0';
    c->time_ms = 1780000000000 + (int64_t)i * 1000;
}

static void record_of(const struct content *c, struct record *rec)
{
    *rec = (struct record){ .kind = RECORD_WEBHOOK,
                            .time_ms = c->time_ms,
                            .source = S("demo"),
                            .id = span_str(c->id),
                            .type = span_str(c->type),
                            .subject = span_str(c->subject),
                            .content_type = S("application/json"),
                            .headers = S("webhook-id:1\nx-request-id:\xc3\xa4\n"),
                            .body = span_str(c->body) };
}

static void check_record(const struct record *rec, unsigned i)
{
    struct content c;
    struct record want;

    content_of(i, &c);
    record_of(&c, &want);
    assert_int_equal(rec->lsn, i);
    assert_int_equal(rec->kind, want.kind);
    assert_int_equal(rec->time_ms, want.time_ms);
    assert_true(span_eq(rec->source, want.source));
    assert_true(span_eq(rec->id, want.id));
    assert_true(span_eq(rec->type, want.type));
    assert_true(span_eq(rec->subject, want.subject));
    assert_true(span_eq(rec->content_type, want.content_type));
    assert_true(span_eq(rec->headers, want.headers));
    assert_true(span_eq(rec->body, want.body));
}

static void make_sink_files(struct box *b)
{
    struct record rec = { .lsn = 7, .kind = RECORD_WEBHOOK, .source = S("demo"), .body = S("x") };
    struct err e = ERR_INIT;
    struct wal_cursor *c;
    struct wal_dead *d;
    bool changed;

    assert_int_equal(wal_cursor_open(b->wal, "kafka", 0, 7, 0, &c, &changed, &e), 0);
    assert_int_equal(wal_cursor_set(c, 100, &e) || wal_cursor_sync(c, &e), 0);
    assert_int_equal(wal_cursor_set(c, 200, &e) || wal_cursor_sync(c, &e), 0);
    wal_cursor_close(c);
    assert_int_equal(wal_cursor_open(b->wal, "redis", 0, 9, 0, &c, &changed, &e), 0);
    wal_cursor_close(c);
    assert_int_equal(wal_dead_open(b->wal, "kafka", 4096, &d, &e), 0);
    assert_int_equal(wal_dead_refuse(d, &rec, "too large", 1, &e), 0);
    wal_dead_close(d);
}

static int make(const char *dir)
{
    struct box *b = calloc(1, sizeof *b);
    struct content c;
    struct one o;

    init_box(b, dir);
    open_log(b);
    for (unsigned i = 1; i <= RECORDS; i++) {
        content_of(i, &c);
        o = (struct one){ .append = { .reply = &b->in, .done = on_done, .dedup = i % 10 != 0 } };
        record_of(&c, &o.append.rec);
        submit(b, &o);
        assert_int_equal(o.append.result, WAL_DURABLE);
    }
    make_sink_files(b);
    usleep(2100000); /* the helper writes the last sidecar */
    printf("%s\n", wal_log_id(b->wal));
    wal_close(b->wal);
    inbox_close(&b->in);
    free(b);
    return 0;
}

/* It was written long ago: nothing of it may be too old. */
static void copy_fixture(struct box *b)
{
    char command[160];

    b->cfg.retain_ms = b->dedup.window_ms = INT64_MAX / 2;
    snprintf(command, sizeof command, "cp " FIXTURE "/* %s/", b->dir);
    assert_int_equal(system(command), 0);
}

static void every_record_is_read(void **state)
{
    struct box *b = *state;
    struct err e = ERR_INIT;
    struct wal_reader *r;
    struct record rec;
    struct wal_info i;

    copy_fixture(b);
    open_log(b);
    wal_info(b->wal, &i);
    assert_string_equal(i.id, LOG_ID);
    assert_int_equal(i.segments, 3);
    assert_int_equal(wal_reader_open(&r, b->wal, 0, &e), 0);
    for (unsigned n = 1; n <= RECORDS; n++) {
        if (wal_reader_next(r, &rec, NULL, &e) != WAL_READ_OK)
            fail_msg("LSN %u: %s", n, e.text);
        check_record(&rec, n);
    }
    assert_int_equal(wal_reader_next(r, &rec, NULL, &e), WAL_READ_END);
    wal_reader_close(r);
}

static void repeats_are_known(void **state)
{
    struct box *b = *state;
    struct content c;
    struct one o;

    copy_fixture(b);
    open_log(b);
    for (unsigned i = 1; i <= RECORDS; i++) {
        content_of(i, &c);
        if (i % 10 == 0)
            continue;
        o = (struct one){ .append = { .reply = &b->in, .done = on_done, .dedup = true } };
        record_of(&c, &o.append.rec);
        submit(b, &o);
        assert_int_equal(o.append.result, WAL_DUPLICATE);
        assert_int_equal(o.append.lsn, i);
        assert_false(o.append.other_body);
    }
}

static void the_sinks_go_on(void **state)
{
    struct box *b = *state;
    struct err e = ERR_INIT;
    struct wal_cursor *c;
    struct wal_dead *d;
    bool changed;

    copy_fixture(b);
    open_log(b);
    assert_int_equal(wal_cursor_open(b->wal, "kafka", 0, 7, 0, &c, &changed, &e), 0);
    assert_int_equal(wal_cursor_lsn(c), 200);
    assert_false(changed);
    wal_cursor_close(c);
    assert_int_equal(wal_cursor_open(b->wal, "redis", 0, 9, 5, &c, &changed, &e), 0);
    assert_int_equal(wal_cursor_lsn(c), 0);
    wal_cursor_close(c);
    assert_int_equal(wal_dead_open(b->wal, "kafka", 4096, &d, &e), 0);
    assert_int_equal(wal_dead_count(d), 1);
    wal_dead_close(d);
}

static void the_tools_read_it(void **state UNUSED)
{
    struct err e = ERR_INIT;
    FILE *out = fopen("/dev/null", "w");

    assert_int_equal(wal_verify(FIXTURE, out, &e), 0);
    fclose(out);
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        T(every_record_is_read),
        T(repeats_are_known),
        T(the_sinks_go_on),
        cmocka_unit_test(the_tools_read_it),
    };

    log_init(LOG_TEXT, LOG_ERROR);
    return argc == 3 && !strcmp(argv[1], "make") ? make(argv[2]) : T_RUN(tests);
}
