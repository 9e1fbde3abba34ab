"""The dashboard in a real browser: what it shows, what its buttons do, and what it never does."""

import contextlib
import json
import os
import re
import urllib.request

from browser import Browser
from harness import HOST, Case, eventually, spare_port

TAB, ENTER, ESCAPE, BACKSPACE, CONTROL = "\ue004", "\ue007", "\ue00c", "\ue003", "\ue009"
PHONE = 360  # pixels
NOTICED = 2.0  # seconds within which a killed server has to be shown
TABS_MAX = 120

LIVE = "return document.getElementById('link').textContent === 'live' && document.querySelectorAll('#server-rows tr').length > 0"
STATE = "return document.querySelector(`tr[data-server='${arguments[0]}'] .pill`)?.textContent === arguments[1]"
BUTTON = "tr[data-server='{}'] .act"


def read_net_log(path, page):
    """What the page asked for, and all addresses that the browser connected to."""
    with open(path, encoding="utf-8") as file:
        log = json.load(file)
    names = {number: name for name, number in log["constants"]["logEventTypes"].items()}
    by_page, connected = set(), set()
    for event in log["events"]:
        told = event.get("params", {})
        if names[event["type"]] == "URL_REQUEST_START_JOB" and told.get("initiator", "") == page.rstrip("/"):
            by_page.add(told["url"])
        if names[event["type"]] == "TCP_CONNECT_ATTEMPT" and "address" in told:
            connected.add(told["address"])
    return by_page, connected


class Dashboard(Case):
    @classmethod
    def setUpClass(cls):
        cls.browser = Browser()

    @classmethod
    def tearDownClass(cls):
        cls.browser.close()

    def setUp(self):
        # The page of the test before may have had a listener that is gone.
        self.browser.open("about:blank")
        self.browser.complaints()
        self.origins = [self.origin(name=f"s{number}") for number in range(3)]

    def start(self, *options, admin=0):
        """A balancer before all servers, and the address of its dashboard."""
        balancer = self.balancer(self.origins, "--admin", f"{HOST}:{admin}", *options)
        found = eventually(lambda: balancer.err.match(r"admin at \D*127\.0\.0\.1:(\d+)"), "the log names the admin listener")
        self.page = f"http://{HOST}:{found.group(1)}/"
        return balancer

    def open(self, *options, **more):
        """The same, with the dashboard opened and filled."""
        balancer = self.start(*options, **more)
        self.browser.open(self.page)
        self.browser.wait("the dashboard is live", LIVE)
        return balancer

    def load(self, balancer):
        """Traffic that every server answers alike."""
        return self.traffic(balancer, {"/bytes/100": self.get(self.origins[0], "/bytes/100").content}, threads=2)

    def await_state(self, server, state, **more):
        self.browser.wait(f"{server.name} is {state}", STATE, server.address, state, **more)

    def status(self):
        with urllib.request.urlopen(self.page + "status", timeout=10) as answer:
            return json.load(answer)

    def told(self, server):
        """What the listener itself says of a server."""
        return next(one for one in self.status()["servers"] if one["name"] == server.address)

    def reach(self, selector):
        """Presses Tab until the focus is on what `selector` finds."""
        for _ in range(TABS_MAX):
            self.browser.keys(TAB)
            if self.browser.run("return document.activeElement.matches(arguments[0])", selector):
                return
        self.fail(f"Tab does not lead to {selector}")

    def test_it_shows_servers_figures_and_guesses_without_a_complaint(self):
        traffic = self.load(self.open())
        for server in self.origins:
            self.await_state(server, "valid")
        self.browser.wait("all is well", "return document.getElementById('verdict-text').textContent === 'All 3 servers serve'")
        self.browser.wait("the rate is drawn", "return (document.querySelector('#charts path.c1').getAttribute('d').match(/L/g) || []).length > 1")
        self.browser.wait("guesses come", "return document.querySelectorAll('#guess-list details').length > 3")
        self.browser.click("#pause")  # so that the list stands still under the pointer
        self.browser.wait("it stands still", "return document.getElementById('pause').textContent.startsWith('Go on')")
        first = self.browser.text("#guess-list summary")
        self.assertIn("/bytes/100", first)
        self.browser.click("#guess-list summary")
        reasons = self.browser.wait("a guess has reasons", "return document.querySelector('#guess-list .inside table')?.innerText")
        for server in self.origins:
            self.assertIn(server.address, reasons)
        self.assert_faultless(traffic.stop())
        self.assertEqual(self.browser.complaints(), [])

    def test_nothing_that_it_asks_for_leaves_the_loopback(self):
        log = os.path.join(self.directory(), "net.json")
        self.start()
        with contextlib.closing(Browser(net_log=log)) as browser:
            browser.open(self.page)
            browser.wait("the dashboard is live", LIVE)
            asked = browser.run("return performance.getEntriesByType('resource').map((one) => one.name)")
        self.assertIn(f"{self.page}guesses?limit=200", asked)
        self.assertEqual([url for url in asked if not url.startswith((self.page, "data:"))], [])
        by_page, connected = read_net_log(log, self.page)
        self.assertIn(f"{self.page}events", by_page)
        self.assertEqual([url for url in by_page if not url.startswith(self.page)], [])
        # The browser itself would like to ask its makers this and that, and is kept from it.
        self.assertEqual(connected, {self.page.split("/")[2]})

    def test_a_killed_server_is_shown_within_two_seconds_and_its_return_too(self):
        balancer = self.open("-X", "0.5")
        traffic = self.load(balancer)
        lost = self.origins[1]
        self.await_state(lost, "valid")
        lost.stop()
        self.await_state(lost, "refusing", timeout=NOTICED)
        self.browser.wait("it is said aloud", "return document.getElementById('said').textContent.includes(arguments[0])", f"{lost.address} is refusing")
        verdict = self.browser.wait(
            "the verdict names it", "const text = document.getElementById('verdict').innerText; return text.includes('is down') && text", timeout=NOTICED
        )
        self.assertIn(f"1 of 3 servers is down: {lost.address}", verdict)
        self.assertIn("refused", verdict)
        self.assertEqual(self.browser.run("return document.title"), "(1 down) bestguess")
        self.origin(name=lost.name, port=lost.port)
        self.await_state(lost, "valid")
        changes = self.browser.text("#change-list")
        self.assertIn("valid → refusing", changes)
        self.assert_faultless(traffic.stop())

    def test_the_keyboard_drains_a_server_and_lets_it_serve_again(self):
        balancer = self.open()
        traffic = self.load(balancer)
        one = self.origins[0]
        self.reach(BUTTON.format(one.address))
        outline = self.browser.run("return getComputedStyle(document.activeElement).outlineStyle")
        self.assertNotEqual(outline, "none", "where the focus is can be seen")
        self.browser.keys(ENTER)
        self.await_state(one, "draining")
        self.assertEqual(self.told(one)["setting"], "draining")
        eventually(lambda: self.told(one)["in_flight"] == 0, "what was under way has ended")
        before = self.told(one)["requests_total"]
        traffic.await_more(50)
        self.assertEqual(self.told(one)["requests_total"], before)
        self.assertEqual(self.browser.text(BUTTON.format(one.address)), "Enable")
        self.browser.keys(" ")  # the focus has stayed
        self.await_state(one, "valid")
        eventually(lambda: self.told(one)["requests_total"] > before, "it serves again")
        self.assert_faultless(traffic.stop())
        self.assertEqual(self.browser.complaints(), [])

    def test_a_weight_is_set_where_it_is_shown(self):
        self.open()
        one = self.origins[2]
        field = f"tr[data-server='{one.address}'] input"
        self.reach(field)
        self.browser.keys("3", ENTER)  # Tab has selected what was there
        eventually(lambda: self.told(one)["weight"] == 3, "the weight is 3")
        self.browser.wait("it is said", "return document.getElementById('said').textContent.includes('weight 3')")
        self.browser.run("document.querySelector(arguments[0]).select()", field)
        self.browser.keys("0", ENTER)
        refused = self.browser.wait("a refusal is shown", "return document.getElementById('refused').textContent")
        self.assertIn(one.address, refused)
        self.assertEqual(self.told(one)["weight"], 3)

    def test_the_last_server_is_not_drained_without_a_question(self):
        self.origins = self.origins[:1]
        self.open()
        one = self.origins[0]
        asked = "return document.getElementById('sure').open"
        self.await_state(one, "valid")
        self.reach(BUTTON.format(one.address))
        self.browser.keys(ENTER)
        self.browser.wait("it asks", asked)
        self.browser.keys(ESCAPE)
        self.browser.wait("it has gone", "return !document.getElementById('sure').open")
        self.assertEqual(self.told(one)["setting"], "enabled")
        self.browser.keys(ENTER)
        self.browser.wait("it asks again", asked)
        self.browser.click("#sure .danger")
        self.await_state(one, "draining")
        self.assertIn("No server is left", self.browser.text("#verdict"))

    def test_it_says_that_the_connection_is_lost_and_finds_it_again(self):
        port = spare_port()
        balancer = self.open(admin=port)
        balancer.ending_expected = True
        balancer.stop()
        lost = "return document.getElementById('link').textContent === 'connection lost' && !document.getElementById('lost').hidden"
        self.browser.wait("the loss is said", lost)
        self.assertIn("What you see is from", self.browser.text("#lost"))
        self.assertTrue(self.browser.run("return document.body.classList.contains('stale')"))
        self.start(admin=port)
        self.browser.wait("it is live again", LIVE, timeout=20)
        self.assertFalse(self.browser.run("return document.body.classList.contains('stale')"))

    def test_it_asks_for_the_token_and_keeps_it_for_the_visit(self):
        self.start("--admin-token", "open-sesame-and-more")
        self.browser.open(self.page)
        self.browser.wait("it asks", "return !document.getElementById('token').hidden")
        self.browser.keys(*"wrong", ENTER)  # the field has the focus
        self.browser.wait("it says no", "return document.getElementById('token-wrong').textContent")
        self.browser.keys(*"open-sesame-and-more", ENTER)
        self.browser.wait("the dashboard is live", LIVE)
        self.browser.click(BUTTON.format(self.origins[0].address))
        self.await_state(self.origins[0], "draining")
        self.browser.open(self.page)
        self.browser.wait("the dashboard is live at once", LIVE)

    def test_markup_in_what_clients_ask_for_stays_text(self):
        balancer = self.open()
        markup = "/%3Cb%3E<img%20src=x%20onerror=alert(1)>".replace("<", "'").replace(">", "'")
        self.get(balancer, "/bytes/10?<script>".replace("<", "%3C").replace(">", "%3E"))
        self.get(balancer, "/bytes/10?" + markup, "X-Request-Id: <b>bold</b>")
        self.browser.wait("both are shown", "return document.querySelectorAll('#guess-list details').length >= 2")
        self.assertEqual(self.browser.run("return document.querySelectorAll('#guess-list b, #guess-list img, #guess-list script').length"), 0)

    def test_its_policy_lets_nothing_else_run(self):
        self.open()
        ran = self.browser.run(
            "const one = document.createElement('script'); one.textContent = 'window.ran = true';"
            "document.body.append(one); return window.ran === true"
        )
        self.assertFalse(ran)
        said = "\n".join(one["message"] for one in self.browser.complaints())
        self.assertIn("Content Security Policy", said)

    def test_a_phone_shows_it_without_scrolling_sideways(self):
        traffic = self.load(self.open())
        self.browser.wait("guesses come", "return document.querySelectorAll('#guess-list details').length > 3")
        self.browser.emulate(width=PHONE, height=740)
        self.addCleanup(self.browser.command, "Emulation.clearDeviceMetricsOverride")
        self.browser.wait("the page is as narrow", "return innerWidth === arguments[0]", PHONE)
        wide = self.browser.run(
            "return [...document.querySelectorAll('body *')].filter((one) => one.getBoundingClientRect().right > innerWidth + 1"
            " && !one.closest('.inside, .unseen')).map((one) => one.outerHTML.slice(0, 80))"
        )
        self.assertEqual(wide, [])
        self.assertEqual(self.browser.run("return document.documentElement.scrollWidth"), PHONE)
        small = self.browser.run(
            "return [...document.querySelectorAll('button')].filter((one) => one.offsetHeight && one.offsetHeight < 40).length"
        )
        self.assertEqual(small, 0, "a finger hits every button")
        self.assert_faultless(traffic.stop())

    def test_it_has_a_dark_and_a_light_face(self):
        self.open()
        self.addCleanup(self.browser.command, "Emulation.setEmulatedMedia", features=[])
        lightness = {}
        for scheme in ("light", "dark"):
            self.browser.emulate(scheme=scheme)
            colours = self.browser.run("const style = getComputedStyle(document.body); return [style.color, style.backgroundColor]")
            lightness[scheme] = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in colours]
        self.assertGreater(lightness["light"][1], lightness["light"][0])
        self.assertGreater(lightness["dark"][0], lightness["dark"][1])
