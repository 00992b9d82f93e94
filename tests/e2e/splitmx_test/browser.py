"""A real browser (Debian's chromium, by selenium): what is on a page, what it asked for, what it complained about."""

import importlib.util
import json
import shutil
import tempfile

from .waiting import poll

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
MISSING = [name for name, there in (("chromium", CHROMIUM), ("chromedriver", DRIVER),
                                    ("python3-selenium", importlib.util.find_spec("selenium"))) if not there]

# The page's clock runs faster, so that nobody waits for it; what it asked for is kept.
HASTE = 20
CLOCK = """
const wait = window.setTimeout;
window.asked = [];
window.setTimeout = (f, ms, ...more) => { window.asked.push(ms); return wait(f, ms / %d, ...more); };
""" % HASTE

# Elements with text of their own whose contrast with what is behind them is less than WCAG's AA asks for.
CONTRAST = """
const parts = (c) => c.match(/[\\d.]+/g).map(Number);
const light = (c) => parts(c).slice(0, 3).map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const ground = (e) => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
  const p = parts(c); if (p.length < 4 || p[3] === 1) return c; } return 'rgb(255, 255, 255)'; };
return [...document.body.querySelectorAll('*')].filter((e) => !e.closest('noscript, .spoken, script') && e.checkVisibility() &&
    [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim())).map((e) => {
  const style = getComputedStyle(e), ink = light(e.namespaceURI.endsWith('svg') ? style.fill : style.color), back = light(ground(e));
  const ratio = (Math.max(ink, back) + 0.05) / (Math.min(ink, back) + 0.05);
  return [ratio, e.tagName, e.textContent.slice(0, 40)];
}).filter(([ratio]) => ratio < 4.5);
"""


class Browser:
    """One window. begin(): as for somebody new."""

    def __init__(self):
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service

        self.folder = tempfile.mkdtemp(prefix="splitmx-browser-", dir="/tmp")
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", f"--user-data-dir={self.folder}"):
            options.add_argument(argument)  # no sandbox: tests run as root, in containers
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(service=Service(DRIVER), options=options)
        self.tell("Page.addScriptToEvaluateOnNewDocument", source=CLOCK)

    def tell(self, command, **parameters):
        return self.driver.execute_cdp_cmd(command, parameters)

    def close(self):
        self.driver.quit()
        shutil.rmtree(self.folder, ignore_errors=True)

    def begin(self):
        self.driver.get("about:blank")
        self.media()
        self.width(1000)
        self.requests(), self.complaints()

    def media(self, scheme="light", motion="no-preference"):
        self.tell("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme},
                                                          {"name": "prefers-reduced-motion", "value": motion}])

    def width(self, width, height=800):
        self.tell("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def open(self, url):
        self.driver.get(url)

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def text(self, selector="body"):
        return self.run("return document.querySelector(arguments[0])?.innerText ?? ''", selector)

    def count(self, selector):
        return self.run("return document.querySelectorAll(arguments[0]).length", selector)

    def await_text(self, selector, *words, timeout=20):
        def there():
            text = self.text(selector)
            return text if all(word in text for word in words) else None

        try:
            return poll(there, f"{words} in {selector}", timeout, 0.05)
        except AssertionError as error:
            raise AssertionError(f"{error}; there is: {self.text(selector)!r}") from None

    def keys(self, *keys):
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def focus(self):
        """The id, or the name, of the element that has it."""
        return self.run("const e = document.activeElement; return e.id || e.className || e.tagName")

    def requests(self):
        """URLs that were asked for since the last call."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]

    def complaints(self):
        """What the browser had to say since the last call: violations of the policy, exceptions, what could not be loaded."""
        return [entry for entry in self.driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]

    def contrast(self):
        return self.run(CONTRAST)
