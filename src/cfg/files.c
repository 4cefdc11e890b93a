/* SPDX-License-Identifier: Apache-2.0 */
/* Which files a configuration names, so that they can be watched, and read in a sandbox. */
#include <string.h>

#include "room.h"

struct walk {
    void (*each)(const char *path, void *arg);
    void *arg;
    bool all; /* also texts that only look like a path */
};

static void of_secret(const struct cfg_secret *s, const struct walk *w)
{
    if (s->ref && !strncmp(s->ref, "file:", 5))
        w->each(s->ref + 5, w->arg);
}

static void of_text(const struct cfg_key *k, const char *text, const struct walk *w)
{
    if (text && (k->flags & CFG_FILE || (w->all && text[0] == '/')))
        w->each(text, w->arg);
}

static void of_value(const struct cfg_key *k, const void *field, const struct walk *w)
{
    const struct cfg_secrets *secrets = field;
    const struct cfg_strs *strs = field;
    const struct cfg_strmap *map = field;

    if (k->type == CFG_SECRET)
        of_secret(field, w);
    else if (k->type == CFG_STR)
        of_text(k, *(char *const *)field, w);
    for (size_t i = 0; k->type == CFG_SECRETS && i < secrets->n; i++)
        of_secret(&secrets->v[i], w);
    for (size_t i = 0; k->type == CFG_STRS && i < strs->n; i++)
        of_text(k, strs->v[i], w);
    for (size_t i = 0; k->type == CFG_STRMAP && i < map->n; i++)
        of_text(k, map->v[i], w);
}

static void of_table(const struct cfg_key *table, const void *of, const struct walk *w)
{
    for (const struct cfg_key *k = table; k->name; k++) {
        const void *field = cfg_field(of, k);
        const struct cfg_named *named = field;
        const struct cfg_list *list = field;

        if (k->type == CFG_SECTION)
            of_table(k->sub, field, w);
        else if (k->type == CFG_OPTION && *(void *const *)field)
            of_table(k->sub, *(void *const *)field, w);
        for (size_t i = 0; k->type == CFG_NAMED && i < named->n; i++)
            of_table(k->sub, named->v[i], w);
        for (size_t i = 0; k->type == CFG_LIST && i < list->n; i++)
            of_table(k->sub, list->v[i], w);
        of_value(k, field, w);
    }
}

void cfg_paths(const struct cfg_key *table, const void *of,
               void (*each)(const char *path, void *arg), void *arg)
{
    of_table(table, of, &(struct walk){ each, arg, true });
}

void cfg_files(const struct cfg_key *table, const void *of,
               void (*each)(const char *path, void *arg), void *arg)
{
    of_table(table, of, &(struct walk){ each, arg, false });
}
