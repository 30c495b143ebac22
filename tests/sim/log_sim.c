/* log_sim.c - the log alone over a simulated disk: what an owner does with it, crashes, and a disk that fails, from a seed.
 *
 * After each time the log is opened again:
 *   1. Everything below the last log_durable is replayed, from the checkpoint on: in order, at its place, with its bytes.
 *   2. What comes after that is what was appended after it, up to some record; never one that was cut before.
 *   3. The checkpoint is the newest that the log called durable, or one that was being written.
 *   4. Every record that the checkpoint or a later record may need can be read.
 *   5. A flipped bit is -EBADMSG, or changes nothing, or cuts what nothing on the disk says was durable.
 * While it is open: nothing more is durable after a failure; what was promised can be appended; room is refused only
 * where there is a limit; what the log says of itself (end, durable, promised, segments) is what the model says. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "log/log.h"
#include "sim/disk.h"
#include "sim/log_model.h"
#include "sim/sim.h"

#define STEPS_MAX 128
#define PAYLOAD_MAX 3000

enum step_kind {
    APPEND,
    PROMISE,
    KEEP,
    WRITE,
    COMMIT,
    READ,
    CHECKPOINT,
    SPARE,
    FORGET,
    RELEASE,
    CLOSE,
    KILL,
    CRASH,
    FAULT,
    POWER,
    LIMIT,
    FLIP,
    KINDS
};

/* How often a step of a kind is planned, in relation to the others. FLIP is a story's last step. */
static const unsigned char often[KINDS] = {
    [APPEND] = 30,     [PROMISE] = 8, [KEEP] = 8,   [WRITE] = 8,   [COMMIT] = 20, [READ] = 4,
    [CHECKPOINT] = 12, [SPARE] = 10,  [FORGET] = 8, [RELEASE] = 8, [CLOSE] = 1,   [KILL] = 3,
    [CRASH] = 6,       [FAULT] = 4,   [POWER] = 2,  [LIMIT] = 1,
};

struct world {
    struct disk *disk;
    struct log *log;
    struct log_options options;
    struct model model;
    uint64_t content; /* of the next record; they repeat where few is not 0 */
    uint64_t few;
    uint32_t piece_max;      /* of the payload of a promised record; the log has a limit, too */
    uint64_t confirmed;      /* the greatest log_durable */
    uint64_t written;        /* log_end at the last write that succeeded */
    uint64_t evident;        /* something on the disk says that this much was durable */
    bool flipped;            /* a bit is, and opening the log did not find it */
    bool failing;            /* faults were set since it was opened */
    bool limited;            /* the disk is smaller than what may be wanted */
    struct log_spare *spare; /* being made */
    bool spare_made;
    int spare_error;
    struct log_checkpointing *checkpointing;
    bool checkpoint_made;
    int checkpoint_error;
    char *state; /* of it */
};

/* One at a time, and its memory is used again. */
static struct world world;
static char payload[PAYLOAD_MAX + LOG_SEGMENT_BYTES_MIN];

/* ---- the options and the steps of a seed ------------------------------------------------------------------------------ */

static size_t plan(uint64_t seed, struct sim_step *steps)
{
    struct rng rng = {seed};
    size_t n = 10 + (size_t)rng_below(&rng, STEPS_MAX - 10);
    unsigned all = 0;

    for (size_t kind = 0; kind < KINDS; kind++)
        all += often[kind];
    for (size_t i = 0; i < n; i++) {
        unsigned kind = 0;
        uint64_t at = rng_below(&rng, all);

        while (at >= often[kind])
            at -= often[kind++];
        steps[i] = (struct sim_step){kind, rng_next(&rng), rng_next(&rng)};
    }
    if (rng_below(&rng, 3) == 0)
        steps[n - 1].kind = FLIP;
    return n;
}

static void world_begin(uint64_t seed)
{
    struct rng rng = {seed ^ 0x6c6f67};

    if (!world.disk)
        world.disk = disk_new(seed);
    disk_reset(world.disk, rng_next(&rng));
    model_reset(&world.model);
    world = (struct world){
        .disk = world.disk,
        .model = world.model,
        .options = {.storage = disk_storage(world.disk),
                    .segment_bytes = 4096u << rng_below(&rng, 3),
                    .id = rng_next(&rng)},
    };
    if (rng_below(&rng, 2) == 0)
        world.options.bytes_max = world.options.segment_bytes * (3 + rng_below(&rng, 8));
    world.few = rng_below(&rng, 2) * (1 + rng_below(&rng, 4));
    world.piece_max = rng_below(&rng, 4) == 0 ? UINT32_MAX : 200;
    if (rng_below(&rng, 3) == 0) {
        disk_limit(world.disk,
                   world.options.segment_bytes * (3 + rng_below(&rng, 12)) + 4096 * rng_below(&rng, 4));
        world.limited = true;
    }
}

/* ---- what holds at any time ------------------------------------------------------------------------------------------- */

/* After every call that may write. */
static void look(void)
{
    uint64_t durable = log_durable(world.log);
    struct log_numbers numbers;

    sim_check(durable >= world.confirmed, "log_durable falls from %llu to %llu",
              (unsigned long long)world.confirmed, (unsigned long long)durable);
    sim_check(durable <= log_end(world.log), "log_durable %llu is over log_end %llu",
              (unsigned long long)durable, (unsigned long long)log_end(world.log));
    sim_check(!log_failure(world.log) || world.failing, "the log failed without a reason: %s",
              log_failure(world.log));
    if (durable > world.confirmed) {
        world.evident = world.confirmed;
        world.confirmed = durable;
    }
    log_numbers(world.log, &numbers);
    sim_check(numbers.promised == model_promised(&world.model), "promised are %llu, not %llu",
              (unsigned long long)model_promised(&world.model), (unsigned long long)numbers.promised);
    sim_check(world.options.bytes_max == 0 || numbers.file_bytes <= world.options.bytes_max,
              "files of %llu bytes are over bytes_max %llu", (unsigned long long)numbers.file_bytes,
              (unsigned long long)world.options.bytes_max);
}

/* An error that the log may answer with because of what the disk does. */
static void check_failed(const char *what, int error)
{
    sim_check(world.failing, "%s: %s, and nothing is wrong", what, strerror(-error));
    sim_check(error == -EIO || error == -ENOSPC, "%s: %s", what, strerror(-error));
}

static void check_same(const struct log_record *record, size_t i, const char *what)
{
    const struct model_record *expected = &world.model.records[i];

    sim_check(record->position == expected->position, "%s: record %zu is at %llu, not at %llu", what, i,
              (unsigned long long)record->position, (unsigned long long)expected->position);
    sim_check(record->kind == expected->kind, "%s: record %zu at %llu is of kind %u, not %u", what, i,
              (unsigned long long)record->position, record->kind, expected->kind);
    sim_check(record->payload.len == expected->bytes, "%s: record %zu at %llu has %zu bytes, not %u", what, i,
              (unsigned long long)record->position, record->payload.len, expected->bytes);
    model_fill(payload, expected->bytes, expected->content);
    sim_check(memcmp(record->payload.ptr, payload, expected->bytes) == 0,
              "%s: record %zu at %llu has other bytes", what, i, (unsigned long long)record->position);
}

static uint64_t end_of(size_t i)
{
    return world.model.records[i].position + log_record_bytes(world.model.records[i].bytes);
}

/* ---- appending ---------------------------------------------------------------------------------------------------- */

static uint32_t some_bytes(struct rng *rng)
{
    static const uint32_t sizes[] = {0, 1, 8, 24, 100, 400, 1000, PAYLOAD_MAX};
    uint32_t most = sizes[rng_below(rng, sizeof sizes / sizeof *sizes)];

    return world.few ? most : (uint32_t)rng_below(rng, most + 1);
}

/* A limit that a refusal may come from. Without any, and without faults, there is always room. */
static bool may_refuse(void)
{
    return world.options.bytes_max > 0 || world.limited || world.failing;
}

static int append_one(enum log_claim claim, uint64_t promise, uint32_t bytes, struct rng *rng)
{
    uint64_t content = world.few ? world.content++ % world.few : world.content++;
    uint64_t before = log_end(world.log), position = UINT64_MAX;
    uint8_t kind = (uint8_t)(LOG_KIND_FIRST + (world.few ? 0 : rng_below(rng, 256 - LOG_KIND_FIRST)));
    size_t cut = (size_t)rng_below(rng, bytes + 1u);
    struct iovec parts[2] = {{payload, cut}, {payload + cut, bytes - cut}};
    struct model_record *record;
    bool failed = log_failure(world.log);
    int error;

    model_fill(payload, bytes, content);
    error = log_append(world.log, claim, promise, kind, parts, 2, &position);
    sim_tell("  append %s %u bytes, promise %llu: %d, at %llu, end %llu, durable %llu",
             claim == LOG_PROMISED ? "promised" : "more", bytes, (unsigned long long)promise, error,
             (unsigned long long)position, (unsigned long long)log_end(world.log),
             (unsigned long long)log_durable(world.log));
    if (failed)
        sim_check(error != 0, "it appends after a failure");
    if (error != 0) {
        if (bytes > log_payload_max(world.log)) {
            sim_check(error == -EFBIG || failed, "too large a record gives %d", error);
            return error;
        }
        sim_count(error == -ENOSPC ? "appends refused for room" : "appends failed");
        sim_check(error == -EIO || error == -ENOSPC, "append: %s", strerror(-error));
        sim_check(error != -EIO || world.failing, "append: EIO, and nothing is wrong");
        sim_check(error != -ENOSPC || may_refuse(), "append: no room, and nothing limits it");
        sim_check(claim == LOG_MORE || log_failure(world.log), "a promise is not kept: %s", strerror(-error));
        return error;
    }
    sim_check(bytes <= log_payload_max(world.log), "it takes a record of %u bytes, the most is %zu", bytes,
              log_payload_max(world.log));
    sim_check(position >= before && position + log_record_bytes(bytes) == log_end(world.log),
              "a record at %llu of %u bytes, the end was %llu and is %llu", (unsigned long long)position,
              bytes, (unsigned long long)before, (unsigned long long)log_end(world.log));
    sim_count("records appended");
    record = model_append(&world.model);
    record->position = position;
    record->content = content;
    record->bytes = bytes;
    record->kind = kind;
    return 0;
}

static void do_append(const struct sim_step *step)
{
    struct rng rng = {step->a};
    uint64_t n = 1 + rng_below(&rng, 4);

    for (uint64_t i = 0; i < n; i++) {
        uint32_t bytes = some_bytes(&rng);

        if (rng_below(&rng, 64) == 0)
            bytes = (uint32_t)log_payload_max(world.log) - 8 + (uint32_t)rng_below(&rng, 17);
        if (bytes > sizeof payload)
            bytes = (uint32_t)sizeof payload;
        append_one(LOG_MORE, 0, bytes, &rng);
        look();
    }
}

static void do_promise(const struct sim_step *step)
{
    struct rng rng = {step->a};
    uint64_t pieces[3], n = 1 + rng_below(&rng, 3), promise = 0, most = log_promised_payload_max(world.log);

    if (most > world.piece_max)
        most = world.piece_max;
    for (uint64_t i = 0; i < n; i++)
        promise += pieces[i] = log_record_bytes(rng_below(&rng, most + 1));
    if (append_one(LOG_MORE, promise, some_bytes(&rng), &rng) == 0)
        for (uint64_t i = 0; i < n; i++)
            model_promise(&world.model, pieces[i], world.model.n - 1);
    look();
}

/* A promise is kept with what it was made for, or with less. */
static void do_keep(const struct sim_step *step)
{
    struct rng rng = {step->a};

    for (uint64_t n = 1 + rng_below(&rng, step->b % 8 == 0 ? 100 : 4); n > 0; n--) {
        struct model_promise *promise = model_pick_promise(&world.model, rng_next(&rng));
        uint32_t bytes;

        if (!promise)
            return;
        bytes = (uint32_t)promise->bytes - LOG_RECORD_OVERHEAD;
        if (rng_below(&rng, 3) == 0)
            bytes = (uint32_t)rng_below(&rng, bytes + 1u);
        if (append_one(LOG_PROMISED, 0, bytes, &rng) != 0)
            return;
        promise->keeper = world.model.n - 1;
        log_fulfil(world.log, promise->bytes);
        sim_count("promises kept");
        look();
    }
}

/* ---- making it durable ---------------------------------------------------------------------------------------------- */

static void do_write(const struct sim_step *step)
{
    bool failed = log_failure(world.log);
    int error = log_write(world.log);

    (void)step;
    sim_tell("  write: %d", error);
    sim_check(!failed || error != 0, "it writes after a failure");
    if (error == 0)
        world.written = log_end(world.log);
    else
        check_failed("write", error);
    look();
}

static void do_commit(const struct sim_step *step)
{
    bool failed = log_failure(world.log);
    int error = log_commit(world.log);

    (void)step;
    sim_tell("  commit: %d, end %llu, durable %llu", error, (unsigned long long)log_end(world.log),
             (unsigned long long)log_durable(world.log));
    sim_check(!failed || error != 0, "it commits after a failure");
    if (error == 0) {
        sim_check(log_durable(world.log) == log_end(world.log),
                  "after a commit log_durable is %llu, log_end %llu",
                  (unsigned long long)log_durable(world.log), (unsigned long long)log_end(world.log));
        world.written = log_end(world.log);
        sim_count("commits");
    } else {
        check_failed("commit", error);
        sim_count("commits failed");
    }
    look();
}

/* ---- reading -------------------------------------------------------------------------------------------------------- */

/* flipped: it may be damaged. */
static void read_one(struct log_buffer *buffer, size_t i, size_t ahead, bool flipped)
{
    struct log_record record;
    int error = log_read(world.log, world.model.records[i].position, ahead, buffer, &record);

    if (error == -EIO && world.failing)
        return;
    if (flipped && (error == -EBADMSG || error == -ENOENT)) {
        sim_count("damaged records found by reading");
        return;
    }
    sim_check(error == 0, "record %zu at %llu cannot be read: %s", i,
              (unsigned long long)world.model.records[i].position, strerror(-error));
    check_same(&record, i, "read");
}

static void read_all(bool flipped)
{
    struct log_buffer buffer = {0};

    for (size_t i = 0; (i = model_next_alive(&world.model, i)) < world.model.n; i++)
        read_one(&buffer, i, 0, flipped);
    log_buffer_free(&buffer);
}

static void do_read(const struct sim_step *step)
{
    struct rng rng = {step->a};
    struct log_buffer buffer = {0};

    for (unsigned n = 0; n < 8 && world.model.n > 0; n++) {
        size_t i = model_next_alive(&world.model, (size_t)rng_below(&rng, world.model.n));

        if (i < world.model.n)
            read_one(&buffer, i, (size_t)rng_below(&rng, 6000), false);
        if (i < world.model.n && rng_below(&rng, 2) == 0 &&
            (i = model_next_alive(&world.model, i + 1)) < world.model.n)
            read_one(&buffer, i, 0, false);
    }
    log_buffer_free(&buffer);
}

/* ---- checkpoints, spares, segments ------------------------------------------------------------------------------------ */

static void begin_checkpoint(struct rng *rng)
{
    static const uint32_t sizes[] = {1, 64, 600, 6000};
    struct model_checkpoint *checkpoint;
    uint32_t bytes = (uint32_t)rng_below(rng, sizes[rng_below(rng, 4)]);

    if (log_durable(world.log) != log_end(world.log) || log_failure(world.log))
        return;
    checkpoint = model_begin(&world.model);
    *checkpoint = (struct model_checkpoint){log_end(world.log), rng_next(rng), bytes};
    world.state = malloc(bytes + 1u);
    if (!world.state)
        abort();
    model_fill(world.state, bytes, checkpoint->content);
    world.checkpointing = log_checkpoint_begin(world.log, slice_of(world.state, bytes));
    if (!world.checkpointing && (world.limited || world.options.bytes_max || world.failing)) {
        world.model.n_checkpoints--; /* a segment has to be begun first, and there is no room */
        free(world.state);
        world.state = NULL;
        return;
    }
    sim_check(world.checkpointing, "no memory for a checkpoint");
    world.checkpoint_made = false;
    sim_tell("  checkpoint %zu begins: at %llu, %u bytes", world.model.n_checkpoints - 1,
             (unsigned long long)checkpoint->position, bytes);
}

static void make_checkpoint(void)
{
    world.checkpoint_error = log_checkpoint_make(world.checkpointing);
    world.checkpoint_made = true;
    sim_tell("  checkpoint is made: %d", world.checkpoint_error);
    if (world.checkpoint_error == -ENOSPC)
        sim_check(world.limited || world.failing, "checkpoint: no room, and nothing limits it");
    else if (world.checkpoint_error != 0)
        check_failed("checkpoint", world.checkpoint_error);
}

static void end_checkpoint(int error)
{
    size_t begun = world.model.n_checkpoints - 1;

    log_checkpoint_end(world.log, world.checkpointing, error);
    world.checkpointing = NULL;
    free(world.state);
    world.state = NULL;
    if (error == 0 && log_checkpoint_position(world.log) == world.model.checkpoints[begun].position)
        world.model.newest = begun;
    sim_check(error != 0 || world.model.newest == begun, "the newest checkpoint is at %llu, not at %llu",
              (unsigned long long)log_checkpoint_position(world.log),
              (unsigned long long)world.model.checkpoints[begun].position);
    sim_count(error == 0 ? "checkpoints" : "checkpoints failed");
}

/* On by one, or to its end. */
static void do_checkpoint(const struct sim_step *step)
{
    struct rng rng = {step->a};
    unsigned n = step->b % 2 ? 3 : 1;

    if (!world.checkpointing && n == 3)
        do_commit(step);
    for (; n > 0; n--) {
        if (!world.checkpointing)
            begin_checkpoint(&rng);
        else if (!world.checkpoint_made)
            make_checkpoint();
        else
            end_checkpoint(world.checkpoint_error);
        look();
    }
}

static void begin_spare(void)
{
    if (!log_spare_wanted(world.log))
        return;
    world.spare = log_spare_begin(world.log);
    sim_check(world.spare, "no memory for a spare");
    world.spare_made = false;
}

static void make_spare(void)
{
    world.spare_error = log_spare_make(world.spare);
    world.spare_made = true;
    sim_tell("  spare is made: %d", world.spare_error);
    if (world.spare_error == -ENOSPC)
        sim_check(world.limited || world.failing, "spare: no room, and nothing limits it");
    else if (world.spare_error != 0)
        check_failed("spare", world.spare_error);
}

static void end_spare(int error)
{
    log_spare_add(world.log, world.spare, error);
    world.spare = NULL;
    sim_count(error == 0 ? "spares" : "spares failed");
}

static void do_spare(const struct sim_step *step)
{
    for (unsigned n = step->b % 2 ? 3 : 1; n > 0; n--) {
        if (!world.spare)
            begin_spare();
        else if (!world.spare_made)
            make_spare();
        else
            end_spare(world.spare_error);
        look();
    }
}

/* Some records die: most of the old ones, a few of the new ones. */
static void do_forget(const struct sim_step *step)
{
    struct rng rng = {step->a};
    size_t old = (size_t)rng_below(&rng, world.model.n + 1);
    uint64_t one_in = 1 + step->b % 3 * 20;

    for (size_t i = 0; i < old; i++)
        if (world.model.records[i].died == NONE && (one_in == 1 || rng_below(&rng, one_in) != 0))
            world.model.records[i].died = world.model.n_checkpoints;
}

static void do_release(const struct sim_step *step)
{
    uint64_t bytes = world.options.segment_bytes, next;

    (void)step;
    for (uint64_t number = log_segment_first(world.log); number != UINT64_MAX; number = next) {
        next = log_segment_next(world.log, number);
        sim_check(next > number, "segment %llu comes after segment %llu", (unsigned long long)next,
                  (unsigned long long)number);
        if (!model_needs_none(&world.model, number * bytes, (number + 1) * bytes))
            continue;
        sim_tell("  release segment %llu", (unsigned long long)number);
        log_release(world.log, number);
        sim_count("segments released");
        look();
    }
}

/* Where a scan is. */
struct scanning {
    uint64_t after; /* of the record before; positions only grow */
    size_t seen;
};

static int scan_one(void *arg, const struct log_record *record)
{
    struct scanning *scanning = arg;
    size_t i = model_at(&world.model, record->position);

    sim_check(record->position >= scanning->after, "scan: %llu comes after %llu",
              (unsigned long long)record->position, (unsigned long long)scanning->after);
    sim_check(i < world.model.n, "scan: a record at %llu that was never appended",
              (unsigned long long)record->position);
    check_same(record, i, "scan");
    scanning->after = end_of(i);
    scanning->seen++;
    return 0;
}

static size_t records_between(uint64_t from, uint64_t to)
{
    return to > from ? model_at(&world.model, to) - model_at(&world.model, from) : 0;
}

/* Before replay: every record below the checkpoint, of every segment that is needed. */
static void scan(void)
{
    uint64_t bytes = world.options.segment_bytes, behind = log_checkpoint_position(world.log);

    for (uint64_t number = log_segment_first(world.log); number != UINT64_MAX && number * bytes < behind;
         number = log_segment_next(world.log, number)) {
        uint64_t end = (number + 1) * bytes < behind ? (number + 1) * bytes : behind;
        size_t expected = records_between(number * bytes, end);
        struct scanning scanning = {0, 0};
        struct log_report report = {.text = ""};
        int error;

        if (model_needs_none(&world.model, number * bytes, end))
            continue;
        error = log_scan(world.log, number, scan_one, &scanning, &report);
        sim_tell("  scan of %llu: %d, %zu of %zu records %s", (unsigned long long)number, error,
                 scanning.seen, expected, report.text);
        if (error != 0)
            check_failed("scan", error);
        else
            sim_check(scanning.seen == expected, "scan: %zu records of %zu", scanning.seen, expected);
    }
    sim_count("scans");
}

/* ---- opening again ------------------------------------------------------------------------------------------------- */

struct replaying {
    size_t next, stop; /* after so many records the owner has an error of its own; NONE: it has none */
};

static int replay_one(void *arg, const struct log_record *record)
{
    struct replaying *replaying = arg;

    if (replaying->stop != NONE && replaying->stop-- == 0)
        return -ECANCELED;
    sim_check(record->kind >= LOG_KIND_FIRST, "replay: a record of the log's own kind %u at %llu",
              record->kind, (unsigned long long)record->position);
    sim_check(replaying->next < world.model.n, "replay: a record at %llu, behind the last that was appended",
              (unsigned long long)record->position);
    check_same(record, replaying->next, "replay");
    replaying->next++;
    return 0;
}

static size_t check_checkpoint(bool flipped)
{
    uint64_t position = log_checkpoint_position(world.log);
    struct slice state = log_checkpoint(world.log);
    size_t checkpoint = model_find_checkpoint(&world.model, position, state.ptr, state.len);

    if (checkpoint == NONE)
        sim_check(position == 0 && state.len == 0, "a checkpoint at %llu of %zu bytes that nobody made",
                  (unsigned long long)position, state.len);
    sim_check(flipped || world.model.newest == NONE ||
                  (checkpoint != NONE && checkpoint >= world.model.newest),
              "the checkpoint at %llu is older than the newest, at %llu", (unsigned long long)position,
              (unsigned long long)world.model.checkpoints[world.model.newest].position);
    return checkpoint;
}

/* What must be there again: every record below it. */
static void check_recovered(size_t n, uint64_t floor, bool flipped)
{
    uint64_t end = log_end(world.log);

    sim_check(n == world.model.n || world.model.records[n].position >= floor,
              "replay ends before record %zu at %llu, and all below %llu was %s", n,
              (unsigned long long)world.model.records[n].position, (unsigned long long)floor,
              flipped ? "known to be durable" : "durable or written");
    sim_check(flipped || end >= world.confirmed, "it ends at %llu, and all below %llu was durable",
              (unsigned long long)end, (unsigned long long)world.confirmed);
    sim_check(n == 0 || end >= end_of(n - 1), "it ends at %llu, and its last record at %llu",
              (unsigned long long)end, (unsigned long long)(n ? end_of(n - 1) : 0));
    sim_check(log_durable(world.log) == end, "after replay log_durable is %llu, log_end %llu",
              (unsigned long long)log_durable(world.log), (unsigned long long)end);
    sim_check(!log_failure(world.log), "it has failed before anything was done: %s", log_failure(world.log));
}

/* How it is opened. */
struct opening {
    uint64_t floor; /* all below it must be there */
    bool flipped;   /* a bit was */
    bool clean;     /* nothing can be torn */
    bool scan;      /* as for an index that is made anew */
    size_t stop;    /* see replaying */
};

/* The log is open, and what it holds has been checked: 0. Else it is closed, and the error is one that is allowed. */
static int open_log(const struct opening *opening)
{
    struct replaying replaying = {.stop = opening->stop};
    struct log_report report;
    size_t checkpoint;
    int error;

    memset(&report, 0x55, sizeof report);
    error = log_open(&world.log, &world.options, &report);
    sim_tell("  open: %d %s", error, report.text);
    sim_check((error == 0) == (world.log != NULL), "log_open gives %d, and a log or not", error);
    if (error != 0) {
        sim_check(error != -EBADMSG || report.text[0], "damage without words");
        return error;
    }
    checkpoint = check_checkpoint(opening->flipped);
    if (opening->scan)
        scan();
    replaying.next = model_at(&world.model, log_checkpoint_position(world.log));
    error = log_replay(world.log, replay_one, &replaying, &report);
    sim_tell("  replay from %llu: %d, %zu records of %zu, cut %llu bytes at %llu, end %llu %s",
             (unsigned long long)(checkpoint == NONE ? 0 : world.model.checkpoints[checkpoint].position),
             error, replaying.next, world.model.n, (unsigned long long)report.cut_bytes,
             (unsigned long long)report.cut_position, (unsigned long long)log_end(world.log), report.text);
    if (error != 0) {
        sim_check(error != -EBADMSG || report.text[0], "damage without words");
        log_close(world.log);
        world.log = NULL;
        return error;
    }
    sim_check(!opening->clean || report.cut_bytes == 0, "%llu bytes cut at %llu, after a clean end",
              (unsigned long long)report.cut_bytes, (unsigned long long)report.cut_position);
    sim_count(report.cut_bytes > 0 ? "openings that cut a torn tail" : "openings");
    check_recovered(replaying.next, opening->floor, opening->flipped);
    model_recover(&world.model, checkpoint, replaying.next);
    return 0;
}

/* The owner's part after replay. */
static void take_up(bool flipped)
{
    world.confirmed = world.written = log_durable(world.log);
    if (world.evident > world.confirmed)
        world.evident = world.confirmed;
    log_promise(world.log, model_promised(&world.model));
    look();
    read_all(flipped);
}

static void set_fault(uint64_t a, uint64_t b, uint64_t within)
{
    static const int errors[] = {EIO, ENOSPC};
    enum disk_op op = (enum disk_op)(a % DISK_OPS);
    int error = op == DISK_WRITE || op == DISK_FILL ? errors[b % 2] : EIO;

    disk_fail(world.disk, op, a / DISK_OPS % within, error, b / 2 % 4 == 0);
    world.failing = true;
    sim_tell("  operation %u of kind %u will fail: %d%s", (unsigned)(a / DISK_OPS % within), (unsigned)op,
             -error, b / 2 % 4 == 0 ? ", and all after it" : "");
}

/* Faults of the disk and an end of the power while it is being opened. */
static void set_opening_fault(uint64_t a, uint64_t b)
{
    if (b % 16 == 0)
        set_fault(a, b / 16, 12);
    if (b % 16 == 1) {
        disk_power_off(world.disk, a % 40);
        world.failing = true;
        sim_tell("  the power will fail after %u operations", (unsigned)(a % 40));
    }
}

/* Until it is open. What stands in the way are faults, which go away, and a disk too small for a log, which grows. */
static void open_again(const struct sim_step *step, struct opening opening)
{
    struct rng rng = {step->a};
    int error;

    world.failing = false;
    set_opening_fault(rng_next(&rng), step->b);
    opening.stop = step->b % 16 == 2 ? (size_t)rng_below(&rng, 20) : NONE;
    opening.scan = step->b / 256 % 4 == 0;
    while ((error = open_log(&opening)) != 0) {
        if (error == -ENOSPC && world.confirmed == 0 && world.limited) {
            disk_limit(world.disk, 0);
            world.limited = false;
        } else if (error != -ECANCELED || opening.stop == NONE) {
            check_failed("opening", error);
        }
        sim_count("openings failed");
        opening.stop = NONE;
        if (step->b % 16 == 1 || rng_below(&rng, 2) == 0) {
            disk_crash(world.disk);
            opening.floor = world.confirmed;
            opening.clean = false;
        } else {
            disk_restart(world.disk);
        }
        if (world.failing) {
            opening.clean = false;
            opening.floor = world.confirmed;
        }
        world.failing = false;
    }
    disk_heal(world.disk);
    take_up(opening.flipped);
    world.failing = false;
    do_release(step);
}

/* Without doing anything that counts. */
static void close_log(void)
{
    disk_stop(world.disk);
    if (world.checkpointing)
        end_checkpoint(-ECANCELED);
    if (world.spare)
        end_spare(-ECANCELED);
    log_close(world.log);
    world.log = NULL;
}

static void do_close(const struct sim_step *step)
{
    int error = log_commit(world.log);

    sim_tell("  commit: %d", error);
    if (error != 0)
        check_failed("commit", error);
    look();
    close_log();
    disk_restart(world.disk);
    open_again(step, (struct opening){.floor = world.confirmed, .clean = error == 0 && !world.failing});
}

static void do_kill(const struct sim_step *step)
{
    bool clean = !world.failing && !log_failure(world.log);
    uint64_t floor = clean ? world.written : world.confirmed;

    sim_count("kills");
    close_log();
    disk_restart(world.disk);
    open_again(step, (struct opening){.floor = floor, .clean = clean});
}

static void do_crash(const struct sim_step *step)
{
    sim_count("crashes");
    close_log();
    disk_crash(world.disk);
    open_again(step, (struct opening){.floor = world.confirmed});
}

/* A bit of some file is turned over while the log is closed. What is damaged then is so for good, unless the log says so
 * when it is opened: then the bit is turned back, and nothing may be missing. */
static void do_flip(const struct sim_step *step)
{
    size_t n = 0;
    const char *name;
    uint64_t bit;
    struct opening opening = {.floor = world.evident, .flipped = true, .stop = NONE};
    int error;

    close_log();
    if (step->b % 2)
        disk_crash(world.disk);
    else
        disk_restart(world.disk);
    while (disk_name(world.disk, n))
        n++;
    name = disk_name(world.disk, (size_t)(step->a % n));
    if (disk_size(world.disk, name) == 0)
        name = disk_name(world.disk, 0);
    if (disk_size(world.disk, name) == 0)
        return;
    bit = step->a / n % (8 * disk_size(world.disk, name));
    if (step->b / 2 % 4 == 0)
        bit %= 8 * 64; /* headers */
    world.failing = false;
    disk_flip(world.disk, name, bit);
    sim_tell("  bit %u of byte %llu of %s is flipped", (unsigned)(bit % 8), (unsigned long long)(bit / 8),
             name);
    error = open_log(&opening);
    if (error == 0) {
        sim_count("flipped bits that did no harm");
        world.flipped = true;
        take_up(true);
        return;
    }
    sim_check(error == -EBADMSG, "a flipped bit gives %s", strerror(-error));
    sim_count("flipped bits found when opening");
    disk_flip(world.disk, name, bit);
    opening = (struct opening){.floor = world.confirmed, .stop = NONE};
    error = open_log(&opening);
    sim_check(error == 0, "after the bit was turned back: %s", strerror(-error));
    take_up(false);
}

/* ---- the disk ------------------------------------------------------------------------------------------------------- */

static void do_fault(const struct sim_step *step)
{
    set_fault(step->a, step->b, 12);
}

/* What is done until it fails, and a little after; a crash is next for who has power again. */
static void do_power(const struct sim_step *step)
{
    disk_power_off(world.disk, step->a % 30);
    world.failing = true;
    sim_tell("  the power will fail after %u operations", (unsigned)(step->a % 30));
}

static void do_limit(const struct sim_step *step)
{
    uint64_t used = disk_used(world.disk);

    world.limited = step->b % 4 != 0;
    disk_limit(world.disk, world.limited ? used + step->a % (3 * world.options.segment_bytes) : 0);
    sim_tell("  of the disk %llu are used, %s", (unsigned long long)used,
             world.limited ? "it is nearly full" : "it is large");
}

/* ---- a story --------------------------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    void (*run)(const struct sim_step *step);
} steps_of[KINDS] = {
    [APPEND] = {"append", do_append},
    [PROMISE] = {"promise", do_promise},
    [KEEP] = {"keep", do_keep},
    [WRITE] = {"write", do_write},
    [COMMIT] = {"commit", do_commit},
    [READ] = {"read", do_read},
    [CHECKPOINT] = {"checkpoint", do_checkpoint},
    [SPARE] = {"spare", do_spare},
    [FORGET] = {"forget", do_forget},
    [RELEASE] = {"release", do_release},
    [CLOSE] = {"close", do_close},
    [KILL] = {"kill", do_kill},
    [CRASH] = {"crash", do_crash},
    [FAULT] = {"fault", do_fault},
    [POWER] = {"power", do_power},
    [LIMIT] = {"limit", do_limit},
    [FLIP] = {"flip", do_flip},
};

static void run(uint64_t seed, const struct sim_step *steps, size_t n)
{
    static const struct sim_step first = {0, 0, 3}, last = {CRASH, 1, 3};

    world_begin(seed);
    sim_tell("segments of %u bytes, at most %llu, promises of up to %u bytes, %llu contents%s",
             world.options.segment_bytes, (unsigned long long)world.options.bytes_max, world.piece_max,
             (unsigned long long)world.few, world.limited ? ", a small disk" : "");
    open_again(&first, (struct opening){.clean = true});
    for (size_t i = 0; i < n && world.log; i++) {
        sim_tell("%s", steps_of[steps[i].kind].name);
        steps_of[steps[i].kind].run(&steps[i]);
    }
    if (world.log && !world.flipped) {
        sim_tell("the end");
        do_crash(&last);
    }
    if (world.log)
        close_log();
}

int main(int argc, char **argv)
{
    static const struct sim sim = {"log_sim", STEPS_MAX, plan, run};

    return sim_main(&sim, argc, argv);
}
