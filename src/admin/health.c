/* SPDX-License-Identifier: Apache-2.0 */
/* Probes. Alive is about this process turning; ready is about taking webhooks now. A dead sink is
 * neither: its events wait in the log. */
#include "clock.h"
#include "room.h"

static void answer(struct net_request *req, struct buf *reasons)
{
    bool good = reasons->n == 0;

    if (good)
        buf_adds(reasons, "ok\n");
    admin_reply(req, good ? 200 : 503, "text/plain; charset=utf-8", reasons);
    buf_free(reasons);
}

void admin_livez(struct admin *a, struct net_request *req)
{
    const struct admin_view *v = a->view;
    int64_t now = clock_mono_ms();
    struct buf why = BUF_INIT;

    if (v->intake && !intake_turning(v->intake, now))
        buf_adds(&why, "an intake loop has not turned for 60 s\n");
    for (size_t i = 0; i < v->sinks_n; i++)
        if (!delivery_turning(v->sinks[i], now))
            buf_printf(&why, "the loop of sink %s has not turned for 60 s\n", v->sink_names[i]);
    answer(req, &why);
}

void admin_startupz(struct admin *a, struct net_request *req)
{
    struct buf why = BUF_INIT;

    if (!a->view->intake)
        buf_adds(&why, "recovering\n");
    answer(req, &why);
}

void admin_readyz(struct admin *a, struct net_request *req)
{
    const struct admin_view *v = a->view;
    struct buf why = BUF_INIT;
    struct wal_info info;

    if (v->stopping)
        buf_adds(&why, "stopping\n");
    else if (!v->wal || !v->intake)
        buf_adds(&why, "recovering\n");
    if (v->wal) {
        wal_info(v->wal, &info);
        if (info.failed)
            buf_adds(&why, "last sync failed\n");
        else if (info.stalled_ms > v->commit_timeout_ms)
            buf_adds(&why, "last sync older than commit_timeout\n");
        if (span_eq(span_str(info.state), S("full")))
            buf_adds(&why, "log full\n");
        if (span_eq(span_str(info.state), S("backlog_full")))
            buf_adds(&why, "backlog full\n");
    }
    answer(req, &why);
}
