/* utf8.h - characters of UTF-8. */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include "base/slice.h"

/* The length of the UTF-8 character of more than one byte at the front of s, which is not empty; 0: there is none. No overlong
 * forms, no surrogates, nothing over U+10FFFF (Unicode, table 3-7). */
size_t utf8_len(struct slice s);

#endif
