/* fuzz_checkpoint.c - any bytes as the state of a checkpoint whose checksum is right: a broker loads it, or says that it cannot; it never
 * reads beyond, nor believes a number before it has seen the bytes. Over a simulated disk. */
#include "exact.h"
#include "queue/broker_private.h"
#include "sim/disk.h"

static void on_delivery(void *arg, struct broker_consumer *consumer, const struct broker_delivery *delivery)
{
    (void)arg;
    (void)consumer;
    (void)delivery;
}

static void on_ending(void *arg, const struct broker_ending *ending)
{
    (void)arg;
    (void)ending;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct broker_events events = {.deliver = on_delivery, .ended = on_ending};
    static struct disk *disk;
    struct slice state = exact_copy(slice_of((const char *)data, size));
    struct log_options of_log = {.segment_bytes = 4096, .id = 1};
    struct broker_options of_broker = {.events = &events, .now_us = 1};
    struct log_report report;
    struct broker *broker;
    struct log *log;

    if (!disk)
        disk = disk_new(1);
    disk_reset(disk, 1);
    of_log.storage = of_broker.storage = disk_storage(disk);
    assert(log_open(&log, &of_log, &report) == 0);
    of_broker.log = log;
    broker = broker_create(&of_broker);
    assert(broker && index_open(&broker->index, disk_storage(disk)) == 0);
    broker->replaying = true;
    broker_load(broker, state, &report);
    broker_close(broker);
    log_close(log);
    exact_free(state);
    return 0;
}
