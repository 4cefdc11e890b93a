/* SPDX-License-Identifier: Apache-2.0 */
/* One record that the broker refuses spoils its transaction, and with it all of its batch is
 * refused. What was refused is sent again in halves, each in a transaction of its own, what stands
 * before and behind it goes as usual; what is refused alone is poison. Pure. */
#include "kafka_tx.h"

enum tx_room tx_search_room(const struct tx_search *s, uint64_t begun, size_t n, uint64_t lsn)
{
    if (!s->last || !n || begun > s->last)
        return TX_ROOM;
    if (begun < s->first)
        return lsn < s->first ? TX_ROOM : TX_COMMIT_FIRST;
    return n < s->limit && lsn <= s->last ? TX_ROOM : TX_COMMIT_FIRST;
}

bool tx_search_failed(struct tx_search *s, size_t n, uint64_t first, uint64_t last, size_t bad)
{
    if (n == 1) {
        *s = (struct tx_search){ 0 };
        return true;
    }
    *s = (struct tx_search){ first, last, (MIN(bad, n) + 1) / 2 };
    return false;
}

void tx_search_passed(struct tx_search *s, uint64_t lsn)
{
    if (lsn >= s->last)
        *s = (struct tx_search){ 0 };
}
