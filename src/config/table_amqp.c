/* table_amqp.c - the sections of AMQP 0-9-1: see table.h. */
#include "base/password.h"
#include "config/config.h"
#include "config/rows.h"
#include "config/value.h"

static const struct config_row amqp_rows[] = {
    {.name = "accept-proxy",
     .type = &config_type_networks,
     .without = "none",
     .offset = offsetof(struct config_amqp, accept_proxy),
     .length_offset = offsetof(struct config_amqp, n_accept_proxy),
     .help = "Networks of the peers that must start each connection with a PROXY protocol header, version 1 "
             "or 2; "
             "others are taken as they are."},
    SIZE("frame-max", "128k", 4096, MEGA, NULL, config_amqp, frame_max,
         "Largest frame, in either direction; a client may ask for less."),
    NUMBER("channel-max", "2047", 1, 65535, NULL, config_amqp, channel_max,
           "Most channels of a connection; a client may ask for less."),
    TIME("heartbeat", "60s", SECOND, 65535 * (uint64_t)SECOND, "off", config_amqp, heartbeat_us,
         "How often each side shows that it is there, in whole seconds; twice that in silence ends a "
         "connection. A client may ask for another."),
    TIME("handshake-timeout", "10s", MS, DAY, NULL, config_amqp, handshake_timeout_us,
         "How long a client may take from its first byte until it is logged in and has opened its virtual "
         "host."),
    SIZE("max-message", "128m", 1024, 128 * MEGA, NULL, config_amqp, max_message,
         "Largest body of a message; a larger one closes the channel."),
};

static const struct config_table *const inside_amqp[] = {&config_table_user, NULL};

const struct config_table config_table_amqp = {
    "amqp",
    "ADDRESS",
    "A listener for AMQP 0-9-1, for the clients that RabbitMQ has. What they store goes to the log in state, "
    "as "
    "with "
    "queues. ADDRESS is HOST:PORT, [IPV6]:PORT, :PORT for every address, or unix:/PATH.",
    ROWS(amqp_rows),
    inside_amqp,
};

static const struct config_row user_rows[] = {
    {.name = "password",
     .type = &config_type_password,
     .without = "none; this or password-hash must be given",
     .low = 1,
     .high = PASSWORD_BYTES_MAX,
     .offset = offsetof(struct config_user, password),
     .secret = true,
     .help = "Its password, as it is. Whoever can read the file can read it."},
    {.name = "password-hash",
     .type = &config_type_password_hash,
     .without = "none; this or password must be given",
     .offset = offsetof(struct config_user, password_hash),
     .secret = true,
     .help = "What its password is known by: the line that `maitred passwd` prints, or a password_hash of "
             "RabbitMQ."},
    {.name = "from",
     .type = &config_type_networks,
     .without = "any; of the user guest 127.0.0.0/8 and ::1",
     .offset = offsetof(struct config_user, from),
     .length_offset = offsetof(struct config_user, n_from),
     .help = "Networks that it may connect from; a unix socket is ::1."},
    {.name = "virtual-hosts",
     .type = &config_type_names,
     .text = "/",
     .offset = offsetof(struct config_user, virtual_hosts),
     .length_offset = offsetof(struct config_user, n_virtual_hosts),
     .help = "Virtual hosts that it may open."},
    {.name = "configure",
     .type = &config_type_pattern,
     .text = ".*",
     .offset = offsetof(struct config_user, configure),
     .help = "Names of the queues and exchanges that it may declare, change and delete: a regular expression "
             "that matches anywhere in a name unless it has ^ and $. The empty one is for none. In 'single "
             "quotes' a backslash needs no other."},
    {.name = "write",
     .type = &config_type_pattern,
     .text = ".*",
     .offset = offsetof(struct config_user, write),
     .help = "Those that it may publish to, and bind with; the default exchange is amq.default."},
    {.name = "read",
     .type = &config_type_pattern,
     .text = ".*",
     .offset = offsetof(struct config_user, read),
     .help = "Those that it may consume from, purge, and bind to."},
    YES_NO("administrator", "no", config_user, administrator,
           "Whether it may do everything in the management interface."),
};

const struct config_table config_table_user = {
    "user",
    "NAME",
    "Somebody who may log in. There is at least one, and nobody who is not in the file. Users change with a "
    "reload.",
    ROWS(user_rows),
    config_nothing_inside,
};
