/* topics.h - patterns of a topic exchange as a trie over their words, and which of them a key matches.
 *
 * Words are what stands between dots; an empty text has none. In a pattern * is any one word, # any words or none. A key is
 * matched word by word, by the set of all nodes that its words so far lead to: a node is in that set once, so that the work is
 * bounded by nodes times words, wherever a # stands.
 * Threads: one at a time. */
#ifndef QUEUE_TOPICS_H
#define QUEUE_TOPICS_H

#include "base/hash_table.h"
#include "base/list.h"
#include "base/slice.h"

struct topic_node;

/* One of zeros is empty and ready. */
struct topics {
    struct topic_node *root; /* owned; NULL: there is no pattern */
    struct hash_table words; /* nodes that a word leads to, by their parent and it */
    uint64_t step;           /* of all matching that was ever done */
};

/* The node of a pattern; to be released as often as it was taken. NULL: no memory. */
struct topic_node *topics_take(struct topics *topics, struct slice pattern);
void topics_release(struct topics *topics, struct topic_node *node);
/* What the caller keeps with the patterns that are this node's. "#.#" has the node of "#". */
struct list *topic_node_bindings(struct topic_node *node);
/* Calls each for every node one of whose patterns matches, once. */
void topics_match(struct topics *topics, struct slice key, void (*each)(void *arg, struct list *bindings),
                  void *arg);

#endif
