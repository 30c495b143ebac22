/* test_envelope.c - what travels with a message: items in their order, and how it died, counted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "queue/envelope.h"

static char bytes[4096];

static struct slice put_all(const struct envelope_item *items, size_t n)
{
    char *at = bytes;

    for (size_t i = 0; i < n; i++)
        at = envelope_put(at, &items[i]);
    return slice_of(bytes, (size_t)(at - bytes));
}

static const struct envelope_item request[] = {
    {ENVELOPE_METHOD, {"", 0}, {"POST", 4}},
    {ENVELOPE_FIELD, {"Content-Type", 12}, {"text/plain", 10}},
    {ENVELOPE_FIELD, {"X-Empty", 7}, {"", 0}},
    {ENVELOPE_FIELD, {"content-type", 12}, {"second", 6}},
};

static void items_come_back_in_their_order(void **state)
{
    struct slice head = put_all(request, 4);
    struct envelope_item item;
    size_t n = 0, size = head.len, sum = 0;

    (void)state;
    assert_true(envelope_is_valid(head));
    for (; envelope_take(&head, &item); n++) {
        assert_true(item.tag == request[n].tag && slice_equal(item.name, request[n].name) &&
                    slice_equal(item.value, request[n].value));
        sum += envelope_item_bytes(&item);
    }
    assert_int_equal(n, 4);
    assert_int_equal(sum, size);
}

static void one_that_is_cut_is_not_valid_and_ends_early(void **state)
{
    struct slice head = put_all(request, 2);
    size_t first = envelope_item_bytes(&request[0]);
    struct envelope_item item;

    (void)state;
    for (size_t n = 1; n < head.len; n++) {
        char *exact = malloc(n);
        struct slice cut = slice_of(exact, n);

        memcpy(exact, head.ptr, n);
        assert_int_equal(envelope_is_valid(cut), n == first);
        assert_int_equal(envelope_take(&cut, &item), n >= first);
        free(exact);
    }
}

static void a_field_is_found_in_any_case_the_first_of_its_name(void **state)
{
    struct slice head = put_all(request, 4);

    (void)state;
    assert_true(slice_equal(envelope_field(head, SLICE("CONTENT-TYPE")), SLICE("text/plain")));
    assert_non_null(envelope_field(head, SLICE("x-empty")).ptr);
    assert_null(envelope_field(head, SLICE("x-none")).ptr);
    assert_true(slice_equal(envelope_find(head, ENVELOPE_METHOD), SLICE("POST")));
    assert_null(envelope_find(head, ENVELOPE_TARGET).ptr);
}

static struct death death_of(const char *queue, enum message_end reason, uint64_t time_us)
{
    return (struct death){.reason = reason,
                          .count = 1,
                          .time_us = time_us,
                          .queue = slice_from_text(queue),
                          .exchange = SLICE(""),
                          .routing_key = slice_from_text(queue)};
}

/* Into a block of its own, whose size envelope_bury_bytes bounds. */
static struct slice die(struct slice head, struct death death)
{
    char *block = malloc(envelope_bury_bytes(head, &death));
    size_t n = envelope_bury(block, head, &death, true);

    assert_true(n <= envelope_bury_bytes(head, &death));
    return slice_of(block, n);
}

static void the_latest_death_comes_first_and_the_same_is_counted(void **state)
{
    struct slice start = put_all(request, 4), once = die(start, death_of("orders", END_ATTEMPTS, 1)),
                 twice = die(once, death_of("dead", END_EXPIRED, 2)),
                 thrice = die(twice, death_of("orders", END_ATTEMPTS, 3)), rest = thrice;
    struct envelope_item item;
    struct death deaths[3], first;
    size_t n = 0, others = 0;

    (void)state;
    while (envelope_take(&rest, &item))
        if (item.tag == ENVELOPE_DEATH && n < 3)
            assert_true(death_parse(item.value, &deaths[n++]));
        else
            others++;
    assert_int_equal(n, 2);
    assert_int_equal(others, 4 + 1);
    assert_true(death_parse(envelope_find(thrice, ENVELOPE_FIRST_DEATH), &first) && first.time_us == 1 &&
                slice_equal(first.queue, SLICE("orders")));
    assert_true(slice_equal(deaths[0].queue, SLICE("orders")) && deaths[0].count == 2 &&
                deaths[0].time_us == 3);
    assert_true(slice_equal(deaths[1].queue, SLICE("dead")) && deaths[1].count == 1);
    assert_int_equal(deaths[1].reason, END_EXPIRED);
    free((char *)(uintptr_t)once.ptr);
    free((char *)(uintptr_t)twice.ptr);
    free((char *)(uintptr_t)thrice.ptr);
}

static void a_death_that_is_cut_is_refused(void **state)
{
    struct slice head = die(SLICE(""), death_of("orders", END_REJECTED, 5)),
                 value = envelope_find(head, ENVELOPE_DEATH);
    struct death death;

    (void)state;
    assert_true(death_parse(value, &death));
    for (size_t n = 0; n < value.len; n++)
        assert_false(death_parse(slice_of(value.ptr, n), &death));
    free((char *)(uintptr_t)head.ptr);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(items_come_back_in_their_order),
        cmocka_unit_test(one_that_is_cut_is_not_valid_and_ends_early),
        cmocka_unit_test(a_field_is_found_in_any_case_the_first_of_its_name),
        cmocka_unit_test(the_latest_death_comes_first_and_the_same_is_counted),
        cmocka_unit_test(a_death_that_is_cut_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
