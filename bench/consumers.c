/* consumers.c - see consumers.h. */
#include "consumers.h"

#include <fcntl.h>

#include "common.h"

#define UNSENT_MAX \
    (64u << 10) /* of acknowledgements, beyond which nothing is read: a read's worth more has room */

static void *must_allocate(size_t n, size_t bytes)
{
    void *memory = calloc(n, bytes);

    if (!memory)
        fail("calloc");
    return memory;
}

void consumers_open(struct consumers *cs, const struct amqp_login *login)
{
    struct amqp_method qos = {.id = AMQP_BASIC_QOS, .prefetch_count = (uint16_t)cs->prefetch}, answer;

    cs->all = must_allocate(cs->n + 1, sizeof(*cs->all));
    if (cs->checks)
        cs->seen = must_allocate((size_t)cs->n_queues * cs->n_publishers, sizeof(*cs->seen));
    for (unsigned i = 0; i < cs->n; i++) {
        struct consumer *c = &cs->all[i];

        amqp_link_open(&c->link, login);
        amqp_link_call(&c->link, &qos, AMQP_BASIC_QOS_OK, &answer);
        c->queue = i % cs->n_queues;
        c->last = must_allocate(cs->n_publishers, sizeof(*c->last));
    }
}

/* ---- checks -------------------------------------------------------------------------------------------------- */

static void grow(struct seen *seen, uint64_t words)
{
    uint64_t more = 2 * words + 1024;

    seen->bits = realloc(seen->bits, more * sizeof(*seen->bits));
    if (!seen->bits)
        fail("realloc");
    memset(seen->bits + seen->words, 0, (more - seen->words) * sizeof(*seen->bits));
    seen->words = more;
}

static void check(struct consumers *cs, struct consumer *c)
{
    uint32_t publisher = c->stamp.publisher;
    uint64_t number = c->stamp.number, bit = 1ull << number % 64;
    struct seen *seen = &cs->seen[(size_t)c->queue * cs->n_publishers + publisher];

    if (number / 64 >= seen->words)
        grow(seen, number / 64);
    if (seen->bits[number / 64] & bit)
        cs->duplicates++;
    seen->bits[number / 64] |= bit;
    if (number <= c->last[publisher] && !c->redelivered)
        cs->disordered++;
    c->last[publisher] = number;
}

/* ---- deliveries ---------------------------------------------------------------------------------------------- */

static void acknowledge(struct consumer *c)
{
    struct amqp_method ack = {.id = AMQP_BASIC_ACK, .delivery_tag = c->tag, .multiple = c->unacked > 1};

    amqp_link_put(&c->link, &ack);
    c->unacked = 0;
}

static void count_delivery(struct consumers *cs, struct consumer *c, uint64_t now)
{
    c->in_body = false;
    if (c->stamp_bytes < sizeof(c->stamp) || c->stamp.run != cs->run ||
        c->stamp.publisher >= cs->n_publishers) {
        cs->foreign++;
    } else {
        cs->delivered++;
        cs->redelivered += c->redelivered;
        histogram_add(&cs->latencies, now - c->stamp.due_ns);
        if (cs->checks)
            check(cs, c);
    }
    if (cs->ack_every && ++c->unacked >= cs->ack_every)
        acknowledge(c);
}

static void take_body(struct consumers *cs, struct consumer *c, struct slice body, uint64_t now)
{
    size_t missing = sizeof(c->stamp) - c->stamp_bytes, n = body.len < missing ? body.len : missing;

    memcpy((char *)&c->stamp + c->stamp_bytes, body.ptr, n);
    c->stamp_bytes += n;
    c->body_left -= body.len < c->body_left ? body.len : c->body_left;
    if (!c->body_left)
        count_delivery(cs, c, now);
}

static void take_content(struct consumers *cs, struct consumer *c, struct slice payload, uint64_t now)
{
    struct amqp_content content;
    const char *why;

    if (amqp_take_content(payload, &content, &why) != AMQP_OK) {
        fprintf(stderr, "a content header: %s\n", why);
        exit(1);
    }
    c->stamp_bytes = 0;
    c->body_left = content.body_bytes;
    c->in_body = true;
    if (!c->body_left)
        count_delivery(cs, c, now);
}

static void take_method(struct consumer *c, struct amqp_frame frame)
{
    struct amqp_method method;

    amqp_link_method(frame, &method);
    if (method.id == AMQP_BASIC_DELIVER) {
        c->tag = method.delivery_tag;
        c->redelivered = method.redelivered;
    } else {
        amqp_link_pass_over(&method);
    }
}

static void take_frames(struct consumers *cs, struct consumer *c)
{
    uint64_t now = now_ns();
    struct amqp_frame frame;

    while (amqp_link_take(&c->link, &frame)) {
        cs->last_ns = now;
        if (frame.type == AMQP_BODY && c->in_body)
            take_body(cs, c, frame.payload, now);
        else if (frame.type == AMQP_CONTENT_HEADER)
            take_content(cs, c, frame.payload, now);
        else if (frame.type != AMQP_HEARTBEAT)
            take_method(c, frame);
    }
}

/* ---- the socket ---------------------------------------------------------------------------------------------- */

static void wait_for(struct consumers *cs, struct consumer *c)
{
    size_t unsent = amqp_link_unsent(&c->link);
    uint32_t wanted = (unsent ? EPOLLOUT : 0) | (unsent < UNSENT_MAX ? EPOLLIN : 0);
    struct epoll_event event = {.events = wanted, .data.u64 = cs->first_id + (uint64_t)(c - cs->all)};

    if (wanted == c->events)
        return;
    if (epoll_ctl(cs->epoll, c->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, c->link.fd, &event) != 0)
        fail("epoll_ctl");
    c->events = wanted;
}

void consumers_begin(struct consumers *cs, char (*queues)[64])
{
    struct amqp_method answer, consume = {.id = AMQP_BASIC_CONSUME, .no_ack = !cs->ack_every};

    for (unsigned i = 0; i < cs->n; i++) {
        struct consumer *c = &cs->all[i];

        consume.queue = slice_from_text(queues[c->queue]);
        amqp_link_call(&c->link, &consume, AMQP_BASIC_CONSUME_OK, &answer);
        amqp_link_unblock(&c->link);
        take_frames(cs, c); /* that came with the answer */
        amqp_link_flush(&c->link);
        wait_for(cs, c);
    }
}

void consumer_handle(struct consumers *cs, struct consumer *c, uint32_t events)
{
    if (events & ~(uint32_t)EPOLLOUT && amqp_link_unsent(&c->link) < UNSENT_MAX && amqp_link_read(&c->link))
        take_frames(cs, c);
    amqp_link_flush(&c->link);
    wait_for(cs, c);
}

void consumers_finish(struct consumers *cs)
{
    struct amqp_method answer, close = {.id = AMQP_CHANNEL_CLOSE, .reply_code = AMQP_SUCCESS};

    for (unsigned i = 0; i < cs->n; i++) {
        struct amqp_link *link = &cs->all[i].link;
        struct amqp_frame frame;

        if (cs->all[i].unacked)
            acknowledge(&cs->all[i]);
        if (fcntl(link->fd, F_SETFL, 0) != 0)
            fail("fcntl");
        amqp_link_put(link, &close);
        amqp_link_flush(link);
        do {
            while (!amqp_link_take(link, &frame))
                if (!amqp_link_read(link))
                    fail("channel.close");
            answer.id = 0;
            if (frame.type == AMQP_METHOD)
                amqp_link_method(frame, &answer);
        } while (answer.id != AMQP_CHANNEL_CLOSE_OK);
    }
}
