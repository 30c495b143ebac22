/* same.h - when two addresses in a file mean the same place. Pure; any thread. */
#ifndef CONFIG_SAME_H
#define CONFIG_SAME_H

#include <stdbool.h>

#include "base/address.h"

/* However they are spelled; a name is not looked up. An address that was refused is like no other. */
bool config_same_address(const struct address *a, const struct address *b);

#endif
