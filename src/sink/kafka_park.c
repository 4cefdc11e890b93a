/* SPDX-License-Identifier: Apache-2.0 */
/* Records that wait for a topic which they name themselves. What comes from outside must not hold
 * up the sink: so they are taken, wait here while the others pass them, and go to their topic once
 * it is there, to the fallback topic, or after a minute to the dead letters. Their number is
 * bounded by the window; the order within a topic is kept. */
#include <stdio.h>

#include "kafka.h"

struct parked {
    struct parked *next;
    struct topic *topic;
    struct record rec; /* its spans stay until it is reported */
};

void kafka_park(struct kafka *k, struct topic *t, const struct record *rec)
{
    struct parked *p = xcalloc(1, sizeof *p);

    *p = (struct parked){ .topic = t, .rec = *rec };
    if (!k->parked)
        k->parked_end = &k->parked;
    *k->parked_end = p;
    k->parked_end = &p->next;
}

enum settled { WAITS, SETTLED, FULL };

static enum settled settle(struct kafka *k, const struct parked *p)
{
    const char *fallback = k->cfg->kafka->fallback_topic;
    struct topic *t = p->topic;
    char reason[400];

    if (t->missing_ms && !t->asking && fallback)
        t = kafka_topic(k, fallback);
    if (!t || (p->rec.lsn <= k->careful_until && k->in_flight))
        return WAITS;
    if (!t->asking && !t->missing_ms)
        return kafka_produce(k, &p->rec, t) ? FULL : SETTLED;
    if (t->fixed || !kafka_topic_given_up(k, t))
        return WAITS;
    snprintf(reason, sizeof reason, "topic %s, which the event names, cannot be used", t->name);
    kafka_report(k, p->rec.lsn, SINK_POISON, reason);
    return SETTLED;
}

void kafka_unpark(struct kafka *k)
{
    struct parked **at = &k->parked, *p;
    enum settled now = WAITS;

    while (now != FULL && (p = *at)) {
        now = settle(k, p);
        if (now == SETTLED) {
            *at = p->next;
            free(p);
        } else {
            at = &p->next;
        }
    }
    while (*at)
        at = &(*at)->next;
    k->parked_end = at;
}

void kafka_park_drop(struct kafka *k)
{
    struct parked *p;

    while ((p = k->parked)) {
        k->parked = p->next;
        free(p);
    }
}
