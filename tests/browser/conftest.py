"""A site of made-up records, and pages of it in a real browser; a page that complains fails its test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from leaderboard.build import build_site
from tests.browser.harness import NoChromiumError, Visitor, Watch, chromium
from tests.browser.sample import write_sample


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site's folder."""
    folder = tmp_path_factory.mktemp("browser")
    write_sample(folder / "results")
    return build_site(folder / "results", folder / "site").parent.resolve()


# Not for the session: see `chromium` on asyncio.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    try:
        with chromium() as running:
            yield running
    except NoChromiumError as error:
        pytest.skip(str(error))


@pytest.fixture
def visitor(browser: Browser, site: Path) -> Iterator[Visitor]:
    """Opens pages; after the test none of them may have complained."""
    made = Visitor(browser, site, Watch(site))
    yield made
    made.close()
    made.watch.verify()


@pytest.fixture
def page(visitor: Visitor) -> Page:
    """The first page of the site."""
    return visitor.open()
