/* test_broker_limits.c - what broker.h promises of queues that are full, and of the dead, a sentence each. */
#include "broker_kit.h"

static struct broker_queue_options full_at(uint64_t max_length, enum queue_limit_rule rule)
{
    struct broker_queue_options options = mortal();

    options.max_length = max_length;
    options.overflow = rule;
    return options;
}

static void bind_queue(struct slice exchange, struct slice queue, struct slice key)
{
    assert_int_equal(
        broker_bind(broker, exchange, &(struct broker_destination){queue, false}, key, SLICE("")), 0);
}

static void declare_exchange(struct slice name, enum exchange_type type)
{
    struct broker_exchange_options options = {.type = type, .durable = true};

    assert_int_equal(broker_declare_exchange(broker, name, &options, DECLARE_SAME), 0);
}

/* ---- the head is dropped --------------------------------------------------------------------------------------------- */

static void over_drop_head_the_oldest_go_to_the_dead_letters(void **state)
{
    (void)state;
    declare(Q, full_at(2, LIMIT_DROP_HEAD));
    publish_each("abcde");
    turn();
    assert_string_equal(waiting_in(Q), "de");
    assert_string_equal(waiting_in(DEAD), "abc");
    assert_int_equal(endings[0].end, END_MAXLEN);
}

static void over_drop_head_all_are_offered_before_any_is_dropped(void **state)
{
    (void)state;
    declare(Q, full_at(2, LIMIT_DROP_HEAD));
    subscribe(Q, 3);
    publish_each("abcdef");
    turn();
    assert_string_equal(delivered_from(0), "123");
    assert_string_equal(waiting_in(Q), "ef");
    assert_string_equal(waiting_in(DEAD), "d");
}

static void over_drop_head_what_comes_back_is_dropped_as_the_oldest(void **state)
{
    (void)state;
    declare(Q, full_at(2, LIMIT_DROP_HEAD));
    subscribe(Q, 1);
    publish_each("abc");
    turn();
    assert_string_equal(waiting_in(Q), "bc");
    broker_unsubscribe(broker, deliveries[0].consumer, now_us);
    turn();
    assert_string_equal(waiting_in(Q), "bc");
    assert_string_equal(waiting_in(DEAD), "a");
}

static void over_drop_head_by_bytes_too(void **state)
{
    struct broker_queue_options options = full_at(0, LIMIT_DROP_HEAD);

    (void)state;
    options.max_bytes = 3;
    declare(Q, options);
    publish_each("abcde");
    turn();
    assert_string_equal(waiting_in(Q), "cde");
    assert_int_equal(publish(Q, SLICE("more than all")), PUBLISH_OK);
    turn();
    assert_int_equal(numbers_of(Q).ready, 0);
    assert_int_equal(numbers_of(DEAD).ready, 6);
}

static void over_drop_head_of_priorities_the_one_that_would_go_first_is_dropped(void **state)
{
    struct broker_queue_options options = full_at(2, LIMIT_DROP_HEAD);

    (void)state;
    options.priorities = 3;
    declare(Q, options);
    for (uint8_t i = 0; i < 3; i++)
        assert_int_equal(
            publish_as((struct broker_publication){.key = Q, .body = slice_of(&"012"[i], 1), .priority = i}),
            PUBLISH_OK);
    turn();
    assert_string_equal(waiting_in(Q), "01");
    assert_string_equal(waiting_in(DEAD), "2");
}

static void after_a_restart_the_head_over_the_limit_is_dropped(void **state)
{
    (void)state;
    declare(Q, full_at(2, LIMIT_DROP_HEAD));
    subscribe(Q, 1);
    publish_each("abc");
    turn();
    restart();
    assert_string_equal(waiting_in(Q), "bc");
    assert_string_equal(waiting_in(DEAD), "a");
}

/* ---- new ones are buried --------------------------------------------------------------------------------------------- */

static void over_bury_new_they_are_refused_and_go_to_the_dead_letters(void **state)
{
    (void)state;
    declare(Q, full_at(2, LIMIT_BURY_NEW));
    publish_each("ab");
    assert_int_equal(publish(Q, SLICE("c")), PUBLISH_FULL);
    turn();
    assert_string_equal(waiting_in(Q), "ab");
    assert_string_equal(waiting_in(DEAD), "c");
    assert_int_equal(numbers_of(Q).refused, 1);
    restart();
    assert_string_equal(waiting_in(Q), "ab");
    assert_string_equal(waiting_in(DEAD), "c");
}

static void over_bury_new_without_dead_letters_they_are_only_refused(void **state)
{
    struct broker_queue_options options = plain();

    (void)state;
    options.max_length = 1;
    options.overflow = LIMIT_BURY_NEW;
    declare(Q, options);
    publish_each("a");
    assert_int_equal(publish(Q, SLICE("b")), PUBLISH_FULL);
    assert_string_equal(waiting_in(Q), "a");
}

static void over_bury_new_a_full_grave_keeps_its_own(void **state)
{
    struct broker_queue_options options = plain();

    (void)state;
    options.max_length = 1;
    declare(DEAD, options);
    options.overflow = LIMIT_BURY_NEW;
    options.has_dead_letter = true;
    options.dead_key = DEAD;
    declare(Q, options);
    publish_each("a");
    assert_int_equal(publish(Q, SLICE("b")), PUBLISH_FULL);
    assert_int_equal(publish(Q, SLICE("c")), PUBLISH_FULL);
    assert_string_equal(waiting_in(DEAD), "b");
}

/* ---- nothing waits --------------------------------------------------------------------------------------------------- */

static void where_nothing_waits_a_consumer_gets_it_or_nobody(void **state)
{
    struct broker_queue_options options = full_at(0, LIMIT_DROP_HEAD);

    (void)state;
    options.nothing_waits = true;
    declare(Q, options);
    publish_each("a");
    turn();
    assert_string_equal(waiting_in(DEAD), "a");
    subscribe(Q, 2);
    publish_each("bcd");
    turn();
    assert_string_equal(delivered_from(0), "34"); /* 2 is the dead one's new number */
    assert_string_equal(waiting_in(Q), "");
    assert_string_equal(waiting_in(DEAD), "ad");
}

static void where_nothing_waits_and_new_ones_are_refused_all_are(void **state)
{
    struct broker_queue_options options = plain();

    (void)state;
    options.nothing_waits = true;
    declare(Q, options);
    subscribe(Q, 0);
    assert_int_equal(publish(Q, SLICE("a")), PUBLISH_FULL);
}

/* ---- some of its queues refuse --------------------------------------------------------------------------------------- */

static void a_partial_message_goes_to_those_that_are_not_full(void **state)
{
    struct broker_publication publication = {.exchange = SLICE("x"), .body = SLICE("b"), .partial = true};
    struct broker_published published;

    (void)state;
    declare_exchange(SLICE("x"), EXCHANGE_FANOUT);
    declare(Q, full_at(1, LIMIT_REJECT_NEW));
    declare(SLICE("empty"), plain());
    bind_queue(SLICE("x"), Q, SLICE(""));
    bind_queue(SLICE("x"), SLICE("empty"), SLICE(""));
    publish_each("a");
    assert_int_equal(broker_publish(broker, &publication, &published, now_us), PUBLISH_FULL);
    assert_true(slice_equal(published.full, Q));
    assert_int_not_equal(published.position, 0);
    assert_string_equal(waiting_in(Q), "a");
    assert_string_equal(waiting_in(SLICE("empty")), "b");
    publication.partial = false;
    assert_int_equal(broker_publish(broker, &publication, &published, now_us), PUBLISH_FULL);
    assert_int_equal(published.position, 0);
    assert_string_equal(waiting_in(SLICE("empty")), "b");
}

static void a_partial_message_that_all_refuse_is_in_none(void **state)
{
    struct broker_publication publication = {.key = Q, .body = SLICE("b"), .partial = true};
    struct broker_published published;

    (void)state;
    declare(Q, full_at(1, LIMIT_REJECT_NEW));
    publish_each("a");
    assert_int_equal(broker_publish(broker, &publication, &published, now_us), PUBLISH_FULL);
    assert_int_equal(published.position, 0);
    assert_string_equal(waiting_in(Q), "a");
}

static void what_a_partial_message_buries_takes_no_room_that_it_was_given(void **state)
{
    struct broker_queue_options options = plain();

    (void)state;
    declare_exchange(SLICE("x"), EXCHANGE_FANOUT);
    options.max_length = 1;
    declare(SLICE("a"), options);
    options.overflow = LIMIT_BURY_NEW;
    options.has_dead_letter = true;
    options.dead_key = SLICE("a");
    declare(Q, options);
    bind_queue(SLICE("x"), SLICE("a"), SLICE(""));
    bind_queue(SLICE("x"), Q, SLICE(""));
    publish_each("q");
    assert_int_equal(
        publish_as((struct broker_publication){.exchange = SLICE("x"), .body = SLICE("b"), .partial = true}),
        PUBLISH_FULL);
    assert_string_equal(waiting_in(SLICE("a")), "b");
    assert_string_equal(waiting_in(Q), "q");
}

static void what_one_queue_drops_takes_no_room_that_another_had(void **state)
{
    struct broker_queue_options options = plain();

    (void)state;
    declare_exchange(SLICE("x"), EXCHANGE_FANOUT);
    options.max_length = 1;
    declare(DEAD, options);
    options.overflow = LIMIT_DEAD_LETTER;
    options.has_dead_letter = true;
    options.dead_key = DEAD;
    declare(Q, options);
    bind_queue(SLICE("x"), DEAD, SLICE(""));
    bind_queue(SLICE("x"), Q, SLICE(""));
    publish_each("q");
    assert_int_equal(publish_as((struct broker_publication){.exchange = SLICE("x"), .body = SLICE("b")}),
                     PUBLISH_FULL);
    assert_int_equal(numbers_of(DEAD).ready, 1);
}

/* ---- attempts -------------------------------------------------------------------------------------------------------- */

static void the_last_attempt_that_fails_is_the_end(void **state)
{
    struct broker_queue_options options = mortal();

    (void)state;
    options.attempts = 3;
    options.retry_first_us = 0;
    declare(Q, options);
    subscribe(Q, 0);
    publish_each("a");
    turn();
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(n_deliveries, i + 1);
        assert_int_equal(deliveries[i].delivery.attempt, i + 1);
        try_again(i);
        turn();
    }
    assert_int_equal(n_deliveries, 3);
    assert_int_equal(endings[0].end, END_ATTEMPTS);
    assert_int_equal(endings[0].attempts, 3);
    assert_string_equal(waiting_in(DEAD), "a");
}

static void a_retry_at_once_goes_before_the_younger_ones(void **state)
{
    struct broker_queue_options options = plain();

    (void)state;
    options.retry_first_us = 0;
    declare(Q, options);
    subscribe(Q, 1);
    publish_each("abc");
    turn();
    try_again(0);
    turn();
    assert_string_equal(delivered_from(0), "11");
    assert_int_equal(deliveries[1].delivery.attempt, 2);
    assert_true(deliveries[1].delivery.redelivered);
}

static void a_restart_keeps_attempts_that_were_tried_again_at_once(void **state)
{
    struct broker_queue_options options = mortal();

    (void)state;
    options.attempts = 3;
    options.retry_first_us = 0;
    declare(Q, options);
    subscribe(Q, 0);
    publish_each("ab");
    turn();
    try_again(1);
    turn();
    try_again(2);
    turn();
    restart();
    subscribe(Q, 0);
    turn();
    assert_string_equal(delivered_from(4), "12");
    assert_int_equal(deliveries[4].delivery.attempt, 1);
    assert_int_equal(deliveries[5].delivery.attempt, 3);
    assert_true(deliveries[4].delivery.redelivered && deliveries[5].delivery.redelivered);
}

/* ---- the dead -------------------------------------------------------------------------------------------------------- */

/* What a peek finds of the only message in a queue. */
struct found {
    unsigned n;
    char key[16], copies[64];
    struct death latest, first;
    bool has_copies, has_latest, has_first;
    char head[512];
};

static void find_death(void *arg, const struct broker_peeked *peeked)
{
    struct found *found = arg;
    const struct message *m = peeked->message;
    struct slice head, value;

    found->n++;
    assert_true(m->head.len <= sizeof found->head);
    if (m->head.len)
        memcpy(found->head, m->head.ptr, m->head.len);
    head = slice_of(found->head, m->head.len);
    snprintf(found->key, sizeof found->key, "%.*s", SLICE_ARG(m->routing_key));
    value = envelope_find(head, ENVELOPE_COPIES);
    found->has_copies = value.ptr;
    value = envelope_find(head, ENVELOPE_DEATH);
    found->has_latest = value.ptr && death_parse(value, &found->latest);
    value = envelope_find(head, ENVELOPE_FIRST_DEATH);
    found->has_first = value.ptr && death_parse(value, &found->first);
}

static struct found look_into(struct slice queue)
{
    static struct found found; /* the deaths point into it */

    found = (struct found){.n = 0};
    assert_int_equal(broker_peek(broker, queue, 0, 10, find_death, &found), 0);
    assert_int_equal(found.n, 1);
    return found;
}

static void one_that_expires_into_its_own_queue_is_dropped(void **state)
{
    struct broker_queue_options options = plain();

    (void)state;
    options.max_age_us = US_PER_S;
    options.has_dead_letter = true;
    options.dead_key = Q;
    declare(Q, options);
    publish_each("a");
    turn();
    run_for(5 * US_PER_S);
    assert_string_equal(waiting_in(Q), "");
    assert_int_equal(numbers_of(Q).ended[END_EXPIRED], 1);
}

static void one_that_expires_round_through_two_queues_is_dropped(void **state)
{
    struct broker_queue_options options = plain();

    (void)state;
    options.max_age_us = US_PER_S;
    options.has_dead_letter = true;
    options.dead_key = Q;
    declare(DEAD, options);
    options.dead_key = DEAD;
    declare(Q, options);
    publish_each("a");
    turn();
    run_for(1500 * US_PER_MS);
    assert_string_equal(waiting_in(DEAD), "a");
    run_for(5 * US_PER_S);
    assert_int_equal(numbers_of(Q).ready + numbers_of(DEAD).ready, 0);
    assert_int_equal(n_endings, 2);
}

static void one_that_was_rejected_on_its_way_goes_round(void **state)
{
    struct broker_queue_options options = plain();

    (void)state;
    options.max_age_us = US_PER_S;
    options.has_dead_letter = true;
    options.dead_key = Q;
    declare(DEAD, options);
    options.dead_key = DEAD;
    options.max_age_us = 0;
    declare(Q, options);
    subscribe(Q, 0);
    publish_each("a");
    turn();
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(n_deliveries, i + 1);
        reject(i);
        turn();
        run_for(1500 * US_PER_MS);
    }
    assert_int_equal(n_deliveries, 6);
}

static void one_that_is_rejected_may_come_back_to_its_queue(void **state)
{
    struct broker_queue_options options = plain();
    struct found found;

    (void)state;
    options.has_dead_letter = true;
    options.dead_key = Q;
    declare(Q, options);
    subscribe(Q, 1);
    publish_each("a");
    turn();
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(n_deliveries, i + 1);
        reject(i);
        turn();
    }
    broker_unsubscribe(broker, deliveries[0].consumer, now_us);
    turn();
    found = look_into(Q);
    assert_int_equal(found.latest.count, 3);
    assert_int_equal(found.first.count, 1);
}

static void the_first_death_stays_beside_the_latest(void **state)
{
    struct broker_queue_options options = mortal();
    struct found found;

    (void)state;
    declare(SLICE("grave"), plain());
    options.max_age_us = US_PER_S;
    declare(Q, options);
    options.dead_key = SLICE("grave");
    assert_int_equal(broker_declare_queue(broker, DEAD, &options, DECLARE_SET), 0);
    publish_each("a");
    turn();
    run_for(1500 * US_PER_MS);
    found = look_into(DEAD);
    assert_true(found.has_first && slice_equal(found.first.queue, Q) && slice_equal(found.latest.queue, Q));
    run_for(1500 * US_PER_MS);
    found = look_into(SLICE("grave"));
    assert_true(slice_equal(found.first.queue, Q) && slice_equal(found.latest.queue, DEAD));
    restart();
    found = look_into(SLICE("grave"));
    assert_true(slice_equal(found.first.queue, Q) && slice_equal(found.latest.queue, DEAD));
}

static void the_dead_keep_their_key_where_none_is_given(void **state)
{
    struct broker_queue_options options = mortal();

    (void)state;
    declare_exchange(SLICE("x"), EXCHANGE_DIRECT);
    declare_exchange(SLICE("dlx"), EXCHANGE_DIRECT);
    options.dead_exchange = SLICE("dlx");
    options.dead_key = SLICE("other");
    options.dead_keeps_key = true;
    options.max_age_us = US_PER_S;
    declare(Q, options);
    bind_queue(SLICE("x"), Q, SLICE("k"));
    bind_queue(SLICE("dlx"), DEAD, SLICE("k"));
    assert_int_equal(publish_as((struct broker_publication){
                         .exchange = SLICE("x"), .key = SLICE("k"), .body = SLICE("a")}),
                     PUBLISH_OK);
    turn();
    run_for(2 * US_PER_S);
    assert_string_equal(look_into(DEAD).key, "k");
}

static void the_dead_go_to_as_many_queues_as_they_are_sent_to(void **state)
{
    struct broker_queue_options options = plain();
    char name[8];

    (void)state;
    declare_exchange(SLICE("x"), EXCHANGE_FANOUT);
    for (unsigned i = 0; i < 200; i++) {
        snprintf(name, sizeof name, "d%u", i);
        declare(slice_from_text(name), options);
        bind_queue(SLICE("x"), slice_from_text(name), SLICE(""));
    }
    options.has_dead_letter = true;
    options.dead_exchange = SLICE("x");
    options.max_age_us = US_PER_S;
    declare(Q, options);
    publish_each("a");
    turn();
    run_for(2 * US_PER_S);
    assert_string_equal(waiting_in(SLICE("d0")), "a");
    assert_string_equal(waiting_in(SLICE("d199")), "a");
}

/* Expires in Q, with the copies' keys k1 and k2 beside its own. */
static void let_one_with_copies_die(bool keeps_key)
{
    char head[64], copies[] = "\2k1\2k2";
    struct broker_queue_options options = mortal();
    char *end = envelope_put(
        head, &(struct envelope_item){.tag = ENVELOPE_COPIES, .value = slice_of(copies, sizeof copies - 1)});

    declare_exchange(SLICE("dlx"), EXCHANGE_DIRECT);
    declare(SLICE("k1"), plain());
    options.dead_exchange = SLICE("dlx");
    options.dead_key = SLICE("given");
    options.dead_keeps_key = keeps_key;
    options.max_age_us = US_PER_S;
    declare(Q, options);
    bind_queue(SLICE("dlx"), DEAD, keeps_key ? SLICE("q") : SLICE("given"));
    bind_queue(SLICE("dlx"), SLICE("k1"), SLICE("k1"));
    assert_int_equal(publish_as((struct broker_publication){
                         .key = Q, .body = SLICE("a"), .head = slice_of(head, (size_t)(end - head))}),
                     PUBLISH_OK);
    turn();
    run_for(2 * US_PER_S);
}

static void the_dead_that_keep_their_key_keep_their_copies(void **state)
{
    struct found found;

    (void)state;
    let_one_with_copies_die(true);
    found = look_into(DEAD);
    assert_true(found.has_copies && found.latest.copies.len == 6);
    found = look_into(SLICE("k1"));
    assert_true(found.has_copies);
}

static void the_dead_with_another_key_lose_their_copies(void **state)
{
    struct found found;

    (void)state;
    let_one_with_copies_die(false);
    found = look_into(DEAD);
    assert_true(!found.has_copies && found.latest.copies.len == 6);
    assert_string_equal(found.key, "given");
    assert_string_equal(waiting_in(SLICE("k1")), "");
}

static void more_copies_than_a_death_can_tell_of_do_not_keep_one_from_dying(void **state)
{
    size_t n = 300 * 256;
    char *copies = malloc(n), *head = malloc(n + ENVELOPE_ITEM_OVERHEAD), *end;
    struct broker_queue_options options = mortal();

    (void)state;
    assert_true(copies && head);
    memset(copies, 'k', n);
    for (size_t i = 0; i < n; i += 256)
        copies[i] = (char)255;
    end = envelope_put(head, &(struct envelope_item){.tag = ENVELOPE_COPIES, .value = slice_of(copies, n)});
    options.max_age_us = US_PER_S;
    declare(Q, options);
    assert_int_equal(publish_as((struct broker_publication){
                         .key = Q, .body = SLICE("a"), .head = slice_of(head, (size_t)(end - head))}),
                     PUBLISH_OK);
    turn();
    run_for(2 * US_PER_S);
    assert_string_equal(waiting_in(DEAD), "a");
    free(copies);
    free(head);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(over_drop_head_the_oldest_go_to_the_dead_letters),
        TEST(over_drop_head_all_are_offered_before_any_is_dropped),
        TEST(over_drop_head_what_comes_back_is_dropped_as_the_oldest),
        TEST(over_drop_head_by_bytes_too),
        TEST(over_drop_head_of_priorities_the_one_that_would_go_first_is_dropped),
        TEST_BOTH(after_a_restart_the_head_over_the_limit_is_dropped),
        TEST_BOTH(over_bury_new_they_are_refused_and_go_to_the_dead_letters),
        TEST(over_bury_new_without_dead_letters_they_are_only_refused),
        TEST(over_bury_new_a_full_grave_keeps_its_own),
        TEST(where_nothing_waits_a_consumer_gets_it_or_nobody),
        TEST(where_nothing_waits_and_new_ones_are_refused_all_are),
        TEST(a_partial_message_goes_to_those_that_are_not_full),
        TEST(a_partial_message_that_all_refuse_is_in_none),
        TEST(what_a_partial_message_buries_takes_no_room_that_it_was_given),
        TEST(what_one_queue_drops_takes_no_room_that_another_had),
        TEST(the_last_attempt_that_fails_is_the_end),
        TEST(a_retry_at_once_goes_before_the_younger_ones),
        TEST_BOTH(a_restart_keeps_attempts_that_were_tried_again_at_once),
        TEST(one_that_expires_into_its_own_queue_is_dropped),
        TEST(one_that_expires_round_through_two_queues_is_dropped),
        TEST(one_that_was_rejected_on_its_way_goes_round),
        TEST(one_that_is_rejected_may_come_back_to_its_queue),
        TEST_BOTH(the_first_death_stays_beside_the_latest),
        TEST(the_dead_keep_their_key_where_none_is_given),
        TEST(the_dead_go_to_as_many_queues_as_they_are_sent_to),
        TEST(the_dead_that_keep_their_key_keep_their_copies),
        TEST(the_dead_with_another_key_lose_their_copies),
        TEST(more_copies_than_a_death_can_tell_of_do_not_keep_one_from_dying),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
