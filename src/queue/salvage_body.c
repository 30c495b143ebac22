/* salvage_body.c - bodies that have files of their own: which can be read, and their copies. See salvage_private.h. */
#include <errno.h>
#include <stdlib.h>

#include "queue/salvage_private.h"

/* ---- looking ------------------------------------------------------------------------------------------------------- */

static struct salvaged_body *find_body(const struct salvage *s, uint64_t id)
{
    for (size_t i = 0; i < s->n_bodies; i++)
        if (s->bodies[i].ref.id == id)
            return &s->bodies[i];
    return NULL;
}

static int verify(const struct salvage *s, struct body_ref ref)
{
    struct stored_body body;
    int error = stored_body_open(&body, s->survey.storage, s->survey.id, ref);

    if (error)
        return error;
    error = stored_body_verify(&body);
    stored_body_close(&body);
    return error;
}

/* Reads it once. NULL: no memory. */
static const struct salvaged_body *look_at_body(struct salvage *s, struct body_ref ref)
{
    struct salvaged_body *body = find_body(s, ref.id), *bodies;
    size_t room = s->bodies_room ? s->bodies_room * 2 : 64;
    char name[STORED_NAME_MAX];

    if (body)
        return body;
    if (s->n_bodies == s->bodies_room) {
        bodies = realloc(s->bodies, room * sizeof *bodies);
        if (!bodies)
            return NULL;
        s->bodies = bodies;
        s->bodies_room = room;
    }
    body = &s->bodies[s->n_bodies++];
    *body = (struct salvaged_body){.ref = ref, .error = verify(s, ref)};
    stored_body_file_name(ref.id, name);
    if (body->error)
        salvage_say(s, "%s: the body in it %s", name,
                    body->error == -ENOENT    ? "is needed, and the file is not there"
                    : body->error == -EBADMSG ? "does not verify"
                                              : "cannot be read");
    return body;
}

int salvage_look_at_bodies(struct salvage *s)
{
    struct log_survey_reader reader = {.survey = &s->survey};
    const struct salvaged_body *body;
    struct log_record record;
    struct message m;
    int error = 0;

    for (size_t i = 0; i < s->n && !error; i++) {
        struct fact *fact = &s->facts[i];

        if (!fact->stored || fact->place == NOWHERE)
            continue;
        error = log_survey_read(&reader, fact->place, &record);
        if (error || !message_parse(record.payload, &m))
            break;
        body = look_at_body(s, m.stored);
        if (!body)
            error = -ENOMEM;
        else if (body->error)
            fact->place = NOWHERE;
    }
    log_survey_reader_free(&reader);
    return error;
}

size_t salvage_bodies(const struct salvage *s, uint64_t *bytes)
{
    size_t n = 0;

    *bytes = 0;
    for (size_t i = 0; i < s->n_bodies; i++)
        if (!s->bodies[i].error) {
            n++;
            *bytes += s->bodies[i].ref.bytes;
        }
    return n;
}

/* ---- copying ------------------------------------------------------------------------------------------------------- */

/* Anew, because its checksums are the log's own. */
static int copy_pieces(struct stored_body *from, struct stored_body *to)
{
    char *buffer = malloc(STORED_BUFFER_BYTES);
    struct slice piece;
    int error = buffer ? 0 : -ENOMEM, read = 1;

    while (!error && (read = stored_body_read(from, buffer, &piece)) == 1)
        error = stored_body_write(to, piece);
    free(buffer);
    return error ? error : read < 0 ? read : stored_body_finish(to);
}

int salvage_copy_body(const struct salvage *s, struct body_ref ref, struct storage *storage, struct log *log)
{
    struct salvaged_body *known = find_body(s, ref.id);
    struct stored_body from, to;
    int error;

    if (!known || known->error || known->copied)
        return known ? known->error : -EBADMSG;
    error = stored_body_open(&from, s->survey.storage, s->survey.id, ref);
    if (error)
        return error;
    error = stored_body_create(&to, storage, log_id(log), ref);
    if (!error) {
        error = copy_pieces(&from, &to);
        stored_body_close(&to);
    }
    stored_body_close(&from);
    known->copied = error == 0;
    return error;
}
