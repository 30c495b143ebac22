/* source.c - see source.h. A file is parsed by itself (parse.h); then what it includes takes the place of each include,
 * so that every value keeps the file and line where it was written, and a brace cannot be closed in another file. */
#include "config/source.h"

#include <stdio.h>
#include <string.h>

#include "config/file.h"
#include "config/parse.h"

#define FILES_MAX 100
#define DEPTH_MAX 8

struct source {
    struct config_store *store;
    struct config_problems *problems;
    unsigned files; /* included so far */
};

/* Relative to the folder of the file that includes it. */
static char *included_path(struct source *source, const struct config_item *include)
{
    const char *name = include->values->text, *slash = strrchr(include->place.file, '/');
    int folder = slash && *name != '/' ? (int)(slash + 1 - include->place.file) : 0;
    size_t bytes = (size_t)folder + strlen(name) + 1;
    char *path = config_store_array(source->store, bytes, 1);

    if (path)
        snprintf(path, bytes, "%.*s%s", folder, include->place.file, name);
    return path;
}

static bool read_included(struct source *source, struct config_item *include, unsigned depth)
{
    char *path = included_path(source, include);
    struct config_store bytes = {NULL};
    struct slice text;
    bool ok = false;

    source->files++;
    if (!path)
        config_problem(source->problems, include->place, "out of memory; stop something else");
    else if (depth > DEPTH_MAX || source->files > FILES_MAX)
        config_problem(source->problems, include->place,
                       "too many files are included, or one includes itself; remove this");
    else if (config_file_read(&text, &bytes, source->problems, path, include->place))
        ok = config_parse_into(include, source->store, source->problems, path, text);
    config_store_free(&bytes);
    return ok;
}

/* Puts the items of included files in the place of what includes them. */
static bool include_all(struct source *source, struct config_item *section, unsigned depth)
{
    struct config_item *item = section->items, *next;
    bool ok = true;

    section->items = section->last = NULL;
    for (; item; item = next) {
        next = item->next;
        item->next = NULL;
        if (item->kind == CONFIG_INCLUDE) {
            item->table = section->table;
            ok = read_included(source, item, depth + 1) && ok;
            ok = include_all(source, item, depth + 1) && ok;
            if (item->items) {
                config_item_append(section, item->items);
                section->last = item->last;
            }
            continue;
        }
        config_item_append(section, item);
        if (item->table)
            ok = include_all(source, item, depth) && ok;
    }
    return ok;
}

bool config_source_read(struct config_item *top, struct config_store *store, struct config_problems *problems,
                        const char *name, struct slice text)
{
    struct source source = {.store = store, .problems = problems};
    bool ok;

    *top = (struct config_item){
        .kind = CONFIG_SECTION, .place = {name, 0}, .name = "", .table = &config_table_top};
    ok = config_parse_into(top, store, problems, name, text);
    return include_all(&source, top, 0) && ok;
}
