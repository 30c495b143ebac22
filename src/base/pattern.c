/* pattern.c - see pattern.h. */
#include "base/pattern.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

/* Steps from one place of the text; the first place that takes more ends it all, after about a millisecond. A pattern that
 * somebody means takes a few hundred. */
#define STEPS_MAX 100000
#define HEAP_KIB_MAX 1024

struct pattern {
    pcre2_code *code; /* NULL: the answer is the same for every text, or nearly */
    bool everything;
};

struct matcher {
    pcre2_match_context *limits;
    pcre2_match_data *data;
};

/* --- compiling ------------------------------------------------------------------------------------ */

static void *take(PCRE2_SIZE bytes, void *arg)
{
    const struct pattern_room *room = arg;

    return room->take(room->arg, bytes);
}

static void keep(void *block, void *arg)
{
    (void)block;
    (void)arg;
}

static pcre2_code *compile(struct slice text, const struct pattern_room *room, struct pattern_error *error)
{
    pcre2_general_context *memory =
        pcre2_general_context_create(take, keep, (struct pattern_room *)(uintptr_t)room);
    pcre2_compile_context *context = memory ? pcre2_compile_context_create(memory) : NULL;
    pcre2_code *code = NULL;
    int number = PCRE2_ERROR_HEAP_FAILED;
    PCRE2_SIZE at = 0;

    if (context)
        code = pcre2_compile((PCRE2_SPTR)text.ptr, text.len, 0, &number, &at, context);
    if (code)
        return code;
    error->at = at;
    if (pcre2_get_error_message(number, (PCRE2_UCHAR *)error->why, sizeof error->why) < 0)
        snprintf(error->why, sizeof error->why, "error %d", number);
    return NULL;
}

const struct pattern *pattern_compile(struct slice text, const struct pattern_room *room,
                                      struct pattern_error *error)
{
    struct pattern *pattern = room->take(room->arg, sizeof *pattern);

    *error = (struct pattern_error){0, "no memory"};
    if (!pattern)
        return NULL;
    *pattern = (struct pattern){.everything = slice_equal(text, SLICE(".*"))};
    if (text.len > PATTERN_TEXT_MAX) {
        snprintf(error->why, sizeof error->why, "it is longer than %d bytes", PATTERN_TEXT_MAX);
        return NULL;
    }
    if (text.len && !pattern->everything)
        pattern->code = compile(text, room, error);
    return pattern->code || !text.len || pattern->everything ? pattern : NULL;
}

/* --- matching ------------------------------------------------------------------------------------- */

struct matcher *matcher_create(void)
{
    struct matcher *matcher = calloc(1, sizeof *matcher);

    if (!matcher)
        return NULL;
    matcher->limits = pcre2_match_context_create(NULL);
    matcher->data = pcre2_match_data_create(1, NULL);
    if (!matcher->limits || !matcher->data) {
        matcher_free(matcher);
        return NULL;
    }
    pcre2_set_match_limit(matcher->limits, STEPS_MAX);
    pcre2_set_heap_limit(matcher->limits, HEAP_KIB_MAX);
    return matcher;
}

void matcher_free(struct matcher *matcher)
{
    if (!matcher)
        return;
    pcre2_match_data_free(matcher->data);
    pcre2_match_context_free(matcher->limits);
    free(matcher);
}

bool matcher_matches(struct matcher *matcher, const struct pattern *pattern, struct slice text)
{
    if (!pattern->code)
        return pattern->everything || !text.len;
    return pcre2_match(pattern->code, (PCRE2_SPTR)(text.len ? text.ptr : ""), text.len, 0, 0, matcher->data,
                       matcher->limits) >= 0;
}
