"""A headless Chromium, driven by ChromeDriver over plain HTTP: no package but Debian's two is needed."""

import base64
import http.client
import json
import os
import re
import shutil
import subprocess
import tempfile
import threading
import time

START_TIMEOUT = 30.0  # seconds
ANSWER_TIMEOUT = 60.0
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # how the WebDriver standard marks an element

ARGUMENTS = [
    "--headless=new",
    "--no-sandbox",  # root runs this, in a machine of its own
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-default-browser-check",
    # A browser that is left alone asks its makers for updates, lists and words. What it asks for in
    # spite of the switches below finds no host.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-domain-reliability",
    "--disable-client-side-phishing-detection",
    "--disable-features=OptimizationHints,MediaRouter,Translate,AutofillServerCommunication,NetworkTimeServiceQuerying",
    "--no-pings",
    "--metrics-recording-only",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
]


class BrowserError(Exception):
    """What ChromeDriver says went wrong."""


class Browser:
    """One browser with one page. `net_log`, if named, gets all that the browser does on the network."""

    def __init__(self, width=1200, height=900, net_log=None):
        self.home = tempfile.mkdtemp(prefix="bestguess-browser.")
        self.driver = subprocess.Popen(
            ["chromedriver", "--port=0"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, "HOME": self.home, "TMPDIR": self.home}, start_new_session=True,
        )  # fmt: skip
        self.session = None
        try:
            self.port = self._port()
            arguments = [*ARGUMENTS, f"--user-data-dir={self.home}/profile", f"--window-size={width},{height}"]
            if net_log:
                arguments += [f"--log-net-log={net_log}"]
            options = {"args": arguments, "binary": shutil.which("chromium")}
            wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
            answer = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
            self.session = f"/session/{answer['sessionId']}"
        except BaseException:
            self.close()
            raise

    def _port(self):
        found = []
        heard = threading.Event()

        def read():
            for line in self.driver.stdout:
                if not found and (match := re.search(r"started successfully on port (\d+)", line)):
                    found.append(int(match.group(1)))
                    heard.set()
            heard.set()

        self.reader = threading.Thread(target=read, daemon=True)
        self.reader.start()
        heard.wait(START_TIMEOUT)
        if not found:
            raise BrowserError("chromedriver did not start")
        return found[0]

    def _ask(self, method, path, content=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_TIMEOUT)
        try:
            body = None if content is None else json.dumps(content)
            connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
            answer = connection.getresponse()
            value = json.loads(answer.read())["value"]
        finally:
            connection.close()
        if answer.status != 200:
            raise BrowserError(f"{value.get('error')}: {value.get('message', '').splitlines()[0]}")
        return value

    def _say(self, path, content):
        return self._ask("POST", self.session + path, content)

    def open(self, url):
        self._say("/url", {"url": url})

    def run(self, script, *arguments):
        """What the body of a function, `script`, returns in the page."""
        return self._say("/execute/sync", {"script": script, "args": list(arguments)})

    def find(self, selector):
        """The element that a CSS selector finds; no such element is an error."""
        return self._say("/element", {"using": "css selector", "value": selector})[ELEMENT]

    def click(self, selector):
        self._say(f"/element/{self.find(selector)}/click", {})

    def type(self, selector, text):
        self._say(f"/element/{self.find(selector)}/value", {"text": text})

    def keys(self, *keys):
        """Presses keys, one after the other, wherever the focus is."""
        steps = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self._say("/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": steps}]})

    def text(self, selector):
        return self.run("return document.querySelector(arguments[0])?.innerText ?? ''", selector)

    def wait(self, what, script, *arguments, timeout=10.0):
        """Waits until `script` returns what is true, and returns that."""
        end = time.monotonic() + timeout
        while True:
            value = self.run(script, *arguments)
            if value:
                return value
            if time.monotonic() > end:
                raise AssertionError(f"not within {timeout:g} s: {what}\n{self.text('body')[:2000]}")
            time.sleep(0.03)

    def emulate(self, scheme=None, width=None, height=None):
        """A preferred colour scheme, or the screen of a phone."""
        if scheme:
            features = [{"name": "prefers-color-scheme", "value": scheme}]
            self.command("Emulation.setEmulatedMedia", features=features)
        if width:
            size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": True}
            self.command("Emulation.setDeviceMetricsOverride", **size)

    def command(self, name, **parameters):
        return self._say("/goog/cdp/execute", {"cmd": name, "params": parameters})

    def screenshot(self, path, is_whole=False):
        shot = self.command("Page.captureScreenshot", format="png", captureBeyondViewport=is_whole)
        with open(path, "wb") as file:
            file.write(base64.b64decode(shot["data"]))

    def complaints(self):
        """What the page wrote to its console, or the browser about it, since this was last asked."""
        return self._say("/se/log", {"type": "browser"})

    def close(self):
        if self.session:
            try:
                self._ask("DELETE", self.session)
            except (OSError, BrowserError, ValueError):
                pass
            self.session = None
        self.driver.terminate()
        try:
            self.driver.wait(10)
        except subprocess.TimeoutExpired:
            self.driver.kill()
            self.driver.wait()
        self.reader.join(5)
        self.driver.stdout.close()
        shutil.rmtree(self.home, ignore_errors=True)
