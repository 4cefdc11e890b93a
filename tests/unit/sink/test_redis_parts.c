/* SPDX-License-Identifier: Apache-2.0 */
/* The pure parts of the Redis sink. */
#include "harness.h"
#include "../../../src/sink/redis.h"

static const struct slot_row {
    const char *name, *key;
    unsigned slot; /* as CLUSTER KEYSLOT says */
} slots[] = {
    { "the specification's example", "123456789", 0x31c3 },
    { "plain", "foo", 12182 },
    { "a tag", "{foo}.bar", 12182 },
    { "a tag in the middle", "x{foo}y", 12182 },
    { "the first tag counts", "{foo}{bar}", 12182 },
    { "an empty tag is none", "{}foo", 9500 },
    { "no end", "{foo", 13308 },
    { "the mark's key, of a tag", "hookline:{foo}:id", 12182 },
};

static void slot(void **state)
{
    const struct slot_row *r = *state;

    assert_int_equal(redis_slot(span_str(r->key)), r->slot);
}

static const struct core_row {
    const char *name, *text, *core;
} cores[] = {
    { "plain", "OOM no memory", "OOM no memory" },
    { "suffix of Redis 7", "OOM x script: abc, on @user_script:1.",
      "OOM x script: abc, on @user_script:1." },
    { "Redis 6, raised", "ERR Error running script (call to f_1): @user_script:8: WRONGTYPE y",
      "WRONGTYPE y" },
    { "Redis 6, caught", "@user_script: 12: -READONLY z", "READONLY z" },
    { "Redis 6, both",
      "ERR Error running script (call to f_1): @user_script:8: @user_script: 8: -OOM c", "OOM c" },
};

static void core(void **state)
{
    const struct core_row *r = *state;

    assert_string_equal(redis_error_core(r->text), r->core);
}

static const struct mark_row {
    const char *name, *text;
    bool good;
} marks[] = {
    { "good", LOGID " 00000000000000aa 18446744073709551615 0000beef", true },
    { "empty", "", false },
    { "one word less", LOGID " 00000000000000aa 3", false },
    { "one word more", LOGID " 00000000000000aa 3 0000beef x", false },
    { "no number", LOGID " 00000000000000aa x 0000beef", false },
    { "something else", "garbage", false },
};

static void mark(void **state)
{
    const struct mark_row *r = *state;
    struct sink_mark m;
    char *text;

    assert_int_equal(redis_mark_parse(r->text, &m), r->good);
    if (!r->good)
        return;
    text = redis_mark_text(&m, m.epoch);
    assert_string_equal(text, r->text);
    free(text);
}

int main(void)
{
    return T_TABLE(slots, slot) + T_TABLE(cores, core) + T_TABLE(marks, mark);
}
