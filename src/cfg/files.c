/* SPDX-License-Identifier: Apache-2.0 */
/* Which files a configuration names, so that they can be watched. */
#include <string.h>

#include "room.h"

struct walk {
    void (*each)(const char *path, void *arg);
    void *arg;
};

static void of_secret(const struct cfg_secret *s, const struct walk *w)
{
    if (s->ref && !strncmp(s->ref, "file:", 5))
        w->each(s->ref + 5, w->arg);
}

static void of_value(const struct cfg_key *k, const void *field, const struct walk *w)
{
    const struct cfg_secrets *secrets = field;
    const struct cfg_strs *strs = field;

    if (k->type == CFG_SECRET)
        of_secret(field, w);
    for (size_t i = 0; k->type == CFG_SECRETS && i < secrets->n; i++)
        of_secret(&secrets->v[i], w);
    if (!(k->flags & CFG_FILE))
        return;
    if (k->type == CFG_STR && *(char *const *)field)
        w->each(*(char *const *)field, w->arg);
    for (size_t i = 0; k->type == CFG_STRS && i < strs->n; i++)
        w->each(strs->v[i], w->arg);
}

void cfg_files(const struct cfg_key *table, const void *of,
               void (*each)(const char *path, void *arg), void *arg)
{
    struct walk w = { each, arg };

    for (const struct cfg_key *k = table; k->name; k++) {
        const void *field = cfg_field(of, k);
        const struct cfg_named *named = field;
        const struct cfg_list *list = field;

        if (k->type == CFG_SECTION)
            cfg_files(k->sub, field, each, arg);
        else if (k->type == CFG_OPTION && *(void *const *)field)
            cfg_files(k->sub, *(void *const *)field, each, arg);
        for (size_t i = 0; k->type == CFG_NAMED && i < named->n; i++)
            cfg_files(k->sub, named->v[i], each, arg);
        for (size_t i = 0; k->type == CFG_LIST && i < list->n; i++)
            cfg_files(k->sub, list->v[i], each, arg);
        of_value(k, field, &w);
    }
}
