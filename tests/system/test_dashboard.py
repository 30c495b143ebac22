"""The dashboard in a browser: what it shows of a house in which things happen, what can be done with it, and by whom."""
import re

import pytest

from kit.admin import admin_of
from kit.browser import CONTRASTS, CONTROLS, Browser, Keys
from kit.config import admin, listener, pool, proxying, top
from kit.origin import Closed, EchoOrigin, tell
from kit.queue import Worker, fill, post, queue
from kit.wire import answer
from kit.workers import Crew, section, tell_gauge
from kit.workers import house as workers_house

TOKEN = "s3cret-Token-of-24-chars"
HEALTH = "health { interval = 60ms  fast-interval = 60ms  fall = 1  rise = 1 }"
LONG = "a-name-of-a-pool-that-somebody-took-to-be-short-enough-for-all"
SECTIONS = ("servers", "queues", "listeners", "requests", "events", "process")


def config(house):
    routes = ('route "/" { pool = web }  route "/api" { pool = api }  route "/orders" { queue = orders }\n'
              '    route "/mail" { queue = mail }')
    return (top(f'state = "{{dir}}/state"\nstate-segment = 1m\n{admin()}') + listener(routes) +
            pool("web", *house.web, options=HEALTH) + pool("api", *house.api, options=HEALTH) +
            pool("cooks", house.worker) +
            queue("orders", "push { pool = cooks }", "dead-letter = dead") + queue("dead") + queue("mail"))


class House:
    """A maitred with pools web and api of two servers each, and queues: orders is pushed to a worker, dead has the dead
    letters of orders, and mail is read by nobody."""

    def __init__(self, stage):
        self.web, self.api = ([stage.add(EchoOrigin(f"{name}{n}", respond=self._respond)) for n in (1, 2)]
                              for name in ("web", "api"))
        self.worker = stage.add(Worker())
        self.proxy = stage.maitred(config(self))
        self.admin = admin_of(self.proxy)
        self.url = f"http://127.0.0.1:{self.proxy.port9}/"

    @staticmethod
    def _respond(asked):
        return answer(b"", status="500 Wrong") if asked.target.startswith("/wrong") else tell(asked)

    def publish(self, name, count):
        for _ in range(count):
            assert self.admin.post(f"/api/queues/{name}/publish", "Content-Length: 1", body=b"x").status == 200

    def queue(self, name):
        return next(each for each in self.admin.state()["queues"] if each["name"] == name)

    def wait_queue(self, name, condition):
        self.admin.wait(lambda state: any(each["name"] == name and condition(each) for each in state["queues"]), name)


@pytest.fixture(scope="module")
def house(shared):
    return House(shared)


@pytest.fixture(scope="module", autouse=True)
def troubled(shared):
    """The dashboard of a house whose only server is down, and with a queue that was flooded: it gets 3000 messages, and gives
    50 a second. Here before the first test: what is said of both, is said of the last 10 seconds."""
    proxy = shared.maitred(
        top(f'state = "{{dir}}/state"\nstate-segment = 1m\n{admin()}') +
        listener(f'route "/" {{ pool = {LONG} }}  route "/flood" {{ queue = flood }}') +
        pool(LONG, shared.add(Closed()), options=HEALTH) + pool("cooks", shared.add(Worker())) +
        queue("flood", "push { pool = cooks  rate = 50/s  concurrency = 4 }"))
    fill(proxy, "/flood", 3000, size=64, streams=4)
    return f"http://127.0.0.1:{proxy.port9}/"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


@pytest.fixture
def page(browser, house):
    """page(section): the dashboard of the house, once it shows something. The console must not have complained."""
    def show(section="servers", **look):
        browser.open(f"{house.url}#{section}", **look)
        browser.wait_text(".overall", "up")
        return browser
    yield show
    assert browser.errors() == []


# --- what it shows

def test_the_picture_has_what_the_house_has(page, house):
    for _ in range(5):
        house.proxy.get("/")
    shown = page()
    assert shown.run("return document.title") == "maitred"
    shown.wait_text("#node-users", "Users", "client")
    shown.wait_text("#node-balancer", "Load balancer", "1 listener", f"127.0.0.1:{house.proxy.port}", "http")
    shown.wait_text("#node-servers", "4 of 4 up", "web", "api", "2 of 2 up")
    shown.wait_text("#node-queue", "3 queues", "orders", "mail", "dead", "empty")
    shown.wait_text("#node-workers", "cooks", "1 of 1 up")
    assert not shown.is_seen("#node-database") and not shown.is_seen("#edge-database")
    shown.wait_text("#edge-users", "/s", "p95", "errors")
    assert not shown.is_seen("#edge-push") and "load balancer" not in shown.text("#edge-queue")
    assert "cooks" not in shown.text("#node-servers")


def test_what_there_is_not_is_not_drawn(browser, maitred, echo):
    proxy = maitred(proxying(echo(), general=admin()))
    browser.open(f"http://127.0.0.1:{proxy.port9}/")
    browser.wait_text("#node-servers", "1 of 1 up")
    for name in ("queue", "workers", "database"):
        assert not browser.is_seen(f"#node-{name}") and not browser.is_seen(f"#edge-{name}")
    assert not browser.is_seen("#tab-queues") and browser.is_seen("#tab-servers")
    assert browser.errors() == []


def rates_of_listeners(shown):
    """By kind, or route, from the table of listeners."""
    return dict(shown.run("""return [...document.querySelectorAll("#section-body tbody tr")]
        .map((row) => [".reason", "[data-label=Rate] span"].map((cell) => row.querySelector(cell).innerText))"""))


def test_what_a_queue_pushes_to_servers_is_no_request_of_the_balancer(browser, maitred, echo):
    """Nor is it work of the workers, of which there are none here."""
    proxy = maitred(top(f'state = "{{dir}}/state"\nstate-segment = 1m\n{admin()}') +
                    listener('route "/" { pool = cooks }  route "/orders" { queue = orders }') + pool("cooks", echo()) +
                    queue("orders", "push { pool = cooks }"))
    browser.open(f"http://127.0.0.1:{proxy.port9}/", width=390, height=844)
    fill(proxy, "/orders", 200, size=64, streams=4)
    browser.wait_text("#edge-push", "message queue to servers", "/s", "errors")
    browser.wait("return parseFloat(document.querySelector('#edge-push .rate').innerText) > 10")
    browser.wait_text("#edge-queue", "load balancer to message queue")
    browser.wait_text("#edge-servers", "load balancer to servers", "0/s")
    assert not browser.is_seen("#edge-workers")
    assert browser.run("return document.querySelector('#edge-push').ariaLabel") == "From message queue to servers"
    proxy.get("/")
    browser.wait_text("#edge-servers", "0.1/s")
    browser.run("location.hash = 'listeners'")
    browser.wait_text("#section-body tbody", "http")
    assert rates_of_listeners(browser)["http"].endswith("/s")
    assert browser.errors() == []


def test_a_dead_server_is_said_with_its_cause(page, house):
    shown = page()
    shown.wait_text("#node-servers", "4 of 4 up")
    victim = house.api[1]
    victim.stop()
    try:
        shown.wait_text("#node-servers", "3 of 4 up, 1 down", "1 of 2 up, 1 down")
        shown.wait_text("#reasons", "pool api: 1 of 2 servers down")
        shown.wait_text("#latest", f"server {victim.at} is down: Connection refused")
        shown.wait_text(".overall", "degraded")
        assert shown.run("return document.title") == "degraded: maitred"
        assert "degraded" in shown.run("return document.getElementById('announcer').textContent")
        shown.click("needs attention (1)")
        shown.wait_text("#section-body tbody", victim.at, "down", "Connection refused")
        assert shown.run("return document.querySelectorAll('#section-body tbody tr').length") == 1
    finally:
        victim.restart()
    shown.wait_text("#node-servers", "4 of 4 up")
    shown.wait("return document.querySelector('#reasons-section').hidden")


def test_a_flood_is_a_backlog_that_drains(browser, troubled):
    browser.open(f"{troubled}#queues")
    browser.wait_text("#node-queue", "1 queue", "flood", "ready", "oldest")
    ready = int(re.search(r"([0-9,]+) ready", browser.text("#node-queue"))[1].replace(",", ""))
    assert 100 < ready < 3000
    browser.wait("return /drains in [0-9]+ (s|min)/.test(document.querySelector('#node-queue').innerText)", seconds=15)
    browser.wait("return /in [0-9]+ (s|min)/.test(document.querySelector('#section-body tbody').innerText)")
    assert browser.errors() == []


def test_the_bottleneck_is_marked_with_figures_and_relief(browser, troubled):
    browser.open(troubled)
    browser.wait_text("#bottleneck", f"The bottleneck: servers {LONG}", f"pool {LONG} has no usable server",
                      "Connection refused", "What would relieve it", "start its servers again", seconds=15)
    browser.wait_text("#node-servers", "the bottleneck", "0 of 1 up, 1 down")
    assert browser.run("return [...document.querySelectorAll('.node.bottleneck')].map((node) => node.id)") == ["node-servers"]
    assert browser.errors() == []


def test_a_bottleneck_that_is_over_is_told_as_past(browser, maitred):
    """And it is not read out again, for nothing else is it now."""
    crew = Crew(maitred(workers_house(section("gauge = db"), "gauge db { full = 20  unit = connections }")))
    browser.open(f"http://127.0.0.1:{crew.proxy.port9}/")
    tell_gauge(crew, "db", 21)
    browser.wait_text("#bottleneck", "The bottleneck: database db", "db is full", seconds=15)
    browser.wait_text("#node-database", "the bottleneck")
    announced = browser.run("return document.getElementById('announcer').textContent")
    assert announced.startswith("The bottleneck: database db. db is full")
    tell_gauge(crew, "db", 1)
    browser.wait_text("#bottleneck", "It was the bottleneck: database db", "s ago: db is full: 21 of 20 connections", seconds=15)
    assert browser.run("return document.getElementById('announcer').textContent") == announced
    browser.wait_text("#node-database", "was the bottleneck", "1 connections")
    for dark in (False, True):
        browser.command("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])
        assert [each for each in browser.run(CONTRASTS) if each["ratio"] < each["needed"]] == []
    browser.wait_text("#bottleneck", "No bottleneck", seconds=15)
    assert not browser.is_seen("#node-database .tag")
    assert browser.errors() == []


def test_workers_are_set_and_paused_and_a_gauge_is_drawn(browser, maitred):
    crew = Crew(maitred(workers_house(section("min = 1  max = 3  gauge = db"), "gauge db { full = 20  unit = connections }")))
    browser.open(f"http://127.0.0.1:{crew.proxy.port9}/#workers")
    browser.wait_text("#node-workers", "1 of 1 running", "crew", "1 to 3", "1 running", "1 desired")
    browser.wait_text("#node-database", "1 gauge", "db", "unknown")
    tell_gauge(crew, "db", 21)
    browser.wait_text("#node-database", "1 of 1 gauge full", "21 connections, full at 20", "full")
    browser.click("Set workers crew")
    browser.wait_text("dialog", "How many workers crew?", "until they are resumed")
    field = browser.named("Processes, 0 to 3", "dialog")
    field.clear()
    field.send_keys("2")
    browser.click("Set it", "dialog")
    browser.wait_text("#said", "workers crew: set to 2")
    browser.wait_text("#node-workers", "2 of 2 running", "held", "set to 2 by hand")
    browser.wait_text("#section-body", "crew 2", "Decisions about crew")
    browser.click("Pause workers crew")
    browser.wait_text("dialog", "The 2 that run get no new messages", "Queue jobs fills up meanwhile")
    browser.click("Pause them", "dialog")
    browser.wait_text("#node-workers", "0 of 0 running", "paused")
    browser.run("location.hash = 'listeners'")
    browser.wait_text("#section-body tbody", "amqp")
    assert rates_of_listeners(browser) == {"admin": "–", "amqp": "–"}
    browser.run("location.hash = 'workers'")
    browser.click("Resume workers crew")
    browser.click("Resume them", "dialog")
    browser.wait_text("#node-workers", "1 of 1 running")
    assert browser.errors() == []


def test_a_click_on_a_node_shows_its_table(page):
    shown = page()
    shown.driver.find_element("css selector", "#node-queue").click()
    shown.wait_text("#section-title", "Queues")
    assert shown.run("return document.activeElement.id") == "section-title"
    shown.wait_text("#section-body thead", "Ready", "Unacked", "Consumers")
    shown.click("mail", "#node-queue")
    shown.wait("return document.querySelectorAll('#section-body tbody tr').length === 1")


def test_the_tail_shows_the_requests_that_the_filter_wants(page, house):
    shown = page("requests")
    house.proxy.get("/before")
    shown.wait_text("#section-body", "Path has")
    shown.wait("return fetch('/api/requests').then((answer) => answer.ok)")
    for target in ("/", "/wrong/soup", "/wrong/fish", "/api/x"):
        house.proxy.get(target)
    post(house.proxy, "/mail")
    shown.wait_text("#section-body tbody", "/wrong/soup", "/wrong/fish", "/api/x", "queue mail", "202")
    shown.named("Status", "#section-body").send_keys("5xx")
    shown.wait("return document.querySelectorAll('#section-body tbody tr').length === 2")
    shown.named("Path has", "#section-body").send_keys("soup")
    shown.wait("return document.querySelectorAll('#section-body tbody tr').length === 1")
    house.proxy.get("/wrong/soup/again")
    shown.wait_text("#section-body tbody", "/wrong/soup/again", "500", "web")
    assert "/wrong/fish" not in shown.text("#section-body tbody")


def test_a_request_is_shown_once_however_slowly_they_are_told(page, house):
    """The filter changes, and before the answer comes it is time to ask again."""
    shown = page("requests")
    shown.wait("return fetch('/api/requests').then((answer) => answer.ok)")
    for dish in range(4):
        house.proxy.get(f"/once/{dish}")
    shown.wait_text("#section-body tbody", "/once/3")
    shown.run("""const real = window.fetch;
        const open = new Promise((done) => { window.openGate = done; });
        window.fetch = async (path, options) => {
            const answer = await real(path, options);

            if (path.startsWith("/api/requests"))
                await open;
            return answer;
        };
        const filter = document.querySelector("#section-body input");
        filter.value = "/once/";
        filter.dispatchEvent(new Event("input", {bubbles: true}))""")
    shown.wait("return document.querySelector('#as-of').innerText !== arguments[0]", shown.text("#as-of"))
    shown.run("openGate()")
    house.proxy.get("/once/late")
    shown.wait_text("#section-body tbody", "/once/late")
    rows = shown.run("return [...document.querySelectorAll('#section-body tbody td.main')].map((cell) => cell.innerText)")
    assert len(rows) == len(set(rows)) == 5, rows


def test_an_address_that_leads_nowhere_leads_to_the_first_section(page):
    shown = page("nowhere")
    shown.wait_text("#section-title", "Servers")
    for section, title in (("process", "Process"), ("details", "Process"), ("toString", "Servers"), ("queues/mail", "Queues"),
                           ("gone/mail", "Servers")):
        shown.run("location.hash = arguments[0]", section)
        shown.wait_text("#section-title", title)
        shown.wait("return document.querySelectorAll('nav [aria-current]').length === 1")


def test_from_a_queue_that_nobody_reads_nothing_drains(page):
    """What went until a moment ago is still in its rates."""
    shown = page("queues/mail")
    shown.run("""const real = window.fetch;
        window.fetch = async (path, options) => {
            const answer = await real(path, options);

            if (path !== "/api/state")
                return answer;
            const state = await answer.json();

            Object.assign(state.queues.find((queue) => queue.name === "mail"), {state: "unread", ready: 7, drains_in: 11});
            return new Response(JSON.stringify(state));
        }""")
    shown.wait_text("#section-body tbody", "unread", "7", "does not drain")
    shown.wait_text("#node-queue", "7 ready", "does not drain")
    assert "drains in" not in shown.text("#node-queue") and "in 11 s" not in shown.text("#section-body")


def test_members_that_are_not_told_are_not_missed(page, house):
    """As by an older maitred, after this page was loaded from a newer one."""
    shown = page()
    shown.run("""const real = window.fetch;
        window.fetch = async (path, options) => {
            if (path !== "/api/state")
                return new Response("{}", {status: 404});
            const state = await (await real(path, options)).json();

            for (const name of ["bottleneck", "workers", "gauges", "topics", "log", "generations"])
                delete state[name];
            for (const item of [...state.listeners, ...state.pools])
                delete item.latency.p95_ms;
            for (const queue of state.queues)
                delete queue.drains_in;
            state.reasons = ["it is another one"];
            return new Response(JSON.stringify(state));
        }""")
    shown.wait_text("#reasons", "it is another one")
    assert not shown.is_seen("#bottleneck")
    for section in sections_of(shown):
        shown.wait_text("#section-title", shown.text(f"#tab-{section}"))
    shown.wait_text("#node-queue", "3 queues")


def test_what_a_client_sends_is_text_and_nothing_else(page, house):
    shown = page("requests")
    shown.wait("return fetch('/api/requests').then((answer) => answer.ok)")
    house.proxy.get("/<b>x</b><img/src=x/onerror=alert(1)>")
    shown.wait_text("#section-body tbody", "/<b>x</b><img/src=x/onerror=alert(1)>")
    assert shown.run("return document.querySelector('#section-body b, #section-body img')") is None


# --- what can be done with it

def test_a_server_is_drained_once_it_was_confirmed(page, house):
    shown, server = page(), house.web[0].at
    shown.click(f"Drain server {server} of pool web")
    shown.wait_text("dialog", f"Drain server {server} of pool web?", "gets no new requests", "1 other server")
    shown.click("Cancel", "dialog")
    shown.wait("return !document.querySelector('dialog').open")
    assert house.admin.server(server)["state"] == "up"
    shown.click(f"Drain server {server} of pool web")
    shown.click("Drain it", "dialog")
    shown.wait_text("#said", f"server {server} drains")
    shown.wait_text("#node-servers", "1 draining")
    assert house.admin.server(server)["state"] == "draining"
    shown.click(f"Reset server {server} of pool web")
    shown.click("Reset it", "dialog")
    shown.wait_text("#node-servers", "4 of 4 up")


def test_a_weight_that_is_none_is_not_sent(page, house):
    shown, server = page(), house.web[1].at
    shown.click(f"Weight server {server} of pool web")
    field = shown.named("Weight, 1 to 256", "dialog")
    field.clear()
    field.send_keys("300")
    shown.click("Set the weight", "dialog")
    assert shown.run("return document.querySelector('dialog').open && !document.querySelector('dialog form').checkValidity()")
    field.clear()
    field.send_keys("5")
    shown.click("Set the weight", "dialog")
    shown.wait_text("#section-body tbody", "5, by hand")
    assert house.admin.server(server)["weight"] == 5
    house.admin.server_action("reset", server)


def test_a_queue_is_paused_and_resumed(page, house):
    shown = page("queues/mail")
    shown.click("Pause queue mail")
    shown.wait_text("dialog", "Pause queue mail?", "Nothing is delivered from it until it is resumed, over restarts too")
    shown.click("Pause it", "dialog")
    shown.wait_text("#section-body tbody", "paused")
    assert house.queue("mail")["state"] == "paused"
    shown.click("Resume queue mail")
    shown.click("Resume it", "dialog")
    house.wait_queue("mail", lambda each: each["state"] != "paused")
    shown.named("Pause queue mail")


def test_dead_letters_go_back_where_they_came_from(page, house):
    house.publish("dead", 3)
    before = len(house.worker.requests)
    shown = page("queues/dead")
    shown.click("Move queue dead")
    shown.wait_text("dialog", "3 messages are ready here", "Queue orders sends its dead letters here")
    assert shown.run("return document.querySelector('#dialog-to').value") == "orders"
    shown.click("Move them", "dialog")
    shown.wait_text("#said", "moved 3 messages")
    house.worker.wait_requests(before + 3)
    house.wait_queue("dead", lambda each: each["ready"] == 0)


def test_a_purge_says_how_many_are_lost(page, house):
    house.publish("mail", 2)
    shown = page("queues/mail")
    shown.wait_text("#section-body tbody", "unread")
    shown.click("Purge queue mail")
    shown.wait_text("dialog", "waiting message", "Nothing brings them back")
    shown.driver.find_element("css selector", "#dialog-do").click()
    house.wait_queue("mail", lambda each: each["ready"] == 0)


def test_a_refusal_is_said_in_the_dialog(page, house):
    shown = page("queues/dead")
    house.publish("dead", 1)
    shown.click("Move queue dead")
    shown.wait_text("dialog", "To queue")
    shown.run("""const select = document.querySelector('#dialog-to');
        select.options[0].value = 'nowhere';
        select.selectedIndex = 0""")
    shown.click("Move them", "dialog")
    shown.wait_text("#dialog-error", "there is no queue nowhere")
    shown.keys(Keys.ESCAPE)
    shown.wait("return !document.querySelector('dialog').open")
    house.admin.post("/api/queues/dead/purge")
    assert [each for each in shown.errors() if "404" not in each] == []


def test_a_reload_tells_its_errors_and_its_warnings(browser, maitred, echo):
    proxy = maitred(proxying(echo(), general=admin()))
    good = proxy.config.read_text()
    browser.open(f"http://127.0.0.1:{proxy.port9}/#process")
    browser.wait_text("#section-body", "Reload the configuration")
    proxy.config.write_text(f"{good}\nnonsense = 1\nfoolish = 2\n")
    browser.click("Reload the configuration…")
    browser.click("Reload it", "dialog")
    browser.wait_text("#dialog-error", f"{proxy.config}:", "nonsense")
    lines = browser.text("#dialog-error").splitlines()
    assert len(lines) > 2 and all(re.search(r"\.conf:\d+: ", line) for line in lines[1:]), lines
    proxy.config.write_text(good)
    browser.click("Reload it", "dialog")
    browser.wait_text("#said", "there was nothing to take up")
    proxy.config.write_text(good.replace("threads = 1", "threads = 2", 1))
    browser.click("Reload the configuration…")
    browser.click("Reload it", "dialog")
    browser.wait_text("#said", "warning: ", "threads")
    assert len(browser.text("#said").splitlines()) == 2
    assert [each for each in browser.errors() if "status of 4" not in each] == []


# --- who may see it, and when it is not there

def test_a_token_is_asked_for_and_forgotten(browser, maitred, echo):
    proxy = maitred(proxying(echo(), general=admin(f'token = "{TOKEN}"')))
    browser.open(f"http://127.0.0.1:{proxy.port9}/")
    browser.wait_text("#login", "A token is needed")
    assert browser.run("return document.activeElement.id") == "token"
    browser.keys("a-wrong-token-of-24-chars", Keys.ENTER)
    browser.wait_text("#login-error", "That is not the token")
    browser.keys(TOKEN, Keys.ENTER)
    browser.wait_text("#node-servers", "1 of 1 up")
    browser.driver.refresh()
    browser.wait_text("#node-servers", "1 of 1 up")
    browser.click("Drain server " + proxy_server(proxy))
    browser.click("Drain it", "dialog")
    browser.wait_text("#said", "drains")
    browser.click("Sign out")
    browser.wait_text("#login", "A token is needed")
    assert not browser.is_seen("#live")


def proxy_server(proxy):
    return f"{admin_of(proxy, TOKEN).state()['pools'][0]['servers'][0]['name']} of pool web"


def test_a_restart_is_said_and_survived(browser, maitred, echo):
    proxy = maitred(proxying(echo(), general=admin()))
    browser.open(f"http://127.0.0.1:{proxy.port9}/")
    browser.wait_text("#node-servers", "1 of 1 up")
    browser.run("window.same = true")
    first = admin_of(proxy).state()["pid"]
    proxy.kill()
    browser.wait_text("#silence", "maitred does not answer", "is as it was then")
    assert browser.run("return document.title") == "no answer: maitred"
    proxy.start_again()
    browser.wait("return document.querySelector('#silence').hidden")
    browser.click("Process")
    browser.wait_text("#section-body", f"pid {admin_of(proxy).state()['pid']}")
    assert admin_of(proxy).state()["pid"] != first
    assert browser.run("return window.same === true")


def test_it_asks_nothing_while_nobody_sees_it(page, house):
    shown = page()
    shown.run("""Object.defineProperty(document, "hidden", {value: true, configurable: true});
        document.dispatchEvent(new Event("visibilitychange"));
        performance.clearResourceTimings()""")
    asked = "return performance.getEntriesByType('resource').length"
    begin = house.admin.state()["uptime"]
    house.admin.wait(lambda state: state["uptime"] > begin + 2.5, "2.5 s")
    assert shown.run(asked) <= 1            # one may have been under way
    shown.run("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
    shown.wait(f"{asked} > 2")


# --- everybody's page

def sections_of(shown):
    """Shows one section after the other."""
    for section in SECTIONS:
        shown.run("location.hash = arguments[0]", section)
        shown.wait("return document.querySelector(`#tab-${arguments[0]}[aria-current]`) !== null", section)
        yield section


@pytest.mark.parametrize("width", [360, 720])
def test_a_narrow_window_is_not_scrolled_sideways(browser, troubled, width):
    """720: what a window of 1440 is at 200 %."""
    shown = browser
    shown.open(troubled, width=width, height=740)
    shown.wait_text("#node-servers", LONG)
    for section in sections_of(shown):
        assert shown.run("return document.documentElement.scrollWidth <= document.documentElement.clientWidth"), section
        assert shown.run("return innerWidth") == width, section
        assert shown.run("""return [...document.querySelectorAll("main *")].filter((each) => each.checkVisibility() &&
            !each.closest(".unseen, svg") && each.getBoundingClientRect().right > innerWidth + 1)
            .map((each) => each.outerHTML)""") == [], section


def test_on_a_phone_buttons_stand_beside_each_other(page):
    shown = page(width=390, height=844)
    shown.wait_text("#section-body tbody", "Drain", "Weight")
    tops = shown.run("""return [...document.querySelectorAll("#section-body tbody tr:first-child td.actions button")]
        .map((button) => button.getBoundingClientRect().top)""")
    assert len(tops) == 2 and tops[0] == tops[1]


def test_the_keyboard_alone_drains_a_server(page, house):
    shown, server = page(), house.web[1].at
    shown.keys(Keys.TAB)
    assert shown.focused().text == "Skip the picture"
    shown.tab_to(shown.named("Servers", "nav"))
    shown.keys(Keys.ENTER)
    shown.tab_to(shown.named(f"Drain server {server} of pool web"))
    shown.keys(Keys.ENTER)
    shown.wait("return document.querySelector('dialog').open")
    assert shown.focused().text == "Cancel"
    shown.keys(Keys.ESCAPE)
    shown.wait("return !document.querySelector('dialog').open")
    assert shown.focused().get_attribute("aria-label") == f"Drain server {server} of pool web"
    shown.keys(Keys.ENTER, Keys.TAB, Keys.ENTER)
    shown.wait_text("#node-servers", "1 draining")
    assert house.admin.server(server)["state"] == "draining"
    house.admin.server_action("reset", server)


def test_the_tabulator_goes_through_the_page_as_it_is_read(page):
    shown = page(width=360, height=740)
    controls = shown.run(CONTROLS)
    for expected in controls:
        shown.keys(Keys.TAB)
        assert shown.focused() == expected, expected.get_attribute("outerHTML")
    tops = shown.run("""return arguments[0].filter((each) => !each.matches(".skip"))
        .map((each) => each.getBoundingClientRect()).map((box) => [box.top, box.bottom])""", controls)
    assert all(bottom > above for (above, _), (_, bottom) in zip(tops, tops[1:]))
    assert shown.run("return document.querySelector('[tabindex]:not([tabindex=\"0\"], [tabindex=\"-1\"])')") is None


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_text_can_be_told_from_its_ground(page, house, dark):
    """WCAG 2 AA, also of what is drained, paused or old."""
    house.admin.server_action("drain", house.web[0].at)
    house.admin.post("/api/queues/mail/pause")
    house.proxy.get("/wrong")
    try:
        shown = page(dark=dark)
        ground = shown.run("return getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", ground)[:3])) < 200) == dark
        for section in sections_of(shown):
            found = shown.run(CONTRASTS)
            assert len(found) > 50
            assert [each for each in found if each["ratio"] < each["needed"]] == [], section
        shown.run("location.hash = 'queues'")
        shown.click("Purge queue mail")
        assert [each for each in shown.run(CONTRASTS) if each["ratio"] < each["needed"]] == []
        shown.keys(Keys.ESCAPE)
    finally:
        house.admin.server_action("reset", house.web[0].at)
        house.admin.post("/api/queues/mail/resume")


def test_who_hears_the_page_gets_names_and_headings(page):
    shown = page()
    assert shown.run("return [document.documentElement.lang, document.title]") == ["en", "maitred"]
    for section in sections_of(shown):
        nodes = shown.command("Accessibility.getFullAXTree")["nodes"]
        controls = [each for each in nodes if not each["ignored"] and each.get("role", {}).get("value") in
                    ("button", "link", "textbox", "searchbox", "combobox", "checkbox", "spinbutton", "region", "image", "img")]
        assert len(controls) > 20
        assert [each for each in controls if not each.get("name", {}).get("value")] == [], section
        levels = shown.run("""return [...document.querySelectorAll("h1, h2, h3, h4")].filter((each) => each.checkVisibility())
            .map((each) => Number(each.tagName[1]))""")
        assert levels[0] == 1 and levels.count(1) == 1
        assert all(after <= before + 1 for before, after in zip(levels, levels[1:])), levels


def test_a_state_has_a_word_and_a_shape(page, house):
    house.admin.server_action("drain", house.web[0].at)
    try:
        shown = page()
        shown.wait_text("#section-body tbody", "draining")
        marks = dict(shown.run("""return [...document.querySelectorAll("#section-body .state")]
            .map((each) => [each.innerText.trim(), each.querySelector("path").getAttribute("d")])"""))
        assert {"up", "draining"} <= marks.keys()
        assert len(set(marks.values())) == len(marks)
    finally:
        house.admin.server_action("reset", house.web[0].at)


def test_figures_that_change_are_not_read_out(page, house):
    shown = page()
    shown.run("""window.said = []; new MutationObserver((changes) => said.push(...changes.map((each) => each.target.outerHTML)))
        .observe(document.getElementById("announcer"), {childList: true, characterData: true, subtree: true})""")
    live = shown.run("""return [...document.querySelectorAll("[aria-live], [role=status], [role=alert]")]
        .map((each) => each.id || each.className)""")
    assert set(live) <= {"announcer", "said", "login-error", "dialog-error", "error"}
    before = shown.text("#as-of")
    house.proxy.get("/")
    shown.wait("return document.querySelector('#as-of').innerText !== arguments[0]", before)
    assert shown.run("return window.said") == []
