"""Takes pictures of one page of each kind, for people to look at.

    python -m tests.browser.shots SITE OUT

writes, per page, the whole page in light, in dark and as wide as a phone, and a PDF as it is printed. SITE is a folder
that `dqss-bench leaderboard build` made; with `--sample` it is made first, of made-up records. The exit code is 1 where
a page complained.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from leaderboard.build import build_site
from tests.browser.harness import DESKTOP, PHONE, Visitor, Watch, chromium, one_of_each
from tests.browser.sample import write_sample

LOOKS = {"light": ("light", DESKTOP), "dark": ("dark", DESKTOP), "phone": ("light", PHONE)}
TALLEST = 12_000  # pixels; a longer page is cut


def take(site: Path, out: Path) -> list[str]:
    """Write the pictures and return what pages complained of."""
    out.mkdir(parents=True, exist_ok=True)
    watch = Watch(site.resolve())
    with chromium() as browser:
        visitor = Visitor(browser, watch.site, watch)
        for path in one_of_each(site):
            # A page in a folder has a long name of its own; the folder says enough.
            folder = path.rpartition("/")[0].replace("/", "-")
            name = f"{folder}-one" if folder else path.removesuffix(".html")
            for look, (scheme, width) in LOOKS.items():
                page = visitor.open(path, scheme=scheme, width=width)
                height = page.evaluate("document.documentElement.scrollHeight")
                page.set_viewport_size({"width": width, "height": min(height, TALLEST)})
                page.screenshot(path=out / f"{name}-{look}.png")
            visitor.open(path).pdf(path=out / f"{name}-print.pdf", format="A4")
            visitor.close()
    return watch.problems


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("site", type=Path, help="the folder of the site")
    parser.add_argument("out", type=Path, help="the folder for the pictures")
    parser.add_argument("--sample", action="store_true", help="make the site first, of made-up records")
    given = parser.parse_args()
    if given.sample:
        with tempfile.TemporaryDirectory() as results:
            write_sample(Path(results))
            build_site(Path(results), given.site)
    problems = take(given.site, given.out)
    print("\n".join([f"{len(list(given.out.iterdir()))} files in {given.out}", *problems]))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
