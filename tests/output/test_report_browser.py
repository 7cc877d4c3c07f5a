"""The report in Chromium: it opens from a file, asks for nothing, and does what it shows."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import pairwise
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from bayesblina.core.tables.table import read_csv
from bayesblina.output.result_files import TEXTS

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
ARGUMENTS = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
    # Chromium's sandbox does not run as root, as whom containers run tests.
    *(["--no-sandbox"] if os.geteuid() == 0 else []),
]
WIDTHS = (1280, 768, 375)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium: apt-get install chromium"),
]


@dataclass(frozen=True)
class Opened:
    """A page, with all that it said and asked for."""

    page: Any
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    with playwright.sync_playwright() as found:
        yield found


@pytest.fixture(scope="module")
def browser(driver: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    context = driver.chromium.launch_persistent_context(
        tmp_path_factory.mktemp("profile"),
        executable_path=CHROMIUM,
        headless=True,
        args=ARGUMENTS,
        viewport={"width": WIDTHS[0], "height": 900},
    )
    yield context
    context.close()


def opened(browser: Any, path: Path) -> Opened:
    found = Opened(browser.new_page())
    found.page.on("console", lambda message: found.said.append(f"{message.type}: {message.text}"))
    found.page.on("pageerror", lambda error: found.said.append(f"error: {error}"))
    found.page.on("request", lambda request: found.asked.append(request.url))
    found.page.goto(path.as_uri())
    found.page.wait_for_function("document.documentElement.dataset.ready === 'yes'")
    return found


@pytest.fixture(scope="module")
def report(browser: Any, demo: tuple[Path, Any]) -> Iterator[Opened]:
    found = opened(browser, demo[0] / "report.html")
    yield found
    found.page.close()


@pytest.fixture
def page(report: Opened) -> Any:
    """The page as it opens, wide and light."""
    report.page.set_viewport_size({"width": WIDTHS[0], "height": 900})
    report.page.emulate_media(color_scheme="light", media="screen")
    report.page.reload()
    return report.page


def shown(page: Any) -> Any:
    return page.locator("figure[data-curves]:visible")


def test_it_opens_quietly_and_soon(report: Opened, demo: tuple[Path, Any]) -> None:
    assert report.asked == [(demo[0] / "report.html").as_uri()]
    assert report.said == []
    timing = report.page.evaluate(
        "() => performance.getEntriesByType('navigation')[0].loadEventEnd"
    )
    assert 0 < timing < 2000
    assert (demo[0] / "report.html").stat().st_size < 6_000_000


@pytest.fixture
def listener() -> Iterator[tuple[str, list[str]]]:
    """A server on this machine that notes what it is asked for."""
    heard: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            heard.append(self.path)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", heard
    server.shutdown()
    thread.join()
    server.server_close()


def test_nothing_can_leave(
    browser: Any, demo: tuple[Path, Any], listener: tuple[str, list[str]]
) -> None:
    """The policy stops what a script that got in would try."""
    address, heard = listener
    found = opened(browser, demo[0] / "report.html")
    tried = found.page.evaluate(
        """async (address) => {
            const outcomes = [];
            try { await fetch(address); outcomes.push('fetched'); }
            catch (error) { outcomes.push('stopped'); }
            const image = new Image();
            outcomes.push(await new Promise((done) => {
                image.onload = () => done('loaded');
                image.onerror = () => done('stopped');
                image.src = `${address}/x.png`;
            }));
            const script = document.createElement('script');
            script.textContent = 'window.hacked = 9';
            document.body.append(script);
            const styled = document.createElement('p');
            styled.setAttribute('style', 'color: red');
            document.body.append(styled);
            outcomes.push(window.hacked === undefined ? 'stopped' : 'ran');
            outcomes.push(styled.style.length === 0 ? 'stopped' : 'styled');
            script.remove();
            styled.remove();
            return outcomes;
        }""",
        address,
    )
    assert tried == ["stopped"] * 4
    assert heard == []
    assert sum("Content Security Policy" in line for line in found.said) >= 4
    # The listener hears what is not stopped.
    blank = browser.new_page()
    blank.evaluate(
        "(address) => fetch(`${address}/heard`, {mode: 'no-cors'}).catch(() => null)", address
    )
    assert heard == ["/heard"]
    blank.close()
    found.page.close()


def test_hover_tells_survival(page: Any, demo: tuple[Path, Any]) -> None:
    table = read_csv(demo[0] / "survival.csv", texts=TEXTS["survival"])
    table = table[table["endpoint"] == "os"]
    drawing = shown(page).locator("svg")
    drawing.scroll_into_view_if_needed()
    box = drawing.bounding_box()
    words = shown(page).locator("output")
    page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + box["height"] * 0.3)
    first = words.inner_text()
    page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + box["height"] * 0.3)
    second = words.inner_text()
    assert first != second
    assert shown(page).locator(".cross").get_attribute("visibility") == "visible"
    for text in (first, second):
        time = float(text.split(" ")[0])
        rows = table[(table["time"] - time).abs() < 0.051]
        assert len(rows) == 2
        for row in rows.to_dict("records"):
            interval = f"({row['lower']:.3f} to {row['upper']:.3f})"
            assert f"{row['regime']}: S = {row['median']:.3f} {interval} (synthetic" in text
    places = page.evaluate(
        "() => [...document.querySelectorAll('figure:not([hidden]) .cross circle')]"
        ".map((dot) => dot.getAttribute('cx'))"
    )
    assert len(set(places)) == 1


def test_choices_choose(page: Any, report: Opened) -> None:
    assert shown(page).count() == 1
    name = shown(page).get_attribute("id")
    page.select_option("#choose-endpoint", label="rfs")
    assert shown(page).get_attribute("id") != name
    assert "rfs" in shown(page).locator("figcaption").inner_text()
    page.select_option("#choose-landmark", label="12 months")
    assert "event-free at 12 months" in shown(page).locator("figcaption").inner_text()
    assert "from 12" in shown(page).locator("output").inner_text()
    box = page.get_by_label("never", exact=True)
    assert shown(page).locator(".regime:visible").count() == 2
    box.uncheck()
    assert shown(page).locator(".regime:visible").count() == 1
    assert "never" not in shown(page).locator("output").inner_text()
    box.check()
    # Two are left without maintenance at 12 months: too few for a curve of theirs.
    assert shown(page).locator(".observed path:visible").count() == 1
    page.get_by_label("observed", exact=True).uncheck()
    assert shown(page).locator(".observed path:visible").count() == 0
    # What is not drawn at this landmark cannot be chosen.
    assert page.get_by_label("from 8", exact=True).is_disabled()
    assert report.said == []


def test_keys_do_what_the_mouse_does(page: Any) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.className") == "skip"
    page.focus("#choose-endpoint")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("() => document.getElementById('choose-endpoint').value") == "1"
    slider = shown(page).locator("input[type=range]")
    slider.focus()
    before = shown(page).locator("output").inner_text()
    page.keyboard.press("ArrowRight")
    assert shown(page).locator("output").inner_text() != before
    assert "months" in slider.get_attribute("aria-valuetext")
    page.get_by_label("observed", exact=True).focus()
    page.keyboard.press("Space")
    assert shown(page).locator(".observed path:visible").count() == 0
    outline = page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


def test_everything_has_a_name(page: Any) -> None:
    """What a screen reader is told: each control and each figure has words."""
    nameless = page.evaluate(
        """() => [...document.querySelectorAll('select, input, summary, a, svg')].filter((one) =>
            !(one.textContent.trim() || one.labels?.[0]?.textContent.trim())
        ).map((one) => one.outerHTML)"""
    )
    assert nameless == []
    assert page.evaluate("() => document.documentElement.lang") == "en"
    levels = page.evaluate(
        "() => [...document.querySelectorAll('h1, h2, h3')].map((one) => Number(one.tagName[1]))"
    )
    assert levels[0] == 1
    assert all(later - earlier <= 1 for earlier, later in pairwise(levels))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_three_widths(page: Any, scheme: str, tmp_path: Path) -> None:
    page.emulate_media(color_scheme=scheme)
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        wide = page.evaluate("() => document.documentElement.scrollWidth")
        assert wide <= width
        # What is wider scrolls in a frame of its own, by keys too: once it is laid out anew, which
        # the browser tells after it has told the width.
        page.wait_for_function(
            """() => [...document.querySelectorAll('.wide')].every((one) =>
                (one.scrollWidth > one.clientWidth) === (one.tabIndex === 0))"""
        )
        assert page.locator('.wide[tabindex="0"]').count() > 0 or width > WIDTHS[-1]
        picture = tmp_path / f"{width}.png"
        page.screenshot(path=picture)
        assert picture.stat().st_size > 10_000
    ground = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 27)"}[scheme]


def test_captions_of_wide_tables_stay_on_a_phone(page: Any) -> None:
    page.set_viewport_size({"width": 375, "height": 800})
    far = """() => [...document.querySelectorAll('.wide')].flatMap(one => {
        one.scrollLeft = one.scrollWidth;
        const box = one.querySelector('caption')?.getBoundingClientRect();
        return box ? [[box.left, box.right]] : [];
    })"""
    for left, right in page.evaluate(far):
        assert left >= 0
        assert right <= 375


def test_it_prints(page: Any, tmp_path: Path) -> None:
    page.emulate_media(color_scheme="dark", media="print")
    assert page.locator("nav").is_hidden()
    assert page.locator("#controls").is_hidden()
    assert page.locator(".ribbon").is_visible()
    # Dark screens do not make dark paper, and what is folded is unfolded.
    ground = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert ground == "rgb(255, 255, 255)"
    # No endpoint is left on the screen, and no column beside the paper.
    printed = page.locator("figure[data-curves]:visible")
    assert [one.get_attribute("data-endpoint") for one in printed.all()] == ["0", "1"]
    assert len({one.get_attribute("data-landmark") for one in printed.all()}) == 1
    # A4 less its margins, in CSS pixels.
    page.set_viewport_size({"width": 687, "height": 1000})
    wide = "() => [...document.querySelectorAll('table')].map(one => one.offsetWidth)"
    assert max(page.evaluate(wide)) <= 687
    # The foot is a table's, which takes its own room on every page.
    foot = "() => getComputedStyle(document.querySelector('.ribbon')).display"
    assert page.evaluate(foot) == "table-footer-group"
    content = page.pdf(path=tmp_path / "report.pdf", format="A4")
    assert content.startswith(b"%PDF")
    assert len(content) > 50_000


def test_without_scripts_all_is_there(driver: Any, demo: tuple[Path, Any]) -> None:
    browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto((demo[0] / "report.html").as_uri())
    assert page.locator("figure[data-curves]:visible").count() == 6
    assert page.locator("#controls").is_hidden()
    browser.close()


def test_hostile_names_are_inert(
    browser: Any, hostile: Path, hostile_names: dict[str, str]
) -> None:
    found = opened(browser, hostile / "report.html")
    page = found.page
    assert page.evaluate("() => window.hacked") is None
    assert found.said == []
    assert len(found.asked) == 1
    assert page.title() == f"NOT CONVERGED: SYNTHETIC: {hostile_names['title']}"
    for endpoint in ("0", "1"):
        page.select_option("#choose-endpoint", value=endpoint)
        assert "NOT CONVERGED" in shown(page).locator("output").inner_text()
    assert page.locator("h1").inner_text() == hostile_names["title"]
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width
    # The override inside one name turns nothing around outside it.
    isolated = page.evaluate("() => getComputedStyle(document.querySelector('bdi')).unicodeBidi")
    assert isolated in ("isolate", "isolate-override")
    # Nor is a column of a long name, or of what did not converge, printed beside the paper.
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 687, "height": 1000})
    wide = "() => [...document.querySelectorAll('table')].map(one => one.offsetWidth)"
    assert max(page.evaluate(wide)) <= 687
    page.close()
