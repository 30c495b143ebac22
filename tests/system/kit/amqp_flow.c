/* amqp_flow.c - a program on rabbitmq-c, as its users write one; test_amqp_c.py builds it and reads what it says.
 *
 * Usage: amqp_flow PORT PREFIX steps    one thing after the other, a line for each; ends with 1 at what goes wrong
 *        amqp_flow PORT PREFIX loop     publishes numbers and consumes them until its input ends and all that was
 *                                       confirmed has come; when the connection is lost it opens another, declares
 *                                       everything again, and publishes again what was not confirmed
 * PREFIX begins the names of its queues and exchanges. */
#include <amqp.h>
#include <amqp_tcp_socket.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#define NAME_SIZE 200
#define NUMBERS_MAX 1000000
#define UNDER_WAY_MAX 20
#define PATIENCE_S 20

enum { PUBLISHING = 1, CONSUMING = 2 }; /* channels */

static int port;
static const char *prefix;

static void say(const char *format, ...)
{
    va_list given;

    va_start(given, format);
    vprintf(format, given);
    va_end(given);
    putchar('\n');
    fflush(stdout);
}

/* PREFIX-what, in one of a few buffers that are used in turn. */
static amqp_bytes_t named(const char *what)
{
    static char names[8][NAME_SIZE];
    static unsigned next;
    char *name = names[next++ % 8];

    snprintf(name, NAME_SIZE, "%s-%s", prefix, what);
    return amqp_cstring_bytes(name);
}

/* Whether the last request was answered as it should be; says on stderr what came instead. */
static bool good(amqp_rpc_reply_t reply, const char *what)
{
    if (reply.reply_type == AMQP_RESPONSE_NORMAL)
        return true;
    if (reply.reply_type == AMQP_RESPONSE_SERVER_EXCEPTION)
        fprintf(stderr, "%s: refused, by method %#x\n", what, reply.reply.id);
    else
        fprintf(stderr, "%s: %s\n", what, amqp_error_string2(reply.library_error));
    return false;
}

static void need(bool condition, const char *what)
{
    if (condition)
        return;
    fprintf(stderr, "amqp_flow: %s\n", what);
    exit(1);
}

static void answered(amqp_connection_state_t connection, const char *what)
{
    need(good(amqp_get_rpc_reply(connection), what), what);
}

/* A connection that is logged in, with so many channels; NULL: there is none to be had now. */
static amqp_connection_state_t connected(int channels)
{
    amqp_connection_state_t connection = amqp_new_connection();
    amqp_socket_t *socket = amqp_tcp_socket_new(connection);
    struct timeval patience = {.tv_sec = PATIENCE_S};

    need(socket, "no memory");
    bool there =
        amqp_socket_open_noblock(socket, "127.0.0.1", port, &patience) == AMQP_STATUS_OK &&
        good(amqp_login(connection, "/", 0, 131072, 0, AMQP_SASL_METHOD_PLAIN, "guest", "guest"), "login");
    for (int number = 1; there && number <= channels; number++) {
        amqp_channel_open(connection, (amqp_channel_t)number);
        there = good(amqp_get_rpc_reply(connection), "channel.open");
    }
    if (there)
        return connection;
    amqp_destroy_connection(connection);
    return NULL;
}

static int publish(amqp_connection_state_t connection, amqp_bytes_t exchange, amqp_bytes_t key,
                   const char *body)
{
    amqp_basic_properties_t properties = {._flags =
                                              AMQP_BASIC_DELIVERY_MODE_FLAG | AMQP_BASIC_MESSAGE_ID_FLAG,
                                          .delivery_mode = AMQP_DELIVERY_PERSISTENT,
                                          .message_id = amqp_cstring_bytes(body)};

    return amqp_basic_publish(connection, PUBLISHING, exchange, key, true, false, &properties,
                              amqp_cstring_bytes(body));
}

/* --- steps */

/* The next frame with a method, which has to be this one, on this channel. */
static void *awaited(amqp_connection_state_t connection, amqp_channel_t channel, amqp_method_number_t id)
{
    struct timeval patience = {.tv_sec = PATIENCE_S};
    amqp_frame_t frame;
    int status = amqp_simple_wait_frame_noblock(connection, &frame, &patience);

    need(status == AMQP_STATUS_OK, amqp_error_string2(status));
    if (frame.frame_type != AMQP_FRAME_METHOD || frame.channel != channel || frame.payload.method.id != id) {
        fprintf(stderr, "type %d, channel %d, method %#x instead of %#x\n", frame.frame_type, frame.channel,
                frame.payload.method.id, id);
        exit(1);
    }
    return frame.payload.method.decoded;
}

/* Until the server has spoken for that tag. Alone or with those before it. */
static void await_confirm(amqp_connection_state_t connection, uint64_t tag)
{
    for (uint64_t upto = 0; upto < tag;) {
        amqp_basic_ack_t *ack = awaited(connection, PUBLISHING, AMQP_BASIC_ACK_METHOD);

        need(ack->multiple || ack->delivery_tag <= tag, "a tag that was not given");
        upto = ack->delivery_tag > upto ? ack->delivery_tag : upto;
    }
    say("confirmed up to %" PRIu64, tag);
}

static void declares(amqp_connection_state_t connection)
{
    amqp_table_entry_t dying = {.key = amqp_cstring_bytes("x-dead-letter-exchange"),
                                .value = {.kind = AMQP_FIELD_KIND_UTF8, .value = {.bytes = named("dead")}}};
    amqp_table_t arguments = {.num_entries = 1, .entries = &dying};

    amqp_exchange_declare(connection, PUBLISHING, named("orders"), amqp_cstring_bytes("topic"), false, true,
                          false, false, amqp_empty_table);
    answered(connection, "exchange.declare");
    amqp_exchange_declare(connection, PUBLISHING, named("dead"), amqp_cstring_bytes("fanout"), false, true,
                          false, false, amqp_empty_table);
    answered(connection, "exchange.declare");
    amqp_queue_declare_ok_t *declared =
        amqp_queue_declare(connection, PUBLISHING, named("orders"), false, true, false, false, arguments);
    answered(connection, "queue.declare");
    say("declared: %u messages, %u consumers", declared->message_count, declared->consumer_count);
    amqp_queue_declare(connection, PUBLISHING, named("dead"), false, true, false, false, amqp_empty_table);
    answered(connection, "queue.declare");
    amqp_queue_bind(connection, PUBLISHING, named("orders"), named("orders"), amqp_cstring_bytes("a.*"),
                    amqp_empty_table);
    answered(connection, "queue.bind");
    amqp_queue_bind(connection, PUBLISHING, named("dead"), named("dead"), amqp_empty_bytes, amqp_empty_table);
    answered(connection, "queue.bind");
    say("bound");
}

static void is_confirmed(amqp_connection_state_t connection)
{
    const char *words[] = {"one", "two", "three"};

    amqp_confirm_select(connection, PUBLISHING);
    answered(connection, "confirm.select");
    for (size_t number = 0; number < 3; number++)
        need(!publish(connection, named("orders"), amqp_cstring_bytes("a.b"), words[number]),
             "basic.publish");
    await_confirm(connection, 3);
}

static void is_returned(amqp_connection_state_t connection)
{
    amqp_message_t message;

    need(!publish(connection, named("orders"), amqp_cstring_bytes("nowhere"), "lost"), "basic.publish");
    amqp_basic_return_t *returned = awaited(connection, PUBLISHING, AMQP_BASIC_RETURN_METHOD);
    say("returned %d %.*s to %.*s", returned->reply_code, (int)returned->reply_text.len,
        (char *)returned->reply_text.bytes, (int)returned->routing_key.len,
        (char *)returned->routing_key.bytes);
    need(good(amqp_read_message(connection, PUBLISHING, &message, 0), "its content"),
         "content of basic.return");
    say("with %.*s, id %.*s", (int)message.body.len, (char *)message.body.bytes,
        (int)message.properties.message_id.len, (char *)message.properties.message_id.bytes);
    amqp_destroy_message(&message);
    amqp_basic_ack_t *ack = awaited(connection, PUBLISHING, AMQP_BASIC_ACK_METHOD);
    say("and confirmed %" PRIu64, ack->delivery_tag);
}

static void is_refused(amqp_connection_state_t connection)
{
    amqp_table_entry_t full[] = {
        {.key = amqp_cstring_bytes("x-max-length"),
         .value = {.kind = AMQP_FIELD_KIND_I32, .value = {.i32 = 0}}},
        {.key = amqp_cstring_bytes("x-overflow"),
         .value = {.kind = AMQP_FIELD_KIND_UTF8, .value = {.bytes = amqp_cstring_bytes("reject-publish")}}}};
    amqp_table_t arguments = {.num_entries = 2, .entries = full};

    amqp_queue_declare(connection, PUBLISHING, named("full"), false, false, true, false, arguments);
    answered(connection, "queue.declare");
    need(!publish(connection, amqp_empty_bytes, named("full"), "refused"), "basic.publish");
    amqp_basic_nack_t *nack = awaited(connection, PUBLISHING, AMQP_BASIC_NACK_METHOD);
    say("refused %" PRIu64, nack->delivery_tag);
}

/* Says what came, and returns its tag. */
static uint64_t delivered(amqp_connection_state_t connection)
{
    struct timeval patience = {.tv_sec = PATIENCE_S};
    amqp_envelope_t envelope;

    amqp_maybe_release_buffers(connection);
    need(good(amqp_consume_message(connection, &envelope, &patience, 0), "delivery"), "basic.deliver");
    say("delivered %.*s%s", (int)envelope.message.body.len, (char *)envelope.message.body.bytes,
        envelope.redelivered ? ", again" : "");
    uint64_t tag = envelope.delivery_tag;
    amqp_destroy_envelope(&envelope);
    return tag;
}

static void is_consumed(amqp_connection_state_t connection)
{
    uint64_t tags[3];

    amqp_basic_qos(connection, CONSUMING, 0, 10, false);
    answered(connection, "basic.qos");
    amqp_basic_consume(connection, CONSUMING, named("orders"), amqp_cstring_bytes("taker"), false, false,
                       false, amqp_empty_table);
    answered(connection, "basic.consume");
    for (size_t number = 0; number < 3; number++)
        tags[number] = delivered(connection);
    need(!amqp_basic_ack(connection, CONSUMING, tags[0], false), "basic.ack");
    need(!amqp_basic_nack(connection, CONSUMING, tags[2], false, false), "basic.nack");
    need(!amqp_basic_nack(connection, CONSUMING, tags[1], false, true), "basic.nack");
    need(!amqp_basic_ack(connection, CONSUMING, delivered(connection), false), "basic.ack");
    amqp_basic_cancel(connection, CONSUMING, amqp_cstring_bytes("taker"));
    answered(connection, "basic.cancel");
    say("cancelled");
}

/* One message from the queue, waiting for it; false: there is none. */
static bool gotten(amqp_connection_state_t connection, amqp_bytes_t queue, bool wait, amqp_message_t *message)
{
    for (int turn = 0; turn < PATIENCE_S * 100; turn++) {
        amqp_rpc_reply_t reply = amqp_basic_get(connection, CONSUMING, queue, true);

        need(good(reply, "basic.get"), "basic.get");
        if (reply.reply.id == AMQP_BASIC_GET_OK_METHOD) {
            amqp_basic_get_ok_t *ok = reply.reply.decoded;

            printf("got%s, %u more: ", ok->redelivered ? " again" : "", ok->message_count);
            need(good(amqp_read_message(connection, CONSUMING, message, 0), "its content"),
                 "content of basic.get-ok");
            say("%.*s", (int)message->body.len, (char *)message->body.bytes);
            return true;
        }
        if (!wait)
            return false;
        usleep(10000);
    }
    need(false, "nothing came");
    return false;
}

static const amqp_field_value_t *member(const amqp_table_t *table, const char *name)
{
    for (int number = 0; number < table->num_entries; number++) {
        amqp_bytes_t key = table->entries[number].key;

        if (key.len == strlen(name) && !memcmp(key.bytes, name, key.len))
            return &table->entries[number].value;
    }
    fprintf(stderr, "amqp_flow: no %s\n", name);
    exit(1);
}

static void say_text(const amqp_table_t *table, const char *name)
{
    const amqp_field_value_t *value = member(table, name);

    need(value->kind == AMQP_FIELD_KIND_UTF8, name);
    say("%s: %.*s", name, (int)value->value.bytes.len, (char *)value->value.bytes.bytes);
}

static void is_dead(amqp_connection_state_t connection)
{
    amqp_message_t message;

    gotten(connection, named("dead"), true, &message);
    const amqp_table_t *headers = &message.properties.headers;
    const amqp_field_value_t *deaths = member(headers, "x-death");
    need(deaths->kind == AMQP_FIELD_KIND_ARRAY && deaths->value.array.num_entries == 1, "one death");
    const amqp_field_value_t *death = &deaths->value.array.entries[0];
    need(death->kind == AMQP_FIELD_KIND_TABLE, "a death is a table");
    say_text(&death->value.table, "queue");
    say_text(&death->value.table, "exchange");
    say_text(&death->value.table, "reason");
    const amqp_field_value_t *keys = member(&death->value.table, "routing-keys");
    need(keys->kind == AMQP_FIELD_KIND_ARRAY && keys->value.array.num_entries == 1, "one key");
    say("key: %.*s", (int)keys->value.array.entries[0].value.bytes.len,
        (char *)keys->value.array.entries[0].value.bytes.bytes);
    const amqp_field_value_t *count = member(&death->value.table, "count");
    need(count->kind == AMQP_FIELD_KIND_I64, "count");
    say("count: %" PRId64, count->value.i64);
    need(member(&death->value.table, "time")->kind == AMQP_FIELD_KIND_TIMESTAMP, "time");
    say_text(headers, "x-first-death-reason");
    amqp_destroy_message(&message);
}

static void is_gotten(amqp_connection_state_t connection)
{
    amqp_message_t message;

    need(!publish(connection, named("orders"), amqp_cstring_bytes("a.c"), "four"), "basic.publish");
    need(!publish(connection, named("orders"), amqp_cstring_bytes("a.c"), "five"), "basic.publish");
    for (int number = 0; number < 2; number++) {
        gotten(connection, named("orders"), true, &message);
        amqp_destroy_message(&message);
    }
    need(!gotten(connection, named("orders"), false, &message), "one too many");
    say("empty");
}

/* The channel that an error closed can be opened again. */
static void goes_wrong(amqp_connection_state_t connection)
{
    amqp_queue_declare(connection, CONSUMING, named("nowhere"), true, false, false, false, amqp_empty_table);
    amqp_rpc_reply_t reply = amqp_get_rpc_reply(connection);
    need(reply.reply_type == AMQP_RESPONSE_SERVER_EXCEPTION && reply.reply.id == AMQP_CHANNEL_CLOSE_METHOD,
         "no error of the channel");
    amqp_channel_close_t *closed = reply.reply.decoded;
    say("closed: %d %.*s", closed->reply_code, (int)closed->reply_text.len, (char *)closed->reply_text.bytes);
    amqp_channel_close_ok_t ok = {0};
    need(!amqp_send_method(connection, CONSUMING, AMQP_CHANNEL_CLOSE_OK_METHOD, &ok), "channel.close-ok");
    amqp_channel_open(connection, CONSUMING);
    answered(connection, "channel.open");
    say("open again");
}

static int steps(void)
{
    amqp_connection_state_t connection = connected(CONSUMING);

    need(connection, "no connection");
    say("connected");
    declares(connection);
    is_confirmed(connection);
    is_returned(connection);
    is_refused(connection);
    is_consumed(connection);
    is_dead(connection);
    is_gotten(connection);
    goes_wrong(connection);
    need(good(amqp_connection_close(connection, AMQP_REPLY_SUCCESS), "close"), "connection.close");
    need(amqp_destroy_connection(connection) == AMQP_STATUS_OK, "destroy");
    say("closed");
    return 0;
}

/* --- loop */

static struct {
    bool confirmed[NUMBERS_MAX], come[NUMBERS_MAX];
    int count;               /* numbers that were published so far */
    int missing;             /* confirmed, and has not come */
    int by_tag[NUMBERS_MAX]; /* of this connection */
    uint64_t tag, answered;  /* last given; all up to there are answered */
} books;

/* The exchange is none that outlives the server: it and what was bound to it are made anew. */
static bool topology(amqp_connection_state_t connection)
{
    amqp_exchange_declare(connection, PUBLISHING, named("orders"), amqp_cstring_bytes("direct"), false, false,
                          false, false, amqp_empty_table);
    if (!good(amqp_get_rpc_reply(connection), "exchange.declare"))
        return false;
    amqp_queue_declare(connection, PUBLISHING, named("orders"), false, true, false, false, amqp_empty_table);
    if (!good(amqp_get_rpc_reply(connection), "queue.declare"))
        return false;
    amqp_queue_bind(connection, PUBLISHING, named("orders"), named("orders"), amqp_cstring_bytes("a"),
                    amqp_empty_table);
    if (!good(amqp_get_rpc_reply(connection), "queue.bind"))
        return false;
    amqp_confirm_select(connection, PUBLISHING);
    if (!good(amqp_get_rpc_reply(connection), "confirm.select"))
        return false;
    amqp_basic_qos(connection, CONSUMING, 0, UNDER_WAY_MAX, false);
    if (!good(amqp_get_rpc_reply(connection), "basic.qos"))
        return false;
    amqp_basic_consume(connection, CONSUMING, named("orders"), amqp_empty_bytes, false, false, false,
                       amqp_empty_table);
    return good(amqp_get_rpc_reply(connection), "basic.consume");
}

static bool send_number(amqp_connection_state_t connection, int number)
{
    char body[16];

    snprintf(body, sizeof body, "%d", number);
    books.by_tag[++books.tag] = number;
    return publish(connection, named("orders"), amqp_cstring_bytes("a"), body) == AMQP_STATUS_OK;
}

static void confirm(int number)
{
    if (books.confirmed[number])
        return;
    books.confirmed[number] = true;
    books.missing += !books.come[number];
    say("confirmed %d", number);
}

static void confirms(const amqp_basic_ack_t *ack)
{
    for (uint64_t tag = ack->multiple ? books.answered + 1 : ack->delivery_tag; tag <= ack->delivery_tag;
         tag++)
        confirm(books.by_tag[tag]);
    while (books.answered < books.tag && books.confirmed[books.by_tag[books.answered + 1]])
        books.answered++;
}

static bool takes(amqp_connection_state_t connection, const amqp_basic_deliver_t *deliver)
{
    uint64_t tag = deliver->delivery_tag;
    bool again = deliver->redelivered;
    char body[16] = "";
    amqp_message_t message;

    if (!good(amqp_read_message(connection, CONSUMING, &message, 0), "content"))
        return false;
    need(message.body.len < sizeof body, "a message of others");
    memcpy(body, message.body.bytes, message.body.len);
    amqp_destroy_message(&message);
    int number = atoi(body);
    need(number >= 0 && number < books.count, "a number of others");
    if (!books.come[number] && books.confirmed[number])
        books.missing--;
    books.come[number] = true;
    say("came %d%s", number, again ? " again" : "");
    return amqp_basic_ack(connection, CONSUMING, tag, false) == AMQP_STATUS_OK;
}

/* Whatever comes within a millisecond; false: the connection is lost. */
static bool listens(amqp_connection_state_t connection)
{
    struct timeval soon = {.tv_usec = 1000};
    amqp_frame_t frame;

    amqp_maybe_release_buffers(connection);
    int status = amqp_simple_wait_frame_noblock(connection, &frame, &soon);
    if (status == AMQP_STATUS_TIMEOUT)
        return true;
    if (status != AMQP_STATUS_OK || frame.frame_type != AMQP_FRAME_METHOD)
        return false;
    switch (frame.payload.method.id) {
    case AMQP_BASIC_ACK_METHOD:
        confirms(frame.payload.method.decoded);
        return true;
    case AMQP_BASIC_DELIVER_METHOD:
        return takes(connection, frame.payload.method.decoded);
    default:
        fprintf(stderr, "method %#x\n", frame.payload.method.id);
        return false;
    }
}

static bool told_to_end(void)
{
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};

    return poll(&input, 1, 0) > 0;
}

/* Whether it is done, not lost. */
static bool goes_on(amqp_connection_state_t connection)
{
    bool ending = false;

    books.tag = books.answered = 0;
    for (int number = 0; number < books.count; number++)
        if (!books.confirmed[number] && !send_number(connection, number))
            return false;
    while (!ending || books.answered < books.tag || books.missing) {
        ending = ending || told_to_end();
        if (!ending && books.tag - books.answered < UNDER_WAY_MAX && books.missing < UNDER_WAY_MAX &&
            books.count < NUMBERS_MAX - 1 && !send_number(connection, books.count++))
            return false;
        if (!listens(connection))
            return false;
    }
    return true;
}

static int loop(void)
{
    for (bool done = false; !done;) {
        amqp_connection_state_t connection = connected(CONSUMING);

        if (!connection) {
            usleep(20000);
            continue;
        }
        if (topology(connection)) {
            say("connected");
            done = goes_on(connection);
            if (!done)
                say("lost");
        }
        if (done)
            need(good(amqp_connection_close(connection, AMQP_REPLY_SUCCESS), "close"), "connection.close");
        amqp_destroy_connection(connection);
    }
    say("done");
    return 0;
}

int main(int count, char **words)
{
    need(count == 4, "PORT PREFIX steps|loop");
    signal(SIGPIPE, SIG_IGN);
    port = atoi(words[1]);
    prefix = words[2];
    return strcmp(words[3], "loop") ? steps() : loop();
}
