/* SPDX-License-Identifier: Apache-2.0 */
/* stored BROKER TOPIC COUNT: waits until COUNT messages stand in the one partition of a topic and
 * prints how many there were when the first were seen, and the seconds from then to the last. The
 * broker's own count, the same for every producer. */
#include <err.h>
#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <unistd.h>

#include "base.h"
#include "clock.h"

#define LOOK_US 2000
#define QUIET_US 60000000 /* nothing new for so long: something is broken */

static int64_t high_mark(rd_kafka_t *rk, const char *topic)
{
    int64_t low, high = 0;
    rd_kafka_resp_err_t e = rd_kafka_query_watermark_offsets(rk, topic, 0, &low, &high, 10000);

    if (e)
        errx(1, "stored: %s: %s", topic, rd_kafka_err2str(e));
    return high;
}

int main(int argc, char **argv)
{
    int64_t count = argc == 4 ? strtoll(argv[3], NULL, 10) : 0, n = 0, first = 0, last = 0;
    int64_t first_us = 0, moved_us = clock_mono_us();
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    char text[256];
    rd_kafka_t *rk;

    if (!count || rd_kafka_conf_set(conf, "bootstrap.servers", argv[1], text, sizeof text))
        errx(64, "stored BROKER TOPIC COUNT");
    rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, text, sizeof text);
    if (!rk)
        errx(1, "stored: %s", text);
    while ((n = high_mark(rk, argv[2])) < count) {
        int64_t now_us = clock_mono_us();
        if (n != last)
            moved_us = now_us;
        if (n && !first) {
            first = n;
            first_us = now_us;
        }
        if (now_us - moved_us > QUIET_US)
            errx(1, "stored: stuck at %lld of %lld", (long long)n, (long long)count);
        last = n;
        usleep(LOOK_US);
    }
    printf("{\"first\":%lld,\"last\":%lld,\"seconds\":%.6f}\n", (long long)first, (long long)n,
           (double)(clock_mono_us() - first_us) / 1e6);
    rd_kafka_destroy(rk);
    return 0;
}
