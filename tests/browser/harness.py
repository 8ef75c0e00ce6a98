"""Debian's Chromium on pages that lie on disk, and a watch on all that goes wrong in them unseen."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, WebError, sync_playwright

PROGRAM = "DQSS_CHROMIUM"
TIMEOUT_MS = 30_000
DESKTOP, PHONE = 1280, 375
PHONE_HEIGHT = 667


class NoChromiumError(RuntimeError):
    """There is no browser; the message says how to get one."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run the Chromium that DQSS_CHROMIUM names, or Debian's; nothing is downloaded.

    While it runs an asyncio loop counts as running in this thread: asyncio.run in another test would fail.

    Raises:
        NoChromiumError: none is installed.
    """
    program = os.environ.get(PROGRAM) or shutil.which("chromium")
    if program is None or shutil.which(program) is None:
        raise NoChromiumError(
            f"No browser {program or 'chromium'!r}. Get one with `apt-get install chromium`, or name one in {PROGRAM}."
        )
    # Chromium's sandbox does not work for root.
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=options, timeout=2 * TIMEOUT_MS)
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Watch:
    """What went wrong in pages, in the order in which it was seen.

    Args:
        site: the folder that pages may load from; violations of their policy are errors in the console.
    """

    site: Path
    problems: list[str] = field(default_factory=list)

    def over(self, context: BrowserContext) -> None:
        """Look at all pages of a context from now on."""
        context.on("console", self._console)
        context.on("weberror", self._error)
        context.on("request", self._request)
        context.on("requestfailed", self._failed)

    def verify(self) -> None:
        """Raise AssertionError where anything went wrong."""
        if self.problems:
            raise AssertionError("\n".join(["problems in pages:", *self.problems]))

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning", "assert"):
            self.problems.append(f"console {message.type}: {message.text}")

    def _error(self, error: WebError) -> None:
        self.problems.append(f"page error: {error.error}")

    def _request(self, request: Request) -> None:
        url = urlsplit(request.url)
        # What a page makes itself, as a download does, leaves it for nowhere.
        if url.scheme in ("data", "blob"):
            return
        inside = Path(unquote(url.path)).is_relative_to(self.site)
        if url.scheme != "file" or url.netloc or not inside:
            self.problems.append(f"foreign request: {request.url}")

    def _failed(self, request: Request) -> None:
        self.problems.append(f"request failed: {request.url} ({request.failure})")


@dataclass
class Visitor:
    """Opens pages of a site, each in a context of its own that is watched and has no network."""

    browser: Browser
    site: Path
    watch: Watch
    contexts: list[BrowserContext] = field(default_factory=list)

    def open(
        self,
        path: str = "index.html",
        *,
        scheme: str = "light",
        width: int = DESKTOP,
        javascript: bool = True,
    ) -> Page:
        """Return a new page at a path of the site, `#...` and `?...` included, once it has loaded.

        Args:
            scheme: `light` or `dark`.
            width: of the window, in CSS pixels.
        """
        context = self.browser.new_context(
            color_scheme="dark" if scheme == "dark" else "light",
            viewport={"width": width, "height": PHONE_HEIGHT if width == PHONE else 800},
            java_script_enabled=javascript,
            offline=True,
        )
        self.contexts.append(context)
        context.set_default_timeout(TIMEOUT_MS)
        self.watch.over(context)
        page = context.new_page()
        page.goto(self.address(path))
        return page

    def address(self, path: str) -> str:
        """Return the address of a path of the site."""
        return f"{self.site.as_uri()}/{path}"

    def close(self) -> None:
        """Close all pages; a test that opens many does so between them."""
        for context in self.contexts:
            context.close()
        self.contexts.clear()


def all_pages(site: Path) -> list[str]:
    """Return the path of every page, relative to the site."""
    return sorted(path.relative_to(site).as_posix() for path in site.rglob("*.html"))


def one_of_each(site: Path) -> list[str]:
    """Return the pages at the top, and the longest page of every folder."""
    longest: dict[str, str] = {}
    for path in all_pages(site):
        folder = path.rpartition("/")[0] or path
        if folder not in longest or (site / path).stat().st_size > (site / longest[folder]).stat().st_size:
            longest[folder] = path
    return sorted(longest.values())
