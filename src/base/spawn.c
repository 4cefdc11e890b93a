/* SPDX-License-Identifier: Apache-2.0 */
#include "spawn.h"

#include <signal.h>

int spawn_apart(pid_t *pid, const char *path, const posix_spawn_file_actions_t *files,
                char *const argv[], char *const env[])
{
    posix_spawnattr_t attr;
    sigset_t none, all;
    int rc;

    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_init(&attr);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
                                        POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setsigdefault(&attr, &all);
    rc = posix_spawn(pid, path, files, &attr, argv, env);
    posix_spawnattr_destroy(&attr);
    return rc;
}
