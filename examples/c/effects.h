/* SPDX-License-Identifier: Apache-2.0 */
/* effects - what the examples do with an event: a line "source id type" in a file, once.
 *
 * A repeat of the same source and id adds no line, after a restart neither. Runs out of memory or
 * disk: ends the process, which then has acknowledged nothing that had no effect. */
#pragma once

#include <stddef.h>

struct effects;

struct effects *effects_open(const char *path);
/* None of the texts needs to end in a NUL; the line is in the file when this returns. */
void effects_add(struct effects *fx, const char *source, size_t source_n, const char *id,
                 size_t id_n, const char *type, size_t type_n);
/* On stable storage: only now may the queue be told that it can forget what was added. */
void effects_sync(struct effects *fx);
void effects_close(struct effects *fx);

_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Set by SIGINT and SIGTERM, for which it also asks. */
int stopping(void);
