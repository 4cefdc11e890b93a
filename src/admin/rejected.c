/* SPDX-License-Identifier: Apache-2.0 */
/* What was refused last and why, which the senders are not told. */
#include "room.h"

void admin_rejected(struct admin *a UNUSED, struct net_request *req)
{
    struct admin_params p;
    struct buf b = BUF_INIT;
    const char *bad = NULL;

    if (admin_params(req, &p, &bad)) {
        intake_rejected(buf_as_span(&p.source), p.limit, &b);
        buf_addc(&b, '\n');
        admin_reply(req, 200, "application/json", &b);
    } else {
        admin_reply_error(req, 400, "bad_parameter", bad);
    }
    admin_params_free(&p);
    buf_free(&b);
}
