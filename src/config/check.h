/* check.h - what sections and options say about each other: names that are missing, given twice, or without effect.
 *
 * Each function takes a section as written beside what was built from it. An option that was refused is not judged
 * again. Only for files that were read to their end. One thread at a time. */
#ifndef CONFIG_CHECK_H
#define CONFIG_CHECK_H

#include "config/config.h"
#include "config/item.h"
#include "config/problems.h"

void config_check_pool(struct config_problems *problems, const struct config_item *item,
                       const struct config_pool *pool);
/* Finds the route's pool too. The pools of config are complete. */
void config_check_route(struct config_problems *problems, const struct config *config,
                        const struct config_item *item, struct config_route *route);
/* The routes of the listener are complete. */
void config_check_http(struct config_problems *problems, const struct config_item *item,
                       const struct config_http *http);
/* Finds its pool too. The pools of config are complete. */
void config_check_tcp(struct config_problems *problems, const struct config *config,
                      const struct config_item *item, struct config_tcp *tcp);
void config_check_admin(struct config_problems *problems, const struct config *config,
                        const struct config_item *item, const struct config_admin *admin);
void config_check_all(struct config_problems *problems, const struct config_item *top,
                      const struct config *config);

#endif
