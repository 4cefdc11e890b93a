/* cfg - declarative tables <-> YAML and JSON. Knows no setting by name.
 *
 * Each room owns the table of its settings; cli/conf.c joins them. One row gives the parser, the
 * range check, the default, `hookline check --print`, the commented example file and the reference
 * page. All errors of a run are collected, each "FILE:LINE: message". Main thread only. */
#pragma once

#include "buf.h"
#include "err.h"

/* A parsed document. Nodes belong to the document; order is that of the file. */
enum cfg_node_kind { CFG_NODE_SCALAR, CFG_NODE_MAP, CFG_NODE_LIST };
struct cfg_node {
    enum cfg_node_kind kind;
    const char *file;
    int line;
    const char *key;  /* in a map, else NULL */
    const char *text; /* scalar, after ${NAME} was replaced */
    bool plain;       /* scalar without quotes (null and true are words only then) */
    struct cfg_node *child, *next;
};
struct cfg_doc;

/* NULL when the text cannot be parsed (errs says where). Repeated keys are errors. expand: replace
 * ${NAME} and ${NAME:-default} from the environment in string values, $$ is a dollar. */
struct cfg_doc *cfg_parse(const char *file, struct span text, bool expand, struct err_list *errs);
const struct cfg_node *cfg_root(const struct cfg_doc *doc);
const struct cfg_node *cfg_find(const struct cfg_node *map, const char *key);
void cfg_doc_free(struct cfg_doc *doc);
void cfg_error(struct err_list *errs, const struct cfg_node *at, const char *fmt, ...)
    PRINTF_LIKE(3, 4);

/* A secret: its bytes, and where it came from (so that --print can show the reference, not it). */
struct cfg_secret {
    char *bytes; /* NUL-ended; may hold other bytes when read from a file */
    size_t n;
    char *ref;            /* "env:NAME", "file:PATH", or NULL for a plain string */
    int64_t not_after_ms; /* 0: for ever; in a list of secrets only */
};

enum cfg_type {
    CFG_STR,     /* char * */
    CFG_BOOL,    /* bool */
    CFG_INT,     /* int64_t, min..max */
    CFG_BYTES,   /* uint64_t: 64KiB, 1MiB, 10GiB or bytes */
    CFG_MSEC,    /* int64_t: 500ms, 10s, 5m, 72h, 7d */
    CFG_ENUM,    /* int: index into words */
    CFG_SECRET,  /* struct cfg_secret */
    CFG_SECRETS, /* struct cfg_secrets: a list, or one */
    CFG_STRS,    /* struct cfg_strs: a list of strings, or one */
    CFG_STRMAP,  /* struct cfg_strmap: string -> string in the file's order */
    CFG_SECTION, /* embedded struct with a table of its own */
    CFG_OPTION,  /* pointer to a struct with a table of its own; NULL when the key is absent */
    CFG_NAMED,   /* struct cfg_named: NAME -> struct, in the file's order */
    CFG_LIST,    /* struct cfg_list: structs, or one; a lone value is the first key of one */
};

struct cfg_secrets {
    struct cfg_secret *v;
    size_t n;
};
struct cfg_strs {
    char **v;
    size_t n;
};
struct cfg_strmap {
    char **k, **v;
    size_t n;
};
struct cfg_named {
    char **name;
    void **v;
    int *line;
    size_t n;
};

struct cfg_list {
    void **v;
    size_t n;
};

struct cfg_key {
    const char *name; /* NULL ends the table */
    enum cfg_type type;
    size_t offset;             /* of the field in the struct of this table */
    const char *def;           /* default as it would stand in the file; NULL: zero/absent */
    int64_t min, max;          /* CFG_INT, CFG_BYTES, CFG_MSEC; 0,0 is no limit but >= 0 */
    const char *const *words;  /* CFG_ENUM, NULL-ended */
    const struct cfg_key *sub; /* CFG_SECTION, CFG_OPTION, CFG_NAMED, CFG_LIST */
    size_t sub_size;           /* CFG_OPTION, CFG_NAMED, CFG_LIST: size of the struct */
    unsigned flags;
    const char *help; /* one or two sentences for the reference page */
};
enum {
    CFG_RELOAD = 1,
    CFG_REQUIRED = 2,
    CFG_MAY_BE_NONE =
        4,        /* a section that the word none, or that of one of its switches, stands for */
    CFG_FILE = 8, /* a string, or strings: files whose content belongs to the settings */
};                /* CFG_RELOAD: SIGHUP applies it; else it needs a restart */

/* The texts of CFG_MSEC and CFG_BYTES as numbers; false when they are none. */
bool cfg_msec(struct span text, int64_t *ms);
bool cfg_bytes(struct span text, uint64_t *bytes);

/* Defaults first, then what the document says; node may be NULL (all defaults). Unknown keys are
 * errors that name the nearest known one. */
void cfg_load(const struct cfg_key *table, const struct cfg_node *node, void *into,
              struct err_list *errs);
void cfg_release(const struct cfg_key *table, void *of);
/* The whole effective configuration as YAML that cfg_load reads again; plain secrets masked. */
void cfg_print(const struct cfg_key *table, const void *of, struct buf *out);
/* Commented example file, and Markdown rows with the dotted key first: | `log.dir` | ... |. */
void cfg_example(const struct cfg_key *table, struct buf *out);
void cfg_reference(const struct cfg_key *table, struct buf *out);
/* The dotted key of the first difference that a reload cannot apply, or NULL. out[128]. */
const char *cfg_needs_restart(const struct cfg_key *table, const void *a, const void *b, char *out);
/* Calls back with every text of the settings that could be the path of a file: those of secrets,
 * and all that begin with '/'. */
void cfg_paths(const struct cfg_key *table, const void *of,
               void (*each)(const char *path, void *arg), void *arg);
/* Calls back with every file that the settings name: of secrets, and of keys with CFG_FILE. */
void cfg_files(const struct cfg_key *table, const void *of,
               void (*each)(const char *path, void *arg), void *arg);
