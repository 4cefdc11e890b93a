/* SPDX-License-Identifier: Apache-2.0 */
/* What the two files of outgoing fetches share. Pure; any thread. */
#pragma once

#include <curl/curl.h>
#include <netinet/in.h>

#include "fetch.h"

/* May it be connected to from outside: neither loopback nor private nor any other special use. */
bool fetch_address_public(const struct sockaddr *sa);
void fetch_address_text(const struct sockaddr *sa, char *out); /* INET6_ADDRSTRLEN */

/* fetch_check, and the URL taken apart; out may be NULL. */
MUST_CHECK int fetch_parse(const char *url, const struct fetch_rules *r, CURLU **out,
                           struct err *e);

/* What Cache-Control and Age (empty: not there) say together; see struct fetch_reply. */
int64_t fetch_max_age(struct span cache_control, struct span age);
