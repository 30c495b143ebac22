/* amqp_load.c - publishers and consumers of a message broker: many connections, one thread, every confirm and every
 * delivery timed.
 *
 * Speaks AMQP 0-9-1 with any server, or with --redis adds to a stream of Redis. A queue of its own is declared (or with
 * --fanout N an exchange and N queues) and deleted in the end; one that --queue names is left there, with what is in it.
 *
 * Three ways of publishing. Closed loop (default): each publisher keeps --window messages without a confirm; with 0
 * there are no confirms. --rate: messages fall due at a fixed rate whatever the confirms do, and latency counts from
 * when a message was due, so that a stall is seen by all it delayed. --preload N: N messages are published with confirms
 * first, then the consumers come, and what is timed is how they drain the queue. Without publishers, consumers take
 * what is there: --count messages, or what comes in --seconds.
 *
 * The result is a line of JSON, when all was confirmed and delivered, or nothing moved for QUIET_NS. With --wait it is
 * as with load: "ready" is printed, a line on standard input starts the measured time; the result is printed; the next
 * line or the end of standard input lets it clean up.
 *
 * A channel or a connection that the server closes ends the program with status 1 and the server's words. */
#include <getopt.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "common.h"
#include "consumers.h"
#include "publishers.h"
#include "redis_client.h"
#include "wire/amqp_table.h"

#define QUEUES_MAX 1000
#define BATCH 256
#define QUIET_NS (10 * SECOND_NS) /* without a confirm or a delivery: what is missing is lost */
#define LATE_NS (5 * SECOND_NS)   /* for what fell due and found no room */
#define PRELOAD_WINDOW 1000

static struct load {
    struct amqp_login login;
    const char *queue_type, *queue;
    bool redis, waits, transient;
    uint64_t publishers, consumers, fanout, size, window, rate, seconds, count, preload, prefetch, ack_every;

    char exchange[64], queues[QUEUES_MAX][64], routing_key[64];
    unsigned n_queues;
    struct amqp_link control; /* declares and deletes */
    struct amqp_link *links;  /* of the publishers */
    struct redis_link *redis_links;
    struct publishers ps;
    struct consumers cs;

    bool consuming;
    uint64_t start_ns, unsent; /* unsent: messages that fell due */
    double preload_seconds, cpu_seconds;
} load = {.login = {"127.0.0.1", NULL, "guest", "guest", "/"},
          .publishers = 1,
          .size = 1024,
          .window = 100,
          .seconds = 5,
          .prefetch = 1000,
          .ack_every = 1};

/* ---- set-up -------------------------------------------------------------------------------------------------- */

static void declare_queue(const char *name)
{
    char table[128];
    struct amqp_out out = amqp_out_of(table, sizeof(table));
    struct amqp_value type = {.name = SLICE("x-queue-type"), .type = AMQP_TEXT, .letter = 'S'};
    struct amqp_method answer,
        declare = {.id = AMQP_QUEUE_DECLARE, .queue = slice_from_text(name), .durable = true};
    struct amqp_method bind = {
        .id = AMQP_QUEUE_BIND, .queue = slice_from_text(name), .exchange = slice_from_text(load.exchange)};

    if (load.queue_type) {
        type.bytes = slice_from_text(load.queue_type);
        amqp_table_put(&out, &type);
    }
    declare.table = slice_of(table, (size_t)(out.at - table));
    amqp_link_call(&load.control, &declare, AMQP_QUEUE_DECLARE_OK, &answer);
    if (load.fanout)
        amqp_link_call(&load.control, &bind, AMQP_QUEUE_BIND_OK, &answer);
}

static void declare_all(void)
{
    struct amqp_method answer,
        exchange = {.id = AMQP_EXCHANGE_DECLARE, .durable = true, .type = SLICE("fanout")};

    load.n_queues = load.fanout ? (unsigned)load.fanout : 1;
    amqp_link_open(&load.control, &load.login);
    if (load.fanout) {
        snprintf(load.exchange, sizeof(load.exchange), "bench-%08x", load.ps.run);
        exchange.exchange = slice_from_text(load.exchange);
        amqp_link_call(&load.control, &exchange, AMQP_EXCHANGE_DECLARE_OK, &answer);
    }
    for (unsigned i = 0; i < load.n_queues; i++) {
        if (load.queue)
            snprintf(load.queues[i], sizeof(load.queues[i]), "%s", load.queue);
        else
            snprintf(load.queues[i], sizeof(load.queues[i]), "bench-%08x-%u", load.ps.run, i);
        declare_queue(load.queues[i]);
    }
    if (!load.fanout)
        memcpy(load.routing_key, load.queues[0], sizeof(load.routing_key));
}

static void delete_all(void)
{
    struct amqp_method answer, delete = {.id = AMQP_QUEUE_DELETE};
    struct amqp_method exchange = {.id = AMQP_EXCHANGE_DELETE, .exchange = slice_from_text(load.exchange)};

    for (unsigned i = 0; i < load.n_queues && !load.queue; i++) {
        delete.queue = slice_from_text(load.queues[i]);
        amqp_link_call(&load.control, &delete, AMQP_QUEUE_DELETE_OK, &answer);
    }
    if (load.fanout)
        amqp_link_call(&load.control, &exchange, AMQP_EXCHANGE_DELETE_OK, &answer);
}

/* The frames of one message; its length. */
static size_t put_publish(char *at, size_t room, uint32_t frame_max, size_t *body_at)
{
    struct amqp_method publish = {.id = AMQP_BASIC_PUBLISH,
                                  .exchange = slice_from_text(load.exchange),
                                  .routing_key = slice_from_text(load.routing_key)};
    struct amqp_content content = {
        .body_bytes = load.size, .flags = 1u << AMQP_DELIVERY_MODE, .delivery_mode = load.transient ? 1 : 2};
    struct amqp_out out = amqp_out_of(at, room);
    size_t most = frame_max - AMQP_FRAME_OVERHEAD;

    amqp_put_method_frame(&out, AMQP_CHANNEL, &publish);
    amqp_put_content_frame(&out, AMQP_CHANNEL, &content);
    *body_at = (size_t)(out.at - at) + AMQP_FRAME_HEAD;
    for (size_t left = load.size; left;) {
        size_t n = left < most ? left : most;
        char *begin = amqp_begin_frame(&out), *body = amqp_out_reserve(&out, n);

        if (!body)
            fail("a message");
        memset(body, 'x', n);
        amqp_end_frame(&out, begin, AMQP_BODY, AMQP_CHANNEL);
        left -= n;
    }
    return (size_t)(out.at - at);
}

static void open_publishers(void)
{
    size_t room = load.size + load.size / 64 + 4096, body_at = 0, bytes = 0;
    char *message = calloc(1, room);
    struct amqp_method answer, select = {.id = AMQP_CONFIRM_SELECT};

    load.ps.n = (unsigned)load.publishers;
    load.ps.window = load.preload && !load.window ? PRELOAD_WINDOW : load.window;
    load.ps.all = calloc(load.ps.n + 1, sizeof(*load.ps.all));
    load.links = calloc(load.ps.n + 1, sizeof(*load.links));
    load.redis_links = calloc(load.redis ? load.ps.n : 1, sizeof(*load.redis_links));
    if (!message || !load.ps.all || !load.links || !load.redis_links)
        fail("calloc");
    for (unsigned i = 0; i < load.ps.n; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.u64 = i};

        if (load.redis) {
            redis_link_open(&load.redis_links[i], load.login.host, load.login.port);
        } else {
            amqp_link_open(&load.links[i], &load.login);
            if (load.ps.window)
                amqp_link_call(&load.links[i], &select, AMQP_CONFIRM_SELECT_OK, &answer);
            amqp_link_unblock(&load.links[i]);
        }
        load.ps.all[i].fd = load.redis ? load.redis_links[i].fd : load.links[i].fd;
        if (epoll_ctl(load.ps.epoll, EPOLL_CTL_ADD, load.ps.all[i].fd, &event) != 0)
            fail("epoll_ctl");
    }
    if (load.redis)
        bytes = redis_put_request(message, load.queue ? load.queue : "bench", load.size, &body_at);
    else
        bytes = put_publish(message, room, load.links[0].limits.body, &body_at);
    publishers_open(&load.ps, message, bytes, body_at);
    free(message);
}

static void open_consumers(void)
{
    load.cs.n = (unsigned)load.consumers;
    load.cs.n_queues = load.n_queues;
    load.cs.n_publishers = load.ps.n;
    load.cs.epoll = load.ps.epoll;
    load.cs.first_id = load.ps.n;
    load.cs.run = load.ps.run;
    load.cs.prefetch = load.prefetch;
    load.cs.ack_every = load.ack_every;
    consumers_open(&load.cs, &load.login);
}

/* ---- the load ------------------------------------------------------------------------------------------------ */

static void take_confirms(struct publisher *p, struct amqp_link *link)
{
    uint64_t now = now_ns();
    struct amqp_frame frame;
    struct amqp_method method;

    while (amqp_link_take(link, &frame)) {
        if (frame.type == AMQP_HEARTBEAT)
            continue;
        amqp_link_method(frame, &method);
        if (method.id == AMQP_BASIC_ACK || method.id == AMQP_BASIC_NACK)
            publisher_answered(&load.ps, p, method.delivery_tag, method.multiple, method.id == AMQP_BASIC_ACK,
                               now);
        else
            amqp_link_pass_over(&method);
    }
}

static void handle_publisher(struct publisher *p, uint32_t events)
{
    if (events & EPOLLOUT)
        publisher_unstick(&load.ps, p);
    if (!(events & ~(uint32_t)EPOLLOUT))
        return;
    if (load.redis) {
        uint64_t n = redis_link_read(&load.redis_links[p->id]);

        if (n)
            publisher_answered(&load.ps, p, p->oldest + n - 1, true, true, now_ns());
    } else if (amqp_link_read(&load.links[p->id])) {
        take_confirms(p, &load.links[p->id]);
    }
}

/* Publishes what may be published, then waits until until_ns at the most, and handles what came. */
static void turn(uint64_t until_ns)
{
    struct epoll_event events[BATCH];
    uint64_t now = now_ns(), next = publishers_work(&load.ps, now), wait_ns;
    struct timespec timeout;
    int n;

    next = next < until_ns ? next : until_ns;
    wait_ns = next > now ? next - now : 0;
    timeout = (struct timespec){(time_t)(wait_ns / SECOND_NS), (long)(wait_ns % SECOND_NS)};
    n = epoll_pwait2(load.ps.epoll, events, BATCH, &timeout, NULL);
    for (int i = 0; i < n; i++) {
        uint64_t id = events[i].data.u64;

        if (id < load.ps.n)
            handle_publisher(&load.ps.all[id], events[i].events);
        else
            consumer_handle(&load.cs, &load.cs.all[id - load.ps.n], events[i].events);
    }
}

/* Without publishers: what --count says, of whatever is there. */
static uint64_t expected_deliveries(void)
{
    uint64_t messages = load.preload ? load.preload : load.ps.published - load.ps.nacked;

    if (!load.ps.n)
        return load.count;
    return load.consuming ? messages * load.n_queues : 0;
}

static bool all_arrived(void)
{
    uint64_t came = load.cs.delivered + (load.ps.n ? 0 : load.cs.foreign);

    if (!load.ps.n && !load.count)
        return false;
    return publishers_settled(&load.ps) && came >= expected_deliveries();
}

/* Turns until all was sent, confirmed and delivered, or end_ns, or nothing moves any more. */
static void run_until(uint64_t end_ns)
{
    uint64_t moved_ns = now_ns(), before = 0, now;

    while ((now = now_ns()) < end_ns && now < moved_ns + QUIET_NS && (load.ps.left || !all_arrived())) {
        uint64_t moves =
            load.ps.published + load.ps.confirmed + load.ps.nacked + load.cs.delivered + load.cs.foreign;

        if (moves != before)
            moved_ns = now;
        before = moves;
        turn(end_ns < moved_ns + QUIET_NS ? end_ns : moved_ns + QUIET_NS);
    }
}

static void run_preload(void)
{
    uint64_t start = now_ns();

    publishers_start(&load.ps, start, 0, load.preload);
    run_until(NEVER);
    load.preload_seconds = (double)(now_ns() - start) / 1e9;
    if (load.ps.confirmed != load.preload) {
        fprintf(stderr, "preload: %llu of %llu were confirmed\n", (unsigned long long)load.ps.confirmed,
                (unsigned long long)load.preload);
        exit(1);
    }
}

static void publish(void)
{
    uint64_t all = load.count ? load.count : load.rate ? load.rate * load.seconds : NEVER;
    uint64_t end = load.start_ns + load.seconds * SECOND_NS;

    publishers_start(&load.ps, load.start_ns, load.rate, all);
    run_until(load.count ? NEVER : load.rate ? end + LATE_NS : end);
    load.unsent = load.rate || load.count ? load.ps.left : 0;
    load.ps.left = 0;
}

static double cpu_seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void run_measured(void)
{
    double cpu = cpu_seconds();

    load.start_ns = now_ns();
    if (load.preload) {
        publishers_start(&load.ps, load.start_ns, 0, 0);
        load.consuming = load.cs.n != 0;
        consumers_begin(&load.cs, load.queues);
    } else if (load.ps.n) {
        publish();
    }
    run_until(load.ps.n || load.count ? NEVER : load.start_ns + load.seconds * SECOND_NS);
    load.cpu_seconds = cpu_seconds() - cpu;
}

/* ---- the result ---------------------------------------------------------------------------------------------- */

static double seconds_until(uint64_t last_ns)
{
    return last_ns > load.start_ns ? (double)(last_ns - load.start_ns) / 1e9 : 0;
}

static void print_count(const char *name, uint64_t n)
{
    printf("\"%s\": %llu, ", name, (unsigned long long)n);
}

static void print_real(const char *name, double value)
{
    printf("\"%s\": %.6f, ", name, value);
}

static void print_latencies(const char *name, const struct histogram *h)
{
    static const struct {
        const char *name;
        double share;
    } percentiles[] = {{"p50", 0.50}, {"p90", 0.90}, {"p99", 0.99}, {"p999", 0.999}};

    for (size_t i = 0; i < sizeof percentiles / sizeof percentiles[0]; i++)
        printf("\"%s_%s_us\": %.1f, ", name, percentiles[i].name, histogram_us(h, percentiles[i].share));
    printf("\"%s_max_us\": %.1f, ", name, (double)h->max_ns / 1e3);
}

static uint64_t unanswered(void)
{
    uint64_t n = 0;

    for (unsigned i = 0; i < load.ps.n; i++)
        n += load.ps.all[i].in_flight;
    return n;
}

static void print_result(void)
{
    const struct publishers *ps = &load.ps;
    const struct consumers *cs = &load.cs;
    double published = seconds_until(ps->last_ns ? ps->last_ns : ps->sent_ns),
           delivered = seconds_until(cs->last_ns);
    uint64_t confirmed = ps->window ? ps->confirmed : ps->published;
    uint64_t came = cs->delivered + (ps->n ? 0 : cs->foreign) - cs->duplicates,
             expected = expected_deliveries();

    printf("{");
    print_count("published", ps->published);
    print_count("confirmed", ps->confirmed);
    print_count("nacked", ps->nacked);
    print_count("unsent", load.unsent);
    print_count("delivered", cs->delivered);
    print_count("missing", expected > came ? expected - came : 0);
    print_count("redelivered", cs->redelivered);
    print_count("disordered", cs->disordered);
    print_count("duplicates", cs->duplicates);
    print_count("foreign", cs->foreign);
    print_count("errors", ps->strange + unanswered());
    print_real("publish_seconds", published);
    print_real("deliver_seconds", delivered);
    print_real("published_per_second", published > 0 ? (double)confirmed / published : 0);
    print_real("delivered_per_second", delivered > 0 ? (double)cs->delivered / delivered : 0);
    print_latencies("confirm", &ps->latencies);
    print_latencies("deliver", &cs->latencies);
    print_real("preload_seconds", load.preload_seconds);
    print_real("cpu_seconds", load.cpu_seconds);
    printf("\"seconds\": %.6f}\n", published > delivered ? published : delivered);
}

/* Its end will do, too. */
static void wait_for_line(void)
{
    fflush(stdout);
    for (int c = 0; load.waits && c != '\n' && c != EOF;)
        c = getchar();
}

/* ---- the program --------------------------------------------------------------------------------------------- */

static const char usage_text[] =
    "amqp_load --port N [--host H] [--user U] [--password P] [--vhost V] [--redis]\n"
    "                 [--queue NAME] [--queue-type classic|quorum] [--fanout QUEUES] [--transient]\n"
    "                 [--publishers N] [--consumers N] [--size BYTES] [--window N] [--prefetch N] "
    "[--ack-every N]\n"
    "                 [--rate N] [--seconds N | --count N | --preload N] [--check-order] [--wait]";

static void check_options(void)
{
    bool redis_can = !load.consumers && !load.fanout && load.window;

    if (!load.login.port || (load.redis && !redis_can))
        usage(usage_text);
    if (load.preload && (load.rate || load.count || !load.consumers || !load.publishers))
        usage(usage_text);
    if (!load.publishers && !load.consumers)
        usage(usage_text);
    if (load.prefetch && load.ack_every > load.prefetch) {
        fprintf(stderr, "--ack-every is over --prefetch: the server would wait for ever\n");
        exit(2);
    }
    if (load.queue && (load.fanout || strlen(load.queue) >= sizeof(load.routing_key)))
        usage(usage_text);
}

static void read_options(int argc, char **argv)
{
    static const struct {
        const char *name;
        uint64_t *value;
        uint64_t low, high;
    } numbers[] = {
        {"--publishers", &load.publishers, 0, 10000}, {"--consumers", &load.consumers, 0, 10000},
        {"--fanout", &load.fanout, 1, QUEUES_MAX},    {"--size", &load.size, sizeof(struct stamp), 64u << 20},
        {"--window", &load.window, 0, 1000000},       {"--rate", &load.rate, 0, 10000000},
        {"--seconds", &load.seconds, 1, 3600},        {"--count", &load.count, 1, 1000000000},
        {"--preload", &load.preload, 1, 1000000000},  {"--prefetch", &load.prefetch, 0, 65535},
        {"--ack-every", &load.ack_every, 0, 65535},
    };
    static const struct {
        const char *name;
        const char **value;
    } texts[] = {
        {"host", &load.login.host},         {"port", &load.login.port},   {"user", &load.login.user},
        {"password", &load.login.password}, {"vhost", &load.login.vhost}, {"queue", &load.queue},
        {"queue-type", &load.queue_type},
    };
    static const struct {
        const char *name;
        bool *value;
    } flags[] = {
        {"redis", &load.redis},
        {"wait", &load.waits},
        {"check-order", &load.cs.checks},
        {"transient", &load.transient},
    };
    enum { NUMBERS = sizeof numbers / sizeof numbers[0], TEXTS = sizeof texts / sizeof texts[0] };
    enum { FLAGS = sizeof flags / sizeof flags[0], ALL = NUMBERS + TEXTS + FLAGS };
    struct option names[ALL + 1] = {{0}};

    for (int i = 0; i < NUMBERS; i++)
        names[i] = (struct option){numbers[i].name + 2, required_argument, NULL, i};
    for (int i = 0; i < TEXTS; i++)
        names[NUMBERS + i] = (struct option){texts[i].name, required_argument, NULL, NUMBERS + i};
    for (int i = 0; i < FLAGS; i++)
        names[NUMBERS + TEXTS + i] = (struct option){flags[i].name, no_argument, NULL, NUMBERS + TEXTS + i};
    for (int option; (option = getopt_long(argc, argv, "", names, NULL)) != -1;) {
        if (option < NUMBERS)
            *numbers[option].value =
                parse_number(numbers[option].name, optarg, numbers[option].low, numbers[option].high);
        else if (option < NUMBERS + TEXTS)
            *texts[option - NUMBERS].value = optarg;
        else if (option < ALL)
            *flags[option - NUMBERS - TEXTS].value = true;
        else
            usage(usage_text);
    }
    if (optind != argc)
        usage(usage_text);
    check_options();
}

int main(int argc, char **argv)
{
    read_options(argc, argv);
    raise_fd_limit();
    prctl(PR_SET_TIMERSLACK, 1ul); /* ns: the fixed rate must not be late by the default 50 us */
    load.ps.epoll = epoll_create1(EPOLL_CLOEXEC);
    load.ps.run = (uint32_t)now_ns() ^ (uint32_t)getpid() << 16;
    if (!load.redis)
        declare_all();
    open_publishers();
    if (!load.redis)
        open_consumers();
    if (load.preload)
        run_preload();
    else
        consumers_begin(&load.cs, load.queues);
    load.consuming = !load.preload && load.cs.n;
    if (load.waits)
        puts("ready");
    wait_for_line();
    run_measured();
    print_result();
    wait_for_line();
    if (!load.redis) {
        consumers_finish(&load.cs);
        delete_all();
    }
    return 0;
}
