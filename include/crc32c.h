/* crc32c - CRC-32C (Castagnoli, RFC 3720 appendix B.4), by the processor's instruction where it has
 * one, else by tables; both give the same. */
#pragma once

#include "base.h"

/* crc32c(0, "123456789", 9) == 0xe3069283. Chains: crc32c(crc32c(0, a), b) is the CRC of a then b.
 */
uint32_t crc32c(uint32_t crc, const void *p, size_t n);
uint32_t crc32c_portable(uint32_t crc, const void *p, size_t n); /* for its test */
