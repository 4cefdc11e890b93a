/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "cfg.h"

static inline void *cfg_field(const void *of, const struct cfg_key *k)
{
    return (char *)(uintptr_t)of + k->offset;
}

/* "64KiB", "5m": the shortest text that reads back to the same number. */
void cfg_bytes_text(uint64_t bytes, struct buf *out);
void cfg_msec_text(int64_t ms, struct buf *out);
