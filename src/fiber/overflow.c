/* overflow.c - says which fiber ran into the guard of its stack; see fiber_catch_overflow in fiber.h.
 *
 * The handler runs on a stack of its own, because the fiber's is full. It only writes and puts back what was there
 * before: the faulting instruction runs again and ends the process with its core, or with a sanitizer's report. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fiber/loop_private.h"

#define SIGNAL_STACK_BYTES (64u * 1024)

struct signal_stack {
    stack_t before; /* what the thread had, a sanitizer's mostly */
    char bytes[SIGNAL_STACK_BYTES];
};

static struct sigaction before_segv, before_bus;

static void say(const char *text)
{
    ssize_t n = write(STDERR_FILENO, text, strlen(text));

    (void)n;
}

static void on_fault(int signal, siginfo_t *info, void *context)
{
    struct loop *loop = this_loop;
    const char *at = info->si_addr;

    (void)context;
    if (loop && loop->current) {
        const struct stack *stack = fiber_stack(loop->current);

        if (at < stack->low && at >= stack->low - loop->stacks.page_bytes) {
            say("maitred: stack overflow in fiber ");
            say(fiber_name(loop->current));
            say("\n");
        }
    }
    sigaction(signal, signal == SIGBUS ? &before_bus : &before_segv, NULL);
}

/* The second thread that comes here finds the first one's handler, which is none to go back to. */
static int catch_signal(int signal, struct sigaction *before)
{
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK}, old;

    if (sigaction(signal, &action, &old) != 0)
        return -errno;
    if (!(old.sa_flags & SA_SIGINFO) || old.sa_sigaction != on_fault)
        *before = old;
    return 0;
}

int fiber_catch_overflow(void)
{
    struct loop *loop = this_loop;
    struct signal_stack *own;
    stack_t stack = {.ss_size = SIGNAL_STACK_BYTES};
    int error;

    if (loop->signal_stack)
        return 0;
    own = malloc(sizeof *own);
    if (!own)
        return -ENOMEM;
    stack.ss_sp = own->bytes;
    if (sigaltstack(&stack, &own->before) != 0) {
        free(own);
        return -errno;
    }
    loop->signal_stack = own;
    error = catch_signal(SIGSEGV, &before_segv);
    return error ? error : catch_signal(SIGBUS, &before_bus);
}

void overflow_forget(struct loop *loop)
{
    struct signal_stack *own = loop->signal_stack;

    if (!own)
        return;
    sigaltstack(&own->before, NULL);
    free(own);
    loop->signal_stack = NULL;
}
