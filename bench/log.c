/* log.c - what the log costs beside the disk that it is on, and what a backlog costs the broker.
 *
 * commit: one record, one commit, in turns with a bare write and fdatasync of as many bytes over a file that was written before.
 * windows: many records to a commit, into segments that are there already, against the disk's own speed with writes of 1 MiB.
 * backlog: messages published, and delivered and acknowledged, in turns of 1,000, through an empty queue and with so many that wait,
 *     with the private memory.
 * held: 10 GB pass, without and with one message that stays unacknowledged.
 * Prints Markdown. Usage: log FOLDER commit|windows|backlog [N BYTES]|held   (FOLDER: is made, and must not be there) */
#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "queue/broker.h"

#define MEGA (1024u * 1024)
#define SEGMENT_BYTES (64u * MEGA)
#define PAIRS 4000
#define TURN 1000
#define HELD_BYTES 10000
#define DELIVERIES_MAX (2 * TURN)

static struct storage *storage;
static struct log *store;
static struct broker *broker;
static struct log_buffer buffer;
static struct broker_delivery deliveries[DELIVERIES_MAX];
static size_t n_deliveries;
static uint64_t helpers_wall, helpers_cpu; /* ns */

static void must(int error, const char *what)
{
    if (error == 0)
        return;
    fprintf(stderr, "%s: %s\n", what, strerror(-error));
    exit(1);
}

static uint64_t clock_ns(clockid_t id)
{
    struct timespec t;

    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

/* ---- the log alone ----------------------------------------------------------------------------------------------- */

static int ignore(void *arg, const struct log_record *record)
{
    (void)arg;
    (void)record;
    return 0;
}

static void open_log(void)
{
    struct log_options options = {.storage = storage, .segment_bytes = SEGMENT_BYTES, .id = clock_wall_us()};
    struct log_report report;

    must(log_open(&store, &options, &report), "opening the log");
}

static void make_spare(void)
{
    struct log_spare *spare = log_spare_begin(store);
    int error = log_spare_make(spare);

    log_spare_add(store, spare, error);
    must(error, "a spare");
}

static void make_spares(void)
{
    while (log_spare_wanted(store))
        make_spare();
}

/* Room for so many bytes, as a log has it whose old segments are used again. */
static void make_room(uint64_t bytes)
{
    for (uint64_t room = 0; room < bytes + SEGMENT_BYTES; room += SEGMENT_BYTES)
        make_spare();
}

static void append(const char *bytes, size_t n)
{
    struct iovec part = {(void *)(uintptr_t)bytes, n};
    uint64_t position;

    must(log_append(store, LOG_MORE, 0, LOG_KIND_FIRST, &part, 1, &position), "append");
}

/* A file of so many bytes that was written and synced. */
static int written_file(const char *folder, size_t bytes)
{
    char path[4096], *block = calloc(1, MEGA);
    int fd;

    snprintf(path, sizeof path, "%s/bare", folder);
    fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || !block)
        must(-1, "a file beside the log");
    for (size_t at = 0; at < bytes; at += MEGA)
        if (pwrite(fd, block, MEGA, (off_t)at) != MEGA)
            must(-1, "writing beside the log");
    fdatasync(fd);
    free(block);
    return fd;
}

static void measure_commits(const char *folder)
{
    static const size_t sizes[] = {128, 1024, 8192};
    static uint64_t bare[PAIRS], ours[PAIRS];
    static char bytes[8192];
    int fd = written_file(folder, SEGMENT_BYTES);
    off_t at = 0;

    printf("| bytes | fdatasync, p50 us | append and commit, p50 us | ratio | p99 us | p99 us | ratio |\n"
           "|---|---|---|---|---|---|---|\n");
    for (size_t i = 0; i < 3; i++) {
        size_t n = log_record_bytes(sizes[i]) + log_record_bytes(8); /* as many as the log writes */

        for (size_t k = 0; k < PAIRS; k++) {
            uint64_t start = clock_ns(CLOCK_MONOTONIC);

            if (pwrite(fd, bytes, n < sizeof bytes ? n : sizeof bytes, at) < 0 || fdatasync(fd) != 0)
                must(-1, "writing beside the log");
            bare[k] = clock_ns(CLOCK_MONOTONIC) - start;
            at = (at + (off_t)n) % (off_t)(SEGMENT_BYTES - sizeof bytes);
            start = clock_ns(CLOCK_MONOTONIC);
            append(bytes, sizes[i]);
            must(log_commit(store), "commit");
            ours[k] = clock_ns(CLOCK_MONOTONIC) - start;
            make_spares();
        }
        qsort(bare, PAIRS, sizeof *bare, compare);
        qsort(ours, PAIRS, sizeof *ours, compare);
        printf("| %zu | %.1f | %.1f | %.2f | %.1f | %.1f | %.2f |\n", sizes[i], (double)bare[PAIRS / 2] / 1e3,
               (double)ours[PAIRS / 2] / 1e3, (double)ours[PAIRS / 2] / (double)bare[PAIRS / 2],
               (double)bare[PAIRS * 99 / 100] / 1e3, (double)ours[PAIRS * 99 / 100] / 1e3,
               (double)ours[PAIRS * 99 / 100] / (double)bare[PAIRS * 99 / 100]);
    }
    close(fd);
}

/* Bytes per second of the disk, overwriting, a sync for each 16 MiB. */
static double disk_speed(const char *folder)
{
    static char bytes[MEGA];
    int fd = written_file(folder, SEGMENT_BYTES);
    uint64_t start = clock_ns(CLOCK_MONOTONIC);
    double speed;

    for (unsigned i = 0; i < 256; i++) {
        if (pwrite(fd, bytes, MEGA, (off_t)(i % 64) * MEGA) != MEGA)
            must(-1, "writing beside the log");
        if (i % 16 == 15)
            fdatasync(fd);
    }
    speed = 256.0 * MEGA / ((double)(clock_ns(CLOCK_MONOTONIC) - start) / 1e9);
    close(fd);
    return speed;
}

static void measure_windows(const char *folder)
{
    static const struct {
        size_t bytes, window, windows;
    } rows[] = {{100, 1000, 2000}, {100, 10000, 200}, {65536, 64, 64}};
    static char bytes[65536];
    double speed = disk_speed(folder);

    printf(
        "The disk, overwriting: %.0f MB/s.\n\n"
        "| bytes | window | records/s | MB/s | of the disk | CPU us a record |\n|---|---|---|---|---|---|\n",
        speed / 1e6);
    for (size_t i = 0; i < 3; i++) {
        struct log_numbers before, after;
        uint64_t start, cpu;
        double seconds, n = (double)(rows[i].window * rows[i].windows);

        make_room(rows[i].window * rows[i].windows * log_record_bytes(rows[i].bytes) + MEGA);
        log_numbers(store, &before);
        start = clock_ns(CLOCK_MONOTONIC);
        cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
        for (size_t k = 0; k < rows[i].windows; k++) {
            for (size_t r = 0; r < rows[i].window; r++)
                append(bytes, rows[i].bytes);
            must(log_commit(store), "commit");
        }
        seconds = (double)(clock_ns(CLOCK_MONOTONIC) - start) / 1e9;
        cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;
        log_numbers(store, &after);
        printf("| %zu | %zu | %.0f | %.0f | %.2f | %.2f |\n", rows[i].bytes, rows[i].window, n / seconds,
               (double)(after.appended_bytes - before.appended_bytes) / seconds / 1e6,
               (double)(after.appended_bytes - before.appended_bytes) / seconds / speed,
               (double)cpu / 1e3 / n);
    }
}

/* ---- the broker over it ------------------------------------------------------------------------------------------ */

/* Its message is read, as the queue thread does. */
static void deliver(void *arg, struct broker_consumer *consumer, const struct broker_delivery *delivery)
{
    struct log_record record;

    (void)arg;
    (void)consumer;
    must(log_read(store, delivery->position, 65536, &buffer, &record), "reading a message");
    deliveries[n_deliveries++] = *delivery;
}

static void ended(void *arg, const struct broker_ending *ending)
{
    (void)arg;
    (void)ending;
}

static void open_broker(void)
{
    static const struct broker_events events = {.deliver = deliver, .ended = ended};
    struct broker_options options = {
        .storage = storage, .events = &events, .seed = 1, .now_us = clock_wall_us()};
    struct broker_queue_options queue = {
        .ack_timeout_us = 3600 * UINT64_C(1000000), .retry_first_us = 1000000, .retry_most_us = 1000000};
    struct log_report report;

    open_log();
    options.log = store;
    must(broker_open(&broker, &options, &report), report.text);
    must(broker_declare_queue(broker, SLICE("q"), &queue, DECLARE_SAME), "declaring a queue");
}

static void close_broker(void)
{
    broker_close(broker);
    log_close(store);
}

static void publish(const char *body, size_t bytes)
{
    struct broker_publication publication = {.key = SLICE("q"), .body = slice_of(body, bytes)};
    struct broker_published published;

    must(broker_publish(broker, &publication, &published, clock_wall_us()) == PUBLISH_OK ? 0 : -1,
         "publishing");
}

/* What helper threads do beside the queue thread counts for nobody: files made ahead, a checkpoint written to disk. */
static void leave_out(uint64_t wall, uint64_t cpu)
{
    helpers_wall += clock_ns(CLOCK_MONOTONIC) - wall;
    helpers_cpu += clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;
}

static void checkpoint(void)
{
    struct broker_checkpoint *made;
    uint64_t wall, cpu;
    int error;

    broker_flush(broker);
    must(log_commit(store), "commit");
    made = broker_checkpoint_begin(broker);
    wall = clock_ns(CLOCK_MONOTONIC);
    cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    error = broker_checkpoint_make(made);
    leave_out(wall, cpu);
    broker_checkpoint_end(broker, made, error);
    while (broker_compact(broker, MEGA))
        ;
}

/* A turn of the queue thread's. */
static void turn(bool commits)
{
    uint64_t wall, cpu;

    broker_flush(broker);
    must(commits ? log_commit(store) : log_write(store), "commit");
    n_deliveries = 0;
    broker_run(broker, clock_wall_us());
    wall = clock_ns(CLOCK_MONOTONIC);
    cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    make_spares();
    leave_out(wall, cpu);
    if (broker_checkpoint_due(broker))
        checkpoint();
}

static unsigned private_kib(void)
{
    FILE *file = fopen("/proc/self/status", "r");
    char line[256];
    unsigned kib = 0;

    while (file && fgets(line, sizeof line, file) && sscanf(line, "RssAnon: %u", &kib) != 1)
        ;
    if (file)
        fclose(file);
    return kib;
}

/* What passed since the last row, helpers left out. */
struct stretch {
    uint64_t wall, cpu;
};

static struct stretch now(void)
{
    return (struct stretch){clock_ns(CLOCK_MONOTONIC) - helpers_wall,
                            clock_ns(CLOCK_PROCESS_CPUTIME_ID) - helpers_cpu};
}

static void add_since(struct stretch *sum, struct stretch since)
{
    struct stretch then = now();

    sum->wall += then.wall - since.wall;
    sum->cpu += then.cpu - since.cpu;
}

static void print_row(const char *what, uint64_t waiting, uint64_t n, const struct stretch *sum)
{
    printf("| %s | %llu | %.2f | %.2f | %u |\n", what, (unsigned long long)waiting,
           (double)sum->wall / 1e3 / (double)n, (double)sum->cpu / 1e3 / (double)n, private_kib());
}

static void publish_turn(const char *body, size_t bytes)
{
    for (unsigned i = 0; i < TURN; i++)
        publish(body, bytes);
    turn(true);
}

static size_t deliver_turn(struct broker_consumer *consumer)
{
    turn(false);
    for (size_t i = 0; i < n_deliveries; i++)
        must(broker_ack(broker, consumer, deliveries[i].ref, clock_wall_us()), "acknowledging");
    return n_deliveries;
}

/* Each turn's messages are gone before the next. */
static void measure_empty(uint64_t n, const char *body, size_t bytes)
{
    struct broker_consumer_options options = {.prefetch = TURN, .burst = 1};
    struct stretch published = {0}, delivered = {0}, since;
    struct broker_consumer *consumer;

    for (uint64_t done = 0; done < n;) {
        since = now();
        publish_turn(body, bytes);
        add_since(&published, since);
        must(broker_subscribe(broker, SLICE("q"), &options, &consumer), "subscribing");
        since = now();
        done += deliver_turn(consumer);
        add_since(&delivered, since);
        broker_unsubscribe(broker, consumer, clock_wall_us());
    }
    print_row("publish", 0, n, &published);
    print_row("deliver", 0, n, &delivered);
}

static void measure_backlog(uint64_t n, size_t bytes)
{
    struct broker_consumer_options options = {.prefetch = TURN, .burst = 1};
    uint64_t tenth = n / 10 / TURN * TURN;
    struct broker_consumer *consumer;
    char *body = calloc(1, bytes + 1);
    struct stretch sum, since;

    open_broker();
    printf("| | waiting | us each | CPU us each | private KiB |\n|---|---|---|---|---|\n");
    measure_empty(tenth, body, bytes);
    for (uint64_t waiting = tenth; waiting <= 10 * tenth; waiting += tenth) {
        sum = (struct stretch){0};
        since = now();
        for (uint64_t i = 0; i < tenth; i += TURN)
            publish_turn(body, bytes);
        add_since(&sum, since);
        print_row("publish", waiting, tenth, &sum);
    }
    close_broker();
    since = now();
    open_broker();
    sum = (struct stretch){0};
    add_since(&sum, since);
    printf("| open | %llu | %.0f in all | | %u |\n", (unsigned long long)(10 * tenth), (double)sum.wall / 1e3,
           private_kib());
    must(broker_subscribe(broker, SLICE("q"), &options, &consumer), "subscribing");
    for (uint64_t waiting = 10 * tenth; waiting; waiting -= tenth) {
        sum = (struct stretch){0};
        since = now();
        for (uint64_t done = 0; done < tenth;)
            done += deliver_turn(consumer);
        add_since(&sum, since);
        print_row("deliver", waiting, tenth, &sum);
    }
    close_broker();
    free(body);
}

/* The most segments that there were while 10 GB passed, the one that is written among them. */
static uint64_t pass_ten_gb(bool holds)
{
    struct broker_consumer_options options = {.prefetch = TURN, .burst = 1};
    static char body[HELD_BYTES];
    struct broker_consumer *consumer;
    struct log_numbers numbers;
    uint64_t most = 0;

    open_broker();
    must(broker_subscribe(broker, SLICE("q"), &options, &consumer), "subscribing");
    for (unsigned i = 0; i < 10000; i++) {
        for (unsigned k = 0; k < 100; k++)
            publish(body, sizeof body);
        turn(true);
        for (size_t k = i == 0 && holds ? 1 : 0; k < n_deliveries; k++)
            must(broker_ack(broker, consumer, deliveries[k].ref, clock_wall_us()), "acknowledging");
        log_numbers(store, &numbers);
        most = numbers.segments > most ? numbers.segments : most;
    }
    close_broker();
    return most;
}

static void measure_held(void)
{
    uint64_t without = pass_ten_gb(false), with = pass_ten_gb(true);

    printf("While 10 GB pass there are %llu segments at the most, the one that is written among them; %llu "
           "while one "
           "message stays unacknowledged.\n",
           (unsigned long long)without, (unsigned long long)with);
}

/* ---- the program ------------------------------------------------------------------------------------------------- */

static void remove_folder(const char *folder)
{
    DIR *dir = opendir(folder);
    struct dirent *entry;

    while (dir && (entry = readdir(dir)))
        unlinkat(dirfd(dir), entry->d_name, 0);
    if (dir)
        closedir(dir);
    rmdir(folder);
}

int main(int argc, char **argv)
{
    const char *what = argc > 2 ? argv[2] : "";
    uint64_t n = argc > 3 ? strtoull(argv[3], NULL, 10) : 10000000;
    size_t bytes = argc > 4 ? strtoul(argv[4], NULL, 10) : 100;

    if (argc < 3 || access(argv[1], F_OK) == 0 || n < 10000 || bytes > MEGA) {
        fprintf(stderr,
                "usage: log FOLDER commit|windows|backlog [N BYTES]|held   (a folder that is not there)\n");
        return 2;
    }
    must(storage_open_folder(&storage, argv[1]), "the folder");
    if (strcmp(what, "backlog") == 0) {
        measure_backlog(n, bytes);
    } else if (strcmp(what, "held") == 0) {
        measure_held();
    } else {
        struct log_report report;

        open_log();
        must(log_replay(store, ignore, NULL, &report), report.text);
        make_spares();
        if (strcmp(what, "commit") == 0)
            measure_commits(argv[1]);
        else
            measure_windows(argv[1]);
        log_close(store);
    }
    storage_close_folder(storage);
    log_buffer_free(&buffer);
    remove_folder(argv[1]);
    return 0;
}
