"""A headless Chromium without network, for tests of pages."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def chromium() -> str:
    """The program, or a skip that says why."""
    pytest.importorskip("playwright", reason="playwright is not installed: pip install playwright")
    found = next((path for path in map(shutil.which, _NAMES) if path), None)
    if found is None:
        pytest.skip(f"no browser here (none of {', '.join(_NAMES)}): apt install chromium")
    return found


@contextmanager
def browser() -> Iterator:
    """A running browser that draws 3-D in software."""
    program = chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        arguments = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
        running = started.chromium.launch(executable_path=program, args=arguments)
        try:
            yield running
        finally:
            running.close()


class Opened:
    """A page from a file, with everything it said and asked for."""

    def __init__(self, running, path: Path, width: int = 720, **options) -> None:
        self.context = running.new_context(viewport={"width": width, "height": 520}, offline=True, **options)
        self.page = self.context.new_page()
        self.said, self.asked = [], []
        self.page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.said.append(f"error: {error}"))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.resolve().as_uri())

    @property
    def complaints(self) -> list[str]:
        """Errors and warnings; a browser that draws in software says that reading pixels is slow, which is no fault."""
        return [said for said in self.said if said.startswith(("error", "warning")) and "ReadPixels" not in said]

    @property
    def foreign(self) -> list[str]:
        """What was asked for besides the page itself and what is in it."""
        return [url for url in self.asked[1:] if not url.startswith(("data:", "blob:"))]
