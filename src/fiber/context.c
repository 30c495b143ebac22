/* context.c - see context.h. */
#include "fiber/context.h"

#include <stdint.h>
#include <string.h>

#ifdef CONTEXT_ASAN
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef CONTEXT_TSAN
#include <sanitizer/tsan_interface.h>
#endif

/* Saves what a callee must keep on the stack, stores the stack pointer in *save and goes on with another. */
void context_switch_machine(void **save, void *sp);

#if defined(__x86_64__)

#define SAVED_WORDS 6 /* rbp rbx r12 r13 r14 r15, then the return address */

__asm__(".text\n"
        ".p2align 4\n"
        ".globl context_switch_machine\n"
        ".hidden context_switch_machine\n"
        ".type context_switch_machine,@function\n"
        "context_switch_machine:\n"
        "    pushq %rbp\n"
        "    pushq %rbx\n"
        "    pushq %r12\n"
        "    pushq %r13\n"
        "    pushq %r14\n"
        "    pushq %r15\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    popq %r15\n"
        "    popq %r14\n"
        "    popq %r13\n"
        "    popq %r12\n"
        "    popq %rbx\n"
        "    popq %rbp\n"
        "    ret\n"
        ".size context_switch_machine,.-context_switch_machine\n");

static void *first_frame(char *high, void (*entry)(void))
{
    void **sp = (void **)(void *)high;

    *--sp = NULL; /* entry's return address: unwinders stop here; and aligns the stack as after a call */
    *--sp = (void *)(uintptr_t)entry;
    for (int i = 0; i < SAVED_WORDS; i++)
        *--sp = NULL;
    return sp;
}

#elif defined(__aarch64__)

#define SAVED_WORDS 20 /* x19 to x30, d8 to d15 */

__asm__(".text\n"
        ".p2align 4\n"
        ".globl context_switch_machine\n"
        ".hidden context_switch_machine\n"
        ".type context_switch_machine,%function\n"
        "context_switch_machine:\n"
        "    sub sp, sp, #160\n"
        "    stp x19, x20, [sp, #0]\n"
        "    stp x21, x22, [sp, #16]\n"
        "    stp x23, x24, [sp, #32]\n"
        "    stp x25, x26, [sp, #48]\n"
        "    stp x27, x28, [sp, #64]\n"
        "    stp x29, x30, [sp, #80]\n"
        "    stp d8, d9, [sp, #96]\n"
        "    stp d10, d11, [sp, #112]\n"
        "    stp d12, d13, [sp, #128]\n"
        "    stp d14, d15, [sp, #144]\n"
        "    mov x9, sp\n"
        "    str x9, [x0]\n"
        "    mov sp, x1\n"
        "    ldp x19, x20, [sp, #0]\n"
        "    ldp x21, x22, [sp, #16]\n"
        "    ldp x23, x24, [sp, #32]\n"
        "    ldp x25, x26, [sp, #48]\n"
        "    ldp x27, x28, [sp, #64]\n"
        "    ldp x29, x30, [sp, #80]\n"
        "    ldp d8, d9, [sp, #96]\n"
        "    ldp d10, d11, [sp, #112]\n"
        "    ldp d12, d13, [sp, #128]\n"
        "    ldp d14, d15, [sp, #144]\n"
        "    add sp, sp, #160\n"
        "    ret\n"
        ".size context_switch_machine,.-context_switch_machine\n");

static void *first_frame(char *high, void (*entry)(void))
{
    void **sp = (void **)(void *)high - SAVED_WORDS;

    memset(sp, 0, SAVED_WORDS * sizeof *sp);
    sp[11] = (void *)(uintptr_t)entry; /* x30, where ret goes */
    return sp;
}

#else
#error "maitred has a context switch for x86-64 and aarch64 only"
#endif

void context_init_thread(struct context *context)
{
    memset(context, 0, sizeof *context);
#ifdef CONTEXT_TSAN
    context->tsan_fiber = __tsan_get_current_fiber();
#endif
}

void context_init(struct context *context, void *low, size_t bytes, void (*entry)(void))
{
    char *high = (char *)low + bytes;

    memset(context, 0, sizeof *context);
    high -= (uintptr_t)high % 16;
    context->sp = first_frame(high, entry);
#ifdef CONTEXT_ASAN
    context->stack_low = low;
    context->stack_bytes = bytes;
#endif
#ifdef CONTEXT_TSAN
    context->tsan_fiber = __tsan_create_fiber(0);
#endif
}

void context_entered(struct context *from)
{
#ifdef CONTEXT_ASAN
    __sanitizer_finish_switch_fiber(NULL, &from->stack_low, &from->stack_bytes);
#else
    (void)from;
#endif
}

__attribute__((noinline)) void context_switch(struct context *from, struct context *to, int ending)
{
#ifdef CONTEXT_ASAN
    __sanitizer_start_switch_fiber(ending ? NULL : &from->fake_stack, to->stack_low, to->stack_bytes);
#endif
#ifdef CONTEXT_TSAN
    __tsan_switch_to_fiber(to->tsan_fiber, 0);
#endif
    (void)ending;
    context_switch_machine(&from->sp, to->sp);
#ifdef CONTEXT_ASAN
    /* Back again. Fibers are only entered from their thread's own context, so when this is the thread, what it
     * comes back from does not matter; when this is a fiber, it learns nothing it does not know. */
    __sanitizer_finish_switch_fiber(from->fake_stack, NULL, NULL);
#endif
}

void context_free(struct context *context)
{
#ifdef CONTEXT_TSAN
    __tsan_destroy_fiber(context->tsan_fiber);
#else
    (void)context;
#endif
}
