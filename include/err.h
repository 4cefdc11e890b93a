/* err - why something failed, for the person who reads it: what, where, why, what to do.
 *
 * A function that can fail takes a `struct err *` last and returns -1 after filling it. Callers
 * that know more wrap it from the outside in, so that the text reads from the general to the
 * particular: "log folder /var/lib/hookline: segment 0000000000000041.wal: checksum mismatch". */
#pragma once

#include "base.h"

struct err {
    enum exit_code code; /* with which the process ends if nobody handles it */
    char text[768];
};

#define ERR_INIT                                                                                   \
    {                                                                                              \
        .code = EXIT_OK, .text = ""                                                                \
    }

/* Always returns -1, so that `return err_set(...)` reads well. */
int err_set(struct err *e, enum exit_code code, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* Appends ": " and the text of errno. */
int err_errno(struct err *e, enum exit_code code, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* Puts "context: " before what is there. */
int err_wrap(struct err *e, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* A list of errors for what is checked as a whole (the configuration): one line each. */
struct err_list {
    char **line;
    size_t n;
};

void err_list_add(struct err_list *l, const char *fmt, ...) PRINTF_LIKE(2, 3);
void err_list_free(struct err_list *l);
