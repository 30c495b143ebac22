/* broker_bodies.c - bodies that have files of their own: who writes them, and which files there may be. See broker_world.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sim/broker_world.h"

/* ---- who publishes them -------------------------------------------------------------------------------------------- */

static void end_body(size_t i)
{
    sim_tell("  its publisher is done with body %llu", (unsigned long long)w.bodies[i].ref.id);
    broker_body_end(w.broker, w.bodies[i].ref.id);
    w.bodies[i] = w.bodies[--w.n_bodies];
}

/* In pieces, or a part of it. */
static int write_body(struct rng *rng, struct world_body *b, bool whole)
{
    static char bytes[BODY_MAX];
    uint64_t end = whole ? b->ref.bytes : rng_below(rng, b->ref.bytes);
    struct stored_body body;
    int error = stored_body_create(&body, disk_storage(w.disk), log_id(w.log), b->ref);

    content_fill(bytes, (size_t)b->ref.bytes, b->content);
    while (!error && body.at < end) {
        uint64_t some = rng_below(rng, 3) ? end - body.at : 1 + rng_below(rng, end - body.at);

        error = stored_body_write(&body, slice_of(bytes + body.at, (size_t)some));
    }
    if (!error && whole)
        error = stored_body_finish(&body);
    stored_body_close(&body);
    b->whole = whole;
    return error;
}

/* False: it cannot be. */
static bool begin_body(struct rng *rng, uint64_t bytes, uint64_t content, bool whole)
{
    struct world_body b = {.content = content};
    int error = broker_body_begin(w.broker, bytes, &b.ref);

    if (error) {
        sim_check(world_may_fail(error), "a body cannot be begun: %s", strerror(-error));
        sim_count("no room for a body");
        return false;
    }
    error = write_body(rng, &b, whole);
    w.bodies[w.n_bodies++] = b;
    sim_tell("  body %llu, %llu bytes, is %s: %d", (unsigned long long)b.ref.id, (unsigned long long)bytes,
             whole ? "written" : "begun", error);
    if (!error)
        return true;
    sim_check(world_may_fail(error), "a body cannot be written: %s", strerror(-error));
    end_body(w.n_bodies - 1);
    return false;
}

bool world_store(struct rng *rng, struct entry *message, struct body_ref *ref)
{
    const struct world_body *b = w.n_bodies ? &w.bodies[rng_below(rng, w.n_bodies)] : NULL;

    if (!message->bytes)
        message->bytes = 1;
    if (!b || !b->whole || rng_below(rng, 2)) {
        if (w.n_bodies == BODIES_MAX || !begin_body(rng, message->bytes, message->content, true))
            return false;
        b = &w.bodies[w.n_bodies - 1];
    } else {
        sim_count("stored again");
    }
    *ref = b->ref;
    message->body = b->ref.id;
    message->bytes = (uint32_t)b->ref.bytes;
    message->content = b->content;
    sim_count("stored");
    return true;
}

void world_stored(struct rng *rng)
{
    while (w.n_bodies && rng_below(rng, 4))
        end_body(rng_below(rng, w.n_bodies));
}

void do_body(const struct sim_step *step)
{
    struct rng rng = {step->a};

    if (step->b % 2 && w.n_bodies)
        end_body(step->b / 2 % w.n_bodies);
    else if (w.n_bodies < BODIES_MAX)
        begin_body(&rng, 1 + rng_below(&rng, BODY_MAX), rng_next(&rng), step->b / 2 % 4 == 0);
}

/* ---- what is in them ----------------------------------------------------------------------------------------------- */

struct slice stored_read(struct broker *broker, const struct message *message, char bytes[BODY_MAX])
{
    char *buffer;
    struct stored_body body;
    struct slice piece;
    size_t len = 0;
    int result;

    if (!message->stored.id)
        return message->body;
    sim_check(!message->body.len && message->stored.bytes <= BODY_MAX,
              "a body that is stored, and one that is not");
    result = broker_body_open(broker, message->stored, &body);
    buffer = malloc(STORED_BUFFER_BYTES);
    sim_check(buffer, "no memory");
    while (!result && (result = stored_body_read(&body, buffer, &piece)) == 1) {
        memcpy(bytes + len, piece.ptr, piece.len);
        len += piece.len;
        result = 0;
        if (len == message->stored.bytes)
            break;
    }
    stored_body_close(&body);
    free(buffer);
    sim_check(!result || w.failing, "body %llu of message %llu cannot be read: %s",
              (unsigned long long)message->stored.id, (unsigned long long)message->number, strerror(-result));
    return result ? (struct slice){0} : slice_of(bytes, len);
}

/* ---- their files --------------------------------------------------------------------------------------------------- */

void world_remove_bodies(void)
{
    while (broker_body_leaves(w.broker)) {
        struct body_ref ref = broker_body_take_leave(w.broker);
        int error = stored_body_remove(disk_storage(w.disk), ref.id);

        sim_tell("  body %llu is removed: %d", (unsigned long long)ref.id, error);
        sim_check(!error || error == -ENOENT || world_may_fail(error), "a body cannot be removed: %s",
                  strerror(-error));
        broker_body_removed(w.broker, ref);
        sim_count("bodies removed");
    }
}

/* Whether a message has it, or its publisher. Its bytes. */
static bool is_needed(uint64_t id, uint64_t *bytes)
{
    for (size_t i = 0; i < w.n_bodies; i++)
        if (w.bodies[i].ref.id == id) {
            *bytes = w.bodies[i].ref.bytes;
            return true;
        }
    for (size_t i = 0; i < w.m.n; i++) {
        const struct entry *e = &w.m.entries[i];

        *bytes = e->bytes;
        if (e->body == id && e->state != GONE && w.m.queues[e->queue].there &&
            w.m.queues[e->queue].id == e->queue_id)
            return true;
    }
    return false;
}

void world_check_bodies(void)
{
    uint64_t id, bytes, all = 0;
    struct log_numbers numbers;
    const char *name;

    for (size_t i = 0; (name = disk_name(w.disk, i)); i++) {
        if (!stored_body_parse_name(name, &id))
            continue;
        sim_check(is_needed(id, &bytes), "%s is there, and nothing needs it", name);
        all += stored_body_file_bytes(bytes);
    }
    log_numbers(w.log, &numbers);
    sim_check(numbers.file_bytes == (numbers.segments + numbers.spares) * w.options.segment_bytes + all,
              "bodies of %llu bytes are counted as others", (unsigned long long)all);
    sim_count("bodies checked");
}
