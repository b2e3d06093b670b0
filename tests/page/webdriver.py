"""A browser, by as much of the WebDriver protocol as the page's tests need: chromedriver and the standard library."""

import base64
import json
import os
import re
import shutil
import subprocess
import urllib.error
import urllib.request

REQUEST_LIMIT_S = 60
START_LIMIT_LINES = 20


def program(variable, name):
    found = os.environ.get(variable) or shutil.which(name)
    if not found:
        raise SystemExit(f"{name} is missing: on Debian, apt-get install chromium chromium-driver; or say where it is in {variable}")
    return found


class Browser:
    """One headless Chromium, in a session of its own."""

    def __init__(self):
        self.driver = subprocess.Popen(
            [program("CHROMEDRIVER", "chromedriver"), "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.url = None
        for _ in range(START_LIMIT_LINES):
            line = self.driver.stdout.readline()
            port = re.search(r"started successfully on port (\d+)", line)
            if port or not line:
                break
        if not port:
            raise SystemExit("chromedriver does not start")
        self.url = f"http://127.0.0.1:{port[1]}"
        arguments = ["--headless=new", "--disable-dev-shm-usage", "--hide-scrollbars", "--force-color-profile=srgb"]
        if os.geteuid() == 0:
            # Chromium's sandbox refuses root. It opens nothing but pages that were made here.
            arguments.append("--no-sandbox")
        options = {"binary": program("CHROMIUM", "chromium"), "args": arguments}
        logs = {"browser": "ALL"}
        always = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": logs}
        try:
            answer = self.call("POST", "/session", {"capabilities": {"alwaysMatch": always}})
        except BaseException:
            self.driver.terminate()
            raise
        self.url += "/session/" + answer["sessionId"]

    def close(self):
        try:
            self.call("DELETE", "")
        finally:
            self.driver.terminate()
            self.driver.wait()
            self.driver.stdout.close()

    def call(self, method, path, body=None):
        data = None if method != "POST" else json.dumps(body or {}).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=REQUEST_LIMIT_S) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(json.load(error)["value"]["message"]) from None

    def devtools(self, command, **parameters):
        return self.call("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def screen(self, width, height, dark=False, touch=False):
        self.devtools("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=touch)
        self.devtools("Emulation.setTouchEmulationEnabled", enabled=touch)
        scheme = "dark" if dark else "light"
        self.devtools("Emulation.setEmulatedMedia", media="", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def paper(self):
        self.devtools("Emulation.setEmulatedMedia", media="print", features=[])

    def open(self, url):
        # A page that differs in its fragment only is not loaded again.
        self.call("POST", "/url", {"url": "about:blank"})
        self.call("POST", "/url", {"url": url})

    def run(self, script, *arguments):
        return self.call("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def press(self, *keys):
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self.call("POST", "/actions", {"actions": [{"type": "key", "id": "keys", "actions": actions}]})

    def point(self, x, y, kind="mouse", press=False):
        actions = [{"type": "pointerMove", "x": round(x), "y": round(y)}]
        if press:
            actions += [{"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0}]
        pointer = {"type": "pointer", "id": kind, "parameters": {"pointerType": kind}, "actions": actions}
        self.call("POST", "/actions", {"actions": [pointer]})

    def complaints(self):
        """What the console has been told since this was last asked."""
        return [entry["message"] for entry in self.call("POST", "/se/log", {"type": "browser"})]

    def picture(self, path, whole=False):
        shot = self.devtools("Page.captureScreenshot", captureBeyondViewport=whole)
        with open(path, "wb") as file:
            file.write(base64.b64decode(shot["data"]))

    def pdf(self, path):
        page = self.call("POST", "/print", {"background": True})
        with open(path, "wb") as file:
            file.write(base64.b64decode(page))
