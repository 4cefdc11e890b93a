/* SPDX-License-Identifier: Apache-2.0 */
/* Consumes hookline's events from a Redis stream; each takes effect once, whatever is killed when.
 *
 * Install: apt-get install libhiredis-dev
 * Build:   make examples
 * Run:     redis_consumer HOST:PORT|/SOCKET hooks:gemini GROUP CONSUMER FILE [IDLE_MS]
 *
 * CONSUMER is the same after a restart, and unlike that of every other member. A repeat is told by
 * the event's source and id (effects.h). An entry is acknowledged after its effect is on disk, so
 * a crash repeats entries and loses none. What was delivered again and again without being
 * acknowledged crashes its consumers: it goes to the stream STREAM:dead. When the connection fails
 * the program ends; started again it goes on where it was. */
#include <hiredis/hiredis.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "effects.h"

#define DELIVERIES 5

struct member {
    redisContext *c;
    const char *stream, *group, *name, *idle_ms;
    struct effects *fx;
};

/* Never NULL; an error reply ends the program unless it starts with `accept`. */
static redisReply *ask(struct member *m, const char *accept, const char *format, ...)
{
    redisReply *r;
    va_list args;

    va_start(args, format);
    r = redisvCommand(m->c, format, args);
    va_end(args);
    if (!r)
        die("redis: %s", m->c->errstr);
    if (r->type == REDIS_REPLY_ERROR && (!accept || strncmp(r->str, accept, strlen(accept))))
        die("redis: %s", r->str);
    return r;
}

static long long deliveries(struct member *m, const redisReply *id)
{
    redisReply *r = ask(m, NULL, "XPENDING %s %s %s %s 1", m->stream, m->group, id->str, id->str);
    long long n = r->elements ? r->element[0]->element[3]->integer : 0;

    freeReplyObject(r);
    return n;
}

/* The entry goes to the dead stream; a crash before it is acknowledged can put it there twice. */
static void bury(struct member *m, const redisReply *id, const redisReply *fields)
{
    size_t argc = 5 + fields->elements, *lens = calloc(argc, sizeof *lens);
    const char **argv = calloc(argc, sizeof *argv);
    char dead[512];
    redisReply *r;

    if (!argv || !lens)
        die("out of memory");
    snprintf(dead, sizeof dead, "%s:dead", m->stream);
    argv[0] = "XADD", argv[1] = dead, argv[2] = "*", argv[3] = "entry", argv[4] = id->str;
    for (size_t i = 0; i < 5; i++)
        lens[i] = strlen(argv[i]);
    for (size_t i = 0; i < fields->elements; i++) {
        argv[5 + i] = fields->element[i]->str;
        lens[5 + i] = fields->element[i]->len;
    }
    if (!(r = redisCommandArgv(m->c, (int)argc, argv, lens)) || r->type == REDIS_REPLY_ERROR)
        die("redis: %s", r ? r->str : m->c->errstr);
    freeReplyObject(r);
    free(argv);
    free(lens);
}

static const redisReply *field(const redisReply *fields, const char *name)
{
    static const redisReply none = { .str = "" };

    for (size_t i = 0; i + 1 < fields->elements; i += 2)
        if (!strcmp(fields->element[i]->str, name))
            return fields->element[i + 1];
    return &none;
}

static void effect(struct member *m, const redisReply *entry, const redisReply *fields)
{
    const redisReply *source = field(fields, "source"), *id = field(fields, "id");
    const redisReply *type = field(fields, "type");

    if (id->len)
        effects_add(m->fx, source->str, source->len, id->str, id->len, type->str, type->len);
    else /* not from hookline: the entry's own id names it */
        effects_add(m->fx, m->stream, strlen(m->stream), entry->str, entry->len, "", 0);
    effects_sync(m->fx);
}

static void handle(struct member *m, const redisReply *id, const redisReply *fields, int again)
{
    if (fields->type != REDIS_REPLY_ARRAY)
        ; /* trimmed from the stream meanwhile: nothing is left to do */
    else if (again && deliveries(m, id) > DELIVERIES)
        bury(m, id, fields);
    else
        effect(m, id, fields);
    freeReplyObject(ask(m, NULL, "XACK %s %s %s", m->stream, m->group, id->str));
}

static void handle_all(struct member *m, const redisReply *entries, int again)
{
    for (size_t i = 0; i < entries->elements; i++)
        handle(m, entries->element[i]->element[0], entries->element[i]->element[1], again);
}

/* Whether there was something. start: 0 what we had when we died, > what nobody had yet. */
static int read_stream(struct member *m, const char *start)
{
    redisReply *r = ask(m, NULL, "XREADGROUP GROUP %s %s COUNT 100 BLOCK 1000 STREAMS %s %s",
                        m->group, m->name, m->stream, start);
    size_t n = 0;

    if (r->type == REDIS_REPLY_ARRAY && r->elements) {
        const redisReply *entries = r->element[0]->element[1];
        n = entries->elements;
        handle_all(m, entries, *start == '0');
    }
    freeReplyObject(r);
    return n > 0;
}

/* What others had when they died. */
static void take_over(struct member *m)
{
    char start[64] = "0-0";

    do {
        redisReply *r = ask(m, NULL, "XAUTOCLAIM %s %s %s %s %s COUNT 100", m->stream, m->group,
                            m->name, m->idle_ms, start);
        snprintf(start, sizeof start, "%s", r->element[0]->str);
        handle_all(m, r->element[1], 1);
        freeReplyObject(r);
    } while (strcmp(start, "0-0"));
}

static redisContext *reach(char *where)
{
    char *colon = strrchr(where, ':');
    redisContext *c;

    if (*where == '/') {
        c = redisConnectUnix(where);
    } else {
        if (colon)
            *colon = 0;
        c = redisConnect(where, colon ? atoi(colon + 1) : 6379);
    }
    if (!c || c->err)
        die("redis: %s", c ? c->errstr : "out of memory");
    return c;
}

int main(int argc, char **argv)
{
    struct member m;

    if (argc < 6)
        die("usage: redis_consumer HOST:PORT|/SOCKET STREAM GROUP CONSUMER FILE [IDLE_MS]");
    m = (struct member){
        reach(argv[1]),       argv[2], argv[3], argv[4], argc > 6 ? argv[6] : "60000",
        effects_open(argv[5])
    };
    /* at 0: a new group starts with what is already there */
    freeReplyObject(ask(&m, "BUSYGROUP", "XGROUP CREATE %s %s 0 MKSTREAM", m.stream, m.group));
    while (!stopping() && read_stream(&m, "0"))
        ;
    while (!stopping()) {
        take_over(&m);
        read_stream(&m, ">");
    }
    redisFree(m.c);
    effects_close(m.fx);
    return 0;
}
