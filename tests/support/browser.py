"""A real Chromium for the pages people open."""

import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, sync_playwright

FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"]
# A missing browser fails in CI: the test command installs it there.
needs_browser = pytest.mark.skipif(
    shutil.which("chromium") is None and not os.environ.get("CI"), reason="chromium is not installed (apt)"
)


@contextmanager
def opened(*, dark: bool = False, width: int = 1100) -> Generator[Page]:
    """A page that fails the test if any script raises or any request leaves the machine."""
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        context = browser.new_context(
            color_scheme="dark" if dark else "light", viewport={"width": width, "height": 900}, offline=False
        )
        page = context.new_page()
        outside: list[str] = []
        page.on("request", lambda request: outside.append(request.url))
        page.on("dialog", lambda dialog: outside.append(f"dialog: {dialog.message}"))
        yield page
        browser.close()
    assert all(url.startswith(("file:", "http://127.0.0.1:", "data:")) for url in outside), outside


def faults(page: Page) -> list[str]:
    """What axe-core finds wrong for people who cannot see, or see badly."""
    found = Axe().run(page).response["violations"]
    return [f"{fault['id']}: {node['html'][:200]}" for fault in found for node in fault["nodes"]]


def show(page: Page, path: Path) -> None:
    page.goto(path.resolve().as_uri())
