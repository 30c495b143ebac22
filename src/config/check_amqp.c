/* check_amqp.c - what the options of an amqp listener and its users say about each other: see check.h. */
#include <string.h>

#include "config/check.h"
#include "config/rows.h"

static void check_heartbeat(struct config_problems *problems, const struct config_item *option,
                            const struct config_amqp *amqp)
{
    if (option && !option->bad && amqp->heartbeat_us % SECOND)
        config_problem(problems, option->place,
                       "heartbeat = " SHOWN " is no whole number of seconds; write one like 60s",
                       option->values->text);
}

static void check_password(struct config_problems *problems, const struct config_item *item)
{
    const struct config_item *password = config_item_option(item, "password");
    const struct config_item *hash = config_item_option(item, "password-hash");

    if (password && hash)
        config_problem(problems, hash->place, "user \"" SHOWN "\" has password and password-hash; remove one",
                       item->title);
    if (!password && !hash && !item->bad)
        config_problem(problems, item->place,
                       "user \"" SHOWN
                       "\" has no password; add password-hash = \"...\" (`maitred passwd` makes one), or "
                       "password = \"...\"",
                       item->title);
}

static void check_user_names(struct config_problems *problems, const struct config_amqp *amqp)
{
    for (size_t i = 0; i < amqp->n_users; i++)
        for (size_t j = 0; j < i; j++)
            if (strcmp(amqp->users[i].name, amqp->users[j].name) == 0) {
                config_problem(problems, amqp->users[i].place,
                               "there is another user \"" SHOWN "\" at %s:%d; rename or remove one",
                               amqp->users[i].name, amqp->users[j].place.file, amqp->users[j].place.line);
                break;
            }
}

void config_check_amqp(struct config_problems *problems, const struct config_item *item,
                       const struct config_amqp *amqp)
{
    check_heartbeat(problems, config_item_option(item, "heartbeat"), amqp);
    for (const struct config_item *user = item->items; user; user = user->next)
        if (user->table == &config_table_user)
            check_password(problems, user);
    check_user_names(problems, amqp);
    if (!amqp->n_users && !item->bad)
        config_problem(problems, item->place,
                       "amqp \"" SHOWN "\" has no user; add user NAME { password-hash = \"...\" }",
                       amqp->name);
}
