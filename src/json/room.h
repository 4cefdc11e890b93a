/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens, for both files of this room. Each function takes where a token begins and returns where
 * it ends; NULL when it is not what RFC 8259 says. Nothing at or behind `end` is read. */
#pragma once

#include "json.h"

const char *token_blanks(const char *p, const char *end); /* never NULL */
/* p at the opening quote. Escapes are checked, UTF-8 is not. */
const char *token_string(const char *p, const char *end, bool *escaped);
const char *token_number(const char *p, const char *end);
const char *token_word(const char *p, const char *end, struct span word);
/* The four digits of a \u escape; -1 when they are not there. */
int token_hex4(const char *p, const char *end);
