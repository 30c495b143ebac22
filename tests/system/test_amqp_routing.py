"""AMQP: which queues an exchange's messages go to: tables of bindings and of what matches them."""
import pytest

from kit.amqp import bodies, channel_closed, publish


@pytest.fixture
def channel(amqp):
    return amqp.channel()


def bound(amqp, channel, exchange, key="", arguments=None):
    queue = amqp.queue(channel)
    channel.queue_bind(queue, exchange, key, arguments)
    return queue


TOPICS = {
    "": ["", ],
    "a": ["a"],
    "a.b": ["a.b"],
    "*": ["a", "b", "é"],
    "#": ["", "a", "b", "é", "a.b", "a.b.c", "a.b.c.d", "b.a", ".", "a.", ".a", "..", "a..b", "*", "#", "a.*"],
    "*.*": ["a.b", "b.a", ".", "a.", ".a", "a.*"],
    "a.*": ["a.b", "a.", "a.*"],
    "*.b": ["a.b"],
    "a.#": ["a", "a.b", "a.b.c", "a.b.c.d", "a.", "a..b", "a.*"],
    "#.b": ["b", "a.b", "a..b"],
    "a.#.b": ["a.b", "a..b"],
    "a.*.c": ["a.b.c"],
    "#.#": ["", "a", "b", "é", "a.b", "a.b.c", "a.b.c.d", "b.a", ".", "a.", ".a", "..", "a..b", "*", "#", "a.*"],
    "*.#": ["a", "b", "é", "a.b", "a.b.c", "a.b.c.d", "b.a", ".", "a.", ".a", "..", "a..b", "*", "#", "a.*"],
    "#.*": ["a", "b", "é", "a.b", "a.b.c", "a.b.c.d", "b.a", ".", "a.", ".a", "..", "a..b", "*", "#", "a.*"],
    "#.c.#": ["a.b.c", "a.b.c.d"],
    "a.#.#.c": ["a.b.c"],
    "#.b.#.d": ["a.b.c.d"],
    "*.*.*": ["a.b.c", "..", "a..b"],
    "a*": [],
    "a#.b": [],
    "..": [".."],
    "a..b": ["a..b"],
}
KEYS = TOPICS["#"]


def test_a_topic_matches_words(amqp, channel):
    """`*` is one word, `#` any number of them, also none; a word may be empty."""
    exchange = amqp.exchange(channel, "topic")
    queues = {pattern: bound(amqp, channel, exchange, pattern) for pattern in TOPICS}
    for key in KEYS:
        publish(channel, key, f"<{key}>", exchange=exchange)
    got = {pattern: sorted(body.decode()[1:-1] for body in bodies(channel, queue)) for pattern, queue in queues.items()}
    wanted = {pattern: sorted(keys) for pattern, keys in TOPICS.items()}
    wanted["*"] = sorted(wanted["*"] + ["*", "#"])
    assert got == wanted


def test_a_direct_exchange_compares_bytes(amqp, channel):
    exchange = amqp.exchange(channel, "direct")
    keys = ["", "a", "A", "a.b", "a.*", "#", "é", "x" * 255]
    queues = {key: bound(amqp, channel, exchange, key) for key in keys}
    for key in [*keys, "b", "ab", "x" * 254]:
        publish(channel, key, f"<{key}>", exchange=exchange)
    assert {key: bodies(channel, queue) for key, queue in queues.items()} == {key: [f"<{key}>".encode()] for key in keys}


def test_a_fanout_exchange_looks_at_no_key(amqp, channel):
    exchange = amqp.exchange(channel, "fanout")
    queues = [bound(amqp, channel, exchange, key) for key in ("", "a", "b")]
    publish(channel, "c", "soup", exchange=exchange)
    assert [bodies(channel, queue) for queue in queues] == [[b"soup"]] * 3


@pytest.mark.parametrize("kind, keys", [("direct", ["a", "a"]), ("topic", ["a", "*", "#"]), ("fanout", ["a", "b"])])
def test_a_queue_that_is_bound_more_than_once_gets_a_message_once(amqp, channel, kind, keys):
    exchange, queue = amqp.exchange(channel, kind), amqp.queue(channel)
    for key in keys:
        channel.queue_bind(queue, exchange, key)
    publish(channel, "a", "once", exchange=exchange)
    assert bodies(channel, queue) == [b"once"]


MATCHES = {     # arguments of the binding: which of MESSAGES match
    "nothing": ({}, "empty one two both other number text void mine"),
    "one": ({"a": 1}, "one both number"),
    "all": ({"x-match": "all", "a": 1, "b": "x"}, "both"),
    "any": ({"x-match": "any", "a": 1, "b": "x"}, "one two both number"),
    "any of none": ({"x-match": "any"}, ""),
    "all of none": ({"x-match": "all"}, "empty one two both other number text void mine"),
    "is there": ({"a": None}, "one both other number text void"),
    "text": ({"a": "1"}, "text"),
    "x- is left out": ({"x-mine": 5, "a": 1}, "one both number"),
    "bool": ({"a": True}, ""),
    "all with x-": ({"x-match": "all-with-x", "x-mine": 5}, "mine"),
    "any with x-": ({"x-match": "any-with-x", "x-mine": 5, "b": "x"}, "two both mine"),
}
MESSAGES = {"empty": {}, "one": {"a": 1}, "two": {"b": "x"}, "both": {"a": 1, "b": "x"}, "other": {"a": 2},
            "number": {"a": 1, "c": 3}, "text": {"a": "1"}, "void": {"a": None}, "mine": {"x-mine": 5}}


def test_a_headers_exchange_compares_headers(amqp, channel):
    exchange = amqp.exchange(channel, "headers")
    queues = {name: bound(amqp, channel, exchange, "", arguments) for name, (arguments, _) in MATCHES.items()}
    for name, headers in MESSAGES.items():
        publish(channel, "", name, exchange=exchange, headers=headers)
    got = {name: {body.decode() for body in bodies(channel, queue)} for name, queue in queues.items()}
    assert got == {name: set(wanted.split()) for name, (_, wanted) in MATCHES.items()}


@pytest.mark.parametrize("value, why", [
    ("some", 'value <<"some">>; expected all, any, all-with-x, or any-with-x'),
    (5, "type signedint (value 5); expected longstr")], ids=["word", "number"])
def test_x_match_must_be_known(amqp, channel, value, why):
    exchange, queue = amqp.exchange(channel, "headers"), amqp.queue(channel)
    with channel_closed(channel, 406, f"PRECONDITION_FAILED - Invalid x-match field {why}"):
        channel.queue_bind(queue, exchange, "", {"x-match": value})


def test_a_message_without_headers_matches_a_headers_binding_of_nothing(amqp, channel):
    exchange = amqp.exchange(channel, "headers")
    everything = bound(amqp, channel, exchange)
    something = bound(amqp, channel, exchange, "", {"a": 1})
    publish(channel, "", "bare", exchange=exchange)
    assert bodies(channel, everything) == [b"bare"] and bodies(channel, something) == []


@pytest.mark.parametrize("kind", ["direct", "topic", "fanout", "headers"])
def test_an_unbound_queue_gets_nothing_more(amqp, channel, kind):
    exchange = amqp.exchange(channel, kind)
    queue = bound(amqp, channel, exchange, "a", {"h": 1})
    publish(channel, "a", "soup", exchange=exchange, headers={"h": 1})
    channel.queue_unbind(queue, exchange, "a", {"h": 1})
    publish(channel, "a", "lost", exchange=exchange, headers={"h": 1})
    assert bodies(channel, queue) == [b"soup"]


def test_bindings_that_differ_in_arguments_are_two(amqp, channel):
    exchange = amqp.exchange(channel, "direct")
    queue = bound(amqp, channel, exchange, "a", {"x": 1})
    channel.queue_bind(queue, exchange, "a", {"x": 2})
    channel.queue_unbind(queue, exchange, "a", {"x": 1})
    publish(channel, "a", "still", exchange=exchange)
    channel.queue_unbind(queue, exchange, "a", {"x": 2})
    publish(channel, "a", "lost", exchange=exchange)
    assert bodies(channel, queue) == [b"still"]


def test_many_queues_get_what_they_are_bound_for(amqp, channel):
    exchange = amqp.exchange(channel, "topic")
    queues = [bound(amqp, channel, exchange, f"n.{number}.#") for number in range(40)]
    for number in range(40):
        publish(channel, f"n.{number}.x", str(number), exchange=exchange)
    assert [bodies(channel, queue) for queue in queues] == [[str(number).encode()] for number in range(40)]


CC = {  # headers of the message, published with key "a": which of the queues bound by a, b, c get it
    "CC": ({"CC": ["b"]}, "ab"),
    "BCC": ({"BCC": ["c"]}, "ac"),
    "both": ({"CC": ["b"], "BCC": ["c"]}, "abc"),
    "itself": ({"CC": ["a", "a"]}, "a"),
    "nobody": ({"CC": []}, "a"),
    "unknown": ({"CC": ["z"]}, "a"),
}


@pytest.mark.parametrize("headers, wanted", CC.values(), ids=CC)
def test_a_message_goes_to_its_carbon_copies_too(amqp, channel, headers, wanted):
    exchange = amqp.exchange(channel, "direct")
    queues = {key: bound(amqp, channel, exchange, key) for key in "abc"}
    publish(channel, "a", "soup", exchange=exchange, headers=headers)
    assert "".join(key for key, queue in queues.items() if bodies(channel, queue) == [b"soup"]) == wanted


def test_bcc_is_taken_off_and_cc_stays(amqp, channel):
    queue = amqp.queue(channel)
    publish(channel, queue, "soup", headers={"CC": ["b"], "BCC": ["c"], "other": 1})
    assert channel.basic_get(queue, auto_ack=True)[1].headers == {"CC": ["b"], "other": 1}


def test_carbon_copies_work_through_the_default_exchange(amqp, channel):
    queues = [amqp.queue(channel) for _ in range(3)]
    publish(channel, queues[0], "soup", headers={"CC": [queues[1]], "BCC": [queues[2]]})
    assert [bodies(channel, queue) for queue in queues] == [[b"soup"]] * 3
