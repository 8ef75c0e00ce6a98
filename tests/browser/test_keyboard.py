"""Every page without a mouse: the skip link first, then each link and control in order, and one sees where one is."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Page

from tests.browser.harness import PHONE, Visitor, one_of_each

# Numbers what can be focused, in the document's order, and keeps what gets the focus and whether that shows.
PREPARE = """() => {
    const selector = "a[href], button, input, select, textarea, summary, [tabindex]";
    const radios = new Set();
    window.stops = [...document.querySelectorAll(selector)].filter((node) => {
        if (node.disabled || node.tabIndex < 0 || !node.checkVisibility({ visibilityProperty: true })) return false;
        if (node.type !== "radio") return true;
        const first = !radios.has(node.name);  // the arrows, not Tab, go on within a group
        radios.add(node.name);
        return first;
    });
    window.name_of = (node) => `${window.stops.indexOf(node)} ${node.outerHTML.slice(0, 90)}`;
    window.seen = [];
    window.unmarked = [];
    const look = (node) => {
        const { outlineStyle, outlineWidth, boxShadow, borderColor, backgroundColor } = getComputedStyle(node);
        return [outlineStyle, outlineWidth, boxShadow, borderColor, backgroundColor].join();
    };
    window.resting = window.stops.map(look);
    document.addEventListener("focusin", (event) => {
        const index = window.stops.indexOf(event.target);
        if (index < 0) return;
        window.seen.push(index);
        if (look(event.target) === window.resting[index]) window.unmarked.push(window.name_of(event.target));
        const box = event.target.getBoundingClientRect();
        if (box.width === 0 || box.height === 0) window.unmarked.push("no size: " + window.name_of(event.target));
    });
    return window.stops.length;
}"""
FOCUSED = "document.activeElement.className + ' ' + document.activeElement.getAttribute('href')"
MOST = 150  # so many stops of a page are walked; rows of a long table are alike


def walk(page: Page) -> tuple[list[int], list[str], int]:
    """Press Tab through a page; return the order of stops, those that do not show the focus, and how many there are."""
    stops: int = page.evaluate(PREPARE)
    for _ in range(min(stops, MOST)):
        page.keyboard.press("Tab")
    # A box that scrolls and has nothing to focus in it is a stop of Chromium's own, which is not numbered.
    while page.evaluate("window.seen.length") < min(stops, MOST):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement === document.body"):
            break
    seen: list[int] = page.evaluate("window.seen")
    return seen, page.evaluate("window.unmarked"), stops


def test_the_skip_link_is_first_shows_itself_and_leads_to_the_content(visitor: Visitor, site: Path) -> None:
    page = visitor.open()
    for path in one_of_each(site):
        page.goto(visitor.address(path))
        page.keyboard.press("Tab")
        assert page.evaluate(FOCUSED) == "skip #main", path
        box = page.locator(".skip").bounding_box()
        assert box is not None
        assert box["x"] >= 0, path
        assert box["y"] >= 0, path
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        inside = "document.activeElement.closest('main') !== null || document.querySelector('main a[href]') === null"
        assert page.evaluate(inside), path


def test_tab_reaches_every_link_and_control_in_order_and_shows_where_it_is(visitor: Visitor, site: Path) -> None:
    page = visitor.open()
    for path in one_of_each(site):
        page.goto(visitor.address(path))
        seen, unmarked, stops = walk(page)
        assert seen[: min(stops, MOST)] == list(range(min(stops, MOST))), path
        assert unmarked == [], path


def test_tab_reaches_all_on_a_phone_too(visitor: Visitor) -> None:
    seen, unmarked, stops = walk(visitor.open(width=PHONE))
    assert seen[: min(stops, MOST)] == list(range(min(stops, MOST)))
    assert unmarked == []


def test_focus_that_does_not_show_is_seen(visitor: Visitor) -> None:
    page = visitor.open()
    page.evaluate("document.querySelector('.brand').style.outline = 'none'")
    _, unmarked, _ = walk(page)
    assert len(unmarked) == 1
    assert "brand" in unmarked[0]
