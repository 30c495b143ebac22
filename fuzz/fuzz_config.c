/* fuzz_config.c - any bytes as a configuration file: it is accepted, or refused with at least one line that says why.
 * Files it includes are looked for in a folder that does not exist. */
#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char FILE_NAME[] = "/nonexistent/fuzz.conf";
    char *said = NULL;
    size_t len = 0;
    FILE *errors = open_memstream(&said, &len);
    struct config *config;

    assert(errors);
    config = config_parse(FILE_NAME, slice_of((const char *)data, size), errors);
    fclose(errors);
    assert(config ? len == 0
                  : len > 0 && said[len - 1] == '\n' && strncmp(said, FILE_NAME, strlen(FILE_NAME)) == 0);
    if (config)
        assert(config->threads && config->n_http);
    config_free(config);
    free(said);
    return 0;
}
