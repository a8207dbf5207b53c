"""A headless Chromium, and pages that must not complain and must not ask the network for anything."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Browser, Page, sync_playwright

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
SIZE = (1280, 860)
PATIENCE_SECONDS = 40.0

LEFT = "net::ERR_ABORTED"
"""What was asked for had not come when the page was left."""


@dataclass
class WatchedPage:
    """A page, and what it complained of or asked of anybody but the disk."""

    page: Page
    complaints: list[str] = field(default_factory=list)

    def open(self, path: Path, address: str = "") -> Page:
        """Open a file, as somebody does who clicks it."""
        self.page.goto(f"{path.as_uri()}{address}")
        return self.page


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """Chromium, without a window."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    assert program is not None, "Chromium is not installed; scripts/test installs it"
    # Chromium's sandbox is not for root.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=arguments)
        yield chromium
        chromium.close()


@contextlib.contextmanager
def watched(chromium: Browser, *, size: tuple[int, int] = SIZE, **context: Any) -> Iterator[WatchedPage]:
    """A page of a browser without a past; it must have no complaints at the end."""
    opened = chromium.new_context(viewport={"width": size[0], "height": size[1]}, **context)
    opened.set_default_timeout(PATIENCE_SECONDS * 1000)
    page = opened.new_page()
    watched = WatchedPage(page)
    complain = watched.complaints.append
    page.on("console", lambda message: complain(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: complain(f"error: {error}"))
    page.on("requestfailed", lambda each: None if each.failure == LEFT else complain(f"failed: {each.url}"))
    page.on("request", lambda each: None if each.url.startswith(("file:", "data:")) else complain(f"asked: {each.url}"))
    yield watched
    opened.close()
    assert not watched.complaints, watched.complaints


def accessibility_faults(page: Page) -> list[str]:
    """What axe finds wrong, a line for each place."""
    page.evaluate(AXE_SCRIPT)
    # It would fetch style sheets otherwise, which a page from disk may not.
    found = page.evaluate("() => axe.run({ preload: false })")
    return [f"{rule['id']}: {node['html']}" for rule in found["violations"] for node in rule["nodes"]]
