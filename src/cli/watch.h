/* SPDX-License-Identifier: Apache-2.0 */
/* watch.c: whether the files of a configuration hold something new. */
#pragma once

#include "conf.h"

#define WATCH_BYTES 32
/* A print of all that the configuration's file, and the files it names, hold now. By content: a
 * link that leads elsewhere, as in a volume of Kubernetes, is a change; a mere touch is none. */
void watch_look(const struct conf *c, uint8_t out[WATCH_BYTES]);
