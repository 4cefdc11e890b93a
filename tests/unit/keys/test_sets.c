/* SPDX-License-Identifier: Apache-2.0 */
/* JWK sets: fetched, refreshed, kept when the server is down, garbage or slow, found again after a
 * restart, asked for at most once a minute. */
#include "world.h"

#include <pthread.h>
#include <stdatomic.h>

#include "json.h"

#define GOOD "Cache-Control: max-age=3600"

static void fetched_and_told(void **state UNUSED)
{
    struct world w;

    world_init(&w);
    world_open(&w);
    serve("first", GOOD, "k1");
    w.set = registered(&w, "first");
    assert_true(keys_warm(w.keys, PATIENCE_MS));
    assert_true(has(w.set, "k1"));
    assert_true(SAYS(&w, "\"first\":{\"state\":\"ok\",\"from\":\"https://localhost:"));
    assert_true(SAYS(&w, "\"failures\":0}"));
    assert_true(COUNTS(&w, "hookline_keys_up{set=\"first\"} 1\n"));
    assert_true(COUNTS(&w, "hookline_keys_fetches_total{set=\"first\"} 1\n"));
    assert_true(COUNTS(&w, "hookline_keys_age_seconds{set=\"first\"} 0"));
    world_close(&w);
}

static void status_is_json(void **state UNUSED)
{
    struct buf b = BUF_INIT;
    struct world w;

    world_init(&w);
    world_open(&w);
    registered(&w, "absent\"");
    registered(&w, "other");
    keys_warm(w.keys, PATIENCE_MS);
    keys_status(w.keys, &b);
    assert_true(json_valid(buf_as_span(&b)));
    buf_free(&b);
    world_close(&w);
}

/* --- when it is refreshed -----------------------------------------------------------------------
 */

static const struct age_row {
    const char *name, *head;
    int64_t least_s, most_s;
} age_rows[] = {
    { "two hours", "Cache-Control: max-age=7200", 5390, 7200 },
    { "nothing said", "X-Nothing: 1", 2690, 3600 },
    { "no-store", "Cache-Control: no-store", 55, 60 },
    { "below the bounds", "Cache-Control: max-age=10", 55, 60 },
    { "at the lower bound", "Cache-Control: max-age=60", 55, 60 },
    { "above the bounds", "Cache-Control: max-age=9999999", 64790, 86400 },
    { "spent in another cache", "Cache-Control: max-age=7200\nAge: 3600", 2690, 3600 },
};

static void age(void **state)
{
    const struct age_row *row = *state;
    struct buf b = BUF_INIT;
    struct world w;
    struct json_value v;
    int64_t next;

    world_init(&w);
    world_open(&w);
    serve("age", row->head, "k1");
    w.set = registered(&w, "age");
    assert_true(keys_warm(w.keys, PATIENCE_MS));
    keys_status(w.keys, &b);
    v = json_find(buf_as_span(&b), S("sets.age.next_fetch_seconds"));
    next = strtoll(v.raw.p, NULL, 10);
    assert_in_range(next, row->least_s, row->most_s);
    buf_free(&b);
    world_close(&w);
}

static void refreshed_when_it_is_due(void **state UNUSED)
{
    struct world w;
    int64_t began = clock_mono_ms();

    world_init(&w);
    w.cfg.min_ms = 300;
    world_open(&w);
    serve("due", "Cache-Control: no-store", "k1");
    w.set = registered(&w, "due");
    assert_true(keys_warm(w.keys, PATIENCE_MS));
    serve("due", "Cache-Control: max-age=3600", "k2");
    UNTIL(has(w.set, "k2"));
    assert_true(clock_mono_ms() - began >= 300);
    usleep(400 * 1000);
    assert_int_equal(https_count(&server, "due"), 2);
    world_close(&w);
}

/* --- wishes -------------------------------------------------------------------------------------
 */

static void *wish(void *arg)
{
    for (int i = 0; i < 1000; i++)
        keys_wanted(arg);
    return NULL;
}

static void a_wish_finds_the_new_key_once_a_minute(void **state UNUSED)
{
    pthread_t threads[4];
    struct world w;

    world_init(&w);
    world_open(&w);
    serve("wish", GOOD, "k1");
    w.set = registered(&w, "wish");
    assert_true(keys_warm(w.keys, PATIENCE_MS));
    serve("wish", GOOD, "k2");
    assert_true(keys_wanted(w.set));
    UNTIL(has(w.set, "k2"));
    UNTIL(!keys_wanted(w.set)); /* it has ended, and a minute has not */
    serve("wish", GOOD, "k3");
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        pthread_create(&threads[i], NULL, wish, w.set);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        pthread_join(threads[i], NULL);
    usleep(100 * 1000);
    assert_false(keys_wanted(w.set));
    assert_true(has(w.set, "k2"));
    assert_int_equal(https_count(&server, "wish"), 2);
    world_close(&w);
}

static void many_wishes_at_once_are_one(void **state UNUSED)
{
    pthread_t threads[4];
    struct world w;

    world_init(&w);
    world_open(&w);
    serve("wishes", GOOD, "k1");
    w.set = registered(&w, "wishes");
    assert_true(keys_warm(w.keys, PATIENCE_MS));
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        pthread_create(&threads[i], NULL, wish, w.set);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        pthread_join(threads[i], NULL);
    UNTIL(!keys_wanted(w.set));
    assert_int_equal(https_count(&server, "wishes"), 2);
    world_close(&w);
}

static void a_wish_counts_again_after_its_time(void **state UNUSED)
{
    struct world w;

    world_init(&w);
    w.cfg.wanted_ms = 50;
    world_open(&w);
    serve("again", GOOD, "k1");
    w.set = registered(&w, "again");
    assert_true(keys_warm(w.keys, PATIENCE_MS));
    assert_true(keys_wanted(w.set));
    UNTIL(https_count(&server, "again") >= 2);
    serve("again", GOOD, "k2");
    UNTIL(keys_wanted(w.set) && has(w.set, "k2"));
    world_close(&w);
}

/* --- what goes wrong ----------------------------------------------------------------------------
 */

static const struct bad_row {
    const char *name, *answer, *why;
} bad_rows[] = {
    { "garbage", "200 0\n\n<html>hello</html>", "" },
    { "an empty body", "200 0\n\n", "" },
    { "no keys", "200 0\n\n{\"keys\":[]}", "" },
    { "server error", "500 0\n\nx", "answered 500" },
    { "not found", "404 0\n\nx", "answered 404" },
    { "redirect to another host", "302 0\nLocation: https://example.com/\n\n", "redirects" },
    { "slow", "200 2000\n\nx", "within 300 ms" },
    { "drips", "200 0\nX-Drip: 20\n\n{\"keys\":[                                  ]}",
      "within 300 ms" },
    { "more than is allowed",
      "200 0\n\n{\"keys\":[                                             "
      "                                                                "
      "                                                                "
      "                                        ]}",
      "larger than allowed" },
};

static void bad(void **state)
{
    const struct bad_row *row = *state;
    struct world w;

    world_init(&w);
    w.rules.timeout_ms = 300;
    w.rules.body_bytes = 200;
    world_open(&w);
    serve("bad", GOOD, "k1");
    w.set = registered(&w, "bad");
    assert_true(keys_warm(w.keys, PATIENCE_MS));
    https_answer(&server, "bad", row->answer);
    assert_true(keys_wanted(w.set));
    UNTIL(SAYS(&w, "\"state\":\"stale\""));
    assert_true(SAYS(&w, row->why));
    assert_true(SAYS(&w, "\"error\":\"https://localhost:"));
    assert_true(COUNTS(&w, "hookline_keys_up{set=\"bad\"} 0\n"));
    assert_false(COUNTS(&w, "hookline_keys_fetch_failures_total{set=\"bad\"} 0\n"));
    assert_true(has(w.set, "k1"));
    serve("bad", GOOD, "k2");
    UNTIL(has(w.set, "k2")); /* by itself */
    UNTIL(SAYS(&w, "\"state\":\"ok\""));
    world_close(&w);
}

static const struct refused_row {
    const char *name, *url;
    bool at_once; /* when it is registered */
    bool open;    /* private addresses are allowed */
    const char *why;
} refused_rows[] = {
    { "http", "http://localhost/jwks", true, true, "only https" },
    { "another host", "https://example.com/jwks", true, true, "allowed ones" },
    { "loopback by name", "https://localhost:1/jwks", false, false, "is private" },
    { "loopback", "https://127.0.0.1:1/jwks", false, false, "127.0.0.1 is private" },
    { "private", "https://10.0.0.1:1/jwks", false, false, "10.0.0.1 is private" },
    { "metadata", "https://169.254.169.254:1/jwks", false, false, "169.254.169.254 is private" },
    { "loopback, IPv6", "https://[::1]:1/jwks", false, false, "::1 is private" },
    { "unique local", "https://[fd00::1]:1/jwks", false, false, "fd00::1 is private" },
};

static void refused(void **state)
{
    const struct refused_row *row = *state;
    struct keys_set_cfg cfg = { .name = "refused", .url = row->url };
    struct err e = ERR_INIT;
    struct world w;

    world_init(&w);
    w.rules.allow_private = row->open;
    w.rules.hosts = row->open ? local : NULL;
    world_open(&w);
    cfg.rules = w.rules;
    w.set = keys_register(w.keys, &cfg, &e);
    if (row->at_once) {
        assert_null(w.set);
        assert_non_null(strstr(e.text, row->why));
    } else {
        assert_true(keys_warm(w.keys, PATIENCE_MS)); /* failed once is enough */
        assert_true(SAYS(&w, "\"state\":\"unavailable\""));
        assert_true(SAYS(&w, row->why));
        assert_true(has(w.set, NULL));
        assert_true(COUNTS(&w, "hookline_keys_age_seconds{set=\"refused\"} -1\n"));
    }
    world_close(&w);
}

static void the_server_goes_and_comes_back(void **state UNUSED)
{
    struct world w;

    world_init(&w);
    world_open(&w);
    serve("down", GOOD, "k1");
    w.set = registered(&w, "down");
    assert_true(keys_warm(w.keys, PATIENCE_MS));
    https_stop(&server);
    assert_true(keys_wanted(w.set));
    UNTIL(SAYS(&w, "\"state\":\"stale\""));
    assert_true(has(w.set, "k1"));
    UNTIL(SAYS(&w, "\"failures\":3")); /* it goes on trying */
    serve("down", GOOD, "k2");
    https_start(&server, false);
    UNTIL(has(w.set, "k2"));
    world_close(&w);
}

static void without_keys_a_hold_is_a_wish(void **state UNUSED)
{
    struct world w;

    world_init(&w);
    w.cfg.retry_min_ms = w.cfg.retry_max_ms = 3600 * 1000;
    world_open(&w);
    https_answer(&server, "none", "500 0\n\n");
    w.set = registered(&w, "none");
    assert_true(keys_warm(w.keys, PATIENCE_MS));
    serve("none", GOOD, "k1");
    assert_true(has(w.set, NULL));
    UNTIL(has(w.set, "k1"));
    world_close(&w);
}

static void warming_ends_in_time(void **state UNUSED)
{
    struct world w;
    int64_t began;

    world_init(&w);
    world_open(&w);
    https_answer(&server, "late", "200 4000\n\n");
    serve("early", GOOD, "k1");
    registered(&w, "late");
    w.set = registered(&w, "early");
    began = clock_mono_ms();
    assert_false(keys_warm(w.keys, 400));
    assert_in_range(clock_mono_ms() - began, 300, 3000);
    assert_true(has(w.set, "k1")); /* the slow one did not hold it up */
    began = clock_mono_ms();
    world_close(&w); /* nor does it hold up the end */
    assert_true(clock_mono_ms() - began < 2000);
}

/* --- restarts, and the cache --------------------------------------------------------------------
 */

static void restart(struct world *w)
{
    keys_free(w->keys);
    world_open(w);
}

static void a_restart_with_the_server_down(void **state UNUSED)
{
    struct world w;

    world_init(&w);
    world_open(&w);
    serve("restart", GOOD, "k1");
    w.set = registered(&w, "restart");
    assert_true(keys_warm(w.keys, PATIENCE_MS));
    https_stop(&server);
    restart(&w);
    w.set = registered(&w, "restart");
    assert_true(has(w.set, "k1"));
    assert_true(keys_warm(w.keys, 0)); /* what is fresh on the disk is waited for by nobody */
    UNTIL(SAYS(&w, "\"state\":\"stale\""));
    assert_true(has(w.set, "k1"));
    serve("restart", GOOD, "k2");
    https_start(&server, false);
    UNTIL(has(w.set, "k2"));
    world_close(&w);
}

static const struct damage_row {
    const char *name, *command; /* $f is the file */
    bool good;
} damage_rows[] = {
    { "untouched", "true", true },
    { "a byte changed", "sed -i s/11qYAY/11qYAZ/ $f", false },
    { "cut", "truncate -s -1 $f", false },
    { "cut in the first line", "truncate -s 20 $f", false },
    { "cut in the checksum's end", "truncate -s 81 $f", false },
    { "longer", "echo >>$f", false },
    { "empty", ": >$f", false },
    { "another time", "sed -i '1s/ [0-9]* http/ 7 http/' $f", false },
    { "another URL", "sed -i 1s/localhost/lokalhost/ $f", false },
    { "of another URL", "sed -i '1s/.*/x/' $f", false },
    { "a folder", "rm $f; mkdir $f", false },
    { "a pipe", "rm $f; mkfifo $f", false },
    { "nothing", "rm $f", false },
};

static void damage(void **state)
{
    const struct damage_row *row = *state;
    char *command = xasprintf("f=$(echo $d/*.keys); %s", row->command);
    struct world w;

    world_init(&w);
    world_open(&w);
    serve("damage", GOOD, "k1");
    w.set = registered(&w, "damage");
    assert_true(keys_warm(w.keys, PATIENCE_MS));
    keys_free(w.keys);
    sh(command, w.dir);
    https_answer(&server, "damage", "500 0\n\n");
    world_open(&w);
    w.set = registered(&w, "damage");
    assert_true(has(w.set, row->good ? "k1" : NULL));
    world_close(&w);
    free(command);
}

/* Whole, but of another URL: somebody moved files about. */
static void a_file_under_another_name(void **state UNUSED)
{
    struct world w;

    world_init(&w);
    world_open(&w);
    serve("this", GOOD, "k1");
    registered(&w, "this");
    assert_true(keys_warm(w.keys, PATIENCE_MS));
    keys_free(w.keys);
    sh("mv $d/*.keys $d/this", w.dir);
    serve("that", GOOD, "k2");
    world_open(&w);
    registered(&w, "that");
    assert_true(keys_warm(w.keys, PATIENCE_MS));
    keys_free(w.keys);
    sh("mv $d/this $d/*.keys", w.dir);
    https_answer(&server, "that", "500 0\n\n");
    world_open(&w);
    w.set = registered(&w, "that");
    assert_true(has(w.set, NULL));
    world_close(&w);
}

static void the_cache_is_private_and_whole(void **state UNUSED)
{
    struct world w;

    world_init(&w);
    world_open(&w);
    serve("private", GOOD, "k1");
    w.set = registered(&w, "private");
    assert_true(keys_warm(w.keys, PATIENCE_MS));
    keys_free(w.keys); /* the file is written after the keys are in use */
    w.keys = NULL;
    sh("test \"$(ls $d | grep -c keys$)\" = 1 && test \"$(ls $d | wc -l)\" = 1 && "
       "test \"$(stat -c %a $d/*)\" = 600",
       w.dir);
    world_close(&w);
}

static void without_a_cache_it_works_as_well(void **state UNUSED)
{
    struct world w;

    world_init(&w);
    w.cfg.dir = NULL;
    world_open(&w);
    serve("nocache", GOOD, "k1");
    w.set = registered(&w, "nocache");
    assert_true(keys_warm(w.keys, PATIENCE_MS));
    assert_true(has(w.set, "k1"));
    sh("test \"$(ls $d | wc -l)\" = 0", w.dir);
    world_close(&w);
}

static void no_folder_no_start(void **state UNUSED)
{
    struct err e = ERR_INIT;
    struct world w;

    world_init(&w);
    w.cfg.dir = "/tmp/hookline-keys-none/below";
    assert_int_equal(keys_new(&w.keys, &w.cfg, &e), -1);
    assert_non_null(strstr(e.text, "/tmp/hookline-keys-none/below"));
    sh("rm -rf $d", w.dir);
}

/* --- reloads ------------------------------------------------------------------------------------
 */

static void a_reload_keeps_the_keys(void **state UNUSED)
{
    struct keys_doc *held;
    struct keys_set *old;
    struct world w;

    world_init(&w);
    world_open(&w);
    serve("reload", GOOD, "k1");
    old = registered(&w, "reload");
    assert_true(keys_warm(w.keys, PATIENCE_MS));
    w.set = registered(&w, "reload");
    assert_ptr_equal(w.set, old);
    keys_unregister(old);
    assert_true(has(w.set, "k1"));
    assert_int_equal(https_count(&server, "reload"), 1);
    held = keys_hold(w.set);
    keys_unregister(w.set);
    UNTIL(!SAYS(&w, "reload"));
    assert_true(span_eq(crypto_keyset_kid(held->set, 0), S("k1")));
    keys_release(held);
    https_answer(&server, "reload", "500 0\n\n");
    w.set = registered(&w, "reload");
    assert_true(has(w.set, "k1")); /* from the cache */
    world_close(&w);
}

static void other_rules_are_another_set(void **state UNUSED)
{
    struct keys_set *old;
    struct world w;

    world_init(&w);
    world_open(&w);
    serve("rules", GOOD, "k1");
    old = registered(&w, "rules");
    w.rules.timeout_ms = 4000;
    w.set = registered(&w, "rules");
    assert_ptr_not_equal(w.set, old);
    assert_true(keys_warm(w.keys, PATIENCE_MS));
    assert_false(COUNTS(&w, "hookline_keys_up{set=\"rules\"} 1\nhookline_keys_up"));
    keys_unregister(old);
    assert_true(has(w.set, "k1"));
    world_close(&w);
}

static void a_set_goes_while_it_is_fetched(void **state UNUSED)
{
    struct world w;

    world_init(&w);
    world_open(&w);
    https_answer(&server, "going", "200 3000\n\n");
    w.set = registered(&w, "going");
    UNTIL(https_count(&server, "going") == 1);
    keys_unregister(w.set);
    UNTIL(!SAYS(&w, "going"));
    world_close(&w);
}

/* --- files --------------------------------------------------------------------------------------
 */

#define JWKS(kid)                                                                                  \
    "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"kid\":\"" kid "\","                         \
    "\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}]}"

static struct keys_set *from_file(struct world *w, char **path, struct err *e)
{
    *path = xasprintf("%s/file", server.dir);
    return keys_register(w->keys, &(struct keys_set_cfg){ .name = "file", .file = *path }, e);
}

static void a_file_is_followed(void **state UNUSED)
{
    struct err e = ERR_INIT;
    struct world w;
    char *path;

    world_init(&w);
    world_open(&w);
    https_answer(&server, "file", JWKS("k1"));
    w.set = from_file(&w, &path, &e);
    assert_non_null(w.set);
    assert_true(keys_warm(w.keys, 0));
    assert_true(has(w.set, "k1"));
    assert_true(SAYS(&w, "\"file\":{\"state\":\"ok\",\"from\":\"/tmp/"));
    https_answer(&server, "file", JWKS("k2"));
    UNTIL(has(w.set, "k2"));
    https_answer(&server, "file", "garbage");
    UNTIL(SAYS(&w, "\"state\":\"stale\""));
    assert_true(has(w.set, "k2"));
    unlink(path);
    UNTIL(SAYS(&w, "No such file"));
    assert_true(has(w.set, "k2"));
    https_answer(&server, "file", JWKS("k3"));
    UNTIL(has(w.set, "k3"));
    UNTIL(SAYS(&w, "\"state\":\"ok\""));
    sh("sleep 0.02; printf k4 | dd of=$d/file bs=1 seek=$(grep -bo k3 $d/file | cut -d: -f1) "
       "conv=notrunc status=none",
       server.dir); /* in place, as long as before */
    UNTIL(has(w.set, "k4"));
    free(path);
    world_close(&w);
}

static void a_reload_reads_the_file(void **state UNUSED)
{
    struct err e = ERR_INIT;
    struct world w;
    char *path;

    world_init(&w);
    w.cfg.file_ms = 3600 * 1000;
    world_open(&w);
    https_answer(&server, "file", JWKS("k1"));
    w.set = from_file(&w, &path, &e);
    free(path);
    https_answer(&server, "file", JWKS("k2"));
    assert_ptr_equal(from_file(&w, &path, &e), w.set);
    UNTIL(has(w.set, "k2"));
    free(path);
    world_close(&w);
}

static const struct file_row {
    const char *name, *text, *why;
} file_rows[] = {
    { "missing", NULL, "No such file" },
    { "garbage", "garbage", "/file: " },
    { "empty", "", "/file: " },
};

static void file(void **state)
{
    const struct file_row *row = *state;
    struct err e = ERR_INIT;
    struct world w;
    char *path;

    world_init(&w);
    world_open(&w);
    https_answer(&server, "file", row->text ? row->text : "");
    if (!row->text)
        sh("rm $d/file", server.dir);
    assert_null(from_file(&w, &path, &e));
    assert_non_null(strstr(e.text, row->why));
    assert_non_null(strstr(e.text, "keys of file: "));
    free(path);
    world_close(&w);
}

/* --- threads ------------------------------------------------------------------------------------
 */

static _Atomic bool enough;

static void *read_on(void *arg)
{
    uintptr_t good = 0;

    while (!atomic_load(&enough)) {
        struct keys_doc *doc = keys_hold(arg);
        good += doc && crypto_keyset_kid(doc->set, 0).n == 2;
        keys_release(doc);
    }
    return (void *)good;
}

static void readers_while_it_changes(void **state UNUSED)
{
    pthread_t threads[3];
    void *good;
    struct world w;

    world_init(&w);
    w.cfg.min_ms = 1;
    world_open(&w);
    serve("busy", "Cache-Control: no-store", "k1");
    w.set = registered(&w, "busy");
    assert_true(keys_warm(w.keys, PATIENCE_MS));
    atomic_store(&enough, false);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        pthread_create(&threads[i], NULL, read_on, w.set);
    UNTIL(https_count(&server, "busy") >= 10);
    assert_true(SAYS(&w, "busy"));
    atomic_store(&enough, true);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
        pthread_join(threads[i], &good);
        assert_true((uintptr_t)good > 0);
    }
    world_close(&w);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(fetched_and_told),
    cmocka_unit_test(status_is_json),
    cmocka_unit_test(refreshed_when_it_is_due),
    cmocka_unit_test(a_wish_finds_the_new_key_once_a_minute),
    cmocka_unit_test(many_wishes_at_once_are_one),
    cmocka_unit_test(a_wish_counts_again_after_its_time),
    cmocka_unit_test(the_server_goes_and_comes_back),
    cmocka_unit_test(without_keys_a_hold_is_a_wish),
    cmocka_unit_test(warming_ends_in_time),
    cmocka_unit_test(a_restart_with_the_server_down),
    cmocka_unit_test(a_file_under_another_name),
    cmocka_unit_test(the_cache_is_private_and_whole),
    cmocka_unit_test(without_a_cache_it_works_as_well),
    cmocka_unit_test(no_folder_no_start),
    cmocka_unit_test(a_reload_keeps_the_keys),
    cmocka_unit_test(other_rules_are_another_set),
    cmocka_unit_test(a_set_goes_while_it_is_fetched),
    cmocka_unit_test(a_file_is_followed),
    cmocka_unit_test(a_reload_reads_the_file),
    cmocka_unit_test(readers_while_it_changes),
};

int main(void)
{
    int failed;

    https_init(&server);
    https_start(&server, false);
    failed = T_RUN(tests) + T_TABLE(age_rows, age) + T_TABLE(bad_rows, bad) +
             T_TABLE(refused_rows, refused) + T_TABLE(damage_rows, damage) +
             T_TABLE(file_rows, file);
    https_stop(&server);
    https_close(&server);
    return failed;
}
