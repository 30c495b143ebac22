/* reading.c - see reading.h. */
#include "config/reading.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static const char TOKEN[] = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
/* What needs no quotes wherever it stands in a word. */
static const char PLAIN[] = "-_.:/%?&@~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

/* --- reading ------------------------------------------------------------------------------------ */

bool config_refuse_memory(const struct config_reading *reading)
{
    return config_refuse(reading, reading->values, "out of memory; stop something else");
}

const struct config_value *config_only_value(const struct config_reading *reading)
{
    const struct config_value *value = reading->values;

    if (!value->next)
        return value;
    config_problem(reading->problems, value->next->place, "%s takes one value; remove the others",
                   reading->row->name);
    return NULL;
}

void *config_room_for_values(const struct config_reading *reading, size_t size)
{
    size_t count = 0;
    void *room;

    assert(reading->values);
    for (const struct config_value *value = reading->values; value; value = value->next)
        count++;
    room = config_store_array(reading->store, count, size);
    if (!room)
        config_refuse_memory(reading);
    return room;
}

void *config_field(const struct config_reading *reading)
{
    return (char *)reading->section + reading->row->offset;
}

void config_set_list(const struct config_reading *reading, const void *list, size_t length)
{
    memcpy(config_field(reading), &list, sizeof list);
    memcpy((char *)reading->section + reading->row->length_offset, &length, sizeof length);
}

static int compare_slices(const void *left, const void *right)
{
    const struct slice *a = left, *b = right;
    size_t common = a->len < b->len ? a->len : b->len;
    int order = common ? memcmp(a->ptr, b->ptr, common) : 0;

    return order ? order : (a->len > b->len) - (a->len < b->len);
}

size_t config_sort_slices(struct slice *list, size_t length)
{
    size_t kept = 0;

    if (length)
        qsort(list, length, sizeof *list, compare_slices);
    for (size_t i = 0; i < length; i++)
        if (!kept || !slice_equal(list[kept - 1], list[i]))
            list[kept++] = list[i];
    return kept;
}

bool config_is_visible(const char *text)
{
    for (; *text; text++)
        if (*text <= ' ' || *text >= 0x7f)
            return false;
    return true;
}

bool config_is_token(const char *text)
{
    return *text && text[strspn(text, TOKEN)] == '\0';
}

/* --- writing ------------------------------------------------------------------------------------ */

static bool is_plain(struct slice word)
{
    if (!word.len || slice_starts_with(word, SLICE("//")))
        return false;
    for (size_t i = 0; i < word.len; i++)
        if (!strchr(PLAIN, word.ptr[i]))
            return false;
    return true;
}

static void write_escaped(char c, FILE *out)
{
    static const struct {
        char c;
        const char *text;
    } named[] = {{'\n', "\\n"}, {'\r', "\\r"}, {'\t', "\\t"}, {'"', "\\\""}, {'\\', "\\\\"}, {'$', "\\$"}};

    for (size_t i = 0; i < sizeof named / sizeof *named; i++)
        if (c == named[i].c) {
            fputs(named[i].text, out);
            return;
        }
    if ((unsigned char)c < ' ' || c == 0x7f)
        fprintf(out, "\\x%02x", (unsigned char)c);
    else
        fputc(c, out);
}

void config_write_word(struct slice word, FILE *out)
{
    if (is_plain(word)) {
        fprintf(out, "%.*s", SLICE_ARG(word));
        return;
    }
    fputc('"', out);
    for (size_t i = 0; i < word.len; i++)
        write_escaped(word.ptr[i], out);
    fputc('"', out);
}

void config_write_text(const struct config_row *row, const void *section, FILE *out)
{
    const char *text;

    memcpy(&text, (const char *)section + row->offset, sizeof text);
    if (text)
        config_write_word(slice_from_text(text), out);
}

void config_write_slice(const struct config_row *row, const void *section, FILE *out)
{
    struct slice text;

    memcpy(&text, (const char *)section + row->offset, sizeof text);
    if (text.len)
        config_write_word(text, out);
}

void config_write_slices(const struct config_row *row, const void *section, FILE *out)
{
    const struct slice *list;
    size_t length;

    memcpy(&list, (const char *)section + row->offset, sizeof list);
    memcpy(&length, (const char *)section + row->length_offset, sizeof length);
    for (size_t i = 0; i < length; i++) {
        fputs(i ? ", " : "{ ", out);
        config_write_word(list[i], out);
    }
    if (length)
        fputs(" }", out);
}
