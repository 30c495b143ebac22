/* fuzz_config.c - any bytes as a configuration file: it is accepted, or refused with at least one line that says why.
 * From what is accepted to itself nothing changes; to and from another file, as much one way as the other. Files it includes are looked for in a folder that does not exist. */
#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/config.h"
#include "config/diff.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t count_changes(const struct config *before, const struct config *after)
{
    struct config_diff diff;
    size_t n;

    assert(config_diff(&diff, before, after) == 0);
    n = diff.n_changes;
    for (size_t i = 0; i < n; i++)
        assert(diff.changes[i].text[0] && !strchr(diff.changes[i].text, '\n'));
    config_diff_free(&diff);
    return n;
}

static void compare(const struct config *config)
{
    static const char OTHER[] = "http :80 { route / { pool = web } }\n"
                                "tcp :81 { pool = web }\n"
                                "amqp :5672 { user guest { password = guest write = a } }\n"
                                "pool web { server a:1 {} health {} }\n";
    struct config *other = config_parse("other", slice_from_text(OTHER), stderr);

    assert(other);
    assert(count_changes(config, config) == 0);
    assert(count_changes(config, other) == count_changes(other, config));
    config_unref(other);
}

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
    if (config) {
        assert(config->threads && config->n_http + config->n_tcp + config->n_amqp);
        compare(config);
    }
    config_unref(config);
    free(said);
    return 0;
}
