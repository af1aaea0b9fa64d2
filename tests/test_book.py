"""The built book in a real browser: complete, offline, readable on a phone, light and dark."""

import functools
import http.server
import json
import os
import re
import shutil
import threading
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from exhibits.ledger import MAP_ABSENT

ROOT = Path(__file__).parent.parent
BOOK = ROOT / "build" / "_build" / "html"
SKIPPED = {"genindex.html", "search.html"}
PAGES = sorted(
    p for p in BOOK.rglob("*.html") if p.name not in SKIPPED and "_static" not in p.parts
)
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
FLAGS += ["--disable-background-networking", "--disable-component-update"]

# Known of sphinx-book-theme 1.1.4, without effect on the page.
HARMLESS = re.compile(
    r"Cannot read properties of null \(reading 'classList'\)"
    r"|Access to font at 'file:.*origin 'null'.*CORS"
    r"|Failed to load resource: net::ERR_FAILED"
)

needs_book = pytest.mark.skipif(not PAGES, reason="no built book: run `make book` first")
needs_browser = pytest.mark.skipif(not BROWSER, reason="no chromium on PATH")


class Links(HTMLParser):
    """Targets and ids of a page."""

    def __init__(self):
        super().__init__()
        self.targets, self.ids = [], set()

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.ids.add(found.get("id"))
        self.targets += [found[name] for name in ("href", "src") if found.get(name)]
        self.fetched = getattr(self, "fetched", [])
        if tag in ("script", "img", "iframe", "source") and found.get("src"):
            self.fetched.append(found["src"])
        if tag == "link" and found.get("rel") in ("stylesheet", "preload", "icon"):
            self.fetched.append(found["href"])


@functools.cache
def read(path):
    links = Links()
    links.feed(path.read_text(encoding="utf-8"))
    return links


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A server that keeps its log to itself."""

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def served():
    handler = functools.partial(Quiet, directory=str(BOOK))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=BROWSER, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser):
    """A page that keeps what went wrong in it and what it asked other hosts for."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.faults, page.foreign = [], []

    def requested(request):
        if urlsplit(request.url).hostname not in (None, "", "127.0.0.1"):
            page.foreign.append(request.url)

    page.on("request", requested)
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.on("console", lambda m: m.type == "error" and page.faults.append(m.text))
    yield page
    context.close()


def settle(page):
    """Wait until MathJax, where a page has it, has drawn."""
    page.evaluate("() => window.MathJax?.startup?.promise")


def faults(page):
    return [fault for fault in page.faults if not HARMLESS.search(fault)]


def overflow(page):
    """How many pixels a page is wider than its window, and what sticks out."""
    return page.evaluate(
        """() => {
            const wide = document.documentElement.scrollWidth - window.innerWidth;
            if (wide <= 0) return [0, ""];
            const out = [...document.querySelectorAll("main *")].filter(
                (e) => e.getBoundingClientRect().right > window.innerWidth + 1);
            return [wide, out.slice(0, 3).map((e) => e.outerHTML.slice(0, 160)).join(" | ")];
        }"""
    )


def contrast(page):
    """Contrast of the article's text against the page's ground."""
    text, ground = page.evaluate(
        """() => {
            const numbers = (c) => c.match(/[\\d.]+/g).map(Number);
            const article = document.querySelector("article p, article li, article td");
            return [numbers(getComputedStyle(article).color),
                    numbers(getComputedStyle(document.body).backgroundColor)];
        }"""
    )

    def luminance(rgb):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted(luminance([value / 255 for value in c[:3]]) for c in (text, ground))
    return (high + 0.05) / (low + 0.05)


@needs_book
@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.stem)
def test_every_internal_link_resolves_and_nothing_is_fetched_from_elsewhere(path):
    links = read(path)
    for target in links.targets:
        parts = urlsplit(target)
        if parts.scheme or parts.netloc:
            assert target not in links.fetched or parts.scheme == "data", f"{target} is fetched"
            continue
        file = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        assert file.exists(), f"{path.name} points to {target}"
        if parts.fragment and file.suffix == ".html":
            assert unquote(parts.fragment) in read(file).ids, f"{path.name} points to {target}"


@needs_book
def test_every_number_in_the_ledger_role_carries_its_card_and_its_notebook():
    index = (BOOK / "index.html").read_text(encoding="utf-8")
    pattern = r'class="sa-num"[^>]*data-card="([^"]+)"[^>]*><a [^>]*href="(notebooks/\w+\.html)"'
    numbers = re.findall(pattern, index)
    assert numbers
    for card, page in numbers:
        assert (BOOK / page).is_file()
        assert re.search(r"^seed: \d+$", card, re.MULTILINE)
        assert f"notebook: {Path(page).stem}" in card


@needs_book
def test_each_executed_notebook_can_be_downloaded_without_clock_times_in_it():
    for path in PAGES:
        if path.parent.name == "notebooks":
            source = BOOK / "_sources" / "notebooks" / f"{path.stem}.ipynb"
            notebook = json.loads(source.read_text(encoding="utf-8"))
            assert not re.search(r"start_time|iopub|papermill", json.dumps(notebook["metadata"]))
            assert all(cell["metadata"].keys() <= {"tags"} for cell in notebook["cells"])


@pytest.mark.browser
@needs_book
@needs_browser
@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.stem)
def test_a_page_loads_from_disk_in_both_themes_and_fits_a_phone(page, path):
    has_math = "MathJax" in path.read_text() and 'class="math' in path.read_text()
    page.goto(path.as_uri())
    settle(page)
    assert not page.foreign
    assert not faults(page)
    assert page.locator("article h1").count() == 1
    assert bool(page.locator("mjx-container").count()) == has_math
    assert page.locator("mjx-merror").count() == 0
    for theme in ("light", "dark"):
        page.evaluate("t => document.documentElement.dataset.theme = t", theme)
        assert contrast(page) > 7
        shown = page.locator(f".sa-{'dark' if theme == 'light' else 'light'}")
        assert not any(shown.nth(i).is_visible() for i in range(shown.count()))
    for picture in page.locator("article img").all():
        assert picture.evaluate("i => i.complete && i.naturalWidth > 0")
    page.set_viewport_size({"width": 390, "height": 844})
    wide, what = overflow(page)
    assert wide <= 0, f"{wide} px too wide: {what}"


@pytest.mark.browser
@needs_book
@needs_browser
def test_search_finds_a_word_of_the_reading_page(page, served):
    page.goto(f"{served}/search.html?q=reference_m")
    page.wait_for_selector("#search-results li a", timeout=15000)
    assert "reading.html" in page.inner_html("#search-results")
    assert not page.foreign
    assert not faults(page)


@pytest.mark.browser
@needs_book
@needs_browser
def test_pointing_at_a_number_shows_where_it_comes_from(page, served):
    page.goto(f"{served}/index.html")
    number = page.locator(".sa-num").first
    state = "e => getComputedStyle(e, '::after').display"
    assert number.evaluate(state) == "none"
    number.hover()
    assert number.evaluate(state) == "block"
    number.click()
    assert re.search(r"/notebooks/\w+\.html", page.url)


@pytest.mark.browser
@needs_book
@needs_browser
def test_the_theme_button_turns_the_page_dark(page, served):
    page.goto(f"{served}/index.html")
    themes = set()
    for _ in range(3):
        page.locator("button.theme-switch-button").first.click()
        themes.add(page.evaluate("document.documentElement.dataset.theme"))
    assert themes == {"light", "dark"}


MAP = BOOK / "notebooks" / "01_curation.html"
LAYERS = {"ground", "radar", "lores", "hires", "samples", "scenes-found", "scenes-taken"}


def open_map(page, url):
    """The map of a page, once all of it is drawn."""
    page.goto(url)
    box = page.locator(".sa-map")
    box.scroll_into_view_if_needed()
    page.wait_for_selector('.sa-map[data-state="ready"]', timeout=60000)
    box.scroll_into_view_if_needed()
    return box


def sample_on_screen(page, number):
    """A sample as the page's data has it, and where on the screen its middle lies at rest."""
    page.wait_for_function("!document.querySelector('.sa-map').map.isMoving()")
    return page.evaluate(
        """(number) => {
            const box = document.querySelector(".sa-map");
            const sample = window.salibMaps[box.dataset.map].samples.features.at(number);
            const corners = sample.geometry.coordinates[0].slice(0, 4);
            const mean = (axis) => corners.reduce((sum, at) => sum + at[axis], 0) / 4;
            const {x, y} = box.map.project([mean(0), mean(1)]);
            const {left, top} = box.map.getCanvas().getBoundingClientRect();
            return [sample.properties, left + x, top + y];
        }""",
        number,
    )


def pixels(page):
    """How many different colours the middle of the map shows."""
    return page.evaluate(
        """() => new Promise((done) => {
            const {map} = document.querySelector(".sa-map");
            map.once("render", () => {
                const gl = map.getCanvas().getContext("webgl2");
                const [w, h] = [gl.drawingBufferWidth, gl.drawingBufferHeight];
                const seen = new Uint8Array(4 * 64 * 64);
                gl.readPixels(w / 2 - 32, h / 2 - 32, 64, 64, gl.RGBA, gl.UNSIGNED_BYTE, seen);
                done(new Set(new Uint32Array(seen.buffer)).size);
            });
            map.triggerRepaint();
        })"""
    )


@pytest.mark.browser
@needs_book
@needs_browser
@pytest.mark.parametrize("served_by", ["disk", "server"])
def test_the_map_shows_images_footprints_and_samples_without_another_host(page, served, served_by):
    url = MAP.as_uri() if served_by == "disk" else f"{served}/notebooks/{MAP.name}"
    box = open_map(page, url)
    assert set(box.evaluate("b => b.map.getStyle().layers.map((l) => l.id)")) >= LAYERS
    assert box.locator(".sa-map-canvas > .sa-badge").inner_text() == "procedural"
    for sensor in ("radar", "lores", "hires"):
        box.get_by_label(sensor).check()
        page.wait_for_function("document.querySelector('.sa-map').map.loaded()")
        assert pixels(page) > 100
        assert f"{sensor} scenes taken" in box.locator(".sa-map-legend").inner_text()
    for number in (0, -1):
        about, x, y = sample_on_screen(page, number)
        page.mouse.click(x, y)
        said = box.locator(".maplibregl-popup").inner_text()
        assert "{z}/{x}/{y}, {split}".format(**about) in said
        assert all(scene in said for scene in about["radar"]["scenes"])
        assert about["hires"]["date"] in said
    box.get_by_label("samples").uncheck()
    page.wait_for_function("document.querySelector('.sa-map').map.loaded()")
    page.mouse.click(x, y)
    assert box.locator(".maplibregl-popup").count() == 0
    assert not page.foreign
    assert not faults(page)


@pytest.mark.browser
@needs_book
@needs_browser
def test_the_map_fits_a_phone_and_follows_the_theme(page):
    page.set_viewport_size({"width": 390, "height": 844})
    box = open_map(page, MAP.as_uri())
    wide, what = overflow(page)
    assert wide <= 0, f"{wide} px too wide: {what}"
    _, x, y = sample_on_screen(page, 0)
    page.mouse.click(x, y)
    popup = box.locator(".maplibregl-popup-content")
    assert popup.bounding_box()["width"] < 390
    assert overflow(page)[0] <= 0
    grounds = set()
    for theme in ("light", "dark"):
        page.evaluate("t => document.documentElement.dataset.theme = t", theme)
        page.wait_for_timeout(100)
        paint = box.evaluate("b => b.map.getPaintProperty('ground', 'background-color')")
        grounds.add((paint, popup.evaluate("e => getComputedStyle(e).backgroundColor")))
    assert len({paint for paint, _ in grounds}) == len({shown for _, shown in grounds}) == 2


@pytest.mark.browser
@needs_book
@needs_browser
def test_without_scripts_the_drawn_map_is_shown_and_a_line_in_place_of_the_other(browser):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(MAP.as_uri())
    assert page.locator(".sa-map").inner_text() in MAP_ABSENT
    assert page.locator(".sa-map canvas").count() == 0
    drawn = page.locator("figure", has_text="Footprints of scenes found")
    assert drawn.locator("img").first.bounding_box()["height"] > 100
    context.close()


@pytest.mark.skipif(not os.environ.get("CI"), reason="only continuous integration must have both")
def test_continuous_integration_has_a_browser_and_a_book():
    assert BROWSER
    assert PAGES
