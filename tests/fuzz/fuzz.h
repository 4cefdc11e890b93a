/* SPDX-License-Identifier: Apache-2.0 */
/* What the fuzzers share. Each is one LLVMFuzzerTestOneInput over one reader of outside bytes; it
 * states what must hold for every input with must(), which stays on in every build. */
#pragma once

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "buf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define must(what) ((what) ? (void)0 : __builtin_trap())

/* A copy of exactly n bytes, so that the address sanitizer sees a read behind them. */
static inline char *fuzz_copy(const void *data, size_t n)
{
    char *copy = xmalloc(n ? n : 1);

    if (n)
        memcpy(copy, data, n);
    return copy;
}
