/* topics.c - see topics.h. */
#include "queue/topics.h"

#include <assert.h>
#include <stdlib.h>

#include "base/hash.h"

struct topic_node {
    struct topic_node *parent; /* NULL: the root */
    struct topic_node *star;   /* where * leads from here; owned, as all that hang below are */
    struct topic_node *hash;   /* where # leads: here again, and on with each word */
    struct hash_item by_word;  /* in topics->words; of a node that a word leads to */
    struct list bindings;
    struct topic_node *next[2]; /* in the set before a word, and in the one behind it */
    uint64_t step;              /* of the last set that it was in */
    uint32_t n_users;           /* patterns that end here, and nodes below */
    uint32_t n_words;           /* of these: nodes that a word leads to */
    uint32_t word_len;
    char word[];
};

/* ---- patterns ---------------------------------------------------------------------------------------------------- */

/* The next word off the front of what is left of a text. more: whether there is another one, be it empty. */
static bool next_word(struct slice *rest, bool *more, struct slice *word)
{
    size_t len = slice_find(*rest, '.');

    if (!*more)
        return false;
    *more = len < rest->len;
    *word = slice_take(rest, len);
    slice_drop(rest, *more ? 1 : 0);
    return true;
}

static uint64_t hash_of(const struct topic_node *parent, uint64_t word)
{
    return word ^ ((uint64_t)(uintptr_t)parent * UINT64_C(0x9e3779b97f4a7c15) >> 7);
}

static struct topic_node *find_word(const struct topics *topics, const struct topic_node *parent,
                                    struct slice word, uint64_t word_hash)
{
    struct hash_item *item = hash_table_find(&topics->words, hash_of(parent, word_hash));

    for (; item; item = hash_table_next(item)) {
        struct topic_node *node = container_of(item, struct topic_node, by_word);

        if (node->parent == parent && slice_equal(slice_of(node->word, node->word_len), word))
            return node;
    }
    return NULL;
}

static bool is_hash(const struct topic_node *node)
{
    return node->parent && node->parent->hash == node;
}

static struct topic_node *create(struct topic_node *parent, struct slice word)
{
    struct topic_node *node = calloc(1, sizeof *node + word.len);

    if (!node)
        return NULL;
    node->parent = parent;
    node->word_len = (uint32_t)word.len;
    if (word.len)
        memcpy(node->word, word.ptr, word.len);
    list_init(&node->bindings);
    if (parent)
        parent->n_users++;
    return node;
}

/* Where the word leads in a pattern, made if need be. NULL: no memory. */
static struct topic_node *step_into(struct topics *topics, struct topic_node *parent, struct slice word)
{
    struct topic_node **slot = slice_equal(word, SLICE("*"))   ? &parent->star
                               : slice_equal(word, SLICE("#")) ? &parent->hash
                                                               : NULL;
    uint64_t hash = slot ? 0 : hash_bytes(word);
    struct topic_node *node = slot ? *slot : find_word(topics, parent, word, hash);

    if (node)
        return node;
    if (!slot && !hash_table_reserve(&topics->words))
        return NULL;
    node = create(parent, word);
    if (node && slot)
        *slot = node;
    else if (node) {
        hash_table_add(&topics->words, &node->by_word, hash_of(parent, hash));
        parent->n_words++;
    }
    return node;
}

/* Unlinks and frees a node that nobody uses. */
static void destroy(struct topics *topics, struct topic_node *node)
{
    struct topic_node *parent = node->parent;

    if (!parent)
        topics->root = NULL;
    else if (parent->star == node)
        parent->star = NULL;
    else if (parent->hash == node)
        parent->hash = NULL;
    else {
        hash_table_remove(&topics->words, &node->by_word);
        parent->n_words--;
    }
    free(node);
    if (!topics->root)
        hash_table_free(&topics->words);
}

static void prune(struct topics *topics, struct topic_node *node)
{
    while (node && !node->n_users) {
        struct topic_node *parent = node->parent;

        destroy(topics, node);
        if (parent)
            parent->n_users--;
        node = parent;
    }
}

struct topic_node *topics_take(struct topics *topics, struct slice pattern)
{
    struct topic_node *node = topics->root, *next;
    bool more = pattern.len > 0;
    struct slice word;

    if (!node)
        node = topics->root = create(NULL, SLICE(""));
    while (node && next_word(&pattern, &more, &word)) {
        if (is_hash(node) && slice_equal(word, SLICE("#")))
            continue;
        next = step_into(topics, node, word);
        if (!next)
            prune(topics, node);
        node = next;
    }
    if (node)
        node->n_users++;
    return node;
}

void topics_release(struct topics *topics, struct topic_node *node)
{
    assert(node->n_users);
    node->n_users--;
    prune(topics, node);
}

struct list *topic_node_bindings(struct topic_node *node)
{
    return &node->bindings;
}

/* ---- matching ---------------------------------------------------------------------------------------------------- */

/* Into the set of this step, with what a # that takes no word leads to. */
static void enter(const struct topics *topics, struct topic_node *node, struct topic_node **set)
{
    for (; node && node->step != topics->step; node = node->hash) {
        node->step = topics->step;
        node->next[topics->step & 1] = *set;
        *set = node;
    }
}

/* The set that a word leads to from a set. */
static struct topic_node *follow(struct topics *topics, struct topic_node *set, struct slice word)
{
    uint64_t hash = hash_bytes(word), from = topics->step & 1;
    struct topic_node *behind = NULL;

    topics->step++;
    for (struct topic_node *node = set; node; node = node->next[from]) {
        if (node->n_words)
            enter(topics, find_word(topics, node, word, hash), &behind);
        enter(topics, node->star, &behind);
        if (is_hash(node))
            enter(topics, node, &behind);
    }
    return behind;
}

void topics_match(struct topics *topics, struct slice key, void (*each)(void *arg, struct list *bindings),
                  void *arg)
{
    struct topic_node *set = NULL;
    bool more = key.len > 0;
    struct slice word;

    topics->step++;
    enter(topics, topics->root, &set);
    while (set && next_word(&key, &more, &word))
        set = follow(topics, set, word);
    for (; set; set = set->next[topics->step & 1])
        if (!list_empty(&set->bindings))
            each(arg, &set->bindings);
}
