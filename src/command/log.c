/* log.c - `maitred log check FOLDER` and `maitred log salvage FOLDER NEW-FOLDER`: a look at the log of the queues while no maitred has
 * it, and a new one of what can be read. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "command/command.h"
#include "queue/salvage.h"

/* Lost messages that are named; of the others their number is told. */
#define NAMED_MOST 1000u

struct findings {
    uint64_t damages, lost, readable;
    uint64_t named;
};

static void print_damage(void *arg, const char *text)
{
    struct findings *f = arg;

    f->damages++;
    printf("damage: %s\n", text);
}

static void print_queue(void *arg, const struct salvage_queue *queue)
{
    struct findings *f = arg;

    printf("queue %.*s: %" PRIu64 " messages wait", (int)queue->name.len, queue->name.ptr,
           queue->readable + queue->lost);
    if (queue->lost)
        printf(", %" PRIu64 " of them cannot be read", queue->lost);
    putchar('\n');
    f->readable += queue->readable;
    f->lost += queue->lost;
}

static void print_lost(void *arg, struct slice queue, uint64_t number)
{
    struct findings *f = arg;

    if (++f->named <= NAMED_MOST)
        printf("lost: message %" PRIu64 " of queue %.*s\n", number, (int)queue.len, queue.ptr);
}

static void print_files(const struct salvage *salvage)
{
    const struct log_survey *survey = salvage_survey(salvage);
    uint64_t bytes;
    size_t n = salvage_bodies(salvage, &bytes);

    printf("%zu segments of %" PRIu32 " bytes", survey->n_segments, survey->segment_bytes);
    if (survey->n_segments)
        printf(" (number %" PRIu64 " to %" PRIu64 ")", survey->segments[0].number,
               survey->segments[survey->n_segments - 1].number);
    printf(", %zu spare files\n", survey->n_spares);
    if (n)
        printf("%zu bodies in files of their own, %" PRIu64 " bytes\n", n, bytes);
    for (unsigned i = 0; i < 2; i++)
        if (survey->checkpoints[i].there && survey->checkpoints[i].whole)
            printf("checkpoint-%u: %" PRIu64 " bytes, as of position %" PRIu64 "\n", i,
                   survey->checkpoints[i].bytes, survey->checkpoints[i].position);
        else if (survey->checkpoints[i].there)
            printf("checkpoint-%u: not whole; of no matter while the other one is\n", i);
}

static bool print_start(const struct salvage *salvage)
{
    const struct log_report *report;
    int error = salvage_start_result(salvage, &report);

    if (error)
        printf("a start fails: %s\n", report->text[0] ? report->text : strerror(-error));
    else if (report->cut_bytes)
        printf("a start works, and cuts off %" PRIu64
               " bytes at the end that were not written whole; nothing that was confirmed is there\n",
               report->cut_bytes);
    else
        puts("a start works");
    return error == 0;
}

static int complain(const char *folder, int error)
{
    const char *why =
        error == -EBUSY             ? "a maitred has it open; stop it first"
        : error == -ENODATA         ? "there is neither a segment nor a checkpoint that can be read in it"
        : error == -ENOTEMPTY       ? "it is not empty; name a folder that is new"
        : error == -EPROTONOSUPPORT ? "its format is another version's; use the maitred that wrote it"
                                    : strerror(-error);

    fprintf(stderr, "maitred log: %s: %s\n", folder, why);
    return 1;
}

/* Opening makes a folder that is not there. */
static int open_old(const char *folder, struct storage **storage)
{
    struct stat s;

    *storage = NULL;
    return stat(folder, &s) != 0 ? -errno : storage_open_folder(storage, folder);
}

static int look(const char *folder, struct storage *storage, struct salvage **salvage, struct findings *f)
{
    int error = salvage_open(salvage, storage, print_damage, f);

    if (error)
        return complain(folder, error);
    print_files(*salvage);
    salvage_each_queue(*salvage, print_queue, f);
    salvage_each_lost(*salvage, print_lost, f);
    if (f->named > NAMED_MOST)
        printf("lost: and %" PRIu64 " more\n", f->named - NAMED_MOST);
    return 0;
}

static int check(const char *folder, struct storage *storage)
{
    struct findings f = {0};
    struct salvage *salvage;
    bool starts;

    if (look(folder, storage, &salvage, &f))
        return 1;
    starts = print_start(salvage);
    salvage_close(salvage);
    return starts && !f.damages && !f.lost ? 0 : 1;
}

static void note_name(void *arg, const char *name)
{
    (void)name;
    *(bool *)arg = true;
}

static int write_new(const struct salvage *salvage, const char *folder)
{
    uint64_t id = clock_wall_us();
    struct storage *to;
    bool has_files = false;
    int error = storage_open_folder(&to, folder);

    if (getrandom(&id, sizeof id, 0) != (ssize_t)sizeof id)
        id = clock_wall_us();
    if (!error)
        error = storage_list(to, note_name, &has_files);
    if (!error)
        error = has_files ? -ENOTEMPTY : salvage_write(salvage, to, id);
    if (to)
        storage_close_folder(to);
    return error ? complain(folder, error) : 0;
}

static int salvage(const char *folder, struct storage *storage, const char *new_folder)
{
    struct findings f = {0};
    struct salvage *salvage;
    int result;

    if (look(folder, storage, &salvage, &f))
        return 1;
    result = write_new(salvage, new_folder);
    salvage_close(salvage);
    if (result)
        return result;
    printf("%" PRIu64 " messages are in %s now, as far as they wait; %" PRIu64 " are lost\n"
           "name it as `state`, or put it in the old folder's place, and start maitred\n",
           f.readable, new_folder, f.lost);
    return 0;
}

int command_log(int argc, char **argv)
{
    bool checks = argc == 3 && strcmp(argv[1], "check") == 0;
    struct storage *storage;
    int error, result;

    if (!checks && (argc != 4 || strcmp(argv[1], "salvage") != 0))
        return command_misused("log", "it takes check FOLDER, or salvage FOLDER NEW-FOLDER");
    error = open_old(argv[2], &storage);
    if (error)
        return complain(argv[2], error);
    result = checks ? check(argv[2], storage) : salvage(argv[2], storage, argv[3]);
    storage_close_folder(storage);
    return result;
}
