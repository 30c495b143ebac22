/* crc32c.h - CRC-32C (Castagnoli, RFC 3720 appendix B.4), by ISA-L. Any thread. */
#ifndef LOG_CRC32C_H
#define LOG_CRC32C_H

#include "base/slice.h"

/* Of the bytes that crc is of, followed by s; 0 is the CRC of nothing. */
uint32_t crc32c(uint32_t crc, struct slice s);

#endif
