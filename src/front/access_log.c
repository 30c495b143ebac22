/* access_log.c - see access_log.h.
 *
 * Buffers travel in one bounded queue under a mutex that is held for a pointer's work only. */
#include "front/access_log.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/log.h"

#define CHUNK_BYTES (64u * 1024)
#define CHUNKS_WAITING_MAX 64
#define LINE_BYTES_MAX (28u * 1024) /* what the limits below can grow to when every byte is escaped */
#define PATH_BYTES_MAX 2048
#define AGENT_BYTES_MAX 512
#define TEXT_BYTES_MAX 256
#define HAND_OVER_US (100 * US_PER_MS)

struct chunk {
    struct chunk *next;
    size_t len;
    char bytes[CHUNK_BYTES];
};

struct access_log {
    char *path;
    int fd;
    pthread_t writer;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct chunk *first, **last; /* waiting */
    unsigned waiting;
    bool reopen, stop;
    bool failing; /* writer only: the last write failed, and was reported */
};

struct access_log_buffer {
    struct access_log *log;
    struct chunk *chunk; /* NULL: nothing is in it */
    uint64_t dropped;
    struct fiber *handing_over;
    struct wait_queue filled;
};

/* ---- the writer thread ------------------------------------------------------------------------------------- */

static int open_file(const char *path)
{
    int fd;

    if (strcmp(path, "-") == 0)
        return STDOUT_FILENO;
    fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    return fd < 0 ? -errno : fd;
}

static void reopen_file(struct access_log *log)
{
    int fd = open_file(log->path);

    if (fd < 0) {
        log_error("access log %s cannot be opened again: %s; going on in the old file", log->path,
                  strerror(-fd));
        return;
    }
    if (log->fd != STDOUT_FILENO)
        close(log->fd);
    log->fd = fd;
}

static void write_chunk(struct access_log *log, const struct chunk *chunk)
{
    size_t done = 0;

    while (done < chunk->len) {
        ssize_t n = write(log->fd, chunk->bytes + done, chunk->len - done);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            if (!log->failing)
                log_error("access log %s: %s; lines are lost until it works again", log->path,
                          strerror(errno));
            log->failing = true;
            return;
        }
        done += (size_t)n;
    }
    log->failing = false;
}

static void *writer_main(void *arg)
{
    struct access_log *log = arg;

    pthread_mutex_lock(&log->mutex);
    for (;;) {
        struct chunk *chunk = log->first;
        bool reopen = log->reopen;

        if (!chunk && !reopen && log->stop)
            break;
        if (!chunk && !reopen) {
            pthread_cond_wait(&log->changed, &log->mutex);
            continue;
        }
        log->reopen = false;
        if (chunk && !reopen) {
            log->first = chunk->next;
            if (!log->first)
                log->last = &log->first;
            log->waiting--;
        }
        pthread_mutex_unlock(&log->mutex);
        if (reopen) {
            reopen_file(log);
        } else {
            write_chunk(log, chunk);
            free(chunk);
        }
        pthread_mutex_lock(&log->mutex);
    }
    pthread_mutex_unlock(&log->mutex);
    return NULL;
}

int access_log_open(struct access_log **out, const char *path)
{
    struct access_log *log = calloc(1, sizeof *log);
    int error = -ENOMEM;

    *out = NULL;
    if (!log)
        return -ENOMEM;
    log->path = strdup(path);
    if (!log->path)
        goto no_path;
    log->fd = open_file(path);
    if (log->fd < 0) {
        error = log->fd;
        goto no_file;
    }
    log->last = &log->first;
    pthread_mutex_init(&log->mutex, NULL);
    pthread_cond_init(&log->changed, NULL);
    error = -pthread_create(&log->writer, NULL, writer_main, log);
    if (error)
        goto no_thread;
    *out = log;
    return 0;

no_thread:
    pthread_cond_destroy(&log->changed);
    pthread_mutex_destroy(&log->mutex);
    if (log->fd != STDOUT_FILENO)
        close(log->fd);
no_file:
    free(log->path);
no_path:
    free(log);
    return error;
}

void access_log_close(struct access_log *log)
{
    pthread_mutex_lock(&log->mutex);
    log->stop = true;
    pthread_cond_signal(&log->changed);
    pthread_mutex_unlock(&log->mutex);
    pthread_join(log->writer, NULL);
    pthread_cond_destroy(&log->changed);
    pthread_mutex_destroy(&log->mutex);
    if (log->fd != STDOUT_FILENO)
        close(log->fd);
    free(log->path);
    free(log);
}

void access_log_reopen(struct access_log *log)
{
    pthread_mutex_lock(&log->mutex);
    log->reopen = true;
    pthread_cond_signal(&log->changed);
    pthread_mutex_unlock(&log->mutex);
}

/* ---- a thread's buffer ------------------------------------------------------------------------------------- */

static void hand_over(struct access_log_buffer *buffer)
{
    struct access_log *log = buffer->log;
    struct chunk *chunk = buffer->chunk;
    bool room;

    if (!chunk)
        return;
    pthread_mutex_lock(&log->mutex);
    room = log->waiting < CHUNKS_WAITING_MAX;
    if (room) {
        chunk->next = NULL;
        *log->last = chunk;
        log->last = &chunk->next;
        log->waiting++;
        pthread_cond_signal(&log->changed);
    }
    pthread_mutex_unlock(&log->mutex);
    if (room)
        buffer->chunk = NULL;
}

/* Hands over what has waited a moment, so that a quiet server's log is not behind. */
static void hand_over_main(void *arg)
{
    struct access_log_buffer *buffer = arg;
    int error = 0;

    while (!error) {
        while (!error && !buffer->chunk)
            error = wait_queue_wait(&buffer->filled, NEVER);
        if (!error)
            error = fiber_sleep_until(loop_now_us() + HAND_OVER_US);
        hand_over(buffer);
    }
}

struct access_log_buffer *access_log_buffer_open(struct access_log *log)
{
    struct access_log_buffer *buffer = calloc(1, sizeof *buffer);

    if (!buffer)
        return NULL;
    buffer->log = log;
    wait_queue_init(&buffer->filled);
    buffer->handing_over = fiber_spawn("access log", hand_over_main, buffer);
    if (!buffer->handing_over) {
        free(buffer);
        return NULL;
    }
    return buffer;
}

void access_log_buffer_close(struct access_log_buffer *buffer)
{
    fiber_cancel_and_join(buffer->handing_over);
    hand_over(buffer);
    free(buffer->chunk);
    free(buffer);
}

/* ---- a line ------------------------------------------------------------------------------------------------ */

/* At most max bytes of s, in whatever encoding they came. */
static void put_text(struct json *line, struct slice s, size_t max)
{
    json_put_bytes(line, slice_of(s.ptr, s.len < max ? s.len : max));
}

static void put_request(struct json *line, const struct exchange *x)
{
    const struct http_request *r = &x->request;
    const struct http_field *agent = NULL;
    char ip[INET6_ADDRSTRLEN];
    size_t ip_len = ip_text(&x->client, ip);

    for (unsigned i = 0; i < r->fields.count; i++)
        if (r->fields.at[i].id == FIELD_USER_AGENT)
            agent = &r->fields.at[i];
    json_key(line, "request_id");
    put_text(line, exchange_request_id(x), TEXT_BYTES_MAX);
    json_key(line, "client_ip");
    put_text(line, slice_of(ip, ip_len), TEXT_BYTES_MAX);
    json_key(line, "method");
    put_text(line, r->method, TEXT_BYTES_MAX);
    json_key(line, "host");
    put_text(line, r->authority, TEXT_BYTES_MAX);
    json_key(line, "path");
    put_text(line, r->path, PATH_BYTES_MAX);
    if (r->query.ptr) {
        json_key(line, "query");
        put_text(line, r->query, AGENT_BYTES_MAX);
    }
    json_key(line, "proto");
    json_put_string(line, r->minor == 0 ? SLICE("HTTP/1.0") : SLICE("HTTP/1.1"));
    if (agent) {
        json_key(line, "user_agent");
        put_text(line, agent->value, AGENT_BYTES_MAX);
    }
}

static void begin_line(struct json *line)
{
    json_put_object(line);
    json_key(line, "ts");
    json_put_time(line, clock_wall_us());
}

static void end_line(struct json *line)
{
    json_put_end(line);
    json_put(line, SLICE("\n"));
}

static void put_line(struct json *line, const struct exchange *x)
{
    begin_line(line);
    put_request(line, x);
    json_key(line, "status");
    json_put_u64(line, x->status);
    json_key(line, "bytes_in");
    json_put_u64(line, x->body.bytes);
    json_key(line, "bytes_out");
    json_put_u64(line, x->answer_body_bytes);
    json_key(line, "duration_ms");
    json_put_ms(line, loop_now_us() - x->start_us);
    if (x->upstream.len) {
        json_key(line, "upstream");
        put_text(line, x->upstream, TEXT_BYTES_MAX);
        json_key(line, "upstream_ms");
        json_put_ms(line, x->upstream_us);
        json_key(line, "queue_ms");
        json_put_ms(line, x->queue_us);
        json_key(line, "retries");
        json_put_u64(line, x->retries);
    }
    if (x->note) {
        json_key(line, "error");
        put_text(line, slice_from_text(x->note), TEXT_BYTES_MAX);
    }
    end_line(line);
}

static bool make_room(struct access_log_buffer *buffer)
{
    if (buffer->chunk && CHUNK_BYTES - buffer->chunk->len < LINE_BYTES_MAX)
        hand_over(buffer);
    if (!buffer->chunk) {
        buffer->chunk = malloc(sizeof *buffer->chunk);
        if (!buffer->chunk)
            return false;
        buffer->chunk->len = 0;
        wait_queue_wake_all(&buffer->filled);
    }
    return CHUNK_BYTES - buffer->chunk->len >= LINE_BYTES_MAX;
}

void access_log_put(struct access_log_buffer *buffer, const struct exchange *x)
{
    struct json line;
    bool whole;

    if (!make_room(buffer)) {
        buffer->dropped++;
        return;
    }
    json_init(&line, buffer->chunk->bytes + buffer->chunk->len, CHUNK_BYTES - buffer->chunk->len, NULL, NULL);
    if (buffer->dropped) {
        begin_line(&line);
        json_key(&line, "dropped_lines");
        json_put_u64(&line, buffer->dropped);
        end_line(&line);
        buffer->dropped = 0;
    }
    put_line(&line, x);
    whole = json_finish(&line);
    assert(whole); /* make_room saw to LINE_BYTES_MAX */
    buffer->chunk->len += json_text(&line).len;
}
