/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "conf.h"

/* Sinks whose cursors are in the log and that left the configuration: removed where nothing waits
 * for them, moved to their dead letters where they are named in retired_sinks, else an error.
 * *first_sinks: the log had none before. */
MUST_CHECK int old_sinks_settle(struct wal *w, const struct conf *c, bool *first_sinks,
                                struct err *e);
