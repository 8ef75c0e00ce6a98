"""The harness itself: a page that is broken does not pass."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.browser.harness import PROGRAM, NoChromiumError, Visitor, Watch, chromium, one_of_each

POLICY = """<meta http-equiv="Content-Security-Policy" content="default-src 'none'">"""
BROKEN = {
    "a script that throws": ("<script>throw new Error('broken')</script>", "page error: broken"),
    "a promise that nobody waits for": ("<script>Promise.reject(Error('lost'))</script>", "page error: lost"),
    "an error in the console": ("<script>console.error('bad')</script>", "console error: bad"),
    "a warning in the console": ("<script>console.warn('old')</script>", "console warning: old"),
    "a script against the policy": (POLICY + "<script>1</script>", "Content Security Policy"),
    "a style against the policy": (POLICY + "<p style='color: red'>x</p>", "Content Security Policy"),
    "an image against the policy": (POLICY + "<img src='http://127.0.0.1:9/x.png'>", "Content Security Policy"),
    "a file that is not there": ("<script src='assets/none.js'></script>", "request failed: file://"),
    "a file outside the site": ("<img src='../outside.svg'>", "foreign request: file://"),
    "an image of the network": ("<img src='http://127.0.0.1:9/x.png'>", "foreign request: http://127.0.0.1:9/"),
    "a request by a script": ("<script>fetch('https://127.0.0.1:9/y')</script>", "foreign request: https://127.0"),
}


@pytest.fixture
def apart(browser: Browser, tmp_path: Path):
    """Opens pages of a folder of its own."""
    site = tmp_path / "site"
    site.mkdir()
    made = Visitor(browser, site, Watch(site))
    yield made
    made.close()


@pytest.mark.parametrize(("markup", "problem"), BROKEN.values(), ids=BROKEN)
def test_a_broken_page_fails_its_test(apart: Visitor, markup: str, problem: str) -> None:
    (apart.site.parent / "outside.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (apart.site / "index.html").write_text(f"<!doctype html><title>x</title>{markup}")
    apart.open().wait_for_timeout(100)
    with pytest.raises(AssertionError, match="problems"):
        apart.watch.verify()
    assert any(problem in found for found in apart.watch.problems), apart.watch.problems


def test_a_sound_page_passes(apart: Visitor) -> None:
    (apart.site / "x.js").write_text("console.log('fine'); URL.createObjectURL(new Blob(['x']))")
    (apart.site / "index.html").write_text("<!doctype html><title>x</title><script src='x.js'></script>")
    apart.open("index.html?a=b#c").wait_for_timeout(100)
    apart.watch.verify()


def test_without_a_browser_the_message_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PROGRAM, "/nowhere/chromium")
    with pytest.raises(NoChromiumError, match="apt-get install chromium"), chromium():
        pass


def test_one_page_of_each_folder_and_all_at_the_top_are_looked_at(tmp_path: Path) -> None:
    for name, text in {"b.html": "", "a.html": "", "x/1.html": "short", "x/2.html": "longer", "y/z/3.html": ""}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert one_of_each(tmp_path) == ["a.html", "b.html", "x/2.html", "y/z/3.html"]
