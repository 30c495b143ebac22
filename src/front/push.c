/* push.c - see push.h. */
#include "front/push.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "balance/fetch.h"
#include "base/clock.h"
#include "base/log.h"
#include "front/push_fields.h"
#include "queue/body.h"
#include "wire/http1.h"

/* How long the push rests when no server is usable, and when all are full. */
#define DOWN_US US_PER_S
#define FULL_US (100 * US_PER_MS)
/* A Retry-After is heeded up to this. */
#define RETRY_AFTER_MOST_US (UINT64_C(3600) * US_PER_S)
/* How long to wait before another try to subscribe. */
#define SUBSCRIBE_US (100 * US_PER_MS)
/* For good. */
#define STOPPED_US (UINT64_C(365) * 24 * 3600 * US_PER_S)

/* One message on its way. */
struct delivering {
    struct list list;
    struct push *push;
    struct push_aim aim; /* its scene is held */
    struct queue_delivery *delivery;
    struct queue_reader *reader; /* of its body, where that has a file; owned */
    struct fiber *fiber;
    struct arena arena;
};

/* ---- the request ------------------------------------------------------------------------------------------------- */

static struct slice find_or(struct slice head, enum envelope_tag tag, struct slice other)
{
    struct slice value = envelope_find(head, tag);

    return value.len ? value : other;
}

/* The body's next piece from its file. */
static int next_piece(void *arg, bool first, struct slice *piece)
{
    struct delivering *d = arg;
    int result;

    if (!d->reader)
        d->reader = queue_reader_create(d->push->port, &d->delivery->body, true);
    if (!d->reader)
        return -ENOMEM;
    if (first)
        queue_reader_rewind(d->reader);
    result = queue_reader_next(d->reader, piece);
    if (result == 1)
        return 0;
    if (result == -ECANCELED) {
        d->reader = NULL;
        return result;
    }
    log_line(LOG_ERROR,
             "push: the body of message %llu of queue %s cannot be read: %s; run `maitred log check`",
             (unsigned long long)d->delivery->ref.number, d->push->name, strerror(-result));
    return -ENOBUFS;
}

/* ---- the answer -------------------------------------------------------------------------------------------------- */

static const struct http_field *find_field(const struct http_fields *fields, const char *name)
{
    return http_field_find(fields, slice_from_text(name));
}

/* Seconds, or a date; 0: there is none, or it is over. */
static uint64_t retry_after_us(const struct http_fields *fields)
{
    const struct http_field *field = find_field(fields, "Retry-After");
    uint64_t seconds = 0;
    char text[64];
    struct tm when = {0};
    time_t at;

    if (!field)
        return 0;
    if (!slice_to_u64(field->value, &seconds) && field->value.len < sizeof text) {
        memcpy(text, field->value.ptr, field->value.len);
        text[field->value.len] = '\0';
        if (strptime(text, "%a, %d %b %Y %H:%M:%S GMT", &when)) {
            at = timegm(&when);
            seconds = at > time(NULL) ? (uint64_t)(at - time(NULL)) : 0;
        }
    }
    return seconds < RETRY_AFTER_MOST_US / US_PER_S ? seconds * US_PER_S : RETRY_AFTER_MOST_US;
}

static bool is_deadly(const struct config_push *config, unsigned status)
{
    for (size_t i = 0; i < config->n_dead_on; i++)
        if (status >= config->dead_on[i].low && status <= config->dead_on[i].high)
            return true;
    return false;
}

/* What of an answer goes to whoever waits for it. */
static bool is_passed_on(const struct http_field *field)
{
    return !field->hop_by_hop && field->id != FIELD_CONTENT_LENGTH && field->id != FIELD_DATE &&
           field->id != FIELD_TRANSFER_ENCODING && field->id != FIELD_TRAILER;
}

/* NULL: no memory, and whoever waits hears 202. */
static struct queue_answer *keep_answer(const struct fetch *fetch)
{
    struct queue_answer *answer;
    size_t n = 0;
    char *at;

    for (unsigned i = 0; i < fetch->answer_fields.count; i++)
        if (is_passed_on(&fetch->answer_fields.at[i]))
            n += ENVELOPE_ITEM_OVERHEAD + fetch->answer_fields.at[i].name.len +
                 fetch->answer_fields.at[i].value.len;
    answer = malloc(sizeof *answer + n + fetch->answer.len);
    if (!answer)
        return NULL;
    at = answer->block;
    for (unsigned i = 0; i < fetch->answer_fields.count; i++)
        if (is_passed_on(&fetch->answer_fields.at[i]))
            at = envelope_put(at, &(struct envelope_item){ENVELOPE_FIELD, fetch->answer_fields.at[i].name,
                                                          fetch->answer_fields.at[i].value});
    answer->status = fetch->status;
    answer->head = slice_of(answer->block, n);
    if (fetch->answer.len)
        memcpy(at, fetch->answer.ptr, fetch->answer.len);
    answer->body = slice_of(at, fetch->answer.len);
    return answer;
}

static enum queue_verdict put_off(struct queue_delivery *delivery, uint64_t delay_us, uint64_t hold_us)
{
    delivery->delay_us = delay_us;
    delivery->hold_us = hold_us;
    return VERDICT_RETURN;
}

static enum queue_verdict judge_answer(struct delivering *d, const struct fetch *fetch)
{
    uint64_t wait_us;

    if (fetch->status >= 200 && fetch->status < 300) {
        if (d->delivery->awaited && !fetch->answer_cut)
            d->delivery->answer = keep_answer(fetch);
        return VERDICT_ACK;
    }
    wait_us = fetch->status == 429 || fetch->status == 503 ? retry_after_us(&fetch->answer_fields) : 0;
    if (fetch->status == 429 && !wait_us)
        wait_us = US_PER_S;
    if (wait_us)
        return put_off(d->delivery, wait_us, wait_us);
    return is_deadly(d->aim.config, fetch->status) ? VERDICT_REJECT : VERDICT_RETRY;
}

static void count_timeout(struct push *push, int error, const struct fetch *fetch)
{
    if (!error)
        push->timeouts = 0;
    else
        push->timeouts += error == -ETIMEDOUT && fetch->sent;
}

static enum queue_verdict judge(struct delivering *d, int error, const struct fetch *fetch)
{
    count_timeout(d->push, error, fetch);
    if (!error)
        return judge_answer(d, fetch);
    if (error == -ECANCELED)
        return put_off(d->delivery, 0, 0);
    if (error == -EAGAIN || (error == -ETIMEDOUT && !fetch->sent))
        return put_off(d->delivery, 0, FULL_US);
    if (error == -EHOSTUNREACH || !fetch->sent)
        return put_off(d->delivery, 0, DOWN_US);
    if (error == -ECONNRESET && d->push->forgives)
        return put_off(d->delivery, 0, 0);
    return VERDICT_RETRY;
}

/* ---- one delivery ------------------------------------------------------------------------------------------------ */

static enum queue_verdict ask_pool(struct delivering *d)
{
    const struct config_push *config = d->aim.config;
    const struct message *m = &d->delivery->message;
    struct slice client = envelope_find(m->head, ENVELOPE_CLIENT);
    struct fetch_body pieces = {m->stored.bytes, next_piece, d};
    struct http_fields fields;
    struct fetch fetch = {
        .method = find_or(m->head, ENVELOPE_METHOD, SLICE("POST")),
        .target =
            config->path ? slice_from_text(config->path) : find_or(m->head, ENVELOPE_TARGET, SLICE("/")),
        .authority = find_or(m->head, ENVELOPE_AUTHORITY, SLICE("")),
        .fields = &fields,
        .body = m->body,
        .pieces = m->stored.id ? &pieces : NULL,
        .timeout_us = config->timeout_us,
        .answer_max = d->delivery->awaited ? config->max_answer : 0,
        .arena = &d->arena,
    };

    if (!push_fields(&d->arena, d->push->port, d->push->name, d->delivery, &fields))
        return put_off(d->delivery, DOWN_US, 0);
    if (client.len == sizeof fetch.client)
        memcpy(&fetch.client, client.ptr, sizeof fetch.client);
    return judge(d, fetch_run(d->aim.pool, &fetch), &fetch);
}

/* It stays a consumer for as long as one of its messages is on its way: so that it can still be acknowledged. */
static void finish_if_done(struct push *push)
{
    if (!push->stopping || push->on_their_way || push->fiber)
        return;
    if (push->consumer)
        queue_unsubscribe(push->consumer);
    push->consumer = NULL;
    push->ended(push);
}

uint64_t push_busy_us(const struct push *push)
{
    return push->busy_us + push->on_their_way * (loop_now_us() - push->changed_us);
}

/* One more, or one less, is on its way. */
static void change_number(struct push *push, unsigned n)
{
    push->busy_us = push_busy_us(push);
    push->changed_us = loop_now_us();
    push->on_their_way = n;
}

static void delivering_main(void *arg)
{
    struct delivering *d = arg;
    struct push *push = d->push;
    enum queue_verdict verdict;

    d->fiber = fiber_self();
    verdict = ask_pool(d);
    queue_settle(d->delivery, verdict);
    queue_reader_free(d->reader);
    arena_free(&d->arena);
    if (d->aim.scene)
        scene_release(d->aim.scene);
    list_remove(&d->list);
    free(d);
    push->handled += verdict != VERDICT_RETURN;
    change_number(push, push->on_their_way - 1);
    finish_if_done(push);
}

static void deliver(void *arg, struct queue_delivery *delivery)
{
    struct push *push = arg;
    struct delivering *d = push->stopping ? NULL : calloc(1, sizeof *d);

    if (d)
        *d = (struct delivering){.push = push, .aim = push->aim, .delivery = delivery};
    if (!d || fiber_start("push", delivering_main, d) != 0) {
        free(d);
        queue_settle(delivery, put_off(delivery, 0, DOWN_US));
        return;
    }
    if (d->aim.scene)
        scene_hold(d->aim.scene);
    list_push_back(&push->deliveries, &d->list);
    change_number(push, push->on_their_way + 1);
}

/* ---- a push ------------------------------------------------------------------------------------------------------ */

static struct queue_consumer_options options_of(struct push *push)
{
    const struct config_push *config = push->aim.config;

    return (struct queue_consumer_options){
        .prefetch = config->concurrency,
        .rate = config->rate,
        .burst = config->burst,
        .deliver = deliver,
        .arg = push,
    };
}

static void push_main(void *arg)
{
    struct push *push = arg;

    push->fiber = fiber_self();
    while (!push->stopping && !push->consumer) {
        struct queue_consumer_options options = options_of(push);
        int error = queue_subscribe(push->port, slice_from_text(push->name), &options, &push->consumer);

        if (error && !push->stopping)
            fiber_sleep_until(loop_now_us() + SUBSCRIBE_US);
    }
    push->fiber = NULL;
    finish_if_done(push);
}

struct push_aim push_aim_of(struct scene *scene, const struct config_queue *queue)
{
    size_t pool = (size_t)(queue->push.pool - scene->generation->config->pools);

    return (struct push_aim){.scene = scene, .pool = scene->pools[pool], .config = &queue->push};
}

struct push *push_create(struct queue_port *port, const char *queue, const struct push_aim *aim)
{
    struct push *push = calloc(1, sizeof *push);

    if (!push)
        return NULL;
    push->port = port;
    push->aim = *aim;
    push->changed_us = loop_now_us();
    list_init(&push->list);
    list_init(&push->deliveries);
    push->name = strdup(queue);
    if (!push->name || fiber_start("push", push_main, push) != 0) {
        free(push->name);
        free(push);
        return NULL;
    }
    return push;
}

void push_enter(struct push *push, const struct push_aim *aim)
{
    struct queue_consumer_options options;

    push->aim = *aim;
    options = options_of(push);
    if (push->consumer)
        queue_consumer_change(push->consumer, &options);
}

void push_stop(struct push *push)
{
    if (push->stopping)
        return;
    push->stopping = true;
    if (push->consumer)
        queue_hold(push->consumer, STOPPED_US);
    if (push->fiber)
        fiber_wake(push->fiber);
    finish_if_done(push);
}

void push_hurry(struct push *push)
{
    for (struct list *at = push->deliveries.next; at != &push->deliveries; at = at->next) {
        struct delivering *d = container_of(at, struct delivering, list);

        if (d->fiber)
            fiber_cancel(d->fiber);
    }
}

void push_free(struct push *push)
{
    assert(!push->on_their_way && !push->fiber);
    free(push->name);
    free(push);
}
