/* context.h - the machine part of a fiber: a stack pointer and the switch between two of them.
 *
 * x86-64 and aarch64, System V calling conventions. Only what a call must keep is saved; signal masks and
 * floating-point modes are the thread's. The sanitizers are told of every switch. A context stays on its thread:
 * the switch is never inlined, because compilers keep thread-local addresses across it otherwise. */
#ifndef FIBER_CONTEXT_H
#define FIBER_CONTEXT_H

#include <stddef.h>

#if defined(__SANITIZE_ADDRESS__)
#define CONTEXT_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CONTEXT_ASAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define CONTEXT_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define CONTEXT_TSAN 1
#endif
#endif

struct context {
    void *sp;
#ifdef CONTEXT_ASAN
    void *fake_stack;
    const void *stack_low;
    size_t stack_bytes;
#endif
#ifdef CONTEXT_TSAN
    void *tsan_fiber;
#endif
};

/* The context of the thread that calls; it is left by its first switch. */
void context_init_thread(struct context *context);
/* A context that will run entry() on the stack [low, low + bytes). entry must not return; it calls
 * context_entered(from) first, with the context it was entered from. */
void context_init(struct context *context, void *low, size_t bytes, void (*entry)(void));
void context_entered(struct context *from);
/* Leaves from, goes on in to. ending: from will never be entered again. */
void context_switch(struct context *from, struct context *to, int ending);
void context_free(struct context *context);

#endif
