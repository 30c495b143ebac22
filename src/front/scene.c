/* scene.c - see scene.h. */
#include "front/scene.h"

#include <assert.h>
#include <stdlib.h>

struct scene *scene_create(struct generation *generation, struct pool_thread **pools, size_t n_pools,
                           size_t n_services)
{
    struct scene *scene = calloc(1, sizeof *scene);

    if (!scene)
        return NULL;
    scene->services = calloc(n_services ? n_services : 1, sizeof(struct service *));
    if (!scene->services) {
        free(scene);
        return NULL;
    }
    scene->generation = generation;
    atomic_fetch_add(&generation->scenes, 1);
    scene->pools = pools;
    scene->n_pools = n_pools;
    scene->n_services = n_services;
    return scene;
}

void scene_abandon(struct scene *scene)
{
    for (size_t i = 0; i < scene->n_services; i++)
        if (scene->services[i])
            scene->services[i]->free(scene->services[i]);
    free(scene->services);
    free(scene->pools);
    atomic_fetch_sub(&scene->generation->scenes,
                     1); /* the last thing that is read of the configuration was before */
    free(scene);
}

void scene_enter(struct scene *scene)
{
    for (size_t i = 0; i < scene->n_pools; i++)
        pool_thread_hold(scene->pools[i]);
    scene->users = 1;
}

void scene_leave(struct scene *scene)
{
    scene->past = true;
    atomic_fetch_add(&scene->generation->left, scene->users);
    scene_release(scene);
}

void scene_release(struct scene *scene)
{
    assert(scene->users);
    if (scene->past)
        atomic_fetch_sub(&scene->generation->left, 1);
    if (--scene->users)
        return;
    for (size_t i = 0; i < scene->n_pools; i++)
        pool_thread_release(scene->pools[i]);
    scene_abandon(scene);
}
