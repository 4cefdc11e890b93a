/* spawn - another program that has nothing of ours but what it is given: a process group of its
 * own, all signals as they were before we blocked and ignored some. Pure of state; any thread. */
#pragma once

#include <spawn.h>

#include "base.h"

/* posix_spawn(3): 0 or an errno. `files` stays the caller's. */
MUST_CHECK int spawn_apart(pid_t *pid, const char *path, const posix_spawn_file_actions_t *files,
                           char *const argv[], char *const env[]);
