/* SPDX-License-Identifier: Apache-2.0 */
/* Which kind of sink an entry of `sinks` asks for. A file of its own, so that a test of those who
 * use sinks can bring another one. */
#include "room.h"

const struct sink_type *sink_type_of(const struct sink_cfg *cfg)
{
    return cfg->kafka ? &sink_kafka : cfg->redis ? &sink_redis : &sink_http;
}
