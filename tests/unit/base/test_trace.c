/* SPDX-License-Identifier: Apache-2.0 */
/* What is a traceparent and a tracestate, and what is not. */
#include "table.h"

#include "trace.h"

#define TRACE "4bf92f3577b34da6a3ce929d0e0e4736"
#define PARENT "00f067aa0ba902b7"
#define GOOD "00-" TRACE "-" PARENT "-01"

static const struct row {
    const char *name, *text, *written; /* NULL: none */
} rows[] = {
    { "sampled", GOOD, GOOD },
    { "not sampled", "00-" TRACE "-" PARENT "-00", "00-" TRACE "-" PARENT "-00" },
    { "other flags are not passed on", "00-" TRACE "-" PARENT "-fe", "00-" TRACE "-" PARENT "-00" },
    { "a later version", "cc-" TRACE "-" PARENT "-01", GOOD },
    { "a later version with more", "cc-" TRACE "-" PARENT "-01-what-else", GOOD },
    { "a later version with more that is not apart", "cc-" TRACE "-" PARENT "-01.x", NULL },
    { "this version with more", GOOD "-x", NULL },
    { "this version with a dash", GOOD "-", NULL },
    { "the version that is none", "ff-" TRACE "-" PARENT "-01", NULL },
    { "capitals in the trace", "00-4BF92F3577B34DA6A3CE929D0E0E4736-" PARENT "-01", NULL },
    { "capitals in the version", "0A-" TRACE "-" PARENT "-01", NULL },
    { "no trace", "00-00000000000000000000000000000000-" PARENT "-01", NULL },
    { "no parent", "00-" TRACE "-0000000000000000-01", NULL },
    { "a trace that is short", "00-4bf92f3577b34da6a3ce929d0e0e473-" PARENT "-010", NULL },
    { "no hexadecimal", "00-4bf92f3577b34da6a3ce929d0e0e473g-" PARENT "-01", NULL },
    { "flags of no hexadecimal", "00-" TRACE "-" PARENT "-0x", NULL },
    { "other separators", "00_" TRACE "_" PARENT "_01", NULL },
    { "a blank in front", " " GOOD, NULL },
    { "a byte short", "00-" TRACE "-" PARENT "-0", NULL },
    { "empty", "", NULL },
};

static void traceparent(void **state)
{
    const struct row *r = *state;
    struct trace_context c;
    char text[TRACEPARENT_BYTES + 1] = "";

    assert_int_equal(trace_parse(span_str(r->text), &c), r->written != NULL);
    if (!r->written)
        return;
    trace_write(&c, text);
    assert_string_equal(text, r->written);
}

#define TEN "a=1,b=1,c=1,d=1,e=1,f=1,g=1,h=1,i=1,j=1,"
static const struct state_row {
    const char *name, *text;
    bool good;
} state_rows[] = {
    { "one", "rojo=00f067aa0ba902b7", true },
    { "two with blanks and nothing", "rojo=1 , \t,congo=t61rcWkgMzE", true },
    { "a tenant", "fw529a3039@dt=FfffAAA", true },
    { "signs that a key may have", "0a_-*/@=!~", true },
    { "thirty-two", TEN TEN TEN "k=1,l=1", true },
    { "thirty-three", TEN TEN TEN "k=1,l=1,m=1", false },
    { "empty", "", false },
    { "only commas", ",,", false },
    { "no value", "rojo", false },
    { "an empty value", "rojo=", false },
    { "no key", "=1", false },
    { "a key in capitals", "Rojo=1", false },
    { "a key that begins with a sign", "_a=1", false },
    { "two equals signs", "a=1=2", false },
    { "a control byte", "a=\x01", false },
    { "a byte of UTF-8", "a=\xc3\xa4", false },
};

static void tracestate(void **state)
{
    const struct state_row *r = *state;

    assert_int_equal(trace_state_good(span_str(r->text)), r->good);
}

static void a_tracestate_has_an_end(void **state UNUSED)
{
    char text[1025];

    memset(text, 'a', sizeof text);
    text[1] = '=';
    assert_true(trace_state_good(span_of(text, 258)));
    assert_false(trace_state_good(span_of(text, 259)));
    memcpy(text + 256, ",b=", 3);
    assert_true(trace_state_good(span_of(text, 512)));
    memcpy(text + 511, ",", 1);
    assert_false(trace_state_good(span_of(text, 513)));
}

static void of_a_record(void **state UNUSED)
{
    struct record rec = { .headers = S("webhook-id:1\ntraceparent:" GOOD "\nx:y\n") };
    struct trace_context c = { .sampled = false };

    assert_true(span_eq(trace_of(&rec, &c), S(GOOD)) && c.sampled && c.trace[0] == 0x4b);
    assert_true(span_eq(trace_of(&rec, NULL), S(GOOD)));
    rec.headers = S("traceparent:whatever a sender writes\n");
    assert_false(trace_of(&rec, NULL).n);
    rec.headers = S("x-traceparent:" GOOD "\n");
    assert_false(trace_of(&rec, NULL).n);
}

int main(void)
{
    static const struct CMUnitTest tests[] = { cmocka_unit_test(a_tracestate_has_an_end),
                                               cmocka_unit_test(of_a_record) };

    return T_TABLE(rows, traceparent) + T_TABLE(state_rows, tracestate) + T_RUN(tests);
}
