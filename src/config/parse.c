/* parse.c - see parse.h. How libConfuse is used:
 *
 * - Every option is given to it as a list of strings, every section as one that may be repeated: judging is not its
 *   job.
 * - Nothing is read out of its result. Callbacks follow the parse and build the tree, in order and with lines: a
 *   value is read, a section opens, a section closes. It has no callback for a section that opens; but it parses
 *   defaults with callbacks, so every section has a hidden option with a default.
 * - What libConfuse knows of a section is a shape. An unknown name is first taken for an option, then for a section
 *   with a title, then for one without, as its messages tell what it stumbled over: each time it parses anew.
 * - include() is not libConfuse's own, which loses files and lines at the first error: it leaves a mark in the tree.
 *
 * Invariants: one parse at a time (the lock). frames[depth - 1] is the section whose content is being parsed. */
#include "config/parse.h"

#include <assert.h>
#include <confuse.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "config/clean.h"

#define LESSONS_MAX 100 /* unknown names taught in one file: each costs a parse */

enum shape_kind { SHAPE_OPTION, SHAPE_TITLED, SHAPE_UNTITLED };

/* A name that libConfuse knows inside another. */
struct shape {
    struct shape *next;
    const char *name;
    enum shape_kind kind;
    const struct config_row *row;     /* NULL: not an option of ours */
    const struct config_table *table; /* NULL: not a section of ours */
    struct shape *inside;
    struct reader *reader;
};

enum outcome {
    PARSED,
    TAUGHT,  /* a shape was added or changed: parse again */
    STOPPED, /* a problem was reported */
};

struct frame {
    cfg_t *cfg;
    struct shape *shape;
    struct config_item *item;
};

struct reader {
    struct config_store *store; /* of the tree */
    struct config_store shapes;
    struct config_store scratch; /* of one parse */
    struct config_problems *problems;
    const char *file;        /* the one being parsed */
    struct config_item *top; /* gets its items */
    struct frame frames[CONFIG_NESTING_MAX + 1];
    size_t depth;
    enum outcome outcome;
    unsigned lessons;
};

static pthread_mutex_t libconfuse = PTHREAD_MUTEX_INITIALIZER;

/* --- the tree ----------------------------------------------------------------------------------- */

static struct frame *top_frame(struct reader *r)
{
    assert(r->depth);
    return &r->frames[r->depth - 1];
}

static struct config_place place_now(const struct reader *r, const cfg_t *cfg)
{
    return (struct config_place){r->file, cfg->line};
}

static int out_of_memory(struct reader *r)
{
    config_problem(r->problems, (struct config_place){r->file, 0}, "out of memory; stop something else");
    r->outcome = STOPPED;
    return -1;
}

static struct config_value *new_value(struct reader *r, struct config_place place, const char *text)
{
    struct config_value *value = config_store_array(r->store, 1, sizeof *value);
    char *copy = config_store_text(r->store, text);

    if (!value || !copy)
        return NULL;
    *value = (struct config_value){.place = place, .text = copy};
    return value;
}

/* Puts a complete item at the end of the section that is open. A section has a title or none, the others a value. */
static struct config_item *add_item(struct reader *r, enum config_item_kind kind, const struct shape *shape,
                                    struct config_place place, const char *title, struct config_value *value)
{
    struct config_item *item = config_store_array(r->store, 1, sizeof *item);
    char *name = config_store_text(r->store, shape->name);
    char *title_copy = title ? config_store_text(r->store, title) : NULL;

    if (!item || !name || (title && !title_copy))
        return NULL;
    *item = (struct config_item){.kind = kind,
                                 .place = place,
                                 .name = name,
                                 .title = title_copy,
                                 .row = shape->row,
                                 .table = shape->table,
                                 .values = value,
                                 .last_value = value};
    config_item_append(top_frame(r)->item, item);
    return item;
}

/* --- what libConfuse calls ------------------------------------------------------------------------ */

/* The number that libConfuse keeps with every option, where it has no use for it, is its shape. */
static struct shape *shape_of(const cfg_opt_t *opt)
{
    return (struct shape *)(intptr_t)opt->def.number;
}

/* libConfuse takes a name like "a|b" for what is called b inside a section a. */
static void refuse_path(struct reader *r, const cfg_t *cfg)
{
    config_problem(r->problems, place_now(r, cfg),
                   "no name contains '|' or '='; write it without, inside its section");
    r->outcome = STOPPED;
}

static void open_section(struct reader *r, struct shape *shape, cfg_t *cfg)
{
    struct config_item *item = r->top;

    if (r->depth && cfg == top_frame(r)->cfg) { /* the file itself names the hidden option */
        refuse_path(r, cfg);
        return;
    }
    if (r->depth) {
        item = add_item(r, CONFIG_SECTION, shape, place_now(r, cfg), cfg->title, NULL);
        if (!item) {
            out_of_memory(r);
            return;
        }
    }
    assert(r->depth < sizeof r->frames / sizeof *r->frames); /* clean.c saw to it */
    r->frames[r->depth++] = (struct frame){cfg, shape, item};
}

/* The hidden option of a section that opens gets its default. Its shape is the section's own.
 * Returns 0 whatever happens: a default that fails makes libConfuse abort. The next callback ends the parse. */
static int on_open(cfg_t *cfg, cfg_opt_t *opt, const char *text, void *result)
{
    struct shape *shape = shape_of(opt);

    if (shape->reader->outcome == PARSED)
        open_section(shape->reader, shape, cfg);
    *(const char **)result = text;
    return 0;
}

/* What libConfuse kept of the section goes: it would look through all of them when the next one opens. */
static int on_close(cfg_t *cfg, cfg_opt_t *opt)
{
    struct reader *r = shape_of(opt)->reader;

    (void)cfg;
    if (r->outcome != PARSED)
        return -1;
    cfg_free_value(opt);
    assert(r->depth > 1);
    r->depth--;
    return 0;
}

/* The option that a further value belongs to: mostly the last item, but "+=" may stand far from "=". */
static struct config_item *item_to_extend(const struct config_item *section, const char *name)
{
    struct config_item *found = section->last;

    if (strcmp(found->name, name) == 0)
        return found;
    for (struct config_item *item = section->items; item; item = item->next)
        if (strcmp(item->name, name) == 0)
            found = item;
    return found;
}

static int on_value(cfg_t *cfg, cfg_opt_t *opt, const char *text, void *result)
{
    struct shape *shape = shape_of(opt);
    struct reader *r = shape->reader;
    struct config_value *value;
    struct config_item *item;

    if (r->outcome != PARSED)
        return -1;
    *(const char **)result = text;
    value = new_value(r, place_now(r, cfg), text);
    if (!value)
        return out_of_memory(r);
    if (opt->nvalues == 1) /* libConfuse has counted this one: the first after '=' */
        return add_item(r, CONFIG_OPTION, shape, value->place, NULL, value) ? 0 : out_of_memory(r);
    item = item_to_extend(top_frame(r)->item, shape->name);
    item->last_value->next = value;
    item->last_value = value;
    return 0;
}

static int on_include(cfg_t *cfg, cfg_opt_t *opt, int count, const char **arguments)
{
    static const struct shape include = {.name = "include"};
    struct reader *r = shape_of(opt)->reader;
    struct config_value *value;

    if (r->outcome != PARSED)
        return -1;
    assert(count == 1); /* clean.c saw to it */
    value = new_value(r, place_now(r, cfg), arguments[0]);
    if (!value || !add_item(r, CONFIG_INCLUDE, &include, value->place, NULL, value))
        return out_of_memory(r);
    return 0;
}

/* --- shapes --------------------------------------------------------------------------------------- */

static struct shape *find_shape(const struct shape *inside, const char *name)
{
    struct shape *shape = inside->inside;

    while (shape && strcmp(shape->name, name) != 0)
        shape = shape->next;
    return shape;
}

static struct shape *add_shape(struct reader *r, struct shape *parent, const char *name, enum shape_kind kind)
{
    struct shape *shape = config_store_array(&r->shapes, 1, sizeof *shape);

    if (!shape)
        return NULL;
    *shape = (struct shape){.name = name, .kind = kind, .reader = r};
    if (parent) {
        shape->next = parent->inside;
        parent->inside = shape;
    }
    return shape;
}

/* The shape of a section of ours, with all that may stand in it. */
static struct shape *shape_table(struct reader *r, struct shape *parent, const struct config_table *table)
{
    struct shape *shape = add_shape(r, parent, table->name, table->title ? SHAPE_TITLED : SHAPE_UNTITLED);
    struct shape *option;

    if (!shape)
        return NULL;
    shape->table = table;
    for (size_t i = 0; i < table->n_rows; i++) {
        option = add_shape(r, shape, table->rows[i].name, SHAPE_OPTION);
        if (!option)
            return NULL;
        option->row = &table->rows[i];
    }
    for (size_t i = 0; table->inside[i]; i++)
        if (!shape_table(r, shape, table->inside[i]))
            return NULL;
    return shape;
}

/* What libConfuse may find in a section. It copies all of it, deeply. */
static cfg_opt_t *options_of(struct reader *r, struct shape *section)
{
    /* First the hidden option: on_error looks for the section's shape there. */
    const cfg_opt_t hidden = {.name = "|",
                              .type = CFGT_STR,
                              .def = {.number = (long)(intptr_t)section, .parsed = "opened"},
                              .parsecb = on_open};
    const cfg_opt_t include = {
        .name = "include", .type = CFGT_FUNC, .def = {.number = (long)(intptr_t)section}, .func = on_include};
    size_t count = 3;
    cfg_opt_t *options, *option;

    for (const struct shape *shape = section->inside; shape; shape = shape->next)
        count++;
    option = options = config_store_array(&r->scratch, count, sizeof *options);
    if (!options)
        return NULL;
    *option++ = hidden;
    *option++ = include;
    for (struct shape *shape = section->inside; shape; shape = shape->next) {
        *option = (cfg_opt_t){.name = shape->name, .def = {.number = (long)(intptr_t)shape}};
        if (shape->kind == SHAPE_OPTION) {
            option->type = CFGT_STR;
            option->flags = CFGF_LIST;
            option->parsecb = on_value;
        } else {
            option->type = CFGT_SEC;
            option->flags = shape->kind == SHAPE_TITLED ? CFGF_MULTI | CFGF_TITLE : CFGF_MULTI;
            option->validcb = on_close;
            option->subopts = options_of(r, shape);
            if (!option->subopts)
                return NULL;
        }
        option++;
    }
    return options;
}

/* --- libConfuse's errors ---------------------------------------------------------------------------- */

static bool may_teach(struct reader *r, struct config_place place)
{
    if (r->lessons++ < LESSONS_MAX)
        return true;
    config_problem(r->problems, place, "too many unknown names; correct those before this line first");
    return false;
}

static enum outcome teach_name(struct reader *r, struct shape *inside, struct config_place place,
                               const char *name)
{
    char *copy;

    if (find_shape(inside, name) || strpbrk(name, "|=")) {
        config_problem(r->problems, place, "\"" SHOWN "\" is no name; write letters, digits and '-'", name);
        return STOPPED;
    }
    if (!may_teach(r, place))
        return STOPPED;
    copy = config_store_text(&r->shapes, name);
    if (!copy || !add_shape(r, inside, copy, SHAPE_OPTION)) {
        out_of_memory(r);
        return STOPPED;
    }
    return TAUGHT;
}

/* A name is followed by something that its shape does not allow. */
static enum outcome reshape(struct reader *r, struct shape *shape, struct config_place place)
{
    if (shape->row) {
        config_problem(r->problems, place, "\"%s\" is an option; write %s = VALUE", shape->name, shape->name);
    } else if (shape->table) {
        config_problem(r->problems, place, "\"%s\" is a section; write %s%s%s { ... }", shape->name,
                       shape->name, shape->table->title ? " " : "",
                       shape->table->title ? shape->table->title : "");
    } else if (shape->kind == SHAPE_UNTITLED || strcmp(shape->name, "root") == 0) {
        /* libConfuse takes any section named "root" for the whole file, and clears its lexer when that one goes */
        config_problem(r->problems, place, "unknown name \"" SHOWN "\"; remove it", shape->name);
    } else if (may_teach(r, place)) {
        shape->kind++;
        return TAUGHT;
    }
    return STOPPED;
}

/* Something follows a name that cannot follow it. */
static void on_misuse(struct reader *r, const struct shape *inside, const cfg_t *cfg, const char *name)
{
    struct shape *shape = find_shape(inside, name);

    if (shape)
        r->outcome = reshape(r, shape, place_now(r, cfg));
    else
        refuse_path(r, cfg);
}

static void on_syntax(struct reader *r, const cfg_t *cfg, const char *format, va_list args)
{
    static const struct {
        const char *format, *say;
    } plain[] = {
        {"missing parenthesis for function '%s'", "include names a file; write include(\"FILE\")"},
        {"premature end of file", "the file ends in the middle of an option; write NAME = VALUE"},
    };
    char *text;

    r->outcome = STOPPED;
    if (strncmp(format, "no sub-section ", 15) == 0) {
        refuse_path(r, cfg);
        return;
    }
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        if (strcmp(format, plain[i].format) == 0) {
            config_problem(r->problems, place_now(r, cfg), "%s", plain[i].say);
            return;
        }
    if (vasprintf(&text, format, args) < 0) {
        out_of_memory(r);
        return;
    }
    config_problem(r->problems, place_now(r, cfg), SHOWN "; look at the quotes, braces and '=' before it",
                   text);
    free(text);
}

/* libConfuse reports the first error of a parse, and ends it. Its messages are told apart by their formats, which
 * are not translated: nobody here calls setlocale. */
static void on_error(cfg_t *cfg, const char *format, va_list args)
{
    static const char *const misuses[] = {
        "missing equal sign after option '%s'",
        "missing title for section '%s'",
        "missing opening brace for section '%s'",
    };
    struct shape *inside = shape_of(&cfg->opts[0]);
    struct reader *r = inside->reader;

    if (r->outcome != PARSED)
        return;
    if (strcmp(format, "no such option '%s'") == 0) {
        r->outcome = teach_name(r, inside, place_now(r, cfg), va_arg(args, const char *));
        return;
    }
    for (size_t i = 0; i < sizeof misuses / sizeof *misuses; i++)
        if (strcmp(format, misuses[i]) == 0) {
            on_misuse(r, inside, cfg, va_arg(args, const char *));
            return;
        }
    on_syntax(r, cfg, format, args);
}

/* --- a file ----------------------------------------------------------------------------------------- */

static enum outcome parse_once(struct reader *r, struct shape *shape, struct slice text)
{
    struct config_store mark = *r->store;
    cfg_opt_t *options = options_of(r, shape);
    FILE *stream = fmemopen((char *)(uintptr_t)text.ptr, text.len, "r");
    cfg_t *cfg = NULL;

    r->depth = 0;
    r->outcome = PARSED;
    r->top->items = r->top->last = NULL;
    if (options && stream)
        cfg = cfg_init(options, CFGF_NONE);
    if (cfg)
        cfg->filename = strdup(r->file);
    if (!cfg || !cfg->filename) {
        out_of_memory(r);
    } else {
        cfg_set_error_function(cfg, on_error);
        if (cfg_parse_fp(cfg, stream) != CFG_SUCCESS && r->outcome == PARSED) {
            config_problem(r->problems, place_now(r, top_frame(r)->cfg),
                           "a name is missing here; write NAME = VALUE");
            r->outcome = STOPPED;
        }
    }
    if (cfg)
        cfg_free(cfg);
    if (stream)
        fclose(stream);
    config_store_free(&r->scratch);
    if (r->outcome == TAUGHT)
        config_store_cut(r->store, mark);
    return r->outcome;
}

/* The same bytes and a NUL, at least one; NULL when a problem was reported instead. */
static char *copy_text(struct reader *r, struct config_store *bytes, struct slice text)
{
    struct config_place place = {r->file, 1};
    size_t nul = slice_find(text, '\0');
    char *copy;

    if (nul < text.len) {
        for (size_t i = 0; i < nul; i++)
            place.line += text.ptr[i] == '\n';
        config_problem(r->problems, place, "the file contains a NUL byte; it must be text");
        return NULL;
    }
    copy = config_store_array(bytes, text.len + 2, 1);
    if (!copy) {
        out_of_memory(r);
        return NULL;
    }
    copy[0] = '\n'; /* an empty file is no stream */
    if (text.len)
        memcpy(copy, text.ptr, text.len);
    return copy;
}

bool config_parse_into(struct config_item *section, struct config_store *store,
                       struct config_problems *problems, const char *file, struct slice text)
{
    struct reader r = {.store = store, .problems = problems, .file = file, .top = section};
    struct shape *shape = shape_table(&r, NULL, section->table);
    struct config_store bytes = {NULL};
    char *copy = copy_text(&r, &bytes, text);
    enum outcome outcome = STOPPED;

    if (!shape)
        out_of_memory(&r);
    if (shape && copy && config_clean(copy, file, problems)) {
        pthread_mutex_lock(&libconfuse);
        do
            outcome = parse_once(&r, shape, slice_from_text(copy));
        while (outcome == TAUGHT);
        pthread_mutex_unlock(&libconfuse);
    }
    config_store_free(&bytes);
    config_store_free(&r.shapes);
    return outcome == PARSED;
}
