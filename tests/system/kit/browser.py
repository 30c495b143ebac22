"""Chromium without a screen, and what a test wants to know of a page in it. Waits are for a condition in the page."""
import base64
import os

from selenium import webdriver
from selenium.common.exceptions import TimeoutException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from kit.wire import DEADLINE, TimedOut

DRIVER = "/usr/bin/chromedriver"
FLAGS = ("--headless=new", "--disable-dev-shm-usage", "--disable-gpu", "--no-first-run", "--disable-extensions",
         "--disable-background-networking", "--disable-component-update", "--disable-sync", "--mute-audio")

# An element that is not shown has an innerText all the same.
READ = """
const read = (selector) => {
    const element = document.querySelector(selector);
    return element?.checkVisibility() ? element.innerText : "";
};
"""

# Each text that can be seen, with the contrast that it has to what is behind it, and the contrast that it needs.
CONTRASTS = """
const rgba = (text) => { const n = text.match(/[0-9.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; };
const over = (top, below) => below.map((b, i) => i == 3 ? 1 : top[i] * top[3] + b * (1 - top[3]));
const light = (color) => {
    const [r, g, b] = color.slice(0, 3).map((c) => c / 255).map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = (element) => element === null ? [255, 255, 255, 1]
    : over(rgba(getComputedStyle(element).backgroundColor), behind(element.parentElement));
const found = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
    const element = walker.currentNode.parentElement, text = walker.currentNode.data.trim();
    if (!text || !element.checkVisibility({opacityProperty: true, visibilityProperty: true}) ||
        element.closest("script, style, option, svg, .unseen, .skip, :disabled"))
        continue;
    const style = getComputedStyle(element), ground = behind(element);
    const [a, b] = [light(over(rgba(style.color), ground)), light(ground)].sort((x, y) => y - x);
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    let opacity = 1;
    for (let each = element; each; each = each.parentElement)
        opacity *= getComputedStyle(each).opacity;
    found.push({text, ratio: (a + 0.05) / (b + 0.05) * opacity, needed: large ? 3 : 4.5});
}
return found;
"""

# The controls that can be seen, in the order of the document.
CONTROLS = """
return [...document.querySelectorAll("a[href], button, input, select, summary, [tabindex='0']")]
    .filter((each) => !each.disabled && each.checkVisibility({visibilityProperty: true}));
"""


class Browser:
    """One window. Its owner closes it. log: what the page's console said so far that is an error."""

    def __init__(self, directory):
        options = webdriver.ChromeOptions()
        flags = FLAGS + (("--no-sandbox",) if os.geteuid() == 0 else ())
        for flag in (*flags, f"--user-data-dir={directory}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "OFF"})
        self.driver = webdriver.Chrome(service=Service(DRIVER, log_path=os.devnull), options=options)
        self.driver.set_script_timeout(DEADLINE)

    def close(self):
        self.driver.quit()

    def command(self, name, **parameters):
        return self.driver.execute_cdp_cmd(name, parameters)

    def open(self, url, width=1440, height=1000, dark=False):
        """Anew, with nothing remembered."""
        self.driver.get("about:blank")
        self.command("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                     mobile=width < 600)
        self.command("Emulation.setEmulatedMedia",
                     features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])
        self.command("Storage.clearDataForOrigin", origin="/".join(url.split("/")[:3]), storageTypes="all")
        self.errors()
        self.driver.get(url)

    def errors(self):
        """What the console said since the last time that is wrong."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]

    # --- what is there

    def run(self, script, *arguments):
        """The body of a function of JavaScript."""
        return self.driver.execute_script(script, *arguments)

    def wait(self, script, *arguments, seconds=DEADLINE):
        """Until the script returns something that is true; returns that."""
        try:
            return WebDriverWait(self.driver, seconds, poll_frequency=0.05).until(lambda _: self.run(script, *arguments))
        except TimeoutException:
            raise TimedOut(f"the page never had {script!r} {arguments}; it is\n{self.text('body')}") from None

    def text(self, selector):
        """What can be read there; "" where nothing can be seen."""
        return self.run(f"{READ} return read(arguments[0])", selector)

    def wait_text(self, selector, *parts, seconds=DEADLINE):
        """Until all of them can be read there."""
        self.wait(f"{READ} return arguments[1].every((part) => read(arguments[0]).includes(part))", selector, parts,
                  seconds=seconds)

    def is_seen(self, selector):
        return self.run("return document.querySelector(arguments[0])?.checkVisibility() ?? false", selector)

    def named(self, name, inside="body"):
        """The control whose name, as a screen reader tells it, is this."""
        return self.wait("""
            const labelled = (each) => [...each.labels[0].childNodes].filter((node) => node !== each)
                .map((node) => node.textContent).join("");
            return [...document.querySelector(arguments[1]).querySelectorAll("a, button, input, select")]
                .find((each) => each.checkVisibility() && arguments[0] ===
                    (each.getAttribute("aria-label") ?? (each.labels?.length ? labelled(each) : each.innerText)).trim())""",
                         name, inside)

    # --- what a user does

    def click(self, name, inside="body"):
        self.named(name, inside).click()

    def keys(self, *keys):
        ActionChains(self.driver).send_keys(*keys).perform()

    def focused(self):
        return self.driver.switch_to.active_element

    def tab_to(self, element, limit=200):
        """By the tabulator alone."""
        for _ in range(limit):
            self.keys(Keys.TAB)
            if self.focused() == element:
                return
        raise TimedOut(f"{limit} steps never came to {element.get_attribute('outerHTML')}")

    # --- what it costs, and how it looks

    def metrics(self):
        """Chromium's Performance.getMetrics as a dictionary."""
        return {each["name"]: each["value"] for each in self.command("Performance.getMetrics")["metrics"]}

    def screenshot(self, path):
        path.write_bytes(base64.b64decode(self.command("Page.captureScreenshot", format="png")["data"]))


__all__ = ["Browser", "CONTRASTS", "CONTROLS", "Keys"]
