"""Every link leads somewhere, on every page; no browser is needed to see that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.browser.harness import all_pages

REFERRING = (
    "for",
    "headers",
    "aria-labelledby",
    "aria-describedby",
    "aria-controls",
    "aria-owns",
    "aria-details",
    "list",
)
LOADING = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src", "object": "data"}


class Parsed(HTMLParser):
    """The ids, links, loads and references by id of one page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loads: list[str] = []
        self.references: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            text = value or ""
            if name == "id":
                self.ids.append(text)
            elif tag in ("a", "area") and name in ("href", "xlink:href"):
                self.links.append(text)
            elif LOADING.get(tag) == name:
                self.loads.append(text)
            elif name in ("href", "xlink:href"):  # <use> and gradients of SVG
                self.links.append(text)
            elif name in REFERRING:
                self.references += text.split()

    handle_startendtag = handle_starttag


@pytest.fixture(scope="module")
def parsed(site: Path) -> dict[Path, Parsed]:
    return {site / path: Parsed(site / path) for path in all_pages(site)}


def faults_of(page: Path, site: Path, parsed: dict[Path, Parsed]) -> Iterator[str]:
    """Yield what is wrong with the links, loads and ids of a page."""
    here = parsed[page]
    yield from (f"id {name} twice" for name, count in Counter(here.ids).items() if count > 1)
    yield from (f"nothing has the id {name}" for name in here.references if name not in here.ids)
    for link in here.links:
        url = urlsplit(link)
        if url.scheme in ("https", "mailto"):
            continue
        target = (page.parent / unquote(url.path)).resolve() if url.path else page
        if url.scheme or url.netloc or not target.is_relative_to(site):
            yield f"{link} leaves the site"
        elif not target.is_file():
            yield f"{link} leads to no file"
        elif url.fragment and target.suffix == ".html" and unquote(url.fragment) not in parsed[target].ids:
            yield f"{link} leads to nothing on its page"
    for load in here.loads:
        url = urlsplit(load)
        target = (page.parent / unquote(url.path)).resolve()
        if url.scheme != "data" and (url.scheme or url.netloc or not target.is_relative_to(site)):
            yield f"{load[:80]} is loaded from elsewhere"
        elif url.scheme != "data" and not target.is_file():
            yield f"{load} is not there"


def test_every_link_leads_to_something(site: Path, parsed: dict[Path, Parsed]) -> None:
    assert sum(len(page.links) for page in parsed.values()) > 100
    faults = {page.name: found for page in parsed if (found := list(faults_of(page, site, parsed)))}
    assert faults == {}


def test_every_page_can_be_reached_from_the_first(site: Path, parsed: dict[Path, Parsed]) -> None:
    reached, waiting = set[Path](), [site / "index.html"]
    while waiting:
        page = waiting.pop()
        if page in reached or page not in parsed:
            continue
        reached.add(page)
        paths = [unquote(urlsplit(link).path) for link in parsed[page].links if not urlsplit(link).scheme]
        waiting += [(page.parent / path).resolve() for path in paths if path]
    assert sorted(parsed.keys() - reached) == []


BAD = {
    "<a href='none.html'>x</a>": "none.html leads to no file",
    "<a href='index.html#none'>x</a>": "index.html#none leads to nothing on its page",
    "<a href='#none'>x</a>": "#none leads to nothing on its page",
    "<a href='../../etc/passwd'>x</a>": "../../etc/passwd leaves the site",
    "<a href='javascript:alert(1)'>x</a>": "javascript:alert(1) leaves the site",
    "<script src='//example.org/x.js'></script>": "//example.org/x.js is loaded from elsewhere",
    "<link rel='stylesheet' href='assets/none.css'>": "assets/none.css is not there",
    "<p id='a'></p><p id='a'></p>": "id a twice",
    "<label for='none'>x</label>": "nothing has the id none",
}


@pytest.mark.parametrize(("markup", "fault"), BAD.items())
def test_a_link_to_nothing_is_seen(tmp_path: Path, markup: str, fault: str) -> None:
    page = tmp_path / "index.html"
    page.write_text(
        f"<p id='there'></p><a href='#there'>ok</a><a href='https://arxiv.org/abs/2404.08010'>ok</a>{markup}"
    )
    assert list(faults_of(page, tmp_path, {page: Parsed(page)})) == [fault]
