"""Figures: named for those who do not see them, and saved as files that stand alone."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

from tests.browser.harness import Visitor, all_pages, one_of_each

SVG = "{http://www.w3.org/2000/svg}"
SHAPES = "(svg) => [...svg.querySelectorAll('*')].map((part) => part.localName)"
MUTE = """() => {
    const named = (svg) => svg.matches("[aria-label], [aria-labelledby]") || svg.querySelector("title");
    return [...document.querySelectorAll("main svg")]
        .filter((svg) => svg.closest("[aria-hidden=true]") === null && !named(svg))
        .map((svg) => svg.outerHTML.slice(0, 90));
}"""


def first_with_figure(site: Path) -> str:
    return next(path for path in all_pages(site) if "<figure data-name=" in (site / path).read_text(encoding="utf-8"))


def test_every_figure_has_words_or_is_said_to_be_decoration(visitor: Visitor, site: Path) -> None:
    page = visitor.open()
    mute = {}
    for path in one_of_each(site):
        page.goto(visitor.address(path))
        if found := page.evaluate(MUTE):
            mute[path] = found
    assert mute == {}


def test_a_saved_figure_is_a_whole_svg_file_that_needs_no_style_sheet(visitor: Visitor, site: Path) -> None:
    page = visitor.open(first_with_figure(site))
    figure = page.locator("figure[data-name]").first
    shapes = figure.locator("svg").first.evaluate(SHAPES)
    with page.expect_download() as download:
        figure.get_by_role("button", name="Save as SVG").click()
    assert download.value.suggested_filename == f"{figure.get_attribute('data-name')}.svg"
    text = Path(download.value.path()).read_text(encoding="utf-8")
    root = ElementTree.fromstring(text)
    assert root.tag == f"{SVG}svg"
    assert Counter(part.tag.removeprefix(SVG) for part in root.iter()) - Counter({"svg": 1}) == Counter(shapes)
    assert float(root.attrib["width"]) > 0
    assert "class" not in {name for part in root.iter() for name in part.attrib}
    assert "var(" not in text
    drawn = [
        part for part in root.iter() if part.tag.removeprefix(SVG) in ("path", "polyline", "line", "circle", "text")
    ]
    assert drawn
    assert all(part.get("stroke", "none") != "none" or part.get("fill", "none") != "none" for part in drawn)


def test_a_saved_figure_looks_as_it_does_on_the_page(visitor: Visitor, site: Path) -> None:
    page = visitor.open(first_with_figure(site))
    figure = page.locator("figure[data-name]").first
    line = """(root) => {
        const { stroke, fill } = getComputedStyle(root.querySelector("path, polyline, line"));
        return [stroke, fill];
    }"""
    before = figure.locator("svg").first.evaluate(line)
    with page.expect_download() as download:
        figure.get_by_role("button", name="Save as SVG").click()
    saved = site / "saved.svg"
    try:
        download.value.save_as(saved)
        alone = visitor.open("saved.svg")
        assert alone.evaluate(f"({line})(document.documentElement)") == before
    finally:
        saved.unlink()
