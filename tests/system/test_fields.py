"""Which fields pass, which end here, and which are added on the way."""
import re

import pytest

from kit.checks import passed_on
from kit.config import listener, proxying, top
from kit.origin import REQUEST, EchoOrigin, forever
from kit.wire import answer, request


@pytest.fixture(scope="module")
def proxy(shared):
    return shared.maitred(proxying(shared.add(EchoOrigin())))


def test_fields_pass_in_order_as_they_were_written(proxy):
    sent = ["X-One: 1", "x-two: 2", "X-ONE: 3", "Cookie: a=b", "Cookie: c=d", "Authorization: Basic eA==",
            "Accept: */*",
            "User-Agent: me/1.0 (x; y)", "X-Empty:", "Accept-Encoding: gzip, br", "Referer: http://x/?y"]
    told = passed_on(proxy, request("GET", "/", *sent))
    names = {line.partition(":")[0] for line in sent}
    assert [f"{name}: {value}".rstrip() for name, value in told.fields if name in names] == sent


def test_spaces_around_a_value_are_trimmed(proxy):
    assert passed_on(proxy, request("GET", "/", "X-Odd: \t  a  b\t ")).get("X-Odd") == "a  b"


@pytest.mark.parametrize("field", ["Keep-Alive: timeout=5", "Proxy-Connection: keep-alive", "TE: gzip", "Upgrade: x"])
def test_hop_by_hop_fields_of_a_request_end_here(proxy, field):
    assert field.partition(":")[0] not in passed_on(proxy, request("GET", "/", field))


def test_te_trailers_is_passed_on_and_other_codings_are_not(proxy):
    told = passed_on(proxy, request("GET", "/", "TE: gzip;q=0.5, trailers", "Connection: TE"))
    assert told.get("TE") in (None, "trailers")
    told = passed_on(proxy, request("GET", "/", "TE: trailers", "Connection: TE"))
    assert told.get("TE") == "trailers"


def test_connection_itself_is_not_passed_on(proxy):
    told = passed_on(proxy, request("GET", "/", "Connection: close, x"))
    assert (told.get("Connection") or "keep-alive").lower() == "keep-alive"


def test_via_is_added_to_a_request(proxy):
    via = passed_on(proxy, request()).get("Via")
    assert re.fullmatch(r"1\.1 \S+", via)


def test_via_is_appended_and_tells_the_version_that_came(proxy):
    told = passed_on(proxy, request("GET", "/", "Via: 1.1 edge", version="HTTP/1.0"))
    chain = ", ".join(told.all("Via")).split(", ")
    assert len(chain) == 2 and chain[0] == "1.1 edge" and chain[1].startswith("1.0 ")


def test_fields_of_an_answer_pass_in_order(maitred, scripted):
    sent = ["Set-Cookie: a=b", "X-One: 1", "Set-Cookie: c=d", "Date: Tue, 15 Nov 1994 08:12:31 GMT",
            "server: origin/1", "Vary: *"]
    proxy = maitred(proxying(scripted(forever(REQUEST, answer(b"x", *sent)))))
    response = proxy.get()
    names = {line.partition(":")[0] for line in sent}
    assert [f"{name}: {value}" for name, value in response.fields if name in names] == sent


def test_hop_by_hop_fields_of_an_answer_end_here(maitred, scripted):
    proxy = maitred(proxying(scripted(forever(REQUEST, answer(
        b"x", "Connection: keep-alive, X-Secret", "Keep-Alive: timeout=5", "X-Secret: 1", "Proxy-Connection: x",
        "Upgrade: h2c",
        "X-Kept: 2")))))
    response = proxy.get()
    for name in ("Keep-Alive", "X-Secret", "Proxy-Connection", "Upgrade"):
        assert name not in response, response.fields
    assert response.get("X-Kept") == "2"
    assert (response.get("Connection") or "keep-alive").lower() == "keep-alive"


def test_an_origin_that_says_close_does_not_close_the_client(maitred, scripted):
    proxy = maitred(proxying(scripted([lambda c: (REQUEST(c), c.send(answer(b"x", "Connection: close")))])))
    peer = proxy.client()
    for _ in range(3):
        response = peer.get()
        assert response.body == b"x"
        assert "close" not in (response.get("Connection") or "")


DATE = re.compile(r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT")


def test_date_is_added_to_an_answer_that_lacks_it(proxy):
    assert DATE.fullmatch(proxy.get().get("Date"))


def test_the_date_of_an_origin_is_kept(maitred, scripted):
    then = "Tue, 15 Nov 1994 08:12:31 GMT"
    proxy = maitred(proxying(scripted(forever(REQUEST, answer(b"x", f"Date: {then}")))))
    assert proxy.get().get("Date") == then


def test_own_answers_have_a_date_too(maitred):
    proxy = maitred(top() + listener('route "/" { respond = 200  body = "ok\\n" }'))
    assert DATE.fullmatch(proxy.get().get("Date"))
    assert DATE.fullmatch(proxy.ask(b"BAD\r\n\r\n", method="GET").get("Date"))


@pytest.mark.parametrize("status", ["200 OK", "200 ", "404 Not Found", "299 Whatever it is", "599 Odd",
                                    "418 I'm a teapot"])
def test_a_status_passes_as_it_is(maitred, scripted, status):
    proxy = maitred(proxying(scripted(forever(REQUEST, answer(b"x", status=status)))))
    assert proxy.get().status == int(status[:3])
