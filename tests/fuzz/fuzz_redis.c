/* SPDX-License-Identifier: Apache-2.0 */
/* What a Redis server answers: replies in pieces give what they give at once, every text that is
 * kept lies within the reply, and a reply that was read leaves nothing for the next.
 *
 * The first byte is the length of a piece (0: one byte), the rest is what the server sends. */
#include "fuzz.h"
#include "sink/redis.h"

struct seen {
    struct buf all; /* every reply, written out */
    bool broken;
};

static void write_out(struct seen *seen, const struct redis_reply *reply)
{
    buf_printf(&seen->all, "%zu;", reply->n);
    for (size_t i = 0; i < reply->n; i++) {
        const struct redis_item *item = &reply->items[i];
        struct span text = redis_reply_text(reply, i);

        must(item->depth >= 0);
        must(!text.n ||
             (text.p >= reply->text.p && text.p + text.n < reply->text.p + reply->text.n));
        must(!text.n || !text.p[text.n]);
        buf_printf(&seen->all, "%d.%d.%d.%d.%d %lld ", item->type, item->depth, item->path[0],
                   item->path[1], item->path[2], item->number);
        buf_add(&seen->all, text.p, text.n);
    }
}

static void feed(struct seen *seen, const uint8_t *data, size_t n, size_t piece)
{
    struct redis_link l = { .fd = -1 };
    void *reply;

    l.reader = redis_link_reader(&l);
    for (size_t at = 0; at < n && !seen->broken; at += piece) {
        size_t len = MIN(piece, n - at);
        char *copy = fuzz_copy(data + at, len);

        redisReaderFeed(l.reader, copy, len);
        free(copy);
        while (!(seen->broken = redisReaderGetReply(l.reader, &reply) != REDIS_OK) && reply) {
            write_out(seen, &l.reply);
            l.reply.n = l.reply.text.n = 0;
        }
    }
    redisReaderFree(l.reader);
    free(l.reply.items);
    buf_free(&l.reply.text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct seen whole = { .broken = false }, pieces = { .broken = false };

    if (n < 2)
        return 0;
    feed(&whole, data + 1, n - 1, n - 1);
    feed(&pieces, data + 1, n - 1, *data ? *data : 1);
    must(whole.broken == pieces.broken && whole.all.n == pieces.all.n);
    must(!whole.all.n || !memcmp(whole.all.p, pieces.all.p, whole.all.n));
    buf_free(&whole.all);
    buf_free(&pieces.all);
    return 0;
}
