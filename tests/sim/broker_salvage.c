/* broker_salvage.c - see broker_salvage.h. */
#include "sim/broker_salvage.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "queue/salvage.h"
#include "sim/broker_world.h"

static struct disk *disk; /* what it is salvaged to */
static struct log *store;
static struct broker *broker;
static unsigned damages;
static char stored[BODY_MAX];
static uint64_t limit; /* behind it nothing counts */

static void on_delivery(void *arg, struct broker_consumer *consumer, const struct broker_delivery *d)
{
    (void)arg;
    (void)consumer;
    (void)d;
}

static void on_end(void *arg, const struct broker_ending *ending)
{
    (void)arg;
    (void)ending;
}

static void on_damage(void *arg, const char *text)
{
    (void)arg;
    sim_tell("  damage: %s", text);
    damages++;
}

static void open_copy(uint64_t seed, uint64_t now_us)
{
    static const struct broker_events events = {.deliver = on_delivery, .ended = on_end};
    struct broker_options of_broker = {
        .storage = disk_storage(disk), .events = &events, .seed = seed, .now_us = now_us};
    struct log_options of_log = {.storage = disk_storage(disk), .segment_bytes = 65536};
    struct log_report report;
    int error = log_open(&store, &of_log, &report);

    sim_check(error == 0, "what was salvaged does not open: %s %s", strerror(-error), report.text);
    of_broker.log = store;
    error = broker_open(&broker, &of_broker, &report);
    sim_check(error == 0, "what was salvaged does not load: %s %s", strerror(-error), report.text);
    sim_check(report.cut_bytes == 0, "what was salvaged has a torn tail");
}

bool salvage_begin(struct storage *from, uint64_t seed, uint64_t now_us)
{
    struct salvage *salvage;
    int error;

    if (!disk)
        disk = disk_new(seed);
    disk_reset(disk, seed);
    damages = 0;
    error = salvage_open(&salvage, from, on_damage, NULL);
    if (error == -ENODATA)
        return false;
    sim_check(error == 0, "salvage: %s", strerror(-error));
    limit = salvage_limit(salvage);
    error = salvage_write(salvage, disk_storage(disk), seed | 1);
    sim_check(error == 0, "salvage cannot write: %s", strerror(-error));
    salvage_close(salvage);
    open_copy(seed, now_us);
    return true;
}

void salvage_end(void)
{
    broker_close(broker);
    log_close(store);
}

bool salvage_counts(uint64_t position)
{
    return position < limit;
}

unsigned salvage_damages(void)
{
    return damages;
}

/* ---- comparing ------------------------------------------------------------------------------------------------------- */

/* A queue's messages, as they wait. */
struct waiting {
    struct broker *of;
    struct peeked {
        struct broker_peeked peeked;
        char *bytes; /* of head and body; owned */
        size_t head_len, body_len;
    } * at;
    size_t n, room;
};

static void note(void *arg, const struct broker_peeked *peeked)
{
    struct waiting *list = arg;
    const struct message *m = peeked->message;
    struct slice body = stored_read(list->of, m, stored);
    struct peeked *p;

    if (list->n == list->room) {
        list->room = list->room ? list->room * 2 : 64;
        list->at = realloc(list->at, list->room * sizeof *list->at);
        sim_check(list->at, "no memory");
    }
    p = &list->at[list->n++];
    *p = (struct peeked){*peeked, malloc(m->head.len + body.len + 1), m->head.len, body.len};
    sim_check(p->bytes, "no memory");
    if (m->head.len)
        memcpy(p->bytes, m->head.ptr, m->head.len);
    if (body.len)
        memcpy(p->bytes + m->head.len, body.ptr, body.len);
}

static struct waiting peek(struct broker *of, struct slice queue)
{
    struct waiting list = {.of = of};
    int error = broker_peek(of, queue, 0, UINT64_MAX, note, &list);

    sim_check(error == 0, "peek: %s", strerror(-error));
    return list;
}

static void forget(struct waiting *list)
{
    for (size_t i = 0; i < list->n; i++)
        free(list->at[i].bytes);
    free(list->at);
}

static void compare_message(const struct peeked *a, const struct peeked *b, uint64_t now_us)
{
    unsigned long long number = a->peeked.ref.number;

    sim_check(a->peeked.ref.number == b->peeked.ref.number && a->peeked.ref.queue == b->peeked.ref.queue,
              "message %llu is salvaged as %llu", number, (unsigned long long)b->peeked.ref.number);
    sim_check(a->head_len == b->head_len && a->body_len == b->body_len &&
                  memcmp(a->bytes, b->bytes, a->head_len + a->body_len) == 0,
              "message %llu is salvaged with other bytes", number);
    sim_check(a->peeked.attempts == b->peeked.attempts, "message %llu has %u attempts, salvaged %u", number,
              a->peeked.attempts, b->peeked.attempts);
    /* one that waited for another of its key is marked with that one, as by replay */
    sim_check(!a->peeked.redelivered || b->peeked.redelivered, "message %llu is not salvaged as redelivered",
              number);
    sim_check(a->peeked.due_us == b->peeked.due_us ||
                  (a->peeked.due_us <= now_us && b->peeked.due_us <= now_us),
              "message %llu is due at %llu, salvaged at %llu", number, (unsigned long long)a->peeked.due_us,
              (unsigned long long)b->peeked.due_us);
}

struct comparing {
    struct broker *original;
    uint64_t now_us;
};

static void compare_queue(void *arg, const struct broker_queue_view *view)
{
    const struct comparing *c = arg;
    struct waiting a, b;
    struct broker_queue_view copy;

    if (view->options->transient || view->options->exclusive)
        return; /* there was no room for saying that it went; in the copy there is */
    a = peek(c->original, view->name);

    sim_check(broker_find_queue(broker, view->name, &copy), "queue %.*s is not salvaged", (int)view->name.len,
              view->name.ptr);
    sim_check(copy.id == view->id && copy.numbers.paused == view->numbers.paused &&
                  copy.options->max_length == view->options->max_length &&
                  slice_equal(copy.options->dead_key, view->options->dead_key),
              "queue %.*s is salvaged as another", (int)view->name.len, view->name.ptr);
    b = peek(broker, view->name);
    sim_check(a.n == b.n, "queue %.*s: %zu wait, %zu are salvaged", (int)view->name.len, view->name.ptr, a.n,
              b.n);
    for (size_t i = 0; i < a.n; i++)
        compare_message(&a.at[i], &b.at[i], c->now_us);
    forget(&a);
    forget(&b);
}

/* Exchanges and bindings as text. */
struct told {
    char text[8192];
    size_t len;
    bool transient;
};

static void tell_exchange(void *arg, const struct broker_exchange_view *view)
{
    const struct broker_exchange_options *o = view->options;
    struct told *t = arg;

    t->len += (size_t)snprintf(t->text + t->len, sizeof t->text - t->len, "%u %.*s %u%u%u%u %.*s %zu, ",
                               view->id, SLICE_ARG(view->name), o->type, o->durable, o->auto_delete,
                               o->internal, SLICE_ARG(o->alternate), o->arguments.len);
    t->transient |= !o->durable;
}

static void tell_binding(void *arg, const struct broker_binding_view *view)
{
    struct told *t = arg;

    t->len += (size_t)snprintf(t->text + t->len, sizeof t->text - t->len, "%.*s %.*s%u %.*s %zu, ",
                               SLICE_ARG(view->source), SLICE_ARG(view->destination), view->to_exchange,
                               SLICE_ARG(view->key), view->arguments.len);
}

static void tell_exchanges(const struct broker *of, struct told *told)
{
    *told = (struct told){.len = 0};
    broker_each_exchange(of, tell_exchange, told);
    broker_each_binding(of, tell_binding, told);
}

static void compare_exchanges(const struct broker *original)
{
    static struct told a, b;

    tell_exchanges(original, &a);
    tell_exchanges(broker, &b);
    /* those that stay where there was no room for saying that they went do not stay in the copy */
    sim_check(a.transient || strcmp(a.text, b.text) == 0, "exchanges are salvaged as others: %s and %s",
              a.text, b.text);
}

void salvage_compare(struct broker *original, uint64_t now_us)
{
    struct comparing c = {original, now_us};

    sim_check(damages == 0, "salvage found damage, and there is none");
    broker_each_queue(original, compare_queue, &c);
    compare_exchanges(original);
    sim_check(broker_next_number(broker) >= broker_next_number(original), "numbers would be used again");
    sim_count("salvages");
}

/* ---- one message ----------------------------------------------------------------------------------------------------- */

struct seeking {
    uint32_t queue_id;
    struct slice name;
    uint64_t number;
    struct slice body;
    bool found;
};

static void find_name(void *arg, const struct broker_queue_view *view)
{
    struct seeking *s = arg;

    if (view->id == s->queue_id)
        s->name = view->name;
}

static void find_message(void *arg, const struct broker_peeked *peeked)
{
    struct seeking *s = arg;

    if (peeked->ref.number != s->number)
        return;
    sim_check(slice_equal(stored_read(broker, peeked->message, stored), s->body),
              "message %llu is salvaged with other bytes", (unsigned long long)s->number);
    s->found = true;
}

bool salvage_has(uint32_t queue_id, uint64_t number, struct slice body)
{
    struct seeking s = {.queue_id = queue_id, .number = number, .body = body};
    int error;

    broker_each_queue(broker, find_name, &s);
    if (!s.name.ptr)
        return false;
    error = broker_peek(broker, s.name, number, 1, find_message, &s);
    sim_check(error == 0, "peek: %s", strerror(-error));
    return s.found;
}
