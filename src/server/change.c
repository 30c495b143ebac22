/* change.c - one configuration takes the place of another, or of none at the start; see process.h.
 *
 * In steps: create (what stays, what is new), open (sockets; may block), prepare (memory, pools, names), commit. All but
 * the last may fail, and leave no trace. A listener that stays keeps its sockets and clients, a new one is listening before an old one closes, and each
 * thread takes up its whole scene at once. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "config/same.h"
#include "server/process.h"

/* How long new names are waited for before their servers have to come later. */
#define FIRST_NAMES_US (2 * US_PER_S)

/* One listener of the new configuration. */
struct planned {
    const struct listener_kind *kind;
    const char *name;
    const struct address *address;
    size_t order;
    const struct config_http *http; /* one of the four */
    const struct config_tcp *tcp;
    const struct config_amqp *amqp;
    const struct config_admin *admin;
    struct process_listener *stays; /* NULL: it is new */
    int *fds;                       /* of a new one, until it has a listener */
    size_t n_fds;
    enum listen_file file;          /* of a new one; of one that shares another's sockets: foreign */
    struct process_listener *fresh; /* of a new one */
    struct http_shared *shared;     /* reference; of http and admin */
};

struct change {
    struct process *process;
    const struct config *config; /* reference */
    struct planned *listeners;   /* in the order of the file */
    size_t n_listeners;
    struct control_change *control;
    struct workers_change *workers;
    struct generation *generation;
    struct scene_message **messages; /* by thread */
    size_t n_leaving;
    struct queue_thread *queue; /* that it opened; owned until it is the process's */
};

static struct system *system_of(const struct change *change)
{
    return &change->process->system;
}

static struct process_listener *listener_at(struct list *node)
{
    return container_of(node, struct process_listener, system.list);
}

/* ---- open --------------------------------------------------------------------------------------------------- */

static int compare_order(const void *a, const void *b)
{
    const struct planned *x = a, *y = b;

    return (x->order > y->order) - (x->order < y->order);
}

static int plan_listeners(struct change *change)
{
    const struct config *config = change->config;
    struct planned *p;

    change->n_listeners = config->n_http + config->n_tcp + config->n_amqp + (config->admin ? 1 : 0);
    change->listeners = p = calloc(change->n_listeners, sizeof *p);
    if (!p)
        return -ENOMEM;
    for (const struct config_http *c = config->http; c < config->http + config->n_http; c++)
        *p++ = (struct planned){&http_listener_kind, c->name, &c->address, c->order, .http = c};
    for (const struct config_tcp *c = config->tcp; c < config->tcp + config->n_tcp; c++)
        *p++ = (struct planned){&tcp_listener_kind, c->name, &c->address, c->order, .tcp = c};
    for (const struct config_amqp *c = config->amqp; c < config->amqp + config->n_amqp; c++)
        *p++ = (struct planned){&amqp_listener_kind, c->name, &c->address, c->order, .amqp = c};
    if (config->admin)
        *p = (struct planned){&http_listener_kind, config->admin->name, &config->admin->address,
                              config->admin->order, .admin = config->admin};
    qsort(change->listeners, change->n_listeners, sizeof *p, compare_order);
    return 0;
}

static bool same_kind(const struct system_listener *have, const struct planned *planned)
{
    return have->listener->kind == planned->kind && (have->admin != NULL) == (planned->admin != NULL);
}

/* Another kind of listener has the address: this one gets the same sockets, so that nobody who knocks is lost. */
static int share_sockets(struct planned *planned, const struct listener *listener)
{
    planned->fds = calloc(listener->n_fds, sizeof *planned->fds);
    for (; planned->fds && planned->n_fds < listener->n_fds; planned->n_fds++) {
        int fd = fcntl(listener->fds[planned->n_fds], F_DUPFD_CLOEXEC, 0);

        if (fd < 0)
            return -errno;
        planned->fds[planned->n_fds] = fd;
    }
    return planned->fds ? 0 : -ENOMEM;
}

static int match_listener(struct change *change, struct planned *planned)
{
    struct list *listeners = &system_of(change)->listeners;

    for (struct list *node = listeners->next; node != listeners; node = node->next) {
        struct process_listener *pl = listener_at(node);

        if (!config_same_address(&pl->system.address, planned->address))
            continue;
        if (!same_kind(&pl->system, planned))
            return share_sockets(planned, pl->system.listener);
        planned->stays = pl;
        return 0;
    }
    return 0;
}

static struct process_log *find_log(struct process *process, const char *path)
{
    for (struct list *node = process->logs.next; node != &process->logs; node = node->next) {
        struct process_log *log = container_of(node, struct process_log, list);

        if (strcmp(log->path, path) == 0)
            return log;
    }
    return NULL;
}

/* Opens the log of that path when nobody has it open. One that is then not needed is swept. */
static int open_log(struct process *process, const char *path)
{
    struct process_log *log;
    int error;

    if (!path || find_log(process, path))
        return 0;
    log = calloc(1, sizeof *log);
    if (log)
        log->path = strdup(path);
    error = log && log->path ? access_log_open(&log->log, path) : -ENOMEM;
    if (!error) {
        list_push_back(&process->logs, &log->list);
        return 0;
    }
    if (log)
        free(log->path);
    free(log);
    return error;
}

static int open_logs(struct change *change, char why[LISTEN_WHY_MAX])
{
    for (size_t i = 0; i < change->config->n_http; i++) {
        const char *path = change->config->http[i].access_log;
        int error = open_log(change->process, path);

        if (!error)
            continue;
        snprintf(why, LISTEN_WHY_MAX,
                 "access-log %s cannot be opened: %s; make its folder, or let us write there", path,
                 strerror(-error));
        return error;
    }
    return 0;
}

struct change *change_create(struct process *process, const struct config *config, char why[LISTEN_WHY_MAX])
{
    struct change *change = calloc(1, sizeof *change);
    int error;

    snprintf(why, LISTEN_WHY_MAX, "no memory, or no file descriptor is free");
    if (!change)
        return NULL;
    change->process = process;
    change->config = config_ref(config);
    error = plan_listeners(change);
    for (size_t i = 0; !error && i < change->n_listeners; i++)
        error = match_listener(change, &change->listeners[i]);
    if (!error)
        error = open_logs(change, why);
    if (!error)
        return change;
    change_abandon(change);
    return NULL;
}

int change_open(struct change *change, char why[LISTEN_WHY_MAX])
{
    int error = 0;

    for (size_t i = 0; !error && i < change->n_listeners; i++) {
        struct planned *planned = &change->listeners[i];

        if (!planned->stays && !planned->fds)
            error = listen_open(planned->address, planned->name, &planned->fds, &planned->n_fds,
                                &planned->file, why);
    }
    return error;
}

int change_open_queue(struct change *change, char why[LISTEN_WHY_MAX])
{
    return change->process->queue
               ? 0
               : queues_open(change->config, change->process->takes_over, &change->queue, why);
}

/* ---- prepare ------------------------------------------------------------------------------------------------ */

static struct generation *create_generation(struct change *change)
{
    struct generation *generation = calloc(1, sizeof *generation);

    if (!generation)
        return NULL;
    list_init(&generation->list);
    generation->number = change->process->n_generations + 1;
    generation->loaded_us = clock_wall_us();
    generation->config = config_ref(change->config);
    return generation;
}

static int share(struct change *change, struct planned *planned)
{
    const struct http_shared *before = planned->stays ? planned->stays->system.shared : NULL;
    const struct process_log *log = NULL;

    if (planned->tcp || planned->amqp)
        return 0;
    if (planned->admin) {
        planned->shared = http_shared_serving(admin_serve, change->process->admin);
        return planned->shared ? 0 : -ENOMEM;
    }
    if (planned->http->access_log)
        log = find_log(change->process, planned->http->access_log);
    planned->shared = http_shared_create(planned->http, before, log ? log->log : NULL,
                                         system_of(change)->tail, system_of(change)->n_threads);
    return planned->shared ? 0 : -ENOMEM;
}

static int create_listener(struct change *change, struct planned *planned)
{
    struct process *process = change->process;
    unsigned n_threads = planned->admin ? 1 : process->system.n_threads;
    struct process_listener *pl = calloc(1, sizeof *pl + n_threads * sizeof pl->reports[0]);
    struct listener *listener;

    if (!pl)
        return -ENOMEM;
    listener = listener_create(planned->kind, planned->name, planned->fds, planned->n_fds,
                               planned->admin ? process->admin_seats : process->system.seats,
                               process->mailboxes, n_threads);
    planned->fds = NULL;
    planned->n_fds = 0;
    if (!listener) {
        free(pl);
        return -ENOMEM;
    }
    for (unsigned i = 0; i < n_threads; i++)
        listener->threads[i].owner = pl;
    list_init(&pl->system.list);
    pl->system.listener = listener;
    pl->system.address = *planned->address;
    pl->system.open = n_threads;
    pl->process = process;
    pl->owns_file = planned->file != LISTEN_FILE_FOREIGN;
    planned->fresh = pl;
    return 0;
}

static struct process_listener *listener_of(const struct planned *planned)
{
    return planned->stays ? planned->stays : planned->fresh;
}

static struct service *create_service(const struct planned *planned, struct scene *scene, unsigned thread)
{
    if (planned->tcp)
        return tcp_service_create(planned->tcp, scene);
    if (planned->amqp)
        return amqp_service_create(planned->amqp, scene);
    return http_service_create(planned->shared, scene, thread);
}

static struct scene *create_scene(struct change *change, unsigned thread)
{
    size_t n_pools = change->config->n_pools;
    struct pool_thread **pools = calloc(n_pools + 1, sizeof(struct pool_thread *));
    struct scene *scene =
        pools ? scene_create(change->generation, pools, n_pools, change->n_listeners) : NULL;

    if (!scene) {
        free(pools);
        return NULL;
    }
    if (config_has_log(change->config))
        scene->port = &change->process->threads[thread].port;
    for (size_t i = 0; i < n_pools; i++)
        pools[i] = &control_change_pool(change->control, i)->threads[thread];
    for (size_t i = 0; i < change->n_listeners; i++) {
        const struct planned *planned = &change->listeners[i];

        if (thread >= listener_of(planned)->system.listener->n_threads)
            continue;
        scene->services[i] = create_service(planned, scene, thread);
        if (!scene->services[i]) {
            scene_abandon(scene);
            return NULL;
        }
    }
    return scene;
}

static void scene_deliver(struct mail *message)
{
    struct scene_message *m = container_of(message, struct scene_message, message);

    list_push_back(&m->thread->inbox, &m->list);
    fiber_wake(m->thread->fiber);
}

static bool stays(const struct change *change, const struct process_listener *pl)
{
    for (size_t i = 0; i < change->n_listeners; i++)
        if (change->listeners[i].stays == pl)
            return true;
    return false;
}

/* The message and its two arrays are one block. */
static struct scene_message *create_message(struct change *change, unsigned thread)
{
    struct list *listeners = &system_of(change)->listeners;
    struct scene_message *m =
        calloc(1, sizeof *m + (change->n_listeners + change->n_leaving) * sizeof(struct listener *));

    if (!m)
        return NULL;
    m->message.deliver = scene_deliver;
    m->thread = &change->process->threads[thread];
    m->listeners = (struct listener **)(m + 1);
    m->leaving = m->listeners + change->n_listeners;
    for (size_t i = 0; i < change->n_listeners; i++)
        m->listeners[i] = listener_of(&change->listeners[i])->system.listener;
    for (struct list *node = listeners->next; node != listeners; node = node->next)
        if (!stays(change, listener_at(node)))
            m->leaving[m->n_leaving++] = listener_at(node)->system.listener;
    m->scene = create_scene(change, thread);
    if (m->scene)
        return m;
    free(m);
    return NULL;
}

static int create_messages(struct change *change)
{
    unsigned n = system_of(change)->n_threads;

    change->messages = calloc(n, sizeof(struct scene_message *));
    if (!change->messages)
        return -ENOMEM;
    for (unsigned i = 0; i < n; i++) {
        change->messages[i] = create_message(change, i);
        if (!change->messages[i])
            return -ENOMEM;
    }
    return 0;
}

/* Last, because it cannot be taken back. */
static int declare(struct change *change)
{
    struct thread *control = &change->process->threads[0];
    struct queue_thread *queue = change->process->queue ? change->process->queue : change->queue;

    if (!queue)
        return 0;
    queues_open_port(control, queue);
    return change->process->takes_over ? queues_declare_later(&control->port, change->config)
                                       : queues_declare(&control->port, change->config);
}

int change_prepare(struct change *change)
{
    struct list *listeners = &system_of(change)->listeners;
    int error = 0;

    change->control =
        control_prepare(system_of(change)->control, change->config, loop_deadline(FIRST_NAMES_US));
    change->workers = workers_prepare(system_of(change)->workers, change->config);
    change->generation = create_generation(change);
    if (!change->control || !change->workers || !change->generation)
        return -ENOMEM;
    if (system_of(change)->drains) /* since names were waited for: what was to stay may be gone */
        return -ECANCELED;
    for (size_t i = 0; !error && i < change->n_listeners; i++) {
        error = share(change, &change->listeners[i]);
        if (!error && !change->listeners[i].stays)
            error = create_listener(change, &change->listeners[i]);
    }
    for (struct list *node = listeners->next; node != listeners; node = node->next)
        change->n_leaving += !stays(change, listener_at(node));
    if (!error)
        error = create_messages(change);
    return error ? error : declare(change);
}

static void free_change(struct change *change)
{
    free(change->messages);
    free(change->listeners);
    config_unref(change->config);
    free(change);
}

static void abandon_listener(struct planned *planned)
{
    if (planned->file == LISTEN_FILE_MADE)
        listen_forget(planned->address);
    listen_close(planned->fds, planned->n_fds);
    if (planned->fresh) {
        listener_free(planned->fresh->system.listener);
        free(planned->fresh);
    }
    if (planned->shared)
        http_shared_unref(planned->shared);
}

void change_abandon(struct change *change)
{
    for (unsigned i = 0; change->messages && i < system_of(change)->n_threads; i++)
        if (change->messages[i]) {
            scene_abandon(change->messages[i]->scene);
            free(change->messages[i]);
        }
    for (size_t i = 0; change->listeners && i < change->n_listeners; i++)
        abandon_listener(&change->listeners[i]);
    if (change->queue) {
        queues_close_port(&change->process->threads[0]);
        queue_thread_stop(change->queue);
    }
    if (change->workers)
        workers_abandon(change->workers);
    if (change->control)
        control_abandon(change->control);
    if (change->generation) {
        config_unref(change->generation->config);
        free(change->generation);
    }
    free_change(change);
}

/* ---- commit ------------------------------------------------------------------------------------------------- */

/* Whoever shares its sockets has its file, too, from now on. */
static void pass_file_on(struct change *change, struct process_listener *pl)
{
    for (size_t i = 0; i < change->n_listeners; i++) {
        struct planned *planned = &change->listeners[i];

        if (!config_same_address(&pl->system.address, planned->address))
            continue;
        planned->fresh->owns_file = pl->owns_file;
        pl->owns_file = false;
    }
}

static void retire_listeners(struct change *change)
{
    struct system *system = system_of(change);
    struct list *next;

    for (struct list *node = system->listeners.next; node != &system->listeners; node = next) {
        struct process_listener *pl = listener_at(node);

        next = node->next;
        if (stays(change, pl))
            continue;
        list_remove(node);
        list_push_back(&system->draining, node);
        pl->system.tcp = NULL;
        pl->system.admin = NULL;
        if (pl->system.shared)
            http_shared_unref(pl->system.shared);
        pl->system.shared = NULL;
        pass_file_on(change, pl);
        process_forget_file(pl);
    }
}

/* In the order of the file. */
static void install_listeners(struct change *change)
{
    struct system *system = system_of(change);

    for (size_t i = 0; i < change->n_listeners; i++) {
        struct planned *planned = &change->listeners[i];
        struct process_listener *pl = listener_of(planned);

        list_remove(&pl->system.list);
        list_push_back(&system->listeners, &pl->system.list);
        if (pl->system.shared)
            http_shared_unref(pl->system.shared);
        pl->system.shared = planned->shared;
        pl->system.tcp = planned->tcp;
        pl->system.admin = planned->admin;
    }
}

static void use_logs(struct change *change)
{
    struct process *process = change->process;

    for (struct list *node = process->logs.next; node != &process->logs; node = node->next) {
        struct process_log *log = container_of(node, struct process_log, list);

        for (size_t i = 0; i < change->config->n_http; i++)
            if (change->config->http[i].access_log &&
                strcmp(change->config->http[i].access_log, log->path) == 0)
                log->last_used = change->generation->number;
    }
}

/* Whoever changes a file twice in a row finds what was removed by the first closed. */
#define CLOSE_US US_PER_S

static bool some_accept(const struct list *draining)
{
    for (const struct list *node = draining->next; node != draining; node = node->next)
        if (atomic_load(&container_of(node, struct system_listener, list)->listener->accepting))
            return true;
    return false;
}

static void await_closed(const struct system *system)
{
    uint64_t deadline_us = loop_now_us() + CLOSE_US;

    while (some_accept(&system->draining) && loop_now_us() < deadline_us)
        if (fiber_sleep_until(loop_now_us() + US_PER_MS) != 0)
            return;
}

void change_commit(struct change *change)
{
    struct process *process = change->process;
    struct system *system = &process->system;
    const struct config *old = system->config;

    control_commit(change->control);
    use_logs(change);
    retire_listeners(change);
    install_listeners(change);
    if (change->queue)
        process->queue = change->queue;
    process->n_generations = change->generation->number;
    list_push_back(&system->generations, &change->generation->list);
    system->config = config_ref(change->config);
    system->loaded_us = change->generation->loaded_us;
    atomic_store(&system->seats->max, change->config->max_connections);
    if (change->config->max_connections != old->max_connections)
        process_raise_descriptor_limit(change->config);
    for (unsigned i = 0; i < system->n_threads; i++)
        mailbox_send(process->mailboxes[i], &change->messages[i]->message);
    workers_commit(change->workers);
    control_settle(change->control);
    await_closed(system);
    config_unref(old);
    free_change(change);
}

/* ---- what is left ------------------------------------------------------------------------------------------- */

static void sweep_logs(struct process *process, uint64_t oldest)
{
    struct list *next;

    for (struct list *node = process->logs.next; node != &process->logs; node = next) {
        struct process_log *log = container_of(node, struct process_log, list);

        next = node->next;
        if (log->last_used >= oldest)
            continue;
        list_remove(&log->list);
        access_log_close(log->log);
        free(log->path);
        free(log);
    }
}

void change_sweep(struct process *process)
{
    struct list *generations = &process->system.generations;
    uint64_t oldest = process->n_generations + 1;
    struct list *next;

    for (struct list *node = generations->next; node != generations; node = next) {
        struct generation *generation = container_of(node, struct generation, list);

        next = node->next;
        if (atomic_load(&generation->scenes)) {
            oldest = generation->number < oldest ? generation->number : oldest;
            continue;
        }
        list_remove(node);
        config_unref(generation->config);
        free(generation);
    }
    if (!process->changing)
        sweep_logs(process, oldest);
}
