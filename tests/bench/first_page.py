"""Measure a site's first page in Chromium, from disk: what it loads, and how soon its tables can be used.

    python -m tests.bench.first_page SITE

prints the bytes of the page and of all it loads, and the median time of several visits from the start of the navigation
until the scripts have run. It fails above what is allowed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

from tests.browser.harness import Visitor, Watch, chromium

ALLOWED_BYTES, ALLOWED_MS = 300_000, 1000
VISITS = 7
ASSETS = """
    [...document.querySelectorAll("script[src], link[href]")]
        .map((asset) => asset.getAttribute("src") ?? asset.getAttribute("href"))
"""


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("site", type=Path, help="the folder of the site")
    site = parser.parse_args().site.resolve()
    watch, milliseconds = Watch(site), []
    loaded: set[str] = {"index.html"}
    with chromium() as browser:
        visitor = Visitor(browser, site, watch)
        for _ in range(VISITS):
            page = visitor.open("index.html")
            # The scripts are deferred: they have run before this event ends.
            page.locator(".tools").first.wait_for(state="attached")
            milliseconds.append(page.evaluate("performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd"))
            loaded |= set(page.evaluate(ASSETS))
            visitor.close()
    size = sum((site / name).stat().st_size for name in loaded)
    first = (site / "index.html").stat().st_size
    middle = statistics.median(milliseconds)
    print(f"first page: {first / 1000:.1f} kB, with all it loads {size / 1000:.1f} kB")
    print(f"usable after {middle:.0f} ms, the median of {VISITS} visits")
    print("\n".join(watch.problems))
    return int(bool(watch.problems) or size > ALLOWED_BYTES or middle > ALLOWED_MS)


if __name__ == "__main__":
    sys.exit(main())
