"""Every kind of page: silent, without a network, as wide as the window, and sound by axe-core."""

from __future__ import annotations

from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.browser.harness import DESKTOP, PHONE, Visitor, all_pages, one_of_each

# Without `preload`: axe would fetch style sheets, which no page may.
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"], "resultTypes": ["violations"], "preload": False}
CONTRAST = "color-contrast"  # takes most of the time; the scheme changes nothing else, the width hardly this
ASKED = {
    "light": ("light", DESKTOP, RULES),
    "dark": ("dark", DESKTOP, {**RULES, "runOnly": {"type": "rule", "values": [CONTRAST]}}),
    "phone": ("light", PHONE, {**RULES, "rules": {CONTRAST: {"enabled": False}}}),
}
# What reaches beyond the window and cannot be scrolled to inside an element of its own.
OVERHANGING = """() => {
    const scrolls = (node) => {
        for (let up = node.parentElement; up && up !== document.body; up = up.parentElement)
            if (getComputedStyle(up).overflowX !== "visible") return true;
        return false;
    };
    return [...document.body.querySelectorAll("*")]
        .filter((node) => node.getBoundingClientRect().right > innerWidth + 0.5 && !scrolls(node))
        .map((node) => node.tagName.toLowerCase() + (node.className ? "." + node.className : ""))
        .slice(0, 5);
}"""


def test_every_page_opens_without_a_complaint_or_a_request_beyond_the_site(visitor: Visitor, site: Path) -> None:
    page = visitor.open()
    for path in all_pages(site):
        page.goto(visitor.address(path))
        assert page.title().endswith("DQSS Bench"), path
        visitor.watch.verify()


@pytest.mark.parametrize("look", ASKED)
def test_axe_finds_no_serious_issue(visitor: Visitor, site: Path, look: str) -> None:
    scheme, width, rules = ASKED[look]
    page = visitor.open(scheme=scheme, width=width)
    found: dict[str, list[str]] = {}
    for path in one_of_each(site):
        page.goto(visitor.address(path))
        for issue in Axe().run(page, options=rules).response["violations"]:
            if issue["impact"] in ("serious", "critical"):
                targets = [str(node["target"][0]) for node in issue["nodes"]]
                found.setdefault(path, []).append(f"{issue['id']} ({issue['help']}), {len(targets)}: {targets[:3]}")
    assert found == {}


def test_axe_sees_an_issue_where_there_is_one(visitor: Visitor) -> None:
    page = visitor.open()
    page.evaluate("""() => {
        const faint = document.createElement("p");
        faint.textContent = "hardly to be seen";
        faint.style.color = "#eee";
        faint.style.background = "#fff";
        document.querySelector("main").prepend(faint);
    }""")
    issues = {issue["id"]: issue["impact"] for issue in Axe().run(page, options=RULES).response["violations"]}
    assert issues.get(CONTRAST) == "serious"


@pytest.mark.parametrize("width", [PHONE, 768])
def test_no_page_is_wider_than_the_window(visitor: Visitor, site: Path, width: int) -> None:
    page = visitor.open(width=width)
    wide = {}
    for path in one_of_each(site):
        page.goto(visitor.address(path))
        reach = page.evaluate("document.scrollingElement.scrollWidth")
        if reach > width:
            wide[path] = (reach, page.evaluate(OVERHANGING))
    assert wide == {}


def test_on_paper_nothing_is_cut_off_and_nothing_is_left_to_press(visitor: Visitor, site: Path) -> None:
    paper = 718  # A4 at 96 pixels an inch less Chromium's margins; it shrinks a page to half at most
    page = visitor.open(width=paper)
    page.emulate_media(media="print")
    left = {}
    for path in one_of_each(site):
        page.goto(visitor.address(path))
        reach = page.evaluate("document.scrollingElement.scrollWidth")
        controls = page.evaluate(
            "[...document.querySelectorAll('button, input, select')].filter((node) => node.checkVisibility()).length"
        )
        if reach > 2 * paper or controls:
            left[path] = (reach, controls)
    assert left == {}


def test_dark_is_dark_and_light_is_light(visitor: Visitor, site: Path) -> None:
    def background(scheme: str) -> int:
        colour = visitor.open(scheme=scheme).evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(","))

    assert background("light") > 3 * 200
    assert background("dark") < 3 * 60
