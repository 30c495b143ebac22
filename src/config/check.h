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
/* Its users are complete. */
void config_check_amqp(struct config_problems *problems, const struct config_item *item,
                       const struct config_amqp *amqp);
void config_check_admin(struct config_problems *problems, const struct config *config,
                        const struct config_item *item, const struct config_admin *admin);
/* Finds its dead letters and its push's pool too. All queues have their names, and the pools are complete. */
void config_check_queue(struct config_problems *problems, const struct config *config,
                        const struct config_item *item, struct config_queue *queue);
/* Finds its queues too. The queues of config are complete. */
void config_check_topic(struct config_problems *problems, const struct config *config,
                        const struct config_item *item, struct config_topic *topic);
/* The part of config_check_route that is about storing requests. */
void config_check_route_queue(struct config_problems *problems, const struct config *config,
                              const struct config_item *item, struct config_route *route);
/* What queues and topics say about each other. */
void config_check_queues(struct config_problems *problems, const struct config_item *top,
                         const struct config *config);
/* Finds its queue, gauge and listener too. All of those are complete. */
void config_check_workers(struct config_problems *problems, const struct config *config,
                          const struct config_item *item, struct config_workers *workers);
void config_check_gauge(struct config_problems *problems, const struct config_item *item,
                        const struct config_gauge *gauge);
/* What workers and gauges say about each other. */
void config_check_all_workers(struct config_problems *problems, const struct config *config);
/* The queue that a value names; NULL when there is none, which was reported. */
const struct config_queue *config_find_queue(struct config_problems *problems, const struct config *config,
                                             const struct config_value *value);
/* Reports a name that nobody has. nearest: one that was meant, perhaps; NULL: none is near. */
void config_refuse_missing(struct config_problems *problems, struct config_place place, const char *kind,
                           const char *name, const char *nearest);
/* Whichever of the two stands later is the second. */
void config_refuse_same(struct config_problems *problems, const struct config_place *second,
                        const struct config_place *first, const char *kind, const char *name);
/* The pool that an option names; NULL when there is none, which was reported. */
const struct config_pool *config_find_pool(struct config_problems *problems, const struct config *config,
                                           const struct config_item *option);
/* An option that does nothing is a mistake of somebody who thinks that it does. */
void config_refuse_idle(struct config_problems *problems, const struct config_item *section, const char *name,
                        const char *needs);
void config_check_all(struct config_problems *problems, const struct config_item *top,
                      const struct config *config);

#endif
