"""A tab of the browser, and what the tests of the page ask of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Tab:
    """A tab that remembers what it was asked to load and what it complained about."""

    def __init__(self, browser: Any, file: Path, address: str, **options: Any) -> None:
        self.page = browser.new_page(**{"viewport": {"width": 1200, "height": 900}, **options})
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(file.as_uri() + address)

    def done(self) -> None:
        """Nothing but the file itself was loaded, and nothing was complained about."""
        assert [url[:80] for url in self.requests if not url.startswith(("file://", "data:"))] == []
        assert len({url.split("#")[0] for url in self.requests if url.startswith("file://")}) == 1
        assert self.complaints == []
        self.page.close()

    def ids(self) -> list[str]:
        return [text.split(" · ")[1] for text in self.page.locator(".card h3").all_inner_texts()]

    def count(self) -> int:
        found = re.match(r"([\d,]+) of", self.page.locator("#count").inner_text())
        assert found
        return int(found[1].replace(",", ""))

    def choose(self, **values: str) -> None:
        for name, value in values.items():
            if name == "search":
                self.page.fill("#search", value)
            else:
                self.page.select_option(f"#{name}", value)

    def current(self) -> str:
        return str(self.page.locator(".card[aria-current]").get_attribute("data-index"))


Open = Callable[..., Tab]
