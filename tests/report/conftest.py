"""The browser of the pages' and figures' tests, one for all of them, and a page to open in it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mmalign_eval.report.page import write_page
from tests.report.page_support import made, write_world
from tests.report.tab import Open, Tab

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """The system's browser, driven by playwright."""
    if CHROMIUM is None:
        pytest.skip("no chromium found")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_page(made(write_world(folder)), folder / "a report.html")
    return folder / "a report.html"


@pytest.fixture
def tab(chromium: Any, world: Path) -> Iterator[Open]:
    tabs: list[Tab] = []

    def opened(address: str = "", file: Path | None = None, **options: Any) -> Tab:
        tabs.append(Tab(chromium, file or world, address, **options))
        return tabs[-1]

    yield opened
    for one in tabs:
        one.done()
