"""The report in headless Chromium: accessible by axe-core, keyboard, themes, phone, export, no network.

Needs Debian's ``chromium`` and ``chromium-driver``, and the file ``axe.min.js`` of npm's axe-core, named by
EDGE_BENCH_AXE. `.ci/run` installs both; there (CI is set) a missing one is a failure, elsewhere the tests are skipped.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from made_results import made_result, write_result
from PIL import Image
from test_report import HOSTILE, RESULTS, everything, history_of

from edge_bench.benchmarks.report.gather import gather
from edge_bench.benchmarks.report.page import page

pytestmark = pytest.mark.slow
_ = everything  # a fixture

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip


def needed(what: str, found: str | None) -> str:
    """Return where something is; without it, skip, or fail in CI."""
    if found:
        return found
    message = f"{what} is not here"
    if os.environ.get("CI"):
        pytest.fail(f"{message}: .ci/run installs it")
    pytest.skip(message)


@pytest.fixture(scope="module")
def axe() -> str:
    """The source of axe-core."""
    file = os.environ.get("EDGE_BENCH_AXE")
    return Path(needed("axe-core (EDGE_BENCH_AXE)", file if file and Path(file).is_file() else None)).read_text()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A Chromium that is driven; it never outlives the tests."""
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = needed("Chromium", shutil.which("chromium"))
    driver = needed("ChromeDriver", shutil.which("chromedriver"))
    folder = tmp_path_factory.mktemp("browser")
    for flag in (*FLAGS, f"--user-data-dir={folder}/profile", "--window-size=1100,900"):
        options.add_argument(flag)
    options.add_experimental_option("prefs", {"download.default_directory": str(folder / "downloads")})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chromium = webdriver.Chrome(options=options, service=Service(driver))
    chromium.downloads = folder / "downloads"
    try:
        yield chromium
    finally:
        chromium.quit()


@pytest.fixture(scope="module")
def report(everything: list[Path], tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a page with everything."""
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(page(gather(everything), title=f"All {HOSTILE}"), encoding="utf-8")
    return file.as_uri()


def look(browser: Any, address: str, *, width: int = 1100, dark: bool = False) -> None:
    """Open a page in a window of a size, with a colour scheme."""
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(address)


def wait(condition: Callable[[], Any], seconds: float = 30) -> Any:
    """Return what a condition gives once it is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.1)
    raise AssertionError("it did not happen in time")


@pytest.mark.parametrize(("width", "dark"), [(1100, False), (375, True)])
def test_axe_finds_nothing(browser: Any, report: str, axe: str, width: int, dark: bool) -> None:
    look(browser, report, width=width, dark=dark)
    browser.execute_script("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    browser.execute_script(axe)
    found = browser.execute_async_script("axe.run().then(arguments[0])")
    assert [(v["id"], v["nodes"][0]["html"][:200], v["nodes"][0]["failureSummary"]) for v in found["violations"]] == []
    assert len(found["passes"]) > 20
    unsure = {v["id"] for v in found["incomplete"]}
    assert unsure <= {"color-contrast"}, "words over pictures, whose background axe cannot tell"


@pytest.mark.parametrize("width", [320, 375, 1100])
def test_nothing_is_wider_than_the_window(browser: Any, report: str, width: int) -> None:
    look(browser, report, width=width)
    wide = "return [document.documentElement.scrollWidth, innerWidth]"
    needed_, there = browser.execute_script(wide)
    assert needed_ <= there
    pictures = "[...document.querySelectorAll('.picture')].filter((p) => p.getClientRects().length)"
    shown = browser.execute_script(f"return {pictures}.map((p) => p.className)")
    assert set(shown) == {"picture narrow" if width < 560 else "picture wide"}


def test_no_network_and_no_errors(browser: Any, report: str) -> None:
    browser.get_log("performance"), browser.get_log("browser")
    look(browser, report)
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"}
    assert {url for url in asked if not url.startswith("data:")} == {report}
    assert browser.get_log("browser") == []
    assert browser.execute_script("return document.querySelectorAll('img, iframe, object').length") == 0


def test_the_keyboard_reaches_everything(browser: Any, report: str) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    look(browser, report)
    count = browser.execute_script(
        "return [...document.querySelectorAll('a, button, summary, [tabindex=\"0\"]')]"
        ".filter((e) => e.checkVisibility({contentVisibilityAuto: true})).length"
    )
    seen, now = [], "const e = document.activeElement; return [e.outerHTML, getComputedStyle(e).outlineStyle]"
    for _ in range(count):
        ActionChains(browser).send_keys(Keys.TAB).perform()
        seen.append(tuple(browser.execute_script(now)))
    assert len(set(seen)) == count > 20 and "skip" in seen[0][0]
    assert {outline for _, outline in seen} == {"solid"}, "where one is can be seen"
    theme = browser.find_element("id", "theme")
    background = "return getComputedStyle(document.body).backgroundColor"
    theme.send_keys(Keys.ENTER)
    theme.send_keys(Keys.ENTER)
    assert theme.text == "Theme: dark" and browser.execute_script(background) == "rgb(20, 24, 29)"
    theme.send_keys(Keys.SPACE)
    assert theme.text == "Theme: system" and browser.execute_script(background) == "rgb(255, 255, 255)"
    browser.find_element("css selector", "#figure-stages summary").send_keys(Keys.ENTER)
    assert browser.find_element("css selector", "#figure-stages table").is_displayed()


def test_pictures_are_saved(browser: Any, report: str) -> None:
    look(browser, report)
    for kind in ("svg", "png"):
        browser.find_element("css selector", f"#figure-stages [data-export={kind}]").click()
    svg, png = (browser.downloads / f"edge-bench-stages.{kind}" for kind in ("svg", "png"))
    wait(lambda: svg.exists() and png.exists())
    root = ElementTree.fromstring(svg.read_text())
    bars = [e for e in root.iter("{http://www.w3.org/2000/svg}rect") if "fill:" in e.get("style", "")]
    assert bars and "rgb(15, 123, 83)" in str([b.get("style") for b in bars]), "colours are in the file"
    picture = Image.open(png).convert("RGB")
    assert picture.width == 2 * float(root.get("width", 0))
    colours = {colour for _, colour in picture.getcolors(1 << 20) or []}
    assert picture.getpixel((1, 1)) == (255, 255, 255) and (15, 123, 83) in colours


def test_the_committed_page_is_small_and_opens(browser: Any, axe: str) -> None:
    file = RESULTS / "report.html"
    assert file.stat().st_size < 300_000
    look(browser, file.as_uri())
    browser.execute_script(axe)
    assert browser.execute_async_script("axe.run().then((r) => arguments[0](r.violations.length))") == 0


def test_without_scripts_it_is_still_a_page(browser: Any, tmp_path: Path) -> None:
    file = tmp_path / "r.html"
    file.write_text(page(gather([*history_of(tmp_path, 3), write_result(tmp_path / "x.json", made_result())])))
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        look(browser, file.as_uri())
        text = browser.find_element("css selector", "main").text
        assert "takes" in text and not browser.find_element("id", "theme").is_displayed()
        assert base64.b64decode(browser.get_screenshot_as_base64())[:4] == b"\x89PNG"
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
