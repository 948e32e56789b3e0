"""The page of ``report`` opened, clicked and printed in a headless browser without network."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from cryosphere.report.write import write_report
from tests.browser import Opened, browser
from tests.run_factory import make_run


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    run = make_run(tmp_path_factory.mktemp("pages") / "run <b> ü", n_particles=400, shared=True)
    return write_report(run)


@pytest.fixture(scope="module")
def running():
    with browser() as started:
        yield started


@pytest.fixture
def opened(running, path):
    found = Opened(running, path)
    yield found
    found.context.close()


def picture(page) -> bytes:
    return page.locator("#canvas").screenshot()


def difference(one: bytes, other: bytes) -> float:
    """Mean difference of two pictures in grey values."""
    pixels = [np.asarray(Image.open(io.BytesIO(png)).convert("L"), dtype=float) for png in (one, other)]
    return float(np.abs(pixels[0] - pixels[1]).mean())


def coordinates(page) -> str:
    """What the slider says, which the model follows."""
    return page.locator("#frame-text").text_content()


def test_the_page_is_quiet_and_alone(opened, path):
    page = opened.page
    page.wait_for_selector("#viewer.live canvas")
    page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    page.wait_for_timeout(300)
    assert opened.complaints == []
    assert opened.foreign == []
    assert path.stat().st_size < 15e6
    assert page.title() == "cryoSPHERE report: run <b> ü"


def test_the_page_can_load_nothing(opened):
    """The policy in the page forbids it, even with a network."""
    said = opened.page.evaluate("fetch('https://example.org/').then(() => 'loaded', (error) => String(error))")
    assert "TypeError" in said
    assert any("Content Security Policy" in said for said in opened.said)


def test_the_slider_moves_the_structure_by_keyboard(opened):
    page = opened.page
    page.locator("#frame").focus()
    before, said = picture(page), coordinates(page)
    for _ in range(12):
        page.keyboard.press("ArrowRight")
    assert page.locator("#frame").input_value() == "12"
    assert coordinates(page) != said
    assert page.locator("#frame").get_attribute("aria-valuetext") == coordinates(page)
    assert picture(page) != before
    page.keyboard.press("Home")
    assert coordinates(page) == said
    assert picture(page) == before


def test_colours_motions_and_play(opened):
    page = opened.page
    seen = {picture(page)}
    schemes = page.locator('input[name="scheme"]')
    names = [schemes.nth(i).input_value() for i in range(schemes.count())]
    assert names == ["segment", "RMSF", "chain"]
    for name in names[1:]:
        page.locator(f'input[name="scheme"][value="{name}"]').check(force=True)
        shown = page.locator(f'.viewer [data-scheme="{name}"]')
        assert shown.is_visible()
        assert page.locator(".viewer [data-scheme]:visible").count() == 1
        seen.add(picture(page))
    films = page.locator('input[name="film"]')
    assert films.count() >= 2
    films.nth(1).check(force=True)
    seen.add(picture(page))
    assert len(seen) == len(names) + 1
    page.locator("#play").click()
    assert page.locator("#play").get_attribute("aria-pressed") == "true"
    start = coordinates(page)
    page.wait_for_function("(text) => document.getElementById('frame-text').textContent !== text", arg=start)
    page.locator("#play").click()
    stopped = coordinates(page)
    page.wait_for_timeout(300)
    assert coordinates(page) == stopped
    assert opened.complaints == []


def test_the_view_turns_by_keyboard_and_comes_back(opened):
    page = opened.page
    page.locator("#canvas").focus()
    before = picture(page)
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("+")
    moved = difference(picture(page), before)
    assert moved > 1
    page.locator("#reset").click()
    assert difference(picture(page), before) < 0.1 * moved  # but for the mark of the focus


def test_the_page_scrolls_over_the_view(opened):
    page = opened.page
    page.locator("#canvas").scroll_into_view_if_needed()
    before, place = picture(page), page.evaluate("scrollY")
    page.locator("#canvas").hover()
    page.mouse.wheel(0, 400)
    page.wait_for_function("(before) => scrollY > before + 50", arg=place)
    page.evaluate("(y) => scrollTo({ top: y, behavior: 'instant' })", place)
    assert picture(page) == before


def test_everything_is_reached_by_tab(opened):
    page = opened.page
    reached = []
    for _ in range(80):
        page.keyboard.press("Tab")
        place = page.evaluate(
            "[document.activeElement.id, document.activeElement.className, document.activeElement.tagName]"
        )
        reached.append(place)
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        if place[2] in ("A", "BUTTON", "SUMMARY", "DIV"):
            assert outline != "none", place
    assert reached[0][1] == "skip"
    ids = [anchor for anchor, *_ in reached]
    order = [ids.index(anchor) for anchor in ("canvas", "scheme-segment", "film-path0", "play", "frame", "reset")]
    assert order == sorted(order)
    assert any(tag == "SUMMARY" for *_, tag in reached)
    page.evaluate("document.activeElement.blur()")
    page.locator("a.skip").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_dark_and_light_differ(running, path):
    seen = {}
    for scheme in ("light", "dark"):
        found = Opened(running, path, color_scheme=scheme)
        paper, ink = found.page.evaluate(
            "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
        )
        seen[scheme] = (paper, ink, picture(found.page))
        assert found.complaints == []
        found.context.close()
    assert brightness(seen["light"][0]) > 200 > 60 > brightness(seen["dark"][0])
    assert brightness(seen["light"][1]) < 80 < 180 < brightness(seen["dark"][1])
    assert seen["light"][2] != seen["dark"][2]


def brightness(colour: str) -> float:
    numbers = [float(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]
    return sum(numbers) / 3


def test_the_view_follows_a_change_to_dark(opened):
    page = opened.page
    before = picture(page)
    page.emulate_media(color_scheme="dark")
    page.wait_for_timeout(200)
    assert picture(page) != before


@pytest.mark.parametrize("width", [400, 700, 1280])
def test_no_width_makes_the_page_wider_than_the_window(running, path, width):
    found = Opened(running, path, width=width)
    page = found.page
    page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.wait_for_timeout(200)  # toggling is told later
    wide = "[...document.querySelectorAll('.scroll')].filter((part) => part.scrollWidth > part.clientWidth)"
    assert page.evaluate(f"{wide}.every((part) => part.tabIndex === 0)")  # what is wider scrolls, by keyboard too
    assert page.evaluate(f"{wide}.length") > 0 or width > 1000
    found.context.close()


def test_it_prints(opened):
    page = opened.page
    printed = page.pdf(format="A4")
    assert printed.startswith(b"%PDF") and len(printed) > 20_000
    assert printed.count(b"/Type /Page\n") + printed.count(b"/Type /Page ") + printed.count(b"/Type /Page/") >= 3
    page.emulate_media(media="print")
    assert not page.locator("#canvas").is_visible()
    assert page.locator(".stills svg").first.is_visible()
    assert not page.locator("nav").is_visible()


def test_without_3d_there_are_still_pictures(running, path):
    found = Opened(running, path, java_script_enabled=False)
    page = found.page
    assert page.locator("#no-view").is_visible()
    assert page.locator(".stills svg").count() == 3
    assert page.locator(".stills svg").first.is_visible()
    assert not page.locator("#canvas").is_visible()
    found.context.close()
