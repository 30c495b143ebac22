/* listing.c - see listing.h. */
#include "admin/management/listing.h"

#include "admin/query.h"

#define KEY_MAX 256 /* of a column's name */

/* ---- the query --------------------------------------------------------------------------------------------------- */

/* Empty: it is not there, or cannot be read. */
static struct slice take(struct arena *arena, struct slice query, const char *name)
{
    struct slice value;

    return query_take(arena, &query, slice_from_text(name), &value) == 1 ? value : SLICE("");
}

static bool take_number(struct arena *arena, struct slice query, const char *name, uint64_t most,
                        uint64_t *number)
{
    struct slice value = take(arena, query, name);

    return !value.len || (slice_to_u64(value, number) && *number >= 1 && *number <= most);
}

bool listing_read(struct listing *listing, struct arena *arena, struct slice query)
{
    *listing = (struct listing){
        .page = 1,
        .page_size = LISTING_PAGE_SIZE,
        .paged = take(arena, query, "page").len > 0,
        .name = take(arena, query, "name"),
        .is_pattern = slice_equal(take(arena, query, "use_regex"), SLICE("true")),
        .sort = take(arena, query, "sort"),
        .reverse = slice_equal(take(arena, query, "sort_reverse"), SLICE("true")),
        .columns = take(arena, query, "columns"),
    };
    return take_number(arena, query, "page", UINT32_MAX, &listing->page) &&
           take_number(arena, query, "page_size", LISTING_PAGE_SIZE_MAX, &listing->page_size);
}

bool listing_has_name(const struct listing *listing, struct slice name)
{
    size_t n = listing->name.len;

    for (size_t at = 0; at + n <= name.len; at++)
        if (slice_equal_nocase(slice_of(name.ptr + at, n), listing->name))
            return true;
    return false;
}

/* ---- columns ----------------------------------------------------------------------------------------------------- */

/* A name as text. False: it is too long for one. */
static bool key_text(struct slice name, char text[KEY_MAX])
{
    if (name.len >= KEY_MAX)
        return false;
    memcpy(text, name.ptr, name.len);
    text[name.len] = '\0';
    return true;
}

/* The first name of a path, which is taken off it. */
static struct slice take_step(struct slice *path)
{
    struct slice step = slice_take(path, slice_find(*path, '.'));

    if (path->len)
        slice_drop(path, 1);
    return step;
}

/* A whole path that is a name with dots in it, as those of arguments may be, is one, too. */
json_t *listing_value(json_t *item, struct slice path)
{
    char key[KEY_MAX];

    while (item && path.len) {
        json_t *whole = key_text(path, key) ? json_object_get(item, key) : NULL;

        if (whole)
            return whole;
        item = key_text(take_step(&path), key) ? json_object_get(item, key) : NULL;
    }
    return item;
}

static int rank(const json_t *value)
{
    if (!value || json_is_null(value))
        return 0;
    return json_is_boolean(value) ? 1 : json_is_number(value) ? 2 : json_is_string(value) ? 3 : 4;
}

static int compare_texts(const json_t *a, const json_t *b)
{
    size_t n = json_string_length(a), m = json_string_length(b);
    int order = memcmp(json_string_value(a), json_string_value(b), n < m ? n : m);

    return order ? (order > 0) - (order < 0) : (n > m) - (n < m);
}

int listing_compare(const json_t *a, const json_t *b)
{
    int kind = rank(a), other = rank(b);
    double x, y;

    if (kind != other)
        return kind < other ? -1 : 1;
    if (kind == 1)
        return json_is_true(a) - json_is_true(b);
    if (kind == 3)
        return compare_texts(a, b);
    if (kind != 2)
        return 0;
    x = json_number_value(a);
    y = json_number_value(b);
    return (x > y) - (x < y);
}

/* Puts what stands at path in item into selected, below the same names. */
static void select_path(json_t *selected, json_t *item, struct slice path)
{
    char key[KEY_MAX];
    json_t *value;

    for (;;) {
        struct slice step = take_step(&path);

        value = key_text(step, key) ? json_object_get(item, key) : NULL;
        if (!value)
            return;
        if (!path.len || !json_is_object(value)) {
            json_object_set_nocheck(selected, key, value);
            return;
        }
        if (!json_object_get(selected, key))
            json_object_set_new_nocheck(selected, key, json_object());
        selected = json_object_get(selected, key);
        item = value;
    }
}

json_t *listing_select(const struct listing *listing, json_t *item)
{
    struct slice rest = listing->columns, path;
    json_t *selected;

    if (!listing->columns.len || !json_is_object(item))
        return json_incref(item);
    selected = json_object();
    while (selected && slice_next_part(&rest, ',', &path))
        if (path.len)
            select_path(selected, item, path);
    return selected;
}
