/* SPDX-License-Identifier: Apache-2.0 */
/* /v1/log-level: what the log on stderr leaves out, seen and changed while it runs. What is set
 * here holds until the next reload or restart, which take the configured one again. */
#include "log.h"
#include "room.h"

static bool read_level(struct span word, enum log_level *out)
{
    for (int i = 0; log_level_words()[i]; i++)
        if (span_eq(word, span_str(log_level_words()[i]))) {
            *out = (enum log_level)i;
            return true;
        }
    return false;
}

void admin_log_level(struct admin *a UNUSED, struct net_request *req, struct span none UNUSED)
{
    struct buf word = BUF_INIT, b = BUF_INIT;
    enum log_level level = log_level();
    bool bad = false;

    if (!admin_method(req, METHODS_GET | METHODS_PUT, "GET, HEAD, PUT"))
        return;
    if (req->http.method == METHOD_PUT) {
        bad = !http_query_get(http_query(&req->http, req->bytes), S("level"), &word) ||
              !read_level(buf_as_span(&word), &level);
        if (!bad && level != log_level()) {
            log_set_level(level);
            log_warn("the level of this log was changed", KS("level", log_level_words()[level]));
        }
    }
    if (bad) {
        admin_reply_error(req, 400, "bad_parameter", "level is debug, info, warn or error");
    } else {
        buf_printf(&b, "{\"level\":\"%s\"}\n", log_level_words()[level]);
        admin_reply(req, 200, "application/json", &b);
    }
    buf_free(&word);
    buf_free(&b);
}
