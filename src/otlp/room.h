/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this room share: otlp.c the queue and the thread, json.c what is sent. */
#pragma once

#include "otlp.h"

/* One ExportTraceServiceRequest. zero_us: what the wall clock shows at CLOCK_MONOTONIC 0. A span
 * without an id of its own gets a random one. */
void otlp_json_write(struct buf *out, const struct otlp_cfg *cfg, const char *log_id,
                     const struct otlp_span *v, size_t n, int64_t zero_us);
/* How many of them the answer of a collector says that it did not take. */
uint64_t otlp_json_rejected(struct span answer);
