/* SPDX-License-Identifier: Apache-2.0 */
/* A sink that has gone from the configuration: its backlog must not vanish with it. */
#include "old_sinks.h"

#include <string.h>

static bool is_configured(const struct cfg_named *sinks, const char *name)
{
    for (size_t i = 0; i < sinks->n; i++)
        if (!strcmp(sinks->name[i], name))
            return true;
    return false;
}

static bool is_retired(const struct conf *c, const char *name)
{
    for (size_t i = 0; i < c->retired_sinks.n; i++)
        if (!strcmp(c->retired_sinks.v[i], name))
            return true;
    return false;
}

static int settle_one(struct wal *w, const struct conf *c, const char *name, struct err *e)
{
    uint64_t events;

    if (is_configured(&c->sinks, name))
        return 0;
    if (delivery_backlog(w, name, &events, e))
        return -1;
    if (!events)
        return wal_cursor_remove(w, name, e);
    if (is_retired(c, name))
        return delivery_retire(w, name, e);
    return err_set(e, EXIT_BAD_CONFIG,
                   "%s:0: sink %s is gone from the configuration but %llu events wait for it: put "
                   "it back, or name it in "
                   "retired_sinks to move them to its dead-letter log",
                   c->file, name, (unsigned long long)events);
}

int old_sinks_settle(struct wal *w, const struct conf *c, bool *first_sinks, struct err *e)
{
    char **names;
    size_t n = wal_cursor_names(w, &names);
    int rc = 0;

    *first_sinks = n == 0;
    for (size_t i = 0; i < n; i++) {
        if (!rc)
            rc = settle_one(w, c, names[i], e);
        free(names[i]);
    }
    free(names);
    return rc;
}
