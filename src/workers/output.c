/* output.c - see output.h. */
#include "workers/output.h"

#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

#define SECOND_US 1e6
#define ROOM (OUTPUT_LINE_MAX + 64)

void output_init(struct output *output, void (*say)(void *arg, struct slice line), void *arg, uint64_t now_us)
{
    *output = (struct output){.say = say, .arg = arg, .tokens = OUTPUT_BURST, .filled_us = now_us};
}

/* ---- saying ------------------------------------------------------------------------------------------------------ */

static bool may_say(struct output *output, uint64_t now_us)
{
    if (now_us > output->filled_us) {
        output->tokens += (double)(now_us - output->filled_us) / SECOND_US * OUTPUT_PER_S;
        output->filled_us = now_us;
    }
    if (output->tokens > OUTPUT_BURST)
        output->tokens = OUTPUT_BURST;
    return output->tokens >= 1;
}

static void say_number(struct output *output, const char *format, uint64_t n)
{
    char text[128];
    int bytes = snprintf(text, sizeof text, format, (unsigned long long)n, n == 1 ? "" : "s");

    output->say(output->arg, slice_of(text, (size_t)bytes));
}

static void say_repeats(struct output *output)
{
    if (output->repeats)
        say_number(output, "[the last line came %llu time%s more]", output->repeats);
    output->repeats = 0;
}

static void say_left_out(struct output *output)
{
    if (output->left_out)
        say_number(output, "[%llu line%s left out: too many at once]", output->left_out);
    output->left_out = 0;
}

/* What a terminal obeys rather than shows: C0, DEL and C1; separators of lines, embeddings and overrides of direction (U+2028 to 202E),
 * and its isolates (U+2066 to 2069). */
static bool is_obeyed(struct slice character)
{
    const unsigned char *c = (const unsigned char *)character.ptr;

    switch (character.len) {
    case 1:
        return c[0] < 0x20 || c[0] == 0x7f;
    case 2:
        return c[0] == 0xc2 && c[1] < 0xa0;
    case 3:
        return c[0] == 0xe2 && ((c[1] == 0x80 && c[2] >= 0xa8 && c[2] <= 0xae) ||
                                (c[1] == 0x81 && c[2] >= 0xa6 && c[2] <= 0xa9));
    default:
        return false;
    }
}

/* It never becomes longer. */
static size_t put_clean(char *text, struct slice line)
{
    size_t n = 0;

    while (line.len) {
        size_t len = (unsigned char)*line.ptr < 0x80 ? 1 : utf8_len(line);
        struct slice character = slice_take(&line, len ? len : 1);

        if (!len || is_obeyed(character)) {
            text[n++] = len ? ' ' : '?';
            continue;
        }
        memcpy(text + n, character.ptr, len);
        n += len;
    }
    return n;
}

/* So many bytes at the end of a line that was cut begin a character, the rest of which has no room. */
static size_t cut_bytes(const struct output *output)
{
    for (size_t n = 1; n < 4 && n <= output->bytes; n++) {
        unsigned char c = (unsigned char)output->line[output->bytes - n];

        if (c >= 0xc0)
            return n < (c < 0xe0 ? 2u : c < 0xf0 ? 3u : 4u) ? n : 0;
        if (c < 0x80)
            return 0;
    }
    return 0;
}

static void say_line(struct output *output)
{
    char text[ROOM];
    size_t cut = output->missing ? cut_bytes(output) : 0;
    size_t n = put_clean(text, slice_of(output->line, output->bytes - cut));

    if (output->missing)
        n += (size_t)snprintf(text + n, sizeof text - n, " [%llu bytes more]",
                              (unsigned long long)output->missing + cut);
    output->say(output->arg, slice_of(text, n));
}

/* ---- lines ------------------------------------------------------------------------------------------------------- */

static bool is_repeated(const struct output *output)
{
    return output->has_last && output->bytes == output->last_bytes &&
           output->missing == output->last_missing && memcmp(output->line, output->last, output->bytes) == 0;
}

static void remember(struct output *output)
{
    memcpy(output->last, output->line, output->bytes);
    output->last_bytes = output->bytes;
    output->last_missing = output->missing;
    output->has_last = true;
}

/* Whether or not it was said: a flood that repeats itself is counted as what it is. */
static void take_line(struct output *output, uint64_t now_us)
{
    if (is_repeated(output)) {
        if (!output->repeats++)
            output->repeats_us = now_us;
        return;
    }
    if (may_say(output, now_us)) {
        say_repeats(output);
        say_left_out(output);
        say_line(output);
        output->tokens -= 1;
        remember(output);
        return;
    }
    output->left_out += 1 + output->repeats;
    output->repeats = 0;
    output->has_last = false;
}

static void end_line(struct output *output, uint64_t now_us)
{
    if (output->bytes && output->line[output->bytes - 1] == '\r')
        output->bytes--;
    if (output->bytes || output->missing)
        take_line(output, now_us);
    output->bytes = 0;
    output->missing = 0;
}

void output_take(struct output *output, struct slice bytes, uint64_t now_us)
{
    output->came_us = now_us;
    while (bytes.len) {
        struct slice piece = slice_take(&bytes, slice_find(bytes, '\n'));
        size_t room = OUTPUT_LINE_MAX - output->bytes, n = piece.len < room ? piece.len : room;

        if (n)
            memcpy(output->line + output->bytes, piece.ptr, n);
        output->bytes += n;
        output->missing += piece.len - n;
        if (!bytes.len)
            return;
        slice_drop(&bytes, 1);
        end_line(output, now_us);
    }
}

uint64_t output_tick(struct output *output, uint64_t now_us)
{
    uint64_t part_us = UINT64_MAX, other_us = UINT64_MAX;

    if (output->bytes && now_us - output->came_us >= OUTPUT_PART_US)
        end_line(output, now_us);
    if (output->bytes)
        part_us = output->came_us + OUTPUT_PART_US;
    if (output->repeats && now_us - output->repeats_us >= OUTPUT_SILENCE_US)
        say_repeats(output);
    if (output->left_out && may_say(output, now_us))
        say_left_out(output);
    if (output->left_out)
        other_us = now_us + (uint64_t)SECOND_US / OUTPUT_PER_S;
    else if (output->repeats)
        other_us = output->repeats_us + OUTPUT_SILENCE_US;
    return part_us < other_us ? part_us : other_us;
}

void output_end(struct output *output, uint64_t now_us)
{
    end_line(output, now_us);
    say_repeats(output);
    say_left_out(output);
}
