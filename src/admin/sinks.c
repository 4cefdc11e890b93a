/* SPDX-License-Identifier: Apache-2.0 */
/* /v1/sinks/SINK/pause and /resume: hold a sink back, let it go on. Answered with what /status then
 * shows of it, once it is on disk; asking twice changes nothing. */
#include "room.h"

static void answer_state(struct admin_ask *k)
{
    buf_addc(&k->ask.run, '\n');
    admin_reply(k->req, 200, "application/json", &k->ask.run);
}

void admin_steer(struct admin *a, struct net_request *req, struct span rest)
{
    struct span name = span_cut(&rest, '/');
    bool pause = span_eq(rest, S("pause"));
    struct delivery *sink = admin_sink(a, name);
    struct admin_ask *k;

    if (!pause && !span_eq(rest, S("resume"))) {
        net_answer_error(req, HTTP_ERR_NOT_FOUND, "no such path", NULL);
        return;
    }
    if (!admin_method(req, METHODS_POST, "POST"))
        return;
    if (!sink) {
        admin_reply_error(req, 404, "not_found", "no sink has that name");
        return;
    }
    k = admin_ask_new(a, req, sink, name);
    k->ask.what = pause ? ASK_PAUSE : ASK_RESUME;
    k->answer = answer_state;
    admin_ask_send(k);
}
