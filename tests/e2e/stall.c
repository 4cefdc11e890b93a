/* SPDX-License-Identifier: Apache-2.0 */
/* Preloaded into hookline by the tests: fdatasync waits while the file $STALL exists. Only the
 * calling thread waits, as with a disk that hangs. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

int fdatasync(int fd)
{
    static int (*real)(int);
    const char *stall = getenv("STALL");

    if (!real)
        real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    while (stall && access(stall, F_OK) == 0)
        usleep(1000);
    return real(fd);
}
