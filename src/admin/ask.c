/* SPDX-License-Identifier: Apache-2.0 */
/* Requests that a sink's thread answers: handed over, and answered when it comes back. */
#include <stdio.h>
#include <string.h>

#include "room.h"

struct delivery *admin_sink(struct admin *a, struct span name)
{
    for (size_t i = 0; i < a->view->sinks_n; i++)
        if (span_eq(name, span_str(a->view->sink_names[i])))
            return a->view->sinks[i];
    return NULL;
}

struct admin_ask *admin_ask_new(struct admin *a, struct net_request *req, struct delivery *sink,
                                struct span name)
{
    struct admin_ask *k = xcalloc(1, sizeof *k);

    *k = (struct admin_ask){ .req = req, .sink = sink };
    k->ask.reply = &a->inbox;
    snprintf(k->name, sizeof k->name, "%.*s", SPAN_FMT(name));
    memcpy(k->log_id, wal_log_id(a->view->wal), sizeof k->log_id);
    return k;
}

static void on_done(struct delivery_ask *ask, void *self UNUSED)
{
    struct admin_ask *k = container_of(ask, struct admin_ask, ask);

    switch (ask->answer) {
    case ASK_DONE:
        k->answer(k);
        break;
    case ASK_NONE:
        admin_reply_error(k->req, 404, "not_found", k->none);
        break;
    case ASK_BUSY:
        admin_reply_error(k->req, 409, "busy", ask->err.text);
        break;
    case ASK_FAILED:
        admin_reply_error(k->req, 500, ask->err.code == EXIT_DAMAGED ? "damaged" : "failed",
                          ask->err.text);
    }
    admin_ask_free(k);
}

void admin_ask_send(struct admin_ask *k)
{
    k->ask.done = on_done;
    delivery_ask(k->sink, &k->ask);
}

void admin_ask_free(struct admin_ask *k)
{
    delivery_ask_free(&k->ask);
    free(k);
}

/* On loopback no token is asked for, and a page in the operator's browser can send there too; it
 * cannot hide where it comes from. */
static bool of_another_page(struct net_request *req)
{
    struct span origin = http_header(&req->http, req->bytes, S("origin"), NULL);
    struct span host = http_header(&req->http, req->bytes, S("host"), NULL);

    if (!origin.p)
        return false;
    return origin.n < host.n + 7 ||
           !span_ieq(host, span_of(origin.p + origin.n - host.n, host.n)) ||
           origin.p[origin.n - host.n - 1] != '/';
}

bool admin_method(struct net_request *req, unsigned allowed, const char *names)
{
    if (!(1u << req->http.method & allowed))
        net_answer_error(req, HTTP_ERR_METHOD_NOT_ALLOWED, NULL, names);
    else if (!(1u << req->http.method & METHODS_GET) && of_another_page(req))
        admin_reply_error(req, 403, "forbidden",
                          "a page of another origin may change nothing here");
    else
        return true;
    return false;
}
