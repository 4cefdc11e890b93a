/* SPDX-License-Identifier: Apache-2.0 */
/* harden.c: what the process gives up before its first thread starts. */
#pragma once

#include "conf.h"

/* No core dumps, no debugger of the same user, no new privileges, and of the file system only what
 * the configuration names. -1 where the configuration requires what the kernel has not. */
MUST_CHECK int harden(const struct conf *c, struct err *e);
