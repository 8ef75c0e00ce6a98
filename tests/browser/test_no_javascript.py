"""With JavaScript off every page can still be read."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

from tests.browser.harness import Visitor, all_pages, one_of_each
from tests.browser.sample import classification, photographs

# What a reader sees of a page: words of headings, the size of tables and figures, and controls.
SEEN = """() => {
    const visible = (node) => node.checkVisibility({ visibilityProperty: true, opacityProperty: true });
    const size = (node) => { const box = node.getBoundingClientRect(); return box.width * box.height; };
    const all = (selector) => [...document.querySelectorAll(selector)];
    const folded = (node) => node.closest("details:not([open])") !== null;
    return {
        headings: all("h1, h2, h3").filter((node) => !folded(node))
            .map((node) => visible(node) && node.textContent.trim() !== ""),
        tables: all("table").filter((node) => !folded(node))
            .map((node) => visible(node) && [...node.querySelectorAll("tbody tr")].some(visible)),
        figures: all("svg, img").filter((node) => !folded(node))
            .map((node) => visible(node) && size(node) > 0),
        controls: all("button, input, select, textarea").filter(visible)
            .map((node) => node.outerHTML.slice(0, 80)),
        text: document.querySelector("main").innerText.length,
    };
}"""


def test_headings_tables_and_figures_are_seen(visitor: Visitor, site: Path) -> None:
    page = visitor.open(javascript=False)
    for path in one_of_each(site):
        page.goto(visitor.address(path))
        seen = page.evaluate(SEEN)
        assert seen["headings"], path
        for kind in ("headings", "tables", "figures"):
            assert all(seen[kind]), (path, kind, seen[kind].count(False))
        assert seen["text"] > 100, path


def test_no_control_is_shown_that_would_do_nothing(visitor: Visitor, site: Path) -> None:
    page = visitor.open(javascript=False)
    idle = {}
    for path in one_of_each(site):
        page.goto(visitor.address(path))
        if controls := page.evaluate(SEEN)["controls"]:
            idle[path] = controls
    assert idle == {}


def test_the_score_of_every_method_is_read_on_a_board_in_a_row_of_its_name(visitor: Visitor, site: Path) -> None:
    page = visitor.open(javascript=False)
    rows: dict[str, list[str]] = {}
    for path in (path for path in all_pages(site) if path.startswith("boards/")):
        page.goto(visitor.address(path))
        for row in page.evaluate("[...document.querySelectorAll('tr')].map((row) => row.innerText)"):
            rows.setdefault(" ".join(row.split()).split(" ")[0], []).append(row)
    groups: dict[tuple[str, ...], list[float]] = {}
    for record in (*classification(), *photographs()):
        if record.score is not None:
            groups.setdefault((record.mode, record.model, record.bits, record.method), []).append(record.score)
    assert len(groups) == 3 * 3 * (8 + 4) - 3
    unread = {
        names: mean
        for names, mean in ((names, fmean(scores)) for names, scores in groups.items())
        if not any(f"{mean:.2f}" in row for row in rows.get(names[-1], []))
    }
    assert unread == {}
