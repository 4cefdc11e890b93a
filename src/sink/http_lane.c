/* SPDX-License-Identifier: Apache-2.0 */
/* The order within a key: a lane for each key that has something to send, in one of two queues or
 * under way. Lanes without work are gone. */
#include <string.h>

#include "http_sink.h"

void http_lanes_init(struct http_lanes *l)
{
    uint8_t secret[32];

    crypto_random(secret, sizeof secret);
    l->key = crypto_hmac_new(CRYPTO_SHA256, span_of(secret, sizeof secret));
    TAILQ_INIT(&l->ready);
    TAILQ_INIT(&l->waiting);
}

static void free_lane(struct http_lane *lane)
{
    struct http_item *item;

    while ((item = STAILQ_FIRST(&lane->items))) {
        STAILQ_REMOVE_HEAD(&lane->items, link);
        free(item);
    }
    free(lane);
}

void http_lanes_free(struct http_lanes *l)
{
    struct http_lane *lane;

    for (size_t i = 0; i < HTTP_BUCKETS; i++)
        while ((lane = l->bucket[i])) {
            l->bucket[i] = lane->next;
            if (lane->post)
                post_cancel(lane->post);
            free_lane(lane);
        }
    crypto_hmac_free(l->key);
}

/* In the order of each key: what stands first there may be under way, and stays. */
void http_lanes_drop(struct sink_http *h)
{
    struct http_lane **at, *lane;
    struct http_items dropped;
    struct http_item *item;

    STAILQ_INIT(&dropped);
    for (size_t i = 0; i < HTTP_BUCKETS; i++)
        for (at = &h->lanes.bucket[i]; (lane = *at);) {
            item = STAILQ_FIRST(&lane->items);
            if (lane->post)
                STAILQ_REMOVE_HEAD(&lane->items, link);
            STAILQ_CONCAT(&dropped, &lane->items);
            if (lane->post) {
                STAILQ_INSERT_HEAD(&lane->items, item, link);
                at = &lane->next;
                continue;
            }
            *at = lane->next;
            free(lane);
        }
    TAILQ_INIT(&h->lanes.ready);
    TAILQ_INIT(&h->lanes.waiting);
    h->lanes.waiting_n = 0;
    while ((item = STAILQ_FIRST(&dropped))) {
        STAILQ_REMOVE_HEAD(&dropped, link);
        h->sink.owner.done(h->sink.owner.arg, item->rec.lsn, SINK_RETRY, "stopping");
        free(item);
    }
}

static struct http_lane **place(struct http_lanes *l, const uint8_t *tag)
{
    struct http_lane **at = &l->bucket[(tag[0] | tag[1] << 8) % HTTP_BUCKETS];

    while (*at && memcmp((*at)->tag, tag, sizeof(*at)->tag) != 0)
        at = &(*at)->next;
    return at;
}

/* An event whose key is empty goes by its id, as in Kafka. */
static void tag_of(struct sink_http *h, const struct record *rec, uint8_t *mac)
{
    char made[RECORD_ID_MAX];
    struct span id = record_id(rec, h->logid, made), key;

    h->text.n = 0;
    template_write(h->cfg->key, rec, id, false, &h->text);
    key = h->text.n ? buf_as_span(&h->text) : id;
    crypto_hmac(h->lanes.key, &key, 1, mac);
}

void http_lane_add(struct sink_http *h, const struct record *rec)
{
    struct http_item *item = xcalloc(1, sizeof *item);
    struct http_lane **at, *lane;
    uint8_t mac[CRYPTO_HASH_MAX];

    item->rec = *rec;
    tag_of(h, rec, mac);
    at = place(&h->lanes, mac);
    lane = *at;
    if (!lane) {
        lane = *at = xcalloc(1, sizeof *lane);
        lane->sink = h;
        memcpy(lane->tag, mac, sizeof lane->tag);
        STAILQ_INIT(&lane->items);
        TAILQ_INSERT_TAIL(&h->lanes.ready, lane, link);
    }
    STAILQ_INSERT_TAIL(&lane->items, item, link);
}

void http_lane_next(struct sink_http *h, struct http_lane *lane)
{
    struct http_item *item = STAILQ_FIRST(&lane->items);
    struct http_lane **at;

    STAILQ_REMOVE_HEAD(&lane->items, link);
    free(item);
    if (STAILQ_EMPTY(&lane->items)) {
        at = place(&h->lanes, lane->tag);
        *at = lane->next;
        free(lane);
        return;
    }
    lane->tries = 0;
    lane->since_ms = 0;
    TAILQ_INSERT_TAIL(&h->lanes.ready, lane, link);
}

void http_lane_wait(struct sink_http *h, struct http_lane *lane, int64_t due_ms)
{
    lane->due_ms = due_ms;
    h->lanes.waiting_n++;
    TAILQ_INSERT_TAIL(&h->lanes.waiting, lane, link);
}

int64_t http_lanes_wake(struct http_lanes *l, int64_t now_ms)
{
    struct http_lane *lane, *next;
    int64_t earliest = INT64_MAX;

    for (lane = TAILQ_FIRST(&l->waiting); lane; lane = next) {
        next = TAILQ_NEXT(lane, link);
        if (lane->due_ms > now_ms) {
            earliest = MIN(earliest, lane->due_ms);
            continue;
        }
        TAILQ_REMOVE(&l->waiting, lane, link);
        l->waiting_n--;
        TAILQ_INSERT_TAIL(&l->ready, lane, link);
    }
    return earliest;
}
