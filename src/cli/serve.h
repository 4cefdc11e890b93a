/* SPDX-License-Identifier: Apache-2.0 */
/* dev.c: `serve --dev`, which needs no file. */
#pragma once

#include "err.h"

/* The configuration as text, with the default addresses where NULL is given; makes the data folder
 * and the secret at first start. NULL and e. */
char *dev_configuration(const char *listen, const char *admin, struct err *e);
/* What to type next. */
void dev_hint(const char *url, const char *admin);
