"""Chromium without a window, for tests of the status page."""

from __future__ import annotations

import base64
import contextlib
import functools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.remote_connection import RemoteConnection

from tests.helpers.servers import require

__all__ = ["Browser", "browser", "quit_chromium"]

_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-sync", "--disable-background-networking", "--disable-component-update",
    "--disable-dev-shm-usage",
)  # fmt: skip
_kept = contextlib.ExitStack()
"""Ends the Chromium of this process."""


class Browser:
    """A page in Chromium, seen through its own scripts."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def look(
        self, *, width: int = 1440, height: int = 1000, dark: bool = False, still: bool = False
    ) -> None:
        """Be a screen of that size, with that preference of colours, and of motion."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        features = [
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce" if still else "no-preference"},
        ]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def open(self, url: str) -> None:
        """Go there."""
        self.driver.get(url)

    def js(self, script: str, *arguments: object) -> Any:
        """What a script returns."""
        return self.driver.execute_script(script, *arguments)

    def text(self, selector: str) -> str:
        """The text of the first element that fits, as it is shown."""
        found = self.js("return document.querySelector(arguments[0])?.innerText", selector)
        return str(found or "")

    def press(self, *keys: str, holding: str | None = None) -> None:
        """Press keys, wherever the focus is, while another is held down."""
        # not to an element: the page may make another one in between
        actions = webdriver.ActionChains(self.driver)
        if holding is not None:
            actions.key_down(holding)
        actions.send_keys(*keys)
        if holding is not None:
            actions.key_up(holding)
        actions.perform()

    def focus(self) -> str:
        """The id of the element that has the focus."""
        return str(self.js("return document.activeElement.id"))

    def complaints(self) -> list[str]:
        """What the console holds that is no mere message."""
        return [
            entry["message"] for entry in self.driver.get_log("browser") if entry["level"] != "INFO"
        ]

    def click(self, selector: str) -> None:
        """Click on the first element that fits."""
        self.driver.find_element(By.CSS_SELECTOR, selector).click()

    def shot(self, path: Path, *, of: str | None = None) -> None:
        """A picture of what is seen, or of one element of the page, without scroll bars, as
        WebP.
        """
        self.driver.execute_cdp_cmd("Emulation.setScrollbarsHidden", {"hidden": True})
        options: dict[str, object] = {"format": "webp", "quality": 80}
        if of is not None:
            box = self.js(
                f"const box = document.querySelector({of!r}).getBoundingClientRect();"
                "return [box.x + scrollX, box.y + scrollY, box.width, box.height]"
            )
            clip = dict(zip(("x", "y", "width", "height"), box, strict=True))
            options |= {"clip": {**clip, "scale": 1}, "captureBeyondViewport": True}
        made = self.driver.execute_cdp_cmd("Page.captureScreenshot", options)
        path.write_bytes(base64.b64decode(made["data"]))


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """A browser within the block, in which nothing is left of the blocks before it.

    They share one Chromium, for its start takes longer than most tests do. It is ended where a
    block fails, and by `quit_chromium`, which the tests call behind the last of them.
    """
    try:
        driver = _chromium()
        first = driver.current_window_handle
        driver.switch_to.new_window("window")
        for command in ("clearBrowserCookies", "clearBrowserCache"):
            driver.execute_cdp_cmd(f"Network.{command}", {})
        driver.get_log("browser")

        yield Browser(driver)

        driver.close()  # with what it stored for its session
        driver.switch_to.window(first)
    except BaseException:
        quit_chromium()  # something may hang in it
        raise


def quit_chromium() -> None:
    """End the Chromium of this process, if there is one."""
    _chromium.cache_clear()
    _kept.close()


@functools.cache
def _chromium() -> Any:
    """The driver of a Chromium with a profile of its own."""
    binary = require("chromium", "apt-get install -y chromium")
    program = require("chromedriver", "apt-get install -y chromium-driver")
    profile = _kept.enter_context(
        tempfile.TemporaryDirectory(prefix="datasync-chromium-", ignore_cleanup_errors=True)
    )

    options = webdriver.ChromeOptions()
    options.binary_location = binary
    # the page follows a stream, whose end would be waited for
    options.page_load_strategy = "eager"
    for flag in (*_FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})

    # it outlives the test that starts it: in a session of its own, as servers are
    service = Service(program, popen_kw={"start_new_session": True})
    driver = webdriver.Chrome(options=options, service=service)
    _kept.callback(driver.quit)
    assert isinstance(driver.command_executor, RemoteConnection)
    driver.command_executor.client_config.timeout = 30
    return driver
