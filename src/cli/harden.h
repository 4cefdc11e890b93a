/* SPDX-License-Identifier: Apache-2.0 */
/* What the process gives up before its first thread starts: privileges.c, then harden.c. */
#pragma once

#include "conf.h"

/* The user of process.user, if there is one, with all addresses bound that will be listened on (a
 * drain takes none of senders), and the log's folder his. -1 where that cannot be done: the process
 * must end. */
MUST_CHECK int become_user(const struct conf *c, bool drain, struct err *e);

/* No core dumps, no debugger of the same user, no new privileges, and of the file system only what
 * the configuration names. -1 where the configuration requires what the kernel has not. */
MUST_CHECK int harden(const struct conf *c, struct err *e);
