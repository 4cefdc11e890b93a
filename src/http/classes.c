/* SPDX-License-Identifier: Apache-2.0 */
/* What each byte may be part of: RFC 9110 5.6.2 (token), 5.5 (field value), RFC 3986 (target,
 * host). */
#include "parse.h"

#define T CLASS_TOKEN
#define V CLASS_VALUE
#define G CLASS_TARGET
#define X CLASS_HEX
#define H CLASS_HOST

const unsigned char http_class[256] = {
    ['\t'] = V,
    [' '] = V,
    ['!'] = T | V | G,
    ['"'] = V | G,
    ['#' ... '\''] = T | V | G,
    ['('] = V | G,
    [')'] = V | G,
    ['*'] = T | V | G,
    ['+'] = T | V | G,
    [','] = V | G,
    ['-'] = T | V | G | H,
    ['.'] = T | V | G | H,
    ['/'] = V | G,
    ['0' ... '9'] = T | V | G | X | H,
    [':'] = V | G | H,
    [';' ... '@'] = V | G,
    ['A' ... 'F'] = T | V | G | X | H,
    ['G' ... 'Z'] = T | V | G | H,
    ['['] = V | G | H,
    ['\\'] = V | G,
    [']'] = V | G | H,
    ['^'] = T | V | G,
    ['_'] = T | V | G | H,
    ['`'] = T | V | G,
    ['a' ... 'f'] = T | V | G | X | H,
    ['g' ... 'z'] = T | V | G | H,
    ['{'] = V | G,
    ['|'] = T | V | G,
    ['}'] = V | G,
    ['~'] = T | V | G | H,
    [0x80 ... 0xff] = V,
};
