"""Chromium, in which the slow tests open reports."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

WIDTHS = (390, 1280)
expect.set_options(timeout=60_000)  # milliseconds: a busy machine is slow, and no page is wrong for it


def chromium() -> str:
    """The program: $CHROMIUM, or one that is installed; without any, the tests fail rather than show nothing."""
    found = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    assert found, "these tests need Chromium: apt-get install chromium, or give its path as CHROMIUM"
    return found


@contextmanager
def opened(file: Path, width: int = 1280, scheme: str = "light") -> Iterator[Page]:
    """A report in a window, scrolled through once; fails if the console said anything or anything was asked for.

    Args:
        file: the page.
        width: of the window, in pixels.
        scheme: the reader's preferred colours, light or dark.
    """
    with sync_playwright() as playwright:
        # The sandbox needs rights that a container's root has not.
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page.set_default_timeout(120_000)
        said: list[str] = []
        asked: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(file.resolve().as_uri())
        expect(page.locator("html[data-ready]")).to_be_attached()
        for _ in range(200):
            page.mouse.wheel(0, 700)
            page.wait_for_timeout(20)
            if page.evaluate("innerHeight + scrollY >= document.documentElement.scrollHeight - 2"):
                break
        page.evaluate("scrollTo(0, 0)")
        yield page
        browser.close()
        assert said == []
        assert [url for url in asked if not url.startswith(("file:", "blob:", "data:"))] == []


def loaded_images(page: Page) -> list[bool]:
    """Whether each image of the page was decoded."""
    return page.evaluate("[...document.images].map(image => image.complete && image.naturalWidth > 0)")
