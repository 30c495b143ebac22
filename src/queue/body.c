/* body.c - see body.h. */
#include "queue/body.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "fiber/offload.h"
#include "queue/thread_private.h"

/* What stands in a record beside the body: its fixed part, as many queues as there may be, a head of a frame's size. */
#define RECORD_BESIDE_BODY (192u * 1024)
/* Bodies above that have a file of their own, where a segment has four times as much at least. */
#define STORED_FROM (1024u * 1024)
#define STORED_SHARE 4
/* So much of a file is written before it is synced, so that what the disk has to do at once is bounded, for the log's sake, too. */
#define SYNC_BYTES (8u * 1024 * 1024)

/* ---- sizes ------------------------------------------------------------------------------------------------------- */

uint64_t queue_stored_from(const struct queue_port *port)
{
    uint64_t record = counter_get(&queue_thread_numbers(port->thread)->record_max);

    return record / STORED_SHARE < STORED_FROM ? record / STORED_SHARE : STORED_FROM;
}

uint64_t queue_body_max(const struct queue_port *port)
{
    const struct queue_thread_numbers *numbers = queue_thread_numbers(port->thread);
    uint64_t record = counter_get(&numbers->record_max), stored = counter_get(&numbers->stored_max),
             whole = record > RECORD_BESIDE_BODY ? record - RECORD_BESIDE_BODY : 0;

    if (whole > queue_stored_from(port))
        whole = queue_stored_from(port);
    return stored > whole ? stored : whole;
}

/* ---- writing ----------------------------------------------------------------------------------------------------- */

struct queue_body {
    struct offload offload;
    struct queue_job job;
    struct queue_port *port;
    struct storage *storage; /* borrowed: the queue thread's */
    uint64_t log_id;
    struct body_ref ref;
    struct stored_body file; /* the helper's while it works */
    bool begun;              /* the broker knows of it */
    bool busy, ended;        /* a fiber waits; it is to be ended then */
    bool finishes;           /* the helper's last work */
    int error;
    uint64_t unsynced; /* bytes of the file */
    size_t len;        /* of the next piece, in buffer */
    char *buffer;      /* STORED_PIECE_BYTES; owned; NULL: all is written */
};

static void let_go(struct queue_port *port)
{
    port->users--;
    wait_queue_wake_all(&port->room);
}

static void free_body(struct queue_body *body)
{
    stored_body_close(&body->file);
    free(body->buffer);
    let_go(body->port);
    free(body);
}

static void free_ended(struct queue_job *job)
{
    free_body(container_of(job, struct queue_body, job));
}

static void run_end(struct queue_job *job, struct broker *broker, uint64_t now_us)
{
    const struct queue_body *body = container_of(job, struct queue_body, job);

    (void)now_us;
    broker_body_end(broker, body->ref.id);
}

/* Whoever it was is done with it. */
static void end(struct queue_body *body)
{
    if (!body->begun) {
        free_body(body);
        return;
    }
    body->job = (struct queue_job){.run = run_end, .free = free_ended};
    queue_job_post(body->port, &body->job);
}

void queue_body_end(struct queue_body *body)
{
    body->ended = true;
    if (!body->busy)
        end(body);
}

/* After a wait. */
static int wait_over(struct queue_body *body, int error)
{
    if (error == -ECANCELED)
        return error; /* it is freed by whom was waited for */
    body->busy = false;
    if (!body->ended)
        return error ? error : body->error;
    end(body);
    return -ECANCELED;
}

static void free_left(struct offload *offload)
{
    end(container_of(offload, struct queue_body, offload));
}

static int have_done(struct queue_body *body, void (*work)(struct offload *offload))
{
    int error;

    body->offload = (struct offload){.work = work, .free = free_left};
    body->busy = true;
    error = offload_run(&body->offload, NEVER);
    if (error == -EAGAIN) { /* there is no thread to be had */
        work(&body->offload);
        error = 0;
    }
    return wait_over(body, error);
}

/* ---- its file ---- */

static void make_file(struct offload *offload)
{
    struct queue_body *body = container_of(offload, struct queue_body, offload);

    body->error = stored_body_create(&body->file, body->storage, body->log_id, body->ref);
}

static void write_piece(struct offload *offload)
{
    struct queue_body *body = container_of(offload, struct queue_body, offload);

    body->error = body->len ? stored_body_write(&body->file, slice_of(body->buffer, body->len)) : 0;
    if (body->error)
        return;
    body->unsynced += body->len;
    body->len = 0;
    if (body->finishes)
        body->error = stored_body_finish(&body->file);
    else if (body->unsynced >= SYNC_BYTES)
        body->error = stored_body_sync(&body->file);
    if (body->unsynced >= SYNC_BYTES)
        body->unsynced = 0;
    if (body->error == -ENOSPC) /* what was lost cannot be tried again */
        body->error = -EIO;
}

static void run_begin(struct queue_job *job, struct broker *broker, uint64_t now_us)
{
    struct queue_body *body = container_of(job, struct queue_body, job);

    (void)now_us;
    body->storage = body->port->thread->storage;
    body->log_id = log_id(body->port->thread->log);
    body->error = broker_body_begin(broker, body->ref.bytes, &body->ref);
    body->begun = body->error == 0;
}

static void free_begun(struct queue_job *job)
{
    end(container_of(job, struct queue_body, job));
}

int queue_body_create(struct queue_port *port, uint64_t bytes, struct queue_body **result)
{
    struct queue_body *body = malloc(sizeof *body);
    int error;

    *result = NULL;
    if (!body)
        return -ENOMEM;
    *body = (struct queue_body){.port = port, .ref.bytes = bytes, .error = -EIO, .busy = true};
    port->users++;
    body->buffer = malloc(STORED_PIECE_BYTES);
    if (!body->buffer) {
        free_body(body);
        return -ENOMEM;
    }
    body->job = (struct queue_job){.run = run_begin, .free = free_begun};
    error = wait_over(body, queue_job_run(port, &body->job, false, NEVER));
    if (!error)
        error = have_done(body, make_file);
    if (!error)
        *result = body;
    else if (error != -ECANCELED)
        end(body);
    return error;
}

int queue_body_write(struct queue_body *body, struct slice *bytes)
{
    int error = 0;

    while (!error && bytes->len) {
        size_t room = STORED_PIECE_BYTES - body->len;
        struct slice some = slice_take(bytes, bytes->len < room ? bytes->len : room);

        if (some.len)
            memcpy(body->buffer + body->len, some.ptr, some.len);
        body->len += some.len;
        if (body->len == STORED_PIECE_BYTES)
            error = have_done(body, write_piece);
    }
    return error;
}

int queue_body_finish(struct queue_body *body)
{
    int error;

    body->finishes = true;
    error = have_done(body, write_piece);
    if (error)
        return error;
    free(body->buffer);
    body->buffer = NULL;
    return 0;
}

struct body_ref queue_body_ref(const struct queue_body *body)
{
    return body->ref;
}

/* ---- reading ----------------------------------------------------------------------------------------------------- */

int queue_body_open(const struct queue_port *port, struct body_ref ref, struct stored_body *body)
{
    return stored_body_open(body, port->thread->storage, log_id(port->thread->log), ref);
}

struct queue_reader {
    struct offload offload;
    struct queue_port *port;
    struct stored_body file; /* the helper's while it works */
    bool keeps;
    struct slice piece;
    int result;
    char buffer[STORED_BUFFER_BYTES];
};

static void read_piece(struct offload *offload)
{
    struct queue_reader *reader = container_of(offload, struct queue_reader, offload);

    reader->result = stored_body_read(&reader->file, reader->buffer, &reader->piece);
    /* Closing one that is removed takes as long as removing it. */
    if (!reader->keeps && reader->file.at == reader->file.ref.bytes)
        stored_body_close(&reader->file);
}

static void free_reader(struct offload *offload)
{
    queue_reader_free(container_of(offload, struct queue_reader, offload));
}

struct queue_reader *queue_reader_create(struct queue_port *port, struct stored_body *body, bool keeps)
{
    struct queue_reader *reader = body->file ? malloc(sizeof *reader) : NULL;

    if (!reader) {
        stored_body_close(body);
        return NULL;
    }
    reader->offload = (struct offload){.work = read_piece, .free = free_reader};
    reader->port = port;
    port->users++; /* the folder stays while a helper reads in it */
    reader->file = *body;
    reader->keeps = keeps;
    body->file = NULL;
    return reader;
}

int queue_reader_next(struct queue_reader *reader, struct slice *piece)
{
    int error;

    *piece = SLICE("");
    if (reader->file.at == reader->file.ref.bytes)
        return 0;
    error = offload_run(&reader->offload, NEVER);
    if (error == -EAGAIN) /* there is no thread to be had */
        read_piece(&reader->offload);
    else if (error)
        return error;
    *piece = reader->piece;
    return reader->result;
}

void queue_reader_rewind(struct queue_reader *reader)
{
    assert(reader->keeps);
    stored_body_rewind(&reader->file);
}

void queue_reader_free(struct queue_reader *reader)
{
    if (!reader)
        return;
    stored_body_close(&reader->file);
    let_go(reader->port);
    free(reader);
}
