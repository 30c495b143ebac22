/* fuzz_amqp_front.c - any frames against the front in process, as clients send them: over a socket pair, with the queue thread and
 * its log behind it, in a folder of its own.
 *
 * The input is a list of frames: a byte that says which (its type, its channel, whether another client says it), two with its
 * length, its payload. Their heads and ends are made here, but for frames that are bytes as they are. Two clients
 * have shaken hands already. All that comes back has to be frames; then a client that behaves is served, and what was
 * declared is deleted. What is queued under way makes no difference from one input to the next. */
#include <assert.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "front/amqp/amqp.h"
#include "queue/thread.h"
#include "wire/amqp.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define N_CLIENTS 2
#define SECONDS (20 * US_PER_S) /* whatever takes longer hangs */
#define CONFIGURATION  \
    "state = /tmp/x\n" \
    "amqp 127.0.0.1:5672 { user guest { password = guest  virtual-hosts = { /, other } } }\n"

static struct queue_thread *thread;
static struct queue_port port;
static struct config *config;
static struct generation generation;
static struct listener_thread at;
static struct loop *loop;
static char folder[] = "/tmp/maitred-fuzz-XXXXXX";

/* The front says much of clients that go wrong. */
void __wrap_log_line(enum log_level level, const char *format, ...);
void __wrap_log_line(enum log_level level, const char *format, ...)
{
    (void)level;
    (void)format;
}

static void remove_folder(void)
{
    char command[64];

    queue_thread_stop(thread);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    if (system(command) != 0)
        return;
}

/* The queue's threads go on between two inputs, and what such a thread has just allocated would be called a leak. What is lost in
 * the end is found in the end. */
static void look_for_leaks_in_the_end(int *argc, char ***argv)
{
    static char flag[] = "-detect_leaks=0";
    char **more = calloc((size_t)*argc + 2, sizeof *more);

    assert(more);
    memcpy(more, *argv, (size_t)*argc * sizeof *more);
    more[(*argc)++] = flag;
    *argv = more;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    struct queue_thread_options options = {
        .folder = folder, .segment_bytes = 1u << 20, .bytes_max = 64u << 20};
    char why[QUEUE_WHY_MAX];
    struct scene *scene;

    look_for_leaks_in_the_end(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    if (!mkdtemp(folder) || queue_thread_open(&thread, &options, why) != 0 ||
        queue_thread_start(thread) != 0 || loop_create(&loop) != 0)
        abort();
    atexit(remove_folder);
    config = config_parse("fuzz", SLICE(CONFIGURATION), stderr);
    assert(config);
    generation.config = config;
    scene = scene_create(&generation, NULL, 0, 1);
    assert(scene);
    scene->port = &port;
    scene->services[0] = amqp_service_create(&config->amqp[0], scene);
    assert(scene->services[0]);
    scene_enter(scene);
    at.service = scene->services[0];
    return 0;
}

/* ---- a client ---------------------------------------------------------------------------------------------------- */

struct peer {
    struct client *client; /* the server's side */
    struct fiber *server, *reader;
    struct stream stream;
    size_t n_got, got_room;
    char *got; /* owned */
};

static void serve(void *arg)
{
    struct client *client = arg;

    client->fiber = fiber_self();
    amqp_listener_kind.run(client);
}

static void read_all(void *arg)
{
    struct peer *peer = arg;
    ssize_t n;

    do {
        if (peer->got_room - peer->n_got < 65536) {
            peer->got_room = 2 * peer->got_room + 65536;
            peer->got = realloc(peer->got, peer->got_room);
            assert(peer->got);
        }
        n = stream_read(&peer->stream, peer->got + peer->n_got, peer->got_room - peer->n_got,
                        loop_now_us() + SECONDS);
        assert(n != -ETIMEDOUT);
        peer->n_got += n > 0 ? (size_t)n : 0;
    } while (n > 0);
}

static void say(struct peer *peer, struct slice bytes)
{
    int error = stream_write_all(&peer->stream, bytes.ptr, bytes.len, loop_now_us() + SECONDS);

    assert(error != -ETIMEDOUT);
}

static void say_method(struct peer *peer, uint16_t channel, const struct amqp_method *method)
{
    char block[1024];
    struct amqp_out out = amqp_out_of(block, sizeof block);

    assert(amqp_put_method_frame(&out, channel, method) == AMQP_WRITTEN);
    say(peer, slice_of(block, (size_t)(out.at - block)));
}

static void shake_hands(struct peer *peer, struct slice host)
{
    say(peer, slice_of(amqp_header, AMQP_HEADER_BYTES));
    say_method(peer, 0,
               &(struct amqp_method){.id = AMQP_CONNECTION_START_OK,
                                     .mechanism = SLICE("PLAIN"),
                                     .response = slice_of("\0guest\0guest", 12),
                                     .locale = SLICE("en_US")});
    say_method(
        peer, 0,
        &(struct amqp_method){.id = AMQP_CONNECTION_TUNE_OK, .channel_max = 2047, .frame_max = 131072});
    say_method(peer, 0, &(struct amqp_method){.id = AMQP_CONNECTION_OPEN, .virtual_host = host});
    for (uint16_t channel = 1; channel <= 3; channel++)
        say_method(peer, channel, &(struct amqp_method){.id = AMQP_CHANNEL_OPEN});
}

static void connect_peer(struct peer *peer, struct slice host)
{
    int fds[2];

    *peer = (struct peer){0};
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) != 0)
        abort();
    peer->client = calloc(1, amqp_listener_kind.client_bytes);
    assert(peer->client);
    peer->client->at = &at;
    peer->client->fd = fds[0];
    peer->client->peer.len = sizeof peer->client->peer.in;
    peer->client->peer.in.sin_family = AF_INET;
    peer->client->peer.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert(stream_from_socket(&peer->stream, fds[1]) == 0);
    peer->server = fiber_spawn("client", serve, peer->client);
    peer->reader = fiber_spawn("reader", read_all, peer);
    assert(peer->server && peer->reader);
    shake_hands(peer, host);
}

/* Nothing more is said; all that came back is frames. */
static void finish(struct peer *peer)
{
    const struct amqp_frame_limits limits = {131072, 131072};
    struct slice in;
    struct amqp_frame frame;
    const char *why = "";

    stream_shut_down(&peer->stream);
    assert(fiber_join(peer->reader, loop_now_us() + SECONDS) == 0);
    assert(fiber_join(peer->server, loop_now_us() + SECONDS) == 0);
    in = slice_of(peer->got, peer->n_got);
    while (amqp_take_frame(&in, &limits, &frame, &why) == AMQP_OK)
        ;
    assert(!why[0] && !in.len);
    stream_close(&peer->stream);
    free(peer->client);
    free(peer->got);
}

/* ---- an input ---------------------------------------------------------------------------------------------------- */

/* bits 0, 1: type; 2, 3: channel; 4: who says it; 5: as it is. */
static void say_frame(struct peer *peers, uint8_t which, struct slice payload)
{
    static const enum amqp_frame_type types[] = {AMQP_METHOD, AMQP_METHOD, AMQP_CONTENT_HEADER, AMQP_BODY};
    struct peer *peer = &peers[which >> 4 & 1];
    char head[AMQP_FRAME_HEAD], end = AMQP_FRAME_END;

    if (which & 32) {
        say(peer, payload);
        return;
    }
    amqp_put_frame_head(head, types[which & 3], which >> 2 & 3, (uint32_t)payload.len);
    say(peer, slice_of(head, sizeof head));
    say(peer, payload);
    say(peer, slice_of(&end, 1));
}

static void say_input(struct peer *peers, struct slice input)
{
    struct slice payload;
    uint8_t which, high, low;

    while (take_u8(&input, &which) && take_u8(&input, &high) && take_u8(&input, &low)) {
        size_t n = (size_t)high << 8 | low;

        take_slice(&input, n < input.len ? n : input.len, &payload);
        say_frame(peers, which, payload);
    }
}

struct names {
    char queues[256][BROKER_NAME_MAX], exchanges[256][BROKER_NAME_MAX];
    size_t queue_lens[256], exchange_lens[256];
    unsigned n_queues, n_exchanges;
};

static void add_queue(void *arg, const struct broker_queue_view *view)
{
    struct names *names = arg;

    if (names->n_queues == 256)
        return;
    memcpy(names->queues[names->n_queues], view->name.ptr, view->name.len);
    names->queue_lens[names->n_queues++] = view->name.len;
}

static void add_exchange(void *arg, const struct broker_exchange_view *view)
{
    struct names *names = arg;

    if (names->n_exchanges == 256 || !view->name.len)
        return;
    memcpy(names->exchanges[names->n_exchanges], view->name.ptr, view->name.len);
    names->exchange_lens[names->n_exchanges++] = view->name.len;
}

static void delete_all(struct queue_job *job, struct broker *broker, uint64_t now_us)
{
    static struct names names;

    (void)job;
    names.n_queues = names.n_exchanges = 0;
    broker_each_queue(broker, add_queue, &names);
    for (unsigned i = 0; i < names.n_queues; i++)
        broker_delete_queue(broker, slice_of(names.queues[i], names.queue_lens[i]), false, now_us);
    broker_each_exchange(broker, add_exchange, &names);
    for (unsigned i = 0; i < names.n_exchanges; i++)
        broker_delete_exchange(broker, slice_of(names.exchanges[i], names.exchange_lens[i]), false);
}

static void free_job(struct queue_job *job)
{
    free(job);
}

static void clean_up(void)
{
    struct queue_job *job = calloc(1, sizeof *job);

    assert(job);
    *job = (struct queue_job){.run = delete_all, .free = free_job};
    assert(queue_job_run(&port, job, true, loop_now_us() + SECONDS) == 0);
    free(job);
}

/* One that behaves. */
static void check_served(void)
{
    struct peer peer;

    connect_peer(&peer, SLICE("/"));
    say_method(&peer, 1,
               &(struct amqp_method){.id = AMQP_QUEUE_DECLARE, .queue = SLICE("served"), .exclusive = true});
    say_method(&peer, 0, &(struct amqp_method){.id = AMQP_CONNECTION_CLOSE, .reply_code = 200});
    assert(fiber_join(peer.server, loop_now_us() + SECONDS) == 0);
    peer.server = NULL;
    assert(fiber_join(peer.reader, loop_now_us() + SECONDS) == 0);
    assert(memmem(peer.got, peer.n_got, "\0\x32\0\x0b\6served", 11));
    stream_close(&peer.stream);
    free(peer.client);
    free(peer.got);
}

static void drive(void *arg)
{
    const struct slice *input = arg;
    struct peer peers[N_CLIENTS];
    static unsigned n;

    queue_port_open(&port, thread, 1u << 20);
    connect_peer(&peers[0], SLICE("/"));
    connect_peer(&peers[1], input->len % 8 == 7 ? SLICE("other") : SLICE("/"));
    say_input(peers, *input);
    for (unsigned i = 0; i < N_CLIENTS; i++)
        finish(&peers[i]);
    if (n++ % 16 == 0)
        check_served();
    clean_up();
    queue_port_close(&port);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice input = slice_of((const char *)data, size);

    assert(fiber_start("drive", drive, &input) == 0);
    loop_run(loop);
    return 0;
}
